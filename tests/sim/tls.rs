//! The servers' TLS: the library's own server, over simulated wires.
//!
//! The certificates are made once for a process, of Ed25519 keys and fixed serial numbers, so that
//! all of their lengths are the same in every run.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, LazyLock, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ED25519, SerialNumber,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use whippet::{Roots, TlsSettings};

/// The settings of a client that trusts these servers. Made anew for each run: they remember
/// sessions.
pub(crate) fn client_settings() -> Arc<TlsSettings> {
    let authority = AUTHORITY.der().to_vec();
    Arc::new(TlsSettings::new().with_roots(Roots::OnlyAdded).add_ca_der(authority))
}

/// A server's side for `host`, with so many tickets a handshake.
pub(crate) fn config(host: &str, tickets: usize, only_tls12: bool) -> Arc<ServerConfig> {
    let certificate = certificate(host);
    let key = PrivateKeyDer::try_from(SERVER_KEY.serialize_der()).unwrap();
    let versions = if only_tls12 { &[&rustls::version::TLS12] } else { &[&rustls::version::TLS13] };
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.send_tls13_tickets = tickets;
    Arc::new(config)
}

/// Made once for each host.
fn certificate(host: &str) -> CertificateDer<'static> {
    let mut made = CERTIFICATES.lock().unwrap();
    let made = made.entry(host.to_owned()).or_insert_with(|| {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(vec![1; 16]));
        params.signed_by(&*SERVER_KEY, &AUTHORITY).unwrap().der().clone()
    });
    made.clone()
}

pub(crate) fn server(config: &Arc<ServerConfig>) -> Box<ServerConnection> {
    let mut connection = ServerConnection::new(Arc::clone(config)).unwrap();
    connection.set_buffer_limit(None);
    Box::new(connection)
}

/// Takes what came over the wire; what is to be answered at once goes to `raw`. The plaintext, or
/// none where it is no TLS.
pub(crate) fn receive(
    tls: &mut ServerConnection,
    mut bytes: &[u8],
    raw: &mut Vec<u8>,
) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let mut is_sound = true;
    while !bytes.is_empty() && is_sound {
        if !matches!(tls.read_tls(&mut bytes), Ok(1..)) {
            break;
        }
        is_sound = tls.process_new_packets().is_ok();
        let mut buffer = [0; 4_096];
        while let Ok(count @ 1..) = tls.reader().read(&mut buffer) {
            plain.extend_from_slice(&buffer[..count]);
        }
    }
    while tls.wants_write() {
        let _ = tls.write_tls(raw);
    }
    is_sound.then_some(plain)
}

static CERTIFICATES: LazyLock<Mutex<BTreeMap<String, CertificateDer<'static>>>> =
    LazyLock::new(Mutex::default);

static SERVER_KEY: LazyLock<KeyPair> =
    LazyLock::new(|| KeyPair::generate_for(&PKCS_ED25519).unwrap());

static AUTHORITY: LazyLock<CertifiedIssuer<'static, KeyPair>> = LazyLock::new(|| {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "the authority of the simulation");
    params.serial_number = Some(SerialNumber::from(vec![2; 16]));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    CertifiedIssuer::self_signed(params, KeyPair::generate_for(&PKCS_ED25519).unwrap()).unwrap()
});
