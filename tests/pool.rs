//! Caps, fair shares, turns of origins, the waiting list, and which connections are kept and
//! shared.

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use support::{
    DnsReply, DnsServer, Latch, Origin, QueryType, Reply, Setup, blackhole, ca_der, ok, redirect,
    response, status,
};
use whippet::{Event, Limit, Reactor, Request, Settings, Timeouts, TlsSettings};

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

/// Tags in the order in which they were done; the first failure panics.
fn drive(reactor: &mut Reactor) -> Vec<u64> {
    let done = drive_until(reactor, |_, _| false);
    assert_eq!((reactor.pending(), reactor.in_flight(), reactor.waiting()), (0, 0, 0));
    assert_eq!(reactor.connections(), reactor.idle_connections());
    done
}

/// Runs until `enough` or nothing is pending; `enough` is asked after each event and turn.
fn drive_until(reactor: &mut Reactor, enough: impl Fn(&Reactor, &[u64]) -> bool) -> Vec<u64> {
    let mut done = Vec::new();
    while reactor.pending() > 0 {
        reactor.wait(Some(PATIENCE)).unwrap();
        while let Some(event) = reactor.next_event() {
            match event {
                Event::Done { tag, .. } => done.push(tag),
                Event::Failed { error, .. } => panic!("{error}"),
                _ => {}
            }
            if enough(reactor, &done) {
                return done;
            }
        }
        if enough(reactor, &done) {
            return done;
        }
    }
    done
}

/// Lets time pass on the reactor's clock, by a fetch of its own that times out.
fn let_time_pass(reactor: &mut Reactor, time: Duration) {
    const MARKER: u64 = u64::MAX;
    let silent = Origin::plain(|_| Reply::new().silence());
    reactor.submit(get(silent.url("/"), MARKER).limit(Limit::FirstByte, time)).unwrap();
    loop {
        reactor.wait(Some(PATIENCE)).unwrap();
        while let Some(event) = reactor.next_event() {
            if matches!(event, Event::Failed { tag: MARKER, .. }) {
                return;
            }
        }
    }
}

/// Answers once the latch is released.
fn held(latch: &Latch) -> Origin {
    let gate = latch.clone();
    Origin::plain(move |_| Reply::new().wait(&gate).send(OK))
}

fn submit(reactor: &mut Reactor, origin: &Origin, tags: std::ops::Range<u64>) {
    for tag in tags {
        reactor.submit(get(origin.url("/"), tag)).unwrap();
    }
}

#[test]
fn in_flight_stays_below_the_cap() {
    let origin = Origin::plain(|_| ok("hi"));
    let mut settings = settings();
    settings.concurrency = 7;
    let mut reactor = reactor(settings);
    submit(&mut reactor, &origin, 0..100);
    assert_eq!((reactor.in_flight(), reactor.waiting(), reactor.pending()), (0, 100, 100));
    let done = drive_until(&mut reactor, |reactor, _| {
        assert!(reactor.in_flight() <= 7 && reactor.connections() <= 7);
        false
    });
    assert_eq!(done.len(), 100);
    assert_eq!(origin.log().open_max, 7);
}

#[test]
fn an_origin_has_at_most_the_number_given() {
    let go = Latch::new();
    let origins = [held(&go), held(&go)];
    let mut settings = settings();
    settings.concurrency = 10;
    settings.per_origin = Some(3);
    let mut reactor = reactor(settings);
    for origin in &origins {
        submit(&mut reactor, origin, 0..20);
    }
    drive_until(&mut reactor, |reactor, _| reactor.in_flight() == 6);
    origins.iter().for_each(|origin| drop(origin.wait_for(|log| log.open == 3)));
    reactor.wait(Some(Duration::ZERO)).unwrap();
    assert!(reactor.next_event().is_none());
    assert_eq!((reactor.in_flight(), reactor.waiting()), (6, 34));
    go.release();
    assert_eq!(drive(&mut reactor).len(), 40);
    assert!(origins.iter().all(|origin| origin.log().open_max == 3));
}

#[test]
fn a_slow_origin_holds_its_share_and_the_other_goes_on() {
    let go = Latch::new();
    let slow = held(&go);
    let quick = Origin::plain(|_| ok("hi"));
    let mut settings = settings();
    settings.concurrency = 8;
    let mut reactor = reactor(settings);
    submit(&mut reactor, &slow, 0..1_000);
    submit(&mut reactor, &quick, 1_000..1_100);
    let done = drive_until(&mut reactor, |_, done| done.len() == 100);
    assert!(done.iter().all(|tag| *tag >= 1_000));
    assert_eq!(slow.log().open_max, 4);
    // Alone now, it gets everything.
    drive_until(&mut reactor, |reactor, _| reactor.in_flight() == 8);
    go.release();
    assert_eq!(drive(&mut reactor).len(), 1_000);
    assert_eq!(slow.log().open_max, 8);
}

#[test]
fn one_origin_alone_gets_every_slot() {
    let go = Latch::new();
    let origin = held(&go);
    let mut settings = settings();
    settings.concurrency = 16;
    let mut reactor = reactor(settings);
    submit(&mut reactor, &origin, 0..40);
    drive_until(&mut reactor, |reactor, _| reactor.in_flight() == 16);
    go.release();
    assert_eq!(drive(&mut reactor).len(), 40);
    assert_eq!(origin.log().open_max, 16);
}

#[test]
fn shares_are_rounded_up_so_that_no_slot_stays_empty() {
    let go = Latch::new();
    let origins: Vec<_> = (0..33).map(|_| held(&go)).collect();
    let mut settings = settings();
    settings.concurrency = 64;
    let mut reactor = reactor(settings);
    for origin in &origins {
        submit(&mut reactor, origin, 0..4);
    }
    drive_until(&mut reactor, |reactor, _| reactor.in_flight() == 64);
    go.release();
    assert_eq!(drive(&mut reactor).len(), 33 * 4);
    // The share grows while origins finish, so only the beginning is bounded by 2 each.
    assert!(origins.iter().all(|origin| origin.log().open_max <= 4));
}

#[test]
fn an_origin_parked_at_a_small_share_returns_when_the_share_has_grown() {
    let (go, go_on) = (Latch::new(), Latch::new());
    let (wide, narrow, brief) = (held(&go), held(&go), held(&go_on));
    let mut settings = settings();
    settings.concurrency = 9;
    let mut reactor = reactor(settings);
    // Alone, it takes four slots and wants no more.
    submit(&mut reactor, &wide, 0..4);
    drive_until(&mut reactor, |reactor, _| reactor.in_flight() == 4);
    // A share is now three: the second origin is parked with that many.
    submit(&mut reactor, &narrow, 10..30);
    submit(&mut reactor, &brief, 90..91);
    drive_until(&mut reactor, |reactor, _| reactor.in_flight() == 8);
    go_on.release();
    // The third ends, a share is five, and before anything is admitted the first wants more.
    let mut is_over = false;
    while !is_over {
        reactor.wait(Some(PATIENCE)).unwrap();
        while let Some(event) = reactor.next_event() {
            if let Event::Done { tag: 90, .. } = event {
                submit(&mut reactor, &wide, 4..8);
                is_over = true;
            }
        }
    }
    drive_until(&mut reactor, |reactor, _| reactor.in_flight() == 9);
    assert_eq!(reactor.in_flight(), 9);
    go.release();
    assert_eq!(drive(&mut reactor).len(), 28);
}

#[test]
fn a_full_waiting_list_gives_the_request_back() {
    let origin = Origin::plain(|_| ok("hi"));
    let mut settings = settings();
    settings.waiting_requests_max = 5;
    let mut reactor = reactor(settings);
    submit(&mut reactor, &origin, 0..5);
    let full = reactor.submit(get(origin.url("/sixth"), 6)).unwrap_err();
    assert_eq!((full.request.tag_value(), full.request.url().path()), (6, "/sixth"));
    assert_eq!(reactor.pending(), 5);
    // In flight is not waiting.
    drive_until(&mut reactor, |reactor, _| reactor.in_flight() == 5);
    let id = reactor.submit(full.request).unwrap();
    for tag in 7..11 {
        reactor.submit(get(origin.url("/"), tag)).unwrap();
    }
    assert!(reactor.submit(get(origin.url("/"), 11)).is_err());
    assert!(reactor.cancel(id));
    reactor.submit(get(origin.url("/"), 12)).unwrap();
    assert!(reactor.submit(get(origin.url("/"), 13)).is_err());
    drive(&mut reactor);
}

#[test]
fn waiting_bytes_are_bounded_too() {
    let origin = Origin::plain(|_| ok("hi"));
    let upload = |tag| get(origin.url("/"), tag).body(vec![b'x'; 10_000]);
    let mut settings = settings();
    settings.waiting_bytes_max = 25_000;
    let mut reactor = reactor(settings);
    for round in 0..3 {
        let first = reactor.submit(upload(1)).unwrap();
        reactor.submit(upload(2)).unwrap();
        let full = reactor.submit(upload(3)).unwrap_err();
        assert_eq!(full.request.tag_value(), 3);
        assert!(reactor.cancel(first));
        reactor.submit(full.request).unwrap();
        assert!(reactor.submit(upload(4)).is_err(), "round {round}");
        assert_eq!(drive(&mut reactor).len(), 2);
    }
    // One larger than all is taken where nothing waits: it could never be sent otherwise.
    reactor.submit(get(origin.url("/"), 5).body(vec![b'x'; 100_000])).unwrap();
    assert!(reactor.submit(get(origin.url("/"), 6)).is_err());
    assert_eq!(drive(&mut reactor), [5]);
}

#[test]
fn origins_take_turns_and_each_is_first_in_first_out() {
    let origins: Vec<_> = (0..3).map(|_| Origin::plain(|_| ok("hi"))).collect();
    let mut settings = settings();
    settings.concurrency = 1;
    let mut reactor = reactor(settings);
    submit(&mut reactor, &origins[0], 0..4);
    submit(&mut reactor, &origins[1], 10..12);
    submit(&mut reactor, &origins[2], 20..21);
    assert_eq!(drive(&mut reactor), [0, 10, 20, 1, 11, 2, 3]);
}

#[test]
fn redirects_and_retries_go_to_the_front_of_their_origin() {
    let (go, here) = (Latch::new(), Latch::new());
    let (gate, reached) = (go.clone(), here.clone());
    let origin = Origin::plain(move |seen| match &*seen.target {
        "/from" => redirect(302, "/to"),
        "/flaky" if !reached.is_released() => status(503).release(&reached),
        "/held" => Reply::new().wait(&gate).send(OK),
        _ => ok("hi"),
    });
    let mut settings = settings();
    settings.concurrency = 1;
    settings.retries = 1;
    let mut reactor = reactor(settings);
    for (tag, target) in (0_u64..).zip(["/from", "/1", "/flaky", "/held", "/2", "/3"]) {
        reactor.submit(get(origin.url(target), tag)).unwrap();
    }
    // Longer than the first wait before a retry can be: it waits in line by then, and must
    // itself not be admitted, for the slot is held.
    let deadline = get(origin.url("/never"), 99).limit(Limit::Queue, Duration::from_millis(600));
    reactor.submit(deadline).unwrap();
    let mut is_over = false;
    while reactor.pending() > 0 {
        reactor.wait(Some(PATIENCE)).unwrap();
        while let Some(event) = reactor.next_event() {
            match event {
                Event::Failed { tag, error, .. } => {
                    assert_eq!((tag, error.limit()), (99, Some(Limit::Queue)));
                    is_over = true;
                    go.release();
                }
                Event::Done { tag, stats, .. } => {
                    assert_eq!(stats.attempts, if tag == 0 || tag == 2 { 2 } else { 1 });
                    assert!(is_over || tag < 2);
                }
                _ => {}
            }
        }
    }
    let targets: Vec<_> = origin.requests().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/from", "/to", "/1", "/flaky", "/held", "/flaky", "/2", "/3"]);
}

#[test]
fn the_connection_idle_longest_makes_room() {
    let origins: Vec<_> = (0..3).map(|_| Origin::plain(|_| ok("hi"))).collect();
    let mut settings = settings();
    settings.idle_connections_max = 2;
    let mut reactor = reactor(settings);
    for round in [0, 1, 0, 2] {
        submit(&mut reactor, &origins[round], 0..1);
        drive(&mut reactor);
        assert!(reactor.idle_connections() <= 2);
    }
    // The first was used again after the second.
    origins[1].wait_for(|log| log.open == 0);
    assert_eq!((origins[0].log().open, origins[2].log().open), (1, 1));
    assert_eq!(origins[0].connections(), 1);
}

#[test]
fn without_idle_connections_none_is_kept() {
    let origin = Origin::plain(|_| ok("hi"));
    let mut settings = settings();
    settings.idle_connections_max = 0;
    settings.concurrency = 1;
    let mut reactor = reactor(settings);
    submit(&mut reactor, &origin, 0..3);
    drive(&mut reactor);
    assert_eq!((reactor.connections(), origin.connections()), (0, 3));
}

#[test]
fn the_connection_used_last_is_used_first() {
    let (first, second) = (Latch::new(), Latch::new());
    let gates = [first.clone(), second.clone()];
    let origin = Origin::plain(move |seen| match &*seen.target {
        "/first" => Reply::new().wait(&gates[0]).send(OK),
        "/second" => Reply::new().wait(&gates[1]).send(OK),
        _ => ok("hi"),
    });
    let mut reactor = reactor(settings());
    reactor.submit(get(origin.url("/first"), 1)).unwrap();
    reactor.submit(get(origin.url("/second"), 2)).unwrap();
    for (latch, tag) in [(&second, 2), (&first, 1)] {
        latch.release();
        assert_eq!(drive_until(&mut reactor, |_, done| !done.is_empty()), [tag]);
    }
    for tag in 3..6 {
        reactor.submit(get(origin.url("/then"), tag)).unwrap();
        drive(&mut reactor);
    }
    let requests = origin.requests();
    let on = |target: &str| requests.iter().find(|seen| seen.target == target).unwrap().connection;
    let then: Vec<_> =
        requests.iter().filter(|seen| seen.target == "/then").map(|seen| seen.connection).collect();
    assert_eq!(then, [on("/first"); 3]);
    assert_ne!(on("/first"), on("/second"));
}

#[test]
fn the_servers_keep_alive_is_believed_less_a_second() {
    let says = |timeout: &'static str| {
        Origin::plain(move |_| response(200, &[("Keep-Alive", timeout)], "hi"))
    };
    // A second or less: of no use.
    for timeout in ["timeout=1", "timeout=0", "max=5, timeout=1"] {
        let origin = says(timeout);
        let mut reactor = reactor(settings());
        for _ in 0..2 {
            submit(&mut reactor, &origin, 0..1);
            drive(&mut reactor);
            assert_eq!(reactor.connections(), 0, "{timeout}");
        }
        assert_eq!(origin.connections(), 2);
    }
    // Longer than our own limit, and shorter than that.
    let (patient, hasty) = (says("timeout=60"), says("timeout=2"));
    for (origin, own) in [(&patient, Duration::from_millis(20)), (&hasty, LONG)] {
        let mut settings = settings();
        settings.timeouts.set(Limit::Idle, Some(own));
        let mut reactor = reactor(settings);
        submit(&mut reactor, origin, 0..1);
        drive(&mut reactor);
        let_time_pass(&mut reactor, Duration::from_millis(100));
        submit(&mut reactor, origin, 1..2);
        drive_until(&mut reactor, |_, done| done == [1]);
        assert_eq!(origin.connections(), 1);
    }
    let mut reactor = reactor(settings());
    submit(&mut reactor, &hasty, 0..1);
    drive(&mut reactor);
    while reactor.idle_connections() > 0 {
        reactor.wait(Some(PATIENCE)).unwrap();
        while reactor.next_event().is_some() {}
    }
    assert_eq!(reactor.connections(), 0);
}

/// Two origins on one port of two addresses.
fn twins() -> (Origin, Origin) {
    let second = IpAddr::from(Ipv4Addr::new(127, 0, 0, 2));
    loop {
        let first = Origin::plain(|_| ok("first"));
        let address = SocketAddr::new(second, first.port());
        if std::net::TcpListener::bind(address).is_ok() {
            let setup = Setup { address, ..Setup::default() };
            return (first, Origin::start(setup, |_| ok("second")));
        }
    }
}

#[test]
fn connections_are_not_shared_across_resolve_overrides() {
    let (first, second) = twins();
    let (host, port) = ("shared.example", first.port());
    let mut reactor = reactor(settings());
    for tag in 0..6 {
        let to = if tag % 2 == 0 { &first } else { &second };
        let request = get(first.url_at(host, "/"), tag);
        let request = request.resolve(host, port, to.address().ip()).unwrap();
        reactor.submit(request).unwrap();
        assert_eq!(drive(&mut reactor), [tag]);
    }
    for origin in [&first, &second] {
        assert_eq!((origin.connections(), origin.requests().len()), (1, 3));
    }
    assert_eq!(reactor.idle_connections(), 2);
}

#[test]
fn connections_are_not_shared_across_tls_settings() {
    let origin = Origin::tls(|_| ok("hi"));
    let trust = || Arc::new(TlsSettings::new().add_ca_der(ca_der().to_vec()));
    let (one, other) = (trust(), trust());
    let mut settings = settings();
    settings.tls = trust();
    let mut reactor = reactor(settings);
    for tag in 0..9 {
        let request = get(origin.url("/"), tag);
        let request = match tag % 3 {
            0 => request.tls(Arc::clone(&one)),
            1 => request.tls(Arc::clone(&other)),
            _ => request,
        };
        reactor.submit(request).unwrap();
        drive(&mut reactor);
    }
    let connections: Vec<_> = origin.requests().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    // A session of one identity must not be resumed by another.
    assert!(origin.log().handshakes.iter().all(|handshake| !handshake.resumed));
}

#[test]
fn an_idle_connection_that_appears_saves_a_fetch_that_dials() {
    let go = Latch::new();
    let gate = go.clone();
    let hole = blackhole();
    let address = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), hole.address.port());
    let setup = Setup { address, ..Setup::default() };
    let origin = Origin::start(setup, move |seen| match &*seen.target {
        "/held" => Reply::new().wait(&gate).send(OK),
        _ => ok("hi"),
    });
    // The name leads to the origin once, then to where nobody answers.
    let dns = DnsServer::start(move |asked| match (asked.kind, asked.nth) {
        (QueryType::A, 0) => DnsReply::Answer(vec![address.ip()], 0),
        (QueryType::A, _) => DnsReply::Answer(vec![hole.address.ip()], 0),
        _ => DnsReply::Answer(vec![], 0),
    });
    let mut settings = settings();
    settings.dns_servers = vec![dns.address()];
    settings.timeouts.set(Limit::Connect, Some(Duration::from_millis(1_500)));
    let mut reactor = reactor(settings);
    reactor.submit(get(origin.url_at("moving.example", "/held"), 1)).unwrap();
    // No answer is cached for less than a second.
    let_time_pass(&mut reactor, Duration::from_millis(1_100));
    assert_eq!(origin.requests().len(), 1);
    // One on a route of its own dials before it, and must not stand in its way.
    let other = get(origin.url_at("moving.example", "/other"), 2);
    let other = other.resolve("moving.example", origin.port(), Ipv4Addr::LOCALHOST.into()).unwrap();
    let other = reactor.submit(other.limit(Limit::Connect, LONG)).unwrap();
    reactor.submit(get(origin.url_at("moving.example", "/saved"), 3)).unwrap();
    drive_until(&mut reactor, |reactor, _| reactor.connections() == 3);
    go.release();
    let done = drive_until(&mut reactor, |_, done| done.len() == 2);
    assert_eq!(done, [1, 3], "{:?} {:?}", origin.log(), dns.questions());
    assert_eq!(origin.connections(), 1);
    assert!(reactor.cancel(other));
    // What had been dialled ends by its own time.
    while reactor.connections() > reactor.idle_connections() {
        reactor.wait(Some(PATIENCE)).unwrap();
        assert!(reactor.next_event().is_none());
    }
    assert_eq!((reactor.connections(), reactor.pending(), reactor.in_flight()), (1, 0, 0));
}

#[test]
fn the_rest_of_a_redirects_body_is_waited_for_only_so_long() {
    let origin = Origin::plain(|seen| match &*seen.target {
        "/from" => {
            let head = "HTTP/1.1 302 Found\r\nLocation: /to\r\nContent-Length: 10\r\n\r\n";
            Reply::new().send(head).send("half").silence()
        }
        _ => ok("hi"),
    });
    let mut reactor = reactor(settings());
    reactor.submit(get(origin.url("/from"), 1)).unwrap();
    assert_eq!(drive_until(&mut reactor, |_, done| !done.is_empty()), [1]);
    assert_eq!((reactor.pending(), reactor.in_flight()), (0, 0));
    while reactor.connections() > reactor.idle_connections() {
        reactor.wait(Some(PATIENCE)).unwrap();
        assert!(reactor.next_event().is_none());
    }
    assert_eq!((reactor.connections(), origin.connections()), (1, 2));
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const LONG: Duration = Duration::from_secs(3_600);
/// So that a wait that would last for ever shows in what is asserted next.
const PATIENCE: Duration = Duration::from_secs(20);
