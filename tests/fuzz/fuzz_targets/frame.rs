//! See `bodies::frame`.
#![no_main]

#[path = "../src/bodies.rs"]
#[allow(dead_code, reason = "one body a target")]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::frame(bytes));
