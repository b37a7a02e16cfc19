//! The state machine of the global, per-bucket and per-client limits.
//!
//! A limit in shadow mode is charged as if it enforced: a request that it would refuse is not charged to it, but to
//! the others. So enabling it later changes nothing except that it refuses.

use std::sync::Arc;
use std::time::Instant;

use tidegate_config::RateLimit;

use crate::clock::nanos_between;
use crate::limiter::burst_peaks::{BurstPeak, BurstPeaks};
use crate::limiter::gcra::{Gcra, Tat};
use crate::limiter::limit_status::{Allowed, LimitScope, LimitStatus};
use crate::limiter::peek::PeekedLimit;
use crate::limiter::table::{TatSlot, TatTable};
use crate::types::{BucketId, IpKey};

/// The arrival times to write for an admitted request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Charge {
    /// Leased tokens, charged in addition to the request.
    pub(crate) leased: u32,
    /// Shadow refusals and the status for the response headers.
    pub(crate) allowed: Allowed,
    global: Option<Tat>,
    bucket: Option<(BucketId, Tat)>,
    client: Option<(TatSlot<IpKey>, Tat)>,
}

/// All limits and their arrival times.
#[derive(Debug)]
pub(crate) struct LimiterState {
    origin: Instant,
    global: Option<(Gcra, Tat)>,
    buckets: Vec<Option<(Gcra, Tat)>>,
    per_ip: Option<Gcra>,
    peaks: Arc<BurstPeaks>,
    pub(super) clients: TatTable<IpKey>,
    /// Whether admitted requests get rate-limit headers.
    sends_headers: bool,
}

/// One check of all limits that apply to a request.
struct LimitsCheck {
    cost: u32,
    now: u64,
    sends_headers: bool,
    leased: u32,
    allowed: Allowed,
    refusal: Option<LimitStatus>,
}

impl LimitsCheck {
    /// The limit's new arrival time if the request is charged to it.
    fn check(&mut self, gcra: &Gcra, tat: Tat, scope: LimitScope) -> Option<Tat> {
        match gcra.next_tat(tat, self.cost, self.now) {
            Ok(next) => {
                self.leased = self.leased.min(gcra.leasable(next, self.now));
                if self.sends_headers && !gcra.is_shadow() {
                    let tightest = Some(gcra.status_after(scope, next, self.now));
                    self.allowed.merge(Allowed { tightest, ..Allowed::default() });
                }
                Some(next)
            }
            Err(wait) if gcra.is_shadow() => {
                self.leased = 0;
                self.allowed.shadowed.push(gcra.status(scope, tat, wait, self.now));
                None
            }
            Err(wait) => {
                let refusal = gcra.status(scope, tat, wait, self.now);
                if self.refusal.is_none_or(|other| other.retry_after < refusal.retry_after) {
                    self.refusal = Some(refusal);
                }
                None
            }
        }
    }

    /// Tokens that every limit can lease, rounded down to whole requests of this cost.
    fn leasable(&self) -> u32 {
        if self.leased == 0 { 0 } else { self.leased - self.leased % self.cost.max(1) }
    }
}

impl LimiterState {
    pub(crate) fn new(
        global: Option<RateLimit>,
        per_ip: Option<RateLimit>,
        buckets: &[Option<RateLimit>],
        clients_max: usize,
        now: Instant,
    ) -> Self {
        let gcra = |limit: Option<RateLimit>| limit.map(Gcra::new);
        let peak = |limit: Option<RateLimit>| gcra(limit).as_ref().map(BurstPeak::new);
        let peaks = Arc::new(BurstPeaks {
            global: peak(global),
            per_ip: peak(per_ip),
            buckets: buckets.iter().map(|limit| peak(*limit)).collect(),
        });
        Self {
            origin: now,
            global: gcra(global).map(|gcra| (gcra, 0)),
            buckets: buckets.iter().map(|limit| gcra(*limit).map(|gcra| (gcra, 0))).collect(),
            per_ip: gcra(per_ip),
            peaks,
            clients: TatTable::new(clients_max),
            sends_headers: false,
        }
    }

    /// The peaks of the bursts.
    pub(crate) fn peaks(&self) -> &Arc<BurstPeaks> {
        &self.peaks
    }

    /// Enables rate-limit headers for admitted requests.
    pub(crate) fn with_headers(self, sends_headers: bool) -> Self {
        Self { sends_headers, ..self }
    }

    /// Checks every limit that applies to a request of this cost, without charging. `more` tokens are asked as a
    /// lease; with cost 0 only those. Without a bucket the limits of the whole gateway apply.
    pub(crate) fn decide(
        &self,
        bucket: impl Into<Option<BucketId>>,
        client: IpKey,
        cost: u32,
        more: u32,
        now: Instant,
    ) -> Result<Charge, LimitStatus> {
        let bucket = bucket.into();
        let now = nanos_between(self.origin, now);
        let allowed = Allowed::default();
        let mut check = LimitsCheck {
            cost,
            now,
            sends_headers: self.sends_headers,
            leased: more,
            allowed,
            refusal: None,
        };
        let global = self.global.as_ref();
        let global =
            global.and_then(|(gcra, tat)| Some((gcra, check.check(gcra, *tat, LimitScope::Global)?)));
        let slot = self.per_ip.as_ref().map(|gcra| (gcra, self.clients.slot(client, now)));
        let client =
            slot.and_then(|(gcra, (slot, tat))| Some((gcra, slot, check.check(gcra, tat, LimitScope::Ip)?)));
        let limit = bucket.and_then(|bucket| self.buckets.get(bucket.index())?.as_ref());
        let bucket_tat =
            limit.and_then(|(gcra, tat)| Some((gcra, check.check(gcra, *tat, LimitScope::Bucket)?)));
        if let Some(refusal) = check.refusal {
            return Err(refusal);
        }
        // Clients that share the overflow budget get no lease: a lease would favour one at the cost of the others.
        let is_shared = matches!(slot, Some((_, (TatSlot::Overflow, _))));
        let leased = if is_shared { 0 } else { check.leasable() };
        let leased_tat = |gcra: &Gcra, next: Tat| gcra.charge_lease(next, leased, now);
        Ok(Charge {
            leased,
            allowed: check.allowed,
            global: global.map(|(gcra, next)| leased_tat(gcra, next)),
            bucket: bucket.zip(bucket_tat.map(|(gcra, next)| leased_tat(gcra, next))),
            client: client.map(|(gcra, slot, next)| (slot, leased_tat(gcra, next))),
        })
    }

    /// The limits of a request of this cost, without a charge.
    pub(super) fn peek(
        &self,
        bucket: Option<BucketId>,
        client: IpKey,
        cost: u32,
        now: Instant,
    ) -> Vec<PeekedLimit> {
        let now = nanos_between(self.origin, now);
        let of = |scope, gcra: &Gcra, tat| PeekedLimit::of(scope, gcra, tat, cost, now);
        let global = self.global.as_ref().map(|(gcra, tat)| of(LimitScope::Global, gcra, *tat));
        let per_ip =
            self.per_ip.as_ref().map(|gcra| of(LimitScope::Ip, gcra, self.clients.slot(client, now).1));
        let bucket = bucket.and_then(|bucket| self.buckets.get(bucket.index())?.as_ref());
        let bucket = bucket.map(|(gcra, tat)| of(LimitScope::Bucket, gcra, *tat));
        [global, per_ip, bucket].into_iter().flatten().collect()
    }

    /// Charges what `decide` allowed.
    pub(crate) fn apply(&mut self, charge: &Charge, now: Instant) {
        let (now, peaks) = (nanos_between(self.origin, now), &self.peaks);
        let record = |peak: &Option<BurstPeak>, next| peak.iter().for_each(|peak| peak.record(next, now));
        if let (Some(next), Some((_, tat))) = (charge.global, &mut self.global) {
            *tat = next;
            record(&peaks.global, next);
        }
        if let Some((bucket, next)) = charge.bucket
            && let Some(Some((_, tat))) = self.buckets.get_mut(bucket.index())
        {
            *tat = next;
            record(&peaks.buckets[bucket.index()], next);
        }
        if let Some((slot, next)) = charge.client {
            self.clients.write(slot, next, now);
            record(&peaks.per_ip, next);
        }
    }

    /// Spends every burst as of now: a crash during a write must not free budget.
    pub(crate) fn rebuild(&mut self, now: Instant) {
        let now = nanos_between(self.origin, now);
        for (gcra, tat) in self.global.iter_mut().chain(self.buckets.iter_mut().flatten()) {
            *tat = now + gcra.tolerance;
        }
        let spent = now + self.per_ip.map_or(0, |gcra| gcra.tolerance);
        self.clients.rebuild(spent);
    }

    /// Number of clients in the table.
    pub(crate) fn clients(&self) -> usize {
        self.clients.len()
    }
}
