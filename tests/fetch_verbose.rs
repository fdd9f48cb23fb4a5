//! What `fetch -v` says: steps, requests and responses, each in its own lines, as a person reads
//! curl's; and no credential.
//!
//! With `--test fetch_verbose` alone, `cargo build --example fetch` comes first.
#![cfg(all(unix, feature = "ring", feature = "gzip", feature = "brotli", feature = "zstd"))]

mod support;

use support::program;
use support::{Origin, redirect, response};

/// Standard error, without its summary; times are made one.
fn said(args: &[&str]) -> Vec<String> {
    let done = program::run(program::fetch(args), "");
    let text = String::from_utf8(done.stderr).unwrap();
    let is_said = |line: &&str| ["* ", "> ", "< ", ">", "<"].iter().any(|it| line.starts_with(it));
    text.lines().filter(is_said).map(without_times).collect()
}

/// `1.2 ms` becomes `T`.
fn without_times(line: &str) -> String {
    let mut words: Vec<&str> = line.split(' ').collect();
    while let Some(at) = words.iter().position(|word| word.trim_matches([',', ')', ';']) == "ms") {
        words.remove(at);
        words[at - 1] = "T";
    }
    words.join(" ")
}

#[test]
fn one_fetch_reads_as_curls() {
    let origin = Origin::plain(|seen| match &*seen.target {
        "/from" => redirect(302, "/to"),
        _ => response(200, &[("Set-Cookie", "a=canary7Q"), ("X-A", "b\u{9b}c")], "hello"),
    });
    let (port, address) = (origin.port(), origin.address());
    let login = origin.url_at("me:canary7Q@127.0.0.1", "/from");
    let wanted = format!(
        "* GET http://127.0.0.1:{port}/from
*   Trying {address}...
* Connected to {address} (#0, T
> GET /from HTTP/1.1
> Host: {address}
> Authorization: (not shown)
> Accept: */*
> Accept-Encoding: gzip, deflate, br, zstd
> User-Agent: whippet/{version}
>
< HTTP/1.1 302 Found
< Location: /to
< Content-Length: 0
<
* 302: following to http://127.0.0.1:{port}/to
* Connection #0 to {address} is kept: N B sent, N B received
* Connection #0 to {address} is taken again
> GET /to HTTP/1.1
> Host: {address}
> Authorization: (not shown)
> Accept: */*
> Accept-Encoding: gzip, deflate, br, zstd
> User-Agent: whippet/{version}
>
< HTTP/1.1 200 OK
< Set-Cookie: (not shown)
< X-A: b\u{FFFD}c
< Content-Length: 5
<
* Received 5 B of body T
* Connection #0 to {address} is kept: N B sent, N B received",
        version = env!("CARGO_PKG_VERSION")
    );
    let mut lines = said(&["-v", &login]);
    for line in &mut lines {
        if let Some((before, _)) = line.split_once("is kept: ") {
            *line = format!("{before}is kept: N B sent, N B received");
        }
    }
    let last = lines.pop().unwrap();
    assert_eq!(lines.join("\n"), wanted);
    assert!(last.starts_with("* Done: T in all, ") && last.ends_with(" 2 attempts"), "{last}");
}

/// What README.md shows is what the program says, but for its numbers.
#[test]
fn the_sample_is_what_is_said() {
    let readme = include_str!("../README.md");
    let (_, sample) = readme.split_once("$ fetch -sv ").unwrap();
    let (options, sample) = sample.split_once(" http://127.0.0.1:8080/\n").unwrap();
    let sample = sample.split("```").nth(2).unwrap().strip_prefix("text\n").unwrap();
    let origin = Origin::plain(|_| response(200, &[], "hello"));
    let url = origin.url("/");
    let args = ["-sv"].into_iter().chain(options.split(' ')).chain([&*url]);
    let done = program::run(program::fetch(&args.collect::<Vec<_>>()), "");
    let said = String::from_utf8(done.stderr).unwrap();
    let as_it_is = |text: &str| -> Vec<String> {
        let lines = text.lines().map(without_numbers);
        // Phases of no time are not in the last line.
        lines.map(|line| if line.starts_with("* Done") { "* Done".into() } else { line }).collect()
    };
    assert_eq!(as_it_is(&said), as_it_is(sample));
}

/// `12.3` becomes `0.0`.
fn without_numbers(line: &str) -> String {
    let mut kept = String::new();
    for c in line.chars() {
        match c {
            '0'..='9' if kept.ends_with('0') => {}
            '0'..='9' => kept.push('0'),
            other => kept.push(other),
        }
    }
    kept
}

#[test]
fn several_fetches_are_numbered_and_failures_explained() {
    let origin = Origin::plain(|_| response(200, &[], "hello"));
    let refused = format!("http://{}/", support::refused_port());
    let lines = said(&["-v", "--retry=0", &origin.url("/"), &refused]);
    assert!(lines.iter().all(|line| line[1..].starts_with(" [")), "{lines:?}");
    let of = |number: &str| {
        let mine = lines.iter().filter(|line| line[1..].starts_with(number));
        mine.map(String::as_str).collect::<Vec<_>>()
    };
    assert!(of(" [1]").contains(&"< [1] HTTP/1.1 200 OK"), "{lines:?}");
    let failed = of(" [2]");
    assert_eq!(failed[0], format!("* [2] GET {refused}"));
    assert!(failed.iter().any(|line| line.contains("Connection refused")), "{failed:?}");
    assert!(failed.last().unwrap().starts_with("* [2] Failed: could not connect"), "{failed:?}");
}
