//! Floor 1. The hashes of Digest (RFC 7616 §3.2); the only file that names `md5` and `sha2`.
//!
//! In go parts that stand between colons; out comes their hash in hexadecimal digits. Without the
//! feature `digest` no algorithm is known, and nothing is answered.

pub(super) use self::known::Algorithm;

#[cfg(feature = "digest")]
mod known {
    use md5::Md5;
    use sha2::{Digest, Sha256, Sha512_256};

    use super::digits;

    /// A hash that both sides know.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(in super::super) enum Algorithm {
        Md5,
        Sha256,
        /// SHA-512/256 of FIPS 180-4, which is not a cut SHA-512.
        Sha512T256,
    }

    impl Algorithm {
        /// By its name in a challenge, without `-sess`.
        pub(in super::super) fn named(name: &[u8]) -> Option<Self> {
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            match () {
                () if is("MD5") => Some(Self::Md5),
                () if is("SHA-256") => Some(Self::Sha256),
                () if is("SHA-512-256") => Some(Self::Sha512T256),
                () => None,
            }
        }

        /// The hash of the parts with a colon between each.
        pub(in super::super) fn of(self, parts: &[&[u8]]) -> String {
            match self {
                Self::Md5 => hex::<Md5>(parts),
                Self::Sha256 => hex::<Sha256>(parts),
                Self::Sha512T256 => hex::<Sha512_256>(parts),
            }
        }
    }

    fn hex<D: Digest>(parts: &[&[u8]]) -> String {
        let mut hash = D::new();
        for (at, part) in parts.iter().enumerate() {
            if at > 0 {
                hash.update(b":");
            }
            hash.update(part);
        }
        hash.finalize().iter().flat_map(|byte| digits(*byte)).collect()
    }
}

#[cfg(not(feature = "digest"))]
mod known {
    /// None.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(in super::super) enum Algorithm {}

    impl Algorithm {
        pub(in super::super) fn named(_: &[u8]) -> Option<Self> {
            None
        }

        pub(in super::super) fn of(self, _: &[&[u8]]) -> String {
            match self {}
        }
    }
}

/// Two small hexadecimal digits.
pub(super) fn digits(byte: u8) -> [char; 2] {
    [byte >> 4, byte & 15].map(|nibble| char::from_digit(nibble.into(), 16).unwrap_or('0'))
}
