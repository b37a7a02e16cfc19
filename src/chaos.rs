//! A panic on demand in the handling of a request (E3), beside those of actors (`actors/src/chaos.rs`).
//!
//! It strikes a request that holds all that one can hold: its slot, its place in the bucket's gate, and its body. Only the admin
//! listener arms it, and only with `admin.chaos = true`; otherwise it costs a request one load.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the next request is to panic.
#[derive(Debug, Default)]
pub(crate) struct Chaos {
    armed: AtomicBool,
}

impl Chaos {
    pub(crate) fn arm(&self) {
        self.armed.store(true, Ordering::Relaxed);
    }

    /// Panics if armed, once.
    #[expect(clippy::panic, reason = "a chaos panic is a real panic")]
    pub(crate) fn panic_if_armed(&self) {
        if self.armed.load(Ordering::Relaxed) && self.armed.swap(false, Ordering::Relaxed) {
            panic!("chaos panic in a request");
        }
    }
}
