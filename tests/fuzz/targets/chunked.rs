//! A chunked body: the same data whole and in pieces, within the limits, and the same as a second,
//! independent decoder gives. The input is two bytes of cuts and the body, in which some bytes repeat
//! the byte before them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whippet::fuzzing::{Body, Fields};
use whippet_fuzz::input::{Tape, pieces, unpacked};
use whippet_fuzz::strict;

fuzz_target!(|bytes: &[u8]| {
    let mut tape = Tape::new(bytes);
    let seed = tape.word();
    let stream = &unpacked(tape.rest())[..];
    let whole = decode([stream]);
    assert_eq!(decode(pieces(stream, seed)), whole);
    if stream.len() < 1_000 {
        assert_eq!(decode(stream.chunks(1)), whole);
    }
    assert!(whole.data.len() <= stream.len());
    let again = strict::chunked(stream);
    match (&whole.end, again) {
        (Ok(Some((used, trailers))), Ok(Some((data, fields, length)))) => {
            assert_eq!((&whole.data, trailers, *used), (&data, &fields, length));
        }
        (Ok(Some(_)), other) => panic!("complete for the library alone: {other:?}"),
        (end, Ok(Some(_))) => panic!("complete but for the library: {end:?}"),
        _ => {}
    }
});

#[derive(PartialEq, Debug)]
struct Decoded {
    data: Vec<u8>,
    /// Where it ended, and its trailers; `None`: it did not.
    end: Result<Option<(usize, Fields)>, String>,
}

fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let (mut body, mut data, mut used) = (Body::chunked(), Vec::new(), 0);
    for mut bytes in pieces {
        while !bytes.is_empty() {
            let piece = match body.read(bytes) {
                Ok(piece) => piece,
                Err(error) => return Decoded { data, end: Err(error) },
            };
            let end = piece.skip + piece.take;
            assert!(end == bytes.len() || piece.take > 0 || piece.done);
            data.extend_from_slice(&bytes[piece.skip..end]);
            used += end;
            bytes = &bytes[end..];
            assert!(body.trailer_bytes() <= 16 * 1024);
            if piece.done {
                assert!(body.is_done() && body.left() == Some(0));
                let trailers = body.trailers();
                return Decoded { data, end: trailers.map(|fields| Some((used, fields))) };
            }
        }
    }
    assert!(!body.is_done() && !body.end_of_stream(), "a body cut short is a success");
    Decoded { data, end: Ok(None) }
}
