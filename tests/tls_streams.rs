//! HTTPS through the whole reactor over real sockets: bodies of every size in records of every
//! size, how streams end, and connections that are idle.

#![cfg(any(feature = "ring", feature = "aws-lc-rs"))]

mod driving;
mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use driving::{
    Control, Ended, Whims, begin, get, run, run_all, run_until, settings, settle, submit, turn,
};
use rustls::ServerConnection;
use support::{Action, Latch, Origin, Reply, Setup, TlsSetup, chunked, ok};
use whippet::{Event, Kind, Phase, Reactor, Request};

fn reactor() -> Reactor {
    Reactor::new(settings()).unwrap()
}

/// Every byte differs from its neighbours, and the period is prime.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn post(url: impl AsRef<str>, body: impl Into<whippet::Body>) -> Request {
    Request::post(url).unwrap().body(body).collect(true)
}

const SIZES: [usize; 7] = [0, 1, 16_383, 16_384, 16_385, 65_537, 1 << 20];

// Bodies.

#[test]
fn bodies_of_every_size_come_and_go_over_one_connection() {
    let origin = Origin::tls(|seen| match seen.target.strip_prefix("/get/") {
        Some(length) => ok(pattern(length.parse().unwrap())),
        None => ok(&seen.body),
    });
    let mut reactor = reactor();
    for length in SIZES {
        let got = run(&mut reactor, get(origin.url(&format!("/get/{length}"))));
        assert_eq!(got.answer().body.len(), length);
        assert!(got.answer().body == pattern(length), "{length}");
        let echoed = run(&mut reactor, post(origin.url("/echo"), pattern(length)));
        assert!(echoed.answer().body == pattern(length), "{length}");
    }
    let log = origin.log();
    assert_eq!((log.connections, log.requests.len(), log.malformed.len()), (1, 14, 0));
    assert_eq!(reactor.idle_connections(), 1);
}

#[test]
fn chunked_bodies_come_whole() {
    let pieces: Vec<Vec<u8>> = [1, 16_384, 3, 40_000, 5].map(pattern).to_vec();
    let expected = pieces.concat();
    let origin = Origin::tls(move |_| chunked(&pieces));
    let mut reactor = reactor();
    for _ in 0..2 {
        assert!(run(&mut reactor, get(origin.url("/"))).answer().body == expected);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn records_of_one_byte_make_a_response() {
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789";
    let origin = Origin::tls(move |_| Reply::new().split(response, 1));
    let mut reactor = reactor();
    for _ in 0..3 {
        assert_eq!(run(&mut reactor, get(origin.url("/"))).text(), "0123456789");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn streams_cut_anywhere_make_the_same_of_it() {
    for tls13 in [true, false] {
        for bytes in [1, 2, 7, 4_097] {
            let tls = Some(TlsSetup { tls13, ..TlsSetup::default() });
            let origin = Origin::start(Setup { tls, ..Setup::default() }, |seen| ok(&seen.body));
            let control = Control::new(Whims {
                read_bytes_max: Some(bytes),
                write_bytes_max: Some(bytes),
                ..Whims::default()
            });
            let mut reactor = control.reactor(settings());
            for length in [0, 1, 17_000] {
                let ended = run(&mut reactor, post(origin.url("/"), pattern(length)));
                assert!(ended.answer().body == pattern(length), "{tls13} {bytes} {length}");
            }
            assert_eq!(origin.connections(), 1, "{tls13} {bytes}");
        }
    }
}

#[test]
fn a_large_upload_goes_in_parts() {
    let body = pattern(8 << 20);
    let expected = body.clone();
    let origin = Origin::tls(move |seen| ok(if seen.body == expected { "same" } else { "other" }));
    let mut reactor = reactor();
    for _ in 0..2 {
        assert_eq!(run(&mut reactor, post(origin.url("/"), body.clone())).text(), "same");
    }
    assert_eq!((origin.connections(), reactor.idle_connections()), (1, 1));
    let control = Control::new(Whims { write_bytes_max: Some(10_007), ..Whims::default() });
    let mut reactor = control.reactor(settings());
    assert_eq!(run(&mut reactor, post(origin.url("/"), body)).text(), "same");
}

#[test]
fn a_paused_download_stops_and_goes_on() {
    let length = 6 << 20;
    for ending in ["length", "chunked", "close"] {
        let origin = Origin::tls(move |_| match ending {
            "length" => ok(pattern(length)),
            "chunked" => chunked(&[pattern(length)]),
            _ => Reply::new().send("HTTP/1.1 200 OK\r\n\r\n").send(pattern(length)).close(),
        });
        let mut reactor = reactor();
        let id = submit(&mut reactor, Request::get(origin.url("/")).unwrap());
        let (mut body, mut pauses, mut done) = (Vec::new(), 0, false);
        while !done {
            reactor.wait(None).unwrap();
            let mut is_paused = false;
            while let Some(event) = reactor.next_event() {
                match event {
                    Event::Body { chunk, .. } => {
                        assert!(!is_paused, "a body while paused");
                        body.extend_from_slice(chunk);
                        if pauses < 12 {
                            reactor.pause(id);
                            (is_paused, pauses) = (true, pauses + 1);
                        }
                    }
                    Event::Done { .. } => done = true,
                    Event::Failed { error, .. } => panic!("{ending}: {error}"),
                    _ => {}
                }
            }
            for _ in 0..3 {
                if is_paused {
                    reactor.wait(Some(Duration::from_millis(1))).unwrap();
                    assert!(reactor.next_event().is_none(), "{ending}: an event while paused");
                }
            }
            reactor.resume(id);
        }
        assert!(body == pattern(length), "{ending}: {} bytes", body.len());
        assert_eq!(pauses, 12);
        assert_eq!(reactor.connections(), usize::from(ending != "close"));
    }
}

#[test]
fn the_end_of_a_stream_waits_while_its_body_is_paused() {
    // All of it, and the end, stand ready before the first piece is looked at.
    for clean in [true, false] {
        for plain in [true, false] {
            let (go, here) = (Latch::new(), Latch::new());
            let (held, reached) = (go.clone(), here.clone());
            let tls = (!plain).then(TlsSetup::default);
            let origin = Origin::start(Setup { tls, ..Setup::default() }, move |_| {
                let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                let pieces = vec![pattern(1_000), pattern(2_000), pattern(3_000)];
                let reply = Reply::new().release(&reached).wait(&held).send(head);
                let reply = reply.then(Action::Chunked(pieces));
                if clean { reply.close() } else { reply.close_without_notify() }
            });
            let mut reactor = reactor();
            let id = submit(&mut reactor, Request::get(origin.url("/")).unwrap());
            run_until(&mut reactor, |_| here.is_released());
            go.release();
            origin.wait_for(|log| log.open == 0);
            let (mut sizes, mut is_done) = (Vec::new(), false);
            while !is_done {
                reactor.wait(Some(Duration::from_millis(2))).unwrap();
                while let Some(event) = reactor.next_event() {
                    match event {
                        Event::Body { chunk, .. } => {
                            sizes.push(chunk.len());
                            reactor.pause(id);
                        }
                        Event::Done { .. } => is_done = true,
                        Event::Failed { error, .. } => panic!("{error}"),
                        _ => {}
                    }
                }
                reactor.resume(id);
            }
            assert_eq!(sizes, [1_000, 2_000, 3_000]);
            assert_eq!(reactor.connections(), 0);
        }
    }
}

#[test]
fn fifty_fetches_share_ten_connections() {
    let origin = Origin::tls(|seen| ok(pattern(seen.target.len() * 10_000)));
    let mut settings = settings();
    settings.per_origin = Some(10);
    let mut reactor = Reactor::new(settings).unwrap();
    let requests = (0..50).map(|n| get(origin.url(&format!("/{}", "x".repeat(n % 7)))));
    for ended in run_all(&mut reactor, requests) {
        let length = usize::try_from(ended.tag).unwrap() % 7 + 1;
        assert_eq!(ended.answer().body.len(), length * 10_000);
    }
    let log = origin.log();
    assert_eq!((log.connections, log.requests.len()), (10, 50));
    assert_eq!((reactor.connections(), reactor.idle_connections()), (10, 10));
}

// Ends of streams.

/// Fetches from an origin that ends each connection in this way. Both versions of TLS make the
/// same of it.
fn fetch_once(reply: impl Fn() -> Reply + Send + Sync + 'static) -> (Ended, usize) {
    let reply = Arc::new(reply);
    let [old, new] = [false, true].map(|tls13| {
        let tls = Some(TlsSetup { tls13, ..TlsSetup::default() });
        let reply = Arc::clone(&reply);
        let origin = Origin::start(Setup { tls, ..Setup::default() }, move |_| reply());
        let mut reactor = reactor();
        let ended = run(&mut reactor, get(origin.url("/")));
        (ended, reactor.connections())
    });
    let told = |(ended, _): &(Ended, usize)| match &ended.result {
        Ok(answer) => Ok(answer.body.clone()),
        Err(error) => Err((error.kind(), error.phase(), error.is_transient())),
    };
    assert_eq!(told(&old), told(&new));
    new
}

#[test]
fn close_notify_matters_only_where_the_end_is_the_bodys() {
    // A length and a last chunk say by themselves where the end is.
    let (ended, _) = fetch_once(|| ok("whole").close_without_notify());
    assert_eq!(ended.text(), "whole");
    let (ended, _) = fetch_once(|| chunked(&["who", "le"]).close_without_notify());
    assert_eq!(ended.text(), "whole");
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        let until_close = move || Reply::new().send(format!("{version} 200 OK\r\n\r\nwhole"));
        let (ended, left) = fetch_once(move || until_close().close());
        assert_eq!((ended.text(), left), ("whole", 0));
        let (ended, left) = fetch_once(move || until_close().close_without_notify());
        let error = ended.error();
        assert_eq!((error.kind(), error.phase(), left), (Kind::Closed, Phase::Body, 0));
        assert!(error.is_transient());
        assert!(error.to_string().contains("close_notify"), "{error}");
        let (ended, _) = fetch_once(move || until_close().reset());
        assert_eq!(ended.error().kind(), Kind::Closed);
    }
}

#[test]
fn a_body_that_is_cut_short_is_never_a_success() {
    let by_length = || Reply::new().send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npartial");
    let by_chunks = || {
        Reply::new().send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\npartial\r\n")
    };
    let (length, chunks) = (by_length, by_chunks);
    for (nth, reply) in [
        length().close(),
        length().close_without_notify(),
        length().reset(),
        chunks().close(),
        chunks().close_without_notify(),
        chunks().reset(),
        chunks().send("0\r\n").close(),
        Reply::new().send("HTTP/1.1 200 OK\r\nContent-").close(),
        Reply::new().close(),
        Reply::new().close_without_notify(),
    ]
    .into_iter()
    .enumerate()
    {
        let (ended, left) = fetch_once(move || reply.clone());
        assert_eq!((ended.error().kind(), left), (Kind::Closed, 0), "{nth}: {}", ended.error());
    }
}

/// A server of one connection: shakes hands, reads one request's head, then does as it is told.
fn raw_server(
    then: impl FnOnce(&mut ServerConnection, &mut TcpStream) + Send + 'static,
) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = TlsSetup::default().server_config();
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut session = ServerConnection::new(config).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut stream).unwrap();
        }
        then(&mut session, &mut stream);
    });
    (address, serving)
}

fn read_head(session: &mut ServerConnection, stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let mut piece = [0; 4096];
        match session.reader().read(&mut piece) {
            Ok(count) => head.extend_from_slice(&piece[..count]),
            Err(_) => drop(session.complete_io(stream).unwrap()),
        }
    }
}

/// The records of these bytes.
fn sealed(session: &mut ServerConnection, plain: &[u8]) -> Vec<u8> {
    session.writer().write_all(plain).unwrap();
    let mut records = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut records).unwrap();
    }
    records
}

#[test]
fn a_cut_within_a_record_is_never_a_success() {
    for cut in [1, 5, 17, 40] {
        let (address, serving) = raw_server(move |session, stream| {
            read_head(session, stream);
            let mut records = sealed(session, b"HTTP/1.0 200 OK\r\n\r\n");
            records.extend(sealed(session, b"a body that ends with the stream"));
            stream.write_all(&records[..records.len() - cut]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let ended = run(&mut reactor(), get(format!("https://{address}/")));
        let error = ended.error();
        assert_eq!((error.kind(), error.phase()), (Kind::Closed, Phase::Body), "{cut}: {error}");
        serving.join().unwrap();
    }
}

#[test]
fn a_record_that_was_changed_is_never_a_success() {
    let (address, serving) = raw_server(|session, stream| {
        read_head(session, stream);
        let mut records = sealed(session, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
        let mut last = sealed(session, b"body");
        *last.last_mut().unwrap() ^= 1;
        records.extend(last);
        stream.write_all(&records).unwrap();
        // Until the client leaves.
        while stream.read(&mut [0; 100]).is_ok_and(|count| count > 0) {}
    });
    let mut reactor = reactor();
    let ended = run(&mut reactor, get(format!("https://{address}/")));
    let error = ended.error();
    assert_eq!((error.kind(), error.phase()), (Kind::Tls, Phase::Body), "{error}");
    assert!(error.to_string().contains("changed or damaged"), "{error}");
    assert_eq!(reactor.connections(), 0);
    serving.join().unwrap();
}

#[test]
fn an_early_answer_does_not_make_half_a_request_reusable() {
    let done = Latch::new();
    let may_end = done.clone();
    let (address, serving) = raw_server(move |session, stream| {
        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno";
        let records = sealed(session, response);
        stream.write_all(&records).unwrap();
        may_end.wait();
    });
    // The socket takes a tenth of the request, and no more.
    let control = Control::new(Whims { jams_above: Some(4_000), ..Whims::default() });
    let mut reactor = control.reactor(settings());
    let ended = run(&mut reactor, post(format!("https://{address}/"), pattern(9_000)));
    assert_eq!(ended.text(), "no");
    assert_eq!(reactor.connections(), 0, "its records are not all sent");
    done.release();
    serving.join().unwrap();
}

// Idle connections.

#[test]
fn an_idle_connection_that_the_server_closed_is_not_reused() {
    for with_notify in [true, false] {
        let go = Latch::new();
        let held = go.clone();
        let origin = Origin::tls(move |seen| {
            let reply = ok("x");
            match (seen.connection, with_notify) {
                (0, true) => reply.wait(&held).close(),
                (0, false) => reply.wait(&held).close_without_notify(),
                _ => reply,
            }
        });
        let mut reactor = reactor();
        run(&mut reactor, get(origin.url("/"))).answer();
        assert_eq!(reactor.idle_connections(), 1);
        go.release();
        origin.wait_for(|log| log.open == 0);
        let ended = run(&mut reactor, get(origin.url("/")));
        assert_eq!((ended.text(), ended.stats.reused, ended.stats.attempts), ("x", false, 1));
        assert_eq!((origin.connections(), reactor.connections()), (2, 1));
    }
}

#[test]
fn what_an_idle_connection_says_unasked_closes_it() {
    let go = Latch::new();
    let held = go.clone();
    let origin = Origin::tls(move |seen| match seen.connection {
        0 => ok("x").wait(&held).send("HTTP/1.1 408 Request Timeout\r\n\r\n").silence(),
        _ => ok("y"),
    });
    let mut reactor = reactor();
    run(&mut reactor, get(origin.url("/"))).answer();
    assert_eq!(reactor.idle_connections(), 1);
    go.release();
    run_until(&mut reactor, |reactor| reactor.connections() == 0);
    assert_eq!(run(&mut reactor, get(origin.url("/"))).text(), "y");
}

/// A connection whose handshake nobody waits for any more becomes idle; the tickets that follow
/// are no reason to close it.
#[test]
fn a_handshake_that_lost_its_fetch_ends_in_the_pool_and_late_tickets_are_welcome() {
    let (shake, answer, here) = (Latch::new(), Latch::new(), Latch::new());
    let (held, waiting, reached) = (shake.clone(), answer.clone(), here.clone());
    let setup = Setup {
        tls: Some(TlsSetup::default()),
        greeting: Some(Box::new(move |connection| match connection {
            0 => Reply::new(),
            _ => Reply::new().wait(&held),
        })),
        ..Setup::default()
    };
    let origin = Origin::start(setup, move |seen| match seen.target.as_str() {
        "/first" => Reply::new().release(&reached).wait(&waiting).then(ok_action()),
        _ => ok("x"),
    });
    let mut reactor = reactor();
    submit(&mut reactor, get(origin.url("/first")));
    run_until(&mut reactor, |_| here.is_released());
    submit(&mut reactor, get(origin.url("/second")));
    run_until(&mut reactor, |_| origin.connections() == 2);
    answer.release();
    let mut ended = Vec::new();
    while reactor.pending() > 0 {
        ended.extend(turn(&mut reactor, None));
    }
    assert!(ended.iter().all(|ended| ended.answer().status == 200));
    assert!(origin.requests().iter().all(|seen| seen.connection == 0));
    assert_eq!((reactor.connections(), reactor.idle_connections()), (2, 1));
    shake.release();
    run_until(&mut reactor, |reactor| reactor.idle_connections() == 2);
    // The server sends its tickets with the end of its handshake.
    origin.wait_for(|log| log.handshakes.len() == 2);
    for _ in 0..3 {
        assert!(begin(&mut reactor).is_empty());
    }
    assert_eq!((reactor.connections(), reactor.idle_connections()), (2, 2));
    run_all(&mut reactor, [get(origin.url("/a")), get(origin.url("/b"))]);
    assert_eq!(origin.connections(), 2);
    assert!(origin.requests().iter().any(|seen| seen.connection == 1));
}

fn ok_action() -> Action {
    Action::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec())
}

#[test]
fn a_ticket_in_pieces_closes_an_idle_connection_and_harms_nothing() {
    let (go, sent) = (Latch::new(), Latch::new());
    let (held, is_sent) = (go.clone(), sent.clone());
    let (address, serving) = raw_server(move |session, stream| {
        read_head(session, stream);
        let records = sealed(session, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        stream.write_all(&records).unwrap();
        held.wait();
        // Half a record, of whatever kind.
        let half = sealed(session, b"unasked");
        stream.write_all(&half[..9]).unwrap();
        is_sent.release();
        while stream.read(&mut [0; 100]).is_ok_and(|count| count > 0) {}
    });
    let mut reactor = reactor();
    assert_eq!(run(&mut reactor, get(format!("https://{address}/"))).text(), "ok");
    assert_eq!(reactor.idle_connections(), 1);
    go.release();
    sent.wait();
    run_until(&mut reactor, |reactor| reactor.connections() == 0);
    serving.join().unwrap();
}

/// A server that serves one connection and leaves the others in their handshake: each answer
/// frees the one for a fetch that dials, and what that dialled serves the next.
#[test]
fn handshakes_that_hang_do_not_add_up() {
    let shake = Latch::new();
    let held = shake.clone();
    let setup = Setup {
        tls: Some(TlsSetup::default()),
        greeting: Some(Box::new(move |connection| match connection {
            0 => Reply::new(),
            _ => Reply::new().wait(&held),
        })),
        ..Setup::default()
    };
    let origin = Origin::start(setup, |_| ok("x"));
    let mut settings = settings();
    settings.per_origin = Some(4);
    let mut reactor = Reactor::new(settings).unwrap();
    run(&mut reactor, get(origin.url("/"))).answer();
    for tag in 0..100 {
        submit(&mut reactor, get(origin.url("/")).tag(tag));
    }
    let mut ended = Vec::new();
    while reactor.pending() > 0 {
        ended.extend(turn(&mut reactor, None));
        assert!(reactor.connections() <= 4, "{reactor:?}");
    }
    assert!(ended.iter().all(|ended| ended.answer().status == 200));
    shake.release();
    settle(&mut reactor);
    assert_eq!((reactor.idle_connections(), origin.connections()), (4, 4));
}
