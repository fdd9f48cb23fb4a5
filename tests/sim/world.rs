//! The world outside of the reactor: a clock that jumps, an agenda, wires and those at their ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::ServerConfig;
use whippet::net::{SystemAnswer, Token};

use super::basic::Basics;
use super::cookies::Cookies;
use super::dns;
use super::files::Files;
use super::ledger::Ledger;
use super::logins::Logins;
use super::paces::Paces;
use super::plan::{Plan, Scenario};
use super::proxies::Proxies;
use super::random::Random;
use super::story::Story;
use super::trusts::Trusts;
use super::ways::Ways;
use super::wire::{Phase, READABLE, Step, WRITABLE, Wire};

/// What servers, wires and laws share.
pub(crate) struct Env {
    pub(crate) now: u64,
    pub(crate) random: Random,
    pub(crate) plan: Plan,
    pub(crate) ledger: Ledger,
    pub(crate) cookies: Cookies,
    pub(crate) logins: Logins,
    pub(crate) basics: Basics,
    pub(crate) files: Files,
    pub(crate) ways: Ways,
    pub(crate) trusts: Trusts,
    /// Bodies in br that were sent.
    pub(crate) brs: u64,
    pub(crate) proxies: Proxies,
    pub(crate) story: Story,
    pub(crate) origins: Vec<Origin>,
    /// Most fetches that one origin may see at once, and all together.
    pub(crate) per_origin: usize,
    pub(crate) concurrency: usize,
    pub(crate) paces: Paces,
    /// How much time has passed in sleeps that were far too long.
    pub(crate) leapt_us: u64,
    /// A server heard TLS with damage in it: what it makes of that hangs on the keys, which the
    /// library draws itself.
    pub(crate) has_garbled: bool,
}

/// A server, by any of its addresses.
pub(crate) struct Origin {
    /// Scheme, host and port.
    pub(crate) base: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) addresses: Vec<IpAddr>,
    /// Those that nobody answers at.
    pub(crate) dead: Vec<IpAddr>,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// Its name has no addresses that can be found by asking.
    pub(crate) is_named: bool,
}

/// A simulated UDP socket.
pub(crate) struct Udp {
    pub(crate) token: Token,
    pub(crate) to: SocketAddr,
    pub(crate) inbox: VecDeque<Vec<u8>>,
    pub(crate) edge: u8,
    pub(crate) owes_read: bool,
    pub(crate) error: Option<io::ErrorKind>,
}

pub(crate) enum Deed {
    ConnectEnds(usize, Option<io::ErrorKind>),
    /// The server takes what the client has sent.
    Take(usize),
    /// The server's next step goes over the wire.
    Pump(usize),
    Reset(usize),
    /// An edge that is owed after an artificial shortage.
    Edge(usize, u8),
    /// From whom it is.
    Datagram(usize, SocketAddr, Vec<u8>),
    Unreachable(usize),
    Descriptors(u64),
    SystemAnswer(SystemAnswer),
}

impl Env {
    /// How late the tickets of a server are.
    pub(crate) fn tickets_late(&mut self) -> u64 {
        match self.plan.tickets_late_us {
            0 => 0,
            most => 1 + self.random.below(most),
        }
    }
}

pub(crate) struct World {
    pub(crate) env: Env,
    agenda: BTreeMap<(u64, u64), Deed>,
    planned: u64,
    pub(crate) wires: BTreeMap<usize, Wire>,
    pub(crate) datagrams: BTreeMap<usize, Udp>,
    named: usize,
    /// Sockets with an edge to be told.
    pub(crate) ready: BTreeSet<usize>,
    /// Tokens of sockets that are gone.
    pub(crate) gone: VecDeque<Token>,
    pub(crate) descriptors: u64,
    /// Of the system's resolver, not taken yet.
    pub(crate) answers: VecDeque<SystemAnswer>,
    pub(crate) answers_told: usize,
    /// A poll would have slept for ever.
    pub(crate) is_stuck: bool,
}

impl World {
    pub(crate) fn new(env: Env) -> Self {
        let descriptors = env.plan.descriptors.unwrap_or(u64::MAX);
        let mut world = Self {
            env,
            agenda: BTreeMap::new(),
            planned: 0,
            wires: BTreeMap::new(),
            datagrams: BTreeMap::new(),
            named: 0,
            ready: BTreeSet::new(),
            gone: VecDeque::new(),
            descriptors,
            answers: VecDeque::new(),
            answers_told: 0,
            is_stuck: false,
        };
        if world.env.plan.descriptors.is_some() {
            let mut at = 0;
            for _ in 0..8 {
                at += world.env.random.magnitude(3_000_000);
                let most = world.env.random.range(0, 12);
                world.plan(at, Deed::Descriptors(most));
            }
            world.plan(at + 3_000_000, Deed::Descriptors(64));
        }
        world
    }

    pub(crate) fn plan(&mut self, delay: u64, deed: Deed) {
        self.planned += 1;
        self.agenda.insert((self.env.now + delay, self.planned), deed);
    }

    pub(crate) fn next_at(&self) -> Option<u64> {
        self.agenda.first_key_value().map(|((at, _), _)| *at)
    }

    /// Does what is due by now.
    pub(crate) fn do_due(&mut self) {
        while self.next_at().is_some_and(|at| at <= self.env.now) {
            if let Some((_, deed)) = self.agenda.pop_first() {
                self.perform(deed);
            }
        }
    }

    fn perform(&mut self, deed: Deed) {
        match deed {
            Deed::ConnectEnds(id, error) => self.connect_ends(id, error),
            Deed::Take(id) => self.take(id),
            Deed::Pump(id) => self.pump(id),
            Deed::Reset(id) => {
                let purges = self.env.plan.reset_purges;
                if let Some(wire) = self.wires.get_mut(&id)
                    && !wire.is_broken()
                {
                    wire.breaks(io::ErrorKind::ConnectionReset, purges);
                    self.ready.insert(id);
                    self.env.story.tell(self.env.now, &[10, id as u64], || {
                        format!("w{id}  reset: nobody was there any more")
                    });
                }
            }
            Deed::Edge(id, bits) => {
                if let Some(wire) = self.wires.get_mut(&id) {
                    wire.edge |= bits;
                    self.ready.insert(id);
                }
            }
            Deed::Datagram(id, from, bytes) => {
                let eager = self.env.plan.eager_edges;
                // The kernel drops what others send to a socket that is connected.
                if let Some(udp) = self.datagrams.get_mut(&id).filter(|udp| udp.to == from) {
                    udp.inbox.push_back(bytes);
                    if eager || udp.owes_read {
                        udp.edge |= READABLE;
                        self.ready.insert(id);
                    }
                }
            }
            Deed::Unreachable(id) => {
                if let Some(udp) = self.datagrams.get_mut(&id) {
                    udp.error = Some(io::ErrorKind::ConnectionRefused);
                    udp.edge |= READABLE;
                    self.ready.insert(id);
                }
            }
            Deed::Descriptors(most) => self.descriptors = most,
            Deed::SystemAnswer(answer) => self.answers.push_back(answer),
        }
    }

    pub(crate) fn latency(&mut self) -> u64 {
        let most = self.env.plan.latency_us;
        self.env.random.below(most + 1)
    }

    pub(crate) fn edge_later(&mut self, id: usize, bits: u8) {
        let delay = self.latency();
        self.plan(delay, Deed::Edge(id, bits));
    }

    pub(crate) fn next_name(&mut self) -> usize {
        self.named += 1;
        self.named
    }

    pub(crate) fn open_sockets(&self) -> u64 {
        (self.wires.len() + self.datagrams.len()) as u64
    }

    /// The kernel gives no descriptor.
    pub(crate) fn check_descriptors(&mut self) -> io::Result<()> {
        if self.open_sockets() >= self.descriptors {
            self.env.story.tell(self.env.now, &[20], || "no descriptor is left".to_owned());
            return Err(io::Error::from_raw_os_error(24));
        }
        Ok(())
    }

    /// The client has written: the server will take it.
    pub(crate) fn take_soon(&mut self, id: usize) {
        let delay = self.latency();
        let at = self.env.now + delay;
        let Some(wire) = self.wires.get_mut(&id) else { return };
        if wire.take_at.is_none() {
            wire.take_at = Some(at);
            self.plan(delay, Deed::Take(id));
        }
    }

    pub(crate) fn pump_soon(&mut self, id: usize, delay: u64) {
        let at = self.env.now + delay;
        let Some(wire) = self.wires.get_mut(&id) else { return };
        if wire.pump_at.is_none_or(|planned| planned > at) {
            wire.pump_at = Some(at);
            self.plan(delay, Deed::Pump(id));
        }
    }

    /// The server's kernel takes bytes of the client.
    fn take(&mut self, id: usize) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        wire.take_at = None;
        if wire.is_broken() || wire.unsent.is_empty() || wire.is_deaf {
            return;
        }
        if wire.server_gone {
            let delay = self.latency();
            return self.plan(delay, Deed::Reset(id));
        }
        let env = &mut self.env;
        let most = wire.unsent.len() as u64;
        let count = (1 + env.random.below(env.plan.segment_bytes.min(most))).min(most) as usize;
        let bytes: Vec<u8> = wire.unsent.drain(..count).collect();
        let is_cut = wire.count_heard(bytes.len() as u64);
        let bytes = wire.open_outer(bytes, env);
        if std::mem::take(&mut wire.owes_write) || env.plan.eager_edges {
            wire.edge |= WRITABLE;
            self.ready.insert(id);
        }
        let has_more = !wire.unsent.is_empty();
        if !bytes.is_empty() {
            self.serve(id, &bytes);
        }
        if is_cut && let Some(wire) = self.wires.get_mut(&id) {
            let reset = self.env.random.chance(500);
            wire.out.push_front(if reset { Step::Reset } else { Step::Fin });
            wire.server_gone = true;
        }
        if has_more {
            self.take_soon(id);
        }
        self.pump_soon(id, 0);
    }

    /// The server's next steps go over the wire.
    fn pump(&mut self, id: usize) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        if wire.pump_at.is_none_or(|at| at > self.env.now) {
            return;
        }
        wire.pump_at = None;
        if wire.phase != Phase::Open || wire.fin {
            return;
        }
        loop {
            let env = &mut self.env;
            if wire.raw.is_empty() {
                let Some(step) = wire.out.pop_front() else { return };
                if let Some(delay) = wire.begin(step, env) {
                    return self.pump_soon(id, delay);
                }
                if wire.edge != 0 {
                    self.ready.insert(id);
                }
                if wire.is_broken() || wire.fin {
                    env.story.tell(env.now, &[4, id as u64], || {
                        format!("w{id}  server {}", if wire.fin { "ends" } else { "resets" })
                    });
                    return;
                }
            }
            if !wire.raw.is_empty() {
                let room = env.plan.receive_bytes.saturating_sub(wire.received.len());
                if room == 0 {
                    wire.is_starved = true;
                    return;
                }
                let most = wire.raw.len().min(room) as u64;
                let count = 1 + env.random.below(env.plan.segment_bytes.min(most)) as usize;
                wire.received.extend(wire.raw.drain(..count));
                wire.arrived_bytes += count as u64;
                wire.arrived(env);
                if wire.edge != 0 {
                    self.ready.insert(id);
                }
                env.story.tell(env.now, &[5, id as u64, count as u64], || {
                    format!("w{id}  {count} bytes arrive")
                });
            }
            // What is said by the last byte is so as soon as it has arrived.
            while wire.raw.is_empty()
                && let Some(Step::EndOfHead | Step::EndOfAnswer { .. } | Step::TunnelOpen) =
                    wire.out.front()
                && let Some(step) = wire.out.pop_front()
            {
                wire.begin(step, env);
            }
            if !env.random.chance(env.plan.joined_pm) {
                let delay = self.latency() / 4;
                return self.pump_soon(id, delay);
            }
        }
    }

    pub(crate) fn ask(&mut self, id: usize, query: &[u8]) {
        let Some(server) = self.datagrams.get(&id).map(|udp| udp.to) else { return };
        for (delay, reply) in dns::answer(query, false, &mut self.env) {
            let latency = self.latency();
            self.plan(delay + latency, Deed::Datagram(id, server, reply));
        }
        if self.env.random.chance(self.env.plan.dns_fault_pm / 4)
            && let Some(forged) = dns::forged(query)
        {
            // As good an answer as any, but for where it comes from.
            let mut stranger = server;
            if self.env.random.chance(500) {
                stranger.set_port(5_353);
            } else {
                stranger.set_ip(IpAddr::from([10, 53, 9, 9]));
            }
            self.plan(0, Deed::Datagram(id, stranger, forged));
        }
        if self.env.random.chance(self.env.plan.dns_fault_pm / 20) {
            self.plan(1_000, Deed::Unreachable(id));
        }
    }

    /// The system's resolver is asked; it answers for certain, at some time.
    pub(crate) fn ask_system(&mut self, host: &str, ticket: u64) {
        let fails = self.env.random.chance(self.env.plan.dns_fault_pm);
        let origin = self.env.origins.iter().position(|origin| origin.host == host);
        let front = self.env.ways.address_of(host).map(|ip| vec![ip]);
        let mut addresses = front.ok_or_else(|| io::Error::other("no such name"));
        if let Some(at) = origin {
            let origin = &self.env.origins[at];
            if fails {
                self.env.ledger.excuse_origin(at);
            } else {
                addresses = Ok(origin.addresses.iter().chain(&origin.dead).copied().collect());
            }
        }
        let delay = self.env.random.magnitude(if fails { 20_000_000 } else { 500_000 });
        self.env.story.tell(self.env.now, &[41, delay], || format!("sys  is asked for {host}"));
        self.plan(delay, Deed::SystemAnswer(SystemAnswer { ticket, addresses }));
    }

    /// A request begins on a wire, as its first byte is written.
    pub(crate) fn request_begins(&mut self, id: usize) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        let ledger = &mut self.env.ledger;
        if wire.begun > 0 && !wire.is_hopeless {
            if wire.told_unread {
                ledger.break_law(format!("w{id} is reused although it was readable"));
            }
            if wire.poison_at.is_some_and(|at| wire.read_bytes > at) {
                ledger.break_law(format!("w{id} is reused after it said what nobody asked for"));
            }
            wire.is_hopeless |= wire.poison_at.is_some();
        } else if wire.poison_at.is_some() && !wire.told_unread {
            // It spoke first, and nobody was told in time.
            wire.is_hopeless = true;
        }
        ledger.has_crossed |= wire.is_hopeless;
        if wire.poison_at.is_some() || wire.is_hopeless {
            ledger.loose_poison += 1;
        }
        wire.writing = None;
        wire.begun += 1;
        if wire.is_handed || wire.is_fronted() {
            // Whose it is it has not said yet.
            wire.origin = None;
        }
        let origin = wire.origin;
        self.check_origin(origin);
    }

    /// A request begins, for this server or for one that it has yet to name.
    pub(crate) fn check_origin(&mut self, origin: Option<usize>) {
        if let Some(at) = origin
            && let Some(law) = self.env.paces.request_begins(at, self.env.now)
        {
            self.env.ledger.break_law(law);
        }
        let busy = self.wires.values().filter(|wire| wire.is_busy());
        let (all, here) = busy
            .fold((0, 0), |(all, here), wire| (all + 1, here + usize::from(wire.origin == origin)));
        let here = if origin.is_some() { here } else { 0 };
        if all > self.env.concurrency || here > self.env.per_origin {
            let ledger = &mut self.env.ledger;
            ledger.break_law(format!("{all} requests at once, {here} of them at one origin"));
        }
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.env.plan.scenario.is_calm()
    }

    pub(crate) fn is_scarce(&self) -> bool {
        self.env.plan.scenario == Scenario::Scarce
    }
}
