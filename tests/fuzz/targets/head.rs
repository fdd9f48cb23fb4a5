//! A response head: what is said of some bytes is said of them with any bytes behind them, the
//! search for a head's end agrees with the parser, what came before changes no answer, and nothing
//! is over the limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whippet::fuzzing::{Heads, Scan, head};
use whippet_fuzz::input::{Tape, pieces};

fuzz_target!(|bytes: &[u8]| {
    let mut tape = Tape::new(bytes);
    let (limit, seed) = (tape.byte(), tape.word());
    let bytes_max = if limit == 0 { 64 << 10 } else { 16 * usize::from(limit) };
    let stream = tape.rest();
    let whole = head(stream, bytes_max);
    if let Ok(Some(head)) = &whole {
        assert!(head.length() <= bytes_max.min(stream.len()));
        assert!((100..=999).contains(&head.status()));
        assert!(head.fields.len() <= 128);
        assert!(!head.reason.iter().any(|byte| is_line_end(*byte)));
        for (name, value) in &head.fields {
            assert!(!name.is_empty() && name.iter().all(u8::is_ascii_graphic));
            assert!(!name.contains(&b':'));
            assert!(!value.iter().any(|byte| *byte == 0 || is_line_end(*byte)));
            let ends = [value.first(), value.last()];
            assert!(!ends.into_iter().flatten().any(|byte| matches!(byte, b' ' | b'\t')));
        }
    }
    check_memory(stream, seed, bytes_max);
    let (mut scan, mut end, mut is_settled) = (Scan::default(), 0, false);
    for piece in pieces(stream, seed) {
        end += piece.len();
        let (here, cut) = (scan.find(&stream[..end]), head(&stream[..end], bytes_max));
        if is_settled {
            assert_eq!(cut, whole, "{end}");
            continue;
        }
        is_settled = cut != Ok(None);
        if is_settled {
            assert_eq!(cut, whole, "a verdict hangs on what follows: {end}");
        }
        if let Ok(Some(_)) = cut {
            assert!(here, "a head's end is not found: {end}");
        }
        assert!(!here || is_settled, "a head's end is found where there is none: {end}");
        if here {
            // Found once, it would be looked for no more.
            return;
        }
    }
});

/// The same head again, cut, within another limit, and with a byte that differs.
fn check_memory(stream: &[u8], seed: u16, bytes_max: usize) {
    let mut heads = Heads::default();
    let mut check =
        |bytes: &[u8], max: usize| assert_eq!(heads.parse(bytes, max), head(bytes, max));
    let at = usize::from(seed) % stream.len().max(1);
    let mut other = stream.to_vec();
    if let Some(byte) = other.get_mut(at) {
        *byte ^= 1 << (seed % 8);
    }
    for second in [stream, &stream[..at.min(stream.len())], &other] {
        check(stream, bytes_max);
        check(second, bytes_max);
        check(stream, at);
        check(second, bytes_max);
    }
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}
