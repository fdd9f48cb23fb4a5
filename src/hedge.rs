//! Plain data. When a request is sent a second time because its answer does not come.

use std::time::Duration;

/// Hedging: a request whose answer is late is sent once more, on a connection of its own, and the
/// first answer is taken; the other exchange is cancelled.
///
/// Only what may be sent twice is: a method that is idempotent (RFC 9110 §9.2.2), with a body in
/// memory or none and no upgrade, of whose answer nothing has come. The second exchange is one more
/// attempt of the same fetch, inside its limits. It counts in the concurrency, in its origin's cap
/// and [rate](crate::Pace::rate); where no slot or token is free, or others wait for one, there is
/// none. If it fails, or its answer is one that would be retried, nothing has happened; if the
/// first fails while the second is under way, the fetch goes on with that.
///
/// At most one request in twenty is sent twice: each attempt adds a twentieth to a budget, of
/// which up to ten whole ones are saved. [`Reactor::hedges`](crate::Reactor::hedges) counts them,
/// [`Stats::hedged`](crate::Stats::hedged) tells which answers they brought, and
/// [`Request::hedged`](crate::Request::hedged) leaves one request out.
///
/// ```
/// use std::time::Duration;
/// use whippet::{Hedge, Settings};
///
/// let mut settings = Settings::default();
/// settings.hedge = Some(Hedge::after(Duration::from_millis(300)));
/// settings.hedge = Some(Hedge::after_p95());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hedge(Option<Duration>);

impl Hedge {
    /// After so long without an answer, counted from the request being sent.
    #[must_use]
    pub fn after(delay: Duration) -> Self {
        Self(Some(delay))
    }

    /// After as long as all but one in twenty of the origin's last 64 answers took to begin; not
    /// before 20 were measured, nor before 1 ms.
    #[must_use]
    pub fn after_p95() -> Self {
        Self(None)
    }

    /// None: the origin's own.
    pub(crate) fn fixed(self) -> Option<Duration> {
        self.0
    }
}

/// Requests that were sent twice.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Hedges {
    /// How many were, so far.
    pub begun: u64,
    /// How many of those were answered by their second exchange.
    pub won: u64,
    /// How many second exchanges are under way; each holds a slot.
    pub under_way: usize,
}
