//! Floor 0. A point on the reactor's clock, and deadline arithmetic.
//!
//! Time is an argument everywhere: [`crate::net::Net::now`] is read once a turn, and the result
//! is handed down as a [`Moment`]. Its unit is the microsecond, so that timings are fine enough to
//! report; the wheel rounds it to its own tick of a millisecond, never early.

use std::time::Duration;

/// Microseconds since the network began. Saturates at both ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Moment(u64);

impl Moment {
    /// When the clock reads zero.
    #[cfg(test)]
    pub(crate) const START: Self = Self(0);
    /// Later than everything: a deadline that was not set.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    pub(crate) const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The moment `elapsed` after the clock read zero. What is out of range is [`Self::NEVER`].
    pub(crate) fn from_elapsed(elapsed: Duration) -> Self {
        Self(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
    }

    /// How long after the clock read zero this is.
    pub(crate) const fn elapsed(self) -> Duration {
        Duration::from_micros(self.0)
    }

    pub(crate) const fn micros(self) -> u64 {
        self.0
    }

    pub(crate) fn is_never(self) -> bool {
        self == Self::NEVER
    }

    /// `delay` later; [`Self::NEVER`] where that is out of range.
    pub(crate) fn after(self, delay: Duration) -> Self {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// How long after `earlier` this is; zero where it is before.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let noon = Moment::from_micros(12);
        assert_eq!(noon.after(Duration::from_micros(3)), Moment::from_micros(15));
        assert_eq!(noon.after(Duration::MAX), Moment::NEVER);
        assert_eq!(Moment::NEVER.after(Duration::from_secs(1)), Moment::NEVER);
        assert_eq!(noon.since(Moment::from_micros(10)), Duration::from_micros(2));
        assert_eq!(noon.since(Moment::from_micros(20)), Duration::ZERO);
        assert_eq!(Moment::from_elapsed(Duration::from_millis(2)), Moment::from_micros(2_000));
    }
}
