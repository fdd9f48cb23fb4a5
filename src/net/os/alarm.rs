//! Floor 1. The timer that ends a sleep: one of the kernel's, which the poll watches.
//!
//! In goes the time by which a sleep has to end, out comes the timeout that the poll needs beside
//! it. A timeout given to `epoll_wait` makes the kernel start and stop a timer for each sleep. Most
//! of what is slept for are limits that are far away and not reached, so one timer that rings soon
//! enough serves all of them: it is set anew only for an earlier time, and once it has rung.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::clock;

/// Rings at the time it was set to, as an event of the poll: maybe too early, never too late.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: OwnedFd,
    /// When it rings, on the clock that begins at the network's epoch. `None`: it is not set.
    rings_at: Option<Duration>,
}

impl Alarm {
    /// An alarm that is not set, whose event carries `token`. Nothing is read from the timer: it
    /// is watched for edges, and each setting gives it a new one.
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { timer, rings_at: None })
    }

    /// Sees to it that a sleep with the timeout returned ends at `until`.
    pub(super) fn cover(
        &mut self,
        timeout: Option<Duration>,
        until: Duration,
        epoch: Instant,
    ) -> io::Result<Option<Duration>> {
        if self.rings_at.is_some_and(|at| at <= until) {
            return Ok(timeout);
        }
        let now = clock().saturating_duration_since(epoch);
        let Some(left) = until.checked_sub(now).filter(|left| !left.is_zero()) else {
            return Ok(Some(Duration::ZERO));
        };
        let it_value = timespec(left);
        let once = Itimerspec { it_interval: timespec(Duration::ZERO), it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        self.rings_at = Some(until);
        Ok(timeout)
    }

    /// Its event was told.
    pub(super) fn has_rung(&mut self) {
        self.rings_at = None;
    }
}

/// As long as the kernel can count, at the most.
fn timespec(duration: Duration) -> Timespec {
    let tv_sec = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec, tv_nsec: duration.subsec_nanos().into() }
}
