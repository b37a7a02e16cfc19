//! The atomics that `count.rs` uses.
//!
//! `actors/tests/loom.rs` includes `count.rs` next to a module of the same name that re-exports loom's types. So loom
//! checks the same source over all interleavings, without a second build of the crate.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
