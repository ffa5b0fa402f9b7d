//! A user's wallet: keys, what belongs to them, and what they signed.
//!
//! ```text
//! mnemonic, or L1 key ─→ keys ─→ keystore (encrypted file)
//!                          │
//!        book (accounts, owner preimages) ← sync: node, or L1 alone
//!                          │
//!        journal (signed, durable) → submit → node;   l1: deposit, exits, claims → contract
//! ```
//!
//! | module | question |
//! |---|---|
//! | [`keys`] | which keys does a mnemonic or an L1 key give? |
//! | [`keystore`] | how do secrets lie on disk? |
//! | [`book`] | which accounts are mine, and what opens their owners? |
//! | [`journal`] | what did I sign, so that nothing is paid twice? |
//! | [`amounts`] | how do people write amounts? |
//! | [`payments`] | how is something paid once, and swapped at once? |
//! | [`node_client`] | how is a node asked? |
//! | [`escape`] | what does L1 alone say that I own? |
//! | [`contract`] | what do users do on L1? |
//! | [`files`] | how is a file replaced without ever being half written? |

pub mod amounts;
pub mod book;
pub mod contract;
pub mod escape;
pub mod files;
pub mod journal;
pub mod keys;
pub mod keystore;
pub mod node_client;
pub mod payments;

pub use book::{Book, BookAccount, BookError};
pub use journal::{Journal, JournalError, Outcome, Signed};
pub use keys::{KeySource, KeysError, Phrase, RollupIdentity, UserKeys};
pub use keystore::{Keystore, KeystoreError};
