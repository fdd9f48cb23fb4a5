//! Runs a reactor over real sockets and writes down what it tells about each fetch.
//!
//! Every event is held against the order that is promised: one head before any piece, no empty
//! piece, the tag on each, one end and nothing after it, nothing at all after a cancel.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::time::Duration;

use whippet::url::Url;
use whippet::{
    Error, Event, FetchId, Hop, Kind, Reactor, Request, Response, Roots, Settings, Stats,
    TlsSettings,
};

use crate::support::ca_der;

pub(crate) struct Run {
    pub(crate) reactor: Reactor,
    fetches: BTreeMap<FetchId, Told>,
    /// Paused as soon as this much of the body was told.
    pause_at: BTreeMap<FetchId, usize>,
}

/// What was told about one fetch so far.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) tag: u64,
    pub(crate) status: Option<u16>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) url: Option<Url>,
    pub(crate) redirects: Vec<Hop>,
    pub(crate) body: Vec<u8>,
    pub(crate) pieces: usize,
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
    pub(crate) stats: Stats,
    /// The answer, or what there was of it.
    pub(crate) response: Option<Response>,
    pub(crate) error: Option<Error>,
    pub(crate) end: Option<End>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Done,
    Failed,
    Cancelled,
}

impl Run {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// With settings changed, and the authority of the tests trusted.
    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        let tls = TlsSettings::new().with_roots(Roots::OnlyAdded).add_ca_der(ca_der().to_vec());
        settings.tls = tls.into();
        change(&mut settings);
        let reactor = Reactor::new(settings).unwrap();
        Self { reactor, fetches: BTreeMap::new(), pause_at: BTreeMap::new() }
    }

    pub(crate) fn submit(&mut self, request: Request) -> FetchId {
        let told = Told { tag: request.tag_value(), ..Told::default() };
        let id = self.reactor.submit(request).unwrap();
        assert!(self.fetches.insert(id, told).is_none(), "an id was given twice");
        id
    }

    /// Pauses the fetch at the first event with at least `bytes` of body told before and with it.
    pub(crate) fn pause_at(&mut self, id: FetchId, bytes: usize) {
        self.pause_at.insert(id, bytes);
    }

    pub(crate) fn cancel(&mut self, id: FetchId) -> bool {
        let cancelled = self.reactor.cancel(id);
        if cancelled {
            self.fetches.get_mut(&id).unwrap().end = Some(End::Cancelled);
        }
        cancelled
    }

    /// One turn: at most `timeout` of sleep, then everything that is told. How many events.
    pub(crate) fn turn(&mut self, timeout: Duration) -> usize {
        self.reactor.wait(Some(timeout)).unwrap();
        self.drain()
    }

    /// A turn without sleep.
    pub(crate) fn poll(&mut self) -> usize {
        self.turn(Duration::ZERO)
    }

    pub(crate) fn drain(&mut self) -> usize {
        let mut events = 0;
        while self.step().is_some() {
            events += 1;
        }
        events
    }

    /// Takes one event of this turn.
    pub(crate) fn step(&mut self) -> Option<FetchId> {
        let id = note(&mut self.fetches, self.reactor.next_event()?);
        let told = self.fetches.get(&id).unwrap();
        let due = self.pause_at.get(&id).is_some_and(|&at| told.body.len() >= at);
        if due {
            self.pause_at.remove(&id);
            self.reactor.pause(id);
        }
        Some(id)
    }

    pub(crate) fn until(&mut self, reached: impl Fn(&Self) -> bool) {
        let mut quiet = 0;
        while !reached(self) {
            quiet = if self.turn(QUIET_TURN) > 0 { 0 } else { quiet + 1 };
            assert!(quiet < QUIET_TURNS_MAX, "nothing happens: {:?}", self.reactor);
        }
    }

    pub(crate) fn until_ended(&mut self, id: FetchId) -> &Told {
        self.until(|run| run.told(id).end.is_some());
        self.told(id)
    }

    /// Until every fetch has ended. Then none is pending, in flight or waiting.
    pub(crate) fn finish(&mut self) {
        self.until(|run| run.reactor.pending() == 0);
        assert!(self.fetches.values().all(|told| told.end.is_some()));
        assert_eq!((self.reactor.in_flight(), self.reactor.waiting()), (0, 0));
    }

    /// Submits one and waits for its end.
    pub(crate) fn fetch(&mut self, request: Request) -> Told {
        let id = self.submit(request);
        self.until_ended(id);
        self.fetches.remove(&id).unwrap()
    }

    pub(crate) fn get(&mut self, url: &str) -> Told {
        self.fetch(Request::get(url).unwrap())
    }

    /// The same, collected.
    pub(crate) fn collect(&mut self, url: &str) -> Told {
        self.fetch(Request::get(url).unwrap().collect(true))
    }

    pub(crate) fn told(&self, id: FetchId) -> &Told {
        &self.fetches[&id]
    }
}

impl Told {
    /// The answer of a fetch that must have had one: status and body, streamed or collected.
    pub(crate) fn answer(&self) -> (u16, &[u8]) {
        assert_eq!(self.end, Some(End::Done), "{self:?}");
        match &self.response {
            Some(response) => (response.status().as_u16(), response.body()),
            None => (self.status.unwrap(), &self.body),
        }
    }

    /// The kind of failure of a fetch that must have failed.
    pub(crate) fn kind(&self) -> Kind {
        assert_eq!(self.end, Some(End::Failed), "{self:?}");
        self.error.as_ref().unwrap().kind()
    }
}

fn note(fetches: &mut BTreeMap<FetchId, Told>, event: Event<'_>) -> FetchId {
    let owned = |(name, value): (&str, &[u8])| (name.to_owned(), value.to_vec());
    let (id, tag) = match &event {
        Event::Head { id, tag, .. }
        | Event::Body { id, tag, .. }
        | Event::Done { id, tag, .. }
        | Event::Failed { id, tag, .. } => (*id, *tag),
        other => panic!("an event of no known kind: {other:?}"),
    };
    let told = fetches.get_mut(&id).expect("a fetch that was submitted");
    assert_eq!(told.end, None, "told after its end");
    assert_eq!(told.tag, tag);
    match event {
        Event::Head { head, url, redirects, .. } => {
            assert_eq!(told.status, None, "two heads");
            told.status = Some(head.status().as_u16());
            told.headers = head.headers().map(owned).collect();
            told.url = Some(url.clone());
            told.redirects = redirects.to_vec();
        }
        Event::Body { chunk, .. } => {
            assert!(told.status.is_some(), "a body before its head");
            assert!(!chunk.is_empty());
            told.body.extend_from_slice(chunk);
            told.pieces += 1;
        }
        Event::Done { stats, trailers, response, .. } => {
            assert!(told.status.is_some() != response.is_some(), "neither or both");
            let length = response.as_ref().map_or(told.body.len(), |r| r.body().len());
            assert_eq!(stats.body_bytes, length as u64);
            told.trailers = trailers.map(owned).collect();
            told.stats = stats;
            told.response = response;
            told.end = Some(End::Done);
        }
        Event::Failed { error, stats, partial, .. } => {
            assert_eq!(error.attempts(), stats.attempts);
            assert!(!error.to_string().contains('\n'));
            told.error = Some(error);
            told.stats = stats;
            told.response = partial;
            told.end = Some(End::Failed);
        }
        other => panic!("an event of no known kind: {other:?}"),
    }
    id
}

/// Bytes without a period that a buffer's size could hide.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length.next_multiple_of(NOISE_PERIOD));
    while bytes.len() < length.min(NOISE_PERIOD) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length.min(NOISE_PERIOD));
    while bytes.len() < length {
        bytes.extend_from_within(..NOISE_PERIOD.min(length - bytes.len()));
    }
    bytes
}

/// Equality that does not print megabytes.
#[track_caller]
pub(crate) fn assert_same(got: &[u8], expected: &[u8]) {
    assert_eq!(got.len(), expected.len(), "lengths");
    if got != expected {
        let at = got.iter().zip(expected).position(|(a, b)| a != b);
        panic!("they differ from byte {at:?} on");
    }
}

/// A prime, so that no buffer's size divides it.
const NOISE_PERIOD: usize = 1_000_003;
const QUIET_TURN: Duration = Duration::from_millis(10);
/// A minute without an event.
const QUIET_TURNS_MAX: usize = 6_000;
