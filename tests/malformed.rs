//! Heads at their limits, heads cut short and noise, over real sockets, and what breaks HTTP over
//! TLS: each is a failure of its kind, told once, not retried, and the end of its connection. The
//! responses of `tests/corpus/` are for `responses.rs`.

mod support;
mod transcript;

use support::{Latch, Origin, Reply, ok};
use transcript::{Run, noise};
use whippet::{Kind, Phase, Request};

/// A head of so many bytes, its blank line included, and 2 bytes of body.
fn head_of(length: usize) -> Vec<u8> {
    let start = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n";
    let mut head = start.to_owned();
    while length - head.len() > 6_000 {
        head += &format!("X-Filler: {}\r\n", "x".repeat(4_988));
    }
    head += &format!("Y: {}\r\n\r\n", "y".repeat(length - head.len() - 7));
    assert_eq!(head.len(), length);
    (head + "hi").into_bytes()
}

#[test]
fn a_head_over_its_limit_is_too_large_and_one_at_it_is_not() {
    const LIMIT: usize = 64 << 10;
    let endless = [b"HTTP/1.1 200 OK\r\nA: ".to_vec(), vec![b'a'; 2 * LIMIT]].concat();
    let many = |count| {
        let fields = "A: b\r\n".repeat(count);
        format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nhi").into_bytes()
    };
    let cases = [head_of(LIMIT + 1), head_of(3 * LIMIT), endless, many(128)];
    let origin = Origin::plain(move |seen| match seen.target[1..].parse::<usize>() {
        Ok(nth) => Reply::new().send(&cases[nth]),
        Err(_) => ok("fine"),
    });
    let mut run = Run::new();
    for nth in 0..4 {
        for collect in [false, true] {
            let request = Request::get(origin.url(&format!("/{nth}"))).unwrap();
            let told = run.fetch(request.collect(collect));
            assert_eq!(told.kind(), Kind::TooLarge, "{nth}");
            let error = told.error.unwrap();
            assert_eq!((error.phase(), error.attempts()), (Phase::Head, 1), "{nth}: {error}");
            assert!(!error.is_transient());
            assert_eq!(run.reactor.connections(), 0, "{nth}");
        }
    }
    assert_eq!(run.get(&origin.url("/fine")).answer(), (200, &b"fine"[..]));
    let fine = [head_of(LIMIT), head_of(LIMIT - 1), many(127)];
    let origin = Origin::plain(move |seen| match seen.target.split_at(2) {
        (nth, "/split") => Reply::new().split(&fine[nth[1..].parse::<usize>().unwrap()], 1_000),
        (nth, _) => Reply::new().send(&fine[nth[1..].parse::<usize>().unwrap()]),
    });
    let mut run = Run::new();
    for path in ["/0", "/1", "/2", "/0/split", "/1/split", "/2/split"] {
        assert_eq!(run.get(&origin.url(path)).answer(), (200, &b"hi"[..]), "{path}");
        assert_eq!(run.collect(&origin.url(path)).answer(), (200, &b"hi"[..]), "{path}");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn the_limit_of_a_head_is_the_requests_or_the_settings() {
    let origin = Origin::plain(|seen| {
        let length = seen.target[1..].parse().unwrap();
        Reply::new().send(head_of(length))
    });
    let mut run = Run::with(|settings| settings.head_bytes_max = 1_000);
    let at = |length| Request::get(origin.url(&format!("/{length}"))).unwrap();
    assert_eq!(run.fetch(at(1_000)).answer().1, b"hi");
    assert_eq!(run.fetch(at(1_001)).kind(), Kind::TooLarge);
    assert_eq!(run.fetch(at(1_001).head_bytes_max(2_000)).answer().1, b"hi");
    assert_eq!(run.fetch(at(999).head_bytes_max(500)).kind(), Kind::TooLarge);
    // Several reads long.
    for length in [300_000, 65_536, 65_537, 131_072] {
        for collect in [false, true] {
            let request = at(length).head_bytes_max(1 << 20).collect(collect);
            assert_eq!(run.fetch(request).answer().1, b"hi", "{length}");
        }
    }
}

/// Without its blank line a head is no answer, however much of it is there.
#[test]
fn a_head_cut_short_is_closed() {
    let whole = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let origin = Origin::plain(move |seen| {
        let cut = seen.target[1..].parse().unwrap();
        Reply::new().send(&whole[..cut]).close()
    });
    let mut run = Run::new();
    for cut in 0..whole.len() {
        for collect in [false, true] {
            let request = Request::get(origin.url(&format!("/{cut}"))).unwrap().retries(0);
            let told = run.fetch(request.collect(collect));
            assert_eq!(told.kind(), Kind::Closed, "{:?}", &whole[..cut]);
            let error = told.error.unwrap();
            assert_eq!((error.phase(), error.attempts()), (Phase::Head, 1));
            assert!(told.response.is_none());
            assert_eq!(run.reactor.connections(), 0);
        }
    }
}

/// The beginning of a head and the end of the stream are read in one turn.
#[test]
fn a_head_cut_short_by_an_end_that_was_already_there_is_closed() {
    let sent = Latch::new();
    let all_sent = sent.clone();
    let origin = Origin::plain(move |_| {
        Reply::new().send("HTTP/1.1 200 OK\r\nA").release(&all_sent).half_close()
    });
    for collect in [false, true] {
        let mut run = Run::new();
        let request = Request::get(origin.url("/")).unwrap().retries(0).collect(collect);
        let id = run.submit(request);
        let count = origin.requests().len();
        run.until(|_| origin.requests().len() > count);
        sent.wait();
        assert_eq!(run.until_ended(id).kind(), Kind::Closed);
        assert_eq!(run.reactor.connections(), 0);
    }
}

#[test]
fn noise_is_never_a_success() {
    let origin = Origin::plain(|seen| {
        let length = seen.target[1..].parse().unwrap();
        Reply::new().send(noise(length)).close()
    });
    let mut run = Run::new();
    for length in [1, 2, 7, 100, 65_536, 1 << 20] {
        let request = Request::get(origin.url(&format!("/{length}"))).unwrap().retries(0);
        assert_eq!(run.fetch(request).kind(), Kind::Malformed, "{length}");
        assert_eq!(run.reactor.connections(), 0);
    }
}

#[test]
fn over_tls_it_is_the_same() {
    let origin = Origin::tls(|seen| match &seen.target[..] {
        "/head" => Reply::new().send("HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n"),
        "/chunk" => Reply::new().send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"),
        "/cut" => Reply::new().send("HTTP/1.1 200 OK\r\nA").close(),
        _ => ok("fine"),
    });
    let mut run = Run::new();
    let kinds = [("/head", Kind::Malformed), ("/chunk", Kind::Malformed), ("/cut", Kind::Closed)];
    for (path, kind) in kinds {
        let told = run.fetch(Request::get(origin.url(path)).unwrap().retries(0));
        assert_eq!((told.kind(), run.reactor.connections()), (kind, 0), "{path}");
        assert_eq!(run.get(&origin.url("/")).answer().1, b"fine");
        run.fetch(Request::get(origin.url("/")).unwrap().header("Connection", "close").unwrap());
    }
}
