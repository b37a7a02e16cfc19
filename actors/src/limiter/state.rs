//! GCRA over a global key, per-bucket keys and a bounded table of clients.

use std::time::{Duration, Instant};

use tidegate_config::RateLimit;

use crate::limiter::gcra::{Gcra, Tat, nanos};
use crate::limiter::table::{Slot, Table};
use crate::types::{BucketId, IpKey};

/// Which limit refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All requests together.
    Global,
    /// This client's address.
    Ip,
    /// This bucket.
    Bucket,
    /// This client key.
    Key,
    /// This client's address, for authentications that fail.
    FailedAuth,
}

impl Scope {
    /// The word in reasons and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Ip => "ip",
            Self::Bucket => "bucket",
            Self::Key => "key",
            Self::FailedAuth => "failed_auth",
        }
    }
}

/// A refusal, with what the client is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limited {
    /// The limit that stays closed longest.
    pub scope: Scope,
    /// Its burst.
    pub burst: u32,
    /// Its rate per second.
    pub requests_per_second: f64,
    /// When one request fits again.
    pub retry_after: Duration,
    /// When the whole burst is there again.
    pub reset_after: Duration,
}

impl Limited {
    /// Too many failed authentications, for so long yet.
    pub(crate) fn of_failures(limit: RateLimit, wait: Duration) -> Self {
        Gcra::new(limit).refuse(Scope::FailedAuth, u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// The arrival times to write if the request is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Charge {
    /// Requests charged in advance beyond the one that asked.
    pub(crate) leased: u32,
    global: Option<Tat>,
    bucket: Option<(BucketId, Tat)>,
    client: Option<(Slot, Tat)>,
}

/// All limits and what is left of them.
#[derive(Debug)]
pub(crate) struct LimiterState {
    origin: Instant,
    global: Option<(Gcra, Tat)>,
    buckets: Vec<Option<(Gcra, Tat)>>,
    per_ip: Option<Gcra>,
    clients: Table,
}

impl LimiterState {
    pub(crate) fn new(
        global: Option<RateLimit>,
        per_ip: Option<RateLimit>,
        buckets: &[Option<RateLimit>],
        clients_max: usize,
        now: Instant,
    ) -> Self {
        Self {
            origin: now,
            global: global.map(|limit| (Gcra::new(limit), 0)),
            buckets: buckets.iter().map(|limit| limit.map(|limit| (Gcra::new(limit), 0))).collect(),
            per_ip: per_ip.map(Gcra::new),
            clients: Table::new(clients_max),
        }
    }

    /// Checks every limit that applies, without charging any. `more` admissions are wanted in advance.
    pub(crate) fn decide(
        &self,
        bucket: BucketId,
        client: IpKey,
        more: u32,
        now: Instant,
    ) -> Result<Charge, Limited> {
        let now = nanos(self.origin, now);
        let mut refusal: Option<Limited> = None;
        let mut leased = more;
        let mut check = |gcra: &Gcra, tat: Tat, scope: Scope| match gcra.next(tat, now) {
            Ok(next) => {
                leased = leased.min(gcra.spare(next, now));
                (next, gcra.interval)
            }
            Err(wait) => {
                let limited = gcra.refuse(scope, wait);
                if refusal.is_none_or(|other| other.retry_after < limited.retry_after) {
                    refusal = Some(limited);
                }
                (tat, 0)
            }
        };
        let global = self.global.as_ref().map(|(gcra, tat)| check(gcra, *tat, Scope::Global));
        let slot = self.per_ip.as_ref().map(|gcra| (gcra, self.clients.slot(client, now)));
        let client = slot.map(|(gcra, (slot, tat))| (slot, check(gcra, tat, Scope::Ip)));
        let limit = self.buckets.get(bucket.index()).and_then(Option::as_ref);
        let bucket = limit.map(|(gcra, tat)| (bucket, check(gcra, *tat, Scope::Bucket)));
        if let Some(limited) = refusal {
            return Err(limited);
        }
        // Those who share one budget get no lease on it: it would be one client's luck at the cost of the others.
        if matches!(client, Some((Slot::Overflow, _))) {
            leased = 0;
        }
        let ahead = |(next, interval): (Tat, u64)| next + u64::from(leased) * interval;
        Ok(Charge {
            leased,
            global: global.map(ahead),
            bucket: bucket.map(|(id, next)| (id, ahead(next))),
            client: client.map(|(slot, next)| (slot, ahead(next))),
        })
    }

    /// Charges what `decide` allowed.
    pub(crate) fn apply(&mut self, charge: Charge, now: Instant) {
        if let (Some(next), Some((_, tat))) = (charge.global, &mut self.global) {
            *tat = next;
        }
        if let Some((bucket, next)) = charge.bucket
            && let Some(Some((_, tat))) = self.buckets.get_mut(bucket.index())
        {
            *tat = next;
        }
        if let Some((slot, next)) = charge.client {
            self.clients.write(slot, next, nanos(self.origin, now));
        }
    }

    /// Everybody's burst is spent as of now: a crash in mid-write must not be an amnesty.
    pub(crate) fn rebuild(&mut self, now: Instant) {
        let nanos = nanos(self.origin, now);
        for (gcra, tat) in self.global.iter_mut().chain(self.buckets.iter_mut().flatten()) {
            *tat = nanos + gcra.tolerance;
        }
        let spent = nanos + self.per_ip.map_or(0, |gcra| gcra.tolerance);
        self.clients.rebuild(spent);
    }

    /// Clients in the table.
    pub(crate) fn clients(&self) -> usize {
        self.clients.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUCKET: BucketId = BucketId::new(0);

    fn limit(requests_per_second: f64, burst: u32) -> Option<RateLimit> {
        Some(RateLimit { requests_per_second, burst: burst.try_into().unwrap() })
    }

    fn client(n: u32) -> IpKey {
        IpKey::V4(n)
    }

    fn take(state: &mut LimiterState, from: u32, now: Instant) -> Result<(), Limited> {
        let charge = state.decide(BUCKET, client(from), 0, now)?;
        state.apply(charge, now);
        Ok(())
    }

    /// L2, L5: who lived on the shared budget and gets a place of its own does not get a burst on top
    #[test]
    fn a_place_of_its_own_is_no_fresh_budget() {
        let t0 = crate::clock::now();
        let mut state = LimiterState::new(None, limit(1.0, 2), &[None], 1, t0);
        assert!(take(&mut state, 1, t0).is_ok());
        assert!(take(&mut state, 2, t0).is_ok() && take(&mut state, 2, t0).is_ok(), "shared");
        let later = t0 + Duration::from_secs(1);
        assert!(take(&mut state, 2, later).is_ok(), "the first one is idle by now and leaves its place");
        assert!(take(&mut state, 2, later).is_err(), "three in a second are its limit");
        assert!(take(&mut state, 2, later + Duration::from_secs(1)).is_ok());
    }

    /// L1, L4
    #[test]
    fn the_burst_passes_then_the_rate() {
        let t0 = crate::clock::now();
        let mut state = LimiterState::new(None, limit(10.0, 3), &[None], 10, t0);
        for _ in 0..3 {
            assert_eq!(take(&mut state, 1, t0), Ok(()));
        }
        let limited = take(&mut state, 1, t0).unwrap_err();
        assert_eq!((limited.scope, limited.retry_after), (Scope::Ip, Duration::from_millis(100)));
        assert_eq!(take(&mut state, 2, t0), Ok(()), "another client has its own budget");
        assert_eq!(take(&mut state, 1, t0 + Duration::from_millis(100)), Ok(()));
        assert!(take(&mut state, 1, t0 + Duration::from_millis(100)).is_err());
    }

    /// L1: no token is spent on one limit when another refuses
    #[test]
    fn a_refusal_charges_no_limit() {
        let t0 = crate::clock::now();
        let mut state = LimiterState::new(limit(1.0, 5), limit(1.0, 1), &[limit(1.0, 5)], 10, t0);
        assert_eq!(take(&mut state, 1, t0), Ok(()));
        for _ in 0..20 {
            assert_eq!(take(&mut state, 1, t0).unwrap_err().scope, Scope::Ip);
        }
        for other in 2..6 {
            assert_eq!(take(&mut state, other, t0), Ok(()), "global and bucket were not charged");
        }
        assert!(take(&mut state, 7, t0).is_err());
    }

    /// S5: a crash is no amnesty
    #[test]
    fn a_rebuild_spends_every_burst() {
        let t0 = crate::clock::now();
        let mut state = LimiterState::new(limit(10.0, 5), limit(10.0, 5), &[limit(10.0, 5)], 10, t0);
        assert_eq!(take(&mut state, 1, t0), Ok(()));
        state.rebuild(t0);
        assert!(take(&mut state, 1, t0).is_err(), "known client");
        assert!(take(&mut state, 9, t0).is_err(), "unknown client");
        assert_eq!(take(&mut state, 9, t0 + Duration::from_millis(100)), Ok(()), "the rate goes on");
    }

    /// L5, P6
    #[test]
    fn a_million_clients_stay_in_the_table_and_share_what_is_beyond() {
        let t0 = crate::clock::now();
        let mut state = LimiterState::new(None, limit(1.0, 1), &[None], 1000, t0);
        let admitted = (0..1_000_000).filter(|n| take(&mut state, *n, t0).is_ok()).count();
        assert_eq!(admitted, 1001, "1000 clients of their own and one for all the others");
        assert_eq!(state.clients(), 1000);
        assert!(state.clients.sweep.len() <= 1000);
        let later = t0 + Duration::from_secs(60);
        let admitted = (2_000_000..2_000_500).filter(|n| take(&mut state, *n, later).is_ok()).count();
        assert!(admitted > 490, "idle clients make room, admitted {admitted}");
    }

    /// L2, L4: what is leased is charged, a burst is leased from only while half of it is left, small limits never
    #[test]
    fn leases_are_debited_in_advance() {
        let t0 = crate::clock::now();
        let mut state = LimiterState::new(None, limit(1.0, 4000), &[None], 10, t0);
        let mut admitted = 0;
        while let Ok(charge) = state.decide(BUCKET, client(1), 64, t0) {
            state.apply(charge, t0);
            admitted += 1 + charge.leased;
            assert_eq!(charge.leased, if admitted <= 2001 { 2 } else { 0 }, "after {admitted}");
        }
        assert_eq!(admitted, 4000);
        let small = LimiterState::new(None, limit(1.0, 1999), &[limit(1e6, 1_000_000)], 10, t0);
        assert_eq!(small.decide(BUCKET, client(1), 64, t0).unwrap().leased, 0);
    }

    proptest! {
        /// L2: over any window the admitted count stays within rate·window + burst
        #[test]
        fn never_more_than_rate_times_window_plus_burst(
            rate in 1u32..1000, burst in 1u32..50,
            steps in prop::collection::vec((0u64..50_000_000, 0u32..3, prop::bool::weighted(0.02)), 1..400),
        ) {
            let t0 = crate::clock::now();
            let rate = f64::from(rate);
            let mut state = LimiterState::new(None, None, &[limit(rate, burst)], 2, t0);
            let mut now = t0;
            let mut admitted: Vec<Instant> = Vec::new();
            for (step, from, crash) in steps {
                now += Duration::from_nanos(step);
                if crash {
                    state.rebuild(now);
                }
                if take(&mut state, from, now).is_ok() {
                    admitted.push(now);
                }
                for (i, first) in admitted.iter().enumerate() {
                    let count = (admitted.len() - i) as f64;
                    let window = now.duration_since(*first).as_secs_f64();
                    prop_assert!(count <= rate * window + f64::from(burst) + 1e-3 * count + 1e-6,
                        "{count} in {window} s");
                }
            }
        }
    }
}
