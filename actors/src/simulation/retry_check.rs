//! Checks a bucket's retries, independently of the product's algorithm.
//!
//! The product counts whole seconds and spreads requests evenly between two updates. The bound here holds in any case:
//! the retries of nine seconds against the requests of twenty.

use std::time::Duration;

use tidegate_config::RetryBudgetConfig;

/// Always within the product's window.
const RETRIES_SPAN: Duration = Duration::from_secs(9);
/// At least what the product may count to its window.
const REQUESTS_SPAN: Duration = Duration::from_secs(20);
/// The window over which the floor per second adds up.
const WINDOW_SECONDS: u64 = 10;

/// Retries of one bucket. A retry is seen later than it was allowed, perhaps by hours, so nothing is dropped.
#[derive(Debug)]
pub(super) struct RetryCheck {
    budget: RetryBudgetConfig,
    requests: Vec<u64>,
    retries: Vec<u64>,
}

/// Number of times that lie within `span` before `now`.
fn count_within(times: &[u64], span: Duration, now: u64) -> u64 {
    let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    times.iter().filter(|at| at.saturating_add(span) > now).count() as u64
}

impl RetryCheck {
    pub(super) fn new(budget: RetryBudgetConfig) -> Self {
        Self { budget, requests: Vec::new(), retries: Vec::new() }
    }

    /// A request was granted a permit.
    pub(super) fn record_request(&mut self, now: u64) {
        self.requests.push(now);
    }

    /// A retry was allowed at `then`.
    pub(super) fn record_retry(&mut self, then: u64) -> Result<(), String> {
        let Self { budget, requests, retries } = self;
        retries.push(then);
        let until_then: Vec<u64> = retries.iter().copied().filter(|at| *at <= then).collect();
        let retries = count_within(&until_then, RETRIES_SPAN, then);
        let requests = count_within(requests, REQUESTS_SPAN, then);
        let share = requests * u64::from(budget.percent) / 100;
        let max = share.max(u64::from(budget.min_per_second) * WINDOW_SECONDS);
        if retries <= max {
            return Ok(());
        }
        Err(format!("{retries} retries in {RETRIES_SPAN:?}, {requests} requests, {budget:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R5: a share of the requests, and the floor
    #[test]
    fn an_excess_retry_is_detected() {
        let budget =
            |percent, min_per_second| RetryBudgetConfig { percent, min_per_second, min_concurrent: 1 };
        let mut with_share = RetryCheck::new(budget(50, 0));
        (0..4).for_each(|at| with_share.record_request(at));
        assert!(with_share.record_retry(5).is_ok() && with_share.record_retry(6).is_ok());
        assert!(with_share.record_retry(7).is_err());
        let mut with_floor = RetryCheck::new(budget(0, 1));
        assert!((0..10).all(|at| with_floor.record_retry(at).is_ok()));
        assert!(with_floor.record_retry(10).is_err());
        assert!(with_floor.record_retry(10_000_000_000).is_ok(), "earlier retries have left the window");
    }
}
