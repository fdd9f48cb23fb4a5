//! Bodies in files: where each goes.
//!
//! In go what `-o` says and whose body it is; out comes a [`Part`]. What comes from a URL or a job
//! can only ever name something below the directory that the user named.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::path::{Path, PathBuf};

use serde_json::Value;
use whippet::Head;
use whippet::url::Url;

use super::part::{Part, Target};
use super::values::Checksum;

/// What `-o` asks for.
#[derive(Debug)]
pub(crate) struct Files {
    place: Place,
    taken: Taken,
    /// Whether what an earlier run left is gone on with.
    pub(crate) continues: bool,
    /// What the one file must come to.
    pub(crate) checksum: Option<Checksum>,
}

#[derive(Debug)]
enum Place {
    /// One file.
    File(PathBuf),
    /// A directory, in which the URL's last segment names the file.
    Directory(PathBuf),
    /// A path with placeholders.
    Template(String),
}

/// How often each path was taken in this run, by the path's hash: a run may have millions.
#[derive(Debug, Default)]
struct Taken {
    times: HashMap<u64, u32>,
    hasher: RandomState,
}

/// Whose body it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner<'a> {
    pub(crate) n: u64,
    pub(crate) id: Option<&'a Value>,
    pub(crate) url: &'a str,
}

impl Files {
    /// Checks what `-o` says. `is_single`: exactly one URL is fetched.
    pub(crate) fn new(path: &Path, is_single: bool) -> Result<Self, String> {
        let text = path.to_string_lossy();
        let place = if text.contains('{') {
            let Some(template) = path.to_str() else {
                return Err(format!("-o {text}: a template is UTF-8"));
            };
            check_placeholders(template)?;
            Place::Template(template.to_owned())
        } else if path.is_dir() || text.ends_with('/') {
            Place::Directory(path.to_owned())
        } else if is_single {
            Place::File(path.to_owned())
        } else {
            return Err(format!(
                "-o {text}: one file cannot take the bodies of several URLs; name a directory \
                 (ending in /) or a template with {{host}}, {{path}}, {{n}} or {{id}}"
            ));
        };
        Ok(Self { place, taken: Taken::default(), continues: false, checksum: None })
    }

    /// Begins a body's file. An error is one line that names the path.
    pub(crate) fn begin(
        &mut self,
        owner: Owner<'_>,
        target: Option<&Target>,
        head: &Head<'_>,
    ) -> Result<Part, String> {
        if let Some(target) = target {
            return target.begin(head, owner.n, self.checksum);
        }
        let path = self.path_for(owner)?;
        let part = Part::new(&path, owner.n, self.checksum);
        part.map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Where a body will go, before it is asked for; `None` where nothing is gone on with.
    pub(crate) fn target(&mut self, owner: Owner<'_>) -> Result<Option<Target>, String> {
        if !self.continues {
            return Ok(None);
        }
        let path = self.path_for(owner)?;
        Ok(Some(Target::new(path, owner.url)))
    }

    fn path_for(&mut self, owner: Owner<'_>) -> Result<PathBuf, String> {
        match &self.place {
            Place::File(path) => Ok(path.clone()),
            Place::Directory(directory) => {
                let url = Url::parse(owner.url).ok();
                let segments = url.as_ref().map_or_else(Vec::new, path_segments);
                let name = safe_name(segments.last().map_or("index.html", |last| last));
                let first = directory.join(&name);
                Ok(match self.taken.take(&first) {
                    0 => first,
                    nth => self.taken.numbered(directory, &name, nth),
                })
            }
            Place::Template(template) => {
                let path = expand(template, owner);
                match self.taken.take(&path) {
                    0 => Ok(path),
                    _ => Err(format!("{}: another URL was written there", path.display())),
                }
            }
        }
    }
}

impl Taken {
    /// `name.1`, or the next number that no other URL of this run has taken.
    fn numbered(&mut self, directory: &Path, name: &str, from: u32) -> PathBuf {
        let mut nth = from;
        loop {
            let path = directory.join(format!("{name}.{nth}"));
            if self.take(&path) == 0 {
                return path;
            }
            nth = nth.saturating_add(1);
        }
    }

    /// How often the path was taken before.
    fn take(&mut self, path: &Path) -> u32 {
        let times = self.times.entry(self.hasher.hash_one(path)).or_insert(0);
        let before = *times;
        *times = before.saturating_add(1);
        before
    }
}

fn check_placeholders(template: &str) -> Result<(), String> {
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        let known = PLACEHOLDERS.iter().find(|known| rest[start..].starts_with(**known));
        let Some(known) = known else {
            return Err(format!(
                "-o {template}: a template's placeholders are {}",
                PLACEHOLDERS.join(", ")
            ));
        };
        rest = &rest[start + known.len()..];
    }
    Ok(())
}

/// The template's path for one body. Components that the user wrote stand as they are; those with
/// a placeholder in them are made safe after it was filled in, so that no mixture of the two makes
/// a `..` either.
fn expand(template: &str, owner: Owner<'_>) -> PathBuf {
    let url = Url::parse(owner.url).ok();
    let mut path = PathBuf::from(if template.starts_with('/') { "/" } else { "" });
    for component in template.split('/').filter(|component| !component.is_empty()) {
        if !component.contains('{') {
            path.push(component);
            continue;
        }
        let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
        let id = match owner.id {
            Some(Value::String(id)) => id.clone(),
            Some(id) => id.to_string(),
            None => owner.n.to_string(),
        };
        let fill = |text: &str, path: &str| {
            // In one pass: what is filled in is not searched for placeholders again.
            let mut filled = String::new();
            let mut rest = text;
            while let Some(start) = rest.find('{') {
                filled.push_str(&rest[..start]);
                rest = &rest[start..];
                let values = [host, path, &owner.n.to_string(), &id];
                let found = PLACEHOLDERS.iter().zip(values).find(|(p, _)| rest.starts_with(**p));
                let (skip, value) = found.map_or((1, "{"), |(p, value)| (p.len(), value));
                filled.push_str(&value.replace('/', "_"));
                rest = &rest[skip..];
            }
            filled + rest
        };
        push_segments(&mut path, component, url.as_ref(), fill);
    }
    path
}

/// `{path}` is as many components as the URL's path has; what stands around it joins the first
/// and the last of them.
fn push_segments(
    path: &mut PathBuf,
    component: &str,
    url: Option<&Url>,
    fill: impl Fn(&str, &str) -> String,
) {
    let mut segments = url.map_or_else(Vec::new, path_segments);
    let Some((before, after)) = component.split_once("{path}") else {
        return path.push(safe_name(&fill(component, "")));
    };
    let last = segments.pop().unwrap_or_else(|| "index.html".to_owned());
    let mut before = before;
    for segment in &segments {
        path.push(safe_name(&(fill(before, "") + segment)));
        before = "";
    }
    let joined = segments.join("_");
    let whole = if joined.is_empty() { last.clone() } else { format!("{joined}_{last}") };
    path.push(safe_name(&format!("{}{last}{}", fill(before, ""), fill(after, &whole))));
}

/// A URL path's segments, still percent-encoded; a path that ends in / is its index.html.
fn path_segments(url: &Url) -> Vec<String> {
    let mut segments: Vec<String> =
        url.path().split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect();
    if url.path().ends_with('/') {
        segments.push("index.html".to_owned());
    }
    segments
}

/// A name for one file or directory: no separator, nothing that a file system reserves, not a
/// way up, not hidden, not too long, never empty.
fn safe_name(text: &str) -> String {
    let replaced = |c: char| if c.is_control() || RESERVED.contains(c) { '_' } else { c };
    let mut name: String = text.chars().map(replaced).collect();
    if name.len() > NAME_BYTES_MAX {
        let mut end = NAME_BYTES_MAX - 17;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name = format!("{}~{:016x}", &name[..end], fingerprint(text));
    }
    let trimmed = name.trim_end_matches(['.', ' ']).len();
    name.replace_range(trimmed.., &"_".repeat(name.len() - trimmed));
    let stem = name.split('.').next().unwrap_or_default().to_ascii_uppercase();
    if name.is_empty() || name.starts_with('.') || DEVICES.contains(&&*stem) {
        name.insert(0, '_');
    }
    name
}

/// FNV-1a: the same in every run, so that a long name is the same file each time.
fn fingerprint(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

const PLACEHOLDERS: [&str; 4] = ["{host}", "{path}", "{n}", "{id}"];
/// What some file system takes for more than a name.
const RESERVED: &str = "/\\:*?\"<>|";
/// Names that are devices on some systems, whatever follows their first dot.
const DEVICES: [&str; 22] = [
    "CON", "PRN", "AUX", "NUL", "COM1", "COM2", "COM3", "COM4", "COM5", "COM6", "COM7", "COM8",
    "COM9", "LPT1", "LPT2", "LPT3", "LPT4", "LPT5", "LPT6", "LPT7", "LPT8", "LPT9",
];
/// File systems take 255; a number may be appended.
const NAME_BYTES_MAX: usize = 240;

#[cfg(test)]
mod tests {
    use super::super::part::tests::scratch;
    use super::*;
    use std::fs;
    use std::path::Component;

    fn owner<'a>(n: u64, id: Option<&'a Value>, url: &'a str) -> Owner<'a> {
        Owner { n, id, url }
    }

    #[test]
    fn a_template_is_filled_in() {
        let id = Value::from("a/b");
        let to = owner(7, Some(&id), "http://h.example/x/y.html?q");
        assert_eq!(expand("out/{host}/{path}", to), Path::new("out/h.example/x/y.html"));
        assert_eq!(expand("/o/{n}-{id}", to), Path::new("/o/7-a_b"));
        assert_eq!(expand("o/{n}-{path}.txt", to), Path::new("o/7-x/y.html.txt"));
        assert_eq!(expand("../{id}", owner(7, None, "http://h/")), Path::new("../7"));
        assert_eq!(expand("{path}", owner(1, None, "http://h/")), Path::new("index.html"));
        assert_eq!(expand("{path}", owner(1, None, "http://h/a/")), Path::new("a/index.html"));
        let tricky = Value::from("{n}");
        assert_eq!(expand("{id}", owner(1, Some(&tricky), "http://h/")), Path::new("{n}"));
    }

    #[test]
    fn nothing_that_a_job_says_leaves_the_directory() {
        let hostile = [
            "..",
            ".",
            "",
            "/",
            "/etc/passwd",
            "../../x",
            "a/../../b",
            "\0",
            "..\\..\\x",
            "C:\\x",
            "NUL",
            "con.txt",
            "....",
            " ",
            "x\n",
            ".bashrc",
            "a\u{202e}b",
        ];
        for id in hostile.iter().map(|id| Value::from(*id)) {
            for url in [
                "http://h/../../x",
                "http://h/%2e%2e/%2e%2e/x",
                "http://h/..%2f..%2fx",
                "http://h//etc//passwd",
                "bad",
            ] {
                for template in
                    ["o/{id}", "o/.{id}", "o/{id}{id}", "o/{path}", "o/.{path}", "o/{host}/{id}"]
                {
                    let path = expand(template, owner(1, Some(&id), url));
                    let inside = path.strip_prefix("o").unwrap();
                    let plain = |c: Component<'_>| matches!(c, Component::Normal(_));
                    assert!(inside.components().all(plain), "{id} {url} {template}: {path:?}");
                    // Names that begin with a dot are the program's own: `temporary`, `left`.
                    let hidden = |c: Component<'_>| c.as_os_str().as_encoded_bytes()[0] == b'.';
                    assert!(!inside.components().any(hidden), "{id} {url} {template}: {path:?}");
                    assert!(inside.components().next().is_some(), "{path:?}");
                    assert!(!path.to_str().unwrap().contains(['\0', '\n', '\\']));
                }
            }
        }
        assert!(safe_name(&"\u{e9}".repeat(1_000)).len() <= NAME_BYTES_MAX);
        assert_ne!(safe_name(&"a".repeat(1_000)), safe_name(&"a".repeat(1_001)));
    }

    #[test]
    fn what_cannot_be_is_a_usage_error() {
        assert!(Files::new(Path::new("one.html"), false).unwrap_err().contains("one.html"));
        assert!(Files::new(Path::new("one.html"), true).is_ok());
        assert!(Files::new(Path::new("{nope}"), false).unwrap_err().contains("{host}"));
        assert!(Files::new(Path::new("x{"), true).is_err());
    }

    #[test]
    fn one_directory_takes_the_same_name_twice_and_a_template_does_not() {
        let directory = scratch("names");
        let mut files = Files::new(&directory, false).unwrap();
        let mut name = |url| files.path_for(owner(1, None, url)).unwrap();
        assert_eq!(name("http://a/x.html"), directory.join("x.html"));
        assert_eq!(name("http://b/x.html"), directory.join("x.html.1"));
        assert_eq!(name("http://b/x.html.1"), directory.join("x.html.1.1"));
        assert_eq!(name("http://c/x.html"), directory.join("x.html.2"));
        let mut files = Files::new(Path::new("{host}"), false).unwrap();
        assert!(files.path_for(owner(1, None, "http://a/x")).is_ok());
        assert!(files.path_for(owner(2, None, "http://a/y")).unwrap_err().contains("another"));
        fs::remove_dir_all(&directory).unwrap();
    }
}
