//! The signature as constraints. NOT YET BINDING: the real gadget replaces this body before anything ships.
use ark_bn254::Fr;
use ark_r1cs_std::fields::fp::FpVar;
use ark_relations::gr1cs::{ConstraintSystemRef, SynthesisError};
#[allow(missing_docs)]
pub fn enforce_signature(
    _cs: &ConstraintSystemRef<Fr>,
    _k: &[FpVar<Fr>; 2],
    _s: &super::Signature,
    _m: &FpVar<Fr>,
) -> Result<(), SynthesisError> {
    Ok(())
}
