//! Floor 2. The second exchange of a fetch whose answer is late.
//!
//! In goes a fetch whose request was sent; out comes, after a while, a fetch beside it that nobody
//! has submitted, its [`Twin`], which goes the same way to a connection of its own. Whoever has a
//! head first is the answer's: the twin gives its exchange to the fetch, or it vanishes.

use std::collections::HashMap;
use std::time::Duration;

use super::exchange::{Exchange, ExchangeKey};
use super::fetch::{Fetch, FetchKey, Stage};
use super::memory::Flow;
use super::pool::RoomKey;
use super::{Reactor, Timer};
use crate::body::Payload;
use crate::close::CloseReason;
use crate::error::Limit;
use crate::hedge::{Hedge, Hedges};
use crate::kit::machine::Machine;
use crate::kit::moment::Moment;
use crate::kit::wheel::TimerId;
use crate::net::Net;
use crate::origin::{Origin, Prehashed};
use crate::policy::hedge::{Budget, Latencies};
use crate::policy::retry;
use crate::response::{Stats, Timings};

/// What stands beside a fetch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Twin {
    None,
    /// It is sent once more when this entry of the wheel fires.
    Awaited(TimerId),
    /// Another fetch, which has no events, makes the second exchange.
    Second(FetchKey),
    /// It is such a one itself, for this fetch.
    For(FetchKey),
}

/// What there is of this where hedging is on.
pub(super) struct Hedging {
    rule: Hedge,
    budget: Budget,
    by_origin: HashMap<Origin, Latencies, Prehashed>,
    counted: Hedges,
}

impl Hedging {
    pub(super) fn new(rule: Hedge) -> Self {
        let by_origin = HashMap::with_hasher(Prehashed::default());
        Self { rule, budget: Budget::default(), by_origin, counted: Hedges::default() }
    }

    fn note_latency(&mut self, origin: &Origin, took: Duration) {
        if self.rule.fixed().is_some() {
            return;
        }
        if let Some(known) = self.by_origin.get_mut(origin) {
            return known.note(took);
        }
        if self.by_origin.len() >= ORIGINS_MEASURED_MAX {
            self.by_origin.clear();
        }
        let mut latencies = Latencies::new();
        latencies.note(took);
        self.by_origin.insert(origin.clone(), latencies);
    }

    fn delay(&self, origin: &Origin) -> Option<Duration> {
        self.rule.fixed().or_else(|| self.by_origin.get(origin)?.p95())
    }
}

impl<N: Net> Reactor<N> {
    /// How many requests were sent twice: [`Settings::hedge`](crate::Settings::hedge).
    pub fn hedges(&self) -> Hedges {
        self.hedging.as_ref().map_or_else(Hedges::default, |hedging| hedging.counted)
    }

    /// An attempt begins, unless an open circuit ends it: `true`.
    #[cold]
    pub(super) fn is_turned_away(&mut self, key: FetchKey) -> bool {
        if self.is_refused(key) {
            return true;
        }
        if let Some(hedging) = &mut self.hedging
            && self.fetches.get(key).is_some_and(|fetch| fetch.twin == Twin::None)
        {
            hedging.budget.note_attempt();
        }
        false
    }

    /// The request of a fetch was sent. Where it may be sent once more, the wheel will say when.
    #[cold]
    pub(super) fn await_late(&mut self, key: FetchKey) {
        let Some(hedging) = &self.hedging else { return };
        let Some(fetch) = self.fetches.get_mut(key).filter(|it| it.may_be_hedged()) else { return };
        fetch.sent_at = self.now;
        if let Some(delay) = hedging.delay(&fetch.request.parts.route.origin) {
            let timer = self.wheel.insert(self.now.after(delay), Timer::Hedge(key));
            fetch.twin = Twin::Awaited(timer);
        }
    }

    /// No answer has come for long enough.
    pub(super) fn hedge_due(&mut self, key: FetchKey) {
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        // It may be another entry by now, whose time has not come.
        let Twin::Awaited(timer) = fetch.twin else { return };
        if self.wheel.deadline(timer).is_some() {
            return;
        }
        fetch.twin = Twin::None;
        let Stage::Running(exchange) = &fetch.stage else { return };
        let awaits = self.exchanges.get(*exchange).is_some_and(Exchange::awaits_answer);
        let Some(hedging) = &mut self.hedging else { return };
        let is_free = matches!(fetch.flow, Flow::Flowing) && hedging.budget.affords();
        if !awaits || !is_free || !self.pool.admit_beside(fetch.room, self.now) {
            return;
        }
        let second = fetch.second(key, self.now);
        let room = fetch.room;
        match self.fetches.insert(second) {
            Ok(second) => self.hedge(key, second),
            Err(_) => self.pool.release(room),
        }
    }

    fn hedge(&mut self, key: FetchKey, second: FetchKey) {
        if let Some(hedging) = &mut self.hedging {
            hedging.budget.pay();
            hedging.counted.begun += 1;
            hedging.counted.under_way += 1;
        }
        if let Some(fetch) = self.fetches.get_mut(key) {
            fetch.twin = Twin::Second(second);
            fetch.stats.attempts += 1;
        }
        self.begin_attempt(second);
    }

    /// A head has come, which nobody has seen yet. Whose it is from now on; `None`: nobody's, for
    /// the fetch waits for a better one.
    #[cold]
    pub(super) fn first_answered(
        &mut self,
        exchange: ExchangeKey,
        key: FetchKey,
        status: u16,
    ) -> Option<FetchKey> {
        let first = match self.fetches.get(key)?.twin {
            Twin::None | Twin::Awaited(_) | Twin::Second(_) => {
                self.part_from_twin(key);
                key
            }
            Twin::For(_) if retry::is_retryable(status) => {
                self.detach(exchange);
                self.vanish(key);
                return None;
            }
            Twin::For(first) => {
                self.give_exchange(first, key, exchange);
                first
            }
        };
        // However it came: the first exchange has taken as long, or longer.
        let fetch = self.fetches.get_mut(first)?;
        let sent_at = std::mem::replace(&mut fetch.sent_at, Moment::NEVER);
        if let Some(hedging) = self.hedging.as_mut().filter(|_| !sent_at.is_never()) {
            let took = self.now.since(sent_at);
            hedging.note_latency(&fetch.request.parts.route.origin, took);
        }
        Some(first)
    }

    /// The attempt of a fetch has failed. `true`: its twin has sent the request, too, and the fetch
    /// goes on with that; or the fetch was one itself, and is no more.
    #[cold]
    pub(super) fn goes_on_with_twin(&mut self, key: FetchKey) -> bool {
        match self.fetches.get(key).map(|fetch| fetch.twin) {
            Some(Twin::For(_)) => {
                self.vanish(key);
                true
            }
            Some(Twin::Second(second)) => {
                let Some(twin) = self.fetches.get(second) else { return false };
                let Stage::Running(exchange) = &twin.stage else { return false };
                let exchange = *exchange;
                self.give_exchange(key, second, exchange);
                true
            }
            _ => false,
        }
    }

    /// The exchange of a twin becomes its fetch's, and the twin is no more.
    fn give_exchange(&mut self, key: FetchKey, second: FetchKey, exchange: ExchangeKey) {
        self.relieve(second);
        self.relieve(key);
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        let Stage::Running(first) = &fetch.stage else { return };
        let first = *first;
        self.take_exchange_away(first, key, CloseReason::Outrun);
        let twin = self.remove_twin(second);
        if let Some(hedging) = &mut self.hedging {
            hedging.counted.won += 1;
        }
        let (Some(fetch), Some(twin)) = (self.fetches.get_mut(key), twin) else { return };
        fetch.twin = Twin::None;
        fetch.stage.go(Stage::Running(exchange));
        let queued = fetch.stats.timings.queued;
        fetch.stats.timings = Timings { queued, ..twin.stats.timings };
        (fetch.stats.remote, fetch.stats.reused) = (twin.stats.remote, twin.stats.reused);
        fetch.stats.hedged = true;
        (fetch.dialogue, fetch.proxy_dialogue) = (twin.dialogue, twin.proxy_dialogue);
        fetch.phase_began = twin.phase_began;
        fetch.deadlines.clear(Limit::FirstByte);
        fetch.deadlines.clear(Limit::Stall);
        let Some(entry) = self.exchanges.get_mut(exchange) else { return };
        entry.fetch = Some(key);
        let awaits = entry.awaits_answer();
        self.begin_limit(key, Limit::Stall);
        if awaits {
            self.begin_limit(key, Limit::FirstByte);
        }
    }

    /// Ends what stands beside a fetch.
    #[cold]
    pub(super) fn part_from_twin(&mut self, key: FetchKey) {
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        match fetch.twin {
            Twin::None | Twin::For(_) => {}
            Twin::Awaited(timer) => {
                fetch.twin = Twin::None;
                self.wheel.remove(timer);
            }
            Twin::Second(second) => self.vanish(second),
        }
    }

    /// A twin comes to nothing, and nobody is told.
    pub(super) fn vanish(&mut self, second: FetchKey) {
        let Some(twin) = self.fetches.get(second) else { return };
        let Twin::For(key) = twin.twin else { return };
        self.leave_stage(second, CloseReason::Outrun);
        self.remove_second(second);
        if let Some(fetch) = self.fetches.get_mut(key) {
            fetch.twin = Twin::None;
        }
    }

    /// The same for one whose exchange goes on: its slot is free.
    fn remove_twin(&mut self, second: FetchKey) -> Option<Fetch> {
        let room: RoomKey = self.fetches.get(second)?.room;
        self.leave_memory(second);
        self.pool.release(room);
        self.remove_second(second)
    }

    fn remove_second(&mut self, second: FetchKey) -> Option<Fetch> {
        let twin = self.fetches.remove(second)?;
        if let Some(timer) = twin.timer {
            self.wheel.remove(timer);
        }
        if let Some(hedging) = &mut self.hedging {
            hedging.counted.under_way -= 1;
        }
        Some(twin)
    }
}

impl Fetch {
    /// Whether its request, which was sent, may be sent once more: one whose body is in memory, and
    /// that begins no other protocol.
    fn may_be_hedged(&self) -> bool {
        let choices = &self.request.parts.choices;
        self.twin == Twin::None
            && !self.lent
            && !matches!(self.request.parts.body, Payload::Streamed { .. })
            && choices.hedged != Some(false)
            && !choices.upgrade
            && retry::is_idempotent(self.request.method())
    }

    /// A fetch that makes its second exchange. Only what an exchange is told matters of it; its
    /// end is that of the first.
    fn second(&self, key: FetchKey, now: Moment) -> Self {
        Self {
            twin: Twin::For(key),
            hops: self.hops.clone(),
            dialogue: self.dialogue.second(),
            proxy_dialogue: self.proxy_dialogue.second(),
            admitted: self.admitted,
            stats: Stats { attempts: self.stats.attempts, ..Stats::default() },
            ..Self::new(self.request.clone(), self.room, now)
        }
    }
}

/// Origins whose answers are measured; past it, all are measured anew.
const ORIGINS_MEASURED_MAX: usize = 4_096;
