//! A file while it is written, under a temporary name: what a run leaves of it when it fails, and
//! how a later run goes on with that.
//!
//! In go a path, heads and pieces of a body; out comes a whole file of that name, or none. With
//! `--continue` what there is of it stays, as `NAME.part`, beside `NAME.part.from`, which has the
//! URL and the validator (RFC 9110 §8.8) that the server gave with it.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use httpdate::parse_http_date;
use sha2::{Digest, Sha256};
use whippet::url::Url;
use whippet::{Head, Request};

use super::values::Checksum;

/// A file that is being written. Dropped before it is [kept](Self::keep), it leaves nothing, or
/// what a later run can go on with.
#[derive(Debug)]
pub(crate) struct Part {
    file: File,
    path: PathBuf,
    /// `None` for what cannot be renamed over, as /dev/null, and once it was kept.
    temporary: Option<PathBuf>,
    /// Beside the temporary file, where it may stay.
    note: Option<PathBuf>,
    /// What was written, and what it must come to.
    check: Option<(Sha256, Checksum)>,
}

/// Where a body is to go with `--continue`, and what an earlier run left of it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    path: PathBuf,
    /// Without user information.
    url: String,
    left: Option<Left>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Left {
    length: u64,
    validator: String,
}

impl Part {
    /// A file of its own, whatever was left of another.
    pub(crate) fn new(path: &Path, n: u64, checksum: Option<Checksum>) -> io::Result<Self> {
        let check = checksum.map(|checksum| (Sha256::new(), checksum));
        if let Some(file) = special(path)? {
            let path = path.to_owned();
            return Ok(Self { file, path, temporary: None, note: None, check });
        }
        let parent = make_parent(path)?;
        let temporary = parent.join(format!(".fetch-{}-{n}.part", std::process::id()));
        let file = File::options().write(true).create_new(true).open(&temporary)?;
        Ok(Self { file, path: path.to_owned(), temporary: Some(temporary), note: None, check })
    }

    pub(crate) fn write(&mut self, chunk: &[u8]) -> Result<(), String> {
        if let Some((hash, _)) = &mut self.check {
            hash.update(chunk);
        }
        self.file.write_all(chunk).map_err(|error| self.explain(&error))
    }

    /// Gives it its final name, if it is what it must be. What is not is of no use later.
    pub(crate) fn keep(mut self) -> Result<(), String> {
        if let Some((hash, checksum)) = self.check.take() {
            let is = hash.finalize();
            if is[..] != checksum {
                self.forget();
                let path = self.path.display();
                return Err(format!("{path}: its SHA-256 is {}, not {}", hex(&is), hex(&checksum)));
            }
        }
        if let Some(temporary) = &self.temporary {
            fs::rename(temporary, &self.path).map_err(|error| self.explain(&error))?;
            self.temporary = None;
        }
        self.forget();
        Ok(())
    }

    /// Removes what is left of it.
    fn forget(&mut self) {
        for path in [self.temporary.take(), self.note.take()].into_iter().flatten() {
            // There is nobody left to tell; the name says that it is partial.
            let _ = fs::remove_file(path);
        }
    }

    fn explain(&self, error: &io::Error) -> String {
        format!("{}: {error}", self.path.display())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let is_of_use =
            self.note.is_some() && self.file.metadata().is_ok_and(|metadata| metadata.len() > 0);
        if !is_of_use {
            self.forget();
        }
    }
}

impl Target {
    /// Looks for what is left of a file that `url` was to fill.
    pub(crate) fn new(path: PathBuf, url: &str) -> Self {
        let url = Url::parse(url).map_or_else(|_| String::new(), without_userinfo);
        let left = Left::find(&path, &url);
        Self { path, url, left }
    }

    /// A GET, of the rest where the beginning is there: not coded, so that its bytes can be counted.
    pub(crate) fn ask(&self, mut request: Request) -> Result<Request, whippet::Error> {
        if request.header_value("accept-encoding").is_none() {
            request = request.header("Accept-Encoding", "identity")?;
        }
        if let Some(Left { length, validator }) = &self.left {
            request = request.header("Range", format!("bytes={length}-"))?;
            request = request.header("If-Range", validator)?;
        }
        Ok(request)
    }

    /// The server says that there is no such rest: what is left is of no use.
    pub(crate) fn forget(&self) {
        forget_left(&self.path);
    }

    /// Opens the file for the body behind `head`: at its end where that is the rest, else anew.
    pub(crate) fn begin(
        &self,
        head: &Head<'_>,
        n: u64,
        checksum: Option<Checksum>,
    ) -> Result<Part, String> {
        self.open(head, n, checksum).map_err(|error| format!("{}: {error}", self.path.display()))
    }

    fn open(&self, head: &Head<'_>, n: u64, checksum: Option<Checksum>) -> io::Result<Part> {
        let from = match (head.status().as_u16(), &self.left) {
            (206, Some(left)) if part_begins(head) == Some(left.length) => left.length,
            (206, _) => {
                return Err(io::Error::other("the server sent another part than asked for"));
            }
            _ => 0,
        };
        let validator = validator(head).filter(|_| head.removed_codings().count() == 0);
        if from == 0 && (validator.is_none() || special(&self.path)?.is_some()) {
            forget_left(&self.path);
            return Part::new(&self.path, n, checksum);
        }
        make_parent(&self.path)?;
        let (temporary, note) = (beside(&self.path, PART), beside(&self.path, NOTE));
        if let Some(validator) = validator {
            // Before the first byte: whatever ends this run, the next one knows what is there.
            fs::write(&note, format!("{}\n{validator}\n", self.url))?;
        }
        if from == 0 && fs::symlink_metadata(&temporary).is_ok() {
            fs::remove_file(&temporary)?;
        }
        let is_new = from == 0;
        let mut file =
            File::options().read(true).write(true).create_new(is_new).open(&temporary)?;
        file.set_len(from)?;
        let mut check = checksum.map(|checksum| (Sha256::new(), checksum));
        if let Some((hash, _)) = &mut check {
            hash_all(&mut file, hash)?;
        }
        file.seek(SeekFrom::Start(from))?;
        let path = self.path.clone();
        Ok(Part { file, path, temporary: Some(temporary), note: Some(note), check })
    }
}

impl Left {
    /// `None`: there is nothing, or nothing that is certainly of this URL.
    fn find(path: &Path, url: &str) -> Option<Self> {
        let note = fs::read_to_string(beside(path, NOTE)).ok()?;
        let mut lines = note.lines();
        let (of, validator) = (lines.next()?, lines.next()?.to_owned());
        let metadata = fs::symlink_metadata(beside(path, PART)).ok()?;
        let is_usable = of == url && metadata.is_file() && metadata.len() > 0;
        is_usable.then_some(Self { length: metadata.len(), validator })
    }
}

/// What tells this representation from any other (RFC 9110 §13.1.5): a strong entity tag, or a
/// date that is old enough not to be that of two (§8.8.2.2). A server that takes no ranges has
/// none.
fn validator(head: &Head<'_>) -> Option<String> {
    let text = |name: &str| head.header(name).and_then(|value| std::str::from_utf8(value).ok());
    if text("accept-ranges").is_some_and(|accepts| accepts.eq_ignore_ascii_case("none")) {
        return None;
    }
    if let Some(tag) = text("etag") {
        return tag.starts_with('"').then(|| tag.to_owned());
    }
    let modified = text("last-modified")?;
    let (changed, sent) = (parse_http_date(modified).ok()?, parse_http_date(text("date")?).ok()?);
    let is_strong = sent.duration_since(changed).is_ok_and(|age| age >= DATE_STRONG_AFTER);
    is_strong.then(|| modified.to_owned())
}

/// The first byte of `bytes FIRST-LAST/LENGTH` (RFC 9110 §14.4).
fn part_begins(head: &Head<'_>) -> Option<u64> {
    let range = std::str::from_utf8(head.header("content-range")?).ok()?;
    let (first, _) = range.strip_prefix("bytes ")?.split_once('-')?;
    first.parse().ok()
}

fn hash_all(file: &mut File, hash: &mut Sha256) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(()),
            count => hash.update(&piece[..count]),
        }
    }
}

/// An opened file that is there and no regular one, as /dev/null.
fn special(path: &Path) -> io::Result<Option<File>> {
    match fs::metadata(path) {
        Ok(there) if there.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(there) if !there.is_file() => File::options().write(true).open(path).map(Some),
        _ => Ok(None),
    }
}

fn make_parent(path: &Path) -> io::Result<&Path> {
    let parent = path.parent().unwrap_or(Path::new(""));
    if !parent.as_os_str().is_empty() {
        fs::create_dir_all(parent)?;
    }
    Ok(parent)
}

fn forget_left(path: &Path) {
    for ending in [PART, NOTE] {
        // Most have left nothing.
        let _ = fs::remove_file(beside(path, ending));
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn without_userinfo(mut url: Url) -> String {
    // Both fail only for URLs without a host, which have none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    url.into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const PART: &str = ".part";
const NOTE: &str = ".part.from";
const PIECE_BYTES: usize = 64 << 10;
/// RFC 9110 §8.8.2.2.
const DATE_STRONG_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An empty directory.
    pub(crate) fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("fetch-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_partial_file_never_bears_the_final_name() {
        let directory = scratch("parts");
        let path = directory.join("sub/x");
        let mut part = Part::new(&path, 1, None).unwrap();
        part.write(b"half").unwrap();
        assert!(!path.exists());
        drop(part);
        assert_eq!(fs::read_dir(directory.join("sub")).unwrap().count(), 0);
        let mut part = Part::new(&path, 1, None).unwrap();
        part.write(b"whole").unwrap();
        part.keep().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert!(Part::new(&directory, 1, None).is_err());
        let mut null = Part::new(Path::new("/dev/null"), 1, None).unwrap();
        null.write(b"x").unwrap();
        null.keep().unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn what_is_left_is_of_use_to_its_own_url_alone() {
        let directory = scratch("left");
        let path = directory.join("x");
        fs::write(beside(&path, PART), "half").unwrap();
        let left = |url: &str| Target::new(path.clone(), url).left;
        assert_eq!(left("http://a/x"), None);
        fs::write(beside(&path, NOTE), "http://a/x\n\"tag\"\n").unwrap();
        let there = Some(Left { length: 4, validator: "\"tag\"".to_owned() });
        assert_eq!((left("http://u:p@a/x#y"), left("http://a/y")), (there, None));
        fs::write(beside(&path, NOTE), "http://a/x\n").unwrap();
        assert_eq!(left("http://a/x"), None);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_file_that_is_not_what_it_must_be_is_not_kept() {
        let directory = scratch("check");
        let path = directory.join("x");
        let checksum = Sha256::digest(b"whole").into();
        for (text, is_kept) in [("whole", true), ("other", false)] {
            let mut part = Part::new(&path, 1, Some(checksum)).unwrap();
            part.write(text.as_bytes()).unwrap();
            assert_eq!(part.keep().is_ok(), is_kept);
            assert_eq!(fs::read_dir(&directory).unwrap().count(), usize::from(is_kept));
            let _ = fs::remove_file(&path);
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
