//! libFuzzer program of the target `proxy_header`; its properties are in `src/fuzzing/`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::fuzzing::proxy_header(bytes));
