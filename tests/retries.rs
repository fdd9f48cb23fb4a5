//! Retries over real sockets: what is tried again, how often, after how long, and what is not.

mod support;
mod transcript;

use std::time::Duration;

use support::{
    Action, Latch, Origin, Reply, Seen, Setup, blackhole, chunked, ok, redirect, refused_port,
    response, status,
};
use transcript::{End, Run};
use whippet::{Kind, Limit, Phase, Request};

fn get(origin: &Origin, path: &str) -> Request {
    Request::get(origin.url(path)).unwrap()
}

/// How many requests there were for a target.
fn count(origin: &Origin, target: &str) -> usize {
    origin.requests().iter().filter(|seen| seen.target == target).count()
}

/// An origin that answers with `first` on the first request of each target, then with 200.
fn first_then_ok(first: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Origin {
    let seen_before = std::sync::Mutex::new(std::collections::HashSet::new());
    Origin::plain(move |seen| {
        if seen_before.lock().unwrap().insert(seen.target.clone()) {
            first(seen)
        } else {
            ok("second")
        }
    })
}

#[test]
fn an_answer_that_may_pass_is_asked_for_again() {
    let origin = first_then_ok(|seen| {
        let status = seen.target[1..4].parse().unwrap();
        response(status, &[("Retry-After", "0")], "busy")
    });
    let mut run = Run::new();
    for (code, retried) in [
        (408, true),
        (429, true),
        (500, true),
        (502, true),
        (503, true),
        (504, true),
        (400, false),
        (404, false),
        (501, false),
        (505, false),
    ] {
        let told = run.fetch(get(&origin, &format!("/{code}")).tag(code.into()));
        let expected = if retried { (200, &b"second"[..]) } else { (code, &b"busy"[..]) };
        assert_eq!(told.answer(), expected, "{code}");
        assert_eq!(told.stats.attempts, 1 + u32::from(retried));
    }
    // The answers were drained: one connection did it all.
    assert_eq!(origin.connections(), 1);
}

#[test]
fn only_what_is_idempotent_is_asked_again() {
    let origin = first_then_ok(|_| status(503));
    let mut run = Run::new();
    for (method, retried) in [
        ("GET", true),
        ("HEAD", true),
        ("OPTIONS", true),
        ("PUT", true),
        ("DELETE", true),
        ("POST", false),
        ("PATCH", false),
        ("LOCK", false),
    ] {
        let request = Request::new(method, origin.url(&format!("/{method}"))).unwrap();
        let told = run.fetch(request.body("same").collect(true));
        assert_eq!(told.answer().0, if retried { 200 } else { 503 }, "{method}");
        assert_eq!(told.stats.attempts, 1 + u32::from(retried), "{method}");
        assert!(origin.requests().iter().all(|seen| seen.body == b"same"));
    }
}

#[test]
fn retries_are_as_many_as_allowed_and_the_last_answer_stands() {
    let origin = Origin::plain(|_| response(503, &[], "busy"));
    let mut run = Run::new();
    let told = run.fetch(get(&origin, "/none").retries(0));
    assert_eq!((told.answer(), told.stats.attempts), ((503, &b"busy"[..]), 1));
    let told = run.collect(&origin.url("/default"));
    assert_eq!((told.answer(), told.stats.attempts), ((503, &b"busy"[..]), 3));
    assert_eq!((count(&origin, "/none"), count(&origin, "/default")), (1, 3));
    let mut patient = Run::with(|settings| settings.retries = 1);
    assert_eq!(patient.get(&origin.url("/")).stats.attempts, 2);
}

#[test]
fn a_server_says_when_to_come_back() {
    let origin = first_then_ok(|seen| {
        let after = match &seen.target[..] {
            "/second" => "1",
            "/long" => "61",
            "/date" => "Fri, 31 Dec 9999 23:59:59 GMT",
            "/past" => "Thu, 01 Jan 1970 00:00:00 GMT",
            _ => "soon",
        };
        response(503, &[("Retry-After", after)], "busy")
    });
    let mut run = Run::new();
    let told = run.get(&origin.url("/second"));
    assert_eq!((told.answer().0, told.stats.attempts), (200, 2));
    // At the least: jitter adds to it, and takes nothing away.
    assert!(told.stats.timings.total >= Duration::from_secs(1));
    for path in ["/long", "/date"] {
        let told = run.get(&origin.url(path));
        assert_eq!((told.answer(), told.stats.attempts), ((503, &b"busy"[..]), 1), "{path}");
    }
    for path in ["/past", "/nonsense"] {
        assert_eq!(run.get(&origin.url(path)).stats.attempts, 2, "{path}");
    }
}

#[test]
fn a_refused_port_is_tried_again_and_every_address_told() {
    let nobody = refused_port();
    let mut run = Run::new();
    for (method, retries, attempts) in [("GET", 2, 3), ("GET", 0, 1), ("POST", 1, 2)] {
        let request = Request::new(method, format!("http://{nobody}/")).unwrap();
        let told = run.fetch(request.retries(retries));
        assert_eq!(told.kind(), Kind::Connect);
        let error = told.error.unwrap();
        assert_eq!((error.phase(), error.attempts()), (Phase::Connect, attempts), "{method}");
        assert!(error.is_transient());
        assert_eq!(error.errno(), Some(111));
        let tried: Vec<_> = error.tried().iter().map(|t| (t.address, t.errno)).collect();
        assert_eq!(tried, [(nobody, Some(111))]);
        assert!(error.to_string().contains(&nobody.to_string()), "{error}");
    }
    assert_eq!(run.reactor.connections(), 0);
}

#[test]
fn the_budget_bounds_all_retries_together() {
    let origin = Origin::plain(|_| status(503));
    let mut run = Run::new();
    let ids: Vec<_> = (0..20).map(|_| run.submit(get(&origin, "/").retries(1))).collect();
    run.finish();
    let retried = ids.iter().filter(|id| run.told(**id).stats.attempts == 2).count();
    // Ten, and a fifth of the twenty requests.
    assert_eq!((retried, origin.requests().len()), (14, 34));
    assert!(ids.iter().all(|id| run.told(*id).answer().0 == 503));
}

#[test]
fn a_fresh_connection_closed_without_an_answer_is_tried_again() {
    let origin = first_then_ok(|seen| match &seen.target[..] {
        "/reset" => Reply::new().reset(),
        "/part" => Reply::new().send("HTTP/1.1 200 OK\r\nA").close(),
        _ => Reply::new().close(),
    });
    let mut run = Run::new();
    for path in ["/close", "/reset", "/part"] {
        let once = get(&origin, path).header("Connection", "close").unwrap();
        let told = run.fetch(once);
        assert_eq!((told.answer().1, told.stats.attempts), (&b"second"[..], 2), "{path}");
    }
    for path in ["/close", "/reset"] {
        let path = format!("{path}?post");
        let request = Request::post(origin.url(&path)).unwrap().body("a");
        let told = run.fetch(request.header("Connection", "close").unwrap());
        assert_eq!((told.kind(), told.stats.attempts), (Kind::Closed, 1), "{path}");
        assert_eq!(count(&origin, &path), 1);
    }
}

/// An origin that closes its first connection exactly when the second request arrives on it.
fn stale(how: fn(Reply) -> Reply) -> Origin {
    Origin::plain(move |seen| match (seen.connection, seen.nth) {
        (0, 0) => how(ok("first").then(Action::Receive(1))),
        _ => ok("fresh"),
    })
}

#[test]
fn a_kept_connection_that_has_died_is_replaced_silently_once() {
    for how in [Reply::close, Reply::reset] {
        for method in ["GET", "PUT"] {
            let origin = stale(how);
            let mut run = Run::new();
            run.get(&origin.url("/"));
            assert_eq!(run.reactor.idle_connections(), 1);
            let request = Request::new(method, origin.url("/")).unwrap().body("a");
            // It is no retry: it happens where there are none.
            let told = run.fetch(request.retries(0));
            assert_eq!(told.answer().1, b"fresh");
            assert_eq!((told.stats.attempts, told.stats.reused), (2, false));
            assert_eq!((origin.connections(), origin.requests().len()), (2, 2));
        }
    }
}

#[test]
fn where_one_kept_connection_has_died_no_other_is_tried() {
    let both = Latch::new();
    let gate = both.clone();
    let origin = Origin::plain(move |seen| {
        let dies = |reply: Reply| reply.then(Action::Receive(1)).close();
        match (seen.connection, seen.nth) {
            (0, 0) => dies(Reply::new().wait(&gate).send("HTTP/1.1 204 No\r\n\r\n")),
            (1, 0) => dies(Reply::new().release(&gate).send("HTTP/1.1 204 No\r\n\r\n")),
            _ => ok("fresh"),
        }
    });
    let mut run = Run::new();
    run.submit(get(&origin, "/"));
    run.submit(get(&origin, "/"));
    run.finish();
    assert_eq!(run.reactor.idle_connections(), 2);
    let told = run.fetch(get(&origin, "/").retries(0));
    assert_eq!(told.answer().1, b"fresh");
    assert_eq!((told.stats.attempts, told.stats.reused), (2, false));
}

#[test]
fn a_post_on_a_kept_connection_that_has_died_fails() {
    for how in [Reply::close, Reply::reset] {
        let origin = stale(how);
        let mut run = Run::new();
        run.get(&origin.url("/"));
        let told = run.fetch(Request::post(origin.url("/")).unwrap().body("a"));
        assert_eq!((told.kind(), told.stats.attempts), (Kind::Closed, 1));
        assert_eq!((origin.connections(), origin.requests().len()), (1, 1));
        assert_eq!(run.reactor.connections(), 0);
    }
}

/// A byte of an answer is an answer: the silent retry is for connections that gave none.
#[test]
fn a_kept_connection_that_dies_in_mid_answer_is_not_silently_replaced() {
    let origin = Origin::plain(|seen| match seen.nth {
        0 => ok("first"),
        _ => Reply::new().send("H").close(),
    });
    let mut run = Run::new();
    run.get(&origin.url("/"));
    let told = run.fetch(get(&origin, "/").retries(0));
    assert_eq!((told.kind(), told.stats.attempts), (Kind::Closed, 1));
}

#[test]
fn after_its_head_was_told_a_streamed_fetch_is_not_retried_but_a_collected_one_is() {
    for (nth, cut) in [
        Reply::new().send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart").close(),
        Reply::new()
            .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n")
            .close(),
        Reply::new().send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart").half_close(),
    ]
    .into_iter()
    .enumerate()
    {
        let origin = first_then_ok(move |_| cut.clone());
        let mut run = Run::new();
        let told = run.fetch(get(&origin, "/streamed"));
        assert_eq!((told.kind(), told.stats.attempts), (Kind::Closed, 1), "{nth}");
        assert_eq!((told.status, &told.body[..]), (Some(200), &b"part"[..]));
        let told = run.collect(&origin.url("/collected"));
        assert_eq!(told.answer(), (200, &b"second"[..]));
        assert_eq!((told.stats.attempts, told.stats.wire_bytes), (2, 6));
        let post = Request::post(origin.url("/posted")).unwrap().collect(true);
        let told = run.fetch(post);
        assert_eq!((told.kind(), told.stats.attempts), (Kind::Closed, 1));
        let partial = told.response.unwrap();
        assert_eq!((partial.body(), partial.stats().wire_bytes), (&b"part"[..], 4));
    }
}

/// What was collected of an attempt is no part of the next one's answer: neither head, body,
/// trailers nor redirects twice.
#[test]
fn a_retry_begins_from_nothing() {
    let origin = first_then_ok(|seen| match &seen.target[..] {
        "/start" => redirect(302, "/end"),
        _ => Reply::new()
            .send(
                "HTTP/1.1 299 Odd\r\nX: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT",
            )
            .close(),
    });
    let told = Run::new().collect(&origin.url("/start"));
    assert_eq!(told.answer(), (200, &b"second"[..]));
    let response = told.response.unwrap();
    assert_eq!((response.header("x"), response.trailers().count()), (None, 0));
    assert_eq!((response.redirects().len(), response.stats().attempts), (1, 3));
    // The hop that was followed stays followed.
    assert_eq!((count(&origin, "/start"), count(&origin, "/end")), (1, 2));
}

#[test]
fn malformed_and_too_large_answers_are_not_retried() {
    let origin = first_then_ok(|seen| match &seen.target[..] {
        "/malformed" => Reply::new().send("HTTP/1.1 200 OK\r\nA(): b\r\n\r\n"),
        _ => ok("too large"),
    });
    let mut run = Run::with(|settings| settings.body_bytes_max = 8);
    let told = run.collect(&origin.url("/malformed"));
    assert_eq!((told.kind(), told.stats.attempts), (Kind::Malformed, 1));
    let told = run.collect(&origin.url("/large"));
    assert_eq!((told.kind(), told.stats.attempts), (Kind::TooLarge, 1));
}

#[test]
fn a_limit_of_one_attempt_is_retried_and_the_total_is_not() {
    let origin = first_then_ok(|_| Reply::new());
    let mut run = Run::new();
    let short = Duration::from_millis(60);
    let told = run.fetch(get(&origin, "/first-byte").limit(Limit::FirstByte, short));
    assert_eq!((told.answer().1, told.stats.attempts), (&b"second"[..], 2));
    let told = run.fetch(get(&origin, "/none").limit(Limit::FirstByte, short).retries(0));
    assert_eq!((told.kind(), told.error.unwrap().limit()), (Kind::Timeout, Some(Limit::FirstByte)));
    let told = run.fetch(get(&origin, "/total").timeout(short));
    assert_eq!((told.kind(), told.stats.attempts), (Kind::Timeout, 1));
    assert_eq!(told.error.unwrap().limit(), Some(Limit::Total));
    let hole = blackhole();
    let request = Request::get(format!("http://{}/", hole.address)).unwrap();
    let told = run.fetch(request.limit(Limit::Connect, short).retries(1));
    let error = told.error.as_ref().unwrap();
    assert_eq!((error.limit(), error.attempts()), (Some(Limit::Connect), 2));
    assert_eq!(error.tried()[0].address, hole.address);
    assert_eq!(run.reactor.connections(), 0);
}

/// The wait before the retry would last beyond the end: the answer that is there is the answer.
#[test]
fn a_retry_that_would_pass_the_deadline_is_not_made() {
    let origin = Origin::plain(|_| response(503, &[("Retry-After", "2")], "busy"));
    let mut run = Run::new();
    let told = run.fetch(get(&origin, "/").timeout(Duration::from_millis(1_500)));
    assert_eq!((told.answer(), told.stats.attempts), ((503, &b"busy"[..]), 1));
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn the_total_bounds_attempts_and_the_waits_between_them() {
    let origin = Origin::plain(|_| Reply::new().close());
    let mut run = Run::new();
    let total = Duration::from_millis(200);
    // More retries than fit, within the budget or not: it ends, with one of two reasons.
    let told = run.fetch(get(&origin, "/").retries(1_000).timeout(total));
    assert_eq!(told.end, Some(End::Failed));
    let error = told.error.as_ref().unwrap();
    let is_total = error.limit() == Some(Limit::Total);
    assert!(is_total || error.kind() == Kind::Closed, "{error}");
    assert_eq!(origin.requests().len(), told.stats.attempts as usize);
    assert_eq!((run.reactor.pending(), run.reactor.waiting()), (0, 0));
}

/// A fetch that waits before its retry holds no slot, and goes in front of those who wait when it
/// comes back.
#[test]
fn a_fetch_that_waits_for_its_retry_holds_up_nobody() {
    let origin = first_then_ok(|seen| match &seen.target[..] {
        "/busy" => response(503, &[("Retry-After", "1")], ""),
        _ => ok("other"),
    });
    let mut run = Run::with(|settings| settings.concurrency = 1);
    let busy = run.submit(get(&origin, "/busy"));
    let others: Vec<_> = (0..10).map(|n| run.submit(get(&origin, &format!("/{n}")))).collect();
    run.until(|run| others.iter().all(|id| run.told(*id).end.is_some()));
    assert_eq!(run.told(busy).end, None);
    assert_eq!((run.reactor.pending(), run.reactor.waiting(), run.reactor.in_flight()), (1, 1, 0));
    assert_eq!(run.until_ended(busy).answer().1, b"second");
}

/// The refused answer's body is drained, like a redirect's; a long one costs the connection.
#[test]
fn the_body_of_an_answer_that_is_retried_reaches_nobody() {
    for (length, connections) in [(1_000, 1), (100_000, 2)] {
        let origin = first_then_ok(move |_| response(503, &[], "x".repeat(length)));
        for collect in [false, true] {
            let mut run = Run::new();
            let path = format!("/{collect}");
            let told = run.fetch(get(&origin, &path).collect(collect));
            assert_eq!((told.answer(), told.stats.wire_bytes), ((200, &b"second"[..]), 6));
            assert_eq!(origin.log().open_max, 1);
            assert_eq!(told.stats.reused, connections == 1);
            run.fetch(get(&origin, &path).header("Connection", "close").unwrap());
            origin.wait_for(|log| log.open == 0);
        }
    }
}

#[test]
fn over_tls_a_connection_that_ends_in_the_handshake_is_tried_again() {
    let greeting = |nth| if nth == 0 { Reply::new().close() } else { Reply::new() };
    let setup = Setup {
        tls: Some(support::TlsSetup::default()),
        greeting: Some(Box::new(greeting)),
        ..Setup::default()
    };
    let origin = Origin::start(setup, |_| chunked(&["ab", "c"]));
    let mut run = Run::new();
    let told = run.fetch(Request::post(origin.url("/")).unwrap());
    assert_eq!((told.answer().1, told.stats.attempts), (&b"abc"[..], 2));
}

#[test]
fn over_tls_a_kept_connection_that_has_died_is_replaced_silently() {
    let end = Latch::new();
    let ending = end.clone();
    let origin = Origin::tls(move |seen| match (seen.connection, seen.nth) {
        (0, 0) => ok("first").then(Action::Receive(1)).release(&ending).close_without_notify(),
        _ => ok("fresh"),
    });
    let mut run = Run::new();
    run.get(&origin.url("/"));
    let told = run.fetch(get(&origin, "/").retries(0));
    assert_eq!((told.answer().1, told.stats.attempts), (&b"fresh"[..], 2));
    assert!(end.is_released());
}
