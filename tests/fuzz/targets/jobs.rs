//! Lines of jobs for the `fetch` program, as they come through a pipe: the same lines in any
//! pieces; each is a request that says what the line says, or one line of why it is none, and
//! keeps its id.
//!
//! The input is two bytes of cuts, a byte for the longest line, and the lines.
#![no_main]

#[allow(dead_code, reason = "files of the program, of which this uses a part")]
#[path = "../../../examples/fetch"]
mod fetch {
    pub(crate) mod contents;
    pub(crate) mod jobs;
    pub(crate) mod lines;
    pub(crate) mod values;
}

use fetch::contents::Contents;
use fetch::jobs::{Auth, Defaults, Job};
use fetch::lines::{Line, Lines};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use whippet::Request;
use whippet::fuzzing::request_bytes;
use whippet_fuzz::input::{Tape, pieces};
use whippet_fuzz::strict;

fuzz_target!(|bytes: &[u8]| {
    let mut tape = Tape::new(bytes);
    let (seed, longest) = (tape.word(), tape.byte());
    let bytes_max = if longest == 0 { 1 << 20 } else { usize::from(longest) };
    let stream = tape.rest();
    let whole = split([stream], bytes_max);
    assert_eq!(split(pieces(stream, seed), bytes_max), whole);
    let own = Defaults::default();
    let given = Defaults {
        method: Some("PUT".to_owned()),
        headers: vec![("X-Default".to_owned(), "d".to_owned())],
        contents: Some(Contents::Data(b"default".to_vec().into())),
        expect_continue: true,
        auth: Some(Auth::Bearer("default".to_owned())),
        digest: true,
        proxy_digest: true,
        body_bytes_max: Some(10),
        collect: true,
    };
    for (number, line) in whole {
        let Some(line) = line else { continue };
        assert!(line.len() <= bytes_max && !line.contains(&b'\n') && number > 0);
        check(&line, &own);
        check(&line, &given);
    }
});

/// Every line with its number; `None`: it is too long.
fn split<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    bytes_max: usize,
) -> Vec<(u64, Option<Vec<u8>>)> {
    let (mut lines, mut found) = (Lines::new(bytes_max), Vec::new());
    let mut drain = |lines: &mut Lines| {
        while let Some((number, line)) = lines.next_line() {
            let text = match line {
                Line::Text(text) => Some(text.to_vec()),
                Line::TooLong => None,
            };
            found.push((number, text));
        }
    };
    for piece in pieces {
        lines.receive(piece);
        drain(&mut lines);
    }
    lines.receive_end();
    drain(&mut lines);
    assert!(found.iter().enumerate().all(|(at, (number, _))| *number == at as u64 + 1));
    found
}

fn check(line: &[u8], defaults: &Defaults) {
    let job = Job::from_line(line, defaults);
    let object = match serde_json::from_slice(line) {
        Ok(Value::Object(object)) => Some(object),
        _ => None,
    };
    let id = object.as_ref().and_then(|object| object.get("id"));
    assert_eq!(job.id.as_ref(), id);
    let url = object.as_ref().and_then(|object| object.get("url")?.as_str());
    assert_eq!(job.url.as_deref(), url);
    match &job.request {
        Ok(request) => check_request(request, &object.unwrap(), defaults),
        Err(failure) => {
            assert!(matches!(failure.kind, "invalid_request" | "invalid_url"), "{failure:?}");
            assert!(!failure.message.contains(['\r', '\n']), "{failure:?}");
        }
    }
}

fn check_request(request: &Request, object: &serde_json::Map<String, Value>, defaults: &Defaults) {
    let wire = request_bytes(request);
    let (read, rest) = strict::Request::read(&wire).unwrap();
    assert!(rest.is_empty(), "{}", wire.escape_ascii());
    if let Some(method) = object.get("method").and_then(Value::as_str) {
        assert_eq!(read.method, method.as_bytes());
    }
    if let Some(body) = object.get("body").and_then(Value::as_str) {
        assert_eq!(read.body, body.as_bytes());
    }
    assert_eq!(read.values(b"Host").count(), 1);
    let mut fields = read.fields.iter();
    let headers = object.get("headers").and_then(Value::as_array);
    for pair in headers.into_iter().flatten() {
        let name = pair[0].as_str().unwrap().as_bytes();
        let value = pair[1].as_str().unwrap().as_bytes().trim_ascii();
        assert!(fields.any(|field| *field == (name, value)), "{}", wire.escape_ascii());
    }
    if let Some((name, _)) = defaults.headers.first() {
        assert!(read.values(name.as_bytes()).count() >= 1);
        // A login for Digest waits until it is asked for.
        let is_digest = object.get("auth").is_some_and(|auth| auth.get("digest").is_some());
        let in_url = object.get("url").and_then(Value::as_str).is_some_and(|url| url.contains('@'));
        let is_said = read.values(b"Authorization").count() >= 1;
        assert!(is_said || is_digest || in_url, "{}", wire.escape_ascii());
    }
}
