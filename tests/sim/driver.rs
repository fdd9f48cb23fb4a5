//! The program under which the reactor runs: it submits, pauses, resumes, cancels, and checks the
//! laws after every step.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use whippet::net::Traced;
use whippet::{FetchId, Limit, Reactor, Request, Settings};

use super::events::{self, TICK_US};
use super::jobs::{self, Job};
use super::ledger::Ledger;
use super::net::SimNet;
use super::random::Random;
use super::uploads::Pushes;
use super::watch::Watch;
use super::wire::Wire;
use super::world::World;

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
        self.world.borrow_mut().env.files.cut_one();
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

    fn request(&self, id: u64) -> (Request, Job) {
        jobs::request(id, &self.settings, self.epoch, &mut self.world.borrow_mut().env)
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
            let pauses =
                events::take(&mut world, &mut self.jobs, &mut self.pushes, &mut self.over, event);
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
        let is_servers = |wire: &&Wire| wire.at.is_some() || wire.proxy.is_some();
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

const DECODER_BYTES_MAX: usize = 20 << 20;
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
