//! Plain data. What a request carries, and how that is sent.

use super::Request;
use crate::body::Body;

impl Request {
    /// The body: bytes, or whatever else a [`Body`] can be.
    #[must_use]
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.change().body = body.into().0;
        self
    }

    /// Whether the server is asked before a body is sent (`Expect: 100-continue`, RFC 9110
    /// §10.1.1), so that one that will be refused is not sent in vain. Default: no.
    ///
    /// The body follows when the server says so, or has said nothing for as long as
    /// [`Limit::Continue`](crate::Limit::Continue) allows, 1 s by default. Where it answers instead,
    /// that is the answer, and the body is not sent. After a 417 the request is sent again, once
    /// and without asking.
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

    /// Whether it asks, which it does only for a body that is not empty.
    pub(crate) fn asks_to_continue(&self) -> bool {
        self.parts.choices.expect_continue && self.parts.body.length() != Some(0)
    }
}
