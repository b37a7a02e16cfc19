//! The memory of the whole process for finished responses that still wait for their clients (`listener/send_buffer.rs`).

use std::sync::atomic::{AtomicU64, Ordering};

/// The reserved bytes of the whole process.
#[derive(Debug, Default)]
pub(crate) struct ReservedBytes(AtomicU64);

impl ReservedBytes {
    pub(crate) fn try_add(&self, bytes: u64, limit: u64) -> bool {
        let add = |reserved: u64| reserved.checked_add(bytes).filter(|sum| *sum <= limit);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    pub(crate) fn subtract(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The bytes that are reserved now.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
