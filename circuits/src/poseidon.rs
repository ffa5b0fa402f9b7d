//! Poseidon with circomlib's parameters: the one hash of leaves, tree nodes, owners, messages and batch data.
//!
//! ```text
//! inputs (1..=16) → state = [0, inputs…] → 4 full rounds → R_P partial rounds → 4 full rounds → state[0]
//! ```
//!
//! A full round adds constants, raises every element to the fifth power and multiplies by a dense matrix; a partial
//! round raises only the first element. [`native`] computes the hash, [`gadget`] constrains it, and both take their
//! numbers from [`parameters`].
//!
//! # Constraint budget
//! Every S-box costs three constraints and everything else is linear. The first round has `N` of them (the capacity is
//! a constant), the seven other full rounds `N + 1` each and each partial round one, so the cost is
//! `3 · (N + 7·(N + 1) + R_P)`:
//!
//! | inputs | 1 | 2 | 3 | 4 | 5 | 6 | 8 | 12 | 16 |
//! |---|---|---|---|---|---|---|---|---|---|
//! | constraints | 213 | 240 | 261 | 297 | 321 | 354 | 402 | 504 | 609 |

pub mod gadget;
pub mod native;
pub mod parameters;
mod wide;

pub use native::hash;

#[cfg(test)]
mod tests;
