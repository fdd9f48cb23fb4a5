//! How gently an origin is asked: its rate, the pauses that it asks for, and its circuit, on a
//! network and a clock that the test moves.

mod scripted;

use std::time::Duration;

use scripted::{ANSWER, ERROR, READ_CLOSED, READABLE, Stage, WRITABLE};
use whippet::net::Readiness;
use whippet::{Circuit, Error, Event, Kind, Limit, Phase, Proxies, Proxy, Rate, Request, Settings};

const HERE: &str = "http://192.0.2.1/";
const THERE: &str = "http://192.0.2.2/";

fn rate(attempts: f64) -> Option<Rate> {
    Rate::per_second(attempts)
}

fn paced(change: impl FnOnce(&mut Settings)) -> Stage {
    Stage::with(|settings| {
        settings.timeouts.set(Limit::Total, None);
        settings.timeouts.set(Limit::Connect, None);
        change(settings);
    })
}

fn heeding() -> Stage {
    paced(|settings| settings.pace.heeds_limits = true)
}

fn submit_all(stage: &mut Stage, url: &str, count: usize) {
    for _ in 0..count {
        stage.submit_to("GET", url);
    }
}

/// One turn a millisecond; how many sockets there were then.
fn sockets_after(stage: &mut Stage, millis: u64) -> usize {
    for _ in 0..millis {
        stage.pass(0);
    }
    stage.sockets()
}

/// A socket connects, and its request is answered with a head, and an empty body.
fn answer(stage: &mut Stage, socket: usize, status: u16, fields: &str) {
    let answer = format!("HTTP/1.1 {status} Said\r\nContent-Length: 0\r\n{fields}\r\n");
    let has_connected = stage.told.borrow().sockets[socket].has_connected;
    if !has_connected {
        stage.change(socket, |socket| socket.has_connected = true);
        stage.turn(socket, WRITABLE);
    }
    stage.change(socket, |socket| socket.received.extend(answer.bytes()));
    stage.turn(socket, READABLE);
}

/// Sockets are refused, in one turn.
fn refuse(stage: &mut Stage, sockets: std::ops::Range<usize>) {
    let mut told = stage.told.borrow_mut();
    for socket in sockets {
        told.sockets[socket].refuses = true;
        let token = told.sockets[socket].token;
        told.events.push(Readiness { token, bits: READABLE | WRITABLE | READ_CLOSED | ERROR });
    }
    drop(told);
    stage.pass(0);
}

#[test]
fn attempts_begin_at_an_even_pace() {
    let mut stage = paced(|settings| settings.pace.rate = rate(10.0));
    submit_all(&mut stage, HERE, 5);
    // What comes back in 10 ms is there from the first: 1, 91, 191, 291, 391.
    assert_eq!(sockets_after(&mut stage, 1), 1);
    assert_eq!((stage.reactor.in_flight(), stage.reactor.waiting()), (1, 4));
    assert_eq!(sockets_after(&mut stage, 89), 1);
    assert_eq!(sockets_after(&mut stage, 1), 2);
    assert_eq!(sockets_after(&mut stage, 99), 2);
    assert_eq!(sockets_after(&mut stage, 1), 3);
    assert_eq!(sockets_after(&mut stage, 200), 5);
}

#[test]
fn a_burst_goes_at_once_where_nothing_went_before() {
    let mut stage = paced(|settings| {
        settings.pace.rate = rate(10.0).map(|rate| rate.burst(3));
    });
    submit_all(&mut stage, HERE, 5);
    assert_eq!(sockets_after(&mut stage, 1), 3);
    assert_eq!(sockets_after(&mut stage, 200), 5);
}

#[test]
fn a_slow_rate_sleeps_until_the_next_attempt() {
    let mut stage = paced(|settings| settings.pace.rate = rate(0.1));
    submit_all(&mut stage, HERE, 2);
    stage.pass(0);
    assert!(stage.reactor.next_deadline().is_some());
    stage.pass(9_900);
    assert_eq!((stage.sockets(), stage.reactor.waiting()), (1, 1));
    stage.pass(90);
    assert_eq!((stage.sockets(), stage.reactor.next_deadline()), (2, None));
}

#[test]
fn an_origin_that_waits_holds_up_nobody() {
    let mut stage = paced(|settings| {
        settings.pace.rate = rate(0.1).map(|rate| rate.burst(3));
        settings.concurrency = 6;
    });
    submit_all(&mut stage, HERE, 20);
    stage.pass(0);
    assert_eq!(stage.reactor.in_flight(), 3);
    (0..3).for_each(|socket| answer(&mut stage, socket, 200, "Connection: close\r\n"));
    // Its seventeen others wait, without a slot; where the other is alone, its share is all.
    submit_all(&mut stage, THERE, 3);
    stage.pass(0);
    assert_eq!((stage.reactor.in_flight(), stage.reactor.waiting()), (3, 17));
    let mut stage = paced(|settings| {
        settings.pace.heeds_limits = true;
        settings.concurrency = 6;
    });
    stage.submit_to("GET", HERE);
    stage.pass(0);
    answer(&mut stage, 0, 429, "Retry-After: 10\r\nConnection: close\r\n");
    submit_all(&mut stage, HERE, 5);
    submit_all(&mut stage, THERE, 9);
    stage.pass(0);
    assert_eq!((stage.reactor.in_flight(), stage.reactor.waiting()), (6, 8));
    // It comes back, and has its half again as slots are given back.
    stage.pass(10_000);
    (1..4).for_each(|socket| answer(&mut stage, socket, 200, "Connection: close\r\n"));
    assert_eq!((stage.reactor.in_flight(), stage.reactor.waiting()), (6, 5));
}

#[test]
fn retries_and_redirects_take_their_turn_too() {
    let mut stage = paced(|settings| {
        settings.pace.rate = rate(1.0);
        settings.retries = 1;
    });
    stage.submit_to("GET", HERE);
    stage.pass(0);
    answer(&mut stage, 0, 503, "");
    stage.pass(500);
    assert_eq!(stage.reactor.in_flight(), 0);
    stage.pass(500);
    assert_eq!(stage.reactor.in_flight(), 1);
    answer(&mut stage, 0, 302, "Location: /elsewhere\r\n");
    stage.pass(500);
    assert_eq!(stage.reactor.in_flight(), 0);
    stage.pass(500);
    assert_eq!(stage.reactor.in_flight(), 1);
    stage.change(0, |socket| socket.received.extend(ANSWER));
    stage.turn(0, READABLE);
    assert_eq!(stage.bodies, ["good"]);
}

#[test]
fn all_of_an_origin_waits_when_one_is_told_to_retry_later() {
    for status in [429, 503] {
        let mut stage = heeding();
        stage.submit_to("GET", HERE);
        stage.pass(0);
        answer(&mut stage, 0, status, "Retry-After: 2\r\n");
        submit_all(&mut stage, HERE, 3);
        stage.submit_to("GET", THERE);
        stage.pass(1_900);
        assert_eq!((stage.reactor.in_flight(), stage.reactor.waiting()), (1, 3), "{status}");
        stage.pass(100);
        assert_eq!((stage.reactor.in_flight(), stage.reactor.waiting()), (4, 0), "{status}");
    }
}

#[test]
fn a_quota_that_is_used_up_is_waited_for() {
    for (status, fields, millis) in [
        (200, "RateLimit: \"a\";r=0;t=5\r\n", 5_000),
        (304, "RateLimit: limit=9, remaining=0, reset=5\r\n", 5_000),
        (404, "RateLimit-Remaining: 0\r\nRateLimit-Reset: 5\r\n", 5_000),
        (429, "Retry-After: 1\r\nX-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: 5\r\n", 5_000),
        (200, "RateLimit: \"a\";r=0;t=3600\r\n", 60_000),
    ] {
        let mut stage = heeding();
        stage.submit_to("GET", HERE);
        stage.pass(0);
        answer(&mut stage, 0, status, fields);
        stage.submit_to("GET", HERE);
        stage.pass(millis - 10);
        assert_eq!(stage.reactor.in_flight(), 0, "{fields}");
        stage.pass(10);
        assert_eq!(stage.reactor.in_flight(), 1, "{fields}");
    }
}

#[test]
fn what_asks_for_nothing_is_not_waited_for() {
    for (status, fields) in [
        (200, "Retry-After: 9\r\n"),
        (429, ""),
        (200, "RateLimit: \"a\";r=1;t=5\r\n"),
        (200, "X-RateLimit-Remaining: 0\r\n"),
    ] {
        let mut stage = heeding();
        stage.submit_to("GET", HERE);
        stage.pass(0);
        answer(&mut stage, 0, status, fields);
        stage.submit_to("GET", HERE);
        stage.pass(0);
        assert_eq!(stage.reactor.in_flight(), 1, "{fields}");
    }
    // Nor is anything by those who were not told to heed it.
    let mut stage = paced(|settings| settings.pace.rate = rate(1_000.0));
    stage.submit_to("GET", HERE);
    stage.pass(0);
    answer(&mut stage, 0, 429, "Retry-After: 9\r\n");
    stage.submit_to("GET", HERE);
    stage.pass(0);
    assert_eq!(stage.reactor.in_flight(), 1);
}

#[test]
fn those_that_wait_can_be_cancelled_and_time_out() {
    let mut stage = heeding();
    stage.submit_to("GET", HERE);
    stage.pass(0);
    answer(&mut stage, 0, 429, "Retry-After: 30\r\n");
    let request = Request::get(HERE).unwrap().collect(true);
    let limited = request.clone().limit(Limit::Queue, Duration::from_secs(1));
    stage.reactor.submit(limited).unwrap();
    let cancelled = stage.reactor.submit(request.clone()).unwrap();
    stage.pass(0);
    assert!(stage.reactor.cancel(cancelled));
    stage.pass(2_000);
    assert_eq!(stage.failed, [Kind::Timeout]);
    assert_eq!((stage.reactor.pending(), stage.reactor.waiting()), (0, 0));
    // The origin is asked again in its time, and no sooner.
    stage.submit_to("GET", HERE);
    stage.pass(27_000);
    assert_eq!(stage.reactor.in_flight(), 0);
    stage.pass(2_000);
    assert_eq!(stage.reactor.in_flight(), 1);
}

/// Three failures open it, for ten seconds.
fn with_circuit(change: impl FnOnce(&mut Settings)) -> Stage {
    paced(|settings| {
        let circuit = Circuit::after(3).tried_again_after(Duration::from_secs(10));
        settings.pace.circuit = Some(circuit);
        change(settings);
    })
}

/// A circuit that has just opened, and another fetch that waited for a slot.
fn opened() -> Stage {
    let mut stage = with_circuit(|settings| settings.concurrency = 3);
    submit_all(&mut stage, HERE, 4);
    stage.pass(0);
    refuse(&mut stage, 0..3);
    assert_eq!(stage.sockets(), 3);
    stage
}

#[test]
fn an_origin_that_fails_again_and_again_is_left_alone() {
    let mut stage = opened();
    assert_eq!(stage.failed, [Kind::Connect; 4]);
    assert_eq!(
        stage.said[3],
        "192.0.2.1:80 is left alone after 3 failures in a row for 10.0 s more: could not connect \
         to 192.0.2.1:80: 192.0.2.1:80 connection refused"
    );
    stage.pass(5_000);
    // At once, and with nothing sent.
    stage.submit_to("GET", HERE);
    stage.submit_to("GET", THERE);
    stage.pass(0);
    assert_eq!((stage.failed.len(), stage.sockets(), stage.reactor.in_flight()), (5, 4, 1));
    assert!(stage.said[4].contains("for 5.0 s more"), "{}", stage.said[4]);
}

#[test]
fn the_error_says_that_nothing_was_sent() {
    let mut stage = opened();
    stage.reactor.submit(Request::get(HERE).unwrap()).unwrap();
    stage.told.borrow_mut().now += Duration::from_millis(1);
    let mut ended: Option<Error> = None;
    while ended.is_none() {
        match stage.reactor.next_event() {
            Some(Event::Failed { error, stats, .. }) => {
                assert_eq!((stats.attempts, stats.timings.total), (0, Duration::ZERO));
                ended = Some(error);
            }
            Some(_) => panic!("nothing was sent"),
            None => stage.reactor.wait(None).unwrap(),
        }
    }
    let error = ended.unwrap();
    assert_eq!((error.kind(), error.phase()), (Kind::Connect, Phase::Queue));
    assert!(error.is_transient() && error.attempts() == 0);
    let cause = std::error::Error::source(&error).and_then(|it| it.downcast_ref::<Error>());
    assert_eq!(
        cause.map(|cause| (cause.kind(), cause.phase())),
        Some((Kind::Connect, Phase::Connect))
    );
}

#[test]
fn one_attempt_tries_it_again_and_opens_the_way() {
    let mut stage = opened();
    stage.pass(10_000);
    stage.failed.clear();
    submit_all(&mut stage, HERE, 3);
    stage.pass(0);
    assert_eq!((stage.sockets(), stage.failed.len()), (4, 2));
    assert!(stage.said[5].contains("until one attempt has come back"), "{}", stage.said[5]);
    stage.serve(3);
    assert_eq!(stage.bodies, ["good"]);
    submit_all(&mut stage, HERE, 2);
    stage.pass(0);
    assert_eq!((stage.reactor.in_flight(), stage.failed.len()), (2, 2));
}

#[test]
fn a_probe_that_fails_closes_the_way_again() {
    let mut stage = opened();
    stage.pass(10_000);
    stage.submit_to("GET", HERE);
    stage.pass(0);
    refuse(&mut stage, 3..4);
    stage.failed.clear();
    stage.submit_to("GET", HERE);
    stage.pass(9_000);
    assert_eq!((stage.sockets(), stage.failed.len()), (4, 1));
    assert!(stage.said[5].contains("after 4 failures"), "{}", stage.said[5]);
    stage.pass(1_000);
    stage.submit_to("GET", HERE);
    stage.pass(0);
    assert_eq!(stage.sockets(), 5);
}

#[test]
fn a_probe_that_is_cancelled_leaves_its_place_to_the_next() {
    let mut stage = opened();
    stage.pass(10_000);
    let probe = stage.submit_to("GET", HERE);
    stage.pass(0);
    assert_eq!(stage.sockets(), 4);
    assert!(stage.reactor.cancel(probe));
    submit_all(&mut stage, HERE, 2);
    stage.pass(0);
    assert_eq!((stage.sockets(), stage.failed.len()), (5, 5));
}

#[test]
fn statuses_of_500_and_more_count_and_all_others_end_the_row() {
    for (statuses, is_open) in [
        ([500, 502, 599], true),
        ([503, 404, 503], false),
        ([503, 503, 429], false),
        ([503, 503, 501], true),
    ] {
        let mut stage = with_circuit(|_| ());
        for status in statuses {
            stage.submit_to("GET", HERE);
            stage.pass(0);
            answer(&mut stage, 0, status, "");
        }
        stage.submit_to("GET", HERE);
        stage.pass(0);
        assert_eq!(stage.failed.len(), usize::from(is_open), "{statuses:?}");
        assert!(!is_open || stage.said[0].ends_with(&format!("with status {}", statuses[2])));
    }
}

#[test]
fn limits_count_and_dead_kept_connections_do_not() {
    let mut stage = with_circuit(|settings| {
        settings.timeouts.set(Limit::Total, Some(Duration::from_secs(1)));
    });
    submit_all(&mut stage, HERE, 3);
    stage.pass(0);
    stage.pass(1_000);
    stage.submit_to("GET", HERE);
    stage.pass(0);
    assert_eq!(stage.failed, [Kind::Timeout, Kind::Timeout, Kind::Timeout, Kind::Connect]);
    let mut stage = paced(|settings| settings.pace.circuit = Some(Circuit::after(1)));
    stage.submit_to("GET", HERE);
    stage.pass(0);
    stage.serve(0);
    stage.submit_to("GET", HERE);
    stage.pass(0);
    // The request had gone when the connection died: one more attempt is made, and nothing said.
    stage.change(0, |socket| socket.fin = true);
    stage.turn(0, READABLE | READ_CLOSED);
    assert_eq!((stage.sockets(), stage.failed.len()), (2, 0));
    stage.serve(1);
    assert_eq!(stage.bodies, ["good", "good"]);
}

#[test]
fn an_open_circuit_ends_those_that_wait_for_the_rate() {
    let mut stage = with_circuit(|settings| {
        settings.pace.rate = rate(0.1).map(|rate| rate.burst(3));
    });
    submit_all(&mut stage, HERE, 6);
    stage.pass(0);
    assert_eq!((stage.reactor.in_flight(), stage.reactor.waiting()), (3, 3));
    refuse(&mut stage, 0..3);
    assert_eq!((stage.failed.len(), stage.reactor.pending()), (6, 0));
}

/// What stands in between has no caps, turns or paces of its own.
#[test]
fn whatever_proxy_stands_between_the_origin_counts() {
    let proxies = ["http://192.0.2.8:3128", "http://192.0.2.9:3128"];
    let [first, second] = proxies.map(|url| Proxy::new(url).unwrap());
    let via = |proxy: &Proxy, url: &str| {
        Request::get(url).unwrap().collect(true).proxy(Some(proxy.clone()))
    };
    let mut stage = paced(|settings| settings.pace.rate = rate(1.0));
    for request in [via(&first, HERE), via(&second, HERE), via(&first, THERE)] {
        stage.reactor.submit(request).unwrap();
    }
    stage.pass(0);
    assert_eq!((stage.reactor.in_flight(), stage.reactor.waiting()), (2, 1));
    let mut stage = paced(|settings| settings.per_origin = Some(1));
    for request in [via(&first, HERE), via(&second, HERE), via(&first, THERE)] {
        stage.reactor.submit(request).unwrap();
    }
    stage.pass(0);
    assert_eq!((stage.reactor.in_flight(), stage.reactor.waiting()), (2, 1));
    let mut stage = paced(|settings| {
        settings.concurrency = 4;
        settings.proxies = Proxies::all(Proxy::new(proxies[0]).unwrap());
    });
    submit_all(&mut stage, HERE, 9);
    stage.submit_to("GET", THERE);
    stage.pass(0);
    assert_eq!(stage.reactor.in_flight(), 3, "a fair share is an origin's");
}
