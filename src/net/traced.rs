//! Floor 1. A network that somebody watches: the same as the one inside, which numbers its streams
//! and counts what they carry, and hands on what the reactor tells.

use std::fmt;
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

use super::{Net, Readiness, ResolverFiles, SystemAnswer, Token};
use crate::socket::{Peer, SocketSettings};
use crate::trace::{Trace, TraceEvent, TracedSocket};

/// A network, and who watches.
pub struct Traced<N, T> {
    inside: N,
    watcher: T,
    opened: u64,
}

/// A stream of [`Traced`].
#[derive(Debug)]
pub struct TracedStream<S> {
    inside: S,
    socket: TracedSocket,
}

impl<N: Net, T: Trace> Traced<N, T> {
    /// This network, watched.
    pub fn new(inside: N, watcher: T) -> Self {
        Self { inside, watcher, opened: 0 }
    }

    pub(crate) fn watcher(&self) -> &T {
        &self.watcher
    }

    pub(crate) fn watcher_mut(&mut self) -> &mut T {
        &mut self.watcher
    }

    fn numbered(&mut self, inside: N::Stream) -> TracedStream<N::Stream> {
        let socket = TracedSocket { number: self.opened, ..TracedSocket::default() };
        self.opened += 1;
        TracedStream { inside, socket }
    }
}

impl<N: fmt::Debug, T> fmt::Debug for Traced<N, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Traced").field(&self.inside).finish()
    }
}

#[cfg(unix)]
impl<N: AsFd, T> AsFd for Traced<N, T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inside.as_fd()
    }
}

impl<N: Net, T: Trace> Net for Traced<N, T> {
    type Stream = TracedStream<N::Stream>;
    type Datagram = N::Datagram;

    fn connect(&mut self, to: SocketAddr, token: Token) -> io::Result<Self::Stream> {
        let stream = self.inside.connect(to, token)?;
        Ok(self.numbered(stream))
    }

    fn connect_by(
        &mut self,
        to: Peer<'_>,
        settings: &SocketSettings,
        token: Token,
    ) -> io::Result<Self::Stream> {
        let stream = self.inside.connect_by(to, settings, token)?;
        Ok(self.numbered(stream))
    }

    fn read(&mut self, stream: &mut Self::Stream, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inside.read(&mut stream.inside, into)?;
        stream.socket.received_bytes += count as u64;
        Ok(count)
    }

    fn write(&mut self, stream: &mut Self::Stream, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inside.write(&mut stream.inside, bytes)?;
        stream.socket.sent_bytes += count as u64;
        Ok(count)
    }

    fn shutdown(&mut self, stream: &mut Self::Stream) -> io::Result<()> {
        self.inside.shutdown(&mut stream.inside)
    }

    fn take_error(&mut self, stream: &mut Self::Stream) -> io::Result<Option<io::Error>> {
        self.inside.take_error(&mut stream.inside)
    }

    fn close(&mut self, stream: Self::Stream) {
        self.inside.close(stream.inside);
    }

    fn open_datagram(&mut self, to: SocketAddr, token: Token) -> io::Result<Self::Datagram> {
        self.inside.open_datagram(to, token)
    }

    fn send(&mut self, socket: &mut Self::Datagram, datagram: &[u8]) -> io::Result<usize> {
        self.inside.send(socket, datagram)
    }

    fn receive(&mut self, socket: &mut Self::Datagram, into: &mut [u8]) -> io::Result<usize> {
        self.inside.receive(socket, into)
    }

    fn close_datagram(&mut self, socket: Self::Datagram) {
        self.inside.close_datagram(socket);
    }

    fn wait(
        &mut self,
        timeout: Option<Duration>,
        until: Option<Duration>,
        ready: &mut Vec<Readiness>,
    ) -> io::Result<bool> {
        self.inside.wait(timeout, until, ready)
    }

    fn now(&mut self) -> Duration {
        self.inside.now()
    }

    fn epoch(&self) -> Instant {
        self.inside.epoch()
    }

    fn wall(&mut self) -> SystemTime {
        self.inside.wall()
    }

    fn random(&mut self, into: &mut [u8]) -> io::Result<()> {
        self.inside.random(into)
    }

    fn resolver_files(&mut self) -> ResolverFiles {
        self.inside.resolver_files()
    }

    fn start_system_lookup(&mut self, host: &str, ticket: u64) -> io::Result<()> {
        self.inside.start_system_lookup(host, ticket)
    }

    fn next_system_answer(&mut self) -> Option<SystemAnswer> {
        self.inside.next_system_answer()
    }

    const IS_TRACED: bool = true;

    fn trace(&mut self, event: &TraceEvent<'_>) {
        self.watcher.record(event);
    }

    fn traced_socket(&self, stream: &Self::Stream) -> Option<TracedSocket> {
        Some(stream.socket)
    }
}
