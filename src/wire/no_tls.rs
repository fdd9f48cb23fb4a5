//! Floor 1. What stands for TLS where it is not built in: settings that cannot be used, and
//! sessions that cannot exist.

use std::fmt;

use crate::trust::TlsSettings;

#[derive(Clone)]
pub(crate) struct Config;

#[derive(Debug)]
pub(crate) struct SetupError;

pub(crate) enum Session {}

#[derive(Clone, Debug)]
pub(crate) struct TlsError(&'static str);

pub(crate) struct Opened {
    pub(crate) consumed: usize,
    pub(crate) plain: usize,
    pub(crate) handshake_done_now: bool,
    pub(crate) peer_closed: bool,
    pub(crate) result: Result<(), TlsError>,
}

impl Config {
    pub(crate) fn new(_: &TlsSettings) -> Result<Self, SetupError> {
        Err(SetupError)
    }
}

impl Session {
    pub(crate) fn new(_: &Config, _: &str) -> Result<Self, TlsError> {
        Err(TlsError::protocol("TLS is not built in"))
    }

    pub(crate) fn start(&mut self, _: &mut Vec<u8>) {
        match *self {}
    }

    pub(crate) fn open(&mut self, _: &mut [u8], _: &mut Vec<u8>) -> Opened {
        match *self {}
    }

    pub(crate) fn completes_record(&self, _: &[u8], _: &[u8]) -> bool {
        match *self {}
    }

    pub(crate) fn seal(&mut self, _: &[u8], _: &mut Vec<u8>) -> Result<(), TlsError> {
        match *self {}
    }

    pub(crate) fn close_write(&mut self, _: &mut Vec<u8>) {
        match *self {}
    }

    pub(crate) fn close(&mut self, _: &mut Vec<u8>) {
        match *self {}
    }

    pub(crate) fn version(&self) -> &'static str {
        match *self {}
    }

    pub(crate) fn cipher(&self) -> &'static str {
        match *self {}
    }

    pub(crate) fn is_resumed(&self) -> bool {
        match *self {}
    }
}

impl TlsError {
    pub(crate) fn protocol(what: &'static str) -> Self {
        Self(what)
    }

    pub(crate) fn is_certificate(&self) -> bool {
        false
    }

    pub(crate) fn is_closure(&self) -> bool {
        false
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TLS is not built in (feature `ring` or `aws-lc-rs`)")
    }
}

impl std::error::Error for SetupError {}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for TlsError {}

pub(crate) const KEPT_BYTES_MAX: usize = 0;
