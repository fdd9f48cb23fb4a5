//! Floor 1. TLS: the only room that names rustls.
//!
//! In go settings and ciphertext; out come plaintext at the front of the caller's buffer, bytes to
//! send, and errors in words. The shape is that of rustls 0.24, where the caller owns the buffers,
//! so that moving there costs this room and nothing else. No socket; the calendar is read by
//! rustls, for certificates' dates and tickets' ages.

mod config;
mod fault;
mod pinned;
mod session;
#[cfg(all(test, any(feature = "ring", feature = "aws-lc-rs")))]
mod tests;

#[allow(unused_imports, reason = "the whole surface of the room, in one place")]
pub(crate) use self::{
    config::{Config, SetupError},
    fault::TlsError,
    session::{KEPT_BYTES_MAX, Opened, Session},
};

/// The TLS library itself, for callers that configure it.
pub use rustls;
