//! Floor 1. A response head (RFC 9112 §4, §5). The only file that names `httparse`.
//!
//! In go the bytes that arrived since the last message; out come spans into them, so that nothing
//! is copied or allocated: the table of fields is the caller's and keeps its room. The intended
//! use: [`parse`] what arrived; while that is `None`, wait until [`Scan`](super::scan::Scan) has
//! found the blank line, or as many bytes as the limit are there, or the stream ended; then
//! `parse` once more. What `parse` says of some bytes it says of them with any bytes after them,
//! so every cut of a stream ends in the same verdict.
//!
//! Lenient where it is harmless: empty lines before the status line, LF for CR LF (RFC 9112 §2.2),
//! no reason phrase, a status of an unknown class; and, where the strict grammar does not fit,
//! white space before a colon (§5.1), folded lines (§5.2) and control bytes in what is only text
//! (RFC 9110 §5.5). Strict where framing hangs on it: a field that says how long the body is
//! stands on one line, its colon at once behind its name, and a name has no other bytes than it
//! may have, for it decides which field it is.

use std::mem::MaybeUninit;

use httparse::{EMPTY_HEADER, Error, Header, ParserConfig, Response, Status};

use super::hints::{Gathering, Hints, says_length};
use super::scan::is_line_end;
use super::{HEADERS_MAX, Malformed};
use crate::kit::work;
use crate::response::{Field, Span};

/// A whole response head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    /// The bytes up to and including the blank line.
    pub(crate) length: usize,
    /// 100 to 999. A class above 5 is to be treated as 5 (RFC 9110 §15).
    pub(crate) status: u16,
    /// The digit after `HTTP/1.`: 0 or 1.
    pub(crate) minor: u8,
    /// Opaque bytes, often none.
    pub(crate) reason: Span,
    pub(crate) hints: Hints,
    /// A value has line ends in it, which [`unfold`] must take out before anybody sees it.
    pub(crate) is_folded: bool,
}

impl Head {
    /// 1xx but 101: another head follows (RFC 9110 §15.2).
    pub(crate) fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}

/// Parses a head at the front of `bytes`. `None`: it is not whole yet. `fields` is cleared and,
/// where a head is returned, holds its fields in order. A head longer than `bytes_max` is
/// [`Malformed::HeadTooLarge`] as soon as that many bytes are there.
pub(crate) fn parse(
    bytes: &[u8],
    bytes_max: usize,
    fields: &mut Vec<Field>,
) -> Result<Option<Head>, Malformed> {
    // Cut at the limit, the answer does not depend on how much arrived beyond it.
    let window = bytes.get(..bytes_max).unwrap_or(bytes);
    let head = match read(&ParserConfig::default(), window, fields) {
        Err(fault) if fault.is_syntax() => read_leniently(window, fields),
        strict => strict,
    };
    match head? {
        None if bytes.len() >= bytes_max => Err(Malformed::HeadTooLarge),
        head => Ok(head),
    }
}

/// Puts spaces in the place of the line ends in folded values (RFC 9112 §5.2).
pub(crate) fn unfold(bytes: &mut [u8], fields: &[Field]) {
    for Field { value, .. } in fields {
        let value = bytes.get_mut(value.start as usize..value.end as usize).unwrap_or_default();
        value.iter_mut().filter(|byte| is_line_end(**byte)).for_each(|byte| *byte = b' ');
    }
}

fn read(
    grammar: &ParserConfig,
    window: &[u8],
    fields: &mut Vec<Field>,
) -> Result<Option<Head>, Malformed> {
    fields.clear();
    let mut table = [const { MaybeUninit::<Header<'_>>::uninit() }; HEADERS_MAX];
    let mut response = Response::new(&mut []);
    let outcome = grammar.parse_response_with_uninit_headers(&mut response, window, &mut table);
    work::count(if let Ok(Status::Complete(length)) = outcome { length } else { window.len() });
    let length = match outcome {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(error) => return Err(fault(error, window)),
    };
    let (Some(status), Some(minor)) = (response.code, response.version) else {
        return Err(Malformed::StatusLine);
    };
    if status < 100 {
        return Err(Malformed::StatusBelow100);
    }
    let mut gathering = Gathering::default();
    fields.reserve(response.headers.len());
    for header in response.headers.iter() {
        let field = locate(window, header);
        fields.push(field);
        if says_length(header.name.as_bytes()) {
            check_line(window, field)?;
        }
        gathering.note(header.name.as_bytes(), header.value, field.value)?;
    }
    let hints = gathering.finish(minor)?;
    Ok(Some(Head { length, status, minor, reason: reason(window), hints, is_folded: false }))
}

/// The same where the strict grammar found a fault. What it takes, this takes to the same effect.
#[cold]
fn read_leniently(window: &[u8], fields: &mut Vec<Field>) -> Result<Option<Head>, Malformed> {
    let head = read(&lenient(), &mended(window), fields)?;
    let is_folded =
        fields.iter().any(|field| field.value.of(window).iter().any(|byte| is_line_end(*byte)));
    Ok(head.map(|head| Head { is_folded, ..head }))
}

fn lenient() -> ParserConfig {
    let mut grammar = ParserConfig::default();
    grammar.allow_spaces_after_header_name_in_responses(true);
    grammar.allow_obsolete_multiline_headers_in_responses(true);
    grammar
}

/// A copy to be parsed instead, its places the same. The control bytes that are only text where
/// they stand are question marks, which no name, number or coding has.
fn mended(bytes: &[u8]) -> Vec<u8> {
    work::count(bytes.len());
    let mend = |byte: &u8| match byte {
        b'\0' | b'\t' | b'\n' | b'\r' => *byte,
        0x01..b' ' | 0x7f => b'?',
        _ => *byte,
    };
    bytes.iter().map(mend).collect()
}

/// Whether a field is one line with its colon at once behind its name, as every reader has it.
fn check_line(bytes: &[u8], field: Field) -> Result<(), Malformed> {
    let said = Span { start: field.name.end, end: field.value.end }.of(bytes);
    if said.first() != Some(&b':') {
        return Err(Malformed::HeaderNameBeforeSpace);
    }
    let behind = bytes.get(field.value.end as usize..).unwrap_or_default();
    let next_line = behind.iter().position(|byte| *byte == b'\n').and_then(|at| behind.get(at + 1));
    if said.iter().any(|byte| is_line_end(*byte)) || matches!(next_line, Some(b' ' | b'\t')) {
        return Err(Malformed::HeaderFolded);
    }
    Ok(())
}

/// Parses a whole trailer section, blank line included, as [`super::chunked::Dechunker`] collects
/// it. Empty bytes are a section without fields. Values may be folded; see [`unfold`].
pub(crate) fn parse_trailers(bytes: &[u8], fields: &mut Vec<Field>) -> Result<(), Malformed> {
    fields.clear();
    if bytes.is_empty() {
        return Ok(());
    }
    work::count(bytes.len());
    let mut table = [EMPTY_HEADER; HEADERS_MAX];
    match httparse::parse_headers(bytes, &mut table) {
        Ok(Status::Complete((length, headers))) if length == bytes.len() => {
            fields.extend(headers.iter().map(|header| locate(bytes, header)));
            Ok(())
        }
        Ok(_) => Err(Malformed::Trailer),
        Err(Error::TooManyHeaders) => Err(Malformed::TooManyHeaders),
        Err(_) => parse_trailers_leniently(bytes, fields),
    }
}

/// Only whole heads can be parsed leniently, so this makes the section one.
#[cold]
fn parse_trailers_leniently(bytes: &[u8], fields: &mut Vec<Field>) -> Result<(), Malformed> {
    let head = [STATUS_LINE, &mended(bytes)].concat();
    work::count(2 * head.len());
    let mut table = [const { MaybeUninit::<Header<'_>>::uninit() }; HEADERS_MAX];
    let mut response = Response::new(&mut []);
    let outcome = lenient().parse_response_with_uninit_headers(&mut response, &head, &mut table);
    match outcome {
        Ok(Status::Complete(length)) if length == head.len() => {
            let section = head.get(STATUS_LINE.len()..).unwrap_or_default();
            fields.extend(response.headers.iter().map(|header| locate(section, header)));
            Ok(())
        }
        Err(Error::TooManyHeaders) => Err(Malformed::TooManyHeaders),
        _ => Err(Malformed::Trailer),
    }
}

#[inline]
fn locate(bytes: &[u8], header: &Header<'_>) -> Field {
    let name = Span::within(bytes, header.name.as_bytes());
    let value = Span::within(bytes, header.value);
    debug_assert!(name.is_some() && value.is_some(), "fields are slices of what was parsed");
    Field { name: name.unwrap_or_default(), value: value.unwrap_or_default() }
}

/// The reason phrase of a head that was parsed. The parser itself drops one with obs-text.
fn reason(bytes: &[u8]) -> Span {
    let start = bytes.iter().take_while(|&&byte| is_line_end(byte)).count();
    let line = bytes.get(start..).unwrap_or_default();
    let phrase = line.get("HTTP/1.1 200 ".len()..).unwrap_or_default();
    // Without a phrase there need not be a space, and the line may end before this.
    let bare = line.get("HTTP/1.1 200".len()).is_none_or(|&byte| is_line_end(byte));
    let length = phrase.iter().take_while(|&&byte| !is_line_end(byte)).count();
    match phrase.get(..length) {
        Some(phrase) if !bare => Span::within(bytes, phrase).unwrap_or_default(),
        _ => Span::default(),
    }
}

/// The parser's error as a fact. Like the error, it hangs on the bytes up to the first bad one.
#[cold]
fn fault(error: Error, bytes: &[u8]) -> Malformed {
    match error {
        Error::Version if after_empty_lines(bytes).starts_with(b"HTTP/") => Malformed::HttpVersion,
        Error::Version => Malformed::NotHttp,
        Error::Status | Error::Token => Malformed::StatusLine,
        Error::NewLine => Malformed::EmptyLine,
        Error::HeaderName => name_fault(bytes),
        Error::HeaderValue => Malformed::HeaderValue,
        Error::TooManyHeaders => Malformed::TooManyHeaders,
    }
}

/// A bad name at the first line's white space, where nothing stands that it could fold.
fn name_fault(bytes: &[u8]) -> Malformed {
    let line = after_empty_lines(bytes).split(|&byte| byte == b'\n').nth(1);
    match line.and_then(<[u8]>::first) {
        Some(b' ' | b'\t') => Malformed::HeaderFolded,
        _ => Malformed::HeaderName,
    }
}

fn after_empty_lines(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().take_while(|&&byte| is_line_end(byte)).count();
    bytes.get(start..).unwrap_or_default()
}

const STATUS_LINE: &[u8] = b"HTTP/1.1 200\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1::HEAD_BYTES_MAX;

    fn parsed(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
        parse(bytes, HEAD_BYTES_MAX, &mut Vec::new())
    }

    #[test]
    fn spans_name_the_bytes_even_after_they_moved() {
        let bytes =
            b"\r\nHTTP/1.1 404 Not H\xe9re\r\nA:1\r\nB-c: \t two  \r\nE:\r\n\r\nbody".to_vec();
        let mut fields = Vec::new();
        let head = parse(&bytes, HEAD_BYTES_MAX, &mut fields).unwrap().unwrap();
        let moved = bytes.clone();
        let shown: Vec<_> =
            fields.iter().map(|field| (field.name.of(&moved), field.value.of(&moved))).collect();
        let expected: [(&[u8], &[u8]); 3] = [(b"A", b"1"), (b"B-c", b"two"), (b"E", b"")];
        assert_eq!(shown, expected);
        assert_eq!(head.reason.of(&moved), b"Not H\xe9re");
        assert_eq!((head.status, head.minor, head.length), (404, 1, bytes.len() - 4));
        assert_eq!(Span { start: 3, end: 9 }.of(b"1234"), b"");
    }

    #[test]
    fn reason_phrases_may_lack() {
        for (line, reason) in
            [("200", ""), ("200 ", ""), ("200 OK", "OK"), ("200  a b ", " a b "), ("999 ?", "?")]
        {
            for end in ["\r\n", "\n"] {
                let bytes = format!("HTTP/1.1 {line}{end}{end}");
                let head = parsed(bytes.as_bytes()).unwrap().unwrap();
                assert_eq!(head.reason.of(bytes.as_bytes()), reason.as_bytes(), "{line}");
            }
        }
    }

    #[test]
    fn a_folded_value_is_unfolded_where_it_lies() {
        let mut bytes = b"HTTP/1.1 200 OK\r\nA: 1\r\n\t2\nB:\r\n 3 \r\n\r\nA: b\r\n c".to_vec();
        let mut fields = Vec::new();
        let head = parse(&bytes, HEAD_BYTES_MAX, &mut fields).unwrap().unwrap();
        assert!(head.is_folded);
        unfold(&mut bytes, &fields);
        let values: Vec<_> = fields.iter().map(|field| field.value.of(&bytes)).collect();
        assert_eq!(values, [&b"1  \t2"[..], b"3"]);
        assert!(bytes.ends_with(b"\r\n\r\nA: b\r\n c"));
    }

    #[test]
    fn the_table_keeps_its_room() {
        let bytes = b"HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\nContent-Length: 3\r\n\r\n";
        let mut fields = Vec::with_capacity(HEADERS_MAX);
        let place = fields.as_ptr();
        for _ in 0..3 {
            parse(bytes, HEAD_BYTES_MAX, &mut fields).unwrap();
            assert_eq!((fields.len(), fields.as_ptr()), (3, place));
        }
    }

    #[test]
    fn the_limit_of_bytes_holds_while_the_head_is_partial() {
        let bytes = b"HTTP/1.1 200 OK\r\nA: 1\r\n\r\n";
        let mut fields = Vec::new();
        let mut at = |bytes: &[u8], max: usize| parse(bytes, max, &mut fields).map(|h| h.is_some());
        assert_eq!(at(bytes, bytes.len()), Ok(true));
        assert_eq!(at(bytes, bytes.len() - 1), Err(Malformed::HeadTooLarge));
        assert_eq!(at(&bytes[..10], 10), Err(Malformed::HeadTooLarge));
        assert_eq!(at(&bytes[..10], 11), Ok(false));
        assert_eq!(at(b"", 10), Ok(false));
    }

    #[test]
    fn trailers_must_be_whole_fields() {
        let mut fields = Vec::new();
        let bytes = b"A: 1\r\nB:2 \r\n\r\n";
        assert_eq!(parse_trailers(bytes, &mut fields), Ok(()));
        assert_eq!((fields.len(), fields[1].value.of(bytes)), (2, &b"2"[..]));
        assert_eq!(parse_trailers(b"", &mut fields), Ok(()));
        assert!(fields.is_empty());
        for bad in [&b"A: 1\r\n"[..], b"A\r\n\r\n", b"A B: 1\r\n\r\n", b"A: 1\r\n\r\nmore"] {
            assert_eq!(parse_trailers(bad, &mut fields), Err(Malformed::Trailer));
        }
        let many = [b"A: 1\r\n".repeat(HEADERS_MAX + 1), b"\r\n".to_vec()].concat();
        assert_eq!(parse_trailers(&many, &mut fields), Err(Malformed::TooManyHeaders));
    }
}
