//! Another protocol on the connection, where a request has asked for it: both ways, until an end.

mod driving;
mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use driving::settings;
use support::{Origin, response};
use whippet::{BodyRefused, Client, Event, Kind, Reactor, Request};

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

fn read_head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn after_a_101_the_fetch_goes_both_ways_until_the_server_ends() {
    let (url, server) = echo();
    let mut reactor = Reactor::new(settings()).unwrap();
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
fn the_caller_may_end_it() {
    let (url, server) = echo();
    let mut reactor = Reactor::new(settings()).unwrap();
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
    let mut reactor = Reactor::new(settings()).unwrap();
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
    assert_eq!(client.fetch(request).unwrap_err().kind(), Kind::Malformed);
    let _ = server.join();
    let (url, server) = echo();
    assert_eq!(client.get(&url).unwrap_err().kind(), Kind::Malformed);
    let _ = server.join();
    assert!(Request::get("http://a.example/").unwrap().upgrade("a\r\nb").is_err());
}
