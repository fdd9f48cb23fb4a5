//! The top: the bytes of a [`Stream`], read and written.
//!
//! In go a piece that came, and what the caller writes; out come its bytes, and why no more are
//! taken.

use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;

use super::{Progress, Stream};
use crate::error::{Error, Kind, Phase};
use crate::net::Net;
use crate::reactor::{BodyRefused, Unsent};

/// Why what the caller writes is not taken.
#[derive(Debug)]
pub(super) enum Halt {
    /// The fetch has failed.
    Failed(Error),
    /// The fetch goes on, or is done.
    Refused(BodyRefused),
    /// The connection takes nothing any more; what the server said before is to be read.
    Lost,
}

impl From<Halt> for io::Error {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Failed(error) => error.into(),
            Halt::Refused(refused @ (BodyRefused::Unwanted | BodyRefused::Gone)) => {
                Self::new(io::ErrorKind::BrokenPipe, refused)
            }
            Halt::Refused(refused) => Self::new(io::ErrorKind::InvalidInput, refused),
            Halt::Lost => Self::new(io::ErrorKind::BrokenPipe, LOST),
        }
    }
}

impl From<Halt> for Error {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Failed(error) => error,
            Halt::Refused(refused) => {
                let what = "the body cannot be finished";
                Self::new(Kind::InvalidRequest, Phase::Send, what).caused_by(Arc::new(refused))
            }
            Halt::Lost => Self::new(Kind::Closed, Phase::Send, LOST),
        }
    }
}

/// Reading.
impl<N: Net> Stream<'_, N> {
    /// What has come and was not used up; sleeps where that is nothing. Nothing: the end.
    pub(super) fn next_piece(&mut self) -> Result<&[u8], Error> {
        while self.piece.is_empty() {
            match &self.progress {
                Progress::Running => self.wait(),
                Progress::Done => break,
                Progress::Failed(error) => return Err(error.clone()),
            }
        }
        Ok(self.piece.unread())
    }

    /// So much of the piece in hand was taken.
    pub(super) fn use_up(&mut self, count: usize) {
        let piece = &mut self.piece;
        piece.at = piece.at.saturating_add(count).min(piece.bytes.len());
    }
}

/// The body, decoded, as it comes: sleeps until there is some of it. 0 bytes: its end.
///
/// # Errors
/// They hold the [`Error`] of the fetch, and come behind the bytes that came before.
impl<N: Net> Read for Stream<'_, N> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        let piece = self.next_piece()?;
        let count = piece.len().min(into.len());
        into[..count].copy_from_slice(&piece[..count]);
        self.use_up(count);
        Ok(count)
    }
}

/// The same without a copy, and by lines.
///
/// ```no_run
/// use std::io::BufRead;
///
/// let mut client = whippet::Client::new()?;
/// for line in client.stream("http://127.0.0.1:8080/events")?.lines() {
///     println!("{}", line?);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl<N: Net> BufRead for Stream<'_, N> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(self.next_piece()?)
    }

    fn consume(&mut self, count: usize) {
        self.use_up(count);
    }
}

/// Writing.
impl<N: Net> Stream<'_, N> {
    /// The end of a pushed body; sleeps until it is being sent. Nothing is left to do where its
    /// length was announced and has come, or where the server has answered and wants no more.
    ///
    /// Of an upgraded fetch it ends what this side says, and what the server says is read on. What
    /// it sends goes out while a later call waits; [`flush`](Write::flush) waits for it.
    ///
    /// # Errors
    /// One that holds a [`BodyRefused`]: [`TooShort`](BodyRefused::TooShort) where less was
    /// written than was announced, [`NotPushed`](BodyRefused::NotPushed) where nothing is pushed.
    /// Otherwise the [`Error`] that the fetch has failed with.
    pub fn finish_body(&mut self) -> io::Result<()> {
        self.finish_body_with(&[])
    }

    /// The same, with trailer fields (RFC 9112 §7.1.2): only where no length was announced.
    ///
    /// # Errors
    /// As [`Self::finish_body`]; [`BodyRefused::Trailers`] for fields that cannot be sent, or not
    /// in a trailer section (RFC 9110 §6.5.1).
    ///
    /// ```no_run
    /// use std::io::Write;
    /// use whippet::{Body, Client, Request};
    ///
    /// let mut client = Client::new()?;
    /// let request = Request::put("http://127.0.0.1:8080/x")?.body(Body::pushed());
    /// let mut stream = client.stream(request)?;
    /// stream.write_all(b"hello")?;
    /// stream.finish_body_with(&[("X-Bytes", "5")])?;
    /// println!("{}", stream.head()?.status());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn finish_body_with(&mut self, trailers: &[(&str, &str)]) -> io::Result<()> {
        Ok(self.finish(trailers)?)
    }

    pub(super) fn finish(&mut self, trailers: &[(&str, &str)]) -> Result<(), Halt> {
        loop {
            match self.client.reactor.finish_body_with(self.id, trailers) {
                Ok(()) => return Ok(()),
                Err(refused) => match self.refused(refused) {
                    // What has come before it tells more than that it is not wanted.
                    Err(Halt::Refused(BodyRefused::Unwanted) | Halt::Lost) => return Ok(()),
                    judged => judged?,
                },
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<usize, Halt> {
        loop {
            match self.client.reactor.send_body(self.id, bytes) {
                Ok(0) => self.wait_for_room()?,
                Ok(count) => return Ok(count),
                Err(refused) => self.refused(refused)?,
            }
        }
    }

    /// A refusal is for good, or passes: then something was waited for.
    fn refused(&mut self, refused: BodyRefused) -> Result<(), Halt> {
        let awaits_switch = self.request.parts.choices.upgrade && self.answer.is_none();
        let may_pass = match refused {
            // Its end is not told yet.
            BodyRefused::Gone | BodyRefused::NotYet => true,
            BodyRefused::NotPushed => awaits_switch,
            _ => false,
        };
        match (&self.progress, refused) {
            (Progress::Failed(error), _) => Err(Halt::Failed(error.clone())),
            (Progress::Running, _) if may_pass => self.wait_for_room(),
            (Progress::Done, BodyRefused::Gone) => Err(Halt::Refused(BodyRefused::Unwanted)),
            // A redirect leads to a request without it.
            (_, BodyRefused::NotPushed) if self.request.is_pushed() => {
                Err(Halt::Refused(BodyRefused::Unwanted))
            }
            (_, refused) => Err(Halt::Refused(refused)),
        }
    }

    /// Waits for whatever may make room to write. What is read meanwhile is one piece at most.
    fn wait_for_room(&mut self) -> Result<(), Halt> {
        if !self.piece.is_empty() && self.client.reactor.unsent(self.id) == Unsent::Lost {
            // Why is known only when the rest was read, for which there is no place now.
            return Err(Halt::Lost);
        }
        self.wait();
        Ok(())
    }
}

/// The request's body, where it is [pushed](crate::Body::pushed), or what is said after an upgrade:
/// sleeps until there is room.
///
/// `flush` sleeps until the system has taken all that was written.
///
/// # Errors
/// One that holds a [`BodyRefused`] where these bytes are not taken, while the fetch goes on or is
/// done; of kind `BrokenPipe` where the server takes no more of them. One that holds the
/// [`Error`] of the fetch where that has failed.
impl<N: Net> Write for Stream<'_, N> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        Ok(self.push(bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.client.reactor.unsent(self.id) != Unsent::Nothing {
            self.wait_for_room()?;
        }
        match &self.progress {
            Progress::Failed(error) => Err(error.clone().into()),
            Progress::Running | Progress::Done => Ok(()),
        }
    }
}

const LOST: &str = "the connection takes no more; what the server said before can be read";
