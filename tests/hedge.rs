//! Requests that are sent a second time because their answer does not come: when, how often, who
//! wins, and what becomes of the other, on a network and a clock that the test moves.

mod scripted;

use std::time::Duration;

use scripted::{ANSWER, READ_CLOSED, READABLE, Stage, WRITABLE};
use whippet::{Body, Event, Hedge, Kind, Limit, Rate, Request, Settings, Stats};

const HERE: &str = "http://192.0.2.1/";

/// Late after 100 ms, with one second exchange saved up.
fn hedging(change: impl FnOnce(&mut Settings)) -> Stage {
    with_saved(1, Hedge::after(Duration::from_millis(100)), change)
}

/// A stage on which twenty fetches were made for each hedge that may be. The socket that they used
/// has gone.
fn with_saved(hedges: usize, hedge: Hedge, change: impl FnOnce(&mut Settings)) -> Stage {
    let mut stage = Stage::with(|settings| {
        settings.hedge = Some(hedge);
        settings.timeouts.set(Limit::Total, None);
        settings.timeouts.set(Limit::Connect, None);
        change(settings);
    });
    for nth in 0..20 * hedges {
        // Of a method that is not sent twice itself.
        stage.submit("POST");
        stage.pass(0);
        if nth == 0 {
            connect(&mut stage, 0);
        }
        reply(&mut stage, 0, ANSWER);
    }
    assert_eq!(stage.bodies.len(), 20 * hedges);
    stage.bodies.clear();
    stage.change(0, |socket| socket.fin = true);
    stage.turn(0, READABLE | READ_CLOSED);
    assert_eq!((stage.reactor.connections(), stage.reactor.hedges().begun), (0, 0));
    stage
}

fn connect(stage: &mut Stage, socket: usize) {
    stage.change(socket, |socket| socket.has_connected = true);
    stage.turn(socket, WRITABLE);
}

fn reply(stage: &mut Stage, socket: usize, bytes: &[u8]) {
    stage.change(socket, |socket| socket.received.extend(bytes));
    stage.turn(socket, READABLE);
}

fn written(stage: &Stage, socket: usize) -> Vec<u8> {
    stage.told.borrow().sockets[socket].written.clone()
}

fn is_closed(stage: &Stage, socket: usize) -> bool {
    stage.told.borrow().sockets[socket].is_closed
}

/// A fetch whose answer is late, and whose second exchange dials socket 2.
fn late(method: &str) -> Stage {
    late_with(method, |_| ())
}

fn late_with(method: &str, change: impl FnOnce(&mut Settings)) -> Stage {
    let mut stage = hedging(change);
    stage.submit(method);
    stage.pass(0);
    connect(&mut stage, 1);
    stage.pass(98);
    assert_eq!(stage.sockets(), 2);
    stage.pass(1);
    assert_eq!((stage.sockets(), stage.reactor.in_flight()), (3, 2));
    assert_eq!((stage.reactor.pending(), stage.reactor.hedges().under_way), (1, 1));
    stage
}

/// Nothing is left of a fetch that was sent twice.
fn assert_settled(stage: &Stage) {
    let reactor = &stage.reactor;
    assert_eq!((reactor.pending(), reactor.in_flight(), reactor.waiting()), (0, 0, 0));
    assert_eq!(reactor.hedges().under_way, 0);
    assert_eq!(reactor.connections(), reactor.idle_connections());
}

#[test]
fn the_second_exchange_can_win() {
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        let mut stage = late(method);
        connect(&mut stage, 2);
        assert_eq!(written(&stage, 1), written(&stage, 2), "{method}");
        reply(&mut stage, 2, if method == "HEAD" { &ANSWER[..ANSWER.len() - 4] } else { ANSWER });
        assert_eq!(stage.bodies, [if method == "HEAD" { "" } else { "good" }], "{method}");
        assert!(is_closed(&stage, 1) && !is_closed(&stage, 2));
        assert_eq!((stage.reactor.hedges().begun, stage.reactor.hedges().won), (1, 1));
        assert_settled(&stage);
    }
}

#[test]
fn the_first_exchange_can_win_whatever_the_second_is_doing() {
    for is_sent in [false, true] {
        let mut stage = late("GET");
        if is_sent {
            connect(&mut stage, 2);
        }
        reply(&mut stage, 1, ANSWER);
        assert_eq!(stage.bodies, ["good"]);
        assert!(!is_closed(&stage, 1) && is_closed(&stage, 2));
        assert_eq!((stage.reactor.hedges().begun, stage.reactor.hedges().won), (1, 0));
        assert_settled(&stage);
    }
}

#[test]
fn the_answer_that_comes_first_is_streamed_whole_and_once() {
    let mut stage = hedging(|_| ());
    let id = stage.reactor.submit(Request::get(HERE).unwrap().tag(7)).unwrap();
    stage.pass(0);
    connect(&mut stage, 1);
    stage.pass(99);
    connect(&mut stage, 2);
    let told = |stage: &Stage, socket: usize, bytes: &[u8]| {
        let mut told = stage.told.borrow_mut();
        told.sockets[socket].received.extend(bytes);
        let token = told.sockets[socket].token;
        told.events.push(whippet::net::Readiness { token, bits: READABLE });
    };
    // Both in one turn, the second exchange's event before the first's.
    told(&stage, 2, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsec");
    told(&stage, 1, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst");
    stage.reactor.wait(None).unwrap();
    let (mut heads, mut body, mut ended) = (0, Vec::new(), None::<Stats>);
    for _ in 0..2 {
        while let Some(event) = stage.reactor.next_event() {
            match event {
                Event::Head { id: of, tag: 7, .. } if of == id => heads += 1,
                Event::Body { id: of, tag: 7, chunk, .. } if of == id => body.extend(chunk),
                Event::Done { id: of, tag: 7, stats, .. } if of == id => ended = Some(stats),
                other => panic!("{other:?}"),
            }
        }
        if ended.is_none() {
            told(&stage, 2, b"ond");
            stage.reactor.wait(None).unwrap();
        }
    }
    let stats = ended.unwrap();
    assert_eq!((heads, &*body, stats.attempts, stats.hedged), (1, &b"second"[..], 2, true));
    assert_eq!((stats.wire_bytes, stats.reused), (6, false));
    assert_settled(&stage);
}

#[test]
fn what_must_not_be_sent_twice_is_not() {
    let is_hedged = |request: Request| {
        let mut stage = hedging(|_| ());
        stage.reactor.submit(request.collect(true)).unwrap();
        stage.pass(0);
        connect(&mut stage, 1);
        stage.pass(10_000);
        stage.sockets() > 2
    };
    for method in ["POST", "PATCH", "LOCK"] {
        assert!(!is_hedged(Request::new(method, HERE).unwrap()), "{method}");
    }
    assert!(!is_hedged(Request::get(HERE).unwrap().hedged(false)));
    assert!(!is_hedged(Request::get(HERE).unwrap().upgrade("echo").unwrap()));
    // A body that comes piece by piece may be had again or not: it is not sent twice.
    let lines = || Body::chunks(["line\n"]);
    assert!(!is_hedged(Request::new("PUT", HERE).unwrap().body(lines())));
    assert!(is_hedged(Request::new("PUT", HERE).unwrap().body("line\n")));
    assert!(is_hedged(Request::get(HERE).unwrap().hedged(true)));
}

#[test]
fn nothing_is_sent_twice_after_its_answer_has_begun() {
    for begun in [&b"H"[..], b"HTTP/1.1 103 Early\r\n\r\n", &ANSWER[..ANSWER.len() - 1]] {
        let mut stage = hedging(|_| ());
        stage.submit("GET");
        stage.pass(0);
        connect(&mut stage, 1);
        reply(&mut stage, 1, begun);
        stage.pass(10_000);
        assert_eq!((stage.sockets(), stage.reactor.hedges().begun), (2, 0));
    }
    // Nor while the program does not want it.
    let mut stage = hedging(|_| ());
    let id = stage.submit("GET");
    stage.pass(0);
    connect(&mut stage, 1);
    stage.reactor.pause(id);
    stage.pass(10_000);
    assert_eq!(stage.sockets(), 2);
}

#[test]
fn one_request_in_twenty_is_sent_twice_at_the_most() {
    let mut stage = with_saved(3, Hedge::after(Duration::from_millis(100)), |_| ());
    for _ in 0..30 {
        stage.submit("GET");
    }
    stage.pass(0);
    (1..31).for_each(|socket| connect(&mut stage, socket));
    stage.pass(10_000);
    // Three were saved, and thirty more attempts are worth one.
    assert_eq!((stage.sockets(), stage.reactor.hedges().begun), (35, 4));
}

#[test]
fn a_second_exchange_takes_only_a_slot_that_nobody_wants() {
    for (at_once, per_origin, sockets) in [(1, None, 2), (2, Some(1), 2), (2, None, 3)] {
        let mut stage = hedging(|settings| {
            settings.concurrency = at_once;
            settings.per_origin = per_origin;
        });
        stage.submit("GET");
        stage.pass(0);
        connect(&mut stage, 1);
        stage.pass(1_000);
        assert_eq!(stage.sockets(), sockets, "{at_once} {per_origin:?}");
    }
    // Of a rate, only a token that is there.
    for (attempts, sockets) in [(0.01, 2), (100.0, 3)] {
        let mut stage = hedging(|settings| {
            settings.pace.rate = Rate::per_second(attempts).map(|rate| rate.burst(21));
        });
        stage.submit("GET");
        stage.pass(0);
        connect(&mut stage, 1);
        stage.pass(1_000);
        assert_eq!(stage.sockets(), sockets, "{attempts}");
    }
}

#[test]
fn others_who_come_in_its_turn_and_have_slots_leave_it_its_own() {
    for (at_once, hedges) in [(3, 1_u8), (2, 0)] {
        let mut stage = hedging(|settings| settings.concurrency = at_once);
        stage.submit("GET");
        stage.pass(0);
        connect(&mut stage, 1);
        stage.pass(98);
        stage.submit("POST");
        stage.pass(1);
        assert_eq!(
            (stage.sockets(), stage.reactor.hedges().begun),
            (3 + usize::from(hedges), u64::from(hedges))
        );
    }
}

#[test]
fn a_second_exchange_that_comes_to_nothing_changes_nothing() {
    let unavailable = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
    for how in ["refused", "closed", "reset", "malformed", "unavailable"] {
        let mut stage = late_with("GET", |settings| settings.retries = 2);
        if how == "refused" {
            stage.change(2, |socket| socket.refuses = true);
            stage.turn(2, READABLE | WRITABLE | READ_CLOSED | scripted::ERROR);
        } else {
            connect(&mut stage, 2);
        }
        match how {
            "closed" => stage.change(2, |socket| socket.fin = true),
            "reset" => stage.change(2, |socket| socket.broken = true),
            "malformed" => stage.change(2, |socket| socket.received.extend(b"SMTP\r\n\r\n")),
            "unavailable" => stage.change(2, |socket| socket.received.extend(unavailable)),
            _ => {}
        }
        if how != "refused" {
            stage.turn(2, READABLE);
        }
        assert_eq!((stage.reactor.pending(), stage.reactor.in_flight()), (1, 1), "{how}");
        reply(&mut stage, 1, ANSWER);
        assert_eq!((stage.bodies.len(), stage.failed.len(), stage.sockets()), (1, 0, 3), "{how}");
        assert_settled(&stage);
    }
}

#[test]
fn a_first_exchange_that_fails_leaves_the_fetch_to_the_second() {
    let mut stage = late("GET");
    connect(&mut stage, 2);
    stage.change(1, |socket| socket.broken = true);
    stage.turn(1, READABLE);
    assert_eq!((stage.reactor.pending(), stage.reactor.in_flight()), (1, 1));
    reply(&mut stage, 2, ANSWER);
    assert_eq!((stage.bodies.as_slice(), stage.failed.len()), (&["good".to_owned()][..], 0));
    assert_settled(&stage);
    // One that still dials is not waited for.
    let mut stage = late("GET");
    stage.change(1, |socket| socket.broken = true);
    stage.turn(1, READABLE);
    assert_eq!(stage.failed, [Kind::Closed]);
    assert!(is_closed(&stage, 2));
    assert_settled(&stage);
}

#[test]
fn the_limits_of_the_fetch_are_those_of_both() {
    let mut stage = late_with("GET", |settings| {
        settings.timeouts.set(Limit::FirstByte, Some(Duration::from_millis(500)));
        settings.timeouts.set(Limit::Total, Some(Duration::from_secs(2)));
    });
    connect(&mut stage, 2);
    // The first has no answer in time; the second has its own time.
    stage.pass(420);
    assert!(is_closed(&stage, 1) && !is_closed(&stage, 2));
    assert_eq!((stage.failed.len(), stage.reactor.in_flight()), (0, 1));
    stage.pass(600);
    assert_eq!(stage.failed, [Kind::Timeout]);
    assert_settled(&stage);
    let mut stage = late_with("GET", |settings| {
        settings.timeouts.set(Limit::Total, Some(Duration::from_secs(2)));
    });
    stage.pass(2_000);
    assert_eq!(stage.failed, [Kind::Timeout]);
    assert!(is_closed(&stage, 1) && is_closed(&stage, 2));
    assert_settled(&stage);
}

#[test]
fn cancelling_and_pausing_end_the_second_exchange() {
    for pauses in [false, true] {
        let mut stage = hedging(|_| ());
        let id = stage.submit("GET");
        stage.pass(0);
        connect(&mut stage, 1);
        stage.pass(99);
        connect(&mut stage, 2);
        if pauses {
            stage.reactor.pause(id);
            assert!(!is_closed(&stage, 1) && is_closed(&stage, 2));
        }
        assert!(stage.reactor.cancel(id));
        assert!(is_closed(&stage, 1) && is_closed(&stage, 2));
        stage.pass(0);
        assert_settled(&stage);
    }
}

#[test]
fn a_redirect_that_comes_second_is_followed() {
    let mut stage = late("GET");
    connect(&mut stage, 2);
    reply(&mut stage, 2, b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /x\r\n\r\n");
    assert!(is_closed(&stage, 1));
    assert!(written(&stage, 2).ends_with(b"\r\n\r\n"));
    reply(&mut stage, 2, ANSWER);
    assert_eq!(stage.bodies, ["good"]);
    assert_settled(&stage);
}

#[test]
fn an_origins_own_p95_tells_when_an_answer_is_late() {
    let mut stage = with_saved(1, Hedge::after_p95(), |_| ());
    // Nineteen answers come after 1 or 2 ms, one after 40.
    for nth in 0..20 {
        stage.submit("GET");
        stage.pass(0);
        if nth == 0 {
            connect(&mut stage, 1);
        }
        stage.pass(if nth == 7 { 39 } else { 0 });
        reply(&mut stage, 1, ANSWER);
    }
    stage.submit("GET");
    stage.pass(0);
    // On the kept connection; the second exchange gets a new one.
    assert_eq!(stage.sockets(), 2);
    stage.pass(1);
    assert_eq!((stage.sockets(), stage.reactor.hedges().begun), (3, 1));
}
