//! Floor 1. From settings to a configuration that sessions share: roots, identity, provider.
//!
//! In go [`TlsSettings`]; out comes a [`Config`], or a [`SetupError`] that names the certificate,
//! key or file that is wrong. The provider is always explicit: aws-lc-rs where it is built in,
//! else ring; no process-wide default is installed or read.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::{error, fmt};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WantsClientCert, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, KeyLog, RootCertStore, SignatureScheme,
    SupportedProtocolVersion, WantsVerifier, version,
};

use super::fault::TlsError;
use super::pinned::Pinned;
use crate::trust::{Authority, Identity, MinVersion, Roots, TlsSettings};

/// What sessions with the same trust share, the memory of resumable sessions among it.
///
/// A cheap clone. Two are equal where they are clones of one: then, and only then, their
/// connections may stand in for each other.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    client: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl Config {
    /// Parses and checks everything that `settings` hold; opens the key log.
    pub(crate) fn new(settings: &TlsSettings) -> Result<Self, SetupError> {
        let client = match settings.custom() {
            Some(_) if !settings.pins().is_empty() => {
                let what =
                    "public keys cannot be pinned beside a rustls configuration of one's own";
                return Err(SetupError::new(what));
            }
            Some(custom) => adapt(custom.clone().downcast().map_err(|_| {
                SetupError::new("the custom TLS configuration is not one of rustls")
            })?),
            None => Arc::new(build(settings)?),
        };
        let server_name = match settings.server_name() {
            Some(name) => Some(parse_name(name).ok_or_else(|| {
                SetupError::new(format!("server name {name:?} is no DNS name and no IP address"))
            })?),
            None => None,
        };
        Ok(Self { client, server_name })
    }

    pub(super) fn client(&self) -> &Arc<ClientConfig> {
        &self.client
    }

    /// The name to ask `host` for: the override, or itself. `None` where it is no valid name.
    pub(super) fn name_for(&self, host: &str) -> Option<ServerName<'static>> {
        self.server_name.clone().or_else(|| parse_name(host))
    }
}

impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.client, &other.client) && self.server_name == other.server_name
    }
}

impl Eq for Config {}

impl TlsSettings {
    /// Uses the caller's own configuration of rustls, whatever its provider, verifier and session
    /// store. Of the other settings only [`Self::with_server_name`] still counts, and pins cannot
    /// be given beside it. ALPN is set to `http/1.1`, and early data is turned off.
    #[must_use]
    pub fn with_client_config(self, config: Arc<ClientConfig>) -> Self {
        self.with_custom(config)
    }
}

/// Settings that cannot be used: one line that says which part, and what is wrong with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SetupError(String);

impl SetupError {
    fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl error::Error for SetupError {}

/// A caller's configuration with our ALPN and without early data; itself where it has both.
fn adapt(theirs: Arc<ClientConfig>) -> Arc<ClientConfig> {
    if theirs.alpn_protocols == [ALPN] && !theirs.enable_early_data {
        return theirs;
    }
    let mut ours = ClientConfig::clone(&theirs);
    ours.alpn_protocols = vec![ALPN.to_vec()];
    ours.enable_early_data = false;
    Arc::new(ours)
}

fn build(settings: &TlsSettings) -> Result<ClientConfig, SetupError> {
    let provider = Arc::new(provider().ok_or_else(|| {
        SetupError::new(
            "no TLS provider is built in: enable the feature ring or aws-lc-rs, \
             or bring a rustls ClientConfig",
        )
    })?);
    let versions: &[&SupportedProtocolVersion] = match settings.min_version() {
        MinVersion::Tls12 => &[&version::TLS13, &version::TLS12],
        MinVersion::Tls13 => &[&version::TLS13],
    };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(|e| SetupError::new(format!("TLS versions: {e}")))?;
    let builder = with_verifier(builder, settings, &provider)?;
    let mut client = match settings.identity() {
        Some(identity) => with_identity(builder, identity)?,
        None => builder.with_no_client_auth(),
    };
    client.alpn_protocols = vec![ALPN.to_vec()];
    client.enable_early_data = false;
    client.resumption = match settings.resumed_servers() {
        0 => Resumption::disabled(),
        servers => Resumption::in_memory_sessions(servers.saturating_mul(SESSIONS_PER_SERVER)),
    };
    if let Some(path) = settings.key_log() {
        client.key_log = Arc::new(KeyLogFile::open(path)?);
    }
    Ok(client)
}

#[cfg(feature = "aws-lc-rs")]
fn provider() -> Option<CryptoProvider> {
    Some(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
fn provider() -> Option<CryptoProvider> {
    Some(rustls::crypto::ring::default_provider())
}

#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
fn provider() -> Option<CryptoProvider> {
    None
}

fn with_verifier(
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, SetupError> {
    let verifier: Arc<dyn ServerCertVerifier> = if settings.accepts_invalid_certificates() {
        Arc::new(AcceptAnything { schemes: provider.clone() })
    } else {
        let added = added_authorities(settings.added())?;
        match settings.roots() {
            Roots::WebPki => {
                let mut store = RootCertStore::empty();
                store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
                webpki_verifier(store, added, provider)?
            }
            Roots::OnlyAdded if added.is_empty() => {
                return Err(SetupError::new("no certificate authority is trusted: none was added"));
            }
            Roots::OnlyAdded => webpki_verifier(RootCertStore::empty(), added, provider)?,
            Roots::Native => native_verifier(added, provider)?,
        }
    };
    let verifier = match settings.pins() {
        [] => verifier,
        pins => Arc::new(Pinned::new(verifier, pins, provider)),
    };
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

fn webpki_verifier(
    mut store: RootCertStore,
    added: Vec<CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, SetupError> {
    store.add_parsable_certificates(added);
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone())
        .build()
        .map_err(|e| SetupError::new(format!("roots: {e}")))?;
    Ok(verifier)
}

#[cfg(feature = "native-roots")]
fn native_verifier(
    added: Vec<CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, SetupError> {
    use rustls_platform_verifier::Verifier;
    let verifier = Verifier::new_with_extra_roots(added, provider.clone())
        .map_err(|e| SetupError::new(format!("native roots: {e}")))?;
    Ok(Arc::new(verifier))
}

#[cfg(not(feature = "native-roots"))]
fn native_verifier(
    _added: Vec<CertificateDer<'static>>,
    _provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, SetupError> {
    Err(SetupError::new("native roots: the feature native-roots is not built in"))
}

/// Every added certificate, each checked to be usable as a root, so that a bad one is named
/// here rather than missed at the first handshake.
fn added_authorities(
    authorities: &[Authority],
) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let mut added = Vec::new();
    for (index, authority) in authorities.iter().enumerate() {
        let place = format!("added CA {}", index + 1);
        let certificates = match authority {
            Authority::Pem(pem) => certificates(pem, &place)?,
            Authority::Der(der) => vec![CertificateDer::from(der.to_vec())],
        };
        let count = certificates.len();
        for (nth, certificate) in certificates.into_iter().enumerate() {
            RootCertStore::empty().add(certificate.clone()).map_err(|e| {
                SetupError::new(format!(
                    "{place}: certificate {} of {count} is unusable as a root: {e}",
                    nth + 1
                ))
            })?;
            added.push(certificate);
        }
    }
    Ok(added)
}

/// The certificates of a PEM file, at least one.
fn certificates(pem: &[u8], place: &str) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let mut found = Vec::new();
    for (index, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
        found.push(certificate.map_err(|e| {
            SetupError::new(format!("{place}: PEM section {}: {}", index + 1, explain_pem(&e)))
        })?);
    }
    if found.is_empty() {
        return Err(SetupError::new(format!("{place}: no CERTIFICATE section in the PEM")));
    }
    Ok(found)
}

fn with_identity(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    identity: &Identity,
) -> Result<ClientConfig, SetupError> {
    let chain = certificates(&identity.chain, "client certificate")?;
    let key = PrivateKeyDer::from_pem_slice(&identity.key).map_err(|e| {
        let why = match e {
            pem::Error::NoItemsFound => "no unencrypted PRIVATE KEY section in the PEM".to_owned(),
            other => explain_pem(&other),
        };
        SetupError::new(format!("client key: {why}"))
    })?;
    builder.with_client_auth_cert(chain, key).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => {
            SetupError::new("client key: it is not the key of the client certificate")
        }
        rustls::Error::InvalidCertificate(_) => {
            SetupError::new(format!("client certificate: {}", TlsError::from(e)))
        }
        other => SetupError::new(format!("client key: {other}")),
    })
}

/// Never quotes the material: a key may be what failed to parse.
fn explain_pem(e: &pem::Error) -> String {
    match e {
        pem::Error::MissingSectionEnd { .. } => "its END line is missing".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "its BEGIN line is malformed".to_owned(),
        pem::Error::Base64Decode(_) => "its base64 is malformed".to_owned(),
        pem::Error::NoItemsFound => "nothing usable in the PEM".to_owned(),
        other => other.to_string(),
    }
}

/// A DNS name without its root dot, or an IP address. rustls sends SNI only for the former.
fn parse_name(host: &str) -> Option<ServerName<'static>> {
    let host = host.strip_suffix('.').unwrap_or(host);
    Some(ServerName::try_from(host).ok()?.to_owned())
}

/// The verifier behind the dangerous switch. It does not check the handshake's signature either:
/// a certificate too odd to parse must pass too, and nothing is gained against an impostor.
#[derive(Debug)]
struct AcceptAnything {
    schemes: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AcceptAnything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.signature_verification_algorithms.supported_schemes()
    }
}

/// Secrets, a line each, to a file that the caller named. rustls's own takes its path from the
/// environment only. A line that cannot be written is dropped: a full disk fails no fetch.
#[derive(Debug)]
struct KeyLogFile(Mutex<File>);

impl KeyLogFile {
    fn open(path: &Path) -> Result<Self, SetupError> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options
            .open(path)
            .map_err(|e| SetupError::new(format!("key log {}: {e}", path.display())))?;
        Ok(Self(Mutex::new(file)))
    }
}

impl KeyLog for KeyLogFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let line = format!("{label} {} {}\n", hex(client_random), hex(secret));
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = file.write_all(line.as_bytes());
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The one protocol spoken here.
const ALPN: &[u8] = b"http/1.1";

/// rustls counts sessions and keeps an eighth as many servers, each with up to 8 tickets.
const SESSIONS_PER_SERVER: usize = 8;

#[cfg(all(test, not(any(feature = "ring", feature = "aws-lc-rs"))))]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn without_a_provider_only_the_callers_own_configuration_works() {
        let said = Config::new(&TlsSettings::new()).unwrap_err().to_string();
        assert!(said.starts_with("no TLS provider is built in"), "{said}");

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let theirs = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        Config::new(&TlsSettings::new().with_client_config(Arc::new(theirs))).unwrap();
    }
}
