//! Floor 2. From a socket that connects to a connection that can carry requests.
//!
//! In goes the end of an attempt to connect; out come TLS handshakes, and at their end an exchange
//! for whoever dialled, or an idle connection.

use std::sync::Arc;

use super::Reactor;
use super::connection::{ConnectionKey, Phase};
use super::fetch::FetchKey;
use crate::error::{Error, Kind, Limit, Phase as ErrorPhase};
use crate::kit::machine::Machine;
use crate::kit::moment::Moment;
use crate::net::{Net, Readiness};
use crate::origin::Scheme;
use crate::wire::tls::{Session, TlsError};

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
            Some(error) => self.dial_failed(key, &error),
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
        if route.origin.scheme == Scheme::Http {
            return self.opened(key);
        }
        let session = self
            .tls_for(&route)
            .and_then(|config| Session::new(&config, &route.origin.host).map_err(tls_error));
        match session {
            Ok(session) => self.shake_hands(key, dialled_for, session),
            Err(error) => self.open_failed(key, error),
        }
    }

    fn shake_hands(
        &mut self,
        key: ConnectionKey,
        dialled_for: Option<FetchKey>,
        mut session: Session,
    ) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.phase.go(Phase::Handshaking { dialled_for });
        self.sealed.clear();
        session.start(&mut self.sealed);
        connection.tls = Some(session);
        let written = connection.write_sealed(&mut self.net, &mut self.buffers, &self.sealed);
        if let Err(error) = written {
            self.write_failed(key, error);
        }
        if let Some(fetch) = dialled_for {
            self.begin_limit(fetch, Limit::Tls);
        }
    }

    /// The TLS handshake is done.
    pub(super) fn secured(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.get(key)
            && let Phase::Handshaking { dialled_for } = connection.phase
        {
            let now = self.now;
            if let Some(fetch) = dialled_for.and_then(|fetch| self.fetches.get_mut(fetch)) {
                fetch.stats.timings.tls = fetch.lap(now);
            }
            self.opened(key);
        }
    }

    /// Requests can be sent: that of the fetch that waited for it, or the next one's.
    fn opened(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let (Phase::Connecting { dialled_for: fetch } | Phase::Handshaking { dialled_for: fetch }) =
            connection.phase
        else {
            return;
        };
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

pub(super) fn tls_error(error: TlsError) -> Error {
    let is_closure = error.is_closure();
    let kind = if error.is_certificate() { Kind::Certificate } else { Kind::Tls };
    let what = if error.is_certificate() { "the certificate was refused" } else { "TLS failed" };
    let error = Error::new(kind, ErrorPhase::Tls, what).caused_by(Arc::new(error));
    // A server that is going away may be back.
    if is_closure { error.passing() } else { error }
}
