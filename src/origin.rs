//! Plain data. What requests may share: an [`Origin`] shares caps and turns, a [`Route`]
//! shares connections.

use std::fmt::{self, Write};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use crate::proxy::Proxy;
use crate::socket::SocketSettings;
use crate::trust::TlsSettings;
use url::{Host, Url};

/// http or https.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(crate) fn of(url: &Url) -> Option<Self> {
        match url.scheme() {
            "http" => Some(Self::Http),
            "https" => Some(Self::Https),
            _ => None,
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Scheme, host and port (RFC 6454), with a hash that is computed once.
#[derive(Clone, Eq, Debug)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    /// Lower case, in ASCII form, an IPv6 address without brackets.
    pub(crate) host: Box<str>,
    pub(crate) port: u16,
    /// The host where it is an IP literal: nothing to look up.
    pub(crate) literal: Option<IpAddr>,
    hash: u64,
}

impl Origin {
    /// `None` where the URL has no host or another scheme.
    pub(crate) fn of(url: &Url) -> Option<Self> {
        let scheme = Scheme::of(url)?;
        let (host, literal) = match url.host()? {
            Host::Domain("") => return None,
            // The URL has it as text already.
            Host::Ipv4(ip) => (url.host_str()?.into(), Some(IpAddr::V4(ip))),
            host => parts_of(&host),
        };
        Some(Self::new(scheme, host, literal, url.port().unwrap_or(scheme.default_port())))
    }

    /// From its parts, the host as it is kept.
    pub(crate) fn new(scheme: Scheme, host: Box<str>, literal: Option<IpAddr>, port: u16) -> Self {
        let hash = hash_state().hash_one((scheme, &host, port));
        Self { scheme, host, port, literal, hash }
    }

    /// The same at another host or port.
    pub(crate) fn elsewhere(&self, host: Option<&Host<String>>, port: Option<u16>) -> Self {
        let (host, literal) = host.map_or_else(|| (self.host.clone(), self.literal), parts_of);
        Self::new(self.scheme, host, literal, port.unwrap_or(self.port))
    }

    /// Whether its host is this one.
    pub(crate) fn is_host(&self, host: &Host<String>) -> bool {
        match host {
            Host::Domain(name) => self.literal.is_none() && *self.host == **name,
            Host::Ipv4(ip) => self.literal == Some(IpAddr::V4(*ip)),
            Host::Ipv6(ip) => self.literal == Some(IpAddr::V6(*ip)),
        }
    }

    /// The Host field's value (RFC 9112 §3.2): the port only where it is not the scheme's.
    pub(crate) fn authority(&self) -> String {
        let (open, close) = match self.literal {
            Some(IpAddr::V6(_)) => ("[", "]"),
            _ => ("", ""),
        };
        let mut text = String::with_capacity(self.host.len() + BESIDE_HOST_BYTES_MAX);
        for part in [open, &self.host, close] {
            text.push_str(part);
        }
        if self.port != self.scheme.default_port() {
            // Writing into a string cannot fail.
            let _ = write!(text, ":{}", self.port);
        }
        text
    }
}

/// Brackets, a colon, and a port.
const BESIDE_HOST_BYTES_MAX: usize = 8;

/// A host's text, an IPv6 address without brackets, and the address that it may be.
fn parts_of<S: AsRef<str>>(host: &Host<S>) -> (Box<str>, Option<IpAddr>) {
    match host {
        Host::Domain(name) => (name.as_ref().into(), None),
        Host::Ipv4(ip) => (ip.to_string().into(), Some(IpAddr::V4(*ip))),
        Host::Ipv6(ip) => (ip.to_string().into(), Some(IpAddr::V6(*ip))),
    }
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
            && self.port == other.port
            && self.scheme == other.scheme
            && self.host == other.host
    }
}

impl Hash for Origin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self.literal, Some(IpAddr::V6(_))) {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What differs in any of these never shares a socket.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) origin: Origin,
    /// Where it leads in place of its origin.
    pub(crate) detour: Option<Arc<Origin>>,
    /// Where to connect in place of a lookup.
    pub(crate) resolve: Option<IpAddr>,
    /// How its sockets are made, where the request says; none: as the reactor's settings say.
    pub(crate) sockets: Option<Arc<SocketSettings>>,
    /// TLS settings of the request's own; none: the reactor's.
    pub(crate) tls: Option<Arc<TlsSettings>>,
    /// Whether addresses that are not public are refused, where the request says; none: what the
    /// reactor's settings say.
    pub(crate) deny_private: Option<bool>,
    /// The proxy in between.
    pub(crate) proxy: Option<Proxy>,
}

impl Route {
    /// The usual way to an origin.
    pub(crate) fn to(origin: Origin) -> Self {
        Self {
            origin,
            detour: None,
            resolve: None,
            sockets: None,
            tls: None,
            deny_private: None,
            proxy: None,
        }
    }

    /// The host and port that are connected to, here or by a proxy.
    pub(crate) fn target(&self) -> &Origin {
        self.detour.as_deref().unwrap_or(&self.origin)
    }

    /// How its sockets are made; `usual`: those whose route does not say.
    pub(crate) fn sockets_or<'a>(&'a self, usual: &'a SocketSettings) -> &'a SocketSettings {
        self.sockets.as_deref().unwrap_or(usual)
    }

    /// The proxy that requests are handed to; none where they go to the origin, through a tunnel
    /// or without one. One that is handed requests finds their origin itself.
    pub(crate) fn forwarder(&self) -> Option<&Proxy> {
        let forwards = |proxy: &&Proxy| proxy.forwards(self.origin.scheme) && self.detour.is_none();
        self.proxy.as_ref().filter(forwards)
    }

    /// Whether a connection made for the one may carry a request of the other.
    pub(crate) fn shares_with(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        Arc::ptr_eq(self, other) || self.is_as(other)
    }

    /// Apart, so that clones of a request, whose route is one, pay for one comparison.
    #[inline(never)]
    fn is_as(&self, other: &Self) -> bool {
        self.ends_where(other)
            && self.sockets == other.sockets
            && self.deny_private == other.deny_private
            && self.proxy == other.proxy
            && self.same_tls(other)
    }

    /// Whether the connections of both end at the same place, if they take the same proxy or none.
    fn ends_where(&self, other: &Self) -> bool {
        (self.origin == other.origin
            && self.resolve == other.resolve
            && self.detour == other.detour)
            // Each request that is handed to a proxy says whose it is (RFC 9112 §3.2.2).
            || (self.forwarder().is_some() && other.forwarder().is_some())
    }

    fn same_tls(&self, other: &Self) -> bool {
        match (&self.tls, &other.tls) {
            (None, None) => true,
            // Identity, not equality: to compare keys and certificates would be slow, and
            // wrong where a caller's own verifier is among them.
            (Some(one), Some(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }
}

/// A hasher for keys that carry their own hash.
#[derive(Clone, Copy, Default)]
pub(crate) struct Prehashed(u64);

impl Hasher for Prehashed {
    fn write(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.is_empty(), "only keys with a hash of their own");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl BuildHasher for Prehashed {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

/// One random key for the process: a URL list cannot be built to collide.
pub(crate) fn hash_state() -> &'static RandomState {
    static STATE: OnceLock<RandomState> = OnceLock::new();
    STATE.get_or_init(RandomState::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(url: &str) -> Origin {
        Origin::of(&Url::parse(url).unwrap()).unwrap()
    }

    #[test]
    fn default_ports_and_case_make_no_difference() {
        assert_eq!(origin("http://A.example/x"), origin("http://a.example:80/y"));
        assert_ne!(origin("http://a.example/"), origin("https://a.example/"));
        assert_ne!(origin("http://a.example/"), origin("http://a.example:81/"));
    }

    #[test]
    fn the_authority_names_the_port_only_where_it_matters() {
        assert_eq!(origin("https://a.example/").authority(), "a.example");
        assert_eq!(origin("https://a.example:80/").authority(), "a.example:80");
        assert_eq!(origin("http://[::1]:8080/").authority(), "[::1]:8080");
        assert_eq!(&*origin("http://[::1]/").host, "::1");
        assert_eq!(origin("http://127.1/").literal, Some("127.0.0.1".parse().unwrap()));
    }
}
