//! Floor 1. The operating system's network: with its rooms the only file that names mio,
//! rustix and socket2, and the only one that reads a clock, a file or the random generator.
//!
//! In go the calls of [`Net`], out come sockets, readiness and bytes. A connection costs `socket`,
//! `setsockopt` (TCP_NODELAY), `connect` and one `epoll_ctl`; closing its descriptor takes it out
//! of the poll. What other choices cost is in [`options`].

#[cfg_attr(not(any(target_os = "android", target_os = "linux")), path = "os/no_alarm.rs")]
mod alarm;
mod options;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
#[cfg(unix)]
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use mio::{Events, Interest, Poll, Waker};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use self::alarm::Alarm;
use super::{Net, Readiness, ResolverFiles, SystemAnswer, Token};
use crate::socket::{Peer, SocketSettings};

#[cfg(not(target_pointer_width = "64"))]
compile_error!("whippet needs a 64-bit target: its socket tokens are 64 bits, the poll's a usize");

/// The operating system's network.
///
/// Its descriptor ([`AsFd`], [`AsRawFd`]) can be registered for reading in another poll: it is
/// readable while [`Net::wait`] has something to report, and at times when it has not. Under an
/// edge-triggered outer poll, `wait` must be called again, without sleeping, after it answered
/// `true`.
#[derive(Debug)]
pub struct OsNet {
    poll: Poll,
    events: Events,
    alarm: Alarm,
    epoch: Instant,
    helper: Option<Helper>,
}

/// A socket of [`OsNet`] that carries a stream. One of the file system is in the same wrapper: a
/// descriptor is read and written by the same calls, whatever is at its other end.
#[derive(Debug)]
pub struct OsStream(mio::net::TcpStream);

/// A UDP socket of [`OsNet`].
#[derive(Debug)]
pub struct OsDatagram(mio::net::UdpSocket);

impl OsNet {
    /// Opens a poll that takes at most `events_capacity` events (at least 1) from the system
    /// for each [`Net::wait`].
    ///
    /// # Errors
    ///
    /// The system's, where it gives no descriptor.
    pub fn new(events_capacity: usize) -> io::Result<Self> {
        let poll = Poll::new()?;
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(events_capacity.max(1)),
            alarm,
            epoch: clock(),
            helper: None,
        })
    }

    /// Begins to connect, and registers.
    fn begin(&mut self, socket: Socket, to: &SockAddr, token: Token) -> io::Result<OsStream> {
        match socket.connect(to) {
            Err(error) if !is_in_progress(&error, to) => return Err(error),
            _ => {}
        }
        let mut stream = mio::net::TcpStream::from_std(TcpStream::from(socket));
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, poll_token(token), both)?;
        Ok(OsStream(stream))
    }
}

#[cfg(unix)]
impl AsFd for OsNet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.registry().as_fd()
    }
}

#[cfg(unix)]
impl AsRawFd for OsNet {
    fn as_raw_fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }
}

impl Net for OsNet {
    type Stream = OsStream;
    type Datagram = OsDatagram;

    fn connect(&mut self, to: SocketAddr, token: Token) -> io::Result<OsStream> {
        let socket = open_stream(Domain::for_address(to), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        self.begin(socket, &to.into(), token)
    }

    fn connect_by(
        &mut self,
        to: Peer<'_>,
        settings: &SocketSettings,
        token: Token,
    ) -> io::Result<OsStream> {
        match to {
            Peer::Address(to) => {
                let socket = open_stream(Domain::for_address(to), Some(Protocol::TCP))?;
                options::apply(&socket, to, settings)?;
                self.begin(socket, &to.into(), token)
            }
            #[cfg(unix)]
            Peer::Unix(path) => {
                let to = SockAddr::unix(path)?;
                self.begin(open_stream(Domain::UNIX, None)?, &to, token)
            }
            #[cfg(not(unix))]
            Peer::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn read(&mut self, stream: &mut OsStream, into: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| stream.0.read(into))
    }

    fn write(&mut self, stream: &mut OsStream, bytes: &[u8]) -> io::Result<usize> {
        uninterrupted(|| stream.0.write(bytes))
    }

    fn shutdown(&mut self, stream: &mut OsStream) -> io::Result<()> {
        stream.0.shutdown(Shutdown::Write)
    }

    fn take_error(&mut self, stream: &mut OsStream) -> io::Result<Option<io::Error>> {
        stream.0.take_error()
    }

    fn close(&mut self, stream: OsStream) {
        drop(stream);
    }

    fn open_datagram(&mut self, to: SocketAddr, token: Token) -> io::Result<OsDatagram> {
        let any = match to {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let mut socket = mio::net::UdpSocket::bind(SocketAddr::new(any, 0))?;
        socket.connect(to)?;
        self.poll.registry().register(&mut socket, poll_token(token), Interest::READABLE)?;
        Ok(OsDatagram(socket))
    }

    fn send(&mut self, socket: &mut OsDatagram, datagram: &[u8]) -> io::Result<usize> {
        uninterrupted(|| socket.0.send(datagram))
    }

    fn receive(&mut self, socket: &mut OsDatagram, into: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| socket.0.recv(into))
    }

    fn close_datagram(&mut self, socket: OsDatagram) {
        drop(socket);
    }

    fn wait(
        &mut self,
        timeout: Option<Duration>,
        until: Option<Duration>,
        ready: &mut Vec<Readiness>,
    ) -> io::Result<bool> {
        let timeout = match until {
            Some(until) if timeout != Some(Duration::ZERO) => {
                self.alarm.cover(timeout, until, self.epoch)?
            }
            _ => timeout,
        };
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            // The events of the poll before may still stand in the list: they are not to be read.
            // Whatever is ready was not told, so it counts as a list that was full.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(error),
        }
        let mut told = 0;
        for event in &self.events {
            told += 1;
            if event.token() == ALARM {
                self.alarm.has_rung();
            } else {
                ready.push(readiness(event));
            }
        }
        // The list may hold more than was asked for; what the system is given is its capacity.
        Ok(told >= self.events.capacity())
    }

    fn now(&mut self) -> Duration {
        clock().saturating_duration_since(self.epoch)
    }

    fn epoch(&self) -> Instant {
        self.epoch
    }

    #[allow(clippy::disallowed_methods, reason = "the one place that reads the calendar")]
    fn wall(&mut self) -> SystemTime {
        SystemTime::now()
    }

    fn random(&mut self, into: &mut [u8]) -> io::Result<()> {
        getrandom::getrandom(into).map_err(|error| match error.raw_os_error() {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::other(error.to_string()),
        })
    }

    fn resolver_files(&mut self) -> ResolverFiles {
        ResolverFiles {
            hosts: std::fs::read("/etc/hosts").ok(),
            resolv_conf: std::fs::read("/etc/resolv.conf").ok(),
            nsswitch: std::fs::read("/etc/nsswitch.conf").ok(),
        }
    }

    fn start_system_lookup(&mut self, host: &str, ticket: u64) -> io::Result<()> {
        let question = Question { host: host.to_owned(), ticket };
        match &self.helper {
            Some(helper) => helper.ask(question),
            None => self.helper.insert(Helper::start(&self.poll)?).ask(question),
        }
    }

    fn next_system_answer(&mut self) -> Option<SystemAnswer> {
        self.helper.as_ref()?.answers.try_recv().ok()
    }
}

/// The thread that runs `getaddrinfo`, one lookup after another.
///
/// It holds no end that keeps [`OsNet`] alive and is never joined: it ends when the channel of
/// questions closes, or, where `getaddrinfo` hangs, when that returns.
struct Helper {
    questions: Sender<Question>,
    answers: Receiver<SystemAnswer>,
}

struct Question {
    host: String,
    ticket: u64,
}

impl Helper {
    fn start(poll: &Poll) -> io::Result<Self> {
        let waker = Arc::new(Waker::new(poll.registry(), poll_token(Token::WAKER))?);
        let (questions, asked) = mpsc::channel::<Question>();
        let (answered, answers) = mpsc::channel();
        thread::Builder::new().name("whippet-lookup".to_owned()).spawn(move || {
            for Question { host, ticket } in asked {
                let found = (host.as_str(), 0).to_socket_addrs();
                let addresses = found.map(|list| list.map(|address| address.ip()).collect());
                if answered.send(SystemAnswer { ticket, addresses }).is_err() {
                    return;
                }
                // Waking fails only where the descriptor is gone, and then nobody waits.
                let _ = waker.wake();
            }
        })?;
        Ok(Self { questions, answers })
    }

    fn ask(&self, question: Question) -> io::Result<()> {
        self.questions
            .send(question)
            .map_err(|_| io::Error::other("the thread of the system's resolver has ended"))
    }
}

impl fmt::Debug for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helper").finish_non_exhaustive()
    }
}

/// The only reading of the monotonic clock.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
fn clock() -> Instant {
    Instant::now()
}

/// The alarm's own token: no socket is given it, for keys leave their upper bits free.
const ALARM: mio::Token = mio::Token(usize::MAX - 1);

/// What the poll reports, in the terms of [`Readiness`]. An error is also something to read.
fn readiness(event: &mio::event::Event) -> Readiness {
    let mut bits = 0;
    if event.is_readable() {
        bits |= Readiness::READABLE;
    }
    if event.is_writable() {
        bits |= Readiness::WRITABLE;
    }
    if event.is_read_closed() {
        bits |= Readiness::READ_CLOSED;
    }
    if event.is_error() || event.is_write_closed() {
        bits |= Readiness::ERROR | Readiness::READABLE;
    }
    Readiness { token: Token(event.token().0 as u64), bits }
}

/// No bit is lost: other than 64-bit targets do not compile.
fn poll_token(token: Token) -> mio::Token {
    mio::Token(usize::try_from(token.0).unwrap_or(usize::MAX))
}

/// A socket that does not block, by one system call.
#[cfg(any(
    target_os = "android",
    target_os = "dragonfly",
    target_os = "freebsd",
    target_os = "illumos",
    target_os = "linux",
    target_os = "netbsd",
    target_os = "openbsd",
))]
fn open_stream(domain: Domain, protocol: Option<Protocol>) -> io::Result<Socket> {
    Socket::new(domain, Type::STREAM.nonblocking(), protocol)
}

/// A socket that does not block.
#[cfg(not(any(
    target_os = "android",
    target_os = "dragonfly",
    target_os = "freebsd",
    target_os = "illumos",
    target_os = "linux",
    target_os = "netbsd",
    target_os = "openbsd",
)))]
fn open_stream(domain: Domain, protocol: Option<Protocol>) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, protocol)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Whether a connect that does not block has begun. The standard library has no stable name for
/// this kind of error. To a socket of the file system, `WouldBlock` says that its list of those
/// who wait is full, and nothing has begun (connect(2)).
fn is_in_progress(error: &io::Error, to: &SockAddr) -> bool {
    let would_block = error.kind() == io::ErrorKind::WouldBlock;
    error.raw_os_error() == Some(EINPROGRESS) || (would_block && !to.is_unix())
}

/// Repeats `call` while a signal interrupts it.
fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(any(target_os = "android", target_os = "linux"))]
const EINPROGRESS: i32 = 115;
#[cfg(target_os = "illumos")]
const EINPROGRESS: i32 = 150;
/// The BSDs and Apple's systems. Windows says `WouldBlock`.
#[cfg(not(any(target_os = "android", target_os = "linux", target_os = "illumos")))]
const EINPROGRESS: i32 = 36;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// Waits until an event of `token` brings all of `bits`, and returns every bit it brought.
    fn wait_for(net: &mut OsNet, token: Token, bits: u8) -> u8 {
        let mut seen = 0;
        let mut ready = Vec::new();
        let start = net.now();
        while seen & bits != bits {
            assert!(net.now() - start < LIMIT, "bits {bits:#b} expected, {seen:#b} seen");
            ready.clear();
            net.wait(Some(LIMIT), None, &mut ready).unwrap();
            seen |= ready.iter().filter(|r| r.token == token).fold(0, |all, r| all | r.bits);
        }
        seen
    }

    fn pair(net: &mut OsNet, token: Token) -> (OsStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = net.connect(listener.local_addr().unwrap(), token).unwrap();
        let far = listener.accept().unwrap().0;
        let bits = wait_for(net, token, Readiness::WRITABLE);
        assert_eq!(bits, Readiness::WRITABLE);
        assert!(net.take_error(&mut near).unwrap().is_none());
        assert!(near.0.nodelay().unwrap());
        (near, far)
    }

    #[test]
    fn bytes_go_both_ways_and_a_drained_socket_would_block() {
        let mut net = OsNet::new(8).unwrap();
        let (mut near, mut far) = pair(&mut net, Token(7));
        assert_eq!(net.write(&mut near, b"ping").unwrap(), 4);
        let mut got = [0; 4];
        far.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"ping");
        far.write_all(b"pong").unwrap();
        let bits = wait_for(&mut net, Token(7), Readiness::READABLE);
        assert_eq!(bits & (Readiness::READ_CLOSED | Readiness::ERROR), 0);
        let mut into = [0; 16];
        assert_eq!(net.read(&mut near, &mut into).unwrap(), 4);
        let error = net.read(&mut near, &mut into).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        net.close(near);
        assert_eq!(far.read(&mut got).unwrap(), 0);
    }

    #[test]
    fn data_and_fin_in_one_event_are_read_closed() {
        let mut net = OsNet::new(8).unwrap();
        let (mut near, mut far) = pair(&mut net, Token(u64::MAX - 2));
        far.write_all(b"last").unwrap();
        drop(far);
        wait_for(&mut net, Token(u64::MAX - 2), Readiness::READABLE | Readiness::READ_CLOSED);
        let mut into = [0; 16];
        assert_eq!(net.read(&mut near, &mut into).unwrap(), 4);
        assert_eq!(net.read(&mut near, &mut into).unwrap(), 0);
    }

    #[test]
    fn a_refused_connect_is_an_error_event() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut net = OsNet::new(8).unwrap();
        let mut stream = net.connect(address, Token(1)).unwrap();
        let expected = Readiness::WRITABLE | Readiness::READABLE | Readiness::ERROR;
        let bits = wait_for(&mut net, Token(1), expected);
        assert_ne!(bits & Readiness::READ_CLOSED, 0);
        let error = net.take_error(&mut stream).unwrap().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(net.take_error(&mut stream).unwrap().is_none());
    }

    #[test]
    fn datagrams_come_and_a_closed_port_refuses() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut net = OsNet::new(8).unwrap();
        let mut socket = net.open_datagram(server.local_addr().unwrap(), Token(3)).unwrap();
        assert_eq!(net.send(&mut socket, b"who").unwrap(), 3);
        let mut into = [0; 16];
        let (_, from) = server.recv_from(&mut into).unwrap();
        server.send_to(b"me", from).unwrap();
        wait_for(&mut net, Token(3), Readiness::READABLE);
        assert_eq!(net.receive(&mut socket, &mut into).unwrap(), 2);
        let error = net.receive(&mut socket, &mut into).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);

        drop(server);
        net.send(&mut socket, b"who").unwrap();
        wait_for(&mut net, Token(3), Readiness::READABLE | Readiness::ERROR);
        let error = net.receive(&mut socket, &mut into).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        net.close_datagram(socket);
    }

    #[test]
    fn a_full_list_of_events_is_told() {
        let mut net = OsNet::new(1).unwrap();
        let (_first, mut far_first) = pair(&mut net, Token(1));
        let (_second, mut far_second) = pair(&mut net, Token(2));
        far_first.write_all(b"x").unwrap();
        far_second.write_all(b"x").unwrap();
        let mut seen = Vec::new();
        while seen.len() < 2 {
            let known = seen.len();
            assert!(net.wait(Some(LIMIT), None, &mut seen).unwrap());
            assert_eq!(seen.len(), known + 1, "appends, one at a time");
        }
        assert!(!net.wait(Some(Duration::ZERO), None, &mut seen).unwrap());
        assert_eq!(seen.len(), 2);
        let mut tokens: Vec<u64> = seen.iter().map(|r| r.token.0).collect();
        tokens.sort_unstable();
        assert_eq!(tokens, [1, 2]);
    }

    /// Polls `outer` without sleeping and counts its events.
    #[cfg(unix)]
    fn outer_events(outer: &mut Poll, timeout: Duration) -> usize {
        let mut events = Events::with_capacity(8);
        outer.poll(&mut events, Some(timeout)).unwrap();
        events.iter().filter(|event| event.is_readable()).count()
    }

    #[cfg(unix)]
    #[test]
    fn an_outer_poll_sees_one_edge_for_each_batch() {
        let mut net = OsNet::new(8).unwrap();
        let (mut near, mut far) = pair(&mut net, Token(1));
        let mut outer = Poll::new().unwrap();
        let descriptor = net.as_raw_fd();
        assert_eq!(descriptor, net.as_fd().as_raw_fd());
        let mut source = mio::unix::SourceFd(&descriptor);
        outer.registry().register(&mut source, mio::Token(0), Interest::READABLE).unwrap();
        assert_eq!(outer_events(&mut outer, Duration::ZERO), 0);
        let mut into = [0; 16];
        for _ in 0..3 {
            far.write_all(b"x").unwrap();
            assert_eq!(outer_events(&mut outer, LIMIT), 1);
            assert_eq!(outer_events(&mut outer, Duration::ZERO), 0);
            let mut ready = Vec::new();
            assert!(!net.wait(Some(Duration::ZERO), None, &mut ready).unwrap());
            assert_eq!(ready.len(), 1);
            assert_eq!(net.read(&mut near, &mut into).unwrap(), 1);
        }
    }

    #[test]
    fn a_sleep_ends_when_the_clock_reads_its_end_and_an_earlier_one_sooner() {
        let mut net = OsNet::new(8).unwrap();
        let mut ready = Vec::new();
        let far = net.now() + LIMIT;
        assert!(!net.wait(Some(Duration::from_millis(1)), Some(far), &mut ready).unwrap());
        for _ in 0..3 {
            let until = net.now() + Duration::from_millis(3);
            while net.now() < until {
                assert!(!net.wait(None, Some(until), &mut ready).unwrap());
            }
        }
        assert!(!net.wait(None, Some(Duration::ZERO), &mut ready).unwrap(), "it is past");
        assert!(net.now() < far);
        assert_eq!(ready, []);
    }

    #[test]
    fn what_is_ready_comes_before_the_end_of_a_sleep() {
        let mut net = OsNet::new(8).unwrap();
        let (_near, mut far) = pair(&mut net, Token(1));
        let until = net.now() + LIMIT;
        far.write_all(b"x").unwrap();
        let mut ready = Vec::new();
        assert!(!net.wait(None, Some(until), &mut ready).unwrap());
        assert_eq!(ready.iter().map(|event| event.token).collect::<Vec<_>>(), [Token(1)]);
        assert!(net.now() < until);
    }

    #[test]
    fn a_system_lookup_wakes_the_wait() {
        let mut net = OsNet::new(8).unwrap();
        assert!(net.next_system_answer().is_none());
        net.start_system_lookup("localhost", 5).unwrap();
        net.start_system_lookup("no\0name", 6).unwrap();
        let mut answers = Vec::new();
        let mut ready = Vec::new();
        while answers.len() < 2 {
            ready.clear();
            net.wait(Some(LIMIT), None, &mut ready).unwrap();
            assert_eq!(ready.first().map(|r| r.token), Some(Token::WAKER));
            answers.extend(std::iter::from_fn(|| net.next_system_answer()));
        }
        assert_eq!((answers[0].ticket, answers[1].ticket), (5, 6));
        let addresses = answers[0].addresses.as_ref().unwrap();
        assert!(!addresses.is_empty() && addresses.iter().all(IpAddr::is_loopback));
        assert!(answers[1].addresses.is_err());
    }

    #[test]
    fn clocks_and_randomness() {
        let mut net = OsNet::new(0).unwrap();
        let first = net.now();
        assert!(net.now() >= first);
        assert!(net.wall() > SystemTime::UNIX_EPOCH);
        let mut bytes = [0; 32];
        net.random(&mut bytes).unwrap();
        assert_ne!(bytes, [0; 32]);
        assert!(net.wait(Some(Duration::ZERO), None, &mut Vec::new()).is_ok());
    }
}
