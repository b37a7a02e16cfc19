//! A panic on demand in the handling of a request (E3). Panics of actors are in `actors/src/chaos.rs`.
//!
//! The request panics while it holds its slot, its permit of the bucket's gate, and its body. Only the admin listener
//! arms the panic, and only with `admin.chaos = true`. A request that does not panic costs one atomic load.

use std::sync::atomic::{AtomicBool, Ordering};

/// The switch: the next request panics if it is armed.
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
