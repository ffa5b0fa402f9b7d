//! The weighted sum of a window's buckets: Σ k·Bₖ.
//!
//! buckets in as many segments as lanes → running sums from the top (complete additions) → lanes joined → one point
//!
//! The additions are the complete formulas of Renes, Costello and Batina for curves with a = 0 (eprint 2015/1060,
//! algorithm 7): right for equal, opposite and infinite points, because neither group has a point of order two.

use super::kernel::{BaseField, Kernel, Task};
use super::point::Packed;
use ark_ec::short_weierstrass::Projective;
use ark_ff::{Field, Zero};

/// A point in homogeneous coordinates in each lane.
#[derive(Clone, Copy)]
struct Homogeneous<E> {
    x: E,
    y: E,
    z: E,
}

/// arkworks' projective points of a kernel's curve.
pub type Sum<K> = Projective<<<K as Kernel>::Point as Packed>::Curve>;

/// Σ (k + 1)·buckets[k].
pub fn weighted_sum<K: Kernel>(kernel: K, buckets: &[K::Point]) -> Sum<K> {
    let length = buckets.len().div_ceil(K::LANES);
    let [running, total] = kernel.enter(Segments { buckets, length });
    let [running, total] = [running, total].map(|sums| points::<K>(kernel, &sums));
    // Lane l's buckets weigh l·length more than their place in it says.
    let (mut above, mut shifted) = (Sum::<K>::zero(), Sum::<K>::zero());
    for lane in (1..K::LANES).rev() {
        above += running[lane];
        shifted += above;
    }
    let mut sum = Sum::<K>::zero();
    for bit in (0..usize::BITS).rev() {
        sum += sum;
        if length >> bit & 1 == 1 {
            sum += shifted;
        }
    }
    total.into_iter().fold(sum, |sum, lane| sum + lane)
}

fn points<K: Kernel>(kernel: K, sums: &Homogeneous<K::Element>) -> Vec<Sum<K>> {
    let [x, y, z]: [Vec<BaseField<K>>; 3] = [sums.x, sums.y, sums.z].map(|c| kernel.lanes(&c));
    let point = |lane: usize| {
        let (x, y, z): (BaseField<K>, _, BaseField<K>) = (x[lane], y[lane], z[lane]);
        if z.is_zero() {
            Sum::<K>::zero()
        } else {
            // (X : Y : Z) is (XZ, YZ², Z) in Jacobian coordinates.
            Sum::<K>::new_unchecked(x * z, y * z.square(), z)
        }
    };
    (0..K::LANES).map(point).collect()
}

/// Running sums of all segments at once.
struct Segments<'a, P> {
    buckets: &'a [P],
    length: usize,
}

impl<K: Kernel> Task<K> for Segments<'_, K::Point> {
    type Output = [Homogeneous<K::Element>; 2];

    #[inline(always)]
    fn run(self, kernel: K) -> Self::Output {
        let infinity = Homogeneous {
            x: kernel.zero(),
            y: kernel.one(),
            z: kernel.zero(),
        };
        let mut running = infinity;
        let mut total = infinity;
        let mut entries = [0; 16];
        for place in (0..self.length).rev() {
            let mut infinite = 0;
            for lane in 0..K::LANES {
                let bucket = lane * self.length + place;
                let present = self.buckets.get(bucket).is_some_and(|p| !p.is_infinity());
                infinite |= u32::from(!present) << lane;
                entries[lane] = if present { bucket as u32 } else { 0 };
            }
            let [x, y] = kernel.load(self.buckets, &entries[..K::LANES], 1);
            let bucket = Homogeneous {
                x: kernel.select(infinite, &infinity.x, &x),
                y: kernel.select(infinite, &infinity.y, &y),
                z: kernel.select(infinite, &infinity.z, &kernel.scale()),
            };
            let mut addend = bucket;
            // One copy of the addition's code serves both sums.
            for sum in [&mut running, &mut total] {
                *sum = add(kernel, sum, &addend);
                addend = *sum;
            }
        }
        [running, total]
    }
}

/// Complete addition. All coordinates are tight.
#[inline(always)]
fn add<K: Kernel>(
    kernel: K,
    p: &Homogeneous<K::Element>,
    q: &Homogeneous<K::Element>,
) -> Homogeneous<K::Element> {
    let b = kernel.triple_b();
    let [xx, yy, zz] = [
        kernel.mul(&p.x, &q.x),
        kernel.mul(&p.y, &q.y),
        kernel.mul(&p.z, &q.z),
    ];
    // p.i·q.j + p.j·q.i from the products of equal indices.
    let cross = |[pi, pj]: [&K::Element; 2], [qi, qj]: [&K::Element; 2], ii, jj| {
        let product = kernel.mul(&kernel.add(pi, pj), &kernel.tighten(&kernel.add(qi, qj)));
        kernel.tighten(&kernel.sub(&product, &kernel.add(ii, jj)))
    };
    let xy = cross([&p.x, &p.y], [&q.x, &q.y], &xx, &yy);
    let yz = cross([&p.y, &p.z], [&q.y, &q.z], &yy, &zz);
    let xz = cross([&p.x, &p.z], [&q.x, &q.z], &xx, &zz);
    let xx = kernel.tighten(&kernel.add(&kernel.add(&xx, &xx), &xx));
    let zz = kernel.mul(&zz, &b);
    let xz = kernel.mul(&xz, &b);
    let sum = kernel.add(&yy, &zz);
    let difference = kernel.tighten(&kernel.sub(&yy, &zz));
    let combine = |sum| kernel.tighten(&sum);
    Homogeneous {
        x: combine(kernel.sub(&kernel.mul(&difference, &xy), &kernel.mul(&yz, &xz))),
        y: combine(kernel.add(&kernel.mul(&sum, &difference), &kernel.mul(&xx, &xz))),
        z: combine(kernel.add(&kernel.mul(&sum, &yz), &kernel.mul(&xx, &xy))),
    }
}
