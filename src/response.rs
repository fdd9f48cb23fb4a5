//! Plain data. What came back: a lent [`Head`], or a collected [`Response`].

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use url::Url;

use crate::coding::{Coding, ContentCoding};
use crate::error::{Error, Kind, Phase};
use crate::field;
use crate::request::Request;
use crate::trace;

/// A place in a buffer, as offsets: what outlives a borrow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    /// The bytes meant; none where the span lies outside.
    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Where `part`, a slice of `bytes`, lies in them.
    pub(crate) fn within(bytes: &[u8], part: &[u8]) -> Option<Self> {
        let start = part.as_ptr().addr().checked_sub(bytes.as_ptr().addr())?;
        let end = start.checked_add(part.len()).filter(|&end| end <= bytes.len())?;
        Some(Self { start: u32::try_from(start).ok()?, end: u32::try_from(end).ok()? })
    }
}

/// A field's name and value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Field {
    pub(crate) name: Span,
    pub(crate) value: Span,
}

/// The values of all fields of a name.
pub(crate) fn values<'a>(
    fields: &'a [Field],
    bytes: &'a [u8],
    name: &'static [u8],
) -> impl Iterator<Item = &'a [u8]> {
    let named = move |field: &&Field| field.name.of(bytes).eq_ignore_ascii_case(name);
    fields.iter().filter(named).map(|field| field.value.of(bytes))
}

/// Status line and header fields, borrowed from the buffer they arrived in.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) fields: &'a [Field],
    pub(crate) line: StatusLine,
}

/// What a status line says, and what was done to the body behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct StatusLine {
    /// 100 to 999.
    pub(crate) status: u16,
    /// 0 or 1: HTTP/1.0 or HTTP/1.1.
    pub(crate) minor: u8,
    pub(crate) reason: Span,
    /// The codings that are removed.
    pub(crate) removed: ContentCoding,
}

impl<'a> Head<'a> {
    /// The status code, 100 to 999.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.line.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// HTTP/1.0 or HTTP/1.1.
    pub fn version(&self) -> Version {
        if self.line.minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
    }

    /// The reason phrase as it was sent; often empty.
    pub fn reason(&self) -> &'a [u8] {
        self.line.reason.of(self.bytes)
    }

    /// The fields in wire order, case kept. Values are without surrounding white space.
    pub fn headers(&self) -> Headers<'a> {
        Headers { bytes: self.bytes, fields: self.fields.iter() }
    }

    /// The first value of a field; `name` is compared without case.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The same with [`NOT_SHOWN`](crate::NOT_SHOWN) in place of values that authenticate somebody,
    /// as of Set-Cookie, or that have user information in a URL, as of Location: to be printed.
    pub fn shown_headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.headers().map(|(name, value)| (name, trace::shown(name.as_bytes(), value)))
    }

    /// The content codings that are removed from the body, in the order in which they were
    /// applied. None: the body is handed on as it came, whatever Content-Encoding says.
    pub fn removed_codings(&self) -> impl Iterator<Item = Coding> + Clone + fmt::Debug + use<> {
        self.line.removed.codings()
    }

    /// The fields as an [`http::HeaderMap`]; what that cannot hold is left out. Values that may be
    /// secrets, as of Set-Cookie, are marked as sensitive: a map does not print those.
    pub fn to_header_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.fields.len());
        for (name, value) in self.headers() {
            let name = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(mut value)) = (name, HeaderValue::from_bytes(value)) {
                value.set_sensitive(field::is_secret(name.as_str().as_bytes()));
                // Fails only above the map's own bound, far beyond the limit on fields.
                let _ = map.try_append(name, value);
            }
        }
        map
    }
}

impl fmt::Debug for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head")
            .field("status", &self.line.status)
            .field("version", &self.version())
            .field("headers", &self.fields.len())
            .finish()
    }
}

/// Header fields in wire order: names and values.
#[derive(Clone)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    fields: std::slice::Iter<'a, Field>,
}

impl<'a> Headers<'a> {
    pub(crate) fn new(bytes: &'a [u8], fields: &'a [Field]) -> Self {
        Self { bytes, fields: fields.iter() }
    }

    /// Those not taken yet, to be kept.
    pub(crate) fn to_trailers(&self) -> Trailers {
        Trailers { bytes: self.bytes.to_vec(), fields: self.fields.as_slice().to_vec() }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let field = self.fields.next()?;
        // A name was parsed as a token (RFC 9110 §5.6.2), so it is ASCII.
        let name = std::str::from_utf8(field.name.of(self.bytes)).unwrap_or("");
        Some((name, field.value.of(self.bytes)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.fields.size_hint()
    }
}

/// Names only: values may be secrets.
impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone().map(|(name, _)| name)).finish()
    }
}

/// A redirect that was followed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Hop {
    /// The status of the answer that redirected.
    pub status: u16,
    /// The URL that gave it.
    pub url: Url,
    /// The method it was asked with.
    pub method: Method,
}

/// How long each phase took. Zero where a phase did not take place, as on a reused connection.
/// With redirects and retries, the phases are those of the last attempt; `queued` is the wait for
/// first admission and `total` covers everything since.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Timings {
    /// Waiting behind the caps before first admission.
    pub queued: Duration,
    /// Resolving the name.
    pub dns: Duration,
    /// Connecting.
    pub connect: Duration,
    /// Getting past a proxy: TLS with it, and the tunnel through it.
    pub proxy: Duration,
    /// The TLS handshake with the origin.
    pub tls: Duration,
    /// From the request being sent to the first byte of the response.
    pub first_byte: Duration,
    /// From first admission to the end.
    pub total: Duration,
}

/// What is known of a fetch when it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Attempts made, over all redirects; the silent retry of a stale connection and second
    /// exchanges included.
    pub attempts: u32,
    /// Redirects followed.
    pub redirects: u32,
    /// How long each phase took.
    pub timings: Timings,
    /// The address that answered: none did, or a socket of the file system.
    pub remote: Option<SocketAddr>,
    /// Whether its connection had carried a request before.
    pub reused: bool,
    /// Whether a second exchange brought it: [`Settings::hedge`](crate::Settings::hedge).
    pub hedged: bool,
    /// Bytes of the body on the wire, without framing.
    pub wire_bytes: u64,
    /// Bytes of the body as it was handed over: decoded, where a content coding was removed.
    pub body_bytes: u64,
}

/// A whole answer, its body collected.
///
/// An answer of any status is an answer: [`Self::raise_for_status`] is there for those who want
/// a status of 400 or more to be a failure.
#[derive(Clone)]
pub struct Response(pub(crate) Box<Collected>);

/// What a response holds; the reactor fills it as it comes.
#[derive(Clone)]
pub(crate) struct Collected {
    pub(crate) bytes: Box<[u8]>,
    pub(crate) fields: Box<[Field]>,
    pub(crate) line: StatusLine,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Trailers,
    /// The last one sent.
    pub(crate) request: Request,
    pub(crate) hops: Vec<Hop>,
    pub(crate) stats: Stats,
}

/// Trailer fields and the bytes that they are in. Empty for most.
#[derive(Clone, Default)]
pub(crate) struct Trailers {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fields: Vec<Field>,
}

impl Response {
    /// One of which the head alone is there, to `request`.
    pub(crate) fn of_head(head: Head<'_>, request: Request, hops: Vec<Hop>) -> Self {
        Self(Box::new(Collected {
            bytes: head.bytes.into(),
            fields: head.fields.into(),
            line: head.line,
            body: Vec::new(),
            trailers: Trailers::default(),
            request,
            hops,
            stats: Stats::default(),
        }))
    }

    /// Status line and headers.
    pub fn head(&self) -> Head<'_> {
        Head { bytes: &self.0.bytes, fields: &self.0.fields, line: self.0.line }
    }

    /// The status code, 100 to 999.
    pub fn status(&self) -> StatusCode {
        self.head().status()
    }

    /// The fields in wire order, case kept.
    pub fn headers(&self) -> Headers<'_> {
        self.head().headers()
    }

    /// The first value of a field; `name` is compared without case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.head().header(name)
    }

    /// The trailer fields (RFC 9112 §7.1.2), in wire order.
    pub fn trailers(&self) -> Headers<'_> {
        Headers::new(&self.0.trailers.bytes, &self.0.trailers.fields)
    }

    /// The content codings that were removed from the body, in the order in which they were
    /// applied. None: the body is as it came, whatever Content-Encoding says.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), whippet::Error> {
    /// let page = whippet::Client::new()?.get("http://127.0.0.1/")?;
    /// if page.removed_codings().count() > 0 {
    ///     println!("{} bytes of {}", page.stats().wire_bytes, page.body().len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn removed_codings(&self) -> impl Iterator<Item = Coding> + Clone + fmt::Debug + use<> {
        self.head().removed_codings()
    }

    /// The body, decoded where [`Self::removed_codings`] says so.
    pub fn body(&self) -> &[u8] {
        &self.0.body
    }

    /// The body, without a copy.
    pub fn into_body(self) -> Vec<u8> {
        self.0.body
    }

    /// The body as text: UTF-8, what is not becoming U+FFFD.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0.body)
    }

    /// Where it ended, after redirects; a fragment is kept.
    pub fn url(&self) -> &Url {
        self.0.request.url()
    }

    /// The redirects followed, in order.
    pub fn redirects(&self) -> &[Hop] {
        &self.0.hops
    }

    /// Attempts, timings, address, bytes.
    pub fn stats(&self) -> &Stats {
        &self.0.stats
    }

    /// The tag of the request.
    pub fn tag(&self) -> u64 {
        self.0.request.tag_value()
    }

    /// The response, where its status is below 400.
    ///
    /// # Errors
    /// [`Kind::Status`], with the status and the URL in it.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), whippet::Error> {
    /// let page = whippet::Client::new()?.get("http://127.0.0.1/")?.raise_for_status()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn raise_for_status(self) -> Result<Self, Error> {
        let status = self.0.line.status;
        if status < 400 {
            return Ok(self);
        }
        let reason = String::from_utf8_lossy(self.head().reason());
        // An error is one line for a human, and the reason is any bytes of the server's.
        let reason = reason.replace(char::is_control, "\u{fffd}");
        let path = &self.url()[..url::Position::AfterPath];
        let error = Error::new(Kind::Status, Phase::Head, format!("{status} {reason} from {path}"));
        Err(error.of_status(status).after_attempts(self.0.stats.attempts))
    }
}

/// Headers that an [`http::HeaderMap`] cannot hold are left out.
impl From<Response> for http::Response<Vec<u8>> {
    fn from(response: Response) -> Self {
        let mut converted = Self::new(Vec::new());
        *converted.status_mut() = response.status();
        *converted.version_mut() = response.head().version();
        *converted.headers_mut() = response.head().to_header_map();
        *converted.body_mut() = response.into_body();
        converted
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.0.line.status)
            .field("url", &&self.url()[..url::Position::AfterPath])
            .field("body_bytes", &self.0.body.len())
            .field("stats", &self.0.stats)
            .finish_non_exhaustive()
    }
}
