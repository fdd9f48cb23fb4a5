//! Floor 1. The client's side of HTTP/1.1 framing (RFC 9112): bytes in, values out.
//!
//! A request head is written by [`encode`], a body that comes piece by piece framed by
//! [`outgoing`]. A response is read by [`head`], which also decides what its header fields say
//! about framing, then by the [`body::BodyReader`] chosen from that. [`reuse`] judges what the
//! connection is good for afterwards. Nothing here does input or output, reads a clock, or
//! allocates in the steady state. Whatever leaves in doubt where a message ends is [`Malformed`],
//! and the connection that carried it must be closed.

pub(crate) mod body;
pub(crate) mod chunked;
#[cfg(test)]
pub(crate) mod corpus;
pub(crate) mod encode;
pub(crate) mod head;
pub(crate) mod heads;
pub(crate) mod hints;
pub(crate) mod outgoing;
pub(crate) mod reuse;
pub(crate) mod scan;

use std::fmt;

/// How a response breaks HTTP.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Malformed {
    NotHttp,
    HttpVersion,
    StatusLine,
    StatusBelow100,
    EmptyLine,
    HeaderName,
    HeaderNameBeforeSpace,
    HeaderFolded,
    HeaderValue,
    HeadTooLarge,
    TooManyHeaders,
    TooManyInterimResponses,
    SwitchedProtocols,
    ContentLength,
    ContentLengthsDiffer,
    ContentLengthWithTransferEncoding,
    TransferEncodingInHttp10,
    TransferEncodingNotChunked,
    TransferCodingUnsupported,
    ChunkedTwice,
    ChunkSize,
    ChunkSizeTooLong,
    ChunkLineEnd,
    ChunkExtension,
    ChunkExtensionsTooLarge,
    ChunkDataEnd,
    Trailer,
    TrailersTooLarge,
}

impl Malformed {
    /// Whether the grammar of a head is broken, for which there is a more lenient one.
    fn is_syntax(self) -> bool {
        matches!(self, Self::StatusLine | Self::HeaderName | Self::HeaderFolded | Self::HeaderValue)
    }

    /// The fact in words, fit to follow "malformed response: ".
    pub(crate) const fn explain(self) -> &'static str {
        match self {
            Self::NotHttp => "it does not begin with HTTP/",
            Self::HttpVersion => "its version is neither HTTP/1.0 nor HTTP/1.1",
            Self::StatusLine => "its status line is malformed",
            Self::StatusBelow100 => "its status is below 100",
            Self::EmptyLine => "a CR stands without its LF",
            Self::HeaderName => "a header has no name, a bad byte in its name, or no colon",
            Self::HeaderNameBeforeSpace => {
                "a header that frames it has white space before its colon"
            }
            Self::HeaderFolded => {
                "a header that frames it is folded, or its first one begins with white space"
            }
            Self::HeaderValue => "a header has a NUL, or a CR without its LF, in its value",
            Self::HeadTooLarge => "its head is over the limit of bytes",
            Self::TooManyHeaders => "it has more than 128 headers",
            Self::TooManyInterimResponses => "too many interim (1xx) responses came before it",
            Self::SwitchedProtocols => "it switches to a protocol that was not asked for",
            Self::ContentLength => "its Content-Length is not a number",
            Self::ContentLengthsDiffer => "its Content-Length values differ",
            Self::ContentLengthWithTransferEncoding => {
                "it has both Content-Length and Transfer-Encoding"
            }
            Self::TransferEncodingInHttp10 => "it has a Transfer-Encoding in HTTP/1.0",
            Self::TransferEncodingNotChunked => "its Transfer-Encoding does not end in chunked",
            Self::TransferCodingUnsupported => "it has a transfer coding other than chunked",
            Self::ChunkedTwice => "its Transfer-Encoding has chunked twice",
            Self::ChunkSize => "a chunk size is not a hexadecimal number",
            Self::ChunkSizeTooLong => "a chunk size has more than 16 digits",
            Self::ChunkLineEnd => "a line of its chunked body does not end in CR LF",
            Self::ChunkExtension => "a chunk extension has a control byte",
            Self::ChunkExtensionsTooLarge => "its chunk extensions are over 16 KiB",
            Self::ChunkDataEnd => "a chunk is longer than its size says",
            Self::Trailer => "a trailer is malformed",
            Self::TrailersTooLarge => "its trailers are over 16 KiB",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.explain())
    }
}

impl std::error::Error for Malformed {}

/// The bytes of a head. Node takes 16 KiB, curl 300 KiB, hyper about 400 KiB.
#[cfg(test)]
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The fields of a head, and of a trailer section. hyper takes 100.
pub(crate) const HEADERS_MAX: usize = 128;
/// The interim responses (1xx) before the answer of an exchange.
pub(crate) const INTERIM_RESPONSES_MAX: usize = 5;
/// Chunk extensions and the white space around them, over a whole body; as hyper.
pub(crate) const EXTENSION_BYTES_MAX: u32 = 16 * 1024;
/// The trailer section with its line ends; as hyper.
pub(crate) const TRAILER_BYTES_MAX: usize = 16 * 1024;
