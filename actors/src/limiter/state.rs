//! The state machine of the global, per-bucket and per-client limits.
//!
//! A limit in shadow mode is charged as if it enforced: a request that it would refuse is not charged to it, but to
//! the others. So enabling it later changes nothing except that it refuses.

use std::time::Instant;

use crate::ids::IdMap;
use crate::limiter::client_limits::{ClientLimits, LimitedClient};
use crate::limiter::exported_limits::LimitTimes;
use crate::limiter::gcra::{Gcra, LEASE_NANOS};
use crate::limiter::limit_clock::{LimitClock, Stop};
use crate::limiter::limit_status::{Allowed, LimitScope, LimitStatus};
use crate::limiter::peek::PeekedLimit;
use crate::limiter::settings::LimiterSettings;
use crate::limiter::table::TatSlot;
use crate::limiter::tat::Tat;
use crate::limiter::timed_limit::{TimedLimit, reconfigure, reconfigure_all, table};
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
    clock: LimitClock,
    global: Option<TimedLimit>,
    buckets: IdMap<BucketId, Option<TimedLimit>>,
    pub(super) per_ip: ClientLimits<IpKey>,
    /// The end of the last lease, whoever holds it.
    leased_until: u64,
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
    pub(crate) fn new(settings: &LimiterSettings, now: Instant) -> Self {
        Self {
            clock: LimitClock::new(now),
            global: settings.global.as_ref().map(TimedLimit::new),
            buckets: table(&settings.buckets),
            per_ip: ClientLimits::new(settings.per_ip.as_ref(), settings.clients_max, now),
            leased_until: 0,
            sends_headers: settings.sends_headers,
        }
    }

    /// The same state with rate-limit headers.
    #[cfg(test)]
    pub(super) fn sending_headers(self) -> Self {
        Self { sends_headers: true, ..self }
    }

    /// Replaces the limits. Used tokens stay used; buckets that the settings lack keep their limits.
    pub(super) fn reconfigure(&mut self, settings: &LimiterSettings, now: Instant) {
        let (at, now) = (now, self.clock.nanos(now));
        let lease_left = self.leased_until.saturating_sub(now);
        reconfigure(&mut self.global, settings.global.as_ref(), lease_left, now);
        reconfigure_all(&mut self.buckets, &settings.buckets, lease_left, now);
        self.per_ip.reconfigure(settings.per_ip.as_ref(), settings.clients_max, lease_left, at);
        self.sends_headers = settings.sends_headers;
    }

    /// Removes the limits of buckets that no configuration has any more.
    pub(super) fn forget(&mut self, is_gone: impl Fn(BucketId) -> bool) {
        self.buckets.retain(|bucket, _| !is_gone(bucket));
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
        let (bucket, limited) = (bucket.into(), self.per_ip.client(client, now));
        let now = self.clock.nanos(now);
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
        let global = global.and_then(|timed| {
            Some((timed.gcra(), check.check(timed.gcra(), timed.tat, LimitScope::Global)?))
        });
        let client = limited.and_then(|LimitedClient { gcra, slot, tat, .. }| {
            Some((gcra, slot, check.check(gcra, tat, LimitScope::Ip)?))
        });
        let limit = bucket.and_then(|bucket| self.buckets.get(bucket)?.as_ref());
        let bucket_tat = limit.and_then(|timed| {
            Some((timed.gcra(), check.check(timed.gcra(), timed.tat, LimitScope::Bucket)?))
        });
        if let Some(refusal) = check.refusal {
            return Err(refusal);
        }
        // Clients that share the overflow budget get no lease: a lease would favour one at the cost of the others.
        let is_shared = matches!(limited, Some(LimitedClient { slot: TatSlot::Overflow, .. }));
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
        let (limited, now) = (self.per_ip.client(client, now), self.clock.nanos(now));
        let of = |scope, gcra: &Gcra, tat| PeekedLimit::of(scope, gcra, tat, cost, now);
        let global = self.global.as_ref().map(|timed| of(LimitScope::Global, timed.gcra(), timed.tat));
        let per_ip = limited.map(|client| of(LimitScope::Ip, client.gcra, client.tat));
        let bucket = bucket.and_then(|bucket| self.buckets.get(bucket)?.as_ref());
        let bucket = bucket.map(|timed| of(LimitScope::Bucket, timed.gcra(), timed.tat));
        [global, per_ip, bucket].into_iter().flatten().collect()
    }

    /// Charges what `decide` allowed.
    pub(crate) fn apply(&mut self, charge: &Charge, now: Instant) {
        if let Some((slot, next)) = charge.client {
            self.per_ip.charge(slot, next, now);
        }
        let now = self.clock.nanos(now);
        if charge.leased > 0 {
            self.leased_until = self.leased_until.max(now + LEASE_NANOS);
        }
        if let (Some(next), Some(timed)) = (charge.global, &mut self.global) {
            timed.charge(next, now);
        }
        if let Some((bucket, next)) = charge.bucket
            && let Some(Some(timed)) = self.buckets.get_mut(bucket)
        {
            timed.charge(next, now);
        }
    }

    /// Spends every burst as of now: a crash during a write must not free budget.
    pub(crate) fn rebuild(&mut self, now: Instant) {
        self.per_ip.rebuild(now);
        let now = self.clock.nanos(now);
        for timed in self.global.iter_mut().chain(self.buckets.values_mut().flatten()) {
            timed.rebuild(now);
        }
    }

    /// The times as they cross to a successor. What this process keeps is used.
    pub(super) fn export(&self, times: &mut LimitTimes, connections: u64, now: Instant) {
        times.per_ip = self.per_ip.export(connections, now);
        let now = self.clock.nanos(now);
        times.lease_left = self.leased_until.saturating_sub(now);
        times.global = self.global.as_ref().map(|timed| timed.exported(connections, now));
        let buckets = self.buckets.iter();
        let buckets =
            buckets.filter_map(|(id, timed)| Some((id, timed.as_ref()?.exported(connections, now))));
        times.buckets = buckets.collect();
    }

    /// Goes on from the times of a predecessor.
    pub(super) fn import(&mut self, times: &LimitTimes, now: Instant) {
        if times.is_lost {
            return self.rebuild(now);
        }
        self.per_ip.import(times.per_ip.as_ref(), times.received(now), now);
        let (received, now) = (times.received(now), self.clock.nanos(now));
        if let (Some(timed), Some(exported)) = (&mut self.global, &times.global) {
            timed.import(exported, received, now);
        }
        for (id, exported) in &times.buckets {
            if let Some(Some(timed)) = self.buckets.get_mut(*id) {
                timed.import(exported, received, now);
            }
        }
    }

    /// Keeps what a hand-over leaves to this process: no token becomes free from now on.
    pub(super) fn freeze(&mut self, connections: u64, now: Instant) {
        self.per_ip.freeze(connections, now);
        let Some(now) = self.clock.stop(connections, now) else { return };
        for timed in self.global.iter_mut().chain(self.buckets.values_mut().flatten()) {
            timed.freeze(connections, now);
        }
    }

    /// Ends `freeze`: the hand-over has failed.
    pub(super) fn thaw(&mut self, now: Instant) {
        self.per_ip.thaw(now);
        let Some((stop, now)) = self.clock.resume(now) else { return };
        for timed in self.global.iter_mut().chain(self.buckets.values_mut().flatten()) {
            timed.thaw(stop, now);
        }
    }

    /// Lowers what is left after `freeze`.
    pub(super) fn lower(&mut self, tokens: u64) {
        self.per_ip.lower(tokens);
        let Some(Stop { at, .. }) = self.clock.stopped() else { return };
        for timed in self.global.iter_mut().chain(self.buckets.values_mut().flatten()) {
            timed.lower(tokens, at);
        }
    }

    /// Number of clients in the table.
    pub(crate) fn clients(&self) -> usize {
        self.per_ip.table.len()
    }
}
