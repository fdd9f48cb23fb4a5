//! The responses of `tests/corpus/` over real sockets, whole and in pieces: what a user is told of
//! each, that a connection in doubt is closed, and that what follows a message reaches nobody.

#![allow(missing_docs, reason = "tests")]

mod corpus;
mod support;
mod transcript;

use corpus::{Accepted, Entry, Outcome, entries};
use support::{Origin, Reply, Seen, ok};
use transcript::{Run, Told};
use whippet::{Headers, Kind, Phase, Request};

/// Where a response is cut, and whether the stream ends with it.
#[derive(Clone, Debug)]
struct Way {
    cuts: Vec<usize>,
    closes: bool,
}

/// Whole, with the stream's end at once behind it, in two at a few places, and in bytes. What is
/// not the message's comes with its last byte: later, it could be taken for the next answer.
fn ways(entry: &Entry) -> Vec<Way> {
    let message = entry.bytes.len() - entry.left();
    let keeps_open = !entry.is_until_close() && entry.outcome != Outcome::Truncated;
    let mut ways = vec![Way { cuts: Vec::new(), closes: !keeps_open }];
    // A head that comes in pieces is judged at its blank line, or at the stream's end.
    let has_blank_line = |end: &[u8]| entry.bytes.windows(end.len()).any(|bytes| bytes == end);
    let is_judged = has_blank_line(b"\n\r\n") || has_blank_line(b"\n\n");
    let way = |cuts| Way { cuts, closes: !keeps_open || !is_judged };
    if keeps_open {
        ways.push(Way { cuts: Vec::new(), closes: true });
    }
    ways.extend([message / 3, message / 2, message.saturating_sub(1)].map(|cut| way(vec![cut])));
    if message <= BYTEWISE_BYTES_MAX {
        ways.push(way((1..message).collect()));
    }
    ways
}

impl Way {
    fn reply(&self, bytes: &[u8]) -> Reply {
        let mut reply = Reply::new();
        let mut from = 0;
        for &cut in self.cuts.iter().chain([&bytes.len()]).filter(|&&cut| cut > 0) {
            reply = reply.send(&bytes[from..cut]);
            from = cut;
        }
        if self.closes { reply.close() } else { reply }
    }
}

/// Serves each entry at `/<number>/<way>`, and answers everything else with its own target.
fn origin() -> Origin {
    let entries = entries();
    Origin::plain(move |seen: &Seen| {
        let mut words = seen.target.split('/').skip(1).map(str::parse::<usize>);
        let (Some(Ok(nth)), Some(Ok(way))) = (words.next(), words.next()) else {
            return ok(&seen.target);
        };
        ways(&entries[nth])[way].reply(&entries[nth].bytes)
    })
}

fn request(entry: &Entry, url: &str) -> Request {
    Request::new(&entry.method, url).unwrap().retries(0).follow(false)
}

/// What the user is told of one response.
fn check(entry: &Entry, told: &Told, shown: &str) {
    match &entry.outcome {
        Outcome::Accepted(accepted) => check_answer(accepted, told, shown),
        Outcome::Refused(why) => {
            let is_limit = matches!(&why[..], "HeadTooLarge" | "TooManyHeaders");
            let kind = if is_limit { Kind::TooLarge } else { Kind::Malformed };
            assert_eq!(told.kind(), kind, "{shown}");
            let error = told.error.as_ref().unwrap();
            assert!(matches!(error.phase(), Phase::Head | Phase::Body), "{shown}: {error}");
            assert_eq!((error.attempts(), error.is_transient()), (1, false), "{shown}");
        }
        Outcome::Truncated => {
            // A length beyond what may be collected is refused when it is announced.
            let is_huge = told.kind() == Kind::TooLarge && entry.by == "RFC 9110 §8.6";
            assert!(told.kind() == Kind::Closed || is_huge, "{shown}: {:?}", told.error);
            // Without a byte, a kept connection may have been stale, and a new one is tried.
            let attempts_max = if entry.bytes.is_empty() { 2 } else { 1 };
            assert!(told.stats.attempts <= attempts_max, "{shown}");
        }
    }
}

fn check_answer(accepted: &Accepted, told: &Told, shown: &str) {
    assert_eq!(told.answer(), (accepted.status, &accepted.body[..]), "{shown}");
    let (fields, trailers) = match &told.response {
        Some(response) => (owned(response.headers()), owned(response.trailers())),
        None => (told.headers.clone(), told.trailers.clone()),
    };
    let line = |(name, value): &(String, Vec<u8>)| [name.as_bytes(), b": ", value, b"\n"].concat();
    let trailers: Vec<u8> = trailers.iter().flat_map(line).collect();
    assert_eq!(trailers, accepted.trailers, "{shown}");
    let fields: Vec<Vec<u8>> = fields.iter().map(line).collect();
    for expected in accepted.fields.split_inclusive(|&byte| byte == b'\n') {
        assert!(fields.iter().any(|field| field == expected), "{shown}: {fields:?}");
    }
}

fn owned(headers: Headers<'_>) -> Vec<(String, Vec<u8>)> {
    headers.map(|(name, value)| (name.to_owned(), value.to_vec())).collect()
}

#[test]
fn each_response_comes_to_what_it_should_and_its_connection_too() {
    let origin = origin();
    let mut run = Run::new();
    let mut served = 0;
    for (nth, entry) in entries().iter().enumerate() {
        for (way, cut) in ways(entry).iter().enumerate() {
            let collect = (nth + way) % 2 == 0;
            let shown = format!("{}, {cut:?}, collected: {collect}", entry.name);
            let url = origin.url(&format!("/{nth}/{way}"));
            let told = run.fetch(request(entry, &url).collect(collect));
            check(entry, &told, &shown);
            let is_kept = matches!(&entry.outcome, Outcome::Accepted(a) if a.closed.is_none());
            if !is_kept {
                assert_eq!(run.reactor.connections(), 0, "{shown}");
            }
            // The next request has its own answer, and a connection of its own after any doubt.
            let next = run.get(&origin.url(&format!("/own/{nth}/{way}")));
            assert_eq!(next.answer().1, format!("/own/{nth}/{way}").as_bytes(), "{shown}");
            if !cut.closes {
                assert_eq!(next.stats.reused, is_kept, "{shown}");
            }
            served += 1;
        }
    }
    assert!(served > 3_000, "{served}");
    assert!(origin.log().malformed.is_empty());
}

/// A response whose stream ends at any of its bytes is closed or refused, or ends as it may.
#[test]
fn a_response_that_ends_early_at_any_byte_is_no_other_answer() {
    let all: Vec<Entry> = entries().into_iter().filter(|e| e.bytes.len() <= 120).collect();
    let served = all.clone();
    let origin = Origin::plain(move |seen: &Seen| {
        let mut words = seen.target.split('/').skip(1).map(|word| word.parse::<usize>().unwrap());
        let (nth, end) = (words.next().unwrap(), words.next().unwrap());
        Reply::new().send(&served[nth].bytes[..end]).close()
    });
    let mut run = Run::new();
    for (nth, entry) in all.iter().enumerate() {
        // Every seventh byte of each entry; entries of one kind take different ones.
        let message = entry.bytes.len() - entry.left();
        for end in (nth % 7..message).step_by(7) {
            let shown = format!("{} cut at {end}", entry.name);
            let url = origin.url(&format!("/{nth}/{end}"));
            let told = run.fetch(request(entry, &url).collect(end % 2 == 0));
            match &entry.outcome {
                Outcome::Accepted(accepted) if entry.is_until_close() && told.error.is_none() => {
                    assert!(accepted.body.starts_with(told.answer().1), "{shown}");
                }
                Outcome::Refused(_) => {
                    assert!(matches!(told.kind(), Kind::Closed | Kind::Malformed), "{shown}");
                }
                _ => assert_eq!(told.kind(), Kind::Closed, "{shown}"),
            }
            assert_eq!(run.reactor.connections(), 0, "{shown}");
        }
    }
}

/// Longer ones are not sent byte by byte.
const BYTEWISE_BYTES_MAX: usize = 300;
