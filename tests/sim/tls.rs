//! The servers' and proxies' TLS: the library's own server, over simulated wires, and what goes
//! wrong with it.
//!
//! In go what the client has sent and what a server says; out come records, damaged, cut or late
//! where a [`Channel`] is faulty. The certificates are made once for a process, of Ed25519 keys and fixed serial numbers, so that
//! all of their lengths are the same in every run.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::{Arc, LazyLock, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ED25519, PublicKeyData, SerialNumber,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ResolvesServerCertUsingSni;
use rustls::sign::CertifiedKey;
use rustls::{ProtocolVersion, ServerConfig, ServerConnection};
use sha2::{Digest, Sha256};
use whippet::{Roots, TlsSettings};

use super::random::Random;
use super::wire::Step;

/// The settings of a client that trusts these servers. Made anew for each run: they remember
/// sessions.
pub(crate) fn client_settings() -> Arc<TlsSettings> {
    Arc::new(trusting())
}

/// The same, to be added to.
pub(crate) fn trusting() -> TlsSettings {
    let authority = AUTHORITY.der().to_vec();
    TlsSettings::new().with_roots(Roots::OnlyAdded).add_ca_der(authority)
}

/// Of the public key that all servers have.
pub(crate) fn server_key_sha256() -> [u8; 32] {
    Sha256::digest(SERVER_KEY.subject_public_key_info()).into()
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

/// The same for whichever of these hosts a client names.
pub(crate) fn config_for_all(hosts: &[&str]) -> Arc<ServerConfig> {
    let provider = Arc::new(default_provider());
    let mut by_name = ResolvesServerCertUsingSni::new();
    for host in hosts {
        let key = PrivateKeyDer::try_from(SERVER_KEY.serialize_der()).unwrap();
        let key = provider.key_provider.load_private_key(key).unwrap();
        by_name.add(host, CertifiedKey::new(vec![certificate(host)], key)).unwrap();
    }
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(by_name));
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

/// One end of a TLS session: a server's, or a proxy's.
pub(crate) struct Channel {
    session: ServerConnection,
    /// What is wrong with its first flights.
    shake: Option<Shake>,
    /// This byte of what it hears comes as another, and this byte of what it says.
    garbles: [Option<u64>; 2],
    heard_bytes: u64,
    said_bytes: u64,
    /// It never sends close_notify.
    pub(crate) is_curt: bool,
    has_closed: bool,
    /// Something was damaged on the way: what that comes to hangs on the keys, which the library
    /// draws itself.
    pub(crate) is_garbled: bool,
}

/// What goes wrong in a TLS handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shake {
    Silence,
    /// The server's first flight ends after so many bytes, and nothing follows.
    Stall(usize),
    /// An alert comes instead.
    Alert(u8),
    /// The server's first flight ends after so many bytes, by a FIN or by a reset.
    Cut(usize, bool),
    /// This byte of it is another.
    Corrupt(usize),
    /// It speaks no TLS.
    Plain,
}

/// What a channel makes of what it has heard.
pub(crate) struct Heard {
    /// None: it was no TLS, or the other side's last word.
    pub(crate) plain: Option<Vec<u8>>,
    /// What is to be answered at once.
    pub(crate) answer: Vec<u8>,
    /// The handshake has ended with it, so that the answer is tickets.
    pub(crate) is_done_now: bool,
    /// How the connection ends behind the answer, if it does.
    pub(crate) end: Option<Step>,
}

impl Channel {
    /// Once it is agreed upon.
    pub(crate) fn version(&self) -> Option<ProtocolVersion> {
        self.session.protocol_version()
    }

    /// One that has a fault in so many cases of a thousand, and, where any has, often no last word.
    /// `true`: something may fail for it.
    pub(crate) fn new(
        config: &Arc<ServerConfig>,
        fault_pm: u32,
        random: &mut Random,
    ) -> (Self, bool) {
        let mut session = ServerConnection::new(Arc::clone(config)).unwrap();
        session.set_buffer_limit(None);
        let mut channel = Self {
            session,
            shake: None,
            garbles: [None; 2],
            heard_bytes: 0,
            said_bytes: 0,
            is_curt: false,
            has_closed: false,
            is_garbled: false,
        };
        let is_faulty = random.chance(fault_pm);
        if is_faulty {
            channel.choose_fault(random);
        }
        channel.is_curt = fault_pm > 0 && random.chance(200);
        let may_fail = is_faulty || channel.is_curt;
        (channel, may_fail)
    }

    fn choose_fault(&mut self, random: &mut Random) {
        let byte = random.magnitude(1_500);
        let at = byte as usize;
        match random.below(11) {
            0 => self.shake = Some(Shake::Silence),
            1 => self.shake = Some(Shake::Stall(at)),
            2 => self.shake = Some(Shake::Alert(*random.pick(&[0, 10, 40, 42, 80, 112]))),
            3 | 4 => self.shake = Some(Shake::Cut(at, random.chance(500))),
            5 => self.shake = Some(Shake::Corrupt(at)),
            6 => self.shake = Some(Shake::Plain),
            7 | 8 => self.garbles[HEARD] = Some(byte),
            _ => self.garbles[SAID] = Some(2 * byte),
        }
    }

    /// Whether what came first is no TLS at all, and came as it was sent.
    pub(crate) fn is_spoken_to_plainly(&self, bytes: &[u8]) -> bool {
        self.heard_bytes == 0 && bytes.first().is_some_and(|byte| *byte != HANDSHAKE_RECORD)
    }

    /// Takes what came over the wire.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Heard {
        let was_shaking = self.session.is_handshaking();
        let mut bytes = bytes.to_vec();
        let before = self.heard_bytes;
        self.heard_bytes += bytes.len() as u64;
        self.garble(HEARD, before, &mut bytes);
        let (plain, is_sound) = self.take(&bytes);
        let mut answer = self.flush();
        // What a damaged byte comes to hangs on what the TLS library drew.
        self.is_garbled |= matches!(self.shake, Some(Shake::Corrupt(_)));
        let shake = self.shake.filter(|_| !answer.is_empty());
        let end = shake.and_then(|shake| shake.spoil(&mut answer));
        let is_done_now = was_shaking && !self.session.is_handshaking() && end.is_none();
        Heard { plain: is_sound.then_some(plain), answer, is_done_now, end }
    }

    /// The plaintext in it, and whether it was sound.
    fn take(&mut self, mut bytes: &[u8]) -> (Vec<u8>, bool) {
        let (mut plain, mut is_sound) = (Vec::new(), true);
        while !bytes.is_empty() && is_sound {
            if !matches!(self.session.read_tls(&mut bytes), Ok(1..)) {
                break;
            }
            is_sound = self.session.process_new_packets().is_ok();
            let mut buffer = [0; 4_096];
            while let Ok(count @ 1..) = self.session.reader().read(&mut buffer) {
                plain.extend_from_slice(&buffer[..count]);
            }
        }
        (plain, is_sound)
    }

    /// Records of any size.
    pub(crate) fn seal(&mut self, plain: &[u8], random: &mut Random) -> Vec<u8> {
        let mut sealed = Vec::new();
        let mut rest = plain;
        while !rest.is_empty() {
            let length = 1 + random.magnitude(rest.len() as u64 - 1) as usize;
            let (piece, more) = rest.split_at(length.max(rest.len() / 64).min(rest.len()));
            rest = more;
            // Into memory: it does not fail.
            let _ = self.session.writer().write_all(piece);
            sealed.extend(self.flush());
        }
        sealed
    }

    /// The keys change; TLS 1.2 has no such thing.
    pub(crate) fn change_keys(&mut self) -> Vec<u8> {
        let _ = self.session.refresh_traffic_keys();
        self.flush()
    }

    /// Its last word; none where it was said, or is none.
    pub(crate) fn close(&mut self) -> Option<Vec<u8>> {
        if self.is_curt || std::mem::replace(&mut self.has_closed, true) {
            return None;
        }
        self.session.send_close_notify();
        Some(self.flush())
    }

    /// What is to be written.
    fn flush(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        while self.session.wants_write() {
            // Into memory: it does not fail.
            let _ = self.session.write_tls(&mut records);
        }
        let before = self.said_bytes;
        self.said_bytes += records.len() as u64;
        self.garble(SAID, before, &mut records);
        records
    }

    /// Damages one byte of what goes one way, of which so many went before.
    fn garble(&mut self, way: usize, before: u64, bytes: &mut [u8]) {
        let at = self.garbles[way].and_then(|at| at.checked_sub(before));
        if let Some(byte) = at.and_then(|at| bytes.get_mut(at as usize)) {
            *byte ^= 0x20;
            self.is_garbled = true;
        }
    }
}

impl Shake {
    /// Spoils a flight of the server's; how the connection ends behind it, if it does.
    fn spoil(self, raw: &mut Vec<u8>) -> Option<Step> {
        match self {
            Self::Silence => raw.clear(),
            Self::Stall(at) => raw.truncate(at),
            Self::Alert(what) => *raw = vec![21, 3, 3, 0, 2, 2, what],
            Self::Cut(at, is_fin) => {
                raw.truncate(at);
                return Some(if is_fin { Step::Fin } else { Step::Reset });
            }
            Self::Corrupt(at) => {
                let at = at % raw.len();
                raw[at] ^= 0x10;
            }
            Self::Plain => *raw = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec(),
        }
        None
    }
}

const HEARD: usize = 0;
const SAID: usize = 1;
/// The first byte of a client's first record (RFC 8446 §5.1).
pub(crate) const HANDSHAKE_RECORD: u8 = 22;

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
