//! Any sequence of changes: the number admitted in any window is at most the tokens that the rates in force gave in it and the
//! largest burst in force (G3, G8, L1, L2).

use std::time::{Duration, Instant};

use proptest::prelude::*;
use tidegate_config::{LimitMode, RateLimit};

use crate::limiter::exported_limits::LimitTimes;
use crate::limiter::lease::LEASE_TTL;
use crate::limiter::reload_tests::{BUCKET, pauses, rate_limit};
use crate::limiter::settings::LimiterSettings;
use crate::limiter::state::LimiterState;
use crate::types::IpKey;

/// Use of one limit, in order of time.
#[derive(Debug, Default)]
struct Record {
    changes: Vec<(Instant, RateLimit)>,
    /// Time of use, number of the limit in force at the grant, tokens.
    used: Vec<(Instant, usize, u32)>,
}

impl Record {
    fn change(&mut self, limit: RateLimit, now: Instant) {
        self.changes.push((now, limit));
    }

    fn charge(&mut self, tokens: u32, now: Instant) {
        self.used.push((now, self.changes.len() - 1, tokens));
    }

    /// The tokens that the rates in force give between two times.
    fn given(&self, from: Instant, to: Instant) -> f64 {
        let ends = self.changes.iter().skip(1).map(|(at, _)| *at).chain([to]);
        let spans = self.changes.iter().zip(ends).map(|((at, limit), end)| {
            limit.requests_per_second * end.min(to).saturating_duration_since(from.max(*at)).as_secs_f64()
        });
        spans.sum()
    }

    /// The most tokens of a window beyond the bound.
    fn excess(&mut self) -> f64 {
        self.used.sort_by_key(|(at, number, _)| (*at, *number));
        let mut excess = f64::NEG_INFINITY;
        for (at, (first, oldest, _)) in self.used.iter().enumerate() {
            let (mut sum, mut oldest, mut newest, mut given, mut before) = (0.0, *oldest, 0, 0.0, *first);
            for (last, number, tokens) in &self.used[at..] {
                sum += f64::from(*tokens);
                (oldest, newest) = (oldest.min(*number), newest.max(*number));
                given += self.given(before, *last);
                before = *last;
                let bursts = self.changes[oldest..=newest].iter().map(|(_, limit)| limit.burst.get());
                excess = excess.max(sum - given - f64::from(bursts.max().unwrap_or(0)));
            }
        }
        excess
    }
}

fn limited(limit: RateLimit, clients_max: usize) -> LimiterSettings {
    LimiterSettings::of_heads(Some(limit), Some(limit), &[Some(limit)], clients_max)
}

fn charge(state: &mut LimiterState, client: u32, (cost, more): (u32, u32), now: Instant) -> Option<u32> {
    let charge = state.decide(BUCKET, IpKey::V4(client), cost, more, now).ok()?;
    state.apply(&charge, now);
    Some(charge.leased)
}

fn limit(requests_per_second: f64, burst: u32) -> RateLimit {
    RateLimit { requests_per_second, burst: burst.try_into().unwrap(), mode: LimitMode::Enforce }
}

/// Free tokens of the global limit, of a client and of the bucket.
fn remaining(state: &LimiterState, client: u32, now: Instant) -> Vec<u32> {
    let limits = state.peek(Some(BUCKET), IpKey::V4(client), 1, now);
    limits.iter().map(|limit| limit.status.remaining).collect()
}

/// G3, L2: a limit that is lowered and raised in turn gives no token for the changes
#[test]
fn lowering_and_raising_in_turn_frees_nothing() {
    let t0 = crate::clock::now();
    let limits = [limit(20.0, 40), limit(10.0, 4)];
    let (mut state, mut record) = (LimiterState::new(&limited(limits[0], 10), t0), Record::default());
    record.change(limits[0], t0);
    let mut admitted = 0;
    for step in 0..1500 {
        let now = t0 + Duration::from_millis(10 * step);
        if step % 50 == 0 && step > 0 {
            let limit = limits[usize::try_from(step / 50 % 2).unwrap()];
            state.reconfigure(&limited(limit, 10), now);
            record.change(limit, now);
        }
        if charge(&mut state, 1, (1, 0), now).is_some() {
            record.charge(1, now);
            admitted += 1;
        }
    }
    assert!(record.excess() <= 1e-6, "{} beyond the bound", record.excess());
    // 15 seconds at 15 on average, and the burst.
    assert!((250..=265).contains(&admitted), "{admitted}");
}

/// G3: a client of the table that is idle for thousands of changes has the same times as the limits that are converted at once
#[test]
fn a_client_catches_up_with_the_changes_that_it_missed() {
    let t0 = crate::clock::now();
    let mut now = t0;
    for missed in [1_u32, 2, 255, 256, 257, 1_000] {
        let limits = [limit(0.03, 90), limit(0.001, 7), limit(0.05, 60)];
        let mut state = LimiterState::new(&limited(limits[0], 10), now);
        assert!(charge(&mut state, 1, (80, 0), now).is_some());
        for number in 1..=missed {
            now += Duration::from_millis(u64::from(number % 13));
            let limit = limits[usize::try_from(number).unwrap() % limits.len()];
            state.reconfigure(&limited(limit, 10), now);
        }
        for step in [0, 100, 1_000] {
            now += Duration::from_secs(step);
            let left = remaining(&state, 1, now);
            assert!(left.iter().all(|tokens| *tokens == left[0]), "{missed} changes: {left:?}");
        }
    }
}

/// G3, L5: a full table removes a client that has tokens beyond a lowered burst, and such a client has no whole burst afterwards
#[test]
fn a_removed_client_starts_with_what_it_has_used() {
    let t0 = crate::clock::now();
    let per_ip = |limit, clients_max| LimiterSettings::of_heads(None, Some(limit), &[], clients_max);
    for (clients_max, left) in [(1, 3), (2, 100)] {
        let mut state = LimiterState::new(&per_ip(limit(1.0, 100), clients_max), t0);
        assert!(charge(&mut state, 1, (100, 0), t0).is_some());
        state.reconfigure(&per_ip(limit(1.0, 1), clients_max), t0);
        let idle = t0 + Duration::from_secs(2);
        assert!(charge(&mut state, 2, (1, 0), idle).is_some());
        assert_eq!(state.clients(), clients_max, "with one slot the second client has it");
        let raised = idle + Duration::from_secs(1);
        state.reconfigure(&per_ip(limit(1.0, 100), clients_max), raised);
        let of_client = |client| state.peek(None, IpKey::V4(client), 1, raised)[0].status.remaining;
        assert_eq!(
            (of_client(1), of_client(3)),
            (3, left),
            "of the client that was removed, and of one that was not known"
        );
    }
}

#[derive(Debug, Clone)]
enum Step {
    Charge { client: u32, cost: u32 },
    Lease { late: u64 },
    Reconfigure(RateLimit, usize),
    Upgrade { connections: u64 },
    FailedUpgrade { connections: u64, costs: Vec<u32> },
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<(Duration, Step)>> {
    let costs = prop::collection::vec(1u32..4, 0..6);
    let step = prop_oneof![
        16 => (0u32..4, 1u32..=5).prop_map(|(client, cost)| Step::Charge { client, cost }),
        5 => (rate_limit(1..100, 5..40), 1usize..6).prop_map(|(limit, clients)| Step::Reconfigure(limit, clients)),
        1 => (0u64..20).prop_map(|connections| Step::Upgrade { connections }),
        1 => (0u64..20, costs).prop_map(|(connections, costs)| Step::FailedUpgrade { connections, costs }),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec((pauses(), step), 1..150)
}

/// The successor of an upgrade with these settings.
fn upgraded(
    before: &LimiterState,
    settings: &LimiterSettings,
    connections: u64,
    now: Instant,
) -> LimiterState {
    let mut times = LimitTimes { is_lost: false, ..LimitTimes::lost(now) };
    before.export(&mut times, connections, now);
    let mut after = LimiterState::new(settings, now - Duration::from_secs(1));
    after.import(&times, now);
    after
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// G3, G8, L1, L2, L5, S5: the bound of every window holds over any sequence of requests, changes, upgrades and crashes, in
    /// total, per bucket and per client
    #[test]
    fn no_window_has_more_than_its_rates_and_its_largest_burst(first in rate_limit(1..100, 5..40), steps in steps()) {
        let mut now = crate::clock::now() + Duration::from_secs(1);
        let (mut limit, mut clients_max) = (first, 3);
        let mut state = LimiterState::new(&limited(first, clients_max), now);
        let mut records: [Record; 5] = Default::default();
        records.iter_mut().for_each(|record| record.change(first, now));
        let admit = |state: &mut LimiterState, records: &mut [Record; 5], client: u32, cost, now| {
            if charge(state, client, (cost, 0), now).is_some() {
                [client as usize, 4].into_iter().for_each(|record| records[record].charge(cost, now));
            }
        };
        for (pause, step) in steps {
            now += pause;
            match step {
                Step::Charge { client, cost } => admit(&mut state, &mut records, client, cost, now),
                Step::Reconfigure(next, clients) => {
                    (limit, clients_max) = (next, clients);
                    state.reconfigure(&limited(limit, clients_max), now);
                    records.iter_mut().for_each(|record| record.change(limit, now));
                }
                Step::Upgrade { connections } => {
                    state = upgraded(&state, &limited(limit, clients_max), connections, now);
                }
                Step::FailedUpgrade { connections, costs } => {
                    state.freeze(connections, now);
                    for (client, cost) in (0..4).cycle().zip(costs) {
                        now += Duration::from_millis(7);
                        admit(&mut state, &mut records, client, cost, now);
                    }
                    state.thaw(now);
                }
                Step::Crash => state.rebuild(now),
                Step::Lease { .. } => {}
            }
        }
        for record in &mut records {
            let excess = record.excess();
            prop_assert!(excess <= 1e-6, "{excess} beyond the bound: {record:?}");
        }
    }

    /// G3, L2: the same with leases. A lease is used within its time, under the burst in force at its grant or a later one
    #[test]
    fn leases_keep_the_bound_across_changes(
        first in rate_limit(10_000..1_000_000, 2_000..100_000),
        steps in prop::collection::vec((0u64..9_000_000, prop_oneof![
            4 => (1u32..=1_000).prop_map(|cost| Step::Charge { client: 1, cost }),
            8 => (0u64..10_000_000).prop_map(|late| Step::Lease { late }),
            2 => rate_limit(10_000..1_000_000, 2_000..100_000).prop_map(|limit| Step::Reconfigure(limit, 3)),
        ]), 1..120),
    ) {
        let mut now = crate::clock::now();
        let (mut state, mut record) = (LimiterState::new(&limited(first, 3), now), Record::default());
        record.change(first, now);
        for (pause, step) in steps {
            now += Duration::from_nanos(pause);
            match step {
                Step::Charge { client, cost } => {
                    let admitted = charge(&mut state, client, (cost, 0), now);
                    admitted.iter().for_each(|_| record.charge(cost, now));
                }
                Step::Lease { late } => {
                    if let Some(leased) = charge(&mut state, 1, (0, 128), now) {
                        record.charge(leased, now + Duration::from_nanos(late).min(LEASE_TTL));
                    }
                }
                Step::Reconfigure(limit, clients_max) => {
                    state.reconfigure(&limited(limit, clients_max), now);
                    record.change(limit, now);
                }
                _ => {}
            }
        }
        let excess = record.excess();
        prop_assert!(excess <= 1e-3, "{excess} beyond the bound");
    }
}
