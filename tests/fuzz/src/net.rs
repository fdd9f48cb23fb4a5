//! A network without an operating system, whose servers say what a script wants.
//!
//! Time passes only in [`Net::wait`], in jumps to what happens next. Pieces, delays and shortages
//! follow from a seed. The n-th connection is served by the n-th script, the last one again and
//! again.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use whippet::net::{Net, Readiness, ResolverFiles, SystemAnswer, Token};

use crate::input::Random;
use crate::strict::Request;

/// What a server does next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Waits for one more request.
    Await,
    /// Waits for a while.
    Wait,
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

/// How often, in percent, things go as they rarely do.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    pub short_reads: u8,
    pub short_writes: u8,
    pub would_block: u8,
    pub refused: u8,
    pub spurious: u8,
    /// Delays of seconds instead of milliseconds.
    pub slow: u8,
}

#[derive(Debug)]
pub struct World {
    pub now: u64,
    /// All that ever were; an index names one.
    pub sockets: Vec<Socket>,
    scripts: Vec<Vec<Step>>,
    faults: Faults,
    random: Random,
}

/// A connection, as its two ends see it.
#[derive(Debug)]
pub struct Socket {
    pub remote: SocketAddr,
    pub is_open: bool,
    /// What the server's bytes were, as far as they went over the wire.
    pub delivered: Vec<u8>,
    /// The server ended it in order.
    pub has_fin: bool,
    is_broken: bool,
    /// What the client wrote.
    pub written: Vec<u8>,
    token: Token,
    is_connected: bool,
    steps: VecDeque<Step>,
    due: Option<u64>,
    unread: VecDeque<u8>,
    error: Option<ErrorKind>,
    edge: u8,
    awaited: usize,
}

impl World {
    pub fn new(scripts: Vec<Vec<Step>>, faults: Faults, seed: u64) -> Self {
        Self { now: 0, sockets: Vec::new(), scripts, faults, random: Random::new(seed) }
    }

    pub fn open_sockets(&self) -> usize {
        self.sockets.iter().filter(|socket| socket.is_open).count()
    }

    fn delay(&mut self) -> u64 {
        let is_slow = self.random.chance(self.faults.slow);
        self.random.below(if is_slow { 3_000_000 } else { 3_000 })
    }

    fn connect(&mut self, remote: SocketAddr, token: Token) -> usize {
        let last = self.scripts.len().saturating_sub(1);
        let script = self.scripts.get(self.sockets.len().min(last)).cloned().unwrap_or_default();
        let due = Some(self.now + self.delay());
        self.sockets.push(Socket {
            remote,
            is_open: true,
            delivered: Vec::new(),
            has_fin: false,
            is_broken: false,
            written: Vec::new(),
            token,
            is_connected: false,
            steps: script.into(),
            due,
            unread: VecDeque::new(),
            error: None,
            edge: 0,
            awaited: 0,
        });
        self.sockets.len() - 1
    }

    /// Goes to the next moment at which something happens.
    fn poll(&mut self, timeout: Option<Duration>, ready: &mut Vec<Readiness>) -> io::Result<bool> {
        let micros = |timeout: Duration| u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX);
        let until = timeout.map(|timeout| self.now.saturating_add(micros(timeout)));
        loop {
            for at in 0..self.sockets.len() {
                while self.sockets[at].due.is_some_and(|due| due <= self.now) {
                    self.go_on(at);
                }
            }
            let before = ready.len();
            self.report(ready);
            let next = self.sockets.iter().filter_map(|socket| socket.due).min();
            if ready.len() > before || until.is_some_and(|until| until <= self.now) {
                return Ok(false);
            }
            self.now = match (next, until) {
                (Some(next), Some(until)) => next.min(until),
                (Some(at), None) | (None, Some(at)) => at,
                (None, None) => return Err(io::Error::other("nothing will ever happen")),
            };
        }
    }

    fn report(&mut self, ready: &mut Vec<Readiness>) {
        for socket in self.sockets.iter_mut().filter(|socket| socket.is_open) {
            let mut bits = std::mem::take(&mut socket.edge);
            if self.random.chance(self.faults.spurious) && (bits != 0 || ready.is_empty()) {
                bits |= Readiness::READABLE;
            }
            if bits != 0 {
                ready.push(Readiness { token: socket.token, bits });
            }
        }
    }

    /// The server's next deed.
    fn go_on(&mut self, at: usize) {
        let delay = self.delay();
        let is_refused = self.random.chance(self.faults.refused);
        let socket = &mut self.sockets[at];
        socket.due = Some(self.now + delay);
        if !socket.is_open {
            socket.due = None;
        } else if !socket.is_connected {
            socket.is_connected = true;
            socket.edge |= Readiness::WRITABLE;
            if is_refused {
                socket.break_off(ErrorKind::ConnectionRefused);
            }
        } else {
            match socket.steps.pop_front() {
                Some(Step::Await) if socket.requests() <= socket.awaited => {
                    socket.steps.push_front(Step::Await);
                    socket.due = None;
                }
                Some(Step::Await) => socket.awaited += 1,
                Some(Step::Wait) => socket.due = Some(self.now + 100 * delay),
                Some(Step::Bytes(mut bytes)) => {
                    let length = self.random.length(bytes.len()).min(bytes.len());
                    let rest = bytes.split_off(length);
                    socket.unread.extend(&bytes);
                    socket.delivered.extend(bytes);
                    socket.edge |= Readiness::READABLE;
                    if !rest.is_empty() {
                        socket.steps.push_front(Step::Bytes(rest));
                    }
                }
                Some(Step::Fin) => {
                    socket.has_fin = true;
                    socket.edge |= Readiness::READABLE | Readiness::READ_CLOSED;
                    socket.due = None;
                }
                Some(Step::Reset) => socket.break_off(ErrorKind::ConnectionReset),
                None => socket.due = None,
            }
        }
    }

    fn read(&mut self, at: usize, into: &mut [u8]) -> io::Result<usize> {
        let socket = &mut self.sockets[at];
        assert!(socket.is_open, "a closed socket is read");
        if socket.unread.is_empty() {
            return match (socket.error.take(), socket.has_fin || socket.is_broken) {
                (Some(error), _) => Err(error.into()),
                (None, true) => Ok(0),
                (None, false) => Err(ErrorKind::WouldBlock.into()),
            };
        }
        if self.random.chance(self.faults.would_block) {
            socket.edge |= Readiness::READABLE;
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut count = socket.unread.len().min(into.len());
        if self.random.chance(self.faults.short_reads) {
            count = self.random.length(count).min(count);
            socket.edge |= Readiness::READABLE;
        }
        if socket.has_fin || socket.is_broken {
            socket.edge |= Readiness::READABLE | Readiness::READ_CLOSED;
        }
        for (byte, from) in into.iter_mut().zip(socket.unread.drain(..count)) {
            *byte = from;
        }
        Ok(count)
    }

    fn write(&mut self, at: usize, bytes: &[u8]) -> io::Result<usize> {
        let socket = &mut self.sockets[at];
        assert!(socket.is_open, "a closed socket is written");
        if socket.is_broken {
            return Err(socket.error.take().unwrap_or(ErrorKind::BrokenPipe).into());
        }
        if !socket.is_connected || self.random.chance(self.faults.would_block) {
            socket.edge |= if socket.is_connected { Readiness::WRITABLE } else { 0 };
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut count = bytes.len();
        if count > 0 && self.random.chance(self.faults.short_writes) {
            count = self.random.length(count).min(count);
            socket.edge |= Readiness::WRITABLE;
        }
        socket.written.extend_from_slice(&bytes[..count]);
        if socket.due.is_none() {
            socket.due = Some(self.now);
        }
        Ok(count)
    }
}

impl Socket {
    pub fn is_tls(&self) -> bool {
        self.remote.port() == 443
    }

    /// How many whole requests the client has written. TLS counts for one.
    pub fn requests(&self) -> usize {
        let (mut rest, mut count) = (&self.written[..], 0);
        if self.is_tls() {
            return usize::from(!rest.is_empty());
        }
        while let Ok((_, more)) = Request::read(rest) {
            (rest, count) = (more, count + 1);
        }
        count
    }

    fn break_off(&mut self, error: ErrorKind) {
        self.error = Some(error);
        self.is_broken = true;
        self.has_fin = false;
        self.steps.clear();
        self.due = None;
        self.edge =
            Readiness::READABLE | Readiness::WRITABLE | Readiness::READ_CLOSED | Readiness::ERROR;
    }
}

/// The world as a reactor sees it.
#[derive(Debug)]
pub struct FuzzNet {
    pub world: Rc<RefCell<World>>,
    pub epoch: Instant,
}

#[derive(Debug)]
pub struct Stream(usize);

/// A UDP socket: nobody answers.
#[derive(Debug)]
pub struct Datagram;

impl Net for FuzzNet {
    type Stream = Stream;
    type Datagram = Datagram;

    fn connect(&mut self, to: SocketAddr, token: Token) -> io::Result<Stream> {
        Ok(Stream(self.world.borrow_mut().connect(to, token)))
    }

    fn read(&mut self, stream: &mut Stream, into: &mut [u8]) -> io::Result<usize> {
        self.world.borrow_mut().read(stream.0, into)
    }

    fn write(&mut self, stream: &mut Stream, bytes: &[u8]) -> io::Result<usize> {
        self.world.borrow_mut().write(stream.0, bytes)
    }

    fn shutdown(&mut self, _: &mut Stream) -> io::Result<()> {
        unreachable!("nothing is upgraded here")
    }

    fn take_error(&mut self, stream: &mut Stream) -> io::Result<Option<io::Error>> {
        let error = self.world.borrow_mut().sockets[stream.0].error.take();
        Ok(error.map(Into::into))
    }

    fn close(&mut self, stream: Stream) {
        let is_open = &mut self.world.borrow_mut().sockets[stream.0].is_open;
        assert!(std::mem::replace(is_open, false), "a socket is closed twice");
    }

    fn open_datagram(&mut self, _: SocketAddr, _: Token) -> io::Result<Datagram> {
        Ok(Datagram)
    }

    fn send(&mut self, _: &mut Datagram, datagram: &[u8]) -> io::Result<usize> {
        Ok(datagram.len())
    }

    fn receive(&mut self, _: &mut Datagram, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }

    fn close_datagram(&mut self, _: Datagram) {}

    fn wait(
        &mut self,
        timeout: Option<Duration>,
        until: Option<Duration>,
        ready: &mut Vec<Readiness>,
    ) -> io::Result<bool> {
        let left = until.map(|until| until.saturating_sub(self.now()));
        let timeout = [timeout, left].into_iter().flatten().min();
        self.world.borrow_mut().poll(timeout, ready)
    }

    fn now(&mut self) -> Duration {
        Duration::from_micros(self.world.borrow().now)
    }

    fn epoch(&self) -> Instant {
        self.epoch
    }

    fn wall(&mut self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000) + self.now()
    }

    fn random(&mut self, into: &mut [u8]) -> io::Result<()> {
        let random = &mut self.world.borrow_mut().random;
        into.fill_with(|| random.draw().to_le_bytes()[0]);
        Ok(())
    }

    fn resolver_files(&mut self) -> ResolverFiles {
        let hosts = Some(b"10.0.0.1 one.test\n10.0.0.2 two.test\n10.0.0.3 two.test\n".to_vec());
        let resolv_conf = Some(b"nameserver 10.9.9.9\n".to_vec());
        ResolverFiles { hosts, resolv_conf, nsswitch: None }
    }

    fn start_system_lookup(&mut self, _: &str, _: u64) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn next_system_answer(&mut self) -> Option<SystemAnswer> {
        None
    }
}
