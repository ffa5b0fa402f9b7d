//! What the chain enforces, and how the rest of the program talks to it.
//!
//! ```text
//! rollup, node ─→ rollup_client, channels_client ─→ sender ─┐
//!             └─→ events ──────────────────────────────────┴→ provider ─→ dev chain, in this process
//!                                                                      └→ any Ethereum JSON-RPC endpoint
//! ```
//!
//! | module | question |
//! |---|---|
//! | `devchain` | what is an L1 when there is none? |
//! | `provider` | how is an L1 reached? |
//! | `bindings` | what are the contracts' types? |
//! | `rollup_client` | what can be done with the rollup? |
//! | `channels_client` | what can be done with payment channels on chain? |
//! | `sender` | how does a transaction land exactly once? |
//! | `events` | what happened on L1, in order, through reorgs? |
//! | `testing` | how do tests get a real node? (feature `testing`) |

#![warn(clippy::unwrap_used)]

pub mod bindings;
pub mod channels_client;
pub mod devchain;
pub mod events;
pub mod provider;
pub mod rollup_client;
pub mod sender;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
