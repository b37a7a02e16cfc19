//! Properties and examples of the limits (L1, L2, L4–L6).

use proptest::prelude::*;

use std::time::{Duration, Instant};

use tidegate_config::{LimitMode, RateLimit};

use crate::limiter::limit_status::{Allowed, LimitScope, LimitStatus};
use crate::limiter::settings::LimiterSettings;
use crate::limiter::state::LimiterState;
use crate::types::{BucketId, IpKey};

const BUCKET: BucketId = BucketId::new(0);

fn limit(requests_per_second: f64, burst: u32) -> Option<RateLimit> {
    Some(RateLimit { requests_per_second, burst: burst.try_into().unwrap(), mode: LimitMode::Enforce })
}

fn shadow(requests_per_second: f64, burst: u32) -> Option<RateLimit> {
    limit(requests_per_second, burst).map(|limit| RateLimit { mode: LimitMode::Shadow, ..limit })
}

fn limiter_state(
    global: Option<RateLimit>,
    per_ip: Option<RateLimit>,
    buckets: &[Option<RateLimit>],
    clients_max: usize,
    now: Instant,
) -> LimiterState {
    LimiterState::new(&LimiterSettings::of_heads(global, per_ip, buckets, clients_max), now)
}

fn client(n: u32) -> IpKey {
    IpKey::V4(n)
}

fn charge(state: &mut LimiterState, from: u32, cost: u32, now: Instant) -> Result<Allowed, LimitStatus> {
    let charge = state.decide(BUCKET, client(from), cost, 0, now)?;
    state.apply(&charge, now);
    Ok(charge.allowed)
}

fn admit(state: &mut LimiterState, from: u32, now: Instant) -> Result<(), LimitStatus> {
    charge(state, from, 1, now).map(drop)
}

/// L2, L5: a client that used the shared budget does not get a full burst with its own slot
#[test]
fn a_new_slot_is_no_fresh_budget() {
    let t0 = crate::clock::now();
    let mut state = limiter_state(None, limit(1.0, 2), &[None], 1, t0);
    assert!(admit(&mut state, 1, t0).is_ok());
    assert!(admit(&mut state, 2, t0).is_ok() && admit(&mut state, 2, t0).is_ok(), "shared");
    let later = t0 + Duration::from_secs(1);
    assert!(admit(&mut state, 2, later).is_ok(), "the first client is idle by now and its slot is free");
    assert!(admit(&mut state, 2, later).is_err(), "three in a second reach its limit");
    assert!(admit(&mut state, 2, later + Duration::from_secs(1)).is_ok());
}

/// L1, L4
#[test]
fn the_burst_passes_then_the_rate() {
    let t0 = crate::clock::now();
    let mut state = limiter_state(None, limit(10.0, 3), &[None], 10, t0);
    for _ in 0..3 {
        assert_eq!(admit(&mut state, 1, t0), Ok(()));
    }
    let limited = admit(&mut state, 1, t0).unwrap_err();
    assert_eq!((limited.scope, limited.retry_after), (LimitScope::Ip, Duration::from_millis(100)));
    assert_eq!(admit(&mut state, 2, t0), Ok(()), "another client has its own budget");
    assert_eq!(admit(&mut state, 1, t0 + Duration::from_millis(100)), Ok(()));
    assert!(admit(&mut state, 1, t0 + Duration::from_millis(100)).is_err());
}

/// L1: no limit is charged when another refuses
#[test]
fn a_refusal_charges_no_limit() {
    let t0 = crate::clock::now();
    let mut state = limiter_state(limit(1.0, 5), limit(1.0, 1), &[limit(1.0, 5)], 10, t0);
    assert_eq!(admit(&mut state, 1, t0), Ok(()));
    for _ in 0..20 {
        assert_eq!(admit(&mut state, 1, t0).unwrap_err().scope, LimitScope::Ip);
    }
    for other in 2..6 {
        assert_eq!(admit(&mut state, other, t0), Ok(()), "global and bucket were not charged");
    }
    assert!(admit(&mut state, 7, t0).is_err());
}

/// S5: a crash spends every burst
#[test]
fn a_rebuild_spends_every_burst() {
    let t0 = crate::clock::now();
    let mut state = limiter_state(limit(10.0, 5), limit(10.0, 5), &[limit(10.0, 5)], 10, t0);
    assert_eq!(admit(&mut state, 1, t0), Ok(()));
    state.rebuild(t0);
    assert!(admit(&mut state, 1, t0).is_err(), "known client");
    assert!(admit(&mut state, 9, t0).is_err(), "unknown client");
    assert_eq!(admit(&mut state, 9, t0 + Duration::from_millis(100)), Ok(()), "the rate still applies");
}

/// L5, P6
#[test]
fn clients_beyond_the_table_share_one_budget() {
    let t0 = crate::clock::now();
    let mut state = limiter_state(None, limit(1.0, 1), &[None], 1000, t0);
    let admitted = (0..1_000_000).filter(|n| admit(&mut state, *n, t0).is_ok()).count();
    assert_eq!(admitted, 1001, "1000 clients with their own budget and one for all others");
    assert_eq!(state.clients(), 1000);
    assert!(state.per_ip.table.sweep.len() <= 1000);
    let later = t0 + Duration::from_secs(60);
    let admitted = (2_000_000..2_000_500).filter(|n| admit(&mut state, *n, later).is_ok()).count();
    assert!(admitted > 490, "idle clients make room, admitted {admitted}");
}

/// L2, L4: leased tokens are charged, a burst is leased only while half of it is left, and small limits lease nothing
#[test]
fn leases_are_debited_in_advance() {
    let t0 = crate::clock::now();
    let mut state = limiter_state(None, limit(1.0, 4000), &[None], 10, t0);
    let mut admitted = 0;
    while let Ok(charge) = state.decide(BUCKET, client(1), 1, 64, t0) {
        state.apply(&charge, t0);
        admitted += 1 + charge.leased;
        assert_eq!(charge.leased, if admitted <= 2001 { 2 } else { 0 }, "after {admitted}");
    }
    assert_eq!(admitted, 4000);
    let small = limiter_state(None, limit(1.0, 1999), &[limit(1e6, 1_000_000)], 10, t0);
    assert_eq!(small.decide(BUCKET, client(1), 1, 64, t0).unwrap().leased, 0);
}

/// L1: a cost is charged to every limit at once, and a request that does not fit charges none
#[test]
fn a_cost_is_charged_whole_or_not_at_all() {
    let t0 = crate::clock::now();
    let mut state = limiter_state(limit(1.0, 20), limit(10.0, 10), &[limit(1.0, 20)], 10, t0);
    assert!(charge(&mut state, 1, 7, t0).is_ok());
    let refusal = charge(&mut state, 1, 7, t0).unwrap_err();
    assert_eq!((refusal.scope, refusal.remaining), (LimitScope::Ip, 3));
    assert_eq!(refusal.retry_after, Duration::from_millis(400), "until four more tokens are free");
    assert!(charge(&mut state, 1, 3, t0).is_ok(), "a smaller cost still fits");
    assert!(
        charge(&mut state, 2, 10, t0).is_ok(),
        "twenty in all, because the refused request charged nothing"
    );
    assert_eq!(charge(&mut state, 3, 1, t0).unwrap_err().scope, LimitScope::Global);
}

/// L6: a limit in shadow mode refuses nothing, reports what it would have refused, and is charged as if it enforced
#[test]
fn a_shadow_refuses_nothing() {
    let t0 = crate::clock::now();
    let mut state = limiter_state(None, shadow(10.0, 2), &[limit(1.0, 4)], 10, t0);
    let names = |allowed: Result<Allowed, LimitStatus>| {
        allowed
            .map(|allowed| allowed.shadowed_scopes().contains(LimitScope::Ip))
            .map_err(|refusal| refusal.scope)
    };
    assert_eq!(names(charge(&mut state, 1, 1, t0)), Ok(false));
    assert_eq!(names(charge(&mut state, 1, 1, t0)), Ok(false));
    assert_eq!(names(charge(&mut state, 1, 1, t0)), Ok(true));
    let later = t0 + Duration::from_millis(100);
    assert_eq!(
        names(charge(&mut state, 1, 1, later)),
        Ok(false),
        "the third request was not charged to the shadow limit"
    );
    assert_eq!(names(charge(&mut state, 1, 1, later)), Err(LimitScope::Bucket), "but to the bucket's limit");
}

/// L6: a request that another limit refuses is not charged to a shadow limit
#[test]
fn a_shadow_is_not_charged_for_what_others_refuse() {
    let t0 = crate::clock::now();
    let mut state = limiter_state(shadow(1.0, 3), limit(1.0, 1), &[None], 10, t0);
    assert!(charge(&mut state, 1, 1, t0).is_ok());
    for _ in 0..5 {
        assert!(charge(&mut state, 1, 1, t0).is_err());
    }
    for other in 2..4 {
        assert_eq!(charge(&mut state, other, 1, t0), Ok(Allowed::default()));
    }
    let shadowed = charge(&mut state, 4, 1, t0).unwrap().shadowed;
    let figures: Vec<_> = shadowed.iter().map(|limit| (limit.scope, limit.burst, limit.remaining)).collect();
    assert_eq!(figures, [(LimitScope::Global, 3, 0)], "the status of the refusal");
}

/// L1: an admitted request may get the status of the tightest limit, and of no shadow limit
#[test]
fn the_tightest_limit_is_reported() {
    let t0 = crate::clock::now();
    let limits = (limit(1.0, 10), limit(10.0, 5), [shadow(1.0, 3)]);
    let mut state = limiter_state(limits.0, limits.1, &limits.2, 10, t0).sending_headers();
    let status = charge(&mut state, 1, 2, t0).unwrap().tightest.unwrap();
    assert_eq!((status.scope, status.remaining, status.burst), (LimitScope::Ip, 3, 5));
    assert_eq!(status.retry_after, Duration::from_millis(100));
    let status = charge(&mut state, 2, 5, t0).unwrap().tightest.unwrap();
    assert_eq!((status.scope, status.remaining), (LimitScope::Ip, 0));
    let status = charge(&mut state, 3, 1, t0).unwrap().tightest.unwrap();
    assert_eq!((status.scope, status.remaining), (LimitScope::Global, 2));
}

/// L2: tokens are leased for whole requests, and not to a request that a shadow limit would have refused
#[test]
fn leases_are_for_whole_requests() {
    let t0 = crate::clock::now();
    let state = limiter_state(limit(1e6, 1_000_000), None, &[shadow(1e6, 1_000_000), shadow(1.0, 1)], 10, t0);
    let leased = |bucket, cost| {
        state.decide(BucketId::new(bucket), client(1), cost, 64, t0).map(|charge| charge.leased)
    };
    assert_eq!((leased(0, 1), leased(0, 10), leased(0, 64), leased(0, 65)), (Ok(64), Ok(60), Ok(64), Ok(0)));
    assert_eq!(leased(0, 0), Ok(64), "a lease alone");
    assert_eq!(leased(1, 1), Ok(0), "a burst of one leases nothing");
    assert_eq!(leased(1, 2), Ok(0), "nor does a limit that is exceeded");
}

/// The requests that one limit admitted.
#[derive(Default)]
struct Admitted(Vec<(Instant, u32)>);

impl Admitted {
    /// Adds a request. Returns the maximum, over all windows that end now, of the admitted cost beyond `rate ·
    /// window`.
    fn push(&mut self, cost: u32, now: Instant, rate: f64) -> f64 {
        self.0.push((now, cost));
        let mut sum = 0.0;
        let beyond = |(first, cost): &(Instant, u32)| {
            sum += f64::from(*cost);
            sum - rate * now.duration_since(*first).as_secs_f64()
        };
        self.0.iter().rev().map(beyond).fold(0.0, f64::max)
    }
}

/// One step: the time that passes, the client, the cost, and whether a crash comes first.
type Step = (Duration, u32, u32, bool);

/// Small steps and jumps of the clock; about half of the steps come at the same instant as the one before.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pause = prop_oneof![
        10 => Just(0),
        10 => 0u64..50_000_000,
        1 => 0u64..100_000_000_000,
    ];
    prop::collection::vec(
        (pause.prop_map(Duration::from_nanos), 0u32..3, 1u32..=9, prop::bool::weighted(0.02)),
        1..400,
    )
}

proptest! {
    /// L2: over any window the admitted cost stays within rate·window + burst, for all costs, over crashes and clock
    /// jumps
    #[test]
    fn never_more_than_rate_times_window_plus_burst(rate in 1u32..1000, burst in 9u32..50, steps in steps()) {
        let (mut now, rate) = (crate::clock::now(), f64::from(rate));
        let mut state = limiter_state(None, None, &[limit(rate, burst)], 2, now);
        let mut admitted = Admitted::default();
        for (pause, from, cost, crash) in steps {
            now += pause;
            if crash {
                state.rebuild(now);
            }
            if charge(&mut state, from, cost, now).is_ok() {
                let excess = admitted.push(cost, now, rate);
                prop_assert!(excess <= f64::from(burst) + 1e-6, "{excess} beyond the rate");
            }
        }
    }

    /// L2: a clock that jumps back admits no more, measured by its own times
    #[test]
    fn a_clock_that_jumps_back_admits_no_more(rate in 1u32..1000, burst in 9u32..50, steps in steps()) {
        let (origin, rate) = (crate::clock::now(), f64::from(rate));
        let mut now = origin;
        let mut state = limiter_state(None, None, &[limit(rate, burst)], 2, now);
        let mut used: Vec<(Instant, u32)> = Vec::new();
        for (pause, from, cost, jumps_back) in steps {
            now += pause;
            if jumps_back {
                now = origin.max(now - Duration::from_secs(cost.into()));
            }
            if charge(&mut state, from, cost, now).is_ok() {
                used.push((now, cost));
            }
        }
        used.sort_by_key(|(at, _)| *at);
        let mut admitted = Admitted::default();
        for (at, cost) in used {
            let excess = admitted.push(cost, at, rate);
            prop_assert!(excess <= f64::from(burst) + 1e-6, "{excess} beyond the rate");
        }
    }

    /// L2, L6: a limit decides the same in shadow mode as in enforce mode, and a request that it admits is not
    /// refused
    #[test]
    fn shadow_mode_decides_as_enforce_mode(rate in 1u32..1000, burst in 9u32..50, steps in steps()) {
        let (mut now, rate) = (crate::clock::now(), f64::from(rate));
        let mut enforcing = limiter_state(None, None, &[limit(rate, burst)], 2, now);
        let mut shadowing = limiter_state(None, None, &[shadow(rate, burst)], 2, now);
        for (pause, from, cost, crash) in steps {
            now += pause;
            if crash {
                enforcing.rebuild(now);
                shadowing.rebuild(now);
            }
            let refuses = charge(&mut enforcing, from, cost, now).is_err();
            let would = charge(&mut shadowing, from, cost, now).map(|allowed| allowed.shadowed_scopes().contains(LimitScope::Bucket));
            prop_assert_eq!(would, Ok(refuses));
        }
    }

    /// L2: leases exceed no window, even if they are used at their last moment and the burst was used meanwhile
    #[test]
    fn leases_do_not_exceed_the_limit(
        rate in 10_000u32..1_000_000, burst in 2_000u32..100_000, late in 0u64..10_000_000,
        steps in prop::collection::vec((0u64..9_000_000, 0u8..8), 1..60),
    ) {
        let (mut now, rate) = (crate::clock::now(), f64::from(rate));
        let mut state = limiter_state(None, None, &[limit(rate, burst)], 2, now).sending_headers();
        let mut used: Vec<(Instant, u32)> = Vec::new();
        for (pause, step) in steps {
            now += Duration::from_nanos(pause);
            let (cost, more) = match step {
                0 => (1, 0),
                1..4 => (1, 128),
                _ => (0, 128),
            };
            let Ok(granted) = state.decide(BUCKET, client(1), cost, more, now) else { continue };
            state.apply(&granted, now);
            used.push((now, cost));
            used.push((now + Duration::from_nanos(late), granted.leased));
            if step == 0 {
                let remaining = granted.allowed.tightest.unwrap().remaining;
                prop_assert!(charge(&mut state, 1, remaining, now).is_ok(), "the remaining tokens fit");
                used.push((now, remaining));
            }
        }
        used.sort_by_key(|(at, _)| *at);
        let mut admitted = Admitted::default();
        for (at, tokens) in used {
            let excess = admitted.push(tokens, at, rate);
            prop_assert!(excess <= f64::from(burst) + 1e-3, "{excess} beyond the rate");
        }
    }
}

/// L1: a request without a bucket is charged to the limits of the whole gateway, and to no bucket's
#[test]
fn a_request_without_a_bucket_has_the_limits_of_the_gateway() {
    let t0 = crate::clock::now();
    let mut state = limiter_state(limit(0.001, 3), limit(0.001, 2), &[limit(0.001, 1)], 10, t0);
    let mut unrouted = |from: u32| -> Result<(), LimitScope> {
        let charge =
            state.decide(None::<BucketId>, client(from), 1, 0, t0).map_err(|refusal| refusal.scope)?;
        state.apply(&charge, t0);
        Ok(())
    };
    assert_eq!([unrouted(1), unrouted(1), unrouted(1)], [Ok(()), Ok(()), Err(LimitScope::Ip)]);
    assert_eq!([unrouted(2), unrouted(3)], [Ok(()), Err(LimitScope::Global)]);
    let mut fresh = limiter_state(None, None, &[limit(0.001, 1)], 10, t0);
    let charge = fresh.decide(None::<BucketId>, client(1), 1, 0, t0).unwrap();
    fresh.apply(&charge, t0);
    assert_eq!(admit(&mut fresh, 1, t0), Ok(()), "the bucket's budget is untouched");
}
