//! The top: one fetch whose body comes, and whose request's body goes, piece by piece.
//!
//! In goes a request, and what is written of its body; out come the head, the body as it is read,
//! and the trailers. Each call sleeps until it has what it is for, while other fetches of the
//! client go on. [`transfer`] has the bytes of both ways; this file what is around them.
//!
//! Nothing is collected: one piece of the body at most is in hand, and the fetch is paused from
//! when it came, or the head, until a call waits for more.

mod transfer;

use std::fmt;

use super::{Client, End, poll_error};
use crate::error::{Error, Kind, Phase};
use crate::net::{Net, OsNet};
use crate::reactor::{Event, FetchId};
use crate::request::{IntoRequest, Request};
use crate::response::{Head, Headers, Hop, Response, Stats};

/// What is one fetch's, from [`Client::stream`]: its answer is read from it, and what it pushes is
/// written to it.
///
/// Its calls block: they sleep until the server has done its part, or a limit is over. The time
/// that the caller takes between them counts for [`Limit::Total`](crate::Limit::Total) (30 s, if
/// nothing else was set) and the deadline only. Dropping it cancels this fetch and no other; its
/// connection is kept for others only where the answer is complete.
///
/// **Reading** gives the body, decoded, as it comes, and 0 bytes at its end. An error comes behind
/// all bytes that came before it, and again at each further read; it holds the [`Error`] of the
/// fetch. At most one piece of up to 256 KiB waits here; what comes behind it waits in the kernel,
/// and at last at the server. How long a body may be is not limited, unless by
/// [`Request::body_bytes_max`]. Before the head was had, redirects are followed and attempts
/// repeated as ever; afterwards, none.
///
/// **Writing** sends a [pushed](crate::Body::pushed) body, as fast as the connection takes it, up
/// to [`finish_body`](Self::finish_body) or its announced length. It can be given once: where
/// something of it was taken, no other attempt is made. An answer may come before the body's end.
/// Where that is no success, or is complete, a write fails with
/// [`BrokenPipe`](std::io::ErrorKind::BrokenPipe), and [`head`](Self::head) and reading give the
/// answer.
///
/// After a 101, where the request [asked for it](Request::upgrade), reading gives what the server
/// says, writing says something to it, and [`finish_body`](Self::finish_body) closes our half.
/// As with any socket, who only writes, to a server that waits for its own words to be read, may
/// wait until the total limit ends it.
///
/// ```no_run
/// use std::io::{Read, Write};
/// use whippet::{Client, Request};
///
/// let mut client = Client::new()?;
/// let mut stream = client.stream(Request::get("http://127.0.0.1:8080/")?.upgrade("echo")?)?;
/// if stream.head()?.status() == 101 {
///     stream.write_all(b"hello")?;
///     stream.finish_body()?;
///     let mut echo = Vec::new();
///     stream.read_to_end(&mut echo)?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Stream<'a, N: Net = OsNet> {
    client: &'a mut Client<N>,
    id: FetchId,
    /// As it was submitted.
    request: Request,
    /// The head, once it is there, and the trailers; no body.
    answer: Option<Response>,
    piece: Piece,
    progress: Progress,
    stats: Stats,
}

/// How far its fetch is.
enum Progress {
    Running,
    Done,
    Failed(Error),
}

/// What has come of the body and was not read yet.
#[derive(Default)]
struct Piece {
    bytes: Vec<u8>,
    /// Where the unread bytes begin.
    at: usize,
}

impl Piece {
    fn unread(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.unread().is_empty()
    }

    fn fill(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.at = 0;
    }
}

/// Piece by piece.
impl<N: Net> Client<N> {
    /// Begins a fetch whose answer is read, and whose body is written, piece by piece: Python's
    /// `httpx.stream`, `requests` with `stream=True`. The session's base URL and headers count as
    /// for [`Self::fetch`].
    ///
    /// What was [submitted](Self::submit) before goes on while a call of the [`Stream`] waits, and
    /// is told by [`Self::next_completed`] afterwards. Where too many requests wait already this
    /// call sleeps until there is room; else it does not, and the fetch begins with the first call
    /// that waits.
    ///
    /// # Errors
    /// Those of building the request, and of the system's poll.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use whippet::{Client, Limit, Request};
    ///
    /// let mut client = Client::new()?;
    /// let request = Request::get("https://www.example.com/image.iso")?;
    /// let mut stream = client.stream(request.timeout(Duration::MAX))?;
    /// if stream.head()?.status() == 200 {
    ///     std::io::copy(&mut stream, &mut std::fs::File::create("image.iso")?)?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn stream(&mut self, request: impl IntoRequest) -> Result<Stream<'_, N>, Error> {
        let request = request.into_request(self.base_url.as_ref())?;
        let request = request.collect(false).or_headers(&self.headers).pushed_once();
        let id = self.submit_once_there_is_room(request.clone())?;
        Ok(Stream {
            client: self,
            id,
            request,
            answer: None,
            piece: Piece::default(),
            progress: Progress::Running,
            stats: Stats::default(),
        })
    }

    fn submit_once_there_is_room(&mut self, mut request: Request) -> Result<FetchId, Error> {
        loop {
            match self.reactor.submit(request) {
                Ok(id) => return Ok(id),
                Err(full) => request = full.request,
            }
            match self.next_end() {
                Ok(Some(end)) => self.tell(end),
                Ok(None) => {}
                Err(error) => {
                    self.give_up(&error);
                    return Err(poll_error(&error));
                }
            }
        }
    }
}

/// What is around the body.
impl<N: Net> Stream<'_, N> {
    /// Status and headers of the answer: sleeps until they are there. A server may answer only when
    /// it has all of a pushed body; [finish](Self::finish_body) that first.
    ///
    /// # Errors
    /// Whatever kept the head from coming. What fails later is told by reading.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), whippet::Error> {
    /// let mut client = whippet::Client::new()?;
    /// let mut stream = client.stream("http://127.0.0.1/")?;
    /// let head = stream.head()?;
    /// println!("{} {:?}", head.status(), head.header("content-length"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn head(&mut self) -> Result<Head<'_>, Error> {
        while self.answer.is_none() {
            match &self.progress {
                Progress::Running => self.wait(),
                Progress::Failed(error) => return Err(error.clone()),
                Progress::Done => break,
            }
        }
        let lost = || Error::new(Kind::Io, Phase::Head, "the response was lost");
        self.answer.as_ref().map(Response::head).ok_or_else(lost)
    }

    /// Where the answer is from, after redirects. Before the head was had: the request's own.
    pub fn url(&self) -> &url::Url {
        self.answer.as_ref().map_or_else(|| self.request.url(), Response::url)
    }

    /// The redirects followed, in order; none before the head was had.
    pub fn redirects(&self) -> &[Hop] {
        self.answer.as_ref().map_or(&[], Response::redirects)
    }

    /// The trailer fields (RFC 9112 §7.1.2); none before reading gave 0 bytes.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut client = whippet::Client::new()?;
    /// let mut stream = client.stream("http://127.0.0.1/")?;
    /// std::io::copy(&mut stream, &mut std::io::stdout())?;
    /// for (name, value) in stream.trailers() {
    ///     println!("{name}: {}", String::from_utf8_lossy(value));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn trailers(&self) -> Headers<'_> {
        self.answer.as_ref().map_or(Headers::new(&[], &[]), Response::trailers)
    }

    /// Attempts, timings, address, bytes: once reading gave 0 bytes, or anything failed. `None`
    /// before.
    pub fn stats(&self) -> Option<&Stats> {
        match self.progress {
            Progress::Running => None,
            Progress::Done | Progress::Failed(_) => Some(&self.stats),
        }
    }

    /// Finishes what is pushed, reads on to the end, and gives all that was not read before as a
    /// response in memory: at most [`Request::body_bytes_max`], and without it
    /// [`Settings::body_bytes_max`](crate::Settings::body_bytes_max).
    ///
    /// # Errors
    /// Whatever kept the response from being complete; [`Kind::TooLarge`] for a longer body, and
    /// [`Kind::InvalidRequest`] where less was written than the request's body was announced to be.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::io::Write;
    /// use whippet::{Body, Client, Request};
    ///
    /// let mut client = Client::new()?;
    /// let request = Request::post("http://127.0.0.1:8080/lines")?.body(Body::pushed());
    /// let mut stream = client.stream(request)?;
    /// for line in 1..=1_000_000 {
    ///     writeln!(stream, "{line}")?;
    /// }
    /// let answer = stream.into_response()?;
    /// println!("{} {}", answer.status(), answer.text());
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_response(mut self) -> Result<Response, Error> {
        if self.request.is_pushed() {
            self.finish(&[])?;
        }
        if self.head()?.status() == 101 {
            self.finish(&[])?;
        }
        let settings = self.client.reactor.settings();
        let own = self.request.parts.choices.body_bytes_max;
        let bytes_max = own.unwrap_or(settings.body_bytes_max);
        let mut body = Vec::new();
        loop {
            let piece = self.next_piece()?;
            let count = piece.len();
            if count == 0 {
                break;
            }
            if (body.len() + count) as u64 > bytes_max {
                return Err(self.too_large(bytes_max));
            }
            body.extend_from_slice(piece);
            self.use_up(count);
        }
        let lost = || Error::new(Kind::Io, Phase::Body, "the response was lost");
        let mut response = self.answer.take().ok_or_else(lost)?;
        response.0.body = body;
        response.0.stats = self.stats;
        Ok(response)
    }

    fn too_large(&self, bytes_max: u64) -> Error {
        let what = format!("the body is longer than {bytes_max} bytes");
        let fetch = self.client.reactor.fetch(self.id);
        let attempts = fetch.map_or(self.stats.attempts, |fetch| fetch.stats.attempts);
        Error::new(Kind::TooLarge, Phase::Body, what).after_attempts(attempts)
    }
}

/// Waiting.
impl<N: Net> Stream<'_, N> {
    /// Takes what happens to this fetch next, in this turn or after one sleep.
    fn wait(&mut self) {
        if self.take_event() {
            return;
        }
        if let Err(error) = self.client.reactor.wait(None) {
            self.client.reactor.cancel(self.id);
            self.client.give_up(&error);
            self.progress = Progress::Failed(poll_error(&error));
        }
    }

    /// Takes the next event of this fetch. `false`: the turn is over without one.
    fn take_event(&mut self) -> bool {
        if self.piece.is_empty() {
            self.client.reactor.resume(self.id);
        }
        while let Some(event) = self.client.reactor.next_event() {
            if event.id() != self.id {
                if let Some(end) = End::of(event) {
                    self.client.reactor.cancel(end.id);
                    self.client.tell(end);
                }
                continue;
            }
            match event {
                Event::Head { head, redirects, .. } => {
                    let request = self.request.clone();
                    self.answer = Some(Response::of_head(head, request, redirects.to_vec()));
                    self.note_head();
                }
                Event::Body { chunk, .. } => {
                    self.piece.fill(chunk);
                    self.client.reactor.pause(self.id);
                }
                Event::Writable { .. } => {}
                Event::Done { stats, trailers, .. } => {
                    if let Some(answer) = &mut self.answer {
                        answer.0.trailers = trailers.to_trailers();
                    }
                    self.stats = stats;
                    self.progress = Progress::Done;
                }
                Event::Failed { stats, error, .. } => {
                    self.stats = stats;
                    self.progress = Progress::Failed(error);
                }
            }
            return true;
        }
        false
    }

    /// The answer is to what was sent last, be it after redirects.
    fn note_head(&mut self) {
        let reactor = &mut self.client.reactor;
        if let (Some(answer), Some(fetch)) = (&mut self.answer, reactor.fetch(self.id)) {
            answer.0.request = fetch.request.clone();
        }
        reactor.pause(self.id);
    }
}

impl<N: Net> Drop for Stream<'_, N> {
    fn drop(&mut self) {
        if self.answer.is_some() && self.piece.is_empty() {
            // That nothing is left to come may be known here already.
            self.take_event();
        }
        self.client.reactor.cancel(self.id);
    }
}

impl<N: Net> fmt::Debug for Stream<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("id", &self.id)
            .field("answer", &self.answer)
            .field("unread_bytes", &self.piece.unread().len())
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("Running"),
            Self::Done => f.write_str("Done"),
            Self::Failed(error) => write!(f, "Failed({error})"),
        }
    }
}
