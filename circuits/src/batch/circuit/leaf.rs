//! Opening a leaf to the current root and writing it back.
//!
//! children of each level → (selected child = hash so far) → node → … → old root; the same children with the selected one
//! replaced → … → new root

use super::wires::{combine, enforce_product, flag, minus, plus, private_input, product, witness};
use crate::field::{Word, power_of_two};
use crate::merkle::Path;
use crate::poseidon;
use ark_bn254::Fr;
use ark_ff::One;
use ark_r1cs_std::GR1CSVar;
use ark_r1cs_std::boolean::Boolean;
use ark_r1cs_std::fields::fp::FpVar;
use ark_relations::gr1cs::{ConstraintSystemRef, SynthesisError};
use ark_relations::ns;

/// Poseidon3(owner, token + nonce·2^32, balance), before `exists` decides.
pub fn hash(
    owner: &FpVar<Fr>,
    token: &FpVar<Fr>,
    nonce: &FpVar<Fr>,
    balance: &FpVar<Fr>,
) -> Result<FpVar<Fr>, SynthesisError> {
    let packed = combine(&[(Fr::one(), token), (power_of_two(32), nonce)]);
    poseidon::gadget::hash(&[owner.clone(), packed, balance.clone()])
}

/// A leaf's replacement in the tree.
pub struct Update<'a> {
    /// Position, little-endian bits, two for each level.
    pub index: &'a [Boolean<Fr>],
    /// Path with all children, as the prover claims them.
    pub path: &'a Path,
    /// The leaf that must be there.
    pub old_leaf: &'a FpVar<Fr>,
    /// The leaf to put there.
    pub new_leaf: &'a FpVar<Fr>,
}

impl Update<'_> {
    /// Checks the old leaf against `root` and gives the root after the write.
    pub fn apply(
        &self,
        cs: &ConstraintSystemRef<Fr>,
        root: &FpVar<Fr>,
    ) -> Result<FpVar<Fr>, SynthesisError> {
        let (mut old, mut new) = (self.old_leaf.clone(), self.new_leaf.clone());
        for (digit, children) in self.index.chunks_exact(2).zip(&self.path.levels) {
            let [low, high] = [flag(&digit[0]), flag(&digit[1])];
            let children = allocate_children(cs, digit, children)?;
            {
                let _ns = ns!(cs, "the child on the path is the hash below");
                enforce_selected(cs, &children, &low, &high, &old)?;
            }
            let replaced = {
                let _ns = ns!(cs, "only the child on the path changes");
                replace(cs, &children, &low, &high, &minus(&new, &old))?
            };
            old = poseidon::gadget::hash(&children)?;
            new = poseidon::gadget::hash(&replaced)?;
        }
        let _ns = ns!(cs, "the leaf is in the tree");
        super::wires::enforce_equal(cs, &old, root)?;
        Ok(new)
    }
}

/// The siblings are the prover's; the child on the path follows from below.
fn allocate_children(
    cs: &ConstraintSystemRef<Fr>,
    digit: &[Boolean<Fr>],
    children: &[Word; 4],
) -> Result<[FpVar<Fr>; 4], SynthesisError> {
    let position = usize::from(digit[0].value()?) + 2 * usize::from(digit[1].value()?);
    let allocate = |child: usize| {
        let place = if child == position {
            witness
        } else {
            private_input
        };
        place(cs, children[child].0)
    };
    Ok([allocate(0)?, allocate(1)?, allocate(2)?, allocate(3)?])
}

/// children[low + 2·high] = selected: three constraints.
fn enforce_selected(
    cs: &ConstraintSystemRef<Fr>,
    children: &[FpVar<Fr>; 4],
    low: &FpVar<Fr>,
    high: &FpVar<Fr>,
    selected: &FpVar<Fr>,
) -> Result<(), SynthesisError> {
    let pick =
        |a: &FpVar<Fr>, b: &FpVar<Fr>| product(cs, low, &minus(b, a)).map(|step| plus(a, &step));
    let lower = pick(&children[0], &children[1])?;
    let upper = pick(&children[2], &children[3])?;
    enforce_product(cs, high, &minus(&upper, &lower), &minus(selected, &lower))
}

/// Adds `change` to children[low + 2·high]: three constraints.
fn replace(
    cs: &ConstraintSystemRef<Fr>,
    children: &[FpVar<Fr>; 4],
    low: &FpVar<Fr>,
    high: &FpVar<Fr>,
    change: &FpVar<Fr>,
) -> Result<[FpVar<Fr>; 4], SynthesisError> {
    let in_upper = product(cs, high, change)?;
    let in_third = product(cs, low, &in_upper)?;
    let in_lower = minus(change, &in_upper);
    let in_first = product(cs, low, &in_lower)?;
    Ok([
        plus(&children[0], &minus(&in_lower, &in_first)),
        plus(&children[1], &in_first),
        plus(&children[2], &minus(&in_upper, &in_third)),
        plus(&children[3], &in_third),
    ])
}
