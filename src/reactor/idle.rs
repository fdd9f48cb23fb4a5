//! Floor 2. Connections without an exchange: kept for a while, offered, given up.
//!
//! In goes a connection whose exchange is over, or a timer; out come entries of the pool, and
//! closes with their reasons.

use std::io;
use std::time::Duration;

use super::connection::{Connection, ConnectionKey, Phase};
use super::{Reactor, Timer};
use crate::error::Limit;
use crate::kit::wheel::Wheel;
use crate::net::{Net, Readiness};
use crate::wire::http1::reuse::CloseReason;

impl<N: Net> Reactor<N> {
    /// An exchange is over and the connection fit for another, unless more is to be read.
    pub(super) fn settle(&mut self, key: ConnectionKey) {
        // A TLS record that is still partial may be a ticket; to wait for its end would keep a
        // buffer with an idle connection.
        if self.is_drained(key) && self.connections.get(key).is_some_and(Connection::is_fit) {
            self.check_in(key);
        } else {
            self.close(key, CloseReason::Surplus);
        }
    }

    /// Whether nothing is left to be read. A read that was filled to its last byte leaves that
    /// open; one more tells, and whatever it finds, the connection has ended or said too much.
    fn is_drained(&mut self, key: ConnectionKey) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return false };
        if connection.ready & Readiness::READABLE == 0 {
            return true;
        }
        let window = self.read_buffer.get_mut(..1).unwrap_or_default();
        let read = self.net.read(&mut connection.stream, window);
        let is_drained = read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        if is_drained {
            connection.ready &= !Readiness::READABLE;
        }
        is_drained
    }

    /// Puts an open connection without an exchange among the idle ones.
    fn check_in(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let allowed = self.settings.timeouts.get(Limit::Idle);
        let allowed = match connection.keep_alive {
            Some(said) => said.saturating_sub(KEEP_ALIVE_MARGIN).min(KEEP_ALIVE_MAX),
            None => allowed.unwrap_or(Duration::MAX),
        };
        if allowed.is_zero() || self.settings.idle_connections_max == 0 {
            return self.close(key, CloseReason::IdleTimeout);
        }
        connection.deadline = self.now.after(allowed);
        let kept = self.pool.check_in(connection.idle, key, &connection.route);
        let Some((idle, room)) = kept else {
            return self.close(key, CloseReason::IdleCap);
        };
        connection.idle = Some(idle);
        connection.watch_deadline(key, &mut self.wheel);
        self.trace_kept(key);
        self.offer(room);
        if self.pool.idle_connections() > self.settings.idle_connections_max {
            self.close_oldest_idle(CloseReason::IdleCap);
        }
    }

    /// `false` where no connection is idle.
    pub(super) fn close_oldest_idle(&mut self, reason: CloseReason) -> bool {
        let oldest = self.pool.oldest_idle();
        if let Some(key) = oldest {
            self.close(key, reason);
        }
        oldest.is_some()
    }

    /// Has the wheel look at the connection no later than at its deadline.
    pub(super) fn watch_deadline(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.watch_deadline(key, &mut self.wheel);
        }
    }

    /// The wheel's entry for a connection fired.
    pub(super) fn connection_due(&mut self, key: ConnectionKey) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.timer = None;
        let is_free = match connection.phase {
            Phase::Open { current: None } => true,
            Phase::Open { current: Some(exchange) } => {
                self.exchanges.get(exchange).is_none_or(|exchange| exchange.fetch.is_none())
            }
            _ => connection.is_orphan(),
        };
        if !is_free {
            return;
        }
        if connection.deadline > now {
            return self.watch_deadline(key);
        }
        let mut reason = CloseReason::IdleTimeout;
        if let Phase::Open { current: Some(drained) } = connection.phase {
            self.end_exchange(drained);
            reason = CloseReason::RestTooLong;
        }
        self.close(key, reason);
    }
}

impl<S> Connection<S> {
    /// An entry that is in the wheel already is only moved where it would fire too late.
    fn watch_deadline(&mut self, key: ConnectionKey, wheel: &mut Wheel<Timer>) {
        if self.deadline.is_never() {
            return;
        }
        match self.timer {
            None => self.timer = Some(wheel.insert(self.deadline, Timer::Connection(key))),
            Some(timer) => {
                if wheel.deadline(timer).is_some_and(|at| at > self.deadline) {
                    wheel.rearm(timer, self.deadline);
                }
            }
        }
    }
}

/// How much sooner than the server an idle connection is given up, so that a request does not
/// cross its close.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);
/// However long a server promises.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(300);
