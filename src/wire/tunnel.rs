//! Floor 1. The talk with a proxy that ends in a tunnel: CONNECT (RFC 9110 §9.3.6) here, SOCKS in
//! [`socks`](super::socks).
//!
//! In go the proxy, the origin and what the proxy says, in any pieces; out come the bytes to send
//! and, once, that the tunnel is there, or what the proxy asks of who wants it. What a proxy sends
//! beyond that is refused: nobody behind it has been asked for anything yet.

use std::fmt;
use std::net::IpAddr;

use super::http1::head::{self, Head};
use super::http1::scan::Scan;
use super::http1::{INTERIM_RESPONSES_MAX, Malformed};
use super::socks::{Refusal, Socks4, Socks5};
use crate::origin::Origin;
use crate::proxy::{Proxy, ProxyProtocol};
use crate::response::{Field, values};

/// A tunnel that is being asked for.
#[derive(Clone)]
pub(crate) enum Tunnel {
    Connect(Connect),
    Socks4(Socks4),
    Socks5(Socks5),
}

impl Tunnel {
    /// Through `proxy` to `origin`. `address` is the origin's, for a protocol that
    /// [wants it](ProxyProtocol::wants_address).
    pub(crate) fn new(
        proxy: &Proxy,
        origin: &Origin,
        address: Option<IpAddr>,
    ) -> Result<Self, TunnelError> {
        Ok(match proxy.protocol() {
            ProxyProtocol::Http | ProxyProtocol::Https => {
                Self::Connect(Connect::new(origin, proxy.authorization()))
            }
            ProxyProtocol::Socks4 | ProxyProtocol::Socks4a => {
                Self::Socks4(Socks4::new(origin, address, proxy.credentials())?)
            }
            ProxyProtocol::Socks5 | ProxyProtocol::Socks5h => {
                Self::Socks5(Socks5::new(origin, address, proxy.credentials())?)
            }
        })
    }

    /// Appends what is sent first. `answer`: what a challenge that came before asks for, as a
    /// value of Proxy-Authorization.
    pub(crate) fn start(&mut self, answer: Option<&[u8]>, out: &mut Vec<u8>) {
        match self {
            Self::Connect(connect) => connect.start(answer, out),
            Self::Socks4(socks) => socks.start(out),
            Self::Socks5(socks) => socks.start(out),
        }
    }

    /// Takes what arrived, and appends what is to be sent next. `true`: the tunnel is there.
    pub(crate) fn receive(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<bool, TunnelError> {
        match self {
            Self::Connect(connect) => connect.receive(bytes),
            Self::Socks4(socks) => socks.receive(bytes),
            Self::Socks5(socks) => socks.receive(bytes, out),
        }
    }
}

/// A CONNECT request and as much of its answer as has come.
#[derive(Clone)]
pub(crate) struct Connect {
    /// The origin with its port: the target (RFC 9112 §3.2.3).
    pub(crate) target: Box<str>,
    /// The value of Proxy-Authorization.
    credentials: Option<Box<[u8]>>,
    /// What a 407 said in Proxy-Authenticate.
    pub(crate) challenges: Vec<Box<[u8]>>,
    carry: Vec<u8>,
    scan: Option<Scan>,
    interim_responses: usize,
}

impl Connect {
    fn new(origin: &Origin, authorization: Option<&str>) -> Self {
        Self {
            target: origin.to_string().into(),
            credentials: authorization.map(|value| value.as_bytes().into()),
            challenges: Vec::new(),
            carry: Vec::new(),
            scan: None,
            interim_responses: 0,
        }
    }

    /// Whether the proxy was told who asks.
    pub(crate) fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    fn start(&mut self, answer: Option<&[u8]>, out: &mut Vec<u8>) {
        if let Some(answer) = answer {
            self.credentials = Some(answer.into());
        }
        let target = self.target.as_bytes();
        for part in [b"CONNECT ", target, b" HTTP/1.1\r\nHost: ", target, b"\r\n"] {
            out.extend_from_slice(part);
        }
        if let Some(credentials) = &self.credentials {
            for part in [b"Proxy-Authorization: ", &**credentials, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(USER_AGENT);
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<bool, TunnelError> {
        self.carry.extend_from_slice(bytes);
        let mut fields = Vec::new();
        loop {
            // As any head: parsed when it arrives, and then not before its blank line was seen.
            let is_due = self.scan.as_mut().is_none_or(|scan| scan.find(&self.carry));
            if !is_due && self.carry.len() < ANSWER_BYTES_MAX {
                return Ok(false);
            }
            let Some(head) = head::parse(&self.carry, ANSWER_BYTES_MAX, &mut fields)? else {
                self.scan.get_or_insert_default();
                return Ok(false);
            };
            if !head.is_interim() {
                return self.answered(&head, &fields);
            }
            self.interim_responses += 1;
            if self.interim_responses > INTERIM_RESPONSES_MAX {
                return Err(Malformed::TooManyInterimResponses.into());
            }
            self.carry.drain(..head.length);
            self.scan = None;
            if self.carry.is_empty() {
                return Ok(false);
            }
        }
    }

    /// Lengths in an answer of 2xx mean nothing; the tunnel begins behind the head.
    fn answered(&mut self, head: &Head, fields: &[Field]) -> Result<bool, TunnelError> {
        match head.status {
            200..=299 if self.carry.len() > head.length => Err(TunnelError::Overrun),
            200..=299 => Ok(true),
            407 => {
                head::unfold(&mut self.carry, fields);
                let asks = values(fields, &self.carry, b"proxy-authenticate");
                self.challenges = asks.map(Box::from).collect();
                Err(TunnelError::unauthenticated(self.has_credentials()))
            }
            status => {
                let reason = String::from_utf8_lossy(head.reason.of(&self.carry));
                let shown = reason.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX);
                Err(TunnelError::Status(status, shown.collect()))
            }
        }
    }
}

/// Why there is no tunnel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum TunnelError {
    /// CONNECT was answered so.
    Status(u16, Box<str>),
    CredentialsWanted,
    CredentialsRefused,
    Malformed(Malformed),
    Socks(Refusal),
    /// Bytes behind its last word.
    Overrun,
}

impl TunnelError {
    /// A 407 that is not answered, to a request that had credentials or none.
    pub(crate) fn unauthenticated(had_credentials: bool) -> Self {
        if had_credentials { Self::CredentialsRefused } else { Self::CredentialsWanted }
    }

    /// Whether the proxy may well say something else the next time.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Status(status, _) => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            Self::Socks(refusal) => refusal.is_transient(),
            _ => false,
        }
    }
}

impl From<Malformed> for TunnelError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Refusal> for TunnelError {
    fn from(refusal: Refusal) -> Self {
        Self::Socks(refusal)
    }
}

impl fmt::Display for TunnelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status, reason) if reason.is_empty() => {
                write!(f, "it answered CONNECT with {status}")
            }
            Self::Status(status, reason) => {
                write!(f, "it answered CONNECT with {status} {reason}")
            }
            Self::CredentialsWanted => f.write_str("it asks for a user name and password"),
            Self::CredentialsRefused => f.write_str("it refused the user name and password"),
            Self::Malformed(malformed) => write!(f, "its answer breaks HTTP: {malformed}"),
            Self::Socks(refusal) => refusal.fmt(f),
            Self::Overrun => f.write_str("it sent bytes before the origin was asked for any"),
        }
    }
}

impl std::error::Error for TunnelError {}

/// What follows the fields that a CONNECT has of its own.
const USER_AGENT: &[u8] =
    concat!("User-Agent: whippet/", env!("CARGO_PKG_VERSION"), "\r\n\r\n").as_bytes();
/// Most bytes of an answer to CONNECT.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How much of a reason phrase is repeated in an error.
const REASON_CHARS_MAX: usize = 80;

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn tunnel(proxy: &str, url: &str, address: Option<&str>) -> Result<Tunnel, TunnelError> {
        let origin = Origin::of(&Url::parse(url).unwrap()).unwrap();
        let address = address.map(|ip| ip.parse().unwrap());
        Tunnel::new(&Proxy::new(proxy).unwrap(), &origin, address)
    }

    /// What is sent, and how it ends, where the proxy's bytes come in the pieces between `cuts`.
    fn talk(
        mut tunnel: Tunnel,
        said: &[u8],
        cuts: &[usize],
    ) -> (Vec<u8>, Result<bool, TunnelError>) {
        let mut sent = Vec::new();
        tunnel.start(None, &mut sent);
        let mut from = 0;
        for to in cuts.iter().copied().chain([said.len()]) {
            let piece = &said[from..to];
            from = to;
            match tunnel.receive(piece, &mut sent) {
                Ok(false) => {}
                Ok(true) if to < said.len() => return (sent, Err(TunnelError::Overrun)),
                ended => return (sent, ended),
            }
        }
        (sent, Ok(false))
    }

    /// The same at every cut and byte by byte, or the test fails.
    fn talked(
        proxy: &str,
        url: &str,
        address: Option<&str>,
        said: &[u8],
    ) -> (Vec<u8>, Result<bool, TunnelError>) {
        let begin = || tunnel(proxy, url, address).unwrap();
        let whole = talk(begin(), said, &[]);
        for cut in 0..=said.len() {
            assert_eq!(talk(begin(), said, &[cut]), whole, "cut at {cut}");
        }
        let every: Vec<usize> = (1..said.len()).collect();
        assert_eq!(talk(begin(), said, &every), whole, "byte by byte");
        whole
    }

    #[test]
    fn connect_names_the_origin_with_its_port_and_says_who_asks() {
        let (sent, ended) = talked(
            "http://u:p@h",
            "https://[::1]/x",
            None,
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 Go\r\nContent-Length: 5\r\n\r\n",
        );
        assert_eq!(ended, Ok(true));
        let expected = format!(
            "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\nProxy-Authorization: Basic dTpw\r\n\
             User-Agent: whippet/{}\r\n\r\n",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(String::from_utf8(sent).unwrap(), expected);
    }

    #[test]
    fn a_proxy_that_asks_who_it_is_can_be_answered() {
        let said = b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=\"a\"\r\nX: y\r\n\
                     proxy-authenticate: Digest realm=\"b\",\r\n nonce=\"n\"\r\n\r\nbody";
        let mut first = tunnel("http://h", "https://a.example/", None).unwrap();
        let ended = first.receive(said, &mut Vec::new());
        assert_eq!(ended, Err(TunnelError::CredentialsWanted));
        assert!(matches!(&first, Tunnel::Connect(asked) if !asked.has_credentials()));
        let challenges: Vec<_> = match &first {
            Tunnel::Connect(asked) => asked.challenges.iter().map(|it| &**it).collect(),
            _ => Vec::new(),
        };
        // The end of the line became spaces.
        assert_eq!(challenges, [&b"Basic realm=\"a\""[..], b"Digest realm=\"b\",   nonce=\"n\""]);
        let mut second = tunnel("http://h", "https://a.example/", None).unwrap();
        let mut sent = Vec::new();
        second.start(Some(b"Digest x"), &mut sent);
        let sent = String::from_utf8(sent).unwrap();
        assert!(sent.contains("443\r\nProxy-Authorization: Digest x\r\nUser-Agent: "), "{sent}");
        assert_eq!(second.receive(said, &mut Vec::new()), Err(TunnelError::CredentialsRefused));
    }

    #[test]
    fn whatever_is_no_tunnel_says_why() {
        let ok = "HTTP/1.1 200 OK\r\n\r\n";
        let many = "HTTP/1.1 103 x\r\n\r\n".repeat(INTERIM_RESPONSES_MAX + 1);
        for (proxy, said, why) in [
            ("http://h", "HTTP/1.1 403 No\x07pe\r\n\r\nbody", "it answered CONNECT with 403 Nope"),
            ("http://h", "HTTP/1.1 502\r\n\r\n", "it answered CONNECT with 502"),
            ("http://h", "HTTP/1.1 407 x\r\n\r\n", "it asks for a user name and password"),
            ("http://a:b@h", "HTTP/1.1 407 x\r\n\r\n", "it refused the user name and password"),
            ("http://h", &format!("{ok}x"), "it sent bytes before"),
            ("http://h", "SSH-2.0-x\r\n", "its answer breaks HTTP"),
            ("http://h", &many, "its answer breaks HTTP"),
            ("http://h", &"x".repeat(ANSWER_BYTES_MAX), "its answer breaks HTTP"),
        ] {
            let begin = || tunnel(proxy, "https://a.example/", None).unwrap();
            let error = talk(begin(), said.as_bytes(), &[]).1.unwrap_err();
            assert!(error.to_string().starts_with(why), "{said}: {error}");
            let every: Vec<usize> = (1..said.len()).collect();
            assert_eq!(talk(begin(), said.as_bytes(), &every).1.unwrap_err(), error, "{said}");
        }
        assert!(TunnelError::Status(503, "".into()).is_transient());
        assert!(!TunnelError::Status(403, "".into()).is_transient());
    }

    #[test]
    fn socks_5_asks_by_name_or_by_address() {
        let said = b"\x05\0\x05\0\0\x03\x02xy\0\x50";
        let (sent, ended) = talked("socks5h://h", "http://a.example/", None, said);
        assert_eq!(ended, Ok(true));
        assert_eq!(sent, b"\x05\x01\0\x05\x01\0\x03\x09a.example\0\x50");
        let said = b"\x05\0\x05\0\0\x01\x7f\0\0\x01\0\x50";
        let (sent, ended) = talked("socks5://h", "https://a.example/", Some("10.0.0.1"), said);
        assert_eq!(ended, Ok(true));
        assert_eq!(sent, b"\x05\x01\0\x05\x01\0\x01\x0a\0\0\x01\x01\xbb");
        let mut said = b"\x05\0\x05\0\0\x04".to_vec();
        said.extend([0; 18]);
        let (sent, ended) = talked("socks5h://h", "http://[::1]:81/", None, &said);
        assert_eq!(ended, Ok(true));
        assert_eq!(&sent[3..], b"\x05\x01\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\x51");
    }

    #[test]
    fn socks_5_says_who_asks_where_it_is_asked() {
        let said = b"\x05\x02\x01\0\x05\0\0\x01\0\0\0\0\0\0";
        let (sent, ended) = talked("socks5h://u:pw@h", "http://a.b/", None, said);
        assert_eq!(ended, Ok(true));
        assert_eq!(sent, b"\x05\x02\0\x02\x01\x01u\x02pw\x05\x01\0\x03\x03a.b\0\x50");
        let said = b"\x05\0\x05\0\0\x01\0\0\0\0\0\0";
        let (sent, ended) = talked("socks5h://u:pw@h", "http://a.b/", None, said);
        assert_eq!((ended, sent.len()), (Ok(true), 4 + 10));
    }

    #[test]
    fn socks_4_asks_by_address_and_4a_by_name() {
        let said = b"\0\x5a\0\x50\x0a\0\0\x01";
        let (sent, ended) = talked("socks4://u@h", "http://a.b/", Some("10.0.0.1"), said);
        assert_eq!(ended, Ok(true));
        assert_eq!(sent, b"\x04\x01\0\x50\x0a\0\0\x01u\0");
        let (sent, ended) = talked("socks4a://h", "http://a.b/", None, said);
        assert_eq!(ended, Ok(true));
        assert_eq!(sent, b"\x04\x01\0\x50\0\0\0\x01\0a.b\0");
    }

    #[test]
    fn socks_refusals_are_told_apart() {
        for (proxy, said, why, transient) in [
            ("socks5h://h", &b"\x05\xff"[..], "takes none of the ways", false),
            ("socks5h://h", b"\x05\x02", "takes none of the ways", false),
            ("socks5h://u:p@h", b"\x05\x02\x01\x01", "refused the user name", false),
            ("socks5h://h", b"\x05\0\x05\x02\0\x01\0\0\0\0\0\0", "not allowed", false),
            ("socks5h://h", b"\x05\0\x05\x05\0\x01\0\0\0\0\0\0", "refused the connection", true),
            ("socks5h://h", b"\x05\0\x05\x63\0\x01\0\0\0\0\0\0", "code 99", false),
            ("socks5h://h", b"\x05\0\x05\0\0\x02", "is no SOCKS", false),
            ("socks5h://h", b"HTTP", "is no SOCKS", false),
            ("socks5h://h", b"\x05\0\x05\0\0\x01\0\0\0\0\0\0x", "it sent bytes", false),
            ("socks4a://h", b"\0\x5b\0\0\0\0\0\0", "rejected", true),
            ("socks4a://h", b"\0\x5d\0\0\0\0\0\0", "user", false),
            ("socks4a://h", b"HTTP/1.1 400", "is no SOCKS", false),
            ("socks4a://h", b"\0\x5a\0\0\0\0\0\0x", "it sent bytes", false),
        ] {
            let (_, ended) = talked(proxy, "http://a.example/", None, said);
            let error = ended.unwrap_err();
            assert!(error.to_string().contains(why), "{}: {error}", said.escape_ascii());
            assert_eq!(error.is_transient(), transient, "{error}");
        }
    }

    #[test]
    fn what_socks_cannot_say_is_refused_before_anything_is_sent() {
        let long = format!("http://{}a.example/", "a.".repeat(130));
        for (proxy, url, address) in [
            ("socks4://h", "http://a.example/", Some("::1")),
            ("socks4a://h", "http://[::1]/", None),
            ("socks5h://h", &long, None),
            ("socks4a://h", &long, None),
        ] {
            assert!(tunnel(proxy, url, address).is_err(), "{proxy} {url}");
        }
    }
}
