//! Floor 1. zstd (RFC 8878), with a window of at most 8 MiB (RFC 9659 §3). The only file that
//! names zstd_safe.
//!
//! In go encoded bytes; out come decoded ones. A frame's header is collected here and given to the
//! library alone: given a whole frame at once it would take another way through it, which checks
//! the window less, and given pieces it does not always check the length.

use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name, get_frame_content_size};

use super::{Fault, Progress, Stage};
use crate::coding::Coding;

/// Frames one after another, which are one body (RFC 8878 §3).
pub(super) struct Zstd {
    context: DCtx<'static>,
    at: At,
    /// A frame is complete.
    has_frame: bool,
}

enum At {
    /// Between frames, or in a header.
    Header(Header),
    /// Behind a header: what is left of the length that it may have told.
    Frame { left: Option<u64> },
}

/// The beginning of a frame (RFC 8878 §3.1.1.1), or of one to be skipped (§3.1.2).
#[derive(Default)]
struct Header {
    bytes: [u8; HEADER_BYTES_MAX],
    length: usize,
}

impl Zstd {
    /// `None`: there is no memory.
    pub(super) fn new() -> Option<Self> {
        let mut context = DCtx::try_create()?;
        context.set_parameter(DParameter::WindowLogMax(WINDOW_BITS_MAX)).ok()?;
        Some(Self { context, at: At::Header(Header::default()), has_frame: false })
    }

    /// One call of the library: what was used, what was made, and whether the frame has ended.
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<(usize, usize, bool), Fault> {
        let (mut from, mut to) = (InBuffer::around(input), OutBuffer::around(output));
        let hint = self.context.decompress_stream(&mut to, &mut from);
        let hint = hint.map_err(|code| corrupt(get_error_name(code)))?;
        Ok((from.pos(), to.pos(), hint == 0))
    }

    /// Takes what there is of a header. Whole, it is given to the library.
    fn begin(&mut self, input: &[u8]) -> Result<usize, Fault> {
        let At::Header(header) = &mut self.at else { return Ok(0) };
        let used = header.take(input);
        if !header.is_whole() {
            return Ok(used);
        }
        let Header { bytes, length } = std::mem::take(header);
        let bytes = bytes.get(..length).unwrap_or(&bytes);
        let left = get_frame_content_size(bytes).ok().flatten();
        let (_, _, has_ended) = self.step(bytes, &mut [])?;
        self.at = At::Frame { left: left.filter(|_| !is_skippable(bytes)) };
        if has_ended {
            self.end_frame()?;
        }
        Ok(used)
    }

    fn end_frame(&mut self) -> Result<(), Fault> {
        if let At::Frame { left: Some(1..) } = self.at {
            return Err(corrupt("it is shorter than it says"));
        }
        (self.at, self.has_frame) = (At::Header(Header::default()), true);
        Ok(())
    }
}

impl Stage for Zstd {
    fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, Fault> {
        let mut progress = Progress::default();
        loop {
            let rest = input.get(progress.used..).unwrap_or_default();
            let has_begun = match &self.at {
                At::Header(header) => {
                    let Some(first) = rest.first() else { return Ok(progress) };
                    if self.has_frame && header.length == 0 && !begins_frame(*first) {
                        // What came before it is told first.
                        let is_told = progress == Progress::default();
                        let trailing = Fault::Trailing(Coding::Zstd);
                        return if is_told { Err(trailing) } else { Ok(progress) };
                    }
                    false
                }
                At::Frame { .. } => true,
            };
            if !has_begun {
                progress.used += self.begin(rest)?;
                continue;
            }
            let room = output.get_mut(progress.made..).unwrap_or_default();
            let (used, made, has_ended) = self.step(rest, room)?;
            progress.used += used;
            progress.made += made;
            if let At::Frame { left: Some(left) } = &mut self.at {
                let taken = left.checked_sub(made as u64);
                *left = taken.ok_or_else(|| corrupt("it is longer than it says"))?;
            }
            if has_ended {
                self.end_frame()?;
                continue;
            }
            progress.has_more = made > 0 && progress.made == output.len();
            return Ok(progress);
        }
    }

    fn is_complete(&self) -> bool {
        self.has_frame && matches!(self.at, At::Header(Header { length: 0, .. }))
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

impl Header {
    /// Takes bytes until it is whole; says how many.
    fn take(&mut self, input: &[u8]) -> usize {
        let mut used = 0;
        while !self.is_whole()
            && let (Some(byte), Some(place)) = (input.get(used), self.bytes.get_mut(self.length))
        {
            *place = *byte;
            self.length += 1;
            used += 1;
        }
        used
    }

    /// RFC 8878 §3.1.1.1.1: the descriptor tells which fields there are.
    fn is_whole(&self) -> bool {
        let bytes = self.bytes.get(..self.length).unwrap_or(&self.bytes);
        if is_skippable(bytes) {
            return self.length >= SKIPPABLE_HEADER_BYTES;
        }
        let Some(descriptor) = bytes.get(4) else { return false };
        let is_single = descriptor >> 5 & 1;
        let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let content = [is_single, 2, 4, 8][usize::from(descriptor >> 6)];
        self.length >= 5 + usize::from(1 - is_single) + dictionary + usize::from(content)
    }
}

fn begins_frame(first: u8) -> bool {
    first == FRAME_BEGIN || is_skippable(&[first])
}

fn is_skippable(header: &[u8]) -> bool {
    header.first().is_some_and(|first| first & 0xf0 == SKIPPABLE_BEGIN)
}

fn corrupt(why: &'static str) -> Fault {
    Fault::Corrupt(Coding::Zstd, why.into())
}

/// The first byte of a frame, and the upper half of that of one to be skipped (RFC 8878 §3.1).
const FRAME_BEGIN: u8 = 0x28;
const SKIPPABLE_BEGIN: u8 = 0x50;
/// RFC 8878 §3.1.1.1, with the magic number; and §3.1.2.
const HEADER_BYTES_MAX: usize = 18;
const SKIPPABLE_HEADER_BYTES: usize = 8;
/// RFC 9659 §3: what a browser's decoder must take, and what an encoder for the web stays within.
const WINDOW_BITS_MAX: u32 = 23;
/// The window, a block of input and one of output, and the tables.
const HELD_BYTES_MAX: usize = 9 << 20;
