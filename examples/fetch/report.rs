//! The page that `--report` writes: what a run came to, as one file that needs nothing else.
//!
//! In go results as they come; out come, at the end, a waterfall of fetches by phase, how long
//! they took, what failed, and which were slowest. Memory is bounded: of many fetches a sample is
//! kept, spread evenly over the run. Text from the network or the input is escaped, and there is
//! no script and no address in the page that a browser would ask for.

mod page;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use whippet::{Stats, Timings};

use super::record::Ended;
use super::temporary;
use super::values::shown;

/// A report that is being gathered.
pub(crate) struct Report {
    path: PathBuf,
    begun: Instant,
    fetched: u64,
    failed: u64,
    bytes: u64,
    attempts: u64,
    reused: u64,
    statuses: BTreeMap<u16, u64>,
    errors: BTreeMap<&'static str, Failed>,
    /// Microseconds in all.
    totals: Histogram<u64>,
    sample: Vec<Row>,
    /// Of so many fetches one is in the sample.
    stride: u64,
    slowest: Vec<Row>,
}

/// Failures of one kind.
struct Failed {
    count: u64,
    /// The first one's URL and message.
    example: (String, String),
}

/// One fetch.
#[derive(Clone)]
struct Row {
    url: String,
    outcome: Outcome,
    bytes: u64,
    attempts: u32,
    /// Where it ended: what is in no phase's time is this one's.
    last: Phase,
    /// Since the run began.
    ended: Duration,
    timings: Timings,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Status(u16),
    Failed(&'static str),
}

impl Report {
    /// Begins one. The file is made at once: what cannot be written is known before the run.
    pub(crate) fn new(path: &Path, begun: Instant) -> Result<Self, String> {
        let explain =
            |error: &dyn std::fmt::Display| format!("--report {}: {error}", path.display());
        fs::write(path, "").map_err(|error| explain(&error))?;
        // Microseconds, two digits exact.
        let totals = Histogram::new(2).map_err(|error| explain(&error))?;
        Ok(Self {
            path: path.to_owned(),
            begun,
            fetched: 0,
            failed: 0,
            bytes: 0,
            attempts: 0,
            reused: 0,
            statuses: BTreeMap::new(),
            errors: BTreeMap::new(),
            totals,
            sample: Vec::new(),
            stride: 1,
            slowest: Vec::new(),
        })
    }

    /// One more has ended.
    pub(crate) fn receive(&mut self, ended: &Ended<'_>, succeeded: bool, now: Instant) {
        self.fetched += 1;
        self.failed += u64::from(!succeeded);
        self.bytes = self.bytes.saturating_add(ended.bytes);
        let Stats { attempts, reused, timings, .. } = ended.stats;
        self.attempts += u64::from(*attempts);
        self.reused += u64::from(*reused);
        match ended.failure {
            Some(failure) => {
                let url = || cut(&shown(ended.url.unwrap_or_default()));
                let first = || (url(), cut(&failure.message));
                let kind = self.errors.entry(failure.kind);
                kind.or_insert_with(|| Failed { count: 0, example: first() }).count += 1;
            }
            None => *self.statuses.entry(ended.status()).or_default() += 1,
        }
        if *attempts == 0 {
            // It never was a fetch: there is no time to show.
            return;
        }
        let micros = u64::try_from(timings.total.as_micros()).unwrap_or(u64::MAX);
        if self.totals.record(micros).is_err() {
            self.totals.saturating_record(micros);
        }
        let is_sampled = (self.fetched - 1).is_multiple_of(self.stride);
        let is_slow = self.slowest.len() < SLOWEST_ROWS
            || self.slowest.last().is_some_and(|last| timings.total > last.timings.total);
        if is_sampled || is_slow {
            let row = Row::of(ended, now.saturating_duration_since(self.begun));
            if is_slow {
                self.rank(row.clone());
            }
            if is_sampled {
                self.keep(row);
            }
        }
    }

    fn rank(&mut self, row: Row) {
        let before = |other: &Row| other.timings.total >= row.timings.total;
        let at = self.slowest.partition_point(before);
        self.slowest.insert(at, row);
        self.slowest.truncate(SLOWEST_ROWS);
    }

    /// Keeps a row of the sample. A full one loses every other row, and takes half as many.
    fn keep(&mut self, row: Row) {
        if self.sample.len() == SAMPLE_ROWS_MAX {
            let mut nth = 0;
            self.sample.retain(|_| {
                nth += 1;
                nth % 2 == 1
            });
            self.stride *= 2;
            if !(self.fetched - 1).is_multiple_of(self.stride) {
                return;
            }
        }
        self.sample.push(row);
    }

    /// Writes the page, through a temporary name.
    pub(crate) fn write(&self, now: Instant) -> Result<(), String> {
        let page = page::page(self, now.saturating_duration_since(self.begun));
        self.write_page(page.as_bytes())
            .map_err(|error| format!("--report {}: {error}", self.path.display()))
    }

    fn write_page(&self, page: &[u8]) -> io::Result<()> {
        if !self.path.is_file() {
            // A pipe or a device: it cannot be replaced.
            return fs::write(&self.path, page);
        }
        let (mut file, temporary) = temporary::create(&self.path, "report", &mut File::options())?;
        let written = file.write_all(page).and_then(|()| fs::rename(&temporary, &self.path));
        if written.is_err() {
            // There is nobody left to tell; the name says that it is partial.
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

impl Row {
    fn of(ended: &Ended<'_>, at: Duration) -> Self {
        let outcome = match ended.failure {
            Some(failure) => Outcome::Failed(failure.kind),
            None => Outcome::Status(ended.status()),
        };
        Self {
            url: cut(&shown(ended.url.unwrap_or_default())),
            outcome,
            bytes: ended.bytes,
            attempts: ended.stats.attempts,
            last: ended.failure.map_or(Phase::Body, |failure| Phase::of(failure.phase)),
            ended: at,
            timings: ended.stats.timings,
        }
    }

    /// When it was admitted.
    fn began(&self) -> Duration {
        self.ended.saturating_sub(self.timings.total)
    }

    /// Its phases in order, with their time: those of the last attempt, after what went before.
    fn phases(&self) -> [(Phase, Duration); 6] {
        let Timings { dns, connect, proxy, tls, first_byte, total, .. } = self.timings;
        let opening = connect + proxy;
        let known = dns + opening + tls + first_byte;
        let left = total.saturating_sub(known);
        let mut phases = [
            (Phase::Before, Duration::ZERO),
            (Phase::Dns, dns),
            (Phase::Connect, opening),
            (Phase::Tls, tls),
            (Phase::Wait, first_byte),
            (Phase::Body, Duration::ZERO),
        ];
        // With one attempt, all that is left is of the last phase; with more, most went before.
        let rest = if self.attempts > 1 { Phase::Before } else { self.last };
        for (_, span) in phases.iter_mut().filter(|(phase, _)| *phase == rest) {
            *span += left;
        }
        phases
    }
}

/// What a part of a bar stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Redirects and attempts before the last.
    Before,
    Dns,
    /// With the way past a proxy.
    Connect,
    Tls,
    Wait,
    Body,
}

impl Phase {
    const ALL: [Self; 6] =
        [Self::Before, Self::Dns, Self::Connect, Self::Tls, Self::Wait, Self::Body];

    /// That of an error.
    fn of(phase: &str) -> Self {
        match phase {
            "dns" => Self::Dns,
            "connect" | "proxy" => Self::Connect,
            "tls" => Self::Tls,
            "send" | "head" => Self::Wait,
            "body" => Self::Body,
            _ => Self::Before,
        }
    }

    /// Its name in the page's style.
    fn class(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Wait => "wait",
            Self::Body => "body",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Before => "earlier attempts",
            Self::Dns => "DNS",
            Self::Connect => "connect",
            Self::Tls => "TLS",
            Self::Wait => "first byte",
            Self::Body => "body",
        }
    }
}

/// The beginning of a text that may be long.
fn cut(text: &str) -> String {
    let mut kept: String = text.chars().take(TEXT_CHARS_MAX).collect();
    if text.chars().nth(TEXT_CHARS_MAX).is_some() {
        kept.push('…');
    }
    kept
}

/// Fetches in the waterfall at the most; at least half as many where there are more in all.
const SAMPLE_ROWS_MAX: usize = 400;
const SLOWEST_ROWS: usize = 20;
/// Of a URL or a message.
const TEXT_CHARS_MAX: usize = 300;

#[cfg(test)]
mod tests;
