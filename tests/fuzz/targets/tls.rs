//! A client's TLS session: bytes from nobody, and a server whose flights are cut, damaged and mixed
//! with other bytes. What comes out is what the server said, up to the damage.
//!
//! The input is a byte of choices, two of cuts, and then either the bytes, or deeds of a server.
//! Keys are drawn anew in every run, so a crash that hangs on them may not come up again.
#![no_main]

use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ED25519};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion, version};
use whippet::fuzzing::{Opened, Tls};
use whippet::{Roots, TlsSettings};
use whippet_fuzz::input::{Tape, pieces};

fuzz_target!(|bytes: &[u8]| {
    let mut tape = Tape::new(bytes);
    let (choice, seed) = (tape.byte(), tape.word());
    if choice & 1 == 0 {
        strangers(tape.rest(), seed);
    } else {
        let config = if choice & 2 == 0 { &*SERVER_13 } else { &*SERVER_12 };
        Link::new(config, seed).play(choice, tape);
    }
});

/// Bytes from nobody: the same end whole and in pieces, and nothing of them is plaintext.
fn strangers(stream: &[u8], seed: u16) {
    let mut whole = Client::new();
    whole.arrive(stream);
    whole.flush();
    let mut cut = Client::new();
    for piece in pieces(stream, seed) {
        cut.arrive(piece);
    }
    cut.flush();
    assert_eq!(cut.result, whole.result);
    assert!(whole.plain.is_empty() && cut.plain.is_empty());
    assert!(!whole.session.can_send() && !cut.session.can_send());
}

/// A session, and its caller as the reactor is one.
struct Client {
    session: Tls,
    kept: Vec<u8>,
    out: Vec<u8>,
    plain: Vec<u8>,
    result: Result<(), String>,
    is_closed: bool,
}

impl Client {
    fn new() -> Self {
        let mut session = Tls::new(&SETTINGS, HOST).unwrap();
        let mut out = Vec::new();
        session.start(&mut out);
        let (kept, plain) = (Vec::new(), Vec::new());
        Self { session, kept, out, plain, result: Ok(()), is_closed: false }
    }

    fn arrive(&mut self, bytes: &[u8]) {
        let is_worth_it = self.kept.is_empty() || self.session.completes_record(&self.kept, bytes);
        self.kept.extend_from_slice(bytes);
        if is_worth_it {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let opened = self.session.open(&mut self.kept, &mut self.out);
        let Opened { consumed, plain, peer_closed, result, .. } = opened;
        assert!(plain <= consumed && consumed <= self.kept.len());
        let (was_ended, was_closed) = (self.result.is_err(), self.is_closed);
        assert!(plain == 0 || !(was_ended || was_closed), "plaintext after the end");
        self.plain.extend_from_slice(&self.kept[..plain]);
        self.kept.drain(..consumed);
        assert!(self.kept.len() <= Tls::KEPT_BYTES_MAX);
        assert!(!was_ended || result == self.result, "an error is taken back");
        assert!(!was_closed || peer_closed || result.is_err(), "an end is taken back");
        self.result = result;
        self.is_closed |= peer_closed;
    }
}

struct Link {
    client: Client,
    server: ServerConnection,
    seed: u16,
    /// What the server said, in order.
    said: Vec<u8>,
    /// Something on the way was not as the server sent it.
    is_damaged: bool,
    key_updates: usize,
}

impl Link {
    fn new(config: &Arc<ServerConfig>, seed: u16) -> Self {
        let mut server = ServerConnection::new(Arc::clone(config)).unwrap();
        server.set_buffer_limit(None);
        Self {
            client: Client::new(),
            server,
            seed,
            said: Vec::new(),
            is_damaged: false,
            key_updates: 0,
        }
    }

    fn play(mut self, choice: u8, mut tape: Tape<'_>) {
        if choice & 4 != 0 {
            // The handshake's flights are damaged.
            let (flight, at, bits) = (tape.byte() % 3, tape.word(), tape.byte());
            self.shake_hands(|nth, wire| {
                if nth == flight && !wire.is_empty() && bits != 0 {
                    let at = usize::from(at) % wire.len();
                    wire[at] ^= bits;
                    return true;
                }
                false
            });
        } else {
            self.shake_hands(|_, _| false);
            assert!(self.client.session.can_send(), "{:?}", self.client.result);
        }
        while !tape.is_empty() && self.client.result.is_ok() && !self.client.is_closed {
            if self.said.len() > SAID_BYTES_MAX {
                break;
            }
            self.deed(&mut tape);
        }
        self.check();
        let mut goodbye = Vec::new();
        self.client.session.close(&mut goodbye);
        assert!(!self.client.session.can_send() && !self.client.session.seal(b"x", &mut goodbye));
    }

    fn shake_hands(&mut self, mut damage: impl FnMut(u8, &mut Vec<u8>) -> bool) {
        for flight in 0..4 {
            let out = std::mem::take(&mut self.client.out);
            self.tell_server(&out);
            let mut wire = self.server_wire();
            self.is_damaged |= damage(flight, &mut wire);
            self.arrive(&wire);
        }
    }

    fn deed(&mut self, tape: &mut Tape<'_>) {
        let deed = tape.byte();
        match deed % 7 {
            0 => self.client_says(usize::from(tape.word()) % 40_000),
            1 => {
                let wire = self.server_says(usize::from(tape.word()) % 40_000);
                self.arrive(&wire);
            }
            2 => {
                let mut wire = self.server_says(usize::from(tape.byte()));
                let (at, bits) = (usize::from(tape.word()), tape.byte());
                self.is_damaged |= bits != 0 && !wire.is_empty();
                if !wire.is_empty() {
                    let at = at % wire.len();
                    wire[at] ^= bits;
                }
                self.arrive(&wire);
            }
            3 => {
                let count = usize::from(tape.byte());
                let foreign = tape.take(count);
                self.is_damaged |= !foreign.is_empty();
                self.arrive(foreign);
            }
            4 => {
                let wire = self.server_says(usize::from(tape.byte()));
                let cut = usize::from(tape.word()).min(wire.len());
                self.is_damaged |= cut > 0;
                self.arrive(&wire[cut..]);
            }
            // More of them in a row are taken for an attack.
            5 if self.key_updates < KEY_UPDATES_MAX => {
                self.key_updates += 1;
                let _ = self.server.refresh_traffic_keys();
                let wire = self.server_wire();
                self.arrive(&wire);
            }
            5 => {}
            _ => {
                self.server.send_close_notify();
                let wire = self.server_wire();
                self.arrive(&wire);
                assert!(self.is_damaged || self.client.is_closed);
            }
        }
        self.check();
    }

    fn check(&self) {
        let Self { client, said, is_damaged, .. } = self;
        assert!(said.starts_with(&client.plain), "plaintext that nobody said");
        if !is_damaged {
            assert_eq!(client.result, Ok(()));
            assert!(client.plain == *said, "what was said did not come whole");
        }
    }

    fn client_says(&mut self, count: usize) {
        let mut out = std::mem::take(&mut self.client.out);
        let plain: Vec<u8> = (0..=250).cycle().take(count).collect();
        if self.client.session.seal(&plain, &mut out) && !self.is_damaged {
            assert_eq!(self.tell_server(&out), plain);
        }
    }

    fn server_says(&mut self, count: usize) -> Vec<u8> {
        let plain: Vec<u8> = (0..=250).cycle().skip(self.said.len() % 251).take(count).collect();
        self.server.writer().write_all(&plain).unwrap();
        self.said.extend(plain);
        self.server_wire()
    }

    fn arrive(&mut self, wire: &[u8]) {
        for piece in pieces(wire, self.seed) {
            self.client.arrive(piece);
        }
    }

    fn tell_server(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut heard = Vec::new();
        while !bytes.is_empty() && matches!(self.server.read_tls(&mut bytes), Ok(1..)) {
            if self.server.process_new_packets().is_err() {
                break;
            }
            let mut buffer = [0; 4_096];
            while let Ok(count @ 1..) = self.server.reader().read(&mut buffer) {
                heard.extend_from_slice(&buffer[..count]);
            }
        }
        heard
    }

    fn server_wire(&mut self) -> Vec<u8> {
        let mut wire = Vec::new();
        while self.server.wants_write() {
            self.server.write_tls(&mut wire).unwrap();
        }
        wire
    }
}

fn server(version: &'static SupportedProtocolVersion) -> Arc<ServerConfig> {
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &*AUTHORITY).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    Arc::new(config)
}

const HOST: &str = "origin.test";
const KEY_UPDATES_MAX: usize = 16;
/// What one input makes the server say, so that the memory a run takes is the client's.
const SAID_BYTES_MAX: usize = 256 * 1024;

static SERVER_12: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| server(&version::TLS12));
static SERVER_13: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| server(&version::TLS13));

static AUTHORITY: LazyLock<CertifiedIssuer<'static, KeyPair>> = LazyLock::new(|| {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate_for(&PKCS_ED25519).unwrap()).unwrap()
});

static SETTINGS: LazyLock<TlsSettings> = LazyLock::new(|| {
    let authority = AUTHORITY.der().to_vec();
    TlsSettings::new().with_roots(Roots::OnlyAdded).add_ca_der(authority)
});
