//! The budget of two processes of an upgrade, compared with a list of all events (G8, R5).

use std::time::{Duration, Instant};

use proptest::prelude::*;
use tidegate_config::RetryBudgetConfig;

use super::hand_over::{ExportedRetries, RetriesInUse};
use super::{RetryBudget, RetryTicket};
use crate::clock;

const CONNECTIONS: u64 = 1_000;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// As it crosses: by JSON.
fn crossed(exported: &ExportedRetries) -> ExportedRetries {
    serde_json::from_str(&serde_json::to_string(exported).unwrap()).unwrap()
}

/// Begins as many retries as the budget allows.
fn begun(budget: &mut RetryBudget, granted: u64, now: Instant) -> Vec<RetryTicket> {
    std::iter::from_fn(|| budget.spend(granted, 0, now)).take(10_000).collect()
}

fn successor(
    config: RetryBudgetConfig,
    exported: &ExportedRetries,
    used: RetriesInUse,
    now: Instant,
) -> RetryBudget {
    let mut after = RetryBudget::new(config, now);
    after.spent().hold(used, 0, now);
    after.import(&crossed(exported), Duration::ZERO, 0, now);
    after
}

/// G8, R5: the requests of the predecessor allow retries once, and what it keeps is held until it ends, not for ten seconds
#[test]
fn the_retries_that_are_left_are_divided() {
    let t0 = clock::now();
    let config = RetryBudgetConfig { percent: 20, min_per_second: 0, min_concurrent: 1_000 };
    let mut before = RetryBudget::new(config, t0);
    assert!((0..40).all(|_| before.spend(1_000, 0, t0).is_some()), "of 200");
    let (exported, used) = before.hand_over((1_000, 0), 30, t0);
    assert_eq!(used.may_begin, 30);
    let mut after = successor(config, &exported, used, t0);
    assert_eq!(begun(&mut after, 0, t0).len(), 200 - 40 - 30);
    // Requests that the predecessor still gets allow it nothing more.
    assert_eq!(begun(&mut before, 9_000, t0).len(), 30);
    // In its next window the successor has retries for its own requests, and still holds what has not been reported.
    after.update(0, t0 + seconds(12), |_| {});
    assert_eq!(begun(&mut after, 1_000, t0 + seconds(12)).len(), 200 - 30);
    after.spent().hold(before.spent().lower(CONNECTIONS as usize), 1_000, t0 + seconds(12));
    assert_eq!(
        begun(&mut after, 1_000, t0 + seconds(12)).len(),
        0,
        "they were begun at that time, for all that it knows"
    );
    after.update(1_000, t0 + seconds(24), |_| {});
    assert_eq!(begun(&mut after, 2_000, t0 + seconds(24)).len(), 200);
}

/// G8, R5: retries in flight of both processes stay within the floor, and the end of the predecessor gives the successor all
#[test]
fn the_floor_of_retries_in_flight_is_not_doubled() {
    let t0 = clock::now();
    let config = RetryBudgetConfig { percent: 20, min_per_second: 1_000, min_concurrent: 10 };
    let mut before = RetryBudget::new(config, t0);
    let held: Vec<_> = (0..4).map_while(|_| before.spend(0, 0, t0)).collect();
    let (exported, used) = before.hand_over((0, 0), CONNECTIONS, t0);
    let mut after = successor(config, &exported, used, t0);
    let (more, of_after) = (begun(&mut before, 0, t0), begun(&mut after, 0, t0));
    assert_eq!(
        (held.len(), more.len(), of_after.len()),
        (4, 3, 3),
        "four in flight, and half of the free ones"
    );
    drop((held, more));
    after.spent().hold(before.spent().lower(1), 0, t0);
    let of_more = begun(&mut after, 0, t0);
    assert_eq!((of_more.len(), begun(&mut before, 0, t0).len()), (6, 1));
    after.spent().hold(RetriesInUse::default(), 0, t0);
    assert_eq!(begun(&mut after, 0, t0).len(), 1);
}

/// G8, R5: a budget that was not exported keeps nothing, and a failed upgrade gives it back
#[test]
fn a_failed_export_keeps_no_retry() {
    let t0 = clock::now();
    let config = RetryBudgetConfig { percent: 0, min_per_second: 3, min_concurrent: 10 };
    let mut before = RetryBudget::new(config, t0);
    let ticket = before.spend(0, 0, t0);
    assert_eq!(before.spent().keep_none(), RetriesInUse { may_begin: 0, in_flight: 1 });
    assert!(!before.has_room(0, 0, t0) && begun(&mut before, 0, t0).is_empty());
    assert_eq!(before.spent().lower(5), RetriesInUse { may_begin: 0, in_flight: 1 });
    before.spent().take_back();
    assert_eq!(begun(&mut before, 0, t0).len(), 9);
    drop(ticket);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// G8, R5: whichever process begins retries and whenever reports arrive, both together have at most the share of all requests or
    /// the floor, and never more in flight than the floor
    #[test]
    fn both_processes_stay_within_one_budget(
        steps in prop::collection::vec((0u64..1_200, 0u64..40, any::<bool>(), 0usize..4, 0usize..20), 2..200),
        hand_over_at in 0usize..100, connections in 0u64..30, elapsed in 0u64..2_500,
        percent in 0u32..=100, min_per_second in 0u32..3, min_concurrent in 1u32..8,
    ) {
        let config = RetryBudgetConfig { percent, min_per_second, min_concurrent };
        let mut now = clock::now();
        let mut budgets = vec![RetryBudget::new(config, now)];
        let (mut granted, mut out) = ([0, 0], [Vec::new(), Vec::new()]);
        let (mut requests, mut retries): (Vec<(Instant, u64)>, Vec<Instant>) = Default::default();
        let mut left = usize::try_from(connections).unwrap();
        for (number, (pause, new_requests, of_new, action, ended)) in steps.into_iter().enumerate() {
            now += Duration::from_millis(pause);
            if number == hand_over_at {
                let (exported, used) = budgets[0].hand_over((granted[0], 0), connections, now);
                now += Duration::from_millis(elapsed);
                let mut after = RetryBudget::new(config, now);
                after.spent().hold(used, 0, now);
                after.import(&crossed(&exported), Duration::from_millis(elapsed), 0, now);
                budgets.push(after);
            }
            let at = usize::from(of_new && budgets.len() > 1);
            // Updated before and after, so that the requests count at this time.
            budgets[at].update(granted[at], now, |_| {});
            granted[at] += new_requests;
            budgets[at].update(granted[at], now, |_| {});
            requests.push((now, new_requests));
            match action {
                0 => {
                    out[at].pop();
                }
                1 if budgets.len() > 1 => {
                    left = left.saturating_sub(ended);
                    let used = budgets[0].spent().lower(left);
                    budgets[1].spent().hold(used, granted[1], now);
                }
                _ => {
                    let ticket = budgets[at].spend(granted[at], 0, now);
                    retries.extend(ticket.iter().map(|_| now));
                    out[at].extend(ticket);
                }
            }
            let within = |at: Instant, span| at + seconds(span) > now;
            let of_window = retries.iter().filter(|at| within(**at, 9)).count() as u64;
            let all: u64 = requests.iter().filter(|(at, _)| within(*at, 19)).map(|(_, count)| count).sum();
            let max = (all * u64::from(percent) / 100).max(u64::from(min_per_second) * 10);
            prop_assert!(of_window <= max, "{of_window} retries of {all} requests");
            prop_assert!(out[0].len() + out[1].len() <= min_concurrent as usize, "{} in flight", out[0].len() + out[1].len());
        }
    }
}
