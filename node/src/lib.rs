//! The node's library: everything that the `millrace` binary does.
//!
//! | module | question |
//! |---|---|
//! | [`cli`], [`output`] | what does the user type, and read? |
//! | [`config`] | what does this node do, and where? |
//! | [`wiring`] | how do its parts run together? |
//! | [`api`] | how do others talk to the node? |
//! | [`telemetry`] | what does it say about itself? |
//! | [`wallet`] | how does a user hold keys, sign and leave? |
//! | [`demo`] | how does all of it look once through? |

#![warn(clippy::unwrap_used)]

pub mod api;
pub mod cli;
pub mod config;
pub mod demo;
pub mod output;
pub mod telemetry;
pub mod wallet;
pub mod wiring;
