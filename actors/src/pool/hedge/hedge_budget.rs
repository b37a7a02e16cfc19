//! Budget of a bucket's hedges: a token bucket that requests fill, not time (as in gRPC's retry throttling and
//! Finagle's budgets).
//!
//! Every request credits a part of a hedge; a hedge spends a whole one. So hedges are at most that share of the
//! requests, plus the burst. The budget starts empty.

/// Cost of a hedge; a request credits `percent`.
const HEDGE: u64 = 100;

/// Hedge budget of one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HedgeBudget {
    percent: u64,
    balance_max: u64,
    balance: u64,
    /// Requests that are credited already.
    requests_credited: u64,
}

impl HedgeBudget {
    /// An empty budget; the `requests` so far are not credited.
    pub(crate) fn new(percent: u32, hedges_max: u32, requests: u64) -> Self {
        Self {
            percent: percent.into(),
            balance_max: u64::from(hedges_max) * HEDGE,
            balance: 0,
            requests_credited: requests,
        }
    }

    /// The budget after one more hedge, if it can pay for one after `requests` requests.
    pub(crate) fn spend(self, requests: u64) -> Option<Self> {
        let new = requests.saturating_sub(self.requests_credited);
        let balance = self.balance.saturating_add(new.saturating_mul(self.percent)).min(self.balance_max);
        Some(Self {
            balance: balance.checked_sub(HEDGE)?,
            requests_credited: requests.max(self.requests_credited),
            ..self
        })
    }

    /// Sets the balance to zero.
    pub(crate) fn emptied(self, requests: u64) -> Self {
        Self { balance: 0, requests_credited: requests.max(self.requests_credited), ..self }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// R5: one hedge per twenty requests, and no more at once than the burst, however long the budget was idle
    #[test]
    fn every_request_pays_for_a_part() {
        let mut budget = HedgeBudget::new(5, 3, 1_000);
        assert_eq!(budget.spend(1_019), None, "earlier requests are not credited");
        budget = budget.spend(1_020).unwrap();
        assert_eq!(budget.spend(1_039), None);
        budget = budget.spend(1_000_000).unwrap();
        budget = budget.spend(1_000_000).unwrap().spend(1_000_000).unwrap();
        assert_eq!(budget.spend(1_000_000), None);
        assert_eq!(budget.emptied(1_000_020).spend(1_000_039), None);
        assert_eq!(HedgeBudget::new(0, 3, 0).spend(u64::MAX), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        /// R5: after any number of requests the hedges are at most their share of the requests
        #[test]
        fn hedges_are_a_share_of_the_requests(
            steps in prop::collection::vec((0u64..200, 0u32..5), 1..100), percent in 0u32..=100, burst in 1u32..20,
        ) {
            let (mut budget, mut requests, mut hedges) = (HedgeBudget::new(percent, burst, 0), 0, 0);
            for (new, wanted) in steps {
                requests += new;
                let before = hedges;
                for _ in 0..wanted {
                    if let Some(spent) = budget.spend(requests) {
                        budget = spent;
                        hedges += 1;
                    }
                }
                prop_assert!(hedges * 100 <= requests * u64::from(percent), "{hedges} of {requests}");
                prop_assert!(hedges - before <= u64::from(burst));
            }
        }
    }
}
