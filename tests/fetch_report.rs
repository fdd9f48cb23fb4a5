//! The page that `fetch --report` writes: what was fetched and what failed are in it, nothing of
//! the network is more than text, and a run that cannot write it says so at once.
//!
//! With `--test fetch_report` alone, `cargo build --example fetch` comes first.
#![cfg(all(unix, feature = "ring", feature = "gzip", feature = "brotli", feature = "zstd"))]

mod support;

use std::fs;
use std::path::PathBuf;

use support::program;
use support::{Origin, Reply, ok, status};

fn place(name: &str) -> (PathBuf, String) {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("report-{name}.html"));
    let _ = fs::remove_file(&path);
    let text = path.to_str().unwrap().to_owned();
    (path, text)
}

#[test]
fn a_page_has_what_was_fetched_and_what_failed() {
    let origin = Origin::plain(|seen| match &*seen.target {
        "/missing" => status(404),
        "/broken" => Reply::new().send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx").close(),
        _ => ok("hello"),
    });
    let (path, option) = place("page");
    let urls = ["/one", "/missing", "/broken", "/<script>\"'&"].map(|target| origin.url(target));
    let login = origin.url_at("me:canary7Q@127.0.0.1", "/login");
    let mut args = vec!["-s", "--retry=0", "--report", &option, &login];
    args.extend(urls.iter().map(String::as_str));
    let done = program::run(program::fetch(&args), "");
    assert_eq!(done.status.code(), Some(1), "{}", String::from_utf8_lossy(&done.stderr));
    let page = fs::read_to_string(path).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    assert!(page.contains("default-src 'none'"));
    for wanted in ["5 fetches in", "/one", "404", "closed", "8 bytes early", "/login", "p99"] {
        assert!(page.contains(wanted), "{wanted}");
    }
    for unwanted in ["canary7Q", "<script", "href=", "src=", "url("] {
        assert!(!page.contains(unwanted), "{unwanted}");
    }
}

#[test]
fn a_line_that_is_no_job_is_in_the_page() {
    let (path, option) = place("lines");
    let done = program::run(program::fetch(&["-s", "--report", &option, "-i", "-"]), "nonsense\n");
    assert_eq!(done.status.code(), Some(1));
    let page = fs::read_to_string(path).unwrap();
    assert!(page.contains("invalid_url") && page.contains("1 fetches"), "{page}");
}

#[test]
fn a_file_beside_the_page_stays_what_it_was() {
    let (path, option) = place("beside");
    let beside = path.with_extension("html.part");
    fs::write(&beside, "the user's own").unwrap();
    program::run(program::fetch(&["-s", "--report", &option, "-i", "-"]), "nonsense\n");
    assert!(fs::read_to_string(path).unwrap().contains("invalid_url"));
    assert_eq!(fs::read_to_string(beside).unwrap(), "the user's own");
}

#[test]
fn a_page_that_cannot_be_written_is_said_before_anything_is_fetched() {
    let origin = Origin::plain(|_| ok("hello"));
    let args = ["--report", "/nowhere/at/all.html", &origin.url("/")];
    let done = program::run(program::fetch(&args), "");
    assert_eq!(done.status.code(), Some(2));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.starts_with("fetch: --report /nowhere/at/all.html: "), "{said}");
    assert_eq!(origin.connections(), 0);
}
