//! Floor 1. Whether a connection may carry another exchange (RFC 9112 §9.3), decided here and
//! nowhere else.
//!
//! In go the facts of the exchange that ended; out comes the verdict, which is a reason where it
//! is no.

use super::body::BodyReader;
use super::head::Head;
pub(crate) use crate::close::CloseReason;

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
    Err(match *facts {
        Facts { receiving_done: false, .. } => CloseReason::ResponseUnfinished,
        Facts { sending_done: false, .. } => CloseReason::RequestUnfinished,
        Facts { until_close: true, .. } => CloseReason::BodyUntilClose,
        Facts { close_asked_by_us: true, .. } => CloseReason::AskedByUs,
        Facts { close_asked_by_server: true, .. } => CloseReason::AskedByServer,
        Facts { http10_without_keep_alive: true, .. } => CloseReason::Http10,
        Facts { spoke_early: true, .. } => CloseReason::SpokeEarly,
        Facts { leftover: 1.., .. } => CloseReason::Surplus,
        Facts { read_closed: true, .. } => CloseReason::ClosedByServer,
        _ => return Ok(()),
    })
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
