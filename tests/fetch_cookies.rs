//! The `fetch` program and cookies: on by themselves, off by a word, given, read from a file and
//! written to one.
//!
//! With `--test fetch_cookies` alone, `cargo build --example fetch` comes first.
#![cfg(all(unix, feature = "ring"))]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;

use serde_json::{Value, json};
use support::program::{self, records};
use support::{Origin, ok, response};

/// `/set` sets two cookies and leads to `/`, which answers with the Cookie field.
fn origin() -> Origin {
    Origin::plain(|seen| match &seen.target[..] {
        "/set" => {
            let set = [
                ("Location", "/"),
                ("Set-Cookie", "session=canary7Q; Path=/; HttpOnly"),
                ("Set-Cookie", "kept=2; Path=/; Max-Age=86400"),
            ];
            response(302, &set, "")
        }
        _ => ok(seen.header("cookie").unwrap_or("none")),
    })
}

/// A directory of this test's own, removed before and left behind.
fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn they_are_kept_unless_a_word_says_no() {
    let origin = origin();
    assert_eq!(text(&run(&["-s", &origin.url("/set")], "").stdout), "session=canary7Q; kept=2");
    assert_eq!(text(&run(&["-s", "--no-cookies", &origin.url("/set")], "").stdout), "none");
}

#[test]
fn given_ones_go_with_kept_ones() {
    let origin = origin();
    let done = run(&["-s", "-b", "own=1; kept=9", "-b", "more=2", &origin.url("/set")], "");
    assert_eq!(text(&done.stdout), "own=1; kept=9; more=2; session=canary7Q");
    let done = run(&["-s", "-b", "own=1", &origin.url("/")], "");
    assert_eq!(text(&done.stdout), "own=1");
}

#[test]
fn a_job_says_for_itself() {
    let origin = origin();
    let job = |id: u64, target: &str, cookies: bool| {
        json!({"id": id, "url": origin.url(target), "cookies": cookies}).to_string() + "\n"
    };
    let input = [job(1, "/set", true), job(2, "/", false), job(3, "/", true)].concat();
    for word in [&["-s"][..], &["-s", "--no-cookies"]] {
        let options = ["--json", "-c", "1", "--ordered", "--jobs", "-"];
        let done = run(&[word, &options].concat(), &input);
        let bodies: Vec<_> = records(&done).iter().map(|record| record["body"].clone()).collect();
        let kept = "session=canary7Q; kept=2";
        assert_eq!(bodies, [Value::from(kept), Value::from("none"), Value::from(kept)]);
    }
}

#[test]
fn a_file_carries_them_from_run_to_run() {
    let origin = origin();
    let directory = directory("cookies-carried");
    let file = directory.join("jar");
    let path = file.to_str().unwrap();
    let done = run(&["-s", "--cookie-jar", path, &origin.url("/set")], "");
    assert_eq!((done.status.code(), text(&done.stderr)), (Some(0), String::new()));
    let written = fs::read_to_string(&file).unwrap();
    assert!(written.starts_with("# Netscape HTTP Cookie File\n"), "{written}");
    let session = "#HttpOnly_127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\tcanary7Q\n";
    assert!(written.contains(session), "{written}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let done = run(&["-s", "-b", path, "--cookie-jar", path, &origin.url("/")], "");
    assert_eq!(text(&done.stdout), "session=canary7Q; kept=2");
    assert_eq!(fs::read_to_string(&file).unwrap(), written);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
}

#[test]
fn files_that_cannot_be_used_are_named_and_show_nothing() {
    let origin = origin();
    let directory = directory("cookies-unusable");
    let nowhere = directory.join("none").join("jar");
    let nowhere = nowhere.to_str().unwrap();
    let done = run(&["-s", "-b", nowhere, &origin.url("/")], "");
    assert_eq!((done.status.code(), origin.connections()), (Some(2), 0));
    assert!(text(&done.stderr).contains(nowhere));
    let done = run(&["-s", "--cookie-jar", nowhere, &origin.url("/set")], "");
    assert_eq!((done.status.code(), origin.connections()), (Some(2), 0));
    assert!(text(&done.stderr).contains(nowhere) && done.stdout.is_empty());
    let odd = directory.join("odd");
    fs::write(&odd, "canary7Q\n127.0.0.1\tFALSE\t/\tFALSE\t0\ta\t1\n").unwrap();
    let done = run(&["-s", "-b", odd.to_str().unwrap(), &origin.url("/")], "");
    assert_eq!((done.status.code(), &*text(&done.stdout)), (Some(0), "a=1"));
    assert!(text(&done.stderr).contains("1 lines") && !text(&done.stderr).contains("canary"));
}

fn run(args: &[&str], input: &str) -> Output {
    program::run(program::fetch(args), input)
}
