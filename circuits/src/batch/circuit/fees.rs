//! Fee leaves: existing accounts, named in the header, that gather the batch's fees by token.
//!
//! index bits → header word; rows' (token, fee) → sum per leaf → leaf opened and written back at the end of the batch
//!
//! # Soundness
//! A row with a fee must match exactly one leaf, so two leaves of one token cannot both take the same fee. An unused slot has
//! index 0 and takes the token 2^32, which no row has.

use super::leaf::{self, Update};
use super::row::RowVar;
use super::wires::{
    UnsignedVar, combine, complement, enforce_zero_product, is_zero, minus, plus, private_input,
    product, unsigned,
};
use crate::batch::witness::BatchWitness;
use crate::field::power_of_two;
use crate::merkle::Path;
use ark_bn254::Fr;
use ark_ff::{One, Zero};
use ark_r1cs_std::fields::fp::FpVar;
use ark_relations::gr1cs::{ConstraintSystemRef, SynthesisError};
use ark_relations::ns;

/// A fee leaf as it is opened.
pub struct FeeLeafVar {
    index: UnsignedVar,
    exists: FpVar<Fr>,
    owner: FpVar<Fr>,
    token: FpVar<Fr>,
    nonce: FpVar<Fr>,
    balance: FpVar<Fr>,
    path: Path,
}

/// Allocates the fee leaves: fields ranged, and all zero where the slot is unused.
pub fn allocate(
    cs: &ConstraintSystemRef<Fr>,
    batch: &BatchWitness,
) -> Result<Vec<FeeLeafVar>, SynthesisError> {
    batch
        .fees
        .iter()
        .enumerate()
        .map(|(slot, opened)| {
            let index = batch
                .data
                .header
                .fee_leaves
                .get(slot)
                .copied()
                .unwrap_or_default();
            let account = opened.leaf.account.as_ref();
            let index = unsigned(cs, index.get().into(), 24)?;
            let unused = is_zero(cs, &index.value)?;
            let token = unsigned(cs, account.map_or(0, |a| a.token.get().into()), 32)?.value;
            let nonce = unsigned(cs, account.map_or(0, |a| a.nonce.get().into()), 40)?.value;
            let owner = private_input(cs, account.map_or(Fr::zero(), |a| a.owner.0))?;
            let balance = private_input(cs, account.map_or(Fr::zero(), |a| a.balance.into()))?;
            let _ns = ns!(cs, "an unused fee leaf has no fields");
            for field in [&owner, &token, &nonce, &balance] {
                enforce_zero_product(cs, &unused, field)?;
            }
            let path = opened.leaf.path.clone();
            Ok(FeeLeafVar {
                index,
                exists: complement(&unused),
                owner,
                token,
                nonce,
                balance,
                path,
            })
        })
        .collect()
}

/// Σ index_k·2^(24k).
pub fn indices_word(leaves: &[FeeLeafVar]) -> FpVar<Fr> {
    let terms: Vec<_> = leaves
        .iter()
        .enumerate()
        .map(|(slot, leaf)| (power_of_two(24 * slot as u32), &leaf.index.value))
        .collect();
    combine(&terms)
}

/// Gathers the rows' fees and credits each leaf; gives the root after it.
pub fn pay(
    cs: &ConstraintSystemRef<Fr>,
    leaves: &[FeeLeafVar],
    rows: &[RowVar],
    mut root: FpVar<Fr>,
) -> Result<FpVar<Fr>, SynthesisError> {
    let mut sums = vec![FpVar::Constant(Fr::zero()); leaves.len()];
    for row in rows {
        let mut matches = FpVar::Constant(Fr::zero());
        for (leaf, sum) in leaves.iter().zip(&mut sums) {
            let outside = combine(&[(power_of_two(32), &complement(&leaf.exists))]);
            let token = plus(&leaf.token, &outside);
            let same = is_zero(cs, &minus(&row.token, &token))?;
            *sum = plus(sum, &product(cs, &same, &row.fee)?);
            matches = plus(&matches, &same);
        }
        let _ns = ns!(cs, "a fee has exactly one fee leaf");
        let surplus = minus(&matches, &FpVar::Constant(Fr::one()));
        enforce_zero_product(cs, &surplus, &row.fee)?;
    }
    for (leaf, sum) in leaves.iter().zip(&sums) {
        let hash = |balance| leaf::hash(&leaf.owner, &leaf.token, &leaf.nonce, balance);
        let old = product(cs, &leaf.exists, &hash(&leaf.balance)?)?;
        let new = product(cs, &leaf.exists, &hash(&plus(&leaf.balance, sum))?)?;
        let _ns = ns!(cs, "fee leaf");
        let update = Update {
            index: &leaf.index.bits,
            path: &leaf.path,
            old_leaf: &old,
            new_leaf: &new,
        };
        root = update.apply(cs, &root)?;
    }
    Ok(root)
}
