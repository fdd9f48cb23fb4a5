//! Floor 1. gzip (RFC 1952) and deflate, zlib's (RFC 1950) or raw (RFC 1951). The only file that
//! names flate2.
//!
//! In go encoded bytes; out come decoded ones. The window is 32 KiB, as the formats have it.

use flate2::{Decompress, FlushDecompress, Status};

use super::{Fault, Progress, Stage};
use crate::coding::Coding;

/// Members one after another, which are one body (RFC 1952 §2.2).
pub(super) struct Gzip {
    inflate: Decompress,
    has_ended: bool,
}

impl Gzip {
    pub(super) fn new() -> Self {
        Self { inflate: Decompress::new_gzip(WINDOW_BITS), has_ended: false }
    }
}

impl Stage for Gzip {
    fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, Fault> {
        let mut progress = Progress::default();
        loop {
            let rest = input.get(progress.used..).unwrap_or_default();
            if self.has_ended {
                match rest.first() {
                    None => return Ok(progress),
                    Some(&MEMBER_BEGIN) => self.inflate.reset(true),
                    // What came before it is told first.
                    Some(_) if progress != Progress::default() => return Ok(progress),
                    Some(_) => return Err(Fault::Trailing(Coding::Gzip)),
                }
                self.has_ended = false;
            }
            let room = output.get_mut(progress.made..).unwrap_or_default();
            let (step, has_ended) = inflate(&mut self.inflate, Coding::Gzip, rest, room)?;
            progress.used += step.used;
            progress.made += step.made;
            progress.has_more = step.has_more;
            self.has_ended = has_ended;
            if !has_ended {
                return Ok(progress);
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.has_ended
    }

    fn held_bytes(&self) -> usize {
        INFLATE_BYTES
    }

    fn growth_bytes(&self) -> usize {
        0
    }

    fn coding(&self) -> Coding {
        Coding::Gzip
    }
}

/// zlib's format, as RFC 9110 §8.4.1.2 has it, or the raw one, which some servers send instead.
pub(super) enum Deflate {
    /// The first byte may be that of either, and the second has not come.
    Sniffing {
        first: Option<u8>,
    },
    Inflating {
        inflate: Box<Decompress>,
        has_ended: bool,
    },
}

impl Deflate {
    pub(super) fn new() -> Self {
        Self::Sniffing { first: None }
    }
}

impl Stage for Deflate {
    fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, Fault> {
        let mut made = 0;
        if let Self::Sniffing { first } = self {
            let mut both = first.iter().chain(input).copied();
            let (Some(cmf), second) = (both.next(), both.next()) else {
                return Ok(Progress::default());
            };
            if second.is_none() && may_be_zlib(cmf) {
                *first = Some(cmf);
                return Ok(Progress { used: input.len(), ..Progress::default() });
            }
            let is_zlib = second.is_some_and(|flg| is_zlib(cmf, flg));
            let mut inflate = Box::new(Decompress::new(is_zlib));
            if first.is_some() {
                made = self::inflate(&mut inflate, Coding::Deflate, &[cmf], output)?.0.made;
            }
            *self = Self::Inflating { inflate, has_ended: false };
        }
        let Self::Inflating { inflate, has_ended } = self else { return Ok(Progress::default()) };
        if *has_ended {
            let is_over = input.is_empty();
            return is_over.then(Progress::default).ok_or(Fault::Trailing(Coding::Deflate));
        }
        let room = output.get_mut(made..).unwrap_or_default();
        let (step, ended) = self::inflate(inflate, Coding::Deflate, input, room)?;
        *has_ended = ended;
        Ok(Progress { made: made + step.made, ..step })
    }

    fn is_complete(&self) -> bool {
        matches!(self, Self::Inflating { has_ended: true, .. })
    }

    fn held_bytes(&self) -> usize {
        INFLATE_BYTES
    }

    fn growth_bytes(&self) -> usize {
        0
    }

    fn coding(&self) -> Coding {
        Coding::Deflate
    }
}

/// One call of the library, and whether the stream has ended.
fn inflate(
    inflate: &mut Decompress,
    coding: Coding,
    input: &[u8],
    output: &mut [u8],
) -> Result<(Progress, bool), Fault> {
    let before = (inflate.total_in(), inflate.total_out());
    let status = inflate.decompress(input, output, FlushDecompress::None);
    let count = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
    let used = count(inflate.total_in(), before.0);
    let made = count(inflate.total_out(), before.1);
    match status {
        Ok(Status::StreamEnd) => Ok((Progress { used, made, has_more: false }, true)),
        Ok(Status::Ok | Status::BufError) => {
            let has_more = made == output.len() && made > 0;
            Ok((Progress { used, made, has_more }, false))
        }
        Err(error) => {
            let why = error.message().unwrap_or("it needs a dictionary").to_owned();
            Err(Fault::Corrupt(coding, why.into()))
        }
    }
}

/// The method of a zlib header (RFC 1950 §2.2). A raw stream whose first byte is of this form
/// would begin with an uncompressed block and padding that is not zero.
fn may_be_zlib(cmf: u8) -> bool {
    cmf & 0x0f == 8 && cmf >> 4 <= 7
}

fn is_zlib(cmf: u8, flg: u8) -> bool {
    may_be_zlib(cmf) && u16::from_be_bytes([cmf, flg]).is_multiple_of(31)
}

/// A window of 32 KiB.
const WINDOW_BITS: u8 = 15;
/// The first byte of a member (RFC 1952 §2.3.1).
const MEMBER_BEGIN: u8 = 0x1f;
/// The window and the tables, roughly.
const INFLATE_BYTES: usize = 48 << 10;
