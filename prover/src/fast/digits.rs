//! Scalars cut into signed digits and sorted by them, one window at a time.
//!
//! [`Windows`] (how to cut) → [`Digits`] (scalars, ready to cut) → [`Digits::sort`] → [`Order`] (points of each bucket)
//!
//! With C = Σ 2^(c−1)·2^(cj) added to a scalar once, digit j is bits cj … cj + c − 1 of the sum minus 2^(c−1): a digit in
//! [−2^(c−1), 2^(c−1)) without carrying. The top window takes what is left as it is. A zero scalar has only zero digits and
//! is never touched; small ones end below window [`Digits`] knows and are passed over above it.

use super::kernel::NEGATIVE;
use ark_bn254::Fr;
use ark_ff::PrimeField;
use zeroize::{Zeroize, Zeroizing};

/// Scalars below 2^SMALL_BITS are left out of the windows that they cannot reach.
const SMALL_BITS: usize = 64;
/// Widest window: more buckets than any size here repays.
const MAX_BITS: usize = 18;

/// How scalars are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Bits of a digit.
    pub bits: usize,
    /// Number of digits.
    pub count: usize,
}

impl Windows {
    /// The cut that costs least for so many scalars: an affine addition for each digit, and two projective ones, about six
    /// times as dear together, for each bucket.
    pub fn for_scalars(scalars: usize) -> Self {
        let cost = |windows: &Self| windows.count * (scalars + 5 * windows.buckets());
        (3..=MAX_BITS)
            .map(Self::of_bits)
            .min_by_key(cost)
            .expect("there are widths to choose from")
    }

    fn of_bits(bits: usize) -> Self {
        // The top digit, with the carry that the added constant brings, must name a bucket.
        let fits = |count: &usize| {
            let start = bits * (count - 1);
            start >= 192 && top(start) < 1 << (bits - 1)
        };
        let count = (1..=256).find(fits).expect("narrow top windows fit");
        Self { bits, count }
    }

    /// Buckets of a window: digits 1 … 2^(c−1) by magnitude.
    pub fn buckets(&self) -> usize {
        1 << (self.bits - 1)
    }

    /// What is added to every scalar.
    fn offset(&self) -> [u64; 4] {
        let mut offset = [0; 4];
        for window in 0..self.count - 1 {
            let bit = window * self.bits + self.bits - 1;
            offset[bit / 64] |= 1 << (bit % 64);
        }
        offset
    }
}

/// The modulus from a bit of its top word on.
fn top(start: usize) -> u64 {
    Fr::MODULUS.0[3]
        .checked_shr(start as u32 - 192)
        .unwrap_or(0)
}

/// Scalars with the constant added, wiped when dropped.
pub struct Digits {
    /// How they are cut.
    pub windows: Windows,
    sums: Zeroizing<Vec<[u64; 4]>>,
    /// Positions of the scalars that reach beyond the windows of small ones.
    large: Zeroizing<Vec<u32>>,
}

/// The digits of one window: positions sorted by bucket. Reused from window to window, wiped when dropped.
#[derive(Default, Zeroize)]
#[zeroize(drop)]
pub struct Order {
    /// Number of entries of each bucket.
    pub counts: Vec<u32>,
    /// Positions, bucket after bucket, marked [`NEGATIVE`] where the digit is.
    pub entries: Vec<u32>,
    digits: Vec<i32>,
    next: Vec<u32>,
}

impl Digits {
    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.sums.capacity() * size_of::<[u64; 4]>() + self.large.capacity() * 4
    }

    /// Prepares scalars.
    ///
    /// # Panics
    /// If there are 2^31 or more: entries have 31 bits for positions.
    pub fn of(windows: Windows, scalars: impl Iterator<Item = [u64; 4]>) -> Self {
        let offset = windows.offset();
        let (lower, upper) = scalars.size_hint();
        let mut sums = Zeroizing::new(Vec::with_capacity(upper.unwrap_or(lower)));
        let mut large = Zeroizing::new(Vec::with_capacity(upper.unwrap_or(lower)));
        for scalar in scalars {
            if scalar[1] | scalar[2] | scalar[3] != 0 {
                large.push(sums.len() as u32);
            }
            sums.push(add(&scalar, &offset));
        }
        assert!(sums.len() < NEGATIVE as usize, "too many scalars");
        Self {
            windows,
            sums,
            large,
        }
    }

    /// Number of scalars.
    pub fn len(&self) -> usize {
        self.sums.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// Sorts the positions by their digit in a window.
    pub fn sort(&self, window: usize, order: &mut Order) {
        let Windows { bits, count } = self.windows;
        let start = window * bits;
        let half = if window + 1 < count {
            1 << (bits - 1)
        } else {
            0
        };
        let (word, shift) = (start / 64, start % 64);
        let mask = (1u64 << bits) - 1;
        let digit = move |sum: &[u64; 4]| {
            let low = sum[word] >> shift;
            // A shift by 64 in two steps, for windows that begin with a word.
            let high = if word < 3 {
                sum[word + 1] << 1 << (63 - shift)
            } else {
                0
            };
            ((low | high) & mask) as i32 - half
        };
        order.counts.clear();
        order.counts.resize(self.windows.buckets(), 0);
        order.digits.clear();
        // Rounding may carry a small scalar to 2^SMALL_BITS, and that bit, atop a digit, into the next window.
        if start > SMALL_BITS + 1 {
            let digits = self.large.iter().map(|i| digit(&self.sums[*i as usize]));
            order.digits.extend(digits);
            order.scatter(self.large.iter().copied());
        } else {
            order.digits.extend(self.sums.iter().map(digit));
            order.scatter(0..self.sums.len() as u32);
        }
    }
}

impl Order {
    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        let words = [&self.counts, &self.entries, &self.next].map(Vec::capacity);
        (words.iter().sum::<usize>() + self.digits.capacity()) * 4
    }

    fn scatter(&mut self, positions: impl Iterator<Item = u32>) {
        for digit in &self.digits {
            if *digit != 0 {
                self.counts[digit.unsigned_abs() as usize - 1] += 1;
            }
        }
        self.next.clear();
        let mut sum = 0;
        self.next.extend(self.counts.iter().map(|count| {
            sum += count;
            sum - count
        }));
        self.entries.clear();
        self.entries.resize(sum as usize, 0);
        for (digit, position) in self.digits.iter().zip(positions) {
            if *digit != 0 {
                let next = &mut self.next[digit.unsigned_abs() as usize - 1];
                let sign = if *digit < 0 { NEGATIVE } else { 0 };
                self.entries[*next as usize] = position | sign;
                *next += 1;
            }
        }
    }

    /// The entries whose positions are kept, in `kept`.
    pub fn filter_into(&self, keep: impl Fn(u32) -> bool, kept: &mut Self) {
        kept.entries.clear();
        kept.counts.clear();
        let mut start = 0;
        for count in &self.counts {
            let before = kept.entries.len();
            let entries = &self.entries[start..start + *count as usize];
            kept.entries
                .extend(entries.iter().filter(|entry| keep(**entry & !NEGATIVE)));
            kept.counts.push((kept.entries.len() - before) as u32);
            start += *count as usize;
        }
    }
}

fn add(a: &[u64; 4], b: &[u64; 4]) -> [u64; 4] {
    let mut sum = [0; 4];
    let mut carry = false;
    for i in 0..4 {
        let (part, first) = a[i].overflowing_add(b[i]);
        let (part, second) = part.overflowing_add(u64::from(carry));
        sum[i] = part;
        carry = first || second;
    }
    sum
}

#[cfg(test)]
mod tests;
