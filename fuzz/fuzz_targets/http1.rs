//! libFuzzer program of the target `http1`; its properties are in `src/listener/http1/fuzzing.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::fuzzing::http1(bytes));
