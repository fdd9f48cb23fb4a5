//! Floor 1. What a response asks of everybody who asks its origin: `Retry-After`, and the fields
//! that tell what is left of a quota.
//!
//! In go a status and its fields; out comes how long they ask to be left alone, the longest of
//! all. Read are the names that servers send: `RateLimit` as the last drafts of
//! draft-ietf-httpapi-ratelimit-headers have it and as those of 2023 had it, and the earlier
//! fields for remaining quota and reset, with and without `X-`. What cannot be read asks for
//! nothing.

use std::time::{Duration, SystemTime};

use crate::policy::retry::parse_retry_after;

/// How long the origin asks to be left alone.
pub(crate) fn pause_asked<'a>(
    status: u16,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    wall: SystemTime,
) -> Option<Duration> {
    let mut asked = Asked::default();
    for (name, value) in fields {
        asked.note(status, name, value, wall);
    }
    asked.longest()
}

#[derive(Default)]
struct Asked {
    retry_after: Option<Duration>,
    limits: Option<Duration>,
    /// What the fields of their own say.
    quota: Quota,
    x_quota: Quota,
}

/// What is left, and for how long; each the first that was said.
#[derive(Clone, Copy, Default)]
struct Quota {
    remaining: Option<u64>,
    reset: Option<Duration>,
}

impl Quota {
    fn pause(self) -> Option<Duration> {
        self.reset.filter(|_| self.remaining == Some(0))
    }
}

impl Asked {
    fn note(&mut self, status: u16, name: &[u8], value: &[u8], wall: SystemTime) {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        if is(b"retry-after") {
            if matches!(status, 429 | 503) {
                self.retry_after = self.retry_after.or_else(|| parse_retry_after(value, wall));
            }
        } else if is(b"ratelimit") {
            self.limits = self.limits.max(limit_pause(value, wall));
        } else if is(b"ratelimit-remaining") {
            self.quota.remaining = self.quota.remaining.or(number(value));
        } else if is(b"ratelimit-reset") {
            self.quota.reset = self.quota.reset.or_else(|| reset(value, wall));
        } else if is(b"x-ratelimit-remaining") {
            self.x_quota.remaining = self.x_quota.remaining.or(number(value));
        } else if is(b"x-ratelimit-reset") {
            self.x_quota.reset = self.x_quota.reset.or_else(|| reset(value, wall));
        }
    }

    fn longest(&self) -> Option<Duration> {
        [self.retry_after, self.limits, self.quota.pause(), self.x_quota.pause()]
            .into_iter()
            .flatten()
            .max()
    }
}

/// A value of `RateLimit`: a list of limits, each with parameters `r` and `t`; or, before, one
/// limit as a dictionary of `limit`, `remaining` and `reset`.
fn limit_pause(value: &[u8], wall: SystemTime) -> Option<Duration> {
    let mut longest = None;
    let mut dictionary = Quota::default();
    for member in split(value, b',') {
        let mut parts = split(member, b';');
        match parts.next().and_then(assignment) {
            Some((b"remaining", value)) => dictionary.remaining = number(value),
            Some((b"reset", value)) => dictionary.reset = reset(value, wall),
            _ => {}
        }
        let mut limit = Quota::default();
        for (key, value) in parts.filter_map(assignment) {
            match key {
                b"r" => limit.remaining = number(value),
                b"t" => limit.reset = number(value).map(Duration::from_secs),
                _ => {}
            }
        }
        longest = longest.max(limit.pause());
    }
    longest.max(dictionary.pause())
}

/// `key=value`. Keys of structured fields are in small letters (RFC 9651 §4.2.3.3).
fn assignment(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&byte| byte == b'=')?;
    Some((text.get(..at)?.trim_ascii(), text.get(at + 1..)?))
}

/// The parts of a structured field between separators that stand outside of strings
/// (RFC 9651 §3.3.3).
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |&byte| {
        let is_literal = is_escaped;
        is_escaped = is_quoted && byte == b'\\' && !is_literal;
        if byte == b'"' && !is_literal {
            is_quoted = !is_quoted;
        }
        byte == separator && !is_quoted
    })
}

/// Digits, and what some put behind a point. What does not fit is as large as can be.
fn number(text: &[u8]) -> Option<u64> {
    let text = str::from_utf8(text.trim_ascii()).ok()?;
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    (are_digits(whole) && are_digits(part)).then(|| whole.parse().unwrap_or(u64::MAX))
}

/// Seconds from now; or since 1970, which is told by their number.
fn reset(text: &[u8], wall: SystemTime) -> Option<Duration> {
    let seconds = number(text)?;
    let said = Duration::from_secs(seconds);
    if seconds <= SECONDS_FROM_NOW_MAX {
        return Some(said);
    }
    let today = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Some(said.saturating_sub(today))
}

/// More than thirty years; fewer than have passed since 1970.
const SECONDS_FROM_NOW_MAX: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// 1,700,000,000 s after 1970.
    fn wall() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    fn asked(status: u16, lines: &[(&str, &str)]) -> Option<u64> {
        let fields = lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        pause_asked(status, fields, wall()).map(|asked| asked.as_secs())
    }

    #[test]
    fn retry_after_counts_with_two_statuses() {
        for (status, pause) in
            [(429, Some(7)), (503, Some(7)), (200, None), (301, None), (500, None)]
        {
            assert_eq!(asked(status, &[("Retry-After", "7")]), pause, "{status}");
        }
        assert_eq!(asked(429, &[("retry-after", "soon"), ("Retry-After", "3")]), Some(3));
        assert_eq!(asked(429, &[("Retry-After", "Tue, 14 Nov 2023 22:13:25 GMT")]), Some(5));
    }

    #[test]
    fn a_quota_that_is_used_up_asks_for_a_pause() {
        for (value, pause) in [
            (r#""default";r=0;t=30"#, Some(30)),
            (r#""default"; r=0 ; t=30"#, Some(30)),
            (r#""default";t=30;r=0;pk=:dHJpYWwxMjEzMjM=:"#, Some(30)),
            (r#""burst";r=10;t=5, "day";r=0;t=3600"#, Some(3_600)),
            (r#""day";r=0;t=3600, "burst";r=0;t=5"#, Some(3_600)),
            (r#""odd, \";r=0;t=9";r=1;t=30"#, None),
            (r#""odd\\";r=0;t=30"#, Some(30)),
            (r#"default;r=0;t=1"#, Some(1)),
            (r#""default";r=0"#, None),
            (r#""default";t=30"#, None),
            (r#""default";r=1;t=30"#, None),
            (r#""default";r=-1;t=30"#, None),
            (r#""default";R=0;T=30"#, None),
            ("limit=100, remaining=0, reset=50", Some(50)),
            ("limit=100,remaining=0,reset=1700000050", Some(50)),
            ("limit=100, remaining=1, reset=50", None),
            ("remaining=0;r=0;t=2", Some(2)),
            ("", None),
            (",;,;=", None),
            ("\"", None),
        ] {
            assert_eq!(asked(200, &[("RateLimit", value)]), pause, "{value}");
        }
        let several = [("RateLimit", r#""a";r=0;t=1"#), ("ratelimit", r#""b";r=0;t=4"#)];
        assert_eq!(asked(200, &several), Some(4));
    }

    #[test]
    fn fields_of_their_own_are_read_in_pairs() {
        for (remaining, reset, pause) in [
            ("0", "50", Some(50)),
            (" 0 ", "50.25", Some(50)),
            ("0", "1700000060", Some(60)),
            ("0", "1699999999", Some(0)),
            ("0", "1000000000", Some(1_000_000_000)),
            ("0", "99999999999999999999999", Some(u64::MAX - 1_700_000_000)),
            ("1", "50", None),
            ("0", "", None),
            ("0", "-3", None),
            ("0", "5m", None),
            ("none", "50", None),
        ] {
            for prefix in ["", "X-"] {
                let names = ["RateLimit-Remaining", "RateLimit-Reset"];
                let [first, second] = names.map(|name| format!("{prefix}{name}"));
                let lines = [(&*first, remaining), (&*second, reset)];
                assert_eq!(asked(200, &lines), pause, "{lines:?}");
            }
        }
        let apart = [("X-RateLimit-Remaining", "0"), ("RateLimit-Reset", "50")];
        assert_eq!(asked(200, &apart), None);
        let both =
            [("Retry-After", "9"), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "4")];
        assert_eq!((asked(429, &both), asked(404, &both)), (Some(9), Some(4)));
    }

    proptest::proptest! {
        #[test]
        fn no_value_panics_and_what_was_written_is_read(
            noise in proptest::collection::vec(proptest::num::u8::ANY, 0..60),
            name in "\"([ -!#-\\[\\]-~]|\\\\[\"\\\\]){0,12}\"",
            left in 0..3_u64,
            seconds in 0..100_000_u64,
        ) {
            for field in ["RateLimit", "RateLimit-Reset", "X-RateLimit-Remaining", "Retry-After"] {
                pause_asked(429, std::iter::once((field.as_bytes(), &*noise)), wall());
            }
            let value = format!("{name};r={left};t={seconds}");
            let read = asked(200, &[("RateLimit", &value)]);
            proptest::prop_assert_eq!(read, (left == 0).then_some(seconds));
        }
    }
}
