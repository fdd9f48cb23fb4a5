//! What waits in memory stays within its bound, and every fetch gets on all the same.

mod driving;
mod support;

use std::env;
use std::process::Command;
use std::time::Duration;

use driving::{begin, drain, get, settings, turn};
use support::{Action, Latch, Origin, Reply};
use whippet::{Event, FetchId, Kind, Limit, Reactor, Request, Settings};

const MIB: usize = 1 << 20;
const CHILD_VARIABLE: &str = "WHIPPET_TEST_PAUSED_STREAMS";

/// `length` bytes with a Content-Length, or so many chunks of 1 KiB.
fn body(length: usize) -> Reply {
    Reply::new()
        .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"))
        .send(vec![b'b'; length])
}

fn endless() -> Reply {
    let chunk = [b"400\r\n".as_slice(), &[b'e'; 1_024], b"\r\n"].concat();
    Reply::new()
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .send(chunk.repeat(256))
        .then(Action::Silence)
}

fn bounded(most: usize, body_bytes_max: u64, concurrency: usize) -> Settings {
    let mut settings = settings();
    settings.buffered_bytes_max = most;
    settings.body_bytes_max = body_bytes_max;
    settings.concurrency = concurrency;
    settings.timeouts.set(Limit::Total, Some(Duration::from_secs(60)));
    settings
}

/// Drives until all have ended; the most that waited at any moment, and the bytes of the answers.
fn run(reactor: &mut Reactor) -> (usize, Vec<usize>) {
    let (mut most, mut lengths) = (0, Vec::new());
    while reactor.pending() > 0 {
        reactor.wait(None).unwrap();
        loop {
            most = most.max(reactor.buffered_bytes());
            let Some(event) = reactor.next_event() else { break };
            match event {
                Event::Done { response, .. } => {
                    lengths.push(response.map_or(0, |response| response.body().len()));
                }
                Event::Failed { tag, error, .. } => panic!("{tag}: {error:?}"),
                _ => {}
            }
        }
    }
    (most, lengths)
}

#[test]
fn sixty_four_bodies_of_10_mib_finish_under_a_bound_of_64_mib() {
    let origin = Origin::plain(|_| body(10 * MIB));
    let mut reactor = Reactor::new(bounded(64 * MIB, 10 << 20, 64)).unwrap();
    for tag in 0..64 {
        reactor.submit(get(origin.url("/")).tag(tag)).unwrap();
    }
    let (most, lengths) = run(&mut reactor);
    assert_eq!(lengths, [10 * MIB; 64]);
    assert!(most <= 64 * MIB, "{most} bytes waited");
    assert!(most > 40 * MIB, "the bound was never near: {most}");
    assert_eq!(reactor.buffered_bytes(), 0);
}

#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
#[test]
fn collected_bodies_and_uploads_over_tls_finish_under_the_least_bound() {
    let origin = Origin::tls(|_| body(300_000));
    let mut reactor = Reactor::new(bounded(0, 400_000, 24)).unwrap();
    for tag in 0..48 {
        let upload = Request::post(origin.url("/")).unwrap().body(vec![b'u'; 300_000]);
        reactor.submit(upload.collect(true).tag(tag)).unwrap();
    }
    let (most, lengths) = run(&mut reactor);
    assert_eq!(lengths, [300_000; 48]);
    assert!(most <= MIB, "{most} bytes waited");
}

#[test]
fn a_body_larger_than_the_reserve_is_still_fetched() {
    let origin = Origin::plain(|_| body(3 * MIB));
    let mut reactor = Reactor::new(bounded(MIB, u64::MAX, 8)).unwrap();
    for tag in 0..8 {
        reactor.submit(get(origin.url("/")).tag(tag)).unwrap();
    }
    assert_eq!(run(&mut reactor).1, [3 * MIB; 8]);
}

/// Streams that are paused at their head, each with what was read behind it. Begun in groups that
/// the origin's backlog holds.
fn pause_all(reactor: &mut Reactor, url: &str, count: usize) -> Vec<FetchId> {
    let mut paused = Vec::new();
    while paused.len() < count {
        if reactor.pending() == paused.len() {
            for tag in (paused.len()..count).take(50) {
                reactor.submit(Request::get(url).unwrap().tag(tag as u64)).unwrap();
            }
        }
        reactor.wait(None).unwrap();
        while let Some(event) = reactor.next_event() {
            let head = match event {
                Event::Head { id, .. } => id,
                Event::Failed { tag, error, .. } => panic!("{tag}: {error:?}"),
                _ => continue,
            };
            reactor.pause(head);
            paused.push(head);
        }
    }
    paused
}

/// In a process of its own, which may open the files that this takes: 3 for each stream.
#[test]
fn a_thousand_paused_streams_stay_under_the_bound_and_others_get_through() {
    let output = Command::new("sh")
        .arg("-c")
        .arg("ulimit -S -n 4096 && exec \"$0\" --exact in_the_child --nocapture")
        .arg(env::current_exe().unwrap())
        .env(CHILD_VARIABLE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    assert!(said.contains("1000 were paused"), "{said}\n{complained}");
}

/// Does nothing unless it is told to.
#[test]
fn in_the_child() {
    if env::var_os(CHILD_VARIABLE).is_none() {
        return;
    }
    let origin = Origin::plain(|_| endless());
    let other = Origin::plain(|_| body(100_000));
    let mut reactor = Reactor::new(bounded(64 * MIB, 1 << 20, 1_100)).unwrap();
    let paused = pause_all(&mut reactor, &origin.url("/"), 1_000);
    assert!(reactor.buffered_bytes() <= 64 * MIB, "{} bytes wait", reactor.buffered_bytes());

    // One of them can be resumed, and goes on from where it was.
    let resumed = paused[7];
    reactor.resume(resumed);
    let mut taken = 0;
    while taken < 256 * 1_024 {
        reactor.wait(None).unwrap();
        while let Some(event) = reactor.next_event() {
            let Event::Body { id, chunk, .. } = event else { panic!("{event:?}") };
            assert_eq!(id, resumed);
            assert!(chunk.iter().all(|byte| *byte == b'e'));
            taken += chunk.len();
        }
    }
    // A body that is collected has its reserve.
    reactor.submit(get(other.url("/")).tag(5_000)).unwrap();
    let ended = std::iter::repeat_with(|| turn(&mut reactor, None)).find(|ended| !ended.is_empty());
    assert_eq!(ended.unwrap()[0].answer().body.len(), 100_000);

    for id in &paused {
        assert!(reactor.cancel(*id));
    }
    assert_eq!((reactor.buffered_bytes(), reactor.buffers()), (0, 0));
    println!("{} were paused", paused.len());
}

/// Collecting fetches, all of whose bodies are cut at 200,000 of 300,000 bytes until `latch` is
/// released: with the least bound, most of them starve.
fn starving(latch: &Latch, settings: Settings) -> (Origin, Reactor) {
    let latch = latch.clone();
    let origin = Origin::plain(move |_| {
        Reply::new()
            .send("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n")
            .send(vec![b's'; 200_000])
            .wait(&latch)
            .send(vec![b's'; 100_000])
    });
    let mut reactor = Reactor::new(settings).unwrap();
    for tag in 0..12 {
        reactor.submit(get(origin.url("/")).tag(tag)).unwrap();
    }
    begin(&mut reactor);
    while reactor.submit(get(origin.url("/")).tag(99)).map(|id| reactor.cancel(id)).is_ok() {
        assert!(turn(&mut reactor, None).is_empty());
    }
    (origin, reactor)
}

#[test]
fn requests_are_given_back_while_memory_is_short_and_taken_afterwards() {
    let latch = Latch::new();
    let (origin, mut reactor) = starving(&latch, bounded(MIB, 300_000, 12));
    let full = reactor.submit(get(origin.url("/later")).tag(7)).unwrap_err();
    assert_eq!(full.request.url().path(), "/later");
    latch.release();
    let (most, lengths) = run(&mut reactor);
    assert_eq!(lengths, [300_000; 12]);
    assert!(most <= MIB, "{most} bytes waited");
    reactor.submit(full.request).unwrap();
    assert_eq!(run(&mut reactor).1, [300_000]);
}

#[test]
fn what_starves_is_not_held_to_its_stall_limit_and_what_does_not_is() {
    let latch = Latch::new();
    let mut settings = bounded(MIB, 300_000, 12);
    settings.timeouts.set(Limit::Stall, Some(Duration::from_millis(300)));
    let (_origin, mut reactor) = starving(&latch, settings);
    // Those that read on, or had read all there was, stall; the rest are fed by their ends, and
    // then stall too. No more than the bound lets in can do so at once.
    let first = std::iter::repeat_with(|| turn(&mut reactor, None)).find(|ended| !ended.is_empty());
    let first = first.unwrap();
    assert!(first.len() < 12, "all stalled at once");
    for ended in &first {
        assert_eq!(ended.error().kind(), Kind::Timeout);
        assert_eq!(ended.error().limit(), Some(Limit::Stall));
    }
    latch.release();
    let mut left = 12 - first.len();
    while left > 0 {
        left -= turn(&mut reactor, None).len() + drain(&mut reactor).len();
    }
    assert_eq!(reactor.buffered_bytes(), 0);
}
