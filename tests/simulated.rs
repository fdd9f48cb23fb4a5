//! The whole client in a simulated network: many seeds, every law after every step.

mod sim;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use sim::{Outcome, Program, Scenario, run};

/// Runs a seed, and some seeds twice: the same must happen.
fn check(seed: u64, program: Program) -> Result<(), String> {
    let outcome = run(seed, program, false);
    if program == Program::Loop {
        count(&outcome);
    }
    if outcome.broken.is_some() {
        return Err(outcome.line());
    }
    let is_repeated = seed.is_multiple_of(REPEATED) && outcome.is_repeatable;
    if is_repeated && run(seed, program, false).hash != outcome.hash {
        return Err(format!("seed {seed} ({:?}): two runs differ", outcome.scenario));
    }
    Ok(())
}

/// Takes note of what the laws were proved of.
fn count(outcome: &Outcome) {
    HEDGES.fetch_add(outcome.hedges, Ordering::Relaxed);
    SHARED.fetch_add(outcome.shared, Ordering::Relaxed);
    SWITCHED.fetch_add(outcome.switched, Ordering::Relaxed);
    for (what, count) in &outcome.counts {
        *COUNTS.lock().unwrap().entry(what).or_default() += count;
    }
}

/// Takes seeds from a range, on so many threads, until it is told enough. What fails is printed
/// at once; how many were run, and the lines of those that failed.
fn check_all(
    seeds: Range<u64>,
    program: Program,
    threads: usize,
    failures_max: usize,
    enough: impl Fn() -> bool + Sync,
) -> (u64, Vec<String>) {
    let next = AtomicU64::new(seeds.start);
    let done = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || enough() || failures.lock().unwrap().len() >= failures_max {
                return;
            }
            if let Err(line) = check(seed, program) {
                println!("{line}");
                failures.lock().unwrap().push(line);
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    (done.into_inner(), failures.into_inner().unwrap())
}

#[test]
fn five_hundred_seeds() {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (count, failures) = check_all(0..500, Program::Loop, threads, usize::MAX, || false);
    assert!(failures.is_empty(), "{} seeds fail:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(count, 500);
    assert!(HEDGES.load(Ordering::Relaxed) > 0, "nothing was asked for twice");
    assert!(SHARED.load(Ordering::Relaxed) > 0, "no origins shared a connection to a proxy");
    for (what, count) in &*COUNTS.lock().unwrap() {
        assert!(*count > 20, "{what}: {count}");
    }
    assert!(SWITCHED.load(Ordering::Relaxed) > 50, "few spoke another protocol to its end");
}

/// Each has broken a law once: sessions of Digest that ended while others were about to answer, or
/// whose answer a second exchange had given; who spoke as it was spoken to.
#[test]
fn seeds_that_have_failed() {
    for seed in [27_927, 84_312, 105_175, 109_115, 118_984, 123_443] {
        check(seed, Program::Loop).unwrap();
    }
}

/// The same laws for streams, and for what a session submits beside them.
#[test]
fn a_hundred_and_fifty_seeds_of_a_session() {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (count, failures) = check_all(0..150, Program::Session, threads, usize::MAX, || false);
    assert!(failures.is_empty(), "{} seeds fail:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(count, 150);
}

/// ```text
/// SIM_SEEDS=from..to SIM_SECONDS=n SIM_THREADS=n SIM_FAILURES=n SIM_PROGRAM=session \
///     cargo test --profile checked --test simulated -- --ignored --nocapture
/// ```
#[test]
#[ignore = "as long as it is told to"]
#[allow(clippy::disallowed_methods, reason = "how long to go on")]
fn many_seeds() {
    let told = |name: &str| std::env::var(name).ok();
    let seeds = told("SIM_SEEDS").unwrap_or_else(|| "0..100000".to_owned());
    let (from, to) = seeds.split_once("..").expect("SIM_SEEDS is from..to");
    let (from, to): (u64, u64) = (from.parse().unwrap(), to.parse().unwrap());
    let seconds = told("SIM_SECONDS").map_or(u64::MAX, |text| text.parse().unwrap());
    let threads = told("SIM_THREADS").map_or(1, |text| text.parse().unwrap());
    let is_session = told("SIM_PROGRAM").is_some_and(|name| name == "session");
    let program = if is_session { Program::Session } else { Program::Loop };
    let most = told("SIM_FAILURES").map_or(20, |text| text.parse().unwrap());
    let began = std::time::Instant::now();
    let (count, failures) =
        check_all(from..to, program, threads, most, || began.elapsed().as_secs() >= seconds);
    let took = began.elapsed().as_secs_f64();
    println!("{count} seeds from {from} in {took:.1} s, {} fail", failures.len());
    let [hedges, switched] = [&HEDGES, &SWITCHED].map(|count| count.load(Ordering::Relaxed));
    println!("{hedges} requests sent twice, {switched} other protocols spoken to their ends");
    println!("{:?}", COUNTS.lock().unwrap());
    assert!(failures.is_empty());
}

#[test]
fn every_scenario_comes_up() {
    let outcomes: Vec<_> = (0..33).map(|seed| run(seed, Program::Loop, false)).collect();
    for scenario in Scenario::ALL {
        assert!(outcomes.iter().any(|outcome| outcome.scenario == scenario && outcome.served > 0));
    }
    assert!(outcomes.iter().filter(|outcome| outcome.led > 0).count() > 3);
}

/// Second exchanges in all runs: whether what is proved of them is proved of something.
static HEDGES: AtomicU64 = AtomicU64::new(0);
/// Requests in all runs that followed one for another origin, to the same proxy.
static SHARED: AtomicU64 = AtomicU64::new(0);
/// The same of other protocols that were spoken to their ends.
static SWITCHED: AtomicU64 = AtomicU64::new(0);
/// By what it is, how often that came about.
static COUNTS: Mutex<BTreeMap<&str, u64>> = Mutex::new(BTreeMap::new());
/// One seed in so many is run twice.
const REPEATED: u64 = 16;
