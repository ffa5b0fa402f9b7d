//! Multi-scalar multiplications: Σ scalarᵢ · pointᵢ, several point lists at once for one list of scalars.
//!
//! [`Batch`] (digits, point lists) → a job for each window: sort once, then for each list buckets → window sum → Horner
//!
//! Jobs run on all threads of the pool. Each has its own workspace, which goes from job to job, so the memory in use is
//! bounded by the number of threads.

use super::buckets::Adder;
use super::digits::{Digits, Order, Windows};
use super::kernel::Kernel;
use super::point::{G1Point, G2Point, Packed};
use super::window::weighted_sum;
use crate::key::map::{Kept, Plain};
use ark_bn254::{G1Projective, G2Projective};
use ark_ec::short_weierstrass::{Affine, Projective};
use ark_ff::{AdditiveGroup, Zero};
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Points of a key, some of which may be infinite.
pub struct Points<P: Plain> {
    points: Kept<P>,
    /// Which are finite; nothing if all are.
    finite: Option<Vec<bool>>,
}

/// Part of a key's points.
pub struct Part<'a, P> {
    points: &'a [P],
    finite: Option<&'a [bool]>,
}

impl<P> Clone for Part<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<P> Copy for Part<'_, P> {}

impl<P: Packed + Plain> Points<P> {
    /// Packs points.
    pub fn of(points: &[Affine<P::Curve>]) -> Self {
        let points: Vec<P> = points.par_iter().map(P::pack).collect();
        Self::packed(points.into())
    }

    /// Points in their packed form.
    pub fn packed(points: Kept<P>) -> Self {
        let infinite = points.par_iter().any(P::is_infinity);
        let finite = infinite.then(|| points.par_iter().map(|p| !p.is_infinity()).collect());
        Self { points, finite }
    }

    /// Points from a position on, or up to one.
    pub fn part(&self, range: impl std::ops::RangeBounds<usize> + Clone) -> Part<'_, P> {
        let bounds = (range.start_bound().cloned(), range.end_bound().cloned());
        Part {
            points: &self.points[bounds],
            finite: self.finite.as_ref().map(|finite| &finite[bounds]),
        }
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.points.bytes() + self.finite.as_ref().map_or(0, Vec::capacity)
    }
}

/// One list of scalars and the lists of points to multiply with it. Lists may be longer than the scalars.
pub struct Batch<'a> {
    /// The scalars.
    pub digits: &'a Digits,
    /// Lists in G1.
    pub g1: Vec<Part<'a, G1Point>>,
    /// Lists in G2.
    pub g2: Vec<Part<'a, G2Point>>,
}

/// A batch's sums, in the order of its lists.
#[derive(Debug, Clone, Default)]
pub struct Sums {
    /// In G1.
    pub g1: Vec<G1Projective>,
    /// In G2.
    pub g2: Vec<G2Projective>,
    /// Thread seconds spent in G1, sorting included, and in G2.
    pub seconds: [f64; 2],
}

/// The kernels of both groups, and their workspaces.
pub struct Multiplier<K1: Kernel, K2: Kernel> {
    g1: K1,
    g2: K2,
    idle: Mutex<Vec<Workspace<K1, K2>>>,
    /// Bytes of all workspaces when they were last given up.
    held: AtomicUsize,
}

struct Workspace<K1: Kernel, K2: Kernel> {
    order: Order,
    kept: Order,
    g1: Group<K1>,
    g2: Group<K2>,
}

impl<K1: Kernel, K2: Kernel> Workspace<K1, K2> {
    /// Bytes of memory held.
    fn bytes(&self) -> usize {
        self.order.bytes() + self.kept.bytes() + self.g1.bytes() + self.g2.bytes()
    }
}

struct Group<K: Kernel> {
    kernel: K,
    adder: Adder<K>,
    buckets: Vec<K::Point>,
}

impl<K: Kernel> Group<K> {
    fn new(kernel: K) -> Self {
        Self {
            kernel,
            adder: Adder::new(kernel),
            buckets: vec![],
        }
    }

    fn bytes(&self) -> usize {
        self.adder.bytes() + self.buckets.capacity() * size_of::<K::Point>()
    }

    fn window(
        &mut self,
        part: &Part<K::Point>,
        order: &Order,
        kept: &mut Order,
    ) -> Projective<<K::Point as Packed>::Curve> {
        let order = match part.finite {
            None => order,
            Some(finite) => {
                order.filter_into(|position| finite[position as usize], kept);
                kept
            }
        };
        self.adder.add_up(part.points, order, &mut self.buckets);
        // Sparse top windows leave most buckets empty: nothing above the last full one counts.
        let used = order.counts.iter().rposition(|count| *count > 0);
        let used = used.map_or(0, |last| last + 1);
        weighted_sum(self.kernel, &self.buckets[..used])
    }
}

impl<K1, K2> Multiplier<K1, K2>
where
    K1: Kernel<Point = G1Point>,
    K2: Kernel<Point = G2Point>,
{
    /// A multiplier without memory yet.
    pub fn new(g1: K1, g2: K2) -> Self {
        Self {
            g1,
            g2,
            idle: Mutex::default(),
            held: AtomicUsize::new(0),
        }
    }

    /// Bytes that the last multiplication took for itself, on all threads together.
    pub fn scratch_bytes(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// All sums of all batches.
    ///
    /// # Panics
    /// If a list has fewer points than there are scalars.
    pub fn multiply(&self, batches: &[Batch]) -> Vec<Sums> {
        for batch in batches {
            let scalars = batch.digits.len();
            let enough = batch.g1.iter().all(|list| list.points.len() >= scalars)
                && batch.g2.iter().all(|list| list.points.len() >= scalars);
            assert!(enough, "fewer points than scalars");
        }
        let jobs: Vec<(&Batch, usize)> = batches
            .iter()
            .flat_map(|batch| (0..batch.digits.windows.count).map(move |window| (batch, window)))
            .collect();
        let windows: Vec<Sums> = jobs
            .par_iter()
            .with_max_len(1)
            .map(|(batch, window)| self.window(batch, *window))
            .collect();
        let mut idle = self.lock();
        let held = idle.iter().map(Workspace::bytes).sum();
        self.held.store(held, Ordering::Relaxed);
        idle.clear();
        drop(idle);
        let mut windows = windows.into_iter();
        batches
            .iter()
            .map(|batch| {
                let cut = batch.digits.windows;
                join(cut, windows.by_ref().take(cut.count).collect())
            })
            .collect()
    }

    fn window(&self, batch: &Batch, window: usize) -> Sums {
        let idle = self.lock().pop();
        let mut space = idle.unwrap_or_else(|| Workspace {
            order: Order::default(),
            kept: Order::default(),
            g1: Group::new(self.g1),
            g2: Group::new(self.g2),
        });
        let Workspace {
            order,
            kept,
            g1,
            g2,
        } = &mut space;
        let start = Instant::now();
        batch.digits.sort(window, order);
        let sums_1 = batch.g1.iter().map(|part| g1.window(part, order, kept));
        let sums_1 = sums_1.collect();
        let middle = Instant::now();
        let sums_2 = batch.g2.iter().map(|part| g2.window(part, order, kept));
        let sums_2 = sums_2.collect();
        let seconds = [
            (middle - start).as_secs_f64(),
            middle.elapsed().as_secs_f64(),
        ];
        self.lock().push(space);
        Sums {
            g1: sums_1,
            g2: sums_2,
            seconds,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Workspace<K1, K2>>> {
        // Workspaces hold nothing that a panic elsewhere could leave half done.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Σ 2^(c·window)·sum, from the top window down.
fn join(cut: Windows, windows: Vec<Sums>) -> Sums {
    let mut total = Sums::default();
    let shift = |sums: &Sums, total: &mut Sums| {
        horner(&mut total.g1, &sums.g1, cut.bits);
        horner(&mut total.g2, &sums.g2, cut.bits);
        total.seconds[0] += sums.seconds[0];
        total.seconds[1] += sums.seconds[1];
    };
    for sums in windows.iter().rev() {
        shift(sums, &mut total);
    }
    total
}

fn horner<G: AdditiveGroup + Zero>(totals: &mut Vec<G>, sums: &[G], bits: usize) {
    totals.resize(sums.len(), G::ZERO);
    for (total, sum) in totals.iter_mut().zip(sums) {
        for _ in 0..bits {
            total.double_in_place();
        }
        *total += sum;
    }
}

#[cfg(test)]
mod tests;
