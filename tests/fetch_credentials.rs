//! The `fetch` program and credentials: where a login goes, in which form, and where it does not.
//!
//! With `--test fetch_credentials` alone, `cargo build --example fetch` comes first.
#![cfg(all(unix, feature = "ring", feature = "digest"))]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use support::program::{self, records};
use support::{Asked, Origin, ProxyServer, ProxySetup, Seen, ok, redirect, response};

const SECRET: &str = "canary7Q";
/// `me:canary7Q`.
const BASIC: &str = "Basic bWU6Y2FuYXJ5N1E=";

/// Says which scheme came; asks for Digest where none did.
fn origin() -> Origin {
    Origin::plain(|seen| match (&seen.target[..], scheme(seen)) {
        ("/away", Some("Digest")) => {
            redirect(302, &format!("http://localhost:{}/", seen.header("host").map_or("", port)))
        }
        (_, Some(scheme)) => ok(scheme),
        _ => {
            let field = "Digest realm=\"r\", nonce=\"n\", qop=\"auth\"";
            response(401, &[("WWW-Authenticate", field)], "none")
        }
    })
}

fn scheme(seen: &Seen) -> Option<&str> {
    seen.header("authorization")?.split(' ').next()
}

fn port(host: &str) -> &str {
    host.rsplit_once(':').map_or("", |(_, port)| port)
}

/// Scheme by scheme what has come; an answer to a challenge must not have the password in it.
fn schemes(origin: &Origin) -> Vec<String> {
    let requests = origin.requests();
    for seen in &requests {
        let value = seen.header("authorization").unwrap_or_default();
        assert!(!value.contains(SECRET) && (value == BASIC || !value.contains("Y2FuYXJ5")));
    }
    requests.iter().map(|seen| scheme(seen).unwrap_or("-").to_owned()).collect()
}

#[test]
fn digest_is_the_form_of_u_and_of_a_urls_login() {
    let origin = origin();
    let (url, user) = (origin.url("/"), format!("me:{SECRET}"));
    let with_login = origin.url_at(&format!("me:{SECRET}@127.0.0.1"), "/");
    for args in [&["-s", "--digest", "-u", &user, &url][..], &["-s", "--digest", &with_login]] {
        assert_eq!(text(&run(args, "", &[]).stdout), "Digest");
    }
    assert_eq!(schemes(&origin), ["-", "Digest", "-", "Digest"]);
    assert_eq!(text(&run(&["-s", "-u", &user, &url], "", &[]).stdout), "Basic");
}

#[test]
fn with_proxy_digest_a_proxys_login_is_never_sent_as_it_is() {
    let origin = Origin::plain(|seen| ok(seen.header("proxy-authorization").unwrap_or("none")));
    let objects = |asked: &Asked| {
        let field = "Digest realm=\"r\", nonce=\"n\", qop=\"auth\"";
        let said = "HTTP/1.1 407 Who\r\nContent-Length: 0\r\nProxy-Authenticate: ";
        asked.who.is_none().then(|| format!("{said}{field}\r\n\r\n"))
    };
    let setup = ProxySetup { objects: Some(Box::new(objects)), ..ProxySetup::default() };
    let proxy = ProxyServer::start(origin.address(), setup);
    let at = format!("http://me:{SECRET}@{}", proxy.address());
    let url = origin.url_at("hidden.test", "/");
    let job = json!({"url": url, "proxy": at}).to_string();
    let digest = ["-s", "--proxy-digest"];
    for (args, input) in [(&["-x", &at, &url][..], ""), (&["--json", "--jobs", "-"], &job)] {
        let said = text(&run(&[&digest, args].concat(), input, &[]).stdout);
        assert!(said.contains("Digest username=") && !said.contains("Y2FuYXJ5"), "{said}");
    }
    assert_eq!(proxy.asked().iter().filter(|asked| asked.who.is_none()).count(), 2);
}

#[test]
fn a_jobs_own_login_wins_and_stays_with_its_origin() {
    let origin = origin();
    let login = json!({"digest": format!("me:{SECRET}")});
    let input = [
        json!({"id": 1, "url": origin.url("/"), "auth": login}),
        json!({"id": 2, "url": origin.url("/away"), "auth": login}),
        json!({"id": 3, "url": origin.url("/"), "auth": {"bearer": "t"}}),
        json!({"id": 4, "url": origin.url("/")}),
    ];
    let input: String = input.iter().map(|job| format!("{job}\n")).collect();
    let args = ["-s", "--json", "--ordered", "-c", "1", "--bearer", "b", "--jobs", "-"];
    let done = run(&args, &input, &[]);
    let told: Vec<_> = records(&done)
        .iter()
        .map(|record| (record["status"].as_u64().unwrap(), record["body"].clone()))
        .collect();
    let body = |text: &str| Value::from(text);
    let expected =
        [(200, body("Digest")), (401, body("none")), (200, body("Bearer")), (200, body("Bearer"))];
    assert_eq!(told, expected);
    assert_eq!(schemes(&origin), ["-", "Digest", "Digest", "-", "Bearer", "Bearer"]);
}

#[test]
fn logins_by_host_come_from_a_file() {
    let origin = origin();
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("netrc");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join(".netrc");
    fs::write(&file, format!("machine 127.0.0.1 login me password {SECRET}\n")).unwrap();
    let (url, elsewhere) = (origin.url("/"), origin.url_at("localhost", "/"));
    let path = file.to_str().unwrap();
    for (args, environment) in [
        (&["-s", "--netrc-file", path, &url][..], ("X", Path::new(""))),
        (&["-s", "-n", &url], ("HOME", &directory)),
        (&["-s", "--netrc", &url], ("NETRC", &file)),
    ] {
        assert_eq!(text(&run(args, "", &[environment]).stdout), "Basic", "{args:?}");
    }
    let done = run(&["-s", "--netrc-file", path, &elsewhere], "", &[]);
    assert_eq!(text(&done.stdout), "none");
    assert_eq!(schemes(&origin), ["Basic", "Basic", "Basic", "-"]);
    fs::write(&file, format!("machine 127.0.0.1 {SECRET}\n")).unwrap();
    for (args, environment, named) in [
        (&["--netrc-file", path, &url][..], ("X", Path::new("")), "line 1"),
        (&["-n", &url], ("NETRC", Path::new("/nowhere")), "/nowhere"),
    ] {
        let done = run(args, "", &[environment]);
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{said}");
        assert!(said.contains(named) && !said.contains(SECRET), "{said}");
    }
}

#[test]
fn nothing_that_is_printed_has_a_login() {
    let origin = Origin::plain(|_| {
        let field = "Digest realm=\"r\", nonce=\"n\", qop=\"auth\"";
        response(401, &[("WWW-Authenticate", field)], "")
    });
    let user = format!("{SECRET}:{SECRET}");
    let with_login = origin.url_at(&format!("{user}@127.0.0.1"), "/");
    let bad = format!("{SECRET}\u{7}:{SECRET}");
    for args in [
        &["-v", "--digest", "-u", &user, &origin.url("/"), &origin.url("/x")][..],
        &["-v", "--digest", &with_login, "http://127.0.0.1:1/"],
        &["-v", "--digest", "-u", &bad, &origin.url("/"), "x"],
    ] {
        let done = run(args, "", &[]);
        let said = text(&done.stderr) + &text(&done.stdout);
        assert!(!said.contains(SECRET) && !said.contains("Y2FuYXJ5"), "{args:?}: {said}");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn run(args: &[&str], input: &str, environment: &[(&str, &Path)]) -> Output {
    let mut fetch = program::fetch(args);
    fetch.envs(environment.iter().copied());
    program::run(fetch, input)
}
