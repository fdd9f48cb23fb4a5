//! What happened, as a hash that two runs of a seed must share, and as lines to read.
//!
//! Lengths, times and plaintext go in; never ciphertext, for the TLS library draws its own
//! randomness.

use super::random::mix;

#[derive(Debug, Default)]
pub(crate) struct Story {
    hash: u64,
    /// None: only the hash is wanted.
    lines: Option<Vec<String>>,
}

impl Story {
    pub(crate) fn new(is_told: bool) -> Self {
        Self { hash: 0, lines: is_told.then(Vec::new) }
    }

    /// Takes one event. `words` are only asked for where somebody reads them.
    pub(crate) fn tell(&mut self, now: u64, numbers: &[u64], words: impl FnOnce() -> String) {
        self.hash = mix(self.hash ^ now);
        for number in numbers {
            self.hash = mix(self.hash.wrapping_add(*number));
        }
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>12.6} {}", now as f64 / 1e6, words()));
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        self.lines.take().unwrap_or_default()
    }
}

/// Bytes as one number.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(bytes.len() as u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}
