//! Time: each limit fires under its own name, counts from where it should, and not while a fetch
//! is paused or waits for its turn.

#![allow(clippy::disallowed_methods, reason = "deadlines are instants of the caller's clock")]

mod support;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use support::{DnsReply, DnsServer, Latch, Origin, Reply, blackhole, ok, response};
use whippet::{Error, Event, FetchId, Kind, Limit, Phase, Reactor, Request, Settings, Timeouts};

/// A limit that is to fire.
const SHORT: Duration = Duration::from_millis(50);
/// One that fires well after a [`SHORT`] one has had its chance.
const LONGER: Duration = Duration::from_millis(200);
/// One that never fires here.
const LONG: Duration = Duration::from_secs(3_600);

/// No limits, no retries.
fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.timeouts = Timeouts::NONE;
    settings.retries = 0;
    settings
}

fn reactor(settings: Settings) -> Reactor {
    Reactor::new(settings).unwrap()
}

fn get(url: impl AsRef<str>, tag: u64) -> Request {
    Request::get(url).unwrap().tag(tag)
}

/// How each fetch ended, by tag: its body, or its error.
type Ends = HashMap<u64, Result<Vec<u8>, Error>>;

/// Runs until nothing is pending.
fn drive(reactor: &mut Reactor) -> Ends {
    let mut ends = Ends::new();
    drive_until(reactor, &mut ends, |_| false);
    assert_eq!((reactor.pending(), reactor.in_flight(), reactor.waiting()), (0, 0, 0));
    assert_eq!(reactor.connections(), reactor.idle_connections());
    ends
}

/// Runs until `enough`, or nothing is pending.
fn drive_until(reactor: &mut Reactor, ends: &mut Ends, enough: impl Fn(&Ends) -> bool) {
    let mut bodies = HashMap::<u64, Vec<u8>>::new();
    while reactor.pending() > 0 && !enough(ends) {
        reactor.wait(None).unwrap();
        while let Some(event) = reactor.next_event() {
            let (tag, end) = match event {
                Event::Body { tag, chunk, .. } => {
                    bodies.entry(tag).or_default().extend_from_slice(chunk);
                    continue;
                }
                Event::Done { tag, .. } => (tag, Ok(bodies.remove(&tag).unwrap_or_default())),
                Event::Failed { tag, error, .. } => (tag, Err(error)),
                _ => continue,
            };
            assert!(ends.insert(tag, end).is_none(), "{tag} ended twice");
        }
    }
}

/// Submits one request, runs it to its end, and returns its error.
fn failure(settings: Settings, request: Request) -> Error {
    let mut reactor = reactor(settings);
    reactor.submit(request.tag(1)).unwrap();
    drive(&mut reactor).remove(&1).unwrap().unwrap_err()
}

#[track_caller]
fn assert_limit(error: &Error, limit: Limit, phase: Phase) {
    assert_eq!(error.kind(), Kind::Timeout, "{error}");
    assert_eq!((error.limit(), error.phase()), (Some(limit), phase), "{error}");
    assert!(error.to_string().contains(limit.as_str()), "{error}");
}

/// A server that the kernel connects to and that nobody attends.
fn deaf() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Lets [`LONGER`] pass on the reactor's clock, by a fetch of its own that times out.
fn let_time_pass(reactor: &mut Reactor, ends: &mut Ends) {
    const MARKER: u64 = u64::MAX;
    let (_listener, address) = deaf();
    let request = get(format!("http://{address}/"), MARKER)
        .limit(Limit::FirstByte, LONGER)
        .limit(Limit::Stall, Duration::MAX)
        .limit(Limit::Total, Duration::MAX);
    reactor.submit(request).unwrap();
    drive_until(reactor, ends, |ends| ends.contains_key(&MARKER));
    assert_limit(&ends.remove(&MARKER).unwrap().unwrap_err(), Limit::FirstByte, Phase::Head);
}

#[test]
fn total_fires_while_connecting() {
    let hole = blackhole();
    let request = get(format!("http://{}/", hole.address), 0).timeout(SHORT);
    let error = failure(settings(), request);
    assert_limit(&error, Limit::Total, Phase::Connect);
    assert_eq!(error.tried().len(), 1);
    assert_eq!(error.tried()[0].address, hole.address);
    assert!(!error.is_transient());
}

#[test]
fn total_fires_in_the_middle_of_a_body() {
    let origin = Origin::plain(|_| {
        Reply::new().send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").silence()
    });
    let error = failure(settings(), get(origin.url("/"), 0).timeout(SHORT));
    assert_limit(&error, Limit::Total, Phase::Body);
    let error = failure(settings(), get(origin.url("/"), 0).timeout(SHORT).collect(true));
    assert_limit(&error, Limit::Total, Phase::Body);
}

#[test]
fn what_a_collected_response_had_received_is_given_with_the_timeout() {
    let origin = Origin::plain(|_| {
        Reply::new().send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").silence()
    });
    let mut reactor = reactor(settings());
    reactor.submit(get(origin.url("/"), 0).limit(Limit::Stall, SHORT).collect(true)).unwrap();
    let mut seen = None;
    while reactor.pending() > 0 {
        reactor.wait(None).unwrap();
        while let Some(event) = reactor.next_event() {
            if let Event::Failed { error, partial, .. } = event {
                seen = Some((error, partial.unwrap().into_body()));
            }
        }
    }
    let (error, body) = seen.unwrap();
    assert_limit(&error, Limit::Stall, Phase::Body);
    assert_eq!(body, b"half");
}

#[test]
fn queue_fires_before_admission_only() {
    let go = Latch::new();
    let gate = go.clone();
    let origin = Origin::plain(move |_| Reply::new().wait(&gate).send(OK));
    let mut settings = settings();
    settings.concurrency = 1;
    settings.timeouts.set(Limit::Queue, Some(SHORT));
    let mut reactor = reactor(settings);
    let mut ends = Ends::new();
    reactor.submit(get(origin.url("/held"), 1)).unwrap();
    reactor.submit(get(origin.url("/late"), 2)).unwrap();
    drive_until(&mut reactor, &mut ends, |ends| !ends.is_empty());
    let error = ends.remove(&2).unwrap().unwrap_err();
    assert_limit(&error, Limit::Queue, Phase::Queue);
    assert_eq!(error.attempts(), 0);
    go.release();
    assert!(drive(&mut reactor)[&1].is_ok());
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_deadline_fires_wherever_the_fetch_is() {
    let origin = Origin::plain(|_| Reply::new().silence());
    let mut settings = settings();
    settings.concurrency = 1;
    let mut reactor = reactor(settings);
    let soon = Instant::now() + SHORT;
    reactor.submit(get(origin.url("/held"), 1).deadline(soon + LONGER)).unwrap();
    reactor.submit(get(origin.url("/waits"), 2).deadline(soon)).unwrap();
    let ends = drive(&mut reactor);
    assert_limit(ends[&1].as_ref().unwrap_err(), Limit::Deadline, Phase::Head);
    assert_limit(ends[&2].as_ref().unwrap_err(), Limit::Deadline, Phase::Queue);
}

#[test]
fn a_deadline_in_the_past_sends_nothing() {
    let origin = Origin::plain(|_| ok(""));
    let mut reactor = reactor(settings());
    let past = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
    reactor.submit(get(origin.url("/"), 1).deadline(past)).unwrap();
    match reactor.next_event() {
        Some(Event::Failed { error, .. }) => {
            assert_limit(&error, Limit::Deadline, Phase::Queue);
            assert_eq!(error.attempts(), 0);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((reactor.pending(), reactor.waiting(), reactor.connections()), (0, 0, 0));
    assert_eq!((reactor.next_deadline(), origin.connections()), (None, 0));
}

#[test]
fn connect_names_the_address_that_gave_no_answer() {
    let hole = blackhole();
    let request = get(format!("http://{}/", hole.address), 0).limit(Limit::Connect, SHORT);
    let error = failure(settings(), request);
    assert_limit(&error, Limit::Connect, Phase::Connect);
    assert_eq!(error.tried().iter().map(|tried| tried.address).collect::<Vec<_>>(), [hole.address]);
    assert!(error.to_string().contains(&hole.address.to_string()), "{error}");
    assert!(error.is_transient());
}

#[test]
fn dns_and_connect_bound_a_lookup() {
    let server = DnsServer::start(|_| DnsReply::Silent);
    let mut settings = settings();
    settings.dns_servers = vec![server.address()];
    let request = || get("http://silent.example/", 0);
    let error = failure(settings.clone(), request().limit(Limit::Dns, SHORT));
    assert_limit(&error, Limit::Dns, Phase::Dns);
    let error = failure(settings.clone(), request().limit(Limit::Connect, SHORT));
    assert_limit(&error, Limit::Connect, Phase::Dns);
    let error = failure(settings, request().timeout(SHORT));
    assert_limit(&error, Limit::Total, Phase::Dns);
}

#[test]
fn tls_and_connect_bound_a_handshake() {
    let (_listener, address) = deaf();
    let request = || get(format!("https://{address}/"), 0);
    let error = failure(settings(), request().limit(Limit::Tls, SHORT));
    assert_limit(&error, Limit::Tls, Phase::Tls);
    let error = failure(settings(), request().limit(Limit::Connect, SHORT));
    assert_limit(&error, Limit::Connect, Phase::Tls);
    let error = failure(settings(), request().timeout(SHORT));
    assert_limit(&error, Limit::Total, Phase::Tls);
}

#[test]
fn first_byte_bounds_the_wait_for_an_answer_and_nothing_after_it() {
    let origin = Origin::plain(|_| Reply::new().silence());
    let error = failure(settings(), get(origin.url("/"), 0).limit(Limit::FirstByte, SHORT));
    assert_limit(&error, Limit::FirstByte, Phase::Head);

    let go = Latch::new();
    let gate = go.clone();
    let slow = Origin::plain(move |_| Reply::new().send(&OK[..9]).wait(&gate).send(&OK[9..]));
    let mut reactor = reactor(settings());
    let mut ends = Ends::new();
    reactor.submit(get(slow.url("/"), 1).limit(Limit::FirstByte, SHORT)).unwrap();
    let_time_pass(&mut reactor, &mut ends);
    go.release();
    assert_eq!(drive(&mut reactor).remove(&1).unwrap().unwrap(), b"ok");
}

#[test]
fn stall_fires_within_a_head_a_body_and_an_upload() {
    for (sent, phase) in [(9, Phase::Head), (OK.len() - 1, Phase::Body)] {
        let origin = Origin::plain(move |_| Reply::new().send(&OK[..sent]).silence());
        let error = failure(settings(), get(origin.url("/"), 0).limit(Limit::Stall, SHORT));
        assert_limit(&error, Limit::Stall, phase);
    }
    let (_listener, address) = deaf();
    let request = Request::put(format!("http://{address}/")).unwrap().body(vec![7; 32 << 20]);
    let error = failure(settings(), request.limit(Limit::Stall, SHORT));
    assert_limit(&error, Limit::Stall, Phase::Send);
}

#[test]
fn idle_closes_the_socket() {
    let origin = Origin::plain(|_| ok("hi"));
    let mut settings = settings();
    settings.timeouts.set(Limit::Idle, Some(SHORT));
    let mut reactor = reactor(settings);
    for tag in 0..2 {
        reactor.submit(get(origin.url("/"), tag)).unwrap();
        drive(&mut reactor);
        assert_eq!((reactor.connections(), reactor.idle_connections()), (1, 1));
        assert!(reactor.next_deadline().is_some());
    }
    assert_eq!(origin.connections(), 1);
    while reactor.idle_connections() > 0 {
        reactor.wait(None).unwrap();
        while reactor.next_event().is_some() {}
    }
    origin.wait_for(|log| log.open == 0);
    assert_eq!((reactor.connections(), reactor.next_deadline()), (0, None));
}

#[test]
fn a_requests_own_limit_comes_before_the_settings() {
    let go = Latch::new();
    let gate = go.clone();
    let origin = Origin::plain(move |_| Reply::new().wait(&gate).send(OK));
    for limit in [Limit::FirstByte, Limit::Total, Limit::Stall] {
        let mut settings = settings();
        settings.timeouts.set(limit, Some(LONG));
        let error = failure(settings, get(origin.url("/"), 0).limit(limit, SHORT));
        assert_limit(&error, limit, Phase::Head);
    }
    let mut settings = settings();
    for limit in [Limit::FirstByte, Limit::Total, Limit::Stall, Limit::Connect] {
        settings.timeouts.set(limit, Some(SHORT));
    }
    let mut reactor = reactor(settings);
    let unlimited = get(origin.url("/"), 1)
        .limit(Limit::FirstByte, Duration::MAX)
        .limit(Limit::Stall, LONG)
        .timeout(Duration::MAX);
    reactor.submit(unlimited).unwrap();
    let mut ends = Ends::new();
    let_time_pass(&mut reactor, &mut ends);
    go.release();
    assert!(drive(&mut reactor)[&1].is_ok());
}

#[test]
fn total_begins_with_admission() {
    let go = Latch::new();
    let gate = go.clone();
    let origin = Origin::plain(move |seen| match &*seen.target {
        "/held" => Reply::new().wait(&gate).send(OK),
        _ => ok("second"),
    });
    let mut settings = settings();
    settings.per_origin = Some(1);
    let mut reactor = reactor(settings);
    let mut ends = Ends::new();
    reactor.submit(get(origin.url("/held"), 1)).unwrap();
    reactor.submit(get(origin.url("/"), 2).timeout(SHORT)).unwrap();
    let_time_pass(&mut reactor, &mut ends);
    assert!(ends.is_empty());
    go.release();
    assert_eq!(drive(&mut reactor).remove(&2).unwrap().unwrap(), b"second");
}

#[test]
fn a_loop_that_was_away_does_not_time_out_what_it_submits() {
    let origin = Origin::plain(|_| ok("hi"));
    let mut settings = settings();
    settings.timeouts.set(Limit::Connect, Some(SHORT));
    settings.timeouts.set(Limit::FirstByte, Some(SHORT));
    settings.timeouts.set(Limit::Queue, Some(SHORT));
    let mut reactor = reactor(settings);
    reactor.wait(Some(Duration::ZERO)).unwrap();
    for tag in 0..3 {
        // The behaviour under test is that of a program that is busy elsewhere.
        thread::sleep(2 * SHORT);
        reactor.submit(get(origin.url("/"), tag).timeout(SHORT)).unwrap();
        assert!(drive(&mut reactor)[&tag].is_ok());
    }
}

#[test]
fn nor_does_a_handler_that_takes_its_time() {
    let origin = Origin::plain(|_| ok("hi"));
    let mut settings = settings();
    settings.timeouts.set(Limit::Queue, Some(SHORT));
    settings.timeouts.set(Limit::FirstByte, Some(SHORT));
    let mut reactor = reactor(settings);
    let mut done = 0;
    reactor.submit(get(origin.url("/"), 0)).unwrap();
    while reactor.pending() > 0 {
        reactor.wait(None).unwrap();
        while let Some(event) = reactor.next_event() {
            match event {
                Event::Failed { error, .. } => panic!("{error}"),
                Event::Done { tag, .. } if tag < 3 => {
                    thread::sleep(2 * SHORT);
                    let request = get(origin.url("/"), tag + 1).timeout(SHORT);
                    reactor.submit(request).unwrap();
                }
                Event::Done { .. } => done += 1,
                _ => {}
            }
        }
    }
    assert_eq!(done, 1);
}

/// Submits, pauses at once, lets time pass, and returns the reactor with the fetch.
fn paused_before_its_head(origin: &Origin) -> (Reactor, FetchId) {
    let mut settings = settings();
    settings.timeouts.set(Limit::FirstByte, Some(SHORT));
    settings.timeouts.set(Limit::Stall, Some(SHORT));
    let mut reactor = reactor(settings);
    let id = reactor.submit(get(origin.url("/"), 1)).unwrap();
    reactor.pause(id);
    let mut ends = Ends::new();
    let_time_pass(&mut reactor, &mut ends);
    assert!(ends.is_empty(), "{ends:?}");
    (reactor, id)
}

#[test]
fn a_fetch_paused_before_its_head_does_not_age() {
    let origin = Origin::plain(|_| ok("hi"));
    let (mut reactor, id) = paused_before_its_head(&origin);
    reactor.resume(id);
    assert_eq!(drive(&mut reactor).remove(&1).unwrap().unwrap(), b"hi");
}

#[test]
fn first_byte_begins_anew_when_a_fetch_is_resumed() {
    let origin = Origin::plain(|_| Reply::new().silence());
    let mut settings = settings();
    settings.timeouts.set(Limit::FirstByte, Some(SHORT));
    let mut reactor = reactor(settings);
    let id = reactor.submit(get(origin.url("/"), 1)).unwrap();
    reactor.pause(id);
    let mut ends = Ends::new();
    let_time_pass(&mut reactor, &mut ends);
    reactor.resume(id);
    let error = drive(&mut reactor).remove(&1).unwrap().unwrap_err();
    assert_limit(&error, Limit::FirstByte, Phase::Head);
}

#[test]
fn a_fetch_paused_in_its_body_ages_by_its_total_only() {
    let origin = Origin::plain(|_| response(200, &[], vec![1; 300_000]));
    for timeout in [Duration::MAX, LONGER] {
        let mut settings = settings();
        settings.timeouts.set(Limit::Stall, Some(SHORT));
        let mut reactor = reactor(settings);
        let id = reactor.submit(get(origin.url("/"), 1).timeout(timeout)).unwrap();
        let mut is_paused = false;
        while !is_paused {
            reactor.wait(None).unwrap();
            while let Some(event) = reactor.next_event() {
                match event {
                    Event::Head { .. } => {
                        reactor.pause(id);
                        is_paused = true;
                    }
                    other => assert!(!is_paused, "{other:?}"),
                }
            }
        }
        let mut ends = Ends::new();
        let_time_pass(&mut reactor, &mut ends);
        if timeout == Duration::MAX {
            assert!(ends.is_empty(), "{ends:?}");
            reactor.resume(id);
            assert_eq!(drive(&mut reactor).remove(&1).unwrap().unwrap().len(), 300_000);
        } else {
            drive_until(&mut reactor, &mut ends, |_| false);
            assert_limit(ends[&1].as_ref().unwrap_err(), Limit::Total, Phase::Body);
        }
    }
}

#[test]
fn a_limit_of_an_attempt_is_retried_within_the_total() {
    let origin = Origin::plain(|_| Reply::new().silence());
    let request = get(origin.url("/"), 0).limit(Limit::FirstByte, SHORT).retries(2);
    let error = failure(settings(), request.clone().timeout(LONG));
    assert_limit(&error, Limit::FirstByte, Phase::Head);
    assert_eq!((error.attempts(), origin.requests().len()), (3, 3));
    // What is left of the total is no time for another attempt, or it ends that one.
    let error = failure(settings(), request.retries(1_000).timeout(2 * LONGER));
    assert!(matches!(error.limit(), Some(Limit::FirstByte | Limit::Total)), "{error}");
    assert!((1..10).contains(&error.attempts()), "{error:?}");
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
