//! Redirects over real sockets: what the next request says, what it no longer says, where it
//! ends, and what becomes of the connection that redirected.

mod support;
mod transcript;

use std::sync::{Arc, OnceLock};

use support::{Latch, Origin, Reply, Seen, Setup, chunked, ok, redirect, refused_port, response};
use transcript::{Run, Told};
use whippet::{Kind, Phase, Refusal, Request};

const CREDENTIALS: [(&str, &str); 5] = [
    ("Authorization", "one"),
    ("authorization", "two"),
    ("Cookie", "a=1"),
    ("COOKIE", "b=2"),
    ("Proxy-Authorization", "three"),
];

fn with_headers(mut request: Request, headers: &[(&str, &str)]) -> Request {
    for (name, value) in headers {
        request = request.header(name, value).unwrap();
    }
    request
}

fn names(seen: &Seen) -> Vec<&str> {
    seen.headers.iter().map(|(name, _)| &name[..]).collect()
}

fn hops(told: &Told) -> Vec<(u16, String)> {
    let recorded = match &told.response {
        Some(response) => response.redirects(),
        None => &told.redirects,
    };
    recorded.iter().map(|hop| (hop.status, hop.url.to_string())).collect()
}

fn refusal(told: &Told) -> Refusal {
    assert_eq!(told.kind(), Kind::Redirect);
    let error = told.error.as_ref().unwrap();
    assert_eq!(error.phase(), Phase::Head);
    let source = std::error::Error::source(error).unwrap();
    source.downcast_ref::<Refusal>().unwrap().clone()
}

#[test]
fn methods_and_bodies_change_as_the_status_says() {
    let origin = Origin::plain(|seen| match seen.target.trim_start_matches('/').parse() {
        Ok(status) => redirect(status, "/end"),
        _ => ok(format!("{} {}", seen.method, String::from_utf8_lossy(&seen.body))),
    });
    let mut run = Run::new();
    for (method, status, expected) in [
        ("GET", 301, "GET body"),
        ("GET", 303, "GET "),
        ("POST", 301, "GET "),
        ("POST", 302, "GET "),
        ("POST", 303, "GET "),
        ("POST", 307, "POST body"),
        ("POST", 308, "POST body"),
        ("PUT", 301, "PUT body"),
        ("PUT", 302, "PUT body"),
        ("PUT", 303, "GET "),
        ("PUT", 308, "PUT body"),
        ("DELETE", 302, "DELETE body"),
        ("PATCH", 307, "PATCH body"),
        ("PROPFIND", 303, "GET "),
    ] {
        let request = Request::new(method, origin.url(&format!("/{status}"))).unwrap();
        let request = with_headers(request, &[("Content-Type", "text/x"), ("X-A", "1")]);
        let told = run.fetch(request.body("body").collect(true).tag(9));
        assert_eq!(String::from_utf8_lossy(told.answer().1), expected, "{method} {status}");
        assert_eq!((told.stats.redirects, told.stats.attempts), (1, 2));
        let last = origin.requests().pop().unwrap();
        let keeps_body = expected.ends_with("body");
        assert_eq!(last.header("content-type").is_some(), keeps_body, "{method} {status}");
        assert_eq!(last.header("content-length").is_some(), keeps_body);
        assert_eq!(last.header("x-a"), Some("1"));
        let hop = &told.response.as_ref().unwrap().redirects()[0];
        assert_eq!((hop.status, hop.method.as_str()), (status, method));
    }
    let told = run.fetch(Request::head(origin.url("/303")).unwrap());
    assert_eq!(told.answer(), (200, &b""[..]));
    assert_eq!(origin.requests().pop().unwrap().method, "HEAD");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_large_body_is_sent_again() {
    let body = transcript::noise(2 << 20);
    let origin = Origin::plain(|seen| match &seen.target[..] {
        "/" => redirect(307, "/end"),
        _ => ok(&seen.body),
    });
    let mut run = Run::new();
    let told = run.fetch(Request::post(origin.url("/")).unwrap().body(&body[..]));
    transcript::assert_same(told.answer().1, &body);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn locations_are_relative_to_the_last_url_and_fragments_go_along() {
    let origin = Origin::plain(|seen| match &seen.target[..] {
        "/a/b?q" => redirect(302, "../c/d?r#new"),
        "/c/d?r" => redirect(301, "?s"),
        "/c/d?s" => redirect(307, "e f\u{e9}"),
        "/keep" => redirect(302, "/c/end"),
        "/drop" => redirect(302, "/c/end#"),
        target if target.starts_with("/c/") => ok(target),
        _ => redirect(302, "//127.0.0.1:1/"),
    });
    let mut run = Run::new();
    let told = run.get(&origin.url("/a/b?q#old"));
    assert_eq!(told.answer().1, b"/c/e%20f%C3%A9");
    assert_eq!(told.url.as_ref().unwrap().as_str(), origin.url("/c/e%20f%C3%A9#new"));
    let urls = ["/a/b?q#old", "/c/d?r#new", "/c/d?s#new"].map(|path| origin.url(path));
    let expected = [302, 301, 307].into_iter().zip(urls).collect::<Vec<_>>();
    assert_eq!(hops(&told), expected);
    assert_eq!((told.stats.redirects, told.stats.attempts), (3, 4));
    for (path, fragment) in [("/keep#kept", Some("kept")), ("/drop#kept", Some(""))] {
        for collect in [false, true] {
            let request = Request::get(origin.url(path)).unwrap().collect(collect);
            let told = run.fetch(request);
            let url = told.response.as_ref().map_or(told.url.as_ref(), |r| Some(r.url()));
            assert_eq!(url.unwrap().fragment(), fragment);
        }
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn what_is_no_redirect_is_the_answer() {
    let origin = Origin::plain(|seen| match &seen.target[..] {
        "/none" => response(302, &[], "body"),
        "/empty" => response(302, &[("Location", "")], "body"),
        "/304" => Reply::new().send("HTTP/1.1 304 Not Modified\r\nLocation: /end\r\n\r\n"),
        target => {
            let status = target.trim_start_matches('/').parse().unwrap_or(200);
            response(status, &[("Location", "/end")], "body")
        }
    });
    let mut run = Run::new();
    for (path, status) in
        [("/none", 302), ("/empty", 302), ("/300", 300), ("/305", 305), ("/201", 201)]
    {
        let told = run.get(&origin.url(path));
        assert_eq!(told.answer(), (status, &b"body"[..]), "{path}");
        assert_eq!(told.stats.redirects, 0);
    }
    assert_eq!(run.get(&origin.url("/304")).answer(), (304, &b""[..]));
    // Where redirects are not followed.
    let told = run.fetch(Request::get(origin.url("/301")).unwrap().follow(false));
    assert_eq!(told.answer(), (301, &b"body"[..]));
    assert!(told.headers.contains(&("Location".to_owned(), b"/end".to_vec())));
    let mut unfollowing = Run::with(|settings| settings.follow = false);
    let told = unfollowing.collect(&origin.url("/308"));
    assert_eq!(told.answer(), (308, &b"body"[..]));
    let followed = Request::get(origin.url("/308")).unwrap().follow(true);
    assert_eq!(unfollowing.fetch(followed).stats.redirects, 1);
}

#[test]
fn the_limit_and_a_loop_are_named() {
    let origin = Origin::plain(|seen| match seen.target.split_at(2) {
        ("/n", number) => redirect(302, &format!("/n{}", number.parse::<u32>().unwrap() + 1)),
        ("/a", _) => redirect(302, "/b#x"),
        ("/b", _) => redirect(302, "/a#y"),
        ("/s", _) => redirect(307, "/s"),
        _ => ok("end"),
    });
    let mut run = Run::new();
    let url = |path: &str| whippet::url::Url::parse(&origin.url(path)).unwrap();
    for collect in [false, true] {
        let told = run.fetch(Request::get(origin.url("/n0")).unwrap().collect(collect));
        assert_eq!(refusal(&told), Refusal::TooMany { max: 10, url: url("/n11") });
        assert_eq!((told.stats.redirects, told.stats.attempts), (10, 11));
        assert!(told.error.unwrap().to_string().contains("more than 10 redirects"));
    }
    let request = |path: &str| Request::get(origin.url(path)).unwrap();
    let told = run.fetch(request("/n0").redirects_max(0));
    assert_eq!(refusal(&told), Refusal::TooMany { max: 0, url: url("/n1") });
    assert_eq!(told.stats.attempts, 1);
    let told = run.fetch(request("/n0").redirects_max(2));
    assert_eq!(refusal(&told), Refusal::TooMany { max: 2, url: url("/n3") });
    for path in ["/a", "/s"] {
        let told = run.fetch(request(path));
        assert!(matches!(refusal(&told), Refusal::Loop { .. }), "{path}");
        assert!(told.error.unwrap().to_string().contains("loop"));
    }
    // A refused redirect leaves its connection as fit as one that is followed.
    assert_eq!(run.get(&origin.url("/end")).answer().1, b"end");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_page_that_redirects_to_itself_once_is_followed() {
    let origin = Origin::plain(|seen| match seen.nth {
        0 => redirect(302, "/"),
        _ => ok("set"),
    });
    assert_eq!(Run::new().get(&origin.url("/")).answer().1, b"set");
}

#[test]
fn a_location_that_leads_nowhere_is_refused() {
    let origin = Origin::plain(|seen| match &seen.target[..] {
        "/ftp" => redirect(302, "ftp://127.0.0.1/"),
        "/data" => redirect(302, "data:text/plain,x"),
        "/file" => redirect(302, "file:///etc/passwd"),
        "/bad" => redirect(302, "http://[::1/"),
        "/port" => redirect(302, "http://127.0.0.1:99999/"),
        "/zero" => redirect(302, "http://127.0.0.1:0/"),
        _ => Reply::new().send(b"HTTP/1.1 302 A\r\nLocation: /\xff\r\nContent-Length: 0\r\n\r\n"),
    });
    let mut run = Run::new();
    for path in ["/ftp", "/data", "/file"] {
        let refused = refusal(&run.get(&origin.url(path)));
        assert!(matches!(refused, Refusal::UnsupportedScheme { .. }), "{path}");
    }
    for path in ["/bad", "/port", "/utf8"] {
        let refused = refusal(&run.get(&origin.url(path)));
        assert!(matches!(refused, Refusal::InvalidLocation { .. }), "{path}");
    }
    assert_eq!(run.get(&origin.url("/zero")).kind(), Kind::InvalidUrl);
    assert_eq!(run.reactor.pending(), 0);
}

#[test]
fn a_downgrade_is_refused_unless_it_is_allowed() {
    let plain = Origin::plain(|seen| ok(format!("{:?}", seen.header("cookie"))));
    let target = plain.url("/");
    let secure = Origin::tls(move |_| redirect(302, &target));
    let mut run = Run::new();
    let request = with_headers(Request::get(secure.url("/")).unwrap(), &CREDENTIALS);
    let refused = refusal(&run.fetch(request.clone()));
    assert!(matches!(refused, Refusal::Downgrade { url } if url.as_str() == plain.url("/")));
    assert!(plain.requests().is_empty());
    let mut lax = Run::with(|settings| settings.allow_downgrade = true);
    assert_eq!(lax.fetch(request).answer().1, b"None");
    // Upwards is no matter, but another origin.
    let target = secure.url("/x");
    let upgrading = Origin::plain(move |_| redirect(301, &target));
    let request = Request::get(upgrading.url("/")).unwrap().redirects_max(1);
    let told = run.fetch(with_headers(request, &CREDENTIALS));
    assert!(matches!(refusal(&told), Refusal::Downgrade { .. }));
    assert_eq!(secure.requests().pop().unwrap().header("authorization"), None);
}

#[test]
fn credentials_stay_inside_their_origin() {
    let back = Arc::new(OnceLock::<String>::new());
    let home = Arc::clone(&back);
    let other = Origin::plain(move |_| redirect(302, home.get().unwrap()));
    let away = other.url("/away");
    let origin = Origin::plain(move |seen| match &seen.target[..] {
        "/inside" => redirect(302, "/same"),
        "/away" => redirect(302, &away),
        "/name" => redirect(302, &away.replace("127.0.0.1", "localhost").replace("/away", "/x")),
        _ => ok("end"),
    });
    back.set(origin.url("/back")).unwrap();
    let mut run = Run::new();
    let get = |path: &str| {
        let headers = [&[("X-Before", "1")][..], &CREDENTIALS, &[("X-Cookie", "2")]].concat();
        with_headers(Request::get(origin.url(path)).unwrap(), &headers)
    };
    assert_eq!(run.fetch(get("/inside")).answer().1, b"end");
    let inside = origin.requests();
    assert_eq!(names(&inside[0])[1..9], names(&inside[1])[1..9]);
    assert_eq!(inside[1].headers.iter().filter(|(_, value)| value == "two").count(), 1);
    // There and back again: what was dropped does not come back.
    assert_eq!(run.fetch(get("/away")).answer().1, b"end");
    let left = ["Host", "X-Before", "X-Cookie", "Accept", "Accept-Encoding", "User-Agent"];
    assert_eq!(names(&other.requests()[0]), left);
    let returned = origin.requests().pop().unwrap();
    assert_eq!((&returned.target[..], names(&returned)), ("/back", left.to_vec()));
    assert_eq!(returned.header("host"), Some(&origin.address().to_string()[..]));
    assert_eq!(other.requests()[0].header("host"), Some(&other.address().to_string()[..]));
    // The same for user information in the URL.
    let told = run.get(&origin.url_at("user:hush@127.0.0.1", "/away"));
    assert_eq!(told.answer().1, b"end");
    assert_eq!(other.requests()[1].header("authorization"), None);
    assert!(hops(&told).iter().all(|(_, url)| !url.contains("hush")));
}

/// Each header that authenticates, alone, in copies and in every case, over each way to leave: the
/// scheme (both ways), the host, the port.
#[test]
fn no_copy_of_a_credential_leaves_in_any_case() {
    let secret = Arc::new(Origin::tls(|_| ok("end")));
    let port = Origin::plain(|_| ok("end"));
    let setup = Setup { address: ([127, 0, 0, 2], 0).into(), ..Setup::default() };
    let host = Origin::start(setup, |_| ok("end"));
    let ways = [secret.url("/"), port.url("/"), host.url("/")];
    let origin =
        Origin::plain(move |seen| match seen.target.trim_start_matches('/').parse::<usize>() {
            Ok(way) => redirect(302, &ways[way]),
            Err(_) => ok("end"),
        });
    let away = origin.url("/end");
    let down = Origin::tls(move |_| redirect(307, &away));
    let mut run = Run::with(|settings| settings.allow_downgrade = true);
    let given = [("scheme", origin.url("/0")), ("port", origin.url("/1"))];
    let given = given.into_iter().chain([("host", origin.url("/2")), ("down", down.url("/"))]);
    for (way, url) in given {
        for name in ["authorization", "cookie", "proxy-authorization"] {
            let mixed: String = name
                .char_indices()
                .map(|(at, c)| if at % 2 == 0 { c.to_ascii_uppercase() } else { c })
                .collect();
            let copies = [&name.to_ascii_uppercase()[..], name, &mixed, name, "X-Kept"];
            let copies = copies.map(|name| (name, "canary"));
            let told = run.fetch(with_headers(Request::get(&url).unwrap(), &copies));
            assert_eq!(told.answer().1, b"end", "{way} {name}");
            let seen = match way {
                "scheme" => secret.requests(),
                "port" => port.requests(),
                "host" => host.requests(),
                _ => origin.requests(),
            };
            let arrived = names(seen.last().unwrap()).join(" ");
            assert_eq!(arrived, "Host X-Kept Accept Accept-Encoding User-Agent", "{way} {name}");
        }
    }
}

#[test]
fn user_information_in_a_location_is_dropped() {
    let target = Arc::new(OnceLock::<String>::new());
    let location = Arc::clone(&target);
    let origin = Origin::plain(move |seen| match &seen.target[..] {
        "/" => redirect(302, location.get().unwrap()),
        _ => ok(format!("{:?}", seen.header("authorization"))),
    });
    target.set(origin.url_at("evil:x@127.0.0.1", "/end")).unwrap();
    let told = Run::new().get(&origin.url("/"));
    assert_eq!(told.answer().1, b"None");
    assert_eq!(told.url.unwrap().as_str(), origin.url("/end"));
}

/// Redirects to another origin, then fetches once more: what the first connection was good for.
fn assert_kept(kept: bool, reply: impl Fn(&str) -> Reply + Send + Sync + 'static) {
    let end = Origin::plain(|_| ok("end"));
    let location = end.url("/");
    let origin = Origin::plain(move |seen| match &seen.target[..] {
        "/" => reply(&location),
        _ => ok("again"),
    });
    let mut run = Run::new();
    let told = run.get(&origin.url("/"));
    assert_eq!((told.answer().1, told.stats.wire_bytes), (&b"end"[..], 3));
    let connections = 1 + usize::from(kept);
    run.until(|run| {
        let reactor = &run.reactor;
        (reactor.connections(), reactor.idle_connections()) == (connections, connections)
    });
    assert_eq!(run.get(&origin.url("/again")).answer().1, b"again");
    assert_eq!(origin.connections(), if kept { 1 } else { 2 });
}

#[test]
fn a_short_body_of_a_redirect_is_drained_for_the_sake_of_its_connection() {
    const MOST: usize = 64 << 10;
    for length in [0, 1, 1_000, MOST] {
        assert_kept(true, move |to| response(302, &[("Location", to)], vec![b'x'; length]));
    }
    let chunks = |to: &str, length: usize| {
        let chunks = [vec![b'x'; length / 2], vec![b'x'; length - length / 2]];
        let head =
            format!("HTTP/1.1 302 A\r\nLocation: {to}\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut reply = Reply::new().send(head);
        reply.0.extend(chunked(&chunks).0.into_iter().skip(1));
        reply
    };
    assert_kept(true, move |to| chunks(to, 0));
    assert_kept(true, move |to| chunks(to, MOST));
    assert_kept(false, move |to| chunks(to, MOST + 1));
    assert_kept(false, move |to| chunks(to, 1 << 20));
    assert_kept(false, |to| response(302, &[("Location", to)], vec![b'x'; MOST + 1]));
    assert_kept(false, |to| {
        Reply::new().send(format!("HTTP/1.1 302 A\r\nLocation: {to}\r\n\r\nx")).close()
    });
    assert_kept(false, |to| response(302, &[("Location", to), ("Connection", "close")], "x"));
    // It goes wrong after the fetch has gone on: no matter but to the connection.
    assert_kept(false, |to| {
        let head =
            format!("HTTP/1.1 302 A\r\nLocation: {to}\r\nTransfer-Encoding: chunked\r\n\r\n");
        Reply::new().send(head).send("x")
    });
    assert_kept(false, |to| {
        Reply::new()
            .send(format!("HTTP/1.1 302 A\r\nLocation: {to}\r\nContent-Length: 9\r\n\r\nx"))
            .close()
    });
}

/// The body of the redirect never ends; the fetch that has gone on is not held up by it.
#[test]
fn nobody_waits_for_the_body_of_a_redirect() {
    let never = Latch::new();
    let latch = never.clone();
    let origin = Origin::plain(move |seen| match &seen.target[..] {
        "/" => Reply::new()
            .send("HTTP/1.1 302 A\r\nLocation: /end\r\nContent-Length: 9\r\n\r\nhalf")
            .wait(&latch),
        _ => ok("end"),
    });
    let mut run = Run::with(|settings| settings.concurrency = 1);
    let told = run.get(&origin.url("/"));
    assert_eq!(told.answer().1, b"end");
    assert_eq!((run.reactor.connections(), run.reactor.in_flight()), (2, 0));
    // It is given up after a while.
    run.until(|run| run.reactor.connections() == 1);
    assert!(!never.is_released());
}

#[test]
fn a_redirect_to_where_nobody_listens_fails_as_a_connection() {
    let nobody = refused_port();
    let origin = Origin::plain(move |_| redirect(302, &format!("http://{nobody}/x")));
    let mut run = Run::new();
    let told = run.fetch(Request::get(origin.url("/")).unwrap().retries(0));
    assert_eq!(told.kind(), Kind::Connect);
    let error = told.error.as_ref().unwrap();
    assert_eq!(error.tried().iter().map(|tried| tried.address).collect::<Vec<_>>(), [nobody]);
    assert_eq!((told.stats.attempts, told.stats.redirects), (2, 1));
    assert_eq!(run.reactor.idle_connections(), 1);
}

#[test]
fn a_redirect_goes_before_those_who_wait() {
    let origin = Origin::plain(|seen| match &seen.target[..] {
        "/first" => redirect(302, "/first-again"),
        _ => ok(&seen.target),
    });
    let mut run = Run::with(|settings| settings.concurrency = 1);
    for path in ["/first", "/second", "/third"] {
        run.submit(Request::get(origin.url(path)).unwrap());
    }
    run.finish();
    let order: Vec<_> = origin.requests().into_iter().map(|seen| seen.target).collect();
    assert_eq!(order, ["/first", "/first-again", "/second", "/third"]);
}

#[test]
fn a_redirected_fetch_can_be_cancelled_and_paused() {
    let origin = Origin::plain(|seen| match &seen.target[..] {
        "/" => redirect(302, "/end"),
        "/hang" => redirect(302, "/silent"),
        "/silent" => Reply::new(),
        _ => ok("end"),
    });
    let mut run = Run::new();
    let id = run.submit(Request::get(origin.url("/hang")).unwrap());
    run.until(|_| origin.requests().len() == 2);
    assert!(run.cancel(id));
    assert_eq!((run.reactor.pending(), run.reactor.connections(), run.poll()), (0, 0, 0));
    let id = run.submit(Request::get(origin.url("/")).unwrap());
    run.reactor.pause(id);
    run.until(|_| origin.requests().len() == 3);
    run.poll();
    run.reactor.resume(id);
    assert_eq!(run.until_ended(id).answer().1, b"end");
}
