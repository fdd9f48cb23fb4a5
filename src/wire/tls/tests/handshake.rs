//! How sessions begin: versions, cuts, names, certificates, resumption.

use super::*;
use rustls::server::WebPkiClientVerifier;

#[test]
fn a_handshake_and_an_exchange_in_pieces_of_any_size() {
    let pki = Pki::new();
    for (version, name) in BOTH.into_iter().zip(["TLSv1.2", "TLSv1.3"]) {
        let server = Arc::new(pki.server(version));
        for piece in [1, 2, 3, 5, 17, 100, 1_000, usize::MAX] {
            // A configuration of its own: nothing is resumed.
            let mut link = Link::new(&pki.config(), HOST, &server);
            assert!(link.session.is_handshaking() && !link.session.can_send());
            link.settle(piece).unwrap();
            assert!(!link.session.is_handshaking());
            assert_eq!(link.handshakes_done, 1);
            assert_eq!(link.session.alpn(), Some(&b"http/1.1"[..]));
            assert_eq!(link.session.version(), name);
            assert!(!link.session.is_resumed());
            link.exchange(piece);
        }
    }
}

#[test]
fn a_server_flight_cut_in_two_anywhere() {
    let pki = Pki::new();
    for version in BOTH {
        let server = Arc::new(pki.server(version));
        let config = pki.config();
        let mut cut = 1;
        loop {
            let mut link = Link::new(&config, HOST, &server);
            link.deliver_out().unwrap();
            let flight = link.take_from_server();
            let Some((head, tail)) = flight.split_at_checked(cut) else { break };
            link.arrive(head).result.unwrap();
            link.arrive(tail).result.unwrap();
            link.settle(usize::MAX).unwrap();
            link.exchange(usize::MAX);
            cut += 1;
        }
        assert!(cut > 100);
    }
}

#[test]
fn a_server_that_wants_another_group_asks_again() {
    let pki = Pki::new();
    let leaf = pki.leaf(HOST);
    let mut provider = ring::default_provider();
    provider.kx_groups = vec![ring::kx_group::SECP384R1];
    let key = PrivateKeyDer::try_from(leaf.key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(leaf.chain, key)
        .unwrap();
    let mut link = Link::new(&pki.config(), HOST, &Arc::new(server));
    link.settle(1).unwrap();
    link.exchange(1);
    assert_eq!(link.session.alpn(), None);
}

#[test]
fn data_in_the_same_read_as_the_end_of_the_handshake() {
    let pki = Pki::new();
    for version in BOTH {
        let mut server = pki.server(version);
        server.send_half_rtt_data = true;
        let mut link = Link::new(&pki.config(), HOST, &Arc::new(server));
        // TLS 1.3: the server speaks at once. TLS 1.2: once it has the client's Finished.
        link.server.writer().write_all(b"early").unwrap();
        loop {
            link.deliver_out().unwrap();
            let wire = link.take_from_server();
            let opened = link.arrive(&wire);
            opened.result.unwrap();
            if opened.handshake_done_now {
                break;
            }
        }
        assert_eq!(link.plain, b"early");
        link.settle(usize::MAX).unwrap();
        link.exchange(usize::MAX);
    }
}

#[test]
fn tickets_come_late_on_an_idle_session_and_serve_the_next() {
    let pki = Pki::new();
    let mut server = pki.server(&version::TLS13);
    server.send_half_rtt_data = true;
    let server = Arc::new(server);
    let config = pki.config();
    let mut link = Link::new(&config, HOST, &server);
    link.server.writer().write_all(b"answer").unwrap();
    link.deliver_out().unwrap();
    let flight = link.take_from_server();
    link.arrive(&flight).result.unwrap();
    assert_eq!(link.plain, b"answer");

    // The answer was first; the tickets come with nobody waiting.
    link.deliver_out().unwrap();
    let tickets = link.take_from_server();
    assert!(!tickets.is_empty());
    let opened = link.arrive(&tickets);
    opened.result.unwrap();
    assert_eq!((opened.plain, opened.consumed), (0, tickets.len()));
    assert!(!opened.peer_closed && link.out.is_empty());

    assert!(Link::open(&config.clone(), &server).session.is_resumed());
}

#[test]
fn sessions_resume_where_the_settings_say_so() {
    let pki = Pki::new();
    for version in BOTH {
        let server = Arc::new(pki.server(version));
        let config = pki.config();
        assert!(!Link::open(&config, &server).session.is_resumed());
        let mut link = Link::new(&config.clone(), HOST, &server);
        link.settle(1).unwrap();
        assert!(link.session.is_resumed());
        link.exchange(1);
        // Another client's memory is its own.
        assert!(!Link::open(&pki.config(), &server).session.is_resumed());

        let off = Config::new(&pki.settings().with_resumed_servers(0)).unwrap();
        assert!(!Link::open(&off, &server).session.is_resumed());
        assert!(!Link::open(&off, &server).session.is_resumed());
    }
}

#[test]
fn the_name_is_sent_only_where_it_is_one() {
    let pki = Pki::new();
    let sent = |config: &Config, host: &str| {
        let mut link = Link::new(config, host, &Arc::new(pki.server(&version::TLS13)));
        link.deliver_out().unwrap();
        link.server.server_name().map(str::to_owned)
    };
    let config = pki.config();
    assert_eq!(sent(&config, "origin.example").as_deref(), Some("origin.example"));
    assert_eq!(sent(&config, "origin.example.").as_deref(), Some("origin.example"));
    assert_eq!(sent(&config, "192.0.2.1"), None);
    assert_eq!(sent(&config, "2001:db8::1"), None);
    let other = Config::new(&pki.settings().with_server_name("other.example")).unwrap();
    assert_eq!(sent(&other, "192.0.2.1").as_deref(), Some("other.example"));
    for host in ["", ".", "a b", "[::1]", "-", &"x".repeat(300)] {
        assert!(Session::new(&config, host).is_err(), "{host}");
    }
}

#[test]
fn an_address_is_verified_against_the_certificate() {
    let pki = Pki::new();
    let config = pki.config();
    let server = || server(&pki.leaf("192.0.2.1"), &version::TLS13);
    let mut link = Link::new(&config, "192.0.2.1", &Arc::new(server()));
    link.settle(usize::MAX).unwrap();
    let (e, _) = refusal(&config, "192.0.2.2", server());
    assert!(e.is_certificate());
    assert_eq!(e.to_string(), "the certificate is for 192.0.2.1; 192.0.2.2 was expected");
}

#[test]
fn bad_certificates_are_refused_with_their_reason_and_an_alert() {
    let pki = Pki::new();
    let config = pki.config();
    let expired = pki.leaf_with(HOST, |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let future = pki.leaf_with(HOST, |params| {
        params.not_before = rcgen::date_time_ymd(4000, 1, 1);
        params.not_after = rcgen::date_time_ymd(4001, 1, 1);
    });
    let cases = [
        (&expired, HOST, "expired"),
        (&future, HOST, "not yet valid"),
        (&Pki::named("Other").leaf(HOST), HOST, "self-signed or of an issuer that is not trusted"),
        (&Pki::new().leaf(HOST), HOST, "not signed by the issuer that it names"),
        (&pki.leaf("a.example"), HOST, "is for a.example; origin.example was expected"),
    ];
    for version in BOTH {
        for (leaf, host, reason) in &cases {
            let (e, mut link) = refusal(&config, host, server(leaf, version));
            assert!(e.is_certificate(), "{e}");
            assert!(e.to_string().contains(reason), "{e}");
            assert!(std::error::Error::source(&e).is_some());
            let told = link.deliver_out().unwrap_err();
            assert!(matches!(told, rustls::Error::AlertReceived(_)), "{told}");
            assert!(!link.session.can_send() && !link.session.is_handshaking());
        }
    }
}

#[test]
fn the_web_pki_does_not_know_our_authority() {
    let pki = Pki::new();
    let config = Config::new(&TlsSettings::new()).unwrap();
    let (e, _) = refusal(&config, HOST, pki.server(&version::TLS13));
    assert!(e.is_certificate(), "{e}");
    // Added to the web PKI's, it is.
    let both = Config::new(&TlsSettings::new().add_ca_der(pki.authority.der().to_vec())).unwrap();
    Link::open(&both, &Arc::new(pki.server(&version::TLS13)));
}

#[test]
fn the_dangerous_switch_accepts_anything() {
    let pki = Pki::new();
    let settings = TlsSettings::new().danger_accept_invalid_certificates(true);
    let config = Config::new(&settings).unwrap();
    let self_signed = rcgen::generate_simple_self_signed(vec!["b.example".to_owned()]).unwrap();
    let self_signed = Leaf {
        chain: vec![self_signed.cert.der().clone()],
        pem: self_signed.cert.pem(),
        key: self_signed.signing_key,
    };
    let expired = pki.leaf_with(HOST, |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    for version in BOTH {
        for leaf in [&self_signed, &expired] {
            Link::open(&config, &Arc::new(server(leaf, version))).exchange(usize::MAX);
        }
    }
}

#[test]
fn a_client_certificate_is_shown_where_it_is_demanded() {
    let pki = Pki::new();
    let client = pki.leaf("client.example");
    let with = pki.settings().with_client_certificate(
        client.pem.clone().into_bytes(),
        client.key.serialize_pem().into_bytes(),
    );
    for version in BOTH {
        let demanding = || {
            server_of(&pki.leaf(HOST), version, |builder| {
                let provider = Arc::new(ring::default_provider());
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots_of(&pki), provider)
                        .build()
                        .unwrap();
                builder.with_client_cert_verifier(verifier)
            })
        };
        let mut link = Link::open(&Config::new(&with).unwrap(), &Arc::new(demanding()));
        assert_eq!(link.server.peer_certificates(), Some(&client.chain[..]));
        link.exchange(usize::MAX);

        let (e, _) = refusal(&pki.config(), HOST, demanding());
        assert!(!e.is_certificate());
        let why = if version == &version::TLS13 { "demands a client" } else { "alert" };
        assert!(e.to_string().contains(why), "{e}");
    }
}

#[test]
fn without_a_common_version_the_server_says_so() {
    let pki = Pki::new();
    let only_new = pki.settings().with_min_version(crate::trust::MinVersion::Tls13);
    let config = Config::new(&only_new).unwrap();
    let (e, _) = refusal(&config, HOST, pki.server(&version::TLS12));
    assert!(!e.is_certificate());
    assert!(e.to_string().contains("no TLS version in common"), "{e}");
}

#[test]
fn a_flight_damaged_anywhere_ends_in_an_error_or_not_at_all() {
    let pki = Pki::new();
    let config = pki.config();
    for version in BOTH {
        let server = Arc::new(pki.server(version));
        for at in (0..).step_by(5) {
            let mut link = Link::new(&config, HOST, &server);
            link.deliver_out().unwrap();
            let mut flight = link.take_from_server();
            let Some(byte) = flight.get_mut(at) else { break };
            *byte ^= 1 << (at % 8);
            let opened = link.arrive(&flight);
            if opened.result.is_err() {
                assert_eq!(link.arrive(b"\x16\x03\x03\x00\x01x").consumed, 6);
                assert!(link.session.seal(b"x", &mut Vec::new()).is_err());
            }
        }
    }
}

#[test]
fn what_is_not_tls_is_called_so() {
    let pki = Pki::new();
    let mut link = Link::new(&pki.config(), HOST, &Arc::new(pki.server(&version::TLS13)));
    let e = link.arrive(b"HTTP/1.1 400 Bad Request\r\n\r\n").result.unwrap_err();
    assert_eq!(e.to_string(), "the server sent something that is not TLS");
    assert!(!e.is_certificate());
}
