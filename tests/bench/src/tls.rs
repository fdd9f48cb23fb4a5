//! Both sides' TLS: the origin's certificate, and who trusts it. The same provider for all.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::Failure;

pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// An origin's configuration for 127.0.0.1 and localhost; its authority is written to `file`.
/// Without `resuming`, no session is ever taken up again, whatever the client would like.
pub fn server(file: &Path, resuming: bool) -> Result<Arc<ServerConfig>, Failure> {
    let mut of_authority = CertificateParams::new(Vec::new())?;
    of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(of_authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let mut of_origin = CertificateParams::new(names)?;
    // Another name than its authority's, or OpenSSL takes it for its own.
    of_origin.distinguished_name.push(DnType::CommonName, "origin");
    let certificate = of_origin.signed_by(&key, &authority)?;
    // Renamed into place, so that no client reads half of it.
    let half = file.with_extension("half");
    fs::write(&half, authority.pem())?;
    fs::rename(half, file)?;

    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if resuming {
        config.ticketer = ring::Ticketer::new()?;
        config.send_tls13_tickets = 2;
    } else {
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

/// The certificates of a PEM file.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let pem = fs::read(file)?;
    let all = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    Ok(all.map_err(|error| io::Error::other(format!("{error:?}")))?)
}

/// A client's configuration that trusts the authority in `file` alone.
pub fn client(file: &Path) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate)?;
    }
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
