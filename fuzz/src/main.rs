#![no_main]
//! libFuzzer's way into the target that the environment names. `scripts/fuzz` builds and runs it.

libfuzzer_sys::fuzz_target!(|input: &[u8]| alluvium_fuzz::run_chosen(input));
