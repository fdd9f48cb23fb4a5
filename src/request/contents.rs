//! Plain data. What a request carries, and how that is sent.

use url::form_urlencoded;

use super::{Request, invalid_request};
use crate::body::Body;
use crate::body::multipart::Multipart;
use crate::error::Error;
use crate::field;

impl Request {
    /// The body: bytes, or whatever else a [`Body`] can be.
    #[must_use]
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.change().body = body.into().0;
        self
    }

    /// The fields of a form, urlencoded as the URL standard has it, with the Content-Type
    /// `application/x-www-form-urlencoded` unless there is one.
    ///
    /// ```
    /// # use whippet::Request;
    /// let fields = [("user", "me"), ("to", "a b&c")];
    /// let request = Request::post("http://127.0.0.1/login")?.form(fields);
    /// // user=me&to=a+b%26c
    /// # Ok::<(), whippet::Error>(())
    /// ```
    #[must_use]
    pub fn form<K, V>(self, fields: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let mut text = form_urlencoded::Serializer::new(String::new());
        for (name, value) in fields {
            text.append_pair(name.as_ref(), value.as_ref());
        }
        self.body(text.finish()).or_content_type("application/x-www-form-urlencoded")
    }

    /// A form of several parts, with the Content-Type that belongs to it, in place of any other.
    #[must_use]
    pub fn multipart(mut self, form: Multipart) -> Self {
        let content_type = form.content_type();
        self.change().headers.retain(|(name, _)| !name.eq_ignore_ascii_case(CONTENT_TYPE));
        self.body(form.into_body()).or_content_type(&content_type)
    }

    /// Unless there is one.
    pub(crate) fn or_content_type(self, value: &str) -> Self {
        self.or_headers(&[(CONTENT_TYPE.into(), value.as_bytes().into())])
    }

    /// Whether the server is asked before a body is sent (`Expect: 100-continue`, RFC 9110
    /// §10.1.1), so that one that will be refused is not sent in vain. Default: no.
    ///
    /// The body follows when the server says so, or has said nothing for as long as
    /// [`Limit::Continue`](crate::Limit::Continue) allows, 1 s by default. Where it answers
    /// instead, that is the answer, and the body is not sent. After a 417 the request is sent
    /// again, once and without asking.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use whippet::{Body, Client, Request};
    ///
    /// let body = Body::file("image.iso")?;
    /// let request = Request::put("http://127.0.0.1:8080/image")?.body(body).expect_continue(true);
    /// let answer = Client::new()?.fetch(request)?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn expect_continue(mut self, expect: bool) -> Self {
        self.change().choices.expect_continue = expect;
        self
    }

    /// Asks for another protocol on the connection (RFC 9110 §7.8): `NAME` or `NAME/VERSION`, or
    /// several with commas between them, in place of what was asked for before. Whatever the server
    /// answers is the answer, as to any request. Where that is a 101, the fetch goes both ways from
    /// then on: what the server says are [`Event::Body`](crate::Event::Body)s, what the caller says
    /// goes with
    /// [`Reactor::send_body`](crate::Reactor::send_body) as
    /// [`Event::Writable`](crate::Event::Writable) asks for it, up to
    /// [`Reactor::finish_body`](crate::Reactor::finish_body). It is done when the server ends the
    /// connection; [`Reactor::cancel`](crate::Reactor::cancel) ends it from here. Of a
    /// [`Client`](crate::Client), [`stream`](crate::Client::stream) gives both ways as `Read` and
    /// `Write`.
    ///
    /// Limits of the whole fetch go on to count. A request that is [collected](Self::collect), as
    /// those of a client's other calls are, cannot be upgraded: a 101 is an error there. So is one
    /// that names no protocol, or another than was asked for.
    ///
    /// The example `websocket` speaks WebSocket this way.
    ///
    /// # Errors
    /// As [`Self::header`].
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use whippet::{Event, Reactor, Request, Settings};
    ///
    /// let mut reactor = Reactor::new(Settings::default())?;
    /// reactor.submit(Request::get("http://127.0.0.1:8080/")?.upgrade("echo")?)?;
    /// while reactor.pending() > 0 {
    ///     reactor.wait(None)?;
    ///     while let Some(event) = reactor.next_event() {
    ///         match event {
    ///             Event::Head { head, .. } if head.status() != 101 => println!("it does not"),
    ///             Event::Writable { id, offset: 0, .. } => {
    ///                 reactor.send_body(id, b"hello")?;
    ///             }
    ///             Event::Body { chunk, .. } => println!("{} bytes", chunk.len()),
    ///             _ => {}
    ///         }
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn upgrade(mut self, protocol: &str) -> Result<Self, Error> {
        let value = protocol.trim().as_bytes();
        field::check_protocols(value).map_err(invalid_request)?;
        let parts = self.change();
        let is_of_it =
            |name: &[u8]| [CONNECTION, UPGRADE].iter().any(|of| name.eq_ignore_ascii_case(of));
        parts.headers.retain(|(name, _)| !is_of_it(name));
        parts.headers.push((CONNECTION.into(), UPGRADE.into()));
        parts.headers.push((UPGRADE.into(), value.into()));
        parts.choices.upgrade = true;
        Ok(self)
    }

    /// Whether it asks, which it does only for a body that is not empty.
    pub(crate) fn asks_to_continue(&self) -> bool {
        self.parts.choices.expect_continue && self.parts.body.length() != Some(0)
    }
}

const CONNECTION: &[u8] = b"Connection";
const UPGRADE: &[u8] = b"Upgrade";
const CONTENT_TYPE: &[u8] = b"Content-Type";
