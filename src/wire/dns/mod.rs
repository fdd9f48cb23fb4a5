//! Floor 1. DNS: messages, the configuration files, and one lookup as a state machine.
//!
//! In: a host name, the bytes of the files and of the servers' answers, the time. Out: queries to
//! send, a deadline, and at the end addresses with their time to live or a [`DnsError`].

pub(crate) mod config;
pub(crate) mod lookup;
pub(crate) mod message;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Why a host name has no address for us.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DnsError {
    /// The name cannot be asked for: an empty label, one of more than 63 bytes, more than 253
    /// bytes in all, or bytes that no host name has.
    InvalidName,
    /// The name does not exist (NXDOMAIN).
    NoSuchName,
    /// The name exists and has neither an IPv4 nor an IPv6 address.
    NoAddresses,
    /// The last server asked said that it failed.
    ServerFailure {
        /// Who said so.
        server: SocketAddr,
        /// Its response code: 2 is SERVFAIL, 5 is REFUSED.
        rcode: u16,
    },
    /// The last server asked sent an answer that cannot be used: malformed, or a chain of aliases
    /// that loops or has more than 8 links.
    BadAnswer {
        /// Who sent it.
        server: SocketAddr,
    },
    /// No server answered in time.
    Timeout {
        /// Every server that was asked, in that order.
        servers: Vec<SocketAddr>,
    },
    /// The last server asked could not be reached.
    Unreachable {
        /// Which one.
        server: SocketAddr,
        /// What the operating system said.
        reason: String,
    },
    /// The system's own resolver found nothing.
    System {
        /// What it said.
        reason: String,
    },
    /// More names are being looked up than the reactor was sized for.
    TooManyLookups,
}

impl DnsError {
    /// Whether the same question may be answered a little later.
    pub fn is_temporary(&self) -> bool {
        !matches!(self, Self::InvalidName | Self::NoSuchName | Self::NoAddresses)
    }
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidName => f.write_str("not a host name that DNS can carry"),
            Self::NoSuchName => f.write_str("no such host name"),
            Self::NoAddresses => f.write_str("the host name has no addresses"),
            Self::ServerFailure { server, rcode } => {
                let name = match rcode {
                    1 => " (FORMERR)",
                    2 => " (SERVFAIL)",
                    4 => " (NOTIMP)",
                    5 => " (REFUSED)",
                    _ => "",
                };
                write!(f, "the DNS server {server} failed with code {rcode}{name}")
            }
            Self::BadAnswer { server } => {
                write!(f, "the DNS server {server} sent an answer that cannot be used")
            }
            Self::Timeout { servers } => {
                f.write_str("no answer in time from the DNS server")?;
                for (nth, server) in servers.iter().enumerate() {
                    let separator = if nth == 0 { " " } else { ", " };
                    write!(f, "{separator}{server}")?;
                }
                Ok(())
            }
            Self::Unreachable { server, reason } => {
                write!(f, "the DNS server {server} could not be reached: {reason}")
            }
            Self::System { reason } => write!(f, "the system's resolver: {reason}"),
            Self::TooManyLookups => f.write_str("too many names are being looked up"),
        }
    }
}

impl std::error::Error for DnsError {}

/// Alternates the families from that of the first address, keeping the order inside each
/// (RFC 8305 §4). An address that is there twice is kept once.
pub(crate) fn interleave(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let is_first =
        |address: &IpAddr| addresses.first().map(IpAddr::is_ipv6) == Some(address.is_ipv6());
    let mut firsts = addresses.iter().copied().filter(|address| is_first(address));
    let mut seconds = addresses.iter().copied().filter(|address| !is_first(address));
    let mut mixed = Vec::with_capacity(addresses.len());
    loop {
        let pair = [firsts.next(), seconds.next()];
        for address in pair.into_iter().flatten() {
            // Quadratic, over the few addresses that one name has.
            if !mixed.contains(&address) {
                mixed.push(address);
            }
        }
        if pair == [None, None] {
            return mixed;
        }
    }
}

/// Whether DNS can carry `name`: labels of 1 to 63 visible ASCII bytes, 253 bytes in all. The
/// backslash is refused, because it begins an escape where names are written as text.
pub(crate) fn is_askable(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.split('.').all(|label| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        })
}

/// What 255 bytes on the wire are as text without the final dot (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 253;
/// RFC 1035 §2.3.4.
const LABEL_BYTES_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_alternate_from_the_first() {
        let given = ips(&["10.0.0.1", "10.0.0.2", "10.0.0.1", "::1", "10.0.0.3"]);
        assert_eq!(interleave(&given), ips(&["10.0.0.1", "::1", "10.0.0.2", "10.0.0.3"]));
        assert_eq!(interleave(&ips(&["::1", "::2", "1.2.3.4"])), ips(&["::1", "1.2.3.4", "::2"]));
        assert_eq!(interleave(&ips(&["::2", "::1"])), ips(&["::2", "::1"]));
        assert!(interleave(&[]).is_empty());
    }

    #[test]
    fn names_that_cannot_be_asked_are_known() {
        let long_label = "a".repeat(64);
        let long_name = vec!["a".repeat(63); 4].join(".");
        for bad in ["", ".", "a..b", "a.", ".a", "a b", "a\\.b", "é.org", &long_label, &long_name]
        {
            assert!(!is_askable(bad), "{bad:?}");
        }
        for good in ["a", "example.org", "_srv._tcp.example", &"a".repeat(63)] {
            assert!(is_askable(good), "{good:?}");
        }
    }

    #[test]
    fn errors_explain_themselves() {
        let server: SocketAddr = "192.0.2.1:53".parse().unwrap();
        let late = DnsError::Timeout { servers: vec![server, server] };
        assert_eq!(
            late.to_string(),
            "no answer in time from the DNS server 192.0.2.1:53, 192.0.2.1:53"
        );
        let refused = DnsError::ServerFailure { server, rcode: 5 };
        assert_eq!(refused.to_string(), "the DNS server 192.0.2.1:53 failed with code 5 (REFUSED)");
        assert!(late.is_temporary() && refused.is_temporary());
        assert!(!DnsError::NoSuchName.is_temporary());
    }
}
