//! The `fetch` program and files: what a download that fails leaves, how a later run goes on with it,
//! and what is not kept.
//!
//! With `--test fetch_downloads` alone, `cargo build --example fetch` comes first.
#![cfg(all(unix, feature = "ring", feature = "gzip", feature = "brotli", feature = "zstd"))]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Output;

use sha2::{Digest, Sha256};
use support::{Origin, Reply, Seen, program, response};

const TEXT: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const TAG: (&str, &str) = ("ETag", "\"one\"");
/// What is left of `file`.
const PART: &str = ".file.fetch-part";
const NOTE: &str = ".file.fetch-note";

/// A directory of the test's own, with one file that is downloaded to it.
struct Scratch {
    directory: PathBuf,
    file: PathBuf,
}

impl Scratch {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("fetch-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("file");
        Self { directory, file }
    }

    fn fetch(&self, url: &str, more: &[&str]) -> Output {
        let mut command = program::fetch(&["-s", "--retry", "0", "-o"]);
        command.arg(&self.file).args(more).arg(url);
        command.output().unwrap()
    }

    /// A run that goes on with what there is; its exit status.
    fn go_on(&self, url: &str) -> i32 {
        self.fetch(url, &["--continue"]).status.code().unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.directory.join(name)).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The text up to `end`, of which all was announced.
fn cut(headers: &[(&str, &str)], end: usize) -> Reply {
    let mut head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", TEXT.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    Reply::new().send([head.as_bytes(), b"\r\n", &TEXT[..end]].concat()).close()
}

/// The rest from where the request asks for it, to `end`.
fn rest(seen: &Seen, end: usize) -> Reply {
    let from = asked_from(seen);
    let range = format!("bytes {from}-{}/{}", TEXT.len() - 1, TEXT.len());
    if end == TEXT.len() {
        return response(206, &[TAG, ("Content-Range", &range)], &TEXT[from..]);
    }
    let length = TEXT.len() - from;
    let head = format!(
        "HTTP/1.1 206 Partial\r\nETag: \"one\"\r\nContent-Range: {range}\r\nContent-Length: \
         {length}\r\n\r\n"
    );
    Reply::new().send([head.as_bytes(), &TEXT[from..end]].concat()).close()
}

fn asked_from(seen: &Seen) -> usize {
    let from = seen.header("range").unwrap().strip_prefix("bytes=").unwrap();
    from.strip_suffix('-').unwrap().parse().unwrap()
}

#[test]
fn a_download_goes_on_where_it_ended_as_often_as_it_must() {
    let origin = Origin::plain(|seen| match seen.connection {
        0 => cut(&[TAG], 10),
        1 => rest(seen, 25),
        _ => rest(seen, TEXT.len()),
    });
    let scratch = Scratch::new("goes-on");
    let url = origin.url("/");
    assert_eq!(scratch.go_on(&url), 1);
    assert_eq!(scratch.names(), [NOTE, PART]);
    assert_eq!(scratch.read(PART), &TEXT[..10]);
    assert_eq!(scratch.go_on(&url), 1);
    assert_eq!(scratch.read(PART), &TEXT[..25]);
    let checksum = format!("sha256:{:x}", Hex(Sha256::digest(TEXT).into()));
    let done = scratch.fetch(&url, &["--continue", "--checksum", &checksum]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert_eq!((scratch.names(), scratch.read("file")), (vec!["file".to_owned()], TEXT.to_vec()));
    let asked: Vec<_> = origin
        .requests()
        .iter()
        .map(|seen| {
            let value = |name| seen.header(name).unwrap_or("-").to_owned();
            [value("accept-encoding"), value("range"), value("if-range")].join(" ")
        })
        .collect();
    assert_eq!(asked, ["identity - -", "identity bytes=10- \"one\"", "identity bytes=25- \"one\""]);
}

struct Hex([u8; 32]);

impl std::fmt::LowerHex for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[test]
fn what_has_changed_since_is_downloaded_anew() {
    let origin = Origin::plain(|seen| match seen.connection {
        0 => cut(&[TAG], 10),
        _ => response(200, &[("ETag", "\"two\"")], b"another text"),
    });
    let scratch = Scratch::new("changed");
    assert_eq!(scratch.go_on(&origin.url("/")), 1);
    assert_eq!(scratch.go_on(&origin.url("/")), 0);
    assert_eq!((scratch.names().len(), scratch.read("file")), (1, b"another text".to_vec()));
}

#[test]
fn an_old_date_tells_a_file_from_another_and_a_young_one_does_not() {
    let modified = ("Last-Modified", "Tue, 15 Nov 1994 12:45:26 GMT");
    for (headers, is_kept) in [
        (&[modified, ("Date", "Tue, 15 Nov 1994 12:45:27 GMT")][..], true),
        (&[modified, ("Date", "Tue, 15 Nov 1994 12:45:26 GMT")], false),
        (&[modified], false),
        (&[("ETag", "W/\"weak\"")], false),
        (&[("ETag", "W/\"weak\""), modified, ("Date", "Tue, 15 Nov 2024 12:45:27 GMT")], false),
        (&[TAG, ("Accept-Ranges", "none")], false),
        (&[], false),
    ] {
        let owned: Vec<_> = headers.to_vec();
        let origin = Origin::plain(move |seen| match seen.connection {
            0 => cut(&owned, 10),
            _ => response(200, &[], TEXT),
        });
        let scratch = Scratch::new("validators");
        assert_eq!(scratch.go_on(&origin.url("/")), 1);
        assert_eq!(!scratch.names().is_empty(), is_kept, "{headers:?}");
        assert_eq!(scratch.go_on(&origin.url("/")), 0);
        assert_eq!(scratch.read("file"), TEXT);
        let if_range = origin.requests()[1].header("if-range").map(str::to_owned);
        assert_eq!(if_range.as_deref(), is_kept.then_some(modified.1), "{headers:?}");
    }
}

#[test]
fn what_is_there_is_of_one_url_alone() {
    let origin = Origin::plain(|seen| match &seen.target[..] {
        "/one" => cut(&[TAG], 10),
        _ => response(200, &[TAG], b"two"),
    });
    let scratch = Scratch::new("urls");
    assert_eq!(scratch.go_on(&origin.url("/one")), 1);
    assert_eq!(scratch.go_on(&origin.url("/two")), 0);
    assert_eq!((scratch.names().len(), scratch.read("file")), (1, b"two".to_vec()));
    assert_eq!(origin.requests()[1].header("range"), None);
}

#[test]
fn an_error_or_another_part_leaves_what_is_there() {
    let origin = Origin::plain(|seen| match seen.connection {
        0 => cut(&[TAG], 10),
        1 => response(503, &[], b"busy"),
        2 => response(206, &[TAG, ("Content-Range", "bytes 9-35/36")], &TEXT[9..]),
        3 => response(416, &[("Content-Range", "bytes */5")], b""),
        _ => response(200, &[TAG], TEXT),
    });
    let scratch = Scratch::new("leaves");
    let url = origin.url("/");
    for _ in 0..3 {
        assert_eq!(scratch.go_on(&url), 1);
        assert_eq!(scratch.read(PART), &TEXT[..10]);
    }
    // There is no such rest: what is there was of no use.
    assert_eq!((scratch.go_on(&url), scratch.names().len()), (1, 0));
    assert_eq!((scratch.go_on(&url), scratch.read("file")), (0, TEXT.to_vec()));
}

/// `dir/x.part` is a file like any other, though `dir/x` is not whole yet.
#[test]
fn no_url_names_what_is_left_of_another() {
    let origin = Origin::plain(|seen| match (&seen.target[..], seen.header("range")) {
        ("/x", None) => cut(&[TAG], 10),
        ("/x", Some(_)) => rest(seen, TEXT.len()),
        ("/x.part" | "/.x.fetch-part", _) => response(200, &[("ETag", "\"other\"")], b"other"),
        _ => Reply::new().close(),
    });
    let scratch = Scratch::new("neighbours");
    let into = |target: &str| {
        let directory = format!("{}/", scratch.directory.display());
        let arguments = ["-s", "--retry", "0", "--continue", "-o", &directory, &origin.url(target)];
        program::fetch(&arguments).output().unwrap().status.code().unwrap()
    };
    fs::write(scratch.directory.join("x.part.from"), "the user's own").unwrap();
    assert_eq!(into("/x"), 1);
    assert_eq!((into("/x.part"), into("/.x.fetch-part")), (0, 0));
    assert_eq!(into("/x"), 0);
    assert_eq!(scratch.names(), ["_.x.fetch-part", "x", "x.part", "x.part.from"]);
    assert_eq!(scratch.read("x"), TEXT);
    assert_eq!(
        (scratch.read("x.part"), scratch.read("_.x.fetch-part")),
        (b"other".into(), b"other".into())
    );
    assert_eq!(scratch.read("x.part.from"), b"the user's own");
}

#[test]
fn what_fetch_did_not_make_is_neither_added_to_nor_removed() {
    let origin = Origin::plain(|_| response(200, &[TAG], TEXT));
    let scratch = Scratch::new("not-made");
    for name in [PART, NOTE] {
        fs::write(scratch.directory.join(name), "the user's own").unwrap();
        let done = scratch.fetch(&origin.url("/"), &["--continue"]);
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(said.contains(name) && said.lines().count() == 1, "{said}");
        assert_eq!(done.status.code(), Some(1));
        assert_eq!(
            (scratch.names(), scratch.read(name)),
            (vec![name.to_owned()], b"the user's own".into())
        );
        fs::remove_file(scratch.directory.join(name)).unwrap();
    }
}

/// The test has the lock that another run would have: on something to go on with.
#[test]
fn two_runs_never_write_to_one_part() {
    let origin = Origin::plain(|seen| match seen.connection {
        0 => cut(&[TAG], 10),
        1 | 3 => rest(seen, TEXT.len()),
        _ => response(200, &[("ETag", "\"two\"")], b"another text"),
    });
    let scratch = Scratch::new("two-runs");
    let url = origin.url("/");
    assert_eq!(scratch.go_on(&url), 1);
    let note = fs::File::open(scratch.directory.join(NOTE)).unwrap();
    rustix::fs::flock(&note, rustix::fs::FlockOperation::LockExclusive).unwrap();
    // Neither goes on with it, nor begins anew.
    for _ in 0..2 {
        let done = scratch.fetch(&url, &["--continue"]);
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(said.contains("another run is downloading it"), "{said}");
        assert_eq!((done.status.code(), scratch.names().len()), (Some(1), 2));
        assert_eq!(scratch.read(PART), &TEXT[..10]);
    }
    drop(note);
    assert_eq!((scratch.go_on(&url), scratch.read("file")), (0, TEXT.to_vec()));
}

#[test]
fn another_run_waits_for_nobody_and_one_that_was_killed_holds_nothing() {
    let origin = Origin::plain(|seen| match (seen.connection, seen.header("range")) {
        (0, _) => Reply::new().send("HTTP/1.1 200 OK\r\nETag: \"one\"\r\n\r\n0123").silence(),
        (_, None) => response(200, &[TAG], TEXT),
        (_, Some(_)) => rest(seen, TEXT.len()),
    });
    let scratch = Scratch::new("killed");
    let url = origin.url("/");
    let mut command = program::fetch(&["-sv", "--continue", "-o"]);
    let mut first = command.arg(&scratch.file).arg(&url).spawn().unwrap();
    let mut said = BufReader::new(first.stderr.take().unwrap()).lines().map(Result::unwrap);
    // It says what it received at the end of the turn in which it opens its file.
    said.find(|line| line.starts_with("< HTTP/1.1 200")).unwrap();
    assert_eq!(scratch.go_on(&url), 1);
    assert!(!scratch.file.exists() && scratch.names().contains(&NOTE.to_owned()));
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!((scratch.go_on(&url), scratch.names()), (0, vec!["file".to_owned()]));
    assert_eq!(scratch.read("file"), TEXT);
}

/// What was asked for was the rest behind ten bytes.
#[test]
fn what_another_run_has_gone_on_with_meanwhile_is_left_to_it() {
    let scratch = Scratch::new("meanwhile");
    let part = scratch.directory.join(PART);
    let origin = Origin::plain(move |seen| match seen.connection {
        0 => cut(&[TAG], 10),
        1 => {
            fs::write(&part, &TEXT[..20]).unwrap();
            rest(seen, TEXT.len())
        }
        _ => rest(seen, TEXT.len()),
    });
    let url = origin.url("/");
    assert_eq!((scratch.go_on(&url), scratch.go_on(&url)), (1, 1));
    assert_eq!(scratch.read(PART), &TEXT[..20]);
    assert_eq!((scratch.go_on(&url), scratch.read("file")), (0, TEXT.to_vec()));
}

/// A server may send less than was asked for (RFC 9110 §15.3.7), and must not mix versions.
#[test]
fn a_part_of_the_rest_is_not_the_whole() {
    let origin = Origin::plain(|seen| match seen.connection {
        0 => cut(&[TAG], 10),
        1 => response(206, &[TAG, ("Content-Range", "bytes 10-24/36")], &TEXT[10..25]),
        2 => response(206, &[TAG, ("Content-Range", "bytes 25-35/*")], &TEXT[25..]),
        3 => {
            let of_another = [("ETag", "\"two\""), ("Content-Range", "bytes 25-35/36")];
            response(206, &of_another, b"another tex")
        }
        _ => rest(seen, TEXT.len()),
    });
    let scratch = Scratch::new("less");
    let url = origin.url("/");
    assert_eq!(scratch.go_on(&url), 1);
    for _ in 0..3 {
        assert_eq!(scratch.go_on(&url), 1);
        assert_eq!((scratch.names().len(), scratch.read(PART)), (2, TEXT[..25].to_vec()));
    }
    assert_eq!((scratch.go_on(&url), scratch.names()), (0, vec!["file".to_owned()]));
    assert_eq!(scratch.read("file"), TEXT);
    assert_eq!(asked_from(&origin.requests()[1]), 10);
}

#[test]
fn without_continue_nothing_is_left_and_nothing_asked_for_in_parts() {
    let origin = Origin::plain(|seen| match seen.connection {
        0 => cut(&[TAG], 10),
        _ => response(200, &[TAG], TEXT),
    });
    let scratch = Scratch::new("without");
    assert_eq!(scratch.fetch(&origin.url("/"), &[]).status.code(), Some(1));
    assert!(scratch.names().is_empty());
    assert_eq!(scratch.fetch(&origin.url("/"), &[]).status.code(), Some(0));
    assert_eq!(origin.requests()[1].header("range"), None);
    assert_eq!(scratch.names(), ["file"]);
}

#[test]
fn a_file_with_another_checksum_is_not_kept() {
    let origin = Origin::plain(|seen| match seen.connection {
        0 => cut(&[TAG], 10),
        1 => rest(seen, TEXT.len()),
        _ => response(200, &[], TEXT),
    });
    let scratch = Scratch::new("checksum");
    let url = origin.url("/");
    assert_eq!(scratch.go_on(&url), 1);
    // Somebody has written to it since.
    fs::write(scratch.directory.join(PART), "012345678X").unwrap();
    let checksum = format!("sha256:{:x}", Hex(Sha256::digest(TEXT).into()));
    let done = scratch.fetch(&url, &["--continue", "--checksum", &checksum]);
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(said.contains("its SHA-256 is") && said.lines().count() == 1, "{said}");
    assert_eq!((done.status.code(), scratch.names().len()), (Some(1), 0));
    let done = scratch.fetch(&url, &["--checksum", &checksum]);
    assert_eq!((done.status.code(), scratch.read("file")), (Some(0), TEXT.to_vec()));
    for wrong in ["sha256:00", "md5:00", &checksum[..70], &format!("{checksum}0")] {
        assert_eq!(scratch.fetch(&url, &["--checksum", wrong]).status.code(), Some(2), "{wrong}");
    }
}

#[test]
fn a_coded_body_to_a_file_is_decoded_and_its_parts_are_not_kept() {
    let gzip = include_bytes!("corpus/codings/text.gz");
    let origin = Origin::plain(move |seen| {
        let headers = [("Content-Encoding", "gzip"), TAG];
        match seen.connection {
            // One that codes though it was asked not to.
            0 => response(200, &headers, &gzip[..gzip.len() / 2]),
            _ => response(200, &headers, gzip),
        }
    });
    let scratch = Scratch::new("coded");
    assert_eq!(scratch.go_on(&origin.url("/")), 1);
    assert!(scratch.names().is_empty());
    assert_eq!(scratch.go_on(&origin.url("/")), 0);
    assert!(scratch.read("file").starts_with(b"0 squared is 0\n"));
}
