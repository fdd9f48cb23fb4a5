//! Authorities that a test makes for itself, and the chains that servers and clients show.
//!
//! In go names and what is odd about them; out come a [`Presented`] for a side to show, and the
//! authority's own certificate to trust, or not.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::CertificateDer;

/// A root, or an authority below one.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// What is shown with all that it signs: itself and those above it, without the root.
    chain: Vec<CertificateDer<'static>>,
}

/// What one side of a handshake shows: the chain, its own certificate first, and a key in DER.
#[derive(Clone, Debug)]
pub(crate) struct Presented {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: Vec<u8>,
}

impl Authority {
    /// A root of this name.
    pub(crate) fn root(name: &str) -> Self {
        let issuer = CertifiedIssuer::self_signed(authority(name), generate()).unwrap();
        Self { issuer, chain: Vec::new() }
    }

    /// An authority of this name that this one vouches for, but for what `adjust` changes.
    pub(crate) fn intermediate(
        &self,
        name: &str,
        adjust: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let mut params = authority(name);
        adjust(&mut params);
        let issuer = CertifiedIssuer::signed_by(params, generate(), &self.issuer).unwrap();
        let mut chain = vec![issuer.der().clone()];
        chain.extend_from_slice(&self.chain);
        Self { issuer, chain }
    }

    /// Somebody's certificate for these names (DNS, or IP addresses), but for what `adjust`
    /// changes.
    pub(crate) fn leaf(
        &self,
        names: &[&str],
        adjust: impl FnOnce(&mut CertificateParams),
    ) -> Presented {
        let key = generate();
        let mut params = leaf(names);
        params.use_authority_key_identifier_extension = true;
        adjust(&mut params);
        let mut chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        chain.extend_from_slice(&self.chain);
        Presented { chain, key: key.serialize_der() }
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// The authority itself in the place of a server.
    pub(crate) fn itself(&self) -> Presented {
        Presented { chain: vec![self.der()], key: self.issuer.key().serialize_der() }
    }
}

impl Presented {
    /// A certificate for these names that nobody else vouches for.
    pub(crate) fn self_signed(names: &[&str], adjust: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = generate();
        let mut params = leaf(names);
        adjust(&mut params);
        let chain = vec![params.self_signed(&key).unwrap().der().clone()];
        Self { chain, key: key.serialize_der() }
    }

    /// The same with another key than the certificate's.
    pub(crate) fn with_another_key(self) -> Self {
        Self { key: generate().serialize_der(), ..self }
    }

    /// The same with another chain.
    pub(crate) fn with_chain(
        mut self,
        change: impl FnOnce(&mut Vec<CertificateDer<'static>>),
    ) -> Self {
        change(&mut self.chain);
        self
    }

    /// Both as PEM, as a client is given them.
    pub(crate) fn pem(&self) -> (String, String) {
        let chain = self.chain.iter().map(|one| pem("CERTIFICATE", one)).collect();
        (chain, pem("PRIVATE KEY", &self.key))
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// Names go in as they are: what rcgen takes for an address becomes one.
fn leaf(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "a leaf of the tests");
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName((*name).try_into().unwrap()),
        })
        .collect();
    params
}

fn generate() -> KeyPair {
    KeyPair::generate().unwrap()
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}
