//! The logins by form that wait for the rest of their bodies.
//!
//! Their clients have shown no token, so only a few may wait at the same time. The others get 503 at once: clients without a token can
//! occupy only these connections. A login by `Authorization` does not count.

use std::cell::Cell;
use std::rc::Rc;

/// The most pending logins.
pub(super) const PENDING_MAX: usize = 4;

/// The number of pending logins, and its maximum.
#[derive(Debug)]
pub(super) struct PendingLogins {
    count: Rc<Cell<usize>>,
    max: usize,
}

/// The place of one pending login. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct PendingLogin(Rc<Cell<usize>>);

impl PendingLogins {
    /// At most half of the listener's connections, and one login in any case.
    pub(super) fn new(connections_max: usize) -> Self {
        Self { count: Rc::default(), max: (connections_max / 2).clamp(1, PENDING_MAX) }
    }

    /// A place, or none if all are taken.
    pub(super) fn acquire(&self) -> Option<PendingLogin> {
        let count = self.count.get();
        if count >= self.max {
            return None;
        }
        self.count.set(count + 1);
        Some(PendingLogin(Rc::clone(&self.count)))
    }
}

impl Drop for PendingLogin {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X3: the places are limited, and a dropped one is free for the next login
    #[test]
    fn places_are_limited_and_freed() {
        for (connections_max, max) in [(1, 1), (2, 1), (4, 2), (8, 4), (64, 4), (1024, 4)] {
            let logins = PendingLogins::new(connections_max);
            let mut pending: Vec<_> = (0..max).map(|_| logins.acquire().unwrap()).collect();
            assert!(logins.acquire().is_none(), "{connections_max}");
            pending.pop();
            pending.push(logins.acquire().unwrap());
            assert!(logins.acquire().is_none(), "{connections_max}");
        }
    }
}
