//! The page itself: HTML, its style and its figures, all in one text.

use std::fmt::{self, Write};
use std::time::Duration;

use super::super::summary::human_bytes;
use super::{Outcome, Phase, Report, Row};

/// All of it.
pub(super) fn page(report: &Report, elapsed: Duration) -> String {
    let mut page = String::with_capacity(64 << 10);
    // Writing to a string does not fail.
    let _ = write_page(&mut page, report, elapsed);
    page
}

fn write_page(page: &mut String, report: &Report, elapsed: Duration) -> fmt::Result {
    write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>fetch: {} fetches</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header><h1>fetch</h1><p>{} fetches in {}</p></header>\n",
        report.fetched,
        count(report.fetched),
        time(elapsed)
    )?;
    write_tiles(page, report, elapsed)?;
    if !report.totals.is_empty() {
        page.push_str("<div class=\"pair\">\n");
        write_histogram(page, report)?;
        write_outcomes(page, report)?;
        page.push_str("</div>\n");
    } else {
        write_outcomes(page, report)?;
    }
    write_errors(page, report)?;
    write_waterfall(page, report, elapsed)?;
    write_slowest(page, report)?;
    page.push_str("</body>\n</html>\n");
    Ok(())
}

fn write_tiles(page: &mut String, report: &Report, elapsed: Duration) -> fmt::Result {
    let at = |quantile| time(Duration::from_micros(report.totals.value_at_quantile(quantile)));
    let failed = if report.failed > 0 { "bad" } else { "" };
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let rate = report.fetched as f64 / elapsed.as_secs_f64().max(1e-3);
    let mut tiles = vec![
        ("succeeded", count(report.fetched - report.failed), "good"),
        ("failed", count(report.failed), failed),
        ("a second", format!("{rate:.0}"), ""),
        ("of bodies", human_bytes(report.bytes), ""),
        ("attempts", count(report.attempts), ""),
        ("reused", count(report.reused), ""),
    ];
    if !report.totals.is_empty() {
        tiles.extend([("p50", at(0.5), ""), ("p90", at(0.9), ""), ("p99", at(0.99), "")]);
        tiles.push(("longest", time(Duration::from_micros(report.totals.max())), ""));
    }
    page.push_str("<div class=\"tiles\">\n");
    for (what, number, class) in tiles {
        let number = Text(&number);
        writeln!(
            page,
            "<div class=\"tile\"><b class=\"{class}\">{number}</b><span>{what}</span></div>"
        )?;
    }
    page.push_str("</div>\n");
    Ok(())
}

/// How long fetches took, in bins that grow by a factor.
fn write_histogram(page: &mut String, report: &Report) -> fmt::Result {
    let totals = &report.totals;
    let edges = edges(totals.min().max(1), totals.max().max(1));
    let bins: Vec<u64> =
        edges.windows(2).map(|edge| totals.count_between(edge[0], edge[1] - 1)).collect();
    let most = bins.iter().copied().max().unwrap_or(1).max(1);
    let width = CHART_WIDTH / f64_of(bins.len() as u64);
    page.push_str("<section><h2>How long they took</h2>\n");
    writeln!(page, "<svg viewBox=\"0 0 {CHART_WIDTH} {}\" role=\"img\">", CHART_HEIGHT + 34.0)?;
    for (nth, (count, edge)) in bins.iter().zip(&edges).enumerate() {
        let height = (CHART_HEIGHT - 18.0) * f64_of(*count) / f64_of(most);
        let height = if *count > 0 { height.max(1.5) } else { 0.0 };
        let x = f64_of(nth as u64) * width;
        writeln!(
            page,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\" rx=\"1.5\">\
             <title>{count} from {}</title></rect>",
            CHART_HEIGHT - height,
            (width - 2.0).max(1.0),
            time(Duration::from_micros(*edge))
        )?;
    }
    writeln!(
        page,
        "<line x1=\"0\" y1=\"{CHART_HEIGHT}\" x2=\"{CHART_WIDTH}\" y2=\"{CHART_HEIGHT}\"/>"
    )?;
    for nth in (0..edges.len()).step_by((edges.len() / 6).max(1)) {
        let x = f64_of(nth as u64) * width;
        let anchor = if x < 20.0 {
            "start"
        } else if x > CHART_WIDTH - 30.0 {
            "end"
        } else {
            "middle"
        };
        let label = time(Duration::from_micros(edges[nth]));
        let y = CHART_HEIGHT + 16.0;
        writeln!(page, "<text x=\"{x:.1}\" y=\"{y:.0}\" text-anchor=\"{anchor}\">{label}</text>")?;
    }
    for (quantile, label) in [(0.5, "p50"), (0.9, "p90"), (0.99, "p99")] {
        let x = position(totals.value_at_quantile(quantile), &edges) * width;
        writeln!(
            page,
            "<line class=\"mark\" x1=\"{x:.1}\" y1=\"14\" x2=\"{x:.1}\" y2=\"{CHART_HEIGHT}\"/>\
             <text class=\"mark\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            CHART_HEIGHT + 31.0
        )?;
    }
    page.push_str("</svg></section>\n");
    Ok(())
}

/// Where bins begin, and at last where they end: strictly growing.
fn edges(least: u64, most: u64) -> Vec<u64> {
    // As many square roots as the number of bins is powers of two. With `powf` in it the program
    // would load the mathematics library at each start, which takes 7 % of a short run.
    let mut factor = f64_of(most + 1) / f64_of(least);
    for _ in 0..BINS.ilog2() {
        factor = factor.sqrt();
    }
    let mut edges = vec![least];
    let mut exact = f64_of(least);
    for _ in 0..BINS {
        exact *= factor;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for people")]
        let edge = exact.round() as u64;
        if edges.last().is_some_and(|last| edge > *last) {
            edges.push(edge);
        }
    }
    if let Some(last) = edges.last_mut().filter(|last| **last <= most) {
        *last = most + 1;
    }
    if edges.len() < 2 {
        edges.push(most + 1);
    }
    edges
}

/// How many bins lie before a value, with its part of the one that it is in.
fn position(value: u64, edges: &[u64]) -> f64 {
    let at = edges.partition_point(|edge| *edge <= value).clamp(1, edges.len() - 1) - 1;
    let (from, to) = (edges[at], edges[at + 1]);
    f64_of(at as u64) + (f64_of(value.clamp(from, to) - from) / f64_of((to - from).max(1)))
}

fn write_outcomes(page: &mut String, report: &Report) -> fmt::Result {
    page.push_str("<section><h2>How they ended</h2>\n<table>\n");
    let most = report.statuses.values().copied();
    let most = most.chain(report.errors.values().map(|failed| failed.count)).max().unwrap_or(1);
    let statuses =
        report.statuses.iter().map(|(status, n)| (status.to_string(), *n, *status >= 400));
    let errors =
        report.errors.iter().map(|(kind, failed)| ((*kind).to_owned(), failed.count, true));
    for (what, number, is_bad) in statuses.chain(errors) {
        let share = 100.0 * f64_of(number) / f64_of(most.max(1));
        let class = if is_bad { "bad" } else { "" };
        writeln!(
            page,
            "<tr><td class=\"kind\">{}</td><td class=\"count number\">{}</td>\
             <td><div class=\"share {class}\" style=\"width:{share:.1}%\"></div></td></tr>",
            Text(&what),
            count(number)
        )?;
    }
    page.push_str("</table></section>\n");
    Ok(())
}

fn write_errors(page: &mut String, report: &Report) -> fmt::Result {
    if report.errors.is_empty() {
        return Ok(());
    }
    page.push_str(
        "<section><h2>What failed</h2>\n<table>\n<tr><th class=\"kind\">kind</th>\
         <th class=\"count number\">times</th><th>the first of them</th></tr>\n",
    );
    let mut errors: Vec<_> = report.errors.iter().collect();
    errors.sort_by_key(|(_, failed)| std::cmp::Reverse(failed.count));
    for (kind, failed) in errors {
        let (url, message) = &failed.example;
        writeln!(
            page,
            "<tr><td class=\"bad\">{}</td><td class=\"number\">{}</td>\
             <td>{}<br><span class=\"url note\">{}</span></td></tr>",
            Text(kind),
            count(failed.count),
            Text(message),
            Text(url)
        )?;
    }
    page.push_str("</table></section>\n");
    Ok(())
}

fn write_waterfall(page: &mut String, report: &Report, elapsed: Duration) -> fmt::Result {
    if report.sample.is_empty() {
        return Ok(());
    }
    let mut rows: Vec<&Row> = report.sample.iter().collect();
    rows.sort_by_key(|row| row.began());
    let end = rows.iter().map(|row| row.ended).max().unwrap_or(elapsed);
    page.push_str("<section><h2>When each phase was</h2>\n");
    write_legend(page)?;
    page.push_str("<div class=\"rows\">\n<div></div><div></div><div class=\"axis\">");
    for part in 0..=4_u32 {
        write!(page, "<span>{}</span>", time(end * part / 4))?;
    }
    page.push_str("</div><div></div>\n");
    for row in &rows {
        write_row(page, row, row.began(), end)?;
    }
    page.push_str("</div>\n");
    if report.stride > 1 {
        writeln!(
            page,
            "<p class=\"note\">{} of {} fetches: one of each {}, in the order in which they ended.</p>",
            count(rows.len() as u64),
            count(report.fetched),
            count(report.stride)
        )?;
    }
    page.push_str("</section>\n");
    Ok(())
}

fn write_slowest(page: &mut String, report: &Report) -> fmt::Result {
    let Some(longest) = report.slowest.first() else { return Ok(()) };
    page.push_str("<section><h2>The slowest</h2>\n");
    write_legend(page)?;
    page.push_str("<div class=\"rows\">\n");
    for row in &report.slowest {
        write_row(page, row, Duration::ZERO, longest.timings.total)?;
    }
    page.push_str(
        "</div>\n<p class=\"note\">Of a fetch with several attempts the phases are the last one's; \
         what went before it, and its body, are shown as earlier attempts.</p></section>\n",
    );
    Ok(())
}

fn write_legend(page: &mut String) -> fmt::Result {
    page.push_str("<div class=\"legend\">");
    for phase in Phase::ALL {
        write!(page, "<span><i class=\"{}\"></i>{}</span>", phase.class(), phase.words())?;
    }
    page.push_str("</div>\n");
    Ok(())
}

/// One fetch on a scale that ends at `end`: how it ended, its URL, its bar, how long it took.
fn write_row(page: &mut String, row: &Row, began: Duration, end: Duration) -> fmt::Result {
    let part =
        |span: Duration| 100.0 * (span.as_secs_f64() / end.as_secs_f64().max(1e-9)).clamp(0.0, 1.0);
    let total = row.timings.total;
    let (class, outcome) = match row.outcome {
        Outcome::Status(status) if status < 400 => ("good", status.to_string()),
        Outcome::Status(status) => ("bad", status.to_string()),
        Outcome::Failed(kind) => ("bad", kind.to_owned()),
    };
    let url = Text(&row.url);
    write!(
        page,
        "<div class=\"{class}\">{}</div><div class=\"url\" title=\"{url}\">{url}</div>\
         <div class=\"bar\"><div style=\"left:{:.2}%;width:{:.2}%\" title=\"",
        Text(&outcome),
        part(began).min(99.5),
        part(total)
    )?;
    for (phase, span) in row.phases().into_iter().filter(|(_, span)| !span.is_zero()) {
        write!(page, "{} {}, ", phase.words(), time(span))?;
    }
    write!(page, "{} in all\">", human_bytes(row.bytes))?;
    for (phase, span) in row.phases().into_iter().filter(|(_, span)| !span.is_zero()) {
        let share = 100.0 * span.as_secs_f64() / total.as_secs_f64().max(1e-9);
        write!(page, "<i class=\"{}\" style=\"width:{share:.2}%\"></i>", phase.class())?;
    }
    writeln!(page, "</div></div><div class=\"took\">{}</div>", time(total))
}

/// `1234567` is `1,234,567`.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Two or three digits of the unit that fits.
fn time(span: Duration) -> String {
    match span.as_secs_f64() {
        0.0 => "0".to_owned(),
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1e-2 => format!("{:.1} ms", s * 1e3),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 60.0 => format!("{s:.2} s"),
        s => format!("{:.0} min {:02.0} s", (s / 60.0).floor(), (s % 60.0).floor()),
    }
}

/// Text between tags and in attributes: nothing in it begins or ends one, and no control character
/// is left.
pub(super) struct Text<'a>(pub(super) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                character if character.is_control() => f.write_char('\u{FFFD}')?,
                character => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn f64_of(number: u64) -> f64 {
    number as f64
}

const STYLE: &str = include_str!("page.css");
const CHART_WIDTH: f64 = 640.0;
const CHART_HEIGHT: f64 = 220.0;
/// A power of two.
const BINS: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_grow_and_hold_the_least_and_the_most() {
        for (least, most) in [(1, 1), (1, 2), (7, 9), (100, 1_000_000), (1, u64::MAX / 2)] {
            let edges = edges(least, most);
            assert!(edges.is_sorted_by(|one, next| one < next), "{edges:?}");
            assert!(edges[0] == least && edges[edges.len() - 1] > most, "{edges:?}");
            assert!(edges.len() as u64 <= BINS + 1);
        }
    }
}
