//! Tests: what is kept, and what the page is made of.

use super::super::jobs::Failure;
use super::super::record::Answer;
use super::*;

/// A report of fetches by URL, milliseconds, and what failed.
fn report_of<'a>(fetches: impl IntoIterator<Item = (&'a str, u64, Option<&'a str>)>) -> Report {
    let mine = format!("fetch-report-{}-{:?}", std::process::id(), std::thread::current().id());
    let path = std::env::temp_dir().join(mine);
    let begun = clock();
    let mut report = Report::new(&path, begun).unwrap();
    let answer = Answer { status: 200, ..Answer::default() };
    for (n, (url, millis, failed)) in (0..).zip(fetches) {
        let failure = failed.map(|message| Failure::invalid(message.to_owned()));
        let mut stats = Stats::default();
        stats.attempts = 1;
        stats.timings.total = Duration::from_millis(millis);
        stats.timings.dns = Duration::from_millis(millis / 2);
        let ended = Ended {
            n,
            id: None,
            url: Some(url),
            line: None,
            answer: failed.is_none().then_some(&answer),
            trailers: &[],
            body: None,
            bytes: 10,
            stats: &stats,
            failure: failure.as_ref(),
        };
        report.receive(&ended, failed.is_none(), begun + Duration::from_millis(n + millis));
    }
    fs::remove_file(path).unwrap();
    report
}

#[allow(clippy::disallowed_methods, reason = "a point to count from")]
fn clock() -> Instant {
    Instant::now()
}

#[test]
fn a_million_fetches_leave_a_bounded_and_even_sample() {
    let report = report_of((0..1_000_000).map(|n| ("http://a.test/", n % 1_000, None)));
    assert_eq!(report.fetched, 1_000_000);
    assert!((200..=400).contains(&report.sample.len()), "{}", report.sample.len());
    let first_half = report.sample.iter().filter(|row| row.began() < Duration::from_secs(500));
    let half = first_half.count() * 2;
    assert!(half.abs_diff(report.sample.len()) <= 2, "{half} {}", report.sample.len());
    assert_eq!(report.slowest.len(), 20);
    assert!(report.slowest.iter().all(|row| row.timings.total.as_millis() == 999));
    let page = page::page(&report, Duration::from_secs(1_000));
    assert!(page.contains("1,000,000") && page.len() < 1 << 20, "{}", page.len());
}

#[test]
fn the_slowest_come_in_order() {
    let report = report_of((0..100).map(|n| ("http://a.test/", n * 7 % 100, None)));
    let slowest: Vec<_> = report.slowest.iter().map(|row| row.timings.total.as_millis()).collect();
    assert_eq!(slowest, (80..100).rev().collect::<Vec<_>>());
}

#[test]
fn percentiles_are_of_all_and_not_of_the_sample() {
    let report = report_of((1..=2_000).map(|n| ("http://a.test/", n, None)));
    let page = page::page(&report, Duration::from_secs(2));
    for (what, millis) in [("p50", 1_000.0), ("p90", 1_800.0), ("p99", 1_980.0)] {
        let at = page.find(&format!("<span>{what}</span>")).unwrap();
        let number = page[..at].rsplit("<b class=\"\">").next().unwrap();
        let (number, unit) = number.split_once(' ').unwrap();
        let scale = if unit.starts_with("ms") { 1.0 } else { 1_000.0 };
        let found = number.parse::<f64>().unwrap() * scale;
        assert!((found - millis).abs() <= millis / 50.0, "{what}: {number} {unit}");
    }
}

#[test]
fn what_failed_shows_the_phase_that_it_failed_in() {
    let report = report_of([("http://a.test/", 10, Some("no"))]);
    let row = &report.sample[0];
    assert_eq!(row.outcome, Outcome::Failed("invalid_request"));
    let of = |phase| row.phases().iter().find(|(it, _)| *it == phase).unwrap().1.as_millis();
    assert_eq!([of(Phase::Before), of(Phase::Dns), of(Phase::Body)], [5, 5, 0]);
}

#[test]
fn text_of_others_is_text_and_nothing_is_asked_for() {
    let evil =
        "http://a.test/\"><script>alert(1)</script><img src='http://b.test/x' onload=y>\u{1b}";
    let report = report_of([(evil, 3, Some("</td><script>1</script>&amp;")), (evil, 4, None)]);
    let page = page::page(&report, Duration::from_secs(1));
    assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
    assert!(page.contains("&lt;script&gt;1&lt;/script&gt;&amp;amp;"), "{page}");
    assert!(!page.contains('\u{1b}'));
    for asks in ["src=", "href=", "url(", "@import", "<link"] {
        let without = page.replace("src=&#39;", "");
        assert!(!without.contains(asks), "{asks}");
    }
}

#[test]
fn a_user_name_and_password_are_left_out_and_long_texts_cut() {
    let long = format!("http://me:canary@a.test/{}", "x".repeat(10_000));
    let report = report_of([(&long[..], 3, None)]);
    let page = page::page(&report, Duration::from_secs(1));
    assert!(!page.contains("canary") && page.contains("http://a.test/xxx"), "{page}");
    assert!(page.len() < 20_000, "{}", page.len());
}

#[test]
fn a_run_of_nothing_and_one_fetch_have_pages_too() {
    for fetches in [Vec::new(), vec![("http://a.test/", 0, None)], vec![("u", 5, Some("no"))]] {
        let report = report_of(fetches);
        let page = page::page(&report, Duration::ZERO);
        assert!(page.ends_with("</html>\n") && !page.contains("NaN") && !page.contains("inf"));
    }
}
