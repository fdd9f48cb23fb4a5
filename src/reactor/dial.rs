//! Floor 2. From a fetch that was admitted to a connection for it: an idle one, or addresses and
//! a race of sockets to them (RFC 8305).
//!
//! In goes a fetch that holds a slot; out comes an exchange on an open connection, or the failure
//! of the attempt with every address that was tried.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::attempt::Sent;
use super::connection::{Connection, ConnectionKey, Phase};
use super::fetch::{FetchKey, Race, Sought, Stage};
use super::opening::tunnel_error;
use super::pool::RoomKey;
use super::resolver::{Finished, Resolution};
use super::{Reactor, Timer};
use crate::error::{Error, Kind, Limit, Phase as ErrorPhase, Tried};
use crate::kit::machine::Machine;
use crate::net::{Net, Token};
use crate::origin::{Origin, Route};
use crate::policy::address::private_range;
use crate::proxy::{Proxy, ProxyProtocol};
use crate::socket::Peer;
use crate::trust::TlsSettings;
use crate::wire::dns::DnsError;
use crate::wire::http1::reuse::CloseReason;
use crate::wire::tls::Config;
use crate::wire::tunnel::Tunnel;

impl<N: Net> Reactor<N> {
    /// Begins an attempt of a fetch that was admitted.
    pub(super) fn begin_attempt(&mut self, key: FetchKey) {
        let now = self.now;
        if self.has_extras && self.is_turned_away(key) {
            return;
        }
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        fetch.stats.attempts += 1;
        fetch.deadlines.clear(Limit::Queue);
        fetch.phase_began = now;
        let is_first = fetch.admitted.is_none();
        if is_first {
            self.waiting_bytes -= std::mem::take(&mut fetch.weight_bytes);
            fetch.admitted = Some(now);
            fetch.stats.timings.queued = now.since(fetch.submitted);
        }
        let wants_new = fetch.stale_retried;
        let (room, route) = (fetch.room, Arc::clone(&fetch.request.parts.route));
        if is_first && fetch.begin_limit(Limit::Total) {
            self.arm_soon(key);
        }
        self.trace_begun(key, is_first);
        let idle = match &route.proxy {
            // After one idle connection turned out to be dead, others may be: a new one tells.
            _ if wants_new => None,
            None => self.idle_connection(room, &route),
            Some(_) => self.idle_by_proxy(room, &route),
        };
        match idle {
            Some(connection) => {
                self.trace_reused(key, connection);
                self.begin_exchange(key, connection);
            }
            None => {
                self.begin_limit(key, Limit::Connect);
                self.find_addresses(key, &route);
            }
        }
    }

    /// The idle connection of this route that was used last. One that has something unread, or
    /// half a record, is closed instead.
    fn idle_connection(&mut self, room: RoomKey, route: &Arc<Route>) -> Option<ConnectionKey> {
        loop {
            let key = self.pool.check_out(room, route)?;
            if self.connections.get(key).is_some_and(Connection::is_fit) {
                return Some(key);
            }
            self.close(key, CloseReason::IdleReadable);
        }
    }

    /// The same where a proxy is in between. One that requests are handed to has connections that
    /// were made for other origins: whether this one is denied was not asked then. A fetch that
    /// finds none here is told when it dials.
    fn idle_by_proxy(&mut self, room: RoomKey, route: &Arc<Route>) -> Option<ConnectionKey> {
        let Some(proxy) = route.forwarder() else { return self.idle_connection(room, route) };
        if self.denied_to_proxy(route).is_some() {
            return None;
        }
        self.idle_connection(self.pool.room_at(proxy)?, route)
    }

    /// Begins with the origin's addresses, unless a proxy finds them.
    fn find_addresses(&mut self, key: FetchKey, route: &Route) {
        if self.sockets_of(route).unix_socket().is_some() {
            return self.dial_path(key, route);
        }
        let target = route.target();
        if route.proxy.as_ref().is_some_and(|proxy| !proxy.protocol().wants_address()) {
            return match self.denied_to_proxy(route) {
                Some(error) => self.cannot_dial(key, error),
                None => self.find_proxy(key, route, None),
            };
        }
        let known = route.resolve.or_else(|| {
            let mut overrides = self.settings.resolve.iter().rev();
            let entry = overrides.find(|entry| entry.matches(&target.host, target.port))?;
            Some(entry.address)
        });
        self.look_up(key, Sought::Origin, &target.host, known.or(target.literal));
    }

    /// `told`: the address that it will be told. A proxy that the request is handed to is what the
    /// fetch dials for from here on, in place of its origin.
    fn find_proxy(&mut self, key: FetchKey, route: &Route, told: Option<IpAddr>) {
        if route.forwarder().is_some()
            && let Some(home) = self.pool.home(route)
            && let Some(fetch) = self.fetches.get_mut(key)
        {
            fetch.home = home;
        }
        if let Some(proxy) = &route.proxy {
            self.look_up(key, Sought::Proxy(told), proxy.host(), proxy.literal());
        }
    }

    fn look_up(&mut self, key: FetchKey, sought: Sought, host: &str, known: Option<IpAddr>) {
        let resolution = match known {
            Some(ip) => Resolution::Ready(Arc::new([ip])),
            None => self.resolver.resolve(&mut self.net, host, key, self.now),
        };
        match resolution {
            Resolution::Ready(addresses) => {
                if known.is_none() {
                    self.trace_resolved(key, sought, &addresses);
                }
                self.found(key, sought, addresses);
            }
            Resolution::Failed(error) => self.not_found(key, sought, error),
            Resolution::Pending(lookup) => {
                let Some(fetch) = self.fetches.get_mut(key) else { return };
                let was_listed = matches!(fetch.stage, Stage::Resolving(..));
                fetch.stage.go(Stage::Resolving(lookup, sought));
                if !was_listed {
                    let home = fetch.home;
                    self.pool.begin_dialling(&mut self.fetches, home, key);
                }
                self.begin_limit(key, Limit::Dns);
            }
        }
    }

    /// A lookup has ended for one of those who wait for it.
    pub(super) fn resolved(&mut self, finished: Finished<FetchKey>) {
        let key = finished.waiter;
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        let Stage::Resolving(lookup, sought) = fetch.stage else { return };
        if lookup != finished.lookup {
            return;
        }
        if let Ok(addresses) = &finished.resolved {
            self.trace_resolved(key, sought, addresses);
        }
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        let took = fetch.lap(self.now);
        fetch.stats.timings.dns += took;
        fetch.deadlines.clear(Limit::Dns);
        match finished.resolved {
            Ok(addresses) => self.found(key, sought, addresses),
            Err(error) => self.not_found(key, sought, error),
        }
    }

    fn found(&mut self, key: FetchKey, sought: Sought, addresses: Arc<[IpAddr]>) {
        if let Sought::Proxy(told) = sought {
            return self.dial(key, addresses, told);
        }
        let Some(fetch) = self.fetches.get(key) else { return };
        let route = Arc::clone(&fetch.request.parts.route);
        let addresses = match self.allowed_addresses(&route, addresses) {
            Ok(addresses) => addresses,
            Err(error) => return self.cannot_dial(key, error),
        };
        let Some(proxy) = &route.proxy else { return self.dial(key, addresses, None) };
        let is_v4_only = proxy.protocol() == ProxyProtocol::Socks4;
        let fits = |ip: &&IpAddr| ip.is_ipv4() || !is_v4_only;
        let address = addresses.iter().find(fits).or(addresses.first());
        self.find_proxy(key, &route, address.copied());
    }

    fn not_found(&mut self, key: FetchKey, sought: Sought, error: DnsError) {
        let Some(fetch) = self.fetches.get(key) else { return };
        let route = &fetch.request.parts.route;
        let proxy = route.proxy.as_ref().filter(|_| matches!(sought, Sought::Proxy(_)));
        let error = dns_error(route.target(), proxy, error);
        self.cannot_dial(key, error);
    }

    /// The attempt has failed before it came to a socket.
    pub(super) fn cannot_dial(&mut self, key: FetchKey, error: Error) {
        // The fetch holds a slot, which only a stage gives back.
        self.begin_race(key, Arc::new([]), None);
        self.attempt_failed(key, error, Sent::Maybe);
    }

    pub(super) fn denies_private(&self, route: &Route) -> bool {
        route.deny_private.unwrap_or(self.settings.deny_private)
    }

    /// Those of an origin's addresses that may be contacted.
    fn allowed_addresses(
        &self,
        route: &Route,
        addresses: Arc<[IpAddr]>,
    ) -> Result<Arc<[IpAddr]>, Error> {
        if !self.denies_private(route) {
            return Ok(addresses);
        }
        let is_public = |ip: &IpAddr| private_range(*ip).is_none();
        let public: Arc<[IpAddr]> = addresses.iter().copied().filter(is_public).collect();
        if public.is_empty() { Err(denied_error(route.target(), &addresses)) } else { Ok(public) }
    }

    /// Where a proxy finds the origin's addresses, nobody here can judge them.
    fn denied_to_proxy(&self, route: &Route) -> Option<Error> {
        if !self.denies_private(route) {
            return None;
        }
        let Some(literal) = route.target().literal else {
            let host = &route.target().host;
            let what = format!("the proxy would resolve {host}, to addresses not known here");
            return Some(Error::new(Kind::Denied, ErrorPhase::Connect, what));
        };
        self.allowed_addresses(route, Arc::new([literal])).err()
    }

    /// Dials the origin, or the proxy before it, which will be told an address or a name.
    fn dial(&mut self, key: FetchKey, addresses: Arc<[IpAddr]>, told: Option<IpAddr>) {
        let Some(fetch) = self.fetches.get(key) else { return };
        let route = &*fetch.request.parts.route;
        let tunnel = match &route.proxy {
            Some(proxy) if route.forwarder().is_none() => {
                Tunnel::new(proxy, route.target(), told).map(Some)
            }
            _ => Ok(None),
        };
        match tunnel {
            Ok(tunnel) => {
                self.begin_race(key, addresses, tunnel);
                self.dial_next(key);
            }
            Err(error) => self.cannot_dial(key, tunnel_error(error)),
        }
    }

    pub(super) fn begin_race(
        &mut self,
        key: FetchKey,
        addresses: Arc<[IpAddr]>,
        tunnel: Option<Tunnel>,
    ) {
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        let route = &fetch.request.parts.route;
        let port = route.proxy.as_ref().map_or(route.target().port, Proxy::port);
        let was_listed = matches!(fetch.stage, Stage::Resolving(..));
        let race = Race { addresses, port, tunnel, next: 0, dials: Vec::new(), stagger: None };
        fetch.stage.go(Stage::Dialling(Box::new(race)));
        fetch.tried.clear();
        if !was_listed {
            let home = fetch.home;
            self.pool.begin_dialling(&mut self.fetches, home, key);
        }
    }

    /// Tries the next address, and those after it that fail at once. Without any left, and with
    /// nothing in the race, the attempt has failed.
    pub(super) fn dial_next(&mut self, key: FetchKey) {
        loop {
            let Some(fetch) = self.fetches.get_mut(key) else { return };
            let Stage::Dialling(race) = &mut fetch.stage else { return };
            if let Some(stagger) = race.stagger.take() {
                self.wheel.remove(stagger);
            }
            let Some(address) = race.next_address() else {
                if race.dials.is_empty() {
                    self.all_addresses_failed(key);
                }
                return;
            };
            if let Some(orphan) = self.adopt(key, address) {
                return self.join_race(key, orphan);
            }
            let Some(fetch) = self.fetches.get_mut(key) else { return };
            let net = &mut self.net;
            let route = &fetch.request.parts.route;
            let sockets = route.sockets_or(&self.settings.sockets);
            let Stage::Dialling(race) = &fetch.stage else { return };
            let dialled = self.connections.insert_with(|connection| {
                let token = Token(connection.to_bits());
                let stream = if sockets.is_usual() {
                    net.connect(address, token)
                } else {
                    net.connect_by(Peer::Address(address), sockets, token)
                }?;
                let mut connection = Connection::new(stream, Arc::clone(route), Some(address), key);
                connection.tunnel.clone_from(&race.tunnel);
                Ok::<_, io::Error>(connection)
            });
            let Some(dialled) = dialled else { return self.descriptors_short(key) };
            match dialled {
                Ok(connection) => {
                    self.trace_dialled(key, connection);
                    return self.join_race(key, connection);
                }
                Err(error) if self.reachable.are_sockets_short(address, &error) => {
                    return self.descriptors_short(key);
                }
                Err(error) => {
                    fetch.tried.push(Tried::failed(address, &error));
                    self.trace_dial_failed(key, Peer::Address(address), &error);
                }
            }
        }
    }

    /// A socket to this address that another fetch began and then did not need. So fetches that
    /// take each other's connections do not leave a socket behind each time.
    fn adopt(&mut self, key: FetchKey, address: SocketAddr) -> Option<ConnectionKey> {
        let fetch = self.fetches.get(key)?;
        let orphans = self.pool.orphans(fetch.home)?;
        if orphans.is_empty() {
            return None;
        }
        let (connections, route) = (&self.connections, &fetch.request.parts.route);
        let orphan = |key: &ConnectionKey| connections.get(*key).filter(|it| it.is_orphan());
        orphans.retain(|key| orphan(key).is_some());
        let at = orphans.iter().position(|key| {
            orphan(key).is_some_and(|it| it.remote == Some(address) && it.route.shares_with(route))
        })?;
        Some(orphans.remove(at))
    }

    /// A socket begins to race for a fetch. One that has connected before wins at once.
    pub(super) fn join_race(&mut self, key: FetchKey, connection_key: ConnectionKey) {
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        let Stage::Dialling(race) = &mut fetch.stage else { return };
        let Some(connection) = self.connections.get_mut(connection_key) else { return };
        race.dials.push(connection_key);
        let phase = connection.phase.dialled_for(Some(key));
        connection.phase.go(phase);
        if !matches!(phase, Phase::Connecting { .. }) {
            let limit = connection.opening_limit();
            self.race_won(key, connection_key);
            return self.begin_limit(key, limit);
        }
        if race.has_more() && race.dials.len() < RACING_SOCKETS_MAX {
            let at = self.now.after(RACE_STAGGER);
            race.stagger = Some(self.wheel.insert(at, Timer::Dial(key)));
        }
    }

    /// No address has answered for a while: the next one is tried beside them.
    pub(super) fn stagger_over(&mut self, key: FetchKey) {
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        // After a failure in the same turn it is another entry, whose time has not come.
        if let Stage::Dialling(race) = &mut fetch.stage
            && let Some(stagger) = race.stagger
            && self.wheel.deadline(stagger).is_none()
        {
            race.stagger = None;
            self.dial_next(key);
        }
    }

    /// A socket could not connect.
    pub(super) fn dial_failed(&mut self, key: ConnectionKey, error: io::Error) {
        let Some(connection) = self.connections.get(key) else { return };
        let remote = connection.remote;
        let Phase::Connecting { dialled_for } = connection.phase else { return };
        if let (Some(fetch), Some(remote)) = (dialled_for, remote) {
            self.trace_dial_failed(fetch, Peer::Address(remote), &error);
        }
        self.close(key, CloseReason::Failed);
        let Some(fetch_key) = dialled_for else { return };
        let Some(fetch) = self.fetches.get_mut(fetch_key) else { return };
        let Stage::Dialling(race) = &mut fetch.stage else { return };
        race.dials.retain(|dial| *dial != key);
        let Some(remote) = remote else { return self.path_failed(fetch_key, error) };
        fetch.tried.push(Tried::failed(remote, &error));
        self.dial_next(fetch_key);
    }

    /// A socket that had connected could not be made ready for requests.
    pub(super) fn open_failed(&mut self, key: ConnectionKey, error: Error) {
        let Some(connection) = self.connections.get(key) else { return };
        if let Some(fetch) = connection.phase.opening().flatten() {
            self.attempt_failed(fetch, error, Sent::Maybe);
        }
        self.close(key, CloseReason::Failed);
    }

    fn all_addresses_failed(&mut self, key: FetchKey) {
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        let route = &fetch.request.parts.route;
        let error = match &route.proxy {
            Some(proxy) => {
                let what = format!("could not connect to the proxy {proxy}");
                Error::new(Kind::Proxy, ErrorPhase::Connect, what).passing()
            }
            None => {
                let what = format!("could not connect to {}", route.target());
                Error::new(Kind::Connect, ErrorPhase::Connect, what)
            }
        };
        let error = error.having_tried(std::mem::take(&mut fetch.tried));
        self.attempt_failed(key, error, Sent::Maybe);
    }

    /// One socket of the race has connected: the others are closed.
    pub(super) fn race_won(&mut self, key: FetchKey, winner: ConnectionKey) {
        let now = self.now;
        self.trace_connected(key, winner);
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        fetch.stats.timings.connect = fetch.lap(now);
        if let Some(remote) = self.connections.get(winner).and_then(|winner| winner.remote) {
            self.reachable.note(remote);
        }
        let Stage::Dialling(race) = &mut fetch.stage else { return };
        if let Some(stagger) = race.stagger.take() {
            self.wheel.remove(stagger);
        }
        let dials = std::mem::replace(&mut race.dials, vec![winner]);
        for loser in dials.into_iter().filter(|dial| *dial != winner) {
            self.close(loser, CloseReason::LostRace);
        }
    }

    /// The fetch has its connection; its race and its place among those that dial are no more.
    pub(super) fn leave_race(&mut self, key: FetchKey) {
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        if let Stage::Dialling(race) = &mut fetch.stage {
            race.dials.clear();
            if let Some(stagger) = race.stagger.take() {
                self.wheel.remove(stagger);
            }
        }
        let home = fetch.home;
        self.pool.end_dialling(&mut self.fetches, home, key);
    }

    /// A connection of this room has become idle: it is handed to the fetch that has dialled
    /// longest, once all events of this turn were taken.
    pub(super) fn offer(&mut self, room: RoomKey) {
        if self.pool.longest_dialling(room).is_some() {
            self.offers.push(room);
        }
    }

    /// Hands idle connections of one room to fetches that still dial for it. What they dialled goes
    /// on and will be idle in turn.
    pub(super) fn hand_over_idle(&mut self) -> bool {
        let Some(room) = self.offers.pop() else { return false };
        let mut next = self.pool.longest_dialling(room);
        while let Some(key) = next
            && self.pool.has_idle(room)
        {
            next = self.pool.dialling_after(&mut self.fetches, room, key);
            let Some(fetch) = self.fetches.get(key) else { return true };
            let route = Arc::clone(&fetch.request.parts.route);
            // Where there is none of this route, one may be of a later one's.
            if let Some(connection) = self.idle_connection(room, &route) {
                self.orphan_dials(key);
                self.leave_race(key);
                self.trace_reused(key, connection);
                self.begin_exchange(key, connection);
            }
        }
        true
    }

    /// The fetch no longer waits for what it began.
    fn orphan_dials(&mut self, key: FetchKey) {
        self.relieve(key);
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        let allowed = fetch.allowed(Limit::Connect, &self.settings).unwrap_or(ORPHAN_TIME_MAX);
        let home = fetch.home;
        match &mut fetch.stage {
            Stage::Resolving(lookup, _) => {
                let lookup = *lookup;
                self.resolver.forget(&mut self.net, lookup, key, self.now);
            }
            Stage::Dialling(race) => {
                let mut dials = std::mem::take(&mut race.dials).into_iter();
                if let Some(first) = dials.next()
                    && let Some(connection) = self.connections.get_mut(first)
                {
                    let phase = connection.phase.dialled_for(None);
                    connection.phase.go(phase);
                    connection.deadline = self.now.after(allowed);
                    self.watch_deadline(first);
                    if let Some(orphans) = self.pool.orphans(home) {
                        orphans.push(first);
                    }
                }
                for other in dials {
                    self.close(other, CloseReason::LostRace);
                }
            }
            _ => {}
        }
    }

    /// The client side of TLS for a route: the reactor's, or of settings that the route has.
    pub(super) fn tls_for(&mut self, route: &Route) -> Result<Config, Error> {
        let settings = Arc::clone(route.tls.as_ref().unwrap_or(&self.settings.tls));
        self.tls_of(&settings)
    }

    pub(super) fn tls_of(&mut self, settings: &Arc<TlsSettings>) -> Result<Config, Error> {
        if let Some((_, config)) = self.tls.iter().find(|(known, _)| Arc::ptr_eq(known, settings)) {
            return Ok(config.clone());
        }
        let config = Config::new(settings).map_err(|error| {
            Error::new(Kind::Tls, ErrorPhase::Tls, "the TLS settings cannot be used")
                .caused_by(Arc::new(error))
        })?;
        if self.tls.len() >= TLS_CONFIGS_MAX {
            // Not the first: that is most likely the reactor's own.
            self.tls.remove(1);
        }
        self.tls.push((Arc::clone(settings), config.clone()));
        Ok(config)
    }
}

/// `proxy`: where that is what could not be found.
fn dns_error(origin: &Origin, proxy: Option<&Proxy>, error: DnsError) -> Error {
    let is_temporary = error.is_temporary();
    let (kind, what) = match proxy {
        Some(proxy) => (Kind::Proxy, format!("could not resolve the proxy {}", proxy.host())),
        None => (Kind::Dns, format!("could not resolve {}", origin.host)),
    };
    let error = Error::new(kind, ErrorPhase::Dns, what).caused_by(Arc::new(error));
    if is_temporary { error.passing() } else { error.lasting() }
}

/// Names the addresses, the first few of them, and the ranges that they are in.
fn denied_error(origin: &Origin, addresses: &[IpAddr]) -> Error {
    let mut what = format!("no address of {} may be contacted", origin.host);
    let ranges = addresses.iter().filter_map(|ip| Some((ip, private_range(*ip)?)));
    for (nth, (ip, range)) in ranges.take(DENIED_SHOWN_MAX).enumerate() {
        let mark = if nth == 0 { ": " } else { ", " };
        what.extend([mark, &ip.to_string(), " (", range, ")"]);
    }
    if addresses.len() > DENIED_SHOWN_MAX {
        what.push_str(", ...");
    }
    Error::new(Kind::Denied, ErrorPhase::Connect, what)
}

/// The address families that a socket has connected to.
#[derive(Default)]
pub(super) struct Reachable {
    ipv4: bool,
    ipv6: bool,
}

impl Reachable {
    fn note(&mut self, address: SocketAddr) {
        match address {
            SocketAddr::V4(_) => self.ipv4 = true,
            SocketAddr::V6(_) => self.ipv6 = true,
        }
    }

    /// EMFILE, ENFILE: no descriptor is left. EADDRNOTAVAIL: no local port is left; but a
    /// machine without an address of the family says the same for ever, so it counts only
    /// where the family has worked before.
    fn are_sockets_short(&self, address: SocketAddr, error: &io::Error) -> bool {
        let has_worked = if address.is_ipv4() { self.ipv4 } else { self.ipv6 };
        are_descriptors_short(error)
            || (error.kind() == io::ErrorKind::AddrNotAvailable && has_worked)
    }
}

pub(super) fn are_descriptors_short(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

/// The same on every system that mio knows.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;
/// Until the next address is tried beside those that have not answered (RFC 8305 §5).
const RACE_STAGGER: Duration = Duration::from_millis(250);
/// Sockets that race for one fetch.
const RACING_SOCKETS_MAX: usize = 3;
/// How long a connection may take to open that nobody waits for any more.
const ORPHAN_TIME_MAX: Duration = Duration::from_secs(10);
/// Addresses that may not be contacted which an error names.
const DENIED_SHOWN_MAX: usize = 4;
/// TLS configurations kept; a request with settings of its own makes one.
const TLS_CONFIGS_MAX: usize = 64;
