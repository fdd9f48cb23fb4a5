//! Chains of redirects: they end, they stay http or https, credentials stay with their origin and
//! are never taken from a server, and each request that follows is still exactly one.
//!
//! The input is a byte of choices, the first URL, and for each answer a status byte and a Location,
//! each URL ended by LF.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whippet::Request;
use whippet::fuzzing::{Redirect, redirect, request_bytes};
use whippet_fuzz::input::Tape;
use whippet_fuzz::strict;

fuzz_target!(|bytes: &[u8]| {
    let mut tape = Tape::new(bytes);
    let choice = tape.byte();
    let (may_downgrade, hops_max) = (choice & 1 != 0, usize::from(choice >> 1) % 12);
    let method = ["GET", "POST", "HEAD", "PUT"][usize::from(choice >> 6)];
    let first = String::from_utf8_lossy(tape.until(b'\n')).into_owned();
    let Ok(request) = Request::new(method, &first) else { return };
    let mut request = request
        .header("Authorization", "Bearer secret")
        .and_then(|request| request.header("Cookie", "secret"))
        .and_then(|request| request.header("Content-Type", "text/plain"))
        .and_then(|request| request.header("X-Kept", "yes"))
        .unwrap()
        .body("a body");
    let mut visited = Vec::new();
    while !tape.is_empty() {
        let status = 299 + u16::from(tape.byte() % 11);
        let location = tape.until(b'\n');
        let made = redirect(&request, status, Some(location), hops_max, may_downgrade, &visited);
        let next = match made {
            Redirect::Answer => return,
            Redirect::Refuse(refusal) => {
                let words = refusal.to_string();
                assert!(
                    words.chars().count() < WORDS_CHARS_MAX && !words.contains(['\r', '\n']),
                    "{words}"
                );
                return;
            }
            Redirect::Follow { request: next, keeps_body, keeps_credentials } => {
                check(&request, &next, keeps_body, keeps_credentials, may_downgrade);
                next
            }
        };
        visited.push((request.method().clone(), request.url().clone()));
        assert!(visited.len() <= hops_max);
        request = *next;
    }
});

fn check(
    before: &Request,
    next: &Request,
    keeps_body: bool,
    keeps_credentials: bool,
    may_downgrade: bool,
) {
    let (from, to) = (before.url(), next.url());
    assert!(matches!(to.scheme(), "http" | "https") && to.has_host());
    assert!(to.username().is_empty() && to.password().is_none());
    assert!(may_downgrade || from.scheme() != "https" || to.scheme() == "https");
    assert_eq!(keeps_credentials, from.origin() == to.origin());
    let wire = request_bytes(next);
    let (read, rest) = strict::Request::read(&wire).unwrap();
    assert!(rest.is_empty(), "{}", wire.escape_ascii());
    assert_eq!(read.values(b"Host").count(), 1);
    let secret = wire.windows(6).any(|window| window == b"secret");
    let had_secret = before.header_value("cookie").is_some();
    let said = to.as_str().contains("secret");
    assert!(said || secret == (had_secret && keeps_credentials), "{}", wire.escape_ascii());
    assert!(keeps_body || read.body.is_empty() && read.values(b"Content-Type").count() == 0);
    assert_eq!(read.values(b"X-Kept").next(), Some(&b"yes"[..]));
}

/// 300 characters are quoted, each of which is ten where it is escaped.
const WORDS_CHARS_MAX: usize = 3_100;
