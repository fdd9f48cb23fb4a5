//! Plain data. Limits, caps and choices of a reactor, with the defaults in one table.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::detour::ConnectTo;
use crate::error::Limit;
use crate::hedge::Hedge;
use crate::pace::Pace;
use crate::proxy::Proxies;
use crate::socket::SocketSettings;
use crate::trust::TlsSettings;
use crate::userinfo::netrc::Netrc;

/// Everything a [`Reactor`](crate::Reactor) or [`Client`](crate::Client) can be told.
///
/// | field | default |
/// |---|---|
/// | `concurrency` | 128 fetches in flight |
/// | `per_origin` | none: a fair share of the concurrency |
/// | `waiting_requests_max`, `waiting_bytes_max` | 8,192 requests, 16 MiB |
/// | `buffered_bytes_max` | 64 MiB |
/// | `idle_connections_max` | 256 sockets |
/// | `timeouts` | see [`Timeouts`] |
/// | `head_bytes_max` | 64 KiB |
/// | `body_bytes_max` | 10 MiB for collected responses; none for streamed ones |
/// | `follow`, `redirects_max`, `allow_downgrade` | yes, 10, no |
/// | `retries` | 2 beyond the first attempt |
/// | `hedge` | never |
/// | `pace` | as fast as the caps allow: see [`Pace`] |
/// | `cookies` | yes |
/// | `decode` | yes |
/// | `netrc` | none |
/// | `deny_private` | no |
/// | `resolver`, `dns_servers`, `resolve` | [`ResolverChoice::Auto`], none, none |
/// | `connect_to`, `sockets` | none, [`SocketSettings`] |
/// | `proxies` | none; the environment is not read |
/// | `tls` | TLS 1.2 and 1.3, the web's root certificates |
/// | `events_per_wait_max` | 1,024 |
///
/// ```
/// use std::time::Duration;
/// use whippet::{Limit, Settings};
///
/// let mut settings = Settings::default();
/// settings.concurrency = 1_000;
/// settings.timeouts.set(Limit::FirstByte, Some(Duration::from_secs(5)));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Most fetches in flight at once; at least 1.
    pub concurrency: usize,
    /// Most fetches in flight at once to one origin. `None`: the concurrency divided by the
    /// origins that have work, rounded up.
    pub per_origin: Option<usize>,
    /// Most requests that wait for their turn; one more is given back by `submit`.
    pub waiting_requests_max: usize,
    /// Most bytes of encoded requests that wait for their turn.
    pub waiting_bytes_max: usize,
    /// Most bytes that wait in memory, all fetches taken together:
    /// [`Reactor::buffered_bytes`](crate::Reactor::buffered_bytes). Less than 1 MiB counts as
    /// 1 MiB. Near it reads shrink; at it they stop, with the `first_byte` and `stall` limits of
    /// those that wait, and `submit` gives requests back; nothing is dropped. One collecting
    /// fetch reads on all the same, from a reserve of one `body_bytes_max`; only where that, or
    /// the request's own, is more than half of this bound can that one body exceed it. Up to
    /// 16 KiB of trailers for each response under way are not counted. Decoders count, too; what
    /// one of them may come to hold, at most 20 MiB, can exceed the bound once.
    pub buffered_bytes_max: usize,
    /// Most idle connections kept; the one idle longest is closed for another. With less than
    /// `concurrency`, connections are closed where more fetches end in a turn than wait.
    pub idle_connections_max: usize,
    /// How long each phase may take.
    pub timeouts: Timeouts,
    /// Most bytes of a response's head. At most 16 MiB.
    pub head_bytes_max: usize,
    /// Most bytes of a collected body, decoded.
    pub body_bytes_max: u64,
    /// Whether redirects are followed.
    pub follow: bool,
    /// Most redirects of one fetch.
    pub redirects_max: usize,
    /// Whether a redirect may lead from https to http.
    pub allow_downgrade: bool,
    /// Most attempts of one fetch beyond its first.
    pub retries: u32,
    /// When a request whose answer does not come is sent a second time. `None`: never.
    pub hedge: Option<Hedge>,
    /// How gently each origin is asked, and when it is left alone.
    pub pace: Pace,
    /// Whether requests carry the cookies that were set before, and responses set them: in a
    /// [`CookieJar`](crate::CookieJar) of the reactor's own, by RFC 6265bis.
    /// [`Request::cookies`](crate::Request::cookies) says otherwise for one.
    pub cookies: bool,
    /// Whether content codings are asked for and removed: gzip, deflate, br and zstd, as far as
    /// they are built in, at most two on one body.
    ///
    /// Accept-Encoding then names them, unless the request has one of its own; with a Range it is
    /// `identity`. A body in a coding that is not known, and that of a 206, is handed on as it
    /// came; [`Head::removed_codings`](crate::Head::removed_codings) tells. Headers stay as they
    /// were sent: a Content-Length counts encoded bytes. What cannot be decoded ends with
    /// [`Kind::Decode`](crate::Kind::Decode): damaged or cut short, with something behind its end,
    /// more than two codings, or more than 1,000 times larger decoded than encoded (once that is
    /// over 1 MiB). Windows are at most 16 MiB for br (RFC 7932) and 8 MiB for zstd (RFC 9659).
    pub decode: bool,
    /// Logins by host: a request to one of them, in each hop of its redirects, says who asks with
    /// an Authorization header of scheme Basic, unless it has one or a
    /// [digest login](crate::Request::digest_auth) of its own. The login of all other hosts is
    /// not sent where a redirect has led to another origin.
    pub netrc: Option<Arc<Netrc>>,
    /// Whether only addresses of the public internet are connected to: not those of private use,
    /// loopback, link-local, unique local, multicast, or of any other range that IANA's
    /// special-purpose registries do not call globally reachable, nor IPv6 forms of such IPv4
    /// addresses (mapped, compatible, NAT64 of 64:ff9b::/96, 6to4).
    ///
    /// Every address is judged when it is about to be connected to, in each attempt and behind
    /// each redirect, wherever it came from: the URL, DNS, the hosts file, or `resolve`. Of a
    /// name's addresses, those that are allowed are used; where none is, the fetch ends with
    /// [`Kind::Denied`](crate::Kind::Denied). Name servers are asked wherever they are.
    pub deny_private: bool,
    /// Who resolves names.
    pub resolver: ResolverChoice,
    /// Name servers to ask in place of the system's; with them, the reactor itself resolves.
    pub dns_servers: Vec<SocketAddr>,
    /// Names that are not looked up.
    pub resolve: Vec<Resolve>,
    /// What is connected to in place of a URL's host and port: the first that is about it counts.
    pub connect_to: Vec<ConnectTo>,
    /// How sockets are made.
    pub sockets: Arc<SocketSettings>,
    /// Which proxy is taken. Only [`Proxies::from_environment`] reads the environment.
    pub proxies: Proxies,
    /// Whom to trust, and as whom to appear.
    pub tls: Arc<TlsSettings>,
    /// Most events taken from the operating system at once; at least 1.
    pub events_per_wait_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            concurrency: 128,
            per_origin: None,
            waiting_requests_max: 8_192,
            waiting_bytes_max: 16 << 20,
            buffered_bytes_max: 64 << 20,
            idle_connections_max: 256,
            timeouts: Timeouts::default(),
            head_bytes_max: 64 << 10,
            body_bytes_max: 10 << 20,
            follow: true,
            redirects_max: 10,
            allow_downgrade: false,
            retries: 2,
            hedge: None,
            pace: Pace::default(),
            cookies: true,
            decode: true,
            netrc: None,
            deny_private: false,
            resolver: ResolverChoice::Auto,
            dns_servers: Vec::new(),
            resolve: Vec::new(),
            connect_to: Vec::new(),
            sockets: Arc::default(),
            proxies: Proxies::default(),
            tls: Arc::default(),
            events_per_wait_max: 1_024,
        }
    }
}

/// How long each phase may take: a table by [`Limit`], `None` where there is no bound.
///
/// | limit | default |
/// |---|---|
/// | `Total` | 30 s |
/// | `Queue`, `Dns`, `Tls`, `FirstByte`, `Stall` | none |
/// | `Connect` | 10 s (resolving, connecting and TLS together) |
/// | `Continue` | 1 s |
/// | `Idle` | 4 s, or what the server's `Keep-Alive: timeout` says less a second |
///
/// `Deadline` and `Backoff` are set by the request and by the retry policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timeouts([Option<Duration>; Limit::COUNT]);

impl Timeouts {
    /// No limit at all.
    pub const NONE: Self = Self([None; Limit::COUNT]);

    /// How long `limit` allows.
    pub fn get(&self, limit: Limit) -> Option<Duration> {
        self.0[limit as usize]
    }

    /// Sets how long `limit` allows.
    pub fn set(&mut self, limit: Limit, allowed: Option<Duration>) {
        self.0[limit as usize] = allowed;
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let mut table = Self::NONE;
        table.set(Limit::Total, Some(Duration::from_secs(30)));
        table.set(Limit::Connect, Some(Duration::from_secs(10)));
        table.set(Limit::Continue, Some(Duration::from_secs(1)));
        table.set(Limit::Idle, Some(Duration::from_secs(4)));
        table
    }
}

/// Who resolves names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum ResolverChoice {
    /// The reactor, unless the system's configuration asks for what only the system's resolver
    /// can do: a service in nsswitch.conf beyond files and dns, options of resolv.conf that are
    /// not known here, `.local` names, names without a dot where no search list is set.
    #[default]
    Auto,
    /// The reactor, always: no thread is ever started.
    Builtin,
    /// The system's resolver (`getaddrinfo`), on one thread that the first lookup starts.
    System,
}

/// An address to use for a host and port in place of a lookup.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::exhaustive_structs, reason = "a triple")]
pub struct Resolve {
    /// The host as it stands in the URL; compared without case.
    pub host: String,
    /// The port, the scheme's default included.
    pub port: u16,
    /// Where to connect.
    pub address: IpAddr,
}

impl Resolve {
    pub(crate) fn matches(&self, host: &str, port: u16) -> bool {
        self.port == port && self.host.eq_ignore_ascii_case(host)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// The text of this file, read as one who looks for a default reads it.
    #[test]
    fn the_table_of_defaults_has_every_field() {
        let text = include_str!("settings.rs");
        let (docs, rest) = text.split_once("pub struct Settings {\n").unwrap();
        let fields = rest.split("\n}\n").next().unwrap().lines();
        let fields: BTreeSet<&str> = fields
            .filter_map(|line| line.strip_prefix("    pub ")?.split_once(':'))
            .map(|(name, _)| name)
            .collect();
        let rows = docs.lines().filter_map(|line| line.strip_prefix("/// | `"));
        let named: BTreeSet<&str> = rows
            .filter_map(|row| row.split(" | ").next())
            .flat_map(|names| names.split('`').step_by(2))
            .collect();
        assert!(fields.len() > 20, "{fields:?}");
        assert_eq!(named, fields);
    }
}
