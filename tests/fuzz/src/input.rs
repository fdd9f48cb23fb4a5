//! A fuzzer's bytes as choices and as pieces of a stream.
//!
//! Most targets take a few bytes of choices first and a stream behind them, so that a seed is
//! readable and a dictionary's words fit anywhere in the stream.

/// Takes choices from the front. Past the end all of them are zero.
#[derive(Clone, Copy, Debug)]
pub struct Tape<'a> {
    rest: &'a [u8],
}

impl<'a> Tape<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    pub fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// At most `count` bytes.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// All up to `separator`, which is dropped.
    pub fn until(&mut self, separator: u8) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| *byte == separator);
        let taken = self.take(end.unwrap_or(self.rest.len()));
        self.byte();
        taken
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn rest(self) -> &'a [u8] {
        self.rest
    }
}

/// Numbers that follow from one seed (xorshift64*).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0 to `bound - 1`; 0 where there is no bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        (self.draw() >> 11).checked_rem(bound).unwrap_or(0)
    }

    pub fn chance(&mut self, percent: u8) -> bool {
        self.below(100) < u64::from(percent)
    }

    /// 1 to `most`, mostly small.
    pub fn length(&mut self, most: usize) -> usize {
        let bits = self.below(14);
        let bound = (1 << bits).min(most as u64).max(1);
        1 + self.below(bound) as usize
    }
}

/// A stream with bytes that say how often the byte before them stands there, so that a short input
/// reaches long limits: 0x1c is 16 times, 0x1d 256 times, 0x1e 4096 times, up to 64 KiB in all.
pub fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut stream: Vec<u8> = Vec::with_capacity(bytes.len());
    for byte in bytes {
        let count = match byte {
            0x1c => 16,
            0x1d => 256,
            0x1e => 4_096,
            _ => 0,
        };
        match stream.last() {
            Some(last) if count > 0 && stream.len() + count <= 64 * 1024 => {
                stream.resize(stream.len() + count - 1, *last);
            }
            _ => stream.push(*byte),
        }
    }
    stream
}

/// Cuts `bytes` into pieces, of one byte each where the seed is 0.
pub fn pieces(bytes: &[u8], seed: u16) -> Vec<&[u8]> {
    if seed == 0 {
        return bytes.chunks(1).collect();
    }
    let mut random = Random::new(seed.into());
    let mut rest = bytes;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(random.length(rest.len()).min(rest.len()));
        pieces.push(piece);
        rest = more;
    }
    pieces
}
