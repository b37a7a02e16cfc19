//! GCRA over a global key, per-bucket keys and a bounded table of clients.
//!
//! A limit in shadow mode keeps its own account as if it enforced: what it would refuse it is not charged for, though the others
//! are. So turning it on later changes nothing but that it refuses.

use std::time::Instant;

use tidegate_config::RateLimit;

use crate::limiter::gcra::{Gcra, Tat, nanos};
use crate::limiter::limit_status::{Allowed, LimitScope, LimitStatus};
use crate::limiter::table::{TatSlot, TatTable};
use crate::types::{BucketId, IpKey};

/// The arrival times to write if the request is admitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Charge {
    /// Tokens charged in advance beyond those of the request that asked.
    pub(crate) leased: u32,
    /// What the request is told of the limits.
    pub(crate) allowed: Allowed,
    global: Option<Tat>,
    bucket: Option<(BucketId, Tat)>,
    client: Option<(TatSlot<IpKey>, Tat)>,
}

/// All limits and what is left of them.
#[derive(Debug)]
pub(crate) struct LimiterState {
    origin: Instant,
    global: Option<(Gcra, Tat)>,
    buckets: Vec<Option<(Gcra, Tat)>>,
    per_ip: Option<Gcra>,
    pub(super) clients: TatTable<IpKey>,
    /// Whether those who are admitted are told what is left.
    sends_headers: bool,
}

/// One look at the limits that apply to a request.
struct LimitsCheck {
    cost: u32,
    now: u64,
    sends_headers: bool,
    leased: u32,
    allowed: Allowed,
    refusal: Option<LimitStatus>,
}

impl LimitsCheck {
    /// The limit's arrival time if the request is charged to it.
    fn check(&mut self, gcra: &Gcra, tat: Tat, scope: LimitScope) -> Option<Tat> {
        match gcra.next_tat(tat, self.cost, self.now) {
            Ok(next) => {
                self.leased = self.leased.min(gcra.leasable(next, self.now));
                if self.sends_headers && !gcra.is_shadow() {
                    let tightest = Some(gcra.status_after(scope, next, self.now));
                    self.allowed = self.allowed.merge(Allowed { tightest, ..Allowed::default() });
                }
                Some(next)
            }
            Err(_) if gcra.is_shadow() => {
                self.leased = 0;
                self.allowed.shadowed.insert(scope);
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

    /// Tokens that every limit can spare, as many as whole requests of this cost take.
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
        Self {
            origin: now,
            global: global.map(|limit| (Gcra::new(limit), 0)),
            buckets: buckets.iter().map(|limit| limit.map(|limit| (Gcra::new(limit), 0))).collect(),
            per_ip: per_ip.map(Gcra::new),
            clients: TatTable::new(clients_max),
            sends_headers: false,
        }
    }

    /// Has those who are admitted told what is left.
    pub(crate) fn with_headers(self, sends_headers: bool) -> Self {
        Self { sends_headers, ..self }
    }

    /// Checks every limit that applies to a request of this cost, without charging any. `more` tokens are wanted in
    /// advance; with no cost, only those. A request that is about no bucket has the limits of the whole gateway.
    pub(crate) fn decide(
        &self,
        bucket: impl Into<Option<BucketId>>,
        client: IpKey,
        cost: u32,
        more: u32,
        now: Instant,
    ) -> Result<Charge, LimitStatus> {
        let bucket = bucket.into();
        let now = nanos(self.origin, now);
        let allowed = Allowed::default();
        let mut look = LimitsCheck {
            cost,
            now,
            sends_headers: self.sends_headers,
            leased: more,
            allowed,
            refusal: None,
        };
        let global = self.global.as_ref();
        let global = global.and_then(|(gcra, tat)| Some((gcra, look.check(gcra, *tat, LimitScope::Global)?)));
        let slot = self.per_ip.as_ref().map(|gcra| (gcra, self.clients.slot(client, now)));
        let client =
            slot.and_then(|(gcra, (slot, tat))| Some((gcra, slot, look.check(gcra, tat, LimitScope::Ip)?)));
        let limit = bucket.and_then(|bucket| self.buckets.get(bucket.index())?.as_ref());
        let of_bucket =
            limit.and_then(|(gcra, tat)| Some((gcra, look.check(gcra, *tat, LimitScope::Bucket)?)));
        if let Some(refusal) = look.refusal {
            return Err(refusal);
        }
        // Those who share one budget get no lease on it: it would be one client's luck at the cost of the others.
        let is_shared = matches!(slot, Some((_, (TatSlot::Overflow, _))));
        let leased = if is_shared { 0 } else { look.leasable() };
        let lend = |gcra: &Gcra, next: Tat| gcra.charge_lease(next, leased, now);
        Ok(Charge {
            leased,
            allowed: look.allowed,
            global: global.map(|(gcra, next)| lend(gcra, next)),
            bucket: bucket.zip(of_bucket.map(|(gcra, next)| lend(gcra, next))),
            client: client.map(|(gcra, slot, next)| (slot, lend(gcra, next))),
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
