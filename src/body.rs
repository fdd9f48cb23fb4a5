//! Plain data. What a request sends as its body: bytes, files, what a reader gives, or what the
//! caller pushes.
//!
//! In go the caller's bytes, or where they will come from; out come their length, where it is
//! known, and whether they can be had again. [`source`] has the bytes, piece by piece.

pub(crate) mod multipart;
pub(crate) mod source;

use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use self::source::{Chunks, Piece, Source};

/// The body of a request.
///
/// A body knows its length or not: with it, Content-Length is sent, without it the chunked
/// transfer coding (RFC 9112 §6). And it can be sent again or not: bytes and files can, what is
/// read or pushed cannot. What cannot is sent once. After that the request is not tried again,
/// and a redirect that would send the body again (307, 308) is refused; the error says so.
///
/// Nothing is read ahead of what the connection takes: at most 64 KiB wait in memory.
///
/// ```
/// use whippet::{Body, Request};
///
/// # let path = std::env::temp_dir().join("whippet-body-doc");
/// # std::fs::write(&path, "lines").unwrap();
/// let bytes = Body::from("text");
/// let file = Body::file(&path)?;
/// let lines = Body::chunks(["one\n", "two\n"]);
/// let reader = Body::reader(std::io::repeat(b'x')).with_length(1_000);
/// assert!(bytes.is_replayable() && file.is_replayable());
/// assert!(!lines.is_replayable() && !reader.is_replayable());
/// assert_eq!((file.length(), lines.length()), (Some(5), None));
/// let request = Request::put("http://127.0.0.1:8080/x")?.body(file);
/// # std::fs::remove_file(path).unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Body(pub(crate) Payload);

#[derive(Clone, Default)]
pub(crate) enum Payload {
    #[default]
    None,
    /// Small ones are written with the head.
    Bytes(Arc<[u8]>),
    /// Written piece by piece.
    Streamed { length: Option<u64>, source: Source },
}

impl Body {
    /// A file of the length that it has now, from its beginning. It is opened here, and read when
    /// the connection takes its bytes; it is never read whole. Reading it blocks as long as the
    /// disk does. What is no regular file, as a pipe, is sent as [`Self::reader`] would.
    ///
    /// # Errors
    /// Those of opening it and asking for its length.
    pub fn file(path: impl AsRef<Path>) -> io::Result<Self> {
        let (length, source) = Source::open(path.as_ref())?;
        Ok(Self(Payload::Streamed { length, source }))
    }

    /// What a reader gives, to its end: chunked, unless [`Self::with_length`] says how long it is.
    /// It is read on the thread of the reactor, which waits as long as the reader blocks.
    pub fn reader(reader: impl Read + Send + 'static) -> Self {
        Self(Payload::Streamed { length: None, source: Source::reader(reader) })
    }

    /// The same, with trailer fields behind it (RFC 9110 §6.5), as a checksum of what was read: the
    /// reader is given back at its end, and they are made of it. Where [`Self::with_length`] says
    /// how long it is, there is no place for trailers, and they are not asked for.
    ///
    /// A field that cannot be sent, or not in a trailer section, is the fetch's failure
    /// ([`Kind::InvalidRequest`](crate::Kind::InvalidRequest)).
    ///
    /// ```
    /// use std::io::{self, Read};
    /// use whippet::{Body, Request};
    ///
    /// struct Counting<R>(R, u64);
    ///
    /// impl<R: Read> Read for Counting<R> {
    ///     fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
    ///         self.0.read(into).inspect(|count| self.1 += *count as u64)
    ///     }
    /// }
    ///
    /// let reader = Counting(io::repeat(b'x').take(1_000), 0);
    /// let body = Body::reader_with_trailers(reader, |reader| {
    ///     vec![("X-Bytes".to_owned(), reader.1.to_string())]
    /// });
    /// let request = Request::put("http://127.0.0.1:8080/x")?.body(body);
    /// # Ok::<(), whippet::Error>(())
    /// ```
    pub fn reader_with_trailers<R, F>(reader: R, trailers: F) -> Self
    where
        R: Read + Send + 'static,
        F: FnOnce(R) -> Vec<(String, String)> + Send + 'static,
    {
        let source = Source::reader_with_trailers(reader, trailers);
        Self(Payload::Streamed { length: None, source })
    }

    /// What an iterator gives, one chunk after another, to its end: chunked, unless
    /// [`Self::with_length`] says how long it is.
    pub fn chunks<I>(chunks: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]> + Send + 'static,
        I::IntoIter: Send + 'static,
    {
        Self::reader(Chunks::new(chunks.into_iter().fuse()))
    }

    /// What the caller gives with [`Reactor::send_body`](crate::Reactor::send_body), as
    /// [`Event::Writable`](crate::Event::Writable) asks for it, or what is written to a
    /// [`Stream`](crate::Stream): chunked, unless [`Self::with_length`] says how long it is. Of a
    /// [`Client`](crate::Client)'s calls [`stream`](crate::Client::stream) alone takes it.
    pub fn pushed() -> Self {
        Self(Payload::Streamed { length: None, source: Source::Pushed { replays: false } })
    }

    /// The length of what is read or pushed, in bytes: it is announced as Content-Length, and what
    /// is given must have it. What a reader would give beyond it is not read. That of bytes and
    /// files is known; nothing is changed there.
    #[must_use]
    pub fn with_length(mut self, bytes: u64) -> Self {
        if let Payload::Streamed { length, source: Source::Pushed { .. } | Source::Reader(_) } =
            &mut self.0
        {
            *length = Some(bytes);
        }
        self
    }

    /// Whether the caller can give a pushed body again: then an `Event::Writable` of a further
    /// attempt asks for it from byte 0 on. Nothing is changed where the body is not pushed, or is
    /// written to a [`Stream`](crate::Stream), which takes it once.
    #[must_use]
    pub fn replayable(mut self, replayable: bool) -> Self {
        if let Payload::Streamed { source: Source::Pushed { replays }, .. } = &mut self.0 {
            *replays = replayable;
        }
        self
    }

    /// The number of its bytes, where that is known.
    pub fn length(&self) -> Option<u64> {
        self.0.length()
    }

    /// Whether it can be sent again.
    pub fn is_replayable(&self) -> bool {
        self.0.is_replayable()
    }

    pub(crate) fn of_pieces(pieces: Vec<Piece>) -> Self {
        let length = pieces.iter().try_fold(0_u64, |sum, piece| sum.checked_add(piece.length()));
        let source = Source::Pieces(pieces.into());
        Self(Payload::Streamed { length: Some(length.unwrap_or(u64::MAX)), source })
    }
}

impl Payload {
    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// What is in memory as a whole.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::None | Self::Streamed { .. } => &[],
        }
    }

    /// `None`: it is found out when it has been sent.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Self::None => Some(0),
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::Streamed { length, .. } => *length,
        }
    }

    pub(crate) fn is_replayable(&self) -> bool {
        match self {
            Self::None | Self::Bytes(_) => true,
            Self::Streamed { source, .. } => match source {
                Source::Pushed { replays } => *replays,
                Source::Pieces(_) => true,
                Source::Reader(_) => false,
            },
        }
    }

    pub(crate) fn is_pushed(&self) -> bool {
        matches!(self, Self::Streamed { source: Source::Pushed { .. }, .. })
    }

    /// Whoever pushes it cannot give it again.
    pub(crate) fn push_once(&mut self) {
        if let Self::Streamed { source: Source::Pushed { replays }, .. } = self {
            *replays = false;
        }
    }

    /// Bytes of it that are in memory.
    pub(crate) fn weight_bytes(&self) -> usize {
        match self {
            Self::Streamed { source: Source::Pieces(pieces), .. } => {
                pieces.iter().map(Piece::weight_bytes).sum()
            }
            whole => whole.bytes().len(),
        }
    }
}

macro_rules! from_bytes {
    ($($bytes:ty),*) => {$(
        impl From<$bytes> for Body {
            fn from(bytes: $bytes) -> Self {
                Self(Payload::Bytes(Vec::from(bytes).into()))
            }
        }
    )*};
}

from_bytes!(Vec<u8>, &[u8], Box<[u8]>, &str, String);

impl<const N: usize> From<&[u8; N]> for Body {
    fn from(bytes: &[u8; N]) -> Self {
        Self::from(bytes.as_slice())
    }
}

impl From<Arc<[u8]>> for Body {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self(Payload::Bytes(bytes))
    }
}

/// Its length, not what is in it: it may be anybody's secret.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("length", &self.length())
            .field("is_replayable", &self.is_replayable())
            .finish_non_exhaustive()
    }
}
