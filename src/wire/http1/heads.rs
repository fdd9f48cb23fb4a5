//! Floor 1. Heads one after another. Servers say the same again and again, so a head is compared
//! with the one before it, and parsed only where it differs.
//!
//! In go bytes as for [`head::parse`]; out comes what it would say of them.

use super::Malformed;
use super::head::{self, Head};
use crate::kit::work;
use crate::response::Field;

/// The head that was parsed last.
#[derive(Default)]
pub(crate) struct Heads {
    fields: Vec<Field>,
    /// Where it was whole, and not too long to be kept; its bytes are `bytes`.
    last: Option<Head>,
    bytes: Vec<u8>,
}

impl Heads {
    /// [`head::parse`], with a table of its own for the fields.
    pub(crate) fn parse(
        &mut self,
        bytes: &[u8],
        bytes_max: usize,
    ) -> Result<Option<Head>, Malformed> {
        if let Some(head) = self.last.filter(|head| head.length <= bytes_max) {
            work::count(head.length);
            if bytes.starts_with(&self.bytes) {
                return Ok(Some(head));
            }
        }
        self.last = None;
        let parsed = head::parse(bytes, bytes_max, &mut self.fields)?;
        self.last = parsed.filter(|head| head.length <= KEPT_BYTES_MAX);
        if let Some(head) = self.last {
            self.bytes.clear();
            self.bytes.extend_from_slice(bytes.get(..head.length).unwrap_or_default());
        }
        Ok(parsed)
    }

    /// The fields of the head that was parsed last, in order.
    pub(crate) fn fields(&self) -> &[Field] {
        &self.fields
    }
}

/// A head longer than this is always parsed.
const KEPT_BYTES_MAX: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// Every answer is that of a parser without a memory.
    fn check(heads: &mut Heads, bytes: &[u8], bytes_max: usize) {
        let mut fields = Vec::new();
        let parsed = head::parse(bytes, bytes_max, &mut fields);
        assert_eq!(heads.parse(bytes, bytes_max), parsed);
        if matches!(parsed, Ok(Some(_))) {
            assert_eq!(heads.fields(), fields);
        }
    }

    #[test]
    fn what_was_parsed_before_changes_no_answer() {
        let long = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "a".repeat(KEPT_BYTES_MAX));
        let texts = [
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nB: c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: folded\r\n over\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\n\n",
            &long,
        ];
        let mut heads = Heads::default();
        for first in texts {
            for second in texts {
                for end in 0..=second.len().min(80) {
                    check(&mut heads, first.as_bytes(), 1 << 16);
                    check(&mut heads, &second.as_bytes()[..end], 1 << 16);
                    check(&mut heads, second.as_bytes(), end);
                    check(&mut heads, format!("{second}HTTP/").as_bytes(), 1 << 16);
                }
            }
        }
    }

    #[test]
    fn a_head_that_comes_again_is_only_compared() {
        let bytes = b"HTTP/1.1 200 OK\r\nServer: a\r\nContent-Length: 1\r\n\r\n1";
        let mut heads = Heads::default();
        let first = heads.parse(bytes, 1 << 16);
        let table = heads.fields().as_ptr();
        let mut again = Ok(None);
        let worked = work::counted(|| again = heads.parse(bytes, 1 << 16));
        assert_eq!((again, worked), (first, bytes.len() - 1));
        assert_eq!(heads.fields().as_ptr(), table);
    }
}
