//! HTTP over real sockets: what a request says on the wire, what its connection is good for
//! afterwards, and how a fetch is cancelled.

mod support;
mod transcript;

use std::time::Duration;

use support::{DnsReply, DnsServer, Latch, Origin, Reply, Setup, blackhole, chunked, ok, response};
use transcript::{End, Run, Told};
use whippet::{Kind, Request, ResolverChoice};

/// The head of a request as it must be on the wire; `lines` stand between Host and the defaults.
fn head(method: &str, target: &str, host: &str, lines: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n")
}

fn defaults() -> String {
    let agent = concat!("User-Agent: whippet/", env!("CARGO_PKG_VERSION"), "\r\n");
    format!("Accept: */*\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n{agent}")
}

fn connections_of(origin: &Origin) -> Vec<(usize, usize)> {
    origin.requests().iter().map(|seen| (seen.connection, seen.nth)).collect()
}

#[test]
fn every_method_is_on_the_wire_as_it_was_given() {
    let origin = Origin::plain(|_| response(204, &[], ""));
    let mut run = Run::new();
    let methods = [
        "GET", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "M-SEARCH", "POST", "PUT", "PATCH",
    ];
    for method in methods {
        let told = run.fetch(Request::new(method, origin.url("/p?q=%20#f")).unwrap());
        assert_eq!(told.answer(), (204, &b""[..]), "{method}");
    }
    let host = origin.address().to_string();
    for (seen, method) in origin.requests().iter().zip(methods) {
        let length =
            if matches!(method, "POST" | "PUT" | "PATCH") { "Content-Length: 0\r\n" } else { "" };
        let expected = head(method, "/p?q=%20", &host, &(defaults() + length));
        assert_eq!(String::from_utf8_lossy(&seen.head), expected);
    }
    assert_eq!(origin.requests().len(), methods.len());
    assert_eq!(origin.connections(), 1);
}

#[test]
fn headers_keep_their_case_and_order_and_replace_the_defaults() {
    let origin = Origin::plain(|_| ok("a"));
    let mut run = Run::new();
    let request = Request::post(origin.url("/"))
        .unwrap()
        .header("x-B", "2")
        .unwrap()
        .header("aCCEPT", "text/html")
        .unwrap()
        .header("X-A", " 1\t")
        .unwrap()
        .header("x-b", b"\xe9")
        .unwrap()
        .header("USER-agent", "")
        .unwrap()
        .body("12345");
    assert_eq!(run.fetch(request).answer(), (200, &b"a"[..]));
    let lines = b"x-B: 2\r\naCCEPT: text/html\r\nX-A: 1\r\nx-b: \xe9\r\nUSER-agent: \r\n\
                  Accept-Encoding: gzip, deflate, br, zstd\r\nContent-Length: 5\r\n";
    let [seen] = &origin.requests()[..] else { panic!("one request") };
    let first = head("POST", "/", &origin.address().to_string(), "");
    let first = first.strip_suffix("\r\n").unwrap();
    assert_eq!(seen.head, [first.as_bytes(), lines, b"\r\n"].concat());
    assert_eq!(seen.body, b"12345");
}

#[test]
fn the_host_is_as_in_the_url_and_without_a_default_port() {
    let origin = Origin::plain(|_| ok(""));
    let mut run = Run::new();
    let local = origin.address().ip();
    let request = Request::get(origin.url_at("Bücher.EXAMPLE", "")).unwrap();
    let request = request.resolve("xn--bcher-kva.example", origin.port(), local).unwrap();
    assert_eq!(run.fetch(request).answer().0, 200);
    let [seen] = &origin.requests()[..] else { panic!("one request") };
    let host = format!("xn--bcher-kva.example:{}", origin.port());
    assert_eq!(seen.header("host"), Some(&host[..]));
    assert_eq!(seen.target, "/");
}

#[test]
fn user_information_becomes_an_authorization_and_is_in_no_target() {
    let origin = Origin::plain(|_| ok(""));
    let mut run = Run::new();
    let told = run.get(&origin.url_at("us%65r:p+a%40ss@127.0.0.1", "/x#frag"));
    assert_eq!(told.url.as_ref().unwrap().as_str(), origin.url("/x#frag"));
    assert_eq!(told.answer().0, 200);
    let [seen] = &origin.requests()[..] else { panic!("one request") };
    assert_eq!(seen.header("authorization"), Some("Basic dXNlcjpwK2FAc3M="));
    assert!(!String::from_utf8_lossy(&seen.head).contains('@'));
}

#[test]
fn a_tag_is_on_every_event_and_a_response_holds_what_was_sent() {
    let origin = Origin::plain(|_| {
        Reply::new().send(
            "HTTP/1.1 203 Sure thing\r\nX-a: 1\r\nx-A:  2 \r\nContent-Length: 3\r\nE:\r\n\r\nabc",
        )
    });
    let mut run = Run::new();
    let request = Request::get(origin.url("/")).unwrap().tag(u64::MAX);
    let streamed = run.fetch(request.clone());
    let headers = [("X-a", "1"), ("x-A", "2"), ("Content-Length", "3"), ("E", "")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
    assert_eq!(streamed.headers, headers);
    assert_eq!(streamed.answer(), (203, &b"abc"[..]));
    assert!(streamed.response.is_none());
    let told = run.fetch(request.collect(true));
    let collected = told.response.as_ref().unwrap();
    assert_eq!(collected.tag(), u64::MAX);
    assert_eq!(collected.head().reason(), b"Sure thing");
    assert_eq!(collected.header("x-a"), Some(&b"1"[..]));
    assert_eq!(collected.headers().count(), 4);
    assert_eq!(collected.url().as_str(), origin.url("/"));
    assert_eq!((told.pieces, told.stats), (0, *collected.stats()));
}

#[test]
fn statistics_tell_attempts_reuse_the_address_and_the_bytes() {
    let origin = Origin::plain(|_| chunked(&["ab", "c"]));
    let mut run = Run::new();
    for nth in 0..3 {
        let stats = run.get(&origin.url("/")).stats;
        assert_eq!((stats.attempts, stats.redirects, stats.wire_bytes), (1, 0, 3));
        assert_eq!(stats.remote, Some(origin.address()));
        assert_eq!(stats.reused, nth > 0);
        assert_eq!(stats.timings.connect.is_zero(), nth > 0);
    }
    assert_eq!(connections_of(&origin), [(0, 0), (0, 1), (0, 2)]);
    assert_eq!((run.reactor.connections(), run.reactor.idle_connections()), (1, 1));
}

#[test]
fn a_connection_is_kept_unless_one_side_asks_to_close() {
    let origin = Origin::plain(|seen| match &seen.target[..] {
        "/close" => response(200, &[("Connection", "close")], "a"),
        "/listed" => response(200, &[("connection", "foo, CLOSE")], "a"),
        "/both" => response(200, &[("Connection", "keep-alive, close")], "a"),
        _ => ok("a"),
    });
    let mut run = Run::new();
    for path in ["/close", "/listed", "/both"] {
        assert_eq!(run.get(&origin.url(path)).answer().1, b"a");
        assert_eq!(run.reactor.connections(), 0, "{path}");
    }
    let request = Request::get(origin.url("/")).unwrap();
    run.fetch(request.clone().header("connection", "Close").unwrap());
    assert_eq!(run.reactor.connections(), 0);
    run.fetch(request.clone().header("Connection", "keep-alive").unwrap());
    run.fetch(request);
    assert_eq!(connections_of(&origin), [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (4, 1)]);
    assert_eq!(origin.requests()[3].header("connection"), Some("Close"));
    origin.wait_for(|log| log.open == 1);
}

#[test]
fn http_1_0_is_kept_only_where_it_says_so() {
    let origin = Origin::plain(|seen| match &seen.target[..] {
        "/kept" => Reply::new()
            .send("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\na"),
        "/length" => Reply::new().send("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na"),
        _ => Reply::new().send("HTTP/1.0 200 OK\r\n\r\na").close(),
    });
    let mut run = Run::new();
    for path in ["/kept", "/length", "/kept", "/kept", "/until-close", "/kept"] {
        assert_eq!(run.get(&origin.url(path)).answer(), (200, &b"a"[..]), "{path}");
    }
    assert_eq!(connections_of(&origin), [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0)]);
    assert_eq!(run.reactor.idle_connections(), 1);
}

#[test]
fn interim_responses_are_passed_over() {
    let origin = Origin::plain(|seen| {
        let interim = [
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 7\r\n\r\n",
            "HTTP/1.1 102 Processing\r\n\r\n",
            "HTTP/1.1 199 What\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
        ];
        let all = interim.concat() + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        match &seen.target[..] {
            "/pieces" => Reply::new().split(all, 1),
            _ => Reply::new().send(all),
        }
    });
    let mut run = Run::new();
    for path in ["/", "/pieces"] {
        let told = run.get(&origin.url(path));
        assert_eq!(told.answer(), (200, &b"hi"[..]));
        assert_eq!(told.headers.len(), 1);
        assert_eq!(run.collect(&origin.url(path)).answer(), (200, &b"hi"[..]));
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_idle_connection_that_speaks_or_ends_is_closed() {
    let (speak, end) = (Latch::new(), Latch::new());
    let latches = (speak.clone(), end.clone());
    let origin = Origin::plain(move |seen| match &seen.target[..] {
        "/speaks" => ok("a").wait(&latches.0).send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        "/ends" => ok("a").wait(&latches.1).close(),
        _ => ok("b"),
    });
    let mut run = Run::new();
    for (path, latch) in [("/speaks", &speak), ("/ends", &end)] {
        assert_eq!(run.get(&origin.url(path)).answer().1, b"a");
        assert_eq!(run.reactor.idle_connections(), 1);
        latch.release();
        run.until(|run| run.reactor.connections() == 0);
        origin.wait_for(|log| log.open == 0);
    }
    assert_eq!(run.get(&origin.url("/")).answer().1, b"b");
    assert_eq!(connections_of(&origin), [(0, 0), (1, 0), (2, 0)]);
}

/// What was unsolicited is looked at before the connection is handed out, also where it arrives
/// together with the next request's turn.
#[test]
fn a_response_that_came_while_idle_is_never_the_next_requests() {
    let (speak, spoken) = (Latch::new(), Latch::new());
    let latches = (speak.clone(), spoken.clone());
    let origin = Origin::plain(move |seen| match &seen.target[..] {
        "/speaks" => ok("a")
            .wait(&latches.0)
            .send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
            .release(&latches.1),
        _ => ok("true"),
    });
    let mut run = Run::new();
    run.get(&origin.url("/speaks"));
    speak.release();
    spoken.wait();
    assert_eq!(run.get(&origin.url("/")).answer().1, b"true");
    assert_eq!(connections_of(&origin), [(0, 0), (1, 0)]);
}

/// A server that is too busy says so on accept, closes its half, and reads no request.
#[test]
fn an_answer_that_is_there_before_the_request_is_the_answer() {
    let said = Latch::new();
    let busy = said.clone();
    let greeting = move |_| {
        let busy = busy.clone();
        response(503, &[("Connection", "close")], "busy").release(&busy).half_close()
    };
    let setup = Setup { greeting: Some(Box::new(greeting)), ..Setup::default() };
    let origin = Origin::start(setup, |_| ok(""));
    let mut run = Run::new();
    let id = run.submit(Request::get(origin.url("/")).unwrap().retries(0));
    run.poll();
    // The socket has connected, been spoken to and been closed when it is first looked at.
    said.wait();
    origin.wait_for(|log| log.connections == 1);
    assert_eq!(run.until_ended(id).answer(), (503, &b"busy"[..]));
    assert_eq!(run.reactor.connections(), 0);
}

fn assert_cancelled(run: &mut Run, id: whippet::FetchId) {
    assert!(run.cancel(id));
    assert!(!run.cancel(id), "it is no more");
    assert_eq!((run.reactor.pending(), run.reactor.in_flight()), (0, 0));
    assert_eq!(run.reactor.waiting(), 0);
    // An event of it would be one after its end.
    for _ in 0..3 {
        assert_eq!(run.poll(), 0);
    }
    assert_eq!(run.reactor.connections(), 0);
}

#[test]
fn a_fetch_is_cancelled_while_it_waits() {
    let origin = Origin::plain(|seen| match &seen.target[..] {
        "/silent" => Reply::new(),
        _ => ok("a"),
    });
    let mut run = Run::with(|settings| settings.concurrency = 1);
    // Before any turn.
    let id = run.submit(Request::get(origin.url("/")).unwrap());
    assert_cancelled(&mut run, id);
    // Behind another one; the one behind it gets the turn.
    let first = run.submit(Request::get(origin.url("/silent")).unwrap());
    origin_sees(&mut run, &origin, 1);
    let second = run.submit(Request::get(origin.url("/never")).unwrap());
    let third = run.submit(Request::get(origin.url("/")).unwrap());
    run.poll();
    assert_eq!((run.reactor.pending(), run.reactor.waiting(), run.reactor.in_flight()), (3, 2, 1));
    assert!(run.cancel(second));
    assert!(run.cancel(first));
    assert_eq!((run.reactor.pending(), run.reactor.waiting(), run.reactor.in_flight()), (1, 1, 0));
    assert_eq!(run.until_ended(third).answer().1, b"a");
    let targets: Vec<_> = origin.requests().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/silent", "/"]);
    origin.wait_for(|log| log.open == 1);
}

/// Turns until the origin has seen so many requests.
fn origin_sees(run: &mut Run, origin: &Origin, requests: usize) {
    run.until(|_| origin.requests().len() == requests);
}

#[test]
fn a_fetch_is_cancelled_while_it_resolves() {
    let server = DnsServer::start(|_| DnsReply::Silent);
    let mut run = Run::with(|settings| {
        settings.resolver = ResolverChoice::Builtin;
        settings.dns_servers = vec![server.address()];
    });
    let id = run.submit(Request::get("http://nobody.example/").unwrap());
    run.until(|_| server.count("nobody.example") > 0);
    assert_eq!(run.reactor.in_flight(), 1);
    assert_cancelled(&mut run, id);
}

#[test]
fn a_fetch_is_cancelled_while_it_connects() {
    let hole = blackhole();
    let mut run = Run::new();
    let id = run.submit(Request::get(format!("http://{}/", hole.address)).unwrap());
    run.poll();
    assert_eq!((run.reactor.in_flight(), run.reactor.connections()), (1, 1));
    assert_cancelled(&mut run, id);
}

#[test]
fn a_fetch_is_cancelled_while_it_shakes_hands() {
    let origin = Origin::plain(|_| ok(""));
    let silent = Setup { greeting: Some(Box::new(|_| Reply::new().silence())), ..Setup::default() };
    let silent = Origin::start(silent, |_| ok(""));
    let mut run = Run::new();
    let id = run.submit(Request::get(format!("https://{}/", silent.address())).unwrap());
    run.until(|_| silent.connections() == 1);
    run.poll();
    assert_cancelled(&mut run, id);
    silent.wait_for(|log| log.connections == 1);
    assert_eq!(run.get(&origin.url("/")).answer().0, 200);
}

#[test]
fn a_fetch_is_cancelled_while_it_waits_for_its_head_and_in_mid_body() {
    let origin = Origin::plain(|seen| match &seen.target[..] {
        "/silent" => Reply::new(),
        "/half" => Reply::new().send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
        _ => ok("a"),
    });
    let mut run = Run::new();
    let id = run.submit(Request::get(origin.url("/silent")).unwrap());
    origin_sees(&mut run, &origin, 1);
    assert_cancelled(&mut run, id);
    for collect in [false, true] {
        let id = run.submit(Request::get(origin.url("/half")).unwrap().collect(collect));
        if collect {
            run.until(|_| origin.requests().len() == 3);
            run.poll();
        } else {
            run.until(|run| run.told(id).body == b"half");
        }
        assert_cancelled(&mut run, id);
        assert_eq!(run.told(id).end, Some(End::Cancelled));
    }
    origin.wait_for(|log| log.open == 0);
    // In the very middle of a turn, with bytes in the buffer behind the event.
    let id = run.submit(Request::get(origin.url("/")).unwrap());
    loop {
        run.reactor.wait(None).unwrap();
        if run.step() == Some(id) {
            break;
        }
    }
    assert_eq!(run.told(id).status, Some(200));
    assert_cancelled(&mut run, id);
    assert_eq!(run.get(&origin.url("/")).answer().1, b"a");
}

#[test]
fn a_fetch_is_cancelled_between_its_end_and_the_news_of_it() {
    let origin = Origin::plain(|seen| match &seen.target[..] {
        "/silent" => Reply::new(),
        _ => ok("abc"),
    });
    // A limit has ended it, before the turn's first event.
    let mut run = Run::new();
    let request = Request::get(origin.url("/silent")).unwrap();
    let id = run.submit(request.timeout(Duration::from_millis(20)));
    run.poll();
    while run.reactor.in_flight() > 0 {
        run.reactor.wait(None).unwrap();
        if run.reactor.in_flight() > 0 {
            run.drain();
        }
    }
    assert_eq!((run.reactor.pending(), run.told(id).end), (1, None));
    assert_cancelled(&mut run, id);
    // The whole body was told, and its end is what comes next.
    let mut run = Run::new();
    let id = run.submit(Request::get(origin.url("/")).unwrap());
    'turns: loop {
        run.reactor.wait(None).unwrap();
        while run.step().is_some() {
            if run.told(id).body == b"abc" {
                break 'turns;
            }
        }
    }
    assert_eq!(run.told(id).end, None);
    assert_cancelled(&mut run, id);
    origin.wait_for(|log| log.open == 0);
}

#[test]
fn a_fetch_is_cancelled_while_it_backs_off() {
    let origin = Origin::plain(|_| response(503, &[("Retry-After", "9")], ""));
    let mut run = Run::new();
    let id = run.submit(Request::get(origin.url("/")).unwrap());
    run.until(|run| run.reactor.waiting() == 1 && run.reactor.in_flight() == 0);
    run.until(|run| run.reactor.idle_connections() == 1);
    assert!(run.cancel(id));
    assert_eq!((run.reactor.pending(), run.reactor.waiting()), (0, 0));
    assert_eq!(run.poll(), 0);
    // The connection had done its work and is kept.
    assert_eq!(run.reactor.idle_connections(), 1);
}

#[test]
fn a_cancelled_id_names_nothing_that_comes_later() {
    let origin = Origin::plain(|_| ok("a"));
    let mut run = Run::new();
    let old = run.submit(Request::get(origin.url("/")).unwrap());
    assert!(run.cancel(old));
    let new = run.submit(Request::get(origin.url("/")).unwrap());
    assert!(!run.reactor.cancel(old));
    run.reactor.pause(old);
    assert_eq!(run.until_ended(new).answer().1, b"a");
    assert!(!run.reactor.cancel(new), "its end was told");
}

#[test]
fn many_at_once_each_get_their_own_answer() {
    let origin = Origin::plain(|seen| {
        let body = seen.target.repeat(1 + seen.target.len() % 3);
        if seen.target.ends_with('7') { chunked(&[body]) } else { ok(body) }
    });
    let mut run = Run::with(|settings| settings.concurrency = 16);
    let fetches: Vec<_> = (0..400)
        .map(|n| {
            let request = Request::get(origin.url(&format!("/{n}"))).unwrap();
            (format!("/{n}"), run.submit(request.tag(n).collect(n % 2 == 0)))
        })
        .collect();
    run.finish();
    for (target, id) in fetches {
        let expected = target.repeat(1 + target.len() % 3);
        assert_eq!(run.told(id).answer(), (200, expected.as_bytes()));
    }
    assert!(origin.connections() <= 16, "{}", origin.connections());
    assert!(run.reactor.idle_connections() == run.reactor.connections());
}

#[test]
fn one_connection_serves_requests_that_wait_in_their_order() {
    let origin = Origin::plain(|_| ok("a"));
    let mut run = Run::with(|settings| settings.concurrency = 1);
    for n in 0..20 {
        run.submit(Request::get(origin.url(&format!("/{n}"))).unwrap());
    }
    run.finish();
    let order: Vec<_> = origin.requests().into_iter().map(|seen| seen.target).collect();
    assert_eq!(order, (0..20).map(|n| format!("/{n}")).collect::<Vec<_>>());
    assert_eq!(origin.connections(), 1);
}

#[test]
fn keep_alive_times_are_taken_from_the_server() {
    let origin = Origin::plain(|seen| match &seen.target[..] {
        "/short" => response(200, &[("Keep-Alive", "timeout=1")], ""),
        _ => response(200, &[("Keep-Alive", "timeout=60, max=9")], ""),
    });
    let mut run = Run::new();
    run.get(&origin.url("/long"));
    assert_eq!(run.reactor.idle_connections(), 1);
    // A second less than what it says is nothing.
    run.get(&origin.url("/short"));
    assert_eq!(run.reactor.connections(), 0);
}

#[test]
fn over_tls_it_is_the_same() {
    let origin = Origin::tls(|seen| match &seen.target[..] {
        "/two" => Reply::new().send(
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none\
             HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother",
        ),
        "/end" => ok("a").close(),
        _ => chunked(&["a", "b"]),
    });
    let mut run = Run::new();
    let told: Vec<Told> = ["/", "/", "/end", "/two", "/"]
        .iter()
        .map(|path| run.fetch(Request::get(origin.url(path)).unwrap()))
        .collect();
    let bodies: Vec<_> = told.iter().map(|told| told.answer().1).collect();
    assert_eq!(bodies, [&b"ab"[..], b"ab", b"a", b"one", b"ab"]);
    assert!(told[1].stats.reused && told[2].stats.reused);
    assert_eq!(connections_of(&origin)[..3], [(0, 0), (0, 1), (0, 2)]);
    let last = connections_of(&origin)[4];
    assert_eq!(last.1, 0, "a connection with something left over carries nothing more");
}

#[test]
fn a_request_that_cannot_be_sent_is_refused_before_it_is_submitted() {
    for (name, value) in [("Host", "b"), ("Content-Length", "1"), ("A\r\nB", ""), ("A", "\r\nB: c")]
    {
        let error = Request::get("http://127.0.0.1/").unwrap().header(name, value).unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (Kind::InvalidRequest, 0));
    }
}
