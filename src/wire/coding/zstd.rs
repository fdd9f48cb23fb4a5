//! Floor 1. zstd (RFC 8878), with a window of at most 8 MiB (RFC 9659 §3). The only file that
//! names zstd_safe.
//!
//! In go encoded bytes; out come decoded ones.

use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

use super::{Fault, Progress, Stage};
use crate::coding::Coding;

/// Frames one after another, which are one body (RFC 8878 §3).
pub(super) struct Zstd {
    context: DCtx<'static>,
    /// The last frame is complete, and no other was begun.
    has_ended: bool,
}

impl Zstd {
    /// `None`: there is no memory.
    pub(super) fn new() -> Option<Self> {
        let mut context = DCtx::try_create()?;
        context.set_parameter(DParameter::WindowLogMax(WINDOW_BITS_MAX)).ok()?;
        Some(Self { context, has_ended: false })
    }
}

impl Stage for Zstd {
    fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, Fault> {
        let mut from = InBuffer::around(input);
        let room = output.len();
        let mut to = OutBuffer::around(output);
        loop {
            let before = (from.pos(), to.pos());
            if self.has_ended && from.pos() == input.len() {
                break;
            }
            let hint = self
                .context
                .decompress_stream(&mut to, &mut from)
                .map_err(|code| Fault::Corrupt(Coding::Zstd, get_error_name(code).into()))?;
            self.has_ended = hint == 0;
            let is_stuck = before == (from.pos(), to.pos());
            if is_stuck || to.pos() == room || (from.pos() == input.len() && !self.has_ended) {
                break;
            }
        }
        let has_more = to.pos() == room && room > 0 && !self.has_ended;
        Ok(Progress { used: from.pos(), made: to.pos(), has_more })
    }

    fn is_complete(&self) -> bool {
        self.has_ended
    }

    fn held_bytes(&self) -> usize {
        self.context.sizeof()
    }

    fn growth_bytes(&self) -> usize {
        HELD_BYTES_MAX.saturating_sub(self.held_bytes())
    }

    fn coding(&self) -> Coding {
        Coding::Zstd
    }
}

/// RFC 9659 §3: what a browser's decoder must take, and what an encoder for the web stays within.
const WINDOW_BITS_MAX: u32 = 23;
/// The window, a block of input and one of output, and the tables.
const HELD_BYTES_MAX: usize = 9 << 20;
