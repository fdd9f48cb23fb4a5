//! An example as a process of its own, on which nothing of the environment decides.

use std::io::{BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::latch::WAIT_SECONDS_MAX;

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

/// A run that lasts; killed when the test ends, or hangs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) child: Child,
    watchdog: Option<mpsc::Sender<()>>,
}

impl Running {
    pub(crate) fn start(args: &[&str]) -> Self {
        let child = fetch(args).spawn().unwrap();
        let (watchdog, ended) = mpsc::channel();
        let id = child.id();
        thread::spawn(move || {
            if ended.recv_timeout(Duration::from_secs(WAIT_SECONDS_MAX))
                == Err(mpsc::RecvTimeoutError::Timeout)
            {
                signal(id, "-KILL");
            }
        });
        Self { child, watchdog: Some(watchdog) }
    }

    pub(crate) fn stdout(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.child.stdout.take().unwrap())
    }

    pub(crate) fn interrupt(&self) {
        self.signal("-INT");
    }

    /// As `kill` calls it.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Its exit status, and what it said on standard error.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.watchdog = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(id: u32, signal: &str) {
    Command::new("kill").args([signal, &id.to_string()]).status().unwrap();
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
