//! Floor 1. What a response's header fields say to the engine itself: framing, how long the
//! connection lives, where to go next.
//!
//! In go the fields one by one as they are walked once, each sorted out by its length and first
//! byte before any comparison; out come [`Hints`], or how the framing is in doubt.

use super::Malformed;
use crate::coding::ContentCoding;
use crate::field::elements;
use crate::response::Span;

/// The fields that the engine acts on.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Hints {
    pub(crate) content_length: Option<u64>,
    /// The body is in the chunked transfer coding, and in no other.
    pub(crate) chunked: bool,
    /// `Connection: close`.
    pub(crate) close: bool,
    /// `Connection: keep-alive`.
    pub(crate) keep_alive: bool,
    /// `Keep-Alive: timeout=`, in seconds; the smallest where there are several.
    pub(crate) keep_alive_timeout_s: Option<u32>,
    /// The value of the first `Location`.
    pub(crate) location: Option<Span>,
    /// The value of the first `Retry-After`.
    pub(crate) retry_after: Option<Span>,
    /// There is a `Set-Cookie`, or several.
    pub(crate) sets_cookies: bool,
    /// `Content-Encoding`, over all fields.
    pub(crate) content_coding: ContentCoding,
}

/// Whether a field says how long the body is.
pub(super) fn says_length(name: &[u8]) -> bool {
    match name.len() {
        14 => is(name, b"content-length"),
        17 => is(name, b"transfer-encoding"),
        _ => false,
    }
}

/// Hints while the fields are walked.
#[derive(Default, Debug)]
pub(super) struct Gathering {
    hints: Hints,
    codings: Codings,
}

/// The transfer codings seen so far, over all fields, in order.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Codings {
    #[default]
    Absent,
    /// Transfer-Encoding without an element.
    Empty,
    /// The last one is not `chunked`.
    Other,
    Chunked,
    /// `chunked` is last, and something else stands before it.
    OtherThenChunked,
}

impl Gathering {
    /// Notes one field; `at` is where its value lies.
    #[inline]
    pub(super) fn note(&mut self, name: &[u8], value: &[u8], at: Span) -> Result<(), Malformed> {
        let Some(first) = name.first() else { return Ok(()) };
        match (name.len(), first | 0x20) {
            (8, b'l') if is(name, b"location") => {
                self.hints.location.get_or_insert(at);
            }
            (10, b'c') if is(name, b"connection") => self.note_connection(value),
            (10, b'k') if is(name, b"keep-alive") => self.note_keep_alive(value),
            (10, b's') if is(name, b"set-cookie") => self.hints.sets_cookies = true,
            (11, b'r') if is(name, b"retry-after") => {
                self.hints.retry_after.get_or_insert(at);
            }
            (14, b'c') if is(name, b"content-length") => self.note_content_length(value)?,
            (16, b'c') if is(name, b"content-encoding") => {
                elements(value).for_each(|element| self.hints.content_coding.note(element));
            }
            (17, b't') if is(name, b"transfer-encoding") => self.note_transfer_encoding(value)?,
            _ => {}
        }
        Ok(())
    }

    /// The hints, once all fields were noted.
    pub(super) fn finish(mut self, minor: u8) -> Result<Hints, Malformed> {
        self.hints.chunked = match self.codings {
            Codings::Absent => return Ok(self.hints),
            // RFC 9112 §6.1: such framing is faulty. HTTP/1.0 does not know the coding.
            _ if minor == 0 => return Err(Malformed::TransferEncodingInHttp10),
            // RFC 9112 §6.3 item 3: this might be smuggling, and ought to be an error.
            _ if self.hints.content_length.is_some() => {
                return Err(Malformed::ContentLengthWithTransferEncoding);
            }
            Codings::Empty | Codings::Other => {
                return Err(Malformed::TransferEncodingNotChunked);
            }
            Codings::OtherThenChunked => return Err(Malformed::TransferCodingUnsupported),
            Codings::Chunked => true,
        };
        Ok(self.hints)
    }

    /// RFC 9112 §6.3 item 5: repeated equal values are one; everything else is an error.
    /// RFC 9110 §8.6 lets a recipient reject lists, so empty elements are not put up with.
    fn note_content_length(&mut self, value: &[u8]) -> Result<(), Malformed> {
        for element in value.split(|&byte| byte == b',') {
            let length = decimal(element.trim_ascii()).ok_or(Malformed::ContentLength)?;
            match self.hints.content_length {
                Some(other) if other != length => return Err(Malformed::ContentLengthsDiffer),
                _ => self.hints.content_length = Some(length),
            }
        }
        Ok(())
    }

    /// RFC 9112 §6.1, §7.1: `chunked` must be last and stand once. Empty elements are skipped
    /// (RFC 9110 §5.6.1.2); a comma in a quoted parameter only ever leads to an error.
    fn note_transfer_encoding(&mut self, value: &[u8]) -> Result<(), Malformed> {
        if self.codings == Codings::Absent {
            self.codings = Codings::Empty;
        }
        for element in elements(value) {
            let chunked = is(element, b"chunked");
            self.codings = match self.codings {
                _ if !chunked => Codings::Other,
                Codings::Absent | Codings::Empty => Codings::Chunked,
                Codings::Other => Codings::OtherThenChunked,
                Codings::Chunked | Codings::OtherThenChunked => {
                    return Err(Malformed::ChunkedTwice);
                }
            };
        }
        Ok(())
    }

    /// RFC 9110 §7.6.1. Where both are said, both are kept, and the judge lets `close` win.
    fn note_connection(&mut self, value: &[u8]) {
        for option in elements(value) {
            self.hints.close |= is(option, b"close");
            self.hints.keep_alive |= is(option, b"keep-alive");
        }
    }

    /// `timeout=5, max=100`. It is only advice: what cannot be read is passed over.
    fn note_keep_alive(&mut self, value: &[u8]) {
        for parameter in elements(value) {
            let Some((key, value)) = parameter.split_at_checked(TIMEOUT.len()) else { continue };
            if !key.eq_ignore_ascii_case(TIMEOUT) {
                continue;
            }
            let Some(timeout_s) = decimal(value).map(|s| u32::try_from(s).unwrap_or(u32::MAX))
            else {
                continue;
            };
            let smallest = self.hints.keep_alive_timeout_s.map_or(timeout_s, |s| s.min(timeout_s));
            self.hints.keep_alive_timeout_s = Some(smallest);
        }
    }
}

/// Whether `text` is `lower`, a word in small letters, in whatever case. A fixed length lets
/// several bytes be compared at once.
#[inline]
fn is<const LENGTH: usize>(text: &[u8], lower: &[u8; LENGTH]) -> bool {
    let Ok(text) = <&[u8; LENGTH]>::try_from(text) else { return false };
    let differences = text.iter().zip(lower).fold(0, |differences, (byte, lower)| {
        let case = if lower.is_ascii_lowercase() { 0x20 } else { 0 };
        differences | ((byte | case) ^ lower)
    });
    differences == 0
}

/// `1*DIGIT` that fits: no sign, no prefix, no white space.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|&digit| digit <= 9)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

const TIMEOUT: &[u8] = b"timeout=";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1::HEAD_BYTES_MAX;
    use crate::wire::http1::head::parse;

    /// The hints of a response, and its bytes. Framing is covered by the corpus.
    fn hinted(lines: &str) -> (Hints, Vec<u8>) {
        let bytes = format!("HTTP/1.1 200 OK\r\n{lines}\r\n").into_bytes();
        let head = parse(&bytes, HEAD_BYTES_MAX, &mut Vec::new()).unwrap().unwrap();
        (head.hints, bytes)
    }

    #[test]
    fn connection_options_are_a_list_without_case() {
        for (lines, close, keep_alive) in [
            ("", false, false),
            ("Connection: close\r\n", true, false),
            ("CONNECTION: Keep-Alive\r\n", false, true),
            ("connection: foo, ,CLOSE\r\n", true, false),
            ("Connection: keep-alive\r\nConnection: close\r\n", true, true),
            ("Connection: closed\r\nProxy-Connection: close\r\n", false, false),
        ] {
            let (hints, _) = hinted(lines);
            assert_eq!((hints.close, hints.keep_alive), (close, keep_alive), "{lines:?}");
        }
    }

    #[test]
    fn the_keep_alive_timeout_is_advice() {
        for (lines, timeout_s) in [
            ("Keep-Alive: timeout=5, max=100\r\n", Some(5)),
            ("keep-alive: max=1,TIMEOUT=7\r\n", Some(7)),
            ("Keep-Alive: timeout=9\r\nKeep-Alive: timeout=3\r\n", Some(3)),
            ("Keep-Alive: timeout=99999999999\r\n", Some(u32::MAX)),
            ("Keep-Alive: timeout=0\r\n", Some(0)),
            ("Keep-Alive: timeout=, timeout=-1, timeout, 5, timeoutx=1\r\n", None),
            ("Keep-Alive: timeout=99999999999999999999999999\r\n", None),
        ] {
            assert_eq!(hinted(lines).0.keep_alive_timeout_s, timeout_s, "{lines:?}");
        }
    }

    #[cfg(feature = "gzip")]
    #[test]
    fn content_codings_are_one_list_over_all_fields() {
        use crate::coding::Coding::{Deflate, Gzip};
        for (lines, said) in [
            ("", ContentCoding::Identity),
            ("Content-Encoding: gzip\r\n", ContentCoding::One(Gzip)),
            ("content-encoding: , deflate , GZIP,\r\n", ContentCoding::Two(Deflate, Gzip)),
            (
                "Content-Encoding: deflate\r\nX: y\r\nContent-Encoding: gzip\r\n",
                ContentCoding::Two(Deflate, Gzip),
            ),
            ("Content-Encoding:\r\nTransfer-Encoding: chunked\r\n", ContentCoding::Identity),
            ("Content-Encoding: gzip deflate\r\n", ContentCoding::Unknown),
        ] {
            assert_eq!(hinted(lines).0.content_coding, said, "{lines:?}");
        }
    }

    #[test]
    fn the_first_location_and_retry_after_are_found() {
        let (hints, bytes) =
            hinted("Location: /a\r\nlocation: /b\r\nrETRY-aFTER: 120\r\nRetry-After: 1\r\n");
        assert_eq!(hints.location.map(|span| span.of(&bytes)), Some(&b"/a"[..]));
        assert_eq!(hints.retry_after.map(|span| span.of(&bytes)), Some(&b"120"[..]));
        let (hints, bytes) = hinted("Location:\r\n");
        assert_eq!(hints.location.map(|span| span.of(&bytes)), Some(&b""[..]));
        assert_eq!(hints.retry_after, None);
    }
}
