//! The `fetch` program where it must not trust: where it does not connect, what it does not print,
//! and what no field of its input can add to a request.
//!
//! With `--test fetch_trust` alone, `cargo build --example fetch` comes first.
#![cfg(all(unix, feature = "ring", feature = "gzip", feature = "brotli", feature = "zstd"))]

mod support;

use std::process::Output;

use serde_json::{Value, json};
use support::program::{self, records};
use support::{DnsReply, DnsServer, Origin, Reply, ok, redirect, response};

#[test]
fn a_private_address_is_denied_when_asked_and_nobody_is_met() {
    let origin = Origin::plain(|_| ok("reached"));
    let named = format!("named.test:{}", origin.port());
    let jobs = [
        json!({"id": 1, "url": origin.url("/")}),
        json!({"id": 2, "url": origin.url_at("localhost", "/")}),
        json!({"id": 3, "url": format!("http://{named}/"), "resolve": {&named: "127.0.0.1"}}),
    ];
    let input: String = jobs.iter().map(|job| format!("{job}\n")).collect();
    let done = run(&["-s", "--json", "--ordered", "--deny-private", "--jobs", "-"], &input);
    for record in records(&done) {
        assert_eq!(record["error"]["kind"], "denied", "{record}");
        assert!(record["error"]["message"].as_str().unwrap().contains("(loopback)"), "{record}");
        assert!(record["status"].is_null());
    }
    assert_eq!((done.status.code(), origin.connections()), (Some(1), 0));
    let done = run(&["-s", "--json", "--jobs", "-"], &input);
    assert!(records(&done).iter().all(|record| record["status"] == 200));
    assert_eq!(done.status.code(), Some(0));
}

const SECRET: &str = "canary7Q";

/// Answers with what was asked; with a cookie; in ways that fail.
fn telling() -> Origin {
    Origin::plain(|seen| match &seen.target[..] {
        "/echo" => ok(&seen.head),
        "/redirect" => redirect(302, &format!("http://me:{SECRET}@127.0.0.1:0/")),
        "/no-url" => redirect(302, &format!("http://me:{SECRET}@[::1/")),
        "/404" => response(404, &[("Set-Cookie", SECRET)], ""),
        "/escape" => Reply::new().send("HTTP/1.1 200 \u{9b}31m\r\nContent-Length: 0\r\n\r\n"),
        "/malformed" => Reply::new().send("HTTP/1.1 200\r\nSet-Cookie canary7Q\r\n\r\n").close(),
        _ => Reply::new().close(),
    })
}

const PATHS: [&str; 6] = ["/echo", "/redirect", "/no-url", "/404", "/malformed", "/closed"];

fn assert_clean(what: &str, printed: &[u8]) {
    let text = String::from_utf8_lossy(printed);
    assert!(!text.contains(SECRET), "{what} shows a secret: {text}");
    assert!(!text.contains("Y2FuYXJ5"), "{what} shows it in base64: {text}");
}

#[test]
fn lines_progress_and_the_long_form_show_no_secret() {
    let origin = telling();
    let header = format!("Cookie: {SECRET}");
    let bearer = format!("--bearer={SECRET}");
    let user = format!("-uname:{SECRET}");
    let data = format!("-d{SECRET}");
    let urls = |path: &str| origin.url_at(&format!("me:{SECRET}@127.0.0.1"), path);
    let bad = [format!("http://me:{SECRET}@[bad/"), format!("me:{SECRET}@a.example")];
    let list: Vec<String> = PATHS.iter().map(|path| urls(path)).chain(bad).collect();
    let input = list.join("\n");
    for auth in [&bearer, &user] {
        let options = ["-v", "--retry=0", "-H", &header, &data, auth];
        let done = run(&[&options[..], &["-i", "-"]].concat(), &input);
        let lines = String::from_utf8_lossy(&done.stdout).into_owned();
        assert_eq!(lines.lines().count(), list.len(), "{lines}");
        assert!(lines.contains("/echo") && lines.contains("[bad/"), "{lines}");
        assert_clean("standard output", &done.stdout);
        assert_clean("standard error", &done.stderr);
    }
    // One at a time, each fails in words of its own.
    for url in &list[1..] {
        let done = run(&["-v", "-f", "--retry=0", "-H", &header, url], "");
        assert_eq!(done.status.code(), Some(1), "{url}");
        assert_clean("standard output", &done.stdout);
        assert_clean("standard error", &done.stderr);
    }
    // A command line that cannot be used.
    for options in [["-H", SECRET], ["-u", SECRET], ["--bearer", "canary7Q\n"]] {
        let done = run(&[&options[..], &["http://127.0.0.1/"]].concat(), "");
        assert_eq!(done.status.code(), Some(2));
        assert!(!done.stderr.is_empty());
        assert_clean("standard error", &done.stderr);
    }
}

/// A record gives back the URL that it was given; nothing else in it has what the job kept secret.
#[test]
fn records_show_no_secret_but_the_url_as_it_was_given() {
    let origin = telling();
    let jobs: Vec<Value> = PATHS
        .iter()
        .filter(|path| !["/echo", "/404"].contains(path))
        .flat_map(|path| {
            let url = origin.url_at(&format!("me:{SECRET}@127.0.0.1"), path);
            [
                json!({"url": url}),
                json!({"url": origin.url(path), "auth": {"basic": format!("me:{SECRET}")}}),
                json!({"url": origin.url(path), "auth": {"bearer": SECRET}}),
                json!({"url": origin.url(path), "headers": [["Cookie", SECRET]]}),
            ]
        })
        .chain([
            json!({"url": origin.url("/"), "auth": {"basic": SECRET}}),
            json!({"url": origin.url("/"), "auth": SECRET}),
            json!({"url": origin.url("/"), "headers": [[format!("Cookie: {SECRET}"), ""]]}),
            json!({"url": origin.url("/"), "headers": [["Cookie", format!("{SECRET}\n")]]}),
            json!({"url": origin.url("/"), "headers": SECRET}),
            json!({"url": format!("http:/me:{SECRET}@[bad/")}),
        ])
        .collect();
    let input: String = jobs.iter().map(|job| format!("{job}\n")).collect();
    let done = run(&["-v", "--json", "--ordered", "--jobs", "-"], &input);
    let mut records = records(&done);
    assert_eq!(records.len(), jobs.len());
    for (record, job) in records.iter_mut().zip(&jobs) {
        let record = record.as_object_mut().unwrap();
        assert_eq!(record.remove("url").as_ref(), job.get("url"));
        assert!(record["error"].is_object(), "{record:?}");
        assert_clean("a record", serde_json::to_string(record).unwrap().as_bytes());
    }
    assert_clean("standard error", &done.stderr);
}

#[test]
fn a_server_cannot_move_the_cursor_of_a_terminal() {
    let origin = telling();
    let done = run(&["-v", &origin.url("/escape")], "");
    assert_eq!(done.status.code(), Some(0));
    let shown = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(shown.contains("200 ") && shown.contains("31m"), "{shown}");
    assert!(!shown.contains('\u{9b}'), "{shown:?}");
}

#[test]
#[cfg(not(feature = "native-roots"))]
fn the_systems_authorities_need_their_feature() {
    let origin = Origin::plain(|_| ok("reached"));
    // Even where nothing is verified: who asked for them is not to believe that they count.
    for more in [&[][..], &["-k"]] {
        let done = run(&[more, &["--native-roots", &origin.url("/")]].concat(), "");
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(2), "{said}");
        assert_eq!(said, "fetch: --native-roots: the feature native-roots is not built in\n");
    }
    assert_eq!(origin.connections(), 0);
}

/// On Linux what the system trusts is in a file, and `SSL_CERT_FILE` says in which.
#[test]
#[cfg(all(feature = "native-roots", target_os = "linux"))]
fn the_systems_authorities_are_trusted_where_asked() {
    let origin = Origin::tls(|_| ok("reached"));
    let files = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let write = |name: &str, pem: &str| {
        let path = files.join(format!("fetch-trust-{name}.pem"));
        std::fs::write(&path, pem).unwrap();
        path
    };
    let known = write("known", &support::ca_pem());
    let other = write("other", &support::client_identity().0);
    let url = origin.url("/");
    let fetched = |system: &std::path::Path, options: &[&str]| {
        let mut command = program::fetch(&["-s", "--json", &url]);
        command.args(options).env("SSL_CERT_FILE", system).env_remove("SSL_CERT_DIR");
        let record = records(&program::run(command, "")).remove(0);
        record["error"]["kind"].as_str().unwrap_or("none").to_owned()
    };
    assert_eq!(fetched(&known, &["--native-roots"]), "none");
    // The web's authorities are those that count otherwise, and the system's where it was asked.
    assert_eq!(fetched(&known, &[]), "certificate");
    assert_eq!(fetched(&other, &["--native-roots"]), "certificate");
    let also = known.to_str().unwrap();
    assert_eq!(fetched(&other, &["--native-roots", "--cacert", also]), "none");
}

/// What would begin another line, end the string, or be taken for either by who is careless.
const HOSTILE: [&str; 10] = [
    "\r\nInjected: 1",
    "\nInjected: 1",
    "\rInjected: 1",
    "\0",
    "\u{b}",
    "\u{c}",
    "\u{7f}",
    "\u{85}",
    "\u{2028}Injected: 1",
    "\u{10d}\u{10a}Injected: 1",
];

/// The head's lines: the request line, and as many fields as are expected, none of them injected.
fn assert_one_request(head: &str, fields: usize, what: &str) {
    let (head, rest) = head.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{what}: {head:?}"));
    assert!(rest.is_empty(), "{what}: {rest:?}");
    let lines: Vec<&str> = head.split("\r\n").collect();
    assert_eq!(lines.len(), 1 + fields, "{what}: {head:?}");
    assert_eq!(lines[0].split(' ').count(), 3, "{what}: {head:?}");
    assert!(lines[0].ends_with(" HTTP/1.1"), "{what}: {head:?}");
    for line in lines {
        assert!(!line.to_ascii_lowercase().starts_with("injected"), "{what}: {head:?}");
        assert!(!line.bytes().any(|byte| byte.is_ascii_control()), "{what}: {head:?}");
    }
}

#[test]
fn no_field_of_a_job_adds_to_a_request() {
    let origin = telling();
    let mut jobs = Vec::new();
    for hostile in HOSTILE {
        for text in [format!("{hostile}b"), format!("a{hostile}b"), format!("a{hostile}")] {
            let url = origin.url("/echo");
            let (scheme, rest) = url.split_once("//").unwrap();
            jobs.extend([
                json!({"url": url, "method": text}),
                json!({"url": url, "headers": [[text, "v"]]}),
                json!({"url": url, "headers": [["X-A", text]]}),
                json!({"url": url, "auth": {"basic": format!("{text}:{text}")}}),
                json!({"url": url, "auth": {"bearer": text}}),
                json!({"url": format!("{url}?{text}")}),
                json!({"url": format!("{url}#{text}")}),
                json!({"url": format!("{scheme}//{text}:{text}@{rest}")}),
                json!({"url": format!("{url}{text}")}),
                json!({"url": format!("{scheme}//{text}{rest}")}),
                json!({"url": url, "resolve": {format!("{text}:80"): "127.0.0.1"}}),
                json!({"id": text, "url": url}),
            ]);
        }
    }
    let input: String = jobs.iter().map(|job| format!("{job}\n")).collect();
    // Some of it is a name that nobody has.
    let dns = DnsServer::start(|_| DnsReply::NxDomain(60));
    let server = format!("--dns-servers={}", dns.address());
    let done = run(&["-s", "--json", "--ordered", &server, "--jobs", "-"], &input);
    let records = records(&done);
    assert_eq!(records.len(), jobs.len());
    let sent = records.iter().filter(|record| record["status"] == 200).count();
    // Whatever was sent is in the origin's log; it read each as one request, and nothing more.
    for seen in origin.requests() {
        let head = String::from_utf8_lossy(&seen.head).into_owned();
        let fields = seen.headers.len();
        assert!(fields <= 5, "{head:?}");
        assert_one_request(&head, fields, "a job");
    }
    assert!(sent > jobs.len() / 4, "{sent} of {}", jobs.len());
    for (record, job) in records.iter().zip(&jobs) {
        let kind = record["error"]["kind"].as_str();
        let is_refused = matches!(kind, None | Some("invalid_url" | "invalid_request"));
        assert!(is_refused || job["url"] != origin.url("/echo"), "{job}: {record}");
    }
    assert_eq!(origin.log().malformed, Vec::<String>::new());
}

#[test]
fn no_option_adds_to_a_request() {
    let origin = telling();
    let url = origin.url("/echo");
    let mut sent = 0;
    for hostile in HOSTILE.iter().filter(|hostile| !hostile.contains('\0')) {
        let text = format!("a{hostile}b");
        for (option, value) in [
            ("-X", text.clone()),
            ("-H", format!("X-A: {text}")),
            ("-H", format!("{text}: v")),
            ("-A", text.clone()),
            ("-u", format!("{text}:{text}")),
            ("--bearer", text.clone()),
            ("--resolve", format!("{text}:80:127.0.0.1")),
        ] {
            let done = run(&["-s", option, &value, &url], "");
            match done.status.code() {
                Some(0) => sent += 1,
                code => assert_eq!(code, Some(2), "{option} {value:?}"),
            }
        }
    }
    assert_eq!(origin.requests().len(), sent);
    assert!(sent > 0);
    for seen in origin.requests() {
        let head = String::from_utf8_lossy(&seen.head).into_owned();
        assert!(seen.headers.len() <= 5, "{head:?}");
        assert_one_request(&head, seen.headers.len(), "an option");
    }
}

fn run(args: &[&str], input: &str) -> Output {
    program::run(program::fetch(args), input)
}
