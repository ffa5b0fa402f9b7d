//! The quotient's scalars: A·B − C at the odd points of the double domain.
//!
//! rows of A and B, bit-reversed → c = a∘b → coefficients → shifted to the odd coset → evaluations → a·b − c
//!
//! At the odd points the vanishing polynomial is the constant −2, which the key's query has absorbed. Rows go in and scalars
//! come out in bit-reversed order, so no transform reorders anything: the query's points are kept in that order, too.

use super::kernel::Task;
use super::kernel::portable::PortableScalars;
use super::transform::{ScalarKernel, Transform, reverse};
use crate::matrices::ConstraintMatrices;
use ark_bn254::Fr;
use ark_ff::{FftField, Field, Zero};
use ark_relations::gr1cs::SynthesisError;
use rayon::prelude::*;
use zeroize::Zeroizing;

/// Vectors that one job loads or combines.
const CHUNK: usize = 1 << 10;

/// Computes quotients of one circuit.
pub trait Quotient: Send + Sync {
    /// The scalars of the quotient's query in bit-reversed order, as integers.
    fn scalars(&self, matrices: &ConstraintMatrices, assignment: &[Fr])
    -> Zeroizing<Vec<[u64; 4]>>;

    /// Most bytes that it has at a time, the scalars included.
    fn scratch_bytes(&self) -> usize;
}

/// With the given kernel, or the portable one for domains too small for it.
///
/// # Errors
/// If the scalar field has no domain that large.
pub fn prepare<K: ScalarKernel>(
    kernel: K,
    size: usize,
) -> Result<Box<dyn Quotient>, SynthesisError> {
    if let Some(quotient) = InLanes::new(kernel, size) {
        return Ok(Box::new(quotient));
    }
    let portable = InLanes::new(PortableScalars, size);
    let portable = portable.ok_or(SynthesisError::PolynomialDegreeTooLarge)?;
    Ok(Box::new(portable))
}

struct InLanes<K: ScalarKernel> {
    kernel: K,
    size: usize,
    transform: Transform<K>,
    /// Generates the double domain.
    shift: Fr,
    size_inverse: Fr,
}

impl<K: ScalarKernel> InLanes<K> {
    fn new(kernel: K, size: usize) -> Option<Self> {
        Some(Self {
            kernel,
            size,
            transform: Transform::new(kernel, size)?,
            shift: Fr::get_root_of_unity(2 * size as u64)?,
            size_inverse: Fr::from(size as u64).inverse()?,
        })
    }

    /// The row's values in bit-reversed order.
    fn load(&self, rows: &[Fr], inputs: &[Fr]) -> Wiped<K::Vector> {
        let bits = self.size.trailing_zeros();
        let value = |place: usize| {
            let row = reverse(place, bits);
            let input = || inputs.get(row.wrapping_sub(rows.len())).copied();
            rows.get(row).copied().or_else(input).unwrap_or_default()
        };
        let vector = |number: usize| {
            let mut lanes = [Fr::zero(); MAX_LANES];
            for lane in 0..K::LANES {
                lanes[lane] = value(number * K::LANES + lane);
            }
            self.kernel.load(&lanes[..K::LANES])
        };
        let values = (0..self.size / K::LANES)
            .into_par_iter()
            .with_min_len(CHUNK)
            .map(vector)
            .collect();
        Wiped(values)
    }

    fn to_coset(&self, values: &mut Wiped<K::Vector>, factor: Fr) {
        self.transform.interpolate(&mut values.0);
        let scale = self.size_inverse * factor;
        self.transform.shift(&mut values.0, scale, self.shift);
        self.transform.evaluate(&mut values.0);
    }
}

/// More than any kernel has.
const MAX_LANES: usize = 8;

impl<K: ScalarKernel> Quotient for InLanes<K> {
    fn scalars(
        &self,
        matrices: &ConstraintMatrices,
        assignment: &[Fr],
    ) -> Zeroizing<Vec<[u64; 4]>> {
        let rows = |matrix| Zeroizing::new(matrices.evaluate(matrix, assignment));
        let mut a = self.load(&rows(0), &assignment[..matrices.inputs]);
        let mut b = self.load(&rows(1), &[]);
        let kernel = self.kernel;
        let products = a.0.par_iter().zip(&b.0).with_min_len(CHUNK);
        let products = products.map(|(a, b)| kernel.enter(Multiply(a, b)));
        let mut c = Wiped(products.collect());
        // What products lack comes back with the scaling: once in c, once in a for the product to come.
        let deficit = kernel.deficit();
        self.to_coset(&mut c, deficit);
        self.to_coset(&mut a, deficit);
        self.to_coset(&mut b, Fr::from(1u64));
        let mut scalars = Zeroizing::new(vec![[0; 4]; self.size]);
        scalars
            .par_chunks_mut(CHUNK * K::LANES)
            .enumerate()
            .for_each(|(number, scalars)| {
                let start = number * CHUNK;
                kernel.enter(Combine {
                    a: &a.0[start..],
                    b: &b.0[start..],
                    c: &c.0[start..],
                    scalars,
                });
            });
        scalars
    }

    fn scratch_bytes(&self) -> usize {
        // Three vectors all the time, and the scalars at the end; the rows of A or B, gone by then, are no longer.
        let vectors = 3 * self.size / K::LANES * size_of::<K::Vector>();
        vectors + self.size * size_of::<[u64; 4]>()
    }
}

struct Multiply<'a, V>(&'a V, &'a V);

impl<K: ScalarKernel> Task<K> for Multiply<'_, K::Vector> {
    type Output = K::Vector;

    #[inline(always)]
    fn run(self, kernel: K) -> K::Vector {
        kernel.mul(self.0, self.1)
    }
}

/// a·b − c.
struct Combine<'a, V> {
    a: &'a [V],
    b: &'a [V],
    c: &'a [V],
    scalars: &'a mut [[u64; 4]],
}

impl<K: ScalarKernel> Task<K> for Combine<'_, K::Vector> {
    type Output = ();

    #[inline(always)]
    fn run(self, kernel: K) {
        for (place, scalars) in self.scalars.chunks_exact_mut(K::LANES).enumerate() {
            let product = kernel.mul(&self.a[place], &self.b[place]);
            kernel.integers(&kernel.sub(&product, &self.c[place]), scalars);
        }
    }
}

/// Secret vectors, overwritten when dropped.
struct Wiped<V: Copy>(Vec<V>);

impl<V: Copy> Drop for Wiped<V> {
    fn drop(&mut self) {
        // Whatever the first value was, repeated it tells next to nothing; the box keeps the writes from being left out.
        if let Some(first) = self.0.first().copied() {
            self.0.fill(first);
            std::hint::black_box(&mut self.0);
        }
    }
}

#[cfg(test)]
mod tests;
