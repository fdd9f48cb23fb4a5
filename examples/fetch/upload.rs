//! What comes through standard input or a pipe, on its way out as one fetch's body.
//!
//! In go the reactor's word that there is room, and the poll's that there is something to read; out
//! come bytes, as they come and no faster than the fetch takes them. Nothing here waits.

use std::io;
use std::ops::Range;
use std::path::Path;

use mio::{Registry, Token};
use whippet::net::Net;
use whippet::{FetchId, Reactor};

use super::source::{STDIN_NAME, name_of};
use super::stdio::Inlet;

/// A body that is read while it is sent.
#[derive(Debug)]
pub(crate) struct Upload {
    name: String,
    inlet: Inlet,
    piece: Box<[u8]>,
    /// What of the piece was read, and not taken by the fetch.
    rest: Range<usize>,
    state: State,
}

/// Who is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The fetch, until it has room.
    Full,
    /// Nobody: the fetch has room, and there may be something to read.
    Flowing(FetchId),
    /// Whoever writes into the pipe, until the poll tells.
    Empty(FetchId),
}

impl Upload {
    /// Of `path`, or of standard input for `-`.
    pub(crate) fn open(path: &Path, registry: &Registry, token: Token) -> Result<Self, String> {
        let name = name_of(path);
        let inlet =
            Inlet::open(path, registry, token).map_err(|error| format!("{name}: {error}"))?;
        let piece = vec![0; PIECE_BYTES].into();
        Ok(Self { name, inlet, piece, rest: 0..0, state: State::Full })
    }

    /// The fetch has room.
    pub(crate) fn ask(&mut self, fetch: FetchId) {
        self.state = State::Flowing(fetch);
    }

    /// The poll tells that there is something to read.
    pub(crate) fn set_ready(&mut self) {
        self.inlet.set_ready();
        if let State::Empty(fetch) = self.state {
            self.state = State::Flowing(fetch);
        }
    }

    /// Whether it comes through standard input.
    pub(crate) fn is_typed(&self) -> bool {
        self.name == STDIN_NAME
    }

    /// Whether it waits for the poll to tell.
    pub(crate) fn is_blocked(&self) -> bool {
        matches!(self.state, State::Empty(_))
    }

    /// Gives the fetch what there is, as long as it has room: an event tells when it has again. An
    /// error is one of reading, and whose body it was.
    pub(crate) fn give<N: Net>(
        &mut self,
        reactor: &mut Reactor<N>,
        registry: &Registry,
    ) -> Result<(), (FetchId, String)> {
        while let State::Flowing(fetch) = self.state {
            if !self.rest.is_empty() {
                // Where it is refused, the fetch has ended or was answered: nobody wants the rest,
                // unless another attempt asks for it.
                match reactor.send_body(fetch, &self.piece[self.rest.clone()]) {
                    Ok(taken) if taken > 0 => self.rest.start += taken,
                    Ok(_) | Err(_) => self.state = State::Full,
                }
                continue;
            }
            match self.inlet.read(&mut self.piece, registry) {
                Ok(0) => {
                    // Refused for the same reasons.
                    let _ = reactor.finish_body(fetch);
                    self.state = State::Full;
                }
                Ok(read) => self.rest = 0..read,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => self.state = State::Empty(fetch),
                    io::ErrorKind::Interrupted => {}
                    _ => {
                        self.state = State::Full;
                        return Err((fetch, format!("{}: {error}", self.name)));
                    }
                },
            }
        }
        Ok(())
    }
}

/// What a pipe holds, and the most that a fetch takes at once.
const PIECE_BYTES: usize = 64 << 10;
