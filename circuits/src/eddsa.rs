//! EdDSA-Poseidon over BabyJubjub, as circomlibjs and `@zk-kit/eddsa-poseidon` sign it.
//!
//! ```text
//! secret → BLAKE-512 → scalar s, A = (s/8)·Base8;  message M → r → R8 = r·Base8
//! h = Poseidon5(R8, A, M),  S = r + h·s,  accepted if S·Base8 = R8 + h·(8·A)
//! ```
//!
//! [`native`] signs and verifies, [`gadget`] constrains. Both refuse the same: A or R8 off the curve, A of low order
//! (8·A is the identity), S ≥ l. A key with a torsion part is accepted by both, because 8·A removes it; an R8 with one
//! is refused by both.

pub mod gadget;
pub mod native;

pub use native::{SecretKey, Signature, verify};

#[cfg(test)]
mod tests;
