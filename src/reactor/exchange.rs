//! Floor 2. One request and its response on one connection: two halves that run side by side.
//!
//! In go room to write and plaintext that arrived; out come heads and pieces of bodies as places
//! in the buffers, and at the end a connection that is reusable or is not.

use super::Reactor;
use super::connection::{Connection, ConnectionKey, Phase};
use super::decoding::Decoding;
use super::fetch::FetchKey;
use super::uploading::{Upload, body_of};
use crate::body::Payload;
use crate::coding;
use crate::error::{Limit, Phase as ErrorPhase};
use crate::field;
use crate::kit::arena::Key;
use crate::kit::buffer::Carry;
use crate::kit::machine::Machine;
use crate::net::{Net, Readiness};
use crate::proxy::Proxy;
use crate::request::{Encoded, Request};
use crate::wire::http1::body::BodyReader;
use crate::wire::http1::encode::{self, Announced, RequestHead};
use crate::wire::http1::reuse::Facts;
use crate::wire::http1::scan::Scan;

pub(crate) type ExchangeKey = Key<Exchange>;

pub(crate) struct Exchange {
    /// None: the fetch has gone on without this response, and its rest is only drained.
    pub(crate) fetch: Option<FetchKey>,
    pub(crate) connection: ConnectionKey,
    /// What it sends where that is its own, as with cookies; none: what every clone of its request
    /// sends.
    pub(super) own: Option<Box<Encoded>>,
    pub(super) sending: Sending,
    pub(super) receiving: Receiving,
    pub(super) decoding: Decoding,
    /// What has come of a collected body of which nobody knows how long it will be.
    pub(super) gathered: Option<Carry>,
    /// Something of the response has arrived.
    pub(crate) is_answered: bool,
    pub(super) interim_responses: usize,
    pub(super) asks_close: bool,
    /// The server sent something before the request was.
    pub(super) spoke_early: bool,
    /// What the head told of reuse.
    pub(super) facts: Option<Facts>,
    pub(super) drained_bytes: usize,
}

/// The half that writes.
#[derive(Debug)]
pub(crate) enum Sending {
    /// The head, and a small body with it.
    Head { sent: usize },
    /// A body too large to be written with the head.
    Body { sent: usize },
    /// The head is sent, and the server's word on the body is waited for.
    AwaitingContinue,
    /// A body that comes piece by piece.
    Streaming(Box<Upload>),
    /// The server wants no more of the body: it has answered.
    Stopped,
    /// All of the request is sent.
    Done,
    /// What another protocol says behind it, too: our half of the connection is closed.
    Closed,
}

/// The half that reads.
#[derive(Debug)]
pub(crate) enum Receiving {
    /// A head that was found to be partial is scanned for its end before it is parsed again.
    Head {
        scan: Option<Scan>,
    },
    Body(BodyReader),
    Done,
}

impl Machine for Sending {
    const NAME: &'static str = "Sending";
    const ARROWS: &'static [(&'static str, &'static str)] = &[
        ("Head", "Head"),
        ("Head", "Body"),
        ("Head", "AwaitingContinue"),
        ("Head", "Streaming"),
        ("Head", "Done"),
        ("Body", "Body"),
        ("Body", "Done"),
        ("AwaitingContinue", "Body"),
        ("AwaitingContinue", "Streaming"),
        ("AwaitingContinue", "Stopped"),
        ("Streaming", "Done"),
        ("Streaming", "Stopped"),
        ("Streaming", "Closed"),
        ("Done", "Streaming"),
    ];

    fn state(&self) -> &'static str {
        match self {
            Self::Head { .. } => "Head",
            Self::Body { .. } => "Body",
            Self::AwaitingContinue => "AwaitingContinue",
            Self::Streaming(_) => "Streaming",
            Self::Stopped => "Stopped",
            Self::Done => "Done",
            Self::Closed => "Closed",
        }
    }
}

impl Machine for Receiving {
    const NAME: &'static str = "Receiving";
    const ARROWS: &'static [(&'static str, &'static str)] =
        &[("Head", "Head"), ("Head", "Body"), ("Body", "Done")];

    fn state(&self) -> &'static str {
        match self {
            Self::Head { .. } => "Head",
            Self::Body(_) => "Body",
            Self::Done => "Done",
        }
    }
}

impl Exchange {
    fn new(
        fetch: FetchKey,
        connection: ConnectionKey,
        own: Option<Box<Encoded>>,
        asks_close: bool,
    ) -> Self {
        Self {
            fetch: Some(fetch),
            connection,
            own,
            sending: Sending::Head { sent: 0 },
            receiving: Receiving::Head { scan: None },
            decoding: Decoding::Plain,
            gathered: None,
            is_answered: false,
            interim_responses: 0,
            asks_close,
            spoke_early: false,
            facts: None,
            drained_bytes: 0,
        }
    }

    /// The request is sent, and nothing of the response has come.
    pub(crate) fn awaits_answer(&self) -> bool {
        matches!(self.sending, Sending::Done) && !self.is_answered
    }

    /// It has a kept connection that has taken nothing of the request yet. What the server says
    /// there is not for it: it is what makes an idle connection unfit.
    pub(super) fn is_unsent<S>(&self, connection: &Connection<S>) -> bool {
        let has_begun = !matches!(self.sending, Sending::Head { sent: 0 });
        connection.was_kept() && !(has_begun && connection.has_written)
    }

    /// All of the request is written, and what comes behind it is not part of it.
    pub(super) fn has_sent_request(&self) -> bool {
        match &self.sending {
            Sending::Done | Sending::Closed => true,
            Sending::Streaming(upload) => upload.is_switched(),
            _ => false,
        }
    }

    /// Its body is sent piece by piece.
    pub(super) fn streams(&self) -> bool {
        matches!(self.sending, Sending::Streaming(_))
    }

    /// A head was begun whose end has not arrived.
    pub(crate) fn has_partial_head(&self) -> bool {
        matches!(self.receiving, Receiving::Head { scan: Some(_) })
    }

    /// Where it is, for an error.
    pub(crate) fn phase(&self) -> ErrorPhase {
        match (&self.receiving, &self.sending) {
            (Receiving::Body(_) | Receiving::Done, _) => ErrorPhase::Body,
            (Receiving::Head { .. }, Sending::Done) => ErrorPhase::Head,
            (Receiving::Head { .. }, _) => ErrorPhase::Send,
        }
    }
}

/// Sending, and the exchange's end.
impl<N: Net> Reactor<N> {
    /// An exchange is over, and off its connection, which may then carry another or be closed.
    pub(super) fn end_exchange(&mut self, key: ExchangeKey) {
        self.give_gathered(key);
        let Some(exchange) = self.exchanges.get(key) else { return };
        self.memory.decoding_bytes -= exchange.decoder_bytes();
        if let Some(connection) = self.connections.get_mut(exchange.connection) {
            connection.phase.go(Phase::Open { current: None });
        }
        self.exchanges.discard(key);
    }

    /// Begins an exchange of a fetch that holds a slot, on an open connection without one.
    pub(super) fn begin_exchange(&mut self, fetch_key: FetchKey, connection_key: ConnectionKey) {
        let now = self.now;
        let own = self.with_session(fetch_key);
        let Some(fetch) = self.fetches.get_mut(fetch_key) else { return };
        let Some(connection) = self.connections.get_mut(connection_key) else { return };
        let decodes = fetch.decodes(&self.settings);
        let encoded = own.as_deref().unwrap_or_else(|| encoded(&fetch.request, decodes));
        let asks_close = encoded.asks_close;
        let exchange = Exchange::new(fetch_key, connection_key, own, asks_close);
        let Ok(key) = self.exchanges.insert(exchange) else {
            debug_assert!(false, "the slots bound the exchanges");
            return;
        };
        fetch.stats.remote = connection.remote;
        fetch.stats.reused = connection.served > 0;
        fetch.phase_began = now;
        for limit in [Limit::Dns, Limit::Connect, Limit::Proxy, Limit::Tls] {
            fetch.deadlines.clear(limit);
        }
        fetch.stage.go(super::fetch::Stage::Running(key));
        connection.served = connection.served.saturating_add(1);
        connection.has_written = false;
        connection.phase.go(Phase::Open { current: Some(key) });
        if fetch.begin_limit(Limit::Stall) {
            self.arm_soon(fetch_key);
        }
        self.send(key);
    }

    /// What may be written at once; `None`: nothing, for want of memory. Over TLS what a socket
    /// does not take waits here.
    fn room_to_send(&mut self, key: ExchangeKey) -> Option<usize> {
        let exchange = self.exchanges.get(key)?;
        let connection = exchange.connection;
        let is_done = matches!(exchange.sending, Sending::Done);
        if is_done || self.connections.get(connection)?.tls.is_none() {
            return Some(usize::MAX);
        }
        Some(self.window(connection, SEAL_BYTES_MAX)).filter(|room| *room > 0)
    }

    /// Writes as much of the request as the socket takes.
    pub(super) fn send(&mut self, key: ExchangeKey) {
        loop {
            let Some(room) = self.room_to_send(key) else { return };
            let Some(exchange) = self.exchanges.get_mut(key) else { return };
            let Some(fetch) = exchange.fetch.and_then(|fetch| self.fetches.get_mut(fetch)) else {
                return;
            };
            let Some(connection) = self.connections.get_mut(exchange.connection) else { return };
            let may_speak =
                connection.ready & Readiness::READABLE != 0 || self.ready_taken < self.ready.len();
            if may_speak && exchange.is_unsent(connection) {
                // It may have died meanwhile: that is found out first. Where a poll tells of each
                // way by an event of its own, another of this one may say so.
                let connection = exchange.connection;
                return self.queue(connection);
            }
            // A server that speaks before it is asked may speak again: what it says then must not
            // be taken for the answer to another request.
            exchange.spoke_early |= matches!(exchange.sending, Sending::Head { sent: 0 })
                && connection.ready & Readiness::READABLE != 0;
            let decodes = fetch.decodes(&self.settings);
            let encoded =
                exchange.own.as_deref().unwrap_or_else(|| encoded(&fetch.request, decodes));
            let unsent = match exchange.sending {
                Sending::Head { sent } => encoded.bytes.get(sent..),
                Sending::Body { sent } => fetch.request.parts.body.bytes().get(sent..),
                Sending::Done => return,
                Sending::Streaming(_) => return self.stream(key),
                Sending::AwaitingContinue | Sending::Stopped | Sending::Closed => return,
            };
            let unsent = unsent.unwrap_or_default();
            let Self { net, buffers, sealed, .. } = self;
            let now = unsent.get(..room).unwrap_or(unsent);
            let written = match connection.write(net, buffers, sealed, now) {
                Ok(0) if !unsent.is_empty() => return,
                Ok(written) => written,
                Err(error) => {
                    let connection = exchange.connection;
                    return self.write_failed(connection, error);
                }
            };
            let is_all = written == unsent.len();
            let next = match exchange.sending {
                Sending::Head { .. } if is_all && encoded.body_follows => body_of(&fetch.request),
                _ if is_all => Sending::Done,
                Sending::Head { sent } => Sending::Head { sent: sent + written },
                Sending::Body { sent } => Sending::Body { sent: sent + written },
                _ => return,
            };
            exchange.sending.go(next);
            fetch.deadlines.progress(self.now);
            match exchange.sending {
                Sending::Done => return self.sent(key),
                Sending::AwaitingContinue => return self.await_word(key),
                _ => {}
            }
        }
    }

    /// All of the request is written: the answer is waited for.
    pub(super) fn sent(&mut self, key: ExchangeKey) {
        let Some(exchange) = self.exchanges.get(key) else { return };
        let Some(fetch_key) = exchange.fetch else { return };
        let is_answered = exchange.is_answered;
        let Some(fetch) = self.fetches.get_mut(fetch_key) else { return };
        let began = std::mem::replace(&mut fetch.phase_began, self.now);
        if !is_answered {
            if fetch.begin_limit(Limit::FirstByte) {
                self.arm_soon(fetch_key);
            }
            if self.has_extras {
                self.await_late(fetch_key);
            }
        }
        self.trace_sent(key, began);
    }
}

/// Encodes a request at its first sending; its clones share the result. `decodes`: codings are
/// asked for.
pub(crate) fn encoded(request: &Request, decodes: bool) -> &Encoded {
    request.parts.encoded[usize::from(decodes)].get_or_init(|| {
        let headers = request.parts.headers.iter().map(|(name, value)| (&**name, &**value));
        encode(request, &headers, decodes)
    })
}

/// Encodes a request with these headers, and what a proxy needs to hand it on.
pub(super) fn encode<'a, H>(request: &'a Request, own: &H, decodes: bool) -> Encoded
where
    H: Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
{
    let parts = &*request.parts;
    let host = parts.route.origin.authority();
    let forwarder = parts.route.forwarder();
    let base = forwarder.map_or_else(String::new, |_| format!("http://{host}"));
    let asks = forwarder.and_then(Proxy::authorization);
    let asks = asks.map(|value| (b"Proxy-Authorization".as_slice(), value.as_bytes()));
    let is_free = |(name, _): &(&[u8], &[u8])| {
        !own.clone().any(|(given, _)| given.eq_ignore_ascii_case(name))
    };
    let expects = request.asks_to_continue();
    let expect = expects.then_some((b"Expect".as_slice(), b"100-continue".as_slice()));
    let mut headers = asks.filter(is_free).into_iter().chain(own.clone()).chain(expect);
    let mut bytes = Vec::new();
    encode::head(
        &mut bytes,
        &RequestHead {
            method: parts.method.as_str(),
            base: base.as_bytes(),
            target: request.target().as_bytes(),
            host: host.as_bytes(),
            headers: headers.clone(),
            accept_encoding: if decodes { coding::ACCEPTED } else { "" },
            body: match parts.body.length() {
                _ if parts.body.is_none() => Announced::Nothing,
                Some(length) => Announced::Length(length),
                None => Announced::Chunked,
            },
        },
    );
    let body = parts.body.bytes();
    let is_streamed = matches!(&parts.body, Payload::Streamed { length, .. } if *length != Some(0));
    let body_follows = is_streamed || expects || body.len() > BODY_BYTES_JOINED_MAX;
    if !body_follows {
        bytes.extend_from_slice(body);
    }
    let asks_close = headers.any(|(name, value)| field::asks_close(name, value));
    Encoded { bytes: bytes.into(), body_follows, asks_close }
}

/// Bodies up to this are written with the head, in one call; curl's send buffer is as large.
const BODY_BYTES_JOINED_MAX: usize = 64 << 10;
/// Plaintext that is sealed before the socket is asked to take it.
const SEAL_BYTES_MAX: usize = 64 << 10;
