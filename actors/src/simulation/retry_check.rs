//! Retries, counted anew over a bucket's last seconds.
//!
//! The product counts whole seconds and takes requests to have come evenly between two looks; so the bound here is what holds
//! whichever way that falls: the retries of nine seconds against the requests of twenty.

use std::time::Duration;

use tidegate_config::RetryBudgetConfig;

/// Always within the product's window.
const RETRIES_SPAN: Duration = Duration::from_secs(9);
/// Whatever the product may take to lie within its window.
const REQUESTS_SPAN: Duration = Duration::from_secs(20);
/// Over which a floor per second adds up.
const WINDOW_SECONDS: u64 = 10;

/// One bucket's retries under watch. A leave to retry is seen later than it was given, perhaps by hours, so nothing is forgotten.
#[derive(Debug)]
pub(super) struct RetryCheck {
    budget: RetryBudgetConfig,
    requests: Vec<u64>,
    retries: Vec<u64>,
}

/// How many of these lie no further back than `span`.
fn count_within(times: &[u64], span: Duration, now: u64) -> u64 {
    let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    times.iter().filter(|at| at.saturating_add(span) > now).count() as u64
}

impl RetryCheck {
    pub(super) fn new(budget: RetryBudgetConfig) -> Self {
        Self { budget, requests: Vec::new(), retries: Vec::new() }
    }

    /// A request got its permit.
    pub(super) fn record_request(&mut self, now: u64) {
        self.requests.push(now);
    }

    /// A retry was allowed, then.
    pub(super) fn record_retry(&mut self, then: u64) -> Result<(), String> {
        let Self { budget, requests, retries } = self;
        retries.push(then);
        let until_then: Vec<u64> = retries.iter().copied().filter(|at| *at <= then).collect();
        let retries = count_within(&until_then, RETRIES_SPAN, then);
        let requests = count_within(requests, REQUESTS_SPAN, then);
        let share = requests * u64::from(budget.percent) / 100;
        let most = share.max(u64::from(budget.min_per_second) * WINDOW_SECONDS);
        if retries <= most {
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
    fn a_retry_too_many_is_seen() {
        let budget =
            |percent, min_per_second| RetryBudgetConfig { percent, min_per_second, min_concurrent: 1 };
        let mut shared = RetryCheck::new(budget(50, 0));
        (0..4).for_each(|at| shared.record_request(at));
        assert!(shared.record_retry(5).is_ok() && shared.record_retry(6).is_ok());
        assert!(shared.record_retry(7).is_err());
        let mut floored = RetryCheck::new(budget(0, 1));
        assert!((0..10).all(|at| floored.record_retry(at).is_ok()));
        assert!(floored.record_retry(10).is_err());
        assert!(floored.record_retry(10_000_000_000).is_ok(), "those of before are over");
    }
}
