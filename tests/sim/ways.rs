//! How requests go where it is not the usual way: over sockets of the file system, from an address or
//! an interface of one's own, with options; led elsewhere (connect-to); and what may not be contacted.
//!
//! A *front* is a server that stands before all of the seed's servers, at a path or at an address
//! of its own: it is plain and TLS, and learns from a request whose it is. What must hold: a request
//! comes by the socket and to the place that its number has it come by, with the Host and the TLS
//! name of its URL; one connection to a front carries requests for one server; sockets that cannot
//! be made fail to connect, and nothing else; where private addresses are denied, none is dialled,
//! reused or heard at.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use whippet::{ConnectTo, Error, Kind, Peer, Request, Settings, SocketSettings};

use super::asked::Asked;
use super::plan::Plan;
use super::random::{Random, mix};
use super::tls;
use super::wire::Wire;
use super::world::{Env, Origin};

/// The ways of a seed; mostly the usual one.
#[derive(Default)]
pub(crate) struct Ways {
    salt: u64,
    is_calm: bool,
    sockets_pm: u32,
    detour_pm: u32,
    deny_pm: u32,
    denies_all: bool,
    /// What the settings say.
    usual_sockets: Option<Made>,
    usual_detour: Option<Detour>,
    fronts: [Option<SocketAddr>; FRONTS],
    /// All addresses that are not public.
    private: BTreeSet<IpAddr>,
    tls: Option<Arc<ServerConfig>>,
    /// Requests that came by a path; to a front; over a socket with a choice.
    pub(crate) by_path: u64,
    pub(crate) detoured: u64,
    pub(crate) by_choice: u64,
    /// Fetches that ended because all was denied, and because no socket could be made.
    pub(crate) denied: u64,
    pub(crate) doomed: u64,
}

/// Where a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum At {
    Origin(usize),
    /// A front, by its address.
    Front(usize),
    /// A front, by its path.
    Path(usize),
}

/// How the sockets of a request are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Made {
    /// A path at which a front listens.
    Path(usize),
    NoSuchPath,
    ForbiddenPath,
    /// From addresses that the machine has.
    From(u8),
    /// From an address that it has not.
    FromNowhere,
    FromV6,
    Interface,
    NoSuchInterface,
    KeepAlive,
    UserTimeout,
    Delay,
}

/// What goes to one server, or to any, is led to a front.
#[derive(Clone, Copy, Debug)]
struct Detour {
    of: Option<usize>,
    front: usize,
}

impl Made {
    fn any(random: &mut Random) -> Self {
        *random.pick(&[
            Self::Path(0),
            Self::Path(1),
            Self::NoSuchPath,
            Self::ForbiddenPath,
            Self::From(1),
            Self::From(2),
            Self::FromNowhere,
            Self::FromV6,
            Self::Interface,
            Self::NoSuchInterface,
            Self::KeepAlive,
            Self::UserTimeout,
            Self::Delay,
        ])
    }

    fn settings(self) -> SocketSettings {
        let new = SocketSettings::new();
        let second = Duration::from_secs(1);
        match self {
            Self::Path(nth) => new.with_unix_socket(PATHS[nth]),
            Self::NoSuchPath => new.with_unix_socket("/run/none"),
            Self::ForbiddenPath => new.with_unix_socket(FORBIDDEN_PATH),
            Self::From(last) => {
                new.with_local_address(local_v4(last)).with_local_address(local_v6(last))
            }
            Self::FromNowhere => {
                new.with_local_address(local_v4(9)).with_local_address(local_v6(9))
            }
            Self::FromV6 => new.with_local_address(local_v6(1)),
            Self::Interface => new.with_interface(INTERFACE),
            Self::NoSuchInterface => new.with_interface("none0"),
            Self::KeepAlive => new.with_keep_alive(60 * second, second, 3),
            Self::UserTimeout => new.with_user_timeout(20 * second),
            Self::Delay => new.with_no_delay(false),
        }
    }

    /// No such socket is ever made.
    fn is_doomed(self) -> bool {
        let paths = [Self::NoSuchPath, Self::ForbiddenPath];
        paths.contains(&self) || matches!(self, Self::FromNowhere | Self::NoSuchInterface)
    }

    fn is_path(self) -> bool {
        matches!(self, Self::Path(_) | Self::NoSuchPath | Self::ForbiddenPath)
    }
}

/// What a seed has of them.
impl Ways {
    /// Drawn apart from all else: a seed without any is the same as if there were none for anybody.
    /// Where something is denied, some of the servers are of the public internet from here on.
    pub(crate) fn of(salt: u64, plan: &Plan, origins: &mut [Origin]) -> Self {
        let mut random = Random::new(mix(salt ^ SALT));
        let mut ways = Self { salt, is_calm: plan.scenario.is_calm(), ..Self::default() };
        if random.chance(250) {
            ways.sockets_pm = 100 + random.below(700) as u32;
            if random.chance(300) {
                let harmless = [Made::Path(0), Made::From(1), Made::Interface, Made::Delay];
                ways.usual_sockets = Some(*random.pick(&harmless));
            }
        }
        if random.chance(250) {
            ways.detour_pm = 100 + random.below(700) as u32;
            if random.chance(300) {
                ways.usual_detour = Some(Detour::any(origins.len(), &mut random));
            }
        }
        let denies = random.chance(200);
        if denies {
            ways.denies_all = random.chance(500);
            ways.deny_pm = random.below(1_001) as u32;
            origins.iter_mut().for_each(|origin| open_up(origin, &mut random));
        }
        for (nth, front) in ways.fronts.iter_mut().enumerate() {
            let net = if denies && random.chance(500) { PUBLIC_NET } else { PRIVATE_NET };
            let ip = Ipv4Addr::new(net, 98, 0, 1 + nth as u8);
            *front = Some(SocketAddr::from((ip, FRONT_PORT)));
        }
        let all = origins.iter().flat_map(|origin| origin.addresses.iter().chain(&origin.dead));
        let all = all.copied().chain(ways.fronts.iter().flatten().map(SocketAddr::ip));
        ways.private = all.filter(|ip| !is_public(*ip)).collect();
        let secure = origins.iter().filter(|origin| origin.tls.is_some());
        let secure: Vec<&str> = secure.map(|origin| &*origin.host).collect();
        let has_fronts = ways.sockets_pm > 0 || ways.detour_pm > 0;
        ways.tls = (has_fronts && !secure.is_empty()).then(|| tls::config_for_all(&secure));
        ways
    }

    pub(crate) fn set(&self, settings: &mut Settings, origins: &[Origin]) {
        settings.deny_private = self.denies_all;
        if let Some(made) = self.usual_sockets {
            settings.sockets = made.settings().into();
        }
        if let Some(detour) = self.usual_detour {
            settings.connect_to = vec![self.entry(detour, origins)];
        }
        if self.sockets_pm > 0 && self.is_calm {
            // Sockets that cannot be made are failures, and those open it for everybody.
            settings.pace.circuit = None;
        }
    }

    /// What a request says of its own, by its number alone.
    pub(crate) fn choose(&self, mut request: Request, id: u64, origins: &[Origin]) -> Request {
        if let Some(made) = self.own_sockets(id) {
            request = request.sockets(made.settings().into());
        }
        if let Some(detour) = self.own_detour(id, origins.len()) {
            request = request.connect_to(self.entry(detour, origins));
        }
        match self.own_denial(id) {
            Some(denies) => request.deny_private(denies),
            None => request,
        }
    }

    fn entry(&self, detour: Detour, origins: &[Origin]) -> ConnectTo {
        let from = detour.of.map_or_else(
            || ":".to_owned(),
            |at| format!("{}:{}", origins[at].host, origins[at].port),
        );
        let to = self.fronts[detour.front].map(|to| to.to_string()).unwrap_or_default();
        ConnectTo::new(&format!("{from}:{to}")).unwrap()
    }

    fn chance_of(&self, id: u64, what: u64) -> Random {
        Random::new(mix(self.salt ^ SALT ^ id ^ what << 32))
    }

    fn own_sockets(&self, id: u64) -> Option<Made> {
        let mut random = self.chance_of(id, 1);
        let made = random.chance(self.sockets_pm).then(|| Made::any(&mut random));
        made.filter(|made| *made != Made::FromV6 || !self.is_calm)
    }

    fn own_detour(&self, id: u64, origins: usize) -> Option<Detour> {
        let mut random = self.chance_of(id, 2);
        random.chance(self.detour_pm).then(|| Detour::any(origins, &mut random))
    }

    fn own_denial(&self, id: u64) -> Option<bool> {
        let mut random = self.chance_of(id, 3);
        random.chance(self.deny_pm).then(|| random.chance(600))
    }

    fn sockets_of(&self, id: u64) -> Option<Made> {
        self.own_sockets(id).or(self.usual_sockets)
    }

    /// Whether some of its requests may not contact private addresses.
    pub(crate) fn may_deny(&self) -> bool {
        self.denies_all || self.deny_pm > 0
    }

    /// Whether nothing private may be contacted for a request.
    pub(crate) fn denies(&self, id: u64) -> bool {
        self.own_denial(id).unwrap_or(self.denies_all)
    }

    pub(crate) fn is_private(&self, ip: IpAddr) -> bool {
        self.private.contains(&ip)
    }

    /// Where a request for a server has to come, if no proxy is handed it.
    fn place_of(&self, id: u64, origin: usize, origins: usize) -> At {
        match self.sockets_of(id) {
            Some(Made::Path(nth)) => return At::Path(nth),
            Some(made) if made.is_path() => return At::Path(usize::MAX),
            _ => {}
        }
        let is_about = |detour: &Detour| detour.of.is_none_or(|of| of == origin);
        let own = self.own_detour(id, origins).filter(is_about);
        match own.or(self.usual_detour.filter(is_about)) {
            Some(detour) => At::Front(detour.front),
            None => At::Origin(origin),
        }
    }
}

/// The world's part.
impl Ways {
    /// Whose address it is.
    pub(crate) fn front_at(&self, to: SocketAddr) -> Option<usize> {
        let has_them = self.detour_pm > 0;
        self.fronts.iter().position(|front| *front == Some(to)).filter(|_| has_them)
    }

    pub(crate) fn path_at(path: &Path) -> Option<usize> {
        PATHS.iter().position(|known| path == Path::new(known))
    }

    pub(crate) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.clone()
    }

    /// What the kernel refuses of a path.
    pub(crate) fn refusal_of_path(path: &Path) -> Option<io::Error> {
        let errno = if path == Path::new(FORBIDDEN_PATH) { EACCES } else { ENOENT };
        Self::path_at(path).is_none().then(|| io::Error::from_raw_os_error(errno))
    }

    /// What it refuses of a socket to an address, in the order in which it is told.
    pub(crate) fn refusal_of(to: SocketAddr, sockets: &SocketSettings) -> Option<io::Error> {
        let locals: Vec<IpAddr> = sockets.local_addresses().collect();
        let local = locals.iter().find(|local| local.is_ipv4() == to.is_ipv4());
        let what = match (local, sockets.interface()) {
            (None, _) if !locals.is_empty() => "the local address is of the other family",
            (_, Some(name)) if name != INTERFACE => "interface: no such device",
            (Some(ip), _) if !is_local(*ip) => "local address: cannot be assigned",
            _ => return None,
        };
        Some(io::Error::other(what))
    }
}

impl Detour {
    fn any(origins: usize, random: &mut Random) -> Self {
        let of = random.index(origins);
        let is_of_one = random.chance(600);
        Self { of: is_of_one.then_some(of), front: random.index(FRONTS) }
    }
}

/// What must hold of a request that has come over a wire.
pub(crate) fn check(asked: &Asked, wire: &Seen, origin: usize, env: &mut Env) {
    let ways = &mut env.ways;
    let id = asked.id;
    let made = ways.sockets_of(id);
    let place = ways.place_of(id, origin, env.origins.len());
    ways.by_path += u64::from(matches!(place, At::Path(_)));
    ways.detoured += u64::from(matches!(place, At::Front(_)));
    ways.by_choice += u64::from(made.is_some());
    let due = made.map_or_else(SocketSettings::new, Made::settings);
    let is_there = match wire.at {
        Some(at) => at == place,
        // It was handed to a proxy, which is told whose it is.
        None => place == At::Origin(origin),
    };
    let server = &env.origins[origin];
    let host = match place {
        At::Front(nth) => ways.fronts[nth].map(|front| front.ip()),
        _ => server.host.parse().ok(),
    };
    let is_denied = ways.denies(id)
        && match wire.proxy {
            None => wire.remote.is_none_or(|ip| ways.is_private(ip)),
            // Of a name, a proxy that looks it up may not be told.
            Some(nth) => match host {
                Some(ip) => ways.is_private(ip),
                None => env.proxies.looks_up(nth),
            },
        };
    let law = if made.is_some_and(Made::is_doomed) {
        format!("request {id} comes over a socket that cannot be: {made:?}")
    } else if wire.sockets != due {
        format!("request {id} comes over a socket that was not made for it: {:?}", wire.sockets)
    } else if !is_there {
        format!("request {id} comes to {:?}, and not to {place:?}", wire.at)
    } else if wire.is_tls != server.tls.is_some() {
        format!("request {id} for {} comes over TLS: {}", server.base, wire.is_tls)
    } else if is_denied {
        format!("request {id} comes to {:?}, which it may not contact", wire.remote)
    } else {
        return;
    };
    env.ledger.break_law_unless_crossed(law);
}

/// Of a wire, what such a check looks at.
pub(crate) struct Seen {
    at: Option<At>,
    proxy: Option<usize>,
    remote: Option<IpAddr>,
    sockets: SocketSettings,
    is_tls: bool,
}

impl Seen {
    pub(crate) fn of(wire: &Wire) -> Self {
        Self {
            at: wire.at,
            proxy: wire.proxy,
            remote: wire.remote.map(|remote| remote.ip()),
            sockets: wire.sockets.clone(),
            is_tls: wire.has_tls(),
        }
    }
}

/// Whether a connection may be dialled or taken for a request.
pub(crate) fn check_peer(id: u64, peer: Peer<'_>, env: &mut Env) {
    let is_private = match peer {
        Peer::Address(to) => env.ways.is_private(to.ip()),
        _ => true,
    };
    if is_private && env.ways.denies(id) {
        env.ledger.break_law(format!("fetch {id} is led to {peer}, which it may not contact"));
    }
}

/// What a fetch may fail of because of the way that it has to go.
pub(crate) fn excuses(id: u64, error: &Error, env: &mut Env) -> bool {
    let ways = &mut env.ways;
    let made = ways.sockets_of(id);
    let has_proxies = env.proxies.are_there();
    match error.kind() {
        Kind::Denied => {
            let is_path = made.is_some_and(Made::is_path);
            ways.denied += 1;
            ways.denies(id) && (is_path || has_proxies || !ways.private.is_empty())
        }
        Kind::Connect | Kind::Proxy => {
            let is_doomed = made.is_some_and(Made::is_doomed);
            ways.doomed += u64::from(is_doomed);
            is_doomed || made == Some(Made::FromV6)
        }
        _ => false,
    }
}

/// Whether nothing but that can have become of it.
pub(crate) fn is_doomed(id: u64, env: &Env) -> bool {
    env.ways.sockets_of(id).is_some_and(Made::is_doomed)
}

/// Some servers are of the public internet, some are not, and some have addresses of both kinds.
fn open_up(origin: &mut Origin, random: &mut Random) {
    let kind = random.below(4);
    let mut change = |ip: &mut IpAddr| {
        let is_public = kind < 2 || (kind == 2 && random.chance(500));
        *ip = moved(*ip, is_public, random);
    };
    if origin.is_named {
        origin.addresses.iter_mut().chain(&mut origin.dead).for_each(change);
        return;
    }
    let Some(ip) = origin.addresses.first_mut() else { return };
    change(ip);
    let host = ip.to_string();
    origin.base = origin.base.replace(&origin.host, &host);
    origin.host = host;
}

/// The same address in a public network, or in one that is not.
fn moved(ip: IpAddr, is_public: bool, random: &mut Random) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let [_, _, at, nth] = ip.octets();
            let nets = [[PRIVATE_NET, 0], [127, 0], [192, 168], [169, 254]];
            let [a, b] = if is_public { [PUBLIC_NET, 0] } else { *random.pick(&nets) };
            Ipv4Addr::new(a, b, at, nth).into()
        }
        IpAddr::V6(ip) => {
            let [_, rest @ ..] = ip.segments();
            let first = if is_public { PUBLIC_V6 } else { *random.pick(&[0xfd00, 0xfe80, 0xfc00]) };
            let [b, c, d, e, f, g, h] = rest;
            Ipv6Addr::new(first, b, c, d, e, f, g, h).into()
        }
    }
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[0] == PUBLIC_NET,
        IpAddr::V6(ip) => ip.segments()[0] == PUBLIC_V6,
    }
}

fn local_v4(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 1, 0, last).into()
}

fn local_v6(last: u8) -> IpAddr {
    Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, last.into()).into()
}

/// The machine has these.
fn is_local(ip: IpAddr) -> bool {
    (1..=2).any(|last| ip == local_v4(last) || ip == local_v6(last))
}

const PATHS: [&str; 2] = ["/run/front.sock", "/run/other.sock"];
const FORBIDDEN_PATH: &str = "/root/front.sock";
const INTERFACE: &str = "eth0";
const FRONTS: usize = 2;
const FRONT_PORT: u16 = 8_443;
const PRIVATE_NET: u8 = 10;
const PUBLIC_NET: u8 = 11;
const PUBLIC_V6: u16 = 0x2600;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const SALT: u64 = 0x77_61_79_73;
