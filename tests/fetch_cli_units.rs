//! The unit tests inside the `fetch` program, which cargo does not run in an example.
#![cfg(all(unix, feature = "ring", feature = "gzip", feature = "brotli", feature = "zstd"))]
#![allow(dead_code, unused_imports, missing_docs, reason = "the program, as a module")]

#[path = "../examples/fetch/main.rs"]
mod fetch;
