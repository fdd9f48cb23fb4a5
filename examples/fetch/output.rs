//! Standard output: results gathered into few writes, in the order they come or the order of the
//! input, never waiting for whoever reads.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use mio::Registry;

use super::stdio::Outlet;

/// What was printed and has not been written.
#[derive(Debug)]
pub(crate) struct Output {
    outlet: Outlet,
    pending: Vec<u8>,
    /// How much of it was written.
    written: usize,
    /// When the first of it was printed.
    since: Option<Instant>,
    /// Whether the outlet took nothing more; the poll will tell.
    blocked: bool,
    closed: Option<Closed>,
    window: Option<Window>,
}

/// Why nothing more can be written.
#[derive(Debug)]
pub(crate) enum Closed {
    /// Whoever read has gone.
    ByReader,
    /// Writing failed.
    ByError(io::Error),
}

impl Output {
    /// Into `outlet`; in the order of numbers where `ordered` gives the most results that may be
    /// out of order.
    pub(crate) fn new(outlet: Outlet, ordered: Option<usize>) -> Self {
        Self {
            outlet,
            pending: Vec::new(),
            written: 0,
            since: None,
            blocked: false,
            closed: None,
            window: ordered.map(Window::new),
        }
    }

    /// Prints result `n`.
    pub(crate) fn push_result(&mut self, n: u64, result: &[u8], now: Instant) {
        match &mut self.window {
            None => self.push(result, now),
            Some(window) => {
                window.receive(n, result);
                while let Some(next) = self.window.as_mut().and_then(Window::next_result) {
                    self.push(&next, now);
                }
            }
        }
    }

    /// Prints bytes, in the order of calls.
    pub(crate) fn push(&mut self, bytes: &[u8], now: Instant) {
        if self.closed.is_some() || bytes.is_empty() {
            return;
        }
        self.since.get_or_insert(now);
        self.pending.extend_from_slice(bytes);
    }

    /// Whether job `n` may begin: what is pending, and what waits for its turn, is within bounds.
    pub(crate) fn has_room_for(&self, n: u64) -> bool {
        self.backlog() < BACKLOG_BYTES_MAX && self.window.as_ref().is_none_or(|w| w.admits(n))
    }

    /// Bytes that were printed and not written.
    pub(crate) fn backlog(&self) -> usize {
        self.pending.len() - self.written
    }

    /// Whether it waits for the poll to tell that there is room.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked && self.backlog() > 0
    }

    /// Whether it is time to write. Results that come in quick succession share a write: one
    /// waits for others a millisecond where nothing else is ready, and five where something is.
    pub(crate) fn is_due(&self, now: Instant, is_quiet: bool) -> bool {
        let Some(since) = self.since else { return false };
        let waited = now.saturating_duration_since(since);
        let patience = if is_quiet { QUIET_PATIENCE } else { BUSY_PATIENCE };
        !self.blocked && (self.backlog() >= BATCH_BYTES || waited >= patience)
    }

    /// How long the loop may sleep before it writes; `None` where nothing waits to be written.
    pub(crate) fn patience(&self) -> Option<Duration> {
        (self.since.is_some() && !self.blocked).then_some(QUIET_PATIENCE)
    }

    /// The poll tells that there is room.
    pub(crate) fn set_ready(&mut self) {
        self.blocked = false;
        self.outlet.set_ready();
    }

    /// The poll tells that whoever read has gone.
    pub(crate) fn set_closed(&mut self) {
        self.close(Closed::ByReader);
    }

    /// Why nothing more can be written, if so.
    pub(crate) fn closed(&self) -> Option<&Closed> {
        self.closed.as_ref()
    }

    /// Writes what goes without waiting.
    pub(crate) fn write(&mut self, registry: &Registry) {
        while self.backlog() > 0 && !self.blocked {
            match self.outlet.write(&self.pending[self.written..], registry) {
                Ok(0) => self.close(Closed::ByError(io::ErrorKind::WriteZero.into())),
                Ok(written) => self.written += written,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => self.blocked = true,
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::NotConnected => self.close(Closed::ByReader),
                    _ => self.close(Closed::ByError(error)),
                },
            }
        }
        if self.backlog() == 0 {
            self.pending.clear();
            self.pending.shrink_to(KEPT_BYTES_MAX);
            self.written = 0;
            self.since = None;
        } else if self.written >= BACKLOG_BYTES_MAX {
            self.pending.drain(..self.written);
            self.written = 0;
        }
    }

    fn close(&mut self, why: Closed) {
        self.pending.clear();
        self.written = 0;
        self.since = None;
        self.closed.get_or_insert(why);
    }
}

/// Results that came before their turn.
#[derive(Debug)]
struct Window {
    /// The number whose turn it is.
    next: u64,
    /// By number, from `next` on.
    held: VecDeque<Option<Vec<u8>>>,
    held_bytes: usize,
    results_max: u64,
}

impl Window {
    fn new(results_max: usize) -> Self {
        Self { next: 1, held: VecDeque::new(), held_bytes: 0, results_max: results_max as u64 }
    }

    fn admits(&self, n: u64) -> bool {
        n < self.next.saturating_add(self.results_max) && self.held_bytes < WINDOW_BYTES_MAX
    }

    fn receive(&mut self, n: u64, result: &[u8]) {
        let place = usize::try_from(n.saturating_sub(self.next)).unwrap_or(usize::MAX);
        if self.held.len() <= place {
            self.held.resize(place.saturating_add(1), None);
        }
        self.held_bytes += result.len();
        self.held[place] = Some(result.to_vec());
    }

    fn next_result(&mut self) -> Option<Vec<u8>> {
        if !self.held.front().is_some_and(Option::is_some) {
            return None;
        }
        let result = self.held.pop_front().flatten()?;
        self.next += 1;
        self.held_bytes -= result.len();
        Some(result)
    }
}

/// Pending bytes past which no job begins.
pub(crate) const BACKLOG_BYTES_MAX: usize = 4 << 20;
/// Results out of order, in bytes, past which no job begins.
const WINDOW_BYTES_MAX: usize = 64 << 20;
/// Pending bytes that are written at once: what a pipe holds.
const BATCH_BYTES: usize = 64 << 10;
/// What the buffer keeps when it is empty.
const KEPT_BYTES_MAX: usize = 1 << 20;
const QUIET_PATIENCE: Duration = Duration::from_millis(1);
const BUSY_PATIENCE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_leave_in_order_and_the_window_bounds_who_begins() {
        let mut window = Window::new(4);
        assert!(window.admits(4) && !window.admits(5));
        window.receive(3, b"c");
        window.receive(2, b"b");
        assert_eq!(window.next_result(), None);
        assert!(!window.admits(5));
        window.receive(1, b"a");
        let mut order = Vec::new();
        while let Some(result) = window.next_result() {
            order.extend_from_slice(&result);
        }
        assert_eq!(order, b"abc");
        assert!(window.admits(7) && !window.admits(8));
        assert_eq!(window.held_bytes, 0);
        window.receive(5, &vec![0; WINDOW_BYTES_MAX]);
        assert!(!window.admits(4));
        window.receive(4, b"");
        assert_eq!(window.next_result().unwrap().len(), 0);
        assert_eq!(window.next_result().unwrap().len(), WINDOW_BYTES_MAX);
        assert!(window.admits(6));
    }
}
