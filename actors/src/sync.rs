//! The atomics that `count.rs` is written against.
//!
//! `tests/loom.rs` includes `count.rs` beside a module of this name that re-exports loom's types, so the
//! very same source is model-checked over all interleavings without a second build of the crate.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
