//! Tests only. A whole reactor over a network that gives and takes as many bytes at a time as it
//! is told to. What the longest heads, chunk lines, trailers and DNS answers cost when they drip
//! in one byte at a time: the bytes that the codecs look at and copy are counted. And that a
//! request is the same bytes wherever its writes are cut.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use crate::error::Kind as ErrorKind;
use crate::kit::work::counted;
use crate::net::{Net, Readiness, ResolverFiles, SystemAnswer, Token};
use crate::reactor::{Event, Reactor};
use crate::request::Request;
use crate::settings::{ResolverChoice, Settings};
use crate::wire::dns::message::Kind;
use crate::wire::dns::message::server::Reply;
use crate::wire::http1::{EXTENSION_BYTES_MAX, HEAD_BYTES_MAX, TRAILER_BYTES_MAX};

/// A network whose servers answer what was written to them, `piece` bytes each poll.
struct Drip {
    response: Vec<u8>,
    piece: usize,
    /// How many bytes of a request are taken in the first poll, and in each after it.
    taken: [usize; 2],
    /// What a request ends in.
    request_end: &'static [u8],
    streams: Vec<Stream>,
    now: Duration,
    epoch: Instant,
}

struct Stream {
    token: Token,
    is_dns: bool,
    is_open: bool,
    /// The request, and whether this poll took its part of it.
    written: Vec<u8>,
    took: bool,
    /// What is still to be given, in the piece of this poll and behind it.
    due: usize,
    answer: Vec<u8>,
    given: usize,
}

impl Net for Drip {
    type Stream = usize;
    type Datagram = ();

    fn connect(&mut self, to: SocketAddr, token: Token) -> io::Result<usize> {
        self.streams.push(Stream {
            token,
            is_dns: to.port() == 53,
            is_open: true,
            written: Vec::new(),
            took: false,
            due: 0,
            answer: Vec::new(),
            given: 0,
        });
        Ok(self.streams.len() - 1)
    }
    fn read(&mut self, stream: &mut usize, into: &mut [u8]) -> io::Result<usize> {
        let stream = &mut self.streams[*stream];
        let count = stream.due.min(into.len()).min(stream.answer.len() - stream.given);
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        into[..count].copy_from_slice(&stream.answer[stream.given..][..count]);
        stream.given += count;
        stream.due -= count;
        Ok(count)
    }
    fn write(&mut self, stream: &mut usize, bytes: &[u8]) -> io::Result<usize> {
        let stream = &mut self.streams[*stream];
        if std::mem::replace(&mut stream.took, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = self.taken[usize::from(!stream.written.is_empty())].min(bytes.len());
        stream.written.extend(&bytes[..taken]);
        if stream.is_dns {
            stream.answer = long_answer(bytes);
        } else if stream.written.ends_with(self.request_end) {
            stream.answer.clone_from(&self.response);
        }
        Ok(taken)
    }
    fn shutdown(&mut self, _: &mut usize) -> io::Result<()> {
        unreachable!("nothing is upgraded here")
    }
    fn take_error(&mut self, _: &mut usize) -> io::Result<Option<io::Error>> {
        Ok(None)
    }
    fn close(&mut self, stream: usize) {
        self.streams[stream].is_open = false;
    }
    fn open_datagram(&mut self, _: SocketAddr, _: Token) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn send(&mut self, (): &mut (), _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn receive(&mut self, (): &mut (), _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn close_datagram(&mut self, (): ()) {}
    fn wait(
        &mut self,
        _: Option<Duration>,
        _: Option<Duration>,
        ready: &mut Vec<Readiness>,
    ) -> io::Result<bool> {
        self.now += Duration::from_micros(1);
        for stream in self.streams.iter_mut().filter(|stream| stream.is_open) {
            stream.due = self.piece;
            stream.took = false;
            let has_more = stream.given < stream.answer.len();
            let readable = if has_more { Readiness::READABLE } else { 0 };
            ready.push(Readiness { token: stream.token, bits: Readiness::WRITABLE | readable });
        }
        Ok(false)
    }
    fn now(&mut self) -> Duration {
        self.now
    }
    fn epoch(&self) -> Instant {
        self.epoch
    }
    fn wall(&mut self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
    fn random(&mut self, into: &mut [u8]) -> io::Result<()> {
        into.fill(7);
        Ok(())
    }
    fn resolver_files(&mut self) -> ResolverFiles {
        let resolv_conf = b"nameserver 192.0.2.53\noptions use-vc\n".to_vec();
        ResolverFiles { resolv_conf: Some(resolv_conf), ..ResolverFiles::default() }
    }
    fn start_system_lookup(&mut self, _: &str, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn next_system_answer(&mut self) -> Option<SystemAnswer> {
        None
    }
}

/// An answer of nearly 64 KiB to a query over TCP, with its length before it.
fn long_answer(query: &[u8]) -> Vec<u8> {
    let mut reply = Reply::to(&query[2..]);
    for nth in 0..DNS_RECORDS {
        let ip = match reply.kind() {
            Kind::A => format!("192.0.{}.{}", nth >> 8 & 0xff, nth & 0xff),
            Kind::Aaaa => format!("2001:db8::{nth:x}"),
        };
        reply = reply.ip(300, &ip);
    }
    let message = reply.bytes();
    let length = u16::try_from(message.len()).unwrap();
    [&length.to_be_bytes(), &message[..]].concat()
}

impl Drip {
    fn new(response: &[u8], piece: usize) -> Self {
        Self {
            response: response.to_vec(),
            piece,
            taken: [usize::MAX; 2],
            request_end: b"\r\n\r\n",
            streams: Vec::new(),
            now: Duration::ZERO,
            #[allow(clippy::disallowed_methods, reason = "a test has no other instant")]
            epoch: Instant::now(),
        }
    }

    fn reactor(self) -> Reactor<Self> {
        let settings = Settings { resolver: ResolverChoice::Builtin, ..Settings::default() };
        Reactor::with_net(self, settings).unwrap()
    }
}

/// Fetches, and tells how many bytes of the body came.
fn fetch(reactor: &mut Reactor<Drip>, request: Request) -> Result<usize, ErrorKind> {
    reactor.submit(request.retries(0)).unwrap();
    let mut body_bytes = 0;
    loop {
        reactor.wait(None).unwrap();
        while let Some(event) = reactor.next_event() {
            match event {
                Event::Body { chunk, .. } => body_bytes += chunk.len(),
                Event::Done { .. } => return Ok(body_bytes),
                Event::Failed { error, .. } => return Err(error.kind()),
                _ => {}
            }
        }
    }
}

/// What it costs to fetch `url`, `piece` bytes a poll, and what it came to.
fn cost(url: &str, response: &[u8], piece: usize) -> (usize, Result<usize, ErrorKind>) {
    let mut reactor = Drip::new(response, piece).reactor();
    let request = Request::get(url).unwrap();
    let mut end = Ok(0);
    let work = counted(|| end = fetch(&mut reactor, request));
    (work, end)
}

/// In single bytes it costs less than three times of what it costs in two halves, where too
/// nothing is there at once; and no more than some passes over the bytes.
#[track_caller]
fn assert_linear(url: &str, response: &[u8], bytes: usize, end: Result<usize, ErrorKind>) {
    let (halves, whole_end) = cost(url, response, bytes / 2 + 1);
    let (drips, drip_end) = cost(url, response, 1);
    assert_eq!((whole_end, drip_end), (end, end));
    assert!(halves >= bytes * 3 / 4, "{halves} for {bytes}: something is not counted");
    assert!(drips < 3 * halves, "{drips} in bytes, {halves} in halves");
    assert!(drips <= PASSES_MAX * bytes, "{drips} for {bytes}");
}

const URL: &str = "http://192.0.2.1/";

#[test]
fn a_head_costs_linear_work() {
    let long = format!("X-A: {}\r\n", "v".repeat(600));
    for (start, fill, end) in [
        ("HTTP/1.1 200 OK\r\n", &long[..], "Content-Length: 2\r\n\r\n"),
        // Folded lines, of which each may be the last; then with control bytes in them.
        ("HTTP/1.1 200 OK\r\nX-A: b\r\n", " \r\n", "Content-Length: 2\r\n\r\n"),
        ("HTTP/1.1 200 OK\nX-A: b\n", " c\u{1}\n", "Content-Length: 2\n\n"),
        ("\r\n", "\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
    ] {
        let room = HEAD_BYTES_MAX - start.len() - end.len();
        let response = [start, &fill.repeat(room / fill.len()), end, "hi"].concat();
        assert!(response.len() > HEAD_BYTES_MAX - long.len());
        assert_linear(URL, response.as_bytes(), response.len(), Ok(2));
    }
}

#[test]
fn a_head_without_an_end_costs_linear_work() {
    let head = vec![b'a'; HEAD_BYTES_MAX];
    let head = [b"HTTP/1.1 200 OK\r\nA: ", &head[..]].concat();
    assert_linear(URL, &head, HEAD_BYTES_MAX, Err(ErrorKind::TooLarge));
}

#[test]
fn chunk_lines_and_trailers_cost_linear_work() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let room = usize::try_from(EXTENSION_BYTES_MAX).unwrap() - 1;
    let extension = format!("{head}2;{}\r\nhi\r\n0\r\n\r\n", "e".repeat(room));
    assert_linear(URL, extension.as_bytes(), extension.len(), Ok(2));
    let padding = format!("{head}2{}\r\nhi\r\n0\r\n\r\n", " ".repeat(room + 1));
    assert_linear(URL, padding.as_bytes(), padding.len(), Ok(2));
    for value in ["v", "\u{1}"] {
        let value = value.repeat(TRAILER_BYTES_MAX - "A: \r\n\r\n".len());
        let trailer = format!("{head}2\r\nhi\r\n0\r\nA: {value}\r\n\r\n");
        assert_linear(URL, trailer.as_bytes(), trailer.len(), Ok(2));
    }
    let chunks = format!("{head}{}0\r\n\r\n", "1\r\nx\r\n".repeat(10_000));
    assert_linear(URL, chunks.as_bytes(), chunks.len(), Ok(10_000));
}

#[test]
fn interim_responses_cost_linear_work() {
    let hints = format!("HTTP/1.1 103 Early Hints\r\nX: {}\r\n\r\n", "h".repeat(60_000));
    let all = hints.repeat(5) + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    assert_linear(URL, all.as_bytes(), all.len(), Ok(2));
}

#[test]
fn a_dns_answer_over_tcp_costs_linear_work() {
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    let bytes = DNS_RECORDS * (16 + 28);
    assert_linear("http://long.example.org/", response, bytes, Ok(2));
}

#[test]
fn a_request_is_the_same_bytes_wherever_its_writes_are_cut() {
    let sent = |taken| {
        let request = Request::new("PUT", "http://192.0.2.1/a?b=c").unwrap();
        let request = request.header("X-A", "1").unwrap().body("a body and its end.");
        let mut net = Drip::new(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", usize::MAX);
        (net.taken, net.request_end) = (taken, b"its end.");
        let mut reactor = net.reactor();
        assert_eq!(fetch(&mut reactor, request), Ok(2), "{taken:?}");
        reactor.net.streams.remove(0).written
    };
    let whole = sent([usize::MAX; 2]);
    assert!(whole.starts_with(b"PUT /a?b=c HTTP/1.1\r\nHost: 192.0.2.1\r\nX-A: 1\r\n"));
    assert!(whole.ends_with(b"\r\nContent-Length: 19\r\n\r\na body and its end."));
    for first in 1..whole.len() {
        for then in [1, 7, usize::MAX] {
            let cut = sent([first, then]);
            assert_eq!(cut, whole, "cut at {first}, then {then} at a time");
        }
    }
}

/// As many as fit into 64 KiB for the longer ones.
const DNS_RECORDS: usize = 2_300;
/// Copied, searched with two bytes again for each, read strictly and leniently: twice where the
/// first bytes were tried alone.
const PASSES_MAX: usize = 10;
