//! Bodies over real sockets, in both directions: every length and framing arrives byte for byte,
//! streamed and collected; a pause loses nothing; what is cut short or too long is no success.

mod support;
mod transcript;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::Arc;
use std::thread;

use support::{Action, Latch, Origin, Reply, Seen, Setup, chunked, ok};
use transcript::{Run, Told, assert_same, noise};
use whippet::{FetchId, Kind, Phase, Request};

const READ_BYTES: usize = 64 << 10;
/// Around one read, a head included or not, around the bytes of one turn, and well beyond.
const LENGTHS: [usize; 11] = [
    0,
    1,
    READ_BYTES - 1,
    READ_BYTES,
    READ_BYTES + 1,
    2 * READ_BYTES,
    4 * READ_BYTES - 1,
    4 * READ_BYTES,
    4 * READ_BYTES + 1,
    1_000_003,
    3 << 20,
];

/// Fetches `target` streamed and collected, and compares.
fn assert_body(run: &mut Run, url: &str, expected: &[u8]) -> [Told; 2] {
    let streamed = run.get(url);
    assert_same(streamed.answer().1, expected);
    let collected = run.collect(url);
    assert_same(collected.answer().1, expected);
    [streamed, collected]
}

/// What the target asks for: its last word as a number.
fn length_of(seen: &Seen) -> usize {
    seen.target.rsplit('/').next().unwrap().parse().unwrap()
}

#[test]
fn bodies_of_every_length_arrive_and_leave_their_connection_reusable() {
    let all: Arc<[u8]> = noise(3 << 20).into();
    let bytes = Arc::clone(&all);
    let plain = Origin::plain(move |seen| ok(&bytes[..length_of(seen)]));
    let bytes = Arc::clone(&all);
    let tls = Origin::tls(move |seen| ok(&bytes[..length_of(seen)]));
    for origin in [plain, tls] {
        let mut run = Run::new();
        for length in LENGTHS {
            assert_body(&mut run, &origin.url(&format!("/{length}")), &all[..length]);
            assert_eq!((run.reactor.connections(), run.reactor.idle_connections()), (1, 1));
        }
        assert_eq!(origin.connections(), 1);
    }
}

/// A response whose last byte is the last that one read has room for: whether more follows is
/// not known from it.
#[test]
fn a_response_that_fills_a_read_to_the_byte_leaves_its_connection_reusable() {
    let body = noise(READ_BYTES);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", READ_BYTES - 42);
    assert_eq!(head.len(), 42);
    let all = [head.as_bytes(), &body[42..]].concat();
    let surplus = [&all[..], b"x"].concat();
    let origin = Origin::plain(move |seen| match &seen.target[..] {
        "/surplus" => Reply::new().send(&surplus),
        _ => Reply::new().send(&all),
    });
    let mut run = Run::new();
    for _ in 0..20 {
        assert_body(&mut run, &origin.url("/"), &body[42..]);
    }
    assert_eq!(origin.connections(), 1);
    assert_body(&mut run, &origin.url("/surplus"), &body[42..]);
    run.until(|run| run.reactor.connections() == 0);
}

#[test]
fn chunks_of_odd_sizes_and_cuts_arrive_whole() {
    let all: Arc<[u8]> = noise(300_000).into();
    let bytes = Arc::clone(&all);
    let origin = Origin::plain(move |seen| {
        let word = seen.target.trim_start_matches('/');
        let piece = word.parse().unwrap_or(100_000);
        let pieces: Vec<_> = bytes.chunks(piece).collect();
        if word != "dripped" {
            return chunked(&pieces);
        }
        let mut message = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for piece in bytes.chunks(997) {
            message.extend(format!("{:X} ; a=\"b\"\r\n", piece.len()).into_bytes());
            message.extend([piece, b"\r\n"].concat());
        }
        message.extend(b"00000\r\n\r\n");
        Reply::new().split(message, 1_009)
    });
    let mut run = Run::new();
    for path in ["/dripped", "/1021", "/65536", "/65535", "/99999", "/300000"] {
        assert_body(&mut run, &origin.url(path), &all);
    }
    let bytes = Arc::clone(&all);
    let small = Origin::plain(move |_| chunked(&bytes[..2_000].chunks(1).collect::<Vec<_>>()));
    assert_body(&mut run, &small.url("/"), &all[..2_000]);
    let empty = Origin::plain(|_| chunked::<&str>(&[]));
    assert_body(&mut run, &empty.url("/"), b"");
    assert_eq!((origin.connections(), small.connections(), empty.connections()), (1, 1, 1));
}

#[test]
fn trailers_are_told_with_the_end() {
    let origin = Origin::plain(|seen| match &seen.target[..] {
        "/" => Reply::new()
            .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n")
            .split("X-Sum: 900\r\nx-b: \r\nX-Sum: 7\r\n\r\n", 3),
        _ => chunked(&["none"]),
    });
    let mut run = Run::new();
    let expected = [("X-Sum", "900"), ("x-b", ""), ("X-Sum", "7")]
        .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
    let [streamed, collected] = assert_body(&mut run, &origin.url("/"), b"abc");
    assert_eq!(streamed.trailers, expected);
    let response = collected.response.unwrap();
    let trailers: Vec<_> =
        response.trailers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
    assert_eq!(trailers, expected);
    assert_eq!(response.header("x-sum"), None);
    let [streamed, collected] = assert_body(&mut run, &origin.url("/none"), b"none");
    assert!(streamed.trailers.is_empty() && collected.trailers.is_empty());
    assert_eq!(collected.response.unwrap().trailers().count(), 0);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_body_may_end_with_its_connection() {
    let all: Arc<[u8]> = noise(1 << 20).into();
    let bytes = Arc::clone(&all);
    let respond = move |seen: &Seen| {
        Reply::new().send("HTTP/1.1 200 OK\r\n\r\n").send(&bytes[..length_of(seen)]).close()
    };
    let plain = Origin::plain(respond.clone());
    let tls = Origin::tls(respond);
    for origin in [plain, tls] {
        let mut run = Run::new();
        for length in [0, 1, READ_BYTES, 1 << 20] {
            assert_body(&mut run, &origin.url(&format!("/{length}")), &all[..length]);
            assert_eq!(run.reactor.connections(), 0);
        }
    }
}

#[test]
fn a_collected_body_takes_no_more_memory_than_its_bytes() {
    let all: Arc<[u8]> = noise(300_001).into();
    let bytes = Arc::clone(&all);
    let origin = Origin::plain(move |seen| match &seen.target[..] {
        "/chunked" => chunked(&bytes.chunks(70_000).collect::<Vec<_>>()),
        "/close" => Reply::new().send("HTTP/1.1 200 OK\r\n\r\n").send(&bytes[..]).close(),
        _ => ok(&bytes),
    });
    let mut run = Run::new();
    for path in ["/chunked", "/close", "/length"] {
        let body = run.collect(&origin.url(path)).response.unwrap().into_body();
        assert_same(&body, &all);
        assert_eq!(body.capacity(), body.len(), "{path}");
        assert_eq!(run.reactor.buffered_bytes(), 0);
    }
}

#[test]
fn request_bodies_arrive_whole_also_where_writes_are_partial() {
    let all = noise(16 << 20);
    let respond = |seen: &Seen| ok(&seen.body);
    for (origin, most) in [(Origin::plain(respond), 16 << 20), (Origin::tls(respond), 5_000_000)] {
        let mut run = Run::with(|settings| settings.body_bytes_max = 64 << 20);
        for length in [0, 1, READ_BYTES, READ_BYTES + 1, 1 << 20, most] {
            let request = Request::put(origin.url("/")).unwrap().body(&all[..length]);
            assert_same(run.fetch(request.clone()).answer().1, &all[..length]);
            assert_same(run.fetch(request.collect(true)).answer().1, &all[..length]);
        }
        assert_eq!(origin.connections(), 1);
        assert_eq!(origin.requests()[0].header("content-length"), Some("0"));
    }
}

/// The body of an answer may begin before the request has ended: both halves go on.
#[test]
fn a_request_is_sent_on_while_its_answer_arrives() {
    let greeting = |_| {
        // Once the request has begun. It misses its first byte then, which the origin does not
        // mind.
        let begun = Reply::new().then(Action::Receive(1));
        begun.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nearly")
    };
    let setup = Setup { greeting: Some(Box::new(greeting)), ..Setup::default() };
    let origin = Origin::start(setup, |seen| match seen.nth {
        0 => Reply::new().send("late"),
        _ => ok("next"),
    });
    let all = noise(32 << 20);
    let mut run = Run::new();
    let request = Request::post(origin.url("/")).unwrap().body(&all[..]);
    assert_eq!(run.fetch(request).answer(), (200, &b"earlylate"[..]));
    assert_same(&origin.requests()[0].body, &all);
    assert_eq!(run.get(&origin.url("/")).answer().1, b"next");
    assert_eq!(origin.connections(), 1);
}

/// The server has answered and reads on; but nobody waits for the rest of the request.
#[test]
fn an_answer_before_the_end_of_the_request_ends_both() {
    let greeting = |_| Reply::new().send("HTTP/1.1 413 Too much\r\nContent-Length: 2\r\n\r\nno");
    let setup = Setup { greeting: Some(Box::new(greeting)), ..Setup::default() };
    let origin = Origin::start(setup, |_| Reply::new().then(Action::Silence));
    let mut run = Run::new();
    let request = Request::post(origin.url("/")).unwrap().body(noise(32 << 20));
    assert_eq!(run.fetch(request).answer(), (413, &b"no"[..]));
    assert_eq!(run.reactor.connections(), 0);
    origin.wait_for(|log| log.malformed.len() == 1);
    assert!(origin.requests().is_empty());
}

/// It answers, closes, and what is still sent meets a reset. The answer is told all the same.
#[test]
fn a_server_that_answers_and_closes_in_mid_request_is_heard() {
    for reads in [0, 1, 1 << 20] {
        let greeting = move |_| {
            let answer = Reply::new().then(Action::Receive(reads));
            answer.send("HTTP/1.1 413 Too much\r\nContent-Length: 2\r\n\r\nno").close()
        };
        let setup = Setup { greeting: Some(Box::new(greeting)), ..Setup::default() };
        let origin = Origin::start(setup, |_| ok(""));
        for collect in [false, true] {
            let mut run = Run::new();
            let request = Request::post(origin.url("/")).unwrap().body(noise(16 << 20));
            let told = run.fetch(request.collect(collect));
            assert_eq!(told.answer(), (413, &b"no"[..]));
            assert_eq!((told.stats.attempts, run.reactor.connections()), (1, 0));
        }
    }
}

/// Submits a fetch that is paused once `at` bytes were told, and waits until it is.
fn paused_at(run: &mut Run, request: Request, at: usize) -> FetchId {
    let id = run.submit(request);
    run.pause_at(id, at);
    run.until(|run| run.told(id).status.is_some() && run.told(id).body.len() >= at);
    id
}

/// Nothing is told of a paused fetch, in several turns, though all of it is there to be read.
fn assert_silent(run: &mut Run, id: FetchId) {
    let before = run.told(id).body.len();
    for _ in 0..5 {
        assert_eq!(run.poll(), 0, "an event while paused");
    }
    assert_eq!((run.told(id).body.len(), run.told(id).end), (before, None));
}

#[test]
fn a_pause_in_mid_body_holds_everything_back_and_loses_nothing() {
    let all: Arc<[u8]> = noise(200_000).into();
    for piece in [997, 60_000, 200_000] {
        let bytes = Arc::clone(&all);
        let sent = Latch::new();
        let told = sent.clone();
        let respond = move |seen: &Seen| {
            let reply = match &seen.target[..] {
                "/length" => ok(&bytes),
                "/close" => Reply::new().send("HTTP/1.1 200 OK\r\n\r\n").send(&bytes),
                _ => chunked(&bytes.chunks(piece).collect::<Vec<_>>()),
            };
            let reply = reply.release(&told);
            if seen.target == "/close" { reply.close() } else { reply }
        };
        let (plain, tls) = (Origin::plain(respond.clone()), Origin::tls(respond));
        for (origin, path) in [
            (&plain, "/chunked"),
            (&plain, "/length"),
            (&plain, "/close"),
            (&tls, "/chunked"),
            (&tls, "/length"),
            (&tls, "/close"),
        ] {
            let mut run = Run::new();
            let id = paused_at(&mut run, Request::get(origin.url(path)).unwrap(), 1);
            sent.wait();
            if run.told(id).body.len() < all.len() {
                assert_silent(&mut run, id);
            }
            // Again and again, a little at a time.
            while run.told(id).end.is_none() && run.told(id).body.len() < all.len() {
                let at = run.told(id).body.len() + 1;
                run.pause_at(id, at);
                run.reactor.resume(id);
                run.until(|run| run.told(id).body.len() >= at || run.told(id).end.is_some());
            }
            run.reactor.resume(id);
            run.until_ended(id);
            assert_same(run.told(id).answer().1, &all);
            let kept = usize::from(path != "/close");
            assert_eq!(run.reactor.connections(), kept, "{path}");
        }
    }
}

/// The kernel's buffers fill up, and the server cannot send on.
#[test]
fn a_pause_reaches_the_server() {
    let sent = Latch::new();
    let all_sent = sent.clone();
    let all: Arc<[u8]> = noise(32 << 20).into();
    let bytes = Arc::clone(&all);
    let origin = Origin::plain(move |seen| match &seen.target[..] {
        "/large" => ok(&bytes).release(&all_sent),
        _ => ok("small"),
    });
    let mut run = Run::new();
    let request = Request::get(origin.url("/large")).unwrap();
    let id = paused_at(&mut run, request, 1);
    // Others are not held up.
    for _ in 0..50 {
        assert_eq!(run.get(&origin.url("/")).answer().1, b"small");
    }
    let before = run.told(id).body.len();
    assert!(before <= READ_BYTES && !sent.is_released());
    run.reactor.resume(id);
    run.until_ended(id);
    assert_same(run.told(id).answer().1, &all);
}

#[test]
fn a_fetch_that_is_paused_from_the_start_tells_nothing_until_it_is_resumed() {
    let sent = Latch::new();
    let all_sent = sent.clone();
    let origin = Origin::plain(move |_| {
        Reply::new()
            .split("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nA: 1\r\nB", 7)
            .split(": 2\r\nContent-Length: 3\r\n\r\nabc", 5)
            .release(&all_sent)
    });
    for collect in [false, true] {
        let mut run = Run::new();
        let id = run.submit(Request::get(origin.url("/")).unwrap().collect(collect));
        run.reactor.pause(id);
        let count = origin.requests().len();
        run.until(|_| origin.requests().len() > count);
        sent.wait();
        assert_silent(&mut run, id);
        run.reactor.resume(id);
        assert_eq!(run.until_ended(id).answer(), (200, &b"abc"[..]));
        assert_eq!(run.reactor.idle_connections(), 1);
    }
}

/// All bytes are told when it is paused; then the end may be told, but only once and in order.
#[test]
fn a_pause_at_the_last_byte_ends_once() {
    let origin = Origin::plain(|seen| match &seen.target[..] {
        "/length" => ok("last"),
        "/chunked" => chunked(&["last"]),
        _ => Reply::new().send("HTTP/1.1 200 OK\r\n\r\nlast").close(),
    });
    for path in ["/length", "/chunked", "/close"] {
        let mut run = Run::new();
        let id = paused_at(&mut run, Request::get(origin.url(path)).unwrap(), 4);
        for _ in 0..3 {
            run.poll();
        }
        run.reactor.resume(id);
        assert_eq!(run.until_ended(id).answer().1, b"last");
        run.reactor.resume(id);
        assert_eq!(run.poll(), 0);
        assert_eq!(run.reactor.connections(), usize::from(path != "/close"));
    }
}

#[test]
fn a_paused_fetch_can_be_cancelled() {
    let all: Arc<[u8]> = noise(200_000).into();
    let bytes = Arc::clone(&all);
    let origin = Origin::plain(move |_| chunked(&bytes.chunks(1_000).collect::<Vec<_>>()));
    let mut run = Run::new();
    let id = paused_at(&mut run, Request::get(origin.url("/")).unwrap(), 1);
    assert!(run.cancel(id));
    assert_eq!(run.poll(), 0);
    assert_eq!((run.reactor.pending(), run.reactor.connections()), (0, 0));
    origin.wait_for(|log| log.open == 0);
}

#[test]
fn what_is_cut_short_is_closed_and_a_collected_part_is_kept() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let origin = Origin::plain(|seen| {
        let reply = Reply::new();
        match &seen.target[..] {
            "/length" => reply.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npart").close(),
            "/data" => reply.send(format!("{CHUNKED}5\r\npart")).close(),
            "/crlf" => reply.send(format!("{CHUNKED}4\r\npart")).close(),
            "/next" => reply.send(format!("{CHUNKED}4\r\npart\r\n")).close(),
            "/last" => reply.send(format!("{CHUNKED}4\r\npart\r\n0\r\n")).close(),
            "/trailer" => reply.send(format!("{CHUNKED}4\r\npart\r\n0\r\nA: 1\r\n")).close(),
            _ => reply.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npart").half_close(),
        }
    });
    let mut run = Run::new();
    for path in ["/length", "/data", "/crlf", "/next", "/last", "/trailer", "/half"] {
        for collect in [false, true] {
            let request = Request::get(origin.url(path)).unwrap().collect(collect).retries(0);
            let told = run.fetch(request);
            assert_eq!(told.kind(), Kind::Closed, "{path}");
            let error = told.error.as_ref().unwrap();
            assert_eq!((error.phase(), error.attempts()), (Phase::Body, 1), "{error}");
            let body = told.response.as_ref().map_or(&told.body[..], |part| part.body());
            assert_eq!(body, b"part", "{path}");
            assert_eq!(told.response.is_some(), collect);
            assert_eq!(run.reactor.connections(), 0);
        }
    }
}

#[test]
fn a_reset_in_mid_body_is_closed() {
    let told = Latch::new();
    let seen_by_us = told.clone();
    let origin = Origin::plain(move |_| {
        Reply::new()
            .send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npart")
            .wait(&seen_by_us)
            .reset()
    });
    let mut run = Run::new();
    let id = run.submit(Request::get(origin.url("/")).unwrap());
    run.until(|run| run.told(id).body == b"part");
    told.release();
    assert_eq!(run.until_ended(id).kind(), Kind::Closed);
    assert_eq!(run.told(id).error.as_ref().unwrap().errno(), Some(104));
}

/// Over TLS only a close_notify says that a body ended with its connection.
#[test]
fn over_tls_a_body_until_close_needs_its_close_notify() {
    let origin = Origin::tls(|seen| match &seen.target[..] {
        "/until-close" => Reply::new().send("HTTP/1.1 200 OK\r\n\r\npart").close_without_notify(),
        _ => ok("whole").close_without_notify(),
    });
    let mut run = Run::new();
    for collect in [false, true] {
        let request = Request::get(origin.url("/until-close")).unwrap().retries(0);
        assert_eq!(run.fetch(request.collect(collect)).kind(), Kind::Closed);
        let request = Request::get(origin.url("/")).unwrap().retries(0);
        assert_eq!(run.fetch(request.collect(collect)).answer().1, b"whole");
    }
}

#[test]
fn the_limit_of_a_body_is_inclusive() {
    let origin = Origin::plain(|seen| {
        let body = "x".repeat(length_of(seen));
        match seen.target.split('/').nth(1) {
            Some("length") => ok(body),
            Some("chunked") => chunked(&[&body[..1], &body[1..]]),
            _ => Reply::new().send(format!("HTTP/1.1 200 OK\r\n\r\n{body}")).close(),
        }
    });
    let mut run = Run::with(|settings| settings.body_bytes_max = 10);
    for framing in ["length", "chunked", "close"] {
        for collect in [false, true] {
            let at = |length| Request::get(origin.url(&format!("/{framing}/{length}"))).unwrap();
            let limited = |length| match collect {
                // The settings' limit, and the request's own.
                true => at(length).collect(true),
                false => at(length).body_bytes_max(10),
            };
            assert_eq!(run.fetch(limited(10)).answer().1.len(), 10, "{framing}");
            let open = run.reactor.connections();
            let told = run.fetch(limited(11));
            assert_eq!(told.kind(), Kind::TooLarge, "{framing}");
            assert_eq!(told.stats.attempts, 1);
            assert_eq!(told.response.is_some(), collect);
            assert!(told.body.len() <= 10);
            assert_eq!(run.reactor.connections(), 0, "{open} before");
            // None, where it is said to be none; and none for what is streamed.
            assert_eq!(run.fetch(limited(11).body_bytes_max(u64::MAX)).answer().1.len(), 11);
            assert_eq!(run.fetch(at(11)).answer().1.len(), 11);
        }
    }
}

/// What an announced length cannot make anybody do.
#[test]
fn a_length_is_not_believed_before_its_bytes_are_there() {
    let origin = Origin::plain(|seen| {
        let length = if seen.target == "/most" { u64::MAX } else { u64::MAX >> 1 };
        Reply::new().send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nab")).close()
    });
    let mut run = Run::new();
    for path in ["/", "/most"] {
        let request = Request::get(origin.url(path)).unwrap().retries(0);
        assert_eq!(run.fetch(request.clone()).kind(), Kind::Closed);
        let unlimited = request.clone().collect(true).body_bytes_max(u64::MAX);
        assert_eq!(run.fetch(unlimited).kind(), Kind::Closed);
        assert_eq!(run.fetch(request.collect(true)).kind(), Kind::TooLarge);
    }
}

/// Every byte in a segment of its own, head and body, from a server that is not the origin.
#[test]
fn a_response_in_single_bytes_is_the_same() {
    let message = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: 1\r\n\r\n\
                    2;x\r\nab\r\n1\r\nc\r\n0\r\nT: 2\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        for _ in 0..2 {
            let (mut socket, _) = listener.accept().unwrap();
            socket.set_nodelay(true).unwrap();
            for byte in message {
                socket.write_all(&[*byte]).unwrap();
            }
            socket.shutdown(Shutdown::Write).unwrap();
            socket.read_to_end(&mut Vec::new()).unwrap();
        }
    });
    let mut run = Run::new();
    for collect in [false, true] {
        let request = Request::get(format!("http://{address}/")).unwrap().collect(collect);
        let told = run.fetch(request);
        assert_eq!(told.answer(), (200, &b"abc"[..]));
        if !collect {
            assert_eq!(told.trailers, [("T".to_owned(), b"2".to_vec())]);
        }
        run.until(|run| run.reactor.connections() == 0);
    }
    server.join().unwrap();
}
