//! The budget under scripted and random retries, against a list of everything that happened (R5).

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock;

const CONFIG: RetryBudgetConfig =
    RetryBudgetConfig { percent: 20, min_per_second: 0, min_concurrent: 1_000_000 };

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// As many retries as there is room for, each over at once.
fn exhaust(budget: &mut RetryBudget, asked: u64, now: Instant) -> u64 {
    let mut retries = 0;
    while let Some(window) = budget.decide(asked, 0, now) {
        drop(budget.spend(window));
        retries += 1;
        assert!(retries < 1_000_000, "no bound");
    }
    retries
}

/// R5
#[test]
fn retries_are_a_share_of_the_last_ten_seconds_requests() {
    let t0 = clock::now();
    let mut budget = RetryBudget::new(CONFIG, t0);
    assert_eq!(exhaust(&mut budget, 1000, t0 + millis(500)), 200);
    assert_eq!(exhaust(&mut budget, 1500, t0 + millis(5_500)), 100);
    assert_eq!(exhaust(&mut budget, 1500, t0 + millis(9_900)), 0, "all of it is spent");
    assert_eq!(exhaust(&mut budget, 1500, t0 + millis(15_900)), 0, "and the requests have passed with it");
}

/// R5: a quiet bucket may retry at all
#[test]
fn a_few_retries_are_always_allowed() {
    let t0 = clock::now();
    let mut budget = RetryBudget::new(RetryBudgetConfig { min_per_second: 3, ..CONFIG }, t0);
    assert_eq!(exhaust(&mut budget, 1, t0), 30);
    assert_eq!(exhaust(&mut budget, 2, t0 + millis(9_000)), 0);
    assert_eq!(exhaust(&mut budget, 3, t0 + millis(10_000)), 30);
    assert_eq!(exhaust(&mut budget, 1003, t0 + millis(10_000)), 170, "the larger of the two, not their sum");
    let mut nothing = RetryBudget::new(RetryBudgetConfig { percent: 0, ..CONFIG }, t0);
    assert_eq!(exhaust(&mut nothing, 1_000_000, t0), 0);
}

/// R5: what an hour of health has brought is not there to be spent in a second of outage
#[test]
fn requests_of_long_ago_allow_nothing() {
    let t0 = clock::now();
    let mut budget = RetryBudget::new(CONFIG, t0);
    let hour = Duration::from_secs(3600);
    let retries = exhaust(&mut budget, 3_600_000, t0 + hour);
    assert!((1_700..=2_000).contains(&retries), "a fifth of 10 s at 1000/s: {retries}");
}

/// R5: a share of those under way
#[test]
fn retries_under_way_are_bounded_and_come_back() {
    let t0 = clock::now();
    let config = RetryBudgetConfig { percent: 20, min_per_second: 1000, min_concurrent: 2 };
    let mut budget = RetryBudget::new(config, t0);
    let mut take = |under_way| budget.decide(0, under_way, t0).map(|window| budget.spend(window));
    let two = [take(0).unwrap(), take(0).unwrap()];
    assert!(take(0).is_none() && take(14).is_none());
    let third = take(15).unwrap();
    assert!(take(19).is_none());
    drop((two, third));
    assert!(take(0).is_some());
}

/// R6: what is said of the attempts for each request is of the last ten seconds
#[test]
fn the_amplification_is_that_of_the_last_ten_seconds() {
    let t0 = clock::now();
    let mut budget = RetryBudget::new(CONFIG, t0);
    assert_eq!(budget.window().amplification(0, t0), 1.0, "nothing was asked for");
    assert_eq!(exhaust(&mut budget, 100, t0 + millis(500)), 20);
    let seen = |asked, after| budget.window().amplification(asked, t0 + millis(after));
    assert_eq!(seen(100, 500), 1.2);
    assert_eq!(seen(200, 600), 1.1);
    budget.count_hedge(200, t0 + millis(600));
    assert_eq!(budget.window().amplification(200, t0 + millis(600)), 1.105);
    let seen = |asked, after| budget.window().amplification(asked, t0 + millis(after));
    assert_eq!(seen(400, 11_000), 1.0, "and the retries are forgotten with their second");
}

/// S5: found dirty, the budget is no more than spent, and is there again after its window
#[test]
fn a_forfeited_budget_allows_nothing_for_ten_seconds() {
    let t0 = clock::now();
    let mut budget = RetryBudget::new(RetryBudgetConfig { percent: 0, min_per_second: 3, ..CONFIG }, t0);
    budget.exhaust(5_000, t0);
    assert_eq!(exhaust(&mut budget, 10_000, t0 + millis(9_999)), 0);
    assert_eq!(exhaust(&mut budget, 10_000, t0 + millis(10_000)), 30);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// R5: no retry is allowed with which the last ten seconds had more than the share of their requests or the floor, nor
    /// one that would be one too many under way
    #[test]
    fn no_window_is_overdrawn(
        steps in prop::collection::vec((0u64..1500, 0u64..40, any::<bool>()), 1..200),
        percent in 0u32..=100, min_per_second in 0u32..3, min_concurrent in 0u32..5,
    ) {
        let t0 = clock::now();
        let config = RetryBudgetConfig { percent, min_per_second, min_concurrent };
        let mut budget = RetryBudget::new(config, t0);
        let (mut now_ms, mut asked, mut out) = (0u64, 0u64, Vec::new());
        // For each whole second: requests and retries.
        let mut model: Vec<(u64, u64)> = Vec::new();
        for (pause_ms, requests, ends) in steps {
            now_ms += pause_ms;
            model.resize(usize::try_from(now_ms / 1000).unwrap() + 1, (0, 0));
            // Looked at before and after they come, so that they belong to this second alone.
            budget.window = budget.window.advance(asked, t0 + millis(now_ms));
            asked += requests;
            budget.window = budget.window.advance(asked, t0 + millis(now_ms));
            model.last_mut().unwrap().0 += requests;
            if ends {
                out.pop();
            }
            let under_way = out.len() + usize::try_from(requests).unwrap();
            if let Some(window) = budget.decide(asked, under_way, t0 + millis(now_ms)) {
                out.push(budget.spend(window));
                model.last_mut().unwrap().1 += 1;
                let most = (under_way as u64 * u64::from(percent) / 100).max(min_concurrent.into());
                prop_assert!(out.len() as u64 <= most, "{} under way", out.len());
                let seconds = &model[model.len().saturating_sub(10)..];
                let requests: u64 = seconds.iter().map(|(requests, _)| requests).sum();
                let retries: u64 = seconds.iter().map(|(_, retries)| retries).sum();
                let most = (requests * u64::from(percent) / 100).max(u64::from(min_per_second) * 10);
                prop_assert!(retries <= most, "{retries} retries of {requests} requests");
            }
        }
        prop_assert_eq!(budget.retrying.load(Ordering::Acquire), out.len());
        drop(out);
        prop_assert_eq!(budget.retrying.load(Ordering::Acquire), 0);
    }
}
