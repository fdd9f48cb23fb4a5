//! Content codings over real sockets: asked for, removed as they arrive, refused where they are
//! broken, bounded in memory and in a turn, and left alone where they must be.

#![cfg(all(feature = "gzip", feature = "brotli", feature = "zstd"))]

mod support;
mod transcript;

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use support::{Action, Origin, Reply, Seen, response};
use transcript::{Run, Told, noise};
use whippet::{Coding, Kind, Phase, Request, Settings};

const MIB: usize = 1 << 20;
/// What the files of the corpus decode to is `text(150)`.
const FILES: [(&str, &str, &[u8]); 9] = [
    ("text.gz", "gzip", include_bytes!("corpus/codings/text.gz")),
    ("named.gz", "x-gzip", include_bytes!("corpus/codings/named.gz")),
    ("members.gz", "GZIP", include_bytes!("corpus/codings/members.gz")),
    ("text.zlib", "deflate", include_bytes!("corpus/codings/text.zlib")),
    ("text.deflate", "deflate", include_bytes!("corpus/codings/text.deflate")),
    ("text.br", "br", include_bytes!("corpus/codings/text.br")),
    ("fast.br", "identity, br", include_bytes!("corpus/codings/fast.br")),
    ("text.zst", "zstd", include_bytes!("corpus/codings/text.zst")),
    ("frames.zst", "zstd", include_bytes!("corpus/codings/frames.zst")),
];

fn text(lines: u64) -> Vec<u8> {
    (0..lines).flat_map(|n| format!("{n} squared is {}\n", n * n).into_bytes()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// 200 with a body in a coding, framed as the target asks.
fn coded(seen: &Seen, coding: &str, body: &[u8]) -> Reply {
    let headers = [("Content-Encoding", coding)];
    match seen.target.rsplit('/').next().unwrap() {
        "chunked" => Reply::new()
            .send(format!(
                "HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nTransfer-Encoding: chunked\r\n\r\n"
            ))
            .then(Action::Chunked(body.chunks(97).map(<[u8]>::to_vec).collect())),
        "until-close" => Reply::new()
            .send(format!("HTTP/1.0 200 OK\r\nContent-Encoding: {coding}\r\n\r\n"))
            .send(body)
            .close(),
        "split" => {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            Reply::new().split([head.as_bytes(), body].concat(), 1)
        }
        _ => response(200, &headers, body),
    }
}

fn serving(coding: &'static str, body: Vec<u8>) -> Origin {
    Origin::plain(move |seen| coded(seen, coding, &body))
}

/// The same fetch streamed and collected.
fn both(run: &mut Run, url: &str) -> [Told; 2] {
    [run.get(url), run.collect(url)]
}

fn removed(told: &Told) -> Vec<Coding> {
    told.response.as_ref().unwrap().removed_codings().collect()
}

#[test]
fn every_coding_and_framing_is_decoded_and_leaves_the_connection_reusable() {
    let text = text(150);
    let reply = |seen: &Seen| {
        let name = seen.target.split('/').nth(1).unwrap();
        let (_, coding, bytes) = FILES.iter().find(|(file, ..)| *file == name).unwrap();
        coded(seen, coding, bytes)
    };
    for origin in [Origin::plain(reply), Origin::tls(reply)] {
        let mut run = Run::new();
        for (name, coding, bytes) in FILES {
            for framing in ["length", "chunked", "until-close", "split"] {
                let what = format!("{name} {framing}");
                for told in both(&mut run, &origin.url(&format!("/{name}/{framing}"))) {
                    assert!(told.answer().1 == text, "{what}");
                    assert_eq!(told.stats.wire_bytes, bytes.len() as u64, "{what}");
                    assert_eq!(told.stats.body_bytes, text.len() as u64, "{what}");
                    let header = match &told.response {
                        Some(response) => response.header("content-encoding").unwrap(),
                        None => {
                            &told.headers.iter().find(|(n, _)| n == "Content-Encoding").unwrap().1
                        }
                    };
                    assert_eq!(header, coding.as_bytes(), "{what}");
                    if told.response.is_some() {
                        assert_eq!(removed(&told).len(), 1, "{what}");
                    }
                }
                let kept = usize::from(framing != "until-close");
                assert_eq!(run.reactor.connections(), kept, "{what}");
                assert_eq!((run.reactor.buffered_bytes(), run.reactor.buffers()), (0, 0), "{what}");
            }
        }
    }
}

#[test]
fn what_is_built_in_is_asked_for_unless_the_request_says_otherwise() {
    let origin = Origin::plain(|seen| {
        let said = seen.header("accept-encoding").unwrap_or("nothing");
        support::ok(said)
    });
    let url = origin.url("/");
    let get = || Request::get(&url).unwrap();
    let mut run = Run::new();
    let mut said = |request: Request| String::from_utf8(run.fetch(request).body).unwrap();
    assert_eq!(said(get()), "gzip, deflate, br, zstd");
    assert_eq!(said(get().header("accept-ENCODING", "br").unwrap()), "br");
    assert_eq!(said(get().header("Range", "bytes=1-").unwrap()), "identity");
    assert_eq!(said(get().decode(false)), "nothing");
    assert_eq!(said(get().decode(false).header("Range", "bytes=1-").unwrap()), "nothing");
    let mut off = Run::with(|settings| settings.decode = false);
    let shared = get();
    assert_eq!(off.fetch(shared.clone()).body, b"nothing");
    assert_eq!(off.fetch(shared.clone().decode(true)).body, b"gzip, deflate, br, zstd");
    // A request remembers its bytes for either, whoever sends it.
    assert_eq!(run.fetch(shared.clone()).body, b"gzip, deflate, br, zstd");
    assert_eq!(off.fetch(shared).body, b"nothing");
}

#[test]
fn a_body_is_left_alone_where_decoding_is_off_or_would_be_wrong() {
    let body = gzip(b"hello");
    let encoded = body.clone();
    let origin = Origin::plain(move |seen| {
        let gzip = ("Content-Encoding", "gzip");
        match seen.target.as_str() {
            "/unknown" => response(200, &[("Content-Encoding", "compress")], &encoded),
            "/half-known" => response(200, &[("Content-Encoding", "compress, gzip")], &encoded),
            "/part" => response(206, &[gzip, ("Content-Range", "bytes 0-9/90")], &encoded[..10]),
            _ => response(200, &[gzip], &encoded),
        }
    });
    let mut run = Run::new();
    for target in ["/unknown", "/half-known", "/part"] {
        for told in both(&mut run, &origin.url(target)) {
            let expected = if target == "/part" { &body[..10] } else { &body[..] };
            assert_eq!(told.answer().1, expected, "{target}");
        }
        assert_eq!(removed(&run.collect(&origin.url(target))), []);
    }
    let off = Request::get(origin.url("/")).unwrap().decode(false).collect(true);
    let told = run.fetch(off);
    assert_eq!((told.answer().1, removed(&told)), (&body[..], vec![]));
    assert_eq!(run.reactor.connections(), 1);
}

#[test]
fn what_has_no_body_needs_no_decoder() {
    let origin = Origin::plain(|seen| {
        let gzip = ("Content-Encoding", "gzip");
        match seen.target.as_str() {
            "/none" => response(204, &[gzip], ""),
            "/same" => response(304, &[gzip], ""),
            "/chunked" => coded(seen, "gzip", b""),
            "/until-close" => coded(seen, "gzip", b""),
            "/head" => {
                let head =
                    "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 99\r\n\r\n";
                Reply::new().send(head)
            }
            _ => response(200, &[gzip], ""),
        }
    });
    let mut run = Run::new();
    for target in ["/none", "/same", "/empty", "/chunked", "/until-close"] {
        for told in both(&mut run, &origin.url(target)) {
            assert_eq!(told.answer().1, b"", "{target}");
        }
    }
    let told = run.fetch(Request::head(origin.url("/head")).unwrap());
    assert_eq!(told.answer().1, b"");
    assert_eq!(run.reactor.buffered_bytes(), 0);
}

#[test]
fn codings_are_removed_in_the_order_in_which_they_were_applied() {
    let twice = gzip(FILES[5].2);
    let origin = Origin::plain(move |seen| match seen.target.as_str() {
        "/three" => coded(seen, "gzip, gzip, gzip", b"anything"),
        _ => coded(seen, "br, gzip", &twice),
    });
    let mut run = Run::new();
    for framing in ["/length", "/split"] {
        for told in both(&mut run, &origin.url(framing)) {
            assert!(told.answer().1 == text(150));
            if told.response.is_some() {
                assert_eq!(removed(&told), [Coding::Brotli, Coding::Gzip]);
            }
        }
    }
    for told in both(&mut run, &origin.url("/three")) {
        let error = told.error.unwrap();
        assert_eq!((error.kind(), error.phase()), (Kind::Decode, Phase::Body));
        assert!(error.to_string().contains("more than 2 content codings"), "{error}");
    }
}

#[test]
fn what_cannot_be_decoded_is_a_failure_that_is_not_retried() {
    let whole = gzip(&text(150));
    let (cut, mut corrupt) = (whole[..whole.len() - 3].to_vec(), whole.clone());
    let check = corrupt.len() - 6;
    corrupt[check] ^= 1;
    let junk = [&whole[..], b"junk"].concat();
    for (body, said) in [
        (cut, "its gzip data ends early"),
        (corrupt, "its gzip data is corrupt: incorrect data check"),
        (junk, "something follows the end of its gzip data"),
        (b"plain text".to_vec(), "its gzip data is corrupt: incorrect header check"),
    ] {
        let origin = serving("gzip", body);
        let mut run = Run::new();
        for framing in ["/length", "/chunked", "/until-close", "/split"] {
            for told in both(&mut run, &origin.url(framing)) {
                let error = told.error.as_ref().unwrap();
                assert_eq!((error.kind(), error.phase()), (Kind::Decode, Phase::Body));
                assert_eq!(error.to_string(), format!("the body cannot be decoded: {said}"));
                assert_eq!((error.attempts(), error.is_transient()), (1, false));
                assert!(std::error::Error::source(error).is_some());
                let so_far = match &told.response {
                    Some(partial) => partial.body(),
                    None => &told.body,
                };
                assert!(text(150).starts_with(so_far), "{framing}: {said}");
            }
            assert_eq!((run.reactor.connections(), run.reactor.buffered_bytes()), (0, 0));
        }
    }
}

#[test]
fn limits_are_of_decoded_bytes() {
    let (text, noise) = (text(2_000), noise(10_000));
    let length = text.len() as u64;
    let bodies = [("/text", gzip(&text)), ("/noise", gzip(&noise))];
    assert!(bodies[1].1.len() > noise.len());
    let origin = Origin::plain(move |seen| {
        let (_, body) = bodies.iter().find(|(target, _)| *target == seen.target).unwrap();
        response(200, &[("Content-Encoding", "gzip")], body)
    });
    let mut run = Run::new();
    for collect in [true, false] {
        let limited = |target: &str, most| {
            let request = Request::get(origin.url(target)).unwrap();
            request.collect(collect).body_bytes_max(most)
        };
        assert!(run.fetch(limited("/text", length)).answer().1 == text);
        let error = run.fetch(limited("/text", length - 1)).error.unwrap();
        assert_eq!((error.kind(), error.phase()), (Kind::TooLarge, Phase::Body));
        assert!(run.fetch(limited("/noise", 10_000)).answer().1 == noise);
        assert_eq!(run.fetch(limited("/noise", 9_999)).error.unwrap().kind(), Kind::TooLarge);
    }
}

#[test]
fn a_bomb_ends_with_an_error_and_little_memory() {
    let zeros = gzip(&vec![0; 16 * MIB]);
    let twice = gzip(&zeros);
    let origin = serving("gzip, gzip", twice);
    let mut run = Run::with(|settings| settings.body_bytes_max = 100 << 20);
    for told in both(&mut run, &origin.url("/")) {
        let error = told.error.unwrap();
        assert_eq!(error.kind(), Kind::Decode, "{error}");
        assert!(error.to_string().contains("more than 1000 times its size"), "{error}");
        assert!(told.stats.body_bytes <= 2 * MIB as u64, "{:?}", told.stats);
    }
    // Within the ratio, the limit of a collected body holds.
    let nine = gzip(&text(400_000));
    let origin = serving("gzip", nine);
    let mut run = Run::with(|settings| settings.body_bytes_max = 1 << 20);
    assert_eq!(run.collect(&origin.url("/")).error.unwrap().kind(), Kind::TooLarge);
    assert_eq!(run.reactor.buffered_bytes(), 0);
}

/// Members that hold nothing, one after another: no byte of body ever comes.
#[test]
fn a_body_that_decodes_to_nothing_for_ever_is_too_large() {
    let empty = include_bytes!("corpus/codings/empty.gz").repeat(1_000);
    let chunk = [format!("{:x}\r\n", empty.len()).as_bytes(), &empty, b"\r\n"].concat();
    let origin = Origin::plain(move |_| {
        Reply::new()
            .send("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
            .send(chunk.repeat(100))
            .silence()
    });
    let mut run = Run::with(|settings| settings.body_bytes_max = 500_000);
    let told = run.collect(&origin.url("/"));
    assert_eq!(told.error.unwrap().kind(), Kind::TooLarge);
    assert!((1_000_000..1_200_000).contains(&told.stats.wire_bytes), "{:?}", told.stats);
}

#[test]
fn a_pause_at_any_piece_loses_nothing_and_reads_nothing() {
    let text = text(60_000);
    let origin = serving("gzip", gzip(&text));
    let mut run = Run::new();
    for framing in ["/length", "/chunked", "/until-close"] {
        for at in [1, 65_536, 500_000, text.len() - 1, text.len()] {
            let id = run.submit(Request::get(origin.url(framing)).unwrap());
            run.pause_at(id, at);
            run.until(|run| run.told(id).body.len() >= at);
            let told = run.told(id).body.len();
            assert!(told < at + 65_536);
            for _ in 0..3 {
                run.poll();
            }
            assert_eq!((run.told(id).body.len(), run.told(id).end), (told, None), "{at}");
            run.reactor.resume(id);
            assert!(run.until_ended(id).body == text, "{framing} {at}");
        }
    }
    // At every piece.
    let id = run.submit(Request::get(origin.url("/length")).unwrap());
    while run.told(id).end.is_none() {
        let next = run.told(id).body.len() + 1;
        run.pause_at(id, next);
        run.until(|run| run.told(id).body.len() >= next || run.told(id).end.is_some());
        run.poll();
        run.reactor.resume(id);
    }
    assert!(run.told(id).body == text);
    assert!(run.told(id).pieces >= text.len() / 65_536);
}

#[test]
fn one_turn_decodes_a_bounded_share() {
    let text = text(400_000);
    let origin = serving("gzip", gzip(&text));
    let mut run = Run::new();
    let id = run.submit(Request::get(origin.url("/")).unwrap());
    let mut before = 0;
    while run.told(id).end.is_none() {
        run.turn(std::time::Duration::from_secs(1));
        let now = run.told(id).body.len();
        assert!(now - before <= 5 * MIB / 4, "{} bytes in one turn", now - before);
        before = now;
    }
    assert!(run.told(id).body == text && text.len() > 8 * MIB);
}

fn bounded(settings: &mut Settings, most: usize, body: u64) {
    settings.buffered_bytes_max = most;
    settings.body_bytes_max = body;
    settings.concurrency = 64;
}

#[test]
fn bodies_that_are_decoded_side_by_side_stay_within_the_bound() {
    let text = text(30_000);
    let length = text.len() as u64;
    let encoded = gzip(&text);
    for (most, collect) in [(MIB, true), (MIB, false), (4 * MIB, true)] {
        let origin = serving("gzip", encoded.clone());
        let mut run = Run::with(|settings| bounded(settings, most, length));
        let request = Request::get(origin.url("/")).unwrap().collect(collect);
        let ids: Vec<_> = (0..64).map(|tag| run.submit(request.clone().tag(tag))).collect();
        let mut waited = 0;
        while run.reactor.pending() > 0 {
            run.reactor.wait(None).unwrap();
            loop {
                waited = waited.max(run.reactor.buffered_bytes());
                if run.step().is_none() {
                    break;
                }
            }
        }
        assert!(ids.iter().all(|id| run.told(*id).answer().1 == text));
        assert!(waited <= most + 64 * 1_024, "{waited} bytes waited, of {most}");
        assert_eq!(run.reactor.buffered_bytes(), 0);
    }
}

/// Decoders of which each may grow far beyond the bound take turns.
#[test]
fn decoders_with_large_windows_get_on_one_after_another() {
    let origin = Origin::plain(|seen| {
        let nth = seen.target[1..].parse::<usize>().unwrap();
        coded(seen, FILES[5 + nth % 4].1, FILES[5 + nth % 4].2)
    });
    let mut run = Run::with(|settings| bounded(settings, 0, 100_000));
    for collect in [true, false] {
        for nth in 0..32 {
            let request = Request::get(origin.url(&format!("/{nth}"))).unwrap();
            run.submit(request.collect(collect));
        }
    }
    run.finish();
    assert_eq!(run.reactor.buffered_bytes(), 0);
}

#[test]
fn redirects_and_retries_with_coded_bodies_are_judged_before_they_are_decoded() {
    let origin = Origin::plain(|seen| {
        let gzip = ("Content-Encoding", "gzip");
        match seen.target.as_str() {
            "/there" => response(302, &[gzip, ("Location", "/here")], b"not gzip at all"),
            "/busy" if seen.nth == 0 => response(503, &[gzip, ("Retry-After", "0")], b"nor this"),
            _ => response(200, &[gzip], FILES[0].2),
        }
    });
    let mut run = Run::new();
    for told in both(&mut run, &origin.url("/there")) {
        assert!(told.answer().1 == text(150));
        assert_eq!(told.stats.redirects, 1);
    }
    assert!(run.collect(&origin.url("/busy")).answer().1 == text(150));
}
