//! What the `fetch` program sends: forms, files in pieces, standard input as it comes, and bodies
//! that wait for the server's word.
//!
//! With `--test fetch_uploads` alone, `cargo build --example fetch` comes first.
#![cfg(all(unix, feature = "ring", feature = "gzip", feature = "brotli", feature = "zstd"))]

mod support;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use support::program::{Running, fetch, records, run};
use support::{Origin, Seen, ok, redirect, response, status};

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

#[test]
fn a_job_may_have_trailers_behind_its_body() {
    let origin = Origin::plain(|seen| {
        let framing = seen.header("transfer-encoding").unwrap_or("none").to_owned();
        let trailers = seen.trailers.join(", ");
        response(200, &[("X-Framing", &framing), ("X-Trailers", &trailers)], &seen.body)
    });
    let url = origin.url("/");
    let trailers = r#""trailers":[["X-Sum","7"],["X-Empty",""]]"#;
    let jobs = [
        format!("{{\"url\":\"{url}\",\"body\":\"hello\",{trailers}}}\n"),
        format!("{{\"url\":\"{url}\",\"body_base64\":\"AP8=\",\"method\":\"PUT\",{trailers}}}\n"),
        format!("{{\"url\":\"{url}\",\"body\":\"hello\",\"trailers\":[]}}\n"),
        format!("{{\"url\":\"{url}\",{trailers}}}\n"),
        format!("{{\"url\":\"{url}\",\"body\":\"x\",\"trailers\":[[\"Cookie\",\"a=b\"]]}}\n"),
    ];
    let done = run(fetch(&["-s", "--json", "--ordered", "--jobs", "-"]), &jobs.concat());
    let records = records(&done);
    for (record, body) in [(&records[0], "hello"), (&records[2], "hello")] {
        assert_eq!(record["body"], body);
    }
    assert_eq!(records[1]["body_base64"], "AP8=");
    for record in &records[..2] {
        let headers = record["headers"].to_string();
        assert!(headers.contains("chunked") && headers.contains("X-Sum: 7, X-Empty:"), "{headers}");
    }
    assert!(records[2]["headers"].to_string().contains("none"), "none of them, a known length");
    assert_eq!(origin.requests().len(), 3, "a trailer that cannot be sent ends its request");
    for refused in &records[3..] {
        assert_eq!(refused["error"]["kind"], "invalid_request", "{refused}");
    }
    let message = records[3]["error"]["message"].as_str().unwrap();
    assert!(message.contains("trailers") && message.contains("body"), "{message}");
}

#[test]
fn a_form_has_fields_texts_from_files_and_files() {
    let scratch = Scratch::new("form");
    let long: Vec<u8> = (0_u8..=250).cycle().take(3_000_000).collect();
    let (photo, notes) =
        (scratch.file("ph\u{f6}to;1.png", &long), scratch.file("notes.txt", b"a\r\nb"));
    let nothing = scratch.file("nothing", b"");
    let origin = Origin::plain(|seen| match &*seen.target {
        "/moved" => redirect(307, "/"),
        _ => ok(seen.body.len().to_string()),
    });
    let fields = [
        "title= Holidays ".to_owned(),
        "twice=1".to_owned(),
        "twice=2;type=text/x;charset=y".to_owned(),
        "quo\"ted\r\nX: y=\"a;b\"".to_owned(),
        format!("photo=@\"{photo}\""),
        format!("photo=@{notes};filename=\"b;c\";type=image/x"),
        format!("notes=<{notes}"),
        format!("nothing=@{nothing}"),
    ];
    let (url, moved) = (origin.url("/"), origin.url("/moved"));
    let mut args = vec!["-s", "--json", &url, &moved, "--form-string", "as-is=@b;\"c"];
    args.extend(fields.iter().flat_map(|field| ["-F", field]));
    let done = run(fetch(&args), "");
    let statuses: Vec<_> = records(&done).iter().map(|record| record["status"].clone()).collect();
    assert_eq!((statuses, done.status.code()), (vec![200.into(), 200.into()], Some(0)));
    let part = |rest: &str, content: &[u8]| {
        (format!("Content-Disposition: form-data; name={rest}"), content.to_vec())
    };
    let expected = [
        part("\"as-is\"", b"@b;\"c"),
        part("\"title\"", b"Holidays"),
        part("\"twice\"", b"1"),
        part("\"twice\"\r\nContent-Type: text/x;charset=y", b"2"),
        part("\"quo%22ted%0D%0AX: y\"", b"a;b"),
        part("\"photo\"; filename=\"ph\u{f6}to;1.png\"\r\nContent-Type: image/png", &long),
        part("\"photo\"; filename=\"b;c\"\r\nContent-Type: image/x", b"a\r\nb"),
        part("\"notes\"", b"a\r\nb"),
        part("\"nothing\"; filename=\"nothing\"\r\nContent-Type: application/octet-stream", b""),
    ];
    let seen = origin.requests();
    assert_eq!(seen.len(), 3, "one of them twice");
    for seen in seen {
        assert_eq!((seen.method.as_str(), framing(&seen)), ("POST", known(seen.body.len())));
        assert!(seen.parts() == expected, "{:?}", seen.parts().iter().map(|(head, _)| head));
    }
}

#[test]
fn a_form_is_for_every_job_without_a_body_and_names_its_boundary_in_any_type() {
    let origin = Origin::plain(|seen| ok(seen.header("content-type").unwrap_or("none")));
    let url = origin.url("/");
    let jobs = format!(
        "{{\"url\":\"{url}\"}}\n{{\"url\":\"{url}\",\"body\":\"own\"}}\n\
         {{\"url\":\"{url}\",\"method\":\"PUT\",\"headers\":[[\"content-type\",\"multipart/x; a=b\"]]}}\n"
    );
    let done = run(fetch(&["-s", "--json", "-c", "1", "-F", "a=b", "--jobs", "-"]), &jobs);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let seen = origin.requests();
    let methods: Vec<_> = seen.iter().map(|seen| seen.method.as_str()).collect();
    assert_eq!(methods, ["POST", "POST", "PUT"]);
    assert_eq!(seen[0].parts().len(), 1);
    assert_eq!((seen[1].body.as_slice(), seen[1].header("content-type")), (&b"own"[..], None));
    let (own, boundary) =
        seen[2].header("content-type").unwrap().split_once("; boundary=").unwrap();
    assert_eq!(own, "multipart/x");
    assert!(seen[2].body.starts_with(format!("--{boundary}\r\n").as_bytes()));
}

#[test]
fn texts_are_joined_as_they_stand_and_encoded_where_asked() {
    let scratch = Scratch::new("texts");
    let file = scratch.file("text", b"x & y\n");
    let origin = Origin::plain(|seen| ok(&seen.body));
    let (url, named, plain) = (origin.url("/"), format!("n@{file}"), format!("@{file}"));
    let encoded = "--data-urlencode";
    for (args, input, expected) in [
        (&["-d", "a=1", "-d", "b=2"][..], "", "a=1&b=2"),
        (
            &["-d", "a b", encoded, "c d", encoded, "=e=", encoded, "f=g&\u{e9}"],
            "",
            "a b&c+d&e%3D&f=g%26%C3%A9",
        ),
        (&[encoded, &named, encoded, &plain, "-d", &plain], "", "n=x+%26+y%0A&x+%26+y%0A&x & y\n"),
        (&[encoded, "n@-", "-d", "z"], "from\u{20ac}", "n=from%E2%82%AC&z"),
        (&["-d", ""], "", ""),
    ] {
        let done = run(fetch(&[args, &["-s", &url]].concat()), input);
        assert_eq!((text(&done.stdout), done.status.code()), (expected, Some(0)), "{args:?}");
    }
    for seen in origin.requests() {
        let found = (seen.method.as_str(), seen.header("content-type"), framing(&seen));
        let form = Some("application/x-www-form-urlencoded");
        assert_eq!(found, ("POST", form, known(seen.body.len())));
    }
}

#[test]
fn a_file_is_put_with_its_length_under_its_name_where_the_url_has_none() {
    let scratch = Scratch::new("put");
    let long: Vec<u8> = (0_u8..=250).cycle().take(3_000_000).collect();
    let file = scratch.file("a b", &long);
    let origin = Origin::plain(|seen| match &*seen.target {
        "/moved" => redirect(308, "/here"),
        _ => status(201),
    });
    let urls = ["", "/in/", "/as/named", "/moved"].map(|target| origin.url(target));
    let mut args = vec!["-s", "--json", "--ordered", "-c", "1", "-T", &file];
    args.extend(urls.iter().map(String::as_str));
    let done = run(fetch(&args), "");
    let records = records(&done);
    assert!(records.iter().all(|record| record["status"] == 201), "{records:?}");
    assert_eq!(records[1]["url"], *urls[1], "the URL as it was given");
    let seen = origin.requests();
    let targets: Vec<_> = seen.iter().map(|seen| seen.target.as_str()).collect();
    assert_eq!(targets, ["/a%20b", "/in/a%20b", "/as/named", "/moved", "/here"]);
    for seen in &seen {
        let found = (seen.method.as_str(), seen.header("content-type"), framing(seen));
        assert_eq!(found, ("PUT", None, known(3_000_000)));
        assert!(seen.body == long);
    }
    let job = format!("{{\"url\":\"{}\",\"method\":\"POST\"}}", origin.url("/job/"));
    run(fetch(&["-s", "--jobs", "-", "-T", &file]), &job);
    let last = origin.requests().pop().unwrap();
    assert_eq!((last.method.as_str(), last.target.as_str()), ("POST", "/job/a%20b"));
}

/// More than there is memory for, nearly all of which is refused.
#[test]
fn a_file_is_read_no_further_than_it_is_taken() {
    let scratch = Scratch::new("sparse");
    let path = scratch.file("sparse", b"");
    File::options().write(true).open(&path).unwrap().set_len(SPARSE_BYTES).unwrap();
    for option in [["-T", &path], ["-F", &format!("a=@{path}")], ["-F", &format!("a=<{path}")]] {
        let (url, connected) = listening();
        let mut fetch = Running::start(&[&["-s"], &option[..], &[&url]].concat());
        let mut server = connected();
        let head = server.head();
        let length = head.split("\r\nContent-Length: ").nth(1).unwrap();
        let length: u64 = length.split("\r\n").next().unwrap().parse().unwrap();
        assert!((SPARSE_BYTES..SPARSE_BYTES + 1_000).contains(&length), "{head}");
        server.say("HTTP/1.1 413 Too Large\r\nContent-Length: 6\r\n\r\nenough");
        let reader = thread::spawn(move || io::copy(&mut server.0, &mut io::sink()));
        let mut said = String::new();
        fetch.stdout().read_to_string(&mut said).unwrap();
        assert_eq!((said.as_str(), fetch.end()), ("enough", (Some(0), String::new())));
        // It ends when the program closes, in whatever way.
        assert!(reader.join().unwrap().unwrap_or(0) < SPARSE_BYTES);
    }
}

#[test]
fn standard_input_is_sent_as_it_comes_and_answered_while_it_does() {
    for arg in ["-", "."] {
        let (url, connected) = listening();
        let mut fetch = Running::start(&["-s", "-T", arg, &url]);
        let mut input = fetch.child.stdin.take().unwrap();
        let mut server = connected();
        let head = server.head();
        assert!(head.starts_with("PUT /in/ HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nTransfer-Encoding: chunked\r\n"), "{head}");
        assert!(!head.contains("Content-Type") && !head.contains("Expect"), "{head}");
        let mut output = fetch.stdout();
        server.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        // Each piece is written when the one before has come back.
        for piece in ["one\n", "two\n", "three\n"] {
            input.write_all(piece.as_bytes()).unwrap();
            assert_eq!(server.chunk(), piece);
            server.say(&format!("{:x}\r\n{piece}\r\n", piece.len()));
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            assert_eq!(line, piece);
        }
        drop(input);
        assert_eq!(server.chunk(), "");
        server.say("0\r\n\r\n");
        assert_eq!(fetch.end(), (Some(0), String::new()));
    }
}

#[test]
fn another_protocol_goes_between_the_server_and_the_standard_streams() {
    let (url, connected) = listening();
    let mut fetch = Running::start(&["-s", "--upgrade", "echo/2", &url]);
    let mut input = fetch.child.stdin.take().unwrap();
    let mut output = fetch.stdout();
    let mut server = connected();
    let head = server.head();
    assert!(head.starts_with("GET /in/ HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nUpgrade: echo/2\r\n"), "{head}");
    assert!(!head.contains("Content-Length") && !head.contains("Transfer-Encoding"), "{head}");
    // What is typed before the answer waits for it.
    input.write_all(b"one\n").unwrap();
    server.say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n");
    server.say("Upgrade: echo/2\r\n\r\nhello\n");
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "hello\n");
    assert_eq!(server.bytes(4), b"one\n");
    for piece in ["two\n", "three\n"] {
        input.write_all(piece.as_bytes()).unwrap();
        assert_eq!(server.bytes(piece.len()), piece.as_bytes());
        server.say(piece);
        line.clear();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, piece);
    }
    // The end of standard input is the end of one half.
    drop(input);
    assert_eq!(server.rest(), b"");
    server.say("good-bye");
    drop(server);
    line.clear();
    output.read_to_string(&mut line).unwrap();
    assert_eq!((line.as_str(), fetch.end()), ("good-bye", (Some(0), String::new())));
}

#[test]
fn the_other_protocol_ends_with_the_server_and_its_refusal_is_a_failure() {
    let switches = "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nbye";
    let refuses = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno";
    for (said, printed, status) in [(switches, "bye", 0), (refuses, "", 1)] {
        let (url, connected) = listening();
        let mut fetch = Running::start(&["-s", "--upgrade", "echo", &url]);
        // It stays open.
        let _input = fetch.child.stdin.take().unwrap();
        let mut server = connected();
        server.head();
        server.say(said);
        drop(server);
        let mut line = String::new();
        fetch.stdout().read_to_string(&mut line).unwrap();
        let (ended, why) = fetch.end();
        assert_eq!((line.as_str(), ended), (printed, Some(status)));
        assert_eq!(
            why,
            if status == 0 { String::new() } else { format!("fetch: {url}: 200 OK\n") }
        );
    }
}

#[test]
fn what_standard_input_is_and_how_long_does_not_matter() {
    let scratch = Scratch::new("stdin");
    let long: Vec<u8> = (0_u8..=250).cycle().take(3_000_000).collect();
    let file = scratch.file("long", &long);
    let origin = Origin::plain(|seen| ok(seen.body.len().to_string()));
    let url = origin.url("/");
    let files = [(file.as_str(), "3000000"), ("/dev/null", "0")];
    for (path, length) in files {
        let mut command = fetch(&["-s", "-T", "-", "-X", "POST", &url]);
        let done = command.stdin(File::open(path).unwrap()).output().unwrap();
        assert_eq!((text(&done.stdout), text(&done.stderr)), (length, ""));
    }
    // A socket is another process's too: it is read only when there is something.
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let bytes = long.clone();
    let writer = thread::spawn(move || theirs.write_all(&bytes).unwrap());
    let mut command = fetch(&["-s", "-T", "-", "-X", "POST", &url]);
    let done = command.stdin(OwnedFd::from(ours)).output().unwrap();
    writer.join().unwrap();
    assert_eq!((text(&done.stdout), text(&done.stderr)), ("3000000", ""));
    let mut piped = Running::start(&["-s", "-T", "-", "-X", "POST", &url]);
    let mut input = piped.child.stdin.take().unwrap();
    let bytes = long.clone();
    let writer = thread::spawn(move || input.write_all(&bytes).unwrap());
    let mut said = String::new();
    piped.stdout().read_to_string(&mut said).unwrap();
    writer.join().unwrap();
    assert_eq!((said.as_str(), piped.end()), ("3000000", (Some(0), String::new())));
    for seen in origin.requests() {
        let chunked = (None, Some("chunked".to_owned()));
        assert_eq!((seen.method.as_str(), framing(&seen)), ("POST", chunked));
        assert!(seen.body.is_empty() || seen.body == long);
    }
    // A pipe of another name is sent in the same way.
    let named = run(fetch(&["-s", "-T", "/dev/fd/0", &url]), "piped");
    assert_eq!(text(&named.stdout), "5");
    assert_eq!(origin.requests().pop().unwrap().target, "/0");
}

/// The writer does not end, and the program does.
#[test]
fn an_answer_or_a_failure_ends_the_sending_whoever_still_writes() {
    let early = "HTTP/1.1 413 Too Large\r\nContent-Length: 6\r\n\r\nenough";
    for (answer, expected) in [(early, (Some(0), "enough", 0)), ("", (Some(1), "", 1))] {
        let (url, connected) = listening();
        let mut fetch = Running::start(&["-s", "-T", "-", &url]);
        let mut input = fetch.child.stdin.take().unwrap();
        input.write_all(b"some").unwrap();
        let mut server = connected();
        server.head();
        assert_eq!(server.chunk(), "some");
        server.say(answer);
        drop(server);
        let mut said = String::new();
        fetch.stdout().read_to_string(&mut said).unwrap();
        let (code, errors) = fetch.end();
        assert_eq!((code, said.as_str(), errors.lines().count()), expected, "{errors}");
        assert!(errors.is_empty() || errors.contains("sent only once"), "{errors}");
        drop(input);
    }
}

#[test]
fn what_was_read_once_is_not_sent_again_and_the_error_says_so() {
    let origin = Origin::plain(|seen| match &*seen.target {
        "/moved" => redirect(307, "/"),
        _ => ok(&seen.body),
    });
    let done = run(fetch(&["-s", "-T", "-", &origin.url("/moved")]), "once");
    let said = text(&done.stderr);
    assert_eq!((done.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("/moved") && said.contains("body"), "{said}");
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn input_that_cannot_be_read_fails_the_fetch_with_one_line() {
    let origin = Origin::plain(|_| status(200));
    let (url, folder) = (origin.url("/"), || File::open("/").unwrap());
    let done = fetch(&["-s", "-T", "-", &url]).stdin(folder()).output().unwrap();
    let said = text(&done.stderr);
    assert_eq!((done.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains(&url) && said.contains("standard input: Is a directory"), "{said}");
    let json = fetch(&["-s", "-T", "-", "--json", &url]).stdin(folder()).output().unwrap();
    let error = &records(&json)[0]["error"];
    assert_eq!((&error["kind"], &error["phase"]), (&"io".into(), &"send".into()));
    assert_eq!((json.status.code(), text(&json.stderr)), (Some(1), ""));
}

#[test]
fn an_interrupt_ends_an_upload_that_waits_for_input() {
    let (url, connected) = listening();
    let fetch = Running::start(&["-s", "-T", "-", &url]);
    let mut server = connected();
    server.head();
    fetch.interrupt();
    let (code, said) = fetch.end();
    assert_eq!((code, said.lines().count()), (Some(130), 1), "{said}");
    assert!(said.contains("interrupt"), "{said}");
}

#[test]
fn what_cannot_be_sent_is_one_line_and_exit_status_2() {
    let url = "http://127.0.0.1:1/";
    for (args, named) in [
        (&["-F", "a=@/nowhere/file"][..], "--form a=@/nowhere/file: No such file"),
        (&["-F", "a=</nowhere/file"], "--form a=</nowhere/file: No such file"),
        (&["-F", "a=@/"], "--form a=@/: Is a directory"),
        (&["-F", "canary"], "no = behind the name"),
        (&["-F", "a=@canary,b"], "one file"),
        (&["-F", "a=canary;headers=@b"], "type= and filename="),
        (&["-F", "a=(canary"], "--form-string"),
        (&["-F", "a=b", "-d", "canary"], "--data"),
        (&["-F", "a=b", "-I"], "--head"),
        (
            &["-F", "a=@-", "-F", "b=@-"],
            "--form b=@-: standard input is read by --form a=@- already",
        ),
        (
            &["--data-urlencode", "a@/nowhere/file"],
            "--data-urlencode a@/nowhere/file: No such file",
        ),
        (&["-d", "x", "-d", "@/nowhere/file"], "--data @/nowhere/file: No such file"),
        (&["-T", "/nowhere/file"], "--upload-file /nowhere/file: No such file"),
        (&["-T", "/"], "--upload-file /: is a directory"),
        (&["-T", "-", url], "--upload-file -: standard input can be sent once; give one URL"),
        (&["-T", "-", "-F", "a=b"], "--form"),
        (&["-T", "-", "-I"], "--head"),
        (&["--expect100-timeout", "3"], "--expect-continue"),
    ] {
        let done = run(fetch(&[args, &["-s", url]].concat()), "");
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(named) && said.lines().count() == 1, "{args:?}: {said}");
        assert!(!said.contains("canary") && done.stdout.is_empty(), "{args:?}: {said}");
    }
}

#[test]
fn the_command_line_may_have_all_bodies_wait_for_the_servers_word() {
    let (url, connected) = listening();
    // Without a limit: the body goes when the server says so, or not at all.
    let args =
        ["-s", "--expect-continue", "--expect100-timeout", "0", "-m", "0", "-d", "body", &url];
    for (word, code, said) in [
        ("HTTP/1.1 100 Continue\r\n\r\n", Some(0), "thanks"),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", Some(0), "no"),
    ] {
        let mut fetch = Running::start(&args);
        let mut server = connected();
        assert!(server.head().contains("\r\nExpect: 100-continue\r\n"));
        server.say(word);
        if said == "thanks" {
            assert_eq!(server.bytes(4), b"body");
            server.say("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nthanks");
        }
        let mut answer = String::new();
        fetch.stdout().read_to_string(&mut answer).unwrap();
        assert_eq!((answer.as_str(), fetch.end()), (said, (code, String::new())));
        assert_eq!(server.rest(), b"", "nothing else was sent");
    }
    let origin = Origin::plain(|_| status(200));
    let url = origin.url("/");
    let job = format!("{{\"url\":\"{url}\",\"body\":\"x\",\"expect_continue\":false}}");
    run(fetch(&["-s", "--expect-continue", "--jobs", "-"]), &job);
    assert_eq!(origin.requests()[0].header("expect"), None, "the job's own word counts");
}

/// Content-Length and Transfer-Encoding.
fn framing(seen: &Seen) -> (Option<String>, Option<String>) {
    let value = |name| seen.header(name).map(str::to_owned);
    (value("content-length"), value("transfer-encoding"))
}

fn known(length: usize) -> (Option<String>, Option<String>) {
    (Some(length.to_string()), None)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("fetch-uploads-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Where the file is that it makes.
    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path.into_os_string().into_string().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A URL, and whoever connects to it, one after another.
fn listening() -> (String, impl Fn() -> Server) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/in/", listener.local_addr().unwrap());
    let (sender, connected) = mpsc::channel();
    thread::spawn(move || {
        listener.incoming().flatten().try_for_each(|stream| sender.send(Server::new(stream)))
    });
    (url, move || connected.recv_timeout(PATIENCE).unwrap())
}

/// A server that hears one request piece by piece, and says what the test has it say.
struct Server(BufReader<TcpStream>);

impl Server {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.0.read_line(&mut head).unwrap(), 0, "half of a head");
        }
        head
    }

    /// The next chunk; the last one is empty.
    fn chunk(&mut self) -> String {
        let mut size = String::new();
        self.0.read_line(&mut size).unwrap();
        let length = usize::from_str_radix(size.trim_end(), 16).unwrap();
        let mut chunk = self.bytes(length + 2);
        assert_eq!(chunk.split_off(length), b"\r\n");
        String::from_utf8(chunk).unwrap()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// What is left, until the client closes.
    fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        rest
    }

    fn say(&self, text: &str) {
        self.0.get_ref().write_all(text.as_bytes()).unwrap();
    }
}

/// 64 GiB.
const SPARSE_BYTES: u64 = 64 << 30;
/// How long a test waits before it is taken to hang.
const PATIENCE: Duration = Duration::from_secs(60);
