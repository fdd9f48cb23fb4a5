//! Floor 1. Whether and where to follow a redirect. In go a response's status and `Location`, the
//! request it answers and the chain so far; out comes a [`Verdict`].
//!
//! RFC 9110 §15.4 and §10.2.2, with the method rewriting of browsers and the Fetch standard.

use std::fmt;

use http::Method;
use url::{Position, Url};

use crate::userinfo::without_userinfo;

/// One response that may be a redirect.
#[derive(Clone, Copy)]
pub(crate) struct Hop<'a> {
    /// The method of the request that was answered.
    pub(crate) method: &'a Method,
    /// Its URL.
    pub(crate) url: &'a Url,
    pub(crate) status: u16,
    /// The value of the first `Location` field.
    pub(crate) location: Option<&'a [u8]>,
    /// How many redirects were followed before this one.
    pub(crate) hops: usize,
}

/// What the user allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Whether redirects are followed at all.
    pub(crate) follow: bool,
    /// How many redirects are followed at most.
    pub(crate) hops_max: usize,
    /// Whether a redirect may lead from https to http.
    pub(crate) allow_downgrade: bool,
}

/// What to do with the response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the answer: hand it over.
    Answer,
    /// Send the next request in its place.
    Follow(Next),
    /// Fail.
    Refuse(Refusal),
}

/// The request that follows a redirect: the one before it, with these changes. `Host` is always
/// written anew.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Next {
    /// Absolute, http or https, without user information.
    pub(crate) url: Url,
    pub(crate) method: Method,
    /// `false`: no body, and no header that [`describes_body`].
    pub(crate) keep_body: bool,
    /// `false`: no header, in any number of copies, that [`is_credential`].
    pub(crate) keep_credentials: bool,
}

/// Why a redirect was not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The limit on redirects was reached, and they lead to new places still.
    TooMany {
        /// The limit.
        max: usize,
        /// Where the next one would have led.
        url: Url,
    },
    /// The redirects lead in a circle: the same method and URL again and again.
    Loop {
        /// Where the next one would have led.
        url: Url,
    },
    /// It leads from https to http, and that was not allowed.
    Downgrade {
        /// Where it leads.
        url: Url,
    },
    /// It leads to a URL that is neither http nor https.
    UnsupportedScheme {
        /// Where it leads.
        url: Url,
    },
    /// The body is to be sent again (307, 308), and it cannot be: it was read or pushed.
    BodySpent {
        /// Where it leads.
        url: Url,
    },
    /// Its `Location` is no URL, or not UTF-8.
    InvalidLocation {
        /// The value without user information, with U+FFFD for what is not UTF-8.
        location: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { max, url } => {
                write!(f, "more than {max} redirects, the last to {}", shortened(url.as_str()))
            }
            Self::Loop { url } => {
                write!(f, "the redirects loop, back to {}", shortened(url.as_str()))
            }
            Self::Downgrade { url } => {
                write!(f, "a redirect from https to http: {}", shortened(url.as_str()))
            }
            Self::UnsupportedScheme { url } => {
                write!(f, "a redirect to neither http nor https: {}", shortened(url.as_str()))
            }
            Self::BodySpent { url } => {
                let url = shortened(url.as_str());
                write!(f, "the body can be sent only once, and is asked for again by {url}")
            }
            Self::InvalidLocation { location } => {
                write!(f, "a redirect to what is no URL: {:?}", shortened(location))
            }
        }
    }
}

impl std::error::Error for Refusal {}

/// Judges one response. `visited` are the requests of this chain before `hop`'s, in any order.
///
/// A request may be answered with a redirect to itself once, because a server that sets a cookie
/// may do that. A loop is therefore named when the next request was made twice already, or when
/// the limit is reached and it was made before.
///
/// A `Location` that is missing or empty makes the response an answer. User information in it is
/// dropped: credentials come from the user, not from a server.
pub(crate) fn decide<'a>(
    hop: &Hop<'a>,
    rules: &Rules,
    visited: impl IntoIterator<Item = (&'a Method, &'a Url)>,
) -> Verdict {
    let Some(location) = hop.location.map(<[u8]>::trim_ascii) else { return Verdict::Answer };
    if !rules.follow || !is_redirect(hop.status) || location.is_empty() {
        return Verdict::Answer;
    }
    let url = match resolve(hop.url, location) {
        Ok(url) => url,
        Err(refusal) => return Verdict::Refuse(refusal),
    };
    if hop.url.scheme() == "https" && url.scheme() == "http" && !rules.allow_downgrade {
        return Verdict::Refuse(Refusal::Downgrade { url });
    }
    let method = next_method(hop.method, hop.status);
    let times = visited
        .into_iter()
        .chain([(hop.method, hop.url)])
        .filter(|(made, at)| **made == method && is_same_resource(at, &url))
        .count();
    let at_limit = hop.hops >= rules.hops_max;
    if times >= 2 || (at_limit && times > 0) {
        return Verdict::Refuse(Refusal::Loop { url });
    }
    if at_limit {
        return Verdict::Refuse(Refusal::TooMany { max: rules.hops_max, url });
    }
    Verdict::Follow(Next {
        // A 303 asks for another resource, which the body of the first request does not concern,
        // also where the method was GET before.
        keep_body: method == *hop.method && hop.status != 303,
        keep_credentials: is_same_origin(hop.url, &url),
        url,
        method,
    })
}

/// Whether a header authenticates its sender to one origin (and to its proxy).
pub(crate) fn is_credential(name: &[u8]) -> bool {
    CREDENTIALS.iter().any(|credential| name.eq_ignore_ascii_case(credential.as_bytes()))
}

/// Whether a header means nothing without the body it was sent with (RFC 9110 §15.4, RFC 9530).
pub(crate) fn describes_body(name: &[u8]) -> bool {
    BODY_HEADERS.iter().any(|header| name.eq_ignore_ascii_case(header.as_bytes()))
}

/// 300 leaves the choice to the user, 304 is about a cache, 305 and 306 are deprecated.
fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

fn next_method(method: &Method, status: u16) -> Method {
    match status {
        301 | 302 if *method == Method::POST => Method::GET,
        303 if *method != Method::HEAD => Method::GET,
        _ => method.clone(),
    }
}

/// `Location` relative to the request's URL. Octets over 0x7f, which a URI has not, are taken as
/// UTF-8 and percent-encoded.
fn resolve(base: &Url, location: &[u8]) -> Result<Url, Refusal> {
    let invalid = || Refusal::InvalidLocation {
        location: without_userinfo(&String::from_utf8_lossy(location)).into_owned(),
    };
    let text = str::from_utf8(location).map_err(|_| invalid())?;
    let mut url = base.join(text).map_err(|_| invalid())?;
    // Both fail only on URLs that have no place for user information.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Refusal::UnsupportedScheme { url });
    }
    if url.fragment().is_none() {
        // RFC 9110 §10.2.2: what has no fragment inherits the one before.
        url.set_fragment(base.fragment());
    }
    Ok(url)
}

/// Fragments are not sent, so they make no difference.
fn is_same_resource(one: &Url, other: &Url) -> bool {
    one[..Position::AfterQuery] == other[..Position::AfterQuery]
}

fn is_same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// The beginning of what a server sent, short enough for a line that a human reads.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(QUOTE_CHARS_MAX) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

const QUOTE_CHARS_MAX: usize = 300;

const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// `Expect` is one of them: 100-continue must not be asked for without a body (§10.1.1).
const BODY_HEADERS: [&str; 13] = [
    "content-type",
    "content-encoding",
    "content-language",
    "content-location",
    "content-length",
    "content-range",
    "content-md5",
    "content-digest",
    "repr-digest",
    "digest",
    "transfer-encoding",
    "trailer",
    "expect",
];

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { follow: true, hops_max: 10, allow_downgrade: false };

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn judge(method: &Method, from: &str, status: u16, location: &[u8]) -> Verdict {
        let url = url(from);
        let hop = Hop { method, url: &url, status, location: Some(location), hops: 0 };
        decide(&hop, &RULES, [])
    }

    fn follow(from: &str, location: &str) -> Option<Next> {
        match judge(&Method::GET, from, 302, location.as_bytes()) {
            Verdict::Follow(next) => Some(next),
            Verdict::Answer | Verdict::Refuse(_) => None,
        }
    }

    fn refusal(from: &str, location: &[u8]) -> Option<Refusal> {
        match judge(&Method::GET, from, 302, location) {
            Verdict::Refuse(refusal) => Some(refusal),
            Verdict::Answer | Verdict::Follow(_) => None,
        }
    }

    #[test]
    fn locations_resolve_against_the_request() {
        let base = "http://a.example/dir/page?q=1#top";
        for (location, expected) in [
            ("other", "http://a.example/dir/other#top"),
            ("/root", "http://a.example/root#top"),
            ("../up", "http://a.example/up#top"),
            ("?r=2", "http://a.example/dir/page?r=2#top"),
            ("#there", "http://a.example/dir/page?q=1#there"),
            ("/x#there", "http://a.example/x#there"),
            ("/x#", "http://a.example/x#"),
            ("//b.example/y", "http://b.example/y#top"),
            ("\\\\b.example\\y", "http://b.example/y#top"),
            ("https://B.example:443/z", "https://b.example/z#top"),
            (" \t/trimmed ", "http://a.example/trimmed#top"),
            ("/caf\u{e9}", "http://a.example/caf%C3%A9#top"),
            ("//b\u{fc}cher.example/", "http://xn--bcher-kva.example/#top"),
        ] {
            assert_eq!(follow(base, location).unwrap().url.as_str(), expected, "{location}");
        }
    }

    #[test]
    fn methods_and_bodies_change_as_in_browsers() {
        use Method as M;
        let query = M::from_bytes(b"QUERY").unwrap();
        for (status, from, to, body) in [
            (301, M::POST, M::GET, false),
            (302, M::POST, M::GET, false),
            (303, M::POST, M::GET, false),
            (307, M::POST, M::POST, true),
            (308, M::POST, M::POST, true),
            (301, M::PUT, M::PUT, true),
            (302, M::DELETE, M::DELETE, true),
            (303, M::PUT, M::GET, false),
            (303, query, M::GET, false),
            (303, M::HEAD, M::HEAD, false),
            (303, M::GET, M::GET, false),
            (301, M::GET, M::GET, true),
            (302, M::HEAD, M::HEAD, true),
        ] {
            let verdict = judge(&from, "http://a.example/", status, b"/b");
            let Verdict::Follow(next) = verdict else { unreachable!("{verdict:?}") };
            assert_eq!((next.method, next.keep_body), (to, body), "{status} {from}");
        }
    }

    #[test]
    fn what_is_no_redirect_is_the_answer() {
        for status in [200, 201, 300, 304, 305, 306, 399, 404] {
            assert_eq!(judge(&Method::GET, "http://a/", status, b"/b"), Verdict::Answer);
        }
        assert_eq!(judge(&Method::GET, "http://a/", 302, b""), Verdict::Answer);
        let at = url("http://a/");
        let hop =
            Hop { method: &Method::GET, url: &at, status: 302, location: Some(b"/b"), hops: 0 };
        assert_eq!(decide(&Hop { location: None, ..hop }, &RULES, []), Verdict::Answer);
        assert_eq!(decide(&hop, &Rules { follow: false, ..RULES }, []), Verdict::Answer);
    }

    #[test]
    fn credentials_stay_with_scheme_host_and_port() {
        let base = "https://a.example/x";
        for (location, kept) in [
            ("/y", true),
            ("https://a.example:443/", true),
            ("https://A.EXAMPLE/", true),
            ("https://a.example:8443/", false),
            ("https://b.example/", false),
            ("https://a.example./", false),
            ("//sub.a.example/", false),
            ("\\\\b.example/", false),
            ("https://a.example@b.example/", false),
        ] {
            assert_eq!(follow(base, location).unwrap().keep_credentials, kept, "{location}");
        }
        assert!(!follow("http://a.example/", "https://a.example/").unwrap().keep_credentials);
        assert!(!follow("http://a.example:443/", "https://a.example/").unwrap().keep_credentials);
    }

    #[test]
    fn user_information_is_dropped() {
        for location in ["http://user:secret@a.example/y", "/y"] {
            let next = follow("http://me:mine@a.example/x", location).unwrap();
            assert_eq!(next.url.as_str(), "http://a.example/y");
        }
        let shown = refusal("http://a/", b"ftp://user:secret@b/").unwrap().to_string();
        assert_eq!(shown, "a redirect to neither http nor https: ftp://b/");
    }

    #[test]
    fn https_does_not_lead_to_http_unless_allowed() {
        let to = url("http://a.example/y");
        let refused = refusal("https://a.example/", b"http://a.example/y").unwrap();
        assert_eq!(refused, Refusal::Downgrade { url: to });
        assert_eq!(refused.to_string(), "a redirect from https to http: http://a.example/y");
        let from = url("https://a.example/");
        let location = Some(&b"http://a.example/y"[..]);
        let hop = Hop { method: &Method::GET, url: &from, status: 301, location, hops: 0 };
        let verdict = decide(&hop, &Rules { allow_downgrade: true, ..RULES }, []);
        assert!(matches!(verdict, Verdict::Follow(next) if !next.keep_credentials));
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        for location in ["javascript:alert(1)", "file:///etc/passwd", "mailto:a@b", "data:,x"] {
            let refused = refusal("http://a/", location.as_bytes()).unwrap();
            assert!(matches!(refused, Refusal::UnsupportedScheme { .. }), "{location}");
            assert!(refused.to_string().ends_with(location), "{refused}");
        }
        for location in [&b"http://"[..], b"http://[::1", b"//a:99999/", b"/\xff\xfe", b"//a b/"] {
            let refused = refusal("http://a/", location).unwrap();
            assert!(matches!(refused, Refusal::InvalidLocation { .. }), "{refused:?}");
        }
        let shown = refusal("http://a/", b"/\x1b[2J\xff").unwrap().to_string();
        assert_eq!(shown, "a redirect to what is no URL: \"/\\u{1b}[2J\u{fffd}\"");
        let long = refusal("http://a/", &[0xff; 60_000]).unwrap().to_string();
        assert!(long.chars().count() < 400);
    }

    /// Walks a server's redirects from one URL to the next until the verdict is no longer to
    /// follow them. Returned with how many were followed.
    fn walk(
        mut method: Method,
        start: &str,
        next: impl Fn(usize) -> (u16, String),
    ) -> (usize, Verdict) {
        let mut at = url(start);
        let mut visited: Vec<(Method, Url)> = Vec::new();
        loop {
            let (status, location) = next(visited.len());
            let location = Some(location.as_bytes());
            let hop = Hop { method: &method, url: &at, status, location, hops: visited.len() };
            match decide(&hop, &RULES, visited.iter().map(|(method, url)| (method, url))) {
                Verdict::Follow(next) => {
                    visited.push((method, at));
                    (method, at) = (next.method, next.url);
                }
                end => return (visited.len(), end),
            }
        }
    }

    #[test]
    fn a_chain_ends_at_its_limit() {
        let verdict = walk(Method::GET, "http://a/0", |hop| (302, format!("/{}", hop + 1)));
        let refusal = Refusal::TooMany { max: 10, url: url("http://a/11") };
        assert_eq!(refusal.to_string(), "more than 10 redirects, the last to http://a/11");
        assert_eq!(verdict, (10, Verdict::Refuse(refusal)));
    }

    #[test]
    fn a_loop_is_named_but_a_cookie_may_be_set_once() {
        let looped = |hops, at| (hops, Verdict::Refuse(Refusal::Loop { url: url(at) }));
        // To itself once, with a cookie, then on.
        let cookie =
            |hop: usize| (if hop < 2 { 302 } else { 200 }, ["/", "/ok", "/"][hop].to_owned());
        assert_eq!(walk(Method::GET, "http://a/", cookie), (2, Verdict::Answer));
        // To itself for ever: asked twice, not a third time.
        assert_eq!(
            walk(Method::GET, "http://a/", |_| (302, "/#x".into())),
            looped(1, "http://a/#x")
        );
        // Two that point at each other.
        let pair = |hop| (302, if hop % 2 == 0 { "/b" } else { "/a" }.to_owned());
        assert_eq!(walk(Method::GET, "http://a/a", pair), looped(3, "http://a/a"));
        // A circle that is longer than half the limit, so that no URL comes up a third time.
        let circle = |hop| (302, format!("/{}", (hop + 1) % 9));
        assert_eq!(walk(Method::GET, "http://a/0", circle), looped(10, "http://a/2"));
        // POST, then GET of the same URL, which sets a cookie, is no loop.
        let form = |hop| (if hop < 2 { 303 } else { 200 }, "/".to_owned());
        assert_eq!(walk(Method::POST, "http://a/", form), (2, Verdict::Answer));
    }

    #[test]
    fn headers_are_sorted_whatever_their_case() {
        for name in ["Authorization", "COOKIE", "proxy-authorization"] {
            assert!(is_credential(name.as_bytes()) && !describes_body(name.as_bytes()));
        }
        for name in ["Content-Type", "content-LENGTH", "Transfer-Encoding", "Digest", "Expect"] {
            assert!(describes_body(name.as_bytes()) && !is_credential(name.as_bytes()));
        }
        for name in ["Accept", "Cookies", "Set-Cookie", "Content", "X-Authorization", ""] {
            assert!(!is_credential(name.as_bytes()) && !describes_body(name.as_bytes()));
        }
    }
}
