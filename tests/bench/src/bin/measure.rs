//! `measure FILE COMMAND…`: runs a command and writes to FILE what its whole process cost.
//!
//! A process begins with the memory of the one that forked it counted as its own: this one has
//! next to none.

use std::process::{Command, exit};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::json;
use whippet_bench::Failure;

fn main() -> Result<(), Failure> {
    let mut args = std::env::args_os().skip(1);
    let file = args.next().ok_or("FILE")?;
    let status = Command::new(args.next().ok_or("COMMAND")?).args(args).status()?;
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cost = json!({
        "user_us": usage.user_time().num_microseconds(),
        "sys_us": usage.system_time().num_microseconds(),
        "switches": usage.voluntary_context_switches() + usage.involuntary_context_switches(),
        "rss_kib": usage.max_rss(),
    });
    std::fs::write(file, cost.to_string())?;
    exit(status.code().unwrap_or(1))
}
