//! Floor 1. Certificates by their public key, beside whatever else is asked of them.
//!
//! In goes a server's certificate that the verifier behind took; out comes the same verdict, or
//! that its key is none of the pinned. Signatures are checked here in any case: a key that is
//! pinned proves nothing where its holder is not asked to sign.

use std::sync::Arc;
use std::{error, fmt};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::hash::{Hash, HashAlgorithm};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, OtherError, SignatureScheme, SupportedCipherSuite,
};

use crate::trust::Pin;

/// A verifier, and the keys that one must have besides.
#[derive(Debug)]
pub(super) struct Pinned {
    behind: Arc<dyn ServerCertVerifier>,
    pins: Vec<Pin>,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    pub(super) fn new(
        behind: Arc<dyn ServerCertVerifier>,
        pins: &[Pin],
        provider: &Arc<CryptoProvider>,
    ) -> Self {
        Self { behind, pins: pins.to_vec(), provider: Arc::clone(provider) }
    }

    /// Whether the key of a certificate is among them.
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let refused = |shown| {
            let refused = Unpinned { shown, pinned: self.pins.clone() };
            CertificateError::Other(OtherError(Arc::new(refused)))
        };
        let Some(sha256) = sha256_of(&self.provider) else { return Err(refused(None).into()) };
        let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
        let hash = sha256.hash(&key);
        if self.pins.iter().any(|pin| pin.is_of(hash.as_ref())) {
            return Ok(());
        }
        Err(refused(<[u8; 32]>::try_from(hash.as_ref()).ok().map(Pin::of_sha256)).into())
    }
}

/// The provider's, which one of its cipher suites is made with.
fn sha256_of(provider: &CryptoProvider) -> Option<&'static dyn Hash> {
    let hashes = provider.cipher_suites.iter().map(|suite| match suite {
        SupportedCipherSuite::Tls12(suite) => suite.common.hash_provider,
        SupportedCipherSuite::Tls13(suite) => suite.common.hash_provider,
    });
    hashes.into_iter().find(|hash| hash.algorithm() == HashAlgorithm::SHA256)
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.behind.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        self.check(end_entity).map(|()| verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A certificate whose key is none of the pinned.
#[derive(Debug)]
pub(super) struct Unpinned {
    /// None: the provider has no SHA-256.
    shown: Option<Pin>,
    pinned: Vec<Pin>,
}

impl fmt::Display for Unpinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(shown) = self.shown else {
            return f.write_str("no pin can be checked: the TLS provider has no SHA-256");
        };
        write!(f, "its public key is {shown}, and pinned is ")?;
        for (nth, pin) in self.pinned.iter().take(PINS_SHOWN_MAX).enumerate() {
            write!(f, "{}{pin}", if nth == 0 { "" } else { ", " })?;
        }
        if self.pinned.len() > PINS_SHOWN_MAX { f.write_str(", ...") } else { Ok(()) }
    }
}

impl error::Error for Unpinned {}

/// Pins that an error names.
const PINS_SHOWN_MAX: usize = 4;
