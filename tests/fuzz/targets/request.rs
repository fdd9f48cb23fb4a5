//! A request of any method, URL, headers and body: it is refused, or its bytes are exactly one
//! request that says what was given and nothing else.
//!
//! The input is method, URL, and pairs of name and value, each ended by 0x1f; then 0x1e and the
//! body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whippet::fuzzing::{authority, request_bytes};
use whippet::{Error, Kind, Request};
use whippet_fuzz::input::Tape;
use whippet_fuzz::strict;

fuzz_target!(|bytes: &[u8]| {
    let mut tape = Tape::new(bytes);
    let mut parts = Tape::new(tape.until(0x1e));
    let body = (!tape.is_empty()).then(|| tape.rest());
    let method = String::from_utf8_lossy(parts.until(0x1f)).into_owned();
    let url = String::from_utf8_lossy(parts.until(0x1f)).into_owned();
    let mut request = match Request::new(&method, &url) {
        Ok(request) => request,
        Err(error) => return check_refusal(&error),
    };
    let mut given = Vec::new();
    while !parts.is_empty() {
        let (name, value) = (parts.until(0x1f), parts.until(0x1f));
        match request.clone().header(name, value) {
            Ok(longer) => {
                request = longer;
                given.push((name, value.trim_ascii()));
            }
            Err(error) => check_refusal(&error),
        }
    }
    if let Some(body) = body {
        request = request.body(body);
    }
    let wire = request_bytes(&request);
    let (read, rest) = strict::Request::read(&wire).unwrap();
    assert!(rest.is_empty(), "more than one request: {}", wire.escape_ascii());
    assert_eq!(read.method, method.as_bytes());
    assert!(read.target.starts_with(b"/"));
    assert_eq!(read.body, body.unwrap_or_default());
    let (host, others) = read.fields.split_first().unwrap();
    assert_eq!(*host, (&b"Host"[..], authority(&request).as_bytes()));
    // The credentials of the URL come first, then the headers given, in order, then ours.
    let others = match others {
        [(b"Authorization", value), others @ ..] if has_credentials(&url) => {
            assert!(value.starts_with(b"Basic "));
            others
        }
        others => others,
    };
    assert_eq!(others[..given.len()], given);
    let mut ours = others[given.len()..].iter();
    for (name, _) in ours.by_ref() {
        assert!(matches!(
            *name,
            b"Accept" | b"Accept-Encoding" | b"User-Agent" | b"Content-Length"
        ));
        assert_eq!(read.values(name).count(), 1, "{}", name.escape_ascii());
    }
    for name in [&b"Host"[..], b"Content-Length"] {
        assert!(read.values(name).count() <= 1);
    }
    assert_eq!(read.values(b"Transfer-Encoding").count(), 0);
});

fn has_credentials(url: &str) -> bool {
    let url = whippet::url::Url::parse(url).unwrap();
    !url.username().is_empty() || url.password().is_some()
}

fn check_refusal(error: &Error) {
    assert!(matches!(error.kind(), Kind::InvalidRequest | Kind::InvalidUrl));
    assert!(!error.to_string().contains(['\r', '\n', '\0']), "{error:?}");
}
