//! Plain data. How sockets are made that carry connections: over a path of the file system or from
//! an address of one's own, and what the kernel is told of them.
//!
//! In go the caller's choices, uninspected; what the system refuses of them is an error of the
//! attempt to connect.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How the sockets of a client or of a request are made.
///
/// The default: from whatever address the system chooses, without delaying small writes
/// (TCP_NODELAY), without probes. Name servers are asked without any of this.
///
/// ```
/// use std::time::Duration;
/// use whippet::{Settings, SocketSettings};
///
/// let mut settings = Settings::default();
/// settings.sockets = SocketSettings::new()
///     .with_local_address("192.0.2.7".parse()?)
///     .with_keep_alive(Duration::from_secs(60), Duration::from_secs(10), 6)
///     .with_user_timeout(Duration::from_secs(20))
///     .into();
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
///
/// # Errors
/// Nothing is checked by these methods. What the system refuses, or does not have, is an error of
/// connecting: [`Kind::Connect`](crate::Kind::Connect), in the words of [`Tried`](crate::Tried).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SocketSettings {
    unix: Option<Arc<Path>>,
    local_v4: Option<Ipv4Addr>,
    local_v6: Option<Ipv6Addr>,
    interface: Option<Box<str>>,
    keep_alive: Option<KeepAlive>,
    user_timeout: Option<Duration>,
    no_delay: bool,
}

/// When a silent connection is probed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KeepAlive {
    pub(crate) idle: Duration,
    pub(crate) interval: Duration,
    pub(crate) probes: u32,
}

impl SocketSettings {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            unix: None,
            local_v4: None,
            local_v6: None,
            interface: None,
            keep_alive: None,
            user_timeout: None,
            no_delay: true,
        }
    }

    /// Connects to the socket at `path`, of the same machine, whatever host a URL names: nothing is
    /// looked up, and no proxy is in between. The Host field and the certificate's name stay the
    /// URL's. What a redirect leads to is asked over the same socket. The other choices here, which
    /// are TCP's, do not count then. `deny_private` denies it. Unix only.
    ///
    /// ```
    /// use whippet::{Request, SocketSettings};
    ///
    /// let request = Request::get("http://localhost/v1.43/info")?
    ///     .sockets(SocketSettings::new().with_unix_socket("/run/docker.sock").into());
    /// # Ok::<(), whippet::Error>(())
    /// ```
    #[must_use]
    pub fn with_unix_socket(mut self, path: impl AsRef<Path>) -> Self {
        self.unix = Some(path.as_ref().into());
        self
    }

    /// Connects from this address of the machine's. One of each family can be given; where only
    /// one family has one, addresses of the other are not connected to.
    #[must_use]
    pub fn with_local_address(mut self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(ip) => self.local_v4 = Some(ip),
            IpAddr::V6(ip) => self.local_v6 = Some(ip),
        }
        self
    }

    /// Connects through this network interface, as `eth0` (SO_BINDTODEVICE). Linux and Android.
    #[must_use]
    pub fn with_interface(mut self, name: &str) -> Self {
        self.interface = Some(name.into());
        self
    }

    /// Has the kernel probe a connection that was silent for `idle`, every `interval`, and give it
    /// up after `probes` without an answer (SO_KEEPALIVE, RFC 9293 §3.8.4). Whole seconds. Off by
    /// default: idle connections are closed long before, and a fetch has limits of its own.
    #[must_use]
    pub fn with_keep_alive(mut self, idle: Duration, interval: Duration, probes: u32) -> Self {
        self.keep_alive = Some(KeepAlive { idle, interval, probes });
        self
    }

    /// Has the kernel give up a connection where what was sent is not acknowledged for so long, in
    /// milliseconds (TCP_USER_TIMEOUT, RFC 5482). Without it, the system's own, some minutes.
    /// Linux, Android and Fuchsia.
    #[must_use]
    pub fn with_user_timeout(mut self, timeout: Duration) -> Self {
        self.user_timeout = Some(timeout);
        self
    }

    /// Whether small writes are sent at once (TCP_NODELAY), or wait until earlier ones are
    /// acknowledged. The default: at once.
    #[must_use]
    pub fn with_no_delay(mut self, no_delay: bool) -> Self {
        self.no_delay = no_delay;
        self
    }

    /// The path of the socket in the file system.
    pub fn unix_socket(&self) -> Option<&Path> {
        self.unix.as_deref()
    }

    /// The local addresses.
    pub fn local_addresses(&self) -> impl Iterator<Item = IpAddr> + fmt::Debug + use<> {
        let v4 = self.local_v4.map(IpAddr::V4);
        v4.into_iter().chain(self.local_v6.map(IpAddr::V6))
    }

    /// The network interface.
    pub fn interface(&self) -> Option<&str> {
        self.interface.as_deref()
    }

    /// Whether small writes are sent at once.
    pub fn no_delay(&self) -> bool {
        self.no_delay
    }

    /// How long sent bytes may stay without acknowledgement.
    pub fn user_timeout(&self) -> Option<Duration> {
        self.user_timeout
    }

    pub(crate) fn keep_alive(&self) -> Option<KeepAlive> {
        self.keep_alive
    }

    /// Whether it says nothing that is not usual.
    pub(crate) fn is_usual(&self) -> bool {
        let says_where = self.unix.is_some() || self.says_from_where() || self.interface.is_some();
        let says_how = self.keep_alive.is_some() || self.user_timeout.is_some() || !self.no_delay;
        !says_where && !says_how
    }

    /// Whether a local address was given.
    pub(crate) fn says_from_where(&self) -> bool {
        self.local_v4.is_some() || self.local_v6.is_some()
    }

    /// Where a socket to `remote` comes from: `None`: that is the system's choice.
    ///
    /// # Errors
    /// Only the other family has an address.
    pub(crate) fn local_for(&self, remote: SocketAddr) -> Result<Option<IpAddr>, NoLocalAddress> {
        let local = match remote {
            SocketAddr::V4(_) => self.local_v4.map(IpAddr::V4),
            SocketAddr::V6(_) => self.local_v6.map(IpAddr::V6),
        };
        if local.is_none() && self.says_from_where() { Err(NoLocalAddress) } else { Ok(local) }
    }
}

impl Default for SocketSettings {
    fn default() -> Self {
        Self::new()
    }
}

/// No local address was given that a socket of this family could come from.
#[derive(Debug)]
pub(crate) struct NoLocalAddress;

impl fmt::Display for NoLocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the local address is of the other family")
    }
}

impl std::error::Error for NoLocalAddress {}

/// The other end of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Peer<'a> {
    /// TCP.
    Address(SocketAddr),
    /// A socket in the file system.
    Unix(&'a Path),
}

impl fmt::Display for Peer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_said_is_not_usual() {
        let new = SocketSettings::new;
        assert!(new().is_usual() && new() == SocketSettings::default());
        let second = Duration::from_secs(1);
        for said in [
            new().with_unix_socket("/x"),
            new().with_local_address([127, 0, 0, 1].into()),
            new().with_interface("lo"),
            new().with_keep_alive(second, second, 1),
            new().with_user_timeout(second),
            new().with_no_delay(false),
        ] {
            assert!(!said.is_usual() && said != new(), "{said:?}");
        }
    }

    #[test]
    fn each_family_has_an_address_of_its_own() {
        let [v4, v6]: [SocketAddr; 2] = ["127.0.0.1:1", "[::1]:1"].map(|at| at.parse().unwrap());
        let one = SocketSettings::new().with_local_address([127, 0, 0, 2].into());
        assert_eq!(one.local_for(v4).unwrap(), Some([127, 0, 0, 2].into()));
        assert!(one.local_for(v6).is_err());
        let both = one.with_local_address(Ipv6Addr::LOCALHOST.into());
        assert_eq!(both.local_for(v6).unwrap(), Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(both.local_addresses().count(), 2);
        assert_eq!(SocketSettings::new().local_for(v6).unwrap(), None);
    }
}
