//! Floor 2. What becomes of a fetch when something happened to its attempt: it ends, it is
//! redirected, it is tried again, it waits for descriptors.
//!
//! In go heads and failures; out come verdicts of the policies, carried out.

use std::sync::Arc;
use std::time::Duration;

use super::connection::{Connection, Phase};
use super::event::FetchId;
use super::exchange::ExchangeKey;
use super::fetch::{FetchKey, Outcome, Stage};
use super::hedge::Twin;
use super::reading::Focus;
use super::{Reactor, Timer};
use crate::detour::ConnectTo;
use crate::error::{Error, Kind, Limit, Phase as ErrorPhase, Tried};
use crate::kit::machine::Machine;
use crate::kit::moment::Moment;
use crate::net::Net;
use crate::policy::auth::{self, Dialogue};
use crate::policy::redirect::{self, Next, Refusal, Rules};
use crate::policy::retry::{self, Attempt};
use crate::proxy::Proxies;
use crate::request::Request;
use crate::response::Hop;
use crate::settings::Settings;
use crate::trace::Because;
use crate::wire::http1::head::Head;
use crate::wire::http1::reuse::CloseReason;

/// Verdicts on heads and failures.
impl<N: Net> Reactor<N> {
    /// Asks the policies about a head, before anyone else sees it. `true`: it is not handed over,
    /// the fetch has gone on or ended.
    pub(super) fn judge(
        &mut self,
        exchange: ExchangeKey,
        key: FetchKey,
        head: &Head,
        whole: Focus,
    ) -> bool {
        match head.status {
            300..=399 => self.judge_redirect(exchange, key, head, whole),
            401 => self.judge_challenge(exchange, key, whole),
            407 => self.judge_proxy(exchange, key, whole),
            417 => self.judge_expectation(exchange, key),
            status if retry::is_retryable(status) => self.judge_status(exchange, key, head, whole),
            _ => false,
        }
    }

    fn judge_redirect(
        &mut self,
        exchange: ExchangeKey,
        key: FetchKey,
        head: &Head,
        whole: Focus,
    ) -> bool {
        let Some(fetch) = self.fetches.get(key) else { return false };
        let choices = &fetch.request.parts.choices;
        let rules = Rules {
            follow: choices.follow.unwrap_or(self.settings.follow),
            hops_max: choices.redirects_max.unwrap_or(self.settings.redirects_max),
            allow_downgrade: self.settings.allow_downgrade,
        };
        let location = head.hints.location;
        let bytes = self.bytes(whole);
        let hop = redirect::Hop {
            method: fetch.request.method(),
            url: fetch.request.url(),
            status: head.status,
            location: location.map(|span| span.of(bytes)),
            hops: fetch.hops.len(),
        };
        let visited = fetch.hops.iter().map(|hop| (&hop.method, &hop.url));
        match redirect::decide(&hop, &rules, visited) {
            redirect::Verdict::Answer => false,
            redirect::Verdict::Follow(next) if next.keep_body && fetch.body_spent => {
                self.refuse(exchange, key, Refusal::BodySpent { url: next.url });
                true
            }
            redirect::Verdict::Follow(next) => {
                self.redirect(exchange, key, head.status, next);
                true
            }
            redirect::Verdict::Refuse(refusal) => {
                self.refuse(exchange, key, refusal);
                true
            }
        }
    }

    fn refuse(&mut self, exchange: ExchangeKey, key: FetchKey, refusal: Refusal) {
        let what = "the redirect was not followed";
        let error = Error::new(Kind::Redirect, ErrorPhase::Head, what);
        self.detach(exchange);
        self.fail(key, error.caused_by(Arc::new(refusal)));
    }

    fn judge_status(
        &mut self,
        exchange: ExchangeKey,
        key: FetchKey,
        head: &Head,
        whole: Focus,
    ) -> bool {
        let bytes = self.bytes(whole);
        let asked = head.hints.retry_after.map(|span| span.of(bytes).to_vec());
        let outcome = retry::Outcome::Status(head.status);
        let Some(delay) = self.retry_delay(key, outcome, asked.as_deref(), false) else {
            return false;
        };
        self.trace_retried(key, Because::Status(head.status), delay);
        self.detach(exchange);
        self.leave_stage(key, CloseReason::Cancelled);
        self.back_off(key, delay);
        true
    }

    /// A challenge that can be answered is, by one more exchange of the same fetch.
    fn judge_challenge(&mut self, exchange: ExchangeKey, key: FetchKey, whole: Focus) -> bool {
        let is_spent = self.fetches.get(key).is_none_or(|fetch| fetch.body_spent);
        if is_spent || self.verdict_on_challenge(key, whole) == auth::Verdict::Answer {
            return false;
        }
        self.trace_retried(key, Because::Challenged, Duration::ZERO);
        self.detach(exchange);
        self.ask_again(key);
        true
    }

    /// The fetch asks once more, by another attempt that is held against nobody.
    pub(super) fn ask_again(&mut self, key: FetchKey) {
        if self.fetches.get(key).is_some_and(|fetch| matches!(fetch.twin, Twin::For(_))) {
            return self.vanish(key);
        }
        self.leave_stage(key, CloseReason::Cancelled);
        self.wait_again(key);
    }

    fn redirect(&mut self, exchange: ExchangeKey, key: FetchKey, status: u16, next: Next) {
        self.detach(exchange);
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        let before = fetch.request.clone();
        fetch.body_spent = false;
        match redirected(&before, next) {
            Ok(request) => fetch.request = routed(request, &self.settings),
            Err(error) => return self.fail(key, error),
        }
        self.trace_redirected(key, status);
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        let (url, method) = (before.url().clone(), before.method().clone());
        fetch.hops.push(Hop { status, url, method });
        fetch.stats.redirects += 1;
        // Another place may ask, and may be answered.
        fetch.dialogue = Dialogue::default();
        fetch.proxy_dialogue = Dialogue::default();
        self.leave_stage(key, CloseReason::Cancelled);
        self.wait_again(key);
    }

    /// An attempt came to nothing.
    pub(super) fn attempt_failed(&mut self, key: FetchKey, error: Error, sent: Sent) {
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        let is_idempotent = retry::is_idempotent(fetch.request.method());
        if fetch.lent {
            return self.fail(key, error);
        }
        if fetch.twin != Twin::None && self.goes_on_with_twin(key) {
            return;
        }
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        let is_stale = match sent {
            Sent::Nothing => true,
            Sent::OnDeadConnection => is_idempotent,
            Sent::Maybe => false,
        };
        if is_stale && !fetch.body_spent && !std::mem::replace(&mut fetch.stale_retried, true) {
            self.trace_retried(key, Because::Stale(&error), Duration::ZERO);
            self.leave_stage(key, CloseReason::Failed);
            return self.wait_again(key);
        }
        self.note_failure(key, &error);
        let Some(fetch) = self.fetches.get(key) else { return };
        let outcome = if error.is_transient() {
            retry::Outcome::Transient
        } else {
            retry::Outcome::Permanent
        };
        // What failed before a byte was sent had no effect, whatever the method.
        let is_harmless = sent == Sent::Nothing || !matches!(fetch.stage, Stage::Running(_));
        let is_spent = fetch.body_spent && is_idempotent && outcome == retry::Outcome::Transient;
        match self.retry_delay(key, outcome, None, is_harmless) {
            Some(delay) => {
                self.trace_retried(key, Because::Failed(&error), delay);
                self.leave_stage(key, CloseReason::Failed);
                self.back_off(key, delay);
            }
            None if is_spent => self.fail(key, error.with_spent_body()),
            None => self.fail(key, error),
        }
    }

    fn retry_delay(
        &mut self,
        key: FetchKey,
        outcome: retry::Outcome,
        retry_after: Option<&[u8]>,
        is_harmless: bool,
    ) -> Option<Duration> {
        let fetch = self.fetches.get(key)?;
        let retries_max = fetch.request.parts.choices.retries.unwrap_or(self.settings.retries);
        if fetch.retries >= retries_max || outcome == retry::Outcome::Permanent {
            return None;
        }
        let end = fetch.deadlines.end();
        let attempt = Attempt {
            idempotent: is_harmless || retry::is_idempotent(fetch.request.method()),
            replayable: !fetch.body_spent,
            retries_done: fetch.retries,
            retries_max,
            remaining: (!end.is_never()).then(|| end.since(self.now)),
            retry_after,
            outcome,
        };
        let mut bits = [0; 8];
        // Without randomness the wait is longest, which is the safe side.
        let random = self.net.random(&mut bits).map_or(u64::MAX, |()| u64::from_le_bytes(bits));
        let wall = self.net.wall();
        match retry::decide(&attempt, &mut self.budget, self.now, wall, random) {
            retry::Verdict::Final => None,
            retry::Verdict::After(delay) => Some(delay),
        }
    }

    /// The fetch, which has left its stage, waits before its next attempt.
    fn back_off(&mut self, key: FetchKey, delay: Duration) {
        self.release_collected(key);
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        fetch.retries += 1;
        fetch.begin_again();
        fetch.stage.go(Stage::BackingOff);
        fetch.deadlines.set(Limit::Backoff, self.now.after(delay));
        self.backing_off += 1;
        self.schedule(key);
    }

    /// The fetch, which has left its stage, goes to the front of its origin's list.
    fn wait_again(&mut self, key: FetchKey) {
        self.release_collected(key);
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        fetch.begin_again();
        // There are no more rooms than fetches and idle connections: keys do not run out.
        let room = self.pool.room(&fetch.request.parts.route.origin);
        let Some(room) = room else { return };
        (fetch.room, fetch.home) = (room, room);
        fetch.stage.go(Stage::Waiting);
        self.pool.wait(&mut self.fetches, room, key, true);
    }
}

/// The request on the way that the settings want for it, where it says nothing of its own.
#[inline]
pub(super) fn routed(request: Request, settings: &Settings) -> Request {
    let is_direct = settings.connect_to.is_empty()
        && settings.proxies.is_empty()
        && request.parts.route.proxy.is_none();
    if is_direct { request } else { rerouted(request, settings) }
}

fn rerouted(request: Request, settings: &Settings) -> Request {
    let request = if settings.connect_to.is_empty() { request } else { led(request, settings) };
    let request = proxied(request, &settings.proxies);
    // Whatever leads over a socket of the file system has no proxy in between.
    let route = &request.parts.route;
    let is_bypassed =
        route.proxy.is_some() && route.sockets_or(&settings.sockets).unix_socket().is_some();
    if is_bypassed { request.routed_by(None) } else { request }
}

fn led(request: Request, settings: &Settings) -> Request {
    let parts = &request.parts;
    if parts.choices.connect_to.iter().any(|entry| entry.of(&parts.route.origin).is_some()) {
        return request;
    }
    let detour = ConnectTo::first_of(&settings.connect_to, &parts.route.origin);
    let is_known = detour.as_ref() == parts.route.detour.as_deref();
    if is_known { request } else { request.led_to(detour) }
}

fn proxied(request: Request, proxies: &Proxies) -> Request {
    if proxies.is_empty() || request.parts.choices.proxy.is_some() {
        return request;
    }
    let proxy = proxies.between(&request.parts.route.origin).cloned();
    if proxy == request.parts.route.proxy { request } else { request.routed_by(proxy) }
}

/// What of the request may have come to the server, where an attempt has failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// A kept connection turned out to be dead before a byte was written.
    Nothing,
    /// The same, afterwards; no byte of an answer came.
    OnDeadConnection,
    Maybe,
}

/// The request that follows `before`: without what concerns another origin or a body only.
pub(crate) fn redirected(before: &Request, next: Next) -> Result<Request, Error> {
    let Next { url, method, keep_body, keep_credentials } = next;
    before.redirected(method, url, keep_body, keep_credentials, |name| {
        (keep_credentials || !redirect::is_credential(name))
            && (keep_body || !redirect::describes_body(name))
    })
}

/// Ends.
impl<N: Net> Reactor<N> {
    pub(super) fn fail(&mut self, key: FetchKey, error: Error) {
        let Some(fetch) = self.fetches.get(key) else { return };
        if matches!(fetch.twin, Twin::For(_)) {
            return self.vanish(key);
        }
        let attempts = fetch.stats.attempts;
        self.end(key, Outcome::Failed(error.after_attempts(attempts)));
    }

    /// The fetch is over; its slot is free, and its event is due.
    pub(super) fn end(&mut self, key: FetchKey, outcome: Outcome) {
        self.leave_stage(key, CloseReason::Failed);
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        fetch.stage.go(Stage::Ended(outcome));
        let began = fetch.admitted.unwrap_or(self.now);
        fetch.stats.timings.total = self.now.since(began);
        if let Some(timer) = fetch.timer.take() {
            self.wheel.remove(timer);
        }
        if !std::mem::replace(&mut fetch.is_to_be_told, true) {
            self.to_tell.push_back(key);
        }
        self.trace_ended(key);
    }

    /// Gives back all that the fetch's stage holds: its place in a list, a lookup, sockets, a
    /// slot. The next stage is the caller's to set.
    pub(super) fn leave_stage(&mut self, key: FetchKey, reason: CloseReason) {
        self.leave_memory(key);
        if self.has_extras {
            self.part_from_twin(key);
            self.attempt_over(key);
        }
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        let room = fetch.room;
        match &mut fetch.stage {
            Stage::Ended(_) => return,
            Stage::Waiting => {
                self.waiting_bytes -= std::mem::take(&mut fetch.weight_bytes);
                return self.pool.stop_waiting(&mut self.fetches, room, key);
            }
            Stage::BackingOff => {
                fetch.deadlines.clear(Limit::Backoff);
                self.backing_off -= 1;
                return;
            }
            Stage::Resolving(lookup, _) => {
                let (lookup, home) = (*lookup, fetch.home);
                self.resolver.forget(&mut self.net, lookup, key, self.now);
                self.pool.end_dialling(&mut self.fetches, home, key);
            }
            Stage::Dialling(race) => {
                let dials = std::mem::take(&mut race.dials);
                self.leave_race(key);
                for dial in dials {
                    self.close(dial, reason);
                }
            }
            Stage::Running(exchange) => {
                let exchange = *exchange;
                self.take_exchange_away(exchange, key, reason);
            }
        }
        self.pool.release(room);
    }

    /// Ends the exchange of a fetch, and its connection with it, if it is still that fetch's.
    pub(super) fn take_exchange_away(
        &mut self,
        exchange: ExchangeKey,
        key: FetchKey,
        reason: CloseReason,
    ) {
        let Some(entry) = self.exchanges.get(exchange) else { return };
        if entry.fetch != Some(key) {
            return;
        }
        let connection_key = entry.connection;
        self.end_exchange(exchange);
        self.close(connection_key, reason);
    }
}

/// Limits of time, and of descriptors.
impl<N: Net> Reactor<N> {
    /// Counts a limit from the next reading of the clock, where there is such a limit.
    pub(super) fn begin_limit(&mut self, key: FetchKey, limit: Limit) {
        if let Some(fetch) = self.fetches.get_mut(key)
            && fetch.begin_limit(limit)
        {
            self.arm_soon(key);
        }
    }

    /// A fetch has limits that count from the next reading of the clock.
    pub(super) fn arm_soon(&mut self, key: FetchKey) {
        self.unarmed.push(key);
        if self.unarmed.len() > UNARMED_STALE_MAX + 2 * self.fetches.len() {
            // Somebody submits and cancels, and does not wait.
            self.unarmed.retain(|key| self.fetches.contains(*key));
        }
    }

    /// The moment by which the caller wants it ended; where that has passed, nothing begins.
    pub(super) fn set_deadline(&mut self, key: FetchKey, at: Moment) {
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        fetch.deadlines.set(Limit::Deadline, at);
        if at <= self.now {
            self.time_out(key, Limit::Deadline);
        } else {
            self.schedule(key);
        }
    }

    /// Reads the clock where limits have begun: they count from now.
    pub(super) fn arm_limits(&mut self) {
        if self.unarmed.is_empty() {
            return;
        }
        self.read_clock();
        let mut unarmed = std::mem::take(&mut self.unarmed);
        for key in unarmed.drain(..) {
            if let Some(fetch) = self.fetches.get_mut(key)
                && !matches!(fetch.stage, Stage::Ended(_))
            {
                let Self { settings, now, .. } = self;
                let own = &fetch.request.parts.choices.timeouts;
                fetch
                    .deadlines
                    .arm(*now, |limit| own.get(limit).or_else(|| settings.timeouts.get(limit)));
                self.schedule(key);
            }
        }
        self.unarmed = unarmed;
    }

    /// Has the wheel look at a fetch no later than at its next deadline.
    pub(super) fn schedule(&mut self, key: FetchKey) {
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        let (at, _) = fetch.deadlines.next();
        if at.is_never() || matches!(fetch.stage, Stage::Ended(_)) {
            return;
        }
        match fetch.timer {
            None => fetch.timer = Some(self.wheel.insert(at, Timer::Fetch(key))),
            Some(timer) => {
                if self.wheel.deadline(timer).is_some_and(|armed| armed > at) {
                    self.wheel.rearm(timer, at);
                }
            }
        }
    }

    /// Before this turn's events: a limit of the whole fetch ends it, whatever has arrived.
    /// `true`: the fetch is to be looked at once more after them.
    pub(super) fn fetch_due_early(&mut self, key: FetchKey) -> bool {
        let Some(fetch) = self.fetches.get_mut(key) else { return false };
        fetch.timer = None;
        match fetch.deadlines.whole_is_over(self.now) {
            Some(limit) => {
                self.time_out(key, limit);
                false
            }
            None => true,
        }
    }

    /// After this turn's events: whichever limit is still over fires.
    pub(super) fn fetch_due(&mut self, key: FetchKey) {
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        if matches!(fetch.stage, Stage::Ended(_)) {
            return;
        }
        match fetch.deadlines.next() {
            (at, _) if at > self.now => self.schedule(key),
            (_, Limit::Backoff) => {
                self.leave_stage(key, CloseReason::Failed);
                self.wait_again(key);
                self.schedule(key);
            }
            (_, Limit::Continue) => {
                self.continue_unasked(key);
                self.schedule(key);
            }
            (_, limit) => {
                self.time_out(key, limit);
                self.schedule(key);
            }
        }
    }

    fn time_out(&mut self, key: FetchKey, limit: Limit) {
        let Some(fetch) = self.fetches.get(key) else { return };
        let allowed = match limit {
            Limit::Deadline => self.now.since(fetch.submitted),
            _ => fetch.allowed(limit, &self.settings).unwrap_or_default(),
        };
        let (phase, unanswered) = self.phase_of(key);
        let mut error = Error::timeout(limit, phase, allowed);
        if !unanswered.is_empty() {
            let mut tried = self.fetches.get_mut(key).map(|f| std::mem::take(&mut f.tried));
            let tried = tried.get_or_insert_default();
            tried.extend(unanswered);
            error = error.having_tried(std::mem::take(tried));
        }
        match limit {
            Limit::Total | Limit::Deadline | Limit::Queue => {
                self.note_failure(key, &error);
                self.fail(key, error);
            }
            _ => {
                self.suspect_kept(key);
                self.attempt_failed(key, error, Sent::Maybe);
            }
        }
    }

    /// A kept connection gave no byte in time: what was on the way to the server may be no more,
    /// and with it all that are idle. The next attempt takes a new one.
    fn suspect_kept(&mut self, key: FetchKey) {
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        let Stage::Running(exchange) = &fetch.stage else { return };
        let Some(exchange) = self.exchanges.get(*exchange) else { return };
        let connection = self.connections.get(exchange.connection);
        if !exchange.is_answered && connection.is_some_and(Connection::was_kept) {
            fetch.stale_retried = true;
        }
    }

    /// Where a fetch is, and the addresses that have not answered yet.
    fn phase_of(&self, key: FetchKey) -> (ErrorPhase, Vec<Tried>) {
        let Some(fetch) = self.fetches.get(key) else { return (ErrorPhase::Queue, Vec::new()) };
        let phase = match &fetch.stage {
            Stage::Waiting => ErrorPhase::Queue,
            Stage::BackingOff => ErrorPhase::Backoff,
            Stage::Resolving(..) => ErrorPhase::Dns,
            Stage::Ended(_) => ErrorPhase::Body,
            Stage::Running(exchange) => {
                self.exchanges.get(*exchange).map_or(ErrorPhase::Head, |exchange| exchange.phase())
            }
            Stage::Dialling(race) => {
                let dials = race.dials.iter().filter_map(|dial| self.connections.get(*dial));
                let (connecting, later): (Vec<_>, Vec<_>) =
                    dials.partition(|dial| matches!(dial.phase, Phase::Connecting { .. }));
                if let Some(winner) = later.first() {
                    return (winner.opening_phase(), Vec::new());
                }
                let unanswered = connecting.iter().filter_map(|dial| dial.remote);
                let tried = unanswered.map(|at| Tried::abandoned(at, "gave no answer in time"));
                return (ErrorPhase::Connect, tried.collect());
            }
        };
        (phase, Vec::new())
    }

    /// There was no descriptor for a fetch's socket. The fetch waits again, in front, and
    /// nothing is held against it.
    pub(super) fn descriptors_short(&mut self, key: FetchKey) {
        if self.fetches.get(key).is_some_and(|fetch| matches!(fetch.twin, Twin::For(_))) {
            // What nobody needs is done without.
            return self.vanish(key);
        }
        self.leave_stage(key, CloseReason::DescriptorsShort);
        if let Some(fetch) = self.fetches.get_mut(key) {
            fetch.stats.attempts -= 1;
        }
        self.wait_again(key);
        self.spare_descriptor();
    }

    /// An idle connection gives its descriptor; or else fewer fetches run for a while.
    pub(super) fn spare_descriptor(&mut self) {
        if self.close_oldest_idle(CloseReason::DescriptorsShort) {
            return;
        }
        if self.pool.cap() == self.settings.concurrency.max(1) {
            self.watch_cap();
        }
        self.pool.set_cap(self.pool.in_flight());
    }

    /// Descriptors were short a while ago: a few more fetches may run again.
    pub(super) fn raise_cap(&mut self) {
        let most = self.settings.concurrency.max(1);
        let cap = self.pool.cap();
        let raised = most.min(cap + (cap / 8).max(1));
        self.pool.set_cap(raised);
        if raised < most {
            self.watch_cap();
        }
    }

    fn watch_cap(&mut self) {
        self.wheel.insert(self.now.after(CAP_RAISED_EVERY), Timer::Cap);
    }
}

impl FetchId {
    pub(super) fn of(key: FetchKey) -> Self {
        Self(key.to_bits())
    }

    pub(super) fn key(self) -> Option<FetchKey> {
        FetchKey::from_bits(self.0)
    }
}

/// How soon the concurrency recovers, an eighth at a time, after descriptors were short.
const CAP_RAISED_EVERY: Duration = Duration::from_millis(250);
/// Keys of fetches that are gone which may stand among those whose limits begin.
const UNARMED_STALE_MAX: usize = 1_024;
