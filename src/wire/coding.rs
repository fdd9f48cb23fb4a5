//! Floor 1. Content codings undone as the bytes arrive (RFC 9110 §8.4): gzip, deflate, br, zstd.
//!
//! In go encoded bytes, cut anywhere, and a place for what they decode to; out comes how much of
//! both was used, or a [`Fault`]. A decoder never writes beyond the place it is given and does a
//! bounded piece of work in a call, so whoever calls it decides how much is enough.

#[cfg(feature = "brotli")]
mod brotli;
#[cfg(feature = "gzip")]
mod zlib;
#[cfg(feature = "zstd")]
mod zstd;

use std::borrow::Cow;
use std::fmt;

use crate::coding::{CODINGS_MAX, Coding, ContentCoding};

/// Undoes the codings of one body.
pub(crate) struct Decoder {
    /// Of the coding applied last: it reads what arrives.
    outer: Box<dyn Stage>,
    /// Of the one applied before it, if there were two.
    inner: Option<Box<Inner>>,
    wire_bytes: u64,
    decoded_bytes: u64,
}

/// The second of two stages, and what the first has decoded for it.
struct Inner {
    stage: Box<dyn Stage>,
    between: [u8; BETWEEN_BYTES],
    /// The bytes of `between` that wait.
    at: usize,
    end: usize,
    /// All that the first has decoded.
    total_bytes: u64,
    outer_has_more: bool,
    has_more: bool,
}

/// What one call came to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Progress {
    /// Bytes of the input that were used. All of them, unless the output is full, `has_more`, or
    /// the coding has ended: then the next call fails.
    pub(crate) used: usize,
    /// Bytes that stand at the front of the output.
    pub(crate) made: usize,
    /// More may come without further input.
    pub(crate) has_more: bool,
}

/// Why a body cannot be decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(
    not(any(feature = "gzip", feature = "brotli", feature = "zstd")),
    allow(dead_code, reason = "the decoders say so")
)]
pub(crate) enum Fault {
    /// The bytes are no such coding's, in the words of its decoder.
    Corrupt(Coding, Cow<'static, str>),
    /// The body ended, and its coding had not.
    Truncated(Coding),
    /// The coding has ended, and the body had not.
    Trailing(Coding),
    TooManyCodings,
    /// It decodes to more than [`RATIO_MAX`] times its size.
    Ratio,
}

/// One coding's decoder.
trait Stage: Send {
    /// Decodes some of `input` into `output`, as [`Decoder::decode`] does.
    fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, Fault>;

    /// The end of the input may be here.
    fn is_complete(&self) -> bool;

    /// Bytes of memory it holds.
    fn held_bytes(&self) -> usize;

    /// Bytes that it may come to hold beyond those.
    fn growth_bytes(&self) -> usize;

    fn coding(&self) -> Coding;
}

impl Decoder {
    /// `None`: there is nothing to be decoded.
    pub(crate) fn new(said: ContentCoding) -> Option<Self> {
        let mut stages = said.codings().map(stage);
        let first = stages.next()??;
        let (outer, inner) = match stages.next() {
            None => (first, None),
            Some(last) => (last?, Some(Box::new(Inner::new(first)))),
        };
        Some(Self { outer, inner, wire_bytes: 0, decoded_bytes: 0 })
    }

    /// Decodes some of `input` to the front of `output`.
    ///
    /// What was not used of the input is to be given again, before what follows it; and while
    /// [`Progress::has_more`] an empty input is enough.
    pub(crate) fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, Fault> {
        let progress = match &mut self.inner {
            None => self.outer.decode(input, output)?,
            Some(inner) => inner.decode(&mut *self.outer, input, output)?,
        };
        self.wire_bytes = self.wire_bytes.saturating_add(progress.used as u64);
        self.decoded_bytes = self.decoded_bytes.saturating_add(progress.made as u64);
        let between = self.inner.as_ref().map_or(0, |inner| inner.total_bytes);
        let most = self.wire_bytes.saturating_mul(RATIO_MAX).max(RATIO_FREE_BYTES);
        if self.decoded_bytes.max(between) > most {
            return Err(Fault::Ratio);
        }
        Ok(progress)
    }

    /// The body has ended: whether its codings have, too. Every byte must have been given, and
    /// nothing more be there.
    pub(crate) fn finish(&self) -> Result<(), Fault> {
        let stages = [Some(&self.outer), self.inner.as_ref().map(|inner| &inner.stage)];
        match stages.into_iter().flatten().find(|stage| !stage.is_complete()) {
            Some(stage) => Err(Fault::Truncated(stage.coding())),
            None => Ok(()),
        }
    }

    /// Bytes of memory that it takes to make one.
    pub(crate) fn first_bytes(said: ContentCoding) -> usize {
        let stages = said.codings().map(|coding| match coding {
            Coding::Zstd => STAGE_BYTES_LARGE,
            Coding::Gzip | Coding::Deflate | Coding::Brotli => STAGE_BYTES,
        });
        size_of::<Self>() + size_of::<Inner>() + stages.sum::<usize>()
    }

    /// Bytes of memory it holds.
    pub(crate) fn held_bytes(&self) -> usize {
        let inner = self.inner.as_ref();
        let inner = inner.map_or(0, |inner| size_of::<Inner>() + inner.stage.held_bytes());
        size_of::<Self>() + self.outer.held_bytes() + inner
    }

    /// Bytes that it may come to hold beyond those.
    pub(crate) fn growth_bytes(&self) -> usize {
        let inner = self.inner.as_ref().map_or(0, |inner| inner.stage.growth_bytes());
        self.outer.growth_bytes() + inner
    }
}

impl Inner {
    fn new(stage: Box<dyn Stage>) -> Self {
        Self {
            stage,
            between: [0; BETWEEN_BYTES],
            at: 0,
            end: 0,
            total_bytes: 0,
            outer_has_more: false,
            has_more: false,
        }
    }

    /// As [`Decoder::decode`]. What the outer stage decodes is bounded too, for it may decode to
    /// nothing in the end.
    fn decode(
        &mut self,
        outer: &mut dyn Stage,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<Progress, Fault> {
        let mut progress = Progress::default();
        for _ in 0..BETWEEN_ROUNDS_MAX {
            let waiting = self.between.get(self.at..self.end).unwrap_or_default();
            let room = output.get_mut(progress.made..).unwrap_or_default();
            if self.has_more || !waiting.is_empty() {
                let inner = self.stage.decode(waiting, room)?;
                self.at += inner.used;
                self.has_more = inner.has_more;
                progress.made += inner.made;
            }
            let is_fed = self.at >= self.end && !self.has_more;
            let rest = input.get(progress.used..).unwrap_or_default();
            if !is_fed || progress.made >= output.len() {
                progress.has_more = true;
                return Ok(progress);
            }
            if rest.is_empty() && !self.outer_has_more {
                return Ok(progress);
            }
            let outer = outer.decode(rest, &mut self.between)?;
            progress.used += outer.used;
            (self.at, self.end) = (0, outer.made);
            self.total_bytes = self.total_bytes.saturating_add(outer.made as u64);
            self.outer_has_more = outer.has_more;
        }
        progress.has_more = true;
        Ok(progress)
    }
}

/// What undoes `coding`; `None` where that is not built in.
fn stage(coding: Coding) -> Option<Box<dyn Stage>> {
    match coding {
        #[cfg(feature = "gzip")]
        Coding::Gzip => Some(Box::new(zlib::Gzip::new())),
        #[cfg(feature = "gzip")]
        Coding::Deflate => Some(Box::new(zlib::Deflate::new())),
        #[cfg(feature = "brotli")]
        Coding::Brotli => Some(Box::new(brotli::Brotli::new())),
        #[cfg(feature = "zstd")]
        Coding::Zstd => zstd::Zstd::new().map(|stage| Box::new(stage) as Box<dyn Stage>),
        #[cfg(not(all(feature = "gzip", feature = "brotli", feature = "zstd")))]
        _ => None,
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("wire_bytes", &self.wire_bytes)
            .field("decoded_bytes", &self.decoded_bytes)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt(coding, why) => write!(f, "its {coding} data is corrupt: {why}"),
            Self::Truncated(coding) => write!(f, "its {coding} data ends early"),
            Self::Trailing(coding) => write!(f, "something follows the end of its {coding} data"),
            Self::TooManyCodings => write!(f, "it has more than {CODINGS_MAX} content codings"),
            Self::Ratio => write!(f, "it decodes to more than {RATIO_MAX} times its size"),
        }
    }
}

impl std::error::Error for Fault {}

/// How many times its size a body may decode to, once it is [`RATIO_FREE_BYTES`] long. The most
/// that deflate can do is 1,032; what is not made to be a bomb stays far below.
const RATIO_MAX: u64 = 1_000;
/// What a body may decode to however short it is.
const RATIO_FREE_BYTES: u64 = 1 << 20;
/// What one stage holds at first, at the most: window and tables of inflate, or a context of zstd.
const STAGE_BYTES: usize = 48 << 10;
const STAGE_BYTES_LARGE: usize = 160 << 10;
/// The piece that goes from one stage to the other.
const BETWEEN_BYTES: usize = 16 << 10;
/// Such pieces in one call.
const BETWEEN_ROUNDS_MAX: usize = 4;

#[cfg(test)]
mod tests;
