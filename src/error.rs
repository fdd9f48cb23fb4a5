//! Plain data. Why a fetch failed: what, where, and whether to try again.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A failed fetch, or a request that could not be built.
///
/// It is one line for a human ([`fmt::Display`]), a [`Kind`] to match on, the [`Phase`] it struck
/// in, and whatever else is known: the [`Limit`] that fired, the addresses tried, the attempts
/// made, the [source](StdError::source). Cloning is cheap.
///
/// ```
/// use whippet::{Kind, Request};
///
/// let error = Request::get("htp://example.com/").unwrap_err();
/// assert_eq!(error.kind(), Kind::InvalidUrl);
/// assert!(error.to_string().contains("htp"));
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: Kind,
    phase: Phase,
    limit: Option<(Limit, Duration)>,
    detail: Cow<'static, str>,
    tried: Vec<Tried>,
    attempts: u32,
    status: Option<u16>,
    transient: bool,
    body_spent: bool,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// What happened, as a class to match on.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Where in its way the fetch was.
    pub fn phase(&self) -> Phase {
        self.0.phase
    }

    /// Which limit fired; set exactly where the kind is [`Kind::Timeout`].
    pub fn limit(&self) -> Option<Limit> {
        self.0.limit.map(|(limit, _)| limit)
    }

    /// Every address that the last attempt tried to connect to, and how each ended.
    pub fn tried(&self) -> &[Tried] {
        &self.0.tried
    }

    /// How many attempts were made, this one included; 0 where the fetch never began.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// The status of the response, for [`Kind::Status`].
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// Whether another attempt may well end otherwise (a refused connection, a reset, a limit
    /// of one attempt), as against one that will not (a bad certificate, a malformed URL).
    pub fn is_transient(&self) -> bool {
        self.0.transient
    }

    /// Whether no other attempt could be made because the [body](crate::Body) can be sent only
    /// once.
    pub fn is_body_spent(&self) -> bool {
        self.0.body_spent
    }

    /// The operating system's error number, where one is at the root.
    pub fn errno(&self) -> Option<i32> {
        let source = self.0.source.as_deref();
        let source = source.and_then(|source| source.downcast_ref::<io::Error>());
        let here = source.and_then(io::Error::raw_os_error);
        here.or_else(|| self.0.tried.last().and_then(|tried| tried.errno))
    }
}

/// How the other floors build one.
impl Error {
    pub(crate) fn new(kind: Kind, phase: Phase, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            phase,
            limit: None,
            detail: detail.into(),
            tried: Vec::new(),
            attempts: 0,
            status: None,
            transient: matches!(kind, Kind::Dns | Kind::Connect | Kind::Closed | Kind::Io),
            body_spent: false,
            source: None,
        }))
    }

    /// The limit fired after `allowed`.
    pub(crate) fn timeout(limit: Limit, phase: Phase, allowed: Duration) -> Self {
        let mut error = Self::new(Kind::Timeout, phase, "");
        error.0.limit = Some((limit, allowed));
        error.0.transient = limit.is_of_one_attempt();
        error
    }

    pub(crate) fn io(kind: Kind, phase: Phase, detail: &'static str, source: io::Error) -> Self {
        Self::new(kind, phase, detail).caused_by(Arc::new(source))
    }

    #[must_use]
    pub(crate) fn caused_by(mut self, source: Arc<dyn StdError + Send + Sync>) -> Self {
        self.0.source = Some(source);
        self
    }

    #[must_use]
    pub(crate) fn having_tried(mut self, tried: Vec<Tried>) -> Self {
        self.0.tried = tried;
        self
    }

    #[must_use]
    pub(crate) fn after_attempts(mut self, attempts: u32) -> Self {
        self.0.attempts = attempts;
        self
    }

    #[must_use]
    pub(crate) fn of_status(mut self, status: u16) -> Self {
        self.0.status = Some(status);
        self
    }

    /// Another attempt may well end otherwise, whatever the kind.
    #[must_use]
    pub(crate) fn passing(mut self) -> Self {
        self.0.transient = true;
        self
    }

    /// Another attempt will end the same, whatever the kind.
    #[must_use]
    pub(crate) fn lasting(mut self) -> Self {
        self.0.transient = false;
        self
    }

    /// Something of a body was sent that cannot be sent again.
    #[must_use]
    pub(crate) fn with_spent_body(mut self) -> Self {
        self.0.body_spent = true;
        self
    }

    #[must_use]
    pub(crate) fn at(mut self, phase: Phase) -> Self {
        self.0.phase = phase;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { limit, detail, tried, source, .. } = &*self.0;
        if let Some((limit, allowed)) = limit {
            write!(f, "timed out {} (limit {limit}: {} s)", self.0.phase, allowed.as_secs_f64())?;
        } else {
            f.write_str(detail)?;
        }
        for (nth, tried) in tried.iter().enumerate() {
            write!(f, "{} {tried}", if nth == 0 { ":" } else { ";" })?;
        }
        if let Some(source) = source.as_ref().filter(|_| tried.is_empty()) {
            write!(f, ": {source}")?;
        }
        if self.0.body_spent {
            f.write_str(" (not tried again: its body can be sent only once)")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("phase", &self.0.phase)
            .field("limit", &self.limit())
            .field("attempts", &self.0.attempts)
            .field("message", &self.to_string())
            .finish()
    }
}

/// An [`io::Error`] that holds it: `get_ref` and `downcast_ref` of the standard library give it
/// back. Never one of those kinds, as `Interrupted`, after which callers try again.
///
/// ```
/// use std::io;
/// use whippet::{Error, Kind, Request};
///
/// let error = io::Error::from(Request::get("htp://example.com/").unwrap_err());
/// let held = error.get_ref().and_then(|held| held.downcast_ref::<Error>());
/// assert_eq!(held.map(Error::kind), Some(Kind::InvalidUrl));
/// ```
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            Kind::InvalidUrl | Kind::InvalidRequest => io::ErrorKind::InvalidInput,
            Kind::Denied => io::ErrorKind::PermissionDenied,
            Kind::Timeout => io::ErrorKind::TimedOut,
            Kind::Closed => io::ErrorKind::UnexpectedEof,
            Kind::Malformed | Kind::Decode => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// The class of a failure.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// The URL cannot be read, or its scheme is neither http nor https.
    InvalidUrl,
    /// The method, a header or another part of the request is not allowed.
    InvalidRequest,
    /// The name could not be resolved.
    Dns,
    /// No address could be connected to.
    Connect,
    /// No address may be connected to, by
    /// [`Settings::deny_private`](crate::Settings::deny_private).
    Denied,
    /// The proxy could not be reached, or refused its part; the [`Phase`] says at which step.
    Proxy,
    /// The TLS handshake or a TLS record failed.
    Tls,
    /// The server's certificate was refused.
    Certificate,
    /// A [`Limit`] fired.
    Timeout,
    /// The connection closed before the response was complete.
    Closed,
    /// The response breaks HTTP.
    Malformed,
    /// The response's head or body is larger than allowed.
    TooLarge,
    /// The body's content coding cannot be undone: it is damaged, cut short, or a bomb.
    Decode,
    /// A redirect was refused.
    Redirect,
    /// The status counts as a failure, by the caller's explicit choice.
    Status,
    /// The fetch was given up by the program.
    Cancelled,
    /// Another error of a socket.
    Io,
}

impl Kind {
    /// A stable name in snake case, as the `fetch` program prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidUrl => "invalid_url",
            Self::InvalidRequest => "invalid_request",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Denied => "denied",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::Certificate => "certificate",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Decode => "decode",
            Self::Redirect => "redirect",
            Self::Status => "status",
            Self::Cancelled => "cancelled",
            Self::Io => "io",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where in its way a fetch was.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Phase {
    /// Building or submitting the request.
    Request,
    /// Waiting behind the caps.
    Queue,
    /// Resolving the name.
    Dns,
    /// Connecting.
    Connect,
    /// Asking a proxy for a tunnel, TLS with the proxy included.
    Proxy,
    /// Shaking hands over TLS.
    Tls,
    /// Sending the request.
    Send,
    /// Waiting for the response's head.
    Head,
    /// Receiving the body.
    Body,
    /// Waiting before another attempt.
    Backoff,
}

impl Phase {
    /// A stable name in snake case, as the `fetch` program prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Queue => "queue",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::Send => "send",
            Self::Head => "head",
            Self::Body => "body",
            Self::Backoff => "backoff",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "while building the request",
            Self::Queue => "while waiting behind the caps",
            Self::Dns => "while resolving the name",
            Self::Connect => "while connecting",
            Self::Proxy => "while asking the proxy for a tunnel",
            Self::Tls => "during the TLS handshake",
            Self::Send => "while sending the request",
            Self::Head => "while waiting for the response",
            Self::Body => "while receiving the body",
            Self::Backoff => "while waiting before another attempt",
        })
    }
}

/// The timers. Each is an absolute deadline once its phase has begun.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
#[non_exhaustive]
pub enum Limit {
    /// From first admission to the end: attempts, redirects and waits between them included.
    Total,
    /// The moment given to [`Request::deadline`](crate::Request::deadline).
    Deadline,
    /// Waiting behind the caps before first admission.
    Queue,
    /// Resolving the name.
    Dns,
    /// Resolving, connecting, what a proxy asks for, and the TLS handshake together.
    Connect,
    /// Getting past a proxy: TLS with it, and the tunnel through it.
    Proxy,
    /// The TLS handshake.
    Tls,
    /// Waiting for the server's word to send the body, where the request
    /// [asks for it](crate::Request::expect_continue). Its end is no failure: the body is sent.
    Continue,
    /// From the request being sent to the first byte of the response.
    FirstByte,
    /// An exchange in which no byte is read or written: from its beginning to its end, the wait
    /// for the first byte of the response included.
    Stall,
    /// Waiting before another attempt. Its end is no failure.
    Backoff,
    /// A connection without a request. Its end is no failure.
    Idle,
}

impl Limit {
    /// How many there are.
    pub(crate) const COUNT: usize = 12;

    /// A stable name in snake case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Deadline => "deadline",
            Self::Queue => "queue",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::Continue => "continue",
            Self::FirstByte => "first_byte",
            Self::Stall => "stall",
            Self::Backoff => "backoff",
            Self::Idle => "idle",
        }
    }

    /// Whether it bounds one attempt, so that another may follow.
    fn is_of_one_attempt(self) -> bool {
        matches!(
            self,
            Self::Dns | Self::Connect | Self::Proxy | Self::Tls | Self::FirstByte | Self::Stall
        )
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One address that was tried, and how it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Tried {
    /// Where to.
    pub address: SocketAddr,
    /// The operating system's error number, where it gave one.
    pub errno: Option<i32>,
    /// The same in words.
    pub reason: Cow<'static, str>,
}

impl Tried {
    pub(crate) fn failed(address: SocketAddr, error: &io::Error) -> Self {
        Self { address, errno: error.raw_os_error(), reason: Cow::Owned(error.to_string()) }
    }

    pub(crate) fn abandoned(address: SocketAddr, reason: &'static str) -> Self {
        Self { address, errno: None, reason: Cow::Borrowed(reason) }
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.address, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_names_its_limit_and_its_phase() {
        let error = Error::timeout(Limit::Connect, Phase::Tls, Duration::from_millis(2_500));
        assert_eq!(error.to_string(), "timed out during the TLS handshake (limit connect: 2.5 s)");
        assert!(error.is_transient());
        assert!(!Error::timeout(Limit::Total, Phase::Body, Duration::ZERO).is_transient());
    }

    #[test]
    fn every_address_tried_is_named_with_its_errno() {
        let refused = io::Error::from_raw_os_error(111);
        let first = "127.0.0.1:80".parse().unwrap();
        let second = "[::1]:80".parse().unwrap();
        let tried = vec![Tried::failed(first, &refused), Tried::abandoned(second, "too late")];
        let error = Error::new(Kind::Connect, Phase::Connect, "could not connect to a.example:80")
            .having_tried(tried);
        assert_eq!(
            error.to_string(),
            "could not connect to a.example:80: 127.0.0.1:80 Connection refused (os error 111); \
             [::1]:80 too late"
        );
    }
}
