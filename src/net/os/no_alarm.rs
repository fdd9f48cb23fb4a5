//! Floor 1. What ends a sleep where the poll can watch no timer: the poll's own timeout.

use std::io;
use std::time::{Duration, Instant};

use mio::{Registry, Token};

use super::clock;

/// Never rings.
#[derive(Debug)]
pub(super) struct Alarm;

impl Alarm {
    pub(super) fn new(_: &Registry, _: Token) -> io::Result<Self> {
        Ok(Self)
    }

    /// The timeout with which a sleep ends at `until`.
    pub(super) fn cover(
        &mut self,
        timeout: Option<Duration>,
        until: Duration,
        epoch: Instant,
    ) -> io::Result<Option<Duration>> {
        let left = until.saturating_sub(clock().saturating_duration_since(epoch));
        Ok(Some(timeout.map_or(left, |timeout| timeout.min(left))))
    }

    pub(super) fn has_rung(&mut self) {}
}
