//! Where the run is, on standard error: a live bar on a terminal, a line now and then where it is
//! none. Drawn from the loop's own turns; there is no thread.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::summary::Summary;

/// What is shown, and when next.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: Shown,
    begun: Instant,
    next: Instant,
}

#[derive(Debug)]
enum Shown {
    Nothing,
    Bar(ProgressBar),
    Lines,
}

impl Progress {
    /// `expected`: how many fetches there will be, where that is known. `busy_terminal`: a body is
    /// printed to the terminal, or jobs are typed there, which leaves no place for a bar.
    pub(crate) fn new(
        silent: bool,
        expected: Option<u64>,
        busy_terminal: bool,
        now: Instant,
    ) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        let shown = match (silent, on_terminal) {
            (true, _) => Shown::Nothing,
            (false, true) if busy_terminal => Shown::Nothing,
            (false, true) => Shown::Bar(bar(expected)),
            (false, false) => Shown::Lines,
        };
        let first = if on_terminal { BAR_EVERY } else { LINE_EVERY };
        Self { shown, begun: now, next: now + first }
    }

    /// How long the loop may sleep before there is something to draw; `None` where nothing is.
    pub(crate) fn patience(&self, now: Instant) -> Option<Duration> {
        let shows = !matches!(self.shown, Shown::Nothing);
        shows.then(|| self.next.saturating_duration_since(now))
    }

    /// Draws what is due.
    pub(crate) fn tick(&mut self, now: Instant, summary: &Summary, in_flight: usize) {
        if now < self.next {
            return;
        }
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => {
                bar.update(|state| state.set_pos(summary.ended()));
                bar.set_message(format!(
                    "{}, {in_flight} in flight",
                    summary.brief(now - self.begun)
                ));
                self.next = now + BAR_EVERY;
            }
            Shown::Lines => {
                eprintln!("fetch: {}, {in_flight} in flight", summary.brief(now - self.begun));
                self.next = now + LINE_EVERY;
            }
        }
    }

    /// Does what writes to the terminal with the bar out of its way.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.shown {
            Shown::Bar(bar) => bar.suspend(write),
            Shown::Nothing | Shown::Lines => write(),
        }
    }

    /// Takes the bar away.
    pub(crate) fn end(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
        self.shown = Shown::Nothing;
    }
}

fn bar(expected: Option<u64>) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(20);
    let bar = ProgressBar::with_draw_target(expected, target);
    let template = if expected.is_some() {
        "{bar:30} {pos}/{len}  {msg}  eta {eta}"
    } else {
        "{spinner} {msg}  {elapsed}"
    };
    // A template that cannot be read leaves the default look.
    bar.set_style(ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar()));
    bar
}

const BAR_EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(10);
