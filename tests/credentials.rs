//! Credentials over real sockets: a challenge is answered by one more exchange of the same fetch,
//! later requests answer beforehand, and nothing of it reaches another origin.

mod support;
mod transcript;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use support::{Origin, Reply, Seen, ok, redirect, response};
use transcript::Run;
use whippet::{Netrc, Request, Resolve, Settings};

const SECRET: &str = "canary7Q";

/// A 401 that asks for an answer to `nonce`.
#[cfg(feature = "digest")]
fn challenge(nonce: &str, more: &str) -> Reply {
    let field = format!("Digest realm=\"r\", qop=\"auth\", nonce=\"{nonce}\"{more}");
    response(401, &[("WWW-Authenticate", "Basic realm=\"b\""), ("WWW-Authenticate", &field)], "no")
}

/// What the request answers: the nonce and its count.
fn answered(seen: &Seen) -> Option<(String, String)> {
    let value = seen.header("authorization")?.strip_prefix("Digest ")?;
    let part = |name: &str| {
        let mut parts = value.split(", ").filter_map(|part| part.split_once('='));
        parts.find(|(given, _)| *given == name).map(|(_, value)| value.trim_matches('"').to_owned())
    };
    assert_eq!(part("username").unwrap(), "me");
    assert_eq!(part("uri").unwrap(), seen.target);
    assert_eq!(part("response").unwrap().len(), 32);
    assert!(part("cnonce").unwrap().len() >= 16);
    Some((part("nonce")?, part("nc")?))
}

/// One line for each request: its target, and what it answers.
fn log(origin: &Origin) -> Vec<String> {
    let line = |seen: &Seen| match answered(seen) {
        Some((nonce, count)) => format!("{} {nonce} {}", seen.target, count.trim_matches('0')),
        None => format!("{} {}", seen.target, seen.header("authorization").unwrap_or("-")),
    };
    origin.requests().iter().map(line).collect()
}

#[cfg(feature = "digest")]
fn get(url: &str) -> Request {
    Request::get(url).unwrap().digest_auth("me", SECRET).unwrap()
}

/// Names of `.example` lead to loopback.
fn at_names(settings: &mut Settings, origins: &[&Origin]) {
    for origin in origins {
        for host in ["a.example", "b.example"] {
            let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
            settings.resolve.push(Resolve { host: host.to_owned(), port: origin.port(), address });
        }
    }
}

#[test]
#[cfg(feature = "digest")]
fn a_challenge_is_answered_and_later_requests_answer_beforehand() {
    let origin = Origin::plain(|seen| match answered(seen) {
        Some(_) => ok("in"),
        None => challenge("n", ""),
    });
    let mut run = Run::new();
    for collect in [false, true] {
        let told = run.fetch(get(&origin.url("/a")).collect(collect));
        assert_eq!(told.answer(), (200, &b"in"[..]));
        assert_eq!((told.stats.attempts, told.stats.redirects), (2 - u32::from(collect), 0));
    }
    // As often as one likes, and several at once.
    let request = get(&origin.url("/b?c"));
    for _ in 0..10 {
        run.submit(request.clone());
    }
    run.finish();
    assert_eq!(log(&origin)[..3], ["/a -", "/a n 1", "/a n 2"]);
    let mut later: Vec<_> = log(&origin)[3..].to_vec();
    later.sort();
    let count = |n: u32| format!("/b?c n {}", format!("{n:x}").trim_matches('0'));
    let mut expected: Vec<_> = (3..13).map(count).collect();
    expected.sort();
    assert_eq!(later, expected);
    // A request that says nothing of it answers nothing, and so does one of somebody else.
    assert_eq!(run.get(&origin.url("/a")).answer().0, 401);
}

#[test]
#[cfg(feature = "digest")]
fn the_answer_comes_on_the_same_connection_with_its_body() {
    let origin = Origin::plain(|seen| match answered(seen) {
        Some(_) => ok(&seen.body),
        None => challenge("n", ""),
    });
    let mut run = Run::new();
    for length in [5, 200_000] {
        let body = transcript::noise(length);
        let url = origin.url(&format!("/{length}"));
        let request = Request::post(url).unwrap().body(body.clone());
        let told = run.fetch(request.digest_auth("me", "hush").unwrap());
        assert_eq!(told.answer().0, 200);
        transcript::assert_same(&told.body, &body);
        run.reactor.cookies_mut().clear();
    }
    assert_eq!(origin.connections(), 1);
    assert_eq!(log(&origin), ["/5 -", "/5 n 1", "/200000 n 2"]);
}

#[test]
#[cfg(feature = "digest")]
fn a_login_that_is_wrong_is_told_once_and_not_remembered() {
    let origin = Origin::plain(|seen| challenge(&format!("n{}", seen.nth), ""));
    let mut run = Run::new();
    for _ in 0..2 {
        let told = run.fetch(get(&origin.url("/")).collect(true));
        assert_eq!((told.answer(), told.stats.attempts), ((401, &b"no"[..]), 2));
    }
    assert_eq!(log(&origin), ["/ -", "/ n0 1", "/ -", "/ n2 1"]);
}

#[test]
#[cfg(feature = "digest")]
fn a_stale_nonce_is_replaced_but_not_for_ever() {
    let origin = Origin::plain(|seen| match answered(seen) {
        Some((nonce, _)) if nonce == "new" => ok("in"),
        Some(_) => challenge("new", ", stale=true"),
        None => challenge("old", ""),
    });
    let mut run = Run::new();
    let told = run.fetch(get(&origin.url("/")));
    assert_eq!((told.answer().0, told.stats.attempts), (200, 3));
    assert_eq!(log(&origin), ["/ -", "/ old 1", "/ new 1"]);
    let origin = Origin::plain(|seen| challenge(&seen.nth.to_string(), ", stale=true"));
    let told = run.fetch(get(&origin.url("/")));
    assert_eq!((told.answer().0, told.stats.attempts), (401, 5));
}

#[test]
#[cfg(feature = "digest")]
fn a_server_that_has_forgotten_its_nonces_is_answered_anew() {
    let origin = Origin::plain(|seen| {
        let current = if seen.nth < 3 { "one" } else { "two" };
        match answered(seen) {
            Some((nonce, _)) if nonce == current => ok("in"),
            _ => challenge(current, ""),
        }
    });
    let mut run = Run::new();
    for _ in 0..3 {
        assert_eq!(run.fetch(get(&origin.url("/"))).answer().0, 200);
    }
    assert_eq!(log(&origin), ["/ -", "/ one 1", "/ one 2", "/ one 3", "/ two 1"]);
}

#[test]
#[cfg(feature = "digest")]
fn the_next_nonce_is_used_when_it_is_told() {
    let origin = Origin::plain(|seen| match answered(seen) {
        Some((nonce, _)) => {
            let next = format!("qop=auth, nextnonce=\"{nonce}+\"");
            response(200, &[("Authentication-Info", &*next)], "")
        }
        None => challenge("n", ""),
    });
    let mut run = Run::new();
    for _ in 0..3 {
        assert_eq!(run.fetch(get(&origin.url("/"))).answer().0, 200);
    }
    assert_eq!(log(&origin), ["/ -", "/ n 1", "/ n+ 1", "/ n++ 1"]);
}

#[test]
#[cfg(feature = "digest")]
fn no_answer_reaches_another_origin() {
    let other = Origin::plain(|_| challenge("trap", ""));
    let (away, stay) = (other.url_at("b.example", "/away"), other.url_at("a.example", "/port"));
    let origin = Origin::plain(move |seen| match (answered(seen), &seen.target[..]) {
        (None, _) => challenge("n", ""),
        (_, "/away") => redirect(307, &away),
        (_, "/port") => redirect(307, &stay),
        (_, "/near") => redirect(302, "/end"),
        _ => ok("in"),
    });
    let mut run = Run::with(|settings| at_names(settings, &[&origin, &other]));
    let at = |target: &str| get(&origin.url_at("a.example", target));
    assert_eq!(run.fetch(at("/near")).answer().0, 200);
    assert_eq!(run.fetch(at("/away")).answer().0, 401);
    assert_eq!(run.fetch(at("/port")).answer().0, 401);
    assert_eq!(log(&origin), ["/near -", "/near n 1", "/end n 2", "/away n 3", "/port n 4"]);
    assert_eq!(log(&other), ["/away -", "/port -"]);
}

#[test]
#[cfg(feature = "digest")]
fn what_cannot_be_answered_is_the_answer() {
    let origin = Origin::plain(|seen| match &seen.target[..] {
        "/basic" => response(401, &[("WWW-Authenticate", "Basic realm=\"b\"")], "no"),
        "/none" => response(401, &[], "no"),
        "/odd" => challenge("n", ", algorithm=SHA-1"),
        _ => response(407, &[("Proxy-Authenticate", "Digest realm=\"r\", nonce=\"n\"")], "no"),
    });
    let mut run = Run::new();
    for path in ["/basic", "/none", "/odd", "/407"] {
        let told = run.fetch(get(&origin.url(path)));
        assert_eq!((told.body.len(), told.stats.attempts), (2, 1), "{path}");
    }
    // An Authorization of its own is an answer already.
    let request = get(&origin.url("/challenge")).bearer_auth("t").unwrap();
    assert_eq!(run.fetch(request).stats.attempts, 1);
    let lines = log(&origin);
    assert!(lines[..4].iter().all(|line| line.ends_with(" -")), "{lines:?}");
    assert_eq!(lines[4], "/challenge Bearer t");
    assert!(get("http://a.example/").digest_auth("a\nb", "p").is_err());
}

#[test]
#[cfg(feature = "digest")]
fn cookies_and_answers_go_together() {
    let origin = Origin::plain(|seen| match (answered(seen), seen.header("cookie")) {
        (Some(_), Some("a=1")) => ok("both"),
        _ => Reply::new().send(
            "HTTP/1.1 401 No\r\nSet-Cookie: a=1\r\nContent-Length: 0\r\n\
             WWW-Authenticate: Digest realm=\"r\", qop=\"auth\", nonce=\"n\"\r\n\r\n",
        ),
    });
    let told = Run::new().fetch(get(&origin.url("/")));
    assert_eq!(told.answer(), (200, &b"both"[..]));
}

#[test]
#[cfg(feature = "digest")]
fn nothing_that_is_printed_has_the_login() {
    let origin = Origin::plain(|_| challenge("n", ""));
    let mut run = Run::new();
    let request = Request::get(origin.url("/")).unwrap().digest_auth(SECRET, SECRET).unwrap();
    let mut printed = format!("{request:?}");
    run.reactor.submit(request).unwrap();
    while run.reactor.pending() > 0 {
        run.reactor.wait(None).unwrap();
        while let Some(event) = run.reactor.next_event() {
            printed += &format!("{event:?}");
        }
        printed += &format!("{:?}", run.reactor);
    }
    assert_eq!(origin.requests().len(), 2);
    assert!(!printed.contains(SECRET), "{printed}");
}

#[test]
fn a_listed_host_has_its_own_login_at_each_hop() {
    let other = Origin::plain(|_| ok(""));
    let away = other.url_at("b.example", "/away");
    let nowhere = other.url("/nowhere");
    let origin = Origin::plain(move |seen| match &seen.target[..] {
        "/away" => redirect(302, &away),
        "/nowhere" => redirect(302, &nowhere),
        _ => ok(""),
    });
    let netrc = format!(
        "machine a.example login a password {SECRET} machine b.example login b password 2 \
         default login d password 3"
    );
    let mut run = Run::with(|settings| {
        at_names(settings, &[&origin, &other]);
        settings.netrc = Some(Arc::new(Netrc::parse(&netrc).unwrap()));
    });
    let at = |host: &str, target: &str| Request::get(origin.url_at(host, target)).unwrap();
    for request in [
        at("a.example", "/away"),
        at("a.example", "/nowhere"),
        at("localhost", "/x"),
        at("a.example", "/y").basic_auth("own", "4"),
        at("me:5@a.example", "/z"),
    ] {
        run.fetch(request).answer();
    }
    let [a, b, d, own, me] =
        [&*format!("a:{SECRET}"), "b:2", "d:3", "own:4", "me:5"].map(|login| {
            let (user, password) = login.split_once(':').unwrap();
            let request = Request::get("http://h/").unwrap().basic_auth(user, password);
            String::from_utf8(request.header_value("authorization").unwrap().to_vec()).unwrap()
        });
    let expected = [
        format!("/away {a}"),
        format!("/nowhere {a}"),
        format!("/x {d}"),
        format!("/y {own}"),
        format!("/z {me}"),
    ];
    assert_eq!(log(&origin), expected);
    // What is for all others is not for where a server leads.
    assert_eq!(log(&other), [format!("/away {b}"), "/nowhere -".to_owned()]);
    assert!(!format!("{:?}", run.reactor.settings()).contains(SECRET));
}
