//! The account of a run: outcomes, bytes, rate, and how long everything took.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use whippet::Stats;

use super::record::{Ended, phases};

/// What a status is to be, or the fetch has failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    Anything,
    /// Below 400.
    Success,
    /// 101: another protocol.
    Switch,
}

impl Wanted {
    pub(crate) fn refuses(self, status: u16) -> bool {
        match self {
            Self::Anything => false,
            Self::Success => status >= 400,
            Self::Switch => status != 101,
        }
    }
}

/// What is counted while fetches end.
#[derive(Debug)]
pub(crate) struct Summary {
    succeeded: u64,
    failed: u64,
    statuses: BTreeMap<u16, u64>,
    errors: BTreeMap<&'static str, u64>,
    bytes: u64,
    /// By phase, in the order of [`phases`]; none where nobody asks.
    spans: Vec<(&'static str, Histogram<u64>)>,
    wanted: Wanted,
}

impl Summary {
    /// `timed`: how long everything took is asked for.
    pub(crate) fn new(wanted: Wanted, timed: bool) -> Result<Self, String> {
        // Microseconds, two digits exact; they grow with what is counted.
        let mut spans = Vec::new();
        for (name, _) in phases(&Stats::default()).into_iter().filter(|_| timed) {
            spans.push((name, Histogram::new(2).map_err(|error| format!("histograms: {error}"))?));
        }
        Ok(Self {
            succeeded: 0,
            failed: 0,
            statuses: BTreeMap::new(),
            errors: BTreeMap::new(),
            bytes: 0,
            spans,
            wanted,
        })
    }

    /// One more has ended. Says whether it is a success.
    pub(crate) fn receive(&mut self, ended: &Ended<'_>) -> bool {
        let succeeded = ended.failure.is_none() && !self.wanted.refuses(ended.status());
        *(if succeeded { &mut self.succeeded } else { &mut self.failed }) += 1;
        if let Some(failure) = ended.failure {
            *self.errors.entry(failure.kind).or_default() += 1;
        } else if ended.status() > 0 {
            *self.statuses.entry(ended.status()).or_default() += 1;
        }
        self.bytes = self.bytes.saturating_add(ended.bytes);
        if ended.stats.attempts > 0 {
            for ((_, spans), (_, span)) in self.spans.iter_mut().zip(phases(ended.stats)) {
                if !span.is_zero() {
                    // What is longer than an hour counts as an hour.
                    let micros =
                        u64::try_from(span.as_micros()).map_or(HOUR_MICROS, |m| m.min(HOUR_MICROS));
                    if spans.record(micros).is_err() {
                        spans.saturating_record(micros);
                    }
                }
            }
        }
        succeeded
    }

    pub(crate) fn ended(&self) -> u64 {
        self.succeeded + self.failed
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// One line of where the run is.
    pub(crate) fn brief(&self, elapsed: Duration) -> String {
        format!(
            "{} fetched, {} failed, {}, {:.0}/s",
            self.ended(),
            self.failed,
            human_bytes(self.bytes),
            rate(self.ended(), elapsed)
        )
    }

    /// All of it, some lines.
    pub(crate) fn table(&self, elapsed: Duration) -> String {
        let mut text = format!(
            "{} fetched in {:.2} s ({:.0}/s): {} succeeded, {} failed; {}\n",
            self.ended(),
            elapsed.as_secs_f64(),
            rate(self.ended(), elapsed),
            self.succeeded,
            self.failed,
            human_bytes(self.bytes),
        );
        // Writing to a string does not fail.
        if !self.statuses.is_empty() {
            let _ = writeln!(text, "  status  {}", counts(&self.statuses));
        }
        if !self.errors.is_empty() {
            let _ = writeln!(text, "  errors  {}", counts(&self.errors));
        }
        let mut begun = false;
        for (name, spans) in self.spans.iter().rev().filter(|(_, spans)| !spans.is_empty()) {
            if !std::mem::replace(&mut begun, true) {
                let _ = writeln!(
                    text,
                    "  {:<10} {:>9} {:>10} {:>10} {:>10} {:>10}  ms",
                    "", "count", "p50", "p90", "p99", "max"
                );
            }
            let at = |quantile| millis(spans.value_at_quantile(quantile));
            let (p50, p90, p99) = (at(0.5), at(0.9), at(0.99));
            let (count, max) = (spans.len(), millis(spans.max()));
            let _ = writeln!(
                text,
                "  {name:<10} {count:>9} {p50:>10.1} {p90:>10.1} {p99:>10.1} {max:>10.1}"
            );
        }
        text
    }
}

fn counts<K: std::fmt::Display>(of: &BTreeMap<K, u64>) -> String {
    of.iter().map(|(what, times)| format!("{what}: {times}")).collect::<Vec<_>>().join("  ")
}

/// A second; what took less than a millisecond counts as one.
#[allow(clippy::cast_precision_loss, reason = "for people")]
fn rate(number: u64, elapsed: Duration) -> f64 {
    number as f64 / elapsed.as_secs_f64().max(1e-3)
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

/// `1536` is `1.5 KiB`.
#[allow(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn human_bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let mut number = bytes as f64 / 1_024.0;
    let mut unit = 0;
    while number >= 1_024.0 && unit + 1 < units.len() {
        number /= 1_024.0;
        unit += 1;
    }
    format!("{number:.1} {}", units[unit])
}

const HOUR_MICROS: u64 = 3_600_000_000;

#[cfg(test)]
mod tests {
    use super::super::jobs::Failure;
    use super::super::record::Answer;
    use super::*;

    #[test]
    fn percentiles_are_of_the_phases_that_took_place() {
        let mut summary = Summary::new(Wanted::Success, true).unwrap();
        let answer = |status| Answer { status, ..Answer::default() };
        for number in 1..=100 {
            let mut stats = Stats::default();
            stats.attempts = 1;
            stats.timings.total = Duration::from_millis(number);
            let answer = answer(if number == 100 { 404 } else { 200 });
            let ended = Ended {
                n: number,
                id: None,
                url: None,
                line: None,
                answer: Some(&answer),
                trailers: &[],
                body: None,
                bytes: 10,
                stats: &stats,
                failure: None,
            };
            assert_eq!(summary.receive(&ended), number < 100);
        }
        let failure = Failure::invalid("x".into());
        let stats = Stats::default();
        summary.receive(&Ended {
            n: 101,
            id: None,
            url: None,
            line: Some(1),
            answer: None,
            trailers: &[],
            body: None,
            bytes: 0,
            stats: &stats,
            failure: Some(&failure),
        });
        let table = summary.table(Duration::from_secs(1));
        assert!(table.contains("99 succeeded, 2 failed; 1000 B"), "{table}");
        assert!(table.contains("200: 99  404: 1"), "{table}");
        assert!(table.contains("invalid_request: 1"), "{table}");
        assert!(!table.contains("tls"), "{table}");
        let total = table.lines().find(|line| line.trim().starts_with("total")).unwrap();
        let numbers: Vec<f64> =
            total.split_whitespace().skip(1).map(|word| word.parse().unwrap()).collect();
        for (number, wanted) in numbers.iter().zip([100.0, 50.0, 90.0, 99.0, 100.0]) {
            assert!((number - wanted).abs() <= wanted / 100.0 + 0.05, "{table}");
        }
    }

    #[test]
    fn bytes_are_for_people() {
        for (bytes, words) in
            [(0, "0 B"), (1_023, "1023 B"), (1_536, "1.5 KiB"), (u64::MAX, "16777216.0 TiB")]
        {
            assert_eq!(human_bytes(bytes), words);
        }
    }
}
