//! HTTPS through the whole reactor over real sockets: whom it trusts, who it is, what connections
//! and sessions are shared by, and handshakes that come to nothing.

#![cfg(any(feature = "ring", feature = "aws-lc-rs"))]

mod driving;
mod support;

use std::sync::Arc;
use std::time::Duration;

use driving::{
    Control, asking, begin, drive, get, ips, run, run_until, settings, submit, trusting,
};
use rustls::ProtocolVersion;
use support::{
    Action, DnsReply, DnsServer, Greeting, Origin, Reply, Seen, Setup, TlsSetup, ca_pem,
    client_identity, ok, redirect,
};
use whippet::{Kind, Limit, MinVersion, Phase, Reactor, Request, Roots, Settings, TlsSettings};

fn origin_with(tls: TlsSetup, handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Origin {
    Origin::start(Setup { tls: Some(tls), ..Setup::default() }, handler)
}

fn greeting_with(greeting: Greeting, tls: Option<TlsSetup>) -> Origin {
    let setup = Setup { greeting: Some(greeting), tls, ..Setup::default() };
    Origin::start(setup, |_| ok("after the greeting"))
}

fn with_tls(tls: TlsSettings) -> Settings {
    let mut settings = settings();
    settings.tls = Arc::new(tls);
    settings
}

fn reactor() -> Reactor {
    Reactor::new(settings()).unwrap()
}

// Trust.

#[test]
fn an_own_authority_is_trusted_as_der_and_as_pem() {
    let origin = Origin::tls(|_| ok("trusted"));
    let pem = TlsSettings::new().with_roots(Roots::OnlyAdded).add_ca_pem(ca_pem().into_bytes());
    // Beside the web's roots too.
    let beside = TlsSettings::new().add_ca_pem(ca_pem().into_bytes());
    for tls in [trusting(), pem, beside] {
        let mut reactor = Reactor::new(with_tls(tls)).unwrap();
        assert_eq!(run(&mut reactor, get(origin.url("/"))).text(), "trusted");
    }
}

/// Fetches with retries allowed; a refused certificate uses none of them.
fn refused(settings: &Settings, origin: &Origin, host: &str) -> String {
    let mut settings = settings.clone();
    settings.retries = 3;
    let mut reactor = Reactor::new(settings).unwrap();
    let ended = run(&mut reactor, get(origin.url_at(host, "/")));
    let error = ended.error();
    assert_eq!((error.kind(), error.phase()), (Kind::Certificate, Phase::Tls), "{error}");
    assert_eq!((error.is_transient(), error.attempts()), (false, 1));
    assert_eq!(reactor.connections(), 0);
    assert_eq!(origin.requests(), [], "nothing is said to a stranger");
    error.to_string()
}

#[test]
fn certificates_that_cannot_be_trusted_are_refused() {
    let never = |_: &Seen| ok("never");
    let well = Origin::tls(never);
    let web_only = with_tls(TlsSettings::new());
    assert!(refused(&web_only, &well, "localhost").contains("not trusted"));
    let own = origin_with(TlsSetup { trusted: false, ..TlsSetup::default() }, never);
    assert!(refused(&settings(), &own, "localhost").contains("not trusted"));
    let other = origin_with(TlsSetup::named(&["other.test"]), never);
    let said = refused(&settings(), &other, "localhost");
    assert!(said.ends_with("is for other.test; localhost was expected"), "{said}");
    refused(&settings(), &other, "127.0.0.1");
    let expired = origin_with(TlsSetup { expired: true, ..TlsSetup::default() }, never);
    assert!(refused(&settings(), &expired, "localhost").contains("expired"));
}

#[test]
fn the_dangerous_switch_accepts_them_all() {
    let worst = TlsSetup { trusted: false, expired: true, ..TlsSetup::named(&["other.test"]) };
    for tls13 in [true, false] {
        let origin = origin_with(TlsSetup { tls13, ..worst.clone() }, |_| ok("whoever"));
        let tls = TlsSettings::new().danger_accept_invalid_certificates(true);
        let mut reactor = Reactor::new(with_tls(tls)).unwrap();
        assert_eq!(run(&mut reactor, get(origin.url("/"))).text(), "whoever");
    }
}

#[test]
fn a_client_certificate_is_shown_where_it_is_asked_for() {
    let (chain, key) = client_identity();
    for tls13 in [true, false] {
        let tls = TlsSetup { client_certificate: true, tls13, ..TlsSetup::default() };
        let origin = origin_with(tls, |_| ok("known"));
        let identified = trusting()
            .with_client_certificate(chain.clone().into_bytes(), key.clone().into_bytes());
        let mut reactor = Reactor::new(with_tls(identified)).unwrap();
        assert_eq!(run(&mut reactor, get(origin.url("/"))).text(), "known");
        assert!(origin.log().handshakes[0].client_certificate);

        let mut settings = settings();
        settings.retries = 2;
        let mut reactor = Reactor::new(settings).unwrap();
        let ended = run(&mut reactor, get(origin.url("/")));
        let error = ended.error();
        assert_eq!(error.kind(), Kind::Tls, "{tls13}: {error}");
        assert!(!error.is_transient());
        assert_eq!(error.attempts(), 1);
        let said = if tls13 { "demands a client certificate" } else { "the server" };
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(reactor.connections(), 0);
        assert_eq!(origin.requests().len(), 1);
    }
}

#[test]
fn settings_that_cannot_be_used_are_told_at_once_or_by_their_request() {
    let broken = trusting().add_ca_pem(&b"not a certificate"[..]);
    let error = Reactor::new(with_tls(broken.clone())).err().unwrap();
    assert_eq!(error.kind(), Kind::Tls);
    assert!(error.to_string().contains("added CA 2"), "{error}");
    let origin = Origin::tls(|_| ok("never"));
    let mut reactor = reactor();
    let ended = run(&mut reactor, get(origin.url("/")).tls(Arc::new(broken)).retries(3));
    assert_eq!((ended.error().kind(), ended.error().attempts()), (Kind::Tls, 1));
    assert!(ended.error().to_string().contains("added CA 2"), "{}", ended.error());
    assert_eq!(reactor.connections(), 0);
}

// What the server sees, and what is shared.

#[test]
fn names_are_indicated_and_addresses_are_not() {
    let origin = Origin::tls(|_| ok("x"));
    let mut reactor = reactor();
    for host in ["localhost", "127.0.0.1"] {
        run(&mut reactor, get(origin.url_at(host, "/"))).answer();
    }
    let seen: Vec<_> = origin
        .log()
        .handshakes
        .into_iter()
        .map(|handshake| (handshake.server_name, handshake.alpn))
        .collect();
    let alpn = Some(b"http/1.1".to_vec());
    assert_eq!(seen, [(Some("localhost".to_owned()), alpn.clone()), (None, alpn)]);
}

#[test]
fn a_server_without_alpn_is_spoken_to_and_one_of_another_protocol_is_not() {
    let silent = origin_with(TlsSetup { alpn: vec![], ..TlsSetup::default() }, |_| ok("x"));
    run(&mut reactor(), get(silent.url("/"))).answer();
    let h2 = TlsSetup { alpn: vec![b"h2".to_vec()], ..TlsSetup::default() };
    let h2 = origin_with(h2, |_| ok("x"));
    let ended = run(&mut reactor(), get(h2.url("/")));
    assert_eq!(ended.error().kind(), Kind::Tls);
    assert!(ended.error().to_string().contains("does not speak HTTP/1.1"), "{}", ended.error());
}

#[test]
fn another_name_may_be_asked_for_and_verified() {
    let origin = origin_with(TlsSetup::named(&["inner.test"]), |seen| {
        ok(seen.header("host").unwrap_or_default())
    });
    let tls = trusting().with_server_name("inner.test");
    let mut reactor = Reactor::new(with_tls(tls)).unwrap();
    let ended = run(&mut reactor, get(origin.url("/")));
    assert_eq!(ended.text(), format!("127.0.0.1:{}", origin.port()), "the Host field stays");
    assert_eq!(origin.log().handshakes[0].server_name.as_deref(), Some("inner.test"));
}

#[test]
fn a_name_with_a_final_dot_is_verified_without_it() {
    let origin = origin_with(TlsSetup::named(&["www.test"]), |_| ok("x"));
    let dns = DnsServer::start(|_| DnsReply::Answer(ips(&["127.0.0.1"]), 60));
    let mut reactor = Reactor::new(asking(&[&dns])).unwrap();
    for host in ["www.test", "www.test.", "WWW.test"] {
        run(&mut reactor, get(origin.url_at(host, "/"))).answer();
    }
    assert!(origin.log().handshakes.iter().all(|h| h.server_name.as_deref() == Some("www.test")));
}

#[test]
fn requests_share_connections_only_by_the_same_settings() {
    let origin = Origin::tls(|_| ok("x"));
    let mut reactor = reactor();
    let (one, two) = (Arc::new(trusting()), Arc::new(trusting()));
    let of = |tls: &Arc<TlsSettings>| get(origin.url("/")).tls(Arc::clone(tls));
    let plain = get(origin.url("/"));
    for (request, reused) in [
        (plain.clone(), false),
        (of(&one), false),
        (of(&two), false),
        (of(&one), true),
        (of(&two), true),
        (plain, true),
    ] {
        assert_eq!(run(&mut reactor, request).stats.reused, reused);
    }
    assert_eq!((origin.connections(), reactor.idle_connections()), (3, 3));
    // Nor do they share sessions.
    assert!(origin.log().handshakes.iter().all(|handshake| !handshake.resumed));
}

#[test]
fn trust_of_one_request_is_not_trust_of_another() {
    let origin = origin_with(TlsSetup { trusted: false, ..TlsSetup::default() }, |_| ok("x"));
    let mut reactor = reactor();
    let lax = Arc::new(TlsSettings::new().danger_accept_invalid_certificates(true));
    run(&mut reactor, get(origin.url("/")).tls(lax)).answer();
    let ended = run(&mut reactor, get(origin.url("/")));
    assert_eq!(ended.error().kind(), Kind::Certificate);
    assert_eq!(reactor.idle_connections(), 1);
}

#[test]
fn a_second_connection_resumes_the_first_ones_session() {
    for tls13 in [true, false] {
        let tls = TlsSetup { tls13, ..TlsSetup::default() };
        let origin = origin_with(tls, |_| ok("x"));
        let closing = get(origin.url("/")).header("Connection", "close").unwrap();
        let mut reactor = reactor();
        for _ in 0..3 {
            run(&mut reactor, closing.clone()).answer();
        }
        let resumed: Vec<_> = origin.log().handshakes.iter().map(|h| h.resumed).collect();
        assert_eq!(resumed, [false, true, true], "{tls13}");
        let mut reactor = Reactor::new(with_tls(trusting().with_resumed_servers(0))).unwrap();
        for _ in 0..2 {
            run(&mut reactor, closing.clone()).answer();
        }
        assert!(origin.log().handshakes[3..].iter().all(|handshake| !handshake.resumed));
    }
}

#[test]
fn both_versions_are_spoken_and_the_older_one_can_be_refused() {
    for (tls12, tls13, expected) in [
        (true, false, ProtocolVersion::TLSv1_2),
        (false, true, ProtocolVersion::TLSv1_3),
        (true, true, ProtocolVersion::TLSv1_3),
    ] {
        let tls = TlsSetup { tls12, tls13, ..TlsSetup::default() };
        let origin = origin_with(tls, |_| ok("x"));
        run(&mut reactor(), get(origin.url("/"))).answer();
        assert_eq!(origin.log().handshakes[0].version, Some(expected));
    }
    let old = origin_with(TlsSetup { tls13: false, ..TlsSetup::default() }, |_| ok("x"));
    let strict = with_tls(trusting().with_min_version(MinVersion::Tls13));
    let ended = run(&mut Reactor::new(strict).unwrap(), get(old.url("/")));
    let error = ended.error();
    assert_eq!((error.kind(), error.phase(), error.attempts()), (Kind::Tls, Phase::Tls, 1));
    assert!(error.to_string().contains("no TLS version in common"), "{error}");
}

// Handshakes that come to nothing.

#[test]
fn a_server_that_does_not_speak_tls_is_told_of() {
    let hello = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
    let origin = greeting_with(Box::new(move |_| Reply::new().send(hello).close()), None);
    let mut settings = settings();
    settings.retries = 2;
    let mut reactor = Reactor::new(settings).unwrap();
    let ended = run(&mut reactor, get(origin.url("/").replace("http:", "https:")));
    let error = ended.error();
    assert_eq!((error.kind(), error.phase(), error.attempts()), (Kind::Tls, Phase::Tls, 1));
    assert_eq!(error.to_string(), "TLS failed: the server sent something that is not TLS");
    // The other way around.
    let origin = Origin::tls(|_| ok("never"));
    let ended = run(&mut reactor, get(origin.url("/").replace("https:", "http:")).retries(0));
    assert!(matches!(ended.error().kind(), Kind::Malformed | Kind::Closed), "{}", ended.error());
}

#[test]
fn a_close_during_the_handshake_may_be_tried_again() {
    let origin = greeting_with(
        Box::new(|connection| match connection {
            0 => Reply::new().close(),
            1 => Reply::new().then(Action::Receive(50)).reset(),
            2 => Reply::new().then(Action::Receive(50)).close(),
            _ => Reply::new(),
        }),
        Some(TlsSetup::default()),
    );
    let control = Control::default();
    let mut reactor = control.reactor(settings());
    for reset in [false, true, false] {
        let ended = run(&mut reactor, get(origin.url("/")));
        let error = ended.error();
        assert!(matches!(error.kind(), Kind::Tls | Kind::Closed), "{error}");
        assert!(reset || error.to_string().contains("TLS handshake") || error.errno().is_some());
        assert_eq!((error.phase(), error.is_transient()), (Phase::Tls, true), "{error}");
        assert_eq!(reactor.connections(), 0);
    }
    run(&mut reactor, get(origin.url("/"))).answer();
}

#[test]
fn a_handshake_that_failed_once_is_retried_within_a_fetch() {
    let origin = greeting_with(
        Box::new(|connection| if connection == 0 { Reply::new().close() } else { Reply::new() }),
        Some(TlsSetup::default()),
    );
    let control = Control::default();
    let mut reactor = control.reactor(settings());
    // What failed before the request was sent may be retried whatever the method.
    submit(
        &mut reactor,
        Request::post(origin.url("/")).unwrap().body("x").collect(true).retries(1),
    );
    run_until(&mut reactor, |reactor| reactor.in_flight() == 1);
    run_until(&mut reactor, |reactor| reactor.in_flight() == 0);
    control.skip(Duration::from_secs(15));
    let ended = drive(&mut reactor).pop().unwrap();
    assert_eq!((ended.answer().status, ended.stats.attempts), (200, 2));
}

#[test]
fn silence_in_the_handshake_ends_by_its_limit() {
    let origin = greeting_with(Box::new(|_| Reply::new().silence()), Some(TlsSetup::default()));
    let mut reactor = reactor();
    for limit in [Limit::Tls, Limit::Connect, Limit::Total] {
        let request = get(origin.url("/")).limit(limit, Duration::from_millis(60));
        let ended = run(&mut reactor, request);
        let error = ended.error();
        assert_eq!((error.kind(), error.phase()), (Kind::Timeout, Phase::Tls));
        assert_eq!((error.limit(), error.is_transient()), (Some(limit), limit != Limit::Total));
        assert!(error.to_string().starts_with("timed out during the TLS handshake"), "{error}");
        assert_eq!(reactor.connections(), 0);
    }
}

#[test]
fn cancelling_in_the_handshake_closes_the_socket() {
    let origin = greeting_with(Box::new(|_| Reply::new().silence()), Some(TlsSetup::default()));
    let mut reactor = reactor();
    let id = submit(&mut reactor, get(origin.url("/")));
    run_until(&mut reactor, |_| origin.connections() == 1);
    assert!(begin(&mut reactor).is_empty());
    assert!(reactor.cancel(id));
    assert_eq!((reactor.connections(), reactor.in_flight(), reactor.pending()), (0, 0, 0));
}

// Redirects between http and https.

#[test]
fn http_may_lead_to_https_and_back_only_where_that_is_allowed() {
    let plain = Origin::plain(|_| ok("plain"));
    let to_plain = plain.url("/x");
    let secure = Origin::tls(move |seen| match seen.target.as_str() {
        "/down" => redirect(302, &to_plain),
        _ => ok("secure"),
    });
    let (to_secure, to_down) = (secure.url("/"), secure.url("/down"));
    let entry = Origin::plain(move |seen| match seen.target.as_str() {
        "/up" => redirect(301, &to_secure),
        _ => redirect(302, &to_down),
    });
    let mut reactor = reactor();
    let ended = run(&mut reactor, get(entry.url("/up")));
    assert_eq!((ended.text(), ended.answer().url.as_str()), ("secure", &*secure.url("/")));
    let ended = run(&mut reactor, get(entry.url("/up-and-down")));
    let error = ended.error();
    assert_eq!((error.kind(), error.is_transient()), (Kind::Redirect, false));
    assert_eq!(ended.stats.redirects, 1);
    assert_eq!(plain.connections(), 0);

    let mut settings = settings();
    settings.allow_downgrade = true;
    let mut reactor = Reactor::new(settings).unwrap();
    let ended = run(&mut reactor, get(entry.url("/up-and-down")));
    assert_eq!((ended.text(), ended.stats.redirects), ("plain", 2));
}
