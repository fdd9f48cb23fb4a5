//! Which requests share a connection to a proxy: those that are handed to it, whatever origin they
//! are for; nothing that goes through a tunnel, and nobody with another login or other settings.
//! Caps and turns stay those of the origins. In most tests the proxy is an origin that answers
//! itself, since what it sees is what is asserted.

#![cfg(any(feature = "ring", feature = "aws-lc-rs"))]

mod driving;
mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use driving::{Control, Whims, begin, drive, get, run, run_all, run_until, settings, submit};
use support::{
    Latch, Origin, ProxyServer, ProxySetup, Reply, Seen, Setup, TlsSetup, blackhole, ok, redirect,
};
use whippet::{ConnectTo, Kind, Proxies, Proxy, Reactor, Request, Settings, SocketSettings};

fn through(scheme: &str, user: &str, proxy: &Origin) -> Settings {
    by(Proxy::new(&format!("{scheme}://{user}{}", proxy.address())).unwrap())
}

fn by(proxy: Proxy) -> Settings {
    let mut settings = settings();
    settings.proxies = Proxies::all(proxy);
    settings
}

/// Answers what is asked for `/held` once the latch is released.
fn held(latch: &Latch) -> Origin {
    let gate = latch.clone();
    Origin::plain(move |seen| {
        let is_held = seen.target.ends_with("/held");
        let reply = if is_held { Reply::new().wait(&gate) } else { Reply::new() };
        reply.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    })
}

/// The connections that requests came on.
fn connections(seen: &[Seen]) -> Vec<usize> {
    seen.iter().map(|seen| seen.connection).collect()
}

#[test]
fn one_connection_carries_requests_for_any_http_origin() {
    for scheme in ["http", "https"] {
        let setup = Setup { tls: (scheme == "https").then(TlsSetup::default), ..Setup::default() };
        let proxy = Origin::start(setup, |seen| match seen.header("host") {
            Some("moved.test") => redirect(302, "http://a.test/here"),
            _ => ok(&seen.target),
        });
        let mut reactor = Reactor::new(through(scheme, "", &proxy)).unwrap();
        let urls = ["http://a.test/", "http://b.test:81/?x", "http://10.0.0.1/", "http://[::1]/y"];
        for (nth, url) in urls.into_iter().enumerate() {
            let ended = run(&mut reactor, get(url));
            assert_eq!((ended.text(), ended.stats.reused), (url, nth > 0), "{scheme}");
        }
        // An override says where an origin is, and the proxy is not told.
        let at = get("http://a.test/at").resolve("a.test", 80, Ipv4Addr::LOCALHOST.into()).unwrap();
        assert_eq!(run(&mut reactor, at).text(), "http://a.test/at");
        assert_eq!(run(&mut reactor, get("http://moved.test/")).text(), "http://a.test/here");
        let seen = proxy.requests();
        assert_eq!(connections(&seen), [0; 7], "{scheme}");
        assert_eq!(seen[1].header("host"), Some("b.test:81"));
        assert_eq!((reactor.connections(), reactor.idle_connections()), (1, 1));
    }
}

#[test]
fn other_credentials_and_other_settings_have_connections_of_their_own() {
    let proxy = Origin::plain(|seen| ok(&seen.target));
    let mut reactor = Reactor::new(through("http", "", &proxy)).unwrap();
    let to = |user: &str| Some(Proxy::new(&format!("http://{user}{}", proxy.address())).unwrap());
    let (tls, other_tls) = (Arc::new(driving::trusting()), Arc::new(driving::trusting()));
    let from = Arc::new(SocketSettings::new().with_local_address(Ipv4Addr::LOCALHOST.into()));
    let variants: [&dyn Fn(Request) -> Request; 8] = [
        &|request| request,
        &|request| request.proxy(to("me:one@")),
        &|request| request.proxy(to("me:two@")),
        &|request| request.proxy(to("you:one@")),
        &|request| request.tls(Arc::clone(&tls)),
        &|request| request.tls(Arc::clone(&other_tls)),
        &|request| request.sockets(Arc::clone(&from)),
        &|request| request.deny_private(true),
    ];
    for host in ["9.9.9.9", "198.41.0.4", "9.9.9.9"] {
        for (nth, vary) in variants.iter().enumerate() {
            let ended = run(&mut reactor, vary(get(format!("http://{host}/{nth}"))));
            assert_eq!(ended.answer().status, 200, "{host} {nth}");
        }
    }
    // The order in which they were made, each time.
    assert_eq!(connections(&proxy.requests()), [0, 1, 2, 3, 4, 5, 6, 7].repeat(3));
    let logins: Vec<_> = proxy.requests()[..4]
        .iter()
        .map(|seen| seen.header("proxy-authorization").map(str::to_owned))
        .collect();
    let basic = |user, password| Some(support::basic(user, password));
    let told = [None, basic("me", "one"), basic("me", "two"), basic("you", "one")];
    assert_eq!(logins, told);
    // A request's own proxy, equal to the settings', is the same.
    let ended = run(&mut reactor, get("http://c.test/").proxy(to("")));
    assert!(ended.stats.reused);
    assert_eq!(proxy.connections(), 8);
}

#[test]
fn what_goes_through_a_tunnel_is_shared_with_no_other_origin() {
    let secure = TlsSetup::named(&["a.test", "b.test"]);
    let secure =
        Origin::start(Setup { tls: Some(secure), ..Setup::default() }, |seen| ok(&seen.target));
    let proxy = ProxyServer::start(secure.address(), ProxySetup::default());
    let url = format!("http://{}", proxy.address());
    let mut reactor = Reactor::new(by(Proxy::new(&url).unwrap())).unwrap();
    for nth in 0..4 {
        let host = ["a.test", "b.test"][nth % 2];
        assert_eq!(run(&mut reactor, get(secure.url_at(host, "/"))).stats.reused, nth >= 2);
    }
    let asked: Vec<_> = proxy.asked().into_iter().map(|asked| (asked.how, asked.to)).collect();
    let tunnel = |host| ("CONNECT".to_owned(), format!("{host}:{}", secure.port()));
    assert_eq!(asked, [tunnel("a.test"), tunnel("b.test")]);

    // http takes a tunnel too, where it is led elsewhere, and wherever a SOCKS proxy is between.
    let plain = Origin::plain(|seen| ok(&seen.target));
    let proxy = ProxyServer::start(plain.address(), ProxySetup::default());
    for (scheme, leads) in [("http", true), ("socks5h", false), ("socks4a", false)] {
        let before = proxy.asked().len();
        let url = format!("{scheme}://{}", proxy.address());
        let mut reactor = Reactor::new(by(Proxy::new(&url).unwrap())).unwrap();
        for nth in 0..4 {
            let request = get(format!("http://{}/", ["a.test", "b.test"][nth % 2]));
            let elsewhere = || ConnectTo::new("::c.test:80").unwrap();
            let request = if leads { request.connect_to(elsewhere()) } else { request };
            assert_eq!(run(&mut reactor, request).stats.reused, nth >= 2, "{scheme}");
        }
        assert_eq!(proxy.asked().len() - before, 2, "{scheme}");
        if leads {
            // Nor is it shared with what is handed over.
            assert!(!run(&mut reactor, get("http://a.test/")).stats.reused);
        }
    }
}

#[test]
fn caps_and_turns_are_those_of_the_origins_behind_a_proxy() {
    let go = Latch::new();
    let proxy = held(&go);
    let mut settings = through("http", "", &proxy);
    (settings.concurrency, settings.per_origin) = (4, Some(1));
    let mut reactor = Reactor::new(settings).unwrap();
    for url in ["http://a.test/held", "http://b.test/held"].repeat(3) {
        submit(&mut reactor, get(url));
    }
    run_until(&mut reactor, |_| proxy.requests().len() == 2);
    assert!(begin(&mut reactor).is_empty());
    assert_eq!((reactor.in_flight(), reactor.waiting()), (2, 4));
    let hosts: Vec<_> = proxy.requests().iter().map(|it| it.target.clone()).collect();
    assert!(hosts.contains(&"http://a.test/held".to_owned()));
    assert!(hosts.contains(&"http://b.test/held".to_owned()));
    go.release();
    assert_eq!(drive(&mut reactor).len(), 6);
    assert_eq!((proxy.requests().len(), proxy.connections()), (6, 2));

    // One after the other, over one connection: round-robin over origins.
    let proxy = held(&go);
    let mut settings = through("http", "", &proxy);
    settings.concurrency = 1;
    let mut reactor = Reactor::new(settings).unwrap();
    for (tag, host) in (0..).zip(["a", "a", "a", "a", "b", "b", "c"]) {
        submit(&mut reactor, get(format!("http://{host}.test/")).tag(tag));
    }
    let tags: Vec<_> = drive(&mut reactor).iter().map(|ended| ended.tag).collect();
    assert_eq!(tags, [0, 4, 6, 1, 5, 2, 3]);
    assert_eq!(connections(&proxy.requests()), [0; 7]);
}

#[test]
fn a_slow_origin_behind_a_proxy_holds_no_more_than_its_share() {
    let go = Latch::new();
    let proxy = held(&go);
    let mut settings = through("http", "", &proxy);
    settings.concurrency = 8;
    let mut reactor = Reactor::new(settings).unwrap();
    for _ in 0..100 {
        submit(&mut reactor, get("http://slow.test/held").tag(1));
        submit(&mut reactor, get("http://quick.test/").tag(2));
    }
    let is_slow = |seen: &&Seen| seen.target.starts_with("http://slow.test");
    let mut quick = 0;
    loop {
        let ended = driving::turn(&mut reactor, None);
        assert!(ended.iter().all(|ended| ended.tag == 2));
        quick += ended.len();
        if quick == 100 {
            break;
        }
        assert!(proxy.requests().iter().filter(is_slow).count() <= 4);
    }
    // Alone now, it gets everything.
    run_until(&mut reactor, |_| proxy.requests().iter().filter(is_slow).count() == 8);
    assert_eq!((reactor.in_flight(), proxy.connections()), (8, 8));
    go.release();
    assert_eq!(drive(&mut reactor).len(), 100);
}

#[test]
fn a_fetch_that_dials_takes_a_connection_that_another_origins_fetch_frees() {
    let go = Latch::new();
    let proxy = held(&go);
    let hole = blackhole();
    let control = Control::new(Whims::default());
    let mut reactor = control.reactor(through("http", "", &proxy));
    submit(&mut reactor, get("http://a.test/held").tag(1));
    run_until(&mut reactor, |_| proxy.requests().len() == 1);
    // From now on nobody answers at the proxy's address.
    control.with(|whims| whims.detours.insert(proxy.address(), hole.address));
    // One with a login dials before it, and must not stand in its way.
    let login = Proxy::new(&format!("http://me:hush@{}", proxy.address())).unwrap();
    let stranger = submit(&mut reactor, get("http://b.test/").proxy(Some(login)));
    submit(&mut reactor, get("http://c.test/").tag(3));
    run_until(&mut reactor, |reactor| reactor.connections() == 3);
    go.release();
    let mut ended = Vec::new();
    while ended.len() < 2 {
        ended.extend(driving::turn(&mut reactor, None));
    }
    let tags: Vec<_> = ended.iter().map(|ended| (ended.tag, ended.stats.reused)).collect();
    assert_eq!(tags, [(1, false), (3, true)]);
    assert!(reactor.cancel(stranger));
    // What it had dialled dials on for whoever comes: the second of two has no use for another one.
    assert_eq!((reactor.connections(), reactor.idle_connections()), (2, 1));
    submit(&mut reactor, get("http://d.test/"));
    submit(&mut reactor, get("http://e.test/"));
    assert!(begin(&mut reactor).is_empty());
    assert_eq!((reactor.connections(), reactor.in_flight()), (2, 2));
    while reactor.pending() > 0 {
        driving::turn(&mut reactor, None);
    }
    assert_eq!(connections(&proxy.requests()), [0; 4]);
    control.skip(Duration::from_secs(11));
    driving::settle(&mut reactor);
    assert_eq!(reactor.connections(), 1);
}

#[test]
fn what_is_denied_is_not_handed_over_on_a_connection_of_another_origin() {
    let proxy = Origin::plain(|seen| ok(&seen.target));
    let mut settings = through("http", "", &proxy);
    settings.deny_private = true;
    let mut reactor = Reactor::new(settings).unwrap();
    for (host, is_denied) in
        [("93.184.215.14", false), ("10.0.0.1", true), ("name.test", true), ("198.41.0.4", false)]
    {
        let ended = run(&mut reactor, get(format!("http://{host}/")));
        if is_denied {
            assert_eq!(ended.error().kind(), Kind::Denied, "{host}");
        } else {
            assert_eq!(ended.answer().status, 200, "{host}");
        }
    }
    assert_eq!(connections(&proxy.requests()), [0, 0]);
}

#[test]
fn many_origins_at_once_take_no_more_connections_than_slots() {
    let proxy = Origin::plain(|seen| ok(&seen.target));
    let mut settings = through("http", "", &proxy);
    settings.concurrency = 4;
    let mut reactor = Reactor::new(settings).unwrap();
    let urls: Vec<_> =
        (0..200).map(|nth| format!("http://{}/", IpAddr::from([9, 9, 9, nth]))).collect();
    for (ended, url) in run_all(&mut reactor, urls.iter().map(get)).iter().zip(&urls) {
        assert_eq!(ended.text(), url);
    }
    assert!(proxy.connections() <= 4, "{} connections", proxy.connections());
}
