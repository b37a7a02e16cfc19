//! Chooses the endpoint of a call among a bucket's endpoints.
//!
//! Choice: the cheaper of two random endpoints, by requests in flight and latency. One choice in eight ignores latency,
//! so that the latency of an unused endpoint is measured again. An endpoint that just returned gives up part of its
//! share (slow start). Only failures exclude an endpoint; only successes measure latency, or an endpoint that fails
//! fast would be preferred.
//!
//! *Panic*: the last usable endpoint is never excluded. If its failures call for an ejection, or if checks find every
//! endpoint unhealthy, all endpoints are called until a call of one succeeds: the least loaded one, and equal ones in turn, so that the
//! few trials of a half-open circuit reach each endpoint.
//!
//! *Drain*: a draining endpoint is never chosen, not even in a panic (`drained.rs`).
//!
//! *Standby*: the last `standby` endpoints serve while too few of the others are usable. Requests return once enough of
//! those have been usable for `return_after`, or at once if no standby endpoint is usable. See `docs/design/endpoint-health.md`.

mod actor;
mod drained;
mod ejection_counts;
pub(crate) mod endpoint;
pub(crate) mod endpoint_stats;
pub(crate) mod exported_endpoints;
pub(crate) mod settings;
pub(crate) mod tier;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::pool::load_balancer::endpoint::{
    EjectionAction, Endpoint, EndpointFailure, FailureKind, HealthCheckResult, WEIGHT_WHOLE,
};
use crate::pool::load_balancer::endpoint_stats::EndpointStatsTable;
use crate::pool::load_balancer::settings::LoadBalancerSettings;
use crate::pool::load_balancer::tier::{Tier, TierChange, TierRules};
use crate::seeded_rng::SeededRng;

/// One choice in this many ignores latency.
const LATENCY_IGNORED_ONE_IN: u64 = 8;

/// A change in the rotation, for logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndpointEvent {
    /// An endpoint was excluded.
    /// `failures`: those in a row.
    Excluded { endpoint: usize, action: EjectionAction, kind: FailureKind, failures: u32, time: Duration },
    /// Health checks found an endpoint unhealthy.
    /// `failures`: the failed checks in a row that this takes.
    FoundUnhealthy { endpoint: usize, failures: u32 },
    /// An endpoint is called again.
    Returned { endpoint: usize },
    /// All endpoints are called, because all failed.
    PanicEntered,
    /// A call succeeded in panic mode.
    PanicEnded,
    /// The standby endpoints serve, or the others again.
    TierChanged(TierChange),
}

/// The endpoints of one bucket.
#[derive(Debug)]
pub(crate) struct LoadBalancer {
    endpoints: Vec<Endpoint>,
    /// Which endpoints drain, as last read.
    drained: Vec<bool>,
    stats: Arc<EndpointStatsTable>,
    rules: LoadBalancerSettings,
    is_panicking: bool,
    /// The endpoint of the last choice among all.
    last_of_all: usize,
    tier: Tier,
    tier_rules: TierRules,
    events: Vec<EndpointEvent>,
    rng: SeededRng,
}

/// The state of a load balancer, by its own indices.
#[derive(Debug, Clone)]
pub(crate) struct LoadBalancerHistory {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) is_panicking: bool,
    pub(crate) tier: Tier,
}

impl LoadBalancerHistory {
    /// As far as it is published, for a pool that replaces one that does not answer.
    pub(crate) fn from_published(stats: &EndpointStatsTable, now: Instant) -> Self {
        let endpoint = |i| Endpoint::from_published(stats.endpoint(i).state(now), now);
        Self {
            endpoints: (0..stats.len()).map(endpoint).collect(),
            is_panicking: stats.is_panicking(),
            tier: stats.tier().unwrap_or(Tier::Primary),
        }
    }
}

impl LoadBalancer {
    pub(crate) fn new(
        stats: Arc<EndpointStatsTable>,
        rules: LoadBalancerSettings,
        seed: u64,
        now: Instant,
    ) -> Self {
        let endpoints = (0..stats.len()).map(|_| Endpoint::new(now)).collect();
        let drained = (0..stats.len()).map(|at| stats.endpoint(at).drain().is_draining(now)).collect();
        let (tier, tier_rules) = (Tier::Primary, TierRules::new(&rules, stats.len()));
        stats.publish_tier(tier, tier_rules);
        Self {
            endpoints,
            drained,
            stats,
            rules,
            is_panicking: false,
            last_of_all: 0,
            tier,
            tier_rules,
            events: Vec::new(),
            rng: SeededRng::new(seed),
        }
    }

    /// What a pool that replaces this one's goes on from.
    pub(crate) fn history(&self) -> LoadBalancerHistory {
        let Self { endpoints, is_panicking, tier, .. } = self;
        LoadBalancerHistory { endpoints: endpoints.clone(), is_panicking: *is_panicking, tier: *tier }
    }

    /// Goes on from the load balancer of the replaced pool. `sources`: the index there of each endpoint, if it has one.
    pub(crate) fn with_history(
        mut self,
        history: &LoadBalancerHistory,
        sources: &[Option<usize>],
        now: Instant,
    ) -> Self {
        self.adopt(history, sources, now);
        self
    }

    /// As `with_history`.
    pub(crate) fn adopt(&mut self, history: &LoadBalancerHistory, sources: &[Option<usize>], now: Instant) {
        let is_alone = self.endpoints.len() == 1;
        let known = |source: &Option<usize>| source.and_then(|at| history.endpoints.get(at));
        for (endpoint, source) in self.endpoints.iter_mut().zip(sources) {
            if let Some(known) = known(source) {
                *endpoint = known.successor(&self.rules, is_alone, now);
            }
        }
        // An endpoint that has not failed yet ends the panic. Without a usable one only a success ends an exclusion early.
        let are_all_known = sources.iter().all(|source| known(source).is_some());
        let has_panic = history.is_panicking || self.needs_panic();
        self.is_panicking = !is_alone && are_all_known && has_panic;
        if self.tier_rules.has_standby() {
            self.tier = history.tier;
        }
        self.publish_all();
    }

    /// Takes the events since the last call.
    pub(crate) fn drain_events(&mut self) -> Vec<EndpointEvent> {
        std::mem::take(&mut self.events)
    }

    /// Chooses an endpoint; `avoid` only if no other is usable. None if all drain.
    pub(crate) fn pick(&mut self, avoid: Option<usize>, now: Instant) -> Option<usize> {
        self.follow_drains(now);
        if self.endpoints.len() == 1 {
            return Some(0).filter(|_| !self.drained[0]);
        }
        self.return_due(now);
        self.update_tier(now);
        let tier = self.tier_rules.endpoints(self.tier);
        let others = |i: usize| avoid != Some(i);
        let serves = |this: &Self, i: usize| this.is_candidate(i) && tier.contains(&i);
        let is_any_usable = !self.is_panicking && self.has_candidate();
        if is_any_usable {
            self.choose_of_two(|this, i| serves(this, i) && others(i), now)
                .or_else(|| self.choose_of_two(|this, i| serves(this, i), now))
        } else {
            self.choose_round_robin(others).or_else(|| self.choose_round_robin(|_| true))
        }
    }

    /// The least loaded of all endpoints; of equal ones the first after the last choice.
    fn choose_round_robin(&mut self, may: impl Fn(usize) -> bool) -> Option<usize> {
        let count = self.endpoints.len();
        let after_last = (1..=count).map(|step| (self.last_of_all + step) % count);
        let after_last = after_last.filter(|i| may(*i) && !self.drained[*i]);
        let chosen = after_last.min_by_key(|i| self.stats.endpoint(*i).load())?;
        self.last_of_all = chosen;
        Some(chosen)
    }

    fn choose_of_two(&mut self, may: impl Fn(&Self, usize) -> bool, now: Instant) -> Option<usize> {
        let (one, two, three) = (self.rng.next_u64(), self.rng.next_u64(), self.rng.next_u64());
        let candidates = || (0..self.endpoints.len()).filter(|i| may(self, *i));
        let count = candidates().count() as u64;
        if count < 2 {
            return candidates().next();
        }
        let nth = |n: u64| candidates().nth(usize::try_from(n).unwrap_or(0));
        let at = one % count;
        let first = nth(at)?;
        let second = nth((at + 1 + two % (count - 1)) % count)?;
        let cost = |i: usize| match three % LATENCY_IGNORED_ONE_IN {
            0 => self.stats.endpoint(i).load() as u64,
            _ => self.stats.endpoint(i).cost(),
        };
        let (better, other) = if cost(second) < cost(first) { (second, first) } else { (first, second) };
        let weight = |i: usize| self.endpoints[i].weight(self.rules.slow_start, now);
        let passes_on = (three >> 8) % u64::from(WEIGHT_WHOLE) >= u64::from(weight(better));
        Some(if passes_on && weight(other) > weight(better) { other } else { better })
    }

    pub(crate) fn record_failure(&mut self, endpoint: usize, failure: &EndpointFailure, now: Instant) {
        if self.endpoints.len() == 1 {
            return;
        }
        self.return_due(now);
        let action = self.endpoints[endpoint].record_failure(failure, &self.rules, now);
        self.stats.ejection_counts().record_failures(self.endpoints[endpoint].consecutive_failures());
        let Some(action) = action else { return };
        if self.is_panicking {
            return;
        }
        let has_other = (0..self.endpoints.len()).any(|i| i != endpoint && self.is_candidate(i));
        match action {
            EjectionAction::Eject(_) if !has_other => {
                self.enter_panic();
            }
            EjectionAction::Eject(_) if self.may_eject_one_more() => {
                self.exclude(endpoint, action, failure.kind, now);
            }
            // A call to an unreachable endpoint would be wasted, so the ejection limit does not apply.
            _ if has_other && failure.kind == FailureKind::Unreachable => {
                self.exclude(endpoint, EjectionAction::BackOff, failure.kind, now);
            }
            _ => {}
        }
    }

    fn may_eject_one_more(&self) -> bool {
        let ejected = self.endpoints.iter().filter(|endpoint| endpoint.is_ejected()).count();
        (ejected + 1) * 100 <= self.rules.ejected_max_percent * self.endpoints.len()
    }

    fn exclude(&mut self, endpoint: usize, action: EjectionAction, kind: FailureKind, now: Instant) {
        let jitter = self.rng.fraction();
        let failures = self.endpoints[endpoint].consecutive_failures();
        let time = self.endpoints[endpoint].exclude(action, kind, &self.rules, jitter, now);
        if let EjectionAction::Eject(trip) = action {
            self.stats.endpoint(endpoint).count_ejection();
            self.stats.ejection_counts().count(trip.rule);
        }
        self.publish(endpoint);
        self.events.push(EndpointEvent::Excluded { endpoint, action, kind, failures, time });
    }

    /// A call succeeded in panic mode.
    pub(crate) fn record_success(&mut self, endpoint: usize, now: Instant) {
        if self.is_panicking && !self.drained[endpoint] {
            let successes = self.stats.endpoint(endpoint).successes();
            if self.endpoints[endpoint].excluded_until().is_some() {
                self.endpoints[endpoint].end_exclusion(successes, now);
                self.publish_return(endpoint);
            }
            self.end_panic();
        }
    }

    pub(crate) fn record_check(&mut self, endpoint: usize, check: &HealthCheckResult, now: Instant) {
        self.return_due(now);
        let successes = self.stats.endpoint(endpoint).successes();
        if !self.endpoints[endpoint].record_check(check, &self.rules, successes, now) {
            self.publish(endpoint);
        } else if self.endpoints[endpoint].is_usable() {
            self.publish_return(endpoint);
            if self.is_candidate(endpoint) {
                self.end_panic();
            }
        } else {
            self.publish(endpoint);
            let failures = self.rules.unhealthy_threshold;
            self.events.push(EndpointEvent::FoundUnhealthy { endpoint, failures });
        }
    }

    /// A connection that began at `began` succeeded.
    pub(crate) fn record_connected(&mut self, endpoint: usize, began: Instant, now: Instant) {
        self.return_due(now);
        if self.endpoints[endpoint].is_disproven_by_connect(began) {
            let successes = self.stats.endpoint(endpoint).successes();
            self.endpoints[endpoint].end_exclusion(successes, now);
            self.publish_return(endpoint);
        }
        if self.is_candidate(endpoint) {
            self.end_panic();
        }
    }

    /// Publishes the state of all endpoints, after a crash in mid-write.
    pub(crate) fn publish_all(&self) {
        (0..self.endpoints.len()).for_each(|endpoint| self.publish(endpoint));
        self.stats.publish_drains();
        self.stats.set_panicking(self.is_panicking);
        self.stats.publish_tier(self.tier, self.tier_rules);
    }

    fn end_panic(&mut self) {
        if std::mem::take(&mut self.is_panicking) {
            self.stats.set_panicking(false);
            self.events.push(EndpointEvent::PanicEnded);
        }
    }

    /// Returns endpoints after their exclusion has expired.
    fn return_due(&mut self, now: Instant) {
        self.follow_drains(now);
        for endpoint in 0..self.endpoints.len() {
            if self.endpoints[endpoint].excluded_until().is_some_and(|due| due <= now) {
                let successes = self.stats.endpoint(endpoint).successes();
                self.endpoints[endpoint].end_exclusion(successes, now);
                self.publish_return(endpoint);
            }
        }
    }

    fn publish_return(&mut self, endpoint: usize) {
        self.stats.endpoint(endpoint).reset_latency();
        self.publish(endpoint);
        if self.endpoints[endpoint].is_usable() {
            self.events.push(EndpointEvent::Returned { endpoint });
        }
    }

    fn publish(&self, endpoint: usize) {
        self.stats.endpoint(endpoint).publish(self.endpoints[endpoint].state());
    }

    /// Changes the tier that serves: primary or standby.
    fn update_tier(&mut self, now: Instant) {
        if !self.tier_rules.has_standby() {
            return;
        }
        let (next, change) = self.tier_rules.next(self.tier, |i| self.is_candidate(i), now);
        if next != self.tier {
            self.tier = next;
            self.stats.publish_tier(next, self.tier_rules);
        }
        self.events.extend(change.map(EndpointEvent::TierChanged));
    }
}

#[cfg(test)]
mod tests;
