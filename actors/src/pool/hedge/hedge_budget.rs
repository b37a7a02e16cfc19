//! What a bucket's hedges may cost: every request pays in a part of one, and a hedge spends a whole one.
//!
//! A token bucket that requests fill, not time (as in gRPC's retry throttling and Finagle's budgets): whatever happens,
//! hedges are at most that share of the requests that came, plus what the purse holds. It is empty at the start.

/// A hedge, in what the purse is counted in.
const HEDGE: u64 = 100;

/// One bucket's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HedgeBudget {
    percent: u64,
    balance_max: u64,
    balance: u64,
    /// Requests that have paid in.
    requests_credited: u64,
}

impl HedgeBudget {
    /// Empty, and indebted to nobody for the requests so far.
    pub(crate) fn new(percent: u32, hedges_max: u32, requests: u64) -> Self {
        Self {
            percent: percent.into(),
            balance_max: u64::from(hedges_max) * HEDGE,
            balance: 0,
            requests_credited: requests,
        }
    }

    /// The purse after one more hedge, if there is enough in it after so many requests in all.
    pub(crate) fn spend(self, requests: u64) -> Option<Self> {
        let came = requests.saturating_sub(self.requests_credited);
        let holds = self.balance.saturating_add(came.saturating_mul(self.percent)).min(self.balance_max);
        Some(Self {
            balance: holds.checked_sub(HEDGE)?,
            requests_credited: requests.max(self.requests_credited),
            ..self
        })
    }

    /// Nothing is left.
    pub(crate) fn emptied(self, requests: u64) -> Self {
        Self { balance: 0, requests_credited: requests.max(self.requests_credited), ..self }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// R5: one hedge in twenty requests, and no more at once than the purse holds, however long it was left alone
    #[test]
    fn every_request_pays_for_a_part() {
        let mut purse = HedgeBudget::new(5, 3, 1_000);
        assert_eq!(purse.spend(1_019), None, "what came before pays nothing");
        purse = purse.spend(1_020).unwrap();
        assert_eq!(purse.spend(1_039), None);
        purse = purse.spend(1_000_000).unwrap();
        purse = purse.spend(1_000_000).unwrap().spend(1_000_000).unwrap();
        assert_eq!(purse.spend(1_000_000), None);
        assert_eq!(purse.emptied(1_000_020).spend(1_000_039), None);
        assert_eq!(HedgeBudget::new(0, 3, 0).spend(u64::MAX), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        /// R5: after any number of requests the hedges are at most their share of them
        #[test]
        fn hedges_are_a_share_of_the_requests(
            steps in prop::collection::vec((0u64..200, 0u32..5), 1..100), percent in 0u32..=100, most in 1u32..20,
        ) {
            let (mut purse, mut requests, mut hedges) = (HedgeBudget::new(percent, most, 0), 0, 0);
            for (came, wanted) in steps {
                requests += came;
                let before = hedges;
                for _ in 0..wanted {
                    if let Some(spent) = purse.spend(requests) {
                        purse = spent;
                        hedges += 1;
                    }
                }
                prop_assert!(hedges * 100 <= requests * u64::from(percent), "{hedges} of {requests}");
                prop_assert!(hedges - before <= u64::from(most));
            }
        }
    }
}
