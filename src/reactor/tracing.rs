//! Floor 2. Steps told to whoever watches.
//!
//! In go keys, where something has just happened to what they name; out come events for
//! [`Net::trace`]. On a network that is not watched each of these is nothing, by
//! [`Net::IS_TRACED`], when it is compiled.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::Reactor;
use super::connection::{Connection, ConnectionKey};
use super::event::FetchId;
use super::exchange::{ExchangeKey, encoded};
use super::fetch::{Fetch, FetchKey, Outcome, Sought, Stage};
use super::hedge::Twin;
use super::reading::Focus;
use crate::close::CloseReason;
use crate::coding::ContentCoding;
use crate::kit::moment::Moment;
use crate::net::Net;
use crate::proxy::Proxy;
use crate::response::{self, StatusLine};
use crate::socket::{Peer, SocketSettings};
use crate::trace::{Because, SentHead, Step, TraceEvent, TracedSocket};
use crate::wire::http1::head::Head;

/// From a request to a connection.
impl<N: Net> Reactor<N> {
    pub(super) fn trace_queued(&mut self, key: FetchKey) {
        if N::IS_TRACED {
            self.trace_of(key, |fetch| Step::Queued {
                method: fetch.request.method(),
                url: fetch.request.url(),
            });
        }
    }

    pub(super) fn trace_begun(&mut self, key: FetchKey, is_first: bool) {
        if N::IS_TRACED {
            self.trace_of(key, |fetch| Step::Begun {
                waited: if is_first { fetch.stats.timings.queued } else { Duration::ZERO },
            });
        }
    }

    pub(super) fn trace_reused(&mut self, key: FetchKey, connection: ConnectionKey) {
        if N::IS_TRACED {
            self.trace_at(Some(key), connection, |peer, _| Step::Reused { peer });
        }
    }

    /// Before the lookup's lap is taken.
    pub(super) fn trace_resolved(&mut self, key: FetchKey, sought: Sought, found: &[IpAddr]) {
        if N::IS_TRACED {
            let Self { net, fetches, now, .. } = self;
            let Some(fetch) = fetches.get(key) else { return };
            let route = &fetch.request.parts.route;
            let proxy = route.proxy.as_ref().filter(|_| matches!(sought, Sought::Proxy(_)));
            let host = proxy.map_or(&*route.target().host, Proxy::host);
            let took = now.since(fetch.phase_began);
            let step = Step::Resolved { host, addresses: found, took };
            net.trace(&event(*now, Some((key, fetch)), None, step));
        }
    }

    pub(super) fn trace_dialled(&mut self, key: FetchKey, connection: ConnectionKey) {
        if N::IS_TRACED {
            self.trace_at(Some(key), connection, |peer, _| Step::Dialled { peer });
        }
    }

    pub(super) fn trace_dial_failed(&mut self, key: FetchKey, peer: Peer<'_>, error: &io::Error) {
        if N::IS_TRACED {
            let Self { net, fetches, now, .. } = self;
            let fetch = fetches.get(key).map(|fetch| (key, fetch));
            net.trace(&event(*now, fetch, None, Step::DialFailed { peer, error }));
        }
    }

    /// Before the race's lap is taken.
    pub(super) fn trace_connected(&mut self, key: FetchKey, connection: ConnectionKey) {
        if N::IS_TRACED {
            self.trace_at(Some(key), connection, |peer, took| Step::Connected { peer, took });
        }
    }

    /// Before the tunnel's lap is taken.
    pub(super) fn trace_tunnelled(&mut self, connection: ConnectionKey) {
        if N::IS_TRACED {
            let Self { net, fetches, connections, now, .. } = self;
            let Some(connection) = connections.get(connection) else { return };
            let Some(proxy) = &connection.route.proxy else { return };
            let key = connection.phase.opening().flatten();
            let fetch = key.and_then(|key| Some((key, fetches.get(key)?)));
            let took = fetch.map_or(Duration::ZERO, |(_, fetch)| now.since(fetch.phase_began));
            let socket = net.traced_socket(&connection.stream);
            net.trace(&event(*now, fetch, socket, Step::Tunnelled { proxy, took }));
        }
    }

    /// Before the handshake's lap is taken.
    pub(super) fn trace_secured(&mut self, connection: ConnectionKey) {
        if N::IS_TRACED {
            let Some(entry) = self.connections.get(connection) else { return };
            let Some(session) = &entry.tls else { return };
            let (with_proxy, fetch) = (entry.is_with_proxy(), entry.phase.opening().flatten());
            let (protocol, cipher) = (session.version(), session.cipher());
            let resumed = session.is_resumed();
            self.trace_at(fetch, connection, |_, took| Step::Secured {
                with_proxy,
                protocol,
                cipher,
                resumed,
                took,
            });
        }
    }

    /// Tells of a fetch what `step` makes of it.
    fn trace_of<'a>(&'a mut self, key: FetchKey, step: impl FnOnce(&'a Fetch) -> Step<'a>) {
        let Self { net, fetches, now, .. } = self;
        if let Some(fetch) = fetches.get(key) {
            net.trace(&event(*now, Some((key, fetch)), None, step(fetch)));
        }
    }

    /// Tells of a connection what `step` makes of its other end, and of how long the phase of the
    /// fetch that waits for it has lasted.
    fn trace_at(
        &mut self,
        key: Option<FetchKey>,
        connection: ConnectionKey,
        step: impl FnOnce(Peer<'_>, Duration) -> Step<'_>,
    ) {
        let Self { net, fetches, connections, settings, now, .. } = self;
        let Some(connection) = connections.get(connection) else { return };
        let fetch = key.and_then(|key| Some((key, fetches.get(key)?)));
        let took = fetch.map_or(Duration::ZERO, |(_, fetch)| now.since(fetch.phase_began));
        let socket = net.traced_socket(&connection.stream);
        let peer = connection.peer(&settings.sockets);
        net.trace(&event(*now, fetch, socket, step(peer, took)));
    }
}

/// From a request that is sent to the end.
impl<N: Net> Reactor<N> {
    /// `began`: when it began to be sent.
    pub(super) fn trace_sent(&mut self, key: ExchangeKey, began: Moment) {
        if N::IS_TRACED {
            let Self { net, fetches, exchanges, connections, settings, now, .. } = self;
            let Some(exchange) = exchanges.get(key) else { return };
            let Some(fetch) = exchange.fetch.and_then(|key| Some((key, fetches.get(key)?))) else {
                return;
            };
            let shared = || encoded(&fetch.1.request, fetch.1.decodes(settings));
            let encoded = exchange.own.as_deref().unwrap_or_else(shared);
            let head = SentHead::of(&encoded.bytes);
            let (body, took) = (&fetch.1.request.parts.body, now.since(began));
            let body_bytes = if body.is_none() { Some(0) } else { body.length() };
            let socket = connections.get(exchange.connection);
            let socket = socket.and_then(|it| net.traced_socket(&it.stream));
            net.trace(&event(*now, Some(fetch), socket, Step::Sent { head, body_bytes, took }));
        }
    }

    pub(super) fn trace_head(&mut self, key: FetchKey, head: &Head, whole: Focus) {
        if N::IS_TRACED {
            let Self { net, fetches, connections, read_buffer, heads, now, .. } = self;
            let Some(fetch) = fetches.get(key) else { return };
            let Some(connection) = connections.get(whole.connection) else { return };
            let bytes = whole.bytes(read_buffer, connection);
            let Head { status, minor, reason, .. } = *head;
            let line = StatusLine { status, minor, reason, removed: ContentCoding::Identity };
            let head = response::Head { bytes, fields: heads.fields(), line };
            let socket = net.traced_socket(&connection.stream);
            let step = Step::Head { head, took: fetch.stats.timings.first_byte };
            net.trace(&event(*now, Some((key, fetch)), socket, step));
        }
    }

    pub(super) fn trace_body(&mut self, key: FetchKey, connection: ConnectionKey) {
        if N::IS_TRACED {
            let Self { net, fetches, connections, now, .. } = self;
            let Some(fetch) = fetches.get(key) else { return };
            let socket = connections.get(connection);
            let socket = socket.and_then(|it| net.traced_socket(&it.stream));
            let took = now.since(fetch.phase_began);
            let response::Stats { wire_bytes, body_bytes, .. } = fetch.stats;
            let step = Step::Body { wire_bytes, body_bytes, took };
            net.trace(&event(*now, Some((key, fetch)), socket, step));
        }
    }

    /// The fetch has its next request already, and has not counted the redirect.
    pub(super) fn trace_redirected(&mut self, key: FetchKey, status: u16) {
        if N::IS_TRACED {
            self.trace_of(key, |fetch| Step::Redirected { status, to: fetch.request.url() });
        }
    }

    pub(super) fn trace_retried<'a>(
        &'a mut self,
        key: FetchKey,
        because: Because<'a>,
        after: Duration,
    ) {
        if N::IS_TRACED {
            self.trace_of(key, |_| Step::Retried { because, after });
        }
    }

    pub(super) fn trace_ended(&mut self, key: FetchKey) {
        if N::IS_TRACED {
            self.trace_of(key, |fetch| {
                let error = match &fetch.stage {
                    Stage::Ended(Outcome::Failed(error)) => Some(error),
                    _ => None,
                };
                Step::Ended { error, stats: &fetch.stats }
            });
        }
    }

    pub(super) fn trace_cancelled(&mut self, key: FetchKey) {
        if N::IS_TRACED {
            // Where it has ended, that was told.
            if self.fetches.get(key).is_some_and(|fetch| !fetch.has_ended()) {
                self.trace_of(key, |_| Step::Cancelled);
            }
        }
    }

    pub(super) fn trace_kept(&mut self, connection: ConnectionKey) {
        if N::IS_TRACED {
            self.trace_at(None, connection, |peer, _| Step::Kept { peer });
        }
    }

    /// The connection was taken out of the arena, and its socket is still open.
    pub(super) fn trace_closed(&mut self, connection: &Connection<N::Stream>, reason: CloseReason) {
        if N::IS_TRACED {
            let socket = self.net.traced_socket(&connection.stream);
            self.net.trace(&event(self.now, None, socket, Step::Closed { reason }));
        }
    }
}

impl<S> Connection<S> {
    /// The other end, where the route does not say by what sockets it is reached: by `sockets`.
    fn peer<'a>(&'a self, sockets: &'a SocketSettings) -> Peer<'a> {
        match self.remote {
            Some(address) => Peer::Address(address),
            None => {
                let path = self.route.sockets_or(sockets).unix_socket();
                Peer::Unix(path.unwrap_or("".as_ref()))
            }
        }
    }
}

fn event<'a>(
    now: Moment,
    fetch: Option<(FetchKey, &Fetch)>,
    socket: Option<TracedSocket>,
    step: Step<'a>,
) -> TraceEvent<'a> {
    TraceEvent {
        at: Duration::from_micros(now.micros()),
        // What a second exchange does is told of the fetch that it is for.
        fetch: fetch.map(|(key, fetch)| match fetch.twin {
            Twin::For(first) => FetchId::of(first),
            _ => FetchId::of(key),
        }),
        tag: fetch.map_or(0, |(_, fetch)| fetch.request.tag),
        attempt: fetch.map_or(0, |(_, fetch)| fetch.stats.attempts),
        hop: fetch.map_or(0, |(_, fetch)| fetch.stats.redirects),
        socket,
        step,
    }
}
