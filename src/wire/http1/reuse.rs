//! Floor 1. Whether a connection may carry another exchange (RFC 9112 §9.3), decided here and
//! nowhere else.
//!
//! In go the facts of the exchange that ended; out comes the verdict, which is a reason where it
//! is no. The reasons for which idle and unborn connections are closed are named here too, so that
//! every close has one.

use std::fmt;

use super::body::BodyReader;
use super::head::Head;

/// What is known of a connection when an exchange on it has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// The whole request was written.
    pub(crate) sending_done: bool,
    /// The whole response was read.
    pub(crate) receiving_done: bool,
    /// The request said `Connection: close`.
    pub(crate) close_asked_by_us: bool,
    /// Bytes arrived before the request was sent.
    pub(crate) spoke_early: bool,
    /// The response said it.
    pub(crate) close_asked_by_server: bool,
    /// The response is of HTTP/1.0 and does not say `keep-alive`.
    pub(crate) http10_without_keep_alive: bool,
    /// The body's end was the stream's.
    pub(crate) until_close: bool,
    /// Bytes that arrived after the message.
    pub(crate) leftover: usize,
    /// The server closed its half, or the connection has an error.
    pub(crate) read_closed: bool,
}

impl Facts {
    /// The facts that a response itself tells, as if all of it was sent, read, and nothing more.
    pub(crate) fn of(head: &Head, body: &BodyReader) -> Self {
        Self {
            sending_done: true,
            receiving_done: body.is_done(),
            close_asked_by_us: false,
            spoke_early: false,
            close_asked_by_server: head.hints.close,
            http10_without_keep_alive: head.minor == 0 && !head.hints.keep_alive,
            until_close: body.is_until_close(),
            leftover: 0,
            read_closed: false,
        }
    }
}

/// `Ok` where both halves are done, nobody asked to close, and nothing arrived that no request
/// asked for. Where several reasons hold, the one that explains the others is named.
pub(crate) fn verdict(facts: &Facts) -> Result<(), CloseReason> {
    let reasons = [
        (!facts.receiving_done, CloseReason::ResponseUnfinished),
        (!facts.sending_done, CloseReason::RequestUnfinished),
        (facts.until_close, CloseReason::BodyUntilClose),
        (facts.close_asked_by_us, CloseReason::AskedByUs),
        (facts.close_asked_by_server, CloseReason::AskedByServer),
        (facts.http10_without_keep_alive, CloseReason::Http10),
        (facts.spoke_early, CloseReason::SpokeEarly),
        (facts.leftover > 0, CloseReason::Surplus),
        (facts.read_closed, CloseReason::ClosedByServer),
    ];
    match reasons.iter().find(|(holds, _)| *holds) {
        Some((_, reason)) => Err(*reason),
        None => Ok(()),
    }
}

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
            Self::RestTooLong => "the rest of a response nobody waits for was too long to read",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.explain())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: Facts = Facts {
        sending_done: true,
        receiving_done: true,
        close_asked_by_us: false,
        spoke_early: false,
        close_asked_by_server: false,
        http10_without_keep_alive: false,
        until_close: false,
        leftover: 0,
        read_closed: false,
    };

    #[test]
    fn one_doubt_is_enough_to_close() {
        assert_eq!(verdict(&CLEAN), Ok(()));
        for (facts, reason) in [
            (Facts { receiving_done: false, ..CLEAN }, CloseReason::ResponseUnfinished),
            (Facts { sending_done: false, ..CLEAN }, CloseReason::RequestUnfinished),
            (Facts { until_close: true, ..CLEAN }, CloseReason::BodyUntilClose),
            (Facts { close_asked_by_us: true, ..CLEAN }, CloseReason::AskedByUs),
            (Facts { close_asked_by_server: true, ..CLEAN }, CloseReason::AskedByServer),
            (Facts { http10_without_keep_alive: true, ..CLEAN }, CloseReason::Http10),
            (Facts { leftover: 1, ..CLEAN }, CloseReason::Surplus),
            (Facts { read_closed: true, ..CLEAN }, CloseReason::ClosedByServer),
        ] {
            assert_eq!(verdict(&facts), Err(reason));
        }
    }

    #[test]
    fn the_reason_named_explains_the_others() {
        let closed = Facts { until_close: true, read_closed: true, ..CLEAN };
        assert_eq!(verdict(&closed), Err(CloseReason::BodyUntilClose));
        let asked = Facts { close_asked_by_server: true, read_closed: true, ..CLEAN };
        assert_eq!(verdict(&asked), Err(CloseReason::AskedByServer));
    }
}
