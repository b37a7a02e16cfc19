//! Hand-over of the limits to a successor (G8, L1, L2, L8).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tidegate_config::{LimitMode, RateLimit};

use crate::limiter::exported_limits::{ExportedTable, LimitTimes};
use crate::limiter::gcra::Gcra;
use crate::limiter::settings::{ConfiguredLimit, LimiterSettings};
use crate::limiter::state::LimiterState;
use crate::limiter::table::TatSlot;
use crate::limiter::tat::Tat;
use crate::types::{BucketId, IpKey};

const BUCKET: BucketId = BucketId::new(0);
/// The position of the limit of one client among the limits of a request.
const OF_CLIENT: usize = 1;

fn limit(requests_per_second: f64, burst: u32) -> RateLimit {
    RateLimit { requests_per_second, burst: burst.try_into().unwrap(), mode: LimitMode::Enforce }
}

fn per_ip(requests_per_second: f64, burst: u32, clients_max: usize) -> LimiterSettings {
    LimiterSettings::of_heads(None, Some(limit(requests_per_second, burst)), &[], clients_max)
}

/// Tokens of an admitted request with its lease.
fn charge(state: &mut LimiterState, client: u32, (cost, more): (u32, u32), now: Instant) -> Option<u32> {
    let charge = state.decide(BUCKET, IpKey::V4(client), cost, more, now).ok()?;
    state.apply(&charge, now);
    Some(cost + charge.leased)
}

fn admitted(state: &mut LimiterState, client: u32, now: Instant) -> u32 {
    (0..10_000).map_while(|_| charge(state, client, (1, 0), now)).sum()
}

/// As the document crosses: by JSON.
fn crossed(state: &LimiterState, connections: u64, now: Instant) -> LimitTimes {
    let mut times = LimitTimes { is_lost: false, ..LimitTimes::lost(now) };
    state.export(&mut times, connections, now);
    times.per_ip = times.per_ip.map(|table| {
        let text = serde_json::to_string(&table).unwrap();
        serde_json::from_str::<ExportedTable>(&text).unwrap()
    });
    times
}

fn hand_over(
    state: &mut LimiterState,
    settings: &LimiterSettings,
    connections: u64,
    (origin, now): (Instant, Instant),
) -> LimiterState {
    let times = crossed(state, connections, now);
    state.freeze(connections, now);
    let mut next = LimiterState::new(settings, origin);
    next.import(&times, now);
    next
}

/// G8, L2: the predecessor keeps one token for each connection, at most half of the free ones, and the successor has the others
#[test]
fn the_tokens_that_are_free_are_divided() {
    let t0 = crate::clock::now();
    for (used, connections, kept, left) in [(0, 3, 3, 17), (0, 1_000, 10, 10), (17, 9, 1, 2), (20, 9, 0, 0)] {
        let settings = per_ip(1.0, 20, 10);
        let mut before = LimiterState::new(&settings, t0);
        (0..used).for_each(|_| assert!(charge(&mut before, 1, (1, 0), t0).is_some()));
        let mut after = hand_over(&mut before, &settings, connections, (t0, t0));
        assert_eq!((admitted(&mut before, 1, t0), admitted(&mut after, 1, t0)), (kept, left), "{used}");
        let later = t0 + Duration::from_secs(2);
        assert_eq!((admitted(&mut before, 1, later), admitted(&mut after, 1, later)), (0, 2), "one refill");
        let unknown = (admitted(&mut before, 2, later), admitted(&mut after, 2, later));
        assert_eq!(unknown.0, u32::try_from(connections).unwrap().min(10), "a client that was not known");
        assert!(unknown.0 + unknown.1 <= 22, "{unknown:?}");
    }
}

/// G8: what is left to a predecessor falls with its connections
#[test]
fn fewer_connections_leave_fewer_tokens() {
    let (t0, settings) = (crate::clock::now(), per_ip(1.0, 20, 10));
    let mut before = LimiterState::new(&settings, t0);
    before.lower(0);
    assert!(charge(&mut before, 1, (1, 0), t0).is_some(), "without a hand-over nothing is lowered");
    hand_over(&mut before, &settings, 8, (t0, t0));
    before.lower(2);
    before.lower(5);
    assert_eq!((admitted(&mut before, 1, t0), admitted(&mut before, 2, t0)), (2, 2));
}

/// G8, S5: after a crash of the predecessor no token is left, and none comes back with a failed upgrade
#[test]
fn a_crash_after_the_hand_over_spends_what_is_left() {
    let (t0, settings) = (crate::clock::now(), per_ip(1.0, 20, 10));
    let mut before = LimiterState::new(&settings, t0);
    hand_over(&mut before, &settings, 8, (t0, t0));
    before.rebuild(t0);
    assert_eq!(admitted(&mut before, 1, t0 + Duration::from_secs(5)), 0);
    let later = t0 + Duration::from_secs(10);
    before.thaw(later);
    assert_eq!(admitted(&mut before, 1, later), 0);
    assert_eq!(admitted(&mut before, 1, later + Duration::from_secs(3)), 3);
}

/// G8, L2: another limit in the successor keeps the tokens in use, as in a reload
#[test]
fn a_changed_limit_keeps_the_tokens_in_use() {
    let t0 = crate::clock::now();
    let mut before = LimiterState::new(&per_ip(1.0, 20, 10), t0);
    (0..12).for_each(|_| assert!(charge(&mut before, 1, (1, 0), t0).is_some()));
    let mut raised = hand_over(&mut before, &per_ip(100.0, 30, 10), 4, (t0, t0));
    assert_eq!(admitted(&mut raised, 1, t0), 30 - 12 - 4);
    let mut lost = LimiterState::new(&per_ip(1.0, 20, 10), t0);
    lost.import(&LimitTimes::lost(t0), t0);
    assert_eq!(admitted(&mut lost, 1, t0), 0, "nothing is known, so every burst is spent");
}

/// G8: a full table crosses in bounded size
#[test]
fn a_hundred_thousand_clients_cross() {
    let (t0, clients) = (crate::clock::now(), 100_000);
    let settings = per_ip(0.1, 100, clients);
    let mut before = LimiterState::new(&settings, t0);
    for client in 0..u32::try_from(clients).unwrap() {
        assert!(charge(&mut before, u32::MAX - client, (1 + client % 90, 0), t0).is_some());
    }
    let table = crossed(&before, 50, t0).per_ip.unwrap();
    let bytes = serde_json::to_string(&table).unwrap().len();
    assert!((1_000_000..3_600_000).contains(&bytes), "{bytes}");
    let mut after = hand_over(&mut before, &settings, 50, (t0, t0));
    assert_eq!(after.clients(), clients);
    for client in [0, 17, 89, 99_999] {
        let free = 100 - (1 + client % 90);
        let kept = (free / 2).min(50);
        assert_eq!(admitted(&mut before, u32::MAX - client, t0), kept);
        assert_eq!(admitted(&mut after, u32::MAX - client, t0), free - kept);
    }
}

/// One request: at the successor, the client, the cost, tokens to lease, and the time since the one before.
type Step = (bool, u32, u32, u32, u64);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (any::<bool>(), 0u32..5, 1u32..4, prop::sample::select(vec![0, 0, 128]), 0u64..300_000_000);
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// G8, L1, L2: from the hand-over on, predecessor and successor together admit no more than one process would: per client,
    /// per bucket and in total
    #[test]
    fn two_processes_admit_no_more_than_one(
        rate in 0.5..3_000.0f64, burst in 4u32..6_000, connections in 0u64..50, clients_max in 1usize..6,
        before_steps in steps(), after_steps in steps(), late in 0u64..2_000_000_000, lowered in 0u64..50,
    ) {
        let t0 = crate::clock::now();
        let all = Some(limit(rate, burst));
        let settings = LimiterSettings::of_heads(all, all, &[all], clients_max);
        let gcra = Gcra::new(limit(rate, burst));
        let (mut before, mut now) = (LimiterState::new(&settings, t0), t0);
        for (_, client, cost, more, wait) in before_steps {
            charge(&mut before, client, (cost, more), now);
            now += Duration::from_nanos(wait);
        }
        let at = now;
        let ahead = |state: &LimiterState, client| {
            let peeked = state.peek(Some(BUCKET), IpKey::V4(client), 0, at);
            // Whole tokens that one process has at the hand-over, and a part of one.
            [0, 1, 2].map(|scope: usize| f64::from(peeked[scope].status.remaining) + 1.0)
        };
        let mut free: Vec<[f64; 3]> = (0..5).map(|client| ahead(&before, client)).collect();
        let now_nanos = u64::try_from((at - t0).as_nanos()).unwrap();
        for (client, free) in (0..5).zip(&mut free) {
            if !matches!(before.per_ip.table.slot(IpKey::V4(client), now_nanos).0, TatSlot::Own(_)) {
                // It shares a budget as long as the table is full, and may have a whole one afterwards.
                free[1] = f64::from(burst);
            }
        }
        let origin = at - Duration::from_nanos(late).min(at - t0);
        let mut after = hand_over(&mut before, &settings, connections, (origin, at));
        let interval = gcra.next_tat(Tat::default(), 1, 0).unwrap().at;
        let mut used = [0_u32; 7];
        for (number, (is_after, client, cost, more, wait)) in after_steps.into_iter().enumerate() {
            if number == 20 {
                before.lower(lowered);
            }
            let state = if is_after { &mut after } else { &mut before };
            if let Some(tokens) = charge(state, client, (cost, more), now) {
                [client as usize, 5, 6].into_iter().for_each(|cell| used[cell] += tokens);
            }
            let elapsed = u64::try_from((now - at).as_nanos()).unwrap();
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let refilled = elapsed as f64 / interval as f64;
            for (client, used) in used.iter().take(5).enumerate() {
                prop_assert!(f64::from(*used) <= free[client][1] + refilled + 1e-6, "client {client}: {used}");
            }
            prop_assert!(f64::from(used[5]) <= free[0][0] + refilled + 1e-6, "global: {}", used[5]);
            prop_assert!(f64::from(used[6]) <= free[0][2] + refilled + 1e-6, "bucket: {}", used[6]);
            now += Duration::from_nanos(wait);
        }
    }

    /// G8: a failed upgrade gives back what was not used, and no more: the limits refuse what they would have refused without it
    #[test]
    fn a_failed_upgrade_frees_nothing(
        burst in 2u32..60, connections in 0u64..50, clients_max in 1usize..6,
        before_steps in steps(), frozen_steps in steps(), later in 0u64..20_000_000_000,
    ) {
        let t0 = crate::clock::now();
        let all = Some(limit(5.0, burst));
        let settings = LimiterSettings::of_heads(all, all, &[all], clients_max);
        let mut states = [LimiterState::new(&settings, t0), LimiterState::new(&settings, t0)];
        let mut now = t0;
        let mut clients = BTreeSet::new();
        for (_, client, cost, _, wait) in before_steps {
            clients.insert(client);
            for state in &mut states {
                charge(state, client, (cost, 0), now);
            }
            now += Duration::from_nanos(wait);
        }
        let [upgraded, plain] = &mut states;
        upgraded.freeze(connections, now);
        let mut is_used = false;
        for (_, client, cost, _, wait) in frozen_steps {
            now += Duration::from_nanos(wait / 10);
            clients.insert(client);
            if charge(upgraded, client, (cost, 0), now).is_some() {
                is_used = true;
                charge(plain, client, (cost, 0), now);
            }
        }
        now += Duration::from_nanos(later);
        upgraded.thaw(now);
        for client in 0..5 {
            let remaining = |state: &LimiterState| {
                state.peek(Some(BUCKET), IpKey::V4(client), 0, now).iter().map(|one| one.status.remaining).collect()
            };
            let (left, without): (Vec<u32>, Vec<u32>) = (remaining(upgraded), remaining(plain));
            // A client that shares a budget because the table is full gets a whole one when a place is free, and while the clock stands
            // still none becomes free. So with a full table only the other limits are equal.
            let is_full = clients.len() > clients_max;
            let compared = left.iter().zip(&without).enumerate().filter(|(at, _)| !is_full || *at != OF_CLIENT);
            for (_, (left, without)) in compared {
                prop_assert!(left <= without && (is_used || left == without), "{left:?} {without:?}");
            }
        }
    }

    /// G8: no numbers in a document make a limit overflow, and none gives more than the burst
    #[test]
    fn any_numbers_are_bounded(
        interval in any::<u64>(), tolerance in any::<u64>(), ahead in any::<u64>(), lease_left in any::<u64>(),
        elapsed in any::<u64>(), cells in prop::collection::vec((any::<u32>(), any::<u64>()), 0..20),
    ) {
        let t0 = crate::clock::now();
        let document = serde_json::json!({
            "pace": {"interval": interval, "tolerance": tolerance}, "floor": ahead, "overflow": ahead, "short": cells,
        });
        let table: ExportedTable = serde_json::from_value(document.clone()).unwrap();
        let one = serde_json::from_value(document["pace"].clone()).unwrap();
        let limit = ConfiguredLimit::new(limit(10.0, 20));
        let imported = limit.gcra.imported(one, ahead, lease_left, elapsed);
        prop_assert!(imported.at <= 2_010_000_000 && imported.uncapped <= 1_000_010_000_000_000, "{imported:?}");
        let settings = per_ip(10.0, 20, 4);
        let mut state = LimiterState::new(&settings, t0);
        let times = LimitTimes { is_lost: false, lease_left, per_ip: Some(table), ..LimitTimes::lost(t0) };
        state.import(&times, t0 + Duration::from_nanos(elapsed.min(1 << 40)));
        let now = t0 + Duration::from_hours(1_000);
        prop_assert!(admitted(&mut state, 1, now) <= 20);
    }
}
