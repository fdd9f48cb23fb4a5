//! Proxies over real sockets: each protocol with http and https behind it, whose names are looked
//! up where, what is said to whom, which connections are shared, and each way in which a proxy can
//! fail.

#![cfg(any(feature = "ring", feature = "aws-lc-rs"))]

mod driving;
mod support;

use std::sync::Arc;
use std::time::Duration;

use driving::{Control, Ended, asking, get, ips, run, run_all, settings};
use support::{
    Asked, DnsReply, DnsServer, Origin, ProxyServer, ProxySetup, QueryType, Relay, Seen, Setup,
    TlsSetup, Towards, blackhole, ok, redirect, refused_port,
};
use whippet::{Kind, Limit, Phase, Proxies, Proxy, Reactor, Request, Settings};

/// A name that the proxy resolves, and nobody else can.
const HIDDEN: &str = "origin.test";

fn echo(seen: &Seen) -> support::Reply {
    ok(format!("{} {}", seen.target, String::from_utf8_lossy(&seen.body)))
}

fn named(tls: bool) -> Origin {
    let tls = tls.then(|| TlsSetup::named(&[HIDDEN, "localhost"]));
    Origin::start(Setup { tls, ..Setup::default() }, echo)
}

fn proxy_url(scheme: &str, proxy: &ProxyServer) -> Proxy {
    Proxy::new(&format!("{scheme}://{}", proxy.address())).unwrap()
}

fn through(proxy: Proxy) -> Settings {
    let mut settings = settings();
    settings.proxies = Proxies::all(proxy);
    settings
}

fn fetch(settings: Settings, request: Request) -> Ended {
    run(&mut Reactor::new(settings).unwrap(), request)
}

fn asked(how: &str, to: impl Into<String>) -> Asked {
    Asked { how: how.to_owned(), to: to.into(), who: None }
}

#[test]
fn each_protocol_leads_to_http_and_https_origins_by_name() {
    for (scheme, how) in
        [("http", "CONNECT"), ("https", "CONNECT"), ("socks4a", "SOCKS4"), ("socks5h", "SOCKS5")]
    {
        for tls in [false, true] {
            let origin = named(tls);
            let with_tls = (scheme == "https").then(TlsSetup::default);
            let setup = ProxySetup { tls: with_tls, ..ProxySetup::default() };
            let proxy = ProxyServer::start(origin.address(), setup);
            let mut reactor = Reactor::new(through(proxy_url(scheme, &proxy))).unwrap();
            let url = origin.url_at(HIDDEN, "/x?y");
            let (how, to) = if how == "CONNECT" && !tls {
                ("GET", url.clone())
            } else {
                (how, format!("{HIDDEN}:{}", origin.port()))
            };
            let target = if how == "GET" { &url } else { "/x?y" };
            for nth in 0..3 {
                let body = "b".repeat(nth * 300_000);
                let request = Request::post(&url).unwrap().body(body.clone()).collect(true);
                let ended = run(&mut reactor, request);
                assert_eq!(ended.text(), format!("{target} {body}"), "{scheme} {tls}");
                assert_eq!(ended.stats.remote, Some(proxy.address()));
                assert_eq!(ended.stats.reused, nth > 0);
            }
            // One connection, one tunnel.
            let how = if how == "GET" { "POST" } else { how };
            assert_eq!(proxy.asked(), [asked(how, to)], "{scheme} {tls}");
            let host = origin.requests()[0].header("host").unwrap().to_owned();
            assert_eq!(host, format!("{HIDDEN}:{}", origin.port()));
        }
    }
}

#[test]
fn large_bodies_come_whole_through_tls_in_tls() {
    let body = "0123456789abcdef".repeat(200_000);
    let sent = body.clone();
    let tls = Some(TlsSetup::named(&[HIDDEN]));
    let origin = Origin::start(Setup { tls, ..Setup::default() }, move |_| ok(&sent));
    let setup = ProxySetup { tls: Some(TlsSetup::default()), ..ProxySetup::default() };
    let proxy = ProxyServer::start(origin.address(), setup);
    let mut reactor = Reactor::new(through(proxy_url("https", &proxy))).unwrap();
    let requests = (0..4).map(|_| get(origin.url_at(HIDDEN, "/")));
    for ended in run_all(&mut reactor, requests) {
        assert!(ended.text() == body);
    }
    assert_eq!(reactor.buffers(), 0);
}

#[test]
fn socks_with_addresses_has_names_looked_up_here() {
    let dns = DnsServer::start(|question| match question.kind {
        QueryType::A => DnsReply::Answer(ips(&["127.0.0.9"]), 60),
        _ => DnsReply::Answer(ips(&["fd00::9"]), 60),
    });
    for (scheme, to) in [("socks4", "127.0.0.9"), ("socks5", "")] {
        let origin = named(false);
        let proxy = ProxyServer::start(origin.address(), ProxySetup::default());
        let mut settings = asking(&[&dns]);
        settings.proxies = Proxies::all(proxy_url(scheme, &proxy));
        let ended = fetch(settings, get(origin.url_at(HIDDEN, "/")));
        assert_eq!(ended.text(), "/ ");
        let told = proxy.asked().pop().unwrap().to;
        assert!(told.starts_with(to) && !told.contains(HIDDEN), "{scheme}: {told}");
    }
    assert!(dns.count(HIDDEN) > 0);
}

#[test]
fn a_proxys_name_is_looked_up_and_the_origins_is_not() {
    let dns = DnsServer::start(|question| match question.kind {
        QueryType::A => DnsReply::Answer(ips(&["127.0.0.1"]), 60),
        _ => DnsReply::Answer(Vec::new(), 60),
    });
    let origin = named(true);
    let proxy = ProxyServer::start(origin.address(), ProxySetup::default());
    for scheme in ["http", "socks5h", "socks5"] {
        let url = format!("{scheme}://proxy.test:{}", proxy.address().port());
        let mut settings = asking(&[&dns]);
        settings.proxies = Proxies::all(Proxy::new(&url).unwrap());
        let ended = fetch(settings, get(origin.url_at(HIDDEN, "/")));
        assert_eq!(ended.text(), "/ ", "{scheme}");
        // SOCKS 5 without the h is what wants an address.
        assert_eq!(dns.count(HIDDEN) > 0, scheme == "socks5");
    }
    assert!(dns.count("proxy.test") > 0);
}

#[test]
fn credentials_go_to_the_proxy_and_never_to_the_origin() {
    for (scheme, tls) in [("http", false), ("http", true), ("socks5h", false)] {
        let origin = named(tls);
        let wants = Some(("user", "canary"));
        let proxy =
            ProxyServer::start(origin.address(), ProxySetup { wants, ..ProxySetup::default() });
        let with = format!("{scheme}://user:canary@{}", proxy.address());
        let ended = fetch(through(Proxy::new(&with).unwrap()), get(origin.url_at(HIDDEN, "/")));
        assert_eq!(ended.answer().status, 200, "{scheme} {tls}");
        let who = proxy.asked()[0].who.clone().unwrap();
        assert_eq!(who, if scheme == "http" { "Basic dXNlcjpjYW5hcnk=" } else { "user:canary" });
        if tls {
            let seen = &origin.requests()[0];
            assert_eq!(seen.header("proxy-authorization"), None);
        }
        for with in ["user:wrong@", ""] {
            let with = format!("{scheme}://{with}{}", proxy.address());
            let ended = fetch(through(Proxy::new(&with).unwrap()), get(origin.url_at(HIDDEN, "/")));
            let error = ended.error();
            assert_eq!((error.kind(), error.phase()), (Kind::Proxy, Phase::Proxy), "{error}");
            assert_eq!((error.is_transient(), error.attempts()), (false, 1), "{error}");
            assert!(!error.to_string().contains("wrong"), "{error}");
        }
    }
}

#[test]
fn a_proxy_that_fails_is_told_from_an_origin_that_fails() {
    let origin = named(true);
    let url = origin.url_at(HIDDEN, "/");
    let says = |text: &str| ProxySetup { says: Some(text.into()), ..ProxySetup::default() };
    let refused = refused_port();
    for (setup, scheme, phase, transient, what) in [
        (None, "http", Phase::Connect, true, "could not connect to the proxy"),
        (None, "socks5h", Phase::Connect, true, "could not connect to the proxy"),
        (Some(says("HTTP/1.1 403 No\r\n\r\n")), "http", Phase::Proxy, false, "with 403 No"),
        (Some(says("HTTP/1.1 503 Later\r\n\r\n")), "http", Phase::Proxy, true, "with 503 Later"),
        (Some(says("")), "http", Phase::Proxy, true, "closed the connection"),
        (Some(says("220 mail\r\n")), "http", Phase::Proxy, false, "breaks HTTP"),
        (Some(says("HTTP/1.1 200 OK\r\n\r\nearly")), "http", Phase::Proxy, false, "sent bytes"),
        (Some(says("\x05\x02\0\x01\0\0\0\0\0\0")), "socks5h", Phase::Proxy, false, "not allowed"),
        (Some(ProxySetup::default()), "https", Phase::Proxy, false, "TLS with the proxy failed"),
    ] {
        let proxy = setup.map(|setup| ProxyServer::start(origin.address(), setup));
        let address = proxy.as_ref().map_or(refused, ProxyServer::address);
        let proxy = Proxy::new(&format!("{scheme}://{address}")).unwrap();
        let ended = fetch(through(proxy), get(&url));
        let error = ended.error();
        assert_eq!((error.kind(), error.phase()), (Kind::Proxy, phase), "{what}: {error}");
        assert_eq!(error.is_transient(), transient, "{error}");
        assert!(error.to_string().contains(what), "{what}: {error}");
    }
    let proxy = ProxyServer::start(origin.address(), ProxySetup::default());
    let mut stranger = through(proxy_url("http", &proxy));
    stranger.tls = Arc::default();
    let ended = fetch(stranger, get(&url));
    assert_eq!((ended.error().kind(), ended.error().phase()), (Kind::Certificate, Phase::Tls));
    let ended = fetch(through(Proxy::new("http://nowhere.invalid").unwrap()), get(&url));
    assert_eq!((ended.error().kind(), ended.error().phase()), (Kind::Proxy, Phase::Dns));
}

#[test]
fn a_proxy_that_is_silent_runs_into_its_limit() {
    let origin = named(true);
    let hole = blackhole();
    let silent = Origin::start(
        Setup { greeting: Some(Box::new(|_| support::Reply::new().silence())), ..Setup::default() },
        echo,
    );
    let control = Control::new(driving::Whims::default());
    for (scheme, address, limit, phase) in [
        ("http", hole.address, Limit::Connect, Phase::Connect),
        ("http", silent.address(), Limit::Proxy, Phase::Proxy),
        ("socks5h", silent.address(), Limit::Proxy, Phase::Proxy),
        ("https", silent.address(), Limit::Proxy, Phase::Proxy),
        ("https", silent.address(), Limit::Connect, Phase::Proxy),
    ] {
        let proxy = Proxy::new(&format!("{scheme}://{address}")).unwrap();
        let request = get(origin.url("/")).limit(limit, Duration::from_millis(80));
        let mut reactor = control.reactor(through(proxy));
        let ended = run(&mut reactor, request);
        let error = ended.error();
        assert_eq!((error.limit(), error.phase()), (Some(limit), phase), "{scheme}: {error}");
        assert_eq!(reactor.connections(), 0);
    }
}

#[test]
fn which_proxy_is_taken_is_said_by_settings_and_by_requests() {
    let origin = Origin::plain(echo);
    let one = ProxyServer::start(origin.address(), ProxySetup::default());
    let two = ProxyServer::start(origin.address(), ProxySetup::default());
    let mut settings = settings();
    settings.proxies = Proxies::all(proxy_url("socks5h", &one)).except("127.0.0.0/8, .direct.test");
    let mut reactor = Reactor::new(settings).unwrap();
    let url = origin.url_at(HIDDEN, "/");
    let ended = run_all(
        &mut reactor,
        [
            get(&url),
            get(&url).proxy(Some(proxy_url("socks5h", &two))),
            get(origin.url("/")),
            get(origin.url("/")).proxy(Some(proxy_url("http", &two))),
            get(&url).proxy(None).resolve(HIDDEN, origin.port(), ips(&["127.0.0.1"])[0]).unwrap(),
        ],
    );
    let remotes: Vec<_> = ended.iter().map(|it| it.stats.remote.unwrap()).collect();
    let (one_at, two_at, direct) = (one.address(), two.address(), origin.address());
    assert_eq!(remotes, [one_at, two_at, direct, two_at, direct]);
    // None of them shared a connection with another: what is between is part of the route.
    assert_eq!(origin.connections(), 5);
    let again = run_all(&mut reactor, [get(&url), get(origin.url("/"))]);
    assert!(again.iter().all(|it| it.stats.reused));
}

#[test]
fn a_redirect_takes_the_proxy_that_its_own_origin_needs() {
    let end = Origin::plain(echo);
    let to = end.url("/end");
    let origin = Origin::plain(move |_| redirect(302, &to));
    let proxy = ProxyServer::start(origin.address(), ProxySetup::default());
    let mut settings = settings();
    settings.proxies = Proxies::all(proxy_url("http", &proxy)).except("127.0.0.1");
    let ended = fetch(settings, get(origin.url_at(HIDDEN, "/")));
    assert_eq!(ended.text(), "/end ");
    assert_eq!(ended.stats.remote, Some(end.address()));
    // A request's own proxy goes with it.
    let proxy = ProxyServer::start(end.address(), ProxySetup::default());
    let request = get(origin.url("/")).proxy(Some(proxy_url("http", &proxy)));
    let ended = fetch(driving::settings(), request);
    assert_eq!(ended.text(), format!("{} ", origin.url("/")));
}

#[test]
fn a_handshake_in_pieces_and_a_tunnel_that_dies_lose_nobody_else() {
    let origin = named(true);
    let setup = || ProxySetup { tls: Some(TlsSetup::default()), ..ProxySetup::default() };
    let proxy = ProxyServer::start(origin.address(), setup());
    let whole = fetch(through(proxy_url("https", &proxy)), get(origin.url_at(HIDDEN, "/")));
    assert_eq!(whole.text(), "/ ");
    // The first connection is cut after so many bytes from the proxy, the second is not.
    for cut in (0..2_200).step_by(97) {
        let relay = Relay::start(proxy.address(), move |number| {
            move |towards, passed, bytes: &mut [u8]| match towards {
                Towards::Client if number == 0 => bytes.len().min(cut.max(passed) - passed),
                _ => bytes.len(),
            }
        });
        let mut settings = through(Proxy::new(&format!("https://{}", relay.address())).unwrap());
        settings.retries = 1;
        let mut reactor = Reactor::new(settings).unwrap();
        let ended = run(&mut reactor, get(origin.url_at(HIDDEN, "/")));
        assert_eq!(ended.text(), "/ ", "cut after {cut}");
        assert_eq!(reactor.buffers(), 0, "cut after {cut}");
    }
}

#[test]
fn with_deny_private_a_proxy_is_told_no_address_that_may_be_private() {
    let origin = named(false);
    let proxy = ProxyServer::start(origin.address(), ProxySetup::default());
    let dns = DnsServer::start(|question| match question.kind {
        QueryType::A if question.name.starts_with("public") => {
            DnsReply::Answer(ips(&["10.0.0.1", "93.184.215.14"]), 60)
        }
        QueryType::A => DnsReply::Answer(ips(&["10.0.0.1"]), 60),
        _ => DnsReply::Answer(Vec::new(), 60),
    });
    let port = origin.port();
    for (scheme, host, told) in [
        ("http", "public.test", None),
        ("socks5h", "public.test", None),
        ("http", "10.0.0.1", None),
        ("socks5", "private.test", None),
        ("socks5", "127.0.0.1", None),
        ("socks5", "public.test", Some("93.184.215.14")),
        ("http", "93.184.215.14", Some("http://93.184.215.14")),
    ] {
        let mut settings = asking(&[&dns]);
        settings.proxies = Proxies::all(proxy_url(scheme, &proxy));
        settings.deny_private = true;
        let before = proxy.asked().len();
        let ended = fetch(settings, get(format!("http://{host}:{port}/")));
        let new = proxy.asked().split_off(before);
        match told {
            Some(told) => {
                assert_eq!(ended.answer().status, 200, "{scheme} {host}");
                assert!(new[0].to.starts_with(told), "{scheme} {host}: {new:?}");
            }
            None => {
                assert_eq!(ended.error().kind(), Kind::Denied, "{scheme} {host}");
                assert_eq!(new, [], "{scheme} {host}");
            }
        }
    }
}

#[test]
fn a_proxy_that_refuses_for_now_is_asked_again() {
    let origin = named(true);
    let busy = Origin::start(
        Setup {
            greeting: Some(Box::new(|_| {
                support::Reply::new().send("HTTP/1.1 503 Busy\r\n\r\n").close()
            })),
            ..Setup::default()
        },
        echo,
    );
    let mut settings = through(Proxy::new(&format!("http://{}", busy.address())).unwrap());
    settings.retries = 2;
    let ended = fetch(settings, get(origin.url_at(HIDDEN, "/")));
    assert_eq!((ended.error().kind(), ended.error().attempts()), (Kind::Proxy, 3));
}
