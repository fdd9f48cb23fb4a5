//! `Expect: 100-continue`: the body waits for the server's word, but not for ever, and never where
//! there is none.

mod scripted;
mod support;

use std::time::Duration;

use scripted::{ANSWER, READABLE, Stage, WRITABLE};
use support::{Origin, ok, status};
use whippet::{Body, Client, FetchId, Kind, Limit, Request, Settings};

const URL: &str = "http://192.0.2.1/";
const GO_ON: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A fetch whose head is sent and whose body waits.
fn asking(body: impl Into<Body>, change: impl FnOnce(&mut Settings)) -> (Stage, FetchId) {
    let mut stage = Stage::with(change);
    let request = Request::put(URL).unwrap().collect(true).body(body).expect_continue(true);
    let id = stage.reactor.submit(request).unwrap();
    stage.pass(0);
    stage.change(0, |socket| socket.has_connected = true);
    stage.turn(0, WRITABLE);
    let head = written(&stage, 0);
    assert!(head.contains("\r\nExpect: 100-continue\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    (stage, id)
}

fn written(stage: &Stage, socket: usize) -> String {
    String::from_utf8(std::mem::take(&mut stage.told.borrow_mut().sockets[socket].written)).unwrap()
}

fn say(stage: &mut Stage, socket: usize, bytes: &[u8]) {
    stage.change(socket, |socket| socket.received.extend(bytes));
    stage.turn(socket, READABLE);
}

#[test]
fn the_body_follows_the_servers_word_whatever_kind_it_is_of() {
    let chunks = || Body::chunks(["hello"]);
    for (body, sent) in [
        (Body::from("hello"), "hello"),
        (chunks().with_length(5), "hello"),
        (chunks(), "5\r\nhello\r\n0\r\n\r\n"),
    ] {
        let (mut stage, _) = asking(body, |_| ());
        stage.pass(900);
        assert_eq!(written(&stage, 0), "");
        say(&mut stage, 0, b"HTTP/1.1 103 Early Hints\r\n\r\n");
        assert_eq!(written(&stage, 0), "", "another interim response is no such word");
        say(&mut stage, 0, GO_ON);
        assert_eq!(written(&stage, 0), sent);
        say(&mut stage, 0, &[GO_ON, ANSWER].concat());
        assert_eq!((stage.bodies.len(), stage.reactor.idle_connections()), (1, 1));
        assert_eq!(written(&stage, 0), "", "a second word changes nothing");
    }
}

#[test]
fn a_pushed_body_is_asked_for_after_the_servers_word() {
    let (mut stage, id) = asking(Body::pushed(), |_| ());
    assert_eq!((stage.reactor.send_body(id, b"x"), stage.wanted.len()), (Ok(0), 0));
    say(&mut stage, 0, GO_ON);
    assert_eq!((stage.wanted.as_slice(), stage.reactor.send_body(id, b"x")), (&[0][..], Ok(1)));
}

#[test]
fn silence_is_waited_for_one_second_or_as_long_as_is_said() {
    for (allowed, millis) in [(None, 1_000), (Some(5_000), 5_000)] {
        let (mut stage, _) = asking("hello", |settings| {
            if let Some(allowed) = allowed {
                let allowed = Duration::from_millis(allowed);
                settings.timeouts.set(Limit::Continue, Some(allowed));
            }
        });
        stage.pass(millis - 10);
        assert_eq!(written(&stage, 0), "");
        stage.pass(11);
        assert_eq!(written(&stage, 0), "hello");
        say(&mut stage, 0, ANSWER);
        assert_eq!((stage.bodies.len(), stage.reactor.idle_connections()), (1, 1));
    }
}

#[test]
fn an_answer_in_place_of_the_word_is_the_answer_and_the_body_stays_here() {
    for line in ["413 Too Large", "200 OK", "401 Who"] {
        let (mut stage, _) = asking("hello", |_| ());
        let answer = format!("HTTP/1.1 {line}\r\nContent-Length: 6\r\n\r\nre");
        say(&mut stage, 0, answer.as_bytes());
        stage.pass(2_000);
        say(&mut stage, 0, b"ason");
        assert_eq!(
            (written(&stage, 0).as_str(), stage.bodies.as_slice()),
            ("", &["reason".into()][..])
        );
        assert_eq!(stage.reactor.connections(), 0, "the server may still wait for the body");
    }
}

#[test]
fn a_server_that_does_not_know_the_expectation_is_asked_again_without_once() {
    let (mut stage, _) = asking("hello", |_| ());
    let refusal = b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n";
    say(&mut stage, 0, refusal);
    stage.pass(0);
    stage.change(1, |socket| socket.has_connected = true);
    stage.turn(1, WRITABLE);
    let again = written(&stage, 1);
    assert!(!again.contains("Expect") && again.ends_with("\r\n\r\nhello"), "{again}");
    say(&mut stage, 1, refusal);
    assert_eq!((stage.bodies.len(), stage.sockets()), (1, 2), "the second is the answer");
}

#[test]
fn nobody_is_asked_about_no_body_and_the_header_is_not_the_callers() {
    let origin = Origin::plain(|seen| {
        if seen.header("expect").is_some() { status(400) } else { ok(seen.body.clone()) }
    });
    let mut client = Client::new().unwrap();
    for body in [Body::from(""), Body::pushed().with_length(0)] {
        let request = Request::post(origin.url("/")).unwrap().body(body).expect_continue(true);
        assert_eq!(client.fetch(request).unwrap().status(), 200);
    }
    let get = Request::get(origin.url("/")).unwrap().expect_continue(true);
    assert_eq!(client.fetch(get).unwrap().status(), 200);
    let own = Request::get(URL).unwrap().header("Expect", "100-continue").unwrap_err();
    assert_eq!(own.kind(), Kind::InvalidRequest);
}

#[test]
fn a_stall_is_not_excused_by_the_wait() {
    let (mut stage, _) = asking("hello", |settings| {
        settings.timeouts.set(Limit::Stall, Some(Duration::from_millis(300)));
    });
    stage.pass(400);
    assert_eq!(stage.failed, [Kind::Timeout]);
    assert!(stage.said[0].contains("while sending the request"), "{}", stage.said[0]);
}
