//! The top: a session for those who want answers rather than events.
//!
//! In go requests; out come whole responses, one, in order, or as they complete, and by
//! [`stream`] one that is read, and whose request is written, piece by piece. Everything is done on
//! the caller's thread, inside these calls, by one [`Reactor`].

mod completed;
mod roster;
pub(crate) mod stream;

use std::collections::VecDeque;
use std::fmt;
use std::io;

use url::Url;

pub use self::completed::{AsCompleted, Completed};
use self::completed::{End, poll_error};
use self::roster::Roster;
use crate::body::Body;
use crate::error::{Error, Kind, Phase};
use crate::net::{Net, OsNet};
use crate::policy::cookies::CookieJar;
use crate::reactor::{FetchId, Full, Reactor};
use crate::request::{Header, IntoRequest, Request};
use crate::response::Response;
use crate::settings::Settings;

/// A session: connections, names, TLS sessions and cookies are shared by all that it fetches.
///
/// Every outcome is a value. A status of 404 is an answer; a refused connection is an [`Error`];
/// neither ever touches another fetch.
///
/// Responses are whole, and in memory, before they are given: at most
/// [`body_bytes_max`](Settings::body_bytes_max) of a body. [`Self::stream`] is for all others: for
/// responses that are read piece by piece, [pushed bodies](Body::pushed), and
/// [upgrades](Request::upgrade).
///
/// ```no_run
/// use whippet::Client;
///
/// let mut client = Client::new()?;
/// let page = client.get("https://www.example.com/")?;
/// println!("{} {} bytes", page.status(), page.body().len());
///
/// for answer in client.gather(["http://127.0.0.1/a", "http://127.0.0.1/b"]) {
///     match answer {
///         Ok(response) => println!("{} {}", response.status(), response.url()),
///         Err(error) => println!("{error}"),
///     }
/// }
/// # Ok::<(), whippet::Error>(())
/// ```
pub struct Client<N: Net = OsNet> {
    reactor: Reactor<N>,
    /// Put behind a request's own where it has none of that name.
    headers: Vec<Header>,
    base_url: Option<Url>,
    /// What [`Client::submit`] took and has not been told of.
    loose: Roster,
    /// Those of them that have ended.
    done: VecDeque<Completed>,
    submitted: usize,
}

/// Making one.
impl Client {
    /// A client with the default [`Settings`].
    ///
    /// # Errors
    /// As [`Reactor::new`].
    pub fn new() -> Result<Self, Error> {
        Self::with_settings(Settings::default())
    }

    /// A client with other limits, caps or TLS choices.
    ///
    /// # Errors
    /// As [`Reactor::new`].
    pub fn with_settings(settings: Settings) -> Result<Self, Error> {
        Ok(Self::with_reactor(Reactor::new(settings)?))
    }
}

/// What a session begins with.
impl<N: Net> Client<N> {
    /// A client on a reactor that was made before, as one that is watched.
    ///
    /// ```
    /// use whippet::{Client, Reactor, Settings, TraceEvent};
    ///
    /// let watch = |event: &TraceEvent<'_>| println!("{event:?}");
    /// let mut client = Client::with_reactor(Reactor::traced(Settings::default(), watch)?);
    /// # Ok::<(), whippet::Error>(())
    /// ```
    pub fn with_reactor(reactor: Reactor<N>) -> Self {
        Self {
            reactor,
            headers: Vec::new(),
            base_url: None,
            loose: Roster::default(),
            done: VecDeque::new(),
            submitted: 0,
        }
    }

    /// URLs given as text may be relative to `url` from now on.
    ///
    /// # Errors
    /// [`Kind::InvalidUrl`].
    pub fn base_url(mut self, url: &str) -> Result<Self, Error> {
        self.base_url = Some(Request::get(url)?.url().clone());
        Ok(self)
    }

    /// Sends a header with every request that has none of this name.
    ///
    /// # Errors
    /// As [`Request::header`].
    pub fn default_header(
        mut self,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Self, Error> {
        let (name, value) = (name.as_ref(), value.as_ref());
        let value = crate::field::check_header(name, value).map_err(|refused| {
            Error::new(Kind::InvalidRequest, Phase::Request, refused.to_string())
        })?;
        self.headers.push((name.into(), value.into()));
        Ok(self)
    }

    /// A request with the session's base URL and headers, to be added to.
    ///
    /// # Errors
    /// As [`Request::new`].
    pub fn request(&self, method: &str, url: &str) -> Result<Request, Error> {
        let request = Request::relative(method, self.base_url.as_ref(), url)?;
        Ok(request.or_headers(&self.headers))
    }
}

/// One at a time.
impl<N: Net> Client<N> {
    /// GET.
    ///
    /// # Errors
    /// Whatever kept the response from being complete.
    pub fn get(&mut self, url: &str) -> Result<Response, Error> {
        let request = self.request("GET", url);
        self.fetch(request)
    }

    /// HEAD.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn head(&mut self, url: &str) -> Result<Response, Error> {
        let request = self.request("HEAD", url);
        self.fetch(request)
    }

    /// DELETE.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn delete(&mut self, url: &str) -> Result<Response, Error> {
        let request = self.request("DELETE", url);
        self.fetch(request)
    }

    /// OPTIONS.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn options(&mut self, url: &str) -> Result<Response, Error> {
        let request = self.request("OPTIONS", url);
        self.fetch(request)
    }

    /// POST.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn post(&mut self, url: &str, body: impl Into<Body>) -> Result<Response, Error> {
        let request = self.request("POST", url).map(|request| request.body(body));
        self.fetch(request)
    }

    /// PUT.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn put(&mut self, url: &str, body: impl Into<Body>) -> Result<Response, Error> {
        let request = self.request("PUT", url).map(|request| request.body(body));
        self.fetch(request)
    }

    /// PATCH.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn patch(&mut self, url: &str, body: impl Into<Body>) -> Result<Response, Error> {
        let request = self.request("PATCH", url).map(|request| request.body(body));
        self.fetch(request)
    }

    /// Any request, but one whose body is [pushed](Body::pushed): [`Self::stream`] takes that.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn fetch(&mut self, request: impl IntoRequest) -> Result<Response, Error> {
        let nothing = || Error::new(Kind::Cancelled, Phase::Request, "nothing was fetched");
        let one = self.as_completed([request]).next();
        one.map_or_else(|| Err(nothing()), |completed| completed.result)
    }
}

/// Many at once.
impl<N: Net> Client<N> {
    /// Fetches all of `requests` and gives their outcomes in the same order, errors in their
    /// places: Python's `asyncio.gather(..., return_exceptions=True)`.
    ///
    /// ```no_run
    /// # let mut client = whippet::Client::new()?;
    /// let urls = (1..=1_000).map(|page| format!("http://127.0.0.1/{page}"));
    /// let answers = client.gather(urls);
    /// let failed = answers.iter().filter(|answer| answer.is_err()).count();
    /// # Ok::<(), whippet::Error>(())
    /// ```
    pub fn gather<I>(&mut self, requests: I) -> Vec<Result<Response, Error>>
    where
        I: IntoIterator,
        I::Item: IntoRequest,
    {
        let mut answers = Vec::new();
        for completed in self.as_completed(requests) {
            if answers.len() <= completed.index {
                answers.resize_with(completed.index + 1, || None);
            }
            answers[completed.index] = Some(completed.result);
        }
        // Every index is there: an iterator that ends has told of all that it took.
        answers.into_iter().flatten().collect()
    }

    /// Fetches `requests`, endless if need be, and gives each outcome as it comes. At most four
    /// times the concurrency is taken from `requests` ahead of the outcomes.
    ///
    /// Dropping the iterator cancels what it has begun and nothing else.
    ///
    /// ```no_run
    /// # let mut client = whippet::Client::new()?;
    /// let urls = (1..).map(|page| format!("http://127.0.0.1/{page}"));
    /// for completed in client.as_completed(urls) {
    ///     match completed.result {
    ///         Ok(page) if page.status() == 404 => break,
    ///         Ok(page) => println!("{}: {} bytes", completed.index, page.body().len()),
    ///         Err(error) => println!("{}: {error}", completed.index),
    ///     }
    /// }
    /// # Ok::<(), whippet::Error>(())
    /// ```
    pub fn as_completed<I>(&mut self, requests: I) -> AsCompleted<'_, I::IntoIter, N>
    where
        I: IntoIterator,
        I::Item: IntoRequest,
    {
        AsCompleted::new(self, requests.into_iter())
    }

    /// Puts one request in line, for [`Self::next_completed`]: for those who find new URLs while
    /// answers come.
    ///
    /// # Errors
    /// [`Full`] gives the request back: take a [`Self::next_completed`] first.
    ///
    /// ```no_run
    /// # use whippet::{Client, Request};
    /// # fn links(_: &str) -> Vec<String> { Vec::new() }
    /// let mut client = Client::new()?;
    /// client.submit(Request::get("http://127.0.0.1/")?)?;
    /// while let Some(completed) = client.next_completed() {
    ///     let Ok(page) = completed.result else { continue };
    ///     for link in links(&page.text()) {
    ///         client.submit(Request::get(link)?)?;
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit(&mut self, request: Request) -> Result<FetchId, Box<Full>> {
        let request = request.collect(true).or_headers(&self.headers);
        let id = self.reactor.submit(request)?;
        self.loose.insert(id, self.submitted);
        self.submitted += 1;
        Ok(id)
    }

    /// Sleeps until one of the submitted requests has ended. `None`: there is none left.
    pub fn next_completed(&mut self) -> Option<Completed> {
        loop {
            if let Some(completed) = self.done.pop_front() {
                return Some(completed);
            }
            if self.loose.is_empty() {
                return None;
            }
            match self.next_end() {
                Ok(Some(end)) => self.tell(end),
                Ok(None) => {}
                Err(error) => self.give_up(&error),
            }
        }
    }

    /// Ends a submitted request; it does not complete. `false`: it had ended.
    pub fn cancel(&mut self, id: FetchId) -> bool {
        self.loose.remove(id).is_some() && self.reactor.cancel(id)
    }

    /// The cookies of the session.
    pub fn cookies(&self) -> &CookieJar {
        self.reactor.cookies()
    }

    /// The same, to be filled or emptied.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::SystemTime;
    ///
    /// let mut client = whippet::Client::new()?;
    /// client.cookies_mut().read_netscape(&std::fs::read("cookies.txt")?, SystemTime::now());
    /// let page = client.get("http://127.0.0.1/")?;
    /// std::fs::write("cookies.txt", client.cookies().to_netscape(SystemTime::now()))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn cookies_mut(&mut self) -> &mut CookieJar {
        self.reactor.cookies_mut()
    }

    /// The reactor that does the work.
    pub fn reactor(&self) -> &Reactor<N> {
        &self.reactor
    }

    /// The next fetch that has ended, in this turn or after one sleep.
    fn next_end(&mut self) -> io::Result<Option<End>> {
        let end = self.next_end_of_this_turn();
        if end.is_none() {
            self.reactor.wait(None)?;
        }
        Ok(end)
    }

    fn next_end_of_this_turn(&mut self) -> Option<End> {
        while let Some(event) = self.reactor.next_event() {
            if let Some(end) = End::of(event) {
                // One whose body nobody pushes has not ended by itself.
                self.reactor.cancel(end.id);
                return Some(end);
            }
        }
        None
    }

    /// Keeps the end of a submitted request for [`Self::next_completed`].
    fn tell(&mut self, end: End) {
        if let Some(index) = self.loose.remove(end.id) {
            self.done.push_back(end.at(index));
        }
    }

    /// The system's poll has failed: nothing will ever end by itself.
    fn give_up(&mut self, error: &io::Error) {
        for (id, index) in self.loose.take() {
            self.reactor.cancel(id);
            self.done.push_back(Completed::failed(index, 0, poll_error(error)));
        }
    }
}

impl<N: Net> fmt::Debug for Client<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("reactor", &self.reactor).finish_non_exhaustive()
    }
}
