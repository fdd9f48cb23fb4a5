//! Floor 1. Whether an origin may be asked now: its rate, its own wishes, and its circuit.
//!
//! In go the rules, the present, and what became of attempts; out comes a [`Verdict`] on the next
//! attempt. One [`Pacer`] an origin; what responses ask for is read in [`fields`].

pub(crate) mod fields;
#[cfg(test)]
mod model;

use std::time::Duration;

use crate::kit::machine::Machine;
use crate::kit::moment::Moment;
use crate::pace::{Pace, Rate};

/// What is remembered of one origin. `C` is what a failure is remembered by.
pub(crate) struct Pacer<C> {
    /// When all tokens are back. The generic cell rate algorithm: a bucket in one number.
    full_at: Moment,
    paused_until: Moment,
    circuit: Circuit<C>,
    failed_at: Moment,
}

/// A circuit breaker's state.
#[derive(Debug)]
pub(crate) enum Circuit<C> {
    /// Everything goes; so many failures in a row were the last that was heard.
    Closed { failures: u32 },
    /// Nothing goes until then.
    Open { until: Moment, failures: u32, cause: C },
    /// One attempt tries the origin again.
    Probing { failures: u32, cause: C },
}

/// What the next attempt may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Begin.
    Go,
    /// Begin, and tell by its outcome whether the others may.
    Probe,
    /// Wait, until then at least.
    Wait(Moment),
    /// Fail: the circuit is open.
    Refuse,
}

impl<C> Machine for Circuit<C> {
    const NAME: &'static str = "Circuit";
    const ARROWS: &'static [(&'static str, &'static str)] = &[
        ("Closed", "Closed"),
        ("Closed", "Open"),
        ("Open", "Probing"),
        ("Open", "Closed"),
        ("Probing", "Closed"),
        ("Probing", "Open"),
    ];

    fn state(&self) -> &'static str {
        match self {
            Self::Closed { .. } => "Closed",
            Self::Open { .. } => "Open",
            Self::Probing { .. } => "Probing",
        }
    }
}

impl<C: Clone> Pacer<C> {
    pub(crate) fn new() -> Self {
        let long_ago = Moment::from_micros(0);
        Self {
            full_at: long_ago,
            paused_until: long_ago,
            circuit: Circuit::Closed { failures: 0 },
            failed_at: long_ago,
        }
    }

    /// Judges an attempt that would begin now. Only one that may takes a token.
    pub(crate) fn judge(&mut self, rules: &Pace, now: Moment) -> Verdict {
        match &self.circuit {
            Circuit::Open { until, .. } if now < *until => return Verdict::Refuse,
            Circuit::Probing { .. } => return Verdict::Refuse,
            Circuit::Open { .. } | Circuit::Closed { .. } => {}
        }
        if now < self.paused_until {
            return Verdict::Wait(self.paused_until);
        }
        if let Some(rate) = rules.rate {
            let at = self.token_at(rate);
            if now < at {
                return Verdict::Wait(at);
            }
            self.full_at = self.full_at.max(now).after(rate.interval());
        }
        match &self.circuit {
            Circuit::Open { failures, cause, .. } => {
                let probing = Circuit::Probing { failures: *failures, cause: cause.clone() };
                self.circuit.go(probing);
                Verdict::Probe
            }
            _ => Verdict::Go,
        }
    }

    /// When there is a token.
    fn token_at(&self, rate: Rate) -> Moment {
        let saved_up = u64::try_from(rate.saved_up().as_micros()).unwrap_or(u64::MAX);
        Moment::from_micros(self.full_at.micros().saturating_sub(saved_up))
    }

    /// The origin asks to be left alone until then, or longer.
    pub(crate) fn pause(&mut self, until: Moment) {
        self.paused_until = self.paused_until.max(until);
    }

    /// An attempt has brought a head that is no failure.
    pub(crate) fn succeeded(&mut self) {
        if !matches!(self.circuit, Circuit::Closed { failures: 0 }) {
            self.circuit.go(Circuit::Closed { failures: 0 });
        }
    }

    /// An attempt has failed, the probe where one is under way. `true`: the circuit has opened.
    /// Once it is open, those that began before it was change nothing.
    pub(crate) fn failed(
        &mut self,
        rules: &Pace,
        now: Moment,
        is_probe: bool,
        cause: impl FnOnce() -> C,
    ) -> bool {
        let Some(circuit) = rules.circuit else { return false };
        let failures = match self.circuit {
            Circuit::Closed { .. } if now.since(self.failed_at) > ROW_FORGOTTEN_AFTER => 1,
            Circuit::Closed { failures } => failures.saturating_add(1),
            Circuit::Probing { failures, .. } if is_probe => failures.saturating_add(1),
            Circuit::Probing { .. } | Circuit::Open { .. } => return false,
        };
        self.failed_at = now;
        let opens = failures >= circuit.failures();
        let until = now.after(circuit.open_for());
        self.circuit.go(if opens {
            Circuit::Open { until, failures, cause: cause() }
        } else {
            Circuit::Closed { failures }
        });
        opens
    }

    /// The probe has ended without an outcome: the next attempt is one.
    pub(crate) fn probe_lost(&mut self, now: Moment) {
        if let Circuit::Probing { failures, cause } = &self.circuit {
            let open = Circuit::Open { until: now, failures: *failures, cause: cause.clone() };
            self.circuit.go(open);
        }
    }

    /// Where nothing may begin: how many failed in a row, how the last did, and when it is tried
    /// again; no time: now.
    pub(crate) fn refusal(&self) -> Option<(u32, &C, Option<Moment>)> {
        match &self.circuit {
            Circuit::Closed { .. } => None,
            Circuit::Open { until, failures, cause } => Some((*failures, cause, Some(*until))),
            Circuit::Probing { failures, cause } => Some((*failures, cause, None)),
        }
    }

    /// Whether it says the same as a new one.
    pub(crate) fn is_forgotten(&self, now: Moment) -> bool {
        let is_quiet = match &self.circuit {
            Circuit::Closed { failures: 0 } => true,
            Circuit::Closed { .. } => now.since(self.failed_at) > ROW_FORGOTTEN_AFTER,
            Circuit::Open { until, .. } => now.since(*until) > ROW_FORGOTTEN_AFTER,
            Circuit::Probing { .. } => false,
        };
        is_quiet && self.full_at <= now && self.paused_until <= now
    }

    #[cfg(debug_assertions)]
    pub(crate) fn is_probing(&self) -> bool {
        matches!(self.circuit, Circuit::Probing { .. })
    }
}

/// How long failures in a row may lie apart.
const ROW_FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
