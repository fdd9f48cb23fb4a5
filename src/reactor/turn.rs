//! Floor 2. One turn: the order in which pieces of work are done, and what they come to.
//!
//! In go the events of a poll and the timers that fired; out comes one [`Event`] at a time, and at
//! last nothing, when all that is left has to wait for the next poll.

use super::connection::ConnectionKey;
use super::event::{Event, FetchId, Happening};
use super::fetch::{Fetch, FetchKey};
use super::resolver::Resolver;
use super::{Reactor, Step, Timer};
use crate::kit::moment::Moment;
use crate::net::{Net, Readiness, Token};
use crate::response::Head;

impl<N: Net> Reactor<N> {
    /// One piece of work, in this order: what is to be told, what was read, what is ready, what
    /// is left of it, names, limits, new attempts, and at last second ones. So an idle connection
    /// is handed out only after every event of this turn was looked at.
    pub(super) fn step(&mut self) -> Step {
        if let Some(key) = self.to_tell.pop_front() {
            let has_ended = self.fetches.get(key).is_some_and(Fetch::has_ended);
            return if has_ended {
                Step::Happened(Happening::Ended { fetch: key })
            } else {
                // One that was cancelled meanwhile has no event.
                self.tell_writable(key)
            };
        }
        if let Some(focus) = self.focus.take() {
            return self.consume(focus);
        }
        if let Some(event) = self.ready.get(self.ready_taken).copied() {
            self.ready_taken += 1;
            self.dispatch(event);
            return Step::Worked;
        }
        if let Some(key) = self.again.pop_front() {
            self.work_on(key);
            return Step::Worked;
        }
        if self.feed() {
            return Step::Worked;
        }
        if std::mem::take(&mut self.resolver_is_due) {
            self.resolver.on_time(&mut self.net, self.now);
            return Step::Worked;
        }
        if let Some(finished) = self.resolver.next_finished() {
            self.resolved(finished);
            return Step::Worked;
        }
        for _ in 0..self.resolver.take_sockets_missing() {
            self.spare_descriptor();
        }
        if let Some(timer) = self.due.pop_front() {
            self.fire(timer);
            return Step::Worked;
        }
        if self.full_polls > 0 && self.full_polls < FULL_POLLS_MAX {
            // An idle connection may have an event that was not taken yet.
            return Step::Over;
        }
        if self.hand_over_idle() {
            return Step::Worked;
        }
        if self.admissions_left > 0
            && let Some(key) = self.next_admission()
        {
            self.admissions_left -= 1;
            self.begin_attempt(key);
            return Step::Worked;
        }
        if let Some(key) = self.late.pop_front() {
            // Who could have a slot in this turn has it by now.
            self.hedge_due(key);
            return Step::Worked;
        }
        Step::Over
    }

    fn dispatch(&mut self, event: Readiness) {
        if event.token == Token::WAKER {
            self.resolver.system_answers(&mut self.net, self.now);
        } else if Resolver::<N, FetchKey>::owns(event.token) {
            self.resolver.receive(&mut self.net, event, self.now);
        } else if let Some(key) = ConnectionKey::from_bits(event.token.0) {
            self.receive_readiness(key, event);
        }
    }

    pub(super) fn read_clock(&mut self) {
        self.now = self.now.max(Moment::from_elapsed(self.net.now()));
    }

    /// Takes what the wheel has due. Limits of whole fetches fire before this turn's events, all
    /// others after them: what has arrived in time counts.
    pub(super) fn take_due(&mut self) {
        self.resolver_is_due = self.resolver.next_deadline().is_some_and(|at| at <= self.now);
        while let Some(timer) = self.wheel.next_due(self.now) {
            match timer {
                Timer::Fetch(key) => {
                    if self.fetch_due_early(key) {
                        self.due.push_back(timer);
                    }
                }
                _ => self.due.push_back(timer),
            }
        }
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Fetch(key) => self.fetch_due(key),
            Timer::Dial(key) => self.stagger_over(key),
            Timer::Connection(key) => self.connection_due(key),
            Timer::Hedge(key) => self.late.push_back(key),
            Timer::Pace(key) => self.pace_due(key),
            Timer::Cap => self.raise_cap(),
        }
    }

    pub(super) fn soonest_deadline(&self) -> Option<Moment> {
        [self.wheel.next_deadline(), self.resolver.next_deadline()].into_iter().flatten().min()
    }

    pub(super) fn has_work(&self) -> bool {
        self.ready_taken < self.ready.len()
            || self.full_polls > 0
            || self.focus.is_some()
            || !self.again.is_empty()
            || !self.next_turn.is_empty()
            || !self.to_tell.is_empty()
            || !self.due.is_empty()
            || !self.late.is_empty()
            || self.resolver_is_due
            || !self.offers.is_empty()
            || self.can_feed()
            || self.resolver.has_finished()
            || self.pool.has_turns()
    }

    /// Turns places into borrows: the last thing that an event needs.
    pub(super) fn lend(&mut self, happening: Happening) -> Option<Event<'_>> {
        match happening {
            Happening::Head { fetch: key, at, line } => {
                let fetch = self.fetches.get(key)?;
                Some(Event::Head {
                    id: FetchId::of(key),
                    tag: fetch.request.tag,
                    head: Head { bytes: self.bytes(at), fields: self.heads.fields(), line },
                    url: fetch.request.url(),
                    redirects: &fetch.hops,
                })
            }
            Happening::Body { fetch: key, at } => {
                let tag = self.fetches.get(key)?.request.tag;
                Some(Event::Body { id: FetchId::of(key), tag, chunk: self.bytes(at) })
            }
            Happening::Writable { fetch: key, offset } => {
                let tag = self.fetches.get(key)?.request.tag;
                Some(Event::Writable { id: FetchId::of(key), tag, offset })
            }
            Happening::Ended { fetch: key } => {
                self.release_collected(key);
                let Self { fetches, told, .. } = self;
                let event = told.end_of(FetchId::of(key), fetches.get_mut(key)?);
                fetches.discard(key);
                Some(event)
            }
        }
    }
}

/// Full polls in a row after which new attempts begin all the same: thousands of endless bodies
/// must not keep everybody else waiting.
const FULL_POLLS_MAX: u32 = 16;
