//! Panics on demand: in the handling of a request (E3), and in an upgrade (G8). Panics of actors are in `actors/src/chaos.rs`.
//!
//! A request panics while it holds its slot, its permit of the bucket's gate, and its body. Only the admin listener
//! arms a panic, and only with `admin.chaos = true`. A request that does not panic costs one atomic load.

use std::sync::atomic::{AtomicBool, Ordering};

/// The switches: the next request panics if its switch is armed, the next upgrade at the place that is armed.
#[derive(Debug, Default)]
pub(crate) struct Chaos {
    request: AtomicBool,
    hand_over: AtomicBool,
    accept: AtomicBool,
}

/// Where an upgrade panics.
#[derive(Debug, Clone, Copy)]
pub(crate) enum UpgradeCrash {
    /// Nothing is accepted, and the successor has the state.
    HandOver,
    /// The successor is noted as the process that serves, and is about to get `accept`.
    Accept,
}

impl UpgradeCrash {
    /// The place with this name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "hand_over" => Some(Self::HandOver),
            "accept" => Some(Self::Accept),
            _ => None,
        }
    }
}

impl Chaos {
    pub(crate) fn arm_request(&self) {
        self.request.store(true, Ordering::Relaxed);
    }

    pub(crate) fn arm_upgrade(&self, place: UpgradeCrash) {
        self.of_upgrade(place).store(true, Ordering::Relaxed);
    }

    fn of_upgrade(&self, place: UpgradeCrash) -> &AtomicBool {
        match place {
            UpgradeCrash::HandOver => &self.hand_over,
            UpgradeCrash::Accept => &self.accept,
        }
    }

    /// Panics in a request if armed, once.
    #[expect(clippy::panic, reason = "a chaos panic is a real panic")]
    pub(crate) fn panic_in_request(&self) {
        if is_due(&self.request) {
            panic!("chaos panic in a request");
        }
    }

    /// Panics in an upgrade if armed, once.
    #[expect(clippy::panic, reason = "a chaos panic is a real panic")]
    pub(crate) fn panic_in_upgrade(&self, place: UpgradeCrash) {
        if is_due(self.of_upgrade(place)) {
            panic!("chaos panic in an upgrade");
        }
    }
}

fn is_due(armed: &AtomicBool) -> bool {
    armed.load(Ordering::Relaxed) && armed.swap(false, Ordering::Relaxed)
}
