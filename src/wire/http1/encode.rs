//! Floor 1. A request head as bytes (RFC 9112 §3, §5).
//!
//! In goes what [`crate::field`] let through and a target and host taken from a parsed URL; out
//! come the request line, the headers and the blank line, appended to the caller's buffer. Nothing
//! is checked again: no part that reaches this file can contain a line end.

/// All that a head says.
#[derive(Clone)]
pub(crate) struct RequestHead<'a, H> {
    /// A token.
    pub(crate) method: &'a str,
    /// What stands before the target: for a proxy, scheme and authority, which make it
    /// absolute-form (RFC 9112 §3.2.2).
    pub(crate) base: &'a [u8],
    /// The path and query (origin-form), or `*` (RFC 9112 §3.2).
    pub(crate) target: &'a [u8],
    /// The URL's host, in brackets if IPv6, with its port unless that is the scheme's own.
    pub(crate) host: &'a [u8],
    /// The caller's headers: names and values in their order and case.
    pub(crate) headers: H,
    /// The content codings that can be undone, as a list. Empty: nothing is said of them.
    pub(crate) accept_encoding: &'a str,
    pub(crate) body: Announced,
}

/// What a head says of the body behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Announced {
    /// There is none.
    Nothing,
    Length(u64),
    /// The chunked transfer coding: its length is not known (RFC 9112 §6.1).
    Chunked,
}

/// Appends `line` to `out`: Host first (RFC 9110 §7.2), then the caller's headers, then the
/// defaults that the caller did not give, then what frames the body.
pub(crate) fn head<'a, H>(out: &mut Vec<u8>, line: &RequestHead<'_, H>)
where
    H: Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
{
    debug_assert!(is_one_word(line.method.as_bytes()), "the method was checked");
    debug_assert!(is_one_word(line.target) && is_one_word(line.host), "the URL was parsed");
    let given = line.headers.clone().map(|(name, value)| name.len() + value.len() + 4);
    let named = line.base.len() + line.target.len() + line.host.len();
    out.reserve(named + given.sum::<usize>() + DEFAULTS_BYTES);
    out.extend_from_slice(line.method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(line.base);
    out.extend_from_slice(line.target);
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(line.host);
    out.extend_from_slice(b"\r\n");
    let (mut has_accept, mut has_agent) = (false, false);
    let (mut has_codings, mut has_range) = (line.accept_encoding.is_empty(), false);
    for (name, value) in line.headers.clone() {
        match name.len() {
            5 => has_range |= name.eq_ignore_ascii_case(b"range"),
            6 => has_accept |= name.eq_ignore_ascii_case(b"accept"),
            10 => has_agent |= name.eq_ignore_ascii_case(b"user-agent"),
            15 => has_codings |= name.eq_ignore_ascii_case(b"accept-encoding"),
            _ => {}
        }
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    if !has_accept {
        out.extend_from_slice(ACCEPT);
    }
    if !has_codings {
        // A part of what is coded cannot be decoded (as the Fetch standard has it, too).
        let accepted = if has_range { "identity" } else { line.accept_encoding };
        out.extend_from_slice(b"Accept-Encoding: ");
        out.extend_from_slice(accepted.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if !has_agent {
        out.extend_from_slice(USER_AGENT.as_bytes());
    }
    match line.body {
        // RFC 9110 §8.6: zero is said where the method gives a body a meaning, and only there.
        Announced::Nothing if matches!(line.method, "POST" | "PUT" | "PATCH") => {
            out.extend_from_slice(b"Content-Length: 0\r\n");
        }
        Announced::Nothing => {}
        Announced::Length(length) => {
            out.extend_from_slice(b"Content-Length: ");
            push_decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        Announced::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let start = out.len();
    loop {
        out.push(b'0' + u8::try_from(number % 10).unwrap_or(0));
        number /= 10;
        if number == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}

fn is_one_word(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| byte > b' ' && byte != 0x7f)
}

/// About what the rest of a head takes: the request line's words and all defaults.
const DEFAULTS_BYTES: usize = 192;
const ACCEPT: &[u8] = b"Accept: */*\r\n";
const USER_AGENT: &str = concat!("User-Agent: whippet/", env!("CARGO_PKG_VERSION"), "\r\n");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::check_header;

    fn encoded(method: &str, headers: &[(&[u8], &[u8])], body_length: Option<u64>) -> String {
        let headers = headers.iter().copied();
        let line = RequestHead {
            method,
            base: b"",
            target: b"/a?b",
            host: b"[::1]:8080",
            headers,
            accept_encoding: "",
            body: announced(body_length),
        };
        let mut out = Vec::new();
        head(&mut out, &line);
        String::from_utf8(out).unwrap()
    }

    fn announced(length: Option<u64>) -> Announced {
        length.map_or(Announced::Nothing, Announced::Length)
    }

    fn agent() -> String {
        format!("User-Agent: whippet/{}\r\n", env!("CARGO_PKG_VERSION"))
    }

    #[test]
    fn a_plain_get_has_host_first_and_the_defaults() {
        let expected =
            format!("GET /a?b HTTP/1.1\r\nHost: [::1]:8080\r\nAccept: */*\r\n{}\r\n", agent());
        assert_eq!(encoded("GET", &[], None), expected);
    }

    #[test]
    fn the_callers_headers_keep_order_and_case_and_replace_defaults() {
        let headers: [(&[u8], &[u8]); 4] =
            [(b"x-B", b"2"), (b"aCCEPT", b"text/html"), (b"X-a", b"1"), (b"user-agent", b"")];
        let expected = "GET /a?b HTTP/1.1\r\nHost: [::1]:8080\r\nx-B: 2\r\naCCEPT: text/html\r\n\
                        X-a: 1\r\nuser-agent: \r\n\r\n";
        assert_eq!(encoded("GET", &headers, None), expected);
    }

    #[test]
    fn codings_are_asked_for_unless_the_caller_does_or_asks_for_a_part() {
        let said = |accept_encoding, headers: &[(&[u8], &[u8])]| {
            let (method, base, target) = ("GET", &b""[..], &b"/"[..]);
            let (host, body) = (&b"h"[..], Announced::Nothing);
            let headers = headers.iter().copied();
            let line = RequestHead { method, base, target, host, headers, accept_encoding, body };
            let mut out = Vec::new();
            head(&mut out, &line);
            let text = String::from_utf8(out).unwrap();
            let lines = text.lines().filter(|l| l.to_ascii_lowercase().starts_with("accept-e"));
            lines.collect::<Vec<_>>().join("|")
        };
        assert_eq!(said("gzip, br", &[]), "Accept-Encoding: gzip, br");
        assert_eq!(said("gzip, br", &[(b"RANGE", b"bytes=0-")]), "Accept-Encoding: identity");
        assert_eq!(said("gzip", &[(b"accept-encoding", b"x")]), "accept-encoding: x");
        assert_eq!(said("", &[(b"Range", b"bytes=0-")]), "");
        assert_eq!(said("", &[]), "");
    }

    #[test]
    fn content_length_is_said_where_it_means_something() {
        for (method, body, said) in [
            ("GET", None, None),
            ("DELETE", None, None),
            ("post", None, None),
            ("GET", Some(0), Some("0")),
            ("POST", None, Some("0")),
            ("PUT", None, Some("0")),
            ("PATCH", None, Some("0")),
            ("POST", Some(10), Some("10")),
            ("POST", Some(u64::MAX), Some("18446744073709551615")),
        ] {
            let text = encoded(method, &[], body);
            let found = text.lines().find_map(|l| l.strip_prefix("Content-Length: "));
            assert_eq!(found, said, "{method} {body:?}");
        }
    }

    #[test]
    fn no_header_that_passes_the_checks_adds_a_line() {
        for byte in 0..=u8::MAX {
            let value = [b'v', byte, b'\n', byte, b':'];
            for value in [&value[..2], &value[..], &value[1..]] {
                for name in [&b"X"[..], &value[..1], &value[..2]] {
                    let Ok(value) = check_header(name, value) else { continue };
                    let headers = [(name, value)].into_iter();
                    let line = RequestHead {
                        method: "GET",
                        base: b"",
                        target: b"*",
                        host: b"h",
                        headers,
                        accept_encoding: "",
                        body: Announced::Nothing,
                    };
                    let mut out = Vec::new();
                    head(&mut out, &line);
                    assert_eq!(out.iter().filter(|&&b| b == b'\n').count(), 6);
                    assert_eq!(out.iter().filter(|&&b| b == b'\r').count(), 6);
                }
            }
        }
    }

    #[test]
    fn a_reused_buffer_is_appended_to_without_growing() {
        let mut out = Vec::with_capacity(1024);
        let place = out.as_ptr();
        for _ in 0..3 {
            out.clear();
            let headers = std::iter::empty();
            let line = RequestHead {
                method: "GET",
                base: b"",
                target: b"/",
                host: b"h",
                headers,
                accept_encoding: "gzip",
                body: Announced::Nothing,
            };
            head(&mut out, &line);
        }
        assert_eq!(out.as_ptr(), place);
    }

    proptest::proptest! {
        /// Read back, a head says what it was told and nothing else, whatever the bytes are.
        #[test]
        fn a_head_says_what_it_was_told_and_nothing_else(
            fields in proptest::collection::vec((bytes(HEADER_NAME), bytes(HEADER_VALUE)), 0..20),
            base in "(http://[a-z]{1,9}(:[0-9]{1,5})?)?",
            target in "/[!-~]{0,40}",
            body_length in proptest::option::of(proptest::num::u64::ANY),
        ) {
            let fields: Vec<_> = fields
                .iter()
                .filter_map(|(name, value): &(Vec<u8>, Vec<u8>)| {
                    Some((&name[..], check_header(name, value).ok()?))
                })
                .collect();
            let headers = fields.iter().copied();
            let (method, base) = ("GET", base.as_bytes());
            let (target, host) = (target.as_bytes(), &b"a.example"[..]);
            let mut out = Vec::new();
            let line = RequestHead {
                method,
                base,
                target,
                host,
                headers,
                accept_encoding: "gzip, br",
                body: announced(body_length),
            };
            head(&mut out, &line);
            let lines: Vec<&[u8]> = out
                .strip_suffix(b"\r\n\r\n")
                .unwrap()
                .split(|&byte| byte == b'\n')
                .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
                .collect();
            proptest::prop_assert_eq!(lines[0], [b"GET ", base, target, b" HTTP/1.1"].concat());
            proptest::prop_assert_eq!(lines[1], b"Host: a.example");
            for (line, (name, value)) in lines[2..].iter().zip(&fields) {
                proptest::prop_assert_eq!(*line, [name, &b": "[..], value].concat());
            }
            let given = |name: &str| {
                fields.iter().any(|field| field.0.eq_ignore_ascii_case(name.as_bytes()))
            };
            let mut ours = Vec::new();
            ours.extend((!given("accept")).then(|| "Accept: */*".to_owned()));
            let codings = "Accept-Encoding: gzip, br";
            ours.extend((!given("accept-encoding")).then(|| codings.to_owned()));
            ours.extend((!given("user-agent")).then(|| agent().trim_end().to_owned()));
            ours.extend(body_length.map(|length| format!("Content-Length: {length}")));
            let rest = lines[2 + fields.len()..].iter();
            let rest: Vec<_> = rest.map(|line| String::from_utf8_lossy(line)).collect();
            proptest::prop_assert_eq!(rest, ours);
        }
    }

    fn bytes(pattern: &str) -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
        proptest::string::bytes_regex(pattern).unwrap()
    }

    const HEADER_NAME: &str = "([a-zA-Z-]{1,12}|Accept|user-agent|[ -~]{0,8})";
    const HEADER_VALUE: &str = "(?s-u:.{0,12})|[ -~\\t]{0,30}";
}
