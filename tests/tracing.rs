//! What is told of each step of a fetch: in which order, of whom, with how many bytes, and without
//! a credential. Everything told of is what the other side saw.

#![cfg(any(feature = "ring", feature = "aws-lc-rs"))]

mod driving;
mod support;

use std::time::{Duration, Instant};

use driving::{Ended, asking, drive, get, ips, run, settings, submit};
use support::{
    DnsReply, DnsServer, Origin, ProxyServer, ProxySetup, QueryType, Reply, TlsSetup, ok, redirect,
    refused_port, response, status,
};
use whippet::net::{OsNet, Traced};
use whippet::{
    Because, Client, Event, Proxies, Proxy, Reactor, Request, Settings, Step, Trace, TraceEvent,
};

/// Notes all that it is told, as lines and as numbers.
#[derive(Default)]
struct Notes {
    /// What happened, in a few words.
    lines: Vec<String>,
    /// Of connections: number, bytes sent and received, as told last.
    sockets: Vec<(u64, u64, u64)>,
    /// All of it, as `Debug` has it.
    printed: String,
    at: Duration,
}

impl Trace for Notes {
    fn record(&mut self, event: &TraceEvent<'_>) {
        assert!(event.at >= self.at, "time goes on");
        self.at = event.at;
        self.printed += &format!("{event:?}\n");
        if let Some(socket) = event.socket {
            self.sockets.retain(|(number, ..)| *number != socket.number);
            self.sockets.push((socket.number, socket.sent_bytes, socket.received_bytes));
        }
        let words = words(&event.step);
        self.lines.push(match event.fetch {
            Some(_) => format!("{}.{}.{} {words}", event.tag, event.attempt, event.hop),
            None => words,
        });
    }
}

fn words(step: &Step<'_>) -> String {
    match step {
        Step::Queued { method, url } => format!("queued {method} {}", url.path()),
        Step::Begun { .. } => "begun".to_owned(),
        Step::Reused { .. } => "reused".to_owned(),
        Step::Resolved { host, addresses, .. } => format!("resolved {host} {}", addresses.len()),
        Step::Dialled { .. } => "dialled".to_owned(),
        Step::DialFailed { error, .. } => format!("dial failed {:?}", error.kind()),
        Step::Connected { .. } => "connected".to_owned(),
        Step::Tunnelled { .. } => "tunnelled".to_owned(),
        Step::Secured { with_proxy, protocol, cipher, resumed, .. } => {
            assert!(cipher.starts_with("TLS"), "{cipher}");
            let with = if *with_proxy { " with proxy" } else { "" };
            format!("secured{with} {protocol}{}", if *resumed { " resumed" } else { "" })
        }
        Step::Sent { head, body_bytes, .. } => {
            let body_bytes = body_bytes.map_or("?".to_owned(), |bytes| bytes.to_string());
            format!("sent {}, {body_bytes} B", String::from_utf8_lossy(head.line()))
        }
        Step::Head { head, .. } => format!("head {}", head.status().as_u16()),
        Step::Body { wire_bytes, body_bytes, .. } => format!("body {wire_bytes} B, {body_bytes} B"),
        Step::Redirected { status, to } => format!("redirected {status} {}", to.path()),
        Step::Retried { because, .. } => match because {
            Because::Status(status) => format!("retried {status}"),
            Because::Failed(error) => format!("retried {}", error.kind()),
            Because::Stale(_) => "retried stale".to_owned(),
            Because::Challenged => "retried challenged".to_owned(),
            _ => "retried".to_owned(),
        },
        Step::Ended { error, .. } => match error {
            Some(error) => format!("failed {}", error.kind()),
            None => "done".to_owned(),
        },
        Step::Cancelled => "cancelled".to_owned(),
        Step::Kept { .. } => "kept".to_owned(),
        Step::Closed { reason } => format!("closed {reason:?}"),
        _ => "?".to_owned(),
    }
}

type Watched = Reactor<Traced<OsNet, Notes>>;

fn watched(settings: Settings) -> Watched {
    Reactor::traced(settings, Notes::default()).unwrap()
}

/// The lines since the last time.
fn lines(reactor: &mut Watched) -> Vec<String> {
    std::mem::take(&mut reactor.watcher_mut().lines)
}

#[test]
fn another_protocol_is_behind_a_request_that_was_sent_once() {
    let switches = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\n";
    for ends in [true, false] {
        let origin = Origin::plain(move |_| Reply::new().send(switches).send("hello").close());
        let mut reactor = watched(settings());
        submit(&mut reactor, Request::get(origin.url("/")).unwrap().upgrade("echo").unwrap());
        while reactor.pending() > 0 {
            reactor.wait(None).unwrap();
            while let Some(event) = reactor.next_event() {
                if let Event::Writable { id, .. } = event
                    && ends
                {
                    reactor.finish_body(id).unwrap();
                }
            }
        }
        let told = lines(&mut reactor);
        let sent = told.iter().filter(|line| line.contains("sent")).count();
        assert_eq!((sent, told.last().unwrap().as_str()), (1, "0.1.0 done"), "{told:?}");
        assert!(told.contains(&"closed BodyUntilClose".to_owned()), "{told:?}");
    }
}

#[test]
fn a_fetch_is_told_step_by_step_and_the_next_takes_its_connection() {
    let origin = Origin::plain(|_| ok("hello"));
    let dns = DnsServer::start(|question| match question.kind {
        QueryType::A => DnsReply::Answer(ips(&["127.0.0.1"]), 60),
        _ => DnsReply::Answer(Vec::new(), 60),
    });
    let mut reactor = watched(asking(&[&dns]));
    let url = origin.url_at("a.test", "/x");
    run(&mut reactor, Request::post(&url).unwrap().body("1234567").tag(5)).answer();
    assert_eq!(
        lines(&mut reactor),
        [
            "5.0.0 queued POST /x",
            "5.1.0 begun",
            "5.1.0 resolved a.test 1",
            "5.1.0 dialled",
            "5.1.0 connected",
            "5.1.0 sent POST /x HTTP/1.1, 7 B",
            "5.1.0 head 200",
            "5.1.0 body 5 B, 5 B",
            "kept",
            "5.1.0 done",
        ]
    );
    run(&mut reactor, get(&url).tag(6)).answer();
    assert_eq!(
        lines(&mut reactor),
        [
            "6.0.0 queued GET /x",
            "6.1.0 begun",
            "6.1.0 reused",
            "6.1.0 sent GET /x HTTP/1.1, 0 B",
            "6.1.0 head 200",
            "6.1.0 body 5 B, 5 B",
            "kept",
            "6.1.0 done",
        ]
    );
}

#[test]
fn bytes_on_the_wire_are_those_that_the_other_side_saw() {
    let origin = Origin::plain(|_| ok("hello"));
    let mut reactor = watched(settings());
    for _ in 0..2 {
        run(&mut reactor, Request::post(origin.url("/")).unwrap().body(vec![0; 100_000])).answer();
    }
    let sent: usize = origin.requests().iter().map(|seen| seen.head.len() + seen.body.len()).sum();
    let [(number, sent_bytes, received_bytes)] = reactor.watcher().sockets[..] else {
        panic!("{:?}", reactor.watcher().sockets);
    };
    assert_eq!((number, sent_bytes), (0, sent as u64));
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".len() as u64;
    assert_eq!(received_bytes, 2 * answer);
}

#[test]
fn an_end_is_told_once_though_the_fetch_is_cancelled_before_its_event_is_taken() {
    let mut reactor = watched(settings());
    #[allow(clippy::disallowed_methods, reason = "a deadline is an instant of the caller's clock")]
    let past = Instant::now();
    for cancels in [false, true] {
        let id = submit(&mut reactor, get("http://127.0.0.1:9/").deadline(past));
        assert!(!cancels || reactor.cancel(id));
        drive(&mut reactor);
        assert_eq!(lines(&mut reactor), ["0.0.0 queued GET /", "0.0.0 failed timeout"]);
    }
}

#[test]
fn redirects_retries_and_failures_are_told_with_their_reasons() {
    let origin = Origin::plain(|seen| match (&*seen.target, seen.header("x-try")) {
        ("/from", _) => redirect(302, "/to"),
        ("/busy", _) => response(503, &[("Retry-After", "0")], ""),
        ("/gone", _) => Reply::new().close(),
        ("/early", _) => Reply::new()
            .send("HTTP/1.1 103 Early Hints\r\n\r\n")
            .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        _ => status(404),
    });
    let mut settings = settings();
    settings.retries = 1;
    let mut reactor = watched(settings);
    run(&mut reactor, get(origin.url("/from"))).answer();
    let told = lines(&mut reactor);
    let told: Vec<_> = told.iter().filter(|line| !line.contains("kept")).collect();
    assert_eq!(
        told[4..],
        [
            "0.1.0 sent GET /from HTTP/1.1, 0 B",
            "0.1.0 head 302",
            "0.1.0 redirected 302 /to",
            "0.2.1 begun",
            "0.2.1 reused",
            "0.2.1 sent GET /to HTTP/1.1, 0 B",
            "0.2.1 head 404",
            "0.2.1 body 0 B, 0 B",
            "0.2.1 done",
        ]
    );
    run(&mut reactor, get(origin.url("/busy"))).answer();
    let told = lines(&mut reactor);
    assert_eq!(told.iter().filter(|line| line.contains("retried 503")).count(), 1, "{told:?}");
    run(&mut reactor, get(origin.url("/gone"))).error();
    let told = lines(&mut reactor);
    assert!(told.iter().any(|line| line.ends_with("retried closed")), "{told:?}");
    assert!(told.iter().any(|line| line == "closed Failed"), "{told:?}");
    assert!(told.last().unwrap().ends_with("failed closed"), "{told:?}");
    run(&mut reactor, get(origin.url("/early"))).answer();
    let told = lines(&mut reactor);
    let heads: Vec<_> = told.iter().filter(|line| line.contains("head")).collect();
    assert!(heads[0].ends_with("103") && heads[1].ends_with("200"), "{told:?}");
    run(&mut reactor, get(format!("http://{}/", refused_port()))).error();
    let told = lines(&mut reactor);
    assert!(told.iter().any(|line| line.ends_with("dial failed ConnectionRefused")), "{told:?}");
}

#[test]
fn tls_and_proxies_are_told_of_and_sessions_taken_up() {
    let origin = Origin::tls(|_| ok("hello"));
    let with_tls = ProxySetup { tls: Some(TlsSetup::default()), ..ProxySetup::default() };
    let proxy = ProxyServer::start(origin.address(), with_tls);
    let mut settings = settings();
    settings.proxies = Proxies::all(Proxy::new(&format!("https://{}", proxy.address())).unwrap());
    let mut reactor = watched(settings);
    // Sessions are remembered by name: that of the proxy is another.
    let request = get(origin.url_at("localhost", "/")).header("Connection", "close").unwrap();
    run(&mut reactor, request.clone()).answer();
    run(&mut reactor, request).answer();
    let told = lines(&mut reactor);
    let opening: Vec<_> = told
        .iter()
        .filter(|line| line.contains("secured") || line.contains("tunnelled"))
        .map(|line| line.split_once(' ').unwrap().1)
        .collect();
    assert_eq!(
        opening,
        [
            "secured with proxy TLSv1.3",
            "tunnelled",
            "secured TLSv1.3",
            "secured with proxy TLSv1.3 resumed",
            "tunnelled",
            "secured TLSv1.3 resumed",
        ]
    );
    assert_eq!(told.iter().filter(|line| *line == "closed AskedByUs").count(), 2);
}

#[test]
fn every_fetch_ends_once_in_what_is_told() {
    let origin = Origin::plain(|seen| match seen.target.len() % 3 {
        0 => ok("hello"),
        1 => Reply::new().close(),
        _ => redirect(302, "/"),
    });
    let mut reactor = watched(settings());
    for tag in 0..60_usize {
        let path = "x".repeat(tag);
        submit(&mut reactor, get(origin.url(&format!("/{path}"))).tag(tag as u64));
    }
    let cancelled = submit(&mut reactor, get(origin.url("/")).tag(99));
    reactor.cancel(cancelled);
    let ended: Vec<Ended> = drive(&mut reactor);
    assert_eq!(ended.len(), 60);
    let told = lines(&mut reactor);
    for tag in 0..60 {
        let mine = || told.iter().filter(|line| line.starts_with(&format!("{tag}.")));
        let ends = mine().filter(|line| line.ends_with("done") || line.contains("failed"));
        assert_eq!(ends.count(), 1, "{tag}");
        let last = mine().next_back().unwrap();
        assert!(last.ends_with("done") || last.contains("failed"), "{last}");
    }
    assert_eq!(told.iter().filter(|line| line.ends_with("cancelled")).count(), 1);
}

const SECRET: &str = "canary7Q";

#[test]
fn no_credential_is_told() {
    let origin = Origin::plain(|seen| match &*seen.target {
        "/challenge" => response(401, &[("WWW-Authenticate", "Basic realm=x")], ""),
        _ => response(200, &[("Set-Cookie", &format!("a={SECRET}")), ("X-Free", "seen")], ""),
    });
    let mut fields = Vec::new();
    let watch = |event: &TraceEvent<'_>| {
        fields.push(format!("{event:?}"));
        match event.step {
            Step::Sent { head, .. } => {
                for (name, value) in head.fields() {
                    let (name, value) = (name.escape_ascii(), value.escape_ascii());
                    fields.push(format!("> {name}: {value}"));
                }
            }
            Step::Head { head, .. } => {
                for (name, value) in head.shown_headers() {
                    fields.push(format!("< {name}: {}", value.escape_ascii()));
                }
            }
            _ => {}
        }
    };
    let mut client = Client::with_reactor(Reactor::traced(settings(), watch).unwrap());
    // The second carries the cookie that the first was given.
    for path in ["/", "/", "/challenge"] {
        let url = origin.url_at(&format!("me:{SECRET}@127.0.0.1"), path);
        let request = Request::get(url).unwrap().header("Proxy-Authorization", SECRET).unwrap();
        client.fetch(request).unwrap();
    }
    drop(client);
    let all = fields.join("\n");
    assert!(all.contains("> Authorization: (not shown)"), "{all}");
    assert!(all.contains("> Cookie: (not shown)"), "{all}");
    assert!(all.contains("< Set-Cookie: (not shown)") && all.contains("< X-Free: seen"), "{all}");
    assert!(!all.contains(SECRET) && !all.contains("Y2FuYXJ5"), "{all}");
}
