//! libFuzzer program of the target `http2`; its properties are in `src/listener/http2/fuzzing.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::fuzzing::http2(bytes));
