//! GCRA over a global key, per-bucket keys and a bounded table of clients.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use tidegate_config::RateLimit;

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
}

impl Scope {
    /// The word in reasons and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Ip => "ip",
            Self::Bucket => "bucket",
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

/// Nanoseconds since the limiter was made: a theoretical arrival time.
type Tat = u64;

/// One limit in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Gcra {
    limit: RateLimit,
    /// Between two requests at the rate.
    interval: u64,
    /// How far the arrival time may run ahead.
    tolerance: u64,
}

impl Gcra {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and far below 2^64"
    )]
    fn new(limit: RateLimit) -> Self {
        let interval = (1e9 / limit.requests_per_second).max(1.0);
        let tolerance = interval * f64::from(limit.burst.get());
        Self { limit, interval: interval as u64, tolerance: tolerance as u64 }
    }

    /// How many requests more may be charged in advance: nothing unless half of the burst is left.
    fn spare(&self, tat: Tat, now: u64) -> u32 {
        let ahead = tat.saturating_sub(now);
        if ahead > self.tolerance / 2 { 0 } else { self.limit.burst.get() / 2000 }
    }

    fn next(&self, tat: Tat, now: u64) -> Result<Tat, u64> {
        let next = tat.max(now) + self.interval;
        let earliest = next.saturating_sub(self.tolerance);
        if earliest <= now { Ok(next) } else { Err(earliest - now) }
    }

    fn refuse(&self, scope: Scope, wait: u64) -> Limited {
        Limited {
            scope,
            burst: self.limit.burst.get(),
            requests_per_second: self.limit.requests_per_second,
            retry_after: Duration::from_nanos(wait),
            reset_after: Duration::from_nanos(wait + self.tolerance.saturating_sub(self.interval)),
        }
    }
}

/// Where a client's arrival time is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Own(IpKey),
    New(IpKey),
    Overflow,
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
    clients: HashMap<IpKey, Tat, ahash::RandomState>,
    /// The clients in the order in which they are looked at for idleness.
    sweep: VecDeque<IpKey>,
    clients_max: usize,
    overflow: Tat,
    /// What a client has used up that is not in the table: nothing, or all since a rebuild.
    floor: Tat,
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
            clients: HashMap::default(),
            sweep: VecDeque::new(),
            clients_max,
            overflow: 0,
            floor: 0,
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
        let now = self.nanos(now);
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
        let slot = self.per_ip.as_ref().map(|gcra| (gcra, self.slot(client)));
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
        match charge.client {
            Some((Slot::Own(client), next)) => {
                self.clients.insert(client, next);
            }
            Some((Slot::New(client), next)) => {
                self.sweep_two(now);
                self.clients.insert(client, next);
                self.sweep.push_back(client);
            }
            Some((Slot::Overflow, next)) => {
                self.sweep_two(now);
                self.overflow = next;
            }
            None => {}
        }
    }

    /// Everybody's burst is spent as of now: a crash in mid-write must not be an amnesty.
    pub(crate) fn rebuild(&mut self, now: Instant) {
        let nanos = self.nanos(now);
        for (gcra, tat) in self.global.iter_mut().chain(self.buckets.iter_mut().flatten()) {
            *tat = nanos + gcra.tolerance;
        }
        let spent = nanos + self.per_ip.map_or(0, |gcra| gcra.tolerance);
        self.clients.clear();
        self.sweep.clear();
        self.overflow = spent;
        self.floor = spent;
    }

    /// Clients in the table.
    pub(crate) fn clients(&self) -> usize {
        self.clients.len()
    }

    fn slot(&self, client: IpKey) -> (Slot, Tat) {
        match self.clients.get(&client) {
            Some(tat) => (Slot::Own(client), *tat),
            None if self.clients.len() < self.clients_max => (Slot::New(client), self.floor),
            None => (Slot::Overflow, self.overflow),
        }
    }

    /// Looks at the two oldest clients; an idle one, whose whole budget is there again, is forgotten.
    fn sweep_two(&mut self, now: Instant) {
        let now = self.nanos(now);
        for _ in 0..2 {
            let Some(client) = self.sweep.pop_front() else { return };
            // Forgetting sets it to the floor, so after a rebuild nobody is forgotten before the floor has passed.
            if self.clients.get(&client).is_some_and(|tat| *tat <= now && self.floor <= now) {
                self.clients.remove(&client);
            } else {
                self.sweep.push_back(client);
            }
        }
    }

    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
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
        assert!(state.sweep.len() <= 1000);
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
