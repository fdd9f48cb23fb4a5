//! What is printed of a request, of what came of it, and of a client: everything that has a
//! `Debug` or `Display` is printed with a secret in every place for one, and none may show.

mod support;

use std::fmt::{Debug, Write};
use std::sync::Arc;
use std::time::Duration;

use support::{Origin, Reply, redirect, refused_port, response};
use whippet::{
    Client, Completed, Error, Event, Full, Kind, Limit, Reactor, Request, Settings, TlsSettings,
};

const SECRET: &str = "canary7Q";

/// What was printed, and how many things of it.
#[derive(Default)]
struct Printed {
    text: String,
    things: usize,
}

impl Printed {
    fn debug(&mut self, thing: &dyn Debug) {
        write!(self.text, "{thing:?}\n{thing:#?}\n").unwrap();
        self.things += 1;
    }

    fn error(&mut self, error: &Error) {
        self.debug(error);
        let mut next: Option<&dyn std::error::Error> = Some(error);
        while let Some(error) = next {
            writeln!(self.text, "{error}").unwrap();
            self.debug(&error);
            next = error.source();
        }
    }

    fn completed(&mut self, completed: &Completed) {
        self.debug(completed);
        if let Err(error) = &completed.result {
            self.error(error);
        }
    }

    /// Neither as text, nor as the numbers of its bytes, nor in base64.
    #[track_caller]
    fn assert_clean(&self) {
        let numbers = format!("{:?}", SECRET.as_bytes());
        let base64 = "Y2FuYXJ5N1"; // However many bytes come behind.
        let flat: String = self.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let flat = flat.replace("[ ", "[").replace(", ]", "]");
        for form in [SECRET, numbers.trim_matches(['[', ']']), base64] {
            if let Some(at) = flat.find(form) {
                let before: String = flat[..at].chars().rev().take(200).collect();
                let before: String = before.chars().rev().collect();
                panic!("it shows as {form}: ...{before}{form}");
            }
        }
    }
}

/// A request with a secret in each header that has them, under several names' cases.
fn secretive(url: &str) -> Request {
    let mut request = Request::get(url).unwrap();
    for name in ["Authorization", "authorization", "Cookie", "COOKIE", "Proxy-Authorization"] {
        request = request.header(name, SECRET).unwrap();
    }
    request
}

#[test]
fn requests_keep_their_secrets() {
    let mut printed = Printed::default();
    let get = || Request::get("http://a.example/").unwrap();
    for request in [
        secretive("http://a.example/"),
        Request::get(format!("http://{SECRET}:{SECRET}@a.example/")).unwrap(),
        get().basic_auth(SECRET, SECRET),
        get().bearer_auth(SECRET).unwrap(),
        get().body(SECRET),
    ] {
        printed.debug(&request);
    }
    assert_eq!(printed.things, 5);
    printed.assert_clean();
}

#[test]
fn a_request_that_cannot_be_built_does_not_repeat_a_secret() {
    let mut printed = Printed::default();
    for url in [
        "http://me:S@[bad/",
        "http:/me:S@[bad/",
        "http:me:S@[bad/",
        "http:\\\\me:S@[bad/",
        "HTTPS:\\me:S@a b/",
        "//me:S@[bad/",
        "//me:S@a.example/",
        "me:S@a.example",
        "S:x@a.example",
        "S@a.example",
        "http://me:S/x@a.example/",
        "http://me:x@S@[bad/",
        "http://me:x/y@S@[bad/",
        "http://me:S?@a.example/",
        "http://S@a.example:99999/",
        "http://me:S@a.example:0/",
        "http://me:S@/",
        "ftp://me:S@a.example/",
        "ftp:me:S@a.example/",
        " http://me:S@[bad/",
        "ht\ntp://me:S@[bad/",
    ] {
        let error = Request::get(url.replace('S', SECRET)).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidUrl, "{url}");
        printed.error(&error);
        printed.assert_clean();
    }
    let get = || Request::get("http://a.example/").unwrap();
    printed.error(&get().header("Authorization", format!("{SECRET}\r\n")).unwrap_err());
    printed.error(&get().header(format!("Authorization: {SECRET}"), "").unwrap_err());
    printed.error(&get().header("TE", SECRET).unwrap_err());
    printed.error(&get().bearer_auth(&format!("{SECRET}\n")).unwrap_err());
    let client = Client::new().unwrap();
    let base = client.base_url(&format!("http://me:{SECRET}@[bad/"));
    printed.error(&base.unwrap_err());
    let default = Client::new().unwrap().default_header("Cookie", format!("{SECRET}\0"));
    printed.error(&default.unwrap_err());
    printed.assert_clean();
}

#[test]
fn clients_and_settings_keep_their_secrets() {
    let mut printed = Printed::default();
    let pem = || SECRET.as_bytes().to_vec();
    let tls = TlsSettings::new().add_ca_der(pem()).with_client_certificate(pem(), pem());
    printed.debug(&tls);
    let mut settings = Settings::default();
    settings.waiting_requests_max = 1;
    printed.debug(&settings);
    settings.tls = Arc::new(tls);
    printed.debug(&settings);
    // Not PEM: it cannot be used, and says so.
    printed.error(&Client::with_settings(settings.clone()).unwrap_err());
    settings.tls = Arc::default();
    let client = Client::with_settings(settings).unwrap();
    let mut client = client.default_header("Authorization", SECRET).unwrap();
    let url = format!("http://me:{SECRET}@127.0.0.1:1/");
    client.submit(secretive(&url)).unwrap();
    let full: Box<Full> = client.submit(secretive(&url)).unwrap_err();
    printed.debug(&full);
    printed.debug(&full.request);
    printed.debug(&client);
    printed.debug(client.reactor());
    printed.debug(&client.as_completed([secretive(&url)]));
    printed.assert_clean();
}

const SECRET_RESPONSE: &str = "HTTP/1.1 200 OK\r\nSet-Cookie: s=canary7Q\r\n\
    set-cookie: t=canary7Q\r\nX-Token: canary7Q\r\nTransfer-Encoding: chunked\r\n\r\n\
    2\r\nok\r\n0\r\nSet-Cookie: canary7Q\r\n\r\n";

/// Answers with secrets in head and trailers, and in every way that fails.
fn telling() -> Origin {
    let port = refused_port().port();
    Origin::plain(move |seen| match &seen.target[..] {
        "/" => Reply::new().send(SECRET_RESPONSE),
        "/404" => response(404, &[("Set-Cookie", SECRET)], "no"),
        "/redirect" => redirect(302, &format!("http://me:{SECRET}@127.0.0.1:{port}/")),
        "/no-url" => redirect(302, &format!("http://me:{SECRET}@[::1/")),
        "/no-slash" => redirect(302, &format!("https:\\me:{SECRET}@[::1/")),
        "/ftp" => redirect(302, &format!("ftp://me:{SECRET}@127.0.0.1/")),
        "/loop" => redirect(302, "/loop"),
        "/malformed" => Reply::new().send("HTTP/1.1 200 OK\r\nSet-Cookie canary7Q\r\n\r\n").close(),
        "/cut" => Reply::new()
            .send("HTTP/1.1 200 OK\r\nSet-Cookie: canary7Q\r\nContent-Length: 9\r\n\r\ncut")
            .close(),
        "/closed" => Reply::new().close(),
        _ => Reply::new().silence(),
    })
}

const PATHS: [&str; 11] = [
    "/",
    "/404",
    "/redirect",
    "/no-url",
    "/no-slash",
    "/ftp",
    "/loop",
    "/malformed",
    "/cut",
    "/closed",
    "/silent",
];

#[test]
fn events_keep_secrets() {
    let origin = telling();
    let mut settings = Settings::default();
    settings.timeouts.set(Limit::FirstByte, Some(Duration::from_millis(50)));
    settings.retries = 0;
    let mut reactor = Reactor::new(settings).unwrap();
    for path in PATHS {
        let url = origin.url_at(&format!("me:{SECRET}@127.0.0.1"), path);
        reactor.submit(secretive(&url)).unwrap();
        reactor.submit(secretive(&url).collect(true)).unwrap();
    }
    let (mut printed, mut ends) = (Printed::default(), 0);
    while reactor.pending() > 0 {
        reactor.wait(None).unwrap();
        while let Some(event) = reactor.next_event() {
            printed.debug(&event);
            match &event {
                Event::Head { head, redirects, .. } => {
                    printed.debug(head);
                    printed.debug(&head.headers());
                    printed.debug(&redirects);
                }
                Event::Done { trailers, .. } => {
                    printed.debug(trailers);
                    ends += 1;
                }
                Event::Failed { error, .. } => {
                    printed.error(error);
                    ends += 1;
                }
                _ => {}
            }
        }
    }
    assert_eq!(ends, 2 * PATHS.len());
    // The names are there to be seen.
    assert!(printed.text.contains("Set-Cookie") && printed.text.contains("X-Token"));
    printed.assert_clean();
}

#[test]
fn responses_keep_secrets_and_give_them_to_who_asks() {
    let origin = telling();
    let mut settings = Settings::default();
    settings.timeouts.set(Limit::FirstByte, Some(Duration::from_millis(50)));
    settings.retries = 0;
    let client = Client::with_settings(settings).unwrap();
    let mut client = client.default_header("Authorization", SECRET).unwrap();
    let mut printed = Printed::default();
    for completed in client.as_completed(PATHS.map(|path| secretive(&origin.url(path)))) {
        printed.completed(&completed);
    }
    let answer = client.get(&origin.url("/")).unwrap();
    printed.debug(&answer);
    printed.debug(&answer.head());
    printed.debug(&answer.headers());
    printed.debug(&answer.trailers());
    let mut map = answer.head().to_header_map();
    map.remove("x-token");
    printed.debug(&map);
    // What was asked for by name is given as it came.
    assert_eq!(answer.header("set-cookie").unwrap(), format!("s={SECRET}").as_bytes());
    assert_eq!(map.get_all("set-cookie").iter().count(), 2);
    assert_eq!(answer.trailers().next().unwrap().1, SECRET.as_bytes());
    let mut converted: whippet::http::Response<Vec<u8>> = answer.into();
    converted.headers_mut().remove("x-token");
    printed.debug(&converted);
    let missing = client.get(&origin.url("/404")).unwrap().raise_for_status();
    printed.error(&missing.unwrap_err());
    printed.assert_clean();
}

#[test]
fn what_was_not_connected_to_is_told_without_secrets() {
    let mut settings = Settings::default();
    settings.retries = 0;
    settings.deny_private = true;
    let mut client = Client::with_settings(settings).unwrap();
    let mut printed = Printed::default();
    let refused = refused_port().port();
    let url = |host: &str| format!("http://me:{SECRET}@{host}:{refused}/");
    let denied = client.fetch(secretive(&url("127.0.0.1"))).unwrap_err();
    assert_eq!(denied.kind(), Kind::Denied);
    printed.error(&denied);
    let request = secretive(&url("127.0.0.1")).deny_private(false);
    printed.error(&client.fetch(request).unwrap_err());
    let request = secretive(&url(&format!("{}.test", "x".repeat(70))));
    printed.error(&client.fetch(request).unwrap_err());
    printed.error(&client.fetch(secretive(&url("localhost")).timeout(Duration::ZERO)).unwrap_err());
    printed.assert_clean();
}
