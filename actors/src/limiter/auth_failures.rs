//! Limits failed authentications per client address (L8), against guessing.
//!
//! Failures are charged; successes cost nothing. The failure that uses up the burst *locks the client out* until one
//! more would fit. The lockout is published, so the client's requests are refused before anything is verified and
//! without an ask; other clients pay one atomic load. Requests that are verified at the time of the lockout are not
//! aborted. If they fail, their answer is the limit and not the cause of the failure.
//!
//! Clients beyond the table's maximum share a budget, and it locks out none of them, because one must not be locked
//! out for another. The same holds for the first failure of a client that gets its own slot while the shared budget
//! is in use.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::limiter::client_limits::{ClientLimits, LimitedClient};
use crate::limiter::exported_limits::LimitTimes;
use crate::limiter::limit_status::{Allowed, LimitScope, LimitStatus};
use crate::limiter::settings::LimiterSettings;
use crate::limiter::table::TatSlot;
use crate::limiter::tat::Tat;
use crate::types::IpKey;

/// The limit and the arrival time of each client.
#[derive(Debug)]
pub(crate) struct AuthFailuresState {
    pub(super) clients: ClientLimits<IpKey>,
}

/// The decision about a failure.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum LockoutDecision {
    /// The failure is charged.
    Charge(FailureCharge),
    /// The failure is not charged: there is no limit, or a shadow limit that would have refused.
    NoCharge(Allowed),
}

/// The charge of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FailureCharge {
    slot: TatSlot<IpKey>,
    next: Tat,
    /// How long the client is locked out by it.
    pub(crate) locked_out_for: Option<Duration>,
}

impl AuthFailuresState {
    pub(crate) fn new(settings: &LimiterSettings, now: Instant) -> Self {
        Self { clients: ClientLimits::new(settings.failed_auth.as_ref(), settings.clients_max, now) }
    }

    /// Replaces the limit. Charged failures stay charged. Returns whether the times of clients have changed.
    pub(super) fn reconfigure(&mut self, settings: &LimiterSettings, now: Instant) -> bool {
        // Failures have no leases.
        self.clients.reconfigure(settings.failed_auth.as_ref(), settings.clients_max, 0, now)
    }

    /// The time until one more failure of a client fits; none if it fits now.
    pub(super) fn wait(&self, client: IpKey, now: Instant) -> Option<Duration> {
        wait(&self.clients.client(client, now)?)
    }

    /// The clients that have used up their own burst, and the time until one more failure of each fits.
    pub(super) fn waits(&self, now: Instant) -> impl Iterator<Item = (IpKey, Duration)> {
        self.clients.own(now).filter_map(|(client, limited)| Some((client, wait(&limited)?)))
    }

    /// Checks one more failure of a client.
    pub(crate) fn decide(&self, client: IpKey, now: Instant) -> Result<LockoutDecision, LimitStatus> {
        let Some(LimitedClient { gcra, slot, tat, now }) = self.clients.client(client, now) else {
            return Ok(LockoutDecision::NoCharge(Allowed::default()));
        };
        let next = match gcra.next_tat(tat, 1, now) {
            Ok(next) => next,
            Err(wait) => {
                let refusal = gcra.status(LimitScope::FailedAuth, tat, wait, now);
                let shadowed = || LockoutDecision::NoCharge(Allowed::shadowed(refusal));
                return if gcra.is_shadow() { Ok(shadowed()) } else { Err(refusal) };
            }
        };
        let is_shared = self.clients.table.is_shared(slot, now);
        let wait = if is_shared { None } else { gcra.next_tat(next, 1, now).err() };
        Ok(LockoutDecision::Charge(FailureCharge {
            slot,
            next,
            locked_out_for: wait.map(Duration::from_nanos),
        }))
    }

    /// Charges what `decide` decided.
    pub(crate) fn apply(&mut self, charge: FailureCharge, now: Instant) {
        self.clients.charge(charge.slot, charge.next, now);
    }

    /// Goes on from the times of a predecessor.
    pub(super) fn import(&mut self, times: &LimitTimes, now: Instant) {
        if times.is_lost {
            return self.clients.rebuild(now);
        }
        self.clients.import(times.failed_auth.as_ref(), times.received(now), now);
    }
}

/// The time until one more failure of a client fits; none if it fits now.
fn wait(client: &LimitedClient<'_, IpKey>) -> Option<Duration> {
    client.gcra.next_tat(client.tat, 1, client.now).err().map(Duration::from_nanos)
}

/// The published lockouts, readable on every thread.
#[derive(Debug)]
pub(crate) struct AuthLockout {
    count: AtomicUsize,
    clients: Mutex<LockedOutClients>,
}

#[derive(Debug, Default)]
struct LockedOutClients {
    until: HashMap<IpKey, Instant, ahash::RandomState>,
    sweep: VecDeque<IpKey>,
    clients_max: usize,
}

impl AuthLockout {
    pub(crate) fn new(clients_max: usize) -> Self {
        let clients = LockedOutClients { clients_max, ..LockedOutClients::default() };
        Self { count: AtomicUsize::new(0), clients: Mutex::new(clients) }
    }

    /// Changes the maximum number of clients.
    pub(super) fn set_capacity(&self, clients_max: usize) {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).clients_max = clients_max;
    }

    /// Moves the end of each lockout to `wait` from now on; none ends it.
    pub(super) fn update(&self, wait: impl Fn(IpKey) -> Option<Duration>, now: Instant) {
        let mut locked = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let LockedOutClients { until, sweep, .. } = &mut *locked;
        until.retain(|client, until| {
            let wait = wait(*client).filter(|_| *until > now);
            *until = now + wait.unwrap_or_default();
            wait.is_some()
        });
        sweep.retain(|client| until.contains_key(client));
        self.count.store(until.len(), Ordering::Relaxed);
    }

    /// The clients that are locked out, and until when.
    pub(super) fn all(&self, now: Instant) -> Vec<(IpKey, Instant)> {
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = clients.until.iter().map(|(client, until)| (*client, *until));
        ends.filter(|(_, until)| *until > now).collect()
    }

    /// Remaining lockout of a client.
    pub(crate) fn remaining(&self, client: IpKey, now: Instant) -> Option<Duration> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let until = clients.until.get(&client)?;
        Some(until.saturating_duration_since(now)).filter(|remaining| !remaining.is_zero())
    }

    /// Locks a client out. Each call checks the two oldest entries and removes those that have ended.
    pub(crate) fn lock_out(&self, client: IpKey, until: Instant, now: Instant) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..2 {
            let Some(oldest) = clients.sweep.pop_front() else { break };
            if clients.until.get(&oldest).is_some_and(|until| *until <= now) {
                clients.until.remove(&oldest);
            } else {
                clients.sweep.push_back(oldest);
            }
        }
        let known = clients.until.contains_key(&client);
        if known || clients.until.len() < clients.clients_max {
            clients.until.insert(client, until);
            if !known {
                clients.sweep.push_back(client);
            }
        }
        self.count.store(clients.until.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tidegate_config::{LimitMode, RateLimit};

    use super::*;
    use crate::limiter::settings::ConfiguredLimit;

    const MS: Duration = Duration::from_millis(1);

    fn settings(limit: RateLimit, clients_max: usize) -> LimiterSettings {
        let failed_auth = Some(ConfiguredLimit::new(limit));
        LimiterSettings { failed_auth, ..LimiterSettings::unlimited(clients_max) }
    }

    fn state(clients_max: usize, now: Instant) -> AuthFailuresState {
        let limit =
            RateLimit { requests_per_second: 1.0, burst: 3.try_into().unwrap(), mode: LimitMode::Enforce };
        AuthFailuresState::new(&settings(limit, clients_max), now)
    }

    fn fail(
        state: &mut AuthFailuresState,
        client: u32,
        now: Instant,
    ) -> Result<Option<Duration>, LimitStatus> {
        let LockoutDecision::Charge(charge) = state.decide(IpKey::V4(client), now)? else {
            panic!("the failure was not charged")
        };
        state.apply(charge, now);
        Ok(charge.locked_out_for)
    }

    /// L8
    #[test]
    fn the_failure_that_uses_up_the_burst_locks_the_client_out() {
        let t0 = crate::clock::now();
        let mut state = state(10, t0);
        assert_eq!((fail(&mut state, 1, t0), fail(&mut state, 1, t0)), (Ok(None), Ok(None)));
        assert_eq!(fail(&mut state, 1, t0), Ok(Some(1000 * MS)));
        assert_eq!(fail(&mut state, 1, t0).unwrap_err().scope, LimitScope::FailedAuth);
        assert_eq!(fail(&mut state, 2, t0), Ok(None), "another client has its own budget");
        assert_eq!(
            fail(&mut state, 1, t0 + 1000 * MS),
            Ok(Some(1000 * MS)),
            "one more failure locks it out again"
        );
    }

    /// L5, L8: failures of clients in the overflow are refused, and none is locked out for another's
    #[test]
    fn the_overflow_slot_locks_nobody_out() {
        let t0 = crate::clock::now();
        let mut state = state(1, t0);
        assert_eq!(fail(&mut state, 1, t0), Ok(None));
        for client in 2..5 {
            assert_eq!(fail(&mut state, client, t0), Ok(None));
        }
        assert!(fail(&mut state, 5, t0).is_err());
    }

    /// L5, L8: a client that gets its own slot starts with the shared arrival time, and is not locked out for it
    #[test]
    fn a_new_slot_is_neither_a_fresh_budget_nor_a_lockout() {
        let t0 = crate::clock::now();
        let mut state = state(1, t0);
        for client in [1, 2, 2] {
            assert_eq!(fail(&mut state, client, t0), Ok(None));
        }
        let later = t0 + 1000 * MS;
        assert_eq!(
            fail(&mut state, 2, later),
            Ok(None),
            "the first client is idle by now and its slot is free"
        );
        assert_eq!(fail(&mut state, 2, later), Ok(Some(1000 * MS)), "the fourth in a second");
        assert_eq!(fail(&mut state, 2, later).unwrap_err().scope, LimitScope::FailedAuth);
    }

    /// L6, L8: in shadow mode a failure over the limit is reported and not charged
    #[test]
    fn shadow_mode_locks_nobody_out() {
        let t0 = crate::clock::now();
        let mut state = state(10, t0);
        let limit =
            RateLimit { requests_per_second: 1.0, burst: 1.try_into().unwrap(), mode: LimitMode::Shadow };
        state.reconfigure(&settings(limit, 10), t0);
        assert_eq!(fail(&mut state, 1, t0), Ok(Some(1000 * MS)));
        for _ in 0..3 {
            let shadowed = |decision: Result<LockoutDecision, LimitStatus>| match decision {
                Ok(LockoutDecision::NoCharge(allowed)) => {
                    allowed.shadowed_scopes().contains(LimitScope::FailedAuth)
                }
                _ => false,
            };
            assert!(shadowed(state.decide(IpKey::V4(1), t0)));
        }
        assert_eq!(fail(&mut state, 1, t0 + 1000 * MS), Ok(Some(1000 * MS)));
    }

    /// L8, S5: a crash spends every burst
    #[test]
    fn after_a_crash_every_failure_is_over_the_limit() {
        let t0 = crate::clock::now();
        let mut state = state(10, t0);
        state.clients.rebuild(t0);
        assert!(fail(&mut state, 1, t0).is_err());
        assert_eq!(fail(&mut state, 1, t0 + 1000 * MS), Ok(Some(1000 * MS)));
    }

    /// L5, L8
    #[test]
    fn lockouts_end_and_are_bounded() {
        let t0 = crate::clock::now();
        let lockout = AuthLockout::new(3);
        assert_eq!(lockout.remaining(IpKey::V4(1), t0), None);
        lockout.lock_out(IpKey::V4(1), t0 + 5 * MS, t0);
        assert_eq!(lockout.remaining(IpKey::V4(1), t0 + 2 * MS), Some(3 * MS));
        assert_eq!(lockout.remaining(IpKey::V4(2), t0), None);
        assert_eq!(lockout.remaining(IpKey::V4(1), t0 + 5 * MS), None);
        for client in 0..1000 {
            lockout.lock_out(IpKey::V4(client), t0 + 1000 * MS, t0);
        }
        assert!(lockout.count.load(Ordering::Relaxed) <= 3);
        lockout.lock_out(IpKey::V4(7777), t0 + 3000 * MS, t0 + 2000 * MS);
        assert!(lockout.remaining(IpKey::V4(7777), t0 + 2000 * MS).is_some(), "ended lockouts are removed");
    }
}
