//! Content codings as a server makes them: whole, or wrong in a way that a client must see.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use super::random::Random;

/// How a body is coded. Of each of them the end can be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Coded {
    Gzip,
    Zlib,
    Raw,
    Zstd,
    GzipOfZstd,
}

impl Coded {
    pub(crate) fn pick(random: &mut Random) -> Self {
        *random.pick(&[Self::Gzip, Self::Zlib, Self::Raw, Self::Zstd, Self::GzipOfZstd])
    }

    /// What Content-Encoding says of it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zlib | Self::Raw => "deflate",
            Self::Zstd => "zstd",
            Self::GzipOfZstd => "zstd, gzip",
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
        }
    }

    /// What is encoded ends early, or late, or begins as nothing does: it is no whole body.
    pub(crate) fn spoil(self, encoded: &mut Vec<u8>, random: &mut Random) {
        match random.below(3) {
            0 => encoded.push(random.below(31) as u8),
            1 if self != Self::Raw => encoded[0] ^= 0x47,
            _ => encoded.truncate(1 + random.index(encoded.len() - 1)),
        }
    }
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
