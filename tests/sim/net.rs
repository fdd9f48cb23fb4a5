//! [`SimNet`]: the world as the reactor sees it.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use whippet::net::{Net, Readiness, ResolverFiles, SystemAnswer, Token};
use whippet::{Peer, SocketSettings};

use super::asked::{Parsed, Parser};
use super::dns;
use super::http;
use super::tls;
use super::wire::{ERROR, Phase, READ_CLOSED, READABLE, Service, Step, WRITABLE, Wire};
use super::world::{Udp, World};

pub(crate) struct SimNet {
    world: Rc<RefCell<World>>,
    epoch: Instant,
    hosts: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct SimStream(usize);
#[derive(Debug)]
pub(crate) struct SimDatagram(usize);

impl SimNet {
    pub(crate) fn new(world: Rc<RefCell<World>>, epoch: Instant, hosts: Vec<u8>) -> Self {
        Self { world, epoch, hosts }
    }
}

pub(crate) fn blocked<T>() -> io::Result<T> {
    Err(io::ErrorKind::WouldBlock.into())
}

impl Net for SimNet {
    type Stream = SimStream;
    type Datagram = SimDatagram;

    fn connect(&mut self, to: SocketAddr, token: Token) -> io::Result<SimStream> {
        self.connect_by(Peer::Address(to), &SocketSettings::new(), token)
    }

    fn connect_by(
        &mut self,
        to: Peer<'_>,
        settings: &SocketSettings,
        token: Token,
    ) -> io::Result<SimStream> {
        self.world.borrow_mut().connect(to, settings, token).map(SimStream)
    }

    fn read(&mut self, stream: &mut SimStream, into: &mut [u8]) -> io::Result<usize> {
        self.world.borrow_mut().read(stream.0, into)
    }

    fn write(&mut self, stream: &mut SimStream, bytes: &[u8]) -> io::Result<usize> {
        self.world.borrow_mut().write(stream.0, bytes)
    }

    fn shutdown(&mut self, stream: &mut SimStream) -> io::Result<()> {
        self.world.borrow_mut().shutdown(stream.0)
    }

    fn take_error(&mut self, stream: &mut SimStream) -> io::Result<Option<io::Error>> {
        let mut world = self.world.borrow_mut();
        let error = world.wires.get_mut(&stream.0).and_then(|wire| wire.error.take());
        Ok(error.map(Into::into))
    }

    fn close(&mut self, stream: SimStream) {
        let mut world = self.world.borrow_mut();
        let id = stream.0;
        let Some(wire) = world.wires.remove(&id) else {
            return world.env.ledger.break_law(format!("w{id} is closed twice"));
        };
        world.leave(id, wire.token);
    }

    fn open_datagram(&mut self, to: SocketAddr, token: Token) -> io::Result<SimDatagram> {
        let mut world = self.world.borrow_mut();
        world.check_descriptors()?;
        let id = world.next_name();
        let udp = Udp {
            token,
            to,
            inbox: Default::default(),
            edge: WRITABLE,
            owes_read: true,
            error: None,
        };
        world.datagrams.insert(id, udp);
        world.ready.insert(id);
        Ok(SimDatagram(id))
    }

    fn send(&mut self, socket: &mut SimDatagram, datagram: &[u8]) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        let to = world.datagrams.get(&socket.0).map(|udp| udp.to);
        if !to.is_some_and(dns::is_server) {
            world.env.ledger.break_law("a datagram to nobody");
        }
        world.ask(socket.0, datagram);
        Ok(datagram.len())
    }

    fn receive(&mut self, socket: &mut SimDatagram, into: &mut [u8]) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        let Some(udp) = world.datagrams.get_mut(&socket.0) else { return blocked() };
        if let Some(error) = udp.error.take() {
            return Err(error.into());
        }
        let Some(datagram) = udp.inbox.pop_front() else {
            udp.owes_read = true;
            return blocked();
        };
        let count = datagram.len().min(into.len());
        into[..count].copy_from_slice(&datagram[..count]);
        Ok(count)
    }

    fn close_datagram(&mut self, socket: SimDatagram) {
        let mut world = self.world.borrow_mut();
        if let Some(udp) = world.datagrams.remove(&socket.0) {
            world.leave(socket.0, udp.token);
        }
    }

    fn wait(
        &mut self,
        timeout: Option<Duration>,
        until: Option<Duration>,
        ready: &mut Vec<Readiness>,
    ) -> io::Result<bool> {
        let is_sleep = timeout != Some(Duration::ZERO);
        // The turn has lasted.
        let left = until.filter(|_| is_sleep).map(|until| until.saturating_sub(self.now()));
        let timeout = [timeout, left].into_iter().flatten().min();
        self.world.borrow_mut().poll(timeout, ready)
    }

    fn now(&mut self) -> Duration {
        let mut world = self.world.borrow_mut();
        let step = world.env.plan.clock_step_us;
        let step = world.env.random.below(step + 1);
        world.env.now += step;
        Duration::from_micros(world.env.now)
    }

    fn epoch(&self) -> Instant {
        self.epoch
    }

    fn wall(&mut self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000) + self.now()
    }

    fn random(&mut self, into: &mut [u8]) -> io::Result<()> {
        self.world.borrow_mut().env.random.fill(into);
        Ok(())
    }

    fn resolver_files(&mut self) -> ResolverFiles {
        ResolverFiles {
            hosts: Some(self.hosts.clone()),
            resolv_conf: Some(dns::RESOLV_CONF.to_vec()),
            nsswitch: Some(b"hosts: files dns\n".to_vec()),
        }
    }

    fn start_system_lookup(&mut self, host: &str, ticket: u64) -> io::Result<()> {
        self.world.borrow_mut().ask_system(host, ticket);
        Ok(())
    }

    fn next_system_answer(&mut self) -> Option<SystemAnswer> {
        let mut world = self.world.borrow_mut();
        world.answers_told = world.answers_told.saturating_sub(1);
        world.answers.pop_front()
    }
}

/// The beginning of some bytes, for a reader.
fn shown(bytes: &[u8]) -> String {
    let most = bytes.len().min(60);
    bytes[..most].escape_ascii().to_string()
}

/// What the kernel does for a client.
impl World {
    fn leave(&mut self, id: usize, token: Token) {
        self.ready.remove(&id);
        self.gone.push_back(token);
        if self.gone.len() > 8 {
            self.gone.pop_front();
        }
        self.env.story.tell(self.env.now, &[6, id as u64], || format!("w{id}  is closed"));
    }

    fn read(&mut self, id: usize, into: &mut [u8]) -> io::Result<usize> {
        let Some(wire) = self.wires.get_mut(&id) else {
            self.env.ledger.break_law(format!("w{id} is read after its close"));
            return blocked();
        };
        if wire.phase == Phase::Connecting {
            self.env.ledger.break_law(format!("w{id} is read before it has connected"));
            return Err(io::ErrorKind::NotConnected.into());
        }
        let plan = &self.env.plan;
        if !wire.received.is_empty() && self.env.random.chance(plan.would_block_pm) {
            wire.owes_read = true;
            wire.told_unread = false;
            self.edge_later(id, READABLE);
            return blocked();
        }
        if wire.received.is_empty() {
            if let Some(kind) = wire.error.take() {
                return Err(kind.into());
            }
            if wire.fin || wire.is_broken() {
                return Ok(0);
            }
            wire.owes_read = true;
            wire.told_unread = false;
            return blocked();
        }
        let most = wire.received.len().min(into.len());
        let is_short = self.env.random.chance(plan.short_read_pm);
        let count =
            if is_short { 1 + self.env.random.magnitude(most as u64 - 1) } else { most as u64 };
        let count = (count as usize).min(most);
        for (byte, from) in into.iter_mut().zip(wire.received.drain(..count)) {
            *byte = from;
        }
        wire.note_read(count);
        self.env.story.tell(self.env.now, &[7, id as u64, count as u64], || {
            format!("w{id}  reads {count} of {}: {}", into.len(), shown(&into[..count]))
        });
        if wire.received.is_empty() && !wire.fin && !wire.is_broken() {
            wire.told_unread = false;
        }
        if count < into.len() {
            wire.owes_read = true;
            let ends = wire.fin || wire.is_broken();
            if ends && !wire.close_told {
                wire.told_unread = false;
                wire.edge |= READABLE | READ_CLOSED;
                self.ready.insert(id);
            } else if !wire.received.is_empty() && !wire.close_told {
                // As if the rest had not come yet.
                wire.told_unread = false;
                self.edge_later(id, READABLE);
            }
        }
        let Some(wire) = self.wires.get_mut(&id) else { return Ok(count) };
        if std::mem::take(&mut wire.is_starved) {
            self.pump_soon(id, 0);
        }
        Ok(count)
    }

    /// The client says nothing more: the end of its half of another protocol, and of nothing else.
    fn shutdown(&mut self, id: usize) -> io::Result<()> {
        let Some(wire) = self.wires.get_mut(&id) else {
            self.env.ledger.break_law(format!("w{id} is half-closed after its close"));
            return Ok(());
        };
        let has_switched = matches!(&wire.service, Service::Http(http) if http.switch.is_some());
        if !has_switched || std::mem::replace(&mut wire.is_half_closed, true) {
            let what = format!("w{id} is half-closed twice, or speaks no other protocol");
            self.env.ledger.break_law_unless_crossed(what);
        }
        if wire.is_broken() { Err(io::ErrorKind::NotConnected.into()) } else { Ok(()) }
    }

    fn write(&mut self, id: usize, bytes: &[u8]) -> io::Result<usize> {
        let Some(wire) = self.wires.get_mut(&id) else {
            self.env.ledger.break_law(format!("w{id} is written after its close"));
            return blocked();
        };
        if wire.is_half_closed {
            self.env.ledger.break_law(format!("w{id} is written after its half-close"));
        }
        match wire.phase {
            Phase::Connecting => {
                wire.owes_write = true;
                return blocked();
            }
            Phase::Broken(_) => {
                let kind = wire.error.take().unwrap_or(io::ErrorKind::BrokenPipe);
                return Err(kind.into());
            }
            Phase::Open => {}
        }
        if bytes.is_empty() {
            return Ok(0);
        }
        let plan = &self.env.plan;
        let room = plan.send_bytes.saturating_sub(wire.unsent.len());
        if room == 0 {
            wire.owes_write = true;
            return blocked();
        }
        if let Service::Http(http) = &mut wire.service
            && http.finished > 0
            && !http.is_answering
            && std::mem::take(&mut http.speaks_on_reuse)
        {
            let step = match self.env.random.below(4) {
                0 => Step::Fin,
                1 => Step::Reset,
                _ => Step::Poison(http::unasked(&mut self.env.random)),
            };
            wire.out.push_front(step);
            wire.owes_write = true;
            self.edge_later(id, WRITABLE);
            self.pump_soon(id, 0);
            return blocked();
        }
        if self.env.random.chance(plan.would_block_pm) {
            self.edge_later(id, WRITABLE);
            return blocked();
        }
        let is_tunnel_due = wire.read_bytes < wire.opens_at;
        if is_tunnel_due && (wire.outer.is_none() || bytes.len() > ALERT_BYTES_MAX) {
            self.env.ledger.break_law(format!("w{id}: it speaks before the tunnel is there"));
        }
        let most = bytes.len().min(room);
        let is_short = self.env.random.chance(plan.short_write_pm);
        let count =
            if is_short { 1 + self.env.random.magnitude(most as u64 - 1) } else { most as u64 };
        let count = (count as usize).min(most);
        wire.unsent.extend(&bytes[..count]);
        if count < bytes.len() {
            if wire.unsent.len() >= plan.send_bytes {
                wire.owes_write = true;
            } else {
                self.edge_later(id, WRITABLE);
            }
        }
        self.env.story.tell(self.env.now, &[8, id as u64, count as u64], || {
            format!("w{id}  writes {count} of {}: {}", bytes.len(), shown(&bytes[..count]))
        });
        self.watch(id, &bytes[..count]);
        self.take_soon(id);
        Ok(count)
    }

    /// Reads along what the client writes.
    fn watch(&mut self, id: usize, bytes: &[u8]) {
        if let Some(wire) = self.wires.get_mut(&id)
            && std::mem::take(&mut wire.is_undecided)
            && !bytes.starts_with(b"C")
        {
            // A request that the proxy is to hand on.
            wire.watcher = Some(Parser::default());
            wire.is_handed = true;
        }
        if let Some(wire) = self.wires.get_mut(&id)
            && matches!(&wire.service, Service::Http(http) if http.is_untold_front)
            && wire.begun == 0
            && bytes.first() == Some(&tls::HANDSHAKE_RECORD)
        {
            // A front that is spoken to over TLS.
            wire.watcher = None;
        }
        let Some(watcher) = self.wires.get_mut(&id).and_then(|wire| wire.watcher.as_mut()) else {
            return;
        };
        let parsed = watcher.feed(bytes);
        match parsed {
            Ok(parsed) => {
                for parsed in parsed {
                    match parsed {
                        Parsed::Begun => self.request_begins(id),
                        Parsed::Head(asked) => {
                            // It had spoken before it was asked.
                            let is_fronted = self.wires.get(&id).is_some_and(Wire::is_fronted);
                            if asked.is_absolute || is_fronted {
                                self.request_names(id, &asked);
                                self.check_origin(self.wires.get(&id).and_then(|it| it.origin));
                            }
                            let Some(wire) = self.wires.get_mut(&id) else { return };
                            wire.writing = Some(asked.id);
                            if wire.poison_at.is_some() || wire.is_hopeless {
                                self.env.ledger.allow_poison(asked.id);
                            }
                        }
                        Parsed::Whole(_) => {}
                    }
                }
            }
            Err(what) => self.env.ledger.break_law_unless_crossed(format!("w{id}: {what}")),
        }
    }

    fn poll(&mut self, timeout: Option<Duration>, told: &mut Vec<Readiness>) -> io::Result<bool> {
        let micros = |wait: Duration| u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        let until = timeout.map(|wait| self.env.now.saturating_add(micros(wait)));
        if self.env.random.chance(self.env.plan.interrupted_pm) {
            return Ok(false);
        }
        self.do_due();
        while !self.has_news() && until.is_none_or(|until| self.env.now < until) {
            let at = match (self.next_at(), until) {
                (Some(at), Some(until)) => at.min(until),
                (Some(at), None) => at,
                (None, Some(until)) => until,
                (None, None) => {
                    self.is_stuck = true;
                    return Err(io::Error::other("nothing will ever happen"));
                }
            };
            self.env.now = self.env.now.max(at);
            self.do_due();
        }
        if until != Some(self.env.now) || timeout != Some(Duration::ZERO) {
            let late =
                if !self.has_news() { self.env.plan.overshoot_us } else { self.env.plan.batch_us };
            self.env.now += self.env.random.below(late + 1);
            self.do_due();
        }
        if timeout != Some(Duration::ZERO) && self.env.random.chance(self.env.plan.leap_pm) {
            let leap = self.env.random.magnitude(LEAP_US_MAX);
            self.env.leapt_us += leap;
            self.env.now += leap;
            self.do_due();
        }
        if self.has_news() {
            // Nothing takes no time.
            self.env.now += 1;
        }
        Ok(self.tell_ready(told))
    }

    fn has_news(&self) -> bool {
        !self.ready.is_empty() || self.answers.len() > self.answers_told
    }

    /// Sleeps without telling of what is ready: a loop around the reactor's does.
    pub(crate) fn sleep(&mut self, until: Option<u64>) {
        self.do_due();
        while !self.has_news() && until.is_none_or(|until| self.env.now < until) {
            let Some(at) = self.next_at().into_iter().chain(until).min() else {
                self.is_stuck = true;
                return;
            };
            self.env.now = self.env.now.max(at);
            self.do_due();
        }
    }

    fn tell_ready(&mut self, told: &mut Vec<Readiness>) -> bool {
        let mut waiting: Vec<usize> = std::mem::take(&mut self.ready).into_iter().collect();
        for at in (1..waiting.len()).rev() {
            waiting.swap(at, self.env.random.index(at + 1));
        }
        let most = self.env.plan.events_max;
        if waiting.len() > most {
            self.ready.extend(waiting.drain(most..));
        }
        let is_full = waiting.len() == most;
        if self.answers.len() > self.answers_told {
            self.answers_told = self.answers.len();
            told.push(Readiness { token: Token::WAKER, bits: READABLE });
        }
        for id in waiting {
            let event = if let Some(wire) = self.wires.get_mut(&id) {
                Readiness { token: wire.token, bits: wire.report(&self.env) }
            } else if let Some(udp) = self.datagrams.get_mut(&id) {
                if udp.edge & READABLE != 0 {
                    udp.owes_read = false;
                }
                Readiness { token: udp.token, bits: std::mem::take(&mut udp.edge) }
            } else {
                continue;
            };
            self.note_event(id, event);
            told.push(event);
        }
        self.tell_spurious(told);
        is_full
    }

    /// Events about nothing, and of sockets that are gone.
    fn tell_spurious(&mut self, told: &mut Vec<Readiness>) {
        while self.env.random.chance(self.env.plan.spurious_pm / 2) {
            let all = READABLE | WRITABLE | READ_CLOSED | ERROR;
            let bits = self.env.random.next() as u8 & all;
            if let Some(token) = self.gone.get(self.env.random.index(8)) {
                told.push(Readiness { token: *token, bits });
            }
            let nth = self.env.random.index(self.wires.len().max(1));
            let Some((id, wire)) = self.wires.iter_mut().nth(nth) else { continue };
            let truth = wire.state(self.env.plan.send_bytes);
            let may = if wire.phase == Phase::Connecting { READABLE } else { READABLE | WRITABLE };
            let bits = bits & (truth | may);
            wire.note_report(bits);
            let (id, event) = (*id, Readiness { token: wire.token, bits });
            self.note_event(id, event);
            told.push(event);
        }
    }

    fn note_event(&mut self, id: usize, event: Readiness) {
        self.env.story.tell(self.env.now, &[9, id as u64, u64::from(event.bits)], || {
            let names = [
                (READABLE, "readable"),
                (WRITABLE, "writable"),
                (READ_CLOSED, "closed"),
                (ERROR, "error"),
            ];
            let said = names.iter().filter(|(bit, _)| event.has(*bit)).map(|(_, name)| *name);
            format!("w{id}  event: {}", said.collect::<Vec<_>>().join(" "))
        });
    }
}

/// The last word over TLS with a proxy, which may come at any time.
const ALERT_BYTES_MAX: usize = 40;
/// A machine was put to sleep.
const LEAP_US_MAX: u64 = 10_000_000_000;
