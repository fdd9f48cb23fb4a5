//! A body in one or two content codings: what it decodes to and whether it can be is the same whole and
//! in pieces, with much room for the output and with little; each call stays within the room it has,
//! moves on, and holds no more memory than was said before. The input is a byte that chooses codings,
//! two of cuts, one of room, and the body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whippet::Coding;
use whippet::fuzzing::Decoder;
use whippet_fuzz::input::{Tape, pieces};
use whippet_fuzz::memory;

fuzz_target!(|bytes: &[u8]| {
    memory::allow(WINDOWS_BYTES);
    let mut tape = Tape::new(bytes);
    let codings = codings_of(tape.byte());
    let seed = tape.word();
    let room = 1 + usize::from(tape.byte()) * 16;
    let body = tape.rest();
    let whole = decode(&codings, [body], ROOM_BYTES);
    let cut = decode(&codings, pieces(body, seed), room);
    match (&whole.end, &cut.end) {
        // The ratio is judged after each call, so it hangs on where they end.
        (Err(fault), _) | (_, Err(fault)) if fault == "Ratio" => {}
        (Ok(()), Ok(())) => assert!(whole.decoded == cut.decoded),
        (Err(_), Err(_)) => {
            // What the call that failed had decoded is lost, and calls end in other places.
            let shorter = whole.decoded.len().min(cut.decoded.len());
            assert!(whole.decoded[..shorter] == cut.decoded[..shorter]);
        }
        (whole, cut) => panic!("whole: {whole:?}, in pieces: {cut:?}"),
    }
});

fn codings_of(choice: u8) -> Vec<Coding> {
    let all = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];
    let first = all[usize::from(choice & 3)];
    match choice >> 2 & 7 {
        second @ 0..4 => vec![first, all[usize::from(second)]],
        _ => vec![first],
    }
}

struct Decoded {
    decoded: Vec<u8>,
    end: Result<(), String>,
}

fn decode<'a>(
    codings: &[Coding],
    pieces: impl IntoIterator<Item = &'a [u8]>,
    room: usize,
) -> Decoded {
    let mut decoder = Decoder::new(codings).unwrap();
    let (mut decoded, mut output, mut wire_bytes) = (Vec::new(), vec![0; room], 0);
    for mut piece in pieces {
        let mut has_more = false;
        while has_more || !piece.is_empty() {
            let (held, growth) = decoder.memory();
            let progress = match decoder.decode(piece, &mut output) {
                Ok(progress) => progress,
                Err(fault) => return Decoded { decoded, end: Err(fault) },
            };
            assert!(progress.used <= piece.len() && progress.made <= room);
            let is_moving = progress.used + progress.made > 0 || progress.has_more || has_more;
            assert!(is_moving, "it does not move on");
            assert!(decoder.memory().0 <= held + growth, "more memory than was said");
            decoded.extend_from_slice(&output[..progress.made]);
            wire_bytes += progress.used;
            piece = &piece[progress.used..];
            has_more = progress.has_more;
            assert!(decoded.len() <= (wire_bytes * 1_000).max(1 << 20));
        }
    }
    Decoded { decoded, end: decoder.finish() }
}

const ROOM_BYTES: usize = 64 << 10;
/// Two windows, each of which is there twice while it grows, and what a body decodes to.
const WINDOWS_BYTES: usize = 128 << 20;
