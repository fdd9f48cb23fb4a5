//! Lines out of pieces of bytes, however the pieces are cut.
//!
//! A line is numbered from 1 and comes without its LF or CRLF; the last one needs neither. A
//! line longer than a bound is reported instead of kept, and its bytes are passed over.

/// One line.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Line<'a> {
    /// Its bytes.
    Text(&'a [u8]),
    /// It is longer than the bound.
    TooLong,
}

/// What was received and not yet given out as lines.
#[derive(Debug)]
pub(crate) struct Lines {
    bytes: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// Up to where no LF was found.
    searched: usize,
    bytes_max: usize,
    /// Whether the rest of a line that was too long is being passed over.
    skipping: bool,
    at_end: bool,
    number: u64,
}

impl Lines {
    /// Lines of at most `bytes_max` bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
            searched: 0,
            bytes_max,
            skipping: false,
            at_end: false,
            number: 0,
        }
    }

    /// More bytes.
    pub(crate) fn receive(&mut self, piece: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        self.bytes.extend_from_slice(piece);
    }

    /// There are no more bytes: what is left is the last line.
    pub(crate) fn receive_end(&mut self) {
        self.at_end = true;
    }

    /// The next line and its number; `None` while it is not complete, and behind the last.
    pub(crate) fn next_line(&mut self) -> Option<(u64, Line<'_>)> {
        loop {
            let found = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n');
            let end = match found {
                Some(offset) => self.searched + offset,
                None => {
                    self.searched = self.bytes.len();
                    if !self.skipping && self.searched - self.start > self.bytes_max {
                        return Some(self.too_long());
                    }
                    if self.skipping {
                        self.start = self.searched;
                    }
                    if !self.at_end || self.start == self.bytes.len() {
                        return None;
                    }
                    self.bytes.len()
                }
            };
            let begin = self.start;
            self.start = (end + 1).min(self.bytes.len());
            self.searched = self.start;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            self.number += 1;
            if end - begin > self.bytes_max {
                return Some((self.number, Line::TooLong));
            }
            return Some((self.number, Line::Text(trimmed(&self.bytes[begin..end], self.number))));
        }
    }

    /// The line that has begun is reported now; its rest is passed over as it comes.
    fn too_long(&mut self) -> (u64, Line<'static>) {
        self.skipping = true;
        self.start = self.searched;
        self.number += 1;
        (self.number, Line::TooLong)
    }
}

/// Without the CR of a CRLF, and without the byte order mark that may open a file.
fn trimmed(line: &[u8], number: u64) -> &[u8] {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if number == 1 { line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line) } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(lines: &mut Lines, into: &mut Vec<(u64, Option<Vec<u8>>)>) {
        while let Some((number, line)) = lines.next_line() {
            into.push((
                number,
                match line {
                    Line::Text(text) => Some(text.to_vec()),
                    Line::TooLong => None,
                },
            ));
        }
    }

    fn split(pieces: &[&[u8]]) -> Vec<(u64, Option<Vec<u8>>)> {
        let (mut lines, mut all) = (Lines::new(8), Vec::new());
        for piece in pieces {
            lines.receive(piece);
            collect(&mut lines, &mut all);
        }
        lines.receive_end();
        collect(&mut lines, &mut all);
        all
    }

    #[test]
    fn the_lines_are_the_same_at_every_cut() {
        let text = b"\xEF\xBB\xBFab\r\n\n12345678\n123456789\n1234567890123456789\nlast";
        let whole = split(&[text]);
        let some = |text: &[u8]| Some(text.to_vec());
        assert_eq!(
            whole,
            [
                (1, some(b"ab")),
                (2, some(b"")),
                (3, some(b"12345678")),
                (4, None),
                (5, None),
                (6, some(b"last"))
            ]
        );
        for cut in 0..text.len() {
            assert_eq!(split(&[&text[..cut], &text[cut..]]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(split(&bytes), whole);
    }

    #[test]
    fn an_end_without_lf_and_an_empty_input_are_fine() {
        assert!(split(&[]).is_empty());
        assert_eq!(split(&[b"a\n"]).len(), 1);
        assert_eq!(split(&[b"1234567890"]), [(1, None)]);
        assert_eq!(split(&[b"1234567890", b"12\nx"]), [(1, None), (2, Some(b"x".to_vec()))]);
    }

    #[test]
    fn a_line_that_is_too_long_is_not_kept() {
        let mut lines = Lines::new(8);
        for _ in 0..1_000 {
            lines.receive(&[b'x'; 100]);
            while lines.next_line().is_some() {}
            assert!(lines.bytes.len() <= 200);
        }
    }

    /// What the lines are, without pieces: the bytes between line ends.
    fn model(text: &[u8], bytes_max: usize) -> Vec<(u64, Option<Vec<u8>>)> {
        let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        if lines.last().is_some_and(|last| last.is_empty()) {
            lines.pop();
        }
        let told = |(line, number): (&&[u8], u64)| {
            let fits = line.len() <= bytes_max;
            (number, fits.then(|| trimmed(line, number).to_vec()))
        };
        lines.iter().zip(1..).map(told).collect()
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_the_lines_between_their_line_ends_at_any_cuts(
            text in proptest::collection::vec(
                proptest::sample::select(&b"aaaab\r\n\n\xEF\xBB\xBF"[..]), 0..80),
            cuts in proptest::collection::vec(
                proptest::prelude::any::<proptest::sample::Index>(), 0..8),
        ) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.push(text.len());
            cuts.sort_unstable();
            let mut from = 0;
            let pieces: Vec<_> =
                cuts.iter().map(|to| &text[std::mem::replace(&mut from, *to)..*to]).collect();
            proptest::prop_assert_eq!(split(&pieces), model(&text, 8));
        }
    }
}
