//! libFuzzer program of the target `sigv4`; its properties are in `src/fuzzing/`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::fuzzing::sigv4(bytes));
