//! One fetch of a client, read and written piece by piece, in calls that block.

mod driving;
mod support;

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use driving::{Control, settings};
use support::{
    Action, Latch, Origin, Reply, Setup, TlsSetup, ok, read_head, redirect, response, status,
};
use whippet::{Body, BodyRefused, Client, Error, Kind, Limit, Phase, Request};

const SWITCHES: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
const MIB: usize = 1 << 20;
/// More than the system's buffers of a connection hold, and less than what is sent over it.
const ON_THE_WAY_BYTES_MAX: usize = 24 * MIB;
const LONG_BYTES: usize = 64 * MIB;

fn client() -> Client {
    Client::with_settings(settings()).unwrap()
}

/// A server by hand, for one connection: it speaks while it is spoken to.
fn server<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (String, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    (url, thread::spawn(move || serve(listener.accept().unwrap().0)))
}

/// Origins with this script: a plain one, and one of TLS.
fn origins(script: &Reply) -> Vec<Origin> {
    let start = |tls| {
        let script = script.clone();
        Origin::start(Setup { tls, ..Setup::default() }, move |_| script.clone())
    };
    if cfg!(any(feature = "ring", feature = "aws-lc-rs")) {
        vec![start(None), start(Some(TlsSetup::default()))]
    } else {
        vec![start(None)]
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0_u8..=250).cycle().take(length).collect()
}

/// The failure of the fetch that an error of a read or write holds.
fn held(error: &io::Error) -> &Error {
    error.get_ref().and_then(|held| held.downcast_ref()).unwrap_or_else(|| panic!("{error:?}"))
}

/// The same for what was not taken.
fn refused(error: &io::Error) -> BodyRefused {
    let held = error.get_ref().and_then(|held| held.downcast_ref::<BodyRefused>());
    *held.unwrap_or_else(|| panic!("{error:?}"))
}

fn pushing(url: &str, body: Body) -> Request {
    Request::post(url).unwrap().body(body)
}

#[test]
fn a_body_is_read_as_it_comes_and_the_head_is_there_before() {
    let (more, pieces) = (Latch::new(), [pattern(1_000), pattern(200_000)]);
    let head = "HTTP/1.1 200 OK\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n";
    let rest = [b"\r\n30d40\r\n", &pieces[1][..], b"\r\n0\r\nX-Sum: 7\r\n\r\n"].concat();
    let script = Reply::new().send(head).send(&pieces[0]).wait(&more).send(rest);
    for origin in origins(&script) {
        let mut client = client();
        let mut stream = client.stream(origin.url("/")).unwrap();
        assert_eq!(stream.head().unwrap().status(), 200);
        assert_eq!(stream.head().unwrap().header("x-a"), Some(&b"1"[..]), "as often as asked for");
        let mut first = vec![0; 1_000];
        stream.read_exact(&mut first).unwrap();
        assert!(first == pieces[0]);
        assert!(stream.stats().is_none() && stream.trailers().next().is_none());
        more.release();
        let mut second = Vec::new();
        stream.read_to_end(&mut second).unwrap();
        assert!(second == pieces[1]);
        assert_eq!(stream.trailers().collect::<Vec<_>>(), [("X-Sum", &b"7"[..])]);
        assert_eq!(stream.stats().unwrap().body_bytes, 201_000);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the end stays the end");
        drop(stream);
        assert_eq!(client.reactor().idle_connections(), 1, "{}", origin.url("/"));
    }
}

#[test]
fn what_is_not_read_stays_with_the_server() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&sent);
    let (url, serving) = server(move |mut stream| {
        read_head(&mut stream);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG_BYTES}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        for piece in pattern(LONG_BYTES).chunks(64 << 10) {
            stream.write_all(piece).unwrap();
            counting.fetch_add(piece.len(), Ordering::SeqCst);
        }
    });
    let mut client = client();
    let mut stream = client.stream(url).unwrap();
    let (mut read, mut into) = (0, vec![0; 10_000]);
    loop {
        let count = stream.read(&mut into).unwrap();
        let is_right =
            into[..count].iter().zip(read..).all(|(byte, at)| usize::from(*byte) == at % 251);
        assert!(is_right, "behind {read}");
        if count == 0 {
            break;
        }
        read += count;
        let ahead = sent.load(Ordering::SeqCst).saturating_sub(read);
        assert!(ahead <= ON_THE_WAY_BYTES_MAX, "{ahead} bytes behind {read}");
    }
    assert_eq!(read, LONG_BYTES);
    serving.join().unwrap();
}

#[test]
fn lines_are_read_without_a_copy() {
    let origin = Origin::plain(|_| ok("one\ntwo\nthree"));
    let mut client = client();
    let stream = client.stream(origin.url("/")).unwrap();
    let lines: Vec<String> = stream.lines().map(Result::unwrap).collect();
    assert_eq!(lines, ["one", "two", "three"]);
}

#[cfg(feature = "gzip")]
#[test]
fn a_coding_is_removed_as_the_body_comes() {
    let coded = include_bytes!("corpus/codings/text.gz");
    let plain: String = (0..150).map(|n| format!("{n} squared is {}\n", n * n)).collect();
    let origin = Origin::plain(move |_| response(200, &[("Content-Encoding", "gzip")], coded));
    let mut client = client();
    let mut stream = client.stream(origin.url("/")).unwrap();
    assert_eq!(stream.head().unwrap().removed_codings().count(), 1);
    let mut body = Vec::new();
    io::copy(&mut stream, &mut body).unwrap();
    assert!(body == plain.as_bytes());
}

#[test]
fn the_session_and_redirects_count_as_for_any_request() {
    let origin = Origin::plain(|seen| match seen.target.as_str() {
        "/old" => redirect(302, "/new"),
        _ => ok(format!("{} {}", seen.target, seen.header("x-session").unwrap_or("none"))),
    });
    let client = client().base_url(&origin.url("/")).unwrap();
    let mut client = client.default_header("X-Session", "s").unwrap();
    let mut stream = client.stream("old").unwrap();
    assert_eq!((stream.url().path(), stream.redirects().len()), ("/old", 0));
    stream.head().unwrap();
    assert_eq!((stream.url().path(), stream.redirects().len()), ("/new", 1));
    let answer = stream.into_response().unwrap();
    assert_eq!((&*answer.text(), answer.url().path()), ("/new s", "/new"));
    assert_eq!((answer.redirects().len(), answer.stats().attempts), (1, 2));
    assert_eq!(client.stream("http://").unwrap_err().kind(), Kind::InvalidUrl);
}

#[test]
fn an_error_comes_behind_what_came_before_it_and_stays() {
    let script = Reply::new().send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").close();
    for origin in origins(&script) {
        let mut client = client();
        let mut stream = client.stream(origin.url("/")).unwrap();
        let mut body = Vec::new();
        let error = stream.read_to_end(&mut body).unwrap_err();
        assert_eq!((&body[..], error.kind()), (&b"hello"[..], ErrorKind::UnexpectedEof));
        assert_eq!((held(&error).kind(), held(&error).phase()), (Kind::Closed, Phase::Body));
        let again = stream.read(&mut [0]).unwrap_err();
        assert_eq!(held(&again).to_string(), held(&error).to_string());
        assert_eq!(stream.head().unwrap().status(), 200, "what has come has come");
        assert_eq!(stream.stats().unwrap().body_bytes, 5);
        assert_eq!(stream.into_response().unwrap_err().kind(), Kind::Closed);
        assert!(client.next_completed().is_none());
    }
}

#[test]
fn what_keeps_the_head_from_coming_is_told_by_every_call() {
    let url = format!("http://{}/", support::refused_port());
    let mut client = client();
    let mut stream = client.stream(pushing(&url, Body::pushed())).unwrap();
    assert_eq!(stream.head().unwrap_err().kind(), Kind::Connect);
    assert_eq!(held(&stream.read(&mut [0]).unwrap_err()).kind(), Kind::Connect);
    assert_eq!(held(&stream.write(b"x").unwrap_err()).kind(), Kind::Connect);
    assert_eq!(held(&stream.flush().unwrap_err()).kind(), Kind::Connect);
    assert_eq!(held(&stream.finish_body().unwrap_err()).kind(), Kind::Connect);
    assert_eq!(stream.into_response().unwrap_err().kind(), Kind::Connect);
}

#[test]
fn limits_count_for_the_server_and_not_for_the_caller() {
    let (first, second) = (Latch::new(), Latch::new());
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n";
    let script = Reply::new().send(head).wait(&first).send("hello ").wait(&second).send("world");
    let origin = Origin::plain(move |seen| match seen.target.as_str() {
        "/" => script.clone(),
        _ => Reply::new().send(head).send("hello").silence(),
    });
    let (control, mut settings) = (Control::default(), settings());
    settings.timeouts.set(Limit::Stall, Some(Duration::from_secs(5)));
    settings.timeouts.set(Limit::Total, Some(Duration::MAX));
    let mut client = Client::with_reactor(control.reactor(settings));
    let mut stream = client.stream(origin.url("/")).unwrap();
    stream.head().unwrap();
    // The server goes on only when it is waited for, after the limit was looked at.
    for (latch, said) in [(&first, "hello "), (&second, "world")] {
        control.skip(Duration::from_secs(60));
        control.with(|whims| whims.at_sleep = Some(latch.clone()));
        let mut heard = vec![0; said.len()];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(heard, said.as_bytes());
    }
    drop(stream);
    let short = Request::get(origin.url("/silent")).unwrap();
    let mut stream = client.stream(short.limit(Limit::Stall, Duration::from_secs(2))).unwrap();
    let mut body = Vec::new();
    let error = stream.read_to_end(&mut body).unwrap_err();
    assert_eq!((&body[..], error.kind()), (&b"hello"[..], ErrorKind::TimedOut));
    assert_eq!(held(&error).limit(), Some(Limit::Stall));
}

#[test]
fn what_is_written_is_the_body_in_chunks_or_of_the_length_announced() {
    let body = pattern(300_000);
    for length in [None, Some(300_000)] {
        let origins = origins(&ok("thanks"));
        for origin in origins {
            let control = Control::default();
            control.with(|whims| whims.write_bytes_max = Some(10_000));
            let mut client = Client::with_reactor(control.reactor(settings()));
            let pushed = Body::pushed().replayable(true);
            let pushed = length.map_or(pushed.clone(), |length| pushed.with_length(length));
            let mut stream = client.stream(pushing(&origin.url("/"), pushed)).unwrap();
            for piece in body.chunks(70_000) {
                stream.write_all(piece).unwrap();
            }
            stream.flush().unwrap();
            match length {
                None => stream.finish_body_with(&[("X-Sum", "7")]).unwrap(),
                Some(_) => stream.finish_body().unwrap(),
            }
            assert_eq!(refused(&stream.write(b"x").unwrap_err()), BodyRefused::Finished);
            let answer = stream.into_response().unwrap();
            assert_eq!((answer.status().as_u16(), &*answer.text()), (200, "thanks"));
            let seen = origin.requests().remove(0);
            assert!(seen.body == body, "{length:?}");
            let trailers: &[&str] = if length.is_none() { &["X-Sum: 7"] } else { &[] };
            assert_eq!(seen.trailers, trailers);
            assert_eq!(seen.header("content-length"), length.map(|_| "300000"));
            assert_eq!(client.reactor().idle_connections(), 1);
        }
    }
}

#[test]
fn a_write_waits_for_a_server_that_is_slow_to_read() {
    let written = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&written);
    let (url, serving) = server(move |mut stream| {
        read_head(&mut stream);
        let (mut read, mut into) = (0, vec![0; 10_000]);
        while read < LONG_BYTES {
            let ahead = counting.load(Ordering::SeqCst).saturating_sub(read);
            assert!(ahead <= ON_THE_WAY_BYTES_MAX, "{ahead} bytes behind {read}");
            let count = stream.read(&mut into).unwrap();
            assert!(count > 0, "it ended behind {read}");
            read += count;
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    });
    let mut client = client();
    let body = Body::pushed().with_length(LONG_BYTES as u64);
    let mut stream = client.stream(pushing(&url, body)).unwrap();
    for piece in pattern(LONG_BYTES).chunks(MIB) {
        stream.write_all(piece).unwrap();
        written.fetch_add(piece.len(), Ordering::SeqCst);
    }
    assert_eq!(stream.into_response().unwrap().status(), 204);
    serving.join().unwrap();
}

#[test]
fn a_body_that_does_not_keep_its_promise_is_refused_and_the_fetch_goes_on() {
    let origin = Origin::plain(|seen| ok(&seen.body));
    let mut client = client();
    let length = || pushing(&origin.url("/"), Body::pushed().with_length(5));
    let mut stream = client.stream(length()).unwrap();
    stream.write_all(b"he").unwrap();
    let long = stream.write(b"llo, world").unwrap_err();
    assert_eq!((long.kind(), refused(&long)), (ErrorKind::InvalidInput, BodyRefused::TooLong));
    let short = stream.finish_body().unwrap_err();
    assert_eq!(refused(&short), BodyRefused::TooShort { left: 3 });
    stream.write_all(b"llo").unwrap();
    assert_eq!(stream.into_response().unwrap().text(), "hello");
    let mut stream = client.stream(length()).unwrap();
    stream.write_all(b"he").unwrap();
    let error = stream.into_response().unwrap_err();
    assert_eq!((error.kind(), error.phase()), (Kind::InvalidRequest, Phase::Send));
    assert!(error.to_string().contains("3 bytes shorter"), "{error}");
    let mut stream = client.stream(pushing(&origin.url("/"), Body::pushed())).unwrap();
    let error = stream.finish_body_with(&[("Content-Length", "1")]).unwrap_err();
    assert_eq!(refused(&error), BodyRefused::Trailers);
    drop(stream);
    let mut stream = client.stream(origin.url("/")).unwrap();
    assert_eq!(refused(&stream.write(b"x").unwrap_err()), BodyRefused::NotPushed);
    assert_eq!(refused(&stream.finish_body().unwrap_err()), BodyRefused::NotPushed);
    assert_eq!(stream.into_response().unwrap().status(), 200);
}

#[test]
fn a_refusal_before_the_bodys_end_ends_the_writing_and_is_the_answer() {
    for is_whole in [true, false] {
        let (url, serving) = server(move |mut stream| {
            read_head(&mut stream);
            let head = "HTTP/1.1 413 Too Large\r\nContent-Length: 8\r\n\r\nnope";
            stream.write_all(head.as_bytes()).unwrap();
            if is_whole {
                stream.write_all(b"nope").unwrap();
            }
            let mut byte = [0; 10_000];
            // What is written until it is given up, and then the rest of the answer.
            while stream.read(&mut byte).is_ok_and(|count| count > 0) {}
        });
        let mut client = client();
        let mut stream = client.stream(pushing(&url, Body::pushed())).unwrap();
        let piece = pattern(10_000);
        let error = loop {
            if let Err(error) = stream.write(&piece) {
                break error;
            }
        };
        assert_eq!((error.kind(), refused(&error)), (ErrorKind::BrokenPipe, BodyRefused::Unwanted));
        stream.finish_body().unwrap();
        assert_eq!(stream.head().unwrap().status(), 413);
        let mut half = [0; 4];
        stream.read_exact(&mut half).unwrap();
        assert_eq!(&half, b"nope");
        if is_whole {
            assert_eq!(stream.into_response().unwrap().body(), b"nope");
        } else {
            drop(stream);
        }
        assert_eq!(client.reactor().connections(), 0, "the request was not whole");
        serving.join().unwrap();
    }
}

#[test]
fn what_comes_while_a_write_waits_is_kept_and_the_rest_stays_with_the_server() {
    const UPLOAD_BYTES: usize = 16 * MIB;
    let (body, has_sent_all) = (pattern(LONG_BYTES), Latch::new());
    let (said, sent) = (body.clone(), has_sent_all.clone());
    let (url, serving) = server(move |mut stream| {
        read_head(&mut stream);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG_BYTES}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&said[..64 << 10]).unwrap();
        let mut speaking = stream.try_clone().unwrap();
        let speaker = thread::spawn(move || {
            speaking.write_all(&said[64 << 10..]).unwrap();
            sent.release();
        });
        let mut heard = vec![0; UPLOAD_BYTES];
        stream.read_exact(&mut heard).unwrap();
        speaker.join().unwrap();
        heard
    });
    let mut client = client();
    let pushed = Body::pushed().with_length(UPLOAD_BYTES as u64);
    let mut stream = client.stream(pushing(&url, pushed)).unwrap();
    assert_eq!(stream.head().unwrap().status(), 200, "before anything was pushed");
    stream.write_all(&pattern(UPLOAD_BYTES)).unwrap();
    stream.flush().unwrap();
    assert!(!has_sent_all.is_released(), "it can have sent what the system holds");
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    assert!(heard == body);
    assert!(serving.join().unwrap() == pattern(UPLOAD_BYTES));
}

#[test]
fn a_write_ends_where_the_server_has_gone_and_something_is_to_be_read() {
    let gone = Latch::new();
    let goes = gone.clone();
    let (url, serving) = server(move |mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").unwrap();
        goes.wait();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let mut client = client();
    let mut stream = client.stream(pushing(&url, Body::pushed())).unwrap();
    assert_eq!(stream.fill_buf().unwrap(), b"hello");
    gone.release();
    let error = loop {
        if let Err(error) = stream.write(b"more") {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
    assert!(error.to_string().contains("can be read"), "{error}");
    assert_eq!(stream.flush().unwrap_err().kind(), ErrorKind::BrokenPipe);
    let mut body = Vec::new();
    let error = stream.read_to_end(&mut body).unwrap_err();
    assert_eq!(body, b"hello");
    assert!(matches!(held(&error).kind(), Kind::Io | Kind::Closed), "{error}");
    serving.join().unwrap();
}

#[test]
fn a_redirect_that_leaves_the_body_behind_ends_the_writing() {
    let (url, serving) = server(move |mut stream| {
        read_head(&mut stream);
        let mut hello = [0; 10];
        stream.read_exact(&mut hello).unwrap();
        let address = stream.local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        assert_ne!(address, there);
        let head = format!("HTTP/1.1 303 See Other\r\nLocation: http://{there}/\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut other = listener.accept().unwrap().0;
        let head = read_head(&mut other);
        other.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").unwrap();
        head
    });
    let mut client = client();
    let mut stream = client.stream(pushing(&url, Body::pushed())).unwrap();
    stream.write_all(b"hello").unwrap();
    assert_eq!(stream.head().unwrap().status(), 200);
    let error = stream.write(b"more").unwrap_err();
    assert_eq!((error.kind(), refused(&error)), (ErrorKind::BrokenPipe, BodyRefused::Unwanted));
    assert_eq!(stream.into_response().unwrap().body(), b"done");
    assert!(serving.join().unwrap().starts_with("GET / "));
}

#[test]
fn an_upgrade_goes_both_ways() {
    let (url, serving) = server(|mut stream| {
        read_head(&mut stream);
        stream.write_all(&[SWITCHES, b"hello "].concat()).unwrap();
        let mut byte = [0];
        while stream.read(&mut byte).unwrap() == 1 {
            stream.write_all(&byte).unwrap();
        }
    });
    let mut client = client();
    let mut stream = client.stream(Request::get(url).unwrap().upgrade("echo").unwrap()).unwrap();
    // What is written first waits for the server's word.
    stream.write_all(b"one ").unwrap();
    assert_eq!(stream.head().unwrap().status(), 101);
    let mut heard = vec![0; 10];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(heard, b"hello one ");
    for word in ["two ", "three"] {
        stream.write_all(word.as_bytes()).unwrap();
        let mut echo = vec![0; word.len()];
        stream.read_exact(&mut echo).unwrap();
        assert_eq!(echo, word.as_bytes());
    }
    stream.finish_body().unwrap();
    assert_eq!(refused(&stream.write(b"x").unwrap_err()), BodyRefused::Finished);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the server has ended, too");
    assert_eq!(refused(&stream.write(b"x").unwrap_err()), BodyRefused::Unwanted);
    drop(stream);
    assert_eq!(client.reactor().connections(), 0);
    serving.join().unwrap();
}

#[test]
fn our_half_of_an_upgrade_may_end_first() {
    let said = pattern(100_000);
    let script = Reply::new().send(SWITCHES).then(Action::EchoAtEnd).close();
    for origin in origins(&script) {
        let mut client = client();
        let request = Request::get(origin.url("/")).unwrap().upgrade("echo").unwrap();
        let mut stream = client.stream(request).unwrap();
        assert_eq!(stream.head().unwrap().status(), 101);
        stream.write_all(&said).unwrap();
        let answer = stream.into_response().unwrap();
        assert_eq!(answer.status(), 101);
        assert!(answer.body() == said, "{}", origin.url("/"));
    }
}

#[test]
fn a_server_that_does_not_change_protocols_answers_as_ever() {
    let origin = Origin::plain(|_| ok("no"));
    let mut client = client();
    let request = Request::get(origin.url("/")).unwrap().upgrade("echo").unwrap();
    let mut stream = client.stream(request).unwrap();
    assert_eq!(refused(&stream.write(b"x").unwrap_err()), BodyRefused::NotPushed);
    assert_eq!(stream.into_response().unwrap().text(), "no");
    assert_eq!(client.reactor().idle_connections(), 1);
}

#[test]
fn others_go_on_while_a_stream_waits_and_are_told_of_afterwards() {
    let other_came = Latch::new();
    let (hold, release) = (other_came.clone(), other_came);
    let origin = Origin::plain(move |seen| match seen.target.as_str() {
        "/stream" => {
            let begins = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello ";
            Reply::new().send(begins).wait(&hold).send("world")
        }
        _ => ok("other").release(&release),
    });
    let mut client = client();
    let other = Request::get(origin.url("/other")).unwrap().tag(9);
    client.submit(other).unwrap();
    let pushed = pushing(&origin.url("/pushed"), Body::pushed());
    client.submit(pushed).unwrap();
    let mut stream = client.stream(origin.url("/stream")).unwrap();
    let mut body = String::new();
    stream.read_to_string(&mut body).unwrap();
    assert_eq!(body, "hello world");
    drop(stream);
    let mut told: Vec<_> = std::iter::from_fn(|| client.next_completed()).collect();
    told.sort_by_key(|completed| completed.index);
    assert_eq!((told.len(), told[0].tag), (2, 9));
    assert_eq!(told[0].result.as_ref().unwrap().text(), "other");
    let error = told[1].result.as_ref().unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidRequest);
    assert!(error.to_string().contains("Client::stream"), "{error}");
    assert_eq!(client.reactor().pending(), 0);
}

#[test]
fn dropping_a_stream_cancels_it_and_nothing_else() {
    let origin = Origin::plain(|seen| match seen.target.as_str() {
        "/endless" => {
            Reply::new().send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello").silence()
        }
        _ => ok(seen.target.clone()),
    });
    let mut client = client();
    client.submit(Request::get(origin.url("/other")).unwrap()).unwrap();
    let mut stream = client.stream(origin.url("/endless")).unwrap();
    let mut hello = [0; 5];
    stream.read_exact(&mut hello).unwrap();
    drop(stream);
    assert_eq!(client.next_completed().unwrap().result.unwrap().text(), "/other");
    // Before its head was had, too.
    drop(client.stream(origin.url("/never")).unwrap());
    assert_eq!(client.get(&origin.url("/after")).unwrap().text(), "/after");
    let seen = origin.requests();
    let of = |target: &str| seen.iter().find(|it| it.target == target).map(|it| it.connection);
    assert_ne!(of("/after"), of("/endless"));
    assert_eq!(of("/never"), None);
    assert_eq!((client.reactor().pending(), client.reactor().in_flight()), (0, 0));
}

#[test]
fn a_poll_that_fails_ends_the_stream_and_what_was_submitted() {
    let origin = Origin::plain(|_| Reply::new().silence());
    let control = Control::default();
    let mut client = Client::with_reactor(control.reactor(settings()));
    client.submit(Request::get(origin.url("/other")).unwrap()).unwrap();
    let mut stream = client.stream(pushing(&origin.url("/"), Body::pushed())).unwrap();
    stream.write_all(b"hello").unwrap();
    control.with(|whims| whims.poll_fails = true);
    assert_eq!(stream.head().unwrap_err().kind(), Kind::Io);
    assert_eq!(held(&stream.write(b"x").unwrap_err()).kind(), Kind::Io);
    drop(stream);
    assert_eq!(client.reactor().pending(), 0);
    assert_eq!(client.next_completed().unwrap().result.unwrap_err().kind(), Kind::Io);
    control.with(|whims| whims.poll_fails = false);
    assert!(client.next_completed().is_none());
}

#[test]
fn a_connection_is_kept_where_nothing_is_left_to_come() {
    let origin = Origin::plain(|seen| match seen.target.as_str() {
        "/none" => status(204),
        _ => ok("hello"),
    });
    let mut client = client();
    for target in ["/none", "/five"] {
        let mut stream = client.stream(origin.url(target)).unwrap();
        let length = if stream.head().unwrap().status() == 204 { 0 } else { 5 };
        // Its end is not asked for.
        stream.read_exact(&mut vec![0; length]).unwrap();
        drop(stream);
    }
    assert!(client.get(&origin.url("/")).is_ok());
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_stream_waits_for_its_place_where_too_many_wait() {
    let origin = Origin::plain(|seen| ok(seen.target.clone()));
    let mut settings = settings();
    (settings.concurrency, settings.waiting_requests_max) = (1, 2);
    let mut client = Client::with_settings(settings).unwrap();
    let mut taken = 0;
    while client.submit(Request::get(origin.url("/other")).unwrap()).is_ok() {
        taken += 1;
    }
    assert!(taken > 1);
    let answer = client.stream(origin.url("/stream")).unwrap().into_response().unwrap();
    assert_eq!(answer.text(), "/stream");
    let told = std::iter::from_fn(|| client.next_completed());
    assert_eq!(told.filter(|other| other.result.is_ok()).count(), taken);
}

#[test]
fn a_whole_response_has_a_limit_and_a_stream_has_none() {
    let origin = Origin::plain(|_| ok(pattern(200_000)));
    let mut settings = settings();
    settings.body_bytes_max = 150_000;
    let mut client = Client::with_settings(settings).unwrap();
    let error = client.stream(origin.url("/")).unwrap().into_response().unwrap_err();
    assert_eq!((error.kind(), error.phase(), error.attempts()), (Kind::TooLarge, Phase::Body, 1));
    let mut stream = client.stream(origin.url("/")).unwrap();
    assert_eq!(io::copy(&mut stream, &mut io::sink()).unwrap(), 200_000);
    drop(stream);
    let more = Request::get(origin.url("/")).unwrap().body_bytes_max(200_000);
    let answer = client.stream(more).unwrap().into_response().unwrap();
    assert_eq!(answer.stats().body_bytes, 200_000);
    assert!(answer.body() == pattern(200_000));
}

#[test]
fn an_attempt_is_repeated_until_something_was_given_that_can_be_given_once() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&attempts);
    let origin = Origin::plain(move |seen| {
        if counting.fetch_add(1, Ordering::SeqCst) == 0 && seen.method == "GET" {
            return Reply::new().reset();
        }
        ok("again")
    });
    let mut settings = settings();
    settings.retries = 2;
    let mut client = Client::with_settings(settings).unwrap();
    let answer = client.stream(origin.url("/")).unwrap().into_response().unwrap();
    assert_eq!((&*answer.text(), answer.stats().attempts), ("again", 2));
    let (url, serving) = server(|mut stream| {
        read_head(&mut stream);
        stream.read_exact(&mut [0; 10]).unwrap();
    });
    let body = Body::pushed().replayable(true);
    let mut stream = client.stream(Request::put(&url).unwrap().body(body)).unwrap();
    stream.write_all(b"hello").unwrap();
    serving.join().unwrap();
    let error = stream.head().unwrap_err();
    assert!(error.is_body_spent() && error.attempts() == 1, "{error:?}");
}
