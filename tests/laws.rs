//! Laws of the source: which floor may know which, which room names which crate, where the clock
//! is read, and where unsafe code is forbidden.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where a file stands. Only `Middle` has rooms that must not know each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Floor {
    Kit,
    Data,
    Middle(&'static str),
    Reactor,
    Top,
}

/// By the first segment of a path below `src`, or after `crate::`.
fn floor(room: &str) -> Floor {
    match room {
        "kit" => Floor::Kit,
        "body" | "json" | "request" | "response" | "proxy" | "settings" | "origin" | "error"
        | "field" | "trust" | "userinfo" | "coding" | "socket" | "detour" | "pace" | "hedge"
        | "close" | "trace" => Floor::Data,
        "wire" => Floor::Middle("wire"),
        "policy" => Floor::Middle("policy"),
        "net" => Floor::Middle("net"),
        "reactor" => Floor::Reactor,
        "client" | "lib" | "states" | "fuzzing" => Floor::Top,
        other => panic!("src has a room without a floor: {other}"),
    }
}

/// Whether a file of the one floor may name the other.
fn may_know(from: Floor, to: Floor) -> bool {
    match (from, to) {
        (Floor::Kit, to) => to == Floor::Kit,
        (Floor::Data, to) => to == Floor::Data,
        (Floor::Middle(from), Floor::Middle(to)) => from == to,
        (Floor::Middle(_), to) => matches!(to, Floor::Kit | Floor::Data),
        (Floor::Reactor, to) => to != Floor::Top,
        (Floor::Top, _) => true,
    }
}

#[test]
fn no_arrow_runs_up() {
    let mut arrows = 0;
    for (path, text) in sources() {
        let from = floor(&room(&path));
        for to in rooms_named(&code(&text)) {
            arrows += 1;
            assert!(
                may_know(from, floor(&to)),
                "{} ({from:?}) names crate::{to} ({:?})",
                path.display(),
                floor(&to)
            );
        }
    }
    assert!(arrows > 100, "only {arrows} arrows were found");
}

#[test]
fn arrows_are_found_wherever_they_stand() {
    let code =
        "use crate::{kit, wire::{tls, dns}, Error};\nlet x = crate::net::now() + my_crate::y;";
    assert_eq!(rooms_named(code), ["kit", "wire", "lib", "net"]);
    assert!(!may_know(Floor::Kit, Floor::Data));
    assert!(!may_know(Floor::Middle("wire"), Floor::Middle("net")));
    assert!(!may_know(Floor::Data, Floor::Middle("policy")));
    assert!(!may_know(Floor::Reactor, Floor::Top));
}

#[test]
fn each_crate_behind_a_floor_is_named_in_one_room() {
    for (name, home) in [
        ("rustls", "wire/tls"),
        ("webpki_roots", "wire/tls"),
        ("mio", "net/os"),
        ("socket2", "net/os"),
        ("getrandom", "net/os"),
        ("httparse", "wire/http1/head"),
        ("slab", "kit/arena"),
        ("simple_dns", "wire/dns/message"),
        ("resolv_conf", "wire/dns/config"),
        ("httpdate", "policy/retry"),
        ("percent_encoding", "userinfo"),
        ("base64", "userinfo"),
        ("serde", "json"),
        ("serde_json", "json"),
        ("psl", "policy/cookies/site"),
        ("flate2", "wire/coding"),
        ("brotli_decompressor", "wire/coding"),
        ("zstd_safe", "wire/coding"),
        ("md5", "policy/auth/hash"),
        ("sha2", "policy/auth/hash"),
    ] {
        let named: BTreeSet<_> = sources()
            .into_iter()
            .filter(|(path, text)| names_crate(path, &code(text), name))
            .map(|(path, _)| path.with_extension("").to_string_lossy().into_owned())
            .collect();
        assert!(!named.is_empty(), "{name} is not used");
        let room = |path: &str| path == home || path.starts_with(&format!("{home}/"));
        assert!(named.iter().all(|path| room(path)), "{name} is named in {named:?}, not in {home}");
    }
}

#[test]
fn clocks_files_and_sockets_are_the_nets() {
    for call in
        ["Instant::now(", "SystemTime::now(", "std::fs::", "thread::Builder", "thread::spawn("]
    {
        let homes: Vec<_> = sources()
            .into_iter()
            .filter(|(path, _)| !path.components().any(|part| part.as_os_str() == "tests"))
            .filter(|(path, text)| !path.ends_with("tests.rs") && program(text).contains(call))
            .map(|(path, _)| path.to_string_lossy().into_owned())
            .collect();
        let known: &[&str] = match call {
            // A file to be sent is opened where it is named. A key log is written by the library
            // that TLS is made with.
            "std::fs::" => &["body/source.rs", "net/os.rs", "wire/tls/config.rs"],
            "thread::spawn(" => &[],
            _ => &["net/os.rs"],
        };
        assert!(homes.iter().all(|home| known.contains(&home.as_str())), "{call}: {homes:?}");
        assert!(known.is_empty() || !homes.is_empty(), "{call} is nowhere");
    }
}

#[test]
fn the_library_and_every_example_forbid_unsafe_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut roots = vec![root.join("src/lib.rs")];
    for entry in fs::read_dir(root.join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            roots.push(path.join("main.rs"));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            roots.push(path);
        }
    }
    assert!(roots.len() > 1);
    for path in roots {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("\n#![forbid(unsafe_code)]\n"), "{}", path.display());
    }
}

#[test]
fn each_file_says_what_it_is_and_fits_the_page() {
    for (path, text) in sources() {
        assert!(text.starts_with("//! "), "{} does not say what it is", path.display());
        let long = text.lines().position(|line| line.chars().count() > 100);
        assert!(long.is_none(), "{}:{} is too long", path.display(), long.unwrap_or_default() + 1);
    }
}

/// Every file below `src`: its path from there, and its text.
fn sources() -> Vec<(PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(&src).unwrap().to_owned(), text));
            }
        }
    }
    assert!(files.len() > 30);
    files.sort();
    files
}

/// The first segment of a path, without its extension.
fn room(path: &Path) -> String {
    let first = path.components().next().unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// Without comments: what is only spoken of is not named.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Without its tests, too, which stand last.
fn program(text: &str) -> String {
    let code = code(text);
    code.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned()
}

/// What follows each `crate::`, whether in an import, in a group of one, or in the middle of code.
fn rooms_named(code: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
            continue;
        }
        let rest = &code[at + found.len()..];
        let group = rest.strip_prefix('{').map(|rest| &rest[..group_length(rest)]);
        match group {
            Some(group) => rooms.extend(top_level_names(group)),
            None => rooms.push(first_name(rest)),
        }
    }
    // What the root re-exports is the root's.
    for room in &mut rooms {
        if room.starts_with(char::is_uppercase) {
            "lib".clone_into(room);
        }
    }
    rooms
}

/// How far a group goes whose opening brace has been read.
fn group_length(rest: &str) -> usize {
    let mut depth = 1;
    let end = rest.char_indices().find(|(_, character)| {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    end.map_or(rest.len(), |(at, _)| at)
}

fn top_level_names(group: &str) -> Vec<String> {
    let mut depth = 0;
    let parts = group.split(|character: char| {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        character == ',' && depth == 0
    });
    parts.map(|part| first_name(part.trim())).filter(|name| !name.is_empty()).collect()
}

fn first_name(text: &str) -> String {
    text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
}

/// Whether code has `name::` that is not a longer name's end, or imports `name` itself. A room of
/// the same name, and a re-export by the root, are not the crate.
fn names_crate(path: &Path, code: &str, name: &str) -> bool {
    code.match_indices(&format!("{name}::")).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || "_:".contains(before))
    }) || (path != Path::new("lib.rs") && code.contains(&format!("use {name};")))
}
