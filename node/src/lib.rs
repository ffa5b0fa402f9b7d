//! The node's library: everything that the `millrace` binary does.
//!
//! | module | question |
//! |---|---|
//! | [`config`] | what does this node do, and where? |
//! | [`wallet`] | how does a user hold keys, sign and leave? |
//! | [`api`] | how do others talk to the node? |
//! | [`wiring`] | what runs in one process, and in which order? |
//! | [`telemetry`] | what does it say about itself? |

pub mod api;
pub mod config;
pub mod telemetry;
pub mod wallet;
pub mod wiring;
