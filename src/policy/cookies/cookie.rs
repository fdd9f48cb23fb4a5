//! Floor 1. One cookie, and whether a request may carry it (RFC 6265bis §5.1.3, §5.1.4, §5.8.3).
//!
//! In goes where a request goes; out comes yes or no.

use std::fmt;
use std::time::{Duration, SystemTime};

use url::Url;

use super::site;
use crate::origin::{Origin, Scheme};

/// A cookie that is kept.
#[derive(Clone)]
pub struct Cookie {
    pub(super) name: Box<[u8]>,
    pub(super) value: Box<[u8]>,
    /// As hosts are in an [`Origin`]: lower case, ASCII, no brackets.
    pub(super) domain: Box<str>,
    pub(super) is_host_only: bool,
    pub(super) path: Box<[u8]>,
    /// Seconds since 1970; none: as long as the session.
    pub(super) expires: Option<u64>,
    pub(super) is_secure: bool,
    pub(super) is_http_only: bool,
    pub(super) same_site: SameSite,
    /// When it came and when it was last used, by the jar's own count.
    pub(super) created: u64,
    pub(super) used: u64,
}

/// What a cookie says of requests that come from other sites. It is kept and not acted upon: a
/// fetch comes from no site.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub enum SameSite {
    /// Nothing that is known.
    #[default]
    Default,
    /// It may come along.
    None,
    /// Only when the user goes there.
    Lax,
    /// Never.
    Strict,
}

impl SameSite {
    pub(super) fn of(value: &[u8]) -> Self {
        let is = |known: &str| value.eq_ignore_ascii_case(known.as_bytes());
        if is("none") {
            Self::None
        } else if is("lax") {
            Self::Lax
        } else if is("strict") {
            Self::Strict
        } else {
            Self::Default
        }
    }
}

impl Cookie {
    /// Its name; empty where the server gave none.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Its value.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// The host it is for, or with [`Self::is_host_only`] false, that host and all below it.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Whether it is for exactly one host.
    pub fn is_host_only(&self) -> bool {
        self.is_host_only
    }

    /// The path it is for, and whatever is below.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// When it ends, to the second. `None`: with the jar.
    pub fn expires(&self) -> Option<SystemTime> {
        let since = Duration::from_secs(self.expires?);
        SystemTime::UNIX_EPOCH.checked_add(since)
    }

    /// Whether it goes over https only.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Whether its server wants scripts not to see it.
    pub fn is_http_only(&self) -> bool {
        self.is_http_only
    }

    /// What it says of other sites.
    pub fn same_site(&self) -> SameSite {
        self.same_site
    }

    pub(super) fn is_over(&self, now: u64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Whether a request to `place` carries it.
    pub(super) fn is_for(&self, place: Place<'_>) -> bool {
        let is_its_host = if self.is_host_only {
            place.host == &*self.domain
        } else {
            domain_matches(place.host, &self.domain, place.is_ip)
        };
        is_its_host
            && path_matches(place.path.as_bytes(), &self.path)
            && (place.is_secure || !self.is_secure)
    }

    /// Whether the one would take the other's place.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.name == other.name
            && self.domain == other.domain
            && self.is_host_only == other.is_host_only
            && self.path == other.path
    }
}

/// Neither value nor name: where there is no name, servers take the value for one.
impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cookie")
            .field("domain", &self.domain)
            .field("host_only", &self.is_host_only)
            .field("path", &String::from_utf8_lossy(&self.path))
            .field("expires", &self.expires)
            .field("secure", &self.is_secure)
            .finish_non_exhaustive()
    }
}

/// Where a request goes, or a response comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(super) host: &'a str,
    pub(super) is_ip: bool,
    pub(super) is_secure: bool,
    pub(super) path: &'a str,
}

impl<'a> Place<'a> {
    pub(crate) fn of(origin: &'a Origin, url: &'a Url) -> Self {
        Self {
            host: &origin.host,
            is_ip: origin.literal.is_some(),
            is_secure: origin.scheme == Scheme::Https,
            path: url.path(),
        }
    }

    pub(super) fn site(self) -> &'a str {
        site::site(self.host, self.is_ip)
    }

    /// The path of a cookie that names none (RFC 6265bis §5.1.4): up to the last slash.
    pub(super) fn default_path(self) -> &'a str {
        match self.path.rfind('/') {
            None | Some(0) => "/",
            Some(at) => self.path.get(..at).unwrap_or("/"),
        }
    }
}

/// The host is the domain, or a name below it; addresses have nothing below them.
pub(super) fn domain_matches(host: &str, domain: &str, is_ip: bool) -> bool {
    host == domain
        || (!is_ip && host.strip_suffix(domain).is_some_and(|before| before.ends_with('.')))
}

/// The request's path is the cookie's, or below it.
pub(super) fn path_matches(path: &[u8], cookie: &[u8]) -> bool {
    path.strip_prefix(cookie)
        .is_some_and(|rest| rest.is_empty() || cookie.ends_with(b"/") || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_for_its_host_and_what_is_below() {
        for (host, domain, is_ip, matches) in [
            ("a.example", "a.example", false, true),
            ("b.a.example", "a.example", false, true),
            ("c.b.a.example", "a.example", false, true),
            ("ba.example", "a.example", false, false),
            ("example", "a.example", false, false),
            ("a.example.", "a.example", false, false),
            (".a.example", "a.example", false, true),
            ("127.0.0.1", "127.0.0.1", true, true),
            ("127.0.0.1", "0.0.1", true, false),
            ("::1", "1", true, false),
        ] {
            assert_eq!(domain_matches(host, domain, is_ip), matches, "{host} {domain}");
        }
    }

    #[test]
    fn a_path_is_for_itself_and_what_is_below() {
        for (path, cookie, matches) in [
            ("/", "/", true),
            ("/a", "/", true),
            ("/a", "/a", true),
            ("/a/", "/a", true),
            ("/a/b", "/a", true),
            ("/a/b", "/a/", true),
            ("/ab", "/a", false),
            ("/a", "/a/", false),
            ("/", "/a", false),
            ("/A", "/a", false),
            ("/a/../b", "/b", false),
        ] {
            assert_eq!(
                path_matches(path.as_bytes(), cookie.as_bytes()),
                matches,
                "{path} {cookie}"
            );
        }
    }

    #[test]
    fn the_default_path_ends_before_the_last_slash() {
        for (url, path) in [
            ("http://a/", "/"),
            ("http://a/x", "/"),
            ("http://a/x/", "/x"),
            ("http://a/x/y", "/x"),
            ("http://a/x/y/?z/z", "/x/y"),
            ("http://a//", "/"),
            ("http://a//x/y", "//x"),
        ] {
            let url = Url::parse(url).unwrap();
            let origin = Origin::of(&url).unwrap();
            assert_eq!(Place::of(&origin, &url).default_path(), path, "{url}");
        }
    }
}
