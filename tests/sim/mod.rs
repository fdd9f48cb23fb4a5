//! The whole client in a simulator: the reactor, unchanged, on a network that one seed decides.
//!
//! [`run`] makes a world from a seed: servers, name servers, wires that delay, cut and lose, and a
//! program that submits, pauses and cancels. The clock jumps to the next event. After every step
//! the laws are checked; the first that is broken ends the run.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_lossless,
    dead_code,
    reason = "numbers here are small, and each user of this module uses its part"
)]

mod asked;
mod basic;
mod coding;
mod connecting;
mod cookies;
mod dns;
mod driver;
mod events;
mod files;
mod framing;
mod http;
mod jobs;
mod ledger;
mod logins;
mod net;
mod paces;
mod plan;
mod proxies;
mod random;
mod serving;
mod session;
mod sockets;
mod story;
mod tls;
mod trusts;
mod upgrades;
mod uploads;
mod watch;
mod ways;
mod wire;
mod world;

use std::cell::RefCell;
use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::time::{Duration, Instant};

use whippet::{Circuit, Hedge, Limit, Pace, Rate, ResolverChoice, Settings, Timeouts};

use basic::Basics;
use cookies::Cookies;
use driver::Driver;
use files::Files;
use ledger::Ledger;
use logins::Logins;
use paces::Paces;
use plan::Plan;
pub(crate) use plan::Scenario;
use proxies::Proxies;
use random::{Random, mix};
use session::Session;
use story::Story;
use trusts::Trusts;
use ways::Ways;
use world::{Env, Origin, World};

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) seed: u64,
    pub(crate) program: Program,
    pub(crate) scenario: Scenario,
    /// The same in every run of the seed, where that is repeatable.
    pub(crate) hash: u64,
    /// Nothing hung on what the TLS library draws itself.
    pub(crate) is_repeatable: bool,
    /// Simulated time.
    pub(crate) took: Duration,
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    pub(crate) served: u64,
    /// Tunnels through proxies, and requests that they handed on.
    pub(crate) led: u64,
    /// Requests on a connection to a proxy whose last one was for another server.
    pub(crate) shared: u64,
    pub(crate) hedges: u64,
    /// Fetches that ended well in another protocol.
    pub(crate) switched: u64,
    /// How often that came about which some of the laws are about.
    pub(crate) counts: Vec<(&'static str, u64)>,
    /// The first law that was broken.
    pub(crate) broken: Option<String>,
    /// Where it was asked for: what happened, line by line.
    pub(crate) story: Vec<String>,
}

impl Outcome {
    /// One line, from which it can be replayed.
    pub(crate) fn line(&self) -> String {
        let Self { seed, scenario, broken, .. } = self;
        let law = broken.as_deref().unwrap_or("all laws hold");
        let program = if self.program == Program::Session { " session" } else { "" };
        format!(
            "seed {seed} ({scenario:?}): {law}; replay: cargo run --example simulate \
             {seed}{program}"
        )
    }
}

/// Who fetches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Program {
    /// A loop around a reactor, which takes events.
    Loop,
    /// A session, which takes streams.
    Session,
}

/// Runs one seed to its end.
pub(crate) fn run(seed: u64, program: Program, is_told: bool) -> Outcome {
    let mut random = Random::new(seed);
    let mut plan = Plan::of(seed, &mut random);
    let salt = mix(seed);
    let mut origins = origins(&plan, &mut random);
    let ways = Ways::of(salt, &plan, &mut origins);
    let hosts = [hosts(&origins), ways.hosts()].concat();
    let mut settings = settings(&plan, &mut random);
    let proxies = Proxies::of(seed, &plan);
    proxies.set(&mut settings, seed, plan.has_limits);
    proxies.keep_short(&mut plan);
    ways.set(&mut settings, &origins);
    let trusts = Trusts::of(salt);
    trusts.set(&mut settings, plan.scenario.is_calm());
    let basics = Basics::of(salt, &origins);
    basics.set(&mut settings, &origins);
    if basics.are_shown() || ways.may_deny() {
        // Where redirects lead is what is to be seen.
        plan.redirect_pm = plan.redirect_pm.max(200);
    }
    if settings.hedge.is_some() && random.chance(700) {
        // Hedges are earned by many attempts.
        plan.requests = (6 * plan.requests).min(150);
        plan.body_bytes = plan.body_bytes.min(3_000);
    }
    let logins = Logins::of(salt, &plan);
    let files = Files::of(salt, &plan);
    let began = plan.begins_us;
    let env = Env {
        now: began,
        random: Random::new(random.next()),
        plan,
        ledger: Ledger::new(salt),
        cookies: Cookies::default(),
        logins,
        basics,
        files,
        ways,
        trusts,
        brs: 0,
        proxies,
        story: Story::new(is_told),
        origins,
        per_origin: settings.per_origin.unwrap_or(settings.concurrency),
        concurrency: settings.concurrency,
        paces: Paces::new(&settings.pace, began),
        leapt_us: 0,
        has_garbled: false,
    };
    let world = Rc::new(RefCell::new(World::new(env)));
    #[allow(clippy::disallowed_methods, reason = "where simulated time begins; it goes nowhere")]
    let epoch = Instant::now();
    let here = Rc::clone(&world);
    // The reactor audits itself after each step, and panics where a law of its own is broken.
    let ended = panic::catch_unwind(AssertUnwindSafe(|| match program {
        Program::Loop => Driver::new(here, epoch, hosts, settings, random).run(),
        Program::Session => Session::new(here, epoch, hosts, settings, random).run(),
    }));
    let mut world = world.borrow_mut();
    let env = &mut world.env;
    if let Err(panic) = ended {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
        let said = said.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        env.ledger.break_law(format!("a panic: {said}"));
    }
    outcome(seed, program, began, env)
}

fn outcome(seed: u64, program: Program, began: u64, env: &mut Env) -> Outcome {
    Outcome {
        seed,
        program,
        scenario: env.plan.scenario,
        hash: env.story.hash(),
        is_repeatable: !env.has_garbled,
        took: Duration::from_micros(env.now - began),
        done: env.ledger.fetches_done,
        failed: env.ledger.fetches_failed,
        cancelled: env.ledger.fetches_cancelled,
        served: env.ledger.requests_served,
        led: env.proxies.led,
        shared: env.proxies.shared,
        hedges: env.ledger.hedges,
        switched: env.ledger.switched,
        counts: counts(env),
        broken: env.ledger.broken().map(str::to_owned),
        story: env.story.take_lines(),
    }
}

fn counts(env: &Env) -> Vec<(&'static str, u64)> {
    let Env { ways, trusts, basics, files, brs, logins, proxies, .. } = env;
    vec![
        ("requests over a path", ways.by_path),
        ("requests led to a front", ways.detoured),
        ("requests over a socket of choice", ways.by_choice),
        ("fetches denied", ways.denied),
        ("fetches without a socket", ways.doomed),
        ("requests to servers that were asked for more", trusts.met),
        ("fetches that found no such server", trusts.unmet),
        ("logins shown", basics.shown),
        ("logins withheld after a redirect", basics.withheld),
        ("bodies of files", files.sent),
        ("files cut", files.cut),
        ("bodies in br", *brs),
        #[cfg(feature = "digest")]
        ("counts of a nonce that come late", logins.stales),
        #[cfg(feature = "digest")]
        ("nonces that are forgotten", logins.forgotten),
        #[cfg(feature = "digest")]
        ("nonces that a proxy has forgotten", proxies.forgotten),
    ]
}

fn origins(plan: &Plan, random: &mut Random) -> Vec<Origin> {
    let count = 1 + random.index(5);
    let mut origins = Vec::new();
    for at in 0..count {
        let is_named = plan.has_names && random.chance(800) || plan.tls_pm > 0;
        let host = if is_named { format!("h{at}.test") } else { format!("10.0.{at}.1") };
        let is_secure = random.chance(plan.tls_pm);
        let scheme = if is_secure { "https" } else { "http" };
        let port = if random.chance(300) {
            8_080
        } else if is_secure {
            443
        } else {
            80
        };
        let tls = is_secure.then(|| tls::config(&host, random.index(4), random.chance(300)));
        let (mut addresses, mut dead) = (vec![dns::ipv4(at, 0)], Vec::new());
        if is_named {
            for nth in 1..random.range(1, plan.addresses_max) {
                let is_v4 = random.chance(500);
                let v6 = Ipv6Addr::new(0xfd00, 0, 0, at as u16, 0, 0, 0, nth as u16);
                let address = if is_v4 { dns::ipv4(at, nth) } else { IpAddr::from(v6) };
                let is_dead = random.chance(plan.connect_fault_pm);
                if is_dead { dead.push(address) } else { addresses.push(address) }
            }
        }
        let base = format!("{scheme}://{host}:{port}");
        origins.push(Origin { base, host, port, addresses, dead, tls, is_named });
    }
    origins
}

/// The hosts file: some of the names are in it, and where no name server is to be asked, all.
fn hosts(origins: &[Origin]) -> Vec<u8> {
    let mut text = String::new();
    for (at, origin) in origins.iter().enumerate() {
        if origin.is_named && (origin.tls.is_some() || at % 3 == 2) {
            for address in origin.addresses.iter().chain(&origin.dead) {
                let _ = writeln!(text, "{address} {}", origin.host);
            }
        }
    }
    text.into_bytes()
}

fn settings(plan: &Plan, random: &mut Random) -> Settings {
    let mut settings = Settings::default();
    settings.concurrency = 1 + random.index(16);
    settings.per_origin = random.chance(400).then(|| 1 + random.index(6));
    settings.waiting_requests_max = 1 + random.magnitude(100) as usize;
    if random.chance(50) {
        settings.waiting_requests_max = usize::MAX;
    }
    if random.chance(250) {
        // The least: more than one body, and less than some.
        settings.buffered_bytes_max = 0;
        settings.body_bytes_max = 400_000;
    }
    settings.idle_connections_max = *random.pick(&[0, 1, 2, 5, 256]);
    settings.events_per_wait_max = plan.events_max;
    settings.retries = random.below(4) as u32;
    if random.chance(100) {
        // The least that is taken.
        settings.buffered_bytes_max = 0;
    }
    if plan.tls_pm > 0 {
        settings.tls = tls::client_settings();
    }
    if plan.asks_system {
        settings.resolver = ResolverChoice::System;
    }
    let mut timeouts = Timeouts::NONE;
    timeouts.set(Limit::Continue, Some(span(random, 2_000_000)));
    if random.chance(700) {
        timeouts.set(Limit::Idle, Some(span(random, 8_000_000)));
    }
    if plan.has_limits {
        timeouts.set(Limit::Total, Some(span(random, 60_000_000)));
        for limit in
            [Limit::Queue, Limit::Dns, Limit::Connect, Limit::Tls, Limit::FirstByte, Limit::Stall]
        {
            if random.chance(300) {
                timeouts.set(limit, Some(span(random, 15_000_000)));
            } else if random.chance(50) {
                timeouts.set(limit, Some(Duration::MAX));
            }
        }
        if random.chance(200) {
            settings.head_bytes_max = 100 + random.magnitude(60_000) as usize;
        }
        if random.chance(200) {
            settings.body_bytes_max = random.magnitude(100_000);
        }
    }
    settings.timeouts = timeouts;
    settings.pace = pace(random);
    if random.chance(300) {
        let late = Hedge::after(Duration::from_micros(1 + random.magnitude(100_000)));
        settings.hedge = Some(if random.chance(200) { Hedge::after_p95() } else { late });
    }
    settings
}

fn pace(random: &mut Random) -> Pace {
    let mut pace = Pace::default();
    if random.chance(250) {
        let attempts = (1 + random.magnitude(200)) as f64;
        let burst = random.magnitude(4) as u32;
        pace.rate = Rate::per_second(attempts).map(|rate| rate.burst(burst));
    }
    if random.chance(250) {
        pace.heeds_limits = true;
        pace.pause_max = Duration::from_micros(random.magnitude(8_000_000));
    }
    if random.chance(250) {
        let failures = 1 + random.magnitude(6) as u32;
        let open_for = Duration::from_micros(random.magnitude(20_000_000));
        pace.circuit = Some(Circuit::after(failures).tried_again_after(open_for));
    }
    pace
}

/// A time for a limit: mostly enough for something to happen, sometimes for nothing.
pub(crate) fn span(random: &mut Random, most_us: u64) -> Duration {
    let micros = if random.chance(150) {
        random.magnitude(most_us)
    } else {
        random.range(most_us / 50, most_us)
    };
    Duration::from_micros(micros.max(1))
}
