//! Plain data. How gently an origin is asked, and when it is left alone.
//!
//! An origin is the scheme, host and port of the URL, whatever proxy stands in between.

use std::time::Duration;

/// How much is asked of one origin, and what it can say about that. Everything is off by default.
///
/// An origin that may not be asked yet holds no slot of the concurrency and takes nobody's turn:
/// its fetches wait in their list, and the fair share is that of the others. Waiting for a first
/// attempt is bounded by [`Limit::Queue`](crate::Limit::Queue) and the deadline, waiting between
/// attempts by [`Limit::Total`](crate::Limit::Total) as well.
///
/// ```
/// use std::time::Duration;
/// use whippet::{Circuit, Rate, Settings};
///
/// let mut settings = Settings::default();
/// settings.pace.rate = Rate::per_second(5.0);
/// settings.pace.heeds_limits = true;
/// settings.pace.circuit = Some(Circuit::after(8).tried_again_after(Duration::from_secs(60)));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Pace {
    /// Most attempts that begin in a second. `None`: as many as the caps allow.
    pub rate: Option<Rate>,
    /// Whether everything for an origin waits when it asks for that, in any response:
    ///
    /// - `Retry-After` (RFC 9110 §10.2.3), seconds or a date, with a status of 429 or 503;
    /// - `RateLimit` of draft-ietf-httpapi-ratelimit-headers: `"name";r=0;t=30`, with a
    ///   remaining quota of 0 and the seconds until there is more; the longest of several;
    /// - what stood there before it: `RateLimit: limit=9, remaining=0, reset=30`, and the fields
    ///   `RateLimit-Remaining: 0` and `RateLimit-Reset: 30`, both with `X-` before them, too. A
    ///   reset above 1,000,000,000 is seconds since 1970, as GitHub has it.
    ///
    /// The longest of these counts, up to [`Self::pause_max`]. A quota that is not used up, and a
    /// field that cannot be read, ask for nothing. `false`: only the fetch that was told
    /// `Retry-After` waits, before its next attempt.
    pub heeds_limits: bool,
    /// The longest that an origin is left alone because it asks for it: 60 s. Afterwards it is
    /// asked again, and may say so again.
    pub pause_max: Duration,
    /// What becomes of an origin that fails again and again. `None`: every fetch tries for itself.
    pub circuit: Option<Circuit>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { rate: None, heeds_limits: false, pause_max: PAUSE_MAX, circuit: None }
    }
}

impl Pace {
    /// Nothing is asked for: nothing need be kept.
    pub(crate) fn is_off(&self) -> bool {
        self.rate.is_none() && !self.heeds_limits && self.circuit.is_none()
    }
}

/// A token bucket. Each attempt takes a token when it begins, retries and followed redirects
/// included; tokens come back at an even pace.
///
/// In any time *t*, at most *burst* + rate × *t* attempts begin. What comes back in 10 ms may
/// always be saved up: a timer is no finer, and a high rate would not be reached otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    interval: Duration,
    burst: u32,
}

impl Rate {
    /// So many attempts a second, with a burst of 1. `None` where that is no number above zero, or
    /// less than one in a day.
    pub fn per_second(attempts: f64) -> Option<Self> {
        let interval = Duration::try_from_secs_f64(attempts.recip()).ok()?;
        // Rounded up to what the clock counts in: never faster than was said.
        let micros = u64::try_from(interval.as_nanos().div_ceil(1_000)).ok()?;
        let interval = Duration::from_micros(micros.max(1));
        let is_one = attempts > 0.0 && attempts.is_finite() && interval <= INTERVAL_MAX;
        is_one.then_some(Self { interval, burst: 1 })
    }

    /// So many attempts may begin at once where none has for long enough; at least 1.
    #[must_use]
    pub fn burst(self, attempts: u32) -> Self {
        Self { burst: attempts.max(1), ..self }
    }

    /// How long a token takes to come back: at least 1 µs.
    pub fn interval(self) -> Duration {
        self.interval
    }

    /// How much sooner than at an even pace an attempt may begin.
    pub(crate) fn saved_up(self) -> Duration {
        self.interval.saturating_mul(self.burst - 1).max(SAVED_UP_MIN)
    }
}

/// A circuit breaker: after so many failures in a row an origin is not asked for a while, and what
/// waits for it fails at once; then one attempt tries it again.
///
/// A failure is an attempt that brought no head (no address, no connection, TLS, a limit of time,
/// a head that breaks HTTP), or one with a status of 500 or more. Any other head ends the row. A
/// kept connection that turns out to be dead, a cancelled fetch, and failures that the origin has
/// no part in (too few descriptors, an address that may not be contacted) count for nothing. A row
/// is forgotten ten minutes after its last failure.
///
/// While the circuit is open, fetches for the origin end with [`Kind::Connect`] in
/// [`Phase::Queue`], as [transient](crate::Error::is_transient) ones that nothing was sent for,
/// and with the failure that opened it as their [source](std::error::Error::source). Once its
/// time is over, the next fetch in line tries it, all others failing as before; if that attempt
/// fails, too, the time begins anew, and if a head comes, everything is as it was at first.
///
/// [`Kind::Connect`]: crate::Kind::Connect
/// [`Phase::Queue`]: crate::Phase::Queue
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Circuit {
    failures: u32,
    open_for: Duration,
}

impl Circuit {
    /// It opens after so many failures in a row, at least 1, and is tried again after 30 s.
    #[must_use]
    pub fn after(failures: u32) -> Self {
        Self { failures: failures.max(1), open_for: OPEN_FOR }
    }

    /// How long the origin is left alone.
    #[must_use]
    pub fn tried_again_after(self, open_for: Duration) -> Self {
        Self { open_for, ..self }
    }

    /// How many failures in a row open it.
    #[must_use]
    pub fn failures(self) -> u32 {
        self.failures
    }

    /// How long it is open.
    #[must_use]
    pub fn open_for(self) -> Duration {
        self.open_for
    }
}

/// As long as a retry waits for `Retry-After` at the most.
const PAUSE_MAX: Duration = Duration::from_secs(60);
const OPEN_FOR: Duration = Duration::from_secs(30);
const INTERVAL_MAX: Duration = Duration::from_secs(86_400);
/// Timers are late by a millisecond or two.
const SAVED_UP_MIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_never_above_what_was_said() {
        let micros = |rate| Rate::per_second(rate).map(|rate| rate.interval().as_micros());
        assert_eq!(micros(1.0), Some(1_000_000));
        assert_eq!(micros(3.0), Some(333_334));
        assert_eq!(micros(0.5), Some(2_000_000));
        assert_eq!(micros(5e9), Some(1));
        for none in [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY, 1e-9, f64::MIN_POSITIVE] {
            assert_eq!(micros(none), None, "{none}");
        }
    }

    #[test]
    fn a_burst_is_saved_up_one_less() {
        let rate = Rate::per_second(10.0).unwrap();
        assert_eq!(rate.saved_up(), SAVED_UP_MIN);
        assert_eq!(rate.burst(0).saved_up(), SAVED_UP_MIN);
        assert_eq!(rate.burst(3).saved_up(), Duration::from_millis(200));
        assert_eq!(rate.burst(u32::MAX).saved_up().as_secs(), 429_496_729);
    }
}
