//! One response out of a stream in pieces, with the codecs strung together as a connection does.

use whippet::fuzzing::{Body, Fields, Head, Scan, head};
use whippet::http::Method;

/// What one exchange came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    pub heads: Vec<Head>,
    pub body: Vec<u8>,
    pub trailers: Fields,
    pub end: End,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// The message ended after so many bytes of the stream.
    Done {
        used: usize,
    },
    Malformed(String),
    Truncated,
}

/// Feeds the pieces, then the stream's end.
pub fn drive<'a>(
    method: &Method,
    head_bytes_max: usize,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Outcome {
    let outcome =
        Outcome { heads: Vec::new(), body: Vec::new(), trailers: Vec::new(), end: End::Truncated };
    let (carry, scan, body) = (Vec::new(), Scan::default(), None);
    let mut driver = Driver { method, head_bytes_max, carry, scan, body, used: 0, outcome };
    let mut done = Ok(false);
    for piece in pieces {
        done = driver.feed(piece);
        if done != Ok(false) {
            break;
        }
    }
    if done == Ok(false) {
        done = driver.end_of_stream();
    }
    driver.outcome.end = match done {
        Ok(true) => End::Done { used: driver.used },
        Ok(false) => End::Truncated,
        Err(malformed) => End::Malformed(malformed),
    };
    driver.outcome
}

struct Driver<'a> {
    method: &'a Method,
    head_bytes_max: usize,
    /// The bytes of a head that is not whole.
    carry: Vec<u8>,
    scan: Scan,
    body: Option<Body>,
    used: usize,
    outcome: Outcome,
}

impl Driver<'_> {
    /// `true`: the message ended.
    fn feed(&mut self, piece: &[u8]) -> Result<bool, String> {
        if self.body.is_some() {
            return self.feed_body(piece);
        }
        let mut is_fresh = self.carry.is_empty();
        self.carry.extend_from_slice(piece);
        // Once when it arrives, then not before the blank line was seen.
        while is_fresh || self.scan.find(&self.carry) || self.carry.len() >= self.head_bytes_max {
            if !self.take_head()? {
                return Ok(false);
            }
            if self.body.is_some() {
                let rest = std::mem::take(&mut self.carry);
                return self.feed_body(&rest);
            }
            is_fresh = true;
        }
        Ok(false)
    }

    fn take_head(&mut self) -> Result<bool, String> {
        let Some(head) = head(&self.carry, self.head_bytes_max)? else { return Ok(false) };
        let body = head.body(self.method)?;
        self.carry.drain(..head.length());
        self.used += head.length();
        self.scan = Scan::default();
        let is_interim = head.is_interim();
        self.outcome.heads.push(head);
        if !is_interim {
            self.body = Some(body);
        } else if self.outcome.heads.len() > INTERIM_RESPONSES_MAX {
            return Err("TooManyInterimResponses".to_owned());
        }
        Ok(true)
    }

    fn feed_body(&mut self, mut bytes: &[u8]) -> Result<bool, String> {
        let Some(body) = &mut self.body else { return Ok(false) };
        loop {
            let piece = body.read(bytes)?;
            let (_, rest) = bytes.split_at(piece.skip);
            let (data, rest) = rest.split_at(piece.take);
            self.outcome.body.extend_from_slice(data);
            self.used += piece.skip + piece.take;
            bytes = rest;
            assert_eq!(piece.done, body.is_done());
            if piece.done {
                self.outcome.trailers = body.trailers()?;
                return Ok(true);
            }
            if bytes.is_empty() {
                return Ok(false);
            }
            assert!(piece.take > 0, "a piece without data uses everything");
        }
    }

    fn end_of_stream(&mut self) -> Result<bool, String> {
        match &mut self.body {
            Some(body) => Ok(body.end_of_stream()),
            None => head(&self.carry, self.head_bytes_max).map(|_| false),
        }
    }
}

const INTERIM_RESPONSES_MAX: usize = 5;
