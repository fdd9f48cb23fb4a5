//! Handshakes that cannot be agreed on, that are broken off, cut, damaged or meddled with: each
//! ends in an error that says why in words, and is tried again only where that may help.

#![cfg(any(feature = "ring", feature = "aws-lc-rs"))]

mod driving;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use driving::{Control, Ended, get, run, settings, submit, trusting, turn};
use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, RootCertStore};
use support::{
    Authority, Origin, Presented, Relay, Reply, Setup, TlsSetup, Towards, ca_der, client_identity,
    client_identity_with, ok,
};
use whippet::{Kind, Limit, Phase, Reactor, Request, TlsSettings};

fn origin_with(tls: TlsSetup) -> Origin {
    Origin::start(Setup { tls: Some(tls), ..Setup::default() }, |_| ok("the body"))
}

fn fetch(tls: TlsSettings, url: impl AsRef<str>) -> Ended {
    let mut settings = settings();
    settings.retries = 3;
    settings.tls = Arc::new(tls);
    run(&mut Reactor::new(settings).unwrap(), get(url))
}

/// The line of a failure that no other attempt would change, which has all of these words.
fn refused(name: &str, ended: &Ended, words: &[&str]) {
    let Err(error) = &ended.result else { panic!("{name}: accepted") };
    assert_eq!((error.kind(), error.attempts()), (Kind::Tls, 1), "{name}: {error}");
    assert!(!error.is_transient(), "{name}: {error}");
    let said = error.to_string();
    assert!(words.iter().all(|word| said.contains(word)), "{name}: not {words:?}: {said}");
    in_words(&said);
}

/// One line for people: no name of a type, but for the alert's, and no control character.
fn in_words(said: &str) {
    let told = said.split(" (alert ").next().unwrap();
    let letters: Vec<char> = told.chars().collect();
    let is_name = |pair: &[char]| pair[0].is_lowercase() && pair[1].is_uppercase();
    assert!(!letters.windows(2).any(is_name), "{said}");
    assert!(!said.contains(|c: char| c.is_control()) && said.len() < 300, "{said:?}");
}

// What is not had in common.

/// A client with our authority and a provider of its own.
fn client_of(provider: CryptoProvider) -> TlsSettings {
    let mut roots = RootCertStore::empty();
    roots.add(ca_der()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsSettings::new().with_client_config(Arc::new(config))
}

#[test]
fn a_server_with_other_suites_or_groups_is_told_of() {
    use ring::cipher_suite as suite;
    let suites = |cipher_suites: &[_]| CryptoProvider {
        cipher_suites: cipher_suites.to_vec(),
        ..ring::default_provider()
    };
    let groups = |group| CryptoProvider { kx_groups: vec![group], ..ring::default_provider() };
    let new = [suite::TLS13_AES_128_GCM_SHA256, suite::TLS13_CHACHA20_POLY1305_SHA256];
    let old = [
        suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ];
    for (name, tls13, ours, theirs) in [
        ("suites, TLS 1.3", true, suites(&new[..1]), suites(&new[1..])),
        ("suites, TLS 1.2", false, suites(&old[..1]), suites(&old[1..])),
        (
            "groups, TLS 1.3",
            true,
            groups(ring::kx_group::X25519),
            groups(ring::kx_group::SECP256R1),
        ),
        (
            "groups, TLS 1.2",
            false,
            groups(ring::kx_group::X25519),
            groups(ring::kx_group::SECP256R1),
        ),
    ] {
        let setup = |provider| TlsSetup { tls13, tls12: !tls13, provider, ..TlsSetup::default() };
        let origin = origin_with(setup(theirs));
        let ended = fetch(client_of(ours.clone()), origin.url("/"));
        refused(name, &ended, &["no cipher suite or group in common"]);
        assert_eq!(origin.connections(), 1);
        let origin = origin_with(setup(ours.clone()));
        assert_eq!(fetch(client_of(ours), origin.url("/")).text(), "the body", "{name}");
    }
}

/// Each write is a packet, and costs as much as all that whippet does itself for a request.
#[test]
fn the_end_of_a_handshake_goes_with_the_request() {
    let tls12 = || TlsSetup { tls13: false, ..TlsSetup::default() };
    for (name, tls, first, resumed) in
        [("TLS 1.3", TlsSetup::default as fn() -> _, 2, 2), ("TLS 1.2", tls12, 3, 2)]
    {
        let origin = Origin::start(Setup { tls: Some(tls()), ..Setup::default() }, |_| {
            Reply::new().send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        });
        let control = Control::default();
        let mut reactor = control.reactor(settings());
        for writes in [first, resumed] {
            control.with(|whims| whims.writes = 0);
            submit(&mut reactor, get(origin.url("/")));
            let mut ended = Vec::new();
            while ended.is_empty() {
                ended = turn(&mut reactor, None);
            }
            assert_eq!(ended[0].text(), "ok", "{name}");
            // The last is close_notify.
            assert_eq!(control.with(|whims| whims.writes), writes + 1, "{name}");
        }
    }
}

#[test]
fn a_server_that_insists_on_another_protocol_is_asked_once() {
    let origin = origin_with(TlsSetup { alpn: vec![b"h2".to_vec()], ..TlsSetup::default() });
    let ended = fetch(trusting(), origin.url("/"));
    refused("h2 only", &ended, &["does not speak HTTP/1.1", "alert NoApplicationProtocol"]);
    assert_eq!(origin.connections(), 1);
    let both = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let origin = origin_with(TlsSetup { alpn: both, ..TlsSetup::default() });
    assert_eq!(fetch(trusting(), origin.url("/")).text(), "the body");
}

#[test]
fn a_server_that_wants_to_know_its_client_says_what_it_thinks_of_it() {
    let own = Presented::self_signed(&["client.test"], |_| ()).pem();
    let other = Authority::root("other").leaf(&["client.test"], |_| ()).pem();
    let expired = client_identity_with(|params| params.not_after = date_time_ymd(2020, 1, 1));
    let for_servers = client_identity_with(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let cases: [(_, _, Option<&[&str]>); 6] = [
        ("its own authority's", Some(client_identity()), None),
        ("none", None, Some(&["demands a client certificate"])),
        (
            "another authority's",
            Some(other),
            Some(&["does not trust the issuer of the client certificate"]),
        ),
        ("self-signed", Some(own), Some(&["does not trust the issuer of the client certificate"])),
        ("expired", Some(expired), Some(&["takes the client certificate for expired"])),
        ("a server's", Some(for_servers), Some(&["does not accept the client certificate"])),
    ];
    for (name, identity, words) in cases {
        for tls13 in [true, false] {
            let setup = TlsSetup { client_certificate: true, tls13, ..TlsSetup::default() };
            let origin = origin_with(setup);
            let mut tls = trusting();
            if let Some((chain, key)) = &identity {
                tls = tls.with_client_certificate(chain.as_bytes(), key.as_bytes());
            }
            let ended = fetch(tls, origin.url("/"));
            match words {
                None => assert_eq!(ended.text(), "the body", "{name}"),
                Some(words) => {
                    refused(name, &ended, words);
                    assert_eq!((origin.connections(), origin.requests()), (1, vec![]), "{name}");
                }
            }
        }
    }
}

// Servers that answer the first message oddly.

/// A record of a plain handshake (RFC 8446 §5.1).
fn record(kind: u8, version: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    [&[kind], &version.to_be_bytes()[..], &length.to_be_bytes(), content].concat()
}

fn alert(level: u8, description: u8) -> Vec<u8> {
    record(ALERT, TLS12, &[level, description])
}

/// A handshake message in a record.
fn message(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    record(HANDSHAKE, TLS12, &[&[kind], &length[1..], content].concat())
}

/// What a ServerHello up to TLS 1.2 says (RFC 5246 §7.4.1.3).
struct Hello {
    version: u16,
    random_end: [u8; 8],
    suite: u16,
    compression: u8,
    /// Each with its type and length.
    extensions: Vec<u8>,
}

impl Hello {
    /// One that would be accepted.
    fn new() -> Self {
        // ECDHE with ECDSA and AES-128-GCM; an extended master secret.
        let (suite, extensions) = (0xc02b, vec![0x00, 0x17, 0, 0]);
        Self { version: TLS12, random_end: [7; 8], suite, compression: 0, extensions }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut content = self.version.to_be_bytes().to_vec();
        content.extend([7; 24]);
        content.extend(self.random_end);
        content.push(0);
        content.extend(self.suite.to_be_bytes());
        content.push(self.compression);
        content.extend(u16::try_from(self.extensions.len()).unwrap().to_be_bytes());
        content.extend(&self.extensions);
        message(SERVER_HELLO, &content)
    }
}

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const SERVER_HELLO: u8 = 2;
const TLS12: u16 = 0x0303;
const FATAL: u8 = 2;

/// The URL of a server that sends these bytes and waits.
fn sending(bytes: Vec<u8>) -> (Origin, String) {
    let greeting = Box::new(move |_| Reply::new().send(&bytes).silence());
    let setup = Setup { greeting: Some(greeting), ..Setup::default() };
    let origin = Origin::start(setup, |_| ok("never"));
    let url = origin.url("/").replace("http:", "https:");
    (origin, url)
}

fn check<const COUNT: usize>(cases: [(&str, Vec<u8>, &[&str]); COUNT]) {
    for (name, bytes, words) in cases {
        let (origin, url) = sending(bytes);
        let ended = fetch(trusting(), url);
        refused(name, &ended, words);
        assert_eq!((ended.error().phase(), origin.connections()), (Phase::Tls, 1), "{name}");
    }
}

#[test]
fn alerts_are_told_in_words() {
    check([
        ("handshake_failure", alert(FATAL, 40), &["no cipher suite or group in common"]),
        ("insufficient_security", alert(FATAL, 71), &["no cipher suite or group in common"]),
        ("protocol_version", alert(FATAL, 70), &["no TLS version in common"]),
        ("unrecognized_name", alert(FATAL, 112), &["does not serve this name"]),
        ("no_application_protocol", alert(FATAL, 120), &["does not speak HTTP/1.1"]),
        ("certificate_required", alert(FATAL, 116), &["demands a client certificate"]),
        ("access_denied", alert(FATAL, 49), &["does not accept the client certificate"]),
        ("internal_error", alert(FATAL, 80), &["broke off: internal error"]),
        ("decode_error", alert(FATAL, 50), &["broke off: decode error"]),
        ("one that nobody knows", alert(FATAL, 200), &["the server broke off (alert 200)"]),
        ("of no level", alert(9, 40), &["the server refused"]),
    ]);
}

#[test]
fn hellos_that_cannot_be_followed_are_told_in_words() {
    let of_version = |version| Hello { version, ..Hello::new() }.bytes();
    let choosing = |protocol: &[u8]| {
        let length = u8::try_from(protocol.len()).unwrap();
        let mut extensions = vec![0x00, 0x10, 0, length + 3, 0, length + 1, length];
        extensions.extend(protocol);
        Hello { extensions, ..Hello::new() }.bytes()
    };
    let unasked = vec![0x12, 0x34, 0, 0];
    check([
        ("TLS 1.1", of_version(0x0302), &["no TLS version in common"]),
        ("TLS 1.0", of_version(0x0301), &["no TLS version in common"]),
        ("SSL 3.0", of_version(0x0300), &["no TLS version in common"]),
        ("h2", choosing(b"h2"), &["chose an application protocol that was not offered"]),
        ("http/1.0", choosing(b"http/1.0"), &["an application protocol that was not offered"]),
        ("no protocol", choosing(b""), &["the server"]),
        (
            "a downgrade",
            Hello { random_end: *b"DOWNGRD\x01", ..Hello::new() }.bytes(),
            &["a downgrade to TLS 1.2"],
        ),
        (
            "a suite that was not offered",
            Hello { suite: 0x002f, ..Hello::new() }.bytes(),
            &["the server broke the TLS protocol: selected unoffered cipher suite"],
        ),
        (
            "a suite of TLS 1.3",
            Hello { suite: 0x1301, ..Hello::new() }.bytes(),
            &["the server broke the TLS protocol", "cipher suite"],
        ),
        ("compression", Hello { compression: 1, ..Hello::new() }.bytes(), &["compression"]),
        (
            "an extension that was not asked for",
            Hello { extensions: unasked, ..Hello::new() }.bytes(),
            &["the server broke the TLS protocol: unsolicited server hello extension"],
        ),
        (
            "a failure after it",
            [Hello::new().bytes(), alert(FATAL, 40)].concat(),
            &["after agreeing on a cipher suite", "may demand a client certificate"],
        ),
    ]);
}

#[test]
fn what_is_no_handshake_is_told_in_words() {
    check([
        ("HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), &["not TLS"]),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), &["not TLS"]),
        ("SMTP", b"220 mail.a.test ESMTP\r\n".to_vec(), &["not TLS"]),
        ("zeros", vec![0; 100], &["not TLS"]),
        ("another major version", record(HANDSHAKE, 0x0703, b"x"), &["not TLS"]),
        ("a record too long", vec![HANDSHAKE, 3, 3, 0xff, 0xff, 0], &["too", "l"]),
        ("data", record(23, TLS12, b"HTTP/1.1 200 OK\r\n\r\n"), &["unexpected message"]),
        ("an empty record", record(HANDSHAKE, TLS12, b""), &["empty"]),
        ("half an alert", record(ALERT, TLS12, &[FATAL]), &["malformed"]),
        ("a hello without contents", message(SERVER_HELLO, b""), &["malformed"]),
        ("a message of 16 MiB", record(HANDSHAKE, TLS12, &[2, 255, 255, 255, 0]), &["too large"]),
        ("its end first", message(20, &[0; 12]), &["unexpected handshake message"]),
    ]);
}

#[test]
fn a_server_that_says_goodbye_in_the_handshake_may_be_back() {
    for description in [0, 90] {
        let (_origin, url) = sending(alert(FATAL, description));
        let ended = run(&mut Reactor::new(settings()).unwrap(), get(url).retries(1));
        let error = ended.error();
        assert_eq!((error.kind(), error.phase()), (Kind::Tls, Phase::Tls), "{error}");
        assert!(error.to_string().contains("closed the connection during the TLS handshake"));
        assert!(error.is_transient() && error.attempts() == 2, "{error:?}");
    }
}

// Somebody in between.

/// What is fetched through a relay, one connection for each fetch, whose sessions are not resumed.
struct Through {
    origin: Origin,
    reactor: Reactor,
}

impl Through {
    fn new(tls13: bool) -> Self {
        let origin = origin_with(TlsSetup { tls13, ..TlsSetup::default() });
        let mut settings = settings();
        settings.tls = Arc::new(trusting().with_resumed_servers(0));
        Self { origin, reactor: Reactor::new(settings).unwrap() }
    }

    fn fetch(&mut self, relay: &Relay) -> Ended {
        run(&mut self.reactor, Self::request(relay))
    }

    /// Where a length was damaged, each side may wait for the other: that is soon given up.
    fn fetch_damaged(&mut self, relay: &Relay) -> Ended {
        run(&mut self.reactor, Self::request(relay).limit(Limit::Total, DAMAGE_WAITS_MAX))
    }

    fn request(relay: &Relay) -> Request {
        let request = get(format!("https://{}/", relay.address()));
        request.header("Connection", "close").unwrap()
    }
}

#[test]
fn a_stream_cut_anywhere_is_no_success() {
    for tls13 in [true, false] {
        let mut through = Through::new(tls13);
        let relay = Relay::start(through.origin.address(), |number| {
            let cut = number * CUTS_EVERY_BYTES;
            move |towards, passed: usize, piece: &mut [u8]| match towards {
                Towards::Client => piece.len().min(cut.saturating_sub(passed)),
                Towards::Origin => piece.len(),
            }
        });
        let mut cuts = [0, 0];
        loop {
            let ended = through.fetch(&relay);
            let Err(error) = &ended.result else {
                assert_eq!(ended.text(), "the body");
                break;
            };
            assert!(error.is_transient(), "{error}");
            in_words(&error.to_string());
            match (error.kind(), error.phase()) {
                (Kind::Tls, Phase::Tls) => {
                    assert!(error.to_string().contains("closed the connection during the TLS"));
                    assert_eq!((cuts[1], through.origin.requests().len()), (0, 0));
                    cuts[0] += 1;
                }
                (Kind::Closed, Phase::Head | Phase::Body) => cuts[1] += 1,
                other => panic!("{other:?}: {error}"),
            }
        }
        assert!(cuts[0] > 50 && cuts[1] > 5, "{cuts:?}");
    }
}

#[test]
fn a_bit_that_was_changed_anywhere_changes_no_answer() {
    for tls13 in [true, false] {
        let mut through = Through::new(tls13);
        let is_whole = Arc::new(AtomicBool::new(false));
        let whole = Arc::clone(&is_whole);
        let relay = Relay::start(through.origin.address(), move |number| {
            let at = number * FLIPS_EVERY_BYTES;
            let whole = Arc::clone(&whole);
            whole.store(true, Ordering::SeqCst);
            move |towards, passed: usize, piece: &mut [u8]| {
                if towards == Towards::Client
                    && let Some(byte) = at.checked_sub(passed).and_then(|at| piece.get_mut(at))
                {
                    *byte ^= 1 << (number % 8);
                    whole.store(false, Ordering::SeqCst);
                }
                piece.len()
            }
        });
        let (mut refused, mut harmless) = (0, 0);
        loop {
            let ended = through.fetch_damaged(&relay);
            match &ended.result {
                Ok(_) if is_whole.load(Ordering::SeqCst) => break,
                // Few bytes say nothing: the version in a record's header is one.
                Ok(_) => {
                    assert_eq!(ended.text(), "the body");
                    harmless += 1;
                }
                Err(error) => {
                    let kinds = [Kind::Tls, Kind::Certificate, Kind::Timeout, Kind::Closed];
                    assert!(kinds.contains(&error.kind()), "{:?}: {error}", error.kind());
                    in_words(&error.to_string());
                    refused += 1;
                }
            }
        }
        assert_eq!(through.fetch(&relay).text(), "the body");
        assert!(refused > 50 && harmless * 10 < refused, "{refused}, {harmless}");
    }
}

/// Hides from the server that the client speaks TLS 1.3. The server says TLS 1.2, and in its
/// random bytes that it would have spoken TLS 1.3 (RFC 8446 §4.1.3).
#[test]
fn a_downgrade_by_somebody_in_between_is_noticed() {
    let origin = origin_with(TlsSetup::default());
    let seen = Arc::new(AtomicBool::new(false));
    let seeing = Arc::clone(&seen);
    let relay = Relay::start(origin.address(), move |_| {
        let seeing = Arc::clone(&seeing);
        move |towards, _: usize, piece: &mut [u8]| {
            if towards == Towards::Origin
                && let Some(at) = piece.windows(9).position(|some| some == SUPPORTED_VERSIONS)
            {
                // Another type of extension, which no server knows.
                piece[at..at + 2].copy_from_slice(&[0xfa, 0xfa]);
                seeing.store(true, Ordering::SeqCst);
            }
            piece.len()
        }
    });
    let ended = fetch(trusting(), format!("https://{}/", relay.address()));
    assert!(seen.load(Ordering::SeqCst));
    refused("a downgrade", &ended, &["a downgrade to TLS 1.2", "changed on its way"]);
    assert_eq!((origin.connections(), origin.requests()), (1, vec![]));
}

/// The extension by which a client offers TLS 1.3 and TLS 1.2 (RFC 8446 §4.2.1).
const SUPPORTED_VERSIONS: [u8; 9] = [0x00, 0x2b, 0, 5, 4, 3, 4, 3, 3];
const CUTS_EVERY_BYTES: usize = 5;
const FLIPS_EVERY_BYTES: usize = 7;
const DAMAGE_WAITS_MAX: Duration = Duration::from_millis(200);
