//! Floor 1. One lookup of one name: both families, all servers, the search list.
//!
//! In: the configuration, the name, what the servers send, the time. Out: queries to send, one
//! deadline, and at the end a [`Verdict`]. No socket, no clock and no generator in here; whoever
//! drives it uses a socket of its own for each query, so that a server is known by its socket.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::config::Config;
use super::message::{self, Answer, Extension, Fault, Kind};
use super::{DnsError, interleave};
use crate::kit::machine::Machine;
use crate::kit::moment::Moment;
use crate::kit::work;

/// A lookup under way.
#[derive(Debug)]
pub(crate) struct Lookup {
    config: Arc<Config>,
    /// The names to ask for, the current one last.
    candidates: Vec<Box<str>>,
    first_server: usize,
    a: Query,
    aaaa: Query,
    /// Until when the second family is waited for, once the first has addresses.
    patience: Moment,
    earlier: Earlier,
    /// Each server asked, in order.
    asked: Vec<SocketAddr>,
    verdict: Option<Verdict>,
}

/// How a lookup ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Verdict {
    /// At least one address, the families alternating from IPv6.
    pub(crate) result: Result<Vec<IpAddr>, DnsError>,
    /// How long that holds.
    pub(crate) ttl: Duration,
}

/// A query that wants to be sent, from a socket of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Transmit {
    pub(crate) kind: Kind,
    pub(crate) server: SocketAddr,
    pub(crate) transport: Transport,
}

/// What carries a query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

impl Lookup {
    /// Begins to look for `host`, which must be askable. `draw` is any random number.
    pub(crate) fn new(config: &Arc<Config>, host: &str, draw: u16) -> Self {
        let mut candidates = config.candidates(host);
        candidates.reverse();
        let first_server = if config.rotate { usize::from(draw) } else { 0 };
        let mut lookup = Self {
            config: Arc::clone(config),
            candidates,
            first_server,
            a: Query::Settled(Finding::NotAsked),
            aaaa: Query::Settled(Finding::NotAsked),
            patience: Moment::NEVER,
            earlier: Earlier::default(),
            asked: Vec::new(),
            verdict: None,
        };
        lookup.ask_candidate();
        lookup
    }

    /// The next query to send. It stays the next one until [`Self::send`] or
    /// [`Self::receive_failure`] is called for it.
    pub(crate) fn next_transmit(&self) -> Option<Transmit> {
        if self.verdict.is_some() {
            return None;
        }
        [Kind::A, Kind::Aaaa].into_iter().find_map(|kind| match self.query(kind) {
            Query::Ready(try_) => {
                Some(Transmit { kind, server: self.server(try_.nth), transport: try_.transport })
            }
            _ => None,
        })
    }

    /// Appends the bytes of the query for `kind` to `out`, and waits for its answer from now on.
    /// `id` is fresh and random for each call.
    pub(crate) fn send(&mut self, kind: Kind, id: u16, now: Moment, out: &mut Vec<u8>) {
        let Query::Ready(try_) = *self.query(kind) else { return };
        let name = self.candidates.last().map_or("", |name| name);
        let begin = out.len();
        let prefix = if try_.transport == Transport::Tcp { FRAME_PREFIX_BYTES } else { 0 };
        out.resize(begin + prefix, 0);
        if !message::query(out, id, name, kind, try_.extension) {
            self.settle(kind, Finding::Failed(DnsError::InvalidName), now);
            return;
        }
        if let Some((head, message)) =
            out.get_mut(begin..).and_then(|bytes| bytes.split_first_chunk_mut())
            && try_.transport == Transport::Tcp
        {
            // A query has at most 12 + 255 + 4 + 11 bytes.
            *head = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
        }
        let server = self.server(try_.nth);
        if !self.asked.contains(&server) {
            self.asked.push(server);
        }
        let until = now.after(self.config.timeout);
        self.query_mut(kind).go(Query::Asked { try_, id, until });
    }

    /// A message came over the socket of the query for `kind`. `false`: it was not an answer to
    /// that query, and the wait goes on.
    pub(crate) fn receive(&mut self, kind: Kind, bytes: &[u8], now: Moment) -> bool {
        let Query::Asked { try_, id, .. } = *self.query(kind) else { return false };
        if self.verdict.is_some() {
            return false;
        }
        let name = self.candidates.last().map_or("", |name| name);
        let Ok(answer) = message::parse(bytes, id, name, kind) else { return false };
        let server = self.server(try_.nth);
        match answer {
            Answer::Addresses { addresses, ttl } => {
                self.settle(kind, Finding::Addresses { addresses, ttl }, now);
            }
            Answer::NameError { ttl } => self.settle(kind, Finding::NameError { ttl }, now),
            Answer::NoData { ttl } => self.settle(kind, Finding::NoData { ttl }, now),
            Answer::Truncated if try_.transport == Transport::Udp => {
                let again = Try { transport: Transport::Tcp, ..try_ };
                self.query_mut(kind).go(Query::Ready(again));
            }
            Answer::Failed(fault) if fault.is_of_edns() && try_.extension == Extension::Edns => {
                let again = Try { extension: Extension::Plain, ..try_ };
                self.query_mut(kind).go(Query::Ready(again));
            }
            Answer::Failed(Fault::Code(rcode)) => {
                self.next_try(kind, DnsError::ServerFailure { server, rcode }, now);
            }
            Answer::Failed(Fault::Malformed) | Answer::Truncated => {
                self.next_try(kind, DnsError::BadAnswer { server }, now);
            }
        }
        true
    }

    /// The query for `kind` could not be sent, or its socket failed.
    pub(crate) fn receive_failure(&mut self, kind: Kind, reason: String, now: Moment) {
        if self.verdict.is_none()
            && let Query::Ready(try_) | Query::Asked { try_, .. } = *self.query(kind)
        {
            let server = self.server(try_.nth);
            self.next_try(kind, DnsError::Unreachable { server, reason }, now);
        }
    }

    /// Gives up what has been waited for long enough.
    pub(crate) fn on_time(&mut self, now: Moment) {
        if self.verdict.is_some() {
            return;
        }
        if self.patience <= now {
            self.conclude();
            return;
        }
        for kind in [Kind::A, Kind::Aaaa] {
            if let Query::Asked { until, .. } = *self.query(kind)
                && until <= now
            {
                let servers = self.asked.clone();
                self.next_try(kind, DnsError::Timeout { servers }, now);
            }
        }
    }

    /// When [`Self::on_time`] has something to do next.
    pub(crate) fn next_deadline(&self) -> Moment {
        if self.verdict.is_some() {
            return Moment::NEVER;
        }
        self.patience.min(self.a.until()).min(self.aaaa.until())
    }

    /// Whether an answer to the query for `kind` is waited for.
    pub(crate) fn is_waiting(&self, kind: Kind) -> bool {
        self.verdict.is_none() && matches!(self.query(kind), Query::Asked { .. })
    }

    /// The end, once: nothing is sent or waited for after it.
    pub(crate) fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    fn query(&self, kind: Kind) -> &Query {
        match kind {
            Kind::A => &self.a,
            Kind::Aaaa => &self.aaaa,
        }
    }

    fn query_mut(&mut self, kind: Kind) -> &mut Query {
        match kind {
            Kind::A => &mut self.a,
            Kind::Aaaa => &mut self.aaaa,
        }
    }

    fn server(&self, nth: u32) -> SocketAddr {
        let servers = &self.config.servers;
        let nth = self.first_server.saturating_add(usize::try_from(nth).unwrap_or(0));
        let at = nth.checked_rem(servers.len()).unwrap_or(0);
        servers.get(at).copied().unwrap_or(([127, 0, 0, 1], super::config::PORT).into())
    }

    /// Asks for the last of the candidates, in both families.
    fn ask_candidate(&mut self) {
        let transport = if self.config.is_tcp_only { Transport::Tcp } else { Transport::Udp };
        let first = Try { nth: 0, transport, extension: Extension::Edns };
        self.patience = Moment::NEVER;
        self.a.go(Query::Ready(first));
        if !self.config.is_ipv4_only {
            self.aaaa.go(Query::Ready(first));
        }
    }

    /// The next server, or the end of this query. A server that answered with a failure is tried
    /// again like one that was silent: the next attempt may find it well.
    fn next_try(&mut self, kind: Kind, error: DnsError, now: Moment) {
        let (Query::Ready(try_) | Query::Asked { try_, .. }) = *self.query(kind) else { return };
        let servers = u32::try_from(self.config.servers.len()).unwrap_or(u32::MAX);
        let tries = self.config.attempts.saturating_mul(servers);
        let nth = try_.nth.saturating_add(1);
        if nth >= tries {
            self.settle(kind, Finding::Failed(error), now);
            return;
        }
        let transport = if self.config.is_tcp_only { Transport::Tcp } else { Transport::Udp };
        let again = Try { nth, transport, extension: Extension::Edns };
        self.query_mut(kind).go(Query::Ready(again));
    }

    fn settle(&mut self, kind: Kind, finding: Finding, now: Moment) {
        self.query_mut(kind).go(Query::Settled(finding));
        let is_found = |query: &Query| matches!(query, Query::Settled(Finding::Addresses { .. }));
        match (&self.a, &self.aaaa) {
            (Query::Settled(_), Query::Settled(_)) => self.conclude(),
            // RFC 8305 §3: a short wait for IPv6, so that it has its chance to be first.
            (a, _) if is_found(a) => self.patience = now.after(RESOLUTION_DELAY),
            // IPv4 is waited for longer, because without it there is no way around an IPv6 that
            // leads nowhere; but not for longer than one lost datagram can be told from a slow
            // server.
            (a, aaaa) if is_found(aaaa) => self.patience = a.first_until(now, &self.config),
            _ => {}
        }
    }

    /// What is known of this candidate is all that will be.
    fn conclude(&mut self) {
        let a = self.a.finding();
        let aaaa = self.aaaa.finding();
        let (mut addresses, mut ttl, mut is_whole) = (Vec::new(), u32::MAX, true);
        for finding in [aaaa, a] {
            match finding {
                Some(Finding::Addresses { addresses: some, ttl: time }) => {
                    addresses.extend_from_slice(some);
                    ttl = ttl.min(*time);
                }
                None | Some(Finding::Failed(_)) => is_whole = false,
                Some(_) => {}
            }
        }
        if !addresses.is_empty() {
            let ttl = if is_whole { ttl } else { ttl.min(PARTIAL_TTL_SECONDS_MAX) };
            let ttl = Duration::from_secs(ttl.into());
            self.verdict = Some(Verdict { result: Ok(interleave(&addresses)), ttl });
            return;
        }
        let absence = Absence::of(a, aaaa);
        let is_last = self.candidates.len() <= 1;
        // A server that cannot be heard would not be heard for the next candidate either, and to
        // take another host's addresses for a reason that passes would be wrong.
        let is_mute = matches!(&absence, Absence::Failed(error)
            if !matches!(error, DnsError::ServerFailure { .. }));
        if is_last || is_mute {
            self.verdict = Some(self.earlier.verdict(absence));
            return;
        }
        self.earlier.add(absence);
        self.candidates.pop();
        self.ask_candidate();
    }
}

/// The query for one family of the current candidate.
#[derive(Debug)]
enum Query {
    /// To be sent.
    Ready(Try),
    /// Sent with this id; given up at `until`.
    Asked { try_: Try, id: u16, until: Moment },
    /// Over.
    Settled(Finding),
}

impl Machine for Query {
    const NAME: &'static str = "DNS query";
    const ARROWS: &'static [(&'static str, &'static str)] = &[
        ("Settled", "Ready"),
        ("Ready", "Asked"),
        ("Ready", "Ready"),
        ("Ready", "Settled"),
        ("Asked", "Ready"),
        ("Asked", "Settled"),
    ];

    fn state(&self) -> &'static str {
        match self {
            Self::Ready(_) => "Ready",
            Self::Asked { .. } => "Asked",
            Self::Settled(_) => "Settled",
        }
    }
}

impl Query {
    fn until(&self) -> Moment {
        match self {
            Self::Asked { until, .. } => *until,
            _ => Moment::NEVER,
        }
    }

    /// When the first try is given up: now, if it is already.
    fn first_until(&self, now: Moment, config: &Config) -> Moment {
        match self {
            Self::Asked { try_: Try { nth: 0, .. }, until, .. } => *until,
            Self::Ready(Try { nth: 0, .. }) => now.after(config.timeout),
            _ => now,
        }
    }

    fn finding(&self) -> Option<&Finding> {
        match self {
            Self::Settled(finding) => Some(finding),
            _ => None,
        }
    }
}

/// Which try this is, and how it is made.
#[derive(Clone, Copy, Debug)]
struct Try {
    nth: u32,
    transport: Transport,
    extension: Extension,
}

/// What was learnt of one family.
#[derive(Debug)]
enum Finding {
    NotAsked,
    Addresses { addresses: Vec<IpAddr>, ttl: u32 },
    NameError { ttl: u32 },
    NoData { ttl: u32 },
    Failed(DnsError),
}

/// What a candidate without addresses comes to.
enum Absence {
    NameError { ttl: u32 },
    NoData { ttl: u32 },
    Failed(DnsError),
}

impl Absence {
    /// A name that does not exist has neither family (RFC 8020); one that a server failed to
    /// answer for may have the other.
    fn of(a: Option<&Finding>, aaaa: Option<&Finding>) -> Self {
        use Finding::{Failed, NameError, NoData};
        match (a, aaaa) {
            (Some(NameError { ttl }), Some(NameError { ttl: other })) => {
                Self::NameError { ttl: *ttl.min(other) }
            }
            (Some(NoData { ttl }), Some(NameError { ttl: other } | NoData { ttl: other }))
            | (Some(NameError { ttl: other }), Some(NoData { ttl })) => {
                Self::NoData { ttl: *ttl.min(other) }
            }
            (Some(NameError { ttl }), _) | (_, Some(NameError { ttl })) => {
                Self::NameError { ttl: *ttl }
            }
            (Some(Failed(error)), _) | (_, Some(Failed(error))) => Self::Failed(error.clone()),
            (Some(NoData { ttl }), _) | (_, Some(NoData { ttl })) => Self::NoData { ttl: *ttl },
            _ => Self::Failed(DnsError::NoAddresses),
        }
    }
}

/// What the candidates before the last one came to.
#[derive(Debug)]
struct Earlier {
    failure: Option<DnsError>,
    is_any_there: bool,
    ttl: u32,
}

impl Default for Earlier {
    fn default() -> Self {
        Self { failure: None, is_any_there: false, ttl: u32::MAX }
    }
}

impl Earlier {
    fn add(&mut self, absence: Absence) {
        match absence {
            Absence::NameError { ttl } => self.ttl = self.ttl.min(ttl),
            Absence::NoData { ttl } => {
                self.is_any_there = true;
                self.ttl = self.ttl.min(ttl);
            }
            Absence::Failed(error) => self.failure = Some(error),
        }
    }

    /// The last candidate decides, unless an earlier one may have addresses after all, or exists.
    fn verdict(&mut self, last: Absence) -> Verdict {
        self.add(last);
        let (error, seconds) = match self.failure.take() {
            Some(error) => (error, FAILURE_TTL_SECONDS),
            None if self.is_any_there => (DnsError::NoAddresses, self.ttl),
            None => (DnsError::NoSuchName, self.ttl),
        };
        Verdict { result: Err(error), ttl: Duration::from_secs(seconds.into()) }
    }
}

/// Messages out of a TCP stream: each is preceded by its length (RFC 1035 §4.2.2).
#[derive(Default, Debug)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    /// Where the first message begins that was not taken.
    start: usize,
}

impl Frames {
    /// Appends what was read. Not more than a message and one read are kept if the messages are
    /// taken after each call.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
            work::count(self.bytes.len());
        }
        work::count(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the next whole message. The bytes behind it stay where they are until more come.
    pub(crate) fn next_message(&mut self) -> Option<Vec<u8>> {
        let (prefix, rest) = self.bytes.get(self.start..)?.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(*prefix));
        let message = rest.get(..length)?.to_vec();
        work::count(length);
        self.start += FRAME_PREFIX_BYTES + length;
        Some(message)
    }
}

/// RFC 8305 §3.
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// How long the addresses of one family are kept where the other did not answer.
const PARTIAL_TTL_SECONDS_MAX: u32 = 30;
/// RFC 9520 §3.2: at least one second. More would outlast the retries of a fetch.
const FAILURE_TTL_SECONDS: u32 = 1;
const FRAME_PREFIX_BYTES: usize = 2;

#[cfg(test)]
mod tests;
