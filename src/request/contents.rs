//! Plain data. What a request carries, and how that is sent.

use url::form_urlencoded;

use super::Request;
use crate::body::Body;
use crate::body::multipart::Multipart;

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

    /// Whether it asks, which it does only for a body that is not empty.
    pub(crate) fn asks_to_continue(&self) -> bool {
        self.parts.choices.expect_continue && self.parts.body.length() != Some(0)
    }
}

const CONTENT_TYPE: &[u8] = b"Content-Type";
