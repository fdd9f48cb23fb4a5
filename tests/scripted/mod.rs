//! A network that does what a test tells it, event by event, and a reactor on it.

#![allow(dead_code, reason = "each user of this module uses its part")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use whippet::net::{Net, Readiness, ResolverFiles, SystemAnswer, Token};
use whippet::{Event, Kind, Limit, Reactor, Request, Settings};

pub(crate) const READABLE: u8 = Readiness::READABLE;
pub(crate) const WRITABLE: u8 = Readiness::WRITABLE;
pub(crate) const READ_CLOSED: u8 = Readiness::READ_CLOSED;
pub(crate) const ERROR: u8 = Readiness::ERROR;
pub(crate) const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";

/// One socket, and what its next calls come to.
pub(crate) struct Socket {
    pub(crate) token: Token,
    pub(crate) has_connected: bool,
    pub(crate) is_closed: bool,
    pub(crate) takes_bytes: bool,
    /// So many of them, and then none.
    pub(crate) room: usize,
    pub(crate) received: VecDeque<u8>,
    pub(crate) fin: bool,
    pub(crate) refuses: bool,
    pub(crate) broken: bool,
    pub(crate) written: Vec<u8>,
}

#[derive(Default)]
pub(crate) struct Told {
    pub(crate) sockets: Vec<Socket>,
    pub(crate) events: Vec<Readiness>,
    pub(crate) now: Duration,
    pub(crate) early_reads: usize,
}

pub(crate) struct Script(Rc<RefCell<Told>>, Instant);

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
            room: usize::MAX,
            received: VecDeque::new(),
            fin: false,
            refuses: false,
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
        let count = bytes.len().min(socket.room);
        if !socket.takes_bytes || count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        socket.room -= count;
        socket.written.extend_from_slice(&bytes[..count]);
        Ok(count)
    }
    fn shutdown(&mut self, _: &mut usize) -> io::Result<()> {
        unreachable!("nothing is upgraded here")
    }
    fn take_error(&mut self, stream: &mut usize) -> io::Result<Option<io::Error>> {
        let refuses = self.0.borrow().sockets[*stream].refuses;
        Ok(refuses.then(|| io::ErrorKind::ConnectionRefused.into()))
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
    fn wait(
        &mut self,
        _: Option<Duration>,
        _: Option<Duration>,
        ready: &mut Vec<Readiness>,
    ) -> io::Result<bool> {
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
        let hosts = b"192.0.2.1 two.test\n192.0.2.2 two.test\n\
            192.0.2.1 four.test\n192.0.2.2 four.test\n192.0.2.3 four.test\n192.0.2.4 four.test\n"
            .to_vec();
        ResolverFiles { hosts: Some(hosts), ..ResolverFiles::default() }
    }
    fn start_system_lookup(&mut self, _: &str, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn next_system_answer(&mut self) -> Option<SystemAnswer> {
        None
    }
}

/// A reactor on such a network, and what has happened to its fetches.
pub(crate) struct Stage {
    pub(crate) told: Rc<RefCell<Told>>,
    pub(crate) reactor: Reactor<Script>,
    pub(crate) bodies: Vec<String>,
    pub(crate) failed: Vec<Kind>,
    /// What the errors say.
    pub(crate) said: Vec<String>,
    /// Which bytes of pushed bodies were asked for.
    pub(crate) wanted: Vec<u64>,
}

impl Stage {
    /// Nothing is retried, and no connection is idle for too long.
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let told = Rc::new(RefCell::new(Told::default()));
        #[allow(clippy::disallowed_methods, reason = "a test has no other instant")]
        let net = Script(Rc::clone(&told), Instant::now());
        let mut settings = Settings::default();
        settings.retries = 0;
        settings.timeouts.set(Limit::Idle, None);
        change(&mut settings);
        let reactor = Reactor::with_net(net, settings).unwrap();
        Self {
            told,
            reactor,
            bodies: Vec::new(),
            failed: Vec::new(),
            said: Vec::new(),
            wanted: Vec::new(),
        }
    }

    pub(crate) fn submit(&mut self, method: &str) -> whippet::FetchId {
        self.submit_to(method, "http://192.0.2.1/")
    }

    pub(crate) fn submit_to(&mut self, method: &str, url: &str) -> whippet::FetchId {
        let request = Request::new(method, url).unwrap().collect(true);
        self.reactor.submit(request).unwrap()
    }

    /// So many sockets were opened.
    pub(crate) fn sockets(&self) -> usize {
        self.told.borrow().sockets.len()
    }

    pub(crate) fn change(&self, socket: usize, change: impl FnOnce(&mut Socket)) {
        change(&mut self.told.borrow_mut().sockets[socket]);
    }

    /// One turn, in whose poll a socket has this event.
    pub(crate) fn turn(&mut self, socket: usize, bits: u8) {
        let mut told = self.told.borrow_mut();
        let token = told.sockets[socket].token;
        told.events.push(Readiness { token, bits });
        drop(told);
        self.pass(0);
    }

    /// One turn, so much later.
    pub(crate) fn pass(&mut self, millis: u64) {
        self.told.borrow_mut().now += Duration::from_millis(millis);
        self.reactor.wait(None).unwrap();
        while let Some(event) = self.reactor.next_event() {
            match event {
                Event::Done { response: Some(response), .. } => {
                    self.bodies.push(String::from_utf8_lossy(response.body()).into_owned());
                }
                Event::Failed { error, .. } => {
                    self.failed.push(error.kind());
                    self.said.push(error.to_string());
                }
                Event::Writable { offset, .. } => self.wanted.push(offset),
                _ => panic!("nothing is streamed"),
            }
        }
    }

    /// Connects a socket, which then takes the request, and has it answered.
    pub(crate) fn serve(&mut self, socket: usize) {
        self.change(socket, |socket| socket.has_connected = true);
        self.turn(socket, WRITABLE);
        assert!(self.told.borrow().sockets[socket].written.ends_with(b"\r\n\r\n"));
        self.change(socket, |socket| socket.received.extend(ANSWER));
        self.turn(socket, READABLE);
    }

    /// A connection that was used once, and has been given the next request, of which it could
    /// take nothing yet.
    pub(crate) fn with_kept(method: &str) -> (Self, whippet::FetchId) {
        let mut stage = Self::new();
        stage.submit("GET");
        stage.pass(0);
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
    pub(crate) fn assert_elsewhere(mut self, how: &str) {
        assert_eq!((self.bodies.len(), self.failed.len()), (0, 0), "{how}");
        let told = self.told.borrow();
        assert!(told.sockets[0].is_closed && told.sockets[0].written.is_empty(), "{how}");
        assert_eq!(told.sockets.len(), 2, "{how}");
        drop(told);
        self.serve(1);
        assert_eq!(self.bodies, ["good"], "{how}");
    }
}
