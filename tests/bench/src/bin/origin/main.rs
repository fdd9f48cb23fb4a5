//! An origin as light as possible, so that the client is what is measured: one thread on a raw
//! poll, one canned response to whatever ends in a blank line.
//!
//! `origin key=value…`: `body` bytes (1024), `file` in its place, `coding`, `close` after each
//! response, `tls` (the file to write the authority to), `resume` sessions, `delay_ms`,
//! `slow` (an own address) with `slow_ms` of its own, `names` (answers DNS: see [`names`]),
//! `gate` (a folder) with `at_once`: see [`whippet_bench::gate`].
//!
//! Prints its port, the port that tells its counters, and that of DNS.

mod names;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream, UdpSocket};
use mio::{Events, Interest, Poll, Token};
use rustls::{HandshakeKind, ServerConfig, ServerConnection};
use slab::Slab;
use whippet_bench::gate::Keeper;
use whippet_bench::plan::Plan;
use whippet_bench::{Failure, canned, tls};

fn main() -> Result<(), Failure> {
    let plan = Plan::from_args()?;
    let mut origin = Origin::new(&plan)?;
    let dns = origin.names.as_ref().map_or(Ok(0), |dns| dns.local_addr().map(|at| at.port()))?;
    let (port, counters) = (origin.listener.local_addr()?, origin.counters.local_addr()?);
    println!("{} {} {dns}", port.port(), counters.port());
    if let Some(folder) = plan.get("gate") {
        return origin.serve_in_step(Path::new(folder), plan.number("at_once", 1)?);
    }
    loop {
        let timeout = origin.next_due();
        origin.turn(timeout)?;
    }
}

struct Origin {
    poll: Poll,
    events: Events,
    listener: TcpListener,
    counters: TcpListener,
    names: Option<UdpSocket>,
    connections: Slab<Connection>,
    /// Requests that wait for their time, and whose.
    delayed: VecDeque<(Instant, usize, u64)>,
    slow: VecDeque<(Instant, usize, u64)>,
    /// Requests that wait until there are enough of them.
    gathered: Option<Vec<usize>>,
    served: Served,
    response: Response,
    read_buffer: Box<[u8]>,
}

/// How it answers.
struct Response {
    /// Head and body, or as much of the body as is kept: it repeats from there.
    bytes: Vec<u8>,
    head_bytes: usize,
    total_bytes: u64,
    is_closing: bool,
    delay: Option<Duration>,
    slow: Option<(IpAddr, Duration)>,
    tls: Option<Arc<ServerConfig>>,
}

#[derive(Default)]
struct Served {
    requests: u64,
    connections: u64,
    handshakes: u64,
    resumed: u64,
}

struct Connection {
    socket: TcpStream,
    tls: Option<Box<ServerConnection>>,
    /// Tells a connection from a later one in the same place.
    number: u64,
    is_slow: bool,
    /// Bytes of the response that were handed over; the whole, where there is none under way.
    sent: u64,
}

/// What a connection's turn came to.
enum Arrival {
    Nothing,
    Request,
    End,
}

impl Origin {
    fn new(plan: &Plan) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::from_std(listen(plan.is_set("everywhere"))?);
        let mut counters = TcpListener::bind("127.0.0.1:0".parse::<SocketAddr>()?)?;
        let mut names = match plan.is_set("names") {
            true => Some(UdpSocket::bind("127.0.0.1:0".parse::<SocketAddr>()?)?),
            false => None,
        };
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        poll.registry().register(&mut counters, COUNTERS, Interest::READABLE)?;
        if let Some(socket) = &mut names {
            poll.registry().register(socket, NAMES, Interest::READABLE)?;
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(1_024),
            listener,
            counters,
            names,
            connections: Slab::new(),
            delayed: VecDeque::new(),
            slow: VecDeque::new(),
            gathered: plan.get("gate").map(|_| Vec::new()),
            served: Served::default(),
            response: Response::new(plan)?,
            read_buffer: vec![0; READ_BYTES].into(),
        })
    }

    fn serve_in_step(&mut self, folder: &Path, at_once: usize) -> Result<(), Failure> {
        let mut keeper = Keeper::open(folder)?;
        while keeper.asked()? {
            // What one turn sets free may bring more: a connection accepted may be readable.
            while self.turn(Some(Duration::ZERO))? > 0 {}
            let gathered = self.gathered.as_mut().map(std::mem::take).unwrap_or_default();
            let is_enough = gathered.len() >= at_once;
            if is_enough {
                gathered.into_iter().for_each(|at| self.answer(at));
            } else {
                self.gathered = Some(gathered);
            }
            keeper.tell(is_enough)?;
        }
        Ok(())
    }

    /// Serves what is ready; how many events there were.
    fn turn(&mut self, timeout: Option<Duration>) -> Result<usize, Failure> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(1));
        match self.poll.poll(&mut events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        let mut count = 0;
        for event in &events {
            count += 1;
            match event.token() {
                LISTENER => self.accept()?,
                COUNTERS => self.tell_counters()?,
                NAMES => self.names.iter().for_each(names::answer_all),
                Token(at) => {
                    if event.is_readable() || event.is_error() {
                        self.read(at);
                    }
                    if event.is_writable() {
                        self.send(at);
                    }
                }
            }
        }
        self.events = events;
        self.answer_due();
        Ok(count)
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let is_slow = match self.response.slow {
                Some((address, _)) => socket.local_addr()?.ip() == address,
                None => false,
            };
            let tls = self.response.tls.as_ref().and_then(|config| {
                let mut connection = ServerConnection::new(Arc::clone(config)).ok()?;
                connection.set_buffer_limit(None);
                Some(Box::new(connection))
            });
            if tls.is_some() {
                socket.set_nodelay(true)?;
            }
            let entry = self.connections.vacant_entry();
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut socket, Token(entry.key()), interest)?;
            let number = self.served.connections;
            entry.insert(Connection {
                socket,
                tls,
                number,
                is_slow,
                sent: self.response.total_bytes,
            });
            self.served.connections += 1;
        }
    }

    fn tell_counters(&self) -> io::Result<()> {
        while let Ok((mut socket, _)) = self.counters.accept() {
            let Served { requests, connections, handshakes, resumed } = self.served;
            writeln!(socket, "{requests} {connections} {handshakes} {resumed}")?;
        }
        Ok(())
    }

    fn read(&mut self, at: usize) {
        loop {
            let Some(connection) = self.connections.get_mut(at) else { return };
            let is_drained = match connection.read(&mut self.read_buffer, &mut self.served) {
                Ok((Arrival::Request, is_drained)) => {
                    self.note_request(at);
                    is_drained
                }
                Ok((Arrival::Nothing, is_drained)) => is_drained,
                Ok((Arrival::End, _)) | Err(_) => {
                    self.connections.try_remove(at);
                    return;
                }
            };
            if is_drained {
                return;
            }
        }
    }

    fn note_request(&mut self, at: usize) {
        self.served.requests += 1;
        let Some(connection) = self.connections.get(at) else { return };
        let (number, is_slow) = (connection.number, connection.is_slow);
        if let Some(gathered) = &mut self.gathered {
            gathered.push(at);
        } else if let (true, Some((_, delay))) = (is_slow, self.response.slow) {
            self.slow.push_back((Instant::now() + delay, at, number));
        } else if let Some(delay) = self.response.delay {
            self.delayed.push_back((Instant::now() + delay, at, number));
        } else {
            self.answer(at);
        }
    }

    fn answer(&mut self, at: usize) {
        if let Some(connection) = self.connections.get_mut(at) {
            connection.sent = 0;
            self.send(at);
        }
    }

    fn send(&mut self, at: usize) {
        let Some(connection) = self.connections.get_mut(at) else { return };
        let before = connection.sent;
        let result = connection.send(&self.response);
        let is_over = self.response.is_closing
            && before < connection.sent
            && connection.sent == self.response.total_bytes;
        if result.is_err() || is_over {
            connection.say_goodbye();
            self.connections.try_remove(at);
        }
    }

    fn answer_due(&mut self) {
        if self.delayed.is_empty() && self.slow.is_empty() {
            return;
        }
        let now = Instant::now();
        for of_slow in [false, true] {
            loop {
                let line = if of_slow { &mut self.slow } else { &mut self.delayed };
                let Some(&(_, at, number)) = line.front().filter(|(due, ..)| *due <= now) else {
                    break;
                };
                line.pop_front();
                if self.connections.get(at).is_some_and(|found| found.number == number) {
                    self.answer(at);
                }
            }
        }
    }

    fn next_due(&self) -> Option<Duration> {
        let due = self.delayed.front().into_iter().chain(self.slow.front()).map(|(due, ..)| *due);
        due.min().map(|due| due.saturating_duration_since(Instant::now()))
    }
}

impl Response {
    fn new(plan: &Plan) -> Result<Self, Failure> {
        let is_closing = plan.is_set("close");
        let content = plan.get("file").map(std::fs::read).transpose()?;
        let body_bytes = match &content {
            Some(content) => u64::try_from(content.len())?,
            None => plan.number("body", 1_024)?,
        };
        let mut bytes = canned::head(body_bytes, is_closing, plan.get("coding"));
        let head_bytes = bytes.len();
        let kept = usize::try_from(body_bytes.min(KEPT_BYTES_MAX))?;
        bytes.extend(content.unwrap_or_else(|| vec![b'x'; kept]));
        let milliseconds = |key| plan.number(key, 0).map(Duration::from_millis);
        let delay = milliseconds("delay_ms")?;
        let slow = plan.get("slow").map(str::parse).transpose()?;
        let slow_delay = milliseconds("slow_ms")?;
        let file = plan.get("tls").map(Path::new);
        Ok(Self {
            total_bytes: u64::try_from(head_bytes)? + body_bytes,
            bytes,
            head_bytes,
            is_closing,
            delay: (!delay.is_zero()).then_some(delay),
            slow: slow.map(|address| (address, slow_delay)),
            tls: file.map(|file| tls::server(file, plan.is_set("resume"))).transpose()?,
        })
    }

    /// Some of what follows the first `sent` bytes; nothing at the end.
    fn from(&self, sent: u64) -> &[u8] {
        let left = usize::try_from(self.total_bytes - sent).unwrap_or(usize::MAX);
        let head = self.head_bytes as u64;
        let start = match usize::try_from(sent) {
            Ok(sent) if sent < self.bytes.len() => sent,
            // Longer bodies go round the kept part.
            _ => self.head_bytes + usize::try_from((sent - head) % KEPT_BYTES_MAX).unwrap_or(0),
        };
        let rest = &self.bytes[start..];
        &rest[..rest.len().min(left)]
    }
}

impl Connection {
    /// One read, and whether it left the socket empty.
    fn read(&mut self, buffer: &mut [u8], served: &mut Served) -> io::Result<(Arrival, bool)> {
        let bytes = match self.socket.read(buffer) {
            Ok(0) => return Ok((Arrival::End, true)),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Ok((Arrival::Nothing, true));
            }
            Err(error) => return Err(error),
        };
        let is_drained = bytes < buffer.len();
        let Some(tls) = &mut self.tls else {
            let is_request = buffer[..bytes].ends_with(b"\r\n\r\n");
            return Ok((if is_request { Arrival::Request } else { Arrival::Nothing }, is_drained));
        };
        let mut arrived = &buffer[..bytes];
        let mut plain = [0; 4_096];
        let mut is_request = false;
        while !arrived.is_empty() {
            tls.read_tls(&mut arrived)?;
            let was_handshaking = tls.is_handshaking();
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            if was_handshaking && !tls.is_handshaking() {
                served.handshakes += 1;
                let is_resumed = tls.handshake_kind() == Some(HandshakeKind::Resumed);
                served.resumed += u64::from(is_resumed);
            }
            if state.plaintext_bytes_to_read() > 0 {
                let read = tls.reader().read(&mut plain)?;
                is_request = plain[..read].ends_with(b"\r\n\r\n");
            } else if state.peer_has_closed() {
                return Ok((Arrival::End, true));
            }
        }
        // The response goes with what the handshake has to say.
        if !is_request && tls.wants_write() {
            self.flush()?;
        }
        Ok((if is_request { Arrival::Request } else { Arrival::Nothing }, is_drained))
    }

    /// Sends as much of the response as the socket takes.
    fn send(&mut self, response: &Response) -> io::Result<()> {
        while self.sent < response.total_bytes {
            let rest = response.from(self.sent);
            let Some(tls) = &mut self.tls else {
                match self.socket.write(rest) {
                    Ok(bytes) => self.sent += bytes as u64,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error),
                }
                continue;
            };
            if tls.wants_write() && !self.flush()? {
                return Ok(());
            }
            let Some(tls) = &mut self.tls else { return Ok(()) };
            let bytes = tls.writer().write(&rest[..rest.len().min(TLS_WRITE_BYTES)])?;
            self.sent += bytes as u64;
            self.flush()?;
        }
        // What the socket has not taken of the last piece.
        self.flush().map(drop)
    }

    /// Sends what is sealed. False: the socket is full.
    fn flush(&mut self) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else { return Ok(true) };
        while tls.wants_write() {
            match tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn say_goodbye(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = self.flush();
        }
    }
}

/// A backlog that holds ten thousand connections which come at once.
fn listen(everywhere: bool) -> io::Result<std::net::TcpListener> {
    let address = if everywhere { "0.0.0.0:0" } else { "127.0.0.1:0" };
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(BACKLOG)?)?;
    Ok(listener)
}

const LISTENER: Token = Token(usize::MAX - 1);
const COUNTERS: Token = Token(usize::MAX - 2);
const NAMES: Token = Token(usize::MAX - 3);
const BACKLOG: i32 = 4_096;
const READ_BYTES: usize = 64 << 10;
/// Of a body: what is longer repeats it.
const KEPT_BYTES_MAX: u64 = 1 << 20;
const TLS_WRITE_BYTES: usize = 64 << 10;
