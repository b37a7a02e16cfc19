//! What must hold, written down apart from the code that is to keep it: who holds what, who was admitted when, who waits
//! before whom.
//!
//! The first thing found wrong is kept; the scheduler looks after each step. What a client holds is counted by the client, not by
//! the gates, so that the two can be compared.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tidegate_config::{Config, Costs, Priority};

use crate::breaker::{BreakerView, CircuitState};
use crate::limiter::{LimitScope, LimitScopes};
use crate::pool::{CredentialId, PoolHandle};
use crate::simulation::circuit_observer::{CircuitObserver, CircuitRef, CircuitTerms};
use crate::simulation::credential_observer::CredentialObserver;
use crate::simulation::endpoint_observer::EndpointObserver;
use crate::simulation::rate_check::RateCheck;
use crate::simulation::retry_check::RetryCheck;
use crate::types::{BucketId, IpKey, KeyId, OperationClass};

/// What must never happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invariant {
    /// More requests were admitted than a limit allows (L2, S5).
    Limit,
    /// More was asked for a second time than its share of the requests (R5).
    Hedges,
    /// More is held than a gate allows, by more than one, or without a permit (P2, P3).
    Gate,
    /// Something is counted that nobody holds any more (P2, S5).
    Leak,
    /// A waiter was served before one of its class that came earlier (P4).
    Order,
    /// A circuit admitted what it should not have (B2, B4, S5).
    Circuit,
    /// An endpoint was called that is left out, or too many are (P5).
    Endpoint,
    /// More requests go on with a credential than may, or with one that is left alone (C3).
    Credential,
    /// Something stands still though nothing keeps it (B4, P4).
    Stuck,
    /// A cache or a queue holds more than its bound, or another's identity (C1).
    Cache,
    /// The level of resources fell before its dwell was over (X1).
    Level,
    /// An actor panicked of its own accord, or the simulation did.
    Panic,
    /// The simulation could not begin.
    Setup,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Limit => "a limit is exceeded",
            Self::Hedges => "there are too many hedges",
            Self::Gate => "a gate is exceeded",
            Self::Leak => "something leaks",
            Self::Order => "the queue is out of order",
            Self::Circuit => "a circuit was passed by",
            Self::Endpoint => "the wrong endpoint is called",
            Self::Credential => "a credential is misused",
            Self::Stuck => "something stands still",
            Self::Cache => "a cache is wrong",
            Self::Level => "a level fell too early",
            Self::Panic => "something panicked",
            Self::Setup => "the simulation could not begin",
        })
    }
}

/// A count that lives as long as what is counted.
#[derive(Debug)]
pub(super) struct CountGuard(Rc<Cell<usize>>);

impl CountGuard {
    pub(super) fn increment(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for CountGuard {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// What clients hold of a bucket.
#[derive(Debug, Default)]
pub(super) struct BucketLedger {
    pub(super) permits: Rc<Cell<usize>>,
    pub(super) calls: Rc<Cell<usize>>,
    /// Second tries under way.
    pub(super) retries: Rc<Cell<usize>>,
    /// Requests that were granted a permit, and hedges beside them.
    granted: u64,
    hedges: u64,
    /// Who waits in its queue, by the time of coming.
    pub(super) waiting: BTreeMap<u64, (usize, Priority)>,
    /// Who was handed a permit and must not have overtaken anybody.
    pub(super) granted_in_order: Vec<(u64, Priority)>,
    next_position: u64,
}

/// Everything that is known from outside.
pub(super) struct Ledger {
    pub(super) origin: Instant,
    pub(super) violation: Option<(Invariant, String)>,
    pub(super) slots: Rc<Cell<usize>>,
    pub(super) buckets: Vec<BucketLedger>,
    /// By bucket, then by class; a bucket with one circuit for all classes uses the first.
    circuits: Vec<[CircuitObserver; OperationClass::ALL.len()]>,
    /// Hedges in percent of the requests, by bucket.
    hedges_percent: Vec<u32>,
    /// What requests cost of the limits, by bucket.
    costs: Vec<Costs>,
    pub(super) endpoints: Vec<EndpointObserver>,
    retry_checks: Vec<RetryCheck>,
    pub(super) credentials: Vec<CredentialObserver>,
    global: Option<RateCheck<()>>,
    per_bucket: Vec<Option<RateCheck<()>>>,
    per_client: Option<RateCheck<IpKey>>,
    per_key: Vec<Option<RateCheck<()>>>,
    failures: Option<RateCheck<IpKey>>,
    pub(super) admitted: u64,
}

impl Ledger {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        let limits = &config.rate_limit;
        let circuits = |bucket: &tidegate_config::BucketConfig| {
            let breaker = &bucket.upstream.circuit_breaker;
            let terms = CircuitTerms {
                trials_max: breaker.half_open_max_requests.get() as usize,
                success_threshold: breaker.success_threshold.get(),
            };
            OperationClass::ALL.map(|_| CircuitObserver::new(terms, now))
        };
        let upstreams = || config.buckets.values().map(|bucket| &bucket.upstream);
        Self {
            origin: now,
            violation: None,
            slots: Rc::default(),
            buckets: config.buckets.iter().map(|_| BucketLedger::default()).collect(),
            circuits: config.buckets.values().map(circuits).collect(),
            hedges_percent: config
                .buckets
                .values()
                .map(|bucket| bucket.upstream.hedging.percent.get())
                .collect(),
            costs: config.buckets.values().map(|bucket| bucket.costs).collect(),
            endpoints: upstreams()
                .map(|it| EndpointObserver::new(&it.load_balancing, it.endpoints.len()))
                .collect(),
            credentials: upstreams()
                .map(|upstream| CredentialObserver::new(upstream.credentials_by_name.len()))
                .collect(),
            retry_checks: upstreams().map(|upstream| RetryCheck::new(upstream.retry.budget)).collect(),
            global: limits.global.map(RateCheck::new),
            per_bucket: config.buckets.values().map(|bucket| bucket.rate_limit.map(RateCheck::new)).collect(),
            per_client: limits.per_ip.map(RateCheck::new),
            per_key: config
                .keys
                .values()
                .map(|key| key.rate_limit.or(limits.per_key).map(RateCheck::new))
                .collect(),
            failures: limits.failed_auth.map(RateCheck::new),
            admitted: 0,
        }
    }

    /// Keeps the first thing that is wrong.
    pub(super) fn record_violation(&mut self, invariant: Invariant, what: impl Into<String>) {
        if self.violation.is_none() {
            self.violation = Some((invariant, what.into()));
        }
    }

    pub(super) fn check(&mut self, invariant: Invariant, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.record_violation(invariant, what());
        }
    }

    fn record_result<T: Default>(&mut self, invariant: Invariant, of: &str, found: Result<T, String>) -> T {
        match found {
            Ok(found) => found,
            Err(what) => {
                self.record_violation(invariant, format!("{of}: {what}"));
                T::default()
            }
        }
    }

    pub(super) fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }

    /// The limiter let a request in. What a limit in shadow mode would have refused it does not count.
    pub(super) fn record_admitted(
        &mut self,
        of: (BucketId, OperationClass),
        client: IpKey,
        shadowed: LimitScopes,
        at: u64,
    ) {
        self.admitted += 1;
        let (bucket, cost) = (of.0, self.cost(of));
        let global = self.global.as_mut().filter(|_| !shadowed.contains(LimitScope::Global));
        let global = global.map_or(Ok(()), |rates| rates.record_admitted((), cost, at));
        self.record_result(Invariant::Limit, "global", global);
        let limit = self.per_bucket.get_mut(bucket.index()).and_then(Option::as_mut);
        let limit = limit.filter(|_| !shadowed.contains(LimitScope::Bucket));
        let of_bucket = limit.map_or(Ok(()), |rates| rates.record_admitted((), cost, at));
        self.record_result(Invariant::Limit, "bucket", of_bucket);
        let limit = self.per_client.as_mut().filter(|_| !shadowed.contains(LimitScope::Ip));
        let of_client = limit.map_or(Ok(()), |rates| rates.record_admitted(client, cost, at));
        self.record_result(Invariant::Limit, "client", of_client);
    }

    pub(super) fn record_key_admitted(&mut self, of: (BucketId, OperationClass), key: KeyId, at: u64) {
        let cost = self.cost(of);
        let limit = self.per_key.get_mut(key.index()).and_then(Option::as_mut);
        let found = limit.map_or(Ok(()), |rates| rates.record_admitted((), cost, at));
        self.record_result(Invariant::Limit, "key", found);
    }

    /// What a request costs of every limit.
    fn cost(&self, (bucket, class): (BucketId, OperationClass)) -> u32 {
        let costs = self.costs[bucket.index()];
        let cost = match class {
            OperationClass::Read => costs.read,
            OperationClass::Write => costs.write,
            OperationClass::List => costs.list,
        };
        cost.get()
    }

    /// A failed authentication was still listened to.
    pub(super) fn record_auth_failure(&mut self, client: IpKey, at: u64) {
        let found = self.failures.as_mut().map_or(Ok(()), |rates| rates.record_admitted(client, 1, at));
        self.record_result(Invariant::Limit, "failed authentications", found);
    }

    /// Somebody waits in a bucket's queue.
    pub(super) fn record_queued(&mut self, bucket: BucketId, client: usize, priority: Priority) -> u64 {
        let holdings = &mut self.buckets[bucket.index()];
        holdings.next_position += 1;
        holdings.waiting.insert(holdings.next_position, (client, priority));
        holdings.next_position
    }

    /// Waits no longer; what was handed over must be in order.
    pub(super) fn record_dequeued(&mut self, bucket: BucketId, place: u64, handed: bool) {
        let holdings = &mut self.buckets[bucket.index()];
        let left = holdings.waiting.remove(&place);
        if let (true, Some((_, priority))) = (handed, left) {
            holdings.granted_in_order.push((place, priority));
        }
    }

    /// Hedges that were granted, of all buckets.
    pub(super) fn hedges(&self) -> u64 {
        self.buckets.iter().map(|holdings| holdings.hedges).sum()
    }

    /// A slow read may be asked for a second time; returns what counts permits.
    pub(super) fn record_hedge(
        &mut self,
        bucket: BucketId,
        endpoint: usize,
        decided: u64,
        now: Instant,
    ) -> Rc<Cell<usize>> {
        self.record_pick(bucket, endpoint, decided, now);
        let holdings = &mut self.buckets[bucket.index()];
        holdings.hedges += 1;
        let (hedges, granted) = (holdings.hedges, holdings.granted);
        let permits = Rc::clone(&holdings.permits);
        let percent = self.hedges_percent[bucket.index()];
        self.check(Invariant::Hedges, hedges * 100 <= granted * u64::from(percent), || {
            format!("{hedges} hedges beside {granted} requests, {percent} % allowed")
        });
        permits
    }

    /// A request was let through a circuit, at some moment from the first of these to the last; its number, if it is a trial.
    pub(super) fn record_ticket(
        &mut self,
        circuit: CircuitRef,
        is_trial: bool,
        decided: (u64, u64),
    ) -> Option<u64> {
        let at = |nanos: u64| self.origin + Duration::from_nanos(nanos);
        let decided = (at(decided.0), at(decided.1));
        let found = self.circuit(circuit).record_ticket(is_trial, decided);
        self.record_result(Invariant::Circuit, "circuit", found)
    }

    pub(super) fn observe_circuit(&mut self, circuit: CircuitRef, view: &BreakerView, now: Instant) {
        let found = self.circuit(circuit).observe(view, now);
        self.record_result(Invariant::Circuit, "circuit", found);
        let waiting = self.circuit(circuit).waiting.get();
        self.check(Invariant::Leak, view.waiting <= waiting, || {
            format!("{} places to wait for {circuit:?} are taken, {waiting} wait", view.waiting)
        });
    }

    /// A request got a permit, now, that was decided then.
    pub(super) fn record_grant(
        &mut self,
        bucket: BucketId,
        endpoint: usize,
        decided: u64,
        now: Instant,
    ) -> Rc<Cell<usize>> {
        let nanos = self.nanos(now);
        self.retry_checks[bucket.index()].record_request(nanos);
        self.record_pick(bucket, endpoint, decided, now);
        let holdings = &mut self.buckets[bucket.index()];
        holdings.granted += 1;
        Rc::clone(&holdings.permits)
    }

    /// An endpoint was chosen, at `decided` or, where that was to wait, between then and now.
    pub(super) fn record_pick(&mut self, bucket: BucketId, endpoint: usize, decided: u64, now: Instant) {
        let decided = self.origin + Duration::from_nanos(decided);
        let found = self.endpoints[bucket.index()].record_pick(endpoint, (decided, now));
        self.record_result(Invariant::Endpoint, "endpoints", found);
    }

    /// A request goes on as somebody; the count of those who do.
    pub(super) fn record_credential_use(
        &mut self,
        bucket: BucketId,
        as_whom: CredentialId,
        decided: u64,
        now: Instant,
    ) -> Option<CountGuard> {
        let decided = self.origin + Duration::from_nanos(decided);
        let found = self.credentials[bucket.index()].record_use(as_whom, (decided, now)).map(Some);
        self.record_result(Invariant::Credential, "credentials", found)
    }

    /// A request may be tried again, as was decided then.
    pub(super) fn record_retry(&mut self, bucket: BucketId, decided: u64) {
        let found = self.retry_checks[bucket.index()].record_retry(decided);
        self.record_result(Invariant::Limit, "retries", found);
    }

    pub(super) fn observe_endpoints(&mut self, bucket: usize, pool: &PoolHandle, now: Instant) {
        let found = self.endpoints[bucket].observe(pool, now);
        self.record_result(Invariant::Endpoint, "endpoints", found);
        let found = self.credentials[bucket].observe(bucket, pool, now);
        self.record_result(Invariant::Credential, "credentials", found);
    }

    /// Everybody has seen what was decided for him.
    pub(super) fn discard_history(&mut self) {
        let single = self.per_bucket.iter_mut().chain(&mut self.per_key).flatten();
        self.global.iter_mut().chain(single).for_each(RateCheck::discard_history);
        self.per_client.iter_mut().chain(&mut self.failures).for_each(RateCheck::discard_history);
    }

    /// The watch over a circuit.
    pub(super) fn circuit(&mut self, circuit: CircuitRef) -> &mut CircuitObserver {
        &mut self.circuits[circuit.bucket.index()][circuit.id.index()]
    }

    /// The watches over all circuits.
    pub(super) fn all_circuits(&self) -> impl Iterator<Item = &CircuitObserver> {
        self.circuits.iter().flatten()
    }

    pub(super) fn is_closed(&self, circuit: CircuitRef) -> bool {
        self.circuits[circuit.bucket.index()][circuit.id.index()].state() == CircuitState::Closed
    }
}
