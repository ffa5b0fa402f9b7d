//! The fast Groth16 backend: multi-scalar multiplications and transforms of our own, on arkworks' types at the edges.
//!
//! ```text
//! assignment → rows of A and B → quotient (6 transforms) → scalars ┐
//!            → scalars of the witness ─────────────────────────────┴→ digits, sorted once → 4 sums in G1, 1 in G2 → proof
//! ```
//!
//! | module | noun |
//! |---|---|
//! | [`kernel`] | field and curve arithmetic in lanes: portable, AVX-512 IFMA |
//! | [`point`] | points in memory |
//! | [`digits`] | scalars cut into digits, sorted |
//! | [`buckets`], [`window`] | sums of a window's points |
//! | [`msm`] | all windows of all point lists, on all threads |
//! | [`transform`], [`quotient`] | transforms; the quotient's scalars |
//! | [`backend`] | the whole proof |
//!
//! The kernel is chosen when the program runs. `unsafe` is only in `kernel/ifma/field.rs`, and
//! in `kernel/mulx.rs`.

pub mod backend;
pub mod buckets;
pub mod digits;
pub mod kernel;
pub mod msm;
pub mod point;
pub mod quotient;
pub mod transform;
pub mod window;

pub use backend::Fast;
