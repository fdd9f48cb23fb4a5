//! Floor 2. Host names to addresses: the hosts file, a cache, and lookups shared by all who wait.
//!
//! In: names with who waits for them, events of its own sockets, the time. Out: addresses or a
//! [`DnsError`] for each waiter, and one deadline. It opens a socket for each query and drives
//! `wire::dns`; or it hands the name to the system's resolver, if the configuration asks for more
//! than the hosts file and DNS.

#[cfg(debug_assertions)]
mod audit;
mod cache;
mod job;
mod link;
mod timers;

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use self::cache::Cache;
use self::job::{Job, Stage};
use self::link::{Heard, Link, is_scarcity};
use self::timers::Timers;
use crate::kit::arena::{Arena, Key};
use crate::kit::machine::Machine;
use crate::kit::moment::Moment;
use crate::net::{Net, Readiness, ResolverFiles, Token};
use crate::settings::ResolverChoice;
use crate::wire::dns::config::{Config, Hosts};
use crate::wire::dns::lookup::{Lookup, Transmit};
use crate::wire::dns::message::Kind;
use crate::wire::dns::{DnsError, interleave, is_askable};

/// What a name came to: at least one address, or why there is none.
pub(crate) type Resolved = Result<Arc<[IpAddr]>, DnsError>;

/// How names are resolved.
#[derive(Clone, Default, Debug)]
pub(crate) struct ResolverSettings {
    pub(crate) mode: ResolverChoice,
    /// Instead of those in resolv.conf; [`ResolverChoice::Auto`] is then `Builtin`.
    pub(crate) servers: Option<Vec<SocketAddr>>,
}

/// The answer to [`Resolver::resolve`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Resolution {
    /// Known already.
    Ready(Arc<[IpAddr]>),
    /// [`Resolver::next_finished`] will tell.
    Pending(LookupKey),
    /// Known already to have none.
    Failed(DnsError),
}

/// A lookup under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LookupKey(u64);

/// The end of a lookup, for one of its waiters.
#[derive(Debug)]
pub(crate) struct Finished<W> {
    pub(crate) waiter: W,
    pub(crate) lookup: LookupKey,
    pub(crate) resolved: Resolved,
}

/// Host names to addresses. `W` names who waits.
pub(crate) struct Resolver<N: Net, W> {
    mode: ResolverChoice,
    config: Arc<Config>,
    hosts: Hosts,
    cache: Cache,
    jobs: Arena<Job<W>>,
    by_name: HashMap<Arc<str>, Key<Job<W>>>,
    /// Jobs that wait for their turn to open sockets, and some that are gone.
    queue: VecDeque<Key<Job<W>>>,
    /// Jobs that have had it.
    asking: usize,
    sockets: Arena<Socket<N, W>>,
    /// Sockets that were not to be had, since it was last asked.
    sockets_missing: usize,
    timers: Timers<W>,
    finished: VecDeque<Finished<W>>,
    /// What was read last.
    scratch: Vec<u8>,
}

/// The socket of one query.
struct Socket<N: Net, W> {
    job: Key<Job<W>>,
    kind: Kind,
    link: Link<N>,
}

impl<N: Net, W: Copy + Eq> Resolver<N, W> {
    /// A resolver for the configuration in `files`, which is not read again.
    pub(crate) fn new(files: &ResolverFiles, settings: ResolverSettings) -> Self {
        let mut config = Config::parse(files.resolv_conf.as_deref(), files.nsswitch.as_deref());
        let mut mode = settings.mode;
        if let Some(servers) = settings.servers
            && !servers.is_empty()
        {
            config.servers = servers;
            if mode == ResolverChoice::Auto {
                mode = ResolverChoice::Builtin;
            }
        }
        Self {
            mode,
            config: Arc::new(config),
            hosts: Hosts::parse(files.hosts.as_deref().unwrap_or_default()),
            cache: Cache::default(),
            jobs: Arena::with_capacity(0),
            by_name: HashMap::new(),
            queue: VecDeque::new(),
            asking: 0,
            sockets: Arena::with_capacity(0),
            sockets_missing: 0,
            timers: Timers::new(),
            finished: VecDeque::new(),
            scratch: vec![0; READ_BYTES],
        }
    }

    /// Whether a socket's event is for [`Self::receive`]: the two highest bits are 01.
    pub(crate) const fn owns(token: Token) -> bool {
        token.0 >> TOKEN_SHIFT == TOKEN_TAG
    }

    /// The addresses of `host`, which is a name. The same waiter may wait for several names.
    pub(crate) fn resolve(
        &mut self,
        net: &mut N,
        host: &str,
        waiter: W,
        now: Moment,
    ) -> Resolution {
        let host = lower_case(host);
        let relative = host.strip_suffix('.').unwrap_or(&host);
        if !is_askable(relative) {
            return Resolution::Failed(DnsError::InvalidName);
        }
        if let Some(addresses) = self.known_here(relative) {
            return Resolution::Ready(addresses.into());
        }
        if let Some(resolved) = self.cache.get(&host, now) {
            return resolution(resolved);
        }
        if let Some(key) = self.by_name.get(&*host)
            && let Some(job) = self.jobs.get_mut(*key)
        {
            job.waiters.push(waiter);
            return Resolution::Pending(LookupKey(key.to_bits()));
        }
        let name: Arc<str> = host.into();
        let job = Job {
            name: Arc::clone(&name),
            waiters: vec![waiter],
            stage: Stage::Queued,
            due: Moment::NEVER,
        };
        let Ok(key) = self.jobs.insert(job) else {
            return Resolution::Failed(DnsError::TooManyLookups);
        };
        self.by_name.insert(Arc::clone(&name), key);
        if self.is_for_system(&name) {
            self.begin_system(net, key, &name, now);
        } else {
            self.queue.push_back(key);
            self.begin_queued(net, now);
        }
        let lookup = LookupKey(key.to_bits());
        // Where it ended at once, this is its only waiter.
        match self.finished.back() {
            Some(ended) if ended.lookup == lookup => {
                let resolved = ended.resolved.clone();
                self.finished.pop_back();
                resolution(resolved)
            }
            _ => Resolution::Pending(lookup),
        }
    }

    /// `waiter` no longer waits. A lookup that nobody waits for is dropped. Linear in those who
    /// wait for the same name.
    pub(crate) fn forget(&mut self, net: &mut N, lookup: LookupKey, waiter: W, now: Moment) {
        let Some(key) = Key::from_bits(lookup.0) else { return };
        let Some(job) = self.jobs.get_mut(key) else {
            self.finished.retain(|ended| ended.lookup != lookup || ended.waiter != waiter);
            return;
        };
        if let Some(at) = job.waiters.iter().position(|other| *other == waiter) {
            job.waiters.remove(at);
        }
        if job.waiters.is_empty() {
            drop(self.remove(net, key));
            self.begin_queued(net, now);
            self.timers.prune(&mut self.jobs);
        }
    }

    /// A socket of ours is ready.
    pub(crate) fn receive(&mut self, net: &mut N, ready: Readiness, now: Moment) {
        debug_assert!(Self::owns(ready.token));
        let Some(key) = Key::from_bits(ready.token.0 & TOKEN_KEY_MASK) else { return };
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let (job_key, kind) = (socket.job, socket.kind);
        let Some(Job { stage: Stage::Asking { lookup, .. }, .. }) = self.jobs.get_mut(job_key)
        else {
            return;
        };
        // The loop ends: a link gives a bounded number of messages before it fails.
        while lookup.is_waiting(kind) {
            match socket.link.receive(net, &mut self.scratch) {
                Ok(Heard::Message(message)) => {
                    if lookup.receive(kind, &message, now) {
                        break;
                    }
                }
                Ok(Heard::Nothing) => break,
                Err(error) => {
                    lookup.receive_failure(kind, error.to_string(), now);
                    break;
                }
            }
        }
        self.drive(net, job_key, now);
        self.begin_queued(net, now);
        self.timers.prune(&mut self.jobs);
    }

    /// When [`Self::on_time`] has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        self.timers.next()
    }

    /// Gives up, and tries again, what is due.
    pub(crate) fn on_time(&mut self, net: &mut N, now: Moment) {
        while let Some(key) = self.timers.next_due(&mut self.jobs, now) {
            let Some(job) = self.jobs.get_mut(key) else { continue };
            if let Stage::Asking { lookup, retry, .. } = &mut job.stage {
                lookup.on_time(now);
                if *retry <= now {
                    *retry = Moment::NEVER;
                }
            }
            self.drive(net, key, now);
        }
        self.begin_queued(net, now);
        self.timers.prune(&mut self.jobs);
    }

    /// Takes what the system's resolver found. To be called when [`Net::wait`] returned.
    pub(crate) fn system_answers(&mut self, net: &mut N, now: Moment) {
        while let Some(answer) = net.next_system_answer() {
            let resolved = match answer.addresses {
                Ok(addresses) if addresses.is_empty() => Err(DnsError::NoAddresses),
                Ok(addresses) => Ok(interleave(&addresses).into()),
                Err(error) => Err(DnsError::System { reason: error.to_string() }),
            };
            if let Some(key) = Key::from_bits(answer.ticket)
                && self.jobs.get(key).is_some()
            {
                self.finish(net, key, &resolved, SYSTEM_TTL, now);
            }
        }
    }

    /// The next waiter whose lookup has ended.
    pub(crate) fn next_finished(&mut self) -> Option<Finished<W>> {
        self.finished.pop_front()
    }

    /// Whether [`Self::next_finished`] has something to tell.
    pub(crate) fn has_finished(&self) -> bool {
        !self.finished.is_empty()
    }

    /// How many sockets were not to be had since the last call. They are tried again soon; who
    /// can spare descriptors closes as many.
    pub(crate) fn take_sockets_missing(&mut self) -> usize {
        std::mem::take(&mut self.sockets_missing)
    }

    /// Whether nobody waits for anything, and no socket is open.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.finished.is_empty()
    }

    /// What needs neither a cache nor a question.
    fn known_here(&self, name: &str) -> Option<Vec<IpAddr>> {
        let loopback = self.hosts.loopback(name);
        if loopback.is_some() || self.mode == ResolverChoice::System {
            return loopback;
        }
        self.hosts.get(name)
    }

    fn is_for_system(&self, name: &str) -> bool {
        match self.mode {
            ResolverChoice::Auto => self.config.needs_system(name).is_some(),
            ResolverChoice::Builtin => false,
            ResolverChoice::System => true,
        }
    }

    fn begin_system(&mut self, net: &mut N, key: Key<Job<W>>, name: &str, now: Moment) {
        if let Some(job) = self.jobs.get_mut(key) {
            job.stage.go(Stage::System);
        }
        if let Err(error) = net.start_system_lookup(name, key.to_bits()) {
            let resolved = Err(DnsError::System { reason: error.to_string() });
            self.finish(net, key, &resolved, SYSTEM_TTL, now);
        }
    }

    /// Lets as many jobs ask as may.
    fn begin_queued(&mut self, net: &mut N, now: Moment) {
        while self.asking < ASKING_MAX
            && let Some(key) = self.queue.pop_front()
        {
            let Some(job) = self.jobs.get_mut(key) else { continue };
            let draw = if self.config.rotate { random_id(net).unwrap_or(0) } else { 0 };
            job.stage.go(Stage::Asking {
                lookup: Box::new(Lookup::new(&self.config, &job.name, draw)),
                sockets: [None; 2],
                retry: Moment::NEVER,
            });
            self.asking += 1;
            self.drive(net, key, now);
        }
        // Those who were forgotten in the queue must not fill it.
        if self.queue.len() > 2 * self.jobs.len() + QUEUE_SLACK {
            self.queue.retain(|key| self.jobs.get(*key).is_some());
        }
    }

    /// Does what the job's lookup wants: closes what it no longer waits for, sends what it has,
    /// sets its timer, ends it.
    fn drive(&mut self, net: &mut N, key: Key<Job<W>>, now: Moment) {
        loop {
            let Some(job) = self.jobs.get_mut(key) else { return };
            let Stage::Asking { lookup, sockets, retry } = &mut job.stage else { return };
            for kind in [Kind::A, Kind::Aaaa] {
                if !lookup.is_waiting(kind)
                    && let Some(token) = sockets[slot(kind)].take()
                {
                    close(&mut self.sockets, net, token);
                }
            }
            if let Some(verdict) = lookup.verdict() {
                let (resolved, ttl) = (verdict.result.clone().map(Into::into), verdict.ttl);
                self.finish(net, key, &resolved, ttl, now);
                return;
            }
            let is_blocked = *retry != Moment::NEVER;
            match lookup.next_transmit() {
                Some(transmit) if !is_blocked => self.transmit(net, key, transmit, now),
                _ => break,
            }
        }
        if let Some(job) = self.jobs.get_mut(key) {
            self.timers.arm(key, job);
        }
    }

    /// Sends one query from a socket of its own.
    fn transmit(&mut self, net: &mut N, key: Key<Job<W>>, transmit: Transmit, now: Moment) {
        let opened = self.open(net, key, transmit);
        let Some(job) = self.jobs.get_mut(key) else { return };
        let Stage::Asking { lookup, sockets, retry } = &mut job.stage else { return };
        match opened {
            Ok((token, id)) => {
                sockets[slot(transmit.kind)] = Some(token);
                let mut bytes = Vec::new();
                lookup.send(transmit.kind, id, now, &mut bytes);
                let socket = Key::from_bits(token.0 & TOKEN_KEY_MASK);
                if let Some(socket) = socket.and_then(|socket| self.sockets.get_mut(socket))
                    && let Err(error) = socket.link.send(net, bytes)
                {
                    lookup.receive_failure(transmit.kind, error.to_string(), now);
                }
            }
            Err(error) if is_scarcity(&error) => {
                *retry = now.after(RETRY_DELAY);
                self.sockets_missing += 1;
            }
            Err(error) => lookup.receive_failure(transmit.kind, error.to_string(), now),
        }
    }

    /// Opens a socket for one query and draws its id.
    fn open(
        &mut self,
        net: &mut N,
        job: Key<Job<W>>,
        transmit: Transmit,
    ) -> io::Result<(Token, u16)> {
        let id = random_id(net)?;
        let socket = Socket { job, kind: transmit.kind, link: Link::Closed };
        let key = self.sockets.insert(socket).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let token = Token(TOKEN_TAG << TOKEN_SHIFT | key.to_bits());
        match Link::open(net, transmit, token) {
            Ok(link) => {
                if let Some(socket) = self.sockets.get_mut(key) {
                    socket.link = link;
                }
                Ok((token, id))
            }
            Err(error) => {
                self.sockets.remove(key);
                Err(error)
            }
        }
    }

    /// Ends a lookup for all of its waiters.
    fn finish(
        &mut self,
        net: &mut N,
        key: Key<Job<W>>,
        resolved: &Resolved,
        ttl: Duration,
        now: Moment,
    ) {
        let Some(job) = self.remove(net, key) else { return };
        self.cache.insert(&job.name, resolved.clone(), now, ttl);
        let lookup = LookupKey(key.to_bits());
        self.finished.extend(job.waiters.into_iter().map(|waiter| Finished {
            waiter,
            lookup,
            resolved: resolved.clone(),
        }));
    }

    /// Takes a job out, with its sockets.
    fn remove(&mut self, net: &mut N, key: Key<Job<W>>) -> Option<Job<W>> {
        let job = self.jobs.remove(key)?;
        self.by_name.remove(&job.name);
        if let Stage::Asking { sockets, .. } = &job.stage {
            for token in sockets.iter().flatten() {
                close(&mut self.sockets, net, *token);
            }
            self.asking = self.asking.saturating_sub(1);
        }
        Some(job)
    }
}

fn resolution(resolved: Resolved) -> Resolution {
    match resolved {
        Ok(addresses) => Resolution::Ready(addresses),
        Err(error) => Resolution::Failed(error),
    }
}

fn close<N: Net, W>(sockets: &mut Arena<Socket<N, W>>, net: &mut N, token: Token) {
    if let Some(socket) =
        Key::from_bits(token.0 & TOKEN_KEY_MASK).and_then(|key| sockets.remove(key))
    {
        socket.link.close(net);
    }
}

/// Names are compared in lower case. A URL's host is so already.
fn lower_case(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

fn random_id<N: Net>(net: &mut N) -> io::Result<u16> {
    let mut bytes = [0; 2];
    net.random(&mut bytes)?;
    Ok(u16::from_ne_bytes(bytes))
}

/// Where a family's socket is kept.
const fn slot(kind: Kind) -> usize {
    match kind {
        Kind::A => 0,
        Kind::Aaaa => 1,
    }
}

/// Lookups that have sockets open, two each, leave descriptors for the connections.
const ASKING_MAX: usize = 256;
/// When no socket was to be had.
const RETRY_DELAY: Duration = Duration::from_millis(50);
/// The system does not say how long its answers hold. Enough for a burst to share one.
const SYSTEM_TTL: Duration = Duration::from_secs(1);
/// Four times what we say that we can take.
const READ_BYTES: usize = 4_096;
/// Keys of forgotten jobs that the queue may hold beyond as many as there are jobs.
const QUEUE_SLACK: usize = 64;
/// A token's two highest bits tell whose it is, the others are a key.
const TOKEN_SHIFT: u32 = 62;
const TOKEN_TAG: u64 = 1;
const TOKEN_KEY_MASK: u64 = (1 << TOKEN_SHIFT) - 1;

#[cfg(test)]
mod tests;
