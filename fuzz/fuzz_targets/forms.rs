//! libFuzzer program of the target `forms`; its properties are in `src/fuzzing/`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::fuzzing::forms(bytes));
