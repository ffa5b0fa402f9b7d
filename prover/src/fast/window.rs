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

/// The sum of (k + 1) times bucket k.
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
        let b = kernel.triple_b();
        let scale = kernel.scale();
        for place in (0..self.length).rev() {
            let mut infinite = 0;
            for lane in 0..K::LANES {
                let bucket = lane * self.length + place;
                let present = bucket < self.buckets.len() && !self.buckets[bucket].is_infinity();
                infinite |= u32::from(!present) << lane;
                entries[lane] = if present { bucket as u32 } else { 0 };
            }
            let [x, y] = kernel.load(self.buckets, &entries[..K::LANES], 1);
            let bucket = Homogeneous {
                x: kernel.select(infinite, &infinity.x, &x),
                y: kernel.select(infinite, &infinity.y, &y),
                z: kernel.select(infinite, &infinity.z, &scale),
            };
            let mut addend = bucket;
            // One copy of the addition's code serves both sums.
            for sum in [&mut running, &mut total] {
                *sum = add(kernel, &b, sum, &addend);
                addend = *sum;
            }
        }
        [running, total]
    }
}

/// Complete addition. All coordinates are tight; `b` is three times the curve's constant.
#[inline(always)]
fn add<K: Kernel>(
    kernel: K,
    b: &K::Element,
    p: &Homogeneous<K::Element>,
    q: &Homogeneous<K::Element>,
) -> Homogeneous<K::Element> {
    let xx = kernel.mul(&p.x, &q.x);
    let yy = kernel.mul(&p.y, &q.y);
    let zz = kernel.mul(&p.z, &q.z);
    let xy = cross(kernel, [&p.x, &p.y], [&q.x, &q.y], [&xx, &yy]);
    let yz = cross(kernel, [&p.y, &p.z], [&q.y, &q.z], [&yy, &zz]);
    let xz = cross(kernel, [&p.x, &p.z], [&q.x, &q.z], [&xx, &zz]);
    let xx = kernel.tighten(&kernel.add(&kernel.add(&xx, &xx), &xx));
    let zz = kernel.mul(&zz, b);
    let xz = kernel.mul(&xz, b);
    let sum = kernel.add(&yy, &zz);
    let difference = kernel.tighten(&kernel.sub(&yy, &zz));
    let x = kernel.sub(&kernel.mul(&difference, &xy), &kernel.mul(&yz, &xz));
    let y = kernel.add(&kernel.mul(&sum, &difference), &kernel.mul(&xx, &xz));
    let z = kernel.add(&kernel.mul(&sum, &yz), &kernel.mul(&xx, &xy));
    Homogeneous {
        x: kernel.tighten(&x),
        y: kernel.tighten(&y),
        z: kernel.tighten(&z),
    }
}

/// pᵢqⱼ + pⱼqᵢ = (pᵢ + pⱼ)(qᵢ + qⱼ) − pᵢqᵢ − pⱼqⱼ.
#[inline(always)]
fn cross<K: Kernel>(
    kernel: K,
    p: [&K::Element; 2],
    q: [&K::Element; 2],
    equal: [&K::Element; 2],
) -> K::Element {
    let sum = kernel.tighten(&kernel.add(q[0], q[1]));
    let product = kernel.mul(&kernel.add(p[0], p[1]), &sum);
    kernel.tighten(&kernel.sub(&product, &kernel.add(equal[0], equal[1])))
}
