//! The session: one answer, many in order, many as they come, and requests that are found on the
//! way.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use support::{Latch, Origin, Reply, ok, refused_port, response, status};
use whippet::{Client, Kind, Limit, Request, Settings};

fn echo() -> Origin {
    Origin::plain(|seen| ok(format!("{} {}", seen.method, seen.target)))
}

fn small(concurrency: usize) -> Settings {
    let mut settings = Settings::default();
    settings.concurrency = concurrency;
    settings
}

#[test]
fn every_method_has_its_call() {
    let origin = Origin::plain(|seen| {
        let body = String::from_utf8_lossy(&seen.body).into_owned();
        if seen.method == "HEAD" { status(204) } else { ok(format!("{} {body}", seen.method)) }
    });
    let mut client = Client::new().unwrap().base_url(&origin.url("/")).unwrap();
    assert_eq!(client.get("a").unwrap().text(), "GET ");
    assert_eq!(client.head("a").unwrap().text(), "");
    assert_eq!(client.delete("a").unwrap().text(), "DELETE ");
    assert_eq!(client.options("a").unwrap().text(), "OPTIONS ");
    assert_eq!(client.post("a", "x=1").unwrap().text(), "POST x=1");
    assert_eq!(client.put("a", vec![b'y']).unwrap().text(), "PUT y");
    assert_eq!(client.patch("a", "z").unwrap().text(), "PATCH z");
    let purge = client.request("PURGE", "a");
    assert_eq!(client.fetch(purge).unwrap().text(), "PURGE ");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn gather_keeps_the_order_and_errors_in_their_places() {
    let origin = echo();
    let refused = format!("http://{}/", refused_port());
    let urls =
        [origin.url("/0"), "no url at all".to_owned(), origin.url("/2"), refused, origin.url("/4")];
    let mut settings = small(2);
    settings.retries = 0;
    let mut client = Client::with_settings(settings).unwrap();
    let answers = client.gather(&urls);
    let told: Vec<String> = answers
        .iter()
        .map(|answer| match answer {
            Ok(page) => page.text().into_owned(),
            Err(error) => error.kind().to_string(),
        })
        .collect();
    assert_eq!(told, ["GET /0", "invalid_url", "GET /2", "connect", "GET /4"]);
    assert_eq!(client.reactor().pending(), 0);
}

#[test]
fn gather_of_nothing_is_nothing() {
    assert!(Client::new().unwrap().gather(Vec::<Request>::new()).is_empty());
}

#[test]
fn as_completed_takes_no_more_than_its_look_ahead_from_an_endless_input() {
    let origin = echo();
    let mut client = Client::with_settings(small(2)).unwrap();
    let mut taken = 0;
    let urls = (0_usize..).inspect(|_| taken += 1).map(|page| origin.url(&format!("/{page}")));
    let mut indices = BTreeSet::new();
    for completed in client.as_completed(urls).take(50) {
        let page = completed.result.unwrap();
        assert_eq!(page.text(), format!("GET /{}", completed.index));
        assert!(indices.insert(completed.index), "each outcome once");
    }
    assert_eq!(indices.len(), 50);
    assert!(taken <= 50 + 4 * 2, "{taken}");
    // What was under way was cancelled with the iterator.
    assert_eq!(client.reactor().pending(), 0);
    assert!(client.get(&origin.url("/after")).is_ok());
}

#[test]
fn one_that_hangs_keeps_no_other() {
    let origin =
        Origin::plain(
            |seen| {
                if seen.target == "/hangs" { Reply::new().silence() } else { ok("fine") }
            },
        );
    let mut client = Client::with_settings(small(4)).unwrap();
    let hangs = Request::get(origin.url("/hangs"))
        .unwrap()
        .limit(Limit::Total, Duration::from_millis(300))
        .tag(1);
    let fine = (0..20).map(|n| Request::get(origin.url(&format!("/{n}"))).unwrap());
    let all = std::iter::once(hangs).chain(fine);
    let mut tags: Vec<u64> = Vec::new();
    for completed in client.as_completed(all) {
        tags.push(completed.tag);
        match completed.tag {
            1 => assert_eq!(completed.result.unwrap_err().limit(), Some(Limit::Total)),
            _ => assert_eq!(completed.result.unwrap().body(), b"fine"),
        }
    }
    assert_eq!(tags.len(), 21);
    assert_eq!(tags.last(), Some(&1), "the others did not wait for it");
}

#[test]
fn a_crawler_submits_while_answers_come() {
    let origin = Origin::plain(|seen| {
        let depth: usize = seen.target.trim_matches('/').split('/').count();
        let children = if depth < 3 { "a b" } else { "" };
        ok(children)
    });
    let mut client = Client::with_settings(small(3)).unwrap();
    client.submit(Request::get(origin.url("/root")).unwrap()).unwrap();
    let mut pages = 0;
    while let Some(completed) = client.next_completed() {
        let page = completed.result.unwrap();
        pages += 1;
        for child in page.text().split_whitespace() {
            let url = format!("{}/{child}", page.url());
            client.submit(Request::get(url).unwrap()).unwrap();
        }
    }
    assert_eq!(pages, 1 + 2 + 4);
}

#[test]
fn submitted_and_iterated_fetches_do_not_mix() {
    let origin = echo();
    let mut client = Client::with_settings(small(2)).unwrap();
    for loose in 0..5 {
        client.submit(Request::get(origin.url(&format!("/loose/{loose}"))).unwrap()).unwrap();
    }
    let urls: Vec<String> = (0..5).map(|page| origin.url(&format!("/own/{page}"))).collect();
    for (index, answer) in client.gather(&urls).into_iter().enumerate() {
        assert_eq!(answer.unwrap().text(), format!("GET /own/{index}"));
    }
    let mut loose = BTreeSet::new();
    while let Some(completed) = client.next_completed() {
        loose.insert(completed.result.unwrap().text().into_owned());
    }
    assert_eq!(loose.len(), 5);
}

#[test]
fn a_full_waiting_list_gives_the_request_back() {
    let latch = Latch::new();
    let held = latch.clone();
    let origin = Origin::plain(move |_| Reply::new().wait(&held).send(b"HTTP/1.1 204 No\r\n\r\n"));
    let mut settings = small(1);
    settings.waiting_requests_max = 2;
    let mut client = Client::with_settings(settings).unwrap();
    let request = Request::get(origin.url("/")).unwrap().tag(9);
    let mut taken = 0;
    let full = loop {
        match client.submit(request.clone()) {
            Ok(_) => taken += 1,
            Err(full) => break full,
        }
    };
    assert_eq!(full.request.tag_value(), 9);
    latch.release();
    let mut told = 0;
    while let Some(completed) = client.next_completed() {
        assert_eq!(completed.result.unwrap().status(), 204);
        told += 1;
    }
    assert_eq!(told, taken);
}

#[test]
fn a_cancelled_request_does_not_complete() {
    let origin =
        Origin::plain(|seen| if seen.target == "/never" { Reply::new().silence() } else { ok("") });
    let mut client = Client::new().unwrap();
    let never = client.submit(Request::get(origin.url("/never")).unwrap()).unwrap();
    let other = client.submit(Request::get(origin.url("/other")).unwrap()).unwrap();
    assert!(client.next_completed().unwrap().result.is_ok());
    assert!(client.cancel(never));
    assert!(!client.cancel(never));
    assert!(!client.cancel(other), "it has ended");
    assert!(client.next_completed().is_none());
    assert_eq!(client.reactor().pending(), 0);
}

#[test]
fn session_headers_stand_behind_the_requests_own() {
    let origin = Origin::plain(|seen| ok(String::from_utf8_lossy(&seen.head).into_owned()));
    let mut client = Client::new()
        .unwrap()
        .default_header("X-Session", "s")
        .unwrap()
        .default_header("Accept", "text/plain")
        .unwrap();
    let request = Request::get(origin.url("/")).unwrap().header("accept", "a/b").unwrap();
    let head = client.fetch(request).unwrap().text().into_owned();
    assert!(head.contains("\r\naccept: a/b\r\nX-Session: s\r\n"), "{head}");
    assert!(!head.contains("text/plain"));
    let error = Client::new().unwrap().default_header("Host", "x").unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidRequest);
}

#[test]
fn raising_for_status_is_a_choice() {
    let origin = Origin::plain(|_| status(404));
    let mut client = Client::new().unwrap();
    let page = client.get(&origin.url("/x?secret=1")).unwrap();
    assert_eq!(page.status(), 404);
    let error = page.raise_for_status().unwrap_err();
    assert_eq!((error.kind(), error.status()), (Kind::Status, Some(404)));
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[test]
fn a_reason_that_would_steer_a_terminal_is_told_in_plain_characters() {
    let origin = Origin::plain(|_| {
        Reply::new().send("HTTP/1.1 404 \x1b[31mgone\x07\r\nContent-Length: 0\r\n\r\n")
    });
    let page = Client::new().unwrap().get(&origin.url("/")).unwrap();
    assert_eq!(page.head().reason(), b"\x1b[31mgone\x07");
    let told = page.raise_for_status().unwrap_err().to_string();
    assert!(told.contains("gone") && !told.contains(char::is_control), "{told:?}");
}

#[test]
fn a_response_becomes_one_of_the_http_crate() {
    let origin = Origin::plain(|_| {
        response(201, &[("X-A", "1"), ("x-a", "2"), ("Content-Type", "text/plain")], b"made")
    });
    let page = Client::new().unwrap().get(&origin.url("/")).unwrap();
    assert_eq!(page.header("CONTENT-TYPE"), Some(b"text/plain".as_slice()));
    let converted: whippet::http::Response<Vec<u8>> = page.into();
    assert_eq!(converted.status(), 201);
    let values: Vec<_> = converted.headers().get_all("x-a").iter().collect();
    assert_eq!(values, ["1", "2"]);
    assert_eq!(converted.body(), b"made");
}
