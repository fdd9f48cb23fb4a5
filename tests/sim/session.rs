//! The program that has a session: it takes one stream of a [`Client`] after another, reads and
//! writes in calls that block, while what it submitted before goes on; and checks the same laws.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::time::Instant;

use whippet::{BodyRefused, Client, Error, Reactor, Settings, Stats, Stream};

use super::events;
use super::jobs::{self, Job};
use super::net::SimNet;
use super::random::{Random, body_bytes};
use super::uploads::Pushing;
use super::world::{Env, World};

pub(crate) struct Session {
    world: Rc<RefCell<World>>,
    client: Client<SimNet>,
    random: Random,
    epoch: Instant,
    settings: Settings,
    /// What was submitted, and not told of.
    submitted: BTreeMap<u64, Job>,
}

impl Session {
    pub(crate) fn new(
        world: Rc<RefCell<World>>,
        epoch: Instant,
        hosts: Vec<u8>,
        settings: Settings,
        random: Random,
    ) -> Self {
        let net = SimNet::new(Rc::clone(&world), epoch, hosts);
        let client = Client::with_reactor(Reactor::with_net(net, settings.clone()).unwrap());
        Self { world, client, random, epoch, settings, submitted: BTreeMap::new() }
    }

    /// Takes every request in turn, until all have ended or a law is broken.
    pub(crate) fn run(&mut self) {
        let requests = self.world.borrow().env.plan.requests;
        for id in 1..=requests {
            self.take(id);
            stall(&mut self.world.borrow_mut().env, &mut self.random);
            self.world.borrow_mut().env.files.cut_one();
            if self.random.chance(100) {
                self.next_completed();
            }
            if self.is_broken() {
                return;
            }
        }
        while !self.submitted.is_empty() && !self.is_broken() {
            self.next_completed();
        }
        self.check_rest();
    }

    fn take(&mut self, id: u64) {
        let (request, job) =
            jobs::request(id, &self.settings, self.epoch, &mut self.world.borrow_mut().env);
        if job.says.is_some() || job.pushing.is_some_and(|pushing| pushing.is_replayable) {
            // Another protocol needs both ways at once; a stream's body is given once.
            return;
        }
        if !job.collects {
            return self.stream(request, id, job);
        }
        if job.pushing.is_some() {
            return;
        }
        let mut request = Some(request);
        while let Some(again) = request.take() {
            match self.client.submit(again) {
                Ok(_) => self.tell(&[70, id], || format!("f{id}  is submitted")),
                Err(full) => {
                    if self.submitted.is_empty() {
                        return self.break_law("nothing waits, and there is no room");
                    }
                    self.next_completed();
                    request = Some(full.request).filter(|_| !self.is_broken());
                }
            }
        }
        self.submitted.insert(id, job);
    }

    fn stream(&mut self, request: whippet::Request, id: u64, mut job: Job) {
        let Self { world, client, random, .. } = self;
        tell(world, &[71, id], || format!("f{id}  is begun as a stream"));
        let mut stream = match client.stream(request) {
            Ok(stream) => stream,
            Err(error) => return end_badly(world, id, &job, &error, None),
        };
        if let Some(pushing) = job.pushing
            && let Err(error) = push(&mut stream, pushing, world, random)
        {
            return end_badly(world, id, &job, &error, stream.stats());
        }
        if random.chance(world.borrow().env.plan.cancel_pm) {
            return drop_one(world, id);
        }
        match stream.head().map(|head| events::nonce_of(&head)) {
            Ok(nonce) => job.nonce = Some(nonce),
            Err(error) => return end_badly(world, id, &job, &error, stream.stats()),
        }
        if random.chance(200) {
            return whole(stream, world, id, &mut job);
        }
        let most = 1 + random.magnitude(100_000) as usize;
        let mut room = vec![0; most];
        loop {
            if random.chance(world.borrow().env.plan.cancel_pm / 4) {
                return drop_one(world, id);
            }
            stall(&mut world.borrow_mut().env, random);
            let most = 1 + random.index(most);
            match stream.read(&mut room[..most]) {
                Ok(0) => break,
                Ok(count) => took(world, id, &mut job, &room[..count]),
                Err(error) => {
                    let Some(error) = cause(&error, world) else { return };
                    return end_badly(world, id, &job, &error, stream.stats());
                }
            }
        }
        match stream.stats() {
            Some(stats) => events::done(&mut world.borrow_mut(), id, &job, stats, None),
            None => break_law(world, format!("fetch {id} has ended, and does not say how")),
        }
    }

    /// What was submitted goes on; one of it has ended.
    fn next_completed(&mut self) {
        let Some(completed) = self.client.next_completed() else {
            if !self.submitted.is_empty() {
                self.break_law("the client has forgotten what was submitted");
            }
            return;
        };
        let id = completed.tag;
        let Some(job) = self.submitted.remove(&id) else {
            return self.break_law(format!("fetch {id} ends, and was not submitted"));
        };
        let mut world = self.world.borrow_mut();
        match &completed.result {
            Ok(response) => events::done(&mut world, id, &job, response.stats(), Some(response)),
            Err(error) => {
                let partial = completed.partial.as_ref();
                let none = Stats::default();
                let stats = partial.map_or(&none, |partial| partial.stats());
                events::failed(&mut world, id, &job, error, stats, partial);
            }
        }
    }

    /// Nothing is left of what has ended.
    fn check_rest(&self) {
        let reactor = self.client.reactor();
        if reactor.pending() != 0 || reactor.in_flight() != 0 || reactor.waiting() != 0 {
            self.break_law(format!("all has ended, and something is left: {reactor:?}"));
        }
    }

    fn is_broken(&self) -> bool {
        self.world.borrow().env.ledger.broken().is_some()
    }

    fn break_law(&self, law: impl Into<String>) {
        break_law(&self.world, law);
    }

    fn tell(&self, numbers: &[u64], words: impl FnOnce() -> String) {
        tell(&self.world, numbers, words);
    }
}

/// The program does something else. Between two calls that wait it may do so many times, and no
/// limit is looked at meanwhile.
fn stall(env: &mut Env, random: &mut Random) {
    if env.plan.stall_us > 0 && random.chance(50) {
        let lasts = random.below(env.plan.stall_us + 1);
        env.now += lasts;
        env.leapt_us += lasts;
    }
}

/// Writes a body, and its end. Where the server wants no more of it, its answer is to be read.
fn push(
    stream: &mut Stream<'_, SimNet>,
    pushing: Pushing,
    world: &Rc<RefCell<World>>,
    random: &mut Random,
) -> Result<(), Error> {
    let mut at = 0;
    while at < pushing.length {
        let most = 1 + random.magnitude(pushing.length - at - 1);
        let piece = body_bytes(pushing.name, at, most as usize);
        match stream.write(&piece) {
            Ok(count) if count == 0 || count as u64 > most => {
                break_law(world, format!("{count} bytes are taken of {most}"));
                return Ok(());
            }
            Ok(count) => at += count as u64,
            Err(error) => return refusal(&error, world),
        }
        if random.chance(50)
            && let Err(error) = stream.flush()
        {
            return refusal(&error, world);
        }
    }
    let trailers: &[(&str, &str)] =
        if random.chance(300) && !pushing.is_announced { &[("X-Sum", "1")] } else { &[] };
    stream.finish_body_with(trailers).or_else(|error| refusal(&error, world))
}

/// Why a write was refused: by the fetch's failure, or because an answer is there.
fn refusal(error: &io::Error, world: &Rc<RefCell<World>>) -> Result<(), Error> {
    let inner = error.get_ref();
    match inner.and_then(|inner| inner.downcast_ref::<BodyRefused>()) {
        Some(BodyRefused::Unwanted | BodyRefused::Gone) => Ok(()),
        Some(refused) => {
            break_law(world, format!("a body as announced is refused: {refused}"));
            Ok(())
        }
        // The connection takes nothing any more: what was said before is to be read.
        None if error.kind() == io::ErrorKind::BrokenPipe && is_words(error) => Ok(()),
        None => cause(error, world).map_or(Ok(()), Err),
    }
}

fn is_words(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| !inner.is::<Error>())
}

/// The error of the fetch, which each error of a stream is or holds.
fn cause(error: &io::Error, world: &Rc<RefCell<World>>) -> Option<Error> {
    let held = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    if held.is_none() {
        break_law(world, format!("an error that no fetch has: {error:?}"));
    }
    held.cloned()
}

/// The rest as one response.
fn whole(stream: Stream<'_, SimNet>, world: &Rc<RefCell<World>>, id: u64, job: &mut Job) {
    match stream.into_response() {
        Ok(response) => {
            took(world, id, job, response.body());
            events::done(&mut world.borrow_mut(), id, job, response.stats(), None);
        }
        Err(error) => end_badly(world, id, job, &error, None),
    }
}

fn took(world: &Rc<RefCell<World>>, id: u64, job: &mut Job, bytes: &[u8]) {
    let env: &mut Env = &mut world.borrow_mut().env;
    env.story.tell(env.now, &[72, id, bytes.len() as u64], || {
        format!("f{id}  gives {} bytes", bytes.len())
    });
    env.ledger.check_chunk(id, job.nonce.unwrap_or_default(), job.taken, bytes);
    job.taken += bytes.len() as u64;
}

fn end_badly(world: &Rc<RefCell<World>>, id: u64, job: &Job, error: &Error, stats: Option<&Stats>) {
    let mut world = world.borrow_mut();
    if world.is_stuck {
        return world.env.ledger.break_law(format!("fetch {id} hangs: {error}"));
    }
    let none = Stats::default();
    events::failed(&mut world, id, job, error, stats.unwrap_or(&none), None);
}

/// A stream was dropped before its end.
fn drop_one(world: &Rc<RefCell<World>>, id: u64) {
    let env = &mut world.borrow_mut().env;
    env.story.tell(env.now, &[73, id], || format!("f{id}  is dropped"));
    env.ledger.fetches_cancelled += 1;
}

fn break_law(world: &Rc<RefCell<World>>, law: impl Into<String>) {
    world.borrow_mut().env.ledger.break_law(law);
}

fn tell(world: &Rc<RefCell<World>>, numbers: &[u64], words: impl FnOnce() -> String) {
    let env: &mut Env = &mut world.borrow_mut().env;
    env.story.tell(env.now, numbers, words);
}
