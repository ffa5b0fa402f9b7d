//! The whole rollup on the embedded L1 and on anvil, with the real contract and real proofs. Each test states the promise that
//! it puts to the test.
//!
//! | module | what is done to it |
//! |---|---|
//! | `money` | nothing: the way of money |
//! | `tokens` | ERC-20s with bad habits |
//! | `stranger` | the operator dies, somebody else goes on |
//! | `escape` | the operator dies, and nobody goes on |
//! | `reorg` | L1 forgets |
//! | `tamper` | someone lies to the contract |
//! | `kill` | the program is killed |
//! | `wallet` | people use it: every command of the wallet as a process |

mod escape;
mod kill;
mod money;
mod program;
mod reorg;
mod stranger;
mod tamper;
mod tokens;
mod wallet;

/// Wei of one ETH.
const ETHER: u128 = 1_000_000_000_000_000_000;
