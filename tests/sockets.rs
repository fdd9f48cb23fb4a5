//! Sockets that are not the usual: over a path of the file system, from an address of one's own,
//! through an interface; and fetches that are led elsewhere than their URLs say. What differs in
//! any of it never shares a connection.

#![cfg(all(unix, any(feature = "ring", feature = "aws-lc-rs")))]

mod driving;
mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use driving::{asking, get, ips, run, run_all, settings};
use support::{
    Asked, DnsReply, DnsServer, Door, Origin, ProxyServer, ProxySetup, QueryType, Reply, Seen,
    Setup, TlsSetup, ok, redirect, refused_port,
};
use whippet::{
    Client, ConnectTo, Kind, Proxies, Proxy, Reactor, Request, Settings, SocketSettings,
};

fn echo(seen: &Seen) -> Reply {
    ok(format!("{} {}", seen.header("host").unwrap_or_default(), seen.target))
}

fn over(path: &Path) -> Arc<SocketSettings> {
    SocketSettings::new().with_unix_socket(path).into()
}

fn led(text: &str) -> ConnectTo {
    ConnectTo::new(text).unwrap()
}

/// The URL of a server that answers with the address that it was connected from, and how many
/// connections it has had. It ends with the tests.
fn telling_from_where() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            let from = stream.peer_addr().unwrap().ip().to_string();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{from}", from.len());
            thread::spawn(move || {
                while stream.read(&mut [0; 4_096]).is_ok_and(|count| count > 0) {
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            });
        }
    });
    (url, connections)
}

#[test]
fn any_host_is_asked_over_a_socket_of_the_file_system() {
    let origin = Origin::plain(echo);
    let door = Door::to(origin.address());
    let mut settings = settings();
    settings.sockets = over(door.path());
    // Nothing is looked up, and no proxy is asked.
    settings.proxies = Proxies::all(Proxy::new("http://127.0.0.1:1").unwrap());
    let mut reactor = Reactor::new(settings).unwrap();
    for nth in 0..3 {
        let ended = run(&mut reactor, get("http://a.invalid/x?y"));
        assert_eq!(ended.text(), "a.invalid /x?y");
        assert_eq!((ended.stats.remote, ended.stats.reused), (None, nth > 0));
    }
    assert_eq!(run(&mut reactor, get("http://b.invalid:81/")).text(), "b.invalid:81 /");
    assert_eq!(door.opened(), 2);
}

#[test]
fn tls_and_bodies_go_over_a_socket_of_the_file_system() {
    let body = "0123456789abcdef".repeat(100_000);
    let sent = body.clone();
    let tls = Some(TlsSetup::named(&["a.invalid"]));
    let origin = Origin::start(Setup { tls, ..Setup::default() }, move |seen| {
        assert_eq!(seen.body.len(), 300_000);
        ok(&sent)
    });
    let door = Door::to(origin.address());
    let mut reactor = Reactor::new(settings()).unwrap();
    let request = Request::post("https://a.invalid/").unwrap().body(vec![b'b'; 300_000]);
    let request = request.collect(true).sockets(over(door.path()));
    for ended in run_all(&mut reactor, vec![request; 4]) {
        assert!(ended.text() == body);
    }
}

#[test]
fn a_redirect_stays_on_the_socket_that_it_came_over() {
    let origin = Origin::plain(|seen| match &*seen.target {
        "/from" => redirect(302, "http://elsewhere.invalid/to"),
        _ => echo(seen),
    });
    let door = Door::to(origin.address());
    let request = get("http://a.invalid/from").sockets(over(door.path()));
    let ended = run(&mut Reactor::new(settings()).unwrap(), request);
    assert_eq!(ended.text(), "elsewhere.invalid /to");
}

#[test]
fn connections_are_not_shared_between_paths_and_addresses() {
    let origin = Origin::plain(echo);
    let doors = [Door::to(origin.address()), Door::to(origin.address())];
    let mut reactor = Reactor::new(settings()).unwrap();
    let url = origin.url("/");
    let by = |path: &Path| get(&url).sockets(over(path));
    for request in [by(doors[0].path()), by(doors[1].path()), get(&url), by(doors[0].path())] {
        run(&mut reactor, request);
    }
    assert_eq!(doors.each_ref().map(Door::opened), [1, 1]);
    assert_eq!(origin.connections(), 3);
}

#[test]
fn a_path_where_nobody_listens_is_named_and_denied_where_all_private_is() {
    let mut reactor = Reactor::new(settings()).unwrap();
    let nowhere = Path::new("/nowhere/at.sock");
    let ended = run(&mut reactor, get("http://a.invalid/").sockets(over(nowhere)));
    assert_eq!(ended.error().kind(), Kind::Connect);
    let said = ended.error().to_string();
    assert_eq!(
        said,
        "could not connect to /nowhere/at.sock: No such file or directory (os error 2)"
    );
    let long = "x".repeat(200);
    let ended = run(&mut reactor, get("http://a.invalid/").sockets(over(Path::new(&long))));
    assert_eq!(ended.error().kind(), Kind::Connect, "{:?}", ended.error());
    let origin = Origin::plain(echo);
    let door = Door::to(origin.address());
    let denied = get("http://a.invalid/").sockets(over(door.path())).deny_private(true);
    assert_eq!(run(&mut reactor, denied).error().kind(), Kind::Denied);
    assert_eq!(door.opened(), 0);
}

#[test]
fn a_full_list_of_those_who_wait_at_a_path_fails_nobody_else() {
    let origin = Origin::plain(echo);
    let door = Door::to(origin.address());
    let mut settings = settings();
    settings.concurrency = 512;
    settings.retries = 10;
    settings.sockets = over(door.path());
    let mut reactor = Reactor::new(settings).unwrap();
    let requests = (0..512).map(|n| get(format!("http://a.invalid/{n}")));
    for (nth, ended) in run_all(&mut reactor, requests).into_iter().enumerate() {
        match &ended.result {
            Ok(_) => assert_eq!(ended.text(), format!("a.invalid /{nth}")),
            Err(error) => assert_eq!(error.kind(), Kind::Connect, "{error}"),
        }
    }
}

#[test]
fn a_client_connects_from_an_address_and_through_an_interface() {
    let (url, connections) = telling_from_where();
    let mut settings = settings();
    let here = IpAddr::from([127, 0, 0, 7]);
    settings.sockets = SocketSettings::new().with_local_address(here).into();
    let mut client = Client::with_settings(settings.clone()).unwrap();
    assert_eq!(client.get(&url).unwrap().text(), "127.0.0.7");
    // Another address, or none, is another connection.
    let mut reactor = Reactor::new(settings).unwrap();
    let other = SocketSettings::new().with_local_address([127, 0, 0, 8].into());
    for (sockets, from) in [
        (None, "127.0.0.7"),
        (Some(other.clone()), "127.0.0.8"),
        (Some(SocketSettings::new()), "127.0.0.1"),
        (Some(other), "127.0.0.8"),
    ] {
        let request = get(&url);
        let request = match sockets {
            Some(sockets) => request.sockets(sockets.into()),
            None => request,
        };
        assert_eq!(run(&mut reactor, request).text(), from);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 4);
}

#[cfg(target_os = "linux")]
#[test]
fn an_interface_that_is_there_is_taken_and_another_is_named() {
    let origin = Origin::plain(echo);
    let mut reactor = Reactor::new(settings()).unwrap();
    let second = Duration::from_secs(1);
    let through = |name: &str| {
        let sockets = SocketSettings::new().with_interface(name).with_user_timeout(20 * second);
        get(origin.url("/")).sockets(sockets.with_keep_alive(second, second, 3).into())
    };
    run(&mut reactor, through("lo")).answer();
    let ended = run(&mut reactor, through("no-such-0"));
    let error = ended.error();
    assert_eq!(error.kind(), Kind::Connect);
    assert!(error.to_string().contains("interface no-such-0: No such device"), "{error}");
    assert_eq!(error.tried().len(), 1);
}

#[test]
fn an_address_that_is_not_here_fails_at_once_and_again() {
    let origin = Origin::plain(echo);
    let mut reactor = Reactor::new(settings()).unwrap();
    run(&mut reactor, get(origin.url("/"))).answer();
    for from in ["192.0.2.1", "::1"] {
        let sockets = SocketSettings::new().with_local_address(from.parse().unwrap());
        let ended = run(&mut reactor, get(origin.url("/")).sockets(sockets.into()));
        assert_eq!(ended.error().kind(), Kind::Connect, "{from}: {:?}", ended.error());
        assert!(ended.error().to_string().contains("local address"), "{:?}", ended.error());
    }
}

#[test]
fn a_fetch_is_led_to_another_host_and_keeps_its_name() {
    let origin =
        Origin::start(Setup { tls: Some(TlsSetup::named(&["a.test"])), ..Setup::default() }, echo);
    let dns = DnsServer::start(|question| match (&*question.name, question.kind) {
        ("b.test", QueryType::A) => DnsReply::Answer(ips(&["127.0.0.1"]), 60),
        ("b.test", _) => DnsReply::Answer(Vec::new(), 60),
        _ => DnsReply::NxDomain(60),
    });
    let entry = led(&format!("a.test:443:b.test:{}", origin.port()));
    let mut settings = asking(&[&dns]);
    settings.connect_to = vec![entry];
    let mut reactor = Reactor::new(settings).unwrap();
    assert_eq!(run(&mut reactor, get("https://a.test/")).text(), "a.test /");
    assert_eq!(origin.requests().len(), 1);
    // What it is not about goes where it did: to a name that is not there.
    let ended = run(&mut reactor, get("https://c.test/"));
    assert_eq!(ended.error().kind(), Kind::Dns);
    let names = dns.questions().into_iter().map(|question| question.name);
    assert!(!names.collect::<Vec<_>>().contains(&"a.test".to_owned()));
}

#[test]
fn an_address_for_the_other_host_counts() {
    let origin = Origin::plain(echo);
    let port = origin.port();
    let here = IpAddr::from(Ipv4Addr::LOCALHOST);
    let mut reactor = Reactor::new(settings()).unwrap();
    let entry = || led(&format!("a.invalid:80:b.invalid:{port}"));
    let request = get("http://a.invalid/").resolve("b.invalid", port, here).unwrap();
    assert_eq!(run(&mut reactor, request.connect_to(entry())).text(), "a.invalid /");
    // In whichever order they are given.
    let request = get("http://a.invalid/").connect_to(entry());
    let request = request.resolve("b.invalid", port, here).unwrap();
    let ended = run(&mut reactor, request);
    assert_eq!((ended.text(), ended.stats.reused), ("a.invalid /", true));
}

#[test]
fn connections_are_shared_only_by_what_is_led_to_the_same_place() {
    let origins = [Origin::plain(|_| ok("one")), Origin::plain(|_| ok("two"))];
    let to = |nth: usize| led(&format!("::127.0.0.1:{}", origins[nth].port()));
    let mut settings = settings();
    settings.connect_to = vec![to(0)];
    let mut reactor = Reactor::new(settings).unwrap();
    let url = "http://a.invalid/";
    for (request, text) in [
        (get(url), "one"),
        (get(url).connect_to(to(1)), "two"),
        (get(url).connect_to(led("b.invalid:::1")), "one"),
        (get(url).connect_to(to(0)), "one"),
        (get(url).connect_to(to(1)).connect_to(to(0)), "two"),
    ] {
        assert_eq!(run(&mut reactor, request).text(), text);
    }
    assert_eq!(origins.each_ref().map(Origin::connections), [1, 1]);
}

#[test]
fn a_redirect_is_led_by_where_it_goes() {
    let end = Origin::plain(echo);
    let start = Origin::plain(|_| redirect(302, "http://b.invalid/to"));
    let mut settings = settings();
    settings.connect_to = vec![
        led(&format!("b.invalid:80:127.0.0.1:{}", end.port())),
        led(&format!(":80:127.0.0.1:{}", start.port())),
    ];
    let ended = run(&mut Reactor::new(settings).unwrap(), get("http://a.invalid/"));
    assert_eq!(ended.text(), "b.invalid /to");
}

#[test]
fn a_proxy_is_asked_for_a_tunnel_to_the_other_host() {
    let origin = Origin::plain(echo);
    for (scheme, how) in [("http", "CONNECT"), ("socks5h", "SOCKS5")] {
        let proxy = ProxyServer::start(origin.address(), ProxySetup::default());
        let mut settings: Settings = settings();
        let url = format!("{scheme}://{}", proxy.address());
        settings.proxies = Proxies::all(Proxy::new(&url).unwrap());
        settings.connect_to = vec![led("a.invalid:80:b.invalid:81")];
        let ended = run(&mut Reactor::new(settings).unwrap(), get("http://a.invalid/x"));
        assert_eq!(ended.text(), "a.invalid /x", "{scheme}");
        let asked = Asked { how: how.to_owned(), to: "b.invalid:81".to_owned(), who: None };
        assert_eq!(proxy.asked(), [asked]);
    }
}

#[test]
fn what_cannot_be_reached_is_named_and_what_is_private_denied() {
    let refusing = refused_port();
    let mut reactor = Reactor::new(settings()).unwrap();
    let entry = led(&format!("::127.0.0.1:{}", refusing.port()));
    let ended = run(&mut reactor, get("http://a.invalid/").connect_to(entry.clone()));
    assert!(ended.error().to_string().contains(&refusing.to_string()), "{:?}", ended.error());
    let ended = run(&mut reactor, get("http://192.0.2.1/").connect_to(entry).deny_private(true));
    assert_eq!(ended.error().kind(), Kind::Denied);
    assert!(ended.error().to_string().contains("127.0.0.1 (loopback)"), "{:?}", ended.error());
}
