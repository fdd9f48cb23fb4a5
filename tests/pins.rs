//! Public keys that servers must have: whose is pinned is taken, every other is refused by name,
//! whatever else is asked of its certificate, or nothing.

#![cfg(any(feature = "ring", feature = "aws-lc-rs"))]

mod driving;
mod support;

use std::sync::Arc;

use driving::{get, run, settings, trusting};
use rcgen::{KeyPair, PublicKeyData};
use sha2::{Digest, Sha256};
use support::{Authority, Origin, Presented, ProxyServer, ProxySetup, Setup, TlsSetup, ok};
use whippet::{Kind, Phase, Pin, Proxies, Proxy, Reactor, Roots, TlsSettings};

/// The pin of the key that a server shows.
fn pin_of(shown: &Presented) -> Pin {
    let key = KeyPair::try_from(&shown.key[..]).unwrap();
    Pin::of_sha256(Sha256::digest(key.subject_public_key_info()).into())
}

fn other() -> Pin {
    Pin::of_sha256([7; 32])
}

fn origin_of(shown: &Presented, tls13: bool) -> Origin {
    let tls = TlsSetup { tls12: !tls13, tls13, ..TlsSetup::presenting(shown.clone()) };
    Origin::start(Setup { tls: Some(tls), ..Setup::default() }, |_| ok("taken"))
}

#[test]
fn only_a_pinned_key_is_taken_and_another_is_named() {
    let root = Authority::root("pinned");
    let tls = TlsSettings::new().with_roots(Roots::OnlyAdded).add_ca_der(root.der().to_vec());
    let shown = root.leaf(&["127.0.0.1"], |_| {});
    for tls13 in [false, true] {
        let origin = origin_of(&shown, tls13);
        let mut reactor = Reactor::new(settings()).unwrap();
        for pins in [vec![pin_of(&shown)], vec![other(), pin_of(&shown)]] {
            let pinned = pins.iter().fold(tls.clone(), |tls, pin| tls.add_pin(*pin));
            let request = get(origin.url("/")).tls(Arc::new(pinned));
            // The second takes up the first one's session, where a connection was not kept.
            for _ in 0..2 {
                let request = request.clone().header("Connection", "close").unwrap();
                assert_eq!(run(&mut reactor, request).text(), "taken");
            }
        }
        let ended =
            run(&mut reactor, get(origin.url("/")).tls(tls.clone().add_pin(other()).into()));
        let error = ended.error();
        assert_eq!((error.kind(), error.phase()), (Kind::Certificate, Phase::Tls));
        assert!(!error.is_transient());
        assert_eq!(
            error.to_string(),
            format!(
                "the certificate was refused: its public key is {}, and pinned is {}",
                pin_of(&shown),
                other()
            )
        );
    }
}

#[test]
fn a_pinned_key_does_not_make_up_for_a_certificate() {
    let shown = Presented::self_signed(&["127.0.0.1"], |_| {});
    let origin = origin_of(&shown, true);
    let request = get(origin.url("/")).tls(Arc::new(trusting().add_pin(pin_of(&shown))));
    let ended = run(&mut Reactor::new(settings()).unwrap(), request);
    assert_eq!(ended.error().kind(), Kind::Certificate);
    assert!(ended.error().to_string().contains("issuer"), "{:?}", ended.error());
}

#[test]
fn where_any_certificate_is_taken_the_key_must_be_pinned_and_held() {
    let shown = Presented::self_signed(&["elsewhere.test"], |_| {});
    let any = || TlsSettings::new().danger_accept_invalid_certificates(true);
    for tls13 in [false, true] {
        let mut reactor = Reactor::new(settings()).unwrap();
        let origin = origin_of(&shown, tls13);
        let with = |pin| get(origin.url("/")).tls(Arc::new(any().add_pin(pin)));
        assert_eq!(run(&mut reactor, with(pin_of(&shown))).text(), "taken");
        assert_eq!(run(&mut reactor, with(other())).error().kind(), Kind::Certificate);
        // Somebody who has seen the certificate shows it, and signs with a key of their own.
        let impostor = origin_of(&shown.clone().with_another_key(), tls13);
        let request = get(impostor.url("/")).tls(Arc::new(any().add_pin(pin_of(&shown))));
        let ended = run(&mut reactor, request);
        assert_eq!(ended.error().kind(), Kind::Certificate, "{:?}", ended.error());
    }
}

#[test]
fn a_pin_and_another_name_are_the_origins_and_not_the_proxys() {
    let root = Authority::root("behind");
    let shown = root.leaf(&["inner.test"], |_| {});
    let origin = origin_of(&shown, true);
    let setup = ProxySetup { tls: Some(TlsSetup::default()), ..ProxySetup::default() };
    let proxy = ProxyServer::start(origin.address(), setup);
    let mut settings = settings();
    let tls = trusting().add_ca_der(root.der().to_vec()).add_pin(pin_of(&shown));
    settings.tls = Arc::new(tls.with_server_name("inner.test"));
    settings.proxies = Proxies::all(Proxy::new(&format!("https://{}", proxy.address())).unwrap());
    let mut reactor = Reactor::new(settings).unwrap();
    assert_eq!(run(&mut reactor, get("https://origin.invalid/")).text(), "taken");
}

#[test]
fn a_pin_beside_a_configuration_of_ones_own_is_refused() {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let theirs = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let mut settings = settings();
    let tls = TlsSettings::new().with_client_config(Arc::new(theirs)).add_pin(other());
    settings.tls = Arc::new(tls);
    let error = Reactor::new(settings).unwrap_err();
    assert_eq!(error.kind(), Kind::Tls);
    assert!(error.to_string().contains("pinned"), "{error}");
}
