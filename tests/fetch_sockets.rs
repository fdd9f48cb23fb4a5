//! The `fetch` program over sockets that are not the usual, to hosts that are not the URL's, and
//! with servers that must have a key.
//!
//! With `--test fetch_sockets` alone, `cargo build --example fetch` comes first.
#![cfg(all(unix, feature = "ring", feature = "gzip", feature = "brotli", feature = "zstd"))]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{KeyPair, PublicKeyData};
use sha2::{Digest, Sha256};
use support::program::{self, records};
use support::{Authority, Door, Origin, Reply, Seen, Setup, TlsSetup, ok};

fn run(args: &[&str]) -> Output {
    program::run(program::fetch(args), "")
}

fn text(done: &Output) -> String {
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{text}{}", String::from_utf8_lossy(&done.stderr));
    text
}

fn kind(done: &Output) -> String {
    records(done)[0]["error"]["kind"].as_str().unwrap_or_default().to_owned()
}

fn echo(seen: &Seen) -> Reply {
    ok(format!("{} {}", seen.header("host").unwrap_or_default(), seen.target))
}

#[test]
fn a_url_is_asked_over_a_socket_of_the_file_system() {
    let origin = Origin::plain(echo);
    let door = Door::to(origin.address());
    let path = door.path().to_str().unwrap();
    let done = run(&["-s", "--unix-socket", path, "http://docker.invalid/info"]);
    assert_eq!(text(&done), "docker.invalid /info");
    // The environment's proxy is not asked.
    let mut command = program::fetch(&["-s", "--unix-socket", path, "http://docker.invalid/"]);
    command.env("http_proxy", "http://127.0.0.1:1");
    assert_eq!(text(&program::run(command, "")), "docker.invalid /");
    let done = run(&["-s", "--json", "--unix-socket", path, "http://docker.invalid/"]);
    assert!(records(&done)[0]["remote"].is_null());
    let done = run(&["-s", "--json", "--unix-socket", "/nowhere/x", "http://a.invalid/"]);
    assert_eq!(kind(&done), "connect");
}

#[test]
fn a_url_is_led_to_another_host_from_an_address_of_ones_own() {
    let tls = Some(TlsSetup::named(&["a.invalid"]));
    let origin = Origin::start(Setup { tls, ..Setup::default() }, echo);
    let entry = format!("a.invalid::127.0.0.1:{}", origin.port());
    let options = ["-s", "-k", "--keepalive-time=60", "--tcp-user-timeout=20", "--no-tcp-nodelay"];
    let led = ["--connect-to", &entry, "--interface", "127.0.0.5", "https://a.invalid/x"];
    assert_eq!(text(&run(&[&options[..], &led].concat())), "a.invalid /x");
    let away = ["-s", "--json", "--interface=no-such-0", &origin.url("/")];
    assert_eq!(kind(&run(&away)), "connect");
}

#[test]
fn a_server_must_have_the_key_the_name_and_the_version_that_are_asked_for() {
    let root = Authority::root("fetched");
    let shown = root.leaf(&["inner.test"], |_| {});
    let key = KeyPair::try_from(&shown.key[..]).unwrap();
    let tls = TlsSetup { tls13: false, ..TlsSetup::presenting(shown) };
    let origin = Origin::start(Setup { tls: Some(tls), ..Setup::default() }, |_| ok("taken"));
    let files = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let write = |name: &str, bytes: &[u8]| {
        let path = files.join(format!("fetch-sockets-{name}"));
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let root = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        BASE64.encode(root.der())
    );
    let authority = write("root.pem", root.as_bytes());
    let url = origin.url("/");
    let with = |options: &[&str]| {
        let all = [&["-s", "--json", "--cacert", &authority, "--tls-name", "inner.test"], options];
        run(&[&all.concat()[..], &[&url]].concat())
    };
    let spki = key.subject_public_key_info();
    let hash = format!("sha256//{}", BASE64.encode(Sha256::digest(&spki)));
    let other = format!("sha256//{}", BASE64.encode([0; 32]));
    let both = format!("{other};{hash}");
    let (pem, der) = (write("key.pem", key.public_key_pem().as_bytes()), write("key.der", &spki));
    for pin in [&hash, &both, &pem, &der] {
        let done = with(&["--tlsv1.2", "--pinnedpubkey", pin]);
        assert_eq!(records(&done)[0]["body"], "taken", "{pin}: {:?}", records(&done));
    }
    let done = with(&["--pinnedpubkey", &other]);
    assert_eq!(kind(&done), "certificate");
    let message = records(&done)[0]["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains(&hash) && message.contains(&other), "{message}");
    assert_eq!(kind(&with(&["--tlsv1.3"])), "tls");
    let done = run(&["-s", "--json", "--cacert", &authority, &url]);
    assert_eq!(kind(&done), "certificate");
}
