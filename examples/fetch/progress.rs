//! Where the run is, on standard error: a live bar on a terminal, a line now and then where it is
//! none. Drawn from the loop's own turns; there is no thread.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use rustix::termios::tcgetwinsize;

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
    Bar(Bar),
    Lines,
}

/// One line of a terminal, written over again and again.
#[derive(Debug)]
struct Bar {
    expected: Option<u64>,
    drawn: String,
    turn: usize,
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
        let on_terminal = io::stderr().is_terminal();
        let shown = match (silent, on_terminal) {
            (true, _) => Shown::Nothing,
            (false, true) if busy_terminal => Shown::Nothing,
            (false, true) => Shown::Bar(Bar { expected, drawn: String::new(), turn: 0 }),
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
        let elapsed = now - self.begun;
        let said = || format!("{}, {in_flight} in flight", summary.brief(elapsed));
        match &mut self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => {
                bar.draw(summary.ended(), elapsed, &said());
                self.next = now + BAR_EVERY;
            }
            Shown::Lines => {
                eprintln!("fetch: {}", said());
                self.next = now + LINE_EVERY;
            }
        }
    }

    /// Does what writes to the terminal with the bar out of its way.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        let Shown::Bar(bar) = &self.shown else { return write() };
        bar.erase();
        let written = write();
        bar.show();
        written
    }

    /// Takes the bar away.
    pub(crate) fn end(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.erase();
        }
        self.shown = Shown::Nothing;
    }
}

impl Bar {
    fn draw(&mut self, ended: u64, elapsed: Duration, said: &str) {
        self.turn += 1;
        let columns = tcgetwinsize(io::stderr()).map_or(0, |size| size.ws_col);
        let columns = if columns == 0 { COLUMNS_USUAL } else { columns };
        self.drawn = match self.expected {
            Some(expected) => part_of(expected, ended, elapsed, said),
            None => format!("{} {said}  {}", SPINNER[self.turn % SPINNER.len()], clock(elapsed)),
        };
        // A line that goes on in the next row could not be erased. All of it is ASCII.
        self.drawn.truncate(usize::from(columns) - 1);
        self.show();
    }

    fn show(&self) {
        if !self.drawn.is_empty() {
            tell(&format!("\r{}{ERASE_REST}", self.drawn));
        }
    }

    fn erase(&self) {
        if !self.drawn.is_empty() {
            tell(&format!("\r{ERASE_REST}"));
        }
    }
}

/// How much of it is done, and how long the rest takes if it goes on like that.
fn part_of(expected: u64, ended: u64, elapsed: Duration, said: &str) -> String {
    let left = expected.saturating_sub(ended);
    let filled = ended.saturating_mul(BAR_CELLS).checked_div(expected).unwrap_or(0);
    let bar: String = (0..BAR_CELLS).map(|at| if at < filled { '#' } else { '-' }).collect();
    let eta = match u32::try_from(left) {
        Ok(left) if ended > 0 => {
            clock(elapsed.saturating_mul(left) / u32::try_from(ended).unwrap_or(u32::MAX))
        }
        _ => "?".to_owned(),
    };
    format!("[{bar}] {ended}/{expected}  {said}  eta {eta}")
}

/// As a clock has it: minutes and seconds, and hours where there are any.
fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// At once. There is nobody left to tell of it where it cannot be written.
fn tell(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

const BAR_EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(10);
const BAR_CELLS: u64 = 30;
/// Where the terminal does not say how many it has.
const COLUMNS_USUAL: u16 = 80;
const SPINNER: [char; 4] = ['|', '/', '-', '\\'];
/// From here to the end of the line (ECMA-48 §8.3.41, EL).
const ERASE_REST: &str = "\x1b[K";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_says_how_much_is_done_and_when_it_will_be_over() {
        let second = Duration::from_secs(1);
        let half = part_of(200, 100, 61 * second, "said");
        assert_eq!(half, "[###############---------------] 100/200  said  eta 1:01");
        assert!(part_of(200, 0, second, "").ends_with("] 0/200    eta ?"));
        assert!(part_of(200, 200, second, "").starts_with(&format!("[{}]", "#".repeat(30))));
        // More than was expected, nothing expected, more than can be counted.
        assert!(part_of(2, 3, second, "").contains("] 3/2 "));
        assert!(part_of(0, 0, second, "").contains("] 0/0 "));
        assert!(part_of(u64::MAX / 64, 1, second, "").ends_with("eta ?"));
    }

    #[test]
    fn times_read_like_a_clock() {
        let said = [0, 59, 61, 3_599, 3_600, 90_061].map(|s| clock(Duration::from_secs(s)));
        assert_eq!(said, ["0:00", "0:59", "1:01", "59:59", "1:00:00", "25:01:01"]);
    }
}
