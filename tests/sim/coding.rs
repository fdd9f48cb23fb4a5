//! Content codings as a server makes them: whole, or wrong in a way that a client must see.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use super::random::{Random, mix};

/// How a body is coded. Of each of them the end can be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Coded {
    Gzip,
    Zlib,
    Raw,
    Zstd,
    GzipOfZstd,
    Br,
    GzipOfBr,
}

impl Coded {
    /// For the response `nonce`: br by that number, in half of the seeds.
    pub(crate) fn pick(random: &mut Random, salt: u64, nonce: u64) -> Self {
        let other =
            *random.pick(&[Self::Gzip, Self::Zlib, Self::Raw, Self::Zstd, Self::GzipOfZstd]);
        if Random::new(mix(salt ^ BR_SALT)).chance(500) {
            let mut random = Random::new(mix(salt ^ BR_SALT ^ nonce));
            if random.chance(400) {
                return *random.pick(&[Self::Br, Self::GzipOfBr]);
            }
        }
        other
    }

    pub(crate) fn is_br(self) -> bool {
        matches!(self, Self::Br | Self::GzipOfBr)
    }

    /// What Content-Encoding says of it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zlib | Self::Raw => "deflate",
            Self::Zstd => "zstd",
            Self::GzipOfZstd => "zstd, gzip",
            Self::Br => "br",
            Self::GzipOfBr => "br, gzip",
        }
    }

    pub(crate) fn encode(self, body: &[u8]) -> Vec<u8> {
        match self {
            Self::Gzip => gzip(body),
            Self::Zlib => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(body).unwrap();
                encoder.finish().unwrap()
            }
            Self::Raw => {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(body).unwrap();
                encoder.finish().unwrap()
            }
            Self::Zstd => zstd(body),
            Self::GzipOfZstd => gzip(&zstd(body)),
            Self::Br => br(body),
            Self::GzipOfBr => gzip(&br(body)),
        }
    }

    /// What is encoded ends early, or late, or begins as nothing does: it is no whole body.
    pub(crate) fn spoil(self, encoded: &mut Vec<u8>, random: &mut Random) {
        match random.below(3) {
            // The bits of a window larger than br has (RFC 7932 §9.1).
            1 if self == Self::Br => encoded[0] = 0b001_0001,
            1 if self != Self::Raw => encoded[0] ^= 0x47,
            2 if encoded.len() > 1 => encoded.truncate(1 + random.index(encoded.len() - 1)),
            1 => encoded.truncate(1 + random.index(encoded.len() - 1)),
            _ => encoded.push(random.below(31) as u8),
        }
    }
}

/// What is stored in the form of br (RFC 7932), in meta-blocks that are not compressed.
fn br(body: &[u8]) -> Vec<u8> {
    // §9.1: a window of 64 KiB (WBITS 16, the bit 0); then each meta-block's header, whose bits are
    // filled up to a byte, and its bytes.
    let (mut encoded, mut window_bits) = (Vec::new(), 1);
    for piece in body.chunks(BR_PIECE_BYTES_MAX) {
        // §9.2: ISLAST 0, MNIBBLES 0 (four nibbles), MLEN - 1, ISUNCOMPRESSED 1.
        let length = piece.len() as u32 - 1;
        let header = (length << 3 | 1 << 19) << window_bits;
        encoded.extend_from_slice(&header.to_le_bytes()[..3]);
        encoded.extend_from_slice(piece);
        window_bits = 0;
    }
    // ISLAST 1 and ISLASTEMPTY 1.
    encoded.push(0b11 << window_bits);
    encoded
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn zstd(body: &[u8]) -> Vec<u8> {
    let mut encoded = vec![0; zstd_safe::compress_bound(body.len())];
    let length = zstd_safe::compress(&mut encoded[..], body, 1).unwrap();
    encoded.truncate(length);
    encoded
}

/// One meta-block's, with four nibbles for its length.
const BR_PIECE_BYTES_MAX: usize = 1 << 16;
const BR_SALT: u64 = 0x6272;
