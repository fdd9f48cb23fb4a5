//! Floor 1: pure decisions. Values in, a verdict out; no socket, no clock.

pub(crate) mod address;
pub(crate) mod auth;
pub(crate) mod cookies;
pub(crate) mod hedge;
pub(crate) mod pace;
pub(crate) mod redirect;
pub(crate) mod retry;
