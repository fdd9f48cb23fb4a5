//! Plain data. The list of what is reached without a proxy (`NO_PROXY`).
//!
//! In go the list's text, then hosts and ports; out comes whether one is on it.

use std::net::IpAddr;

/// A list that was read.
#[derive(Clone, Default, Debug)]
pub(super) struct Exceptions(Vec<Exception>);

#[derive(Clone, Debug)]
struct Exception {
    place: Place,
    /// None: any.
    port: Option<u16>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Place {
    Everything,
    /// A name and what is below it: lower case, without a dot at either end.
    Domain(Box<str>),
    /// The addresses that begin with the same bits.
    Range {
        ip: IpAddr,
        bits: u32,
    },
}

impl Exceptions {
    pub(super) fn new(list: &str) -> Self {
        let entries = list.split(|c: char| c == ',' || c.is_ascii_whitespace());
        Self(entries.filter_map(Exception::new).collect())
    }

    /// `literal`: the host as an address, where it is one.
    pub(super) fn cover(&self, host: &str, literal: Option<IpAddr>, port: u16) -> bool {
        self.0.iter().any(|entry| {
            entry.port.is_none_or(|only| only == port) && entry.place.covers(host, literal)
        })
    }
}

impl Exception {
    fn new(entry: &str) -> Option<Self> {
        if let Some(place) = Place::new(entry) {
            return Some(Self { place, port: None });
        }
        let (place, port) = entry.rsplit_once(':')?;
        Some(Self { place: Place::new(place)?, port: Some(port.parse().ok()?) })
    }
}

impl Place {
    fn new(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Everything);
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let bare = address.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        if let Ok(ip) = bare.unwrap_or(address).parse::<IpAddr>() {
            let all = if ip.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Some(all), |bits| bits.parse().ok())?;
            return (bits <= all).then_some(Self::Range { ip, bits });
        }
        let name = text.trim_matches('.');
        let is_name = !name.is_empty() && !name.contains([':', '/', '*', '[', ']']);
        is_name.then(|| Self::Domain(name.to_lowercase().into()))
    }

    fn covers(&self, host: &str, literal: Option<IpAddr>) -> bool {
        match (self, literal) {
            (Self::Everything, _) => true,
            (Self::Domain(name), None) => {
                let host = host.strip_suffix('.').unwrap_or(host);
                host.strip_suffix(&**name)
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            (Self::Range { ip, bits }, Some(literal)) => share_bits(*ip, literal, *bits),
            _ => false,
        }
    }
}

/// Whether two addresses of one family begin with the same `bits`.
fn share_bits(one: IpAddr, other: IpAddr, bits: u32) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (one.to_bits() ^ other.to_bits()).leading_zeros() >= bits
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            (one.to_bits() ^ other.to_bits()).leading_zeros() >= bits
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(list: &str, host: &str, port: u16) -> bool {
        Exceptions::new(list).cover(host, host.parse().ok(), port)
    }

    #[test]
    fn names_cover_what_is_below_them() {
        for list in ["a.example", ".a.example", "a.example.", "x y,A.Example z"] {
            assert!(covers(list, "a.example", 80), "{list}");
            assert!(covers(list, "b.a.example", 80), "{list}");
            assert!(covers(list, "a.example.", 80), "{list}");
            assert!(!covers(list, "ba.example", 80), "{list}");
            assert!(!covers(list, "example", 80), "{list}");
        }
    }

    #[test]
    fn addresses_and_ranges_cover_addresses() {
        assert!(covers("10.0.0.0/8", "10.1.2.3", 80));
        assert!(!covers("10.0.0.0/8", "11.1.2.3", 80));
        assert!(covers("127.0.0.1", "127.0.0.1", 80));
        assert!(!covers("127.0.0.1", "127.0.0.2", 80));
        assert!(covers("fd00::/8", "fd12::1", 443));
        assert!(covers("[::1]", "::1", 443) && covers("::1", "::1", 443));
        assert!(covers("0.0.0.0/0", "1.2.3.4", 80) && !covers("0.0.0.0/0", "::1", 80));
        assert!(!covers("2.3.4", "1.2.3.4", 80), "an address has nothing below it");
    }

    #[test]
    fn a_port_narrows_an_entry() {
        assert!(covers("a.example:8080", "b.a.example", 8080));
        assert!(!covers("a.example:8080", "a.example", 80));
        assert!(covers("[::1]:81", "::1", 81) && !covers("[::1]:81", "::1", 80));
        assert!(covers("10.0.0.0/8:81", "10.0.0.1", 81));
        assert!(covers("*:81", "a.example", 81) && covers("*", "a.example", 80));
    }

    #[test]
    fn what_cannot_be_read_covers_nothing() {
        for list in ["", ",, ,", "10.0.0.0/33", "a.example:x", "10.0.0.0/x", "*.example", "a:b:c"] {
            assert!(Exceptions::new(list).0.is_empty(), "{list}");
            assert!(!covers(list, "a.example", 80) && !covers(list, "10.0.0.1", 80), "{list}");
        }
    }
}
