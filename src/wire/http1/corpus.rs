//! Tests only. The responses of `tests/corpus/`, each fed whole, byte by byte and at every cut
//! through a driver that strings [`head`](super::head) and [`body`](super::body) together as a
//! connection does. However a stream is cut, the outcome must be the same.

#[path = "../../../tests/corpus/mod.rs"]
mod responses;

use std::fmt::Write as _;

use http::Method;
use proptest::prelude::*;

use responses::{Accepted, Entry, Outcome as Expected, entries};

use super::body::{BodyReader, framing};
use super::head::{parse_trailers, unfold};
use super::heads::Heads;
use super::reuse::{CloseReason, Facts, verdict};
use super::scan::Scan;
use super::{HEAD_BYTES_MAX, INTERIM_RESPONSES_MAX, Malformed};
use crate::response::Field;

/// What one exchange came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Outcome {
    pub(crate) heads: Vec<OwnedHead>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) end: End,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OwnedHead {
    pub(crate) status: u16,
    pub(crate) minor: u8,
    pub(crate) reason: Vec<u8>,
    pub(crate) fields: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The message ended, with so many bytes of the stream behind it.
    Done {
        leftover: usize,
        reuse: Result<(), CloseReason>,
    },
    Malformed(Malformed),
    /// The stream ended first.
    Truncated,
}

/// Feeds `stream` in the pieces between `cuts`, then its end.
pub(crate) fn drive(method: &Method, stream: &[u8], cuts: impl Iterator<Item = usize>) -> Outcome {
    drive_with(&mut Heads::default(), method, stream, cuts)
}

/// [`drive`] with the heads of earlier responses in memory, as a reactor has them.
fn drive_with(
    heads: &mut Heads,
    method: &Method,
    stream: &[u8],
    cuts: impl Iterator<Item = usize>,
) -> Outcome {
    let mut driver = Driver {
        method,
        heads,
        carry: Vec::new(),
        scan: Scan::default(),
        reader: None,
        facts: None,
        used: 0,
        outcome: Outcome {
            heads: Vec::new(),
            body: Vec::new(),
            trailers: Vec::new(),
            end: End::Truncated,
        },
    };
    let mut from = 0;
    let mut done = Ok(false);
    for to in cuts.chain([stream.len()]) {
        done = driver.feed(&stream[from..to]);
        if done != Ok(false) {
            break;
        }
        from = to;
    }
    let end = match done {
        Ok(false) => driver.end_of_stream(),
        done => done,
    };
    driver.outcome.end = match end {
        Ok(true) => driver.done(stream.len() - driver.used),
        Ok(false) => End::Truncated,
        Err(malformed) => End::Malformed(malformed),
    };
    driver.outcome
}

struct Driver<'a> {
    method: &'a Method,
    heads: &'a mut Heads,
    /// The bytes of a head that is not whole.
    carry: Vec<u8>,
    scan: Scan,
    reader: Option<BodyReader>,
    facts: Option<Facts>,
    used: usize,
    outcome: Outcome,
}

impl Driver<'_> {
    /// `true`: the message ended.
    fn feed(&mut self, piece: &[u8]) -> Result<bool, Malformed> {
        if self.reader.is_some() {
            return self.feed_body(piece);
        }
        let mut first = self.carry.is_empty();
        self.carry.extend_from_slice(piece);
        // As a connection does: once when it arrives, then not before the blank line was seen.
        while first || self.scan.find(&self.carry) || self.carry.len() >= HEAD_BYTES_MAX {
            if !self.take_head()? {
                return Ok(false);
            }
            if self.reader.is_some() {
                let rest = std::mem::take(&mut self.carry);
                return self.feed_body(&rest);
            }
            first = true;
        }
        Ok(false)
    }

    fn take_head(&mut self) -> Result<bool, Malformed> {
        let Some(head) = self.heads.parse(&self.carry, HEAD_BYTES_MAX)? else {
            return Ok(false);
        };
        let fields = self.heads.fields();
        if head.is_folded {
            unfold(&mut self.carry, fields);
        }
        self.outcome.heads.push(OwnedHead {
            status: head.status,
            minor: head.minor,
            reason: head.reason.of(&self.carry).to_vec(),
            fields: owned(&self.carry, fields),
        });
        let reader = framing(self.method, &head)?;
        if !head.is_interim() {
            self.facts = Some(Facts::of(&head, &reader));
            self.reader = Some(reader);
        } else if self.outcome.heads.len() > INTERIM_RESPONSES_MAX {
            return Err(Malformed::TooManyInterimResponses);
        }
        self.carry.drain(..head.length);
        self.used += head.length;
        self.scan = Scan::default();
        Ok(true)
    }

    fn feed_body(&mut self, mut bytes: &[u8]) -> Result<bool, Malformed> {
        let Some(reader) = &mut self.reader else { return Ok(false) };
        loop {
            let piece = reader.read(bytes)?;
            let (framing, rest) = bytes.split_at(piece.skip);
            let (data, rest) = rest.split_at(piece.take);
            self.outcome.body.extend_from_slice(data);
            self.used += framing.len() + data.len();
            bytes = rest;
            assert_eq!(piece.done, reader.is_done());
            if piece.done {
                let mut fields = Vec::new();
                let mut section = reader.trailers().to_vec();
                parse_trailers(&section, &mut fields)?;
                unfold(&mut section, &fields);
                self.outcome.trailers = owned(&section, &fields);
                return Ok(true);
            }
            if bytes.is_empty() {
                return Ok(false);
            }
            assert!(piece.take > 0, "a piece without data uses everything");
        }
    }

    fn done(&self, leftover: usize) -> End {
        let facts = self.facts.map(|facts| Facts { receiving_done: true, leftover, ..facts });
        let reuse = facts.map_or(Err(CloseReason::ResponseUnfinished), |facts| verdict(&facts));
        End::Done { leftover, reuse }
    }

    fn end_of_stream(&mut self) -> Result<bool, Malformed> {
        match &mut self.reader {
            Some(reader) => Ok(reader.end_of_stream().is_ok()),
            None => self.heads.parse(&self.carry, HEAD_BYTES_MAX).map(|_| false),
        }
    }
}

fn owned(bytes: &[u8], fields: &[Field]) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields.iter().map(|f| (f.name.of(bytes).to_vec(), f.value.of(bytes).to_vec())).collect()
}

fn check(entry: &Entry, outcome: &Outcome) {
    let shown = format!("{} ({})", entry.name, entry.by);
    match (&entry.outcome, outcome.end) {
        (Expected::Refused(why), End::Malformed(malformed)) => {
            assert_eq!(&format!("{malformed:?}"), why, "{shown}");
        }
        (Expected::Truncated, End::Truncated) => {}
        (Expected::Accepted(accepted), End::Done { leftover, reuse }) => {
            let head = outcome.heads.last().unwrap();
            let (fields, trailers) = (lines(&head.fields), lines(&outcome.trailers));
            assert_eq!(
                Accepted {
                    status: head.status,
                    closed: reuse.err().map(|reason| format!("{reason:?}")),
                    left: leftover,
                    body: outcome.body.clone(),
                    fields: accepted.fields.clone(),
                    trailers,
                },
                *accepted,
                "{shown}"
            );
            let all: Vec<&[u8]> = fields.split(|&byte| byte == b'\n').collect();
            for line in accepted.fields.split(|&byte| byte == b'\n') {
                assert!(all.contains(&line), "{shown}: {}", fields.escape_ascii());
            }
        }
        (expected, end) => unreachable!("{shown}: {end:?} instead of {expected:?}"),
    }
}

/// `name: value` and LF each.
fn lines(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| [name, &b": "[..], value, b"\n"].concat()).collect()
}

fn method(entry: &Entry) -> Method {
    Method::from_bytes(entry.method.as_bytes()).unwrap()
}

fn whole(entry: &Entry, stream: &[u8]) -> Outcome {
    drive(&method(entry), stream, [].into_iter())
}

fn short_entries() -> Vec<Entry> {
    entries().into_iter().filter(|entry| entry.bytes.len() <= SHORT_BYTES_MAX).collect()
}

#[test]
fn every_response_has_a_name_of_its_own_and_a_section_that_says_so() {
    let entries = entries();
    assert!(entries.len() >= 600, "{}", entries.len());
    let mut names = std::collections::HashSet::new();
    for entry in &entries {
        assert!(names.insert(&entry.name), "{} is there twice", entry.name);
        assert!(entry.by.starts_with("RFC ") && entry.by.contains('§'), "{}", entry.name);
        assert!(entry.is_until_close() || entry.left() < entry.bytes.len() || entry.left() == 0);
    }
}

#[test]
fn every_response_ends_as_it_should_at_every_cut() {
    let mut heads = Heads::default();
    for entry in short_entries() {
        let (method, stream) = (method(&entry), &entry.bytes[..]);
        let at_once = whole(&entry, stream);
        check(&entry, &at_once);
        let name = &entry.name;
        assert_eq!(
            drive_with(&mut heads, &method, stream, 1..stream.len()),
            at_once,
            "bytes of {name}"
        );
        for first in 0..=stream.len() {
            assert_eq!(
                drive_with(&mut heads, &method, stream, [first].into_iter()),
                at_once,
                "{first} of {name}"
            );
            let second = first + 1 + first % 7;
            let cuts = [first, second].into_iter().filter(|&cut| cut <= stream.len());
            assert_eq!(
                drive_with(&mut heads, &method, stream, cuts),
                at_once,
                "{first} {second} of {name}"
            );
        }
    }
}

#[test]
fn long_responses_end_the_same_whole_and_byte_by_byte() {
    for entry in entries() {
        let (method, stream) = (method(&entry), &entry.bytes[..]);
        if stream.len() <= SHORT_BYTES_MAX {
            continue;
        }
        let at_once = whole(&entry, stream);
        check(&entry, &at_once);
        assert_eq!(drive(&method, stream, 1..stream.len()), at_once, "{}", entry.name);
        let near = [HEAD_BYTES_MAX - 1, HEAD_BYTES_MAX, HEAD_BYTES_MAX + 1, stream.len() - 1, 17];
        let cuts = (0..10).map(|nth| nth * stream.len() / 10).chain(near);
        for cut in cuts.filter(|&cut| cut <= stream.len()) {
            let outcome = drive(&method, stream, [cut].into_iter());
            assert_eq!(outcome, at_once, "{} cut at {cut}", entry.name);
        }
    }
}

/// A response that ends early at any byte is no success, unless its end is the stream's. What is
/// refused may be refused early, but for nothing else.
#[test]
fn a_response_cut_short_at_any_byte_is_never_another_success() {
    for entry in short_entries() {
        let at_once = whole(&entry, &entry.bytes);
        let message = entry.bytes.len() - entry.left();
        for end in 0..entry.bytes.len() {
            let outcome = whole(&entry, &entry.bytes[..end]);
            let shown = format!("{} cut at {end}", entry.name);
            match at_once.end {
                End::Malformed(_) if outcome.end == at_once.end => continue,
                End::Done { .. } if end >= message => {
                    assert_eq!(outcome.body, at_once.body, "{shown}");
                }
                End::Done { .. } if entry.is_until_close() && !outcome.heads.is_empty() => {
                    assert!(matches!(outcome.end, End::Done { .. } | End::Truncated), "{shown}");
                }
                _ => assert_eq!(outcome.end, End::Truncated, "{shown}"),
            }
            assert!(at_once.body.starts_with(&outcome.body), "{shown}");
        }
    }
}

#[test]
fn one_wrong_byte_anywhere_gives_one_verdict_at_every_cut() {
    let wrong = b"\0\t\n\r ,:;05FxG\x7f\xff";
    for (nth, entry) in short_entries().into_iter().enumerate() {
        let method = method(&entry);
        for at in 0..entry.bytes.len() {
            // Each entry takes two of them; together they take each at each kind of place.
            for turn in 0..2 {
                let mut stream = entry.bytes.clone();
                stream[at] = wrong[(nth + at + 5 * turn) % wrong.len()];
                let at_once = drive(&method, &stream, [].into_iter());
                let shown = stream.escape_ascii();
                assert_eq!(drive(&method, &stream, 1..stream.len()), at_once, "bytes of {shown}");
                assert_eq!(drive(&method, &stream, [at].into_iter()), at_once, "{at} of {shown}");
            }
        }
    }
}

#[test]
fn heads_and_trailers_are_told_in_order_as_sent() {
    let stream = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 Fi\xe9ne\r\n\
                   sEt-Cookie: a\r\nSet-cookie:  b \r\nTransfer-Encoding: chunked\r\n\r\n\
                   0\r\nDigest: x\r\nEmpty:\r\n\r\n";
    let outcome = drive(&Method::GET, stream, 1..stream.len());
    assert_eq!(outcome.heads.len(), 2);
    assert_eq!((outcome.heads[0].status, outcome.heads[0].minor), (103, 1));
    assert_eq!(outcome.heads[0].fields, [(b"Link".to_vec(), b"</a>".to_vec())]);
    assert_eq!(outcome.heads[1].reason, b"Fi\xe9ne");
    assert_eq!(outcome.heads[1].fields[0], (b"sEt-Cookie".to_vec(), b"a".to_vec()));
    assert_eq!(outcome.heads[1].fields[1], (b"Set-cookie".to_vec(), b"b".to_vec()));
    let expected = [(b"Digest".to_vec(), b"x".to_vec()), (b"Empty".to_vec(), Vec::new())];
    assert_eq!(outcome.trailers, expected);
}

/// A body in chunks of the given lengths, with extensions and white space where they may be.
fn chunked(pieces: &[(Vec<u8>, u8)], trailers: &[(String, String)]) -> Vec<u8> {
    let mut text = Vec::new();
    for (data, style) in pieces.iter().filter(|(data, _)| !data.is_empty()) {
        let length = data.len();
        let size = match style % 4 {
            0 => format!("{length:x}"),
            1 => format!("{length:04X} \t"),
            2 => format!("{length:x};a=b; c"),
            _ => format!("{length:x} ;q=\"x;y\""),
        };
        text.extend([size.as_bytes(), b"\r\n", data, b"\r\n"].concat());
    }
    let mut end = "0\r\n".to_owned();
    for (name, value) in trailers {
        let _ = write!(end, "{name}: {value}\r\n");
    }
    text.extend(end.into_bytes());
    text.extend(b"\r\n");
    text
}

fn token() -> impl Strategy<Value = String> {
    "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}"
}

/// A value as it comes out: no white space around it.
fn value() -> impl Strategy<Value = String> {
    "([!-~]([ -~\t]{0,20}[!-~])?)?"
}

/// Names that mean nothing to the engine.
fn fields(most: usize) -> impl Strategy<Value = Vec<(String, String)>> {
    proptest::collection::vec((token().prop_map(|name| format!("X-{name}")), value()), 0..most)
}

fn as_bytes(fields: &[(String, String)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields.iter().map(|(name, value)| (name.clone().into(), value.clone().into())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// What was chunked comes out as it was, wherever it is cut, and nothing behind it is taken.
    #[test]
    fn what_was_chunked_comes_out_at_any_cuts(
        pieces in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..40), any::<u8>()), 0..12),
        trailers in fields(5),
        behind in proptest::collection::vec(any::<u8>(), 0..20),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
    ) {
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let stream = [&head[..], &chunked(&pieces, &trailers), &behind].concat();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        let outcome = drive(&Method::GET, &stream, cuts.into_iter());
        let body: Vec<u8> = pieces.iter().flat_map(|(data, _)| data.clone()).collect();
        prop_assert_eq!(outcome.body, body);
        prop_assert_eq!(outcome.trailers, as_bytes(&trailers));
        let reuse = if behind.is_empty() { Ok(()) } else { Err(CloseReason::Surplus) };
        prop_assert_eq!(outcome.end, End::Done { leftover: behind.len(), reuse });
    }

    /// A head comes out as it was written: status, reason, and every field in its order.
    #[test]
    fn a_head_that_was_written_comes_out_at_any_cuts(
        status in (200_u16..1_000).prop_filter("has a body", |s| !matches!(s, 204 | 304)),
        reason in value(),
        fields in fields(40),
        body in proptest::collection::vec(any::<u8>(), 0..40),
        ends in proptest::collection::vec(any::<bool>(), 42),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
    ) {
        let end = |nth: usize| if ends[nth % ends.len()] { "\r\n" } else { "\n" };
        let mut head = format!("HTTP/1.1 {status} {reason}{}", end(0));
        let length = ("Content-Length".to_owned(), body.len().to_string());
        let fields = [&fields[..], &[length]].concat();
        for (nth, (name, value)) in fields.iter().enumerate() {
            let _ = write!(head, "{name}: {value}{}", end(nth + 1));
        }
        head += end(ends.len() - 1);
        let stream = [head.as_bytes(), &body].concat();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        let outcome = drive(&Method::GET, &stream, cuts.into_iter());
        let told = &outcome.heads[0];
        prop_assert_eq!((told.status, &told.reason[..]), (status, reason.as_bytes()));
        prop_assert_eq!(&told.fields, &as_bytes(&fields));
        prop_assert_eq!(outcome.body, body);
        prop_assert_eq!(outcome.end, End::Done { leftover: 0, reuse: Ok(()) });
    }

    /// Any bytes behind any beginning come to one verdict, however they are cut.
    #[test]
    fn any_bytes_come_to_one_verdict_at_any_cuts(
        nth in any::<proptest::sample::Index>(),
        at in any::<proptest::sample::Index>(),
        tail in proptest::collection::vec(any::<u8>(), 0..60),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
    ) {
        let entries = short_entries();
        let entry = nth.get(&entries);
        let stream = [&entry.bytes[..at.index(entry.bytes.len() + 1)], &tail].concat();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        let outcome = drive(&method(entry), &stream, cuts.into_iter());
        prop_assert_eq!(outcome, whole(entry, &stream));
    }
}

/// Longer ones are not fed at every cut.
const SHORT_BYTES_MAX: usize = 1_000;
