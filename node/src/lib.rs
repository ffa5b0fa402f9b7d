//! The node's library: everything that the `millrace` binary does.
//!
//! | module | question |
//! |---|---|
//! | [`config`] | what does this node do, and where? |
//! | [`wallet`] | how does a user hold keys, sign and leave? |

pub mod config;
pub mod wallet;
