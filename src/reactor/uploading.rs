//! Floor 2. A body that is sent piece by piece: read from its source, or pushed by the caller, as
//! fast as the connection takes it and no faster.
//!
//! In go room to write and the caller's chunks; out come framed pieces on the connection, and the
//! news that there is room for more. What a socket does not take of a piece waits in a carry
//! buffer; while something waits there, nothing more is taken.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::connection::{Connection, ConnectionKey};
use super::event::{FetchId, Happening};
use super::exchange::{ExchangeKey, Sending};
use super::fetch::{FetchKey, Stage};
use super::reading::TURN_BYTES_MAX;
use super::{Reactor, Step};
use crate::body::Payload;
use crate::body::source::{Reader, Source, Trailing};
use crate::error::{Error, Kind, Limit, Phase as ErrorPhase};
use crate::field;
use crate::kit::machine::Machine;
use crate::net::{Net, Readiness};
use crate::request::Request;
use crate::wire::http1::outgoing::{BodyWriter, CLOSE_BYTES, GAP_BYTES};

/// The rest of a body that is sent piece by piece.
pub(crate) struct Upload {
    source: Source,
    writer: BodyWriter,
    /// How many bytes of the body were taken.
    at: u64,
    /// Where the body is read from, once that was begun.
    reader: Option<Reader>,
    /// The caller knows that there is room for more.
    is_told: bool,
    /// The caller knows that this attempt begins with the first byte.
    was_asked_for: bool,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("at", &self.at).field("writer", &self.writer).finish()
    }
}

impl Upload {
    /// It is what another protocol says.
    pub(super) fn is_switched(&self) -> bool {
        matches!(self.writer, BodyWriter::Bare)
    }
}

/// How a body is sent that did not go with its head.
#[cold]
pub(super) fn body_of(request: &Request) -> Sending {
    if request.asks_to_continue() { Sending::AwaitingContinue } else { begun_body_of(request) }
}

fn begun_body_of(request: &Request) -> Sending {
    match &request.parts.body {
        Payload::None => Sending::Done,
        Payload::Bytes(_) => Sending::Body { sent: 0 },
        Payload::Streamed { length, source } => {
            Sending::streaming(source.clone(), BodyWriter::new(*length))
        }
    }
}

impl Sending {
    /// What another protocol says on the connection, pushed by the caller.
    #[cold]
    pub(super) fn switched() -> Self {
        Self::streaming(Source::Pushed { replays: false }, BodyWriter::Bare)
    }

    /// Nothing of it was taken yet.
    fn streaming(source: Source, writer: BodyWriter) -> Self {
        Self::Streaming(Box::new(Upload {
            source,
            writer,
            at: 0,
            reader: None,
            is_told: false,
            was_asked_for: false,
        }))
    }
}

/// Pushed bodies.
impl<N: Net> Reactor<N> {
    /// Gives the next bytes of a [pushed](crate::Body::pushed) body. A prefix of `chunk` is taken,
    /// and its length returned: 0 where there is no room now, or this attempt has not asked for its
    /// first byte yet. Then, and whenever there is room again, an
    /// [`Event::Writable`](crate::Event::Writable) tells.
    ///
    /// While the caller is waited for, the `stall` limit does not run. A body of known length is
    /// finished by its last byte, any other by [`Self::finish_body`].
    ///
    /// # Errors
    /// [`BodyRefused`]; the fetch goes on as if it had not been tried.
    ///
    /// ```no_run
    /// use whippet::{Body, Event, Reactor, Request, Settings};
    ///
    /// let mut reactor = Reactor::new(Settings::default())?;
    /// let lines = ["one\n", "two\n", "three\n"].concat();
    /// reactor.submit(Request::post("http://127.0.0.1:8080/lines")?.body(Body::pushed()))?;
    /// while reactor.pending() > 0 {
    ///     reactor.wait(None)?;
    ///     while let Some(event) = reactor.next_event() {
    ///         let Event::Writable { id, offset, .. } = event else { continue };
    ///         let rest = &lines.as_bytes()[offset as usize..];
    ///         if reactor.send_body(id, rest)? == rest.len() {
    ///             reactor.finish_body(id)?;
    ///         }
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_body(&mut self, id: FetchId, chunk: &[u8]) -> Result<usize, BodyRefused> {
        let Some((fetch, key)) = self.pushed(id)? else { return Ok(0) };
        let Some(upload) = self.upload(key) else { return Err(BodyRefused::Finished) };
        if upload.writer.left().is_some_and(|left| chunk.len() as u64 > left) {
            return Err(BodyRefused::TooLong);
        }
        if chunk.is_empty() {
            return Ok(0);
        }
        upload.is_told = false;
        let room = self.room_to_stream(key);
        let taken = chunk.get(..room).unwrap_or(chunk);
        let count = if taken.is_empty() { 0 } else { self.push(key, fetch, taken) };
        self.stream(key);
        Ok(count)
    }

    /// The end of a pushed body. Nothing is left to do where its length was announced and has
    /// come.
    ///
    /// Of an [upgraded](Request::upgrade) fetch it ends what this side says: the server reads an
    /// EOF behind it, over TLS a `close_notify`. What the server says is read on, to its own end,
    /// which over TLS 1.2 it may make at once (RFC 5246 §7.2.1).
    ///
    /// # Errors
    /// [`BodyRefused::TooShort`] where less has come than was announced, and the others. The fetch
    /// goes on as if it had not been tried.
    pub fn finish_body(&mut self, id: FetchId) -> Result<(), BodyRefused> {
        self.finish_body_with(id, &[])
    }

    /// The same, with trailer fields (RFC 9112 §7.1.2): only where no length was announced.
    ///
    /// # Errors
    /// As [`Self::finish_body`]; [`BodyRefused::Trailers`] for fields that cannot be sent, or not
    /// in a trailer section (RFC 9110 §6.5.1).
    pub fn finish_body_with(
        &mut self,
        id: FetchId,
        trailers: &[(&str, &str)],
    ) -> Result<(), BodyRefused> {
        let fields = checked(trailers.iter().copied()).map_err(|_| BodyRefused::Trailers)?;
        let (fetch, key) = match self.pushed(id) {
            Ok(Some(running)) => running,
            Ok(None) => return Err(BodyRefused::NotYet),
            Err(BodyRefused::Finished) if fields.is_empty() => return Ok(()),
            Err(refused) => return Err(refused),
        };
        let Some(upload) = self.upload(key) else { return Err(BodyRefused::Finished) };
        if !fields.is_empty() && upload.writer.is_bare() {
            return Err(BodyRefused::Trailers);
        }
        match upload.writer.left() {
            Some(left) => return Err(BodyRefused::TooShort { left }),
            None => self.spend_body(fetch),
        }
        self.end_body(key, fields);
        Ok(())
    }

    /// What has become of the bytes that a fetch's connection was given.
    pub(crate) fn unsent(&self, id: FetchId) -> Unsent {
        let exchange = match self.fetch(id).map(|fetch| &fetch.stage) {
            Some(Stage::Running(exchange)) => self.connection_of(*exchange),
            _ => None,
        };
        match exchange {
            Some((_, connection)) if connection.write_error.is_some() => Unsent::Lost,
            Some((_, connection)) if !connection.is_flushed() => Unsent::Waits,
            _ => Unsent::Nothing,
        }
    }

    /// The fetch, and its exchange that takes a pushed body now; `None`: it does not yet.
    fn pushed(&self, id: FetchId) -> Result<Option<(FetchKey, ExchangeKey)>, BodyRefused> {
        let key = id.key().ok_or(BodyRefused::Gone)?;
        let fetch = self.fetches.get(key).ok_or(BodyRefused::Gone)?;
        let exchange = match &fetch.stage {
            Stage::Ended(_) => return Err(BodyRefused::Gone),
            Stage::Running(exchange) => self.exchanges.get(*exchange).map(|it| (*exchange, it)),
            _ => None,
        };
        let is_pushed = |source: &Source| matches!(source, Source::Pushed { .. });
        let body = &fetch.request.parts.body;
        let has_pushed = matches!(body, Payload::Streamed { source, .. } if is_pushed(source));
        match exchange.map(|(key, exchange)| (key, &exchange.sending)) {
            Some((exchange, Sending::Streaming(upload))) if is_pushed(&upload.source) => {
                Ok(upload.was_asked_for.then_some((key, exchange)))
            }
            Some((_, Sending::Closed)) => Err(BodyRefused::Finished),
            _ if !has_pushed => Err(BodyRefused::NotPushed),
            Some((_, Sending::Done)) => Err(BodyRefused::Finished),
            Some((_, Sending::Stopped)) => Err(BodyRefused::Unwanted),
            _ => Ok(None),
        }
    }

    fn upload(&mut self, key: ExchangeKey) -> Option<&mut Upload> {
        match &mut self.exchanges.get_mut(key)?.sending {
            Sending::Streaming(upload) => Some(upload),
            _ => None,
        }
    }

    /// Writes what the caller gave: how much of it was taken.
    fn push(&mut self, key: ExchangeKey, fetch: FetchKey, chunk: &[u8]) -> usize {
        let Some(upload) = self.upload(key) else { return 0 };
        let is_bare = upload.writer.is_bare();
        let Some((connection_key, connection)) = self.connection_of(key) else { return 0 };
        if is_bare && connection.tls.is_none() {
            // What the socket does not take stays with the caller.
            let Self { net, buffers, sealed, connections, .. } = self;
            let Some(connection) = connections.get_mut(connection_key) else { return 0 };
            return match connection.write(net, buffers, sealed, chunk) {
                Ok(0) => 0,
                Ok(count) => {
                    self.spend_body(fetch);
                    self.note_taken(key, count);
                    count
                }
                Err(error) => {
                    self.write_failed(connection_key, error);
                    0
                }
            };
        }
        if let Some(into) = place_in(&mut self.outgoing, chunk.len()) {
            into.copy_from_slice(chunk);
        }
        self.spend_body(fetch);
        self.write_piece(key, chunk.len());
        chunk.len()
    }

    /// Something of a body was taken that may be had only once.
    fn spend_body(&mut self, key: FetchKey) {
        if let Some(fetch) = self.fetches.get_mut(key) {
            fetch.body_spent = !fetch.request.parts.body.is_replayable();
        }
    }

    /// A fetch is on the list of those that have something to be told, and has not ended.
    #[cold]
    pub(super) fn tell_writable(&mut self, key: FetchKey) -> Step {
        let Some(fetch) = self.fetches.get_mut(key) else { return Step::Worked };
        fetch.is_to_be_told = false;
        let Stage::Running(exchange) = fetch.stage else { return Step::Worked };
        let has_room = self.connection_of(exchange).is_some_and(|(_, it)| takes_more(it));
        let Some(upload) = self.upload(exchange) else { return Step::Worked };
        // It may have been filled since.
        upload.is_told = has_room;
        upload.was_asked_for |= has_room;
        let offset = upload.at;
        if has_room {
            Step::Happened(Happening::Writable { fetch: key, offset })
        } else {
            Step::Worked
        }
    }
}

/// All of them.
impl<N: Net> Reactor<N> {
    /// Sends on: reads the body where it comes from a source, and asks the caller for it where it
    /// does not.
    #[cold]
    pub(super) fn stream(&mut self, key: ExchangeKey) {
        loop {
            let room = self.room_to_stream(key);
            let Some(upload) = self.upload(key) else { return };
            let is_pushed = matches!(upload.source, Source::Pushed { .. });
            if room == 0 {
                return;
            }
            if is_pushed {
                return self.ask_for_body(key);
            }
            self.pull(key, room);
        }
    }

    /// How much of a body may be taken now. 0: nothing, and an event, the next turn or room in
    /// memory will bring the exchange back.
    fn room_to_stream(&mut self, key: ExchangeKey) -> usize {
        let turn = self.turn;
        let Some((connection_key, connection)) = self.connection_of(key) else { return 0 };
        if !takes_more(connection) {
            return 0;
        }
        if connection.spent_in(turn) >= TURN_BYTES_MAX {
            self.leave_for_next_turn(connection_key);
            return 0;
        }
        self.window(connection_key, PIECE_BYTES_MAX)
    }

    fn connection_of(&self, key: ExchangeKey) -> Option<(ConnectionKey, &Connection<N::Stream>)> {
        let key = self.exchanges.get(key)?.connection;
        Some((key, self.connections.get(key)?))
    }

    /// Has the caller told that there is room, if that is not known.
    fn ask_for_body(&mut self, key: ExchangeKey) {
        let Some(fetch_key) = self.exchanges.get(key).and_then(|exchange| exchange.fetch) else {
            return;
        };
        let Some(fetch) = self.fetches.get_mut(fetch_key) else { return };
        // It is the caller that is waited for, not the server.
        fetch.deadlines.clear(Limit::Stall);
        let Some(upload) = self.upload(key).filter(|upload| !upload.is_told) else { return };
        upload.is_told = true;
        let Some(fetch) = self.fetches.get_mut(fetch_key) else { return };
        if !std::mem::replace(&mut fetch.is_to_be_told, true) {
            self.to_tell.push_back(fetch_key);
        }
    }

    /// Reads a piece from the source, and writes it.
    fn pull(&mut self, key: ExchangeKey, room: usize) {
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        let Some(fetch) = exchange.fetch else { return };
        let Sending::Streaming(upload) = &mut exchange.sending else { return };
        let left = upload.writer.left();
        let most = left.and_then(|left| usize::try_from(left).ok()).unwrap_or(usize::MAX);
        let into = place_in(&mut self.outgoing, room.min(most)).unwrap_or_default();
        let read = upload.source.read(&mut upload.reader, upload.at, into);
        self.spend_body(fetch);
        match (read, left) {
            (Ok(0), None) => self.end_source(key),
            (Ok(0), Some(left)) => self.source_failed(key, &ended_early(left)),
            (Ok(count), _) => self.write_piece(key, count),
            (Err(error), _) => self.source_failed(key, &Arc::new(error)),
        }
    }

    /// A source of unknown length has ended: its trailers follow.
    fn end_source(&mut self, key: ExchangeKey) {
        let reader = self.upload(key).and_then(|upload| upload.reader.take());
        let trailers = reader.map(Trailing::trailers).unwrap_or_default();
        match checked(trailers.iter().map(|(name, value)| (&**name, &**value))) {
            Ok(fields) => self.end_body(key, fields),
            Err(refused) => {
                let what = format!("a trailer field cannot be sent: {refused}");
                let error = Error::new(Kind::InvalidRequest, ErrorPhase::Send, what);
                self.fail_exchange(key, error.lasting());
            }
        }
    }

    /// Frames and writes a piece of `count` bytes that stands in `outgoing` behind a gap.
    fn write_piece(&mut self, key: ExchangeKey, count: usize) {
        let mut piece = std::mem::take(&mut self.outgoing);
        if let Some(upload) = self.upload(key)
            && let Some((gap, rest)) = piece.split_first_chunk_mut::<GAP_BYTES>()
        {
            let close = upload.writer.close();
            let end = count + close.len();
            if let Some(behind) = rest.get_mut(count..end) {
                behind.copy_from_slice(close);
            }
            let start = GAP_BYTES - upload.writer.open(gap, count);
            self.write_all(key, piece.get(start..GAP_BYTES + end).unwrap_or_default());
        }
        self.outgoing = piece;
        self.note_taken(key, count);
    }

    /// The end of a body of unknown length.
    fn end_body(&mut self, key: ExchangeKey, trailers: Fields<'_>) {
        let mut end = Vec::new();
        let Some(upload) = self.upload(key) else { return };
        if upload.is_switched() {
            return self.close_half(key);
        }
        upload.writer.end(trailers, &mut end);
        if !end.is_empty() {
            self.write_all(key, &end);
        }
        self.note_taken(key, 0);
    }

    /// The end of what another protocol says: our half of the connection is closed, and the
    /// server's end is waited for.
    fn close_half(&mut self, key: ExchangeKey) {
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        exchange.sending.go(Sending::Closed);
        let (fetch, connection_key) = (exchange.fetch, exchange.connection);
        let Self { net, buffers, sealed, connections, .. } = self;
        let Some(connection) = connections.get_mut(connection_key) else { return };
        if let Err(error) = connection.close_write(net, buffers, sealed) {
            self.write_failed(connection_key, error);
        }
        if let Some(fetch) = fetch {
            // It may have stopped while the caller was waited for.
            self.begin_limit(fetch, Limit::Stall);
        }
    }

    /// Writes all of `bytes`; what the socket does not take waits.
    fn write_all(&mut self, key: ExchangeKey, bytes: &[u8]) {
        let Some(connection_key) = self.exchanges.get(key).map(|exchange| exchange.connection)
        else {
            return;
        };
        let Self { net, buffers, sealed, connections, .. } = self;
        let Some(connection) = connections.get_mut(connection_key) else { return };
        let written = match &mut connection.tls {
            None => connection.write_raw(net, buffers, bytes),
            Some(tls) => {
                sealed.clear();
                let is_sealed = tls.seal(bytes, sealed).map_err(io::Error::other);
                is_sealed.and_then(|()| connection.write_sealed(net, buffers, sealed))
            }
        };
        if let Err(error) = written {
            self.write_failed(connection_key, error);
        }
    }

    /// So many bytes of the body were taken, or its end.
    fn note_taken(&mut self, key: ExchangeKey, count: usize) {
        let turn = self.turn;
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        let Sending::Streaming(upload) = &mut exchange.sending else { return };
        upload.at += count as u64;
        upload.writer.note(count as u64);
        let is_complete = upload.writer.is_complete();
        if is_complete {
            exchange.sending.go(Sending::Done);
        }
        if let Some(connection) = self.connections.get_mut(exchange.connection) {
            connection.spend(turn, count.max(PIECE_COST_BYTES_MIN));
        }
        if let Some(fetch) = exchange.fetch {
            // It may have stopped while the caller was waited for.
            self.begin_limit(fetch, Limit::Stall);
        }
        if is_complete {
            self.sent(key);
        }
    }

    /// The body cannot be had as it was promised.
    fn source_failed(&mut self, key: ExchangeKey, cause: &Arc<io::Error>) {
        let error = Error::new(Kind::Io, ErrorPhase::Send, "the body could not be read");
        let cause: Arc<dyn std::error::Error + Send + Sync> = Arc::<io::Error>::clone(cause);
        self.fail_exchange(key, error.caused_by(cause).lasting());
    }
}

/// The server's word on a body.
impl<N: Net> Reactor<N> {
    /// The head is sent, which has asked for it.
    #[cold]
    pub(super) fn await_word(&mut self, key: ExchangeKey) {
        if let Some(fetch) = self.exchanges.get(key).and_then(|exchange| exchange.fetch) {
            self.begin_limit(fetch, Limit::Continue);
        }
    }

    /// It says to go on, or has been waited for long enough.
    #[cold]
    pub(super) fn continue_body(&mut self, key: ExchangeKey) {
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        let Some(fetch) = exchange.fetch.and_then(|fetch| self.fetches.get_mut(fetch)) else {
            return;
        };
        fetch.deadlines.clear(Limit::Continue);
        if matches!(exchange.sending, Sending::AwaitingContinue) {
            exchange.sending.go(begun_body_of(&fetch.request));
            self.send(key);
        }
    }

    /// It has not come in time.
    pub(super) fn continue_unasked(&mut self, key: FetchKey) {
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        fetch.deadlines.clear(Limit::Continue);
        if let Stage::Running(exchange) = fetch.stage {
            self.continue_body(exchange);
        }
    }

    /// The final answer has come before the request was whole. One that is no success asks for no
    /// more of it (RFC 9112 §9.5), and whatever comes in place of the word to go on asks for
    /// none (RFC 9110 §10.1.1).
    #[cold]
    pub(super) fn answered_early(&mut self, key: ExchangeKey, status: u16) {
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        let stops = match exchange.sending {
            Sending::AwaitingContinue => true,
            Sending::Streaming(_) => status >= 400,
            _ => false,
        };
        if stops {
            exchange.sending.go(Sending::Stopped);
        }
        let may_push = exchange.streams();
        if let Some(fetch) = exchange.fetch.and_then(|fetch| self.fetches.get_mut(fetch)) {
            fetch.deadlines.clear(Limit::Continue);
        }
        if may_push {
            // The first bytes of another protocol, perhaps.
            self.stream(key);
        }
    }

    /// A 417: the server does not know the expectation, or does not meet it. The request is sent
    /// again without it. `false`: it had none.
    #[cold]
    pub(super) fn judge_expectation(&mut self, exchange: ExchangeKey, key: FetchKey) -> bool {
        let Some(fetch) = self.fetches.get_mut(key) else { return false };
        if fetch.body_spent || !fetch.request.asks_to_continue() {
            return false;
        }
        fetch.request = fetch.request.clone().expect_continue(false);
        self.detach(exchange);
        self.ask_again(key);
        true
    }
}

/// Names and values.
type Fields<'a> = Vec<(&'a [u8], &'a [u8])>;

/// Trailer fields that can be sent, all of them.
fn checked<'a>(
    trailers: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Fields<'a>, field::Refused> {
    let checked = |(name, value): (&'a str, &'a str)| {
        let value = field::check_trailer(name.as_bytes(), value.as_bytes())?;
        Ok((name.as_bytes(), value))
    };
    trailers.map(checked).collect()
}

/// Where a piece of so many bytes stands in `outgoing`: there is room for its framing around it.
fn place_in(outgoing: &mut Vec<u8>, count: usize) -> Option<&mut [u8]> {
    if outgoing.is_empty() {
        outgoing.resize(GAP_BYTES + PIECE_BYTES_MAX + CLOSE_BYTES, 0);
    }
    outgoing.get_mut(GAP_BYTES..)?.get_mut(..count)
}

/// Whether the socket has taken all that it was given, and may take more.
fn takes_more<S>(connection: &Connection<S>) -> bool {
    connection.ready & Readiness::WRITABLE != 0
        && connection.is_flushed()
        && connection.write_error.is_none()
}

fn ended_early(left: u64) -> Arc<io::Error> {
    let what = format!("it ended {left} bytes before its announced length");
    Arc::new(io::Error::new(io::ErrorKind::UnexpectedEof, what))
}

/// What has become of bytes that a connection was given to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unsent {
    /// All were sent.
    Nothing,
    /// Some wait until the socket takes more.
    Waits,
    /// The connection takes nothing any more: what the server said before is there to be read.
    Lost,
}

/// Why a piece of a pushed body, or its end, was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BodyRefused {
    /// There is no such fetch, or it has ended.
    Gone,
    /// Its request has no pushed body, or was redirected to one without.
    NotPushed,
    /// It is not being sent yet: its end comes too early.
    NotYet,
    /// All of it was sent.
    Finished,
    /// The server has answered that it failed, and takes no more of it.
    Unwanted,
    /// It is more than was announced.
    TooLong,
    /// It is less than was announced.
    TooShort {
        /// How many bytes are missing.
        left: u64,
    },
    /// A trailer field that cannot be sent.
    Trailers,
}

impl fmt::Display for BodyRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the fetch has ended"),
            Self::NotPushed => f.write_str("the request has no body that is pushed"),
            Self::NotYet => f.write_str("the body is not being sent yet"),
            Self::Finished => f.write_str("the body was sent"),
            Self::Unwanted => f.write_str("the server has answered and wants no more of the body"),
            Self::TooLong => f.write_str("the body is longer than was announced"),
            Self::TooShort { left } => write!(f, "the body is {left} bytes shorter than announced"),
            Self::Trailers => f.write_str("a trailer field cannot be sent"),
        }
    }
}

impl std::error::Error for BodyRefused {}

/// What is taken of a body at once.
const PIECE_BYTES_MAX: usize = 64 << 10;
/// What a piece counts for at the least, so that small ones also come to a turn's end.
const PIECE_COST_BYTES_MIN: usize = 1 << 10;
