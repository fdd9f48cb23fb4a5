//! Floor 2, where debug assertions are on, and nowhere else. The reactor's books, checked between
//! any two steps: each fetch is in exactly one place, caps hold, what is idle owns no buffer, and
//! every deadline has an entry in the wheel.
//!
//! In goes the reactor as a step has left it; nothing comes out, or a panic that names the law.
//! Nothing is allocated: who is in a list is told by counting, from both ends.

use super::connection::{Connection, ConnectionKey, Phase};
use super::exchange::Exchange;
use super::fetch::{Fetch, FetchKey, Stage};
use super::hedge::Twin;
use super::memory::Flow;
use super::pool::RoomKey;
use super::{Reactor, Timer};
use crate::error::Limit;
use crate::kit::buffer::Carry;
use crate::kit::moment::Moment;
use crate::kit::wheel::TimerId;
use crate::net::Net;

/// How many of a room's kind there are, in such a way that rooms cannot stand in for each other.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Tally {
    count: usize,
    rooms: u64,
}

impl Tally {
    pub(super) fn add(&mut self, room: RoomKey, times: usize) {
        self.count += times;
        let mixed = room.to_bits().wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        self.rooms = self.rooms.wrapping_add(mixed.wrapping_mul(times as u64));
    }
}

/// Who there is of each kind, by their own word.
#[derive(Default)]
struct Census {
    waiting: Tally,
    dialling: Tally,
    slots: Tally,
    new_waiting: usize,
    backing_off: usize,
    ended: usize,
    resolving: usize,
    dials: usize,
    staggers: usize,
    timers: usize,
    weight_bytes: usize,
    heaviest_bytes: usize,
    collected_bytes: usize,
    longest_bytes: usize,
    starving: [usize; 2],
}

impl<N: Net> Reactor<N> {
    /// Checks everything; of a large reactor, after some steps only.
    pub(super) fn audit(&mut self) {
        self.unaudited += ENTRIES_A_STEP;
        if self.unaudited < self.fetches.len() + self.connections.len() {
            return;
        }
        self.unaudited = 0;
        let mut census = Census::default();
        for (key, fetch) in self.fetches.iter() {
            self.audit_stage(&mut census, key, fetch);
            self.audit_fetch(&mut census, key, fetch);
        }
        self.audit_places(&census);
        self.audit_caps(&census);
        self.audit_exchanges();
        let is_twin = |(_, it): &(FetchKey, &Fetch)| matches!(it.twin, Twin::For(_));
        let twins = self.fetches.iter().filter(is_twin).count();
        assert_eq!(self.hedges().under_way, twins, "second exchanges are counted");
        self.audit_connections(&census);
        let starving = self.memory.audit(&mut self.fetches);
        assert_eq!(starving, census.starving, "each that starves is in one list");
    }

    fn audit_stage(&self, census: &mut Census, key: FetchKey, fetch: &Fetch) {
        match &fetch.stage {
            Stage::Waiting => {
                census.waiting.add(fetch.room, 1);
                census.new_waiting += usize::from(fetch.admitted.is_none());
                census.weight_bytes += fetch.weight_bytes;
                census.heaviest_bytes = census.heaviest_bytes.max(fetch.weight_bytes);
            }
            Stage::BackingOff => census.backing_off += 1,
            Stage::Ended(_) => census.ended += 1,
            Stage::Resolving(..) => census.resolving += 1,
            Stage::Dialling(race) => {
                assert!(!race.dials.is_empty(), "who dials has a socket that does");
                census.dials += race.dials.len();
                for dial in &race.dials {
                    let dial = self.connections.get(*dial);
                    let is_own = dial.is_some_and(|dial| dial.phase.opening() == Some(Some(key)));
                    assert!(is_own, "a fetch's dials are for it");
                }
                if let Some(stagger) = race.stagger {
                    census.staggers += self.audit_timer(
                        stagger,
                        Moment::NEVER,
                        |what| matches!(what, Timer::Dial(for_fetch) if for_fetch == key),
                    );
                }
            }
            Stage::Running(exchange) => {
                let exchange = self.exchanges.get(*exchange);
                let is_own = exchange.is_some_and(|exchange| exchange.fetch == Some(key));
                assert!(is_own, "a running fetch's exchange is its own");
            }
        }
        if matches!(fetch.stage, Stage::Resolving(..) | Stage::Dialling(_)) {
            census.dialling.add(fetch.home, 1);
        }
        if matches!(fetch.stage, Stage::Resolving(..) | Stage::Dialling(_) | Stage::Running(_)) {
            census.slots.add(fetch.room, 1);
        } else {
            assert!(!matches!(fetch.flow, Flow::Starved { .. }), "only who has a slot starves");
        }
    }

    fn audit_fetch(&self, census: &mut Census, key: FetchKey, fetch: &Fetch) {
        let collected = fetch.collected_bytes();
        let decoder = match &fetch.stage {
            Stage::Running(exchange) => self.exchanges.get(*exchange),
            _ => None,
        };
        let gathered = decoder.and_then(|exchange| exchange.gathered.as_ref());
        let gathered = gathered.map_or(0, Carry::len);
        let held = collected + gathered + decoder.map_or(0, Exchange::decoder_bytes);
        census.collected_bytes += collected;
        census.longest_bytes = census.longest_bytes.max(held);
        if let Flow::Starved { is_favourable, .. } = fetch.flow {
            census.starving[usize::from(is_favourable)] += 1;
        }
        if !matches!(fetch.stage, Stage::Waiting) {
            assert_eq!(fetch.weight_bytes, 0, "what is admitted has no weight");
        }
        let (next, _) = fetch.deadlines.next();
        if let Some(timer) = fetch.timer {
            assert!(!fetch.has_ended(), "what has ended has no timer");
            let next = if fetch.deadlines.is_pending() { Moment::NEVER } else { next };
            census.timers +=
                self.audit_timer(timer, next, |what| matches!(what, Timer::Fetch(of) if of == key));
        } else if self.due.is_empty() && !fetch.has_ended() {
            assert!(next.is_never() || fetch.deadlines.is_pending(), "a deadline has a timer");
        }
        census.timers += self.audit_twin(key, fetch);
        let backs_off = matches!(fetch.stage, Stage::BackingOff);
        assert_eq!(backs_off, fetch.deadlines.has(Limit::Backoff), "a wait has its end");
    }

    /// Who stands beside a fetch stands for that one, in the same room; entries of the wheel.
    fn audit_twin(&self, key: FetchKey, fetch: &Fetch) -> usize {
        let is_running = matches!(fetch.stage, Stage::Running(_));
        let other = |other| self.fetches.get(other).map(|it| (it.twin, it.room));
        match fetch.twin {
            Twin::None => return 0,
            Twin::Awaited(timer) => {
                assert!(is_running, "who awaits an answer has asked for it");
                let is_its = |what| matches!(what, Timer::Hedge(of) if of == key);
                return self.audit_timer(timer, Moment::NEVER, is_its);
            }
            Twin::Second(second) => {
                assert!(is_running && !fetch.lent, "who has a twin awaits an answer");
                assert_eq!(other(second), Some((Twin::For(key), fetch.room)), "a twin is its own");
            }
            Twin::For(first) => {
                assert_eq!(other(first), Some((Twin::Second(key), fetch.room)), "a twin is one's");
                let waits = matches!(fetch.stage, Stage::Waiting | Stage::BackingOff);
                assert!(!waits && !fetch.has_ended(), "a twin holds a slot");
            }
        }
        0
    }

    /// An entry of the wheel is for what it should be, and is not too late: 1. One that has fired
    /// in this turn, and is not judged yet: 0.
    fn audit_timer(&self, timer: TimerId, by: Moment, is_for: impl Fn(Timer) -> bool) -> usize {
        let Some((at, what)) = self.wheel.entry(timer) else {
            let all_are_judged = self.due.is_empty() && self.late.is_empty();
            assert!(!all_are_judged, "a timer has an entry in the wheel");
            return 0;
        };
        assert!(is_for(what), "a timer's entry is its own");
        assert!(at <= by, "a timer fires in time");
        1
    }

    /// Those who are in a place by its own word, and by theirs, are the same.
    fn audit_places(&mut self, census: &Census) {
        let books = self.pool.audit(&mut self.fetches, !self.due.is_empty());
        assert_eq!(books.waiting, census.waiting, "each that waits is in its origin's list");
        assert_eq!(books.dialling, census.dialling, "each that dials is in its home's list");
        assert_eq!(books.slots, census.slots, "each slot is held by one fetch");
        assert_eq!(self.backing_off, census.backing_off, "those that back off are counted");
        assert_eq!(self.waiting_bytes, census.weight_bytes, "what waits is weighed");
        let fetches = &self.fetches;
        let is_told = |key: &&FetchKey| fetches.get(**key).is_some_and(Fetch::has_ended);
        let told = self.to_tell.iter().filter(is_told).count();
        assert_eq!(told, census.ended, "each end will be told once");
        let asked = self.resolver.audit(|waiter, lookup| {
            let stage = fetches.get(*waiter).map(|fetch| &fetch.stage);
            matches!(stage, Some(Stage::Resolving(own, _)) if *own == lookup)
        });
        assert_eq!(asked, census.resolving, "each that resolves waits for one lookup");
    }

    fn audit_caps(&self, census: &Census) {
        let settings = &self.settings;
        let concurrency = settings.concurrency.max(1);
        assert!(self.pool.in_flight() <= self.pool.cap(), "more are in flight than may be");
        assert!(self.pool.cap() <= concurrency, "the cap is above its setting");
        let window = settings.waiting_requests_max.max(1);
        assert!(census.new_waiting <= window, "more wait than may");
        // A second exchange holds a slot, and nobody was submitted for it.
        let held = self.pool.in_flight() - self.hedges().under_way;
        let all = held + self.pool.waiting() + self.backing_off;
        assert!(all <= window.saturating_add(concurrency), "more wait again than may");
        let is_light = self.waiting_bytes <= settings.waiting_bytes_max;
        let is_one = self.waiting_bytes == census.heaviest_bytes;
        assert!(is_light || is_one, "what waits is too heavy");
        let idle = self.pool.idle_connections();
        assert!(idle <= settings.idle_connections_max, "too many connections are idle");
    }

    fn audit_exchanges(&self) {
        for (key, exchange) in self.exchanges.iter() {
            let Exchange { connection, fetch, .. } = exchange;
            let connection = self.connections.get(*connection);
            let phase = connection.map(|connection| connection.phase);
            let is_own = matches!(phase, Some(Phase::Open { current: Some(own) }) if own == key);
            assert!(is_own, "an exchange's connection is its own");
            if let Some(fetch) = fetch {
                let stage = self.fetches.get(*fetch).map(|fetch| &fetch.stage);
                let is_its = matches!(stage, Some(Stage::Running(own)) if *own == key);
                assert!(is_its, "an exchange's fetch runs by it");
            }
            let is_bounded = connection.is_some_and(|it| !it.deadline.is_never());
            assert!(fetch.is_some() || is_bounded, "a rest is drained only so long");
        }
    }

    fn audit_connections(&mut self, census: &Census) {
        let (mut dials, mut running, mut queued, mut idle, mut kept) = (0, 0, 0, 0, 0);
        let (mut timers, mut lent, mut held_bytes, mut loose_bytes) = (0, 0, 0, 0);
        for (key, connection) in self.connections.iter() {
            dials += usize::from(connection.phase.opening().flatten().is_some());
            queued += usize::from(connection.queued);
            kept += usize::from(connection.idle.is_some());
            let (buffers, bytes) = connection.held();
            (lent, held_bytes) = (lent + buffers, held_bytes + bytes);
            match connection.phase {
                Phase::Open { current: Some(_) } => running += 1,
                Phase::Open { current: None } => {
                    idle += 1;
                    self.audit_idle(key, connection);
                }
                Phase::Closing(_) => unreachable!("what is closed is there no more"),
                Phase::Connecting { .. } | Phase::Tunnelling { .. } | Phase::Handshaking { .. } => {
                    let is_bounded = !connection.is_orphan() || !connection.deadline.is_never();
                    assert!(is_bounded, "who opens for nobody opens only so long");
                }
            }
            if self.fetch_of(key).is_none() {
                loose_bytes += bytes;
            }
            timers += self.audit_connection(key, connection);
        }
        assert_eq!(dials, census.dials, "each dial is in its fetch's race");
        assert_eq!(running, self.exchanges.len(), "each exchange has a connection");
        assert_eq!((idle, kept), self.pool.idle_entries(), "idle connections are listed once");
        let lists = self.again.iter().chain(&self.next_turn);
        let listed = lists.filter(|key| self.connections.get(**key).is_some_and(|it| it.queued));
        assert_eq!(listed.count(), queued, "each that has work left is listed once");
        for gathered in self.exchanges.iter().filter_map(|(_, exchange)| exchange.gathered.as_ref())
        {
            (lent, held_bytes) = (lent + 1, held_bytes + gathered.len());
        }
        let counted = (self.buffers.lent(), self.buffers.held_bytes());
        assert_eq!(counted, (lent, held_bytes), "what waits in lent buffers is counted");
        self.audit_memory(census, loose_bytes);
        let known = census.timers + census.staggers + timers;
        if known != self.wheel.len() {
            // The cap's own: one each time that descriptors were short. And one an origin, at the
            // most, whose pace is kept.
            let others = self.wheel.count(|what| matches!(what, Timer::Cap | Timer::Pace(_)));
            assert_eq!(known + others, self.wheel.len(), "each entry of the wheel is somebody's");
        }
    }

    /// What is idle owns no buffer, but for half a record: one that this turn has not read to its
    /// end, or that follows what was said unasked, for which it is about to be closed.
    fn audit_idle(&self, key: ConnectionKey, connection: &Connection<N::Stream>) {
        let [inbox, cipher, unsent] = [&connection.inbox, &connection.cipher, &connection.unsent];
        assert!(inbox.is_none() && unsent.is_none(), "what is idle owns no buffer");
        let is_looked_at = self.focus.is_some_and(|focus| focus.connection == key);
        let is_excused = connection.queued || is_looked_at;
        assert!(cipher.is_none() || is_excused, "what is idle owns no half of a record");
    }

    fn audit_connection(&self, key: ConnectionKey, connection: &Connection<N::Stream>) -> usize {
        let is_idle = matches!(connection.phase, Phase::Open { current: None });
        if let Some(entry) = connection.idle {
            let is_listed = self.pool.is_listed(entry, key);
            assert_eq!(is_listed, Some(is_idle), "the pool knows which are idle");
        } else {
            assert!(!is_idle, "what is idle has an entry in the pool");
        }
        let is_free = is_idle
            || connection.is_orphan()
            || matches!(connection.phase, Phase::Open { current: Some(exchange) }
                if self.exchanges.get(exchange).is_some_and(|it| it.fetch.is_none()));
        let by = if is_free { connection.deadline } else { Moment::NEVER };
        match connection.timer {
            Some(timer) => self.audit_timer(
                timer,
                by,
                |what| matches!(what, Timer::Connection(of) if of == key),
            ),
            None => {
                assert!(!self.due.is_empty() || by.is_never(), "a deadline has a timer");
                0
            }
        }
    }

    /// One response may be longer than the reserve, where the caller allows that; what is read for
    /// nobody is kept nowhere, but for half a record.
    fn audit_memory(&self, census: &Census, loose_bytes: usize) {
        let collected = self.memory.collected_bytes;
        assert_eq!(collected, census.collected_bytes, "what is collected is counted");
        let decoders = self.exchanges.iter().map(|(_, exchange)| exchange.decoder_bytes());
        assert_eq!(self.memory.decoding_bytes, decoders.sum::<usize>(), "decoders are counted");
        let is_there = |key| self.fetches.contains(key);
        assert!(self.memory.favoured.is_none_or(is_there), "the favoured one is there");
        let held = self.buffered_bytes().saturating_sub(census.longest_bytes + loose_bytes);
        assert!(held <= self.memory.most(), "{held} bytes wait in memory");
    }
}

/// Up to how many fetches and connections everything is checked after each step; beyond, after
/// so many steps that a step costs no more.
const ENTRIES_A_STEP: usize = 32;
