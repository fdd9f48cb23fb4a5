//! Prints the story of one simulated run: `cargo run --example simulate 17`, and with `session`
//! behind the seed that of a session.

#![forbid(unsafe_code)]

#[path = "../tests/sim/mod.rs"]
mod sim;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (seed, program) = match *words {
        [seed] => (Some(seed), sim::Program::Loop),
        [seed, "session"] => (Some(seed), sim::Program::Session),
        _ => (None, sim::Program::Loop),
    };
    let Some(Ok(seed)) = seed.map(str::parse) else {
        eprintln!("usage: simulate SEED [session]");
        return ExitCode::from(2);
    };
    let outcome = sim::run(seed, program, true);
    for line in &outcome.story {
        println!("{line}");
    }
    let sim::Outcome { took, done, failed, cancelled, served, hash, .. } = outcome;
    println!("{done} done, {failed} failed, {cancelled} cancelled; {served} answers in {took:?}");
    println!("trace {hash:016x}");
    println!("{}", outcome.line());
    if outcome.broken.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
