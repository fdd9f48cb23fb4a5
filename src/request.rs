//! Plain data. A request: parsed and validated once, cheap to clone, encoded once. [`contents`] is
//! what it may carry.

mod contents;

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::Method;
use url::{Position, Url};

use crate::body::Payload;
use crate::detour::ConnectTo;
use crate::error::{Error, Kind, Limit, Phase};
use crate::field;
use crate::origin::{Origin, Route, Scheme};
use crate::proxy::Proxy;
use crate::settings::{Resolve, Timeouts};
use crate::socket::SocketSettings;
use crate::trust::TlsSettings;
use crate::userinfo::{self, Userinfo, without_userinfo};

/// One request, validated when it is built.
///
/// A clone shares the parsed URL, the headers and the body, and costs one reference count; so
/// the same request can be submitted a million times. What a request does not say is taken from
/// the [`Settings`](crate::Settings).
///
/// Host, Content-Length and Transfer-Encoding are the reactor's to send and are refused as
/// headers. `Accept: */*`, an Accept-Encoding and a User-Agent are added where they are missing.
///
/// ```
/// use std::time::Duration;
/// use whippet::Request;
///
/// let request = Request::post("http://127.0.0.1:8080/items?x=1")?
///     .header("Content-Type", "application/json")?
///     .body(r#"{"name":"a"}"#)
///     .timeout(Duration::from_secs(5))
///     .tag(17);
/// assert_eq!(request.method(), "POST");
/// # Ok::<(), whippet::Error>(())
/// ```
#[derive(Clone)]
pub struct Request {
    pub(crate) parts: Arc<Parts>,
    pub(crate) tag: u64,
    pub(crate) collect: bool,
}

/// What clones share.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) route: Arc<Route>,
    /// In the order and case given.
    pub(crate) headers: Vec<Header>,
    pub(crate) body: Payload,
    pub(crate) choices: Choices,
    /// Made at first sending: without decoding, and with it.
    pub(crate) encoded: [OnceLock<Encoded>; 2],
}

/// A name and a value, as given.
pub(crate) type Header = (Box<[u8]>, Box<[u8]>);

/// A request as it goes on the wire, secrets included.
#[derive(Clone)]
pub(crate) struct Encoded {
    /// The head, with a small body behind it.
    pub(crate) bytes: Box<[u8]>,
    /// The body is sent on its own: it is too large to be copied behind the head, comes piece by
    /// piece, or waits for the server's word.
    pub(crate) body_follows: bool,
    /// It says `Connection: close`.
    pub(crate) asks_close: bool,
}

/// What a request may say in place of the settings.
#[derive(Clone)]
pub(crate) struct Choices {
    /// [`Duration::MAX`] is "no limit".
    pub(crate) timeouts: Timeouts,
    pub(crate) deadline: Option<Instant>,
    pub(crate) follow: Option<bool>,
    pub(crate) redirects_max: Option<usize>,
    pub(crate) retries: Option<u32>,
    pub(crate) hedged: Option<bool>,
    pub(crate) cookies: Option<bool>,
    pub(crate) decode: Option<bool>,
    pub(crate) expect_continue: bool,
    /// A 101 is an answer.
    pub(crate) upgrade: bool,
    /// For the origin of the URL, in answer to a challenge of scheme Digest.
    pub(crate) digest: Option<Arc<Userinfo>>,
    pub(crate) deny_private: Option<bool>,
    pub(crate) head_bytes_max: Option<usize>,
    pub(crate) body_bytes_max: Option<u64>,
    pub(crate) resolve: Vec<Resolve>,
    pub(crate) connect_to: Vec<ConnectTo>,
    pub(crate) sockets: Option<Arc<SocketSettings>>,
    pub(crate) tls: Option<Arc<TlsSettings>>,
    /// `Some(None)`: no proxy, whatever the settings say.
    pub(crate) proxy: Option<Option<Proxy>>,
}

/// How a request is built.
impl Request {
    /// A request of any method. `url` is absolute, of scheme http or https; a user name and
    /// password in it become a Basic Authorization header, and a fragment is not sent.
    ///
    /// # Errors
    /// [`Kind::InvalidUrl`]; [`Kind::InvalidRequest`] for what is no token (RFC 9110 §9.1), and
    /// for CONNECT, which asks for a tunnel and not for a response.
    pub fn new(method: &str, url: impl AsRef<str>) -> Result<Self, Error> {
        Self::relative(method, None, url.as_ref())
    }

    /// The same for a URL that is parsed already.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn for_url(method: &str, mut url: Url) -> Result<Self, Error> {
        field::check_method(method).map_err(invalid_request)?;
        let method = Method::from_bytes(method.as_bytes()).map_err(invalid_request)?;
        let credentials = take_credentials(&mut url);
        let route = Arc::new(route_of(&url)?);
        let parts = Parts {
            method,
            url,
            route,
            headers: Vec::new(),
            body: Payload::None,
            choices: Choices::default(),
            encoded: Default::default(),
        };
        let mut request = Self { parts: Arc::new(parts), tag: 0, collect: false };
        if let Some(credentials) = credentials {
            request = request.authorization(credentials.basic().into_bytes());
        }
        Ok(request)
    }

    /// GET.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn get(url: impl AsRef<str>) -> Result<Self, Error> {
        Self::new("GET", url)
    }

    /// HEAD.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn head(url: impl AsRef<str>) -> Result<Self, Error> {
        Self::new("HEAD", url)
    }

    /// POST.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn post(url: impl AsRef<str>) -> Result<Self, Error> {
        Self::new("POST", url)
    }

    /// PUT.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn put(url: impl AsRef<str>) -> Result<Self, Error> {
        Self::new("PUT", url)
    }

    /// PATCH.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn patch(url: impl AsRef<str>) -> Result<Self, Error> {
        Self::new("PATCH", url)
    }

    /// DELETE.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn delete(url: impl AsRef<str>) -> Result<Self, Error> {
        Self::new("DELETE", url)
    }

    /// OPTIONS.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn options(url: impl AsRef<str>) -> Result<Self, Error> {
        Self::new("OPTIONS", url)
    }

    /// Adds a header, behind those already given; its case is kept.
    ///
    /// # Errors
    /// [`Kind::InvalidRequest`] where the name is no token, the value holds a CR, LF, NUL or
    /// another control character, or the header is the reactor's to send.
    pub fn header(
        mut self,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Self, Error> {
        let name = name.as_ref();
        let value = value.as_ref();
        let value = field::check_header(name, value).map_err(invalid_request)?;
        self.change().headers.push((name.into(), value.into()));
        Ok(self)
    }

    /// Adds all of `headers`, as [`Self::header`] does.
    ///
    /// # Errors
    /// As [`Self::header`].
    pub fn headers(mut self, headers: &http::HeaderMap) -> Result<Self, Error> {
        for (name, value) in headers {
            self = self.header(name.as_str(), value.as_bytes())?;
        }
        Ok(self)
    }

    /// An Authorization header of scheme Basic (RFC 7617), unless there is an Authorization.
    #[must_use]
    pub fn basic_auth(self, user: &str, password: &str) -> Self {
        self.authorization(userinfo::basic(user.as_bytes(), password.as_bytes()).into_bytes())
    }

    /// An Authorization header of scheme Bearer (RFC 6750), unless there is an Authorization.
    ///
    /// # Errors
    /// As [`Self::header`].
    pub fn bearer_auth(self, token: &str) -> Result<Self, Error> {
        let value = format!("Bearer {token}");
        let value = field::check_header(b"Authorization", value.as_bytes());
        let value = value.map_err(invalid_request)?.to_vec();
        Ok(self.authorization(value))
    }

    /// Who asks, in answer to a challenge of scheme Digest (RFC 7616) by the URL's origin: with
    /// MD5, SHA-256 or SHA-512-256, each with `-sess` or without, and the protection `auth`. The
    /// 401 with the first challenge is followed by one more exchange of the same fetch, and
    /// further requests to the origin answer beforehand. So is one for a nonce that the server
    /// has forgotten or calls stale: a fetch answers up to four challenges. It is not sent to
    /// another origin, nor where there is an Authorization header.
    ///
    /// # Errors
    /// [`Kind::InvalidRequest`] where the user name holds a CR, LF, NUL or another control
    /// character.
    ///
    /// ```
    /// # use whippet::Request;
    /// let request = Request::get("http://127.0.0.1/private")?.digest_auth("me", "hush")?;
    /// # Ok::<(), whippet::Error>(())
    /// ```
    #[cfg(feature = "digest")]
    pub fn digest_auth(mut self, user: &str, password: &str) -> Result<Self, Error> {
        field::check_header(b"Authorization", user.as_bytes()).map_err(invalid_request)?;
        let login = Userinfo { user: user.as_bytes().into(), password: password.as_bytes().into() };
        self.change().choices.digest = Some(Arc::new(login));
        Ok(self)
    }

    /// A number of the caller's own, repeated on everything that comes of this request.
    /// Default 0.
    #[must_use]
    pub fn tag(mut self, tag: u64) -> Self {
        self.tag = tag;
        self
    }

    /// The time for all of it, from first admission to the end: [`Limit::Total`].
    #[must_use]
    pub fn timeout(self, total: Duration) -> Self {
        self.limit(Limit::Total, total)
    }

    /// The time that one phase may take. [`Duration::MAX`]: no limit.
    #[must_use]
    pub fn limit(mut self, limit: Limit, allowed: Duration) -> Self {
        self.change().choices.timeouts.set(limit, Some(allowed));
        self
    }

    /// The moment by which it must have ended, waiting included.
    #[must_use]
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.change().choices.deadline = Some(deadline);
        self
    }

    /// Whether redirects are followed.
    #[must_use]
    pub fn follow(mut self, follow: bool) -> Self {
        self.change().choices.follow = Some(follow);
        self
    }

    /// Most redirects that are followed.
    #[must_use]
    pub fn redirects_max(mut self, hops: usize) -> Self {
        self.change().choices.redirects_max = Some(hops);
        self
    }

    /// Most attempts beyond the first.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.change().choices.retries = Some(retries);
        self
    }

    /// Whether it may be sent a second time while its answer does not come, as
    /// [`Settings::hedge`](crate::Settings::hedge) says; without this, yes.
    #[must_use]
    pub fn hedged(mut self, may_be: bool) -> Self {
        self.change().choices.hedged = Some(may_be);
        self
    }

    /// Whether it carries the cookies that were set before, and its responses set them: without it,
    /// as [`Settings::cookies`](crate::Settings::cookies) says. A Cookie header of its own is sent
    /// in any case; kept cookies go behind those in it, except where they have the same name.
    #[must_use]
    pub fn cookies(mut self, cookies: bool) -> Self {
        self.change().choices.cookies = Some(cookies);
        self
    }

    /// Whether content codings are asked for and removed from the body:
    /// [`Settings::decode`](crate::Settings::decode).
    #[must_use]
    pub fn decode(mut self, decode: bool) -> Self {
        self.change().choices.decode = Some(decode);
        self
    }

    /// Whether only addresses of the public internet are connected to, by this request and what
    /// it is redirected to: [`Settings::deny_private`](crate::Settings::deny_private).
    /// Connections are shared only with requests that said the same here.
    #[must_use]
    pub fn deny_private(mut self, deny: bool) -> Self {
        let parts = self.change();
        parts.choices.deny_private = Some(deny);
        let route = Route { deny_private: Some(deny), ..(*parts.route).clone() };
        parts.route = Arc::new(route);
        self
    }

    /// Most bytes of the response's head.
    #[must_use]
    pub fn head_bytes_max(mut self, bytes: usize) -> Self {
        self.change().choices.head_bytes_max = Some(bytes);
        self
    }

    /// Most bytes of the response's body, inclusive and decoded; a longer one ends with
    /// [`Kind::TooLarge`]. Without it a collected body has the settings' limit and a streamed
    /// one has none. [`u64::MAX`]: none.
    #[must_use]
    pub fn body_bytes_max(mut self, bytes: u64) -> Self {
        self.change().choices.body_bytes_max = Some(bytes);
        self
    }

    /// Whether the reactor gathers the body and hands over a whole
    /// [`Response`](crate::Response) (`true`), or lends head and body as they arrive (`false`,
    /// the default). A [`Client`](crate::Client) collects always.
    #[must_use]
    pub fn collect(mut self, collect: bool) -> Self {
        self.collect = collect;
        self
    }

    /// Connects to `address` where this request, or a redirect of it, goes to `host` and
    /// `port`; nothing is looked up. The Host field and the certificate's name stay `host`.
    ///
    /// # Errors
    /// None today; kept for what a route may refuse.
    pub fn resolve(mut self, host: &str, port: u16, address: IpAddr) -> Result<Self, Error> {
        self.change().choices.resolve.push(Resolve { host: host.to_owned(), port, address });
        self.reroute()
    }

    /// Connects elsewhere, where this request or a redirect of it goes to that host and port. The
    /// first that was given for them counts; those of the settings come behind. Connections are
    /// shared only with requests that are led to the same place.
    #[must_use]
    pub fn connect_to(mut self, entry: ConnectTo) -> Self {
        let parts = self.change();
        parts.choices.connect_to.push(entry);
        let detour = ConnectTo::first_of(&parts.choices.connect_to, &parts.route.origin);
        self.led_to(detour)
    }

    /// How sockets are made for this request and what it is redirected to, in place of
    /// [`Settings::sockets`](crate::Settings::sockets). Connections are shared only with requests
    /// that were given equal ones.
    #[must_use]
    pub fn sockets(mut self, sockets: Arc<SocketSettings>) -> Self {
        let parts = self.change();
        parts.choices.sockets = Some(Arc::clone(&sockets));
        let route = Route { sockets: Some(sockets), ..(*parts.route).clone() };
        parts.route = Arc::new(route);
        self
    }

    /// TLS settings of this request's own. Connections are shared only with requests that
    /// were given the same `Arc`.
    #[must_use]
    pub fn tls(mut self, tls: Arc<TlsSettings>) -> Self {
        let parts = self.change();
        parts.choices.tls = Some(Arc::clone(&tls));
        let route = Route { tls: Some(tls), ..(*parts.route).clone() };
        parts.route = Arc::new(route);
        self
    }

    /// The proxy in between, for this request and what it is redirected to; `None`: none. Without
    /// it, the settings say ([`Settings::proxies`](crate::Settings::proxies)).
    ///
    /// ```
    /// use whippet::{Proxy, Request};
    ///
    /// let proxy = Proxy::new("socks5h://127.0.0.1:9050")?;
    /// let request = Request::get("https://www.example.com/")?.proxy(Some(proxy));
    /// # Ok::<(), whippet::Error>(())
    /// ```
    #[must_use]
    pub fn proxy(mut self, proxy: Option<Proxy>) -> Self {
        self.change().choices.proxy = Some(proxy.clone());
        self.routed_by(proxy)
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.parts.method
    }

    /// The URL, without user information.
    pub fn url(&self) -> &Url {
        &self.parts.url
    }

    /// The tag given, or 0.
    pub fn tag_value(&self) -> u64 {
        self.tag
    }

    /// The first value of a header given to this request; `name` is compared without case.
    pub fn header_value(&self, name: &str) -> Option<&[u8]> {
        let same = |given: &[u8]| given.eq_ignore_ascii_case(name.as_bytes());
        self.parts.headers.iter().find(|(given, _)| same(given)).map(|(_, value)| &**value)
    }
}

/// What the other floors need of one.
impl Request {
    /// The request target in origin form (RFC 9112 §3.2.1).
    pub(crate) fn target(&self) -> &str {
        &self.parts.url[Position::BeforePath..Position::AfterQuery]
    }

    /// A request whose URL may be relative to `base`.
    pub(crate) fn relative(method: &str, base: Option<&Url>, url: &str) -> Result<Self, Error> {
        let parsed = Url::options().base_url(base).parse(url);
        Self::for_url(method, parsed.map_err(|error| invalid_url(url, error))?)
    }

    /// Roughly what it holds in memory while it waits.
    pub(crate) fn weight_bytes(&self) -> usize {
        let parts = &*self.parts;
        let headers: usize =
            parts.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        parts.url.as_str().len() + headers + parts.body.weight_bytes()
    }

    /// The request of a redirect: another URL and method, and whatever headers `keep` leaves.
    pub(crate) fn redirected(
        &self,
        method: Method,
        url: Url,
        keep_body: bool,
        keep_login: bool,
        keep: impl Fn(&[u8]) -> bool,
    ) -> Result<Self, Error> {
        let mut request = self.clone();
        let parts = request.change();
        parts.method = method;
        parts.url = url;
        parts.headers.retain(|(name, _)| keep(name));
        if !keep_body {
            parts.body = Payload::None;
        }
        if !keep_login {
            parts.choices.digest = None;
        }
        request.reroute()
    }

    /// Puts `headers` behind its own, each only where its name is not there yet.
    pub(crate) fn or_headers(mut self, headers: &[Header]) -> Self {
        let missing: Vec<_> = headers
            .iter()
            .filter(|(name, _)| {
                !self.parts.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
            })
            .cloned()
            .collect();
        if !missing.is_empty() {
            self.change().headers.extend(missing);
        }
        self
    }

    /// The same, its body given once where the caller pushes it.
    pub(crate) fn pushed_once(mut self) -> Self {
        if self.is_pushed() && self.parts.body.is_replayable() {
            self.change().body.push_once();
        }
        self
    }

    /// Whether the caller pushes its body.
    pub(crate) fn is_pushed(&self) -> bool {
        self.parts.body.is_pushed()
    }

    /// The parts to be changed: a copy where clones share them, and to be encoded anew.
    fn change(&mut self) -> &mut Parts {
        let parts = Arc::make_mut(&mut self.parts);
        parts.encoded = Default::default();
        parts
    }

    fn reroute(mut self) -> Result<Self, Error> {
        let parts = self.change();
        let route = route_of(&parts.url)?;
        let Choices { tls, deny_private, proxy, sockets, connect_to, .. } = &parts.choices;
        let (tls, proxy, sockets) = (tls.clone(), proxy.clone().flatten(), sockets.clone());
        let detour = ConnectTo::first_of(connect_to, &route.origin);
        let route = Route { tls, deny_private: *deny_private, proxy, sockets, ..route };
        parts.route = Arc::new(route);
        Ok(self.led_to(detour))
    }

    /// The same request led elsewhere, or to its origin. An address given for that place counts.
    pub(crate) fn led_to(mut self, detour: Option<Origin>) -> Self {
        let parts = self.change();
        let route = Route { detour: detour.map(Arc::new), ..(*parts.route).clone() };
        let Origin { host, port, .. } = route.target();
        let mut overrides = parts.choices.resolve.iter().rev();
        let resolve = overrides.find(|entry| entry.matches(host, *port)).map(|it| it.address);
        parts.route = Arc::new(Route { resolve, ..route });
        self
    }

    /// The same request over another proxy, or over none.
    pub(crate) fn routed_by(mut self, proxy: Option<Proxy>) -> Self {
        let parts = self.change();
        parts.route = Arc::new(Route { proxy, ..(*parts.route).clone() });
        self
    }

    fn authorization(mut self, value: Vec<u8>) -> Self {
        if self.header_value("authorization").is_none() {
            let header = (b"Authorization".as_slice().into(), value.into());
            self.change().headers.push(header);
        }
        self
    }
}

impl Default for Choices {
    fn default() -> Self {
        Self {
            timeouts: Timeouts::NONE,
            deadline: None,
            follow: None,
            redirects_max: None,
            retries: None,
            hedged: None,
            cookies: None,
            decode: None,
            expect_continue: false,
            upgrade: false,
            digest: None,
            deny_private: None,
            head_bytes_max: None,
            body_bytes_max: None,
            resolve: Vec::new(),
            connect_to: Vec::new(),
            sockets: None,
            tls: None,
            proxy: None,
        }
    }
}

/// Names of headers only: their values may be secrets, and so may the URL's query.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.parts.headers.iter().map(|(name, _)| String::from_utf8_lossy(name));
        f.debug_struct("Request")
            .field("method", &self.parts.method)
            .field("url", &&self.parts.url[..Position::AfterPath])
            .field("headers", &names.collect::<Vec<_>>())
            .field("body_bytes", &self.parts.body.length())
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}

/// What can become a request: a [`Request`], the URL of a GET, or the failure to build one.
pub trait IntoRequest {
    /// The request. A URL that is relative is taken relative to `base`, where there is one.
    ///
    /// # Errors
    /// As [`Request::new`].
    fn into_request(self, base: Option<&Url>) -> Result<Request, Error>;
}

impl IntoRequest for Request {
    fn into_request(self, _: Option<&Url>) -> Result<Request, Error> {
        Ok(self)
    }
}

impl IntoRequest for &Request {
    fn into_request(self, _: Option<&Url>) -> Result<Request, Error> {
        Ok(self.clone())
    }
}

impl IntoRequest for &str {
    fn into_request(self, base: Option<&Url>) -> Result<Request, Error> {
        Request::relative("GET", base, self)
    }
}

impl IntoRequest for &String {
    fn into_request(self, base: Option<&Url>) -> Result<Request, Error> {
        Request::relative("GET", base, self)
    }
}

impl IntoRequest for String {
    fn into_request(self, base: Option<&Url>) -> Result<Request, Error> {
        Request::relative("GET", base, &self)
    }
}

impl IntoRequest for Url {
    fn into_request(self, _: Option<&Url>) -> Result<Request, Error> {
        Request::for_url("GET", self)
    }
}

impl<T: IntoRequest> IntoRequest for Result<T, Error> {
    fn into_request(self, base: Option<&Url>) -> Result<Request, Error> {
        self.and_then(|request| request.into_request(base))
    }
}

fn route_of(url: &Url) -> Result<Route, Error> {
    if Scheme::of(url).is_none() {
        // What looks like a scheme may be a user name.
        let named = if url.as_str().contains('@') { "" } else { url.scheme() };
        return Err(invalid_url(url.as_str(), format!("scheme {named} is not http or https")));
    }
    let origin = Origin::of(url).ok_or_else(|| invalid_url(url.as_str(), "there is no host"))?;
    if origin.port == 0 {
        return Err(invalid_url(url.as_str(), "port 0 cannot be connected to"));
    }
    Ok(Route::to(origin))
}

/// Takes user name and password out of the URL (RFC 9110 §4.2.4).
fn take_credentials(url: &mut Url) -> Option<Userinfo> {
    let credentials = Userinfo::of(url)?;
    // Both fail only for URLs without a host, which have no user information either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Some(credentials)
}

/// The URL as given, cut short and without what may be a password.
fn invalid_url(url: &str, why: impl fmt::Display) -> Error {
    let shown: String = without_userinfo(url).chars().take(URL_CHARS_SHOWN_MAX).collect();
    let shown = shown.escape_debug();
    Error::new(Kind::InvalidUrl, Phase::Request, format!("invalid URL \"{shown}\": {why}"))
}

fn invalid_request(why: impl fmt::Display) -> Error {
    Error::new(Kind::InvalidRequest, Phase::Request, why.to_string())
}

const URL_CHARS_SHOWN_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_shares_everything_until_it_is_changed() {
        let one = Request::get("http://a.example/x").unwrap();
        let two = one.clone().tag(5);
        assert!(Arc::ptr_eq(&one.parts, &two.parts));
        let three = two.clone().timeout(Duration::from_secs(1));
        assert!(!Arc::ptr_eq(&two.parts, &three.parts));
        assert_eq!(three.tag_value(), 5);
    }

    #[test]
    fn user_information_becomes_a_header_and_leaves_the_url() {
        let request = Request::get("http://us%65r:p+a%40ss@a.example/x#frag").unwrap();
        assert_eq!(request.url().as_str(), "http://a.example/x#frag");
        assert_eq!(request.header_value("authorization").unwrap(), b"Basic dXNlcjpwK2FAc3M=");
        assert_eq!(request.target(), "/x");
        assert!(!format!("{request:?}").contains("dXNl"));
    }

    #[test]
    fn what_cannot_be_a_request_is_said_in_one_line() {
        for (url, why) in [
            ("", "relative URL"),
            ("/x", "relative URL"),
            ("ftp://a.example/", "scheme ftp is not http or https"),
            ("http://", "empty host"),
            ("http://a b/", "invalid"),
            ("http://a.example:0/", "port 0"),
            ("http://a.example:99999/", "port"),
            ("data:text/plain,x", "scheme data"),
        ] {
            let error = Request::get(url).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidUrl, "{url}");
            assert!(error.to_string().contains(why), "{url}: {error}");
            assert!(!error.to_string().contains('\n'));
        }
        let secret = Request::get("http://me:hush@[bad/").unwrap_err().to_string();
        assert!(!secret.contains("hush"), "{secret}");
    }

    #[test]
    fn methods_and_headers_cannot_be_injected() {
        for method in ["", "GE T", "GET\r\nX: y", "CONNECT"] {
            let error = Request::new(method, "http://a.example/").unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidRequest, "{method:?}");
        }
        let get = || Request::get("http://a.example/").unwrap();
        for (name, value) in
            [("A\r\nB", "x"), ("A", "x\r\nB: y"), ("A", "x\0"), ("", "x"), ("Host", "b.example")]
        {
            let error = get().header(name, value).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidRequest, "{name:?}: {value:?}");
        }
    }

    #[test]
    fn an_override_changes_the_route() {
        let plain = Request::get("http://a.example/").unwrap();
        let routed = plain.clone().resolve("A.example", 80, "127.0.0.1".parse().unwrap()).unwrap();
        assert!(!plain.parts.route.shares_with(&routed.parts.route));
        assert_eq!(plain.parts.route.origin, routed.parts.route.origin);
        let other_port = plain.clone().resolve("a.example", 81, "127.0.0.1".parse().unwrap());
        assert!(plain.parts.route.shares_with(&other_port.unwrap().parts.route));
    }
}
