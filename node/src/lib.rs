//! The node's library: everything that the `millrace` binary does.
//!
//! | module | question |
//! |---|---|
//! | [`config`] | what does this node do, and where? |

pub mod config;
