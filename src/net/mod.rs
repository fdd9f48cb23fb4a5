//! Floor 1. All that the outside world gives: sockets, readiness, clocks, randomness, files.
//!
//! The reactor knows the world only through [`Net`]. Two kinds of implementation exist: the
//! operating system ([`OsNet`]) and simulated networks in tests. The trait is public for those
//! simulators and is outside semantic versioning.
//!
//! # The contract of readiness
//!
//! Sockets are registered once, for reading and writing, edge-triggered. An implementation may
//! report events that are spurious or whose socket is gone; it must report a new edge whenever
//! a socket that answered `WouldBlock`, or that gave fewer bytes than asked without having been
//! reported [`Readiness::READ_CLOSED`], becomes ready again.

mod os;
mod traced;

pub use os::{OsDatagram, OsNet, OsStream};
pub use traced::{Traced, TracedStream};

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use crate::socket::{Peer, SocketSettings};
use crate::trace::{TraceEvent, TracedSocket};

/// What a socket's events carry back: chosen by the reactor, opaque here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Token(pub u64);

impl Token {
    /// Reserved for the wake-up of [`Net::wait`] by another thread; never given to a socket. Its
    /// event tells that [`Net::next_system_answer`] has something.
    pub const WAKER: Self = Self(u64::MAX);
}

/// One event: a socket's token and what became possible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Readiness {
    /// The token the socket was opened with.
    pub token: Token,
    /// A union of the constants of this type.
    pub bits: u8,
}

impl Readiness {
    /// Bytes, a datagram, an EOF or an error can be read.
    pub const READABLE: u8 = 1;
    /// Bytes can be written, or a connect ended.
    pub const WRITABLE: u8 = 2;
    /// The peer closed its half (or all): read on until EOF, a short read is not the end.
    pub const READ_CLOSED: u8 = 4;
    /// The socket has an error, or both halves are closed.
    pub const ERROR: u8 = 8;

    /// Whether any of `bits` is set.
    pub fn has(self, bits: u8) -> bool {
        self.bits & bits != 0
    }
}

/// What the system's resolver is configured with, read once. `None`: absent or unreadable.
#[derive(Clone, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "simulators build it")]
pub struct ResolverFiles {
    /// `/etc/hosts`.
    pub hosts: Option<Vec<u8>>,
    /// `/etc/resolv.conf`.
    pub resolv_conf: Option<Vec<u8>>,
    /// `/etc/nsswitch.conf`.
    pub nsswitch: Option<Vec<u8>>,
}

/// A lookup by the system's resolver that ended.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "simulators build it")]
pub struct SystemAnswer {
    /// The ticket given to [`Net::start_system_lookup`].
    pub ticket: u64,
    /// Its addresses in the system's order of preference, or why there are none.
    pub addresses: io::Result<Vec<IpAddr>>,
}

/// The outside world. Only [`Self::wait`] may block.
pub trait Net {
    /// A socket that carries a stream: TCP's, or one of the file system.
    type Stream;
    /// A UDP socket connected to one peer, from a random port.
    type Datagram;

    /// Begins to connect. The stream is registered; [`Readiness::WRITABLE`] tells that the
    /// attempt ended, [`Self::take_error`] how.
    fn connect(&mut self, to: SocketAddr, token: Token) -> io::Result<Self::Stream>;
    /// The same for a socket that is made by `settings`, and to a socket of the file system. Where
    /// a network does not say otherwise, it knows no such settings, and no such sockets.
    fn connect_by(
        &mut self,
        to: Peer<'_>,
        settings: &SocketSettings,
        token: Token,
    ) -> io::Result<Self::Stream> {
        let _ = settings;
        match to {
            Peer::Address(to) => self.connect(to, token),
            Peer::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
    /// Reads at most `into.len()` bytes; `Ok(0)` is EOF where `into` is not empty.
    fn read(&mut self, stream: &mut Self::Stream, into: &mut [u8]) -> io::Result<usize>;
    /// Writes a prefix of `bytes` and says how long it is.
    fn write(&mut self, stream: &mut Self::Stream, bytes: &[u8]) -> io::Result<usize>;
    /// Ends what is written: behind it the peer reads an EOF. Reading goes on; nothing is written
    /// afterwards.
    fn shutdown(&mut self, stream: &mut Self::Stream) -> io::Result<()>;
    /// The pending error of a socket, cleared by asking.
    fn take_error(&mut self, stream: &mut Self::Stream) -> io::Result<Option<io::Error>>;
    /// Closes; no event of this socket means anything afterwards.
    fn close(&mut self, stream: Self::Stream);

    /// Opens a UDP socket on a random local port, connected to `to`: the kernel drops what
    /// comes from elsewhere.
    fn open_datagram(&mut self, to: SocketAddr, token: Token) -> io::Result<Self::Datagram>;
    /// Sends one datagram.
    fn send(&mut self, socket: &mut Self::Datagram, datagram: &[u8]) -> io::Result<usize>;
    /// Receives one datagram. Must be called until `WouldBlock` after each readable event.
    fn receive(&mut self, socket: &mut Self::Datagram, into: &mut [u8]) -> io::Result<usize>;
    /// Closes.
    fn close_datagram(&mut self, socket: Self::Datagram);

    /// Sleeps until something is ready, `timeout` has passed or the clock reads `until` (`None`:
    /// without limit), and appends the events to `ready`. It may wake sooner: an interruption by a
    /// signal is an empty success. `true`: as many as fit, more may be ready already.
    fn wait(
        &mut self,
        timeout: Option<Duration>,
        until: Option<Duration>,
        ready: &mut Vec<Readiness>,
    ) -> io::Result<bool>;

    /// The monotonic clock: time since [`Self::epoch`]. Read once a turn.
    fn now(&mut self) -> Duration;
    /// Where the monotonic clock reads zero, for translating a caller's [`Instant`].
    fn epoch(&self) -> Instant;
    /// The calendar's clock, for dates in headers.
    fn wall(&mut self) -> SystemTime;
    /// Fills `into` from a cryptographic generator.
    fn random(&mut self, into: &mut [u8]) -> io::Result<()>;

    /// The resolver's configuration as it is now.
    fn resolver_files(&mut self) -> ResolverFiles;
    /// Begins a lookup by the system's resolver (`getaddrinfo`), on a helper thread that is
    /// started by the first call. [`Self::wait`] wakes when it has ended.
    fn start_system_lookup(&mut self, host: &str, ticket: u64) -> io::Result<()>;
    /// The next lookup that ended.
    fn next_system_answer(&mut self) -> Option<SystemAnswer>;

    /// Whether [`Self::trace`] is told anything. Where it is not, watching costs nothing.
    const IS_TRACED: bool = false;
    /// A step was made.
    fn trace(&mut self, event: &TraceEvent<'_>) {
        let _ = event;
    }
    /// A stream's number, and what it has carried; none where nobody counts.
    fn traced_socket(&self, stream: &Self::Stream) -> Option<TracedSocket> {
        let _ = stream;
        None
    }
}
