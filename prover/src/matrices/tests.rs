//! Rows are canonical, and the identity names the content.

use super::*;
use crate::circuit::Circuit;

fn fr(value: i64) -> Fr {
    Fr::from(value)
}

#[test]
fn rows_are_sorted_merged_and_without_zeros() {
    let row = vec![(fr(2), 5), (fr(1), 3), (fr(-2), 5), (fr(0), 1), (fr(4), 3)];
    assert_eq!(canonical_row(row), vec![(fr(5), 3)]);
    assert_eq!(canonical_row(vec![]), vec![]);
}

#[test]
fn equal_content_has_equal_identity_whatever_the_order_of_terms() {
    let matrices = |rows: Vec<Matrix<Fr>>| Interner::default().intern(rows, 1, 3).unwrap();
    let one = matrices(vec![
        vec![vec![(fr(1), 1), (fr(2), 2)]],
        vec![vec![(fr(3), 0)]],
        vec![vec![]],
    ]);
    let same = matrices(vec![
        vec![vec![(fr(2), 2), (fr(1), 1)]],
        vec![vec![(fr(3), 0)]],
        vec![vec![]],
    ]);
    let moved = matrices(vec![
        vec![vec![(fr(1), 1)]],
        vec![vec![(fr(2), 2), (fr(3), 0)]],
        vec![vec![]],
    ]);
    assert_eq!(one.identity(), same.identity());
    assert_ne!(one.identity(), moved.identity());
}

#[test]
fn identities_are_pinned() {
    let identity = Circuit::Chain(3).matrices().unwrap().identity();
    assert_eq!(identity, Circuit::Chain(3).matrices().unwrap().identity());
    assert_ne!(identity, Circuit::Chain(4).matrices().unwrap().identity());
    assert_eq!(
        identity.to_string(),
        "979bae9afe318e4c63e7a76cf9546ff7ea53d29ed615afadf772744cae709d8a"
    );
    assert_eq!(identity.to_string().parse(), Ok(identity));
    assert!("xyz".parse::<CircuitIdentity>().is_err());
}

#[test]
fn expanded_matrices_evaluate_alike() {
    let matrices = Circuit::Chain(5).matrices().unwrap();
    let assignment: Vec<Fr> = (0..matrices.variables() as i64)
        .map(|i| fr(i * i + 1))
        .collect();
    for m in 0..3 {
        let expected: Vec<Fr> = matrices
            .expanded(m)
            .iter()
            .map(|row| row.iter().map(|(c, column)| *c * assignment[*column]).sum())
            .collect();
        assert_eq!(matrices.evaluate(m, &assignment), expected);
    }
    assert_eq!(matrices.nonzeros_per_constraint()[2], 1.0);
}

#[test]
fn limbs_read_back() {
    let limbs = [1, u64::MAX, 0, 0x0123_4567_89ab_cdef];
    assert_eq!(montgomery_limbs(&montgomery_bytes(&limbs)), limbs);
}
