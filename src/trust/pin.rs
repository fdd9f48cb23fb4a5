//! Plain data. A pin: the one public key that a server may show, as a hash of it.
//!
//! In goes text as curl's `--pinnedpubkey` reads it; out come 32 bytes to compare with.

use std::fmt;

use crate::error::{Error, Kind, Phase};
use crate::userinfo::{base64_decoded, base64_encoded};

/// The SHA-256 of a public key: of the SubjectPublicKeyInfo in a certificate (RFC 5280 §4.1.2.7),
/// in DER.
///
/// ```
/// use whippet::{Pin, TlsSettings};
///
/// let pin = Pin::new("sha256//YLh1dUR9y6Kja30RrAn7JKnbQG/uEtLMkBgFF2Fuihg=")?;
/// let settings = TlsSettings::new().add_pin(pin);
/// assert_eq!(settings.pins(), [pin]);
/// # Ok::<(), whippet::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin([u8; SHA256_BYTES]);

impl Pin {
    /// Reads `sha256//` and the hash in base64.
    ///
    /// # Errors
    /// [`Kind::InvalidRequest`].
    pub fn new(text: &str) -> Result<Self, Error> {
        let hash = text.strip_prefix(PREFIX).and_then(base64_decoded);
        let hash = hash.and_then(|hash| <[u8; SHA256_BYTES]>::try_from(hash).ok());
        hash.map(Self).ok_or_else(|| {
            let what = "a pin is sha256// and a SHA-256 in base64";
            Error::new(Kind::InvalidRequest, Phase::Request, what)
        })
    }

    /// The pin of this SHA-256.
    pub fn of_sha256(hash: [u8; SHA256_BYTES]) -> Self {
        Self(hash)
    }

    pub(crate) fn is_of(&self, hash: &[u8]) -> bool {
        self.0 == *hash
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", base64_encoded(&self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

const PREFIX: &str = "sha256//";
const SHA256_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_reads_as_it_is_written() {
        let text = "sha256//YLh1dUR9y6Kja30RrAn7JKnbQG/uEtLMkBgFF2Fuihg=";
        let pin = Pin::new(text).unwrap();
        assert_eq!(pin.to_string(), text);
        assert_eq!(Pin::of_sha256(pin.0), pin);
        for bad in [
            "",
            "sha256//",
            "sha256//AAAA",
            "sha1//YLh1dUR9y6Kja30RrAn7JKnbQG/uEtLMkBgFF2Fuihg=",
            "YLh1dUR9y6Kja30RrAn7JKnbQG/uEtLMkBgFF2Fuihg=",
            "sha256//YLh1dUR9y6Kja30RrAn7JKnbQG/uEtLMkBgFF2Fui*g=",
            "sha256//YLh1dUR9y6Kja30RrAn7JKnbQG/uEtLMkBgFF2Fuihg=;",
        ] {
            assert_eq!(Pin::new(bad).unwrap_err().kind(), Kind::InvalidRequest, "{bad}");
        }
    }
}
