//! The limit of each configured client key, its own or the common one: one arrival time per key, so no client can
//! grow the table. Token subjects are not configured, see `per_subject.rs`.

use std::sync::Arc;
use std::time::Instant;

use tidegate_config::RateLimit;

use crate::clock::nanos_between;
use crate::limiter::burst_peaks::BurstPeak;
use crate::limiter::gcra::{Gcra, Tat};
use crate::limiter::limit_status::{Allowed, LimitScope, LimitStatus};
use crate::limiter::peek::PeekedLimit;
use crate::types::KeyId;

/// The limit and arrival time of each key; none without a limit.
#[derive(Debug)]
pub(crate) struct PerKeyState {
    origin: Instant,
    keys: Vec<Option<(Gcra, Tat)>>,
    /// The peak of each key with a limit.
    peaks: Arc<[Option<BurstPeak>]>,
    /// Whether admitted requests get rate-limit headers.
    sends_headers: bool,
}

/// The charge of one request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KeyCharge {
    /// None without a limit, and if a shadow limit would have refused.
    next: Option<Tat>,
    /// When it was decided, in nanoseconds.
    decided: u64,
    pub(crate) allowed: Allowed,
}

impl PerKeyState {
    pub(crate) fn new(limits: &[Option<RateLimit>], sends_headers: bool, now: Instant) -> Self {
        let keys: Vec<_> = limits.iter().map(|limit| limit.map(|limit| (Gcra::new(limit), 0))).collect();
        let peak = |limit: &Option<(Gcra, Tat)>| limit.as_ref().map(|(gcra, _)| BurstPeak::new(gcra));
        let peaks = keys.iter().map(peak).collect();
        Self { origin: now, keys, peaks, sends_headers }
    }

    /// The peaks of the bursts.
    pub(super) fn peaks(&self) -> &Arc<[Option<BurstPeak>]> {
        &self.peaks
    }

    /// Checks a request of this cost.
    pub(crate) fn decide(&self, key: KeyId, cost: u32, now: Instant) -> Result<KeyCharge, LimitStatus> {
        let limit = self.keys.get(key.index()).and_then(Option::as_ref);
        let Some((gcra, tat)) = limit else {
            return Ok(KeyCharge { next: None, decided: 0, allowed: Allowed::default() });
        };
        let now = nanos_between(self.origin, now);
        let (next, allowed) = gcra.check(LimitScope::Key, *tat, cost, self.sends_headers, now)?;
        Ok(KeyCharge { next, decided: now, allowed })
    }

    /// The limit of a key, without a charge; none without a limit.
    pub(super) fn peek(&self, key: KeyId, cost: u32, now: Instant) -> Option<PeekedLimit> {
        let (gcra, tat) = self.keys.get(key.index())?.as_ref()?;
        Some(PeekedLimit::of(LimitScope::Key, gcra, *tat, cost, nanos_between(self.origin, now)))
    }

    /// Charges what `decide` allowed.
    pub(crate) fn apply(&mut self, key: KeyId, charge: &KeyCharge) {
        if let (Some(next), Some(Some((_, tat)))) = (charge.next, self.keys.get_mut(key.index())) {
            *tat = next;
            self.peaks[key.index()].iter().for_each(|peak| peak.record(next, charge.decided));
        }
    }

    /// Spends every key's burst as of now.
    pub(crate) fn rebuild(&mut self, now: Instant) {
        let now = nanos_between(self.origin, now);
        for (gcra, tat) in self.keys.iter_mut().flatten() {
            *tat = now + gcra.tolerance;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_config::LimitMode;

    use super::*;

    fn limit(burst: u32, mode: LimitMode) -> Option<RateLimit> {
        Some(RateLimit { requests_per_second: 10.0, burst: burst.try_into().unwrap(), mode })
    }

    /// L1, S5: each key has its own budget, and a crash spends all
    #[test]
    fn keys_have_budgets_of_their_own() {
        let t0 = crate::clock::now();
        let two = limit(2, LimitMode::Enforce);
        let mut state = PerKeyState::new(&[two, two], false, t0);
        let mut charge_one = |key, now, crash| {
            if crash {
                state.rebuild(now);
            }
            let charge = state.decide(KeyId::new(key), 1, now).map_err(|refusal| refusal.retry_after)?;
            state.apply(KeyId::new(key), &charge);
            Ok::<_, Duration>(())
        };
        assert_eq!((charge_one(0, t0, false), charge_one(0, t0, false)), (Ok(()), Ok(())));
        assert_eq!(charge_one(0, t0, false), Err(Duration::from_millis(100)));
        assert_eq!(charge_one(1, t0, false), Ok(()), "another key");
        assert_eq!(charge_one(0, t0 + Duration::from_millis(100), false), Ok(()));
        assert!(charge_one(1, t0 + Duration::from_millis(100), true).is_err(), "spent by the crash");
    }

    /// L1, L6: keys differ in their limits and modes, and some have no limit
    #[test]
    fn keys_have_limits_of_their_own() {
        let t0 = crate::clock::now();
        let limits = [limit(7, LimitMode::Enforce), limit(7, LimitMode::Shadow), None];
        let mut state = PerKeyState::new(&limits, true, t0);
        let mut charge_one = |key, cost| {
            let charge = state.decide(KeyId::new(key), cost, t0);
            if let Ok(charge) = &charge {
                state.apply(KeyId::new(key), charge);
            }
            charge.map(|charge| charge.allowed)
        };
        assert_eq!(charge_one(0, 5).map(|allowed| allowed.tightest.unwrap().remaining), Ok(2));
        let refusal = charge_one(0, 5).unwrap_err();
        assert_eq!((refusal.remaining, refusal.retry_after), (2, Duration::from_millis(300)));
        assert_eq!(
            charge_one(0, 2).map(|allowed| allowed.tightest.unwrap().remaining),
            Ok(0),
            "the refusal charged nothing"
        );
        assert_eq!(charge_one(1, 5), Ok(Allowed::default()), "a shadow limit is not reported");
        let shadowed = charge_one(1, 5).unwrap().shadowed;
        assert_eq!(shadowed.len(), 1, "{shadowed:?}");
        let LimitStatus { scope, burst, remaining, retry_after, .. } = shadowed[0];
        assert_eq!((scope, burst, remaining), (LimitScope::Key, 7, 2));
        assert_eq!(retry_after, Duration::from_millis(300), "as the refusal of the other key");
        assert_eq!(charge_one(1, 2), Ok(Allowed::default()), "nor charged for what it would refuse");
        assert_eq!(charge_one(2, 1000), Ok(Allowed::default()));
    }
}
