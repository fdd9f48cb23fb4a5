//! What the origin and every client of the benchmark share.
//!
//! In go a command line and the origin's certificate; out come one plan, and one line of JSON with
//! what the client's side cost.

pub mod canned;
pub mod gate;
pub mod meter;
pub mod plan;
pub mod tls;

/// What ends a client early: there is no figure then.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
