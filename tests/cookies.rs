//! Cookies over real sockets: what a response sets, later requests carry, and no other host sees.

mod support;
mod transcript;

use std::net::{IpAddr, Ipv4Addr};
use std::time::SystemTime;

use support::{Origin, Reply, Seen, ok, redirect, response};
use transcript::Run;
use whippet::{Client, Event, Request, Resolve, Settings};

/// Answers with the Cookie fields that it saw, and sets a cookie where the target says
/// `/set/FIELD`, with `+` for a space.
fn origin() -> Origin {
    Origin::plain(answer)
}

fn answer(seen: &Seen) -> Reply {
    let field = seen.target.strip_prefix("/set/").map(|field| field.replace('+', " "));
    let set: Vec<_> = field.iter().map(|field| ("Set-Cookie", &field[..])).collect();
    response(200, &set, shown(seen))
}

/// The values of all Cookie fields; more than one would be a fault.
fn shown(seen: &Seen) -> String {
    let cookies = seen.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("cookie"));
    cookies.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(" AND ")
}

/// Every name of `.example` that the tests use leads to loopback.
fn at_names(settings: &mut Settings, origins: &[&Origin]) {
    for origin in origins {
        for host in ["a.example", "www.a.example", "b.example"] {
            settings.resolve.push(Resolve {
                host: host.to_owned(),
                port: origin.port(),
                address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            });
        }
    }
}

fn text(run: &mut Run, request: Request) -> String {
    let told = run.fetch(request.collect(true));
    String::from_utf8(told.answer().1.to_vec()).unwrap()
}

fn get(run: &mut Run, url: &str) -> String {
    text(run, Request::get(url).unwrap())
}

#[test]
fn what_is_set_is_sent_from_then_on() {
    let origin = origin();
    let mut run = Run::new();
    let request = Request::get(origin.url("/x")).unwrap();
    assert_eq!(text(&mut run, request.clone()), "");
    assert_eq!(get(&mut run, &origin.url("/set/a=1;+Path=/")), "");
    assert_eq!(text(&mut run, request.clone()), "a=1");
    assert_eq!(get(&mut run, &origin.url("/set/b=2;+Path=/x;+HttpOnly")), "a=1");
    assert_eq!(text(&mut run, request.clone()), "b=2; a=1");
    assert_eq!(get(&mut run, &origin.url("/set/a=;+Max-Age=0;+Path=/")), "a=1");
    assert_eq!(text(&mut run, request.clone()), "b=2");
    run.reactor.cookies_mut().clear();
    assert_eq!(text(&mut run, request), "");
}

#[test]
fn a_cookie_is_kept_before_its_head_is_lent() {
    let origin = origin();
    let mut run = Run::new();
    let id = run.submit(Request::get(origin.url("/set/a=1")).unwrap());
    run.until(|run| run.told(id).status.is_some());
    assert_eq!(run.reactor.cookies().len(), 1);
    run.finish();
}

#[test]
fn each_hop_of_a_redirect_sets_and_sends() {
    let origin = Origin::plain(|seen| match &seen.target[..] {
        "/login" => response(303, &[("Location", "/next"), ("Set-Cookie", "id=1")], ""),
        "/next" => {
            let set = [("Location", "/end"), ("Set-Cookie", "id=2"), ("set-cookie", "more=3")];
            response(302, &set, "")
        }
        _ => ok(shown(seen)),
    });
    let mut run = Run::new();
    let login = Request::post(origin.url("/login")).unwrap().body("name=me");
    assert_eq!(text(&mut run, login), "id=2; more=3");
    assert_eq!(shown(&origin.requests()[1]), "id=1");
}

#[test]
fn a_page_that_wants_its_cookie_first_is_reached() {
    let origin = Origin::plain(|seen| match seen.header("cookie") {
        Some("seen=1") => ok("here"),
        _ => response(302, &[("Location", "/"), ("Set-Cookie", "seen=1")], ""),
    });
    assert_eq!(get(&mut Run::new(), &origin.url("/")), "here");
}

#[test]
fn no_cookie_reaches_another_host() {
    let other = origin();
    let aim = other.url_at("b.example", "/");
    let origin = Origin::plain(move |seen| match &seen.target[..] {
        "/away" => response(307, &[("Location", &*aim), ("Set-Cookie", "new=1")], ""),
        _ => answer(seen),
    });
    let mut run = Run::with(|settings| at_names(settings, &[&origin, &other]));
    let at = |host: &str, target: &str| origin.url_at(host, target);
    get(&mut run, &at("a.example", "/set/host=1;+Path=/"));
    get(&mut run, &at("a.example", "/set/evil=1;+Domain=b.example;+Path=/"));
    get(&mut run, &at("a.example", "/set/wide=1;+Domain=example;+Path=/"));
    let away = Request::get(at("a.example", "/away")).unwrap().header("Cookie", "own=1").unwrap();
    assert_eq!(text(&mut run, away), "");
    assert_eq!(shown(origin.requests().last().unwrap()), "own=1; host=1");
    for url in [at("b.example", "/"), at("www.a.example", "/"), other.url("/")] {
        assert_eq!(get(&mut run, &url), "", "{url}");
    }
    // Ports are no bounds of a cookie's (RFC 6265 §8.5).
    assert_eq!(get(&mut run, &other.url_at("a.example", "/")), "host=1; new=1");
}

#[test]
#[cfg(feature = "public-suffixes")]
fn a_domain_is_for_the_hosts_of_its_site() {
    let origin = origin();
    let mut run = Run::with(|settings| at_names(settings, &[&origin]));
    get(&mut run, &origin.url_at("www.a.example", "/set/site=1;+Domain=a.example;+Path=/"));
    assert_eq!(get(&mut run, &origin.url_at("a.example", "/")), "site=1");
    assert_eq!(get(&mut run, &origin.url_at("www.a.example", "/")), "site=1");
    assert_eq!(get(&mut run, &origin.url_at("b.example", "/")), "");
}

#[test]
fn a_secure_cookie_goes_over_tls_only() {
    let (plain, secure) = (origin(), Origin::tls(answer));
    let mut run = Run::new();
    get(&mut run, &secure.url_at("localhost", "/set/s=1;+Secure;+Path=/"));
    get(&mut run, &secure.url_at("localhost", "/set/__Host-h=2;+Secure;+Path=/"));
    get(&mut run, &plain.url_at("localhost", "/set/p=3;+Path=/"));
    get(&mut run, &plain.url_at("localhost", "/set/s=4;+Path=/"));
    get(&mut run, &plain.url_at("localhost", "/set/t=5;+Secure;+Path=/"));
    assert_eq!(get(&mut run, &secure.url_at("localhost", "/")), "s=1; __Host-h=2; p=3");
    assert_eq!(get(&mut run, &plain.url_at("localhost", "/")), "p=3");
}

#[test]
fn a_failure_that_is_retried_sets_and_an_interim_response_does_not() {
    let origin = Origin::plain(|seen| match seen.nth {
        0 => response(503, &[("Retry-After", "0"), ("Set-Cookie", "turn=1")], ""),
        _ => Reply::new().send(format!(
            "HTTP/1.1 103 Early Hints\r\nSet-Cookie: early=1\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}",
            shown(seen).len(),
            shown(seen)
        )),
    });
    let mut run = Run::new();
    assert_eq!(get(&mut run, &origin.url("/")), "turn=1");
    assert_eq!(get(&mut run, &origin.url("/")), "turn=1");
}

#[test]
fn a_folded_field_is_one_line_of_a_cookie() {
    let origin = Origin::plain(|seen| match &seen.target[..] {
        "/" => Reply::new()
            .send("HTTP/1.1 200 OK\r\nSet-Cookie: a=1;\r\n Path=/b\r\nContent-Length: 0\r\n\r\n"),
        _ => ok(shown(seen)),
    });
    let mut run = Run::new();
    get(&mut run, &origin.url("/"));
    assert_eq!(get(&mut run, &origin.url("/c")), "");
    assert_eq!(get(&mut run, &origin.url("/b")), "a=1");
}

#[test]
fn a_word_turns_them_off_or_on() {
    let origin = origin();
    let set = || Request::get(origin.url("/set/a=1;+Path=/")).unwrap();
    let ask = || Request::get(origin.url("/")).unwrap();
    let mut run = Run::new();
    text(&mut run, set().cookies(false));
    assert!(run.reactor.cookies().is_empty());
    text(&mut run, set());
    assert_eq!(text(&mut run, ask().cookies(false)), "");
    assert_eq!(text(&mut run, ask()), "a=1");
    let mut run = Run::with(|settings| settings.cookies = false);
    text(&mut run, set());
    assert!(run.reactor.cookies().is_empty());
    text(&mut run, set().cookies(true));
    assert_eq!(text(&mut run, ask()), "");
    assert_eq!(text(&mut run, ask().cookies(true)), "a=1");
}

#[test]
fn ones_own_cookies_are_joined_into_one_field() {
    let origin = origin();
    let mut run = Run::new();
    get(&mut run, &origin.url("/set/jar=1;+Path=/"));
    get(&mut run, &origin.url("/set/both=2;+Path=/"));
    let own = || {
        let request = Request::get(origin.url("/")).unwrap();
        request.header("cookie", "own=1").unwrap().header("X-A", "b").unwrap()
    };
    let request = own().header("COOKIE", "both=9").unwrap();
    assert_eq!(text(&mut run, request), "own=1; both=9; jar=1");
    assert_eq!(origin.requests().last().unwrap().header("x-a"), Some("b"));
    run.reactor.cookies_mut().clear();
    assert_eq!(text(&mut run, own()), "own=1");
}

#[test]
fn a_long_body_goes_with_its_cookies() {
    let origin = Origin::plain(|seen| match &seen.target[..] {
        "/set" => response(200, &[("Set-Cookie", "a=1")], ""),
        _ => ok(format!("{} {}", seen.body.len(), shown(seen))),
    });
    let mut run = Run::new();
    get(&mut run, &origin.url("/set"));
    for length in [0, 1, 64 << 10, (64 << 10) + 1, 1 << 20] {
        let request = Request::post(origin.url("/")).unwrap().body(vec![b'x'; length]);
        assert_eq!(text(&mut run, request), format!("{length} a=1"));
    }
}

#[test]
fn a_client_has_one_jar_which_a_file_can_carry_to_the_next() {
    let origin = origin();
    let mut first = Client::new().unwrap();
    first.get(&origin.url("/set/a=1")).unwrap();
    let answers = first.gather([origin.url("/set/"), origin.url("/set/")]);
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().text() == "a=1"));
    let mut second = Client::new().unwrap();
    assert_eq!(second.get(&origin.url("/set/")).unwrap().text(), "");
    let now = SystemTime::UNIX_EPOCH;
    let file = first.cookies().to_netscape(now);
    assert_eq!(second.cookies_mut().read_netscape(&file, now), 0);
    // Under "/set", where no Path said otherwise.
    assert_eq!(second.get(&origin.url("/set/")).unwrap().text(), "a=1");
}

#[test]
fn what_a_server_may_not_set_fails_nothing() {
    let fields = ["", "=", "a=1; Domain=com", "a=1; Secure", &"x".repeat(5_000), "__Host-a=1"];
    let set: Vec<_> = fields.map(|field| ("Set-Cookie", field)).to_vec();
    let set: Vec<(&'static str, String)> =
        set.into_iter().map(|(name, field)| (name, field.to_owned())).collect();
    let origin = Origin::plain(move |_| {
        let set: Vec<_> = set.iter().map(|(name, field)| (*name, field.as_str())).collect();
        response(200, &set, "fine")
    });
    let mut run = Run::new();
    assert_eq!(get(&mut run, &origin.url("/")), "fine");
    assert!(run.reactor.cookies().is_empty());
}

#[test]
fn a_redirect_that_is_refused_has_still_set_its_cookie() {
    let origin = Origin::plain(|seen| match &seen.target[..] {
        "/" => response(302, &[("Location", "ftp://a.example/"), ("Set-Cookie", "a=1")], ""),
        _ => redirect(302, "/"),
    });
    let mut run = Run::new();
    run.get(&origin.url("/x")).kind();
    assert_eq!(run.reactor.cookies().len(), 1);
}

#[test]
fn events_and_jars_are_printed_without_cookies() {
    let origin = Origin::plain(|_| response(200, &[("Set-Cookie", "canary=canary")], "x"));
    let mut run = Run::new();
    run.reactor.submit(Request::get(origin.url("/")).unwrap()).unwrap();
    let mut printed = String::new();
    while run.reactor.pending() > 0 {
        run.reactor.wait(None).unwrap();
        while let Some(event) = run.reactor.next_event() {
            printed += &format!("{event:?}");
            if let Event::Head { head, .. } = event {
                printed += &format!("{head:?} {:?}", head.to_header_map());
            }
        }
        printed += &format!("{:?} {:?}", run.reactor, run.reactor.cookies());
    }
    assert_eq!(run.reactor.cookies().len(), 1);
    assert!(!printed.contains("canary"), "{printed}");
}
