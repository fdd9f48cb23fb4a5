//! Floor 2. What a reactor tells its caller, and how a request is handed back.

use std::fmt;

use url::Url;

use super::fetch::{Fetch, FetchKey, Outcome, Stage};
use super::reading::Focus;
use crate::error::Error;
use crate::request::Request;
use crate::response::{Head, Headers, Hop, Response, Stats, StatusLine, Trailers};
pub use crate::trace::FetchId;

impl FetchId {
    /// A small number: below the most fetches that the reactor ever had at once. No two living
    /// fetches share it.
    pub(crate) fn slot(self) -> usize {
        FetchKey::from_bits(self.0).map_or(0, FetchKey::index)
    }
}

/// Something that happened to a fetch. `Done` and `Failed` are terminal: every fetch that is not
/// cancelled gets exactly one of them, and nothing after it.
///
/// Heads and bodies are lent from the reactor's buffers until its next mutating call.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The head of the final response of a streamed request: redirects were followed and
    /// retries made before.
    Head {
        /// Which fetch.
        id: FetchId,
        /// The request's tag.
        tag: u64,
        /// Status and headers.
        head: Head<'a>,
        /// Where it ended, after redirects.
        url: &'a Url,
        /// The redirects followed.
        redirects: &'a [Hop],
    },
    /// A piece of the body of a streamed request; never empty.
    Body {
        /// Which fetch.
        id: FetchId,
        /// The request's tag.
        tag: u64,
        /// The bytes, in order.
        chunk: &'a [u8],
    },
    /// There is room for more of a [pushed](crate::Body::pushed) body:
    /// [`Reactor::send_body`](crate::Reactor::send_body) takes it, now or whenever it is there.
    /// Told once the head was sent, and again after each `send_body`, as soon as there is room.
    Writable {
        /// Which fetch.
        id: FetchId,
        /// The request's tag.
        tag: u64,
        /// Which byte of the body is wanted next. Where it falls back to 0, another attempt has
        /// begun, and the body is to be given anew: only where it is
        /// [replayable](crate::Body::replayable), or nothing of it was taken.
        offset: u64,
    },
    /// The response is complete.
    Done {
        /// Which fetch it was.
        id: FetchId,
        /// The request's tag.
        tag: u64,
        /// Attempts, timings, address, bytes.
        stats: Stats,
        /// The trailer fields of a streamed response; a collected one holds its own.
        trailers: Headers<'a>,
        /// The answer of a collected request; `None` for a streamed one.
        response: Option<Response>,
    },
    /// There is no complete response.
    Failed {
        /// Which fetch it was.
        id: FetchId,
        /// The request's tag.
        tag: u64,
        /// Why.
        error: Error,
        /// Attempts, timings, address, bytes.
        stats: Stats,
        /// Where it was when it failed, after redirects.
        url: &'a Url,
        /// The redirects followed.
        redirects: &'a [Hop],
        /// What a collected request had received: head, and the body so far.
        partial: Option<Response>,
    },
}

impl Event<'_> {
    /// Which fetch it happened to.
    pub(crate) fn id(&self) -> FetchId {
        match self {
            Self::Head { id, .. }
            | Self::Body { id, .. }
            | Self::Writable { id, .. }
            | Self::Done { id, .. }
            | Self::Failed { id, .. } => *id,
        }
    }
}

/// What the last event of a fetch lends, once the fetch is no more.
#[derive(Default)]
pub(super) struct Told {
    request: Option<Request>,
    hops: Vec<Hop>,
    trailers: Option<Box<Trailers>>,
}

impl Told {
    /// The last event of a fetch that has ended.
    #[inline]
    pub(super) fn end_of(&mut self, id: FetchId, fetch: &mut Fetch) -> Event<'_> {
        let tag = fetch.request.tag;
        let response = fetch.take_response();
        let (hops, trailers) = (std::mem::take(&mut fetch.hops), fetch.trailers.take());
        *self = Self { request: None, hops, trailers };
        match std::mem::replace(&mut fetch.stage, Stage::Waiting) {
            Stage::Ended(Outcome::Failed(error)) => Event::Failed {
                id,
                tag,
                error,
                stats: fetch.stats,
                url: self.request.insert(fetch.request.clone()).url(),
                redirects: &self.hops,
                partial: response,
            },
            _ => {
                let trailers = self.trailers.as_deref();
                let trailers = trailers.map_or(Headers::new(&[], &[]), |trailers| {
                    Headers::new(&trailers.bytes, &trailers.fields)
                });
                Event::Done { id, tag, stats: fetch.stats, trailers, response }
            }
        }
    }
}

/// The waiting list is full, or the memory: [`Settings::waiting_requests_max`],
/// [`Settings::waiting_bytes_max`] or [`Settings::buffered_bytes_max`] was reached. The request is
/// given back.
///
/// [`Settings::waiting_requests_max`]: crate::Settings::waiting_requests_max
/// [`Settings::waiting_bytes_max`]: crate::Settings::waiting_bytes_max
/// [`Settings::buffered_bytes_max`]: crate::Settings::buffered_bytes_max
#[derive(Clone)]
#[non_exhaustive]
pub struct Full {
    /// The request that was not taken.
    pub request: Request,
}

impl fmt::Debug for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Full").field("request", &self.request).finish()
    }
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many requests wait already, or too much of their responses")
    }
}

impl std::error::Error for Full {}

/// What one step brought about: places and ranges, for [`Event`] borrows what it lends.
#[derive(Clone, Copy)]
pub(crate) enum Happening {
    /// The head that `at` is on.
    Head {
        fetch: FetchKey,
        at: Focus,
        line: StatusLine,
    },
    /// The piece of body that `at` is on.
    Body {
        fetch: FetchKey,
        at: Focus,
    },
    Writable {
        fetch: FetchKey,
        offset: u64,
    },
    Ended {
        fetch: FetchKey,
    },
}
