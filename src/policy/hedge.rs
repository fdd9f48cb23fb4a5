//! Floor 1. When an answer is late, and whether asking twice is affordable.
//!
//! In go attempts that began and how long answers took to begin; out come a delay, and yes or no.

use std::time::Duration;

/// How many requests may be sent twice: one in [`ATTEMPTS_A_HEDGE`] of all that begin, saved up to
/// [`HEDGES_SAVED_MAX`]. So over any stretch that begins with nothing saved, hedges are at most so
/// many of the attempts.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// Attempts that have not paid for a hedge yet.
    attempts: u32,
}

impl Budget {
    /// An attempt begins that is no hedge.
    pub(crate) fn note_attempt(&mut self) {
        self.attempts = (self.attempts + 1).min(ATTEMPTS_A_HEDGE * HEDGES_SAVED_MAX);
    }

    pub(crate) fn affords(&self) -> bool {
        self.attempts >= ATTEMPTS_A_HEDGE
    }

    /// A hedge begins, which must be affordable.
    pub(crate) fn pay(&mut self) {
        self.attempts = self.attempts.saturating_sub(ATTEMPTS_A_HEDGE);
    }
}

/// How long the last answers of one origin took to begin.
#[derive(Debug)]
pub(crate) struct Latencies {
    last_us: [u32; MEASURED_MAX],
    /// All that were ever measured.
    count: usize,
    p95_us: Option<u32>,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        Self { last_us: [0; MEASURED_MAX], count: 0, p95_us: None }
    }

    pub(crate) fn note(&mut self, took: Duration) {
        let took_us = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        if let Some(place) = self.last_us.get_mut(self.count % MEASURED_MAX) {
            *place = took_us;
        }
        self.count = self.count.saturating_add(1);
        if self.count >= MEASURED_MIN && self.count.is_multiple_of(MEASURED_ANEW_EVERY) {
            self.p95_us = self.compute();
        }
    }

    /// What all but one in twenty were within, as of the last few; none while too few are known.
    pub(crate) fn p95(&self) -> Option<Duration> {
        self.p95_us.map(|micros| Duration::from_micros(micros.into()))
    }

    fn compute(&self) -> Option<u32> {
        let known = self.count.min(MEASURED_MAX);
        let mut sorted = self.last_us;
        let sorted = sorted.get_mut(..known)?;
        sorted.sort_unstable();
        sorted.get((known * 19).div_ceil(20).checked_sub(1)?).copied()
    }
}

/// 5 %.
pub(crate) const ATTEMPTS_A_HEDGE: u32 = 20;
const HEDGES_SAVED_MAX: u32 = 10;
const MEASURED_MAX: usize = 64;
/// Below this, one in twenty is nobody.
const MEASURED_MIN: usize = 20;
const MEASURED_ANEW_EVERY: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn hedges_are_one_in_twenty_and_ten_more_after_any_moment(
            wants in proptest::collection::vec(0..30_u32, 0..200),
            from in 0..200_usize,
        ) {
            let mut budget = Budget::default();
            let mut told = Vec::new();
            for wanted in wants {
                budget.note_attempt();
                let mut begun = 0;
                while begun < wanted && budget.affords() {
                    budget.pay();
                    begun += 1;
                }
                told.push(begun);
            }
            let sum = |told: &[u32]| told.iter().sum::<u32>();
            let attempts = |told: &[u32]| u32::try_from(told.len()).unwrap();
            prop_assert!(sum(&told) <= attempts(&told) / ATTEMPTS_A_HEDGE);
            let later = told.get(from..).unwrap_or_default();
            prop_assert!(sum(later) <= attempts(later) / ATTEMPTS_A_HEDGE + HEDGES_SAVED_MAX);
        }

        #[test]
        fn the_p95_is_that_of_the_last_few(
            all in proptest::collection::vec(0..10_000_000_u64, 0..200),
        ) {
            let mut latencies = Latencies::new();
            for (nth, took) in all.iter().enumerate() {
                latencies.note(Duration::from_micros(*took));
                let known = &all[..=nth];
                if known.len() < MEASURED_MIN {
                    prop_assert_eq!(latencies.p95(), None);
                } else if known.len() % MEASURED_ANEW_EVERY == 0 {
                    let p95 = latencies.p95().unwrap();
                    let last = &known[known.len().saturating_sub(MEASURED_MAX)..];
                    let within = |took: &&u64| Duration::from_micros(**took) <= p95;
                    let below = |took: &&u64| Duration::from_micros(**took) < p95;
                    prop_assert!(last.iter().filter(within).count() * 20 >= last.len() * 19);
                    prop_assert!(last.iter().filter(below).count() * 20 < last.len() * 19);
                }
            }
        }
    }
}
