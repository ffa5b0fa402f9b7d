//! Who orders it: admission, sequencing, state, batch log, L1 posting and following, recovery.
//!
//! ```text
//! submit → admission (signature) → engine: mempool → executor → group commit → acknowledgement
//!                                     └ seal → planned batch → hashing, witness → Sealed
//! Sealed → poster: commit → Committed → proof (from outside) → prove → Proven → L1 depth → Finalised
//! L1 → synchronizer: queue requests, tokens, commits, proofs, drops → engine
//! L1 alone → recovery → state
//! ```
//!
//! | module | noun |
//! |---|---|
//! | [`store`] | the database: bytes, formats, questions |
//! | [`state`] | accounts and tree as of the last sealed batch, and the leaves of what is pending |
//! | [`mempool`] | transactions that cannot run yet: gaps, waiting partners |
//! | [`engine`] | the one owner of the state: decides what runs and what is sealed |
//! | [`batch_log`] | batches by stage |
//! | [`handle`] | the handle that everything else talks to; group commit |
//! | [`l1`] | posting to L1 and following it |
//! | [`receipt`] | the operator's signed word that a transaction is durable |
//! | [`snapshot`] | all accounts at a proven root, in a file checked by hashing |
//! | [`mod@bench`] | how fast transactions are taken |
//! | [`events`] | numbered, durable events |
//! | [`fees`] | fee floors and fee leaves |

#![warn(clippy::unwrap_used)]

pub mod batch_log;
pub mod bench;
pub mod engine;
pub mod events;
pub mod fees;
pub mod handle;
pub mod l1;
pub mod mempool;
pub mod receipt;
pub mod snapshot;
pub mod state;
pub mod store;

pub use handle::{Rollup, RollupTask};
