//! Bodies that are sent piece by piece: pushed by the caller, read from files and readers; and
//! what becomes of them when the server answers early, goes away, or asks for them again.

mod driving;
mod scripted;
mod support;

use std::io::{self, Read};
use std::time::Duration;

use driving::{drive, run, settings, trusting};
use scripted::{ANSWER, READ_CLOSED, READABLE, Stage, WRITABLE};
use support::{Latch, Origin, Reply, ok, redirect, response, status};
use whippet::{
    Body, BodyRefused, Client, Error, Event, FetchId, Kind, Limit, Reactor, Request, Settings,
};

const URL: &str = "http://192.0.2.1/";

/// A fetch whose body is pushed, and which is connected and has sent its head.
fn pushing(method: &str, body: Body, change: impl FnOnce(&mut Settings)) -> (Stage, FetchId) {
    let mut stage = Stage::with(change);
    let request = Request::new(method, URL).unwrap().collect(true).body(body);
    let id = stage.reactor.submit(request).unwrap();
    stage.pass(0);
    stage.change(0, |socket| socket.has_connected = true);
    stage.turn(0, WRITABLE);
    assert_eq!(stage.wanted, [0], "it is asked for when its head was sent");
    (stage, id)
}

/// What a socket was given since it was last asked.
fn written(stage: &Stage, socket: usize) -> String {
    let bytes = std::mem::take(&mut stage.told.borrow_mut().sockets[socket].written);
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_body_of_known_length_goes_out_as_the_socket_takes_it() {
    let (mut stage, id) = pushing("PUT", Body::pushed().with_length(10), |_| ());
    let head = written(&stage, 0);
    assert!(head.contains("\r\nContent-Length: 10\r\n") && !head.contains("Transfer"), "{head}");
    stage.change(0, |socket| socket.room = 3);
    assert_eq!(stage.reactor.send_body(id, b"01234"), Ok(3), "the rest stays with the caller");
    assert_eq!(stage.reactor.send_body(id, b"34"), Ok(0));
    assert_eq!((stage.reactor.buffers(), written(&stage, 0)), (0, "012".to_owned()));
    stage.pass(0);
    assert_eq!(stage.wanted, [0], "there is no room");
    stage.change(0, |socket| socket.room = usize::MAX);
    stage.turn(0, WRITABLE);
    assert_eq!(stage.wanted, [0, 3]);
    assert_eq!(stage.reactor.send_body(id, b"3456789x"), Err(BodyRefused::TooLong));
    assert_eq!(stage.reactor.finish_body(id), Err(BodyRefused::TooShort { left: 7 }));
    assert_eq!(stage.reactor.send_body(id, b"3456789"), Ok(7));
    assert_eq!(stage.reactor.send_body(id, b"x"), Err(BodyRefused::Finished));
    assert_eq!(stage.reactor.finish_body(id), Ok(()), "its last byte has finished it");
    stage.change(0, |socket| socket.received.extend(ANSWER));
    stage.turn(0, READABLE);
    assert_eq!(
        (written(&stage, 0).as_str(), stage.bodies.as_slice()),
        ("3456789", &["good".into()][..])
    );
    assert_eq!(stage.reactor.idle_connections(), 1, "both halves are done");
    assert_eq!(stage.reactor.send_body(id, b"x"), Err(BodyRefused::Gone));
}

#[test]
fn a_body_of_unknown_length_is_chunked_and_what_a_socket_does_not_take_waits() {
    let (mut stage, id) = pushing("POST", Body::pushed(), |_| ());
    let head = written(&stage, 0);
    assert!(
        head.contains("\r\nTransfer-Encoding: chunked\r\n") && !head.contains("Length"),
        "{head}"
    );
    assert_eq!(stage.reactor.send_body(id, b""), Ok(0), "no chunk is empty but the last");
    stage.change(0, |socket| socket.room = 4);
    assert_eq!(stage.reactor.send_body(id, b"hello, world"), Ok(12), "a chunk is taken whole");
    assert_eq!((written(&stage, 0).as_str(), stage.reactor.buffers()), ("c\r\nh", 1));
    assert_eq!(stage.reactor.send_body(id, b"more"), Ok(0), "one waits already");
    stage.change(0, |socket| socket.room = usize::MAX);
    stage.turn(0, WRITABLE);
    assert_eq!((written(&stage, 0).as_str(), stage.reactor.buffers()), ("ello, world\r\n", 0));
    assert_eq!(stage.wanted, [0, 12]);
    assert_eq!(stage.reactor.send_body(id, b"more"), Ok(4));
    for (name, value) in [("Content-Length", "1"), ("a b", "x"), ("A", "x\r\ny"), ("Cookie", "x")] {
        let refused = stage.reactor.finish_body_with(id, &[(name, value)]);
        assert_eq!(refused, Err(BodyRefused::Trailers), "{name}");
    }
    assert_eq!(stage.reactor.finish_body_with(id, &[("Digest", "x"), ("B", "")]), Ok(()));
    assert_eq!(written(&stage, 0), "4\r\nmore\r\n0\r\nDigest: x\r\nB: \r\n\r\n");
    assert_eq!(stage.reactor.send_body(id, b"x"), Err(BodyRefused::Finished));
    stage.change(0, |socket| socket.received.extend(ANSWER));
    stage.turn(0, READABLE);
    assert_eq!((stage.bodies.len(), stage.reactor.idle_connections()), (1, 1));
}

#[test]
fn nothing_is_taken_before_the_head_is_sent_or_where_nothing_is_pushed() {
    let mut stage = Stage::new();
    let plain = stage.submit("POST");
    let request = Request::post(URL).unwrap().collect(true).body(Body::pushed());
    let pushed = stage.reactor.submit(request).unwrap();
    assert_eq!(stage.reactor.send_body(plain, b"x"), Err(BodyRefused::NotPushed));
    assert_eq!(stage.reactor.send_body(pushed, b"x"), Ok(0));
    assert_eq!(stage.reactor.finish_body(pushed), Err(BodyRefused::NotYet));
    assert!(stage.reactor.cancel(pushed));
    assert_eq!(stage.reactor.send_body(pushed, b"x"), Err(BodyRefused::Gone));
    assert_eq!(stage.reactor.finish_body(pushed), Err(BodyRefused::Gone));
}

#[test]
fn an_empty_body_has_nothing_to_be_asked_for() {
    let mut stage = Stage::new();
    let body = Body::pushed().with_length(0);
    let request = Request::post(URL).unwrap().collect(true).body(body);
    stage.reactor.submit(request).unwrap();
    stage.pass(0);
    stage.serve(0);
    assert!(stage.wanted.is_empty() && stage.bodies.len() == 1);
}

#[test]
fn the_stall_limit_counts_for_the_socket_and_not_for_the_caller() {
    let stall = |settings: &mut Settings| {
        settings.timeouts.set(Limit::Stall, Some(Duration::from_secs(2)));
        settings.timeouts.set(Limit::Total, None);
    };
    let (mut stage, id) = pushing("POST", Body::pushed(), stall);
    stage.pass(60_000);
    stage.pass(60_000);
    assert!(stage.failed.is_empty(), "it is the caller that is waited for");
    stage.change(0, |socket| socket.room = 2);
    assert_eq!(stage.reactor.send_body(id, b"hello"), Ok(5));
    stage.pass(1_500);
    // It takes a little, which counts as much as all of it.
    stage.change(0, |socket| socket.room = 2);
    stage.turn(0, WRITABLE);
    stage.pass(1_500);
    assert!(stage.failed.is_empty());
    stage.pass(1_500);
    assert_eq!(stage.failed, [Kind::Timeout]);
    assert!(stage.said[0].contains("while sending the request (limit stall"), "{}", stage.said[0]);
    assert_eq!((stage.reactor.buffers(), stage.reactor.connections()), (0, 0));
}

#[test]
fn a_failure_that_is_answered_early_stops_the_body_and_is_the_answer() {
    for long in [false, true] {
        let (mut stage, id) = pushing("POST", Body::pushed(), |_| ());
        stage.reactor.send_body(id, b"hello").unwrap();
        stage.pass(0);
        let length = if long { 8 } else { 4 };
        let head = format!("HTTP/1.1 413 Too Large\r\nContent-Length: {length}\r\n\r\nnope");
        stage.change(0, |socket| socket.received.extend(head.as_bytes()));
        stage.turn(0, READABLE);
        if long {
            assert_eq!(stage.reactor.send_body(id, b"more"), Err(BodyRefused::Unwanted));
            stage.change(0, |socket| socket.received.extend(b"nope"));
            stage.turn(0, READABLE);
        }
        assert_eq!(stage.bodies, [if long { "nopenope" } else { "nope" }]);
        assert!(stage.failed.is_empty());
        assert_eq!(stage.reactor.connections(), 0, "the request was not whole");
        assert_eq!(stage.reactor.send_body(id, b"more"), Err(BodyRefused::Gone));
    }
}

#[test]
fn a_success_that_begins_early_goes_on_beside_the_body() {
    let (mut stage, id) = pushing("POST", Body::pushed(), |_| ());
    stage.change(0, |socket| {
        socket.received.extend(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngo");
    });
    stage.turn(0, READABLE);
    assert_eq!(stage.reactor.send_body(id, b"hello"), Ok(5));
    assert_eq!(stage.reactor.finish_body(id), Ok(()));
    stage.change(0, |socket| socket.received.extend(b"od"));
    stage.turn(0, READABLE);
    assert_eq!(
        (stage.bodies.as_slice(), stage.reactor.idle_connections()),
        (&["good".into()][..], 1)
    );
}

#[cfg(feature = "gzip")]
#[test]
fn a_body_goes_on_beside_an_answer_that_waits_for_memory_to_be_decoded() {
    let (mut stage, id) =
        pushing("POST", Body::pushed(), |settings| settings.buffered_bytes_max = 1 << 20);
    // Two responses take what memory there is, and the first reads on from the reserve.
    let hoards = ["a", "b"].map(|path| stage.submit_to("GET", &format!("{URL}{path}")));
    stage.pass(0);
    for (socket, bytes) in [(1, 215_000), (2, 44_500), (1, 10)] {
        stage.change(socket, |it| it.has_connected = true);
        stage.turn(socket, WRITABLE);
        stage.change(socket, |it| {
            let head =
                if bytes > 10 { "HTTP/1.1 200 OK\r\nContent-Length: 600000\r\n\r\n" } else { "" };
            it.received.extend(head.bytes().chain(std::iter::repeat_n(b'x', bytes)));
        });
        stage.turn(socket, READABLE);
        while !stage.told.borrow().sockets[socket].received.is_empty() {
            stage.pass(0);
        }
    }
    // The second leaves less than a decoder takes.
    assert!(stage.reactor.cancel(hoards[1]));
    let body = include_bytes!("corpus/codings/named.gz");
    let length = body.len();
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n");
    stage.change(0, |socket| socket.received.extend(head.bytes().chain(*body)));
    stage.turn(0, READABLE);
    for _ in 0..3 {
        assert_eq!(stage.reactor.send_body(id, b"more"), Ok(4));
        stage.pass(0);
    }
    assert_eq!((stage.bodies.len(), stage.failed.len()), (0, 0));
    assert_eq!(stage.reactor.finish_body(id), Ok(()));
    assert!(stage.reactor.cancel(hoards[0]));
    stage.pass(0);
    assert_eq!((stage.bodies.len(), stage.reactor.idle_connections()), (1, 1));
}

/// Tries again, for as long as it takes.
fn patient(settings: &mut Settings) {
    settings.retries = 2;
    settings.timeouts.set(Limit::Total, None);
}

/// The connection ends after a piece of the body, without an answer.
fn cut(method: &str, body: Body) -> (Stage, FetchId) {
    let (mut stage, id) = pushing(method, body, patient);
    assert_eq!(stage.reactor.send_body(id, b"hello"), Ok(5));
    stage.pass(0);
    stage.change(0, |socket| socket.fin = true);
    stage.turn(0, READABLE | READ_CLOSED);
    (stage, id)
}

#[test]
fn what_cannot_be_pushed_again_is_not_tried_again_and_the_error_says_so() {
    let (stage, _) = cut("PUT", Body::pushed());
    assert_eq!(stage.failed, [Kind::Closed]);
    assert!(stage.said[0].ends_with("(not tried again: its body can be sent only once)"));
    let (stage, _) = cut("POST", Body::pushed().replayable(true));
    assert_eq!(stage.failed, [Kind::Closed]);
    assert!(!stage.said[0].contains("only once"), "that is not why: {}", stage.said[0]);
}

#[test]
fn what_can_be_pushed_again_is_asked_for_from_its_beginning() {
    let (mut stage, id) = cut("PUT", Body::pushed().replayable(true));
    assert!(stage.failed.is_empty());
    stage.pass(60_000);
    stage.pass(0);
    stage.change(1, |socket| socket.has_connected = true);
    stage.turn(1, WRITABLE);
    assert_eq!(stage.wanted, [0, 5, 0]);
    assert_eq!(stage.reactor.send_body(id, b"hello"), Ok(5));
    stage.reactor.finish_body(id).unwrap();
    stage.change(1, |socket| socket.received.extend(ANSWER));
    stage.turn(1, READABLE);
    assert_eq!(stage.bodies, ["good"]);
    assert!(written(&stage, 1).ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"));
}

#[test]
fn a_body_of_which_nothing_was_taken_may_be_sent_elsewhere() {
    let (mut stage, id) = pushing("PUT", Body::pushed(), patient);
    stage.change(0, |socket| socket.fin = true);
    stage.turn(0, READABLE | READ_CLOSED);
    stage.pass(60_000);
    stage.pass(0);
    stage.change(1, |socket| socket.has_connected = true);
    stage.turn(1, WRITABLE);
    assert_eq!((stage.wanted.as_slice(), stage.failed.as_slice()), (&[0, 0][..], &[][..]));
    assert_eq!(stage.reactor.send_body(id, b"x"), Ok(1));
}

fn echo() -> Origin {
    Origin::plain(|seen| ok(&seen.body))
}

/// A reader of so many bytes, which gives a few at a time.
fn drip(bytes: usize) -> Body {
    struct Drip(io::Take<io::Repeat>);
    impl Read for Drip {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let most = into.len().min(999);
            self.0.read(&mut into[..most])
        }
    }
    Body::reader(Drip(io::repeat(b'x').take(bytes as u64)))
}

fn file(name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("whippet-{name}-{}", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn readers_files_and_iterators_arrive_byte_for_byte_plain_and_over_tls() {
    let long: Vec<u8> = (0_u8..=250).cycle().take(3_000_000).collect();
    let path = file("upload", &long);
    for is_tls in [false, true] {
        let reflect = |seen: &support::Seen| {
            let framing =
                if seen.header("content-length").is_some() { "length" } else { "chunked" };
            response(200, &[("X-Framing", framing)], &seen.body)
        };
        let origin = if is_tls { Origin::tls(reflect) } else { Origin::plain(reflect) };
        let mut settings = Settings::default();
        settings.tls = trusting().into();
        let mut client = Client::with_settings(settings).unwrap();
        let mut check = |body: Body, framing: &str, expected: &[u8]| {
            let response = client.post(&origin.url("/"), body).unwrap();
            assert_eq!(response.header("X-Framing").unwrap(), framing.as_bytes());
            assert!(response.body() == expected, "{} of {}", response.body().len(), expected.len());
        };
        check(Body::file(&path).unwrap(), "length", &long);
        check(Body::reader(io::Cursor::new(long.clone())), "chunked", &long);
        check(drip(50_000), "chunked", &vec![b'x'; 50_000]);
        check(drip(50_000).with_length(50_000), "length", &vec![b'x'; 50_000]);
        check(Body::chunks(["a", "", "bc"]), "chunked", b"abc");
        check(Body::chunks(["a", "bc"]).with_length(3), "length", b"abc");
        check(Body::chunks(Vec::<Vec<u8>>::new()), "chunked", b"");
        check(Body::from("whole"), "length", b"whole");
        assert_eq!(origin.connections(), 1, "what is sent whole leaves the connection fit");
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn trailers_arrive_behind_the_body() {
    let origin = Origin::plain(|seen| ok(format!("{:?}", seen.trailers)));
    let mut reactor = Reactor::new(settings()).unwrap();
    let request = Request::post(origin.url("/")).unwrap().collect(true).body(Body::pushed());
    let id = reactor.submit(request).unwrap();
    let mut said = String::new();
    while reactor.pending() > 0 {
        reactor.wait(None).unwrap();
        while let Some(event) = reactor.next_event() {
            match event {
                Event::Writable { offset: 0, .. } => {
                    assert_eq!(reactor.send_body(id, b"hello"), Ok(5));
                    reactor.finish_body_with(id, &[("X-Sum", "17")]).unwrap();
                }
                Event::Done { response: Some(response), .. } => said = response.text().into_owned(),
                Event::Failed { error, .. } => panic!("{error}"),
                _ => {}
            }
        }
    }
    assert_eq!(said, "[\"X-Sum: 17\"]");
}

/// Counts what is read of it.
struct Counting<R>(R, u64);

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into).inspect(|count| self.1 += *count as u64)
    }
}

/// So many bytes, and behind them a trailer of this name that says how many were read.
fn counted(bytes: u64, name: &'static str) -> Body {
    let reader = Counting(io::repeat(b'x').take(bytes), 0);
    Body::reader_with_trailers(reader, move |reader| vec![(name.to_owned(), reader.1.to_string())])
}

#[test]
fn a_reader_makes_its_trailers_at_its_end() {
    let origin = Origin::plain(|seen| ok(format!("{} {:?}", seen.body.len(), seen.trailers)));
    let mut reactor = Reactor::new(settings()).unwrap();
    let mut put = |body: Body| {
        run(&mut reactor, Request::put(origin.url("/")).unwrap().collect(true).body(body))
    };
    for bytes in [0, 1, 300_000] {
        let expected = format!("{bytes} [\"X-Count: {bytes}\"]");
        assert_eq!(put(counted(bytes, "X-Count")).text(), expected);
    }
    assert_eq!(put(counted(5, "X-Count").with_length(5)).text(), "5 []", "there is no place");
    // The connection was kept; it is not after a body that has no end.
    assert_eq!(origin.connections(), 1);
    for name in ["Content-Length", "X\r\nY", "Authorization"] {
        let ended = put(counted(5, name));
        let error = ended.error();
        assert_eq!(error.kind(), Kind::InvalidRequest, "{error}");
        assert!(error.to_string().starts_with("a trailer field cannot be sent: "), "{error}");
    }
    assert_eq!(origin.requests().len(), 4, "none of those was whole");
}

#[test]
fn a_body_waits_at_its_source_while_the_server_does_not_read() {
    let latch = Latch::new();
    let greeting = {
        let latch = latch.clone();
        move |_: usize| Reply::new().wait(&latch)
    };
    let setup = support::Setup { greeting: Some(Box::new(greeting)), ..Default::default() };
    let origin = Origin::start(setup, |seen| ok(seen.body.len().to_string()));
    let mut reactor = Reactor::new(settings()).unwrap();
    let bytes = 20 << 20;
    let request = Request::post(origin.url("/")).unwrap().collect(true).body(drip(bytes));
    reactor.submit(request).unwrap();
    // A piece of which a part was taken waits; the kernel holds far less than all of them.
    driving::run_until(&mut reactor, |reactor| reactor.buffers() == 1);
    assert!(reactor.buffered_bytes() <= 70_000, "{}", reactor.buffered_bytes());
    latch.release();
    let ended = drive(&mut reactor);
    assert_eq!(ended[0].text(), bytes.to_string());
    assert_eq!(reactor.buffers(), 0);
}

#[test]
fn an_endless_body_leaves_others_their_turn() {
    // It takes all that comes and never answers.
    let sink = Origin::plain(|_| Reply::new().silence());
    let origin = echo();
    let mut reactor = Reactor::new(settings()).unwrap();
    let request = Request::post(sink.url("/")).unwrap().body(Body::reader(io::repeat(b'x')));
    let endless = reactor.submit(request).unwrap();
    for _ in 0..20 {
        let request = Request::post(origin.url("/")).unwrap().collect(true).body("hello");
        reactor.submit(request).unwrap();
        let ended = std::iter::from_fn(|| Some(driving::turn(&mut reactor, None)));
        assert_eq!(ended.flatten().next().unwrap().text(), "hello");
    }
    assert!(reactor.cancel(endless));
    assert_eq!(reactor.buffers(), 0);
}

#[test]
fn a_source_that_fails_or_ends_early_fails_its_own_fetch_and_no_other() {
    struct Bad;
    impl Read for Bad {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the tape tore"))
        }
    }
    let origin = echo();
    let mut client = Client::new().unwrap();
    let mut fails = |body: Body| -> Error { client.put(&origin.url("/"), body).unwrap_err() };
    let error = fails(Body::reader(b"some".chain(Bad)));
    assert_eq!((error.kind(), error.attempts()), (Kind::Io, 1));
    assert_eq!(error.to_string(), "the body could not be read: the tape tore");
    let error = fails(drip(7).with_length(10));
    assert!(error.to_string().ends_with("it ended 3 bytes before its announced length"), "{error}");
    let once = drip(3);
    let request = Request::put(origin.url("/")).unwrap().body(once);
    let answers = client.gather([request.clone(), request]);
    let failed: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert_eq!((answers.len(), failed.len()), (2, 1), "clones share one reader");
    assert!(failed[0].to_string().contains("used by another request"), "{}", failed[0]);
    let pushed = client.post(&origin.url("/"), Body::pushed()).unwrap_err();
    assert_eq!(pushed.kind(), Kind::InvalidRequest);
    assert_eq!(client.post(&origin.url("/"), "fine").unwrap().text(), "fine");
}

#[test]
fn a_redirect_with_the_body_needs_a_body_that_can_be_sent_again() {
    let path = file("redirected", b"contents");
    let origin = Origin::plain(|seen| match &*seen.target {
        "/307" => redirect(307, "/end"),
        "/303" => redirect(303, "/end"),
        _ => ok(format!("{} {}", seen.method, String::from_utf8_lossy(&seen.body))),
    });
    let mut client = Client::new().unwrap();
    let again = client.post(&origin.url("/307"), Body::file(&path).unwrap()).unwrap();
    assert_eq!(again.text(), "POST contents");
    let error = client.post(&origin.url("/307"), drip(9)).unwrap_err();
    assert_eq!(error.kind(), Kind::Redirect);
    assert!(error.to_string().contains("the body can be sent only once"), "{error}");
    let dropped = client.post(&origin.url("/303"), drip(9)).unwrap();
    assert_eq!(dropped.text(), "GET ");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_server_that_is_busy_is_asked_again_only_with_a_body_that_can_be_sent_again() {
    let path = file("retried", b"contents");
    let origin = Origin::plain(|seen| match seen.nth {
        0 => response(503, &[("Retry-After", "0"), ("Connection", "close")], "busy"),
        _ => status(500),
    });
    let mut reactor = Reactor::new(settings()).unwrap();
    let ended = run(&mut reactor, put(&origin, Body::file(&path).unwrap()));
    assert_eq!((ended.answer().status, ended.stats.attempts), (503, 3));
    let ended = run(&mut reactor, put(&origin, drip(9)));
    assert_eq!((ended.answer().status, ended.stats.attempts), (503, 1), "the answer stands");
    std::fs::remove_file(path).unwrap();
}

fn put(origin: &Origin, body: Body) -> Request {
    Request::put(origin.url("/")).unwrap().collect(true).body(body).retries(2)
}
