//! Two machines, every choice of what happens to them from the fuzzer's bytes: see `millrace_sim::pair`.
#![no_main]

use millrace_sim::pair::Pair;

/// Longer lives find nothing that short ones do not.
const STEPS: usize = 400;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| Pair::live_by(bytes, STEPS));
