//! Floor 2. What a poll said of a connection, and what is read from it.
//!
//! In goes readiness; out come plaintext bytes in the reactor's one read buffer, with the
//! [`Focus`] on them, and the news that a stream has ended.

use std::io;

use super::Reactor;
use super::connection::{Connection, ConnectionKey, Ending, Phase};
use super::exchange::{Exchange, ExchangeKey};
use super::fetch::Fetch;
use super::opening::{at_proxy, tls_error};
use super::receiving::spoken_to;
use crate::error::{Error, Kind, Phase as ErrorPhase};
use crate::kit::buffer::Carry;
use crate::net::{Net, Readiness};
use crate::wire::http1::reuse::CloseReason;
use crate::wire::tls::TlsError;

impl<N: Net> Reactor<N> {
    /// Takes in what a poll said of a connection.
    pub(super) fn receive_readiness(&mut self, key: ConnectionKey, event: Readiness) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let ended = event.has(Readiness::READ_CLOSED | Readiness::ERROR);
        connection.ready |= event.bits & (Readiness::READABLE | Readiness::WRITABLE);
        if ended {
            connection.ready |= Readiness::READABLE | Readiness::READ_CLOSED;
        }
        if let Phase::Connecting { .. } = connection.phase {
            if ended || event.has(Readiness::WRITABLE) {
                self.connect_ended(key, ended);
            }
        } else if event.has(Readiness::WRITABLE) {
            self.write_on(key);
        }
        self.go_on(key);
    }

    /// A connection that has work of its own left: bytes that wait, or a socket not drained.
    pub(super) fn work_on(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.queued = false;
        if let Phase::Open { current: Some(exchange) } = connection.phase
            && self.exchanges.get(exchange).is_some_and(Exchange::streams)
        {
            self.stream(exchange);
        } else if connection.ready & Readiness::READABLE == 0
            && let Some(exchange) = self.unsent_exchange(key)
        {
            // No event of this poll has told of anything.
            self.found_silent(exchange);
        }
        self.go_on(key);
    }

    fn go_on(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get(key) else { return };
        let (place, end) = match self.source(connection) {
            Source::Held => return,
            Source::NextTurn => return self.leave_for_next_turn(key),
            Source::Socket => return self.read(key),
            Source::Inbox(end) => (Place::Inbox, end),
            Source::Exchange => (Place::Read, 0),
        };
        self.focus = Some(Focus { connection: key, place, at: 0, end });
        self.queue(key);
    }

    /// What waits in the inbox comes before the socket, and before the news of its end. But a
    /// head in pieces waits for the socket, and a paused fetch for its resumption.
    fn source(&self, connection: &Connection<N::Stream>) -> Source {
        let inbox = connection.inbox.as_ref().map(Carry::len);
        let exchange = match connection.phase {
            // Events may be about nothing, and a socket that is not connected is not read.
            Phase::Connecting { .. } => return Source::Held,
            Phase::Open { current: Some(exchange) } => self.exchanges.get(exchange),
            _ => None,
        };
        let Some(exchange) = exchange else { return inbox.map_or(Source::Socket, Source::Inbox) };
        let fetch = exchange.fetch.and_then(|fetch| self.fetches.get(fetch));
        if fetch.is_some_and(Fetch::is_paused) && !exchange.is_unsent(connection) {
            return Source::Held;
        }
        let has_undecoded = exchange.has_undecoded();
        if exchange.is_coded() {
            if fetch.is_some_and(Fetch::starves) {
                // It is heard of again when there is room for what its decoder makes.
                return Source::Held;
            }
            if (has_undecoded || inbox.is_some()) && self.has_spent_share(connection) {
                return Source::NextTurn;
            }
        }
        match inbox {
            Some(end) if !exchange.has_partial_head() => Source::Inbox(end),
            None if has_undecoded => Source::Exchange,
            _ => Source::Socket,
        }
    }

    /// The bytes that a focus is on; none where its connection has gone.
    pub(super) fn bytes(&self, focus: Focus) -> &[u8] {
        if focus.place == Place::Decoded {
            return self.decoded.get(focus.at..focus.end).unwrap_or_default();
        }
        let connection = self.connections.get(focus.connection);
        connection.map_or(&[], |connection| focus.bytes(&self.read_buffer, connection))
    }

    /// Whether a connection has decoded as much as it may in one turn.
    pub(super) fn has_spent_share(&self, connection: &Connection<N::Stream>) -> bool {
        connection.spent_in(self.turn) >= TURN_DECODED_BYTES_MAX
    }

    /// The connection is worked on again in the next turn.
    pub(super) fn leave_for_next_turn(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.get_mut(key)
            && connection.joins_queue()
        {
            self.next_turn.push(key);
        }
    }

    /// Puts a connection on the list of those to be worked on in this turn.
    pub(super) fn queue(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.get_mut(key)
            && connection.joins_queue()
        {
            self.again.push_back(key);
        }
    }

    /// Writes what waits: records, then the rest of the request.
    fn write_on(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let waited = connection.unsent.as_ref().map(Carry::len);
        if let Err(error) = connection.flush(&mut self.net, &mut self.buffers) {
            return self.write_failed(key, error);
        }
        let got_on = waited.is_some() && waited != connection.unsent.as_ref().map(Carry::len);
        if let Phase::Open { current: Some(exchange) } = connection.phase {
            if got_on
                && let Some(fetch) = self.fetch_of(key).and_then(|key| self.fetches.get_mut(key))
            {
                fetch.deadlines.progress(self.now);
            }
            self.send(exchange);
        }
    }

    /// Writes what was held for a request, where that does not go yet.
    fn flush(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.get_mut(key)
            && let Err(error) = connection.flush(&mut self.net, &mut self.buffers)
        {
            self.write_failed(key, error);
        }
    }

    /// A write failed: the peer has gone. What it said before is read first, an answer it may be.
    pub(super) fn write_failed(&mut self, key: ConnectionKey, error: io::Error) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.ready |= Readiness::READABLE;
            connection.ready &= !Readiness::WRITABLE;
            connection.write_error = Some(error);
            self.queue(key);
        }
    }

    /// Reads once into the shared buffer and turns the reactor's attention to what came. The inbox
    /// is empty, or holds a head in pieces.
    pub(super) fn read(&mut self, key: ConnectionKey) {
        let turn = self.turn;
        let Some(connection) = self.connections.get_mut(key) else { return };
        if let Some(ending) = connection.ending.take() {
            return self.ended(key, ending);
        }
        if connection.ready & Readiness::READABLE == 0 {
            return;
        }
        if connection.spent_in(turn) >= TURN_BYTES_MAX {
            return self.leave_for_next_turn(key);
        }
        let records = match &connection.outer {
            Some(outer) => &outer.cipher,
            None => &connection.cipher,
        };
        let kept = records.as_ref().map_or(0, Carry::len);
        let most = connection.read_bytes_max();
        let room = self.window(key, most);
        if room == 0 {
            return;
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(window) = self.read_buffer.get_mut(kept..kept + room) else {
            return self.ended(key, Ending::Tls(TlsError::protocol("a record too long")));
        };
        match self.net.read(&mut connection.stream, window) {
            Ok(0) => {
                // A reset is told once: where a write was told of it, this is no clean end.
                let ending = match connection.write_error.take() {
                    Some(error) => Ending::Io(error),
                    None => Ending::Eof { clean: connection.tls.is_none() },
                };
                self.ended(key, ending);
            }
            Ok(count) => {
                connection.spend(turn, count.max(READ_COST_BYTES_MIN));
                let drained = count < room && connection.ready & Readiness::READ_CLOSED == 0;
                if drained {
                    connection.ready &= !Readiness::READABLE;
                } else if connection.joins_queue() {
                    self.again.push_back(key);
                }
                if connection.outer.is_some() {
                    self.open_outer(key, kept, count);
                } else if connection.tls.is_some() {
                    self.open_records(key, kept, count);
                } else {
                    self.attend(key, count);
                }
                if drained && self.focus.is_none() {
                    self.read_nothing_to_tell(key);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                connection.ready &= !Readiness::READABLE;
                if let Some(error) = connection.write_error.take() {
                    self.ended(key, Ending::Io(error));
                } else if let Some(exchange) = self.unsent_exchange(key) {
                    self.found_silent(exchange);
                }
            }
            Err(error) => self.ended(key, Ending::Io(error)),
        }
    }

    /// A socket was drained, and what it gave was nothing but TLS's own.
    fn read_nothing_to_tell(&mut self, key: ConnectionKey) {
        if let Some(exchange) = self.unsent_exchange(key) {
            self.found_silent(exchange);
        } else if self.connections.get(key).is_some_and(Connection::idles_in_a_record) {
            self.close(key, CloseReason::IdleReadable);
        }
    }

    /// A kept connection had nothing to say before the request, which can be sent then. Half a
    /// TLS record may be something.
    fn found_silent(&mut self, exchange: ExchangeKey) {
        let connection = self.exchanges.get(exchange).map(|exchange| exchange.connection);
        let connection = connection.and_then(|connection| self.connections.get(connection));
        if connection.is_some_and(Connection::holds_a_record) {
            self.fail_exchange(exchange, spoken_to());
        } else {
            self.send(exchange);
        }
    }

    /// The exchange on a kept connection that waits for it to be found silent.
    fn unsent_exchange(&self, key: ConnectionKey) -> Option<ExchangeKey> {
        let connection = self.connections.get(key)?;
        let Phase::Open { current: Some(exchange) } = connection.phase else { return None };
        let is_silent = self.focus.is_none() && connection.ending.is_none();
        let is_unsent = self.exchanges.get(exchange)?.is_unsent(connection);
        (is_silent && is_unsent).then_some(exchange)
    }

    /// Plaintext of `count` bytes stands at the front of the read buffer.
    fn attend(&mut self, key: ConnectionKey, count: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if let Phase::Tunnelling { .. } = connection.phase {
            return self.tunnel_on(key, count);
        }
        self.focus = Some(match &connection.inbox {
            // A head in pieces: it must be seen as one.
            Some(inbox) => {
                let end = inbox.len() + count;
                self.buffers.fill(&mut connection.inbox, &self.read_buffer[..count]);
                Focus { connection: key, place: Place::Inbox, at: 0, end }
            }
            None => Focus { connection: key, place: Place::Read, at: 0, end: count },
        });
    }

    /// The same for records of TLS with a proxy, in which there are those of TLS with the origin.
    fn open_outer(&mut self, key: ConnectionKey, kept: usize, count: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(outer) = &mut connection.outer else { return };
        let end = kept + count;
        if let Some(cipher) = &outer.cipher {
            self.read_buffer[..kept].copy_from_slice(cipher.unread());
            self.buffers.take_home(&mut outer.cipher);
        }
        let mut answer = Vec::new();
        let opened = outer.session.open(&mut self.read_buffer[..end], &mut answer);
        let rest = &self.read_buffer[opened.consumed.min(end)..end];
        self.buffers.fill(&mut outer.cipher, rest);
        let Self { net, buffers, .. } = self;
        let written = connection.write_raw(net, buffers, &answer);
        match opened.result {
            Err(error) => connection.ending = Some(Ending::Tls(error)),
            Ok(()) if opened.peer_closed => connection.ending = Some(Ending::Eof { clean: false }),
            Ok(()) => {}
        }
        let has_ended = connection.ending.is_some();
        let kept = connection.cipher.as_ref().map_or(0, Carry::len);
        if let Err(error) = written {
            self.write_failed(key, error);
        }
        if opened.plain > 0 {
            self.read_buffer.copy_within(..opened.plain, kept);
            self.open_records(key, kept, opened.plain);
        }
        if has_ended {
            self.queue(key);
        }
    }

    /// `count` bytes of TLS records were read behind a gap of `kept`, which is for those that
    /// came before.
    fn open_records(&mut self, key: ConnectionKey, kept: usize, count: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(tls) = &mut connection.tls else { return };
        let end = kept + count;
        if let Some(cipher) = &connection.cipher {
            let came = &self.read_buffer[kept..end];
            if !tls.completes_record(cipher.unread(), came) {
                return self.buffers.fill(&mut connection.cipher, came);
            }
            self.read_buffer[..kept].copy_from_slice(cipher.unread());
            self.buffers.take_home(&mut connection.cipher);
        }
        self.sealed.clear();
        let opened = tls.open(&mut self.read_buffer[..end], &mut self.sealed);
        let rest = &self.read_buffer[opened.consumed.min(end)..end];
        self.buffers.fill(&mut connection.cipher, rest);
        let Self { net, buffers, sealed, .. } = self;
        let written = if opened.handshake_done_now && !connection.is_orphan() {
            // The end of the handshake goes with the request that waits for it.
            connection.hold_sealed(buffers, sealed)
        } else if !sealed.is_empty() {
            connection.write_sealed(net, buffers, sealed)
        } else {
            Ok(())
        };
        match opened.result {
            Err(error) => connection.ending = Some(Ending::Tls(error)),
            Ok(()) if opened.peer_closed => connection.ending = Some(Ending::Eof { clean: true }),
            Ok(()) => {}
        }
        let has_ended = connection.ending.is_some();
        if opened.plain > 0 && opened.handshake_done_now {
            // It speaks before it is spoken to: noted for the exchange that begins now.
            connection.ready |= Readiness::READABLE;
        }
        if let Err(error) = written {
            self.write_failed(key, error);
        }
        if opened.handshake_done_now {
            self.secured(key);
            self.flush(key);
        }
        if opened.plain > 0 {
            self.attend(key, opened.plain);
        }
        if has_ended {
            self.queue(key);
        }
    }

    /// The stream has ended, and what came before was consumed.
    fn ended(&mut self, key: ConnectionKey, ending: Ending) {
        let Some(connection) = self.connections.get(key) else { return };
        let phase = connection.phase;
        let error = match ending {
            Ending::Eof { clean } => {
                return match phase {
                    Phase::Open { current: Some(exchange) } => self.stream_ended(exchange, clean),
                    Phase::Handshaking { .. } | Phase::Tunnelling { .. } => {
                        let error = closed_while_opening(connection);
                        self.open_failed(key, error);
                    }
                    _ => self.close(key, CloseReason::IdleReadable),
                };
            }
            Ending::Tls(error) => tls_error(error),
            Ending::Io(error) => {
                let what = "the connection broke";
                let kind = if is_reset(&error) { Kind::Closed } else { Kind::Io };
                Error::io(kind, ErrorPhase::Head, what, error)
            }
        };
        match phase {
            Phase::Open { current: Some(exchange) } => self.fail_exchange(exchange, error),
            Phase::Handshaking { .. } | Phase::Tunnelling { .. } => {
                let at = connection.opening_phase();
                let is_proxys = connection.is_with_proxy();
                let error = if is_proxys { at_proxy(error) } else { error.at(at) };
                self.open_failed(key, error);
            }
            _ => self.close(key, CloseReason::Failed),
        }
    }
}

fn closed_while_opening<S>(connection: &Connection<S>) -> Error {
    let (kind, what) = match (connection.phase, connection.is_with_proxy()) {
        (Phase::Tunnelling { .. }, _) => {
            (Kind::Proxy, "the proxy closed the connection before it gave a tunnel")
        }
        (_, true) => (Kind::Proxy, "the proxy closed the connection during the TLS handshake"),
        (_, false) => (Kind::Tls, "the server closed the connection during the TLS handshake"),
    };
    Error::new(kind, connection.opening_phase(), what).passing()
}

/// Where the bytes come from that a connection goes on with.
enum Source {
    /// From nowhere: it is not connected, its fetch is paused, or there is no room in memory.
    Held,
    /// Its share of this turn is spent.
    NextTurn,
    /// So many wait in its inbox.
    Inbox(usize),
    /// The exchange has something to do without any.
    Exchange,
    Socket,
}

/// The part of a buffer that is being consumed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Focus {
    pub(crate) connection: ConnectionKey,
    pub(crate) place: Place,
    pub(crate) at: usize,
    pub(crate) end: usize,
}

/// Where bytes lie that are consumed or lent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// In the reactor's read buffer.
    Read,
    /// In the inbox of the connection.
    Inbox,
    /// In the reactor's buffer for what was decoded last.
    Decoded,
}

impl Focus {
    /// The bytes meant.
    pub(crate) fn bytes<'a, S>(
        &self,
        read_buffer: &'a [u8],
        connection: &'a Connection<S>,
    ) -> &'a [u8] {
        let buffer = match (self.place, &connection.inbox) {
            (Place::Read, _) => read_buffer,
            (Place::Inbox, Some(inbox)) => inbox.unread(),
            (Place::Inbox, None) | (Place::Decoded, _) => &[],
        };
        buffer.get(self.at..self.end).unwrap_or_default()
    }

    /// The same, to be changed.
    pub(super) fn bytes_mut<'a, S>(
        &self,
        read_buffer: &'a mut [u8],
        connection: &'a mut Connection<S>,
    ) -> &'a mut [u8] {
        let buffer = match (self.place, &mut connection.inbox) {
            (Place::Read, _) => read_buffer,
            (Place::Inbox, Some(inbox)) => inbox.unread_mut(),
            (Place::Inbox, None) | (Place::Decoded, _) => &mut [],
        };
        buffer.get_mut(self.at..self.end).unwrap_or_default()
    }
}

/// The peer, or something on the way, ended the connection by force.
fn is_reset(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), ConnectionReset | ConnectionAborted | BrokenPipe)
}

/// Most bytes that one connection is read in one turn, before others and the caller's program
/// get theirs.
pub(super) const TURN_BYTES_MAX: usize = 512 << 10;
/// The same with what is decoded counted too, which costs more and comes of a body's nature.
const TURN_DECODED_BYTES_MAX: usize = 1 << 20;
/// What a read counts for at the least, so that one that drips also comes to its share's end.
const READ_COST_BYTES_MIN: usize = 1 << 10;
/// One read of a plain connection. Larger ones cost more CPU a byte: they leave the cache.
pub(super) const READ_BYTES_MAX: usize = 64 << 10;
/// One read over TLS: many records at once.
pub(super) const TLS_READ_BYTES_MAX: usize = 256 << 10;
