//! The limit of each client key: one arrival time per configured key, and so a table that no client can grow.

use std::time::Instant;

use tidegate_config::RateLimit;

use crate::limiter::gcra::{Gcra, Tat, nanos};
use crate::limiter::state::{Limited, Scope};
use crate::types::KeyId;

/// The limit and what each key has left of it.
#[derive(Debug)]
pub(crate) struct PerKeyState {
    origin: Instant,
    gcra: Option<Gcra>,
    keys: Vec<Tat>,
}

impl PerKeyState {
    pub(crate) fn new(limit: Option<RateLimit>, keys: usize, now: Instant) -> Self {
        Self { origin: now, gcra: limit.map(Gcra::new), keys: vec![0; keys] }
    }

    /// The key's next arrival time, or why it must wait.
    pub(crate) fn decide(&self, key: KeyId, now: Instant) -> Result<Tat, Limited> {
        let tat = self.keys.get(key.index()).copied().unwrap_or_default();
        let Some(gcra) = &self.gcra else { return Ok(tat) };
        gcra.next(tat, nanos(self.origin, now)).map_err(|wait| gcra.refuse(Scope::Key, wait))
    }

    /// Charges what `decide` allowed.
    pub(crate) fn apply(&mut self, key: KeyId, next: Tat) {
        if let Some(tat) = self.keys.get_mut(key.index()) {
            *tat = next;
        }
    }

    /// Every key's burst is spent as of now.
    pub(crate) fn rebuild(&mut self, now: Instant) {
        let spent = nanos(self.origin, now) + self.gcra.map_or(0, |gcra| gcra.tolerance);
        self.keys.fill(spent);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// L1, S5: each key has its own budget, and a crash is no amnesty
    #[test]
    fn keys_have_budgets_of_their_own() {
        let t0 = crate::clock::now();
        let limit = RateLimit { requests_per_second: 10.0, burst: 2.try_into().unwrap() };
        let mut state = PerKeyState::new(Some(limit), 2, t0);
        let mut take = |key, now, crash| {
            if crash {
                state.rebuild(now);
            }
            let next = state.decide(KeyId::new(key), now).map_err(|limited| limited.retry_after)?;
            state.apply(KeyId::new(key), next);
            Ok::<_, Duration>(())
        };
        assert_eq!((take(0, t0, false), take(0, t0, false)), (Ok(()), Ok(())));
        assert_eq!(take(0, t0, false), Err(Duration::from_millis(100)));
        assert_eq!(take(1, t0, false), Ok(()), "another key");
        assert_eq!(take(0, t0 + Duration::from_millis(100), false), Ok(()));
        assert!(take(1, t0 + Duration::from_millis(100), true).is_err(), "spent by the crash");
    }
}
