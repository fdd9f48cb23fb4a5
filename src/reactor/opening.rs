//! Floor 2. From a socket that connects to a connection that can carry requests.
//!
//! In goes the end of an attempt to connect; out come TLS with the proxy, the tunnel through it and
//! TLS with the origin, whichever of them the route needs, and at their end an exchange for whoever
//! dialled, or an idle connection.

use std::io;
use std::sync::Arc;

use super::Reactor;
use super::connection::{ConnectionKey, Outer, Phase};
use crate::error::{Error, Kind, Limit, Phase as ErrorPhase};
use crate::kit::machine::Machine;
use crate::kit::moment::Moment;
use crate::net::{Net, Readiness};
use crate::origin::Scheme;
use crate::proxy::ProxyProtocol;
use crate::wire::tls::{Config, Session, TlsError};
use crate::wire::tunnel::TunnelError;

impl<N: Net> Reactor<N> {
    /// The attempt to connect has ended, `in_doubt` where the event spoke of an error.
    pub(super) fn connect_ended(&mut self, key: ConnectionKey, in_doubt: bool) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let error = if in_doubt {
            match self.net.take_error(&mut connection.stream) {
                Ok(error) => error,
                Err(error) => Some(error),
            }
        } else {
            None
        };
        match error {
            Some(error) => self.dial_failed(key, error),
            None => self.connected(key),
        }
    }

    fn connected(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Phase::Connecting { dialled_for } = connection.phase else { return };
        connection.ready |= Readiness::WRITABLE;
        let route = Arc::clone(&connection.route);
        if let Some(fetch) = dialled_for {
            self.race_won(fetch, key);
        }
        match &route.proxy {
            Some(proxy) if proxy.protocol() == ProxyProtocol::Https => {
                let settings = Arc::clone(&self.proxies_tls);
                let config = self.tls_of(&settings);
                self.shake_hands(key, config, proxy.host());
            }
            Some(_) => self.channel_open(key),
            None => self.at_origin(key),
        }
    }

    /// The proxy is at the other end, behind TLS or not.
    fn channel_open(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(dialled_for) = connection.phase.opening() else { return };
        if connection.tunnel.is_none() {
            return self.opened(key);
        }
        let Some((request, shown)) = self.tunnel_request(key) else { return };
        let Some(connection) = self.connections.get_mut(key) else { return };
        // After TLS with it the limit counts already.
        let was_connecting = matches!(connection.phase, Phase::Connecting { .. });
        connection.phase.go(Phase::Tunnelling { dialled_for, shown });
        if let Some(fetch) = dialled_for.filter(|_| was_connecting) {
            self.begin_limit(fetch, Limit::Proxy);
        }
        self.tell_proxy(key, &request);
    }

    /// What a proxy said of a tunnel stands at the front of the read buffer.
    pub(super) fn tunnel_on(&mut self, key: ConnectionKey, count: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(tunnel) = &mut connection.tunnel else { return };
        let mut answer = Vec::new();
        let said = self.read_buffer.get(..count).unwrap_or_default();
        match tunnel.receive(said, &mut answer) {
            Ok(false) => self.tell_proxy(key, &answer),
            Ok(true) => self.tunnel_open(key),
            Err(_) if self.answers_tunnel(key) => {}
            Err(error) => self.open_failed(key, tunnel_error(error)),
        }
    }

    fn tell_proxy(&mut self, key: ConnectionKey, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Self { net, buffers, sealed, .. } = self;
        let written = match &mut connection.tls {
            _ if bytes.is_empty() => return,
            None => connection.write_raw(net, buffers, bytes),
            Some(tls) => {
                sealed.clear();
                tls.seal(bytes, sealed)
                    .map_err(io::Error::other)
                    .and_then(|()| connection.write_raw(net, buffers, sealed))
            }
        };
        if let Err(error) = written {
            self.write_failed(key, error);
        }
    }

    /// The proxy has made way: the origin is at the other end.
    fn tunnel_open(&mut self, key: ConnectionKey) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.tunnel = None;
        if let Some(session) = connection.tls.take() {
            let cipher = connection.cipher.take();
            connection.outer = Some(Box::new(Outer { session, cipher }));
        }
        let waiting = connection.phase.opening().flatten();
        self.trace_tunnelled(key);
        if let Some(fetch) = waiting.and_then(|fetch| self.fetches.get_mut(fetch)) {
            let took = fetch.lap(now);
            fetch.stats.timings.proxy += took;
            fetch.deadlines.clear(Limit::Proxy);
        }
        self.at_origin(key);
    }

    /// The origin is at the other end.
    fn at_origin(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get(key) else { return };
        let route = Arc::clone(&connection.route);
        if route.origin.scheme == Scheme::Http {
            return self.opened(key);
        }
        let config = self.tls_for(&route);
        self.shake_hands(key, config, &route.origin.host);
    }

    /// Begins TLS with `host`, which is at the other end.
    fn shake_hands(&mut self, key: ConnectionKey, config: Result<Config, Error>, host: &str) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(dialled_for) = connection.phase.opening() else { return };
        connection.phase.go(Phase::Handshaking { dialled_for });
        let limit = connection.opening_limit();
        let session = config.and_then(|it| Session::new(&it, host).map_err(tls_error));
        let mut session = match session {
            Ok(session) => session,
            Err(error) => return self.open_failed(key, error),
        };
        self.sealed.clear();
        session.start(&mut self.sealed);
        connection.tls = Some(session);
        let written = connection.write_sealed(&mut self.net, &mut self.buffers, &self.sealed);
        if let Err(error) = written {
            self.write_failed(key, error);
        }
        if let Some(fetch) = dialled_for {
            self.begin_limit(fetch, limit);
        }
    }

    /// A TLS handshake is done: with the proxy, or with the origin.
    pub(super) fn secured(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get(key) else { return };
        let Phase::Handshaking { dialled_for } = connection.phase else { return };
        let is_with_proxy = connection.is_with_proxy();
        self.trace_secured(key);
        let now = self.now;
        if let Some(fetch) = dialled_for.and_then(|fetch| self.fetches.get_mut(fetch)) {
            let took = fetch.lap(now);
            let timings = &mut fetch.stats.timings;
            *(if is_with_proxy { &mut timings.proxy } else { &mut timings.tls }) += took;
        }
        if is_with_proxy { self.channel_open(key) } else { self.opened(key) }
    }

    /// Requests can be sent: that of the fetch that waited for it, or the next one's.
    fn opened(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(fetch) = connection.phase.opening() else { return };
        connection.phase.go(Phase::Open { current: None });
        connection.deadline = Moment::NEVER;
        match fetch {
            Some(fetch) => {
                self.leave_race(fetch);
                self.begin_exchange(fetch, key);
            }
            None => self.settle(key),
        }
    }
}

/// A proxy gave no tunnel.
pub(super) fn tunnel_error(error: TunnelError) -> Error {
    let is_transient = error.is_transient();
    let what = "the proxy gave no way to the origin";
    let error = Error::new(Kind::Proxy, ErrorPhase::Proxy, what).caused_by(Arc::new(error));
    if is_transient { error.passing() } else { error }
}

/// What struck during TLS with a proxy is the proxy's.
pub(super) fn at_proxy(error: Error) -> Error {
    let is_transient = error.is_transient();
    let what = "TLS with the proxy failed";
    let outer = Error::new(Kind::Proxy, ErrorPhase::Proxy, what).caused_by(Arc::new(error));
    if is_transient { outer.passing() } else { outer }
}

pub(super) fn tls_error(error: TlsError) -> Error {
    let is_closure = error.is_closure();
    let kind = if error.is_certificate() { Kind::Certificate } else { Kind::Tls };
    let what = if error.is_certificate() { "the certificate was refused" } else { "TLS failed" };
    let error = Error::new(kind, ErrorPhase::Tls, what).caused_by(Arc::new(error));
    // A server that is going away may be back.
    if is_closure { error.passing() } else { error }
}
