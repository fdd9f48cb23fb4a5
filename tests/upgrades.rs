//! Another protocol on the connection, where a request has asked for it: both ways, until an end.

mod driving;
mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use driving::{Control, settings};
use support::{Action, Latch, Origin, Reply, Setup, TlsSetup, read_head, response};
use whippet::net::Net;
use whippet::{BodyRefused, Client, Error, Event, Kind, Limit, Reactor, Request};

const SWITCHES: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello ";

/// Says `SWITCHES`, and then what it hears, up to a full stop. Its head is what it gives back.
fn echo() -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serve = move || {
        let (mut stream, _) = listener.accept().unwrap();
        let head = read_head(&mut stream);
        stream.write_all(SWITCHES).unwrap();
        let mut byte = [0];
        while stream.read(&mut byte).unwrap() == 1 {
            stream.write_all(&byte).unwrap();
            if byte == *b"." {
                stream.shutdown(Shutdown::Both).unwrap();
                break;
            }
        }
        head
    };
    (url, thread::spawn(serve))
}

/// Says hello, hears the client to its end, from when the latch is released, and only then repeats it.
fn hears_all(hold: &Latch) -> Reply {
    Reply::new().send(SWITCHES).wait(hold).then(Action::EchoAtEnd)
}

/// Origins with this script: a plain one, and those of TLS 1.2 and 1.3.
fn origins(script: &Reply) -> Vec<Origin> {
    let start = |tls| {
        let script = script.clone();
        Origin::start(Setup { tls, ..Setup::default() }, move |_| script.clone())
    };
    let of_version = |tls12| Some(TlsSetup { tls12, tls13: !tls12, ..TlsSetup::default() });
    if cfg!(any(feature = "ring", feature = "aws-lc-rs")) {
        vec![start(None), start(of_version(true)), start(of_version(false))]
    } else {
        vec![start(None)]
    }
}

/// Says `bytes`, ends our half, and then releases the latch; what came back.
fn say_and_end<N: Net>(
    mut reactor: Reactor<N>,
    origin: &Origin,
    bytes: &[u8],
    hold: &Latch,
) -> Result<Vec<u8>, Error> {
    let request = Request::get(origin.url("/")).unwrap().upgrade("echo").unwrap();
    let id = reactor.submit(request).unwrap();
    let (mut heard, mut result) = (Vec::new(), None);
    while reactor.pending() > 0 {
        reactor.wait(None).unwrap();
        while let Some(event) = reactor.next_event() {
            match event {
                Event::Body { chunk, .. } => heard.extend_from_slice(chunk),
                Event::Done { .. } => result = Some(Ok(())),
                Event::Failed { error, .. } => result = Some(Err(error)),
                Event::Writable { offset, .. } => {
                    let mut at = usize::try_from(offset).unwrap();
                    while let Ok(count @ 1..) = reactor.send_body(id, &bytes[at..]) {
                        at += count;
                    }
                    if at == bytes.len() {
                        assert_eq!(reactor.finish_body(id), Ok(()));
                        assert_eq!(reactor.finish_body(id), Ok(()), "it has ended");
                        assert_eq!(reactor.send_body(id, b"more"), Err(BodyRefused::Finished));
                        hold.release();
                    }
                }
                _ => {}
            }
        }
    }
    assert_eq!((reactor.connections(), reactor.buffers()), (0, 0));
    result.unwrap().map(|()| heard)
}

fn reactor() -> Reactor {
    Reactor::new(settings()).unwrap()
}

fn pattern(length: usize) -> Vec<u8> {
    (0_u8..=250).cycle().take(length).collect()
}

#[test]
fn after_a_101_the_fetch_goes_both_ways_until_the_server_ends() {
    let (url, server) = echo();
    let mut reactor = reactor();
    let request = Request::get(url).unwrap().header("X-Own", "1").unwrap().upgrade("echo").unwrap();
    let id = reactor.submit(request).unwrap();
    let words = ["one ", "two ", "three", "."];
    let (mut heard, mut said, mut status, mut is_done) = (String::new(), 0, 0, false);
    while reactor.pending() > 0 {
        reactor.wait(None).unwrap();
        while let Some(event) = reactor.next_event() {
            match event {
                Event::Head { head, .. } => {
                    status = head.status().as_u16();
                    assert_eq!(head.header("upgrade"), Some(&b"echo"[..]));
                    assert_eq!(reactor.send_body(id, b"x"), Ok(0), "nothing was asked for");
                }
                Event::Body { chunk, .. } => heard.push_str(std::str::from_utf8(chunk).unwrap()),
                Event::Done { .. } => is_done = true,
                Event::Failed { error, .. } => panic!("{error}"),
                _ => {}
            }
            // A word, and its echo is waited for.
            let echoed = format!("hello {}", words[..said].concat());
            if heard == echoed && said < words.len() {
                match reactor.send_body(id, words[said].as_bytes()) {
                    Ok(0) => {}
                    Ok(count) => {
                        assert_eq!(count, words[said].len());
                        said += 1;
                    }
                    Err(refused) => panic!("{refused}"),
                }
            }
        }
    }
    assert_eq!((status, heard.as_str(), is_done), (101, "hello one two three.", true));
    assert_eq!((reactor.connections(), reactor.buffers()), (0, 0));
    let head = server.join().unwrap();
    assert!(head.contains("\r\nConnection: Upgrade\r\nUpgrade: echo\r\n"), "{head}");
    assert_eq!(reactor.send_body(id, b"x"), Err(BodyRefused::Gone));
}

#[test]
fn the_caller_may_end_its_half_and_hears_the_server_out() {
    for length in [0, 3, 60_000] {
        let (said, hold) = (pattern(length), Latch::new());
        let script = hears_all(&hold).close();
        for origin in origins(&script) {
            let heard = say_and_end(reactor(), &origin, &said, &hold).unwrap();
            assert!(heard == [b"hello ", &said[..]].concat(), "{length}, {}", origin.url("/"));
        }
    }
}

#[test]
fn our_end_comes_behind_what_the_socket_has_not_taken() {
    let (said, open) = (pattern(1_000_000), Latch::new());
    open.release();
    let script = hears_all(&open).close();
    for origin in origins(&script) {
        let control = Control::default();
        control.with(|whims| whims.write_bytes_max = Some(10_000));
        let heard = say_and_end(control.reactor(settings()), &origin, &said, &open).unwrap();
        assert!(heard == [b"hello ", &said[..]].concat(), "{}", origin.url("/"));
    }
}

#[test]
fn a_server_that_is_silent_stalls_only_after_our_end() {
    let origin = Origin::plain(|_| Reply::new().send(SWITCHES).silence());
    let (control, mut settings) = (Control::default(), settings());
    settings.timeouts.set(Limit::Stall, Some(Duration::from_secs(5)));
    let mut reactor = control.reactor(settings);
    let id =
        reactor.submit(Request::get(origin.url("/")).unwrap().upgrade("echo").unwrap()).unwrap();
    let mut heard = Vec::new();
    while heard != b"hello " {
        reactor.wait(None).unwrap();
        while let Some(event) = reactor.next_event() {
            if let Event::Body { chunk, .. } = event {
                heard.extend_from_slice(chunk);
            }
        }
    }
    // It is the caller that is waited for.
    control.skip(Duration::from_secs(6));
    assert!(driving::begin(&mut reactor).is_empty());
    reactor.finish_body(id).unwrap();
    assert!(driving::begin(&mut reactor).is_empty());
    control.skip(Duration::from_secs(6));
    let ended = driving::drive(&mut reactor);
    assert_eq!(ended[0].error().limit(), Some(Limit::Stall));
}

#[test]
fn the_servers_own_end_counts_after_ours() {
    let hold = Latch::new();
    let script = hears_all(&hold).close_without_notify();
    for origin in origins(&script) {
        let heard = say_and_end(reactor(), &origin, b"bye", &hold);
        if origin.url("/").starts_with("https") {
            assert_eq!(heard.unwrap_err().kind(), Kind::Closed, "it may be cut short");
        } else {
            assert_eq!(heard.unwrap(), b"hello bye");
        }
    }
}

#[test]
fn the_caller_may_end_it() {
    let (url, server) = echo();
    let mut reactor = reactor();
    let id = reactor.submit(Request::get(url).unwrap().upgrade("echo").unwrap()).unwrap();
    let mut is_open = false;
    while !is_open {
        reactor.wait(None).unwrap();
        while let Some(event) = reactor.next_event() {
            is_open |= matches!(event, Event::Writable { offset: 0, .. });
        }
    }
    assert_eq!(reactor.finish_body_with(id, &[("A", "b")]), Err(BodyRefused::Trailers));
    assert_eq!(reactor.send_body(id, b"bye"), Ok(3));
    assert_eq!(reactor.finish_body(id), Ok(()));
    assert!(reactor.send_body(id, b"more").is_err());
    assert!(reactor.cancel(id));
    assert_eq!(reactor.connections(), 0);
    // The server may find the connection reset.
    let _ = server.join();
}

#[test]
fn a_server_that_does_not_change_answers_as_ever_and_its_connection_is_kept() {
    let origin = Origin::plain(|seen| response(200, &[], seen.header("upgrade").unwrap_or("none")));
    let mut reactor = reactor();
    let ask = || Request::get(origin.url("/")).unwrap().upgrade("echo").unwrap().collect(true);
    for _ in 0..2 {
        let ended = driving::run(&mut reactor, ask());
        assert_eq!(ended.text(), "echo");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_101_that_cannot_be_used_is_an_error() {
    let (url, server) = echo();
    let mut client = Client::new().unwrap();
    let request = Request::get(url).unwrap().upgrade("echo").unwrap();
    assert_eq!(client.fetch(request).unwrap_err().kind(), Kind::InvalidRequest);
    let _ = server.join();
    let (url, server) = echo();
    assert_eq!(client.get(&url).unwrap_err().kind(), Kind::Malformed);
    let _ = server.join();
}

#[test]
fn a_server_changes_to_what_was_asked_for_and_to_nothing_else() {
    for (asked, named, is_it) in [
        ("echo", "Upgrade: ECHO\r\n", true),
        ("echo/2, echo", "Upgrade: echo\r\n", true),
        ("tls/1.2, echo", "Upgrade: tls/1.2, echo\r\n", true),
        ("tls/1.2, echo", "Upgrade: tls/1.2\r\nupgrade: echo\r\n", true),
        ("echo", "Upgrade: echo/2\r\n", false),
        ("echo", "Upgrade: other\r\n", false),
        ("echo", "Upgrade: echo, other\r\n", false),
        ("echo", "Upgrade:\r\n", false),
        ("echo", "", false),
    ] {
        let says = format!("HTTP/1.1 101 S\r\nConnection: Upgrade\r\n{named}\r\nhello");
        let origin = Origin::plain(move |_| Reply::new().send(says.clone()).close());
        let request = Request::get(origin.url("/")).unwrap().upgrade(asked).unwrap();
        let ended = driving::run(&mut reactor(), request);
        match ended.result {
            Ok(_) => assert!(is_it, "{asked}: {named}"),
            Err(error) => assert!(!is_it && error.kind() == Kind::Malformed, "{asked}: {error}"),
        }
    }
}

#[test]
fn what_is_asked_for_has_a_name() {
    let ask = |protocol| Request::get("http://a.example/").unwrap().upgrade(protocol);
    for protocol in ["echo", " echo ", "echo/2.0", "h2c,echo/1 , a"] {
        assert!(ask(protocol).is_ok(), "{protocol}");
    }
    for protocol in ["", " ", "a\r\nb", "a b", "a/", "/1", "a,,b", "a/1/2", "\u{e9}"] {
        assert!(ask(protocol).is_err(), "{protocol}");
    }
}
