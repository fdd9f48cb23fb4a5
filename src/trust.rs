//! Plain data. Whom a client trusts over TLS, and how it shows itself: roots, identity, versions.
//!
//! In go the caller's choices, uninspected: bytes are parsed, and paths opened, when a client is
//! built from them, and what is wrong is reported there. Nothing here names the TLS library; a
//! caller's own configuration of it is carried opaquely.

mod pin;

use std::any::Any;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::pin::Pin;

/// TLS choices of a client or of a request.
///
/// A cheap clone. The default trusts the web PKI roots that are built in, offers TLS 1.2 and 1.3
/// and ALPN `http/1.1`, and resumes sessions with the last 1,024 servers.
///
/// ```
/// use whippet::{Roots, TlsSettings};
/// # let pem: &[u8] = b"";
/// let internal = TlsSettings::new().with_roots(Roots::OnlyAdded).add_ca_pem(pem);
/// assert_eq!(internal.roots(), Roots::OnlyAdded);
/// ```
///
/// # Errors
/// Nothing is checked by these methods. A certificate or key that does not parse, a key log that
/// cannot be opened, or a choice whose feature is not built in is an error of building a client.
#[derive(Clone)]
pub struct TlsSettings {
    roots: Roots,
    added: Vec<Authority>,
    identity: Option<Arc<Identity>>,
    versions: MinVersion,
    accept_invalid: bool,
    key_log: Option<PathBuf>,
    server_name: Option<String>,
    pins: Vec<Pin>,
    resumed_servers: usize,
    custom: Option<Custom>,
}

/// The set of certificate authorities that trust begins from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Roots {
    /// The web PKI's, as built in (Mozilla's list). The default.
    #[default]
    WebPki,
    /// The operating system's. Needs the feature `native-roots`.
    Native,
    /// None: only what [`TlsSettings::add_ca_pem`] and [`TlsSettings::add_ca_der`] give.
    OnlyAdded,
}

/// The oldest version of TLS that is offered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[non_exhaustive]
pub enum MinVersion {
    /// TLS 1.2 and 1.3. The default.
    #[default]
    Tls12,
    /// TLS 1.3 only.
    Tls13,
}

impl TlsSettings {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            roots: Roots::default(),
            added: Vec::new(),
            identity: None,
            versions: MinVersion::default(),
            accept_invalid: false,
            key_log: None,
            server_name: None,
            pins: Vec::new(),
            resumed_servers: RESUMED_SERVERS,
            custom: None,
        }
    }

    /// Which authorities trust begins from, before own ones are added.
    #[must_use]
    pub fn with_roots(mut self, roots: Roots) -> Self {
        self.roots = roots;
        self
    }

    /// Trusts the certificate authorities in `pem` too: one or more `CERTIFICATE` sections.
    #[must_use]
    pub fn add_ca_pem(mut self, pem: impl Into<Arc<[u8]>>) -> Self {
        self.added.push(Authority::Pem(pem.into()));
        self
    }

    /// Trusts one certificate authority too, in DER.
    #[must_use]
    pub fn add_ca_der(mut self, der: impl Into<Arc<[u8]>>) -> Self {
        self.added.push(Authority::Der(der.into()));
        self
    }

    /// Shows this certificate to servers that ask for one. `chain` is PEM, the client's own
    /// certificate first; `key` is its private key in PEM: PKCS#8, PKCS#1 or SEC1, unencrypted.
    /// Both may be the same bytes.
    #[must_use]
    pub fn with_client_certificate(
        mut self,
        chain: impl Into<Arc<[u8]>>,
        key: impl Into<Arc<[u8]>>,
    ) -> Self {
        self.identity = Some(Arc::new(Identity { chain: chain.into(), key: key.into() }));
        self
    }

    /// The oldest version offered.
    #[must_use]
    pub fn with_min_version(mut self, version: MinVersion) -> Self {
        self.versions = version;
        self
    }

    /// Accepts *any* certificate: expired, self-signed, of another name, with a forged signature.
    /// Whoever sits between can then read and change everything. Off by default.
    #[must_use]
    pub fn danger_accept_invalid_certificates(mut self, accept: bool) -> Self {
        self.accept_invalid = accept;
        self
    }

    /// Appends every session's secrets to this file, in the `SSLKEYLOGFILE` format that packet
    /// analysers read. Whoever reads it can decrypt the traffic. The environment is never
    /// consulted; a file that is made here is readable by its owner only. Off by default.
    #[must_use]
    pub fn with_key_log(mut self, path: impl Into<PathBuf>) -> Self {
        self.key_log = Some(path.into());
        self
    }

    /// Asks for, and verifies, this name (a DNS name or an IP literal without brackets) instead
    /// of the URL's host.
    #[must_use]
    pub fn with_server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Wants a public key of the server's: that of its own certificate must be one of those pinned
    /// here, beside all else that is asked of a certificate; where any is accepted, this is all
    /// that is, and the server must hold the key. One that is not ends the fetch with
    /// [`Kind::Certificate`](crate::Kind::Certificate). Of an https proxy it is not wanted.
    #[must_use]
    pub fn add_pin(mut self, pin: Pin) -> Self {
        self.pins.push(pin);
        self
    }

    /// How many servers' sessions are remembered for resumption; 0 turns resumption off. The
    /// default is 1,024. Memory is taken as servers are met: some kilobytes each.
    #[must_use]
    pub fn with_resumed_servers(mut self, servers: usize) -> Self {
        self.resumed_servers = servers;
        self
    }

    /// Which authorities trust begins from.
    pub fn roots(&self) -> Roots {
        self.roots
    }

    /// The oldest version offered.
    pub fn min_version(&self) -> MinVersion {
        self.versions
    }

    /// Whether any certificate is accepted.
    pub fn accepts_invalid_certificates(&self) -> bool {
        self.accept_invalid
    }

    /// The key log's path, where one is written.
    pub fn key_log(&self) -> Option<&Path> {
        self.key_log.as_deref()
    }

    /// The name asked for and verified instead of the URL's host.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The public keys of which a server must have one; none: any.
    pub fn pins(&self) -> &[Pin] {
        &self.pins
    }

    /// How many servers' sessions are remembered.
    pub fn resumed_servers(&self) -> usize {
        self.resumed_servers
    }

    /// Whether anything is set that may turn out unusable.
    pub(crate) fn is_customised(&self) -> bool {
        self.roots != Roots::WebPki
            || !self.added.is_empty()
            || self.identity.is_some()
            || self.key_log.is_some()
            || self.server_name.is_some()
            || !self.pins.is_empty()
            || self.custom.is_some()
    }

    /// The same for a proxy, which has another name and another key than the servers behind it.
    pub(crate) fn for_proxies(self: &Arc<Self>) -> Arc<Self> {
        if self.server_name.is_none() && self.pins.is_empty() {
            return Arc::clone(self);
        }
        Arc::new(Self { server_name: None, pins: Vec::new(), ..Self::clone(self) })
    }

    pub(crate) fn added(&self) -> &[Authority] {
        &self.added
    }

    pub(crate) fn identity(&self) -> Option<&Identity> {
        self.identity.as_deref()
    }

    pub(crate) fn custom(&self) -> Option<&Custom> {
        self.custom.as_ref()
    }

    /// Carries a configuration that only the TLS room understands.
    pub(crate) fn with_custom(mut self, custom: Custom) -> Self {
        self.custom = Some(custom);
        self
    }
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self::new()
    }
}

/// Says what was chosen. Key material and certificates are never printed.
impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSettings")
            .field("roots", &self.roots)
            .field("added_authorities", &self.added.len())
            .field("client_certificate", &self.identity.is_some())
            .field("min_version", &self.versions)
            .field("accept_invalid_certificates", &self.accept_invalid)
            .field("key_log", &self.key_log)
            .field("server_name", &self.server_name)
            .field("pins", &self.pins)
            .field("resumed_servers", &self.resumed_servers)
            .field("custom", &self.custom.is_some())
            .finish()
    }
}

/// Authorities that were added, in the form they came in.
#[derive(Clone)]
pub(crate) enum Authority {
    Pem(Arc<[u8]>),
    Der(Arc<[u8]>),
}

/// A client's certificate chain and its private key, both PEM.
pub(crate) struct Identity {
    pub(crate) chain: Arc<[u8]>,
    pub(crate) key: Arc<[u8]>,
}

/// A configuration of the TLS library, made by the caller; only the TLS room looks inside.
pub(crate) type Custom = Arc<dyn Any + Send + Sync>;

/// Servers remembered for resumption: many more than browsers' few hundred, as a fetcher meets
/// more hosts in a minute than a person in a day.
const RESUMED_SERVERS: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let settings = TlsSettings::default();
        assert_eq!(settings.roots(), Roots::WebPki);
        assert_eq!(settings.min_version(), MinVersion::Tls12);
        assert!(!settings.accepts_invalid_certificates());
        assert_eq!(settings.key_log(), None);
        assert_eq!(settings.server_name(), None);
        assert_eq!(settings.resumed_servers(), 1_024);
    }

    #[test]
    fn debug_tells_choices_and_no_secret() {
        let settings = TlsSettings::new()
            .add_ca_pem(&b"an authority"[..])
            .with_client_certificate(&b"a chain"[..], &b"a secret key"[..]);
        let said = format!("{settings:?}");
        assert!(said.contains("client_certificate: true"), "{said}");
        assert!(said.contains("added_authorities: 1"), "{said}");
        assert!(!said.contains("secret"), "{said}");
        assert!(!said.contains(&format!("{:?}", b"a secret key")), "{said}");
    }
}
