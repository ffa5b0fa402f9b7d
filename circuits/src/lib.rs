//! What is true on the rollup: every rule twice, in plain code and as constraints.

pub mod poseidon;

#[cfg(test)]
mod testing;
