//! Plain data. Proxies: what one is, and which one a fetch takes.
//!
//! In go URLs, and variables of the environment as curl reads them; out comes, for an origin, the
//! proxy in between or none.

mod exceptions;

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use url::{Host, Url};

use self::exceptions::Exceptions;
use crate::error::{Error, Kind, Phase};
use crate::origin::{Origin, Scheme, hash_state};
use crate::userinfo::{Userinfo, without_userinfo};

/// A proxy: its protocol, address and credentials. A cheap clone.
///
/// Where it wants others, or any and has none (407), the fetch ends with an error of kind
/// [`Proxy`](Kind::Proxy), be it asked for a tunnel or handed the request; that of a request with a
/// Proxy-Authorization of its own is its answer.
///
/// ```
/// use whippet::{Proxy, ProxyProtocol};
///
/// let proxy = Proxy::new("socks5h://user:secret@127.0.0.1:1080")?;
/// assert_eq!(proxy.protocol(), ProxyProtocol::Socks5h);
/// assert_eq!(proxy.to_string(), "socks5h://127.0.0.1:1080");
/// # Ok::<(), whippet::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy(Arc<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    /// Computed once.
    hash: u64,
    protocol: ProxyProtocol,
    /// Lower case, in ASCII form, an IPv6 address without brackets.
    host: Box<str>,
    port: u16,
    literal: Option<IpAddr>,
    credentials: Option<Arc<Userinfo>>,
    asked: Asked,
}

/// What an HTTP proxy is told of the credentials.
#[derive(Clone, PartialEq, Eq)]
enum Asked {
    /// Nothing: there are none, or it is a SOCKS proxy, which has messages of its own for them.
    Never,
    /// This value of Proxy-Authorization (RFC 9110 §11.7.2), unasked.
    Basic(Box<str>),
    /// What answers a challenge of it, at this place.
    #[cfg_attr(not(feature = "digest"), expect(dead_code, reason = "nothing makes one"))]
    Digest(Box<Origin>),
}

/// How a proxy is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ProxyProtocol {
    /// HTTP (RFC 9110 §3.7): requests for http URLs are handed to it, those for all hosts on the
    /// same connections; https goes through a CONNECT tunnel.
    Http,
    /// The same over TLS. Its certificate is verified by the settings' own
    /// [`TlsSettings`](crate::TlsSettings), not by a request's.
    Https,
    /// SOCKS 4: names are resolved here, to an IPv4 address.
    Socks4,
    /// SOCKS 4a: names are resolved by the proxy.
    Socks4a,
    /// SOCKS 5 (RFC 1928): names are resolved here.
    Socks5,
    /// SOCKS 5: names are resolved by the proxy.
    Socks5h,
}

impl ProxyProtocol {
    fn of(scheme: &str) -> Option<Self> {
        Some(match scheme {
            "http" => Self::Http,
            "https" => Self::Https,
            "socks4" => Self::Socks4,
            "socks4a" => Self::Socks4a,
            "socks5" => Self::Socks5,
            "socks5h" => Self::Socks5h,
            _ => return None,
        })
    }

    /// The scheme of its URLs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks4 => "socks4",
            Self::Socks4a => "socks4a",
            Self::Socks5 => "socks5",
            Self::Socks5h => "socks5h",
        }
    }

    /// Whether it has HTTP requests handed to it.
    pub(crate) fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }

    /// Whether it is told an address, which is looked up here.
    pub(crate) fn wants_address(self) -> bool {
        matches!(self, Self::Socks4 | Self::Socks5)
    }

    fn default_port(self) -> u16 {
        if self == Self::Https { 443 } else { DEFAULT_PORT }
    }
}

impl Proxy {
    /// A proxy by its URL: `http`, `https`, `socks4`, `socks4a`, `socks5` or `socks5h`; `http`
    /// where there is no scheme. The port is 1080 where none is given, 443 for https, as with
    /// curl. A user name and password in it are the proxy's own: they are sent as Basic
    /// (RFC 7617), unless it is [told otherwise](Self::digest), or as RFC 1929 has it; SOCKS 4
    /// takes the name only.
    ///
    /// # Errors
    /// [`Kind::InvalidUrl`], with what is wrong. User information is never repeated.
    pub fn new(url: &str) -> Result<Self, Error> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let protocol = ProxyProtocol::of(&scheme.to_ascii_lowercase())
            .ok_or_else(|| invalid(url, "its scheme is not http, https or socks"))?;
        // Read as of a scheme that is not known: for http and https, port 80 and 443 would not
        // be told from none.
        let parsed = Url::parse(&format!("proxy://{rest}")).map_err(|error| invalid(url, error))?;
        let host = parsed.host_str().unwrap_or_default();
        if host.is_empty() {
            return Err(invalid(url, "there is no host"));
        }
        if !matches!(parsed.path(), "" | "/")
            || parsed.query().is_some()
            || parsed.fragment().is_some()
        {
            return Err(invalid(url, "only scheme, user, host and port belong there"));
        }
        let (host, literal) = match Host::parse(host).map_err(|error| invalid(url, error))? {
            Host::Domain(name) => (name, None),
            Host::Ipv4(ip) => (ip.to_string(), Some(IpAddr::V4(ip))),
            Host::Ipv6(ip) => (ip.to_string(), Some(IpAddr::V6(ip))),
        };
        let port = parsed.port().unwrap_or(protocol.default_port());
        if port == 0 {
            return Err(invalid(url, "port 0 cannot be connected to"));
        }
        let credentials = Userinfo::of(&parsed);
        if let Some(credentials) = &credentials {
            check(protocol, credentials).map_err(|what| invalid(url, what))?;
        }
        let asked = match &credentials {
            Some(credentials) if protocol.is_http() => Asked::Basic(credentials.basic().into()),
            _ => Asked::Never,
        };
        let hash = hash_state().hash_one((protocol, &host, port, &credentials));
        let (host, credentials) = (host.into(), credentials.map(Arc::new));
        Ok(Self(Arc::new(Inner { hash, protocol, host, port, literal, credentials, asked })))
    }

    /// The user name and password answer challenges of scheme Digest (RFC 7616), and are never
    /// sent as they are. The first request, and the first tunnel, costs one more attempt for it, as
    /// does one whose nonce the proxy has forgotten or calls stale; a fetch answers up to four
    /// challenges.
    /// Nothing changes for a proxy without credentials, and for SOCKS.
    ///
    /// ```
    /// let proxy = whippet::Proxy::new("http://me:hush@127.0.0.1:3128")?.digest();
    /// # Ok::<(), whippet::Error>(())
    /// ```
    #[cfg(feature = "digest")]
    #[must_use]
    pub fn digest(self) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        if matches!(inner.asked, Asked::Basic(_)) {
            let is_tls = inner.protocol == ProxyProtocol::Https;
            let scheme = if is_tls { Scheme::Https } else { Scheme::Http };
            let at = Origin::new(scheme, inner.host.clone(), inner.literal, inner.port);
            inner.asked = Asked::Digest(Box::new(at));
        }
        Self(Arc::new(inner))
    }

    /// How it is spoken to.
    pub fn protocol(&self) -> ProxyProtocol {
        self.0.protocol
    }

    /// Its host: a name, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// The host where it is an address: nothing to look up.
    pub(crate) fn literal(&self) -> Option<IpAddr> {
        self.0.literal
    }

    pub(crate) fn credentials(&self) -> Option<&Userinfo> {
        self.0.credentials.as_deref()
    }

    /// What it is told unasked.
    pub(crate) fn authorization(&self) -> Option<&str> {
        match &self.0.asked {
            Asked::Basic(value) => Some(value),
            _ => None,
        }
    }

    /// Where and as whom its challenges are answered.
    pub(crate) fn login(&self) -> Option<(&Origin, &Arc<Userinfo>)> {
        match (&self.0.asked, &self.0.credentials) {
            (Asked::Digest(at), Some(login)) => Some((at, login)),
            _ => None,
        }
    }

    /// Whether requests for this scheme are handed to it, without a tunnel to the origin.
    pub(crate) fn forwards(&self, scheme: Scheme) -> bool {
        self.0.protocol.is_http() && scheme == Scheme::Http
    }
}

impl Hash for Proxy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

/// Without user information.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { protocol, host, port, literal, .. } = &*self.0;
        let scheme = protocol.as_str();
        match literal {
            Some(IpAddr::V6(_)) => write!(f, "{scheme}://[{host}]:{port}"),
            _ => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// Which proxy a fetch takes that names none itself. The default: none.
///
/// ```
/// use whippet::{Proxies, Proxy, Settings};
///
/// let mut settings = Settings::default();
/// settings.proxies = Proxies::all(Proxy::new("http://127.0.0.1:3128")?)
///     .except("localhost, .internal.example, 10.0.0.0/8");
/// # Ok::<(), whippet::Error>(())
/// ```
#[derive(Clone, Default, Debug)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    exceptions: Exceptions,
}

impl Proxies {
    /// One for everything.
    pub fn all(proxy: Proxy) -> Self {
        Self { http: Some(proxy.clone()), https: Some(proxy), exceptions: Exceptions::default() }
    }

    /// One for http URLs, in place of what was there.
    #[must_use]
    pub fn http(mut self, proxy: Proxy) -> Self {
        self.http = Some(proxy);
        self
    }

    /// One for https URLs, in place of what was there.
    #[must_use]
    pub fn https(mut self, proxy: Proxy) -> Self {
        self.https = Some(proxy);
        self
    }

    /// With each of them as [`Proxy::digest`] makes it.
    #[cfg(feature = "digest")]
    #[must_use]
    pub fn digest(mut self) -> Self {
        self.http = self.http.map(Proxy::digest);
        self.https = self.https.map(Proxy::digest);
        self
    }

    /// Where no proxy is taken, in place of what was there: entries between commas or spaces.
    /// A name stands for itself and what is below it, with or without a dot in front; an address
    /// for itself; `10.0.0.0/8` or `fd00::/8` for a range of addresses, as they stand in URLs;
    /// each with `:port` for that port only (IPv6 addresses in brackets then); `*` for
    /// everything. What is none of these matches nothing.
    #[must_use]
    pub fn except(mut self, list: &str) -> Self {
        self.exceptions = Exceptions::new(list);
        self
    }

    /// What the environment says: [`Self::from_variables`] of the process's own.
    ///
    /// # Errors
    /// As [`Proxy::new`], with the variable's name.
    pub fn from_environment() -> Result<Self, Error> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// Reads variables as curl does: `http_proxy` (in lower case only: a web server's CGI sets
    /// `HTTP_PROXY` from a request's header), `https_proxy` or `HTTPS_PROXY`, `all_proxy` or
    /// `ALL_PROXY` where the scheme's own is not set, and `no_proxy` or `NO_PROXY` for
    /// [`Self::except`]. In lower case they go before; one that is empty says "no proxy".
    ///
    /// ```
    /// # use whippet::Proxies;
    /// let proxies = Proxies::from_variables(|name| match name {
    ///     "ALL_PROXY" => Some("socks5h://127.0.0.1".to_owned()),
    ///     _ => None,
    /// })?;
    /// # Ok::<(), whippet::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Proxy::new`], with the variable's name.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let first =
            |names: &[&'static str]| names.iter().find_map(|&name| Some((name, variable(name)?)));
        let proxy = |names: &[&'static str]| {
            let Some((name, url)) = first(names).filter(|(_, url)| !url.is_empty()) else {
                return Ok(None);
            };
            Proxy::new(&url).map(Some).map_err(|error| of_variable(name, &error))
        };
        Ok(Self {
            http: proxy(&["http_proxy", "all_proxy", "ALL_PROXY"])?,
            https: proxy(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])?,
            exceptions: first(&["no_proxy", "NO_PROXY"])
                .map_or_else(Exceptions::default, |(_, list)| Exceptions::new(&list)),
        })
    }

    /// Whether there is none for any origin.
    pub fn is_empty(&self) -> bool {
        self.http.is_none() && self.https.is_none()
    }

    /// The one between here and an origin.
    pub(crate) fn between(&self, origin: &Origin) -> Option<&Proxy> {
        let proxy = match origin.scheme {
            Scheme::Http => self.http.as_ref(),
            Scheme::Https => self.https.as_ref(),
        };
        proxy.filter(|_| !self.exceptions.cover(&origin.host, origin.literal, origin.port))
    }
}

/// What does not fit into a protocol's messages.
fn check(protocol: ProxyProtocol, credentials: &Userinfo) -> Result<(), &'static str> {
    let Userinfo { user, password } = credentials;
    match protocol {
        ProxyProtocol::Http | ProxyProtocol::Https if user.contains(&b':') => {
            Err("a user name for HTTP cannot hold a colon (RFC 7617 §2)")
        }
        ProxyProtocol::Socks5 | ProxyProtocol::Socks5h
            if user.is_empty() || user.len() > 255 || password.len() > 255 =>
        {
            Err("SOCKS 5 takes a user name of 1 to 255 bytes and a password of at most 255")
        }
        ProxyProtocol::Socks4 | ProxyProtocol::Socks4a
            if user.contains(&0) || user.len() > 255 || !password.is_empty() =>
        {
            Err("SOCKS 4 takes a user name of at most 255 bytes and no password")
        }
        _ => Ok(()),
    }
}

fn invalid(url: &str, what: impl fmt::Display) -> Error {
    let shown = without_userinfo(url);
    Error::new(Kind::InvalidUrl, Phase::Request, format!("invalid proxy {shown:?}: {what}"))
}

fn of_variable(name: &str, error: &Error) -> Error {
    Error::new(Kind::InvalidUrl, Phase::Request, format!("{name}: {error}"))
}

/// Where a proxy's URL says no port; curl's.
const DEFAULT_PORT: u16 = 1080;

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(url: &str) -> Origin {
        Origin::of(&Url::parse(url).unwrap()).unwrap()
    }

    #[test]
    fn a_proxy_is_its_protocol_host_and_port() {
        for (url, shown) in [
            ("http://127.0.0.1:80", "http://127.0.0.1:80"),
            ("https://Proxy.Example", "https://proxy.example:443"),
            ("https://proxy.example:443/", "https://proxy.example:443"),
            ("proxy.example:3128", "http://proxy.example:3128"),
            ("127.0.0.1", "http://127.0.0.1:1080"),
            ("SOCKS5://[::1]:9050", "socks5://[::1]:9050"),
            ("socks4a://bücher.example", "socks4a://xn--bcher-kva.example:1080"),
        ] {
            assert_eq!(Proxy::new(url).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_proxy_is_named_without_its_user() {
        for (url, what) in [
            ("ftp://user:canary@h", "scheme"),
            ("http://user:canary@", "host"),
            ("http://user:canary@h/path", "belong"),
            ("http://user:canary@h?x", "belong"),
            ("http://user:canary@h:0", "port 0"),
            ("http://user:canary@h:99999", "port"),
            ("http://us%3Aer:canary@h", "colon"),
            ("socks5://:canary@h", "SOCKS 5"),
            ("socks4://user:canary@h", "SOCKS 4"),
            ("socks4://us%00canary@h", "SOCKS 4"),
        ] {
            let said = Proxy::new(url).unwrap_err().to_string();
            assert!(said.contains(what) && !said.contains("canary"), "{url}: {said}");
        }
    }

    #[test]
    fn credentials_are_decoded_and_not_shown() {
        let proxy = Proxy::new("http://us%20er:p%3Aass@h").unwrap();
        assert_eq!(&*proxy.credentials().unwrap().user, b"us er");
        assert_eq!(proxy.authorization(), Some("Basic dXMgZXI6cDphc3M="));
        assert!(!format!("{proxy} {proxy:?}").contains("ass"));
        assert!(proxy != Proxy::new("http://h").unwrap());
    }

    #[cfg(feature = "digest")]
    #[test]
    fn credentials_for_digest_are_not_said_unasked() {
        let basic = Proxy::new("https://me:hush@h").unwrap();
        let digest = basic.clone().digest();
        assert!(digest != basic && digest == basic.clone().digest().digest());
        assert!(digest.authorization().is_none() && basic.login().is_none());
        let (at, login) = digest.login().unwrap();
        assert_eq!((at.to_string(), &*login.user), ("h:443".to_owned(), &b"me"[..]));
        for url in ["http://h", "socks5h://me:hush@h", "socks4://me@h"] {
            let proxy = Proxy::new(url).unwrap();
            assert!(proxy.authorization().is_none() && proxy.login().is_none(), "{url}");
            assert!(proxy.clone().digest() == proxy, "{url}");
        }
        let both = Proxies::all(basic).digest();
        assert!(both.http.as_ref() == Some(&digest) && both.https.as_ref() == Some(&digest));
    }

    #[test]
    fn the_environment_is_read_as_curl_reads_it() {
        let read = |set: &'static [(&str, &str)], url: &str| {
            let variable = |name: &str| {
                let found = set.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let proxies = Proxies::from_variables(variable).unwrap();
            proxies.between(&origin(url)).map(|proxy| proxy.host().to_owned())
        };
        let (plain, tls) = ("http://a.example/", "https://a.example/");
        let http = |host: &str| Some(host.to_owned());
        assert_eq!(read(&[("http_proxy", "one")], plain), http("one"));
        assert_eq!(read(&[("http_proxy", "one")], tls), None);
        assert_eq!(read(&[("HTTP_PROXY", "one")], plain), None);
        assert_eq!(read(&[("HTTPS_PROXY", "one"), ("https_proxy", "two")], tls), http("two"));
        assert_eq!(read(&[("HTTPS_PROXY", "one"), ("ALL_PROXY", "all")], plain), http("all"));
        assert_eq!(read(&[("http_proxy", ""), ("ALL_PROXY", "all")], plain), None);
        assert_eq!(read(&[("ALL_PROXY", "all"), ("NO_PROXY", "a.example")], plain), None);
        assert_eq!(
            read(&[("ALL_PROXY", "all"), ("no_proxy", ""), ("NO_PROXY", "*")], plain),
            http("all")
        );
        let wrong = Proxies::from_variables(|name| (name == "all_proxy").then(|| "x://y".into()));
        assert!(wrong.unwrap_err().to_string().starts_with("all_proxy: "));
    }
}
