//! `fetch`: the fetcher people type and programs drive, and the library's reference embedding.
//!
//! In go URLs, job lines or the embedded demo; out come bodies, files, lines or JSON records. One
//! thread and one loop carry it: [`run`] holds the reactor inside a poll of the program's own,
//! beside the signal pipe and standard input and output. Unix only, for those descriptors.
//!
//! | file | what it does |
//! |---|---|
//! | `cli`, `fields`, `values` | the command line and what its values may be |
//! | `setup`, `sending`, `sockets` | the reactor's settings and the jobs' defaults, out of the command line |
//! | `lines`, `stdio`, `source`, `jobs`, `contents` | bytes in, lines, jobs, requests |
//! | `upload` | standard input as the body of a request |
//! | `run`, `desk`, `signals` | the loop; what becomes of each event; interrupts |
//! | `record`, `output` | results as text, and their way out |
//! | `files`, `part`, `left` | bodies in files: where they go, how they get there, what is left |
//! | `temporary` | what a file is called until it is whole |
//! | `cookies` | the jar's file |
//! | `progress`, `summary`, `verbose` | what standard error shows |
//! | `report` | the page of a run |
//! | `demo`, `origin` | the demo's endpoints, and the server behind them |
#![forbid(unsafe_code)]

mod cli;
mod contents;
mod cookies;
mod demo;
mod desk;
mod fields;
mod files;
mod jobs;
mod left;
mod lines;
mod origin;
mod output;
mod part;
mod progress;
mod record;
mod report;
mod run;
mod sending;
mod setup;
mod signals;
mod sockets;
mod source;
mod stdio;
mod summary;
mod temporary;
mod upload;
mod values;
mod verbose;

use std::process::ExitCode;

use cli::Args;
use run::{Ending, Run};
use setup::Plan;
use verbose::Verbose;
use whippet::Reactor;

/// A command line, a file or a setting that cannot be used.
const USAGE_EXIT: u8 = 2;
/// What a shell reports for a program that SIGINT ended.
const INTERRUPT_EXIT: u8 = 130;

fn main() -> ExitCode {
    let args = match Args::from_command_line() {
        Ok(args) => args,
        Err(exit) => return exit,
    };
    let ended = setup::prepare(args).and_then(run);
    match ended {
        Ok(Ending::AllSucceeded) => ExitCode::SUCCESS,
        Ok(Ending::SomeFailed) => ExitCode::FAILURE,
        Ok(Ending::Interrupted) => ExitCode::from(INTERRUPT_EXIT),
        Err(message) => {
            eprintln!("fetch: {message}");
            ExitCode::from(USAGE_EXIT)
        }
    }
}

/// Runs it. The reactor tells of its steps only where somebody wants to read them.
fn run(plan: Plan) -> Result<Ending, String> {
    if plan.verbose {
        let verbose = Verbose::new(plan.way.is_one());
        let watched = |settings| Reactor::traced(settings, verbose);
        return Run::new(plan, watched).map(Run::until_the_end);
    }
    Run::new(plan, Reactor::new).map(Run::until_the_end)
}
