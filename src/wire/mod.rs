//! Floor 1: sans-IO codecs. Bytes in, values out; no socket, no clock.

pub(crate) mod coding;
pub(crate) mod dns;
pub(crate) mod http1;
mod socks;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
pub(crate) mod tls;
pub(crate) mod tunnel;
