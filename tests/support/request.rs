//! A request as an origin reads it: by hand and strictly, so that it also judges the client.

use std::io::{self, Read};

/// One request that an origin has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    /// In the order and case of the wire; bytes that are not UTF-8 as U+FFFD.
    pub(crate) headers: Vec<(String, String)>,
    /// The head as it came, with its blank line.
    pub(crate) head: Vec<u8>,
    pub(crate) body: Vec<u8>,
    /// The trailer section, line by line.
    pub(crate) trailers: Vec<String>,
    /// Which of the accepted connections it came on, from 0.
    pub(crate) connection: usize,
    /// Which request of that connection it is, from 0.
    pub(crate) nth: usize,
}

impl Seen {
    /// The first value of a field.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Head and content of each part of a form, by the boundary that the Content-Type names.
    pub(crate) fn parts(&self) -> Vec<(String, Vec<u8>)> {
        let content_type = self.header("content-type").unwrap();
        let boundary = content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
        let mark = format!("\r\n--{boundary}");
        let whole = [b"\r\n", self.body.as_slice()].concat();
        let mut parts = Vec::new();
        let mut rest = whole.strip_prefix(mark.as_bytes()).unwrap();
        while let Some(part) = rest.strip_prefix(b"\r\n") {
            let find = |what: &[u8]| part.windows(what.len()).position(|at| at == what).unwrap();
            let (blank, end) = (find(b"\r\n\r\n"), find(mark.as_bytes()));
            let head = String::from_utf8(part[..blank].to_vec()).unwrap();
            parts.push((head, part[blank + 4..end].to_vec()));
            rest = &part[end + mark.len()..];
        }
        assert_eq!(rest, b"--\r\n");
        parts
    }

    pub(crate) fn wants_close(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// Reads the next request, whose first bytes may already be in `kept`; what follows it stays
    /// there. `None`: the client ended between requests. Malformed: `InvalidData`.
    pub(crate) fn read(
        from: &mut impl Read,
        kept: &mut Vec<u8>,
        connection: usize,
        nth: usize,
    ) -> io::Result<Option<Self>> {
        let end = loop {
            if let Some(at) = kept.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if fill(from, kept)? == 0 {
                let clean = kept.is_empty();
                return if clean { Ok(None) } else { Err(malformed("a head without an end")) };
            }
        };
        let head: Vec<u8> = kept.drain(..end).collect();
        let text = String::from_utf8_lossy(&head).into_owned();
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1"), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(malformed("not a request line of HTTP/1.1"));
        };
        let headers = lines.map(field).collect::<io::Result<Vec<_>>>()?;
        let (method, target) = (method.to_owned(), target.to_owned());
        let body = Vec::new();
        let trailers = Vec::new();
        let mut seen = Self { method, target, headers, head, body, trailers, connection, nth };
        seen.body = seen.read_body(from, kept)?;
        Ok(Some(seen))
    }

    fn read_body(&mut self, from: &mut impl Read, kept: &mut Vec<u8>) -> io::Result<Vec<u8>> {
        match (self.header("content-length"), self.header("transfer-encoding")) {
            (None, None) => Ok(Vec::new()),
            (Some(length), None) => {
                let length = length.parse().map_err(|_| malformed("a Content-Length"))?;
                take(from, kept, length)
            }
            (None, Some("chunked")) => read_chunked(from, kept, &mut self.trailers),
            _ => Err(malformed("the framing of the body")),
        }
    }
}

fn field(line: &str) -> io::Result<(String, String)> {
    match line.split_once(':') {
        Some((name, value)) if !name.is_empty() && !name.contains([' ', '\t']) => {
            Ok((name.to_owned(), value.trim().to_owned()))
        }
        _ => Err(malformed("a header line")),
    }
}

fn read_chunked(
    from: &mut impl Read,
    kept: &mut Vec<u8>,
    trailers: &mut Vec<String>,
) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(from, kept)?;
        let size = usize::from_str_radix(&line, 16).map_err(|_| malformed("a chunk's size"))?;
        if size == 0 {
            loop {
                match read_line(from, kept)? {
                    end if end.is_empty() => return Ok(body),
                    trailer => trailers.push(trailer),
                }
            }
        }
        body.extend(take(from, kept, size)?);
        if !read_line(from, kept)?.is_empty() {
            return Err(malformed("a chunk's end"));
        }
    }
}

fn read_line(from: &mut impl Read, kept: &mut Vec<u8>) -> io::Result<String> {
    loop {
        if let Some(at) = kept.windows(2).position(|window| window == b"\r\n") {
            let line: Vec<u8> = kept.drain(..at + 2).take(at).collect();
            return String::from_utf8(line).map_err(|_| malformed("a line"));
        }
        if fill(from, kept)? == 0 {
            return Err(malformed("the end within a line"));
        }
    }
}

fn take(from: &mut impl Read, kept: &mut Vec<u8>, length: usize) -> io::Result<Vec<u8>> {
    while kept.len() < length {
        if fill(from, kept)? == 0 {
            return Err(malformed("the end within a body"));
        }
    }
    Ok(kept.drain(..length).collect())
}

/// Reads once; 0 is the end.
pub(super) fn fill(from: &mut impl Read, kept: &mut Vec<u8>) -> io::Result<usize> {
    let mut piece = [0; 16 * 1024];
    let read = from.read(&mut piece)?;
    kept.extend_from_slice(&piece[..read]);
    Ok(read)
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
