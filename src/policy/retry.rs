//! Floor 1. Whether a failed attempt is made again, and after how long.
//!
//! In go what the attempt came to, the limits and the clocks; out comes a [`Verdict`]. Waits grow
//! exponentially with full jitter, respect `Retry-After`, and a [`Budget`] keeps a fleet of
//! failing requests from doubling the load on servers that fail under it.

use std::time::{Duration, SystemTime};

use http::Method;

use crate::kit::moment::Moment;

/// One attempt that ended, and what is left for another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    /// Whether the method [`is_idempotent`], or the user vouched for it.
    pub(crate) idempotent: bool,
    /// Whether the body, if there is one, can be sent again.
    pub(crate) replayable: bool,
    /// Retries before this one.
    pub(crate) retries_done: u32,
    pub(crate) retries_max: u32,
    /// Time until the total deadline; none: there is no such deadline.
    pub(crate) remaining: Option<Duration>,
    /// The value of the response's `Retry-After`.
    pub(crate) retry_after: Option<&'a [u8]>,
    pub(crate) outcome: Outcome,
}

/// What an attempt came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// A response with this status.
    Status(u16),
    /// A failure that may pass: to connect, a reset, a limit of the attempt.
    Transient,
    /// A failure that will not pass: a bad certificate, a malformed response.
    Permanent,
}

/// What to do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The outcome stands.
    Final,
    /// Try again after this delay.
    After(Duration),
}

/// Judges one attempt. `jitter` are 64 random bits. The budget is asked last, so that only a
/// verdict of [`Verdict::After`] takes from it.
pub(crate) fn decide(
    attempt: &Attempt<'_>,
    budget: &mut Budget,
    now: Moment,
    wall: SystemTime,
    jitter: u64,
) -> Verdict {
    let may_pass = match attempt.outcome {
        Outcome::Status(status) => is_retryable(status),
        Outcome::Transient => true,
        Outcome::Permanent => false,
    };
    let repeatable = attempt.idempotent && attempt.replayable;
    if !may_pass || !repeatable || attempt.retries_done >= attempt.retries_max {
        return Verdict::Final;
    }
    let asked = attempt.retry_after.and_then(|value| parse_retry_after(value, wall));
    let asked = asked.unwrap_or_default();
    let delay = backoff(attempt.retries_done, jitter).max(asked);
    let in_time = attempt.remaining.is_none_or(|remaining| delay < remaining);
    if asked > RETRY_AFTER_MAX || !in_time || !budget.take(now) {
        return Verdict::Final;
    }
    Verdict::After(delay)
}

/// Whether a request with this method may be sent twice (RFC 9110 §9.2.2).
pub(crate) fn is_idempotent(method: &Method) -> bool {
    method.is_idempotent()
}

/// Whether a response with this status may turn out otherwise another time.
pub(crate) fn is_retryable(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// How long `Retry-After` asks to wait (RFC 9110 §10.2.3): a number of seconds, where one that
/// does not fit is [`Duration::MAX`], or a date, where one in the past is zero. What is neither
/// is none, as if there were no such header.
pub(crate) fn parse_retry_after(value: &[u8], wall: SystemTime) -> Option<Duration> {
    let text = str::from_utf8(value.trim_ascii()).ok()?;
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // All digits: the only way to fail is to be too large.
        return Some(text.parse().map_or(Duration::MAX, Duration::from_secs));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(wall).unwrap_or_default())
}

/// Uniform between zero and a bound that doubles: full jitter, which spreads a crowd best.
fn backoff(retries_done: u32, jitter: u64) -> Duration {
    let doubled = 1_u32.checked_shl(retries_done).and_then(|n| BACKOFF_BASE.checked_mul(n));
    let most = doubled.map_or(BACKOFF_MAX, |most| most.min(BACKOFF_MAX));
    // The product's upper half: `jitter` as a fraction of 2^64. Below 2^32, so it fits.
    let micros = ((most.as_micros() + 1) * u128::from(jitter)) >> u64::BITS;
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// How many retries are affordable: in any ten seconds [`RETRIES_FREE`] and a share of the
/// requests made in them. Counted by the second, so "ten seconds" are nine to ten.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    /// One for each of the last seconds, at the second modulo their number.
    buckets: [Bucket; WINDOW_SECONDS],
    /// The sum of the buckets.
    total: Bucket,
    /// The latest second that was seen.
    second: u64,
}

#[derive(Clone, Copy, Default, Debug)]
struct Bucket {
    requests: u64,
    retries: u64,
}

impl Budget {
    pub(crate) fn new() -> Self {
        let empty = Bucket::default();
        Self { buckets: [empty; WINDOW_SECONDS], total: empty, second: 0 }
    }

    /// Counts one request as the user made it: retries, and redirects followed, are none.
    pub(crate) fn note_request(&mut self, now: Moment) {
        self.bucket(now).requests += 1;
        self.total.requests += 1;
    }

    /// Takes one retry, if it is affordable.
    pub(crate) fn take(&mut self, now: Moment) -> bool {
        let bucket = self.bucket(now);
        bucket.retries += 1;
        self.total.retries += 1;
        let affordable = RETRIES_FREE + self.total.requests / REQUESTS_PER_RETRY;
        if self.total.retries <= affordable {
            return true;
        }
        self.bucket(now).retries -= 1;
        self.total.retries -= 1;
        false
    }

    /// This second's bucket, after emptying those whose second is over ten seconds ago.
    fn bucket(&mut self, now: Moment) -> &mut Bucket {
        let second = (now.micros() / 1_000_000).max(self.second);
        let passed = (second - self.second).min(WINDOW_SECONDS as u64);
        for back in 0..passed {
            let bucket = &mut self.buckets[index(second - back)];
            self.total.requests -= bucket.requests;
            self.total.retries -= bucket.retries;
            *bucket = Bucket::default();
        }
        self.second = second;
        &mut self.buckets[index(second)]
    }
}

/// The bucket of a second.
#[allow(clippy::cast_possible_truncation, reason = "below ten")]
fn index(second: u64) -> usize {
    (second % WINDOW_SECONDS as u64) as usize
}

/// The bound of the first delay; 500 ms in undici, 1 s in curl, both without jitter.
const BACKOFF_BASE: Duration = Duration::from_millis(250);
/// The bound of every delay; 30 s in undici, 120 s in urllib3.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A server that asks for more is not waited for; 6 h in urllib3.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// Retries that are affordable however few requests are made.
const RETRIES_FREE: u64 = 10;
/// One retry more for each five requests: 20 %, as in reqwest and Finagle.
const REQUESTS_PER_RETRY: u64 = 5;
const WINDOW_SECONDS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Attempt<'static> = Attempt {
        idempotent: true,
        replayable: true,
        retries_done: 0,
        retries_max: 2,
        remaining: None,
        retry_after: None,
        outcome: Outcome::Transient,
    };

    fn second(n: u64) -> Moment {
        Moment::from_micros(n * 1_000_000)
    }

    /// Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110's examples.
    fn wall() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)
    }

    fn judge(attempt: &Attempt<'_>, jitter: u64) -> Verdict {
        decide(attempt, &mut Budget::new(), second(0), wall(), jitter)
    }

    #[test]
    fn only_what_may_pass_and_may_be_repeated_is_retried() {
        let retried = |attempt| judge(&attempt, 0) != Verdict::Final;
        assert!(retried(GET));
        assert!(!retried(Attempt { outcome: Outcome::Permanent, ..GET }));
        assert!(!retried(Attempt { idempotent: false, ..GET }));
        assert!(!retried(Attempt { replayable: false, ..GET }));
        assert!(retried(Attempt { retries_done: 1, ..GET }));
        assert!(!retried(Attempt { retries_done: 2, ..GET }));
        assert!(!retried(Attempt { retries_max: 0, ..GET }));
        let statuses: Vec<_> = (0..=u16::MAX)
            .filter(|&status| retried(Attempt { outcome: Outcome::Status(status), ..GET }))
            .collect();
        assert_eq!(statuses, [408, 429, 500, 502, 503, 504]);
    }

    #[test]
    fn idempotent_methods_are_those_of_the_rfc() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            assert!(is_idempotent(&Method::from_bytes(method.as_bytes()).unwrap()), "{method}");
        }
        for method in ["POST", "PATCH", "CONNECT", "get", "BREW"] {
            assert!(!is_idempotent(&Method::from_bytes(method.as_bytes()).unwrap()), "{method}");
        }
    }

    #[test]
    fn the_backoff_doubles_to_its_bound_and_jitter_fills_it() {
        let most = [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000];
        for (retries_done, most) in (0..).zip(most) {
            let most = Duration::from_millis(most);
            assert_eq!(backoff(retries_done, 0), Duration::ZERO);
            assert_eq!(backoff(retries_done, u64::MAX / 2), most / 2);
            assert_eq!(backoff(retries_done, u64::MAX), most);
        }
        assert_eq!(backoff(31, u64::MAX), BACKOFF_MAX);
        assert_eq!(backoff(u32::MAX, u64::MAX), BACKOFF_MAX);
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let read = |value: &str| parse_retry_after(value.as_bytes(), wall());
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(read("120"), seconds(120));
        assert_eq!(read("0"), seconds(0));
        assert_eq!(read(" \t007 "), seconds(7));
        assert_eq!(read("18446744073709551615"), seconds(u64::MAX));
        assert_eq!(read("18446744073709551616"), Some(Duration::MAX));
        assert_eq!(read(&"9".repeat(5_000)), Some(Duration::MAX));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:47 GMT"), seconds(10));
        assert_eq!(read("Sunday, 06-Nov-94 08:49:47 GMT"), seconds(10));
        assert_eq!(read("Sun Nov  6 08:49:47 1994"), seconds(10));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:27 GMT"), seconds(0));
        assert_eq!(read("Thu, 01 Jan 1970 00:00:00 GMT"), seconds(0));
        assert!(read("Fri, 31 Dec 9999 23:59:59 GMT").is_some());
        for odd in ["", " ", "-1", "+1", "1.5", "1 2", "0x10", "1e3", "soon", "\u{0663}", "1,2"] {
            assert_eq!(read(odd), None, "{odd:?}");
        }
        assert_eq!(parse_retry_after(b"\xff1", wall()), None);
    }

    #[test]
    fn no_date_however_mangled_panics() {
        for date in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Wednesday, 09-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            for cut in 0..date.len() {
                parse_retry_after(&date.as_bytes()[cut..], wall());
                parse_retry_after(&date.as_bytes()[..cut], wall());
                for byte in 0..=u8::MAX {
                    let mut mangled = date.as_bytes().to_vec();
                    mangled[cut] = byte;
                    parse_retry_after(&mangled, wall());
                }
            }
        }
    }

    /// Half a date is none, and half a number is a number.
    #[test]
    fn retry_after_cut_anywhere_is_what_is_left_of_it() {
        for date in [
            "Sun, 06 Nov 1994 08:49:47 GMT",
            "Sunday, 06-Nov-94 08:49:47 GMT",
            "Sun Nov  6 08:49:47 1994",
        ] {
            for end in 0..date.len() {
                assert_eq!(parse_retry_after(&date.as_bytes()[..end], wall()), None, "{end}");
            }
        }
        assert_eq!(parse_retry_after(b"12", wall()), Some(Duration::from_secs(12)));
    }

    proptest::proptest! {
        #[test]
        fn retry_after_that_was_written_is_read(
            seconds in proptest::num::u64::ANY,
            ahead in 0..200_000_000_u64,
            noise in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
        ) {
            let read = |text: &str| parse_retry_after(text.as_bytes(), wall());
            let number = seconds.to_string();
            proptest::prop_assert_eq!(read(&number), Some(Duration::from_secs(seconds)));
            let ahead = Duration::from_secs(ahead);
            let date = httpdate::fmt_http_date(wall() + ahead);
            proptest::prop_assert_eq!(read(&date), Some(ahead));
            parse_retry_after(&noise, wall());
        }
    }

    #[test]
    fn retry_after_is_a_minimum_and_capped() {
        let asked = |value: &'static str| Attempt { retry_after: Some(value.as_bytes()), ..GET };
        let after = |millis| Verdict::After(Duration::from_millis(millis));
        assert_eq!(judge(&asked("3"), 0), after(3_000));
        assert_eq!(judge(&asked("3"), u64::MAX), after(3_000));
        assert_eq!(judge(&asked("0"), u64::MAX), after(250));
        assert_eq!(judge(&asked("Sun, 06 Nov 1994 08:50:37 GMT"), 0), after(60_000));
        assert_eq!(judge(&asked("60"), 0), after(60_000));
        assert_eq!(judge(&asked("61"), 0), Verdict::Final);
        assert_eq!(judge(&asked("99999999999999999999999"), 0), Verdict::Final);
        assert_eq!(judge(&asked("-5"), u64::MAX), after(250));
    }

    #[test]
    fn a_delay_that_passes_the_deadline_is_final_and_costs_nothing() {
        let mut budget = Budget::new();
        let mut judge = |millis, retry_after| {
            let remaining = Some(Duration::from_millis(millis));
            let attempt = Attempt { remaining, retry_after, ..GET };
            decide(&attempt, &mut budget, second(0), wall(), u64::MAX)
        };
        assert_eq!(judge(250, None), Verdict::Final);
        assert_eq!(judge(0, None), Verdict::Final);
        assert_eq!(judge(5_000, Some(b"5")), Verdict::Final);
        assert_eq!(judge(251, None), Verdict::After(Duration::from_millis(250)));
        assert_eq!(budget.total.retries, 1);
    }

    #[test]
    fn the_budget_is_ten_and_a_fifth_of_the_requests() {
        let mut budget = Budget::new();
        (0..100).for_each(|_| budget.note_request(second(3)));
        let mut taken = 0;
        while decide(&GET, &mut budget, second(4), wall(), 0) != Verdict::Final {
            taken += 1;
        }
        assert_eq!(taken, 30);
        // The hundred requests leave the window before the thirty retries do.
        assert!(!budget.take(second(12)));
        assert!(!budget.take(second(13)));
        assert!((0..10).all(|_| budget.take(second(14))));
        assert!(!budget.take(second(14)));
    }

    #[test]
    fn the_budget_survives_long_silences_and_a_clock_that_goes_back() {
        let mut budget = Budget::new();
        (0..10).for_each(|_| assert!(budget.take(second(1_000))));
        assert!(!budget.take(second(5)));
        budget.note_request(second(5));
        assert_eq!((budget.second, budget.total.requests), (1_000, 1));
        assert!(budget.take(Moment::NEVER));
        assert_eq!((budget.total.requests, budget.total.retries), (0, 1));
    }
}
