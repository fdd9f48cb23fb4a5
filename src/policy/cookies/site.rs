//! Floor 1. Which hosts belong to one registrant; the only file that names `psl`.
//!
//! In goes a host; out comes whether anybody can register names below it, and the name that was
//! registered. Without the feature `public-suffixes` there is no list, and every name may be such
//! a suffix: then no cookie is for more than one host.

/// Whether names below it belong to different people (publicsuffix.org). `host` is a name in lower
/// case, not an address.
pub(super) fn is_public_suffix(host: &str) -> bool {
    list::registered(host).is_none()
}

/// What a cookie's domain can be at most: the registered name that `host` belongs to, or `host`.
pub(super) fn site(host: &str, is_ip: bool) -> &str {
    if is_ip { host } else { list::registered(host).unwrap_or(host) }
}

#[cfg(feature = "public-suffixes")]
mod list {
    pub(super) fn registered(host: &str) -> Option<&str> {
        psl::domain_str(host)
    }
}

#[cfg(not(feature = "public-suffixes"))]
mod list {
    pub(super) fn registered(_: &str) -> Option<&str> {
        None
    }
}

#[cfg(feature = "public-suffixes")]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_tells_registered_names_from_suffixes() {
        for suffix in ["com", "co.uk", "github.io", "com.", "localhost", "test", "xn--p1ai"] {
            assert!(is_public_suffix(suffix), "{suffix}");
        }
        for (host, registered) in [
            ("a.b.example.com", "example.com"),
            ("example.com", "example.com"),
            ("a.b.co.uk", "b.co.uk"),
            ("me.github.io", "me.github.io"),
            ("x.city.kawasaki.jp", "city.kawasaki.jp"),
            ("a.h.test", "h.test"),
            ("localhost", "localhost"),
            ("co.uk", "co.uk"),
        ] {
            assert_eq!(site(host, false), registered, "{host}");
        }
        assert!(!is_public_suffix("example.com"));
        assert_eq!(site("10.0.0.1", true), "10.0.0.1");
    }
}
