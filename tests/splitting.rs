//! Whatever a request is given, one request arrives: its line, Host, the headers as given, and
//! nothing that was smuggled in. Each field that a caller can fill is tried with control bytes and
//! with chosen noise; it is refused, or encoded, and the origin's bytes are looked at.

mod support;

use std::sync::{Arc, Mutex};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use support::{Origin, Seen, ok};
use whippet::url::{Position, Url};
use whippet::{Client, Error, Kind, Request, Settings};

/// A client, and the origin that everything goes to.
struct Wire {
    client: Client,
    origin: Origin,
    /// What arrived and was not looked at yet.
    arrived: Arc<Mutex<Vec<Seen>>>,
    sent: usize,
}

impl Wire {
    fn new() -> Self {
        let mut settings = Settings::default();
        settings.retries = 0;
        let client = Client::with_settings(settings).unwrap();
        let arrived = Arc::<Mutex<Vec<Seen>>>::default();
        let log = Arc::clone(&arrived);
        let origin = Origin::plain(move |seen| {
            log.lock().unwrap().push(seen.clone());
            ok("")
        });
        Self { client, origin, arrived, sent: 0 }
    }

    /// Sends a request, wherever its URL leads, to the origin; what arrived there.
    fn send(&mut self, request: Request) -> Option<Seen> {
        let url = request.url();
        let host = url.host_str().unwrap().trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().unwrap();
        if port != self.origin.port() {
            return None;
        }
        let request = request.resolve(&host, port, self.origin.address().ip()).unwrap();
        self.client.fetch(request.follow(false)).unwrap();
        self.sent += 1;
        let mut arrived = std::mem::take(&mut *self.arrived.lock().unwrap());
        assert_eq!(arrived.len(), 1, "{arrived:?}");
        arrived.pop()
    }

    /// Every byte that the origin read was part of a request that was looked at.
    fn finish(&self) {
        let log = self.origin.log();
        assert_eq!((log.requests.len(), log.malformed), (self.sent, Vec::new()));
    }
}

/// The head that `request` must come to: nothing else than this, byte by byte.
fn expected(request: &Request, headers: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let url = request.url();
    let target = &url[Position::BeforePath..Position::AfterQuery];
    let authority = &url[Position::BeforeHost..Position::AfterPort];
    let mut head = format!("{} {target} HTTP/1.1\r\nHost: {authority}\r\n", request.method());
    let mut bytes = std::mem::take(&mut head).into_bytes();
    for (name, value) in headers {
        bytes.extend([&name[..], b": ", value.trim_ascii(), b"\r\n"].concat());
    }
    let gives =
        |wanted: &str| headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()));
    if !gives("accept") {
        bytes.extend_from_slice(b"Accept: */*\r\n");
    }
    if !gives("accept-encoding") {
        let range = gives("range");
        let codings = if range { &b"identity"[..] } else { b"gzip, deflate, br, zstd" };
        bytes.extend([b"Accept-Encoding: ", codings, b"\r\n"].concat());
    }
    if !gives("user-agent") {
        let agent = concat!("User-Agent: whippet/", env!("CARGO_PKG_VERSION"), "\r\n");
        bytes.extend_from_slice(agent.as_bytes());
    }
    if ["POST", "PUT", "PATCH"].contains(&request.method().as_str()) {
        bytes.extend_from_slice(b"Content-Length: 0\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// One request line of three words, fields of a name and a value, one blank line; no control byte
/// but those that end lines, and tabs inside of values. The names and values.
fn parsed(head: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let head = head.strip_suffix(b"\r\n\r\n").unwrap();
    let text: String = head.iter().map(|byte| char::from(*byte)).collect();
    let mut lines = text.split("\r\n");
    let words: Vec<&str> = lines.next().unwrap().split(' ').collect();
    assert!(matches!(words[..], [_, _, "HTTP/1.1"]), "{text:?}");
    assert!(words.iter().all(|word| word.bytes().all(|byte| byte > b' ')), "{text:?}");
    let latin1 = |text: &str| text.chars().map(|c| c as u8).collect::<Vec<u8>>();
    let field = |line: &str| {
        let is_plain = |c: char| c == '\t' || !c.is_ascii_control();
        assert!(line.chars().all(is_plain), "{text:?}");
        let (name, value) = line.split_once(": ").unwrap();
        (latin1(name), latin1(value))
    };
    lines.map(field).collect()
}

/// `Err` is a refusal to build it; otherwise exactly that head arrives.
fn check(wire: &mut Wire, request: Result<Request, Error>, headers: &[(Vec<u8>, Vec<u8>)]) {
    let request = match request {
        Ok(request) => request,
        Err(error) => {
            assert!(matches!(error.kind(), Kind::InvalidRequest | Kind::InvalidUrl), "{error}");
            return assert!(!error.to_string().contains(char::is_control), "{error:?}");
        }
    };
    let mut all: Vec<(Vec<u8>, Vec<u8>)> = headers.to_vec();
    if let Some(value) = request.header_value("authorization") {
        let is_given = |(name, _): &(Vec<u8>, Vec<u8>)| name.eq_ignore_ascii_case(b"authorization");
        if !headers.iter().any(is_given) {
            all.insert(0, (b"Authorization".to_vec(), value.to_vec()));
        }
    }
    let wanted = expected(&request, &all);
    let Some(seen) = wire.send(request) else { return };
    let arrived = String::from_utf8_lossy(&seen.head).into_owned();
    assert_eq!(seen.head, wanted, "{arrived:?}");
    let fields = parsed(&seen.head);
    assert_eq!(fields[0].0, b"Host");
    let given = all.iter().map(|(name, value)| (name.clone(), value.trim_ascii().to_vec()));
    assert_eq!(fields[1..=all.len()], given.collect::<Vec<_>>(), "{arrived:?}");
    assert!(seen.body.is_empty());
}

/// Each field, filled with `text`.
fn fill(wire: &mut Wire, text: &str) {
    let url = wire.origin.url("/");
    let (scheme, rest) = url.split_once("//").unwrap();
    let get = |url: String| Request::get(url);
    check(wire, Request::new(text, &url), &[]);
    for url in [
        format!("{url}{text}"),
        format!("{url}?{text}"),
        format!("{url}#{text}"),
        format!("{scheme}//{text}@{rest}"),
        format!("{scheme}//a:{text}@{rest}"),
        format!("{scheme}//{text}{rest}"),
        format!("{scheme}//a{text}.test:{}/", wire.origin.port()),
        format!("{text}{url}"),
        format!("{url}{text}HTTP/1.1\r\n\r\nGET / HTTP/1.1"),
    ] {
        check(wire, get(url), &[]);
    }
    let plain = || get(url.clone()).unwrap();
    check(wire, Ok(plain().basic_auth(text, text)), &[]);
    check(wire, plain().bearer_auth(text), &[]);
    let header = |name: &str, value: &str| vec![(name.into(), value.into())];
    check(wire, plain().header(text, "v"), &header(text, "v"));
    check(wire, plain().header("X-A", text), &header("X-A", text));
    // Through a session.
    let client = |base: &str| Client::new().unwrap().base_url(base);
    check(wire, client(&url).unwrap().request("GET", text), &[]);
    if let Ok(client) = client(&format!("{url}{text}/")) {
        check(wire, client.request("GET", "x"), &[]);
    }
    for (name, value) in [(text, "v"), ("X-A", text)] {
        match Client::new().unwrap().default_header(name, value) {
            Ok(client) => check(wire, client.request("GET", &url), &header(name, value)),
            Err(error) => assert_eq!(error.kind(), Kind::InvalidRequest),
        }
    }
    let mut map = whippet::http::HeaderMap::new();
    if let Ok(value) = whippet::http::HeaderValue::from_bytes(text.as_bytes()) {
        map.insert("x-a", value);
        check(wire, plain().headers(&map), &header("x-a", text));
    }
}

#[test]
fn a_control_character_in_any_field_adds_nothing() {
    let mut wire = Wire::new();
    let controls = (0..=0x1f).chain(0x7f..=0x9f).filter_map(char::from_u32);
    // The last bytes of these are CR and LF where they are cut to eight bits.
    let lookalikes = "\u{2028}\u{2029}\u{10d}\u{10a}\u{560d}\u{560a}\u{ff0d}".chars();
    for control in controls.chain(lookalikes) {
        for text in [format!("{control}X: y"), format!("a{control}X: y"), format!("a{control}")] {
            fill(&mut wire, &text);
        }
    }
    for text in
        ["\r\nX: y", "a\r\nX: y\r\n\r\nGET /b HTTP/1.1\r\nHost: b\r\n\r\n", "a\r\n b", "a\n\tb"]
    {
        fill(&mut wire, text);
    }
    wire.finish();
    assert!(wire.sent > 500, "only {} were sent", wire.sent);
}

/// Text in which what matters is frequent.
fn text() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        4 => "[a-zA-Z0-9]{1,3}",
        2 => prop::sample::select(vec!["\r", "\n", "\r\n", "\0", "\t", " ", "\u{7f}", "\r\n\r\n"])
            .prop_map(str::to_owned),
        2 => prop::sample::select(vec![":", "@", "/", "\\", "?", "#", "[", "]", "%0d%0a", " HTTP"])
            .prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    vec(pieces, 0..6).prop_map(|pieces| pieces.concat())
}

#[test]
fn a_request_parses_back_to_what_was_given() {
    let mut wire = Wire::new();
    let header = || (vec(any::<u8>(), 0..4), vec(any::<u8>(), 0..6));
    let mild =
        ("[A-Za-z-]{1,8}", "[ -~]{0,12}").prop_map(|(n, v)| (n.into_bytes(), v.into_bytes()));
    let value = ("[A-Za-z-]{1,8}", vec(any::<u8>(), 1..3)).prop_map(|(n, v)| (n.into_bytes(), v));
    let headers = vec(prop_oneof![1 => header(), 2 => value, 6 => mild], 0..5);
    let method = prop_oneof![4 => "[A-Z]{3,7}", 1 => text()];
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let port = wire.origin.port();
    let wire = std::cell::RefCell::new(&mut wire);
    let parts = (method, text(), text(), text(), text(), headers);
    let outcome = runner.run(&parts, |(method, user, host, path, query, headers)| {
        let url = format!("http://{user}@{host}x.test/{path}?{query}");
        let build = || {
            let Ok(mut url) = Url::parse(&url) else { return Request::new(&method, &url) };
            let _ = url.set_port(Some(port));
            let mut request = Request::for_url(&method, url)?;
            for (name, value) in &headers {
                request = request.header(name, value)?;
            }
            Ok(request)
        };
        check(&mut wire.borrow_mut(), build(), &headers);
        Ok(())
    });
    outcome.unwrap();
    wire.borrow().finish();
    let sent = wire.borrow().sent;
    assert!(sent > 20, "only {sent} were sent");
}
