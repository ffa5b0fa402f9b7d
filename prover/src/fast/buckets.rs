//! The points of each bucket added up in affine form, many additions sharing each inversion.
//!
//! order → blocks that fit the cache → rounds, each adding neighbours of one bucket in pairs → one point per bucket
//!
//! An affine addition costs six multiplications when its inversion is shared. A round halves every bucket; the first reads
//! points from the key wherever they lie, the others what the round before has written.
//!
//! Equal points, opposite points and infinity: an addition whose run x₂ − x₁ is zero would spoil every inversion that it
//! shares, and is found by just that: the product of all runs is zero. Then the chunk is mended: equal points get the
//! tangent's rise and run, opposite ones any run, and their sum, infinity, is struck out of its bucket after the round. So
//! the rounds see finite points only, and usual keys pay nothing.

use super::digits::Order;
use super::kernel::{Kernel, NEGATIVE, Task};
use zeroize::Zeroize;

/// Entries added up in one go: their sums fit the second-level cache.
const BLOCK: usize = 1 << 15;
/// Pairs of points between a point's prefetch and its use.
const AHEAD: usize = 32;

/// Points of one bucket that lie together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    bucket: u32,
    length: u32,
}

/// Lanes of additions on their way.
#[derive(Clone, Copy)]
struct Group<E> {
    x1: E,
    x2: E,
    y1: E,
    rise: E,
    run: E,
    prefix: E,
}

/// Memory of the additions, kept from window to window and wiped when dropped.
pub struct Adder<K: Kernel> {
    kernel: K,
    groups: Vec<Group<K::Element>>,
    runs: Vec<Run>,
    /// Entries of each pair.
    pairs: Vec<u32>,
    /// Where each pair's sum goes.
    targets: Vec<u32>,
    /// Points without a partner: entry and target.
    singles: Vec<[u32; 2]>,
    /// Targets of sums that are infinity.
    infinite: Vec<u32>,
    front: Vec<K::Point>,
    back: Vec<K::Point>,
    /// One sum for each (bucket, block).
    sums: Vec<(u32, K::Point)>,
}

impl<K: Kernel> Drop for Adder<K> {
    fn drop(&mut self) {
        self.pairs.zeroize();
        self.singles.zeroize();
        self.front.zeroize();
        self.back.zeroize();
    }
}

impl<K: Kernel> Adder<K> {
    /// An adder without memory yet.
    pub fn new(kernel: K) -> Self {
        Self {
            kernel,
            groups: vec![],
            runs: vec![],
            pairs: vec![],
            targets: vec![],
            singles: vec![],
            infinite: vec![],
            front: vec![],
            back: vec![],
            sums: vec![],
        }
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        let points = self.front.capacity() + self.back.capacity();
        points * size_of::<K::Point>()
            + self.groups.capacity() * size_of::<Group<K::Element>>()
            + self.sums.capacity() * size_of::<(u32, K::Point)>()
            + (self.pairs.capacity() + self.targets.capacity() + self.infinite.capacity()) * 4
            + self.singles.capacity() * size_of::<[u32; 2]>()
            + self.runs.capacity() * size_of::<Run>()
    }

    /// Adds up the points of each bucket into `buckets`. The order names finite points only.
    pub fn add_up(&mut self, points: &[K::Point], order: &Order, buckets: &mut Vec<K::Point>) {
        self.sums.clear();
        self.blocks(points, &order.entries, &order.counts, BLOCK);
        // Buckets that were cut between blocks have several sums.
        if self.sums.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            self.merge(order.counts.len());
        }
        buckets.clear();
        buckets.resize(order.counts.len(), K::Point::default());
        for (bucket, sum) in &self.sums {
            buckets[*bucket as usize] = *sum;
        }
    }

    fn merge(&mut self, buckets: usize) {
        let parts = std::mem::take(&mut self.sums);
        let mut counts = vec![0; buckets];
        parts.iter().for_each(|part| counts[part.0 as usize] += 1);
        let points: Vec<K::Point> = parts.into_iter().map(|part| part.1).collect();
        let entries: Vec<u32> = (0..points.len() as u32).collect();
        self.blocks(&points, &entries, &counts, entries.len());
    }

    fn blocks(&mut self, points: &[K::Point], entries: &[u32], counts: &[u32], length: usize) {
        let (mut bucket, mut taken) = (0, 0);
        for block in entries.chunks(length) {
            self.runs.clear();
            let mut wanted = block.len() as u32;
            while wanted > 0 {
                let length = wanted.min(counts[bucket] - taken);
                if length > 0 {
                    let bucket = bucket as u32;
                    self.runs.push(Run { bucket, length });
                }
                wanted -= length;
                taken += length;
                if taken == counts[bucket] {
                    (bucket, taken) = (bucket + 1, 0);
                }
            }
            self.block(points, block);
        }
    }

    fn block(&mut self, points: &[K::Point], entries: &[u32]) {
        let mut front = std::mem::take(&mut self.front);
        let mut back = std::mem::take(&mut self.back);
        self.plan(Some(entries));
        self.round(points, &mut front);
        while self.runs.iter().any(|run| run.length > 1) {
            self.plan(None);
            self.round(&front, &mut back);
            std::mem::swap(&mut front, &mut back);
        }
        let sums = self.runs.iter().zip(&front);
        self.sums.extend(sums.map(|(run, sum)| (run.bucket, *sum)));
        self.front = front;
        self.back = back;
    }

    /// Pairs neighbours of each bucket; the targets keep the buckets' order. Without entries, points lie in that order.
    fn plan(&mut self, entries: Option<&[u32]>) {
        self.pairs.clear();
        self.targets.clear();
        self.singles.clear();
        let (mut from, mut to) = (0, 0);
        for run in &mut self.runs {
            let sums = run.length / 2;
            let paired = from..from + 2 * sums;
            match entries {
                Some(entries) => {
                    let entries = &entries[paired.start as usize..paired.end as usize];
                    self.pairs.extend(entries.iter().copied());
                }
                None => self.pairs.extend(paired.clone()),
            }
            self.targets.extend(to..to + sums);
            (from, to) = (paired.end, to + sums);
            if run.length % 2 == 1 {
                let entry = entries.map_or(from, |entries| entries[from as usize]);
                self.singles.push([entry, to]);
                (from, to) = (from + 1, to + 1);
            }
            run.length = run.length.div_ceil(2);
        }
    }

    fn round(&mut self, points: &[K::Point], sums: &mut Vec<K::Point>) {
        let count = self.targets.len() + self.singles.len();
        // The last place takes what the lanes compute that no pair fills.
        if sums.len() <= count {
            sums.resize(count + 1, K::Point::default());
        }
        while !self.targets.len().is_multiple_of(K::LANES) {
            self.pairs.extend_from_within(..2);
            self.targets.push(count as u32);
        }
        if self.groups.is_empty() {
            let zero = self.kernel.zero();
            let group = Group {
                x1: zero,
                x2: zero,
                y1: zero,
                rise: zero,
                run: zero,
                prefix: zero,
            };
            self.groups = vec![group; K::CHUNK];
        }
        self.infinite.clear();
        self.kernel.enter(AddPairs {
            points,
            pairs: &self.pairs,
            targets: &self.targets,
            sums,
            groups: &mut self.groups,
            infinite: &mut self.infinite,
        });
        for [entry, target] in &self.singles {
            let point = points[(entry & !NEGATIVE) as usize];
            let negative = entry & NEGATIVE != 0;
            sums[*target as usize] = if negative {
                self.kernel.negate(&point)
            } else {
                point
            };
        }
        self.strike(sums, count as u32);
    }

    /// Takes sums that are infinity out of their buckets.
    fn strike(&mut self, sums: &mut [K::Point], count: u32) {
        self.infinite.retain(|target| *target < count);
        if self.infinite.is_empty() {
            return;
        }
        self.infinite.sort_unstable();
        let mut infinite = self.infinite.iter().copied().peekable();
        let (mut from, mut to) = (0, 0);
        for run in &mut self.runs {
            let length = run.length;
            for _ in 0..length {
                if infinite.next_if_eq(&from).is_some() {
                    run.length -= 1;
                } else {
                    sums[to] = sums[from as usize];
                    to += 1;
                }
                from += 1;
            }
        }
        self.runs.retain(|run| run.length > 0);
    }
}

/// One round's additions.
struct AddPairs<'a, K: Kernel> {
    points: &'a [K::Point],
    pairs: &'a [u32],
    targets: &'a [u32],
    sums: &'a mut [K::Point],
    groups: &'a mut [Group<K::Element>],
    infinite: &'a mut Vec<u32>,
}

impl<K: Kernel> Task<K> for AddPairs<'_, K> {
    type Output = ();

    #[inline(always)]
    fn run(mut self, kernel: K) {
        let chunk = K::CHUNK * K::LANES;
        for start in (0..self.targets.len()).step_by(chunk) {
            let end = self.targets.len().min(start + chunk);
            let products = self.begin(kernel, start, end);
            let inverse = kernel.invert(&kernel.mul(&products[0], &products[1]));
            match inverse {
                Some(inverse) => self.finish(kernel, start, end, &products, &inverse),
                None => {
                    let products = self.mend(kernel, start, end);
                    let inverse = kernel
                        .invert(&kernel.mul(&products[0], &products[1]))
                        .expect("mended runs are not zero");
                    self.finish(kernel, start, end, &products, &inverse);
                }
            }
        }
    }
}

impl<K: Kernel> AddPairs<'_, K> {
    /// Loads the pairs and multiplies up their runs, in two chains for the processor to interleave.
    #[inline(always)]
    fn begin(&mut self, kernel: K, start: usize, end: usize) -> [K::Element; 2] {
        let lanes = K::LANES;
        let mut products = [kernel.one(); 2];
        let groups = (end - start) / lanes;
        for (number, group) in self.groups[..groups].iter_mut().enumerate() {
            let first = start + number * lanes;
            let ahead = 2 * (first + AHEAD);
            if let Some(entries) = self.pairs.get(ahead..ahead + 2 * lanes) {
                for entry in entries {
                    kernel.prefetch(self.points, *entry);
                }
            }
            let entries = &self.pairs[2 * first..2 * (first + lanes)];
            let [x1, y1] = kernel.load(self.points, entries, 2);
            let [x2, y2] = kernel.load(self.points, &entries[1..], 2);
            group.run = kernel.sub(&x2, &x1);
            group.rise = kernel.sub(&y2, &y1);
            group.x1 = x1;
            group.x2 = x2;
            group.y1 = y1;
            let product = &mut products[number % 2];
            group.prefix = *product;
            *product = kernel.mul(&group.run, product);
        }
        products
    }

    /// Gives pairs of equal and opposite points a run that has an inverse.
    #[inline(always)]
    fn mend(&mut self, kernel: K, start: usize, end: usize) -> [K::Element; 2] {
        let lanes = K::LANES;
        let mut products = [kernel.one(); 2];
        let groups = (end - start) / lanes;
        for (number, group) in self.groups[..groups].iter_mut().enumerate() {
            let level = kernel.zero_lanes(&group.run);
            if level != 0 {
                let equal = level & kernel.zero_lanes(&group.rise);
                let [rise, run] = kernel.tangent(&group.x1, &group.y1);
                group.rise = kernel.select(equal, &rise, &group.rise);
                group.run = kernel.select(equal, &run, &group.run);
                let opposite = level & !equal;
                group.run = kernel.select(opposite, &kernel.one(), &group.run);
                for lane in 0..lanes {
                    if opposite >> lane & 1 == 1 {
                        let target = self.targets[start + number * lanes + lane];
                        self.infinite.push(target);
                    }
                }
            }
            let product = &mut products[number % 2];
            group.prefix = *product;
            *product = kernel.mul(&group.run, product);
        }
        products
    }

    /// Divides the common inverse back and completes the additions.
    #[inline(always)]
    fn finish(
        &mut self,
        kernel: K,
        start: usize,
        end: usize,
        products: &[K::Element; 2],
        inverse: &K::Element,
    ) {
        let lanes = K::LANES;
        let mut inverses = [
            kernel.mul(inverse, &products[1]),
            kernel.mul(inverse, &products[0]),
        ];
        let groups = (end - start) / lanes;
        for (number, group) in self.groups[..groups].iter().enumerate().rev() {
            let rest = &mut inverses[number % 2];
            let inverse = kernel.mul(rest, &group.prefix);
            *rest = kernel.mul(&group.run, rest);
            let [x, y] = kernel.chord(&group.rise, &inverse, &group.x1, &group.x2, &group.y1);
            let first = start + number * lanes;
            kernel.store(&x, &y, self.sums, &self.targets[first..first + lanes]);
        }
    }
}
