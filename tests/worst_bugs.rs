//! Bugs that other clients were known for, where no test of another subject would catch them. The
//! table of all of them is in docs/TESTING.md.

mod scripted;

use std::time::Duration;

use scripted::{ERROR, READ_CLOSED, READABLE, Stage, WRITABLE};
use whippet::{Kind, Limit, Request, Settings};

fn seconds(settings: &mut Settings, limit: Limit, seconds: u64) {
    settings.timeouts.set(limit, Some(Duration::from_secs(seconds)));
}

#[test]
fn a_limit_of_one_fetch_does_not_outlive_it_on_its_connection() {
    let mut stage = Stage::with(|settings| {
        for limit in [Limit::Stall, Limit::FirstByte, Limit::Total, Limit::Connect] {
            seconds(settings, limit, 2);
        }
    });
    stage.submit("GET");
    stage.pass(0);
    stage.serve(0);
    for _ in 0..20 {
        stage.pass(500);
    }
    stage.submit("GET");
    stage.pass(1_900);
    assert_eq!((stage.sockets(), stage.failed.len()), (1, 0));
    stage.change(0, |socket| socket.received.extend(scripted::ANSWER));
    stage.turn(0, READABLE);
    assert_eq!(stage.bodies, ["good", "good"]);
}

#[test]
fn a_fetch_that_waited_long_has_all_of_its_time_to_connect() {
    let mut stage = Stage::with(|settings| {
        settings.concurrency = 1;
        seconds(settings, Limit::Connect, 2);
        seconds(settings, Limit::FirstByte, 60);
    });
    stage.submit("GET");
    stage.submit_to("GET", "http://192.0.2.2/");
    stage.pass(0);
    stage.change(0, |socket| socket.has_connected = true);
    stage.turn(0, WRITABLE);
    for _ in 0..20 {
        stage.pass(1_000);
    }
    stage.change(0, |socket| socket.received.extend(scripted::ANSWER));
    stage.turn(0, READABLE);
    assert_eq!((stage.sockets(), stage.failed.len()), (2, 0));
    stage.pass(1_900);
    assert_eq!(stage.failed, []);
    stage.serve(1);
    assert_eq!(stage.bodies, ["good", "good"]);
}

#[test]
fn a_far_host_is_not_given_up_when_its_next_address_is_tried() {
    let mut stage = Stage::new();
    stage.submit_to("GET", "http://two.test/");
    stage.pass(0);
    assert_eq!(stage.sockets(), 1);
    stage.pass(300);
    assert_eq!((stage.sockets(), stage.told.borrow().sockets[0].is_closed), (2, false));
    stage.pass(900);
    stage.serve(0);
    assert_eq!((stage.bodies.len(), stage.told.borrow().sockets[1].is_closed), (1, true));
}

#[test]
fn an_address_that_refuses_as_its_time_is_over_is_followed_by_one_and_not_two() {
    let mut stage = Stage::new();
    stage.submit_to("GET", "http://four.test/");
    stage.pass(0);
    stage.told.borrow_mut().now += Duration::from_millis(260);
    stage.change(0, |socket| socket.refuses = true);
    stage.turn(0, WRITABLE | READABLE | READ_CLOSED | ERROR);
    assert_eq!(stage.sockets(), 2);
    stage.pass(200);
    assert_eq!(stage.sockets(), 2);
    stage.pass(100);
    assert_eq!(stage.sockets(), 3);
}

#[test]
fn first_byte_does_not_run_while_the_request_is_sent() {
    let mut stage = Stage::with(|settings| {
        seconds(settings, Limit::FirstByte, 1);
        settings.timeouts.set(Limit::Stall, None);
    });
    stage.submit("GET");
    stage.pass(0);
    stage.change(0, |socket| (socket.has_connected, socket.takes_bytes) = (true, false));
    stage.turn(0, WRITABLE);
    stage.pass(9_000);
    assert_eq!(stage.failed, []);
    stage.change(0, |socket| socket.takes_bytes = true);
    stage.turn(0, WRITABLE);
    stage.pass(900);
    assert_eq!(stage.failed, []);
    stage.pass(200);
    assert_eq!(stage.failed, [Kind::Timeout]);
}

#[test]
fn after_a_kept_connection_was_silent_the_next_attempt_takes_a_new_one() {
    let mut stage = Stage::with(|settings| {
        settings.retries = 1;
        seconds(settings, Limit::FirstByte, 1);
    });
    for _ in 0..2 {
        stage.submit("GET");
    }
    stage.pass(0);
    for socket in [0, 1] {
        stage.change(socket, |socket| socket.has_connected = true);
        stage.turn(socket, WRITABLE);
    }
    for socket in [0, 1] {
        stage.change(socket, |socket| socket.received.extend(scripted::ANSWER));
        stage.turn(socket, READABLE);
    }
    assert_eq!((stage.reactor.idle_connections(), stage.bodies.len()), (2, 2));
    stage.submit("GET");
    stage.pass(0);
    for _ in 0..4 {
        stage.pass(700);
    }
    assert_eq!((stage.sockets(), stage.failed.len()), (3, 0), "both were tried");
    stage.serve(2);
    assert_eq!(stage.bodies.len(), 3);
}

#[test]
fn every_error_says_something() {
    for (kind, url) in [(Kind::Timeout, "http://192.0.2.1/"), (Kind::Dns, "http://-/")] {
        let mut stage = Stage::with(|settings| seconds(settings, Limit::Total, 1));
        let Ok(request) = Request::get(url) else { continue };
        stage.reactor.submit(request).unwrap();
        stage.pass(0);
        stage.pass(1_500);
        assert_eq!(stage.failed, [kind]);
        assert!(stage.said.iter().all(|said| said.len() > 10), "{:?}", stage.said);
    }
}
