//! The fast path: payment channels of two single-writer halves.
//!
//! `types → state (bytes on chain) → digest (EIP-712) → signing → message → machine (pure) → store, at the rim`
//!
//! `docs/channels.md` is the protocol; the module that implements a part holds its text.

pub mod digest;
pub mod invoice;
pub mod machine;
pub mod message;
#[cfg(feature = "node")]
pub mod node;
pub mod onion;
pub mod policy;
pub mod routing;
pub mod signing;
pub mod state;
#[cfg(feature = "store")]
pub mod store;
#[cfg(feature = "transport")]
pub mod transport;
pub mod types;
pub mod watchtower;
pub mod wire;
