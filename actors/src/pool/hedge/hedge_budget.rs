//! Budget of a bucket's hedges: a token bucket that requests fill, not time (as in gRPC's retry throttling and
//! Finagle's budgets).
//!
//! Every request credits a part of a hedge; a hedge spends a whole one. So hedges are at most that share of the
//! requests, plus the burst. The budget starts empty. The pools of a bucket share it, so that a reload credits no request
//! twice.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Cost of a hedge; a request credits `percent`.
const HEDGE: u64 = 100;

/// What the pools of a bucket have saved and spent together.
#[derive(Debug)]
struct Account {
    balance: u64,
    /// Requests that are credited already.
    requests_credited: u64,
}

/// Hedge budget of one bucket.
#[derive(Debug, Clone)]
pub(crate) struct HedgeBudget {
    percent: u64,
    balance_max: u64,
    account: Arc<Mutex<Account>>,
}

impl HedgeBudget {
    /// An empty budget; the `requests` so far are not credited.
    pub(crate) fn new(percent: u32, hedges_max: u32, requests: u64) -> Self {
        let account = Account { balance: 0, requests_credited: requests };
        Self {
            percent: percent.into(),
            balance_max: u64::from(hedges_max) * HEDGE,
            account: Arc::new(Mutex::new(account)),
        }
    }

    /// The budget of a pool that replaces this one's. No request is credited twice.
    pub(crate) fn successor(&self, percent: u32, hedges_max: u32) -> Self {
        let account = Arc::clone(&self.account);
        Self { percent: percent.into(), balance_max: u64::from(hedges_max) * HEDGE, account }
    }

    fn lock(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn balance(&self, account: &Account, requests: u64) -> u64 {
        let new = requests.saturating_sub(account.requests_credited);
        account.balance.saturating_add(new.saturating_mul(self.percent)).min(self.balance_max)
    }

    /// Whether it can pay for one more hedge after `requests` requests.
    pub(crate) fn has_room(&self, requests: u64) -> bool {
        self.balance(&self.lock(), requests) >= HEDGE
    }

    /// Pays for a hedge. Returns false without a change if the balance is too low.
    pub(crate) fn spend(&mut self, requests: u64) -> bool {
        let mut account = self.lock();
        let Some(balance) = self.balance(&account, requests).checked_sub(HEDGE) else { return false };
        account.balance = balance;
        account.requests_credited = requests.max(account.requests_credited);
        true
    }

    /// Sets the balance to zero.
    pub(crate) fn empty(&mut self, requests: u64) {
        let mut account = self.lock();
        account.balance = 0;
        account.requests_credited = requests.max(account.requests_credited);
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
        assert!(!budget.spend(1_019), "earlier requests are not credited");
        assert!(budget.has_room(1_020) && budget.spend(1_020));
        assert!(!budget.has_room(1_039) && !budget.spend(1_039));
        assert!((0..3).all(|_| budget.spend(1_000_000)));
        assert!(!budget.spend(1_000_000));
        budget.empty(1_000_020);
        assert!(!budget.spend(1_000_039));
        assert!(!HedgeBudget::new(0, 3, 0).spend(u64::MAX));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        /// R5, G3: after any number of requests the hedges are at most their share of the requests, whichever of two pools
        /// of the bucket spends
        #[test]
        fn hedges_are_a_share_of_the_requests(
            steps in prop::collection::vec((0u64..200, 0u32..5), 1..100), percent in 0u32..=100, burst in 1u32..20,
        ) {
            let (mut budget, mut requests, mut hedges) = (HedgeBudget::new(percent, burst, 0), 0, 0);
            let mut successor = budget.successor(percent, burst);
            for (new, wanted) in steps {
                requests += new;
                let before = hedges;
                for hedge in 0..wanted {
                    let of = if hedge % 2 == 0 { &mut budget } else { &mut successor };
                    hedges += u64::from(of.spend(requests));
                }
                prop_assert!(hedges * 100 <= requests * u64::from(percent), "{hedges} of {requests}");
                prop_assert!(hedges - before <= u64::from(burst));
            }
        }
    }
}
