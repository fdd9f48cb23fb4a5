//! The origin: a listener on loopback, a thread for each connection, and a log of what they saw.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::{HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection, StreamOwned};
use socket2::SockRef;

use super::certificates::TlsSetup;
use super::latch::{Latch, WAIT_SECONDS_MAX};
use super::reply::{Action, Reply};
use super::request::{Seen, fill};

/// A server on loopback. Dropping it ends its connections and threads, and panics if a handler
/// had panicked.
#[derive(Debug)]
pub(crate) struct Origin {
    address: SocketAddr,
    is_tls: bool,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// What is not usual about an origin.
pub(crate) struct Setup {
    /// Where it listens; port 0 is any.
    pub(crate) address: SocketAddr,
    /// Plain without it.
    pub(crate) tls: Option<TlsSetup>,
    /// What it does with each connection (numbered from 0) when it is accepted, before TLS.
    pub(crate) greeting: Option<Greeting>,
}

pub(crate) type Greeting = Box<dyn Fn(usize) -> Reply + Send + Sync>;

impl Default for Setup {
    fn default() -> Self {
        Self { address: (Ipv4Addr::LOCALHOST, 0).into(), tls: None, greeting: None }
    }
}

/// What an origin has seen so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// Connections accepted.
    pub(crate) connections: usize,
    /// Connections not yet ended, by either side.
    pub(crate) open: usize,
    /// The most that were open at once.
    pub(crate) open_max: usize,
    /// Requests in the order in which they were read to their end.
    pub(crate) requests: Vec<Seen>,
    /// TLS handshakes that succeeded.
    pub(crate) handshakes: Vec<Handshake>,
    /// What was wrong with what clients sent, handshakes that failed included.
    pub(crate) malformed: Vec<String>,
}

/// A TLS handshake that an origin has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handshake {
    pub(crate) connection: usize,
    pub(crate) server_name: Option<String>,
    pub(crate) alpn: Option<Vec<u8>>,
    pub(crate) resumed: bool,
    pub(crate) version: Option<ProtocolVersion>,
    /// Whether the client showed a certificate.
    pub(crate) client_certificate: bool,
}

impl Origin {
    pub(crate) fn plain(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(Setup::default(), handler)
    }

    pub(crate) fn tls(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(Setup { tls: Some(TlsSetup::default()), ..Setup::default() }, handler)
    }

    pub(crate) fn start(
        setup: Setup,
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(setup.address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            tls: setup.tls.as_ref().map(TlsSetup::server_config),
            greeting: setup.greeting,
            handler: Box::new(handler),
        });
        let accepting = Arc::clone(&shared);
        let acceptor = thread::Builder::new()
            .name("origin".to_owned())
            .spawn(move || accept(&listener, &accepting))
            .unwrap();
        Self { address, is_tls: setup.tls.is_some(), shared, acceptor: Some(acceptor) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The URL of a target (`/…`) by address.
    pub(crate) fn url(&self, target: &str) -> String {
        self.url_at(&self.address.ip().to_string(), target)
    }

    /// The URL of a target under another name, which must lead here.
    pub(crate) fn url_at(&self, host: &str, target: &str) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{host}:{}{target}", self.port())
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.lock().log.connections
    }

    /// Requests read so far.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.shared.lock().log.requests.clone()
    }

    /// Everything seen so far.
    pub(crate) fn log(&self) -> Log {
        self.shared.lock().log.clone()
    }

    /// Waits until what was seen is as `expected`. Panics after [`WAIT_SECONDS_MAX`].
    pub(crate) fn wait_for(&self, expected: impl Fn(&Log) -> bool) -> Log {
        let limit = Duration::from_secs(WAIT_SECONDS_MAX);
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), limit, |state| !expected(&state.log))
            .unwrap_or_else(PoisonError::into_inner);
        let log = state.log.clone();
        drop(state);
        assert!(expected(&log), "not seen in {WAIT_SECONDS_MAX} s: {log:?}");
        log
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let (threads, latches) = {
            let mut state = self.shared.lock();
            state.is_stopped = true;
            for socket in state.sockets.values() {
                let _ = socket.shutdown(Shutdown::Both);
            }
            (std::mem::take(&mut state.threads), std::mem::take(&mut state.latches))
        };
        self.shared.changed.notify_all();
        latches.iter().for_each(Latch::release);
        // The acceptor wakes for a connection, and sees that it is over.
        let _ = TcpStream::connect(self.address);
        let acceptor = self.acceptor.take();
        let failed = acceptor.into_iter().chain(threads).filter_map(|t| t.join().err()).count();
        if !thread::panicking() {
            assert_eq!(failed, 0, "threads of the origin panicked");
        }
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    tls: Option<Arc<ServerConfig>>,
    greeting: Option<Greeting>,
    handler: Box<dyn Fn(&Seen) -> Reply + Send + Sync>,
}

#[derive(Default)]
struct State {
    log: Log,
    is_stopped: bool,
    threads: Vec<JoinHandle<()>>,
    /// What scripts wait for, to be released at the end.
    latches: Vec<Latch>,
    /// A second descriptor of each open connection, to be shut down at the end.
    sockets: HashMap<usize, TcpStream>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Log)) {
        change(&mut self.lock().log);
        self.changed.notify_all();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("log", &self.lock().log).finish_non_exhaustive()
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for socket in listener.incoming() {
        let mut state = shared.lock();
        if state.is_stopped {
            return;
        }
        let Ok(socket) = socket else { continue };
        let number = state.log.connections;
        state.log.connections += 1;
        state.log.open += 1;
        state.log.open_max = state.log.open_max.max(state.log.open);
        state.sockets.insert(number, socket.try_clone().unwrap());
        let mine = Arc::clone(shared);
        let serving = thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || Connection::new(mine, socket, number).serve());
        state.threads.push(serving.unwrap());
        drop(state);
        shared.changed.notify_all();
    }
}

/// One accepted connection, on its thread.
struct Connection {
    shared: Arc<Shared>,
    wire: Wire,
    number: usize,
    /// Bytes read beyond the request.
    kept: Vec<u8>,
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

/// What follows a script.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The next request, unless this one asked to close.
    Usual,
    Request,
    End,
}

impl Connection {
    fn new(shared: Arc<Shared>, socket: TcpStream, number: usize) -> Self {
        Self { shared, wire: Wire::Plain(socket), number, kept: Vec::new() }
    }

    fn serve(mut self) {
        let result = self.run();
        self.shared.note(|log| {
            if let Err(error) = result
                && error.kind() == io::ErrorKind::InvalidData
            {
                log.malformed.push(format!("connection {}: {error}", self.number));
            }
        });
    }

    /// An error other than `InvalidData` is the client's leaving, of which nothing is said.
    fn run(&mut self) -> io::Result<()> {
        self.wire.socket().set_nodelay(true)?;
        let greeting = self.shared.greeting.as_ref().map(|greet| greet(self.number));
        if self.play(greeting.unwrap_or_default())? == Next::End {
            return Ok(());
        }
        self.start_tls()?;
        for nth in 0.. {
            let Some(seen) = Seen::read(&mut self.wire, &mut self.kept, self.number, nth)? else {
                return self.end(true);
            };
            let reply = (self.shared.handler)(&seen);
            let wants_close = seen.wants_close();
            self.shared.note(|log| log.requests.push(seen));
            match self.play(reply)? {
                Next::End => return Ok(()),
                Next::Usual if wants_close => return self.end(true),
                Next::Usual | Next::Request => {}
            }
        }
        Ok(())
    }

    fn start_tls(&mut self) -> io::Result<()> {
        let Some(config) = &self.shared.tls else { return Ok(()) };
        let socket = self.wire.socket().try_clone()?;
        let mut session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        let mut handshaking = socket.try_clone()?;
        while session.is_handshaking() {
            session.complete_io(&mut handshaking)?;
        }
        let handshake = Handshake {
            connection: self.number,
            server_name: session.server_name().map(str::to_owned),
            alpn: session.alpn_protocol().map(<[u8]>::to_vec),
            resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
            version: session.protocol_version(),
            client_certificate: session.peer_certificates().is_some(),
        };
        self.shared.note(|log| log.handshakes.push(handshake));
        self.wire = Wire::Tls(Box::new(StreamOwned::new(session, socket)));
        Ok(())
    }

    fn play(&mut self, reply: Reply) -> io::Result<Next> {
        for action in reply.0 {
            match action {
                Action::Send(bytes) => self.wire.send(&bytes)?,
                Action::SendSplit(bytes, piece) => {
                    bytes.chunks(piece.max(1)).try_for_each(|piece| self.wire.send(piece))?;
                }
                Action::Chunked(pieces) => self.send_chunks(&pieces)?,
                Action::Wait(latch) => {
                    let mut state = self.shared.lock();
                    if state.is_stopped {
                        return Ok(Next::End);
                    }
                    state.latches.push(latch.clone());
                    drop(state);
                    latch.wait();
                }
                Action::Release(latch) => latch.release(),
                Action::Receive(bytes) => {
                    while self.kept.len() < bytes && fill(&mut self.wire, &mut self.kept)? > 0 {}
                    self.kept.drain(..bytes.min(self.kept.len()));
                }
                Action::EchoAtEnd => {
                    while fill(&mut self.wire, &mut self.kept)? > 0 {}
                    let heard = std::mem::take(&mut self.kept);
                    self.wire.send(&heard)?;
                }
                Action::Reset => {
                    SockRef::from(self.wire.socket()).set_linger(Some(Duration::ZERO))?;
                    return Ok(Next::End);
                }
                Action::Close => return self.end(true).map(|()| Next::End),
                Action::CloseWithoutNotify => return self.end(false).map(|()| Next::End),
                Action::HalfClose => {
                    self.end(true)?;
                    while fill(&mut self.wire, &mut self.kept)? > 0 {}
                    return Ok(Next::End);
                }
                Action::Silence => {
                    let state = self.shared.lock();
                    let stopped = self.shared.changed.wait_while(state, |state| !state.is_stopped);
                    drop(stopped);
                    return Ok(Next::End);
                }
                Action::KeepOpen => return Ok(Next::Request),
            }
        }
        Ok(Next::Usual)
    }

    fn send_chunks(&mut self, pieces: &[Vec<u8>]) -> io::Result<()> {
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
            chunk.extend_from_slice(piece);
            chunk.extend_from_slice(b"\r\n");
            self.wire.send(&chunk)?;
        }
        self.wire.send(b"0\r\n\r\n")
    }

    /// Ends the origin's half.
    fn end(&mut self, with_notify: bool) -> io::Result<()> {
        if let Wire::Tls(tls) = &mut self.wire
            && with_notify
        {
            tls.conn.send_close_notify();
            while tls.conn.wants_write() {
                tls.conn.write_tls(&mut tls.sock)?;
            }
        }
        self.wire.socket().shutdown(Shutdown::Write)
    }
}

impl Drop for Connection {
    /// Runs before the wire's descriptor is dropped: the second descriptor must be gone by then,
    /// or the socket would stay open. A panic of a handler comes this way too.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.sockets.remove(&self.number);
        state.log.open -= 1;
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Wire {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &tls.sock,
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(bytes),
            Self::Tls(tls) => {
                tls.write_all(bytes)?;
                tls.flush()
            }
        }
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(into),
            Self::Tls(tls) => tls.read(into),
        }
    }
}

/// A connection's thread needs little; tests open hundreds.
const STACK_BYTES: usize = 512 * 1024;
