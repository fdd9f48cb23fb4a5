//! Floor 1. Where a head ends, found while it drips in.
//!
//! In go the bytes so far, again and again with more behind them; out comes whether the blank line
//! is among them. Whether it is a head at all is for [`head`](super::head).

use crate::kit::work;

/// A resumable search for the blank line that ends a head: CR LF CR LF, LF LF and mixtures, as
/// the parser takes them. It looks at each byte at most three times, however they drip in.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Scan {
    /// How many bytes of empty lines stand before the status line. As long as this equals `seen`,
    /// nothing else was seen.
    start: usize,
    seen: usize,
}

impl Scan {
    /// Whether the head's end is among `bytes`, which are those of the last call and any more.
    pub(crate) fn find(&mut self, bytes: &[u8]) -> bool {
        let fresh = self.unseen(bytes);
        self.seen = self.seen.max(bytes.len());
        work::count(fresh.len());
        has_blank_line(fresh)
    }

    /// What must be looked at: what is new, and the LF CR before it.
    fn unseen<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.start == self.seen {
            let fresh = bytes.get(self.seen..).unwrap_or_default();
            self.start += fresh.iter().take_while(|&&byte| is_line_end(byte)).count();
            self.seen = self.start;
        }
        bytes.get(self.start.max(self.seen.saturating_sub(2))..).unwrap_or_default()
    }
}

fn has_blank_line(mut bytes: &[u8]) -> bool {
    while let Some(at) = bytes.iter().position(|&byte| byte == b'\n') {
        bytes = bytes.get(at + 1..).unwrap_or_default();
        if bytes.starts_with(b"\n") || bytes.starts_with(b"\r\n") {
            return true;
        }
    }
    false
}

pub(super) fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1::head::Head;
    use crate::wire::http1::head::parse;
    use crate::wire::http1::{HEAD_BYTES_MAX, Malformed};

    fn parsed(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
        parse(bytes, HEAD_BYTES_MAX, &mut Vec::new())
    }

    #[test]
    fn a_scan_finds_what_the_parser_completes_at_every_cut() {
        for text in [
            "HTTP/1.1 200 OK\r\nA: 1\r\n\r\n",
            "HTTP/1.1 200 OK\nA: 1\n\n",
            "HTTP/1.1 200 OK\r\nA: 1\n\r\n",
            "HTTP/1.1 200 OK\nA: 1\r\n\n",
            "\r\n\r\n\nHTTP/1.0 200\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA:\r\nB: \r\n\r\n",
        ] {
            let bytes = text.as_bytes();
            for first in 0..=bytes.len() {
                for second in first..=bytes.len() {
                    let mut scan = Scan::default();
                    for end in [first, second, bytes.len()] {
                        let found = scan.find(&bytes[..end]);
                        assert_eq!(found, end == bytes.len(), "{text:?} {first} {second}");
                        assert_eq!(found, parsed(&bytes[..end]).unwrap().is_some());
                        if found {
                            break;
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_dripped_head_costs_linear_work() {
        let mut bytes = b"\r\n\r\nHTTP/1.1 200 OK\r\n".to_vec();
        while bytes.len() < HEAD_BYTES_MAX - 100 {
            bytes.extend_from_slice(b"X-Some-Header: a value of its own\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        let (mut scan, mut looked, mut found) = (Scan::default(), 0, false);
        for end in 1..=bytes.len() {
            assert!(!found);
            looked += scan.clone().unseen(&bytes[..end]).len();
            found = scan.find(&bytes[..end]);
        }
        assert!(found);
        assert!(looked <= 3 * bytes.len(), "{looked} for {}", bytes.len());
    }
}
