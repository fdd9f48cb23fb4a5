//! Plain data. What a reactor tells of each step of its fetches, to whoever wants to watch.
//!
//! In go the reactor's own values, lent; out come [`TraceEvent`]s for a [`Trace`]. A reactor that
//! nobody watches does not make them: what is told is decided by its type, when it is compiled.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use http::Method;
use url::Url;

use crate::close::CloseReason;
use crate::error::Error;
use crate::field;
use crate::proxy::Proxy;
use crate::response::{Head, Stats};
use crate::socket::Peer;

/// Names one fetch of one reactor, for as long as it lives; afterwards it names nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FetchId(pub(crate) u64);

/// Whoever watches a reactor: [`Reactor::traced`](crate::Reactor::traced). A closure will do.
///
/// It is called on the reactor's thread, in the middle of its work: what takes long delays every
/// fetch.
///
/// ```
/// use whippet::{Reactor, Request, Settings, Step, TraceEvent};
///
/// let watch = |event: &TraceEvent<'_>| match event.step {
///     Step::Connected { peer, took } => println!("{}: {peer} in {took:?}", event.tag),
///     Step::Reused { peer } => println!("{}: {peer} again", event.tag),
///     Step::Closed { reason } => println!("closed: {reason}"),
///     _ => {}
/// };
/// let mut reactor = Reactor::traced(Settings::default(), watch)?;
/// reactor.submit(Request::get("http://127.0.0.1:1/")?.tag(7))?;
/// while reactor.pending() > 0 {
///     reactor.wait(None)?;
///     while let Some(_) = reactor.next_event() {}
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Trace {
    /// One step was made.
    fn record(&mut self, event: &TraceEvent<'_>);
}

impl<F: FnMut(&TraceEvent<'_>)> Trace for F {
    fn record(&mut self, event: &TraceEvent<'_>) {
        self(event);
    }
}

/// One step, and whose it was.
///
/// A fetch makes one or more attempts, over retries and redirects; an attempt takes a connection
/// or makes one. Steps of one attempt come in the order in which they stand in [`Step`], but for
/// those of sockets that race, and for answers that come before all of a request was sent.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TraceEvent<'a> {
    /// When: since the reactor was made, on its clock, which is read once or twice a turn.
    pub at: Duration,
    /// The fetch; none where it is about a connection that is nobody's at the moment.
    pub fetch: Option<FetchId>,
    /// The request's tag; 0 where there is no fetch.
    pub tag: u64,
    /// Which attempt of the fetch: from 1; 0 before the first.
    pub attempt: u32,
    /// Which hop: the redirects followed before.
    pub hop: u32,
    /// The connection, where one is concerned.
    pub socket: Option<TracedSocket>,
    /// What happened.
    pub step: Step<'a>,
}

/// A connection of a reactor that is watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct TracedSocket {
    /// Connections are numbered as they are begun, from 0; those of name lookups over TCP count.
    pub number: u64,
    /// Bytes that its socket has taken so far: TLS, proxies and all requests before included.
    pub sent_bytes: u64,
    /// Bytes that its socket has given so far.
    pub received_bytes: u64,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Step<'a> {
    /// A request was submitted.
    Queued {
        /// Its method.
        method: &'a Method,
        /// Its URL, without user information.
        url: &'a Url,
    },
    /// An attempt begins: the fetch has its turn.
    Begun {
        /// How long it has waited for that since it was submitted; zero in later attempts.
        waited: Duration,
    },
    /// An idle connection was taken.
    Reused {
        /// Its other end.
        peer: Peer<'a>,
    },
    /// A name has addresses: of the target, or of the proxy before it.
    Resolved {
        /// The name.
        host: &'a str,
        /// In the order in which they are tried.
        addresses: &'a [IpAddr],
        /// How long that took; zero where they were known.
        took: Duration,
    },
    /// A socket begins to connect. Several may race.
    Dialled {
        /// Where to.
        peer: Peer<'a>,
    },
    /// It could not.
    DialFailed {
        /// Where to.
        peer: Peer<'a>,
        /// Why.
        error: &'a std::io::Error,
    },
    /// It has connected.
    Connected {
        /// Where to.
        peer: Peer<'a>,
        /// Since the first of the race was dialled.
        took: Duration,
    },
    /// A proxy has made way to the target.
    Tunnelled {
        /// The proxy.
        proxy: &'a Proxy,
        /// How long that took.
        took: Duration,
    },
    /// A TLS handshake is done, and the certificate was accepted.
    Secured {
        /// With the proxy, not with the origin.
        with_proxy: bool,
        /// `TLSv1.2` or `TLSv1.3`.
        protocol: &'static str,
        /// The cipher suite, as IANA names it.
        cipher: &'static str,
        /// An earlier session was taken up.
        resumed: bool,
        /// How long that took.
        took: Duration,
    },
    /// The request is sent: head and body.
    Sent {
        /// Its head.
        head: SentHead<'a>,
        /// Bytes of its body; none where it was sent in chunks.
        body_bytes: Option<u64>,
        /// How long that took.
        took: Duration,
    },
    /// The head of a response has come: interim, of a redirect, of what is tried again, or final.
    Head {
        /// The head. Its values may be secrets: [`Head::shown_headers`](crate::Head::shown_headers)
        /// leaves those out.
        head: Head<'a>,
        /// From the request being sent to its first byte.
        took: Duration,
    },
    /// The response is complete.
    Body {
        /// Bytes of its body on the wire, without framing.
        wire_bytes: u64,
        /// Bytes as they were handed over, decoded.
        body_bytes: u64,
        /// Since the first byte of its head.
        took: Duration,
    },
    /// A redirect is followed: an attempt at another URL comes next.
    Redirected {
        /// The status that said so.
        status: u16,
        /// Where to.
        to: &'a Url,
    },
    /// Another attempt will be made.
    Retried {
        /// Why.
        because: Because<'a>,
        /// After so long, in front of the line.
        after: Duration,
    },
    /// The fetch has ended.
    Ended {
        /// Why there is no complete response; none where there is one.
        error: Option<&'a Error>,
        /// All that is known of it.
        stats: &'a Stats,
    },
    /// The fetch was cancelled by the program.
    Cancelled,
    /// A connection is kept for further requests.
    Kept {
        /// Its other end.
        peer: Peer<'a>,
    },
    /// A connection was closed.
    Closed {
        /// Why.
        reason: CloseReason,
    },
}

/// Why another attempt is made.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Because<'a> {
    /// The response has a status that says so.
    Status(u16),
    /// The attempt failed.
    Failed(&'a Error),
    /// A kept connection turned out to be dead.
    Stale(&'a Error),
    /// The server wants to know who asks, and is told.
    Challenged,
}

/// The head of a request as it was sent, without the values of fields that are credentials.
#[derive(Clone, Copy)]
pub struct SentHead<'a>(&'a [u8]);

impl<'a> SentHead<'a> {
    /// `bytes` begin with a head, whose body may follow.
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        Self(bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default())
    }

    /// The request line.
    pub fn line(self) -> &'a [u8] {
        self.lines().next().unwrap_or_default()
    }

    /// Names and values of the fields, in order. In place of a value that authenticates somebody
    /// (Authorization, Cookie, Proxy-Authorization), and of a URL with user information (Referer),
    /// stands [`NOT_SHOWN`].
    pub fn fields(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.lines().skip(1).filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let (name, value) = line.split_at_checked(colon)?;
            let value = value.get(1..)?.trim_ascii();
            Some((name, shown(name, value)))
        })
    }

    fn lines(self) -> impl Iterator<Item = &'a [u8]> {
        // A field's value has no line ends: it was checked before it was sent.
        self.0.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// The request line, and the fields' names.
impl fmt::Debug for SentHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.fields().map(|(name, _)| String::from_utf8_lossy(name).into_owned());
        f.debug_struct("SentHead")
            .field("line", &String::from_utf8_lossy(self.line()))
            .field("fields", &names.collect::<Vec<_>>())
            .finish()
    }
}

/// A value, unless it is never printed unasked, or a URL with what may be a password.
pub(crate) fn shown<'a>(name: &[u8], value: &'a [u8]) -> &'a [u8] {
    let is_url = || URLS.iter().any(|url| name.eq_ignore_ascii_case(url.as_bytes()));
    let is_hidden =
        field::is_secret(name) || (value.contains(&b'@') && is_url() && has_user(value));
    if is_hidden { NOT_SHOWN } else { value }
}

/// Whether what stands before a `@` may be user information: it is in the authority, or has a
/// colon.
/// A path may have a `@` too: `https://a.example/@name`.
fn has_user(value: &[u8]) -> bool {
    let value = String::from_utf8_lossy(value);
    let (scheme, rest) = value.split_once(':').unwrap_or(("", &value));
    let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let rest = if is_scheme { rest } else { &value };
    let rest = rest.trim_start_matches(['/', '\\']);
    let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    let before = rest.rsplit_once('@').map_or("", |(before, _)| before);
    authority.contains('@') || before.contains(':')
}

/// Fields whose values are URLs, or have some in them.
const URLS: [&str; 6] = ["location", "content-location", "link", "origin", "referer", "refresh"];

/// Stands for a value that is a credential.
pub const NOT_SHOWN: &[u8] = b"(not shown)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heads_fields_are_shown_and_credentials_are_not() {
        let head = SentHead::of(
            b"GET /x HTTP/1.1\r\nHost: a.test\r\nauthorization: Basic canary\r\nCOOKIE: canary\r\n\
              Proxy-Authorization:canary\r\nX-Empty: \r\n\r\nX: body canary",
        );
        assert_eq!(head.line(), b"GET /x HTTP/1.1");
        let fields: Vec<_> = head
            .fields()
            .map(|(name, value)| [name, b"=", value].concat())
            .map(|field| String::from_utf8(field).unwrap())
            .collect();
        assert_eq!(
            fields,
            [
                "Host=a.test",
                "authorization=(not shown)",
                "COOKIE=(not shown)",
                "Proxy-Authorization=(not shown)",
                "X-Empty=",
            ]
        );
        assert!(!format!("{head:?}").contains("canary"), "{head:?}");
    }

    #[test]
    fn a_url_with_a_user_is_not_shown_and_a_path_with_a_name_is() {
        for (value, is_shown) in [
            ("http://a.example/x", true),
            ("https://a.example/@name", true),
            ("/@name/x", true),
            ("http://me:p@a.example/", false),
            ("http://token@a.example/", false),
            ("//me:p@[::1/", false),
            ("http:\\\\me:p@a.example/", false),
            ("http:me:p@a.example", false),
            ("http://me:p/q@a.example/", false),
            ("0; url=http://me:p@a.example/", false),
        ] {
            for name in ["Location", "referer"] {
                let shown = shown(name.as_bytes(), value.as_bytes());
                assert_eq!(shown == value.as_bytes(), is_shown, "{name}: {value}");
            }
        }
        assert_eq!(shown(b"From", b"me@a.example: x@y"), b"me@a.example: x@y");
    }

    #[test]
    fn a_closure_watches() {
        let mut seen = Vec::new();
        let mut watch = |event: &TraceEvent<'_>| seen.push(event.tag);
        let event = TraceEvent {
            at: Duration::ZERO,
            fetch: None,
            tag: 3,
            attempt: 0,
            hop: 0,
            socket: None,
            step: Step::Cancelled,
        };
        Trace::record(&mut watch, &event);
        assert_eq!(seen, [3]);
    }
}
