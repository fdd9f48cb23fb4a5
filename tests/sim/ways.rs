//! How requests go where it is not the usual way: over sockets of the file system, from an address
//! or an interface of one's own, with options; led elsewhere (connect-to); and what may not be
//! contacted.
//!
//! A *front* is a server that stands before all of the seed's servers, at a path or at an address
//! of its own: it is plain and TLS, and learns from a request whose it is. What must hold: a
//! request comes by the socket and to the place that its number has it come by, with the Host and
//! the TLS name of its URL; one connection to a front carries requests for one server; sockets that
//! cannot be made fail to connect, and nothing else; where private addresses are denied, none is
//! dialled, reused or heard at.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use rustls::ServerConfig;
use whippet::{ConnectTo, Error, Kind, Peer, Request, Settings, SocketSettings};

use super::asked::Asked;
use super::plan::Plan;
use super::random::{Random, mix};
use super::sockets::Made;
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

/// What goes to one server, or to any, is led to a front.
#[derive(Clone, Copy, Debug)]
struct Detour {
    of: Option<usize>,
    front: usize,
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
        let to = match (FRONT_NAMES[detour.front], self.fronts[detour.front]) {
            (None, Some(to)) => to.to_string(),
            (name, _) => format!("{}:{FRONT_PORT}", name.unwrap_or_default()),
        };
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
    /// A front by its host and port.
    pub(crate) fn front_named(&self, target: &str) -> Option<usize> {
        let is_it =
            |name: &Option<&str>| name.is_some_and(|name| target == format!("{name}:{FRONT_PORT}"));
        let named = FRONT_NAMES.iter().position(is_it).filter(|_| self.detour_pm > 0);
        named.or_else(|| self.front_at(target.parse().ok()?))
    }

    /// What the hosts file has of them, and the system's resolver.
    pub(crate) fn hosts(&self) -> Vec<u8> {
        let named = FRONT_NAMES.iter().zip(&self.fronts);
        let lines = named.filter_map(|(name, at)| Some(format!("{} {}\n", (*at)?.ip(), (*name)?)));
        lines.filter(|_| self.detour_pm > 0).collect::<String>().into_bytes()
    }

    pub(crate) fn address_of(&self, host: &str) -> Option<IpAddr> {
        let nth = FRONT_NAMES.iter().position(|name| *name == Some(host))?;
        self.fronts[nth].map(|front| front.ip())
    }

    /// Whose address it is.
    pub(crate) fn front_at(&self, to: SocketAddr) -> Option<usize> {
        let has_them = self.detour_pm > 0;
        self.fronts.iter().position(|front| *front == Some(to)).filter(|_| has_them)
    }

    pub(crate) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.clone()
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
        At::Front(nth) if FRONT_NAMES[nth].is_some() => None,
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
    pub(crate) tls_version: Option<rustls::ProtocolVersion>,
}

impl Seen {
    pub(crate) fn of(wire: &Wire) -> Self {
        Self {
            at: wire.at,
            proxy: wire.proxy,
            remote: wire.remote.map(|remote| remote.ip()),
            sockets: wire.sockets.clone(),
            is_tls: wire.has_tls(),
            tls_version: wire.tls_version(),
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
        Kind::Dns | Kind::Timeout => false,
        _ => {
            if made.is_some_and(Made::is_doomed) {
                env.ledger.break_law(format!("fetch {id} had no socket, and fails by: {error}"));
            }
            false
        }
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

const FRONTS: usize = 2;
/// One of them is found by its name, and one by its address.
const FRONT_NAMES: [Option<&str>; FRONTS] = [Some("f0.test"), None];
const FRONT_PORT: u16 = 8_443;
const PRIVATE_NET: u8 = 10;
const PUBLIC_NET: u8 = 11;
const PUBLIC_V6: u16 = 0x2600;
const SALT: u64 = 0x77_61_79_73;
