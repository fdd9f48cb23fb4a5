//! Floor 2. The socket of one query: a datagram socket, or a stream of framed messages.

use std::io;

use crate::net::{Net, Token};
use crate::wire::dns::lookup::{Frames, Transmit, Transport};

/// One socket, connected to one server.
pub(super) enum Link<N: Net> {
    /// Not opened yet, or closed.
    Closed,
    /// `left`: how many more datagrams are looked at.
    Datagram { socket: N::Datagram, left: usize },
    /// `unsent`: what the kernel has not taken of the query. `left`: how many more bytes are read.
    Stream { stream: N::Stream, unsent: Vec<u8>, frames: Frames, left: usize },
}

/// What one call of [`Link::receive`] gave.
pub(super) enum Heard {
    /// A message, which may be anything.
    Message(Vec<u8>),
    /// Nothing more until the next event.
    Nothing,
}

impl<N: Net> Link<N> {
    /// Opens a socket for this query.
    pub(super) fn open(net: &mut N, transmit: Transmit, token: Token) -> io::Result<Self> {
        Ok(match transmit.transport {
            Transport::Udp => Self::Datagram {
                socket: net.open_datagram(transmit.server, token)?,
                left: DATAGRAMS_MAX,
            },
            Transport::Tcp => Self::Stream {
                stream: net.connect(transmit.server, token)?,
                unsent: Vec::new(),
                frames: Frames::default(),
                left: STREAM_BYTES_MAX,
            },
        })
    }

    /// Sends the query: a datagram at once, a stream's when it is connected.
    pub(super) fn send(&mut self, net: &mut N, bytes: Vec<u8>) -> io::Result<()> {
        match self {
            Self::Closed => Ok(()),
            Self::Datagram { socket, .. } => match net.send(socket, &bytes) {
                // As good as lost on the way: it will be sent again.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                sent => sent.map(|_| ()),
            },
            Self::Stream { unsent, .. } => {
                *unsent = bytes;
                Ok(())
            }
        }
    }

    /// Reads the next message after an event. To be called again until it gives nothing or an
    /// error, which comes at the latest when more was read than an honest server sends.
    pub(super) fn receive(&mut self, net: &mut N, scratch: &mut [u8]) -> io::Result<Heard> {
        match self {
            Self::Closed => Ok(Heard::Nothing),
            Self::Datagram { socket, left } => {
                let Some(length) = until_blocked(|| net.receive(socket, scratch))? else {
                    return Ok(Heard::Nothing);
                };
                *left = left.checked_sub(1).ok_or_else(too_much)?;
                Ok(Heard::Message(scratch.get(..length).unwrap_or_default().to_vec()))
            }
            Self::Stream { stream, unsent, frames, left } => {
                if let Some(error) = net.take_error(stream)? {
                    return Err(error);
                }
                while !unsent.is_empty() {
                    match until_blocked(|| net.write(stream, unsent))? {
                        Some(0) => return Err(io::ErrorKind::WriteZero.into()),
                        Some(sent) => drop(unsent.drain(..sent.min(unsent.len()))),
                        None => return Ok(Heard::Nothing),
                    }
                }
                loop {
                    if let Some(message) = frames.next_message() {
                        return Ok(Heard::Message(message));
                    }
                    let Some(length) = until_blocked(|| net.read(stream, scratch))? else {
                        return Ok(Heard::Nothing);
                    };
                    *left = left.checked_sub(length).ok_or_else(too_much)?;
                    match scratch.get(..length) {
                        Some(bytes) if length > 0 => frames.receive(bytes),
                        _ => return Err(io::ErrorKind::UnexpectedEof.into()),
                    }
                }
            }
        }
    }

    pub(super) fn close(self, net: &mut N) {
        match self {
            Self::Closed => {}
            Self::Datagram { socket, .. } => net.close_datagram(socket),
            Self::Stream { stream, .. } => net.close(stream),
        }
    }
}

/// `None` where it would block. A stream that is not connected yet counts as that: an event may
/// be about nothing.
fn until_blocked(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match call() {
            Ok(length) => return Ok(Some(length)),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected => return Ok(None),
                _ => return Err(error),
            },
        }
    }
}

fn too_much() -> io::Error {
    io::Error::other("it sends too much that was not asked for")
}

/// Whether no socket can be had now that may be had soon. `WouldBlock` is what Linux answers when
/// the local ports are used up.
pub(super) fn is_scarcity(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory)
        || matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

/// Datagrams that are looked at on one socket: one is the answer, the others are forged.
const DATAGRAMS_MAX: usize = 64;
/// Two of the longest messages.
const STREAM_BYTES_MAX: usize = 2 * (2 + 65_535);
/// The same on every Unix.
const ENFILE: i32 = 23;
pub(super) const EMFILE: i32 = 24;
