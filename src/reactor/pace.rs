//! Floor 2. The pace of each origin, kept: who may begin, what heads ask for, what failures come
//! to.
//!
//! In go admissions, heads and failures; out come timers, and fetches that an open circuit ends.
//! Where the settings ask for none of it, each of these is one comparison.

use std::sync::Arc;

use super::fetch::{FetchKey, Stage};
use super::pool::PaceKey;
use super::reading::Focus;
use super::{Reactor, Timer};
use crate::error::{Error, Kind, Limit, Phase as ErrorPhase};
use crate::net::Net;
use crate::policy::pace::fields::pause_asked;
use crate::wire::http1::head::Head;

impl<N: Net> Reactor<N> {
    /// The next fetch that caps and paces allow.
    #[inline]
    pub(super) fn next_admission(&mut self) -> Option<FetchKey> {
        let next = self.pool.next_admission(&mut self.fetches, self.now);
        if self.has_extras {
            self.arm_paces();
        }
        next
    }

    /// Tells the wheel of origins that have to wait: one entry each, which is only moved where it
    /// would fire too late.
    #[cold]
    fn arm_paces(&mut self) {
        let Self { pool, wheel, .. } = self;
        let Some(paces) = &mut pool.paces else { return };
        while let Some((key, at)) = paces.next_unarmed() {
            let Some(paced) = paces.get_mut(key) else { continue };
            let armed = paced.timer.and_then(|timer| Some((timer, wheel.deadline(timer)?)));
            match armed {
                Some((timer, armed)) if armed > at => {
                    wheel.rearm(timer, at);
                }
                Some(_) => {}
                None => paced.timer = Some(wheel.insert(at, Timer::Pace(key))),
            }
        }
    }

    /// An origin has waited as long as was asked.
    pub(super) fn pace_due(&mut self, key: PaceKey) {
        let Some(paces) = &mut self.pool.paces else { return };
        if let Some(room) = paces.get_mut(key).and_then(|paced| paced.fired()) {
            self.pool.unpace(room);
        }
    }

    /// `true`: the origin's circuit is open, and the fetch, which was admitted, has failed.
    pub(super) fn is_refused(&mut self, key: FetchKey) -> bool {
        let Some(paces) = &mut self.pool.paces else { return false };
        if !paces.take_refused(key) {
            return false;
        }
        let Some(fetch) = self.fetches.get_mut(key) else { return false };
        let origin = &fetch.request.parts.route.origin;
        let mut what = format!("{origin} is left alone");
        let mut cause = None;
        if let Some((failures, error, until)) = paces.refusal(origin) {
            what.push_str(&format!(" after {failures} failures in a row"));
            what.push_str(&match until {
                Some(until) => format!(" for {:.1} s more", until.since(self.now).as_secs_f64()),
                None => ", until one attempt has come back".to_owned(),
            });
            cause = Some(error.clone());
        }
        let mut error = Error::new(Kind::Connect, ErrorPhase::Queue, what);
        if let Some(cause) = cause {
            error = error.caused_by(Arc::new(cause));
        }
        fetch.deadlines.clear(Limit::Queue);
        self.waiting_bytes -= std::mem::take(&mut fetch.weight_bytes);
        // The fetch holds a slot, which only a stage gives back.
        self.begin_race(key, Arc::new([]), None);
        self.fail(key, error);
        true
    }

    /// Keeps what a head says of its origin.
    #[cold]
    pub(super) fn note_head(&mut self, key: FetchKey, head: &Head, whole: Focus) {
        let Some(connection) = self.connections.get(whole.connection) else { return };
        let bytes = whole.bytes(&self.read_buffer, connection);
        let Some(paces) = &mut self.pool.paces else { return };
        let Some(fetch) = self.fetches.get(key) else { return };
        let origin = &fetch.request.parts.route.origin;
        if paces.rules.heeds_limits {
            let fields = self.heads.fields().iter();
            let fields = fields.map(|field| (field.name.of(bytes), field.value.of(bytes)));
            if let Some(asked) = pause_asked(head.status, fields, self.net.wall()) {
                let pause = asked.min(paces.rules.pause_max);
                paces.pause(origin, self.now.after(pause), self.now);
            }
        }
        if paces.rules.circuit.is_none() {
            return;
        }
        if head.status < FAILING_STATUS_MIN {
            return paces.succeeded(origin);
        }
        let what = || format!("it answered with status {}", head.status);
        let cause = || Error::new(Kind::Status, ErrorPhase::Head, what()).of_status(head.status);
        if let Some(room) = paces.failed(origin, key, self.now, cause) {
            self.pool.unpace(room);
        }
    }

    /// A fetch leaves its stage: if it tries its origin again, somebody else has to.
    #[cold]
    pub(super) fn attempt_over(&mut self, key: FetchKey) {
        if let Some(paces) = &mut self.pool.paces
            && let Some(fetch) = self.fetches.get(key)
        {
            paces.attempt_over(&fetch.request.parts.route.origin, key, self.now);
        }
    }

    /// An attempt of a fetch that holds a slot has come to nothing.
    #[cold]
    pub(super) fn note_failure(&mut self, key: FetchKey, error: &Error) {
        let Some(paces) = &mut self.pool.paces else { return };
        let Some(fetch) = self.fetches.get(key) else { return };
        let has_slot =
            matches!(fetch.stage, Stage::Resolving(..) | Stage::Dialling(_) | Stage::Running(..));
        if paces.rules.circuit.is_none() || !has_slot || !blames_origin(error) {
            return;
        }
        let origin = &fetch.request.parts.route.origin;
        if let Some(room) = paces.failed(origin, key, self.now, || error.clone()) {
            self.pool.unpace(room);
        }
    }
}

/// Whether it struck before a head was there, and the origin may have a part in it.
fn blames_origin(error: &Error) -> bool {
    let is_before_head = !matches!(error.phase(), ErrorPhase::Request | ErrorPhase::Body);
    let is_ours = matches!(
        error.kind(),
        Kind::InvalidUrl
            | Kind::InvalidRequest
            | Kind::Denied
            | Kind::TooLarge
            | Kind::Decode
            | Kind::Redirect
            | Kind::Cancelled
    ) || (error.kind() == Kind::Io && !error.is_transient());
    is_before_head && !is_ours
}

/// What a server itself calls its own fault (RFC 9110 §15.6); a class above counts as this one.
const FAILING_STATUS_MIN: u16 = 500;
