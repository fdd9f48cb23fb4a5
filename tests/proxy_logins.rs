//! Digest at proxies, over real sockets: a challenge (407) is answered by one more attempt of the
//! same fetch, later requests and tunnels answer beforehand, and nothing of it reaches an origin
//! behind a tunnel. Whether the hashes are right is shown by `src/policy/auth/digest.rs`, and by
//! squid in `tests/real/proxies`.

#![cfg(all(feature = "digest", any(feature = "ring", feature = "aws-lc-rs")))]

mod driving;
mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use driving::{Ended, get, run, run_all, settings};
use support::{
    Asked, Origin, ProxyServer, ProxySetup, Reply, Seen, Setup, TlsSetup, ok, redirect, response,
};
use whippet::{Body, Kind, Phase, Proxies, Proxy, Reactor, Request, Settings};

const HIDDEN: &str = "origin.test";
const SECRET: &str = "canary7Q";

fn named(tls: bool) -> Origin {
    let tls = tls.then(|| TlsSetup::named(&[HIDDEN, "localhost"]));
    Origin::start(Setup { tls, ..Setup::default() }, |seen| ok(&seen.target))
}

/// A 407 with these challenges.
fn challenge(fields: &[&str]) -> String {
    let mut said = "HTTP/1.1 407 Who\r\nContent-Length: 2\r\n".to_owned();
    for field in fields {
        said.extend(["Proxy-Authenticate: ", field, "\r\n"]);
    }
    said + "\r\nno"
}

fn digest(nonce: &str, more: &str) -> String {
    format!("Digest realm=\"r\", qop=\"auth\", nonce=\"{nonce}\"{more}")
}

/// One part of an answer to a challenge.
fn part(value: &str, name: &str) -> Option<String> {
    let mut parts = value.strip_prefix("Digest ")?.split(", ").filter_map(|it| it.split_once('='));
    parts.find(|(given, _)| *given == name).map(|(_, value)| value.trim_matches('"').to_owned())
}

/// The nonce and its count, where it is an answer that fits what was asked.
fn answer(asked: &Asked) -> Option<(String, String)> {
    let value = asked.who.as_deref()?;
    assert_eq!(part(value, "username").as_deref(), Some("me"));
    assert_eq!(part(value, "uri").as_ref(), Some(&asked.to));
    assert!(part(value, "cnonce")?.len() >= 16 && part(value, "response")?.len() == 32);
    Some((part(value, "nonce")?, part(value, "nc")?))
}

/// Lets in whoever answers the nonce.
fn asking(nonce: &'static str) -> ProxySetup {
    let objects = move |asked: &Asked| match answer(asked) {
        Some((given, _)) if given == nonce => None,
        _ => Some(challenge(&["Basic realm=\"b\"", &digest(nonce, "")])),
    };
    ProxySetup { objects: Some(Box::new(objects)), ..ProxySetup::default() }
}

fn through(proxy: &ProxyServer, scheme: &str) -> Settings {
    by(proxy.address(), scheme)
}

fn by(address: SocketAddr, scheme: &str) -> Settings {
    let url = format!("{scheme}://me:{SECRET}@{address}");
    let mut settings = settings();
    settings.proxies = Proxies::all(Proxy::new(&url).unwrap().digest());
    settings
}

fn fetch(settings: Settings, request: Request) -> Ended {
    run(&mut Reactor::new(settings).unwrap(), request)
}

/// What an origin was shown of the proxy's login.
fn shown(seen: &Seen) -> Option<&str> {
    seen.header("proxy-authorization")
}

#[test]
fn a_challenge_is_answered_for_requests_and_for_tunnels() {
    for (scheme, tls) in [("http", false), ("http", true), ("https", false), ("https", true)] {
        let origin = named(tls);
        let with_tls = (scheme == "https").then(TlsSetup::default);
        let proxy =
            ProxyServer::start(origin.address(), ProxySetup { tls: with_tls, ..asking("n") });
        let mut reactor = Reactor::new(through(&proxy, scheme)).unwrap();
        let url = origin.url_at(HIDDEN, "/x?y");
        for attempts in [2, 1, 1] {
            let ended = run(&mut reactor, get(&url));
            assert!(ended.text().ends_with("/x?y"), "{scheme} {tls}");
            assert_eq!(ended.stats.attempts, attempts, "{scheme} {tls}");
        }
        let (first, second) = (&proxy.asked()[0], &proxy.asked()[1]);
        assert_eq!(first.who, None);
        assert_eq!(answer(second), Some(("n".to_owned(), "00000001".to_owned())));
        assert_eq!(proxy.asked().len(), 2);
        let requests = origin.requests();
        let counts = requests.iter().map(|seen| shown(seen).and_then(|value| part(value, "nc")));
        if tls {
            assert_eq!(counts.collect::<Vec<_>>(), [None, None, None]);
        } else {
            // The first head went through a proxy that does not take it out.
            let counts: Vec<_> = counts.flatten().collect();
            assert_eq!(counts, ["00000001", "00000002", "00000003"]);
        }
        assert_eq!(reactor.buffers(), 0);
    }
}

#[test]
fn one_login_on_one_connection_is_enough_for_all_origins() {
    let proxy = Origin::plain(|seen| match shown(seen) {
        None => Reply::new().send(challenge(&[&digest("n", "")])),
        Some(_) => ok(&seen.target),
    });
    let mut reactor = Reactor::new(by(proxy.address(), "http")).unwrap();
    for (url, attempts) in [("http://a.test/", 2), ("http://b.test/x", 1), ("http://a.test/", 1)] {
        let ended = run(&mut reactor, get(url));
        assert_eq!((ended.text(), ended.stats.attempts), (url, attempts));
    }
    let requests = proxy.requests();
    assert!(requests.iter().all(|seen| seen.connection == 0));
    let said =
        |seen: &Seen| shown(seen).map(|it| (part(it, "uri").unwrap(), part(it, "nc").unwrap()));
    let answer = |url: &str, count: &str| Some((url.to_owned(), count.to_owned()));
    assert_eq!(
        requests.iter().map(said).collect::<Vec<_>>(),
        [
            None,
            answer("http://a.test/", "00000001"),
            answer("http://b.test/x", "00000002"),
            answer("http://a.test/", "00000003"),
        ]
    );
}

#[test]
fn a_login_that_is_wrong_is_told_once() {
    for tls in [false, true] {
        let origin = named(tls);
        let objects = |_: &Asked| Some(challenge(&[&digest("n", "")]));
        let setup = ProxySetup { objects: Some(Box::new(objects)), ..ProxySetup::default() };
        let proxy = ProxyServer::start(origin.address(), setup);
        let mut settings = through(&proxy, "http");
        settings.retries = 2;
        let ended = fetch(settings, get(origin.url_at(HIDDEN, "/")));
        let error = ended.error();
        assert_eq!((error.kind(), error.phase()), (Kind::Proxy, Phase::Proxy), "{error}");
        assert!(error.to_string().contains("refused the user name"), "{error}");
        assert_eq!((error.is_transient(), error.attempts()), (false, 2));
        assert_eq!(proxy.asked().len(), 2);
        assert_eq!(origin.requests().len(), 0);
    }
}

#[test]
fn what_is_stale_is_answered_again_and_not_for_ever() {
    for tls in [false, true] {
        for (stales, attempts) in [(2, 4), (usize::MAX, 5)] {
            let origin = named(tls);
            let before = AtomicUsize::new(0);
            let objects = move |asked: &Asked| {
                let nth = before.fetch_add(1, Ordering::Relaxed);
                let nonce = format!("n{nth}");
                match answer(asked) {
                    None => Some(challenge(&[&digest(&nonce, "")])),
                    Some(_) if nth <= stales => Some(challenge(&[&digest(&nonce, ", stale=true")])),
                    Some(_) => None,
                }
            };
            let setup = ProxySetup { objects: Some(Box::new(objects)), ..ProxySetup::default() };
            let proxy = ProxyServer::start(origin.address(), setup);
            let ended = fetch(through(&proxy, "http"), get(origin.url_at(HIDDEN, "/")));
            assert_eq!(proxy.asked().len(), attempts, "{tls} {stales}");
            assert_eq!(ended.stats.attempts as usize, attempts);
            match (&ended.result, stales) {
                (Ok(answer), 2) => assert_eq!(answer.status, 200),
                (Ok(answer), _) => panic!("{} by {tls}", answer.status),
                (Err(error), _) => assert_eq!(error.kind(), Kind::Proxy),
            }
        }
    }
}

#[test]
fn a_login_for_digest_is_given_in_no_other_way() {
    for tls in [false, true] {
        for fields in [&["Basic realm=\"b\""][..], &[], &["Digest realm=\"r\""]] {
            let origin = named(tls);
            let said = challenge(fields);
            let objects = move |_: &Asked| Some(said.clone());
            let setup = ProxySetup { objects: Some(Box::new(objects)), ..ProxySetup::default() };
            let proxy = ProxyServer::start(origin.address(), setup);
            let ended = fetch(through(&proxy, "http"), get(origin.url_at(HIDDEN, "/")));
            assert!(ended.error().to_string().contains("asks for a user name"));
            assert_eq!(proxy.asked().iter().map(|it| &it.who).collect::<Vec<_>>(), [&None]);
        }
    }
}

#[test]
fn each_tunnel_of_many_has_an_answer_of_its_own() {
    let origin = named(true);
    let proxy = ProxyServer::start(origin.address(), asking("n"));
    let mut reactor = Reactor::new(through(&proxy, "http")).unwrap();
    let urls = (0..20).map(|n| get(origin.url_at(HIDDEN, &format!("/{n}"))));
    for ended in run_all(&mut reactor, urls) {
        assert_eq!(ended.answer().status, 200);
        assert!(ended.stats.attempts <= 2);
    }
    let asked = proxy.asked();
    let answers = asked.iter().filter(|it| answer(it).is_some());
    // Sessions that began at the same time count from one each; their own nonces tell them apart.
    let mut counts: Vec<_> = answers
        .map(|it| ["cnonce", "nc"].map(|name| part(it.who.as_deref().unwrap(), name).unwrap()))
        .collect();
    let answered = counts.len();
    counts.sort();
    counts.dedup();
    assert!(answered >= 1 && counts.len() == answered, "{counts:?}");
    assert!(origin.requests().iter().all(|seen| shown(seen).is_none()));
}

#[test]
fn an_origin_and_the_proxy_before_it_may_both_ask() {
    for tls in [false, true] {
        let tls_setup = tls.then(|| TlsSetup::named(&[HIDDEN]));
        let origin = Origin::start(Setup { tls: tls_setup, ..Setup::default() }, |seen| match seen
            .header("authorization")
            .and_then(|value| part(value, "nonce"))
        {
            Some(nonce) => ok(nonce),
            None => response(401, &[("WWW-Authenticate", &digest("origins", ""))], "no"),
        });
        let proxy = ProxyServer::start(origin.address(), asking("proxys"));
        let mut reactor = Reactor::new(through(&proxy, "http")).unwrap();
        let request = get(origin.url_at(HIDDEN, "/")).digest_auth("me", "hush").unwrap();
        for attempts in [3, 1] {
            let ended = run(&mut reactor, request.clone());
            assert_eq!((ended.text(), ended.stats.attempts), ("origins", attempts), "{tls}");
        }
        for seen in origin.requests() {
            let nonce = shown(&seen).and_then(|value| part(value, "nonce"));
            assert_eq!(nonce.as_deref(), (!tls).then_some("proxys"));
        }
    }
}

#[test]
fn a_challenge_is_final_where_the_body_cannot_be_sent_again() {
    let origin = named(false);
    let proxy = ProxyServer::start(origin.address(), asking("n"));
    let request = Request::post(origin.url_at(HIDDEN, "/")).unwrap().collect(true);
    let ended = fetch(through(&proxy, "http"), request.body(Body::reader(&b"once"[..])));
    let error = ended.error();
    assert_eq!((error.kind(), error.attempts()), (Kind::Proxy, 1));
    assert!(error.is_body_spent() && error.to_string().contains("asks for a user name"), "{error}");
    assert_eq!(origin.requests().len(), 0);
}

#[test]
fn a_redirect_is_answered_at_the_proxy_and_to_nobody_else() {
    let end = named(false);
    let to = end.url("/end");
    let origin = Origin::plain(move |_| redirect(302, &to));
    let proxy = ProxyServer::start(origin.address(), asking("n"));
    let mut settings = through(&proxy, "http");
    settings.proxies = settings.proxies.except("127.0.0.1");
    let ended = fetch(settings, get(origin.url_at(HIDDEN, "/")));
    assert_eq!((ended.text(), ended.stats.attempts), ("/end", 3));
    let seen = &end.requests()[0];
    assert_eq!((shown(seen), seen.header("authorization")), (None, None));
}

#[test]
fn a_next_nonce_that_the_proxy_tells_is_taken() {
    let origin = Origin::plain(|_| {
        let field = ("Proxy-Authentication-Info", "nextnonce=\"next\"");
        response(200, &[field], "in")
    });
    let proxy = ProxyServer::start(origin.address(), asking("n"));
    let mut reactor = Reactor::new(through(&proxy, "http")).unwrap();
    for _ in 0..2 {
        assert_eq!(run(&mut reactor, get(origin.url_at(HIDDEN, "/"))).text(), "in");
    }
    let nonce = |seen: &Seen| shown(seen).and_then(|value| part(value, "nonce"));
    let nonces: Vec<_> = origin.requests().iter().filter_map(nonce).collect();
    assert_eq!(nonces, ["n", "next"]);
}

#[test]
fn a_body_goes_with_the_answer_and_is_not_taken_for_a_tunnel() {
    // It takes requests as a proxy does, and answers them itself.
    let proxy = Origin::plain(|seen| match shown(seen) {
        Some(_) => ok(&seen.body),
        None => response(407, &[("Proxy-Authenticate", &digest("n", ""))], "who?"),
    });
    let mut settings = settings();
    let url = format!("http://me:{SECRET}@{}", proxy.address());
    settings.proxies = Proxies::all(Proxy::new(&url).unwrap().digest());
    let request = Request::post("http://origin.test/").unwrap().body("a body").collect(true);
    let ended = fetch(settings, request);
    assert_eq!((ended.text(), ended.stats.attempts), ("a body", 2));
    assert_eq!(proxy.connections(), 1);
    let tls = Some(TlsSetup::named(&[HIDDEN]));
    let origin = Origin::start(Setup { tls, ..Setup::default() }, |seen| ok(&seen.body));
    let proxy = ProxyServer::start(origin.address(), asking("n"));
    let request = Request::post(origin.url_at(HIDDEN, "/")).unwrap().collect(true);
    let once = Body::reader(&b"a body"[..]);
    let ended = fetch(through(&proxy, "http"), request.body(once));
    assert_eq!((ended.text(), ended.stats.attempts), ("a body", 2));
}
