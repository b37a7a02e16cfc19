//! The budget with scripted and random retries, compared with a list of all events (R5).

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock;

const CONFIG: RetryBudgetConfig =
    RetryBudgetConfig { percent: 20, min_per_second: 0, min_concurrent: 1_000_000 };

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Spends as many retries as the budget allows, each completed at once.
fn exhaust(budget: &mut RetryBudget, granted: u64, now: Instant) -> u64 {
    let mut retries = 0;
    while let Some(ticket) = budget.spend(granted, 0, now) {
        drop(ticket);
        retries += 1;
        assert!(retries < 1_000_000, "no limit on retries");
    }
    assert!(!budget.has_room(granted, 0, now));
    retries
}

/// R5: retries are a share of the requests of the last ten seconds
#[test]
fn retries_are_a_share_of_the_last_ten_seconds_requests() {
    let t0 = clock::now();
    let mut budget = RetryBudget::new(CONFIG, t0);
    assert_eq!(exhaust(&mut budget, 1000, t0 + millis(500)), 200);
    assert_eq!(exhaust(&mut budget, 1500, t0 + millis(5_500)), 100);
    assert_eq!(exhaust(&mut budget, 1500, t0 + millis(9_900)), 0, "the budget is spent");
    assert_eq!(exhaust(&mut budget, 1500, t0 + millis(15_900)), 0, "the requests have left the window too");
}

/// R5: a quiet bucket can retry
#[test]
fn a_few_retries_are_always_allowed() {
    let t0 = clock::now();
    let mut budget = RetryBudget::new(RetryBudgetConfig { min_per_second: 3, ..CONFIG }, t0);
    assert_eq!(exhaust(&mut budget, 1, t0), 30);
    assert_eq!(exhaust(&mut budget, 2, t0 + millis(9_000)), 0);
    assert_eq!(exhaust(&mut budget, 3, t0 + millis(10_000)), 30);
    assert_eq!(
        exhaust(&mut budget, 1003, t0 + millis(10_000)),
        170,
        "the larger of share and floor, not their sum"
    );
    let mut nothing = RetryBudget::new(RetryBudgetConfig { percent: 0, ..CONFIG }, t0);
    assert_eq!(exhaust(&mut nothing, 1_000_000, t0), 0);
}

/// R5: an hour of health does not allow a burst of retries in one second of outage
#[test]
fn old_requests_allow_no_retries() {
    let t0 = clock::now();
    let mut budget = RetryBudget::new(CONFIG, t0);
    let hour = Duration::from_secs(3600);
    let retries = exhaust(&mut budget, 3_600_000, t0 + hour);
    assert!((1_700..=2_000).contains(&retries), "a fifth of 10 s at 1000/s: {retries}");
}

/// R5: retries in flight are a share of the requests in flight
#[test]
fn retries_in_flight_are_bounded_and_released() {
    let t0 = clock::now();
    let config = RetryBudgetConfig { percent: 20, min_per_second: 1000, min_concurrent: 2 };
    let mut budget = RetryBudget::new(config, t0);
    let mut spend = |in_flight| budget.spend(0, in_flight, t0);
    let two = [spend(0).unwrap(), spend(0).unwrap()];
    assert!(spend(0).is_none() && spend(14).is_none());
    let third = spend(15).unwrap();
    assert!(spend(19).is_none());
    drop((two, third));
    assert!(spend(0).is_some());
}

/// R6: the amplification is that of the last ten seconds
#[test]
fn the_amplification_is_that_of_the_last_ten_seconds() {
    let t0 = clock::now();
    let mut budget = RetryBudget::new(CONFIG, t0);
    assert_eq!(budget.spent().amplification(0, t0), 1.0, "no requests yet");
    assert_eq!(exhaust(&mut budget, 100, t0 + millis(500)), 20);
    let seen = |granted, after| budget.spent().amplification(granted, t0 + millis(after));
    assert_eq!(seen(100, 500), 1.2);
    assert_eq!(seen(200, 600), 1.1);
    budget.count_hedge(200, t0 + millis(600));
    assert_eq!(budget.spent().amplification(200, t0 + millis(600)), 1.105);
    let seen = |granted, after| budget.spent().amplification(granted, t0 + millis(after));
    assert_eq!(seen(400, 11_000), 1.0, "the retries leave the window with their second");
}

/// S5: after a dirty restart the budget counts as spent until its window has passed
#[test]
fn an_exhausted_budget_allows_nothing_for_ten_seconds() {
    let t0 = clock::now();
    let mut budget = RetryBudget::new(RetryBudgetConfig { percent: 0, min_per_second: 3, ..CONFIG }, t0);
    budget.exhaust(5_000, t0);
    assert_eq!(exhaust(&mut budget, 10_000, t0 + millis(9_999)), 0);
    assert_eq!(exhaust(&mut budget, 10_000, t0 + millis(10_000)), 30);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// R5, G3: no retry is allowed that exceeds the share of the last ten seconds' requests or the floor, nor one that
    /// exceeds the bound on retries in flight, whichever of two pools of the bucket allows it
    #[test]
    fn no_window_is_overdrawn(
        steps in prop::collection::vec((0u64..1500, 0u64..40, any::<bool>(), any::<bool>()), 1..200),
        percent in 0u32..=100, min_per_second in 0u32..3, min_concurrent in 0u32..5,
    ) {
        let t0 = clock::now();
        let config = RetryBudgetConfig { percent, min_per_second, min_concurrent };
        let mut budget = RetryBudget::new(config, t0);
        let mut successor = RetryBudget::sharing(config, budget.spent());
        let (mut now_ms, mut granted, mut out) = (0u64, 0u64, Vec::new());
        // Requests and retries of each whole second.
        let mut model: Vec<(u64, u64)> = Vec::new();
        for (pause_ms, requests, ends, is_successor) in steps {
            now_ms += pause_ms;
            model.resize(usize::try_from(now_ms / 1000).unwrap() + 1, (0, 0));
            // Updated before and after the requests are added, so that they count in this second only.
            budget.update(granted, t0 + millis(now_ms), |_| {});
            granted += requests;
            successor.update(granted, t0 + millis(now_ms), |_| {});
            model.last_mut().unwrap().0 += requests;
            if ends {
                out.pop();
            }
            let in_flight = out.len() + usize::try_from(requests).unwrap();
            let of = if is_successor { &mut successor } else { &mut budget };
            let has_room = of.has_room(granted, in_flight, t0 + millis(now_ms));
            let ticket = of.spend(granted, in_flight, t0 + millis(now_ms));
            prop_assert_eq!(ticket.is_some(), has_room);
            if let Some(ticket) = ticket {
                out.push(ticket);
                model.last_mut().unwrap().1 += 1;
                let max = (in_flight as u64 * u64::from(percent) / 100).max(min_concurrent.into());
                prop_assert!(out.len() as u64 <= max, "{} in flight", out.len());
                let seconds = &model[model.len().saturating_sub(10)..];
                let requests: u64 = seconds.iter().map(|(requests, _)| requests).sum();
                let retries: u64 = seconds.iter().map(|(_, retries)| retries).sum();
                let max = (requests * u64::from(percent) / 100).max(u64::from(min_per_second) * 10);
                prop_assert!(retries <= max, "{retries} retries of {requests} requests");
            }
        }
        prop_assert_eq!(budget.spent.retrying.load(Ordering::Acquire), out.len());
        drop(out);
        prop_assert_eq!(successor.spent.retrying.load(Ordering::Acquire), 0);
    }
}
