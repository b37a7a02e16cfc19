//! The limit of each configured client key, its own or the common one: one arrival time per key, so no client can
//! grow the table. Token subjects are not configured, see `per_subject.rs`.

use std::time::Instant;

use crate::ids::IdMap;
use crate::limiter::exported_limits::LimitTimes;
use crate::limiter::limit_clock::{LimitClock, Stop};
use crate::limiter::limit_status::{Allowed, LimitScope, LimitStatus};
use crate::limiter::peek::PeekedLimit;
use crate::limiter::settings::LimiterSettings;
use crate::limiter::tat::Tat;
use crate::limiter::timed_limit::{TimedLimit, reconfigure_all, table};
use crate::types::KeyId;

/// The limit and arrival time of each key; none without a limit.
#[derive(Debug)]
pub(crate) struct PerKeyState {
    clock: LimitClock,
    keys: IdMap<KeyId, Option<TimedLimit>>,
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
    pub(crate) fn new(settings: &LimiterSettings, now: Instant) -> Self {
        Self {
            clock: LimitClock::new(now),
            keys: table(&settings.keys),
            sends_headers: settings.sends_headers,
        }
    }

    /// Replaces the limits. Used tokens stay used; keys that the settings lack keep their limits.
    pub(super) fn reconfigure(&mut self, settings: &LimiterSettings, now: Instant) {
        // Keys have no leases.
        reconfigure_all(&mut self.keys, &settings.keys, 0, self.clock.nanos(now));
        self.sends_headers = settings.sends_headers;
    }

    /// Removes the limits of keys that no configuration has any more.
    pub(super) fn forget(&mut self, is_gone: impl Fn(KeyId) -> bool) {
        self.keys.retain(|key, _| !is_gone(key));
    }

    /// Checks a request of this cost.
    pub(crate) fn decide(&self, key: KeyId, cost: u32, now: Instant) -> Result<KeyCharge, LimitStatus> {
        let Some(timed) = self.keys.get(key).and_then(Option::as_ref) else {
            return Ok(KeyCharge { next: None, decided: 0, allowed: Allowed::default() });
        };
        let now = self.clock.nanos(now);
        let (next, allowed) =
            timed.gcra().check(LimitScope::Key, timed.tat, cost, self.sends_headers, now)?;
        Ok(KeyCharge { next, decided: now, allowed })
    }

    /// The limit of a key, without a charge; none without a limit.
    pub(super) fn peek(&self, key: KeyId, cost: u32, now: Instant) -> Option<PeekedLimit> {
        let timed = self.keys.get(key)?.as_ref()?;
        let now = self.clock.nanos(now);
        Some(PeekedLimit::of(LimitScope::Key, timed.gcra(), timed.tat, cost, now))
    }

    /// Charges what `decide` allowed.
    pub(crate) fn apply(&mut self, key: KeyId, charge: &KeyCharge) {
        if let (Some(next), Some(Some(timed))) = (charge.next, self.keys.get_mut(key)) {
            timed.charge(next, charge.decided);
        }
    }

    /// The times as they cross to a successor, see `LimiterState`.
    pub(super) fn export(&self, times: &mut LimitTimes, connections: u64, now: Instant) {
        let now = self.clock.nanos(now);
        let keys = self.keys.iter();
        let keys = keys.filter_map(|(id, timed)| Some((id, timed.as_ref()?.exported(connections, now))));
        times.keys = keys.collect();
    }

    /// Goes on from the times of a predecessor.
    pub(super) fn import(&mut self, times: &LimitTimes, now: Instant) {
        if times.is_lost {
            return self.rebuild(now);
        }
        let (received, now) = (times.received(now), self.clock.nanos(now));
        for (id, exported) in &times.keys {
            if let Some(Some(timed)) = self.keys.get_mut(*id) {
                timed.import(exported, received, now);
            }
        }
    }

    /// Keeps what a hand-over leaves to this process.
    pub(super) fn freeze(&mut self, connections: u64, now: Instant) {
        let Some(now) = self.clock.stop(connections, now) else { return };
        self.keys.values_mut().flatten().for_each(|timed| timed.freeze(connections, now));
    }

    /// Ends `freeze`.
    pub(super) fn thaw(&mut self, now: Instant) {
        let Some((stop, now)) = self.clock.resume(now) else { return };
        self.keys.values_mut().flatten().for_each(|timed| timed.thaw(stop, now));
    }

    /// Lowers what is left after `freeze`.
    pub(super) fn lower(&mut self, tokens: u64) {
        let Some(Stop { at, .. }) = self.clock.stopped() else { return };
        self.keys.values_mut().flatten().for_each(|timed| timed.lower(tokens, at));
    }

    /// Spends every key's burst as of now.
    pub(crate) fn rebuild(&mut self, now: Instant) {
        let now = self.clock.nanos(now);
        self.keys.values_mut().flatten().for_each(|timed| timed.rebuild(now));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_config::{LimitMode, RateLimit};

    use super::*;

    fn limit(burst: u32, mode: LimitMode) -> Option<RateLimit> {
        Some(RateLimit { requests_per_second: 10.0, burst: burst.try_into().unwrap(), mode })
    }

    /// L1, S5: each key has its own budget, and a crash spends all
    #[test]
    fn keys_have_budgets_of_their_own() {
        let t0 = crate::clock::now();
        let two = limit(2, LimitMode::Enforce);
        let mut state = PerKeyState::new(&LimiterSettings::of_keys(&[two, two]), t0);
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
        let settings = LimiterSettings { sends_headers: true, ..LimiterSettings::of_keys(&limits) };
        let mut state = PerKeyState::new(&settings, t0);
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
