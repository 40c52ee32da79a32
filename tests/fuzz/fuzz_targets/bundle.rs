//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz bundle`
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    targets::bundle(bytes);
});
