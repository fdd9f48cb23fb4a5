//! The top. Requests of which many are fetched, and how each ended, as it ends.
//!
//! In go requests, taken from an iterator a little ahead of the outcomes, and the ends that the
//! reactor tells; out come outcomes with their places in the order given.

use std::collections::VecDeque;
use std::fmt;
use std::io;

use super::Client;
use super::roster::Roster;
use crate::error::{Error, Kind, Phase};
use crate::net::{Net, OsNet};
use crate::reactor::{Event, FetchId};
use crate::request::{IntoRequest, Request};
use crate::response::Response;

/// The outcomes of [`Client::as_completed`].
pub struct AsCompleted<'a, I: Iterator, N: Net = OsNet> {
    client: &'a mut Client<N>,
    requests: std::iter::Fuse<I>,
    /// Taken, and given back by a reactor that was full.
    held: Option<(usize, Request)>,
    mine: Roster,
    /// Items that were no requests.
    refused: VecDeque<Completed>,
    taken: usize,
}

impl<'a, I, N> AsCompleted<'a, I, N>
where
    N: Net,
    I: Iterator,
    I::Item: IntoRequest,
{
    pub(super) fn new(client: &'a mut Client<N>, requests: I) -> Self {
        Self {
            client,
            requests: requests.fuse(),
            held: None,
            mine: Roster::default(),
            refused: VecDeque::new(),
            taken: 0,
        }
    }

    /// Submits until enough are under way.
    fn feed(&mut self) {
        let concurrency = self.client.reactor.settings().concurrency.max(1);
        let ahead_max = concurrency.saturating_mul(LOOK_AHEAD);
        while self.mine.len() + self.refused.len() < ahead_max {
            let Some((index, request)) = self.held.take().or_else(|| self.next_request()) else {
                return;
            };
            match self.client.reactor.submit(request) {
                Ok(id) => self.mine.insert(id, index),
                Err(full) => {
                    self.held = Some((index, full.request));
                    return;
                }
            }
        }
    }

    /// The next item that is a request. Those that are not have an outcome already.
    fn next_request(&mut self) -> Option<(usize, Request)> {
        let item = self.requests.next()?;
        let index = self.taken;
        self.taken += 1;
        let client = &*self.client;
        match item.into_request(client.base_url.as_ref()) {
            Ok(request) => Some((index, request.collect(true).or_headers(&client.headers))),
            Err(error) => {
                self.refused.push_back(Completed::failed(index, 0, error));
                None
            }
        }
    }
}

impl<I, N> Iterator for AsCompleted<'_, I, N>
where
    N: Net,
    I: Iterator,
    I::Item: IntoRequest,
{
    type Item = Completed;

    fn next(&mut self) -> Option<Completed> {
        loop {
            self.feed();
            if let Some(completed) = self.refused.pop_front() {
                return Some(completed);
            }
            if self.mine.is_empty() && self.held.is_none() {
                return None;
            }
            match self.client.next_end() {
                Ok(Some(end)) => match self.mine.remove(end.id) {
                    Some(index) => return Some(end.at(index)),
                    None => self.client.tell(end),
                },
                Ok(None) => {}
                Err(error) => {
                    for (id, index) in self.mine.take() {
                        self.client.reactor.cancel(id);
                        self.refused.push_back(Completed::failed(index, 0, poll_error(&error)));
                    }
                    self.client.give_up(&error);
                }
            }
        }
    }
}

impl<I: Iterator, N: Net> Drop for AsCompleted<'_, I, N> {
    fn drop(&mut self) {
        for (id, _) in self.mine.take() {
            self.client.reactor.cancel(id);
        }
    }
}

impl<I: Iterator, N: Net> fmt::Debug for AsCompleted<'_, I, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted")
            .field("taken", &self.taken)
            .field("under_way", &self.mine.len())
            .finish_non_exhaustive()
    }
}

/// One outcome.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Completed {
    /// The request's place in the order given, from 0.
    pub index: usize,
    /// The request's tag; 0 where there was no request.
    pub tag: u64,
    /// The response, or why there is none.
    pub result: Result<Response, Error>,
    /// Beside an error: head and body as far as they came.
    pub partial: Option<Response>,
}

impl Completed {
    pub(super) fn failed(index: usize, tag: u64, error: Error) -> Self {
        Self { index, tag, result: Err(error), partial: None }
    }
}

/// A fetch that ended, before it is known whose it is.
pub(super) struct End {
    pub(super) id: FetchId,
    tag: u64,
    result: Result<Response, Error>,
    partial: Option<Response>,
}

impl End {
    /// Of a collected request.
    pub(super) fn of(event: Event<'_>) -> Option<Self> {
        match event {
            Event::Done { id, tag, response, .. } => {
                let whole = || Error::new(Kind::Io, Phase::Body, "the response was lost");
                Some(Self { id, tag, result: response.ok_or_else(whole), partial: None })
            }
            Event::Failed { id, tag, error, partial, .. } => {
                Some(Self { id, tag, result: Err(error), partial })
            }
            Event::Writable { id, tag, .. } => {
                let what = "nobody pushes the body: `Client::stream` has a place for it";
                let error = Error::new(Kind::InvalidRequest, Phase::Send, what);
                Some(Self { id, tag, result: Err(error), partial: None })
            }
            // There are no others.
            _ => None,
        }
    }

    pub(super) fn at(self, index: usize) -> Completed {
        Completed { index, tag: self.tag, result: self.result, partial: self.partial }
    }
}

pub(super) fn poll_error(error: &io::Error) -> Error {
    let copy =
        error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
    Error::io(Kind::Io, Phase::Queue, "the system's poll failed", copy)
}

/// Requests taken ahead of the outcomes, in units of the concurrency: enough that one slow origin
/// in the input does not leave the others without work.
const LOOK_AHEAD: usize = 4;
