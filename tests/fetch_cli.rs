//! The `fetch` program as its users meet it: a process with arguments, standard streams, an exit
//! status, and an origin on loopback.
//!
//! Cargo builds examples for a plain `cargo test`, beside the tests' own directory. With
//! `--test fetch_cli` alone, `cargo build --example fetch` comes first.
#![cfg(all(unix, feature = "ring", feature = "gzip", feature = "brotli", feature = "zstd"))]

mod support;

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Output;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use support::program::Running;

#[test]
fn one_url_prints_its_body() {
    let origin = Origin::start();
    let done = run(&[&origin.url("/text")], "");
    assert_eq!(text(&done.stdout), "h\u{e9}llo\n");
    assert!(text(&done.stderr).contains("1 fetched"), "{}", text(&done.stderr));
    assert_eq!(done.status.code(), Some(0));
    let silent = run(&["-s", &origin.url("/bytes/3000000")], "");
    assert_eq!(silent.stdout.len(), 3_000_000);
    assert_eq!(text(&silent.stderr), "");
    let head = run(&["-sI", &origin.url("/text")], "");
    assert!(head.stdout.starts_with(b"HTTP/1.1 200 OK\nX-Latin: caf\xe9\n"), "{head:?}");
}

#[test]
fn several_urls_print_a_line_each() {
    let origin = Origin::start();
    let done = run(&["-s", &origin.url("/text"), &origin.url("/status/404"), "nonsense"], "");
    let lines = text(&done.stdout);
    assert_eq!(lines.lines().count(), 3, "{lines}");
    for (start, end) in [("200", "/text"), ("404", "/status/404")] {
        let is_it = |line: &str| line.starts_with(start) && line.ends_with(end);
        assert!(lines.lines().any(is_it), "{lines}");
    }
    assert!(lines.lines().any(|line| line.starts_with("invalid_url") && line.contains("nonsense")));
    assert_eq!(done.status.code(), Some(1));
}

#[test]
fn a_record_says_all_of_a_fetch() {
    let origin = Origin::start();
    let done = run(&["-s", "--json", &origin.url("/redirect")], "");
    let record = &records(&done.stdout)[0];
    assert_eq!(record["url"], origin.url("/redirect"));
    assert_eq!(record["final_url"], origin.url("/text"));
    assert_eq!(record["redirects"][0]["status"], 302);
    assert_eq!(record["redirects"][0]["url"], origin.url("/redirect"));
    assert_eq!((&record["status"], &record["reason"]), (&Value::from(200), &Value::from("OK")));
    assert_eq!(record["version"], "HTTP/1.1");
    assert_eq!(record["body"], "h\u{e9}llo\n");
    assert_eq!((&record["bytes"], &record["wire_bytes"]), (&Value::from(7), &Value::from(7)));
    assert_eq!(record["remote"], format!("127.0.0.1:{}", origin.port));
    assert_eq!(record["attempts"], 2);
    assert!(record["error"].is_null() && record["id"].is_null());
    let latin1 = serde_json::json!(["X-Latin", "caf\u{e9}"]);
    assert!(record["headers"].as_array().unwrap().contains(&latin1), "{}", record["headers"]);
    for phase in ["queued", "dns", "connect", "tls", "first_byte", "total"] {
        assert!(record["timings"][phase].is_number(), "{phase}");
    }
    let binary = &records(&run(&["-s", "--json", &origin.url("/binary")], "").stdout)[0];
    assert_eq!(binary["body_base64"], "/wD/");
    let bare = &records(&run(&["-s", "--json", "--no-body", &origin.url("/text")], "").stdout)[0];
    assert!(bare.get("body").is_none() && bare.get("body_base64").is_none());
    assert_eq!((&bare["bytes"], &bare["status"]), (&Value::from(7), &Value::from(200)));
}

#[test]
fn bodies_are_decoded_unless_the_line_or_the_job_says_otherwise() {
    let origin = Origin::start();
    let url = origin.url("/gzip");
    let gzip = include_bytes!("corpus/codings/text.gz");
    let decoded = run(&["-s", &url], "").stdout;
    assert!(decoded.starts_with(b"0 squared is 0\n") && decoded.len() > gzip.len());
    assert_eq!(run(&["-s", "--no-decode", &url], "").stdout, gzip);
    let jobs = format!("{{\"url\":{url:?}}}\n{{\"url\":{url:?},\"decode\":false}}\n");
    let done = records(&run(&["-s", "--json", "--ordered", "--jobs", "-"], &jobs).stdout);
    assert_eq!(done[0]["body"], text(&decoded));
    assert!(done[1]["body_base64"].is_string());
    let wire = Value::from(gzip.len());
    assert_eq!((&done[0]["bytes"], &done[0]["wire_bytes"]), (&Value::from(decoded.len()), &wire));
    assert_eq!((&done[1]["bytes"], &done[1]["wire_bytes"]), (&wire, &wire));
    let job = format!("{{\"url\":{url:?},\"decode\":true}}\n");
    let decodes = run(&["-s", "--json", "--no-decode", "--jobs", "-"], &job);
    assert_eq!(records(&decodes.stdout)[0]["body"], text(&decoded));
    let cut = run(&["-s", "--json", &origin.url("/gzip/3")], "");
    let error = &records(&cut.stdout)[0]["error"];
    assert_eq!((&error["kind"], &error["phase"]), (&"decode".into(), &"body".into()));
    assert_eq!(cut.status.code(), Some(1));
}

#[test]
fn a_job_says_its_request_and_gets_its_id_back() {
    let origin = Origin::start();
    let url = origin.url("/echo");
    let jobs = [
        serde_json::json!({"id": {"k": [1, null]}, "url": url, "body": "text",
            "headers": [["X-Own", "1"]]}),
        serde_json::json!({"id": "b", "url": url, "method": "PUT", "body_base64": "AP8="}),
        serde_json::json!({"id": "a", "url": url, "auth": {"basic": "u:p"}}),
        serde_json::json!({"id": "r", "url": format!("http://name.test:{}/echo", origin.port),
            "resolve": {format!("name.test:{}", origin.port): "127.0.0.1"}}),
        serde_json::json!({"id": "t", "url": origin.url("/silent"), "timeout": 0.05}),
    ];
    let input: String = jobs.iter().map(|job| format!("{job}\n")).collect();
    let done = run(&["-s", "--json", "--ordered", "--jobs", "-", "-H", "X-Own: 0"], &input);
    let records = records(&done.stdout);
    let ids: Vec<&Value> = records.iter().map(|record| &record["id"]).collect();
    assert_eq!(ids, jobs.iter().map(|job| &job["id"]).collect::<Vec<_>>());
    let seen = |nth: usize| records[nth]["body"].as_str().unwrap_or_default().to_lowercase();
    assert!(seen(0).starts_with("post ") && seen(0).ends_with("\r\n\r\ntext"), "{}", seen(0));
    assert!(seen(0).contains("x-own: 1") && !seen(0).contains("x-own: 0"), "{}", seen(0));
    assert_eq!(records[1]["status"], 200);
    assert!(seen(2).contains("authorization: basic dtpw"), "{}", seen(2));
    assert!(seen(3).contains(&format!("host: name.test:{}", origin.port)), "{}", seen(3));
    assert_eq!(records[4]["error"]["kind"], "timeout");
    assert_eq!(done.status.code(), Some(1));
}

#[test]
fn a_line_that_is_no_job_is_a_result_and_the_rest_goes_on() {
    let origin = Origin::start();
    let good = serde_json::json!({"id": 1, "url": origin.url("/text")});
    let input =
        format!("{good}\n{{\n\n{{\"id\":2,\"url\":\"http://a/\",\"ulr\":0}}\n\u{0}\n{good}");
    let done = run(&["-s", "--json", "--ordered", "--jobs", "-"], &input);
    let records = records(&done.stdout);
    let lines: Vec<Option<u64>> = records.iter().map(|record| record["line"].as_u64()).collect();
    assert_eq!(lines, [None, Some(2), Some(4), Some(5), None]);
    assert_eq!(records[1]["error"]["kind"], "invalid_request");
    assert_eq!(records[2]["id"], 2);
    assert!(records[2]["error"]["message"].as_str().unwrap().contains("ulr"));
    assert_eq!(records[4]["status"], 200);
    assert_eq!(done.status.code(), Some(1));
}

#[test]
fn a_list_has_comments_and_any_line_ends() {
    let origin = Origin::start();
    let url = origin.url("/text");
    let done = run(&["-s", "-i", "-"], &format!("# list\r\n\r\n{url}\r\n  {url}"));
    assert_eq!(text(&done.stdout).lines().count(), 2);
    assert_eq!(done.status.code(), Some(0));
}

/// The producer waits for each result before it writes the next line.
#[test]
fn a_slow_producer_gets_each_result_at_once() {
    let origin = Origin::start();
    let mut fetch = Running::start(&["-s", "--json", "-i", "-"]);
    let mut lines = fetch.stdout();
    let mut input = fetch.child.stdin.take().unwrap();
    for nth in 0..20 {
        let url = origin.url(&format!("/bytes/{nth}"));
        // In two pieces, so that a line is not complete at every read.
        input.write_all(&url.as_bytes()[..10]).unwrap();
        input.write_all(format!("{}\n", &url[10..]).as_bytes()).unwrap();
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let record: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&record["url"], &record["bytes"]), (&Value::from(url), &Value::from(nth)));
    }
    drop(input);
    assert_eq!(fetch.end().0, Some(0));
}

/// Far more than are taken in while there is something to do.
#[test]
fn a_silent_origin_at_the_front_of_a_list_holds_back_no_other() {
    let (silent, other) = (Origin::start(), Origin::start());
    let mut fetch = Running::start(&["-s", "--per-host", "4", "-i", "-"]);
    let mut lines = fetch.stdout().lines();
    let mut input = fetch.child.stdin.take().unwrap();
    let urls = format!("{}\n", silent.url("/silent")).repeat(3_000);
    input.write_all(urls.as_bytes()).unwrap();
    for nth in 0..10 {
        writeln!(input, "{}", other.url(&format!("/bytes/{nth}"))).unwrap();
    }
    for _ in 0..10 {
        let line = lines.next().expect("no other was fetched").unwrap();
        assert!(line.starts_with("200 "), "{line}");
    }
}

#[test]
fn a_consumer_that_stalls_loses_nothing() {
    let origin = Origin::start();
    let mut fetch = Running::start(&["-s", "--json", "-i", "-"]);
    let mut input = fetch.child.stdin.take().unwrap();
    let url = origin.url("/bytes/60000");
    // More than fits: the writer is stopped until results are read.
    let writer = thread::spawn(move || {
        for _ in 0..400 {
            writeln!(input, "{url}").unwrap();
        }
    });
    origin.wait_for_requests(64);
    let mut lines = fetch.stdout();
    let results = (&mut lines).lines().map(|line| line.unwrap()).filter(|l| l.ends_with('}'));
    assert_eq!(results.count(), 400);
    writer.join().unwrap();
    assert_eq!(fetch.end().0, Some(0));
}

#[test]
fn a_closed_standard_output_ends_the_run_quietly() {
    let origin = Origin::start();
    let url = origin.url("/bytes/1000");
    let mut fetch = Running::start(&["--json", "-i", "-"]);
    let mut input = fetch.child.stdin.take().unwrap();
    let writer = thread::spawn(move || while writeln!(input, "{url}").is_ok() {});
    let mut lines = fetch.stdout();
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    drop(lines);
    let (_, said) = fetch.end();
    assert_eq!(said, "");
    writer.join().unwrap();
}

#[test]
fn an_interrupt_prints_every_result_that_is_due() {
    for signal in ["-INT", "-TERM"] {
        interrupted(signal);
    }
}

fn interrupted(signal: &str) {
    let origin = Origin::start();
    let (text_url, silent) = (origin.url("/text"), origin.url("/silent"));
    let mut fetch = Running::start(&["--json", "-i", "-"]);
    let mut input = fetch.child.stdin.take().unwrap();
    write!(input, "{silent}\n{text_url}\n{silent}\n").unwrap();
    let mut lines = fetch.stdout();
    let mut first = String::new();
    lines.read_line(&mut first).unwrap();
    origin.wait_for_requests(3);
    fetch.signal(signal);
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert!(first.contains("\"status\":200"), "{first}");
    let rest = records(rest.as_bytes());
    assert_eq!(rest.len(), 2);
    for record in rest {
        assert_eq!(record["error"]["kind"], "cancelled");
        assert_eq!(record["url"], silent);
    }
    let (status, said) = fetch.end();
    assert_eq!(status, Some(130));
    assert!(said.contains("3 fetched") && said.contains("cancelled: 2"), "{said}");
    drop(input);
}

#[test]
fn results_come_in_the_order_of_the_input_where_asked() {
    let origin = Origin::start();
    let input: String =
        (0..200).map(|n| format!("{}\n", origin.url(&format!("/late/{}", n % 3)))).collect();
    let done = run(&["-s", "--json", "--ordered", "-c", "8", "-i", "-"], &input);
    let urls: Vec<String> = records(&done.stdout)
        .iter()
        .map(|record| format!("{}\n", record["url"].as_str().unwrap()))
        .collect();
    assert_eq!(urls.concat(), input);
}

#[test]
fn bodies_go_to_files_that_are_whole_or_not_there() {
    let origin = Origin::start();
    let scratch = Scratch::new("files");
    let template = scratch.0.join("{n}/{host}-{path}");
    let urls = ["/text", "/truncated", "/bytes/100000", "/status/404"].map(|p| origin.url(p));
    let mut args = vec!["-s", "-f", "--retry", "0", "-o", template.to_str().unwrap()];
    args.extend(urls.iter().map(String::as_str));
    let done = run(&args, "");
    assert_eq!(text(&done.stdout).lines().count(), 4);
    assert_eq!(done.status.code(), Some(1));
    let mut files = scratch.files();
    files.sort();
    assert_eq!(files, ["1/127.0.0.1-text", "3/127.0.0.1-bytes/100000"]);
    let single = scratch.0.join("one");
    let done = run(&["-s", "-o", single.to_str().unwrap(), &origin.url("/text")], "");
    assert_eq!((done.status.code(), text(&done.stdout)), (Some(0), ""));
    assert_eq!(fs::read_to_string(&single).unwrap(), "h\u{e9}llo\n");
}

#[test]
fn nothing_that_a_job_says_leaves_the_directory() {
    let origin = Origin::start();
    let scratch = Scratch::new("escape");
    let inner = scratch.0.join("a/b");
    fs::create_dir_all(&inner).unwrap();
    let mut input = String::new();
    for id in ["..", "../x", "../../x", "/abs", "a/../../../x", ".", "", "a\0b"] {
        for path in ["/text", "/%2e%2e/text", "/..%2f..%2ftext", "/../../text"] {
            let job = serde_json::json!({"id": id, "url": origin.url(path)});
            input.push_str(&format!("{job}\n"));
        }
    }
    for template in ["{id}", ".{id}", "{path}", "{id}/{path}", ".{id}{id}/{n}"] {
        let template = inner.join(template);
        run(&["-s", "--jobs", "-", "-o", template.to_str().unwrap()], &input);
    }
    let files = scratch.files();
    assert!(!files.is_empty() && files.iter().all(|file| file.starts_with("a/b/")), "{files:?}");
}

#[test]
fn a_status_fails_only_where_asked() {
    let origin = Origin::start();
    let url = origin.url("/status/404");
    let plain = run(&["-s", &url], "");
    assert_eq!((plain.status.code(), text(&plain.stdout)), (Some(0), "404"));
    let failing = run(&["-sf", &url], "");
    assert_eq!((failing.status.code(), text(&failing.stdout)), (Some(1), ""));
    assert!(text(&failing.stderr).contains("404"), "{}", text(&failing.stderr));
    assert_eq!(run(&["-sf", "--json", &url], "").status.code(), Some(1));
}

#[test]
fn what_cannot_be_used_is_one_line_and_exit_status_2() {
    for (args, named) in [
        (&[][..], "nothing to fetch"),
        (&["--nope"], "--nope"),
        (&["--proxy", "ftp://p/", "http://a/"], "--proxy"),
        (&["--cookie", "a=\u{7}", "http://a/"], "--cookie"),
        (&["-i", "/nowhere/list"], "/nowhere/list"),
        (&["-i", "/"], "/:"),
        (&["--jobs", "/nowhere/jobs"], "/nowhere/jobs"),
        (&["-H", "Bad Name: x", "http://a/"], "--header"),
        (&["-H", "Host: x", "http://a/"], "--header"),
        (&["-X", "GE T", "http://a/"], "--request"),
        (&["--cacert", "/nowhere/ca", "http://a/"], "/nowhere/ca"),
        (&["--cacert", "/dev/null", "http://a/"], "/dev/null"),
        (&["-o", "one", "http://a/", "http://b/"], "-o one"),
        (&["-m", "soon", "http://a/"], "soon"),
        (&["-d", "@/nowhere/body", "http://a/"], "/nowhere/body"),
    ] {
        let done = run(args, "");
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(named) && said.lines().count() == 1, "{args:?}: {said}");
        assert!(said.starts_with("fetch: ") && done.stdout.is_empty(), "{args:?}: {said}");
    }
    assert_eq!(run(&["--help"], "").status.code(), Some(0));
}

#[test]
fn a_single_url_that_fails_is_one_line() {
    for (url, named) in [("nonsense", "nonsense"), ("ftp://a/", "ftp"), ("http://[x/", "http://[x")]
    {
        let done = run(&["-s", url], "");
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{said}");
        assert!(said.contains(named) && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn every_endpoint_of_the_demo_ends_as_it_was_built() {
    for more in [&[][..], &["--json"], &["-c", "4", "--json", "--ordered"]] {
        let done = run(&[&["--demo", "108"], more].concat(), "");
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(0), "{said}");
        assert!(said.contains("every endpoint ended as it was built to end"), "{said}");
        let results = if more.is_empty() { 0 } else { 108 };
        assert_eq!(records(&done.stdout).len(), results);
    }
}

fn run(args: &[&str], input: &str) -> Output {
    let mut fetch = Running::start(args);
    let mut stdin = fetch.child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let mut stderr = fetch.child.stderr.take().unwrap();
    let reader = thread::spawn(move || {
        let mut said = Vec::new();
        stderr.read_to_end(&mut said).map(|_| said)
    });
    let mut stdout = Vec::new();
    fetch.stdout().read_to_end(&mut stdout).unwrap();
    let stderr = reader.join().unwrap().unwrap();
    writer.join().unwrap();
    Output { status: fetch.child.wait().unwrap(), stdout, stderr }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn records(bytes: &[u8]) -> Vec<Value> {
    text(bytes).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fetch-cli-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Every file below it.
    fn files(&self) -> Vec<String> {
        let (mut found, mut left) = (Vec::new(), vec![self.0.clone()]);
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    left.push(path);
                } else {
                    found.push(path.strip_prefix(&self.0).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        found
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server on loopback: a thread for each connection.
struct Origin {
    port: u16,
    requests: mpsc::Receiver<()>,
}

impl Origin {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, requests) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let sender = sender.clone();
                thread::spawn(move || serve(&stream.unwrap(), &sender));
            }
        });
        Self { port, requests }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn wait_for_requests(&self, number: usize) {
        for _ in 0..number {
            self.requests.recv_timeout(PATIENCE).unwrap();
        }
    }
}

fn serve(stream: &TcpStream, requests: &mpsc::Sender<()>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let fields: HashMap<String, &str> = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .collect();
        let length = fields.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let _ = requests.send(());
        let mut words = head.split(' ');
        let (method, path) = (words.next()?, words.next()?.to_owned());
        let mut said = head.clone().into_bytes();
        said.extend_from_slice(&body);
        answer(stream, method == "HEAD", &path, said)?;
    }
}

fn answer(mut stream: &TcpStream, is_head: bool, path: &str, said: Vec<u8>) -> Option<()> {
    let number = path.rsplit('/').next().and_then(|number| number.parse().ok()).unwrap_or(0);
    let (status, body) = match path.split('/').nth(1)? {
        "echo" => ("200 OK".to_owned(), said),
        "binary" => ("200 OK".to_owned(), b"\xff\0\xff".to_vec()),
        "bytes" => ("200 OK".to_owned(), vec![b'x'; number]),
        "status" => (format!("{number} Odd"), number.to_string().into_bytes()),
        "gzip" => {
            let gzip = include_bytes!("corpus/codings/text.gz");
            ("200 OK\r\nContent-Encoding: gzip".to_owned(), gzip[..gzip.len() - number].to_vec())
        }
        "redirect" => ("302 Found\r\nLocation: /text".to_owned(), Vec::new()),
        "late" => {
            thread::sleep(Duration::from_millis(10 * number as u64));
            ("200 OK".to_owned(), Vec::new())
        }
        "silent" => {
            let _ = stream.read(&mut [0]);
            return None;
        }
        "truncated" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
            return None;
        }
        _ => ("200 OK".to_owned(), "h\u{e9}llo\n".as_bytes().to_vec()),
    };
    let fields = b"\r\nX-Latin: caf\xe9\r\nContent-Length: ";
    let mut whole = format!("HTTP/1.1 {status}").into_bytes();
    whole.extend_from_slice(fields);
    whole.extend_from_slice(format!("{}\r\n\r\n", body.len()).as_bytes());
    if !is_head {
        whole.extend_from_slice(&body);
    }
    stream.write_all(&whole).ok()
}

/// How long a test waits before it is taken to hang.
const PATIENCE: Duration = Duration::from_secs(60);
