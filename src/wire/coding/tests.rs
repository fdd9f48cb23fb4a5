//! Tests. Every coding against what the usual tools made of one text (`tests/corpus/codings/`):
//! whole, byte by byte, cut at every place, cut short, with something behind it, damaged; stacked,
//! and as bombs.

use proptest::prelude::*;

use super::*;

/// What the files of the corpus decode to.
fn text() -> Vec<u8> {
    (0..150_u64).flat_map(|n| format!("{n} squared is {}\n", n * n).into_bytes()).collect()
}

macro_rules! corpus {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/codings/", $name))
    };
}

/// Files that decode to [`text`], and their codings.
const FILES: [(&str, Coding, &[u8]); 9] = [
    ("text.gz", Coding::Gzip, corpus!("text.gz")),
    ("named.gz", Coding::Gzip, corpus!("named.gz")),
    ("members.gz", Coding::Gzip, corpus!("members.gz")),
    ("text.zlib", Coding::Deflate, corpus!("text.zlib")),
    ("text.deflate", Coding::Deflate, corpus!("text.deflate")),
    ("text.br", Coding::Brotli, corpus!("text.br")),
    ("fast.br", Coding::Brotli, corpus!("fast.br")),
    ("text.zst", Coding::Zstd, corpus!("text.zst")),
    ("frames.zst", Coding::Zstd, corpus!("frames.zst")),
];

/// Of the files, those whose coding is built in.
fn files() -> impl Iterator<Item = (&'static str, ContentCoding, &'static [u8])> {
    let built_in = FILES.into_iter().filter(|(_, coding, _)| coding.is_built_in());
    built_in.map(|(name, coding, bytes)| (name, ContentCoding::One(coding), bytes))
}

/// Decodes `pieces` into pieces of at most `room` bytes, as the reactor does.
fn decode<'a>(
    said: ContentCoding,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    room: usize,
) -> (Vec<u8>, Result<(), Fault>) {
    let mut decoder = Decoder::new(said).unwrap();
    let (mut decoded, mut output) = (Vec::new(), vec![0; room]);
    for mut piece in pieces {
        loop {
            let progress = match decoder.decode(piece, &mut output) {
                Ok(progress) => progress,
                Err(fault) => return (decoded, Err(fault)),
            };
            assert!(progress.made <= room && progress.used <= piece.len());
            decoded.extend_from_slice(&output[..progress.made]);
            piece = &piece[progress.used..];
            if piece.is_empty() && !progress.has_more {
                break;
            }
            let is_moving = progress.used + progress.made > 0 || progress.has_more;
            assert!(is_moving, "{decoder:?} does not move on");
        }
    }
    let ended = decoder.finish();
    (decoded, ended)
}

fn whole(said: ContentCoding, bytes: &[u8]) -> (Vec<u8>, Result<(), Fault>) {
    decode(said, [bytes], ROOM)
}

const ROOM: usize = 64 << 10;

#[test]
fn what_the_usual_tools_make_is_decoded_whole_and_byte_by_byte() {
    let text = text();
    for (name, said, bytes) in files() {
        for room in [1, 7, 4_096, ROOM] {
            let (decoded, ended) = decode(said, [bytes], room);
            assert!(decoded == text && ended.is_ok(), "{name} in pieces of {room}: {ended:?}");
            let (decoded, ended) = decode(said, bytes.chunks(1), room);
            assert!(decoded == text && ended.is_ok(), "{name} by bytes, {room}: {ended:?}");
        }
    }
}

#[test]
fn a_cut_anywhere_changes_nothing() {
    let text = text();
    for (name, said, bytes) in files() {
        for cut in 0..=bytes.len() {
            let (first, second) = bytes.split_at(cut);
            let (decoded, ended) = decode(said, [first, second], ROOM);
            assert!(decoded == text && ended.is_ok(), "{name} cut at {cut}: {ended:?}");
        }
    }
}

#[test]
fn what_is_cut_short_is_an_error_and_begins_as_the_whole_does() {
    let text = text();
    for (name, said, bytes) in files() {
        let mut complete = Vec::new();
        for end in 1..bytes.len() {
            let (decoded, ended) = whole(said, &bytes[..end]);
            assert!(text.starts_with(&decoded), "{name} to {end}");
            let coding = said.codings().next().unwrap();
            match ended {
                Err(fault) => assert_eq!(fault, Fault::Truncated(coding), "{name} to {end}"),
                Ok(()) => complete.push(end),
            }
        }
        // A body of several members or frames may have ended behind the first.
        let may_end = matches!(name, "members.gz" | "frames.zst");
        assert_eq!(complete.len(), usize::from(may_end), "{name}: {complete:?}");
    }
}

#[test]
fn what_follows_the_end_is_an_error() {
    for (name, said, bytes) in files() {
        for junk in [&b"\0"[..], b"junk that is no member"] {
            let followed = [bytes, junk].concat();
            for pieces in [vec![&followed[..]], vec![bytes, junk], followed.chunks(1).collect()] {
                let (decoded, ended) = decode(said, pieces, ROOM);
                assert!(matches!(ended, Err(Fault::Trailing(_))), "{name}: {ended:?}");
                assert!(decoded == text(), "{name}: what came before it was lost");
            }
        }
    }
}

#[test]
fn damage_is_an_error_where_the_coding_has_a_checksum() {
    let text = text();
    let files = files().filter(|(name, ..)| ["text.gz", "text.zlib", "text.zst"].contains(name));
    for (name, said, bytes) in files {
        // Behind the header: that of gzip has a time that says nothing of the data.
        for at in (10..bytes.len()).step_by(3) {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 0x10;
            let (decoded, ended) = whole(said, &damaged);
            assert!(ended.is_err() || decoded == text, "{name} at {at}");
        }
    }
}

#[test]
fn bytes_of_another_kind_are_an_error() {
    for (name, said, bytes) in files() {
        for (other, other_said, _) in files().filter(|(_, other, _)| *other != said) {
            let (_, ended) = whole(other_said, bytes);
            assert!(ended.is_err(), "{name} as {other}");
        }
        assert!(whole(said, &text()).1.is_err(), "plain text as {name}");
    }
}

#[test]
fn an_empty_text_is_empty() {
    for (coding, bytes) in [
        (Coding::Gzip, &corpus!("empty.gz")[..]),
        (Coding::Brotli, corpus!("empty.br")),
        (Coding::Zstd, corpus!("empty.zst")),
    ] {
        if coding.is_built_in() {
            let (decoded, ended) = decode(ContentCoding::One(coding), bytes.chunks(1), ROOM);
            assert!(decoded.is_empty() && ended.is_ok(), "{coding}: {ended:?}");
        }
    }
}

#[test]
fn a_decoder_counts_its_memory_and_never_holds_more_than_it_said_it_might() {
    for (name, said, bytes) in files() {
        let mut decoder = Decoder::new(said).unwrap();
        let first = decoder.held_bytes();
        assert!(first <= Decoder::first_bytes(said), "{name}: {first}");
        let mut output = vec![0; ROOM];
        for piece in bytes.chunks(100) {
            let most = decoder.held_bytes() + decoder.growth_bytes();
            decoder.decode(piece, &mut output).unwrap();
            assert!(decoder.held_bytes() <= most, "{name}");
        }
        assert!(decoder.held_bytes() > 5_000, "{name}");
    }
}

/// Frames whose headers lie, given whole and by bytes.
#[cfg(feature = "zstd")]
#[test]
fn a_zstd_frame_is_as_long_and_as_wide_as_it_says() {
    let magic = [0x28, 0xb5, 0x2f, 0xfd];
    // A single segment of so many bytes; one last block, raw, of as many as follow.
    let frame = |says: u8, block: &[u8]| {
        let header = u32::try_from(block.len()).unwrap() << 3 | 1;
        [&magic[..], &[0x20, says], &header.to_le_bytes()[..3], block].concat()
    };
    // A window of so many bits, and one last block of one byte.
    let wide = |bits: u8| [&magic[..], &[0, (bits - 10) << 3, 9, 0, 0, b'a']].concat();
    let zstd = ContentCoding::One(Coding::Zstd);
    let skippable = [0x5f, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2];
    let skippable_first = [&skippable[..], &frame(3, b"abc")].concat();
    for (bytes, is_good) in [
        (frame(3, b"abc"), true),
        (frame(4, b"abc"), false),
        (frame(2, b"abc"), false),
        (frame(0, b""), true),
        (frame(37, b""), false),
        (skippable.to_vec(), true),
        (skippable_first, true),
        (skippable[..9].to_vec(), false),
        (wide(23), true),
        (wide(24), false),
        (wide(31), false),
    ] {
        for pieces in [vec![&bytes[..]], bytes.chunks(1).collect()] {
            let ended = decode(zstd, pieces, ROOM).1;
            assert_eq!(ended.is_ok(), is_good, "{bytes:x?}: {ended:?}");
        }
    }
}

#[cfg(feature = "gzip")]
mod with_gzip {
    use super::*;
    use std::io::Write;

    const GZIP: ContentCoding = ContentCoding::One(Coding::Gzip);

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(bytes: &[u8], zlib_header: bool) -> Vec<u8> {
        let mut deflate = flate2::Compress::new(flate2::Compression::fast(), zlib_header);
        let mut out = Vec::with_capacity(bytes.len() * 2 + 1_000);
        deflate.compress_vec(bytes, &mut out, flate2::FlushCompress::Finish).unwrap();
        out
    }

    #[test]
    fn two_codings_are_removed_in_turn() {
        let text = text();
        let said = ContentCoding::Two(Coding::Gzip, Coding::Gzip);
        let twice = gzip(corpus!("members.gz"));
        for room in [1, 100, ROOM] {
            for pieces in [vec![&twice[..]], twice.chunks(1).collect()] {
                let (decoded, ended) = decode(said, pieces, room);
                assert!(decoded == text && ended.is_ok(), "{room}: {ended:?}");
            }
        }
        for end in 1..twice.len() {
            let ended = whole(said, &twice[..end]).1;
            assert_eq!(ended, Err(Fault::Truncated(Coding::Gzip)), "{end}");
        }
        // The outer one is whole, the inner is not.
        let cut = gzip(&gzip(&text)[..500]);
        assert_eq!(whole(said, &cut).1, Err(Fault::Truncated(Coding::Gzip)));
    }

    #[cfg(all(feature = "brotli", feature = "zstd"))]
    #[test]
    fn every_pair_of_codings_is_removed() {
        let text = text();
        for (name, said, bytes) in files() {
            let inner = said.codings().next().unwrap();
            for (outer, encoded) in
                [(Coding::Gzip, gzip(bytes)), (Coding::Deflate, deflate(bytes, false))]
            {
                let said = ContentCoding::Two(inner, outer);
                for pieces in [vec![&encoded[..]], encoded.chunks(1).collect()] {
                    let (decoded, ended) = decode(said, pieces, ROOM);
                    assert!(decoded == text && ended.is_ok(), "{outer} of {name}: {ended:?}");
                }
            }
        }
    }

    #[test]
    fn a_bomb_is_an_error_before_it_fills_memory() {
        let zeros = vec![0; 16 << 20];
        let bomb = gzip(&zeros);
        let (decoded, ended) = whole(GZIP, &bomb);
        // What deflate can do at the most is little more than what is allowed.
        assert!(decoded.len() <= bomb.len() * 1_000, "{}", decoded.len());
        assert!(ended.is_ok() || ended == Err(Fault::Ratio), "{ended:?}");
        let twice = gzip(&bomb);
        let (decoded, ended) = whole(ContentCoding::Two(Coding::Gzip, Coding::Gzip), &twice);
        assert_eq!(ended, Err(Fault::Ratio));
        let most = usize::try_from(RATIO_FREE_BYTES.max(twice.len() as u64 * RATIO_MAX)).unwrap();
        assert!(decoded.len() <= most, "{}", decoded.len());
    }

    #[test]
    fn a_short_body_may_decode_to_a_mebibyte_at_any_ratio() {
        let zeros = vec![0; 1 << 20];
        let (decoded, ended) = whole(GZIP, &gzip(&zeros));
        assert!(decoded == zeros && ended.is_ok());
    }

    /// An inner stage that makes nothing of what the outer makes: each call is bounded all the
    /// same, and so is the whole.
    #[test]
    fn what_decodes_to_nothing_for_long_is_bounded_too() {
        let empty = corpus!("empty.gz").repeat(200_000);
        let said = ContentCoding::Two(Coding::Gzip, Coding::Gzip);
        let mut decoder = Decoder::new(said).unwrap();
        let bomb = gzip(&empty);
        let mut output = vec![0; ROOM];
        let before = decoder.inner.as_ref().map_or(0, |inner| inner.total_bytes);
        let progress = decoder.decode(&bomb, &mut output).unwrap();
        let after = decoder.inner.as_ref().map_or(0, |inner| inner.total_bytes);
        let most = BETWEEN_ROUNDS_MAX * BETWEEN_BYTES;
        assert!(after - before <= most as u64 && progress.has_more, "{progress:?}");
    }

    #[test]
    fn deflate_is_told_apart_by_its_first_bytes() {
        let deflated = ContentCoding::One(Coding::Deflate);
        for bytes in [&b""[..], b"a", &text()] {
            for zlib_header in [true, false] {
                let encoded = deflate(bytes, zlib_header);
                for pieces in [vec![&encoded[..]], encoded.chunks(1).collect()] {
                    let (decoded, ended) = decode(deflated, pieces, ROOM);
                    assert!(decoded == bytes && ended.is_ok(), "{zlib_header}: {ended:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back_however_it_is_cut(
            text in prop::collection::vec("[a-d]{0,9}|[^a]{0,3}", 0..300),
            cuts in prop::collection::vec(1..200_usize, 1..20),
            room in 1..5_000_usize,
            zlib_header in any::<bool>(),
        ) {
            let text = text.concat().into_bytes();
            let mut all = vec![
                (ContentCoding::One(Coding::Gzip), gzip(&text)),
                (ContentCoding::One(Coding::Deflate), deflate(&text, zlib_header)),
                (ContentCoding::Two(Coding::Deflate, Coding::Gzip), gzip(&deflate(&text, true))),
            ];
            #[cfg(feature = "zstd")]
            {
                let mut encoded = vec![0; zstd_safe::compress_bound(text.len())];
                let length = zstd_safe::compress(&mut encoded[..], &text, 3).unwrap();
                encoded.truncate(length);
                all.push((ContentCoding::Two(Coding::Zstd, Coding::Gzip), gzip(&encoded)));
                all.push((ContentCoding::One(Coding::Zstd), encoded));
            }
            for (said, encoded) in all {
                let mut pieces = Vec::new();
                let mut rest = &encoded[..];
                for cut in cuts.iter().cycle() {
                    let (piece, after) = rest.split_at((*cut).min(rest.len()));
                    pieces.push(piece);
                    rest = after;
                    if rest.is_empty() {
                        break;
                    }
                }
                let (decoded, ended) = decode(said, pieces, room);
                prop_assert_eq!(ended, Ok(()));
                prop_assert_eq!(&decoded, &text);
            }
        }
    }
}
