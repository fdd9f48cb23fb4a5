//! Dialling through the whole reactor: addresses that refuse, swallow or answer, races, and what
//! becomes of sockets that nobody waits for any more.

mod driving;
mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::time::Duration;

use driving::{
    Control, Whims, asking, begin, drive, get, ips, run, run_all, run_until, settings, settle,
    submit, turn,
};
use socket2::{Domain, Socket, Type};
use support::{
    DnsReply, DnsServer, Latch, Origin, QueryType, Reply, Setup, blackhole, ok, redirect,
};
use whippet::{Kind, Limit, Phase, Reactor};

const ECONNREFUSED: i32 = 111;

/// Answers for every name with these addresses, in this order.
fn dns(addresses: &[&str]) -> DnsServer {
    let addresses = ips(addresses);
    DnsServer::start(move |_| DnsReply::Answer(addresses.clone(), 60))
}

/// An origin at this address.
fn origin_at(address: SocketAddr) -> Origin {
    Origin::start(Setup { address, ..Setup::default() }, |seen| ok(&seen.target))
}

/// A port of loopback that refuses for as long as the socket lives: it is bound, and nobody
/// listens.
fn refusing() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

#[test]
fn a_refused_address_is_followed_by_the_next_at_once() {
    for refused in ["::1", "127.0.0.2"] {
        let origin = origin_at("127.0.0.1:0".parse().unwrap());
        let dns = dns(&[refused, "127.0.0.1"]);
        let control = Control::default();
        let mut reactor = control.reactor(asking(&[&dns]));
        let ended = run(&mut reactor, get(origin.url_at("a.test", "/x")));
        assert_eq!((ended.text(), ended.stats.attempts), ("/x", 1));
        assert_eq!(ended.stats.remote, Some(origin.address()));
        let dialled = control.with(|whims| whims.dialled.clone());
        assert_eq!(dialled, [SocketAddr::new(ips(&[refused])[0], origin.port()), origin.address()]);
        assert_eq!(reactor.connections(), 1);
    }
}

#[test]
fn where_all_refuse_each_is_named_with_its_errno() {
    let (_socket, address) = refusing();
    let dns = dns(&["127.0.0.1", "127.0.0.2", "::1"]);
    let mut reactor = Reactor::new(asking(&[&dns])).unwrap();
    let port = address.port();
    let ended = run(&mut reactor, get(format!("http://a.test:{port}/")));
    let error = ended.error();
    assert_eq!((error.kind(), error.phase(), error.attempts()), (Kind::Connect, Phase::Connect, 1));
    assert!(error.is_transient());
    let tried: Vec<_> = error.tried().iter().map(|tried| (tried.address, tried.errno)).collect();
    let expected = ["::1", "127.0.0.1", "127.0.0.2"]
        .map(|ip| (SocketAddr::new(ips(&[ip])[0], port), Some(ECONNREFUSED)));
    assert_eq!(tried, expected);
    assert_eq!(error.errno(), Some(ECONNREFUSED));
    let said = error.to_string();
    assert!(
        said.starts_with(&format!("could not connect to a.test:{port}: [::1]:{port} ")),
        "{said}"
    );
    assert_eq!(reactor.connections(), 0);
}

#[test]
fn a_refusal_is_retried_and_the_last_attempts_addresses_are_told() {
    let (_socket, address) = refusing();
    let control = Control::default();
    let mut reactor = control.reactor(settings());
    // POST too: nothing was sent.
    let request = whippet::Request::post(format!("http://{address}/")).unwrap().body("x");
    submit(&mut reactor, request.collect(true).retries(2));
    let mut ended = Vec::new();
    while reactor.pending() > 0 {
        ended.extend(turn(&mut reactor, Some(Duration::from_millis(10))));
        control.skip(Duration::from_millis(500));
    }
    let error = ended[0].error();
    assert_eq!((error.kind(), error.attempts(), error.tried().len()), (Kind::Connect, 3, 1));
    assert_eq!(control.with(|whims| whims.dialled.len()), 3);
}

#[test]
fn an_origin_that_comes_back_is_found_by_a_retry() {
    let (socket, address) = refusing();
    let control = Control::default();
    let mut reactor = control.reactor(settings());
    submit(&mut reactor, get(format!("http://{address}/x")).retries(1));
    assert!(begin(&mut reactor).is_empty());
    run_until(&mut reactor, |reactor| reactor.waiting() == 1);
    socket.listen(1).unwrap();
    let listener = TcpListener::from(socket);
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 1024];
        assert!(stream.read(&mut head).unwrap() > 0);
        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
        stream.write_all(response).unwrap();
    });
    control.skip(Duration::from_secs(10));
    let ended = drive(&mut reactor).pop().unwrap();
    assert_eq!((ended.text(), ended.stats.attempts), ("ok", 2));
    serving.join().unwrap();
}

#[test]
fn an_address_that_never_answers_loses_to_the_next() {
    let hole = blackhole();
    let origin = origin_at(SocketAddr::from(([127, 0, 0, 2], hole.address.port())));
    let dns = dns(&["127.0.0.1", "127.0.0.2"]);
    let control = Control::default();
    let mut reactor = control.reactor(asking(&[&dns]));
    submit(&mut reactor, get(origin.url_at("a.test", "/")));
    run_until(&mut reactor, |reactor| reactor.connections() == 1);
    assert_eq!(control.with(|whims| whims.dialled.clone()), [hole.address]);
    // After the stagger a second socket races; it wins, and the first is closed.
    control.skip(Duration::from_millis(250));
    let ended = drive(&mut reactor).pop().unwrap();
    assert_eq!(ended.stats.remote, Some(origin.address()));
    assert_eq!((reactor.connections(), reactor.idle_connections()), (1, 1));
    assert_eq!(control.with(|whims| whims.dialled.clone()), [hole.address, origin.address()]);
    assert_eq!(ended.stats.attempts, 1);
}

#[test]
fn at_most_three_sockets_race() {
    let hole = blackhole();
    let port = hole.address.port();
    // Holes at five addresses of one port.
    let holes: Vec<_> = (2..=5).map(|last| hole_at([127, 0, 0, last], port)).collect();
    let all = DnsServer::start(|_| {
        DnsReply::Answer(
            ips(&["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"]),
            60,
        )
    });
    let control = Control::default();
    let mut reactor = control.reactor(asking(&[&all]));
    let request = get(format!("http://a.test:{port}/"));
    submit(&mut reactor, request.limit(Limit::Connect, Duration::from_secs(9)));
    for racing in [1, 2, 3, 3, 3] {
        run_until(&mut reactor, |reactor| reactor.connections() == racing);
        control.skip(Duration::from_millis(250));
        assert!(begin(&mut reactor).is_empty());
    }
    control.skip(Duration::from_secs(9));
    let ended = drive(&mut reactor).pop().unwrap();
    let error = ended.error();
    assert_eq!((error.kind(), error.limit()), (Kind::Timeout, Some(Limit::Connect)));
    assert_eq!(error.phase(), Phase::Connect);
    let tried: Vec<_> = error.tried().iter().map(|tried| tried.address.ip()).collect();
    assert_eq!(tried, ips(&["127.0.0.1", "127.0.0.2", "127.0.0.3"]));
    assert!(error.tried().iter().all(|tried| tried.errno.is_none()));
    assert_eq!(reactor.connections(), 0);
    drop(holes);
}

/// As [`blackhole`], at an address and port.
fn hole_at(ip: [u8; 4], port: u16) -> Vec<Socket> {
    let address = SocketAddr::from((ip, port)).into();
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&address).unwrap();
    listener.listen(0).unwrap();
    let mut sockets = vec![listener];
    for _ in 0..5 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        if sockets.len() == 1 {
            socket.connect(&address).unwrap();
        } else {
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address);
        }
        sockets.push(socket);
    }
    sockets
}

#[test]
fn a_refusal_and_a_hole_are_both_told() {
    let hole = blackhole();
    let dns = dns(&["127.0.0.2", "127.0.0.1"]);
    let mut reactor = Reactor::new(asking(&[&dns])).unwrap();
    let request = get(format!("http://a.test:{}/", hole.address.port()));
    let ended = run(&mut reactor, request.limit(Limit::Connect, Duration::from_millis(100)));
    let error = ended.error();
    assert_eq!((error.kind(), error.limit()), (Kind::Timeout, Some(Limit::Connect)));
    let tried: Vec<_> = error.tried().iter().map(|t| (t.address.ip(), t.errno)).collect();
    let expected = [(ips(&["127.0.0.2"])[0], Some(ECONNREFUSED)), (ips(&["127.0.0.1"])[0], None)];
    assert_eq!(tried, expected);
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
}

#[test]
fn the_total_limit_ends_a_dial_too() {
    let hole = blackhole();
    let mut reactor = Reactor::new(settings()).unwrap();
    let request = get(format!("http://{}/", hole.address)).retries(5);
    let ended = run(&mut reactor, request.timeout(Duration::from_millis(80)));
    let error = ended.error();
    assert_eq!((error.limit(), error.phase()), (Some(Limit::Total), Phase::Connect));
    assert_eq!((error.attempts(), error.tried().len()), (1, 1));
    assert_eq!(reactor.connections(), 0);
}

#[test]
fn an_idle_connection_is_taken_by_one_that_dials() {
    let hole = blackhole();
    let address = SocketAddr::from(([127, 0, 0, 2], hole.address.port()));
    let (go, here) = (Latch::new(), Latch::new());
    let (held, reached) = (go.clone(), here.clone());
    let origin = Origin::start(Setup { address, ..Setup::default() }, move |seen| {
        match seen.target.as_str() {
            "/first" => Reply::new().release(&reached).wait(&held).send(OK),
            _ => ok("second"),
        }
    });
    // The origin at first; the second time it leads into the hole.
    let dns = DnsServer::start(|question| match question.nth {
        0 => DnsReply::Answer(ips(&["127.0.0.2"]), 0),
        _ => DnsReply::Answer(ips(&["127.0.0.1"]), 60),
    });
    let control = Control::default();
    let mut reactor = control.reactor(asking(&[&dns]));
    submit(&mut reactor, get(origin.url_at("a.test", "/first")).tag(1));
    run_until(&mut reactor, |_| here.is_released());
    control.skip(Duration::from_secs(2));
    submit(&mut reactor, get(origin.url_at("a.test", "/second")).tag(2));
    run_until(&mut reactor, |reactor| reactor.connections() == 2);
    assert_eq!(control.with(|whims| whims.dialled.clone()), [address, hole.address]);
    go.release();
    let mut ended = Vec::new();
    while reactor.pending() > 0 {
        ended.extend(turn(&mut reactor, None));
    }
    ended.sort_by_key(|ended| ended.tag);
    assert_eq!((ended[1].text(), ended[1].stats.reused), ("second", true));
    assert_eq!((ended[1].stats.remote, ended[1].stats.attempts), (Some(address), 1));
    assert_eq!(origin.connections(), 1);
    // What was dialled goes on by itself, until its limit.
    assert_eq!((reactor.connections(), reactor.idle_connections()), (2, 1));
    control.skip(Duration::from_millis(10_002));
    assert!(begin(&mut reactor).is_empty());
    assert_eq!((reactor.connections(), reactor.idle_connections()), (1, 1));
    settle(&mut reactor);
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn an_idle_connection_is_taken_by_one_that_resolves() {
    let (go, here, asked) = (Latch::new(), Latch::new(), Latch::new());
    let (held, reached, heard) = (go.clone(), here.clone(), asked.clone());
    let origin = Origin::plain(move |seen| match seen.target.as_str() {
        "/first" => Reply::new().release(&reached).wait(&held).send(OK),
        _ => ok("second"),
    });
    let dns = DnsServer::start(move |question| {
        if question.nth == 0 {
            return DnsReply::Answer(ips(&["127.0.0.1"]), 0);
        }
        if question.kind == QueryType::Aaaa {
            heard.release();
        }
        DnsReply::Silent
    });
    let control = Control::default();
    let mut reactor = control.reactor(asking(&[&dns]));
    submit(&mut reactor, get(origin.url_at("a.test", "/first")).tag(1));
    run_until(&mut reactor, |_| here.is_released());
    control.skip(Duration::from_secs(2));
    submit(&mut reactor, get(origin.url_at("a.test", "/second")).tag(2));
    run_until(&mut reactor, |_| asked.is_released());
    go.release();
    let ended = drive(&mut reactor);
    assert!(ended.iter().all(|ended| ended.answer().status == 200));
    assert_eq!((origin.connections(), reactor.connections()), (1, 1));
    // The lookup was dropped with its last waiter: nothing is due but the idle connection.
    assert_eq!(dns.count("a.test"), 4);
}

#[test]
fn a_redirect_to_a_port_without_a_listener_fails_to_connect() {
    let (_socket, refused) = refusing();
    let to = format!("http://{refused}/gone");
    let origin = Origin::plain(move |_| redirect(302, &to));
    let mut reactor = Reactor::new(settings()).unwrap();
    let ended = run(&mut reactor, get(origin.url("/")));
    let error = ended.error();
    assert_eq!((error.kind(), error.errno()), (Kind::Connect, Some(ECONNREFUSED)));
    assert_eq!(error.tried().iter().map(|tried| tried.address).collect::<Vec<_>>(), [refused]);
    assert_eq!((ended.stats.redirects, ended.stats.attempts), (1, 2));
    assert_eq!(reactor.idle_connections(), 1, "the one that redirected is kept");
}

#[test]
fn a_cancelled_dial_closes_its_sockets() {
    let hole = blackhole();
    let _second = hole_at([127, 0, 0, 2], hole.address.port());
    let dns = dns(&["127.0.0.1", "127.0.0.2"]);
    let control = Control::default();
    let mut reactor = control.reactor(asking(&[&dns]));
    let id = submit(&mut reactor, get(format!("http://a.test:{}/", hole.address.port())));
    run_until(&mut reactor, |reactor| reactor.connections() == 1);
    control.skip(Duration::from_millis(250));
    run_until(&mut reactor, |reactor| reactor.connections() == 2);
    assert!(reactor.cancel(id));
    assert_eq!((reactor.connections(), reactor.in_flight(), reactor.pending()), (0, 0, 0));
    assert!(begin(&mut reactor).is_empty());
    assert_eq!(reactor.next_deadline(), None);
    settle(&mut reactor);
}

#[test]
fn cancelling_right_after_the_connection_opened_closes_it() {
    let origin = Origin::plain(|_| ok("late"));
    let mut reactor = Reactor::new(settings()).unwrap();
    for _ in 0..10 {
        let id = submit(&mut reactor, get(origin.url("/")));
        assert!(begin(&mut reactor).is_empty());
        reactor.wait(None).unwrap();
        assert!(reactor.cancel(id));
        assert_eq!(reactor.connections(), 0);
        assert!(begin(&mut reactor).is_empty());
    }
    settle(&mut reactor);
    origin.wait_for(|log| log.open == 0);
}

#[test]
fn what_a_server_says_on_accepting_is_heard() {
    for (greeting, ends, expected) in [
        ("220 mail.test ready\r\n\r\n", false, Kind::Malformed),
        ("220 mail.test ready\r\n\r\n", true, Kind::Malformed),
        ("", true, Kind::Closed),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut reactor = Reactor::new(settings()).unwrap();
        let request = get(format!("http://{}/", listener.local_addr().unwrap()));
        submit(&mut reactor, request.timeout(Duration::from_secs(3)));
        assert!(begin(&mut reactor).is_empty());
        // It arrives before the reactor looks: one event tells of both.
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(greeting.as_bytes()).unwrap();
        if ends {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        let ended = drive(&mut reactor).pop().unwrap();
        assert_eq!(ended.error().kind(), expected, "{}", ended.error());
        assert_eq!(reactor.connections(), 0);
    }
}

#[test]
fn a_burst_of_requests_to_one_origin_shares_what_it_dialled() {
    let origin = Origin::plain(|seen| ok(&seen.target));
    let mut reactor = Reactor::new(settings()).unwrap();
    let requests = (0..400).map(|n| get(origin.url(&format!("/{n}"))));
    for ended in run_all(&mut reactor, requests) {
        assert_eq!(ended.text(), format!("/{}", ended.tag));
    }
    assert!(origin.log().open_max <= 128);
    assert_eq!(reactor.connections(), reactor.idle_connections());
}

/// What the program does between two turns is not the next fetch's time.
#[test]
fn a_fetch_counts_from_its_submission_however_long_the_loop_has_rested() {
    let origin = origin_at("127.0.0.1:0".parse().unwrap());
    let control = Control::new(Whims { frozen: Some(Duration::ZERO), ..Whims::default() });
    let mut reactor = control.reactor(settings());
    run(&mut reactor, get(origin.url("/")));
    control.skip(Duration::from_secs(600));
    let ended = run(&mut reactor, get(origin.url("/")));
    assert_eq!(ended.stats.timings.queued, Duration::ZERO);
    assert_eq!(ended.stats.timings.total, Duration::ZERO);
}
