//! Payment channels between real processes on anvil: separate `millrace` programs, real connections, the real contract. Each
//! test states the promise that it puts to the test.
//!
//! | module | what is done to the channels |
//! |---|---|
//! | `story` | nothing: open, pay both ways, deposit, withdraw, close, by commands |
//! | `kill` | either side is killed at random moments |
//! | `kill_locks` | the same under payments of invoices, with locks |
//! | `dispute` | closed by force, with an old state, with a tower alone |
//! | `lies` | a peer says what is not so |
//! | `reorg` | L1 forgets |
//! | `rails` | none leads to the payee: an invoice is paid on the rollup |
//! | `restore` | the data folder is lost |
//! | `wrong` | people and files that are wrong |
//!
//! `stage` and `party` are the verbs: deploy, start, kill, pay, wait.

mod dispute;
mod kill;
mod kill_locks;
mod lies;
mod party;
mod rails;
mod reorg;
mod restore;
mod stage;
mod story;
mod wrong;

/// Wei of one ETH.
const ETHER: u128 = 1_000_000_000_000_000_000;
