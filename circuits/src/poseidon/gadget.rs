//! Poseidon as constraints.
