//! What the `fetch` program sends: files in pieces, and bodies that wait for the server's word.
#![cfg(all(unix, feature = "ring", feature = "gzip", feature = "brotli", feature = "zstd"))]

mod support;

use std::fs;

use support::program::{fetch, records, run};
use support::{Origin, redirect, response, status};

#[test]
fn a_file_is_sent_in_pieces_and_again_where_it_is_asked_for_again() {
    let path = std::env::temp_dir().join(format!("whippet-data-{}", std::process::id()));
    let long: Vec<u8> = (0_u8..=250).cycle().take(3_000_000).collect();
    fs::write(&path, &long).unwrap();
    let expected = long.clone();
    let origin = Origin::plain(move |seen| match &*seen.target {
        "/moved" => redirect(307, "/"),
        _ if seen.body == expected => status(200),
        _ => status(400),
    });
    let data = format!("@{}", path.display());
    let urls = [origin.url("/"), origin.url("/moved"), origin.url("/")];
    let [one, two, three] = &urls;
    let done = run(fetch(&["-s", "--json", "-d", &data, one, two, three]), "");
    let statuses: Vec<_> = records(&done).iter().map(|record| record["status"].clone()).collect();
    assert_eq!(statuses, [200, 200, 200]);
    for seen in origin.requests() {
        assert_eq!(
            (seen.method.as_str(), seen.header("content-length")),
            ("POST", Some("3000000"))
        );
        assert_eq!(seen.header("content-type"), Some("application/x-www-form-urlencoded"));
    }
    fs::remove_file(path).unwrap();
}

#[test]
fn a_job_may_wait_for_the_servers_word() {
    let origin = Origin::plain(|seen| {
        let expect = seen.header("expect").unwrap_or("nothing").to_owned();
        response(200, &[("X-Expect", &expect)], &seen.body)
    });
    let url = origin.url("/");
    let jobs = format!(
        "{{\"url\":\"{url}\",\"body\":\"hello\",\"expect_continue\":true}}\n\
         {{\"url\":\"{url}\",\"expect_continue\":true}}\n\
         {{\"url\":\"{url}\",\"expect_continue\":\"yes\"}}\n"
    );
    let done = run(fetch(&["-s", "--json", "--ordered", "--jobs", "-"]), &jobs);
    let records = records(&done);
    // This server says no word: the body comes after a second.
    assert_eq!((&records[0]["body"], &records[1]["body"]), (&"hello".into(), &"".into()));
    assert!(records[0]["headers"].to_string().contains("100-continue"));
    assert!(records[1]["headers"].to_string().contains("nothing"));
    assert_eq!(records[2]["error"]["kind"], "invalid_request");
}
