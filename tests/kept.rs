//! What is said on a kept connection before its next request is sent is nobody's answer; and a
//! socket that has not connected is not read. On a network that does what each test tells it.

mod scripted;

use whippet::net::Readiness;

use scripted::{ANSWER, ERROR, READ_CLOSED, READABLE, Stage, WRITABLE};

const POISON: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad";
const TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";

/// What a server may say between two requests, as the reactor hears of it.
const SPEECHES: [(&str, &[u8], bool, bool, u8); 6] = [
    ("an answer", POISON, false, false, READABLE),
    ("a timeout", TIMEOUT, false, false, READABLE),
    ("a byte", b"H", false, false, READABLE),
    ("an answer and its end", POISON, true, false, READABLE | READ_CLOSED),
    ("its end", b"", true, false, READABLE | READ_CLOSED),
    ("a reset", b"", false, true, READABLE | READ_CLOSED | ERROR),
];

fn speak(stage: &Stage, (_, bytes, fin, broken, _): (&str, &[u8], bool, bool, u8)) {
    stage.change(0, |socket| {
        socket.received.extend(bytes);
        (socket.fin, socket.broken) = (fin, broken);
    });
}

#[test]
fn what_is_said_before_the_next_request_is_sent_is_not_its_answer() {
    for method in ["GET", "POST"] {
        for speech in SPEECHES {
            let (mut stage, _) = Stage::with_kept(method);
            speak(&stage, speech);
            stage.turn(0, speech.4);
            stage.assert_elsewhere(&format!("{method}: {}", speech.0));
        }
    }
}

#[test]
fn nor_where_the_same_event_tells_that_the_request_can_be_sent() {
    for speech in SPEECHES {
        let (mut stage, _) = Stage::with_kept("POST");
        speak(&stage, speech);
        stage.change(0, |socket| socket.takes_bytes = true);
        stage.turn(0, speech.4 | WRITABLE);
        stage.assert_elsewhere(speech.0);
    }
}

#[test]
fn nor_where_another_event_of_the_same_poll_tells() {
    // As kqueue has it, which tells of each way by an event of its own.
    for speech in SPEECHES {
        let (mut stage, _) = Stage::with_kept("POST");
        speak(&stage, speech);
        stage.change(0, |socket| socket.takes_bytes = true);
        let token = stage.told.borrow().sockets[0].token;
        stage.told.borrow_mut().events.push(Readiness { token, bits: WRITABLE });
        stage.turn(0, speech.4);
        stage.assert_elsewhere(speech.0);
    }
}

#[test]
fn nor_where_the_fetch_is_paused_meanwhile() {
    for speech in SPEECHES {
        let (mut stage, fetch) = Stage::with_kept("GET");
        stage.reactor.pause(fetch);
        speak(&stage, speech);
        stage.turn(0, speech.4);
        stage.change(0, |socket| socket.takes_bytes = true);
        stage.turn(0, WRITABLE);
        stage.reactor.resume(fetch);
        stage.assert_elsewhere(speech.0);
    }
}

#[test]
fn an_event_about_nothing_does_not_keep_the_request_from_being_sent() {
    let (mut stage, _) = Stage::with_kept("POST");
    stage.turn(0, READABLE);
    assert!(stage.told.borrow().sockets[0].written.is_empty());
    stage.change(0, |socket| socket.takes_bytes = true);
    stage.turn(0, READABLE | WRITABLE);
    assert!(stage.told.borrow().sockets[0].written.starts_with(b"POST / "));
    stage.change(0, |socket| socket.received.extend(ANSWER));
    stage.turn(0, READABLE);
    assert_eq!(
        (stage.bodies.as_slice(), stage.reactor.connections()),
        (&["good".to_owned()][..], 1)
    );
}

#[test]
fn a_socket_that_has_not_connected_is_not_read() {
    for bits in [READABLE, 0] {
        let mut stage = Stage::new();
        stage.submit("GET");
        stage.pass(0);
        stage.turn(0, bits);
        stage.turn(0, bits);
        assert_eq!((stage.told.borrow().early_reads, stage.reactor.connections()), (0, 1));
        stage.serve(0);
        assert_eq!(stage.bodies, ["good"]);
    }
}

/// The first request of a connection may have an answer that came too soon for it; but whoever
/// speaks so may speak again, and gets no second request.
#[test]
fn who_speaks_before_the_first_request_could_be_sent_gets_no_second() {
    let mut stage = Stage::new();
    stage.submit("GET");
    stage.pass(0);
    stage.change(0, |socket| (socket.has_connected, socket.takes_bytes) = (true, false));
    stage.turn(0, WRITABLE);
    stage.change(0, |socket| {
        socket.takes_bytes = true;
        socket.received.extend(ANSWER);
    });
    stage.turn(0, READABLE | WRITABLE);
    assert_eq!(stage.bodies, ["good"]);
    assert!(stage.told.borrow().sockets[0].is_closed);
    assert_eq!(stage.reactor.connections(), 0);
}
