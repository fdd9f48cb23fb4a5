//! Floor 1. How long a response body is (RFC 9112 §6.3), and where its bytes lie.
//!
//! In go the method and the head, once, and then the bytes behind it, cut anywhere; out come
//! places of data among them. Nothing is copied.

use std::fmt;

use http::Method;

use super::Malformed;
use super::chunked::{Dechunker, within};
use super::head::Head;
use crate::kit::machine::Machine;

/// The rest of a response body.
#[derive(Debug)]
pub(crate) enum BodyReader {
    None,
    Length {
        left: u64,
    },
    Chunked(Dechunker),
    /// Everything until the server closes.
    UntilClose,
    /// [`Self::UntilClose`] after the server closed.
    Closed,
}

/// A run of data among the bytes given: `take` bytes behind `skip` bytes of framing. Both were
/// consumed, so the next call starts after them. Unless `done`, `take` is 0 only where all bytes
/// given were framing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    pub(crate) skip: usize,
    pub(crate) take: usize,
    /// The message ends after this piece. What follows is not part of it.
    pub(crate) done: bool,
}

/// The stream ended inside a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Truncated {
    /// How many bytes were still to come, where that is known.
    pub(crate) left: Option<u64>,
}

/// The numbered cases of RFC 9112 §6.3, in their order.
pub(crate) fn framing(method: &Method, head: &Head) -> Result<BodyReader, Malformed> {
    let hints = &head.hints;
    Ok(match head.status {
        // What follows is for whoever has asked for it, and for nobody else to understand.
        101 => return Err(Malformed::SwitchedProtocols),
        200..=299 if method == Method::CONNECT => return Err(Malformed::SwitchedProtocols),
        100..=199 | 204 | 304 => BodyReader::None,
        _ if method == Method::HEAD => BodyReader::None,
        _ if hints.chunked => BodyReader::Chunked(Dechunker::default()),
        _ => match hints.content_length {
            Some(0) => BodyReader::None,
            Some(left) => BodyReader::Length { left },
            None => BodyReader::UntilClose,
        },
    })
}

impl BodyReader {
    /// Names the next run of data in `bytes`. After an error it must not be read on.
    #[inline]
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<Piece, Malformed> {
        match self {
            Self::None | Self::Closed => Ok(Piece { skip: 0, take: 0, done: true }),
            Self::Length { left } => {
                let take = within(*left, bytes.len());
                *left -= take as u64;
                Ok(Piece { skip: 0, take, done: *left == 0 })
            }
            Self::Chunked(dechunker) => dechunker.read(bytes),
            Self::UntilClose => Ok(Piece { skip: 0, take: bytes.len(), done: false }),
        }
    }

    /// The stream ended. Only where the framing leaves the end to the connection is that the end
    /// of the body (RFC 9112 §8).
    pub(crate) fn end_of_stream(&mut self) -> Result<(), Truncated> {
        if matches!(self, Self::UntilClose) {
            self.go(Self::Closed);
        }
        if self.is_done() { Ok(()) } else { Err(Truncated { left: self.left() }) }
    }

    pub(crate) fn is_done(&self) -> bool {
        match self {
            Self::None | Self::Closed | Self::Length { left: 0 } => true,
            Self::Chunked(dechunker) => dechunker.is_done(),
            Self::Length { .. } | Self::UntilClose => false,
        }
    }

    /// Whether the connection's end is the body's: such a connection is never reused, and over TLS
    /// a missing close_notify is a truncation.
    pub(crate) fn is_until_close(&self) -> bool {
        matches!(self, Self::UntilClose | Self::Closed)
    }

    /// Whether the head announced how long the body is.
    pub(crate) fn is_announced(&self) -> bool {
        matches!(self, Self::Length { .. })
    }

    /// The bytes of body still to come, where they were announced.
    pub(crate) fn left(&self) -> Option<u64> {
        match self {
            Self::None | Self::Closed => Some(0),
            Self::Length { left } => Some(*left),
            Self::Chunked(dechunker) => dechunker.is_done().then_some(0),
            Self::UntilClose => None,
        }
    }

    /// The trailer section as [`super::head::parse_trailers`] takes it.
    pub(crate) fn trailers(&self) -> &[u8] {
        match self {
            Self::Chunked(dechunker) => dechunker.trailers(),
            _ => &[],
        }
    }
}

impl Machine for BodyReader {
    const NAME: &'static str = "Body";

    /// The variant is chosen once; only the end of the stream changes it.
    const ARROWS: &'static [(&'static str, &'static str)] = &[("UntilClose", "Closed")];

    fn state(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Length { .. } => "Length",
            Self::Chunked(_) => "Chunked",
            Self::UntilClose => "UntilClose",
            Self::Closed => "Closed",
        }
    }
}

impl std::error::Error for Truncated {}

impl fmt::Display for Truncated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.left {
            Some(left) => write!(f, "the body ended {left} bytes early"),
            None => f.write_str("the body ended before its last chunk"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::response::Span;
    use crate::wire::http1::hints::Hints;

    fn chosen(method: &str, status: u16, hints: Hints) -> Result<&'static str, Malformed> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let reason = Span::default();
        let head = Head { length: 0, status, minor: 1, reason, hints, is_folded: false };
        framing(&method, &head).map(|reader| reader.state())
    }

    #[test]
    fn framing_follows_the_order_of_the_rfc() {
        let absent = Hints::default();
        let chunked = Hints { chunked: true, ..absent };
        let length = |n| Hints { content_length: Some(n), ..absent };
        for status in [100, 103, 204, 304] {
            assert_eq!(chosen("GET", status, length(5)), Ok("None"));
            assert_eq!(chosen("GET", status, chunked), Ok("None"));
        }
        assert_eq!(chosen("HEAD", 200, length(5)), Ok("None"));
        assert_eq!(chosen("HEAD", 404, chunked), Ok("None"));
        assert_eq!(chosen("head", 200, length(5)), Ok("Length"));
        assert_eq!(chosen("GET", 200, chunked), Ok("Chunked"));
        assert_eq!(chosen("GET", 205, length(5)), Ok("Length"));
        assert_eq!(chosen("GET", 799, length(0)), Ok("None"));
        assert_eq!(chosen("GET", 200, absent), Ok("UntilClose"));
        assert_eq!(chosen("GET", 101, absent), Err(Malformed::SwitchedProtocols));
        assert_eq!(chosen("CONNECT", 200, absent), Err(Malformed::SwitchedProtocols));
        assert_eq!(chosen("CONNECT", 407, length(1)), Ok("Length"));
    }

    #[test]
    fn a_length_takes_its_bytes_and_no_more() {
        let mut reader = BodyReader::Length { left: 5 };
        assert_eq!(reader.read(b"").unwrap(), Piece { skip: 0, take: 0, done: false });
        assert_eq!(reader.read(b"abc").unwrap(), Piece { skip: 0, take: 3, done: false });
        assert_eq!((reader.left(), reader.is_done()), (Some(2), false));
        assert_eq!(reader.read(b"defg").unwrap(), Piece { skip: 0, take: 2, done: true });
        assert_eq!(reader.read(b"fg").unwrap(), Piece { skip: 0, take: 0, done: true });
        assert_eq!(reader.end_of_stream(), Ok(()));
        let mut huge = BodyReader::Length { left: u64::MAX };
        assert_eq!(huge.read(b"abc").unwrap().take, 3);
        assert_eq!(huge.end_of_stream(), Err(Truncated { left: Some(u64::MAX - 3) }));
    }

    #[test]
    fn only_until_close_ends_with_the_stream() {
        let mut reader = BodyReader::UntilClose;
        assert_eq!(reader.read(b"abc").unwrap(), Piece { skip: 0, take: 3, done: false });
        assert!(!reader.is_done() && reader.left().is_none());
        assert_eq!(reader.end_of_stream(), Ok(()));
        assert!(reader.is_done() && reader.is_until_close());
        assert_eq!(reader.end_of_stream(), Ok(()));
        assert_eq!(BodyReader::None.end_of_stream(), Ok(()));
        let mut chunked = BodyReader::Chunked(Dechunker::default());
        assert_eq!(chunked.end_of_stream(), Err(Truncated { left: None }));
        let last = chunked.read(b"0\r\nA: 1\r\n\r\n").unwrap();
        assert_eq!(last, Piece { skip: 11, take: 0, done: true });
        assert_eq!(chunked.trailers(), b"A: 1\r\n\r\n");
        assert_eq!(chunked.end_of_stream(), Ok(()));
    }

    #[test]
    fn a_reader_is_small() {
        assert!(size_of::<BodyReader>() <= 40, "{}", size_of::<BodyReader>());
    }
}
