//! The whole client in a simulated network: many seeds, every law after every step.

mod sim;

use sim::{Scenario, run};

/// Runs a seed, and some seeds twice: the same must happen.
fn check(seed: u64) -> Result<(), String> {
    let outcome = run(seed, false);
    if outcome.broken.is_some() {
        return Err(outcome.line());
    }
    if seed.is_multiple_of(8) && run(seed, false).hash != outcome.hash {
        return Err(format!("seed {seed} ({:?}): two runs differ", outcome.scenario));
    }
    Ok(())
}

#[test]
fn five_hundred_seeds() {
    let failures: Vec<String> = (0..500).filter_map(|seed| check(seed).err()).collect();
    assert!(failures.is_empty(), "{} seeds fail:\n{}", failures.len(), failures.join("\n"));
}

/// `SIM_SEEDS=from..to SIM_SECONDS=n cargo test --release --test simulated -- --ignored`
#[test]
#[ignore = "as long as it is told to"]
#[allow(clippy::disallowed_methods, reason = "how long to go on")]
fn many_seeds() {
    let text = std::env::var("SIM_SEEDS").unwrap_or_else(|_| "0..100000".to_owned());
    let (from, to) = text.split_once("..").expect("SIM_SEEDS is from..to");
    let (from, to): (u64, u64) = (from.parse().unwrap(), to.parse().unwrap());
    let seconds = std::env::var("SIM_SECONDS").map_or(u64::MAX, |text| text.parse().unwrap());
    let began = std::time::Instant::now();
    let (mut count, mut failures) = (0, Vec::new());
    for seed in from..to {
        if began.elapsed().as_secs() >= seconds || failures.len() >= 20 {
            break;
        }
        count += 1;
        if let Err(line) = check(seed) {
            println!("{line}");
            failures.push(line);
        }
    }
    println!("{count} seeds from {from} in {:.1} s", began.elapsed().as_secs_f64());
    assert!(failures.is_empty(), "{} seeds fail", failures.len());
}

#[test]
fn every_scenario_comes_up() {
    let outcomes: Vec<_> = (0..20).map(|seed| run(seed, false)).collect();
    for scenario in Scenario::ALL {
        assert!(outcomes.iter().any(|outcome| outcome.scenario == scenario && outcome.served > 0));
    }
}
