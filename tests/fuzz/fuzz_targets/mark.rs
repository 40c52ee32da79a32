//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz mark`
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    targets::mark(bytes);
});
