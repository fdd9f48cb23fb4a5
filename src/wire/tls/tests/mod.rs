//! Sessions against a real server of rustls, in memory: no socket, any cut of the byte stream.

#![allow(clippy::unwrap_used, reason = "tests")]

mod handshake;
mod settings;
mod traffic;

use std::io::{Read, Write};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion, version};

use super::session::KEPT_BYTES_MAX;
use super::{Config, Opened, Session, TlsError};
use crate::trust::{Roots, TlsSettings};

const HOST: &str = "origin.example";
const BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// An authority, and what it signs.
struct Pki {
    authority: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
    pem: String,
}

impl Pki {
    fn new() -> Self {
        Self::named("An Authority")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { authority: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    fn leaf(&self, name: &str) -> Leaf {
        self.leaf_with(name, |_| ())
    }

    fn leaf_with(&self, name: &str, adjust: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        adjust(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        Leaf { chain: vec![certificate.der().clone()], pem: certificate.pem(), key }
    }

    fn pem(&self) -> Vec<u8> {
        self.authority.pem().into_bytes()
    }

    /// Settings that trust this authority and no other.
    fn settings(&self) -> TlsSettings {
        TlsSettings::new().with_roots(Roots::OnlyAdded).add_ca_pem(self.pem())
    }

    fn config(&self) -> Config {
        Config::new(&self.settings()).unwrap()
    }

    fn server(&self, version: &'static SupportedProtocolVersion) -> ServerConfig {
        server(&self.leaf(HOST), version)
    }
}

fn server(leaf: &Leaf, version: &'static SupportedProtocolVersion) -> ServerConfig {
    server_of(leaf, version, |builder| builder.with_no_client_auth())
}

type WantsVerifier = rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>;
type WantsCert = rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>;

fn server_of(
    leaf: &Leaf,
    version: &'static SupportedProtocolVersion,
    clients: impl FnOnce(WantsVerifier) -> WantsCert,
) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap();
    let key = PrivateKeyDer::try_from(leaf.key.serialize_der()).unwrap();
    let mut server = clients(builder).with_single_cert(leaf.chain.clone(), key).unwrap();
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    server
}

/// A session and a server, what lies on the wire between them, and what the session gave.
struct Link {
    session: Session,
    server: ServerConnection,
    /// Kept by the session's caller, as it must be.
    kept: Vec<u8>,
    out: Vec<u8>,
    plain: Vec<u8>,
    handshakes_done: usize,
    kept_max: usize,
}

impl Link {
    fn new(config: &Config, host: &str, server: &Arc<ServerConfig>) -> Self {
        let mut session = Session::new(config, host).unwrap();
        let mut out = Vec::new();
        session.start(&mut out);
        let server = ServerConnection::new(server.clone()).unwrap();
        Self {
            session,
            server,
            kept: Vec::new(),
            out,
            plain: Vec::new(),
            handshakes_done: 0,
            kept_max: 0,
        }
    }

    /// A link whose handshake has ended, and whose wire is quiet.
    fn open(config: &Config, server: &Arc<ServerConfig>) -> Self {
        let mut link = Self::new(config, HOST, server);
        link.settle(usize::MAX).unwrap();
        assert!(link.session.can_send());
        link
    }

    /// What the session wants sent reaches the server.
    fn deliver_out(&mut self) -> Result<(), rustls::Error> {
        let out = std::mem::take(&mut self.out);
        let mut rest = &out[..];
        while !rest.is_empty() {
            if self.server.read_tls(&mut rest).unwrap() == 0 {
                break;
            }
            self.server.process_new_packets()?;
        }
        Ok(())
    }

    /// What the server wants sent, taken off it.
    fn take_from_server(&mut self) -> Vec<u8> {
        let mut wire = Vec::new();
        while self.server.wants_write() {
            self.server.write_tls(&mut wire).unwrap();
        }
        wire
    }

    /// New bytes arrive at the session.
    fn arrive(&mut self, bytes: &[u8]) -> Opened {
        self.kept.extend_from_slice(bytes);
        let opened = self.session.open(&mut self.kept, &mut self.out);
        assert!(opened.plain <= opened.consumed && opened.consumed <= self.kept.len());
        self.plain.extend_from_slice(&self.kept[..opened.plain]);
        self.kept.drain(..opened.consumed);
        assert!(self.kept.len() <= KEPT_BYTES_MAX);
        self.kept_max = self.kept_max.max(self.kept.len());
        self.handshakes_done += usize::from(opened.handshake_done_now);
        opened
    }

    /// Bytes go to and fro until nobody has any, those to the session in pieces of `piece`.
    fn settle(&mut self, piece: usize) -> Result<(), TlsError> {
        loop {
            let refused = self.deliver_out();
            let wire = self.take_from_server();
            if wire.is_empty() {
                refused.unwrap();
                return Ok(());
            }
            for bytes in wire.chunks(piece) {
                self.arrive(bytes).result?;
            }
        }
    }

    fn server_says(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.server.writer().write_all(bytes).unwrap();
        self.take_from_server()
    }

    fn server_heard(&mut self) -> Vec<u8> {
        self.deliver_out().unwrap();
        let mut heard = vec![0; 64 * 1024];
        let n = self.server.reader().read(&mut heard).unwrap();
        heard.truncate(n);
        heard
    }

    /// A request and its answer, cut into pieces of `piece`.
    fn exchange(&mut self, piece: usize) {
        self.session.seal(b"GET / HTTP/1.1\r\n\r\n", &mut self.out).unwrap();
        assert_eq!(self.server_heard(), b"GET / HTTP/1.1\r\n\r\n");
        let mut wire = self.server_says(b"HTTP/1.1 200 OK\r\n");
        wire.extend(self.server_says(b"Content-Length: 2\r\n\r\n"));
        wire.extend(self.server_says(b"ok"));
        self.plain.clear();
        for bytes in wire.chunks(piece) {
            self.arrive(bytes).result.unwrap();
        }
        assert_eq!(self.plain, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert!(self.kept.is_empty());
    }
}

/// The error that a handshake with `server` ends in.
fn refusal(config: &Config, host: &str, server: ServerConfig) -> (TlsError, Link) {
    let mut link = Link::new(config, host, &Arc::new(server));
    let e = loop {
        let _ = link.deliver_out();
        let wire = link.take_from_server();
        assert!(!wire.is_empty(), "the handshake was not refused");
        if let Err(e) = link.arrive(&wire).result {
            break e;
        }
    };
    (e, link)
}

fn roots_of(pki: &Pki) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(pki.authority.der().clone()).unwrap();
    Arc::new(roots)
}
