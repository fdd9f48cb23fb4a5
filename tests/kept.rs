//! What is said on a kept connection before its next request is sent is nobody's answer; and a
//! socket that has not connected is not read. On a network that does what each test tells it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use whippet::net::{Net, Readiness, ResolverFiles, SystemAnswer, Token};
use whippet::{Event, Kind, Limit, Reactor, Request, Settings};

const READABLE: u8 = Readiness::READABLE;
const WRITABLE: u8 = Readiness::WRITABLE;
const READ_CLOSED: u8 = Readiness::READ_CLOSED;
const ERROR: u8 = Readiness::ERROR;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";
const POISON: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad";
const TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";

/// One socket, and what its next calls come to.
struct Socket {
    token: Token,
    has_connected: bool,
    is_closed: bool,
    takes_bytes: bool,
    received: VecDeque<u8>,
    fin: bool,
    broken: bool,
    written: Vec<u8>,
}

#[derive(Default)]
struct Told {
    sockets: Vec<Socket>,
    events: Vec<Readiness>,
    now: Duration,
    early_reads: usize,
}

struct Script(Rc<RefCell<Told>>, Instant);

impl Net for Script {
    type Stream = usize;
    type Datagram = ();

    fn connect(&mut self, _: SocketAddr, token: Token) -> io::Result<usize> {
        let mut told = self.0.borrow_mut();
        told.sockets.push(Socket {
            token,
            has_connected: false,
            is_closed: false,
            takes_bytes: true,
            received: VecDeque::new(),
            fin: false,
            broken: false,
            written: Vec::new(),
        });
        Ok(told.sockets.len() - 1)
    }
    fn read(&mut self, stream: &mut usize, into: &mut [u8]) -> io::Result<usize> {
        let mut told = self.0.borrow_mut();
        let told = &mut *told;
        let socket = &mut told.sockets[*stream];
        if !socket.has_connected {
            told.early_reads += 1;
            return Err(io::ErrorKind::NotConnected.into());
        }
        if socket.broken {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let count = socket.received.len().min(into.len());
        if count == 0 && !socket.fin {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        for (byte, from) in into.iter_mut().zip(socket.received.drain(..count)) {
            *byte = from;
        }
        Ok(count)
    }
    fn write(&mut self, stream: &mut usize, bytes: &[u8]) -> io::Result<usize> {
        let socket = &mut self.0.borrow_mut().sockets[*stream];
        if !socket.takes_bytes {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        socket.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn take_error(&mut self, _: &mut usize) -> io::Result<Option<io::Error>> {
        Ok(None)
    }
    fn close(&mut self, stream: usize) {
        self.0.borrow_mut().sockets[stream].is_closed = true;
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
    fn wait(&mut self, _: Option<Duration>, ready: &mut Vec<Readiness>) -> io::Result<bool> {
        let mut told = self.0.borrow_mut();
        told.now += Duration::from_millis(1);
        ready.append(&mut told.events);
        Ok(false)
    }
    fn now(&mut self) -> Duration {
        self.0.borrow().now
    }
    fn epoch(&self) -> Instant {
        self.1
    }
    fn wall(&mut self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
    fn random(&mut self, into: &mut [u8]) -> io::Result<()> {
        into.fill(7);
        Ok(())
    }
    fn resolver_files(&mut self) -> ResolverFiles {
        ResolverFiles::default()
    }
    fn start_system_lookup(&mut self, _: &str, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn next_system_answer(&mut self) -> Option<SystemAnswer> {
        None
    }
}

/// A reactor on such a network, and what has happened to its fetches.
struct Stage {
    told: Rc<RefCell<Told>>,
    reactor: Reactor<Script>,
    bodies: Vec<String>,
    failed: Vec<Kind>,
}

impl Stage {
    fn new() -> Self {
        let told = Rc::new(RefCell::new(Told::default()));
        #[allow(clippy::disallowed_methods, reason = "a test has no other instant")]
        let net = Script(Rc::clone(&told), Instant::now());
        let mut settings = Settings::default();
        settings.retries = 0;
        settings.timeouts.set(Limit::Idle, None);
        let reactor = Reactor::with_net(net, settings).unwrap();
        Self { told, reactor, bodies: Vec::new(), failed: Vec::new() }
    }

    fn submit(&mut self, method: &str) -> whippet::FetchId {
        let request = Request::new(method, "http://192.0.2.1/").unwrap().collect(true);
        self.reactor.submit(request).unwrap()
    }

    fn change(&self, socket: usize, change: impl FnOnce(&mut Socket)) {
        change(&mut self.told.borrow_mut().sockets[socket]);
    }

    /// One turn, in whose poll a socket has this event.
    fn turn(&mut self, socket: usize, bits: u8) {
        let mut told = self.told.borrow_mut();
        let token = told.sockets[socket].token;
        told.events.push(Readiness { token, bits });
        drop(told);
        self.reactor.wait(None).unwrap();
        while let Some(event) = self.reactor.next_event() {
            match event {
                Event::Done { response: Some(response), .. } => {
                    self.bodies.push(String::from_utf8_lossy(response.body()).into_owned());
                }
                Event::Failed { error, .. } => self.failed.push(error.kind()),
                _ => panic!("nothing is streamed"),
            }
        }
    }

    /// Connects a socket, which then takes the request, and has it answered.
    fn serve(&mut self, socket: usize) {
        self.change(socket, |socket| socket.has_connected = true);
        self.turn(socket, WRITABLE);
        assert!(self.told.borrow().sockets[socket].written.ends_with(b"\r\n\r\n"));
        self.change(socket, |socket| socket.received.extend(ANSWER));
        self.turn(socket, READABLE);
    }

    /// A connection that was used once, and has been given the next request, of which it could
    /// take nothing yet.
    fn with_kept(method: &str) -> (Self, whippet::FetchId) {
        let mut stage = Self::new();
        stage.submit("GET");
        stage.reactor.wait(None).unwrap();
        assert!(stage.reactor.next_event().is_none());
        stage.serve(0);
        assert_eq!(
            (stage.bodies.as_slice(), stage.reactor.idle_connections()),
            (&["good".to_owned()][..], 1)
        );
        stage.bodies.clear();
        stage.change(0, |socket| {
            socket.takes_bytes = false;
            socket.written.clear();
        });
        let fetch = stage.submit(method);
        assert!(stage.reactor.next_event().is_none());
        assert_eq!((stage.reactor.connections(), stage.reactor.idle_connections()), (1, 0));
        (stage, fetch)
    }

    /// The request went to a new connection, once, and its answer is from there.
    fn assert_elsewhere(mut self, how: &str) {
        assert_eq!((self.bodies.len(), self.failed.len()), (0, 0), "{how}");
        let told = self.told.borrow();
        assert!(told.sockets[0].is_closed && told.sockets[0].written.is_empty(), "{how}");
        assert_eq!(told.sockets.len(), 2, "{how}");
        drop(told);
        self.serve(1);
        assert_eq!(self.bodies, ["good"], "{how}");
    }
}

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
        stage.reactor.wait(None).unwrap();
        assert!(stage.reactor.next_event().is_none());
        stage.turn(0, bits);
        stage.turn(0, bits);
        assert_eq!((stage.told.borrow().early_reads, stage.reactor.connections()), (0, 1));
        stage.serve(0);
        assert_eq!(stage.bodies, ["good"]);
    }
}
