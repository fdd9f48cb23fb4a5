//! A response, from its first byte to the end of its body: the same whole, in pieces and byte by
//! byte, and the same as a second, independent reading of the bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whippet::http::Method;
use whippet_fuzz::exchange::{End, drive};
use whippet_fuzz::input::{Tape, pieces};
use whippet_fuzz::strict;

fuzz_target!(|bytes: &[u8]| {
    let mut tape = Tape::new(bytes);
    let (choice, seed) = (tape.byte(), tape.word());
    let is_head = choice & 1 != 0;
    let method = if is_head { Method::HEAD } else { Method::GET };
    let head_bytes_max = if choice & 2 == 0 { 64 << 10 } else { 64 };
    let stream = tape.rest();
    let whole = drive(&method, head_bytes_max, [stream]);
    assert_eq!(drive(&method, head_bytes_max, pieces(stream, seed)), whole);
    if stream.len() < 1_000 {
        assert_eq!(drive(&method, head_bytes_max, stream.chunks(1)), whole);
    }
    assert!(whole.body.len() <= stream.len() && whole.heads.len() <= 6);
    let again = strict::response(stream, is_head, true, head_bytes_max);
    match (&whole.end, again) {
        (End::Done { used }, strict::Outcome::Complete(message)) => {
            let head = whole.heads.last().unwrap();
            assert_eq!((head.status(), &head.fields), (message.status, &message.fields));
            assert_eq!((&whole.body, *used), (&message.body, message.used));
        }
        (End::Done { .. }, other) => panic!("complete for the library alone: {other:?}"),
        (end, strict::Outcome::Complete(message)) => {
            panic!("complete but for the library: {end:?} {message:?}");
        }
        _ => {}
    }
    // A message cut short is no success, unless its end is the connection's.
    if let End::Done { used } = whole.end
        && let Some(shorter) = used.checked_sub(1)
        && whole.heads.last().is_some_and(|head| head.body(&method).is_ok_and(is_framed))
    {
        let cut = drive(&method, head_bytes_max, [&stream[..shorter]]);
        assert_eq!(cut.end, End::Truncated);
        assert!(whole.body.starts_with(&cut.body));
    }
});

fn is_framed(mut body: whippet::fuzzing::Body) -> bool {
    body.is_done() || !body.end_of_stream()
}
