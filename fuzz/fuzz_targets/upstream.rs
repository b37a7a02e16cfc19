//! libFuzzer program of the target `upstream`; its properties are in `src/upstream/exchange/fuzzing.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::fuzzing::upstream(bytes));
