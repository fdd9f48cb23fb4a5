//! The one source of chance: a small generator (SplitMix64) that a seed determines.

/// Never used for secrets.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self(seed ^ 0x5DEE_CE66_D1CE_4E5B);
        random.next();
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Below `bound`; 0 where that is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    pub(crate) fn index(&mut self, bound: usize) -> usize {
        self.below(bound as u64) as usize
    }

    /// Both ends included.
    pub(crate) fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from) + 1)
    }

    /// True in so many cases of a thousand.
    pub(crate) fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.below(1_000) < u64::from(per_mille)
    }

    /// 0 to `most`, each magnitude as likely as another.
    pub(crate) fn magnitude(&mut self, most: u64) -> u64 {
        let bits = u64::from(u64::BITS - most.leading_zeros());
        let bits = self.range(0, bits);
        let bound = if bits >= 64 { u64::MAX } else { 1 << bits };
        self.below(bound).min(most)
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }

    pub(crate) fn fill(&mut self, into: &mut [u8]) {
        for byte in into {
            *byte = self.next() as u8;
        }
    }
}

/// The bytes of the body named `nonce`, from `at` on. Two bodies agree nowhere for long.
pub(crate) fn body_bytes(nonce: u64, at: u64, length: usize) -> Vec<u8> {
    let salt = mix(nonce.wrapping_mul(0xD6E8_FEB8_6659_FD93));
    let mut bytes = Vec::with_capacity(length + 8);
    let mut block = at / 8;
    bytes.extend_from_slice(&mix(salt ^ block).to_le_bytes()[(at % 8) as usize..]);
    while bytes.len() < length {
        block += 1;
        bytes.extend_from_slice(&mix(salt ^ block).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
