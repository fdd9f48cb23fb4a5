//! Plain data. Why a connection was closed: those whose exchange is over, those that idle, and
//! those that never opened, so that every close has a reason.

use std::fmt;

/// Why a connection was closed instead of kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// The exchange ended before the whole response was read.
    ResponseUnfinished,
    /// The response was complete before the whole request was written.
    RequestUnfinished,
    /// Only the end of the connection told where the body ended.
    BodyUntilClose,
    /// The request said `Connection: close`.
    AskedByUs,
    /// The response said `Connection: close`.
    AskedByServer,
    /// The response was of HTTP/1.0 and did not say `Connection: keep-alive`.
    Http10,
    /// Bytes arrived before the request was sent: more of them may follow.
    SpokeEarly,
    /// Bytes arrived after the response that no request had asked for.
    Surplus,
    /// The server closed its half right after the response.
    ClosedByServer,
    /// It was idle for as long as an idle connection is kept.
    IdleTimeout,
    /// While idle, the server spoke or closed.
    IdleReadable,
    /// More connections were idle than are kept.
    IdleCap,
    /// Its fetch was cancelled, or a limit of time ended it.
    Cancelled,
    /// Connecting, TLS, reading or writing failed, or the response was malformed.
    Failed,
    /// Descriptors ran out, and idle connections gave theirs.
    DescriptorsShort,
    /// Another address of the same host connected first.
    LostRace,
    /// The same request was answered on another connection first.
    Outrun,
    /// The rest of a response that nobody waits for, as that of a redirect, was longer, or came
    /// slower, than what is read for the sake of reuse.
    RestTooLong,
}

impl CloseReason {
    /// The reason in words, fit to follow "closed: ".
    pub const fn explain(self) -> &'static str {
        match self {
            Self::ResponseUnfinished => "the response was not read to its end",
            Self::RequestUnfinished => "the response came before the request was sent",
            Self::BodyUntilClose => "the body ended with the connection",
            Self::AskedByUs => "the request asked to close",
            Self::AskedByServer => "the server asked to close",
            Self::Http10 => "the server speaks HTTP/1.0 without keep-alive",
            Self::SpokeEarly => "the server spoke before the request was sent",
            Self::Surplus => "bytes followed the response",
            Self::ClosedByServer => "the server closed it",
            Self::IdleTimeout => "it was idle for too long",
            Self::IdleReadable => "the server spoke or closed while it was idle",
            Self::IdleCap => "too many connections were idle",
            Self::Cancelled => "its fetch was cancelled",
            Self::Failed => "it failed",
            Self::DescriptorsShort => "descriptors ran short",
            Self::LostRace => "another address connected first",
            Self::Outrun => "the same request was answered elsewhere first",
            Self::RestTooLong => "the rest of a response nobody waits for was too long to read",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.explain())
    }
}
