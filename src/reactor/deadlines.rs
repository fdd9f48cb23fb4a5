//! Floor 2. The absolute deadlines of one fetch, by [`Limit`].
//!
//! In goes what begins, gets on and is over; out comes the limit that is next. A limit counts from
//! the next reading of the clock, and to move one later is one store: the wheel's entry is
//! compared, and armed anew, when it fires.

use std::time::Duration;

use crate::error::Limit;
use crate::kit::moment::Moment;

/// What runs for one fetch, and until when.
pub(crate) struct Deadlines {
    /// By the limit's number; of a limit that does not run it says nothing.
    at: [Moment; Limit::COUNT],
    /// Limits that run: a bit each.
    running: u16,
    /// Limits that have begun, to be counted from the next reading of the clock.
    pending: u16,
    /// What `stall` allows, in microseconds, while it runs.
    stall_us: u64,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { at: [Moment::NEVER; Limit::COUNT], running: 0, pending: 0, stall_us: 0 }
    }
}

impl Deadlines {
    /// The limit counts from the next reading of the clock. `true` where it is the first
    /// that waits for it.
    pub(crate) fn begin(&mut self, limit: Limit) -> bool {
        let first = self.pending == 0;
        self.pending |= bit(limit);
        first
    }

    /// The limit ends at `at`; at [`Moment::NEVER`] it does not run.
    pub(crate) fn set(&mut self, limit: Limit, at: Moment) {
        self.at[limit as usize] = at;
        if at.is_never() {
            self.running &= !bit(limit);
        } else {
            self.running |= bit(limit);
        }
    }

    /// Bytes came or went: `stall` counts anew, unless it does not run.
    pub(crate) fn progress(&mut self, now: Moment) {
        if self.running & bit(Limit::Stall) != 0 {
            let at = now.micros().saturating_add(self.stall_us);
            self.at[Limit::Stall as usize] = Moment::from_micros(at);
        }
    }

    pub(crate) fn clear(&mut self, limit: Limit) {
        self.running &= !bit(limit);
        self.pending &= !bit(limit);
    }

    /// Sets what has begun, counted from `now`.
    pub(crate) fn arm(&mut self, now: Moment, allowed: impl Fn(Limit) -> Option<Duration>) {
        for limit in limits(std::mem::take(&mut self.pending)) {
            let at = allowed(limit).map_or(Moment::NEVER, |allowed| now.after(allowed));
            if limit == Limit::Stall {
                self.stall_us = at.micros() - now.micros();
            }
            self.set(limit, at);
        }
    }

    /// The earliest. Where two are equal, the one that ends the whole fetch.
    pub(crate) fn next(&self) -> (Moment, Limit) {
        let mut next = (Moment::NEVER, Limit::Total);
        for limit in limits(self.running) {
            let at = self.at[limit as usize];
            if at < next.0 {
                next = (at, limit);
            }
        }
        next
    }

    /// When the whole fetch must have ended.
    pub(crate) fn end(&self) -> Moment {
        limits(self.running & WHOLE)
            .map(|limit| self.at[limit as usize])
            .min()
            .unwrap_or(Moment::NEVER)
    }

    /// Whether a limit of the whole fetch has passed, and which.
    pub(crate) fn whole_is_over(&self, now: Moment) -> Option<Limit> {
        limits(self.running & WHOLE).find(|limit| self.at[*limit as usize] <= now)
    }

    /// Whether a limit has begun that is not counted yet.
    #[cfg(debug_assertions)]
    pub(super) fn is_pending(&self) -> bool {
        self.pending != 0
    }

    #[cfg(debug_assertions)]
    pub(super) fn has(&self, limit: Limit) -> bool {
        self.running & bit(limit) != 0
    }
}

const fn bit(limit: Limit) -> u16 {
    1 << limit as u16
}

/// Those whose bits are set, in their order.
fn limits(mut bits: u16) -> impl Iterator<Item = Limit> {
    std::iter::from_fn(move || {
        let limit = *LIMITS.get(bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(limit)
    })
}

/// Those of a whole fetch.
const WHOLE: u16 = bit(Limit::Total) | bit(Limit::Deadline);
/// Those of a fetch, each at its number; `Idle` is a connection's.
const LIMITS: [Limit; Limit::COUNT - 1] = [
    Limit::Total,
    Limit::Deadline,
    Limit::Queue,
    Limit::Dns,
    Limit::Connect,
    Limit::Proxy,
    Limit::Tls,
    Limit::Continue,
    Limit::FirstByte,
    Limit::Stall,
    Limit::Backoff,
];

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_limit_has_its_number() {
        assert!(LIMITS.iter().enumerate().all(|(number, limit)| *limit as usize == number));
    }

    #[test]
    fn a_limit_counts_from_the_reading_of_the_clock_after_it_began() {
        let mut deadlines = Deadlines::default();
        assert!(deadlines.begin(Limit::Total));
        assert!(!deadlines.begin(Limit::Connect));
        assert_eq!(deadlines.next().0, Moment::NEVER);
        deadlines.arm(Moment::from_micros(5), |limit| (limit == Limit::Total).then_some(SECOND));
        assert_eq!(deadlines.next(), (Moment::from_micros(1_000_005), Limit::Total));
        assert_eq!(deadlines.end(), Moment::from_micros(1_000_005));
        deadlines.set(Limit::Stall, Moment::from_micros(9));
        assert_eq!(deadlines.next(), (Moment::from_micros(9), Limit::Stall));
        deadlines.clear(Limit::Stall);
        assert_eq!(deadlines.whole_is_over(Moment::from_micros(1_000_004)), None);
        assert_eq!(deadlines.whole_is_over(Moment::from_micros(1_000_005)), Some(Limit::Total));
    }

    #[test]
    fn progress_puts_stall_off_where_it_runs() {
        let mut deadlines = Deadlines::default();
        deadlines.progress(Moment::from_micros(1));
        assert_eq!(deadlines.next().0, Moment::NEVER);
        deadlines.begin(Limit::Stall);
        deadlines.arm(Moment::from_micros(2), |_| Some(SECOND));
        deadlines.progress(Moment::from_micros(7));
        assert_eq!(deadlines.next(), (Moment::from_micros(1_000_007), Limit::Stall));
        deadlines.clear(Limit::Stall);
        deadlines.progress(Moment::from_micros(8));
        assert_eq!(deadlines.next().0, Moment::NEVER);
        deadlines.begin(Limit::Stall);
        deadlines.arm(Moment::from_micros(9), |_| Some(Duration::MAX));
        deadlines.progress(Moment::from_micros(10));
        assert_eq!(deadlines.next().0, Moment::NEVER);
    }
}
