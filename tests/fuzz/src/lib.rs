//! What the fuzz targets share.
//!
//! [`input`] makes pieces and choices out of a fuzzer's bytes. [`exchange`] reads a response as a
//! connection does, [`strict`] reads HTTP messages a second time, independently of the library.
//! [`net`] is a network whose servers say what a fuzzer wants. [`memory`] bounds what a target
//! allocates.

#![deny(unsafe_code)]

pub mod exchange;
pub mod input;
#[allow(unsafe_code, reason = "an allocator cannot be written without")]
pub mod memory;
pub mod net;
pub mod strict;
