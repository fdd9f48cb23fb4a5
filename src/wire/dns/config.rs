//! Floor 1. The files that configure name resolution: hosts, resolv.conf, nsswitch.conf.
//!
//! In: their bytes, read by somebody else. Out: a table of names, and a [`Config`] with the
//! servers, the names to try and whether only the system's own resolver does what they ask for.
//! The only file that names `resolv_conf`. A line that makes no sense is skipped.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use resolv_conf::{ParseError, ScopedIp};

use super::{interleave, is_askable};

/// The names of a hosts file.
#[derive(Clone, Default, Debug)]
pub(crate) struct Hosts {
    addresses: HashMap<Box<str>, Vec<IpAddr>>,
}

impl Hosts {
    /// Reads lines of an address and its names. A name may be on several lines; all count.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let mut addresses: HashMap<Box<str>, Vec<IpAddr>> = HashMap::new();
        for words in lines(bytes) {
            let Some((address, names)) = words.split_first() else { continue };
            // A scope is the system's business: connecting would need its number.
            let address = address.split('%').next().unwrap_or(address);
            let Ok(address) = address.parse::<IpAddr>() else { continue };
            for name in names {
                let list = addresses.entry(name.to_ascii_lowercase().into()).or_default();
                if list.len() < ADDRESSES_MAX && !list.contains(&address) {
                    list.push(address);
                }
            }
        }
        for list in addresses.values_mut() {
            list.sort_by_key(IpAddr::is_ipv4);
        }
        Self { addresses }
    }

    /// The addresses of `host`, in lower case and without a final dot; the families alternate
    /// from IPv6.
    pub(crate) fn get(&self, host: &str) -> Option<Vec<IpAddr>> {
        self.addresses.get(host).map(|list| interleave(list))
    }

    /// `localhost` and all names below it are this machine, whatever the file and the servers say
    /// (RFC 6761 §6.3). The file only chooses between the families.
    pub(crate) fn loopback(&self, host: &str) -> Option<Vec<IpAddr>> {
        if host != "localhost" && !host.ends_with(".localhost") {
            return None;
        }
        let mut addresses = self.get(host).or_else(|| self.get("localhost")).unwrap_or_default();
        addresses.retain(IpAddr::is_loopback);
        if addresses.is_empty() {
            addresses = vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
        }
        Some(addresses)
    }
}

/// How names are asked for: resolv.conf(5), with the bounds that libc puts on its numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Config {
    /// Asked in this order; never empty.
    pub(crate) servers: Vec<SocketAddr>,
    /// Appended to names that are not absolute.
    pub(crate) search: Vec<Box<str>>,
    /// A name with fewer dots is tried as it is only after the search list.
    pub(crate) ndots: u32,
    /// How long one try of one server lasts.
    pub(crate) timeout: Duration,
    /// How often each server is tried.
    pub(crate) attempts: u32,
    /// Whether the first server is drawn for each name.
    pub(crate) rotate: bool,
    /// Whether everything is asked over TCP (`use-vc`).
    pub(crate) is_tcp_only: bool,
    /// Whether IPv6 addresses are not asked for (`no-aaaa`).
    pub(crate) is_ipv4_only: bool,
    /// Whether a name without dots is never tried as it is (`no-tld-query`).
    pub(crate) no_top_level: bool,
    system: Option<Reason>,
}

/// Why a name is for the system's own resolver rather than for ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reason {
    /// Only on Linux do the files say how names are resolved.
    Platform,
    /// nsswitch.conf asks more, or others, than the hosts file and DNS.
    NameServices,
    /// resolv.conf has an option that we do not know or do not have.
    Option,
    /// Names that end in `.local` are asked by multicast (RFC 6762).
    Multicast,
    /// A name without dots where no search list says what it belongs to.
    SingleLabel,
}

impl Reason {
    /// In words.
    #[cfg(test)]
    pub(crate) const fn explain(self) -> &'static str {
        match self {
            Self::Platform => "this system does not configure resolvers by files",
            Self::NameServices => "nsswitch.conf names other services for hosts than files and dns",
            Self::Option => "resolv.conf has an option that the built-in resolver does not have",
            Self::Multicast => "names that end in .local are resolved by multicast",
            Self::SingleLabel => "the name has no dot and there is no search list",
        }
    }
}

impl Config {
    /// Reads both files; `None` is a file that is absent, for which there are defaults.
    pub(crate) fn parse(resolv_conf: Option<&[u8]>, nsswitch: Option<&[u8]>) -> Self {
        let (file, errors) =
            resolv_conf::Config::parse_with_errors(resolv_conf.unwrap_or_default());
        let mut has_unknown = errors.iter().any(|error| {
            matches!(error, ParseError::InvalidOption(_) | ParseError::InvalidOptionValue(_))
        });
        has_unknown |= !file.sortlist.is_empty();
        let mut servers = Vec::new();
        for server in file.nameservers.iter().take(SERVERS_MAX) {
            match socket_address(server) {
                Some(server) => servers.push(server),
                None => has_unknown = true,
            }
        }
        if servers.is_empty() {
            servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
        }
        let search = file
            .get_last_search_or_domain()
            .map(|domain| domain.trim_end_matches('.').to_ascii_lowercase())
            .filter(|domain| is_askable(domain))
            .take(SEARCH_DOMAINS_MAX)
            .map(Into::into)
            .collect();
        let has_stub = servers.iter().any(|server| server.ip() == IpAddr::from(STUB));
        let system = if cfg!(not(target_os = "linux")) {
            Some(Reason::Platform)
        } else if !nsswitch.is_none_or(|file| is_files_then_dns(file, has_stub)) {
            Some(Reason::NameServices)
        } else if has_unknown {
            Some(Reason::Option)
        } else {
            None
        };
        Self {
            servers,
            search,
            ndots: file.ndots.min(NDOTS_MAX),
            timeout: Duration::from_secs(file.timeout.clamp(1, TIMEOUT_SECONDS_MAX).into()),
            attempts: file.attempts.clamp(1, ATTEMPTS_MAX),
            rotate: file.rotate,
            is_tcp_only: file.use_vc,
            is_ipv4_only: file.no_aaaa,
            no_top_level: file.no_tld_query,
            system,
        }
    }

    /// Whether asking DNS for `host`, in lower case, is not what this machine's owner set up.
    pub(crate) fn needs_system(&self, host: &str) -> Option<Reason> {
        let relative = host.strip_suffix('.').unwrap_or(host);
        if self.system.is_some() {
            self.system
        } else if relative == "local" || relative.ends_with(".local") {
            Some(Reason::Multicast)
        } else if !host.contains('.') && self.search.is_empty() {
            Some(Reason::SingleLabel)
        } else {
            None
        }
    }

    /// The absolute names to ask for `host`, in order, without final dots.
    pub(crate) fn candidates(&self, host: &str) -> Vec<Box<str>> {
        if let Some(absolute) = host.strip_suffix('.') {
            return vec![absolute.into()];
        }
        let dots = host.bytes().filter(|byte| *byte == b'.').count();
        let mut names: Vec<Box<str>> = self
            .search
            .iter()
            .map(|domain| format!("{host}.{domain}"))
            .filter(|name| is_askable(name))
            .map(Into::into)
            .collect();
        let is_alone = names.is_empty();
        if dots > 0 || !self.no_top_level || is_alone {
            let is_first = dots >= usize::try_from(self.ndots).unwrap_or(usize::MAX);
            let at = if is_first { 0 } else { names.len() };
            names.insert(at, host.into());
        }
        names
    }
}

/// Whether the `hosts` line asks the hosts file, then DNS, and nobody else who matters:
/// `myhostname` only knows names of this machine, and `resolve` stands for DNS where its stub
/// server is the one in resolv.conf. What is done about failures (`[...]`) changes nothing then.
fn is_files_then_dns(nsswitch: &[u8], has_stub: bool) -> bool {
    let line = lines(nsswitch).map(|words| words.join(" ")).find_map(|line| {
        Some(line.strip_prefix("hosts")?.trim_start().strip_prefix(':')?.to_owned())
    });
    let Some(services) = line else { return true };
    let mut is_dns_asked = false;
    let mut is_action = false;
    for service in services.split_ascii_whitespace() {
        if is_action || service.starts_with('[') {
            is_action = !service.ends_with(']');
            continue;
        }
        match service {
            "dns" => is_dns_asked = true,
            "resolve" if has_stub => is_dns_asked = true,
            "files" if !is_dns_asked => {}
            "myhostname" => {}
            _ => return false,
        }
    }
    is_dns_asked
}

/// The words of each line that has any, without comments and lines that are not text.
fn lines(bytes: &[u8]) -> impl Iterator<Item = Vec<&str>> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| {
        let end = line.iter().position(|byte| *byte == b'#').unwrap_or(line.len());
        let text = str::from_utf8(line.get(..end)?).ok()?;
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        (!words.is_empty()).then_some(words)
    })
}

/// `None` if only the system knows which interface is meant.
fn socket_address(server: &ScopedIp) -> Option<SocketAddr> {
    match server {
        ScopedIp::V4(ip) => Some(SocketAddr::new((*ip).into(), PORT)),
        ScopedIp::V6(ip, None) => Some(SocketAddr::new((*ip).into(), PORT)),
        ScopedIp::V6(ip, Some(scope)) => {
            Some(SocketAddrV6::new(*ip, PORT, 0, scope.parse().ok()?).into())
        }
    }
}

/// Where DNS servers listen.
pub(crate) const PORT: u16 = 53;
/// As in libc (`MAXNS`).
const SERVERS_MAX: usize = 3;
/// libc has no bound since 2.26; six names were its bound before.
const SEARCH_DOMAINS_MAX: usize = 32;
/// As in libc (`RES_MAXNDOTS`).
const NDOTS_MAX: u32 = 15;
/// As in libc (`RES_MAXRETRANS`).
const TIMEOUT_SECONDS_MAX: u32 = 30;
/// As in libc (`RES_MAXRETRY`).
const ATTEMPTS_MAX: u32 = 5;
/// Addresses kept of one name.
const ADDRESSES_MAX: usize = 32;
/// Where systemd-resolved answers plain DNS.
const STUB: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Option<Vec<IpAddr>> {
        Some(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn config(resolv_conf: &str) -> Config {
        Config::parse(Some(resolv_conf.as_bytes()), None)
    }

    fn names(config: &Config, host: &str) -> Vec<String> {
        config.candidates(host).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn hosts_are_found_by_any_of_their_names() {
        let hosts = Hosts::parse(
            b"# a comment\n\n192.0.2.1 One one.example # uno\n\t2001:db8::1\tone\r\n\
              fe80::1%eth0 scoped\nnot-an-address x\n192.0.2.2\n\xff\xfe bad\n192.0.2.3 last",
        );
        assert_eq!(hosts.get("one"), ips(&["2001:db8::1", "192.0.2.1"]));
        assert_eq!(hosts.get("one.example"), ips(&["192.0.2.1"]));
        assert_eq!(hosts.get("scoped"), ips(&["fe80::1"]));
        assert_eq!(hosts.get("last"), ips(&["192.0.2.3"]));
        for absent in ["uno", "x", "bad", ""] {
            assert_eq!(hosts.get(absent), None);
        }
    }

    #[test]
    fn localhost_never_leaves_the_machine() {
        let both = ips(&["::1", "127.0.0.1"]);
        let none = Hosts::default();
        assert_eq!(none.loopback("localhost"), both);
        assert_eq!(none.loopback("a.b.localhost"), both);
        assert_eq!(none.loopback("notlocalhost"), None);
        let four = Hosts::parse(b"127.0.0.1 localhost\n192.0.2.1 localhost evil.localhost");
        assert_eq!(four.loopback("localhost"), ips(&["127.0.0.1"]));
        assert_eq!(four.loopback("x.localhost"), ips(&["127.0.0.1"]));
        assert_eq!(four.loopback("evil.localhost"), both);
    }

    #[test]
    fn resolv_conf_is_read_within_bounds() {
        let read = config(
            "nameserver 192.0.2.1\nnameserver fe80::1%3\nnameserver nonsense\n\
             nameserver 192.0.2.3\nnameserver 192.0.2.4\nfrobnicate\n; comment\n\
             domain ignored.example\nsearch Corp.Example. example\n\
             options ndots:99 timeout:0 attempts:77 rotate use-vc no-aaaa edns0\n",
        );
        let servers: Vec<String> = read.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[fe80::1%3]:53", "192.0.2.3:53"]);
        assert_eq!(read.search, ["corp.example".into(), "example".into()]);
        assert_eq!((read.ndots, read.attempts), (15, 5));
        assert_eq!(read.timeout, Duration::from_secs(1));
        assert!(read.rotate && read.is_tcp_only && read.is_ipv4_only);
        assert_eq!(read.needs_system("www.example"), None);

        let default = Config::parse(None, None);
        assert_eq!(default.servers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!((default.ndots, default.attempts), (1, 2));
        assert_eq!(default.timeout, Duration::from_secs(5));
        Config::parse(Some(b"\xff\nnameserver\n\0options ndots:x:y"), Some(b"\xff:\n:::"));
    }

    #[test]
    fn candidates_follow_the_search_list() {
        let searching = config("search a.example b.example\noptions ndots:2");
        assert_eq!(names(&searching, "h"), ["h.a.example", "h.b.example", "h"]);
        assert_eq!(names(&searching, "h.x"), ["h.x.a.example", "h.x.b.example", "h.x"]);
        assert_eq!(names(&searching, "h.x.y"), ["h.x.y", "h.x.y.a.example", "h.x.y.b.example"]);
        assert_eq!(names(&searching, "h."), ["h"]);
        assert_eq!(names(&config("search ."), "h"), ["h"]);
        assert_eq!(names(&config("domain d.example"), "h"), ["h.d.example", "h"]);
        let no_top = config("search a.example\noptions no-tld-query");
        assert_eq!(names(&no_top, "h"), ["h.a.example"]);
        assert_eq!(names(&no_top, "h.x"), ["h.x", "h.x.a.example"]);
        let long = "l.".repeat(120) + "example";
        assert_eq!(names(&no_top, &long), [long.as_str()]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_we_cannot_do_is_for_the_system() {
        let nsswitch = |line: &str, resolv: &str| {
            Config::parse(Some(resolv.as_bytes()), Some(line.as_bytes())).needs_system("a.example")
        };
        let plain = "nameserver 192.0.2.1";
        let stub = "nameserver 127.0.0.53\noptions edns0 trust-ad";
        for line in [
            "",
            "passwd: files ldap",
            "hosts: files dns",
            "hosts:files dns",
            "hosts : dns # ldap",
            "hosts: files [NOTFOUND = continue] dns myhostname",
            "hosts: files myhostname [!UNAVAIL=return] dns",
        ] {
            assert_eq!(nsswitch(line, plain), None, "{line}");
        }
        for line in
            ["hosts: files mdns4_minimal [NOTFOUND=return] dns", "hosts: files", "hosts: dns files"]
        {
            assert_eq!(nsswitch(line, plain), Some(Reason::NameServices), "{line}");
        }
        let systemd = "hosts: files resolve [!UNAVAIL=return] dns";
        assert_eq!(nsswitch(systemd, stub), None);
        assert_eq!(nsswitch(systemd, plain), Some(Reason::NameServices));

        assert_eq!(config("options warp").needs_system("a.b"), Some(Reason::Option));
        assert_eq!(config("options ndots:x").needs_system("a.b"), Some(Reason::Option));
        assert_eq!(config("sortlist 192.0.2.0").needs_system("a.b"), Some(Reason::Option));
        let scoped = "nameserver fe80::1%eth0";
        assert_eq!(config(scoped).needs_system("a.b"), Some(Reason::Option));
        assert_eq!(config("").needs_system("printer.local"), Some(Reason::Multicast));
        assert_eq!(config("").needs_system("printer.local."), Some(Reason::Multicast));
        assert_eq!(config("").needs_system("intranet"), Some(Reason::SingleLabel));
        assert_eq!(config("").needs_system("intranet."), None);
        assert_eq!(config("search x").needs_system("intranet"), None);
        assert!(Reason::Option.explain().contains("resolv.conf"));
    }
}
