//! The `fetch` program, told how gently to ask.
//!
//! Cargo builds examples for a plain `cargo test`, beside the tests' own directory. With
//! `--test fetch_pace` alone, `cargo build --example fetch` comes first.
#![cfg(all(unix, feature = "ring", feature = "gzip", feature = "brotli", feature = "zstd"))]

mod support;

use serde_json::Value;
use support::{Origin, ok, program, refused_port};

fn run(words: &[&str]) -> Vec<Value> {
    let args = [&["-s", "--json"], words].concat();
    program::records(&program::run(program::fetch(&args), ""))
}

#[test]
fn an_open_circuit_is_said_and_asks_nobody() {
    let url = format!("http://{}/", refused_port());
    let records = run(&["-c", "1", "--retry", "0", "--circuit", "2", &url, &url, &url, &url]);
    let phases: Vec<_> = records.iter().map(|record| &record["error"]["phase"]).collect();
    assert_eq!(phases, ["connect", "connect", "queue", "queue"]);
    assert!(records.iter().all(|record| record["error"]["kind"] == "connect"));
    assert_eq!(records[3]["attempts"], 0);
    let message = records[3]["error"]["message"].as_str().unwrap();
    assert!(message.contains("is left alone after 2 failures in a row"), "{message}");
}

/// How fast is said on a clock that a test moves (`tests/pace.rs`).
#[test]
fn a_rate_and_a_polite_run_fetch_all_the_same() {
    let origin = Origin::plain(|_| ok("hi"));
    let url = origin.url("/");
    let records = run(&["--rate", "500", "--polite", &url, &url, &url, &url]);
    assert_eq!(records.len(), 4);
    assert!(records.iter().all(|record| record["status"] == 200));
    assert_eq!(origin.requests().len(), 4);
}
