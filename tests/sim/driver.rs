//! The program under which the reactor runs: it submits, pauses, resumes, cancels, and checks the
//! laws after every step.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use whippet::net::Traced;
use whippet::{
    Error, Event, FetchId, Head, Kind, Limit, Phase, Reactor, Request, Response, Settings, Stats,
};

use super::ledger::{Asking, Ledger};
use super::net::SimNet;
use super::plan::Scenario;
use super::random::{Random, mix};
use super::story::digest;
use super::upgrades;
use super::uploads::{self, Pushes, Pushing};
use super::watch::Watch;
use super::wire::Wire;
use super::world::{Env, World};

/// One fetch, as the program knows it.
struct Job {
    /// None: it is being submitted.
    fetch: Option<FetchId>,
    collects: bool,
    nonce: Option<u64>,
    taken: u64,
    paused_until: Option<u64>,
    total: Option<Duration>,
    deadline: Option<u64>,
    /// Its body, where it is pushed.
    pushing: Option<Pushing>,
    /// How much it means to say in another protocol, where it asks for one.
    says: Option<u64>,
}

pub(crate) struct Driver {
    world: Rc<RefCell<World>>,
    reactor: Reactor<Traced<SimNet, Watch>>,
    random: Random,
    epoch: Instant,
    settings: Settings,
    unsubmitted: VecDeque<u64>,
    jobs: BTreeMap<u64, Job>,
    pushes: Pushes,
    /// Names of fetches that are no more.
    over: Vec<FetchId>,
    next_act: u64,
    /// It is part of another loop.
    is_nested: bool,
    began: u64,
}

impl Driver {
    pub(crate) fn new(
        world: Rc<RefCell<World>>,
        epoch: Instant,
        hosts: Vec<u8>,
        settings: Settings,
        mut random: Random,
    ) -> Self {
        let net = SimNet::new(Rc::clone(&world), epoch, hosts);
        let net = Traced::new(net, Watch::new(Rc::clone(&world), &settings));
        let reactor = Reactor::with_net(net, settings.clone()).unwrap();
        let began = world.borrow().env.now;
        let requests = world.borrow().env.plan.requests;
        let is_nested = random.chance(200);
        let salt = world.borrow().env.ledger.salt;
        Self {
            world,
            reactor,
            is_nested,
            began,
            random,
            epoch,
            settings,
            unsubmitted: (1..=requests).collect(),
            jobs: BTreeMap::new(),
            pushes: Pushes::new(salt),
            over: Vec::new(),
            next_act: 0,
        }
    }

    /// Runs until every fetch has ended and nothing more is going on, or a law is broken.
    pub(crate) fn run(&mut self) {
        let mut still = 0;
        let mut last = self.now();
        for _ in 0..TURNS_MAX {
            self.act();
            self.turn();
            self.check();
            self.check_told();
            if self.is_broken() || self.is_over() {
                return;
            }
            still = if self.now() == last { still + 1 } else { 0 };
            last = self.now();
            if still > STILL_TURNS_MAX {
                return self.break_law("it spins: many turns, and no time passes");
            }
            if last - self.began > VIRTUAL_TIME_MAX + self.world.borrow().env.leapt_us {
                return self.break_law("it has not ended after an hour");
            }
        }
        self.break_law("it has not ended after very many turns");
    }

    /// What the reactor tells of its steps is one story.
    fn check_told(&self) {
        let watch = self.reactor.watcher();
        if let Some(law) = watch.broken() {
            self.break_law(law);
        } else if watch.pending() < self.reactor.pending() {
            // The end is told before its event is taken.
            let ended = self.reactor.pending() - watch.pending();
            if self.reactor.next_deadline().is_none() {
                self.break_law(format!("{ended} ends were told, and nothing is to be done"));
            }
        } else if watch.pending() > self.reactor.pending() {
            self.break_law("a fetch is gone whose end was not told");
        }
    }

    fn now(&self) -> u64 {
        self.world.borrow().env.now
    }

    fn break_law(&self, law: impl Into<String>) {
        self.world.borrow_mut().env.ledger.break_law(law);
    }

    fn is_broken(&self) -> bool {
        self.world.borrow().env.ledger.broken().is_some()
    }

    fn tell(&self, numbers: &[u64], words: impl FnOnce() -> String) {
        let mut world = self.world.borrow_mut();
        let env = &mut world.env;
        env.story.tell(env.now, numbers, words);
    }

    /// What the program does between turns.
    fn act(&mut self) {
        let plan = self.world.borrow().env.plan.clone();
        let burst = self.random.magnitude(20);
        for _ in 0..burst {
            let Some(id) = self.unsubmitted.front().copied() else { break };
            if !self.submit(id) {
                break;
            }
            self.unsubmitted.pop_front();
        }
        let now = self.now();
        let due: Vec<u64> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.paused_until.is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.paused_until = None;
                let Some(fetch) = job.fetch else { continue };
                self.tell(&[50, id], || format!("f{id}  is resumed"));
                self.reactor.resume(fetch);
            }
        }
        if self.random.chance(plan.cancel_pm) {
            self.cancel_one();
        }
        self.give(now);
        if self.random.chance(plan.pause_pm)
            && let Some(id) = self.any_job()
        {
            self.pause(id);
        }
        if let Some(fetch) = self.over.last().copied()
            && self.random.chance(50)
        {
            // A name of the past names nothing.
            self.reactor.pause(fetch);
            self.reactor.resume(fetch);
            if self.reactor.cancel(fetch) {
                self.break_law("a fetch that had ended was cancelled");
            }
        }
        if plan.stall_us > 0 && self.random.chance(50) {
            self.world.borrow_mut().env.now += self.random.below(plan.stall_us + 1);
        }
        self.next_act = self.now() + 1 + self.random.magnitude(3_000_000);
    }

    /// Gives bodies that are pushed.
    fn give(&mut self, now: u64) {
        // The world is the network's while the reactor writes.
        let mut ledger = Ledger::default();
        self.pushes.give(&mut self.reactor, now, &mut ledger);
        if let Some(law) = ledger.broken() {
            self.break_law(law.to_owned());
        }
    }

    fn any_job(&mut self) -> Option<u64> {
        let nth = self.random.index(self.jobs.len().max(1));
        self.jobs.keys().nth(nth).copied()
    }

    fn cancel_one(&mut self) {
        let Some(id) = self.any_job() else { return };
        let Some(fetch) = self.jobs.remove(&id).and_then(|job| job.fetch) else { return };
        self.pushes.end(id);
        self.tell(&[51, id], || format!("f{id}  is cancelled"));
        if !self.reactor.cancel(fetch) {
            self.break_law(format!("fetch {id} cannot be cancelled, and has not ended"));
        }
        self.world.borrow_mut().env.ledger.fetches_cancelled += 1;
        self.over.push(fetch);
    }

    fn pause(&mut self, id: u64) {
        let until = self.now() + self.random.magnitude(4_000_000);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.paused_until = Some(until);
        let Some(fetch) = job.fetch else { return };
        self.reactor.pause(fetch);
        self.tell(&[52, id], || format!("f{id}  is paused"));
    }

    /// `false`: there was no room.
    fn submit(&mut self, id: u64) -> bool {
        let (request, job) = self.request(id);
        match self.reactor.submit(request) {
            Ok(fetch) => {
                self.tell(&[53, id], || format!("f{id}  is submitted"));
                if let Some(pushing) = job.pushing {
                    self.pushes.begin(id, fetch, pushing);
                }
                self.jobs.insert(id, Job { fetch: Some(fetch), ..job });
                true
            }
            Err(_) => {
                if self.reactor.waiting() == 0 && self.reactor.buffered_bytes() < SHORT_BYTES_MIN {
                    self.break_law("nothing waits, and there is no room");
                }
                false
            }
        }
    }

    fn request(&mut self, id: u64) -> (Request, Job) {
        let salt = self.world.borrow().env.ledger.salt;
        let mut world = self.world.borrow_mut();
        // Chosen by the request's number alone: a request that did not fit is the same later.
        let mut random = Random::new(mix(salt ^ id));
        let at = random.index(world.env.origins.len());
        let method = *random.pick(&["GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE"]);
        let url = format!("{}/{id}/0", world.env.origins[at].base);
        let mut request = Request::new(method, url).unwrap().tag(id);
        let (mut length, mut pushing, mut is_once) = (0, None, false);
        if matches!(method, "POST" | "PUT") {
            length = random.magnitude(world.env.plan.body_bytes.max(100));
            let (body, pushed, once) = uploads::body(id, salt, length);
            (pushing, is_once) = (pushed, once);
            request = request.body(body).expect_continue(uploads::expects(id, salt));
        }
        let collects = random.chance(500);
        request = request.collect(collects);
        if random.chance(100) {
            request = request.decode(false);
        }
        if random.chance(60) {
            request = request.header("Connection", "close").unwrap();
        }
        #[cfg(feature = "digest")]
        if random.chance(world.env.plan.login_pm) && !is_once {
            request = request.digest_auth("me", "hush").unwrap();
            world.env.logins.enable(id);
        }
        let (upgrade_pm, most) = (world.env.plan.upgrade_pm, world.env.plan.body_bytes);
        let says = upgrades::says(id, salt, upgrade_pm, most);
        if says.is_some() {
            request = request.upgrade("sim").unwrap();
        }
        if random.chance(50) {
            request = request.cookies(false);
            world.env.cookies.leave_out(id);
        }
        let (total, deadline);
        (request, total, deadline) = self.limited(request, &world.env, &mut random);
        let chance = Random::new(mix(!salt ^ id));
        request = world.env.proxies.choose(request, chance);
        let (body_bytes, is_collected) = (length, collects);
        let asking = Asking { body_bytes, is_once, origin: at, says, is_collected };
        world.env.ledger.ask(id, asking);
        let job = Job {
            fetch: None,
            collects,
            nonce: None,
            taken: 0,
            paused_until: None,
            total,
            deadline,
            pushing,
            says,
        };
        (request, job)
    }

    /// A request with limits of its own, perhaps; its total, and its deadline.
    fn limited(
        &self,
        mut request: Request,
        env: &Env,
        random: &mut Random,
    ) -> (Request, Option<Duration>, Option<u64>) {
        let (mut total, mut deadline) = (self.settings.timeouts.get(Limit::Total), None);
        if !env.plan.has_limits {
            return (request, total, deadline);
        }
        if random.chance(200) {
            let limit = super::span(random, 20_000_000);
            request = request.timeout(limit);
            total = Some(limit);
        }
        if random.chance(100) {
            let at = env.now + random.magnitude(20_000_000);
            request = request.deadline(self.epoch + Duration::from_micros(at));
            deadline = Some(at);
        }
        if random.chance(100) {
            request = request.body_bytes_max(random.magnitude(100_000));
        }
        if random.chance(200) {
            request = request.retries(random.below(4) as u32);
        }
        (request, total, deadline)
    }

    /// Waits, and takes what has happened: all of it, or sometimes not.
    fn turn(&mut self) {
        let wants = self.next_wish();
        let now = self.now();
        let mut timeout = wants.map(|at| Duration::from_micros(at.saturating_sub(now)));
        if self.is_nested {
            // A loop around it watches its descriptor, and calls it when that is readable.
            let due =
                self.reactor.next_deadline().map(|at| at.saturating_duration_since(self.epoch));
            let due = due.map(|due| due.as_micros() as u64);
            self.world.borrow_mut().sleep(wants.into_iter().chain(due).min());
            timeout = Some(Duration::ZERO);
        }
        let waited = if self.world.borrow().is_stuck {
            Err(std::io::Error::other("no deadline, and no event"))
        } else {
            self.reactor.wait(timeout)
        };
        if let Err(error) = waited {
            let stuck = self.world.borrow().is_stuck;
            let law = if stuck {
                "it hangs: fetches are left, and nothing will ever happen"
            } else {
                "wait failed"
            };
            return self.break_law(format!("{law} ({error}); {:?}", self.reactor));
        }
        self.tell(&[60], || "-- a turn".to_owned());
        let most = if self.random.chance(30) { self.random.below(4) } else { EVENTS_A_TURN_MAX };
        let mut paused = Vec::new();
        for taken in 0..=most {
            if taken == EVENTS_A_TURN_MAX {
                return self.break_law("a turn does not end");
            }
            if taken == most {
                break;
            }
            let Some(event) = self.reactor.next_event() else { break };
            let mut world = self.world.borrow_mut();
            let pauses = take(&mut world, &mut self.jobs, &mut self.pushes, &mut self.over, event);
            drop(world);
            if let Some(id) = pauses
                && self.random.chance(self.pause_pm())
            {
                paused.push(id);
                self.pause(id);
            }
            if self.random.chance(3) {
                self.cancel_sometimes();
            }
        }
    }

    fn pause_pm(&self) -> u32 {
        self.world.borrow().env.plan.pause_pm
    }

    fn cancel_sometimes(&mut self) {
        if self.world.borrow().env.plan.cancel_pm > 0 {
            self.cancel_one();
        }
    }

    /// When the program has something to do by itself.
    fn next_wish(&mut self) -> Option<u64> {
        let resumes = self.jobs.values().filter_map(|job| job.paused_until).min();
        let submits = (!self.unsubmitted.is_empty()).then_some(self.next_act);
        let settles = (self.jobs.is_empty()).then(|| self.now() + 10_000_000);
        [resumes, submits, settles, self.pushes.next_at()].into_iter().flatten().min()
    }

    /// The laws that hold between any two calls.
    fn check(&mut self) {
        let reactor = &self.reactor;
        let mut world = self.world.borrow_mut();
        let world = &mut *world;
        let hedges = reactor.hedges();
        let mut law = |holds: bool, words: &str| {
            if !holds {
                world.env.ledger.break_law(format!("{words}; {reactor:?}"));
            }
        };
        law(reactor.pending() == self.jobs.len(), "pending is not what was submitted and not told");
        law(reactor.in_flight() <= self.settings.concurrency, "more in flight than the cap");
        // Those that were in flight, and wait again, are above the window.
        let waiting_max = self.settings.waiting_requests_max;
        let most = waiting_max.saturating_add(self.settings.concurrency);
        let in_flight = reactor.in_flight() - hedges.under_way;
        law(in_flight + reactor.waiting() <= most, "more wait than may");
        law(in_flight + reactor.waiting() <= reactor.pending(), "a fetch is in two places");
        let most = self.settings.buffered_bytes_max.max(BUFFERED_BYTES_MIN);
        let has_reserve = self.settings.body_bytes_max <= most as u64 / 2 - HEAD_BYTES_MAX;
        // What one decoder holds may exceed the bound once.
        let decoder = if world.env.plan.coded_pm > 0 { DECODER_BYTES_MAX } else { 0 };
        let is_bounded = reactor.buffered_bytes() <= most + decoder;
        law(!has_reserve || is_bounded, "too much waits in memory");
        law(reactor.idle_connections() <= self.settings.idle_connections_max, "too many are idle");
        law(reactor.idle_connections() <= reactor.connections(), "idle ones that are none");
        let is_servers = |wire: &&Wire| wire.origin.is_some() || wire.proxy.is_some();
        let sockets = world.wires.values().filter(is_servers).count();
        let lookups = world.wires.len() - sockets + world.datagrams.len();
        let working = reactor.connections() - reactor.idle_connections();
        law(reactor.buffers() <= 4 * working, "an idle connection owns a buffer");
        law(sockets == reactor.connections(), "sockets are open that are no connections");
        if reactor.pending() == 0 {
            law(reactor.in_flight() == 0, "nothing is pending, and a slot is held");
            law(reactor.waiting() == 0, "nothing is pending, and something waits");
            law(hedges.under_way == 0, "nothing is pending, and something is asked for twice");
            law(lookups == 0, "nothing is pending, and a lookup goes on");
            law(reactor.buffered_bytes() == 0 || reactor.buffers() > 0, "a body is nobody's");
            let idle = reactor.connections() == reactor.idle_connections();
            law(!idle || reactor.buffers() == 0, "all is idle, and a buffer is lent");
            law(!idle || reactor.buffered_bytes() == 0, "all is idle, and something is held");
        }
        let now = world.env.now;
        let slack = world.env.plan.slack_us() + TICK_US + world.env.leapt_us;
        for (id, job) in &self.jobs {
            if job.deadline.is_some_and(|at| at + 2 * slack < now) {
                world.env.ledger.break_law(format!("fetch {id} lives after its deadline"));
            }
        }
    }

    /// Every fetch has ended, what was dialled in vain too, and idle connections in their time.
    fn is_over(&mut self) -> bool {
        if !self.unsubmitted.is_empty() || !self.jobs.is_empty() {
            return false;
        }
        let reactor = &self.reactor;
        let (hedges, attempts) = (reactor.hedges(), reactor.watcher().begun());
        let ledger = &mut self.world.borrow_mut().env.ledger;
        if ledger.fetches_cancelled == 0 && hedges.begun * 20 > attempts - hedges.begun {
            ledger.break_law(format!("{} of {attempts} attempts were hedges", hedges.begun));
        }
        ledger.hedges = hedges.begun;
        let connections = reactor.connections();
        if connections != reactor.idle_connections() {
            return false;
        }
        connections == 0 || self.settings.timeouts.get(Limit::Idle).is_none()
    }
}

/// Takes one event. `Some`: a fetch that goes on.
fn take(
    world: &mut World,
    jobs: &mut BTreeMap<u64, Job>,
    pushes: &mut Pushes,
    over: &mut Vec<FetchId>,
    event: Event<'_>,
) -> Option<u64> {
    let (Event::Head { id, tag, .. }
    | Event::Body { id, tag, .. }
    | Event::Writable { id, tag, .. }
    | Event::Done { id, tag, .. }
    | Event::Failed { id, tag, .. }) = &event
    else {
        return None;
    };
    let tag = *tag;
    let Some(job) = jobs.get_mut(&tag).filter(|job| job.fetch == Some(*id)) else {
        world.env.ledger.break_law(format!("an event of fetch {tag}, which has ended"));
        return None;
    };
    let env = &mut world.env;
    match event {
        Event::Head { head, .. } => {
            env.story.tell(env.now, &[61, tag, head.status().as_u16().into()], || {
                format!("f{tag}  head: {}", head.status())
            });
            if job.paused_until.is_some() || job.collects || job.nonce.is_some() {
                env.ledger.break_law(format!("fetch {tag} was given a head it cannot take"));
            }
            job.nonce = Some(nonce_of(&head));
            env.ledger.check_chunk(tag, nonce_of(&head), 0, &[]);
            if head.status() == 101 {
                switch(env, pushes, tag, job);
            }
            Some(tag)
        }
        Event::Body { chunk, .. } => {
            env.story.tell(env.now, &[62, tag, digest(chunk)], || {
                format!("f{tag}  body: {} bytes", chunk.len())
            });
            if job.paused_until.is_some() || job.collects || job.nonce.is_none() || chunk.is_empty()
            {
                env.ledger.break_law(format!("fetch {tag} was given a body it cannot take"));
            }
            env.ledger.check_chunk(tag, job.nonce.unwrap_or_default(), job.taken, chunk);
            job.taken += chunk.len() as u64;
            Some(tag)
        }
        Event::Writable { offset, .. } => {
            env.story.tell(env.now, &[65, tag, offset], || {
                format!("f{tag}  is asked for byte {offset} of its body")
            });
            pushes.asked(tag, offset, env.now, &mut env.ledger);
            Some(tag)
        }
        Event::Done { stats, response, .. } => {
            pushes.end(tag);
            done(world, tag, job, &stats, response.as_ref());
            end(jobs, over, tag);
            None
        }
        Event::Failed { error, stats, partial, .. } => {
            pushes.end(tag);
            failed(world, tag, job, &error, &stats, partial.as_ref());
            end(jobs, over, tag);
            None
        }
        _ => None,
    }
}

/// A fetch has changed its protocol: the program has something to say in it.
fn switch(env: &mut Env, pushes: &mut Pushes, tag: u64, job: &Job) {
    match (job.says, job.fetch) {
        (Some(says), Some(fetch)) => pushes.switch(tag, fetch, says),
        _ => env.ledger.break_law(format!("fetch {tag} changed to what it did not ask for")),
    }
}

fn end(jobs: &mut BTreeMap<u64, Job>, over: &mut Vec<FetchId>, tag: u64) {
    over.extend(jobs.remove(&tag).and_then(|job| job.fetch));
}

fn done(world: &mut World, tag: u64, job: &Job, stats: &Stats, response: Option<&Response>) {
    let env = &mut world.env;
    env.ledger.fetches_done += 1;
    env.story.tell(env.now, &[63, tag, stats.wire_bytes, stats.attempts.into()], || {
        format!("f{tag}  done: {} bytes, {} attempts", stats.wire_bytes, stats.attempts)
    });
    if response.is_some() != job.collects {
        env.ledger.break_law(format!("fetch {tag} is told in the wrong way"));
    }
    let (nonce, taken) = match response {
        Some(response) => {
            let nonce = nonce_of(&response.head());
            env.ledger.check_chunk(tag, nonce, 0, response.body());
            (nonce, response.body().len() as u64)
        }
        None => (job.nonce.unwrap_or_default(), job.taken),
    };
    env.ledger.check_whole(tag, nonce, taken);
    check_time(world, tag, job, stats);
}

fn failed(
    world: &mut World,
    tag: u64,
    job: &Job,
    error: &Error,
    stats: &Stats,
    partial: Option<&Response>,
) {
    let env = &mut world.env;
    env.ledger.fetches_failed += 1;
    env.story.tell(env.now, &[64, tag, stats.attempts.into(), error.kind() as u64], || {
        format!("f{tag}  failed: {error}")
    });
    if let Some(partial) = partial {
        env.ledger.check_chunk(tag, nonce_of(&partial.head()), 0, partial.body());
    }
    let is_once = env.ledger.asking(tag).is_some_and(|asking| asking.is_once);
    let is_refusal = env.paces.is_refusal(error);
    let may = env.ledger.is_excused(tag)
        || (is_refusal && !env.plan.scenario.is_calm())
        || error.kind() == Kind::Redirect && is_once
        || matches!(error.kind(), Kind::Timeout | Kind::TooLarge) && env.plan.has_limits
        || env.plan.scenario == Scenario::Scarce;
    if !may {
        env.ledger.break_law(format!("fetch {tag} failed without a cause: {error}"));
    }
    if error.kind() == Kind::Connect && error.phase() == Phase::Queue && !is_refusal {
        env.ledger.break_law(format!("fetch {tag} was refused without a circuit: {error}"));
    }
    if error.kind() == Kind::Timeout && error.limit().is_none() {
        env.ledger.break_law(format!("fetch {tag} timed out by no limit"));
    }
    check_time(world, tag, job, stats);
}

/// Whether it has ended by its limits.
fn check_time(world: &mut World, tag: u64, job: &Job, stats: &Stats) {
    let env = &mut world.env;
    let slack = Duration::from_micros(env.plan.slack_us() * 2 + TICK_US + env.leapt_us);
    let took = stats.timings.total;
    if let Some(total) = job.total
        && took > total.saturating_add(slack)
    {
        env.ledger.break_law(format!("fetch {tag} took {took:?}, of {total:?} that it had"));
    }
}

fn nonce_of(head: &Head<'_>) -> u64 {
    let value = head.header("X-Nonce").unwrap_or_default();
    String::from_utf8_lossy(value).parse().unwrap_or_default()
}

const DECODER_BYTES_MAX: usize = 20 << 20;
const TICK_US: u64 = 1_000;
const TURNS_MAX: u64 = 1_000_000;
const STILL_TURNS_MAX: u64 = 5_000;
const EVENTS_A_TURN_MAX: u64 = 200_000;
const VIRTUAL_TIME_MAX: u64 = 3_600_000_000;
/// Below this, memory is never short.
const SHORT_BYTES_MIN: usize = 200_000;
/// However little is allowed.
const BUFFERED_BYTES_MIN: usize = 1 << 20;
/// Of the settings, at the most.
const HEAD_BYTES_MAX: u64 = 100_000;
