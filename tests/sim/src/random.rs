//! A small generator of numbers: the same seed gives the same run on every machine and with every compiler.

/// SplitMix64, or the bytes that a fuzzer has chosen for as long as they last.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
    bytes: std::vec::IntoIter<u8>,
}

impl Random {
    /// A generator from a seed.
    pub fn new(seed: u64) -> Self {
        Self {
            state: seed,
            bytes: Vec::new().into_iter(),
        }
    }

    /// A generator that takes its numbers from bytes, two for each, as long as there are any.
    pub fn by(bytes: Vec<u8>) -> Self {
        Self {
            state: 0,
            bytes: bytes.into_iter(),
        }
    }

    /// Whether there are no bytes left.
    pub fn is_spent(&self) -> bool {
        self.bytes.len() == 0
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        if let Some(low) = self.bytes.next() {
            let high = self.bytes.next().unwrap_or(0);
            return u64::from(u16::from_le_bytes([low, high]));
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A number below `limit`, which is above zero.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True once in `of` times.
    pub fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    /// One of several, which are not none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// Mixes 64 bits.
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
