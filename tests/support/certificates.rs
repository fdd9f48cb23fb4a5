//! Certificates of the tests: one authority for the process, and a server's configuration.

use std::sync::{Arc, LazyLock};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{default_provider, sign::any_supported_type};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};

use super::authority::Presented;

/// How a TLS origin presents itself.
#[derive(Clone, Debug)]
pub(crate) struct TlsSetup {
    /// DNS names and IP addresses of the certificate.
    pub(crate) names: Vec<String>,
    /// Signed by [`ca_der`]; otherwise by itself.
    pub(crate) trusted: bool,
    /// Its validity ended in 2001.
    pub(crate) expired: bool,
    /// Asks for a certificate signed by [`ca_der`], and insists.
    pub(crate) client_certificate: bool,
    pub(crate) tls12: bool,
    pub(crate) tls13: bool,
    /// The protocols offered by ALPN; none: the extension is ignored.
    pub(crate) alpn: Vec<Vec<u8>>,
    /// Shown in place of a certificate that the fields above make, whatever is wrong with it.
    pub(crate) presents: Option<Presented>,
    /// The suites and groups that are spoken.
    pub(crate) provider: CryptoProvider,
}

impl Default for TlsSetup {
    fn default() -> Self {
        Self {
            names: vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()],
            trusted: true,
            expired: false,
            client_certificate: false,
            tls12: true,
            tls13: true,
            alpn: vec![b"http/1.1".to_vec()],
            presents: None,
            provider: default_provider(),
        }
    }
}

impl TlsSetup {
    /// As by default, for other names.
    pub(crate) fn named(names: &[&str]) -> Self {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        Self { names, ..Self::default() }
    }

    /// As by default, showing this.
    pub(crate) fn presenting(presented: Presented) -> Self {
        Self { presents: Some(presented), ..Self::default() }
    }

    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        let (chain, key) = self.identity();
        let provider = Arc::new(self.provider.clone());
        let versions: Vec<_> = [(self.tls12, &TLS12), (self.tls13, &TLS13)]
            .into_iter()
            .filter_map(|(wanted, version)| wanted.then_some(version))
            .collect();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .unwrap();
        let builder = if self.client_certificate {
            let mut roots = RootCertStore::empty();
            roots.add(ca_der()).unwrap();
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .unwrap(),
            )
        } else {
            builder.with_no_client_auth()
        };
        // Not `with_single_cert`, which looks whether the two belong together.
        let shown = CertifiedKey::new(chain, any_supported_type(&key).unwrap());
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
        config.alpn_protocols.clone_from(&self.alpn);
        Arc::new(config)
    }

    fn identity(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        if let Some(Presented { chain, key }) = &self.presents {
            return (chain.clone(), PrivateKeyDer::try_from(key.clone()).unwrap());
        }
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(self.names.clone()).unwrap();
        if self.expired {
            params.not_before = date_time_ymd(2000, 1, 1);
            params.not_after = date_time_ymd(2001, 1, 1);
        }
        let certificate = if self.trusted {
            params.signed_by(&key, &AUTHORITY).unwrap()
        } else {
            params.self_signed(&key).unwrap()
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (vec![certificate.der().clone()], key)
    }
}

/// The authority that signs everything here: what a client is told to trust.
pub(crate) fn ca_der() -> CertificateDer<'static> {
    AUTHORITY.der().clone()
}

/// The same as PEM, for a file.
pub(crate) fn ca_pem() -> String {
    AUTHORITY.pem()
}

/// A client's certificate and its key, as PEM.
pub(crate) fn client_identity() -> (String, String) {
    client_identity_with(|_| ())
}

/// The same, but for what `adjust` changes.
pub(crate) fn client_identity_with(
    adjust: impl FnOnce(&mut CertificateParams),
) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["client.test".to_owned()]).unwrap();
    adjust(&mut params);
    let certificate = params.signed_by(&key, &AUTHORITY).unwrap();
    (certificate.pem(), key.serialize_pem())
}

static AUTHORITY: LazyLock<CertifiedIssuer<'static, KeyPair>> = LazyLock::new(|| {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "the authority of the tests");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
});
