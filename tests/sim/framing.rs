//! How the length of a body is told, and what is wrong with that.

use super::plan::Fault;
use super::world::Env;

/// How the end of a body is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length,
    Chunked,
    Close,
}

/// How a body's length is told.
pub(crate) struct Said {
    pub(crate) framing: Framing,
    pub(crate) has_body: bool,
    pub(crate) is_bodiless: bool,
    pub(crate) is_coded: bool,
    pub(crate) fault: Option<Fault>,
}

impl Said {
    /// The fields that tell the length, the body as it goes over the wire, and where that ends by
    /// the fields.
    pub(crate) fn frame(&self, body: &[u8], env: &mut Env) -> (String, Vec<u8>, usize) {
        let length = body.len() as u64;
        match self.framing {
            Framing::Close => (String::new(), body.to_vec(), body.len()),
            _ if self.is_bodiless => (String::new(), Vec::new(), 0),
            Framing::Length => {
                let said = match self.fault {
                    Some(Fault::LongLength) => length + 1 + env.random.magnitude(1_000),
                    Some(Fault::ShortLength) => length - env.random.below(length + 1),
                    _ => length,
                };
                env.ledger.amend_last(|whole| match self.fault {
                    _ if !self.has_body => whole,
                    Some(Fault::LongLength) => None,
                    // Half of what is coded is nothing; nothing of it is a body without a byte.
                    _ if self.is_coded && said == 0 => Some(0),
                    _ if self.is_coded && said < length => None,
                    _ if self.is_coded => whole,
                    _ => whole.map(|whole| whole.min(said)),
                });
                let end = if self.has_body { said.min(length) } else { length };
                (format!("Content-Length: {said}\r\n"), body.to_vec(), end as usize)
            }
            Framing::Chunked => {
                let chunks = self.chunks(body, env);
                let end = chunks.len();
                ("Transfer-Encoding: chunked\r\n".to_owned(), chunks, end)
            }
        }
    }

    fn chunks(&self, body: &[u8], env: &mut Env) -> Vec<u8> {
        let mut coded = Vec::new();
        let mut rest = body;
        let few = (body.len() as u64 / 40).max(1);
        while !rest.is_empty() {
            let length = 1 + env.random.magnitude(rest.len() as u64 - 1).max(few) as usize;
            let (piece, more) = rest.split_at(length.min(rest.len()));
            rest = more;
            let extension = if env.random.chance(100) { ";name=\"value\"" } else { "" };
            coded.extend_from_slice(format!("{:X}{extension}\r\n", piece.len()).as_bytes());
            coded.extend_from_slice(piece);
            coded.extend_from_slice(b"\r\n");
        }
        let end: &[u8] = match self.fault {
            Some(Fault::BadChunk) => b"-1\r\n",
            Some(Fault::LongLength) => b"ffff\r\n",
            _ if env.random.chance(200) => b"0\r\nX-Trailer: 1\r\n\r\n",
            _ => b"0\r\n\r\n",
        };
        if self.has_body && end[0] != b'0' {
            env.ledger.amend_last(|_| None);
        }
        coded.extend_from_slice(end);
        coded
    }
}
