//! The scalars are those of the definition: (A·B − C) at the odd points.

use super::*;
use crate::chain::Chain;
use crate::circuit::{Circuit, Statement};
use ark_ff::PrimeField;
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};

fn expected(matrices: &ConstraintMatrices, assignment: &[Fr]) -> Vec<[u64; 4]> {
    let size = matrices.domain();
    let domain = Radix2EvaluationDomain::<Fr>::new(size).unwrap();
    let coset = domain
        .get_coset(Fr::get_root_of_unity(2 * size as u64).unwrap())
        .unwrap();
    let [a, b, c] = [0, 1, 2].map(|matrix| {
        let mut rows = matrices.evaluate(matrix, assignment);
        if matrix == 0 {
            rows.extend(&assignment[..matrices.inputs]);
        }
        rows.resize(size, Fr::zero());
        coset.fft(&domain.ifft(&rows))
    });
    let bits = size.trailing_zeros();
    let scalar = |i: usize| (a[i] * b[i] - c[i]).into_bigint().0;
    (0..size).map(|i| scalar(reverse(i, bits))).collect()
}

#[test]
fn scalars_are_those_of_the_definition() {
    for links in [0, 1, 20, 57, 58, 1000] {
        let matrices = Circuit::Chain(links).matrices().unwrap();
        let assignment = Statement::Chain(Chain::new(links, 3)).assign().unwrap();
        let want = expected(&matrices, assignment.values());
        let portable = prepare(PortableScalars, matrices.domain()).unwrap();
        assert_eq!(
            *portable.scalars(&matrices, assignment.values()),
            want,
            "{links}"
        );
        #[cfg(target_arch = "x86_64")]
        if let Some(token) = crate::fast::kernel::ifma::Ifma::detect() {
            let kernel = crate::fast::kernel::ifma::IfmaScalars(token);
            let lanes = prepare(kernel, matrices.domain()).unwrap();
            assert_eq!(
                *lanes.scalars(&matrices, assignment.values()),
                want,
                "{links}"
            );
        }
    }
}

#[test]
fn domains_beyond_the_field_are_refused() {
    assert!(prepare(PortableScalars, 1 << 29).is_err());
}
