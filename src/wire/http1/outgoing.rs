//! Floor 1. A request's body on its way out: how much of it may be taken, and how it is framed
//! (RFC 9112 §6, §7.1).
//!
//! In go pieces of the body, in order; out come the same bytes with what their framing puts
//! around them. Nothing is kept.

use crate::kit::machine::Machine;

/// The rest of a request body.
#[derive(Debug)]
pub(crate) enum BodyWriter {
    /// So many bytes are to come of those that Content-Length announced.
    Length {
        left: u64,
    },
    Chunked,
    /// Not a body any more, but what another protocol says, for as long as it likes.
    Bare,
    /// All of it is there.
    Complete,
}

impl BodyWriter {
    pub(crate) fn new(length: Option<u64>) -> Self {
        match length {
            Some(0) => Self::Complete,
            Some(left) => Self::Length { left },
            None => Self::Chunked,
        }
    }

    /// How many more bytes may come, where they were announced.
    pub(crate) fn left(&self) -> Option<u64> {
        match self {
            Self::Length { left } => Some(*left),
            Self::Chunked | Self::Bare => None,
            Self::Complete => Some(0),
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        matches!(self, Self::Complete)
    }

    /// Whether bytes go out as they are.
    pub(crate) fn is_bare(&self) -> bool {
        !matches!(self, Self::Chunked)
    }

    /// So many bytes went out; there were as many left.
    pub(crate) fn note(&mut self, count: u64) {
        if let Self::Length { left } = self {
            *left = left.saturating_sub(count);
            if *left == 0 {
                self.go(Self::Complete);
            }
        }
    }

    /// What goes before a piece of `count` bytes: it ends at the end of `gap`. Its length.
    pub(crate) fn open(&self, gap: &mut [u8; GAP_BYTES], count: usize) -> usize {
        if self.is_bare() {
            return 0;
        }
        let mut at = gap.len() - 2;
        gap[at..].copy_from_slice(b"\r\n");
        let mut rest = count;
        loop {
            at -= 1;
            gap[at] = b"0123456789abcdef"[rest % 16];
            rest /= 16;
            if rest == 0 {
                return gap.len() - at;
            }
        }
    }

    /// What goes behind it.
    pub(crate) fn close(&self) -> &'static [u8] {
        if self.is_bare() { b"" } else { b"\r\n" }
    }

    /// The end of a body whose length was not announced, with its trailer fields, which were
    /// checked.
    pub(crate) fn end<'a>(
        &mut self,
        trailers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        out: &mut Vec<u8>,
    ) {
        match self {
            Self::Chunked => {}
            Self::Length { .. } | Self::Bare | Self::Complete => return,
        }
        out.extend_from_slice(b"0\r\n");
        for (name, value) in trailers {
            for part in [name, b": ", value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(b"\r\n");
        self.go(Self::Complete);
    }
}

impl Machine for BodyWriter {
    const NAME: &'static str = "Request body";
    const ARROWS: &'static [(&'static str, &'static str)] =
        &[("Length", "Complete"), ("Chunked", "Complete")];

    fn state(&self) -> &'static str {
        match self {
            Self::Length { .. } => "Length",
            Self::Chunked => "Chunked",
            Self::Bare => "Bare",
            Self::Complete => "Complete",
        }
    }
}

/// Room for a chunk's size line: 16 digits and a line end.
pub(crate) const GAP_BYTES: usize = 18;
/// Room for the line end behind a chunk.
pub(crate) const CLOSE_BYTES: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1::chunked::Dechunker;

    fn framed(writer: &mut BodyWriter, data: &[u8], out: &mut Vec<u8>) {
        let mut gap = [0; GAP_BYTES];
        let before = writer.open(&mut gap, data.len());
        out.extend_from_slice(&gap[GAP_BYTES - before..]);
        out.extend_from_slice(data);
        out.extend_from_slice(writer.close());
        writer.note(data.len() as u64);
    }

    #[test]
    fn chunks_are_what_a_reader_takes() {
        for length in [1, 9, 15, 16, 17, 255, 256, 65_535, 65_536, 70_001] {
            let data: Vec<u8> = (0_u8..=250).cycle().take(length).collect();
            let (mut writer, mut out) = (BodyWriter::new(None), Vec::new());
            framed(&mut writer, &data, &mut out);
            framed(&mut writer, b"x", &mut out);
            assert!(!writer.is_complete());
            writer.end([(&b"A"[..], &b"1"[..])], &mut out);
            assert!(writer.is_complete());
            let (mut reader, mut read, mut at) = (Dechunker::default(), Vec::new(), 0);
            while !reader.is_done() {
                let piece = reader.read(&out[at..]).unwrap();
                read.extend_from_slice(&out[at + piece.skip..at + piece.skip + piece.take]);
                at += piece.skip + piece.take;
            }
            assert_eq!((at, read), (out.len(), [&data[..], b"x"].concat()));
            assert!(reader.trailers().starts_with(b"A: 1\r\n"));
        }
    }

    #[test]
    fn the_largest_chunk_has_room_for_its_size() {
        let mut gap = [0; GAP_BYTES];
        let before = BodyWriter::Chunked.open(&mut gap, usize::MAX);
        assert_eq!(&gap[GAP_BYTES - before..], format!("{:x}\r\n", usize::MAX).as_bytes());
    }

    #[test]
    fn an_announced_length_is_complete_at_its_last_byte() {
        let (mut writer, mut out) = (BodyWriter::new(Some(5)), Vec::new());
        framed(&mut writer, b"abc", &mut out);
        assert_eq!(writer.left(), Some(2));
        framed(&mut writer, b"de", &mut out);
        assert!(writer.is_complete() && out == b"abcde");
        assert!(BodyWriter::new(Some(0)).is_complete());
    }
}
