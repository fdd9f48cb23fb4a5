//! Floor 2. The reactor: the only floor that knows more than one neighbour.
//!
//! In go requests and readiness; out come events, one at a time, each the result of one bounded
//! piece of work. This file has the surface; [`turn`] the order of the work; [`fetch`] and
//! [`attempt`] what the user asked for and what becomes of it; [`dial`] how it gets a connection;
//! [`exchange`], [`uploading`], [`receiving`] and [`decoding`] what is said over one; [`memory`]
//! how much of it may wait; [`connection`], [`opening`], [`reading`] and [`idle`] the socket;
//! [`pool`] whose turn it is, and [`pace`] how soon; [`resolver`] names; [`proxied`] logins at
//! proxies; [`session`] what one exchange leaves for the next; [`tracing`] what is told of all
//! that.

mod attempt;
#[cfg(debug_assertions)]
mod audit;
mod connection;
mod deadlines;
mod decoding;
mod dial;
pub(crate) mod event;
mod exchange;
mod fetch;
mod hedge;
mod idle;
pub(crate) mod memory;
mod opening;
mod pace;
mod path;
mod pool;
mod proxied;
mod reading;
mod receiving;
mod resolver;
mod session;
mod tracing;
mod turn;
mod uploading;

#[cfg(test)]
mod tests {
    mod drip;
}

use std::collections::VecDeque;
use std::fmt;
use std::io;
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::attempt::routed;
use self::connection::{AnyConnection, Connection, ConnectionKey};
pub use self::event::{Event, FetchId, Full};
use self::event::{Happening, Told};
use self::exchange::Exchange;
use self::fetch::{Fetch, FetchKey};
use self::hedge::{Hedging, Twin};
use self::memory::{Flow, Memory};
use self::pool::{PaceKey, Pool, RoomKey};
use self::reading::{Focus, READ_BYTES_MAX, TLS_READ_BYTES_MAX};
use self::resolver::{Resolver, ResolverSettings};
pub use self::uploading::BodyRefused;
pub(crate) use self::uploading::Unsent;
#[cfg(fuzzing)]
pub(crate) use self::{attempt::redirected, exchange::encoded};
use crate::error::{Error, Kind, Limit, Phase};
use crate::kit::arena::Arena;
use crate::kit::buffer::Buffers;
use crate::kit::machine::Machine;
use crate::kit::moment::Moment;
use crate::kit::wheel::Wheel;
use crate::net::{Net, OsNet, Readiness, Traced};
use crate::policy::auth::Sessions;
use crate::policy::cookies::CookieJar;
use crate::policy::retry::Budget;
use crate::request::Request;
use crate::settings::Settings;
use crate::trace::Trace;
use crate::trust::TlsSettings;
use crate::wire::http1::heads::Heads;
use crate::wire::tls::{Config, KEPT_BYTES_MAX};

/// Fetches many URLs on the thread that calls it.
///
/// **The one law: drain [`next_event`](Self::next_event) until `None`, then
/// [`wait`](Self::wait).** Calling `wait` early loses nothing.
///
/// Only `wait` sleeps, and nothing else blocks. A turn, from one `wait` to the `None` after it,
/// is finite however fast the servers are. To nest a reactor in a loop of your own, watch its
/// [descriptor](AsFd) for reading, wait no longer than until
/// [`next_deadline`](Self::next_deadline), then call `wait(Some(Duration::ZERO))` and drain.
///
/// ```no_run
/// use whippet::{Event, Reactor, Request, Settings};
///
/// let mut reactor = Reactor::new(Settings::default())?;
/// for tag in 0..100 {
///     let request = Request::get(format!("http://127.0.0.1:8080/{tag}"))?.tag(tag);
///     reactor.submit(request).map_err(|full| full.to_string())?;
/// }
/// while reactor.pending() > 0 {
///     reactor.wait(None)?;
///     while let Some(event) = reactor.next_event() {
///         match event {
///             Event::Body { tag, chunk, .. } => println!("{tag}: {} bytes", chunk.len()),
///             Event::Failed { tag, error, .. } => println!("{tag}: {error}"),
///             _ => {}
///         }
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Reactor<N: Net = OsNet> {
    net: N,
    settings: Settings,
    /// TLS configurations by the settings they were made of; most programs have one.
    tls: Vec<(Arc<TlsSettings>, Config)>,
    proxies_tls: Arc<TlsSettings>,

    fetches: Arena<Fetch>,
    exchanges: Arena<Exchange>,
    connections: Arena<Connection<N::Stream>, AnyConnection>,
    pool: Pool,
    resolver: Resolver<N, FetchKey>,
    wheel: Wheel<Timer>,
    budget: Budget,
    /// None where nothing is sent twice.
    hedging: Option<Box<Hedging>>,
    /// A pace is kept, or requests are hedged: what most reactors do without.
    has_extras: bool,
    reachable: dial::Reachable,
    backing_off: usize,
    waiting_bytes: usize,

    /// What the clock said when this turn began.
    now: Moment,
    turn: u64,
    /// [`Self::next_event`] has said so, and nothing was submitted since.
    turn_is_over: bool,
    /// Attempts that may still begin in this turn.
    admissions_left: usize,
    /// The last poll's events, and how many of them were taken.
    ready: Vec<Readiness>,
    ready_taken: usize,
    /// Polls in a row that gave as many events as fit: there may be more.
    full_polls: u32,
    /// Connections with work left for this turn, and those whose share of it is spent.
    again: VecDeque<ConnectionKey>,
    next_turn: Vec<ConnectionKey>,
    /// Whose bytes are being consumed.
    focus: Option<Focus>,
    /// Timers that fired, to be judged after the events.
    due: VecDeque<Timer>,
    /// Fetches whose answers are late, to be judged after the new attempts.
    late: VecDeque<FetchKey>,
    resolver_is_due: bool,
    /// Limits that wait for the next reading of the clock.
    unarmed: Vec<FetchKey>,
    /// Origins with both an idle connection and somebody who dials.
    offers: Vec<RoomKey>,
    /// Fetches whose end is to be told, or that there is room for more of their bodies.
    to_tell: VecDeque<FetchKey>,

    /// Every connection is read into this one.
    read_buffer: Box<[u8]>,
    /// What was decoded last; made when the first coded body comes.
    decoded: Box<[u8]>,
    /// TLS records on their way out.
    sealed: Vec<u8>,
    /// A piece of a body on its way out, framed; made when the first one comes.
    outgoing: Vec<u8>,
    heads: Heads,
    cookies: CookieJar,
    logins: Sessions,
    /// With proxies, which are no origins.
    proxy_logins: Sessions,
    told: Told,
    buffers: Buffers,
    memory: Memory,
    /// Entries that steps since the last audit would have paid for.
    #[cfg(debug_assertions)]
    unaudited: usize,
}

/// What the wheel's entries are for.
#[derive(Clone, Copy)]
enum Timer {
    Fetch(FetchKey),
    /// Another address is to be tried beside those that have not answered.
    Dial(FetchKey),
    Connection(ConnectionKey),
    /// The answer to a fetch is late.
    Hedge(FetchKey),
    /// An origin may be asked again.
    Pace(PaceKey),
    /// The concurrency was lowered; it may rise again.
    Cap,
}

/// What a step came to.
pub(crate) enum Step {
    Happened(Happening),
    Worked,
    /// There is nothing left to do in this turn.
    Over,
}

impl Reactor<OsNet> {
    /// A reactor on the operating system's network.
    ///
    /// # Errors
    /// [`Kind::Io`] where the system gives no poll; [`Kind::Tls`] where the TLS settings cannot
    /// be used, and why.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        Self::with_net(net_for(&settings)?, settings)
    }

    /// The same with somebody who is told of each step: [`Trace`].
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn traced<T: Trace>(
        settings: Settings,
        watcher: T,
    ) -> Result<Reactor<Traced<OsNet, T>>, Error> {
        Reactor::with_net(Traced::new(net_for(&settings)?, watcher), settings)
    }
}

impl<N: Net, T: Trace> Reactor<Traced<N, T>> {
    /// Who watches.
    pub fn watcher(&self) -> &T {
        self.net.watcher()
    }

    /// The same, to be changed.
    pub fn watcher_mut(&mut self) -> &mut T {
        self.net.watcher_mut()
    }
}

/// The descriptor becomes readable when [`Reactor::wait`] has something to do, and at times when
/// it has not; it is that of an edge-triggered poll and can be nested in another.
#[cfg(unix)]
impl<N: Net + AsFd> AsFd for Reactor<N> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.net.as_fd()
    }
}

impl<N: Net> Reactor<N> {
    /// A reactor on a network of the caller's.
    ///
    /// # Errors
    /// [`Kind::Tls`] as [`Reactor::new`].
    pub fn with_net(mut net: N, settings: Settings) -> Result<Self, Error> {
        let resolver = Resolver::new(&net.resolver_files(), ResolverSettings::of(&settings));
        let cap = settings.concurrency.max(1);
        let now = Moment::from_elapsed(net.now());
        // What a turn may come to fill is made once, so that a busy turn later allocates nothing.
        let busy = cap.min(PRESIZED_MAX);
        let kept = settings.idle_connections_max.min(PRESIZED_MAX);
        let events = settings.events_per_wait_max.min(PRESIZED_MAX);
        let mut wheel = Wheel::with_capacity(2 * busy + kept);
        // The clock may read anything at first; an empty wheel gets there at once.
        wheel.next_due(now);
        let mut reactor = Self {
            net,
            tls: Vec::new(),
            proxies_tls: settings.tls.for_proxies(),
            fetches: Arena::with_capacity(0),
            exchanges: Arena::with_capacity(0),
            connections: Arena::with_capacity(0),
            pool: Pool::new(cap, settings.per_origin, &settings.pace),
            resolver,
            wheel,
            budget: Budget::new(),
            has_extras: settings.hedge.is_some() || !settings.pace.is_off(),
            hedging: settings.hedge.map(|rule| Box::new(Hedging::new(rule))),
            reachable: dial::Reachable::default(),
            backing_off: 0,
            waiting_bytes: 0,
            now,
            turn: 0,
            turn_is_over: true,
            admissions_left: 0,
            ready: Vec::with_capacity(events),
            ready_taken: 0,
            full_polls: 0,
            again: VecDeque::new(),
            next_turn: Vec::new(),
            focus: None,
            due: VecDeque::new(),
            late: VecDeque::new(),
            resolver_is_due: false,
            unarmed: Vec::new(),
            offers: Vec::with_capacity(busy),
            to_tell: VecDeque::with_capacity(busy),
            read_buffer: vec![0; KEPT_BYTES_MAX + TLS_READ_BYTES_MAX.max(READ_BYTES_MAX)].into(),
            decoded: Box::default(),
            sealed: Vec::new(),
            outgoing: Vec::new(),
            heads: Heads::default(),
            cookies: CookieJar::new(),
            logins: Sessions::default(),
            proxy_logins: Sessions::default(),
            told: Told::default(),
            buffers: Buffers::new(),
            memory: Memory::new(&settings),
            #[cfg(debug_assertions)]
            unaudited: 0,
            settings,
        };
        if reactor.settings.tls.is_customised() {
            // What is wrong with them is said now, not at the first https URL.
            let settings = Arc::clone(&reactor.settings.tls);
            reactor.tls_of(&settings)?;
        }
        Ok(reactor)
    }

    /// Puts a request in line. It begins in this turn or in the next, when the caps allow; its
    /// time begins at the first reading of the clock after this call.
    ///
    /// # Errors
    /// [`Full`] gives the request back where too many wait already, or too much
    /// ([`Settings::buffered_bytes_max`]).
    pub fn submit(&mut self, request: Request) -> Result<FetchId, Box<Full>> {
        if std::mem::replace(&mut self.turn_is_over, false) {
            // The caller may have done something else for long: times count from here.
            self.read_clock();
        }
        let weight = request.weight_bytes();
        let waiting = self.pool.waiting() + self.backing_off;
        let is_full = waiting >= self.settings.waiting_requests_max.max(1)
            || (waiting > 0 && self.waiting_bytes + weight > self.settings.waiting_bytes_max)
            || (!self.fetches.is_empty() && self.is_memory_short());
        if is_full {
            return Err(Box::new(Full { request }));
        }
        let Some(room) = self.pool.room(&request.parts.route.origin) else {
            return Err(Box::new(Full { request }));
        };
        let request = routed(request, &self.settings);
        let deadline = request.parts.choices.deadline;
        let has_queue_limit = request.parts.choices.timeouts.get(Limit::Queue).is_some()
            || self.settings.timeouts.get(Limit::Queue).is_some();
        let fetch = Fetch { weight_bytes: weight, ..Fetch::new(request, room, self.now) };
        let key = match self.fetches.insert(fetch) {
            Ok(key) => key,
            Err(fetch) => return Err(Box::new(Full { request: fetch.request })),
        };
        self.pool.wait(&mut self.fetches, room, key, false);
        self.trace_queued(key);
        self.waiting_bytes += weight;
        self.budget.note_request(self.now);
        if let Some(deadline) = deadline {
            let elapsed = deadline.saturating_duration_since(self.net.epoch());
            self.set_deadline(key, Moment::from_elapsed(elapsed));
        }
        if has_queue_limit {
            self.begin_limit(key, Limit::Queue);
        }
        Ok(FetchId::of(key))
    }

    /// Sleeps until something is ready, a limit is over, or `timeout` has passed, and at times not
    /// so long; not at all while work is queued. The only call that sleeps.
    ///
    /// # Errors
    /// Those of the system's poll. An interruption by a signal is none: it ends the sleep.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        #[cfg(debug_assertions)]
        self.audit();
        self.arm_limits();
        let (timeout, until) = match self.has_work() {
            true => (Some(Duration::ZERO), None),
            false => (timeout, self.soonest_deadline().map(Moment::elapsed)),
        };
        self.ready.drain(..self.ready_taken);
        self.ready_taken = 0;
        let is_full = self.net.wait(timeout, until, &mut self.ready)?;
        self.full_polls = if is_full { self.full_polls.saturating_add(1) } else { 0 };
        self.read_clock();
        self.turn += 1;
        self.turn_is_over = false;
        self.admissions_left = self.settings.concurrency.max(ADMISSIONS_A_TURN_MIN);
        self.again.extend(self.next_turn.drain(..));
        self.take_due();
        Ok(())
    }

    /// Does one bounded piece of work after another until something happened. `None`: this turn
    /// is over.
    pub fn next_event(&mut self) -> Option<Event<'_>> {
        let happening = loop {
            #[cfg(debug_assertions)]
            self.audit();
            match self.step() {
                Step::Happened(happening) => break happening,
                Step::Worked => {}
                Step::Over => {
                    self.arm_limits();
                    self.turn_is_over = true;
                    return None;
                }
            }
        };
        self.lend(happening)
    }

    /// Stops reading for a fetch, down to the kernel's window. Its `first_byte` and `stall` limits
    /// stop, and begin anew when it is resumed; `total` runs on.
    pub fn pause(&mut self, id: FetchId) {
        let Some(key) = id.key() else { return };
        self.stop_starving(key);
        let Some(fetch) = self.fetches.get_mut(key).filter(|fetch| !fetch.is_paused()) else {
            return;
        };
        fetch.flow.go(Flow::Paused);
        fetch.deadlines.clear(Limit::FirstByte);
        fetch.deadlines.clear(Limit::Stall);
        if fetch.twin != Twin::None {
            self.part_from_twin(key);
        }
    }

    /// Reads on.
    pub fn resume(&mut self, id: FetchId) {
        let Some(key) = id.key() else { return };
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        if fetch.is_paused() {
            fetch.flow.go(Flow::Flowing);
            self.flow_on(key);
        }
    }

    /// Ends a fetch at once: no event follows. `false`: it had ended, and its event was taken.
    pub fn cancel(&mut self, id: FetchId) -> bool {
        let Some(key) = id.key().filter(|key| self.fetches.contains(*key)) else { return false };
        self.trace_cancelled(key);
        self.leave_stage(key, crate::wire::http1::reuse::CloseReason::Cancelled);
        self.release_collected(key);
        let Some(fetch) = self.fetches.remove(key) else { return false };
        if let Some(timer) = fetch.timer {
            self.wheel.remove(timer);
        }
        true
    }

    /// When [`Self::wait`] must be called at the latest. Already past while work is queued, and
    /// while a limit has begun that is to be counted from the next reading of the clock; `None`:
    /// never, until the descriptor is readable.
    pub fn next_deadline(&self) -> Option<Instant> {
        let epoch = self.net.epoch();
        let counts_soon = !self.unarmed.is_empty() && !self.fetches.is_empty();
        if self.has_work() || counts_soon {
            return Some(epoch);
        }
        let at = self.soonest_deadline()?;
        epoch.checked_add(at.elapsed())
    }

    /// The cookies that were set.
    pub fn cookies(&self) -> &CookieJar {
        &self.cookies
    }

    /// The same, to be filled or emptied. What is sent from now on has what is in it then.
    pub fn cookies_mut(&mut self) -> &mut CookieJar {
        &mut self.cookies
    }

    /// Fetches that were submitted and whose end was not told yet.
    pub fn pending(&self) -> usize {
        self.fetches.len() - self.hedges().under_way
    }

    /// Slots of the concurrency that are held: one by each fetch under way, and one by each
    /// [second exchange](Self::hedges).
    pub fn in_flight(&self) -> usize {
        self.pool.in_flight()
    }

    /// Fetches that wait: for their turn, or before another attempt.
    pub fn waiting(&self) -> usize {
        self.pool.waiting() + self.backing_off
    }

    /// Sockets that are kept for further requests.
    pub fn idle_connections(&self) -> usize {
        self.pool.idle_connections()
    }

    /// Sockets of all phases, those of name lookups left out.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Buffers in use: each holds a head or a TLS record in pieces, what a paused fetch has not
    /// taken, TLS records that a socket has not, or a body that is collected and has no known
    /// length. Idle connections hold none.
    pub fn buffers(&self) -> usize {
        self.buffers.lent()
    }

    /// What is known of a fetch whose end was not told yet.
    pub(crate) fn fetch(&self, id: FetchId) -> Option<&Fetch> {
        self.fetches.get(id.key()?)
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl ResolverSettings {
    fn of(settings: &Settings) -> Self {
        let servers = &settings.dns_servers;
        Self { mode: settings.resolver, servers: (!servers.is_empty()).then(|| servers.clone()) }
    }
}

impl<N: Net> fmt::Debug for Reactor<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor")
            .field("pending", &self.pending())
            .field("in_flight", &self.in_flight())
            .field("waiting", &self.waiting())
            .field("connections", &self.connections())
            .field("idle_connections", &self.idle_connections())
            .finish_non_exhaustive()
    }
}

fn net_for(settings: &Settings) -> Result<OsNet, Error> {
    OsNet::new(settings.events_per_wait_max.min(EVENTS_MAX)).map_err(|error| {
        Error::io(Kind::Io, Phase::Request, "the system gives no event queue", error)
    })
}

/// Places that lists are made with, where the settings allow for more.
const PRESIZED_MAX: usize = 1_024;
/// Attempts that begin in one turn, at the least: what fails at once and is submitted again at
/// once must not keep a turn from ending.
const ADMISSIONS_A_TURN_MIN: usize = 64;
/// However many events a caller would take at once.
const EVENTS_MAX: usize = 1 << 16;
