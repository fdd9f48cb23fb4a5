//! Prints the story of one simulated run: `cargo run --example simulate 17`.

#![forbid(unsafe_code)]

#[path = "../tests/sim/mod.rs"]
mod sim;

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(Ok(seed)) = std::env::args().nth(1).map(|seed| seed.parse()) else {
        eprintln!("usage: simulate SEED");
        return ExitCode::from(2);
    };
    let outcome = sim::run(seed, true);
    for line in &outcome.story {
        println!("{line}");
    }
    let sim::Outcome { took, done, failed, cancelled, served, hash, .. } = outcome;
    println!("{done} done, {failed} failed, {cancelled} cancelled; {served} answers in {took:?}");
    println!("trace {hash:016x}");
    println!("{}", outcome.line());
    if outcome.broken.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
