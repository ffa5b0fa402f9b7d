//! Ways to a payee: what nodes tell each other, what we make of it, and the parts of a payment.
//!
//! ```text
//! gossip.rs (messages, signatures) → graph.rs (proven by L1, in order, bounded) ┐
//! outcomes of payments → liquidity.rs (what a channel can carry)                ├→ route.rs → payment.rs → NewPayment
//! own channels, an invoice's hints                                              ┘
//! ```
//!
//! `router.rs` is all of it as one machine for the runtime. All of it is pure: times and L1's answers are arguments.

pub mod gossip;
pub mod graph;
pub mod liquidity;
pub mod payment;
pub mod route;
pub mod router;
