//! The whole client on a network whose servers say anything, in any pieces, at any time: every
//! fetch ends once, nothing hangs or is left over, and what is called complete was sent whole.
//!
//! The input is eight bytes of choices and then what servers say. 0x1e waits for the next request,
//! 0x1f for a while, 0x1d begins what the next connection's server says.
#![no_main]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use whippet::fuzzing::Decoder;
use whippet::{
    Coding, Event, FetchId, Limit, Reactor, Request, ResolverChoice, Response, Settings, Timeouts,
};
use whippet_fuzz::input::{Random, Tape};
use whippet_fuzz::net::{Faults, FuzzNet, Step, World};
use whippet_fuzz::{memory, strict};

fuzz_target!(|bytes: &[u8]| {
    memory::allow(DECODERS_BYTES);
    let choices = Choices::read(&mut Tape::new(bytes));
    let stream = bytes.get(8..).unwrap_or_default();
    let world = World::new(scripts(stream, &choices), choices.faults, choices.seed.into());
    let mut run = Run::new(Rc::new(RefCell::new(world)), &choices);
    run.submit(&choices);
    run.run();
    run.check_answers(&choices);
});

struct Choices {
    method: &'static str,
    base: &'static str,
    fetches: u64,
    concurrency: usize,
    collects: u8,
    ending: u8,
    pauses: u8,
    cancels: u8,
    head_bytes_max: usize,
    body_bytes_max: u64,
    has_stall: bool,
    faults: Faults,
    seed: u16,
}

impl Choices {
    fn read(tape: &mut Tape<'_>) -> Self {
        let (what, many, how, faults) = (tape.byte(), tape.byte(), tape.byte(), tape.byte());
        let (limits, collects) = (tape.byte(), tape.byte());
        let often = |bit: u8, percent: u8| if faults & bit != 0 { percent } else { 0 };
        Self {
            method: ["GET", "HEAD", "POST", "DELETE"][usize::from(what & 3)],
            base: match what >> 2 & 7 {
                0 => "https://10.0.0.1",
                1 => "http://two.test",
                2 => "http://nowhere.test",
                _ => "http://10.0.0.1",
            },
            fetches: 1 + u64::from(many & 7),
            concurrency: 1 + usize::from(many >> 3 & 3),
            collects,
            ending: how & 3,
            pauses: if how & 4 == 0 { 0 } else { 20 },
            cancels: if how & 8 == 0 { 0 } else { 5 },
            head_bytes_max: if limits & 1 == 0 { 64 << 10 } else { 100 },
            body_bytes_max: if limits & 2 == 0 { 1 << 20 } else { 20 },
            has_stall: limits & 4 != 0,
            faults: Faults {
                short_reads: often(1, 30),
                short_writes: often(2, 30),
                would_block: often(4, 20),
                refused: often(8, 20),
                spurious: often(16, 10),
                slow: often(32, 20),
            },
            seed: tape.word(),
        }
    }
}

fn scripts(stream: &[u8], choices: &Choices) -> Vec<Vec<Step>> {
    let script = |bytes: &[u8]| {
        let mut steps = Vec::new();
        if bytes.first() != Some(&0x1f) {
            steps.push(Step::Await);
        }
        for (nth, part) in bytes.split(|byte| matches!(byte, 0x1e | 0x1f)).enumerate() {
            if nth > 0 {
                let before = part.as_ptr().addr() - bytes.as_ptr().addr() - 1;
                steps.push(if bytes[before] == 0x1e { Step::Await } else { Step::Wait });
            }
            if !part.is_empty() {
                steps.push(Step::Bytes(part.to_vec()));
            }
        }
        match choices.ending {
            0 => steps.push(Step::Fin),
            1 => steps.push(Step::Reset),
            2 if bytes.len().is_multiple_of(2) => steps.push(Step::Fin),
            _ => {}
        }
        steps
    };
    stream.split(|byte| *byte == 0x1d).map(script).collect()
}

struct Run {
    world: Rc<RefCell<World>>,
    reactor: Reactor<FuzzNet>,
    random: Random,
    pauses: u8,
    cancels: u8,
    jobs: BTreeMap<u64, Job>,
    complete: Vec<Complete>,
}

/// An answer that was called complete.
struct Complete {
    status: u16,
    /// Those that were removed from the body.
    codings: Vec<Coding>,
    body: Vec<u8>,
}

struct Job {
    id: FetchId,
    status: Option<u16>,
    codings: Vec<Coding>,
    body: Vec<u8>,
    paused_until: Option<u64>,
}

impl Run {
    fn new(world: Rc<RefCell<World>>, choices: &Choices) -> Self {
        let mut settings = Settings::default();
        settings.concurrency = choices.concurrency;
        settings.head_bytes_max = choices.head_bytes_max;
        settings.body_bytes_max = choices.body_bytes_max;
        settings.resolver = ResolverChoice::Builtin;
        let mut timeouts = Timeouts::default();
        if choices.has_stall {
            timeouts.set(Limit::Stall, Some(Duration::from_secs(1)));
            timeouts.set(Limit::FirstByte, Some(Duration::from_secs(2)));
        }
        settings.timeouts = timeouts;
        #[allow(
            clippy::disallowed_methods,
            reason = "where simulated time begins; it goes nowhere"
        )]
        let epoch = Instant::now();
        let net = FuzzNet { world: Rc::clone(&world), epoch };
        Self {
            world,
            reactor: Reactor::with_net(net, settings).unwrap(),
            random: Random::new(u64::from(choices.seed) << 1),
            pauses: choices.pauses,
            cancels: choices.cancels,
            jobs: BTreeMap::new(),
            complete: Vec::new(),
        }
    }

    fn submit(&mut self, choices: &Choices) {
        for tag in 0..choices.fetches {
            let url = format!("{}/{tag}", choices.base);
            let mut request = Request::new(choices.method, url).unwrap().tag(tag);
            request = request.collect(choices.collects >> tag & 1 != 0);
            if choices.method == "POST" {
                request = request.body("some bytes");
            }
            let id = self.reactor.submit(request).unwrap();
            let (codings, body) = (Vec::new(), Vec::new());
            self.jobs.insert(tag, Job { id, status: None, codings, body, paused_until: None });
        }
    }

    /// Until every fetch has ended, and after that until every connection is closed.
    fn run(&mut self) {
        for _ in 0..TURNS_MAX {
            self.meddle();
            if self.jobs.is_empty() && self.reactor.connections() == 0 {
                return self.check();
            }
            let wish = self.jobs.values().filter_map(|job| job.paused_until).min();
            let now = self.world.borrow().now;
            let wish = wish.map(|at| Duration::from_micros(at.saturating_sub(now)));
            self.reactor.wait(wish).unwrap_or_else(|error| panic!("{error}: {:?}", self.reactor));
            self.take_events();
            self.check();
            assert!(self.world.borrow().now < LONGEST_MICROS, "{:?}", self.reactor);
        }
        panic!("it does not end: {:?}", self.reactor);
    }

    fn meddle(&mut self) {
        let now = self.world.borrow().now;
        let mut cancelled = None;
        for (tag, job) in &mut self.jobs {
            if job.paused_until.is_some_and(|at| at <= now) {
                job.paused_until = None;
                self.reactor.resume(job.id);
            } else if self.random.chance(self.pauses) {
                job.paused_until = Some(now + self.random.below(2_000_000));
                self.reactor.pause(job.id);
            } else if self.random.chance(self.cancels) {
                cancelled = Some(*tag);
            }
        }
        if let Some(job) = cancelled.and_then(|tag| self.jobs.remove(&tag)) {
            assert!(self.reactor.cancel(job.id), "a fetch that has not ended is not cancelled");
            assert!(!self.reactor.cancel(job.id), "a fetch is cancelled twice");
        }
    }

    fn take_events(&mut self) {
        for _ in 0..EVENTS_MAX {
            let Some(event) = self.reactor.next_event() else { return };
            match event {
                Event::Head { tag, head, .. } => {
                    let job = self.jobs.get_mut(&tag).expect("a head of nobody");
                    let before = job.status.replace(head.status().as_u16());
                    assert_eq!(before, None, "two heads");
                    job.codings = head.removed_codings().collect();
                }
                Event::Body { tag, chunk, .. } => {
                    let job = self.jobs.get_mut(&tag).expect("a body of nobody");
                    assert!(job.status.is_some() && !chunk.is_empty());
                    job.body.extend_from_slice(chunk);
                }
                Event::Done { tag, response, stats, .. } => {
                    let job = self.jobs.remove(&tag).expect("an end of nobody");
                    let complete = match response {
                        Some(response) => whole(&response),
                        None => {
                            let Job { status, codings, body, .. } = job;
                            let status = status.expect("an answer without a head");
                            Complete { status, codings, body }
                        }
                    };
                    assert_eq!(stats.body_bytes, complete.body.len() as u64);
                    self.complete.push(complete);
                }
                Event::Failed { tag, error, .. } => {
                    self.jobs.remove(&tag).expect("an end of nobody");
                    assert!(!error.to_string().contains(['\r', '\n']));
                }
                _ => {}
            }
        }
        panic!("a turn does not end");
    }

    /// What holds between any two turns.
    fn check(&self) {
        let reactor = &self.reactor;
        assert_eq!(reactor.pending(), self.jobs.len());
        assert!(reactor.in_flight() <= reactor.settings().concurrency);
        assert!(reactor.in_flight() + reactor.waiting() <= reactor.pending());
        assert_eq!(self.world.borrow().open_sockets(), reactor.connections());
        if reactor.connections() == reactor.idle_connections() {
            assert_eq!(reactor.buffers(), 0, "an idle connection owns a buffer");
            if reactor.pending() == 0 {
                assert_eq!(reactor.buffered_bytes(), 0, "nobody's bytes wait");
            }
        }
        if reactor.pending() == 0 {
            assert_eq!((reactor.in_flight(), reactor.waiting()), (0, 0));
        }
    }

    /// Each complete answer is one of the messages that a server has sent, and none is given
    /// twice.
    fn check_answers(&mut self, choices: &Choices) {
        let world = self.world.borrow();
        let is_head = choices.method == "HEAD";
        let mut sent = Vec::new();
        for socket in world.sockets.iter().filter(|socket| !socket.is_tls()) {
            let (bytes, head_max) = (&socket.delivered, choices.head_bytes_max);
            sent.extend(strict::responses(bytes, is_head, socket.has_fin, head_max));
        }
        for Complete { status, codings, body } in &self.complete {
            let is_body = |sent: &[u8]| match &codings[..] {
                [] => sent == body,
                codings => decoded(codings, sent).as_ref() == Some(body),
            };
            let at = sent.iter().position(|sent| sent.status == *status && is_body(&sent.body));
            let at = at.unwrap_or_else(|| {
                panic!("nobody sent {status} {}: {sent:?}", body.escape_ascii())
            });
            sent.swap_remove(at);
        }
    }
}

fn whole(response: &Response) -> Complete {
    Complete {
        status: response.status().as_u16(),
        codings: response.removed_codings().collect(),
        body: response.body().to_vec(),
    }
}

/// Nothing at all is an empty body in every coding.
fn decoded(codings: &[Coding], bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let mut decoder = Decoder::new(codings)?;
    let (mut decoded, mut output, mut rest) = (Vec::new(), vec![0; 64 << 10], bytes);
    loop {
        let progress = decoder.decode(rest, &mut output).ok()?;
        decoded.extend_from_slice(&output[..progress.made]);
        rest = &rest[progress.used..];
        if rest.is_empty() && !progress.has_more {
            break;
        }
    }
    decoder.finish().is_ok().then_some(decoded)
}

/// A window of a decoder, which is there twice while it grows, for some fetches at once.
const DECODERS_BYTES: usize = 128 << 20;
const TURNS_MAX: usize = 50_000;
const EVENTS_MAX: usize = 50_000;
/// Eight fetches of 30 seconds one after the other, with room.
const LONGEST_MICROS: u64 = 600_000_000;
