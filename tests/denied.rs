//! `deny_private`: which connections are never begun, and what is told in their place.

mod driving;
mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use driving::{Control, Whims, World, asking, get, ips, run, run_all, settings};
use support::{DnsReply, DnsServer, Origin, QueryType, Setup, ok, redirect};
use whippet::net::ResolverFiles;
use whippet::{Kind, Phase, Reactor, Request, Resolve, Settings};

/// An address that anyone may have; connections to it are led to loopback.
const PUBLIC: &str = "93.184.215.14";

fn denying(mut settings: Settings) -> Settings {
    settings.deny_private = true;
    settings
}

/// A world in which [`PUBLIC`], at the origin's port, is the origin.
fn leading_to(origin: &Origin) -> Control {
    let public = SocketAddr::new(PUBLIC.parse().unwrap(), origin.port());
    Control::new(Whims { detours: [(public, origin.address())].into(), ..Whims::default() })
}

fn assert_denied(reactor: &mut Reactor<World>, request: Request, named: &str) {
    let what = format!("{request:?}");
    let ended = run(reactor, request);
    let error = ended.error();
    assert_eq!((error.kind(), error.phase()), (Kind::Denied, Phase::Connect), "{what}: {error}");
    assert!(error.to_string().contains(named), "{what}: {error}");
    // Trying again would not help, so it was tried once.
    assert_eq!((error.attempts(), error.is_transient()), (1, false), "{what}");
    assert_eq!(error.kind().as_str(), "denied");
}

#[test]
fn however_a_private_address_is_come_by_nobody_connects_to_it() {
    let origin = Origin::plain(|_| ok("reached"));
    let port = origin.port();
    let dns = DnsServer::start(|question| match question.kind {
        QueryType::A => DnsReply::Answer(ips(&["127.0.0.1", "10.0.0.1"]), 60),
        _ => DnsReply::Answer(ips(&["::1", "fd00::1", "::ffff:127.0.0.1"]), 60),
    });
    let files =
        ResolverFiles { hosts: Some(b"127.0.0.1 in.hosts\n".to_vec()), ..Default::default() };
    let control = Control::new(Whims { files, ..Whims::default() });
    let mut settings = denying(asking(&[&dns]));
    settings.retries = 3;
    let address = "127.0.0.1".parse().unwrap();
    settings.resolve.push(Resolve { host: "set.test".to_owned(), port, address });
    let mut reactor = control.reactor(settings);
    for (host, named) in [
        ("127.0.0.1", "127.0.0.1 (loopback)"),
        ("2130706433", "127.0.0.1 (loopback)"),
        ("0", "0.0.0.0 (unspecified)"),
        ("169.254.169.254", "169.254.169.254 (link-local)"),
        ("[::1]", "::1 (loopback)"),
        ("[::ffff:127.0.0.1]", "(loopback)"),
        ("[64:ff9b::7f00:1]", "(loopback)"),
        ("localhost", "(loopback)"),
        ("a.localhost", "(loopback)"),
        ("in.hosts", "no address of in.hosts may be contacted: 127.0.0.1 (loopback)"),
        ("set.test", "127.0.0.1 (loopback)"),
        ("by.dns", "10.0.0.1 (private use)"),
        // The second time it is known already.
        ("by.dns", "fd00::1 (unique local)"),
    ] {
        assert_denied(&mut reactor, get(origin.url_at(host, "/")), named);
    }
    let own = get(origin.url_at("own.test", "/")).resolve("own.test", port, address).unwrap();
    assert_denied(&mut reactor, own, "127.0.0.1 (loopback)");
    assert_eq!(control.with(|whims| whims.dialled.clone()), []);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_redirect_to_a_private_address_is_not_followed() {
    let inside = Origin::plain(|_| ok("secret"));
    let (by_address, by_name) = (inside.url("/"), inside.url_at("in.hosts", "/"));
    let outside = Origin::plain(move |seen| match &seen.target[..] {
        "/address" => redirect(302, &by_address),
        "/name" => redirect(307, &by_name),
        "/twice" => redirect(302, "/address"),
        _ => ok("public"),
    });
    let control = leading_to(&outside);
    control.with(|whims| whims.files.hosts = Some(b"127.0.0.1 in.hosts\n".to_vec()));
    let mut reactor = control.reactor(denying(settings()));
    let ended = run(&mut reactor, get(outside.url_at(PUBLIC, "/")));
    assert_eq!(ended.text(), "public");
    for (path, attempts) in [("/address", 2), ("/name", 2), ("/twice", 3)] {
        let ended = run(&mut reactor, get(outside.url_at(PUBLIC, path)));
        assert_eq!(ended.error().kind(), Kind::Denied, "{path}");
        assert_eq!((ended.error().attempts(), ended.stats.redirects), (attempts, attempts - 1));
    }
    let public = SocketAddr::new(PUBLIC.parse().unwrap(), outside.port());
    assert!(control.with(|whims| whims.dialled.iter().all(|dialled| *dialled == public)));
    assert_eq!(inside.connections(), 0);
}

#[test]
fn of_a_names_addresses_those_that_are_allowed_are_used() {
    let origin = Origin::plain(|_| ok("public"));
    let dns = DnsServer::start(|question| match question.kind {
        QueryType::A => DnsReply::Answer(ips(&["127.0.0.1", PUBLIC, "192.168.0.1"]), 60),
        _ => DnsReply::Answer(ips(&["::1", "fe80::1"]), 60),
    });
    let control = leading_to(&origin);
    let mut reactor = control.reactor(denying(asking(&[&dns])));
    assert_eq!(run(&mut reactor, get(origin.url_at("mixed.test", "/"))).text(), "public");
    let public = SocketAddr::new(PUBLIC.parse().unwrap(), origin.port());
    assert_eq!(control.with(|whims| whims.dialled.clone()), [public]);
}

/// A name that first leads outside and then inside (DNS rebinding) is judged each time.
#[test]
fn a_name_that_changes_its_mind_is_denied() {
    let origin = Origin::plain(|_| ok("public").close());
    let asked = AtomicUsize::new(0);
    let dns = DnsServer::start(move |question| match question.kind {
        QueryType::A if asked.fetch_add(1, Ordering::Relaxed) == 0 => {
            DnsReply::Answer(ips(&[PUBLIC]), 1)
        }
        QueryType::A => DnsReply::Answer(ips(&["127.0.0.1"]), 1),
        _ => DnsReply::Answer(Vec::new(), 1),
    });
    let control = leading_to(&origin);
    let mut settings = denying(asking(&[&dns]));
    settings.idle_connections_max = 0;
    let mut reactor = control.reactor(settings);
    let url = origin.url_at("rebound.test", "/");
    assert_eq!(run(&mut reactor, get(&url)).text(), "public");
    control.skip(std::time::Duration::from_secs(2));
    assert_denied(&mut reactor, get(&url), "127.0.0.1 (loopback)");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_request_that_denies_takes_no_connection_of_one_that_does_not() {
    let origin = Origin::plain(|_| ok("reached"));
    let control = Control::default();
    let mut reactor = control.reactor(settings());
    let url = origin.url("/");
    assert_eq!(run(&mut reactor, get(&url)).text(), "reached");
    assert_eq!(reactor.idle_connections(), 1);
    assert_denied(&mut reactor, get(&url).deny_private(true), "loopback");
    // While another dials there, too.
    let requests = [get(&url), get(&url).deny_private(true), get(&url), get(&url)];
    let ended = run_all(&mut reactor, requests);
    let denied = |ended: &driving::Ended| ended.result.is_err();
    assert_eq!(ended.iter().map(denied).collect::<Vec<_>>(), [false, true, false, false]);
    assert_eq!(ended[1].error().kind(), Kind::Denied);
    // The request's word is the last, as with its other choices.
    let mut reactor = Control::default().reactor(denying(settings()));
    assert_eq!(run(&mut reactor, get(&url).deny_private(false)).text(), "reached");
    assert_denied(&mut reactor, get(&url), "loopback");
    // A route made anew keeps what was said.
    let address = "127.0.0.1".parse().unwrap();
    let rerouted = get(&url).deny_private(true).resolve("a.test", 80, address).unwrap();
    assert_denied(&mut Control::default().reactor(settings()), rerouted, "loopback");
}

/// A redirect of a request that denies by itself: the choice goes along.
#[test]
fn a_requests_own_choice_holds_behind_a_redirect() {
    let inside = Origin::plain(|_| ok("secret"));
    let location = inside.url("/");
    let outside = Origin::plain(move |_| redirect(302, &location));
    let mut reactor = leading_to(&outside).reactor(settings());
    let request = get(outside.url_at(PUBLIC, "/"));
    let ended = run(&mut reactor, request.clone().deny_private(true));
    assert_eq!(ended.error().kind(), Kind::Denied);
    assert_eq!(inside.connections(), 0);
    assert_eq!(run(&mut reactor, request).text(), "secret");
}

#[test]
fn over_tls_it_is_the_same() {
    let origin = Origin::start(
        Setup { tls: Some(support::TlsSetup::default()), ..Setup::default() },
        |_| ok("reached"),
    );
    let mut reactor = Control::default().reactor(denying(settings()));
    assert_denied(&mut reactor, get(origin.url("/")), "loopback");
    assert_eq!(origin.connections(), 0);
}
