//! Floor 2. The receiving half of an exchange: from bytes that arrived to heads and bodies.
//!
//! In goes a [`Focus`]; out come places of heads and of pieces of bodies, policies asked before a
//! head is shown to anybody, and at the end a connection that is reusable or is not.

use std::sync::Arc;
use std::time::Duration;

use super::attempt::Sent;
use super::connection::{Connection, Phase};
use super::decoding::{Decoding, coded_bytes_max, undecodable};
use super::event::Happening;
use super::exchange::{Exchange, ExchangeKey, Receiving, Sending};
use super::fetch::{Fetch, FetchKey, Outcome};
use super::reading::{Focus, Place};
use super::{Reactor, Step};
use crate::coding::ContentCoding;
use crate::error::{Error, Kind, Limit, Phase as ErrorPhase};
use crate::field;
use crate::kit::machine::Machine;
use crate::net::{Net, Readiness};
use crate::response::{Collected, Field, StatusLine, Trailers, values};
use crate::wire::http1::body::{self, BodyReader, Piece};
use crate::wire::http1::head::{self, Head};
use crate::wire::http1::reuse::{self, CloseReason, Facts};
use crate::wire::http1::{INTERIM_RESPONSES_MAX, Malformed};

/// Receiving.
impl<N: Net> Reactor<N> {
    /// Takes one step through the bytes in focus.
    pub(super) fn consume(&mut self, focus: Focus) -> Step {
        let Some(connection) = self.connections.get(focus.connection) else { return Step::Worked };
        let Phase::Open { current: Some(key) } = connection.phase else {
            if focus.at < focus.end {
                self.close(focus.connection, CloseReason::IdleReadable);
            }
            return Step::Worked;
        };
        let Some(exchange) = self.exchanges.get(key) else { return Step::Worked };
        if exchange.is_unsent(connection) {
            self.fail_exchange(key, spoken_to());
            return Step::Worked;
        }
        let fetch = exchange.fetch.and_then(|fetch| self.fetches.get(fetch));
        if fetch.is_some_and(Fetch::is_paused) && !matches!(exchange.receiving, Receiving::Done) {
            self.keep(focus);
            return Step::Worked;
        }
        match exchange.receiving {
            Receiving::Done => self.finish(key, focus),
            _ if focus.at >= focus.end && !exchange.has_undecoded() => self.keep(focus),
            Receiving::Body(_) if exchange.is_coded() => return self.consume_coded(key, focus),
            Receiving::Head { .. } => return self.consume_head(key, focus),
            Receiving::Body(_) => return self.consume_body(key, focus),
        }
        Step::Worked
    }

    /// What is left of the focus waits in the connection's inbox; nothing left, no inbox.
    pub(super) fn keep(&mut self, focus: Focus) {
        let Some(connection) = self.connections.get_mut(focus.connection) else { return };
        match focus.place {
            Place::Inbox => self.buffers.consume(&mut connection.inbox, focus.at),
            Place::Read => {
                let rest = self.read_buffer.get(focus.at..focus.end).unwrap_or_default();
                self.buffers.fill(&mut connection.inbox, rest);
            }
            Place::Decoded => {}
        }
    }

    fn consume_head(&mut self, key: ExchangeKey, mut focus: Focus) -> Step {
        let Some(exchange) = self.exchanges.get_mut(key) else { return Step::Worked };
        let Some(fetch_key) = exchange.fetch else { return Step::Worked };
        let Some(fetch) = self.fetches.get_mut(fetch_key) else { return Step::Worked };
        if !std::mem::replace(&mut exchange.is_answered, true) {
            fetch.stats.timings.first_byte = fetch.lap(self.now);
            fetch.deadlines.clear(Limit::FirstByte);
        }
        fetch.deadlines.progress(self.now);
        let bytes_max = fetch.head_bytes_max(&self.settings);
        let Some(connection) = self.connections.get(focus.connection) else { return Step::Worked };
        let bytes = focus.bytes(&self.read_buffer, connection);
        let Receiving::Head { scan } = &mut exchange.receiving else { return Step::Worked };
        let may_be_whole = match scan {
            Some(scan) => scan.find(bytes) || bytes.len() >= bytes_max,
            None => true,
        };
        let parsed = if may_be_whole { self.heads.parse(bytes, bytes_max) } else { Ok(None) };
        match parsed {
            Ok(None) => {
                scan.get_or_insert_default().find(bytes);
                self.keep(focus);
                Step::Worked
            }
            Ok(Some(head)) => {
                let whole = Focus { end: focus.at + head.length, ..focus };
                if head.is_folded {
                    self.unfold(whole);
                }
                focus.at = whole.end;
                self.receive_head(key, fetch_key, &head, whole, focus)
            }
            Err(malformed) => {
                self.fail_exchange(key, malformed_error(malformed, ErrorPhase::Head));
                Step::Worked
            }
        }
    }

    /// No value with a line end in it is shown to anybody.
    #[cold]
    fn unfold(&mut self, whole: Focus) {
        if let Some(connection) = self.connections.get_mut(whole.connection) {
            let bytes = whole.bytes_mut(&mut self.read_buffer, connection);
            head::unfold(bytes, self.heads.fields());
        }
    }

    /// A head is there as a `whole`; `rest` is what follows it.
    fn receive_head(
        &mut self,
        key: ExchangeKey,
        fetch_key: FetchKey,
        head: &Head,
        whole: Focus,
        rest: Focus,
    ) -> Step {
        self.trace_head(fetch_key, head, whole);
        let is_switch = head.status == SWITCHED && self.switches(key, fetch_key, whole);
        let Some(exchange) = self.exchanges.get_mut(key) else { return Step::Worked };
        let Some(fetch) = self.fetches.get_mut(fetch_key) else { return Step::Worked };
        let reader = match body::framing(fetch.request.method(), head) {
            Ok(_) if head.is_interim() => {
                exchange.interim_responses += 1;
                exchange.receiving.go(Receiving::Head { scan: None });
                let goes_on = head.status == 100;
                if exchange.interim_responses > INTERIM_RESPONSES_MAX {
                    let many = Malformed::TooManyInterimResponses;
                    self.fail_exchange(key, malformed_error(many, ErrorPhase::Head));
                } else {
                    self.focus = Some(rest);
                    if goes_on {
                        self.continue_body(key);
                    }
                }
                return Step::Worked;
            }
            Ok(reader) => reader,
            Err(_) if is_switch && fetch.collects() => {
                self.fail_exchange(key, uncollectable());
                return Step::Worked;
            }
            Err(_) if is_switch => {
                exchange.sending.go(Sending::switched());
                BodyReader::UntilClose
            }
            Err(malformed) => {
                self.fail_exchange(key, malformed_error(malformed, ErrorPhase::Head));
                return Step::Worked;
            }
        };
        let (close_asked_by_us, spoke_early) = (exchange.asks_close, exchange.spoke_early);
        let said = Facts::of(head, &reader);
        exchange.facts = Some(Facts { close_asked_by_us, spoke_early, ..said });
        let announced = reader.left();
        exchange.receiving.go(Receiving::Body(reader));
        if exchange.body_is_done() {
            exchange.receiving.go(Receiving::Done);
        }
        let Some(connection) = self.connections.get_mut(rest.connection) else {
            return Step::Worked;
        };
        if let Some(seconds) = head.hints.keep_alive_timeout_s {
            connection.keep_alive = Some(Duration::from_secs(seconds.into()));
        }
        self.focus = Some(rest);
        let fetch_key = if self.has_extras {
            self.note_head(fetch_key, head, whole);
            let Some(first) = self.first_answered(key, fetch_key, head.status) else {
                return Step::Worked;
            };
            first
        } else {
            fetch_key
        };
        self.learn(fetch_key, head, whole);
        if self.judge(key, fetch_key, head, whole) {
            return Step::Worked;
        }
        self.hand_over_head(key, fetch_key, head, announced, whole)
    }

    /// Whether a 101 is what the request has asked for, all of which was sent.
    #[cold]
    fn switches(&self, key: ExchangeKey, fetch_key: FetchKey, whole: Focus) -> bool {
        let Some(exchange) = self.exchanges.get(key) else { return false };
        let Some(fetch) = self.fetches.get(fetch_key) else { return false };
        let asked = fetch.request.header_value("upgrade");
        let Some(asked) = asked.filter(|_| fetch.request.parts.choices.upgrade) else {
            return false;
        };
        let named = values(self.heads.fields(), self.bytes(whole), b"upgrade");
        matches!(exchange.sending, Sending::Done) && field::is_asked_for(asked, named)
    }

    /// The head is the answer's: collected, or lent.
    fn hand_over_head(
        &mut self,
        key: ExchangeKey,
        fetch_key: FetchKey,
        head: &Head,
        announced: Option<u64>,
        whole: Focus,
    ) -> Step {
        let Some(exchange) = self.exchanges.get_mut(key) else { return Step::Worked };
        let Some(fetch) = self.fetches.get_mut(fetch_key) else { return Step::Worked };
        let mut removed = ContentCoding::Identity;
        if matches!(exchange.receiving, Receiving::Body(_)) && head.status != SWITCHED {
            match fetch.removes(head, fetch.decodes(&self.settings)) {
                Ok(ContentCoding::Identity) => {}
                Ok(said) => {
                    removed = said;
                    exchange.decoding.go(Decoding::Awaited(said));
                }
                Err(fault) => {
                    self.fail_exchange(key, undecodable(fault));
                    return Step::Worked;
                }
            }
        }
        let is_coded = exchange.is_coded();
        let is_early = !matches!(exchange.sending, Sending::Done);
        let Head { status, minor, reason, .. } = *head;
        let line = StatusLine { status, minor, reason, removed };
        if !fetch.collects() {
            fetch.lent = true;
            if is_early {
                self.answered_early(key, status);
            }
            return Step::Happened(Happening::Head { fetch: fetch_key, at: whole, line });
        }
        let Some(connection) = self.connections.get(whole.connection) else { return Step::Worked };
        let bytes = whole.bytes(&self.read_buffer, connection);
        let body_bytes = if is_coded { None } else { announced };
        fetch.collect_head(bytes, self.heads.fields(), line, body_bytes.unwrap_or(0));
        self.memory.collected_bytes += fetch.collected_bytes();
        let body_bytes_max = fetch.body_bytes_max(&self.settings);
        let most = if is_coded { coded_bytes_max(body_bytes_max) } else { body_bytes_max };
        if announced.is_some_and(|announced| announced > most) {
            self.fail_exchange(key, too_large(body_bytes_max));
        } else if is_early {
            self.answered_early(key, status);
        }
        Step::Worked
    }

    fn consume_body(&mut self, key: ExchangeKey, mut focus: Focus) -> Step {
        let Some(exchange) = self.exchanges.get_mut(key) else { return Step::Worked };
        let Some(connection) = self.connections.get(focus.connection) else { return Step::Worked };
        let bytes = focus.bytes(&self.read_buffer, connection);
        let Receiving::Body(reader) = &mut exchange.receiving else { return Step::Worked };
        let Piece { skip, take, done } = match reader.read(bytes) {
            Ok(piece) => piece,
            Err(malformed) => {
                self.fail_exchange(key, malformed_error(malformed, ErrorPhase::Body));
                return Step::Worked;
            }
        };
        let data = bytes.get(skip..skip + take).unwrap_or_default();
        let piece = Focus { at: focus.at + skip, end: focus.at + skip + take, ..focus };
        focus.at = piece.end;
        let Some(fetch_key) = exchange.fetch else {
            self.drain(key, take, done, focus);
            return Step::Worked;
        };
        let Some(fetch) = self.fetches.get_mut(fetch_key) else { return Step::Worked };
        fetch.stats.wire_bytes += take as u64;
        fetch.stats.body_bytes += take as u64;
        fetch.deadlines.progress(self.now);
        let body_bytes_max = fetch.body_bytes_max(&self.settings);
        if fetch.stats.wire_bytes > body_bytes_max {
            self.fail_exchange(key, too_large(body_bytes_max));
            return Step::Worked;
        }
        if let Some(collected) = &mut fetch.collected {
            if reader.is_announced() {
                collected.body.extend_from_slice(data);
                self.memory.collected_bytes += data.len();
            } else {
                self.buffers.fill(&mut exchange.gathered, data);
            }
        }
        if done {
            take_trailers(fetch, reader);
            exchange.receiving.go(Receiving::Done);
        }
        // What was read to its end leaves nothing to look at, in the middle of a body.
        if done || focus.at < focus.end || focus.place != Place::Read {
            self.focus = Some(focus);
        }
        if fetch.collects() || take == 0 {
            return Step::Worked;
        }
        Step::Happened(Happening::Body { fetch: fetch_key, at: piece })
    }

    /// A piece of a response that nobody waits for: read for the sake of the connection, within
    /// limits.
    fn drain(&mut self, key: ExchangeKey, taken: usize, done: bool, focus: Focus) {
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        exchange.drained_bytes += taken;
        if done {
            exchange.receiving.go(Receiving::Done);
        } else if exchange.drained_bytes > DRAIN_BYTES_MAX {
            self.end_exchange(key);
            return self.close(focus.connection, CloseReason::RestTooLong);
        }
        self.focus = Some(focus);
    }

    /// Both the response and its fetch are complete.
    fn finish(&mut self, key: ExchangeKey, focus: Focus) {
        let Some(exchange) = self.exchanges.get(key) else { return };
        let (fetch, connection_key) = (exchange.fetch, exchange.connection);
        let Some(connection) = self.connections.get(connection_key) else { return };
        let verdict = match exchange.facts {
            Some(facts) => reuse::verdict(&Facts {
                sending_done: exchange.has_sent_request() && connection.is_flushed(),
                receiving_done: true,
                leftover: focus.end - focus.at,
                read_closed: connection.ready & Readiness::READ_CLOSED != 0,
                ..facts
            }),
            None => Err(CloseReason::ResponseUnfinished),
        };
        self.end_exchange(key);
        if let Some(fetch) = fetch {
            self.trace_body(fetch, connection_key);
        }
        self.keep(Focus { at: focus.end, ..focus });
        match verdict {
            Ok(()) => self.settle(connection_key),
            Err(reason) => self.close(connection_key, reason),
        }
        if let Some(fetch) = fetch {
            self.end(fetch, Outcome::Complete);
        }
    }

    /// The stream ended under an exchange; what came before was consumed.
    pub(super) fn stream_ended(&mut self, key: ExchangeKey, clean: bool) {
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        let connection = exchange.connection;
        let closed = |phase, what| Error::new(Kind::Closed, phase, what);
        let error = match &mut exchange.receiving {
            Receiving::Head { .. } if !exchange.is_answered => {
                closed(ErrorPhase::Head, "the server closed the connection without an answer")
            }
            Receiving::Head { .. } => self.head_cut_short(key),
            Receiving::Body(reader) => {
                let ended = reader.end_of_stream();
                match ended {
                    Ok(()) if clean && exchange.is_coded() => {
                        // The decoder has its say.
                        self.focus = Some(Focus { connection, place: Place::Read, at: 0, end: 0 });
                        return;
                    }
                    Ok(()) if clean => {
                        exchange.receiving.go(Receiving::Done);
                        let focus = Focus { connection, place: Place::Read, at: 0, end: 0 };
                        return self.finish(key, focus);
                    }
                    Ok(()) => closed(
                        ErrorPhase::Body,
                        "the connection ended without close_notify: the body may be cut short",
                    ),
                    Err(truncated) => {
                        let error = closed(ErrorPhase::Body, "the response is incomplete");
                        error.caused_by(Arc::new(truncated))
                    }
                }
            }
            Receiving::Done => {
                let focus = Focus { connection, place: Place::Read, at: 0, end: 0 };
                return self.finish(key, focus);
            }
        };
        self.fail_exchange(key, error);
    }

    /// A head without its end: what is there may be no head at all.
    fn head_cut_short(&mut self, key: ExchangeKey) -> Error {
        let cut = || {
            let what = "the server closed the connection in the middle of the response's head";
            Error::new(Kind::Closed, ErrorPhase::Head, what)
        };
        let Some(exchange) = self.exchanges.get(key) else { return cut() };
        let fetch = exchange.fetch.and_then(|fetch| self.fetches.get(fetch));
        let Some(fetch) = fetch else { return cut() };
        let bytes_max = fetch.head_bytes_max(&self.settings);
        let inbox = self.connections.get(exchange.connection).and_then(|c| c.inbox.as_ref());
        let Some(inbox) = inbox else { return cut() };
        match self.heads.parse(inbox.unread(), bytes_max) {
            Err(malformed) => malformed_error(malformed, ErrorPhase::Head),
            Ok(_) => cut(),
        }
    }

    /// The exchange is over without a whole response, and so is its connection.
    pub(super) fn fail_exchange(&mut self, key: ExchangeKey, error: Error) {
        let Some(exchange) = self.exchanges.get(key) else { return };
        let (fetch, connection_key, phase) =
            (exchange.fetch, exchange.connection, exchange.phase());
        let Some(connection) = self.connections.get(connection_key) else { return };
        let has_broken = matches!(error.kind(), Kind::Closed | Kind::Io);
        let (tried, reason) = if exchange.is_unsent(connection) {
            (Sent::Nothing, CloseReason::IdleReadable)
        } else if connection.was_kept() && !exchange.is_answered && has_broken {
            (Sent::OnDeadConnection, CloseReason::Failed)
        } else {
            (Sent::Maybe, CloseReason::Failed)
        };
        self.end_exchange(key);
        self.close(connection_key, reason);
        if let Some(fetch) = fetch {
            self.attempt_failed(fetch, error.at(phase), tried);
        }
    }

    /// The fetch goes on elsewhere. The rest of the response is drained where it is short.
    pub(super) fn detach(&mut self, key: ExchangeKey) {
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        exchange.fetch = None;
        let connection_key = exchange.connection;
        let left = match &exchange.receiving {
            Receiving::Body(reader) if reader.is_until_close() => u64::MAX,
            Receiving::Body(reader) => reader.left().unwrap_or(0),
            _ => 0,
        };
        let is_flushed = self.connections.get(connection_key).is_some_and(Connection::is_flushed);
        let is_sent = matches!(exchange.sending, Sending::Done) && is_flushed;
        if !is_sent || left > DRAIN_BYTES_MAX as u64 {
            self.end_exchange(key);
            let reason =
                if is_sent { CloseReason::RestTooLong } else { CloseReason::RequestUnfinished };
            return self.close(connection_key, reason);
        }
        if let Some(connection) = self.connections.get_mut(connection_key) {
            connection.deadline = self.now.after(DRAIN_TIME_MAX);
            self.watch_deadline(connection_key);
        }
    }
}

impl Exchange {
    fn body_is_done(&self) -> bool {
        matches!(&self.receiving, Receiving::Body(reader) if reader.is_done())
    }
}

impl Fetch {
    fn collect_head(&mut self, bytes: &[u8], fields: &[Field], line: StatusLine, announced: u64) {
        let room = usize::try_from(announced).unwrap_or(usize::MAX).min(BODY_BYTES_RESERVED_MAX);
        self.collected = Some(Box::new(Collected {
            bytes: bytes.into(),
            fields: fields.into(),
            line,
            body: Vec::with_capacity(room),
            trailers: Trailers::default(),
            request: self.request.clone(),
            hops: Vec::new(),
            stats: self.stats,
        }));
    }
}

pub(super) fn take_trailers(fetch: &mut Fetch, reader: &BodyReader) {
    let section = reader.trailers();
    if section.is_empty() {
        return;
    }
    let mut trailers = Trailers { bytes: section.to_vec(), fields: Vec::new() };
    // The reader has checked the section's syntax already.
    if head::parse_trailers(&trailers.bytes, &mut trailers.fields).is_ok() {
        head::unfold(&mut trailers.bytes, &trailers.fields);
        fetch.trailers = Some(Box::new(trailers));
    }
}

/// What a collected fetch fails by that was upgraded.
#[cold]
fn uncollectable() -> Error {
    let what = "another protocol cannot be collected: `Client::stream` and events have it";
    Error::new(Kind::InvalidRequest, ErrorPhase::Head, what)
}

pub(super) fn malformed_error(malformed: Malformed, phase: ErrorPhase) -> Error {
    let kind = match malformed {
        Malformed::HeadTooLarge | Malformed::TooManyHeaders => Kind::TooLarge,
        _ => Kind::Malformed,
    };
    Error::new(kind, phase, "the response breaks HTTP").caused_by(Arc::new(malformed))
}

/// What an exchange fails by whose connection spoke before it was spoken to.
pub(super) fn spoken_to() -> Error {
    let what = "the server spoke on a kept connection before the request was sent";
    Error::new(Kind::Closed, ErrorPhase::Send, what)
}

pub(super) fn too_large(bytes_max: u64) -> Error {
    let what = format!("the body is longer than {bytes_max} bytes");
    Error::new(Kind::TooLarge, ErrorPhase::Body, what)
}

/// Switching Protocols.
const SWITCHED: u16 = 101;
/// What an announced length is trusted for before the bytes are there.
const BODY_BYTES_RESERVED_MAX: usize = 1 << 20;
/// The rest of a response that is read only to keep its connection.
const DRAIN_BYTES_MAX: usize = 64 << 10;
const DRAIN_TIME_MAX: Duration = Duration::from_secs(2);
