//! Floor 2. One socket: connecting, getting past a proxy, shaking hands over TLS, open, closing.
//!
//! In goes readiness; out come plaintext bytes for the exchange, in the reactor's one read buffer,
//! and the news that a connection opened, failed or ended.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Reactor;
use super::exchange::ExchangeKey;
use super::fetch::FetchKey;
use super::pool::IdleKey;
use super::reading::{READ_BYTES_MAX, TLS_READ_BYTES_MAX};
use crate::error::{Limit, Phase as ErrorPhase};
use crate::kit::arena::Key;
use crate::kit::buffer::{Buffers, Carry};
use crate::kit::machine::Machine;
use crate::kit::moment::Moment;
use crate::kit::wheel::TimerId;
use crate::net::{Net, Readiness};
use crate::origin::Route;
use crate::policy::auth::Shown;
use crate::wire::http1::reuse::CloseReason;
use crate::wire::tls::{KEPT_BYTES_MAX, Session, TlsError};
use crate::wire::tunnel::Tunnel;

/// The name of a connection; the stream's type is left out, so that keys can be held anywhere.
pub(crate) type ConnectionKey = Key<AnyConnection>;

/// Stands for [`Connection`] in keys.
pub(crate) enum AnyConnection {}

pub(crate) struct Connection<S> {
    pub(crate) stream: S,
    pub(crate) phase: Phase,
    pub(crate) route: Arc<Route>,
    /// None: a socket of the file system.
    pub(crate) remote: Option<SocketAddr>,
    /// What must still be asked of a proxy before the origin is at the other end.
    pub(super) tunnel: Option<Tunnel>,
    /// With the origin; with the proxy as long as that is at the other end.
    pub(crate) tls: Option<Session>,
    /// With the proxy, where TLS with the origin runs inside it.
    pub(super) outer: Option<Box<Outer>>,
    /// Plaintext that waits: a head in pieces, or what a paused fetch has not taken.
    pub(crate) inbox: Option<Carry>,
    /// The beginning of a TLS record whose end has not come.
    pub(super) cipher: Option<Carry>,
    /// TLS records that the socket has not taken yet.
    pub(super) unsent: Option<Carry>,
    /// [`Readiness`] bits that hold until a read or write proves otherwise; `READ_CLOSED` for ever.
    pub(crate) ready: u8,
    /// The stream's end was seen; it is acted on when the bytes before it are consumed.
    pub(super) ending: Option<Ending>,
    /// Why nothing can be written any more; told once there is nothing left to read.
    pub(super) write_error: Option<io::Error>,
    /// It is on a list of connections to be worked on.
    pub(crate) queued: bool,
    /// The last turn in which it was read, and what it was given in that one.
    turn: u64,
    spent_bytes: usize,
    /// Exchanges begun.
    pub(crate) served: u32,
    /// The socket has taken something since the last of them began.
    pub(super) has_written: bool,
    /// What the server last said in `Keep-Alive: timeout`.
    pub(crate) keep_alive: Option<Duration>,
    pub(crate) idle: Option<IdleKey>,
    pub(super) timer: Option<TimerId>,
    /// While idle, while the rest of a body is drained, and while nobody waits for it to open.
    pub(crate) deadline: Moment,
}

/// TLS with a proxy, around TLS with the origin.
pub(super) struct Outer {
    pub(super) session: Session,
    /// The beginning of a record whose end has not come.
    pub(super) cipher: Option<Carry>,
}

/// Where a connection is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Phase {
    /// The fetch that waits for it; none where that took an idle connection meanwhile.
    Connecting {
        dialled_for: Option<FetchKey>,
    },
    /// A proxy is asked for a tunnel, and was shown this, whoever waits for it by now.
    Tunnelling {
        dialled_for: Option<FetchKey>,
        shown: Shown,
    },
    /// With the origin, or with the proxy.
    Handshaking {
        dialled_for: Option<FetchKey>,
    },
    /// Without an exchange it is idle.
    Open {
        current: Option<ExchangeKey>,
    },
    Closing(#[expect(dead_code, reason = "told by Debug")] CloseReason),
}

impl Machine for Phase {
    const NAME: &'static str = "Connection";
    const ARROWS: &'static [(&'static str, &'static str)] = &[
        ("Connecting", "Connecting"),
        ("Connecting", "Tunnelling"),
        ("Connecting", "Handshaking"),
        ("Connecting", "Open"),
        ("Connecting", "Closing"),
        ("Tunnelling", "Tunnelling"),
        ("Tunnelling", "Handshaking"),
        ("Tunnelling", "Open"),
        ("Tunnelling", "Closing"),
        ("Handshaking", "Tunnelling"),
        ("Handshaking", "Handshaking"),
        ("Handshaking", "Open"),
        ("Handshaking", "Closing"),
        ("Open", "Open"),
        ("Open", "Closing"),
    ];

    fn state(&self) -> &'static str {
        match self {
            Self::Connecting { .. } => "Connecting",
            Self::Tunnelling { .. } => "Tunnelling",
            Self::Handshaking { .. } => "Handshaking",
            Self::Open { .. } => "Open",
            Self::Closing(_) => "Closing",
        }
    }
}

impl Phase {
    /// Whether requests cannot be sent yet, and the fetch that waits for that.
    pub(crate) fn opening(&self) -> Option<Option<FetchKey>> {
        match *self {
            Self::Connecting { dialled_for }
            | Self::Tunnelling { dialled_for, .. }
            | Self::Handshaking { dialled_for } => Some(dialled_for),
            Self::Open { .. } | Self::Closing(_) => None,
        }
    }

    /// The same, with another fetch that waits for it.
    pub(crate) fn dialled_for(self, dialled_for: Option<FetchKey>) -> Self {
        match self {
            Self::Connecting { .. } => Self::Connecting { dialled_for },
            Self::Tunnelling { shown, .. } => Self::Tunnelling { dialled_for, shown },
            Self::Handshaking { .. } => Self::Handshaking { dialled_for },
            other => other,
        }
    }
}

/// How the bytes of a stream end.
pub(super) enum Ending {
    /// `clean`: nobody on the way can have cut it short. Over TLS, `close_notify` was seen.
    Eof {
        clean: bool,
    },
    Tls(TlsError),
    Io(io::Error),
}

impl<S> Connection<S> {
    pub(crate) fn new(
        stream: S,
        route: Arc<Route>,
        remote: Option<SocketAddr>,
        fetch: FetchKey,
    ) -> Self {
        Self {
            stream,
            phase: Phase::Connecting { dialled_for: Some(fetch) },
            route,
            remote,
            tunnel: None,
            tls: None,
            outer: None,
            inbox: None,
            cipher: None,
            unsent: None,
            ready: 0,
            ending: None,
            write_error: None,
            queued: false,
            turn: 0,
            spent_bytes: 0,
            served: 0,
            has_written: false,
            keep_alive: None,
            idle: None,
            timer: None,
            deadline: Moment::NEVER,
        }
    }

    /// Writes a prefix of `plain` and says how long it is. 0: the socket takes nothing now, and
    /// an event will tell when it does.
    pub(crate) fn write<N: Net<Stream = S>>(
        &mut self,
        net: &mut N,
        buffers: &mut Buffers,
        sealed: &mut Vec<u8>,
        plain: &[u8],
    ) -> io::Result<usize> {
        if self.ready & Readiness::WRITABLE == 0 {
            return Ok(0);
        }
        let Some(tls) = &mut self.tls else {
            let written = write_some(net, &mut self.stream, plain)?;
            if written < plain.len() {
                self.ready &= !Readiness::WRITABLE;
            }
            self.has_written |= written > 0;
            return Ok(written);
        };
        sealed.clear();
        tls.seal(plain, sealed).map_err(io::Error::other)?;
        self.write_sealed(net, buffers, sealed)?;
        Ok(plain.len())
    }

    /// Ends what is written, behind all that was: over TLS with `close_notify` (RFC 8446 §6.1),
    /// else with the socket's own end. Reading goes on.
    pub(super) fn close_write<N: Net<Stream = S>>(
        &mut self,
        net: &mut N,
        buffers: &mut Buffers,
        sealed: &mut Vec<u8>,
    ) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            debug_assert!(self.is_flushed(), "the socket's end would come before what waits");
            return net.shutdown(&mut self.stream);
        };
        sealed.clear();
        tls.close_write(sealed);
        self.write_sealed(net, buffers, sealed)
    }

    /// Writes TLS records; what the socket does not take waits.
    pub(super) fn write_sealed<N: Net<Stream = S>>(
        &mut self,
        net: &mut N,
        buffers: &mut Buffers,
        sealed: &[u8],
    ) -> io::Result<()> {
        let sealed = self.wrapped(sealed)?;
        self.write_raw(net, buffers, &sealed)
    }

    /// TLS records wait until more is written, or all is flushed, and go in one write with it.
    pub(super) fn hold_sealed(&mut self, buffers: &mut Buffers, sealed: &[u8]) -> io::Result<()> {
        let sealed = self.wrapped(sealed)?;
        buffers.fill(&mut self.unsent, &sealed);
        Ok(())
    }

    /// The same records inside those of TLS with a proxy, where there is such.
    fn wrapped<'a>(&mut self, sealed: &'a [u8]) -> io::Result<Cow<'a, [u8]>> {
        let Some(outer) = &mut self.outer else { return Ok(sealed.into()) };
        let mut wrapped = Vec::new();
        outer.session.seal(sealed, &mut wrapped).map_err(io::Error::other)?;
        Ok(wrapped.into())
    }

    /// Writes bytes as they are, behind those that wait; what the socket does not take waits.
    pub(super) fn write_raw<N: Net<Stream = S>>(
        &mut self,
        net: &mut N,
        buffers: &mut Buffers,
        sealed: &[u8],
    ) -> io::Result<()> {
        if self.unsent.is_some() {
            buffers.fill(&mut self.unsent, sealed);
            return self.flush(net, buffers);
        }
        let may_write = self.ready & Readiness::WRITABLE != 0;
        let written = if may_write { write_some(net, &mut self.stream, sealed)? } else { 0 };
        self.has_written |= written > 0;
        if written < sealed.len() {
            self.ready &= !Readiness::WRITABLE;
            buffers.fill(&mut self.unsent, &sealed[written..]);
        }
        Ok(())
    }

    /// Writes what waits.
    pub(super) fn flush<N: Net<Stream = S>>(
        &mut self,
        net: &mut N,
        buffers: &mut Buffers,
    ) -> io::Result<()> {
        let Some(unsent) = &self.unsent else { return Ok(()) };
        if self.ready & Readiness::WRITABLE == 0 {
            return Ok(());
        }
        let written = write_some(net, &mut self.stream, unsent.unread())?;
        self.has_written |= written > 0;
        buffers.consume(&mut self.unsent, written);
        if self.unsent.is_some() {
            self.ready &= !Readiness::WRITABLE;
        }
        Ok(())
    }

    /// Most bytes of one read.
    pub(super) fn read_bytes_max(&self) -> usize {
        match (&self.tls, &self.outer) {
            (None, _) => READ_BYTES_MAX,
            (Some(_), None) => TLS_READ_BYTES_MAX,
            // What is in the records is moved up behind what is kept of those inside.
            (Some(_), Some(_)) => TLS_READ_BYTES_MAX - KEPT_BYTES_MAX,
        }
    }

    /// Whether it was not on the list of those to be worked on; it is from now on.
    pub(super) fn joins_queue(&mut self) -> bool {
        !std::mem::replace(&mut self.queued, true)
    }

    /// What it was given in this turn.
    pub(super) fn spent_in(&self, turn: u64) -> usize {
        if self.turn == turn { self.spent_bytes } else { 0 }
    }

    pub(super) fn spend(&mut self, turn: u64, bytes: usize) {
        self.spent_bytes = self.spent_in(turn) + bytes;
        self.turn = turn;
    }

    /// Whether it opens, and no fetch waits for it.
    pub(crate) fn is_orphan(&self) -> bool {
        matches!(self.phase.opening(), Some(None))
    }

    /// Whether it was among the idle ones before.
    pub(super) fn was_kept(&self) -> bool {
        self.idle.is_some()
    }

    /// Whether the socket has taken all that was written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.unsent.is_none()
    }

    /// Idle, with half a TLS record, or with one that the socket has not taken: to wait for the
    /// rest would keep a buffer.
    pub(super) fn idles_in_a_record(&self) -> bool {
        let is_between = self.holds_a_record() || self.unsent.is_some();
        matches!(self.phase, Phase::Open { current: None }) && is_between
    }

    /// Whether what is at the other end is a proxy, in place of the origin or still before it.
    pub(super) fn is_with_proxy(&self) -> bool {
        self.tunnel.is_some() || self.route.forwarder().is_some()
    }

    /// Where it is on its way to being open, for an error.
    pub(super) fn opening_phase(&self) -> ErrorPhase {
        match self.phase {
            Phase::Connecting { .. } => ErrorPhase::Connect,
            _ if self.is_with_proxy() => ErrorPhase::Proxy,
            _ => ErrorPhase::Tls,
        }
    }

    /// The limit of that part of the way.
    pub(super) fn opening_limit(&self) -> Limit {
        if self.is_with_proxy() { Limit::Proxy } else { Limit::Tls }
    }

    /// Half of a TLS record has come.
    pub(super) fn holds_a_record(&self) -> bool {
        self.cipher.is_some() || self.outer.as_ref().is_some_and(|outer| outer.cipher.is_some())
    }

    /// How many buffers it owns, and how many bytes wait in them.
    #[cfg(debug_assertions)]
    pub(super) fn held(&self) -> (usize, usize) {
        let (mut buffers, mut bytes) = (0, 0);
        let outer = self.outer.as_ref().map_or(&None, |outer| &outer.cipher);
        for carry in [&self.inbox, &self.cipher, &self.unsent, outer] {
            buffers += usize::from(carry.is_some());
            bytes += carry.as_ref().map_or(0, Carry::len);
        }
        (buffers, bytes)
    }

    /// Whether nothing stands in the way of another exchange, by what the last poll said.
    pub(crate) fn is_fit(&self) -> bool {
        matches!(self.phase, Phase::Open { current: None })
            && self.ready & (Readiness::READABLE | Readiness::READ_CLOSED) == 0
            && self.ending.is_none()
            && self.write_error.is_none()
            && self.unsent.is_none()
            && !self.holds_a_record()
            && self.inbox.is_none()
    }
}

/// Its end.
impl<N: Net> Reactor<N> {
    /// Closes, and gives back all that the connection holds. An exchange on it must have been
    /// taken away before.
    pub(super) fn close(&mut self, key: ConnectionKey, reason: CloseReason) {
        let Some(mut connection) = self.connections.remove(key) else { return };
        debug_assert!(
            !matches!(connection.phase, Phase::Open { current: Some(_) }),
            "an exchange goes before its connection"
        );
        connection.phase.go(Phase::Closing(reason));
        self.trace_closed(&connection, reason);
        if let Some(tls) = &mut connection.tls
            && connection.ready & Readiness::WRITABLE != 0
            && connection.unsent.is_none()
        {
            // RFC 8446 §6.1 asks for it; whether it still arrives changes nothing here.
            self.sealed.clear();
            tls.close(&mut self.sealed);
            if !self.sealed.is_empty() {
                let Self { net, buffers, sealed, .. } = self;
                let _ = connection.write_sealed(net, buffers, sealed);
            }
        }
        let Connection { inbox, cipher, unsent, outer, .. } = &mut connection;
        for place in [inbox, cipher, unsent] {
            self.buffers.take_home(place);
        }
        if let Some(outer) = outer {
            self.buffers.take_home(&mut outer.cipher);
        }
        if let Some(timer) = connection.timer {
            self.wheel.remove(timer);
        }
        if let Some(idle) = connection.idle {
            self.pool.forget(idle);
        }
        self.net.close(connection.stream);
    }
}

fn write_some<N: Net>(net: &mut N, stream: &mut N::Stream, bytes: &[u8]) -> io::Result<usize> {
    match net.write(stream, bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}
