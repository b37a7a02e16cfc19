//! Limits across changes of the configuration (G3, L1, L2, L5).

use std::time::{Duration, Instant};

use proptest::prelude::*;
use tidegate_config::{LimitMode, RateLimit};

use crate::limiter::lease::LEASE_TTL;
use crate::limiter::limit_status::LimitStatus;
use crate::limiter::settings::LimiterSettings;
use crate::limiter::state::LimiterState;
use crate::types::{BucketId, IpKey};

pub(super) const BUCKET: BucketId = BucketId::new(0);
pub(super) const CLIENT: IpKey = IpKey::V4(1);

fn limit(requests_per_second: f64, burst: u32) -> Option<RateLimit> {
    Some(RateLimit { requests_per_second, burst: burst.try_into().unwrap(), mode: LimitMode::Enforce })
}

pub(super) fn of_bucket(limit: Option<RateLimit>) -> LimiterSettings {
    LimiterSettings::of_heads(None, None, &[limit], 10)
}

fn per_ip(limit: Option<RateLimit>, clients_max: usize) -> LimiterSettings {
    LimiterSettings::of_heads(None, limit, &[], clients_max)
}

fn charge(state: &mut LimiterState, from: IpKey, cost: u32, now: Instant) -> Result<(), LimitStatus> {
    let charge = state.decide(BUCKET, from, cost, 0, now)?;
    state.apply(&charge, now);
    Ok(())
}

fn admitted(state: &mut LimiterState, from: IpKey, now: Instant) -> usize {
    (0..1000).take_while(|_| charge(state, from, 1, now).is_ok()).count()
}

/// L2: a lowered limit holds at once, and at most its burst counts as used until the next change
#[test]
fn a_lowered_limit_holds_at_once() {
    let t0 = crate::clock::now();
    let mut state = LimiterState::new(&of_bucket(limit(100.0, 100)), t0);
    assert_eq!(admitted(&mut state, CLIENT, t0), 100);
    state.reconfigure(&of_bucket(limit(10.0, 5)), t0);
    assert_eq!(charge(&mut state, CLIENT, 1, t0).unwrap_err().retry_after, Duration::from_millis(100));
    assert_eq!(admitted(&mut state, CLIENT, t0 + Duration::from_secs(60)), 5);
}

/// L2: a raised limit gives at once what its burst has beyond the tokens in use, and no more
#[test]
fn a_raised_limit_gives_no_more_than_its_own_burst() {
    let t0 = crate::clock::now();
    let mut state = LimiterState::new(&of_bucket(limit(1.0, 10)), t0);
    assert_eq!(admitted(&mut state, CLIENT, t0), 10);
    state.reconfigure(&of_bucket(limit(100.0, 30)), t0);
    assert_eq!(admitted(&mut state, CLIENT, t0), 20);
    assert_eq!(charge(&mut state, CLIENT, 1, t0).unwrap_err().retry_after, Duration::from_millis(10));
}

/// L1: a limit that was absent starts with an unused burst, and one that is removed admits everything
#[test]
fn limits_come_and_go() {
    let t0 = crate::clock::now();
    let mut state = LimiterState::new(&of_bucket(None), t0);
    assert_eq!(admitted(&mut state, CLIENT, t0), 1000);
    state.reconfigure(&of_bucket(limit(1.0, 3)), t0);
    assert_eq!(admitted(&mut state, CLIENT, t0), 3);
    state.reconfigure(&of_bucket(None), t0);
    assert_eq!(admitted(&mut state, CLIENT, t0), 1000);
}

/// L6: a limit that only changes its mode keeps its times
#[test]
fn the_mode_changes_no_time() {
    let t0 = crate::clock::now();
    let mut state = LimiterState::new(&of_bucket(limit(1.0, 3)), t0);
    assert_eq!(admitted(&mut state, CLIENT, t0), 3);
    let shadow = limit(1.0, 3).map(|limit| RateLimit { mode: LimitMode::Shadow, ..limit });
    state.reconfigure(&of_bucket(shadow), t0);
    assert_eq!(state.decide(BUCKET, CLIENT, 1, 0, t0).unwrap().allowed.shadowed.len(), 1);
    state.reconfigure(&of_bucket(limit(1.0, 3)), t0);
    assert_eq!(charge(&mut state, CLIENT, 1, t0).unwrap_err().retry_after, Duration::from_secs(1));
}

/// L5: the times of all clients are converted, those of the shared budget too
#[test]
fn clients_keep_their_used_tokens() {
    let t0 = crate::clock::now();
    let [own, shared, later] = [1, 2, 3].map(IpKey::V4);
    let mut state = LimiterState::new(&per_ip(limit(1.0, 4), 1), t0);
    for client in [own, own, own, shared, shared] {
        charge(&mut state, client, 1, t0).unwrap();
    }
    state.reconfigure(&per_ip(limit(10.0, 8), 1), t0);
    assert_eq!((admitted(&mut state, own, t0), admitted(&mut state, later, t0)), (5, 6));
    state.reconfigure(&per_ip(None, 1), t0);
    state.reconfigure(&per_ip(limit(10.0, 8), 1), t0);
    assert_eq!(admitted(&mut state, own, t0), 8, "an absent limit had no uses");
}

/// L5: a lower capacity removes idle clients at once; others keep their budgets until they are idle
#[test]
fn a_lower_capacity_forgets_no_used_token() {
    let t0 = crate::clock::now();
    let mut state = LimiterState::new(&per_ip(limit(1.0, 2), 10), t0);
    for client in 0..8 {
        charge(&mut state, IpKey::V4(client), 1, t0).unwrap();
    }
    charge(&mut state, IpKey::V4(7), 1, t0).unwrap();
    let one_idle = t0 + Duration::from_millis(1500);
    state.reconfigure(&per_ip(limit(1.0, 2), 3), one_idle);
    assert_eq!(state.clients(), 1, "seven clients are idle");
    for client in 10..14 {
        charge(&mut state, IpKey::V4(client), 1, one_idle).unwrap();
    }
    assert_eq!(state.clients(), 3, "the last two share a budget");
    state.reconfigure(&per_ip(limit(1.0, 2), 1), one_idle);
    assert_eq!(state.clients(), 3, "no client is idle");
    assert_eq!(admitted(&mut state, IpKey::V4(10), one_idle), 1, "it has used one of two");
    assert_eq!(admitted(&mut state, IpKey::V4(99), one_idle), 0, "the shared budget is used");
    let idle = one_idle + Duration::from_secs(9);
    for client in 20..30 {
        charge(&mut state, IpKey::V4(client), 1, idle).unwrap_or_default();
    }
    assert_eq!(state.clients(), 1);
    assert!(state.per_ip.table.sweep.len() <= 1);
}

/// L2: a rate so high or so low that times hardly fit is converted without a panic, and never beyond the burst
#[test]
fn extreme_limits_are_converted() {
    let t0 = crate::clock::now();
    let extremes = [limit(0.001, 10_000_000), limit(10_000_000.0, 1), limit(0.001, 1), limit(1.0, 2)];
    for (one, other) in extremes.iter().flat_map(|one| extremes.iter().map(move |other| (one, other))) {
        let mut state = LimiterState::new(&of_bucket(*one), t0);
        state.rebuild(t0);
        state.reconfigure(&of_bucket(*other), t0);
        let wait = charge(&mut state, CLIENT, 1, t0).err().map(|status| status.retry_after);
        assert!(wait.is_none_or(|wait| wait <= Duration::from_secs(1000)), "{one:?} {other:?}: {wait:?}");
    }
}

/// L2: until a lease of the replaced limit ends, its tokens stay in use, however fast the new rate is
#[test]
fn a_faster_rate_does_not_free_the_tokens_of_a_lease() {
    let t0 = crate::clock::now();
    let mut state = LimiterState::new(&of_bucket(limit(10_000.0, 100_000)), t0);
    let granted = state.decide(BUCKET, CLIENT, 0, 128, t0).unwrap();
    state.apply(&granted, t0);
    assert_eq!(granted.leased, 50);
    state.reconfigure(&of_bucket(limit(1_000_000.0, 2_000)), t0);
    let used_last = t0 + LEASE_TTL - Duration::from_nanos(1);
    assert!(charge(&mut state, CLIENT, 1951, used_last).is_err(), "beyond the burst with the lease");
    assert!(charge(&mut state, CLIENT, 1850, t0 + LEASE_TTL).is_ok());
}

/// A bucket of tokens in use, as a limit is documented.
struct Model {
    used: f64,
    /// With those beyond a lowered burst.
    uncapped: f64,
    limit: RateLimit,
    at: Instant,
}

impl Model {
    fn advance(&mut self, now: Instant) {
        let drained = self.limit.requests_per_second * now.duration_since(self.at).as_secs_f64();
        self.used = (self.used - drained).max(0.0);
        self.uncapped = (self.uncapped - drained).max(0.0);
        self.at = now;
    }

    fn burst(&self) -> f64 {
        f64::from(self.limit.burst.get())
    }
}

#[derive(Debug, Clone)]
enum Step {
    Charge(u32),
    Lease { late: u64 },
    Reconfigure(RateLimit),
    Crash,
}

pub(super) fn rate_limit(
    rate: std::ops::Range<u32>,
    burst: std::ops::Range<u32>,
) -> impl Strategy<Value = RateLimit> {
    (rate, burst).prop_map(|(rate, burst)| limit(rate.into(), burst).unwrap())
}

pub(super) fn pauses() -> impl Strategy<Value = Duration> {
    let pause = prop_oneof![10 => Just(0), 10 => 0u64..50_000_000, 1 => 0u64..10_000_000_000];
    pause.prop_map(Duration::from_nanos)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// L2, S5: over any sequence of requests, changes and crashes the limit in force is neither exceeded nor wasted:
    /// from its time on it admits at most its burst and rate · time
    #[test]
    fn used_tokens_stay_used(
        first in rate_limit(1..1000, 9..50),
        steps in prop::collection::vec((pauses(), prop_oneof![
            8 => (1u32..=9).prop_map(Step::Charge),
            2 => rate_limit(1..1000, 9..50).prop_map(Step::Reconfigure),
            1 => Just(Step::Crash),
        ]), 1..300),
    ) {
        let mut now = crate::clock::now();
        let mut state = LimiterState::new(&of_bucket(Some(first)), now);
        let mut model = Model { used: 0.0, uncapped: 0.0, limit: first, at: now };
        // Tokens since the last change or crash, and its time.
        let (mut tokens, mut since) = (0.0, now);
        for (pause, step) in steps {
            now += pause;
            model.advance(now);
            match step {
                Step::Charge(cost) => {
                    let beyond = model.used + f64::from(cost) - model.burst();
                    match charge(&mut state, CLIENT, cost, now) {
                        Ok(()) => {
                            prop_assert!(beyond <= 1e-6, "{beyond} beyond the burst");
                            model.used += f64::from(cost);
                            model.uncapped += f64::from(cost);
                            tokens += f64::from(cost);
                        }
                        Err(_) => prop_assert!(beyond > -0.02, "{beyond}: refused without need"),
                    }
                    let rated = model.limit.requests_per_second * now.duration_since(since).as_secs_f64();
                    prop_assert!(tokens <= model.burst() + rated + 1e-6, "since the change");
                }
                Step::Reconfigure(limit) => {
                    state.reconfigure(&of_bucket(Some(limit)), now);
                    if limit != model.limit {
                        model.limit = limit;
                        model.used = model.uncapped.min(model.burst());
                    }
                    (tokens, since) = (0.0, now);
                }
                Step::Crash => {
                    state.rebuild(now);
                    model.used = model.burst();
                    model.uncapped = model.uncapped.max(model.used);
                }
                Step::Lease { .. } => {}
            }
        }
    }

    /// L2: leases that the replaced limit granted have paid for the new one too: over any window after a change, all that
    /// is used stays within burst + rate · window, unless these leases alone are more than the new burst
    #[test]
    fn leases_of_a_replaced_limit_have_paid(
        first in rate_limit(10_000..1_000_000, 2_000..100_000),
        steps in prop::collection::vec((0u64..9_000_000, prop_oneof![
            4 => (1u32..=500).prop_map(Step::Charge),
            8 => (0u64..10_000_000).prop_map(|late| Step::Lease { late }),
            1 => rate_limit(10_000..1_000_000, 2_000..100_000).prop_map(Step::Reconfigure),
        ]), 1..80),
    ) {
        let mut now = crate::clock::now();
        let mut state = LimiterState::new(&of_bucket(Some(first)), now);
        let mut changes = vec![(now, first)];
        // The time of use, the time of the grant, and the number of the change after which it was granted.
        let mut used: Vec<(Instant, usize, u32)> = Vec::new();
        for (pause, step) in steps {
            now += Duration::from_nanos(pause);
            let (cost, more, late) = match step {
                Step::Charge(cost) => (cost, 0, 0),
                Step::Lease { late } => (0, 128, late),
                Step::Reconfigure(limit) => {
                    state.reconfigure(&of_bucket(Some(limit)), now);
                    changes.push((now, limit));
                    continue;
                }
                Step::Crash => continue,
            };
            let Ok(granted) = state.decide(BUCKET, CLIENT, cost, more, now) else { continue };
            state.apply(&granted, now);
            used.push((now, changes.len() - 1, cost));
            used.push((now + Duration::from_nanos(late), changes.len() - 1, granted.leased));
        }
        used.sort_by_key(|(at, ..)| *at);
        for (number, (from, limit)) in changes.iter().enumerate() {
            let until = changes.get(number + 1).map_or(now + LEASE_TTL, |(until, _)| *until);
            let of_change: Vec<_> = used
                .iter()
                .filter(|(at, granted, _)| {
                    *granted == number && *at <= until || *granted < number && *at > *from && *at < until
                })
                .collect();
            let before: u32 =
                of_change.iter().filter(|(_, granted, _)| *granted < number).map(|(.., tokens)| *tokens).sum();
            let burst = f64::from(limit.burst.get().max(before));
            for (at, (first, ..)) in of_change.iter().enumerate() {
                let mut sum = 0.0;
                for (last, _, tokens) in &of_change[at..] {
                    sum += f64::from(*tokens);
                    let window = last.duration_since(*first).as_secs_f64();
                    let beyond = sum - burst - limit.requests_per_second * window;
                    prop_assert!(beyond <= 1e-3, "{beyond} beyond the rate after change {number}");
                }
            }
        }
    }

    /// L2, L5: no client exceeds the limit in force, whatever the table holds and however its capacity changes
    #[test]
    fn no_client_exceeds_its_limit(
        first in rate_limit(1..100, 2..9),
        steps in prop::collection::vec((pauses(), 0u32..5, prop_oneof![
            8 => (1u32..=2).prop_map(Step::Charge),
            1 => rate_limit(1..100, 2..9).prop_map(Step::Reconfigure),
            1 => Just(Step::Crash),
        ]), 1..300),
    ) {
        let (mut now, mut limit) = (crate::clock::now(), first);
        let mut state = LimiterState::new(&per_ip(Some(first), 2), now);
        let (mut tokens, mut since) = ([0.0; 5], now);
        for (pause, number, step) in steps {
            now += pause;
            match step {
                Step::Charge(cost) => {
                    if charge(&mut state, IpKey::V4(number), cost, now).is_ok() {
                        let of_client = &mut tokens[number as usize];
                        *of_client += f64::from(cost);
                        let rated = limit.requests_per_second * now.duration_since(since).as_secs_f64();
                        prop_assert!(*of_client <= f64::from(limit.burst.get()) + rated + 1e-6);
                    }
                }
                Step::Reconfigure(next) => {
                    let clients_max = number as usize + 1;
                    state.reconfigure(&per_ip(Some(next), clients_max), now);
                    (limit, tokens, since) = (next, [0.0; 5], now);
                }
                Step::Crash => state.rebuild(now),
                Step::Lease { .. } => {}
            }
        }
    }
}
