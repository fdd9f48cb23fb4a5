//! Floor 1. The chunked transfer coding (RFC 9112 §7.1), decoded in place.
//!
//! In go body bytes, cut anywhere; out come the places of the data among them. Strict, since
//! framing hangs on it: a size is 1 to 16 hexadecimal digits and nothing else, each line ends in
//! CR LF and not in LF alone. White space after a size is skipped, as §7.1.1 asks. Extensions are
//! skipped and trailers kept, both within limits over the whole body.

use super::body::Piece;
use super::{EXTENSION_BYTES_MAX, HEADERS_MAX, Malformed, TRAILER_BYTES_MAX, head};
use crate::kit::machine::Machine;
use crate::kit::work;

/// A chunked body while it is read. After an error it must not be read on.
#[derive(Default, Debug)]
pub(crate) struct Dechunker {
    place: Place,
    /// Extensions and the white space around them so far, over all chunks.
    extension_bytes: u32,
    /// The trailer section, once one began. Rare, hence boxed.
    #[expect(clippy::box_collection, reason = "one word in each exchange instead of three")]
    trailers: Option<Box<Vec<u8>>>,
}

/// What the next byte is part of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Size {
        size: u64,
        digits: u8,
    },
    /// White space after the size.
    Padding {
        size: u64,
    },
    Extension {
        size: u64,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// The first byte of a trailer, or of the line that ends the section.
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    Done,
}

impl Dechunker {
    /// Names the next run of data in `bytes`; see [`Piece`].
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<Piece, Malformed> {
        let mut skip = 0;
        loop {
            match &mut self.place {
                Place::Done => return Ok(Piece { skip, take: 0, done: true }),
                Place::Data { left } => {
                    let take = within(*left, bytes.len() - skip);
                    *left -= take as u64;
                    if *left == 0 {
                        self.place.go(Place::DataCr);
                    }
                    return Ok(Piece { skip, take, done: false });
                }
                _ => {}
            }
            let Some(&byte) = bytes.get(skip) else {
                return Ok(Piece { skip, take: 0, done: false });
            };
            self.step(byte)?;
            skip += 1;
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.place == Place::Done
    }

    /// The trailer section with its blank line, for [`head::parse_trailers`]; empty if there was
    /// none. Checked once the body is done.
    pub(crate) fn trailers(&self) -> &[u8] {
        self.trailers.as_deref().map_or(&[], Vec::as_slice)
    }

    /// One byte of framing.
    fn step(&mut self, byte: u8) -> Result<(), Malformed> {
        work::count(1);
        let next = match self.place {
            Place::Size { size, digits } => self.step_size(size, digits, byte)?,
            Place::Padding { size } => match byte {
                b' ' | b'\t' => return self.count_extension(),
                _ => self.step_size_end(size, byte)?,
            },
            Place::Extension { size } => match byte {
                b'\r' => Place::SizeLf { size },
                b'\n' => return Err(Malformed::ChunkLineEnd),
                b'\t' | b' '..=0x7e | 0x80.. => return self.count_extension(),
                _ => return Err(Malformed::ChunkExtension),
            },
            Place::SizeLf { size: 0 } => expect_lf(byte, Place::TrailerStart)?,
            Place::SizeLf { size } => expect_lf(byte, Place::Data { left: size })?,
            Place::DataCr if byte == b'\r' => Place::DataLf,
            Place::DataCr => return Err(Malformed::ChunkDataEnd),
            Place::DataLf => expect_lf(byte, Place::NEXT_SIZE)?,
            Place::TrailerStart | Place::Trailer | Place::TrailerLf | Place::EndLf => {
                return self.step_trailer(byte);
            }
            Place::Data { .. } | Place::Done => return Ok(()),
        };
        if self.place.state() == next.state() {
            self.place = next;
        } else {
            self.place.go(next);
        }
        Ok(())
    }

    fn step_size(&mut self, size: u64, digits: u8, byte: u8) -> Result<Place, Malformed> {
        match char::from(byte).to_digit(16) {
            Some(_) if digits == SIZE_DIGITS_MAX => Err(Malformed::ChunkSizeTooLong),
            // Sixteen digits fit, so nothing is shifted out.
            Some(digit) => {
                Ok(Place::Size { size: size << 4 | u64::from(digit), digits: digits + 1 })
            }
            None if digits == 0 => Err(Malformed::ChunkSize),
            None => self.step_size_end(size, byte),
        }
    }

    /// What may follow a size (RFC 9112 §7.1.1).
    fn step_size_end(&mut self, size: u64, byte: u8) -> Result<Place, Malformed> {
        match byte {
            b'\r' => Ok(Place::SizeLf { size }),
            b'\n' => Err(Malformed::ChunkLineEnd),
            b' ' | b'\t' => self.count_extension().map(|()| Place::Padding { size }),
            b';' => self.count_extension().map(|()| Place::Extension { size }),
            _ => Err(Malformed::ChunkSize),
        }
    }

    fn count_extension(&mut self) -> Result<(), Malformed> {
        self.extension_bytes = self.extension_bytes.saturating_add(1);
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(Malformed::ChunkExtensionsTooLarge);
        }
        Ok(())
    }

    /// Keeps the section byte by byte; whether its lines are fields is judged at its end.
    fn step_trailer(&mut self, byte: u8) -> Result<(), Malformed> {
        let next = match (self.place, byte) {
            (Place::TrailerStart, b'\r') => Place::EndLf,
            (Place::TrailerStart | Place::Trailer, b'\n') => return Err(Malformed::ChunkLineEnd),
            (Place::Trailer, b'\r') => Place::TrailerLf,
            (Place::TrailerLf, _) => expect_lf(byte, Place::TrailerStart)?,
            (Place::EndLf, _) => expect_lf(byte, Place::Done)?,
            _ => Place::Trailer,
        };
        // The blank line is kept too, where there is anything before it.
        if next == Place::Trailer || self.trailers.is_some() {
            self.keep_trailer(byte)?;
        }
        if self.place != next {
            self.place.go(next);
        }
        if next == Place::Done && self.trailers.is_some() {
            let mut fields = Vec::with_capacity(HEADERS_MAX);
            head::parse_trailers(self.trailers(), &mut fields)?;
        }
        Ok(())
    }

    fn keep_trailer(&mut self, byte: u8) -> Result<(), Malformed> {
        let trailers = self.trailers.get_or_insert_default();
        if trailers.len() >= TRAILER_BYTES_MAX {
            return Err(Malformed::TrailersTooLarge);
        }
        work::count(1);
        trailers.push(byte);
        Ok(())
    }
}

impl Place {
    const NEXT_SIZE: Self = Self::Size { size: 0, digits: 0 };
}

impl Default for Place {
    fn default() -> Self {
        Self::NEXT_SIZE
    }
}

impl Machine for Place {
    const NAME: &'static str = "Chunked body";

    const ARROWS: &'static [(&'static str, &'static str)] = &[
        ("Size", "Padding"),
        ("Size", "Extension"),
        ("Size", "SizeLf"),
        ("Padding", "Extension"),
        ("Padding", "SizeLf"),
        ("Extension", "SizeLf"),
        ("SizeLf", "Data"),
        ("SizeLf", "TrailerStart"),
        ("Data", "DataCr"),
        ("DataCr", "DataLf"),
        ("DataLf", "Size"),
        ("TrailerStart", "Trailer"),
        ("TrailerStart", "EndLf"),
        ("Trailer", "TrailerLf"),
        ("TrailerLf", "TrailerStart"),
        ("EndLf", "Done"),
    ];

    fn state(&self) -> &'static str {
        match self {
            Self::Size { .. } => "Size",
            Self::Padding { .. } => "Padding",
            Self::Extension { .. } => "Extension",
            Self::SizeLf { .. } => "SizeLf",
            Self::Data { .. } => "Data",
            Self::DataCr => "DataCr",
            Self::DataLf => "DataLf",
            Self::TrailerStart => "TrailerStart",
            Self::Trailer => "Trailer",
            Self::TrailerLf => "TrailerLf",
            Self::EndLf => "EndLf",
            Self::Done => "Done",
        }
    }
}

/// The smaller of a count on the wire and one in memory.
pub(super) fn within(left: u64, here: usize) -> usize {
    usize::try_from(left).map_or(here, |left| left.min(here))
}

fn expect_lf(byte: u8, next: Place) -> Result<Place, Malformed> {
    if byte == b'\n' { Ok(next) } else { Err(Malformed::ChunkLineEnd) }
}

/// What a `u64` holds. Longer sizes are refused even where they begin with zeros.
const SIZE_DIGITS_MAX: u8 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// The data and how many bytes were used, or the fault.
    fn decoded(body: &[u8]) -> Result<(Vec<u8>, usize, bool), Malformed> {
        let (mut dechunker, mut data, mut used) = (Dechunker::default(), Vec::new(), 0);
        loop {
            let piece = dechunker.read(&body[used..])?;
            data.extend_from_slice(&body[used + piece.skip..][..piece.take]);
            used += piece.skip + piece.take;
            if piece.done || used == body.len() {
                return Ok((data, used, dechunker.is_done()));
            }
        }
    }

    #[test]
    fn a_piece_is_one_run_of_data_behind_its_framing() {
        let body = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\nnext";
        let mut dechunker = Dechunker::default();
        let first = dechunker.read(body).unwrap();
        assert_eq!(first, Piece { skip: 3, take: 3, done: false });
        let second = dechunker.read(&body[6..]).unwrap();
        assert_eq!(second, Piece { skip: 9, take: 2, done: false });
        let third = dechunker.read(&body[17..]).unwrap();
        assert_eq!(third, Piece { skip: 7, take: 0, done: true });
        assert_eq!(dechunker.read(b"next").unwrap(), Piece { skip: 0, take: 0, done: true });
        assert_eq!(dechunker.trailers(), b"");
    }

    #[test]
    fn sizes_are_bare_hexadecimal_of_at_most_sixteen_digits() {
        assert_eq!(decoded(b"000000000000000A \t\r\n0123456789\r\n0\r\n\r\n").unwrap().0.len(), 10);
        let huge = decoded(b"FFFFFFFFFFFFFFFf\r\nabc").unwrap();
        assert_eq!(huge, (b"abc".to_vec(), 21, false));
        for (body, fault) in [
            (&b"00000000000000001"[..], Malformed::ChunkSizeTooLong),
            (b"\r\n", Malformed::ChunkSize),
            (b"+5\r\n", Malformed::ChunkSize),
            (b"-5\r\n", Malformed::ChunkSize),
            (b" 5\r\n", Malformed::ChunkSize),
            (b"0x5\r\n", Malformed::ChunkSize),
            (b"5_\r\n", Malformed::ChunkSize),
            (b"5 5\r\n", Malformed::ChunkSize),
            (b";a\r\n", Malformed::ChunkSize),
            (b"g\r\n", Malformed::ChunkSize),
            (b"5\n", Malformed::ChunkLineEnd),
            (b"5\ra", Malformed::ChunkLineEnd),
            (b"5;a\n", Malformed::ChunkLineEnd),
            (b"5;\0", Malformed::ChunkExtension),
            (b"1\r\naX", Malformed::ChunkDataEnd),
            (b"1\r\na\n", Malformed::ChunkDataEnd),
            (b"1\r\na\rX", Malformed::ChunkLineEnd),
            (b"0\r\n\n", Malformed::ChunkLineEnd),
            (b"0\r\n\rX", Malformed::ChunkLineEnd),
            (b"0\r\nA: 1\n", Malformed::ChunkLineEnd),
            (b"0\r\nA: 1\r\r", Malformed::ChunkLineEnd),
            (b"0\r\nA 1\r\n\r\n", Malformed::Trailer),
            (b"0\r\n A: 1\r\n\r\n", Malformed::Trailer),
        ] {
            assert_eq!(decoded(body), Err(fault), "{}", body.escape_ascii());
        }
    }

    #[test]
    fn extensions_and_trailers_have_limits_over_the_whole_body() {
        let half = vec![b'e'; EXTENSION_BYTES_MAX as usize / 2 - 1];
        let chunk = [b"1;", &half[..], b"\r\na\r\n"].concat();
        let fits = [&chunk[..], &chunk, b"0\r\n\r\n"].concat();
        assert_eq!(decoded(&fits).unwrap().0, b"aa");
        let over = [&chunk[..], &chunk, b"0 \r\n\r\n"].concat();
        assert_eq!(decoded(&over), Err(Malformed::ChunkExtensionsTooLarge));

        let value = vec![b'v'; TRAILER_BYTES_MAX - "A: \r\n\r\n".len()];
        let fits = [b"0\r\nA: ", &value[..], b"\r\n\r\n"].concat();
        assert!(decoded(&fits).unwrap().2);
        let over = [b"0\r\nA: v", &value[..], b"\r\n\r\n"].concat();
        assert_eq!(decoded(&over), Err(Malformed::TrailersTooLarge));
    }

    #[test]
    fn each_state_is_at_an_arrow() {
        for place in [Place::NEXT_SIZE, Place::Data { left: 1 }, Place::EndLf] {
            assert!(Place::ARROWS.iter().any(|arrow| arrow.0 == place.state()));
        }
        assert!(Place::ARROWS.iter().all(|arrow| arrow.0 != Place::Done.state()));
    }
}
