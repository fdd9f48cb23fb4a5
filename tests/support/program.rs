//! An example as a process of its own, on which nothing of the environment decides.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The `fetch` program with these arguments.
pub(crate) fn fetch(args: &[&str]) -> Command {
    example("fetch", args)
}

/// The example with these arguments, its streams piped. The environment's proxies and netrc are
/// kept from it.
pub(crate) fn example(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program(name));
    for variable in [
        "http_proxy",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "no_proxy",
        "NO_PROXY",
        "NETRC",
    ] {
        command.env_remove(variable);
    }
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it with `input` on its standard input.
pub(crate) fn run(mut command: Command, input: &str) -> Output {
    let mut child = command.spawn().unwrap();
    // One that takes no input may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// The lines of `--json`.
pub(crate) fn records(done: &Output) -> Vec<Value> {
    let lines = done.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// `target/<profile>/deps/<this test>` has `target/<profile>/examples` beside it.
fn program(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples");
    path.push(name);
    assert!(path.exists(), "{} is not built: cargo build --example {name}", path.display());
    path
}
