//! The quotient's scalars: A·B − C at the odd points of the double domain.
//!
//! rows of A and B → c = a∘b → inverse transform, shift to the odd coset, transform → a·b − c
//!
//! At the odd points the vanishing polynomial is the constant −2, which the key's query has absorbed.

use crate::matrices::ConstraintMatrices;
use ark_bn254::Fr;
use ark_ff::{PrimeField, Zero};
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
use ark_relations::gr1cs::SynthesisError;
use rayon::prelude::*;
use zeroize::Zeroizing;

/// The scalars of the quotient's query, as integers.
///
/// # Errors
/// If the circuit is too large for the scalar field.
pub fn scalars(
    matrices: &ConstraintMatrices,
    assignment: &[Fr],
) -> Result<Zeroizing<Vec<[u64; 4]>>, SynthesisError> {
    let size = matrices.domain();
    let too_large = || SynthesisError::PolynomialDegreeTooLarge;
    let domain = Radix2EvaluationDomain::<Fr>::new(size).ok_or_else(too_large)?;
    let double = Radix2EvaluationDomain::<Fr>::new(2 * size).ok_or_else(too_large)?;
    let [mut a, mut b] = [0, 1].map(|matrix| {
        let mut rows = matrices.evaluate(matrix, assignment);
        rows.resize(size, Fr::zero());
        Zeroizing::new(rows)
    });
    let constraints = matrices.constraints();
    a[constraints..constraints + matrices.inputs].copy_from_slice(&assignment[..matrices.inputs]);
    let products = a.par_iter().zip(&*b).map(|(a, b)| *a * b).collect();
    let mut c: Zeroizing<Vec<Fr>> = Zeroizing::new(products);
    for polynomial in [&mut a, &mut b, &mut c] {
        domain.ifft_in_place(&mut **polynomial);
        Radix2EvaluationDomain::distribute_powers(polynomial, double.group_gen);
        domain.fft_in_place(&mut **polynomial);
    }
    let scalar = |((a, b), c): ((&Fr, &Fr), &Fr)| (*a * b - c).into_bigint().0;
    Ok(Zeroizing::new(
        a.par_iter().zip(&*b).zip(&*c).map(scalar).collect(),
    ))
}
