//! The checker's own record, independent of the product's code: which client holds what, who was admitted when, and the
//! order of waiters.
//!
//! It keeps the first violation; the scheduler checks after each step. Clients count what they hold, so that the count
//! can be compared with the gates.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tidegate_config::{Config, Costs, Priority};

use crate::breaker::{BreakerView, CircuitId, CircuitState};
use crate::limiter::{LimitScope, LimitScopes};
use crate::pool::{CredentialId, PoolHandle};
use crate::simulation::circuit_observer::{CircuitObserver, CircuitRef, CircuitTerms};
use crate::simulation::credential_observer::CredentialObserver;
use crate::simulation::endpoint_observer::EndpointObserver;
use crate::simulation::rate_check::RateCheck;
use crate::simulation::retry_check::RetryCheck;
use crate::types::{BucketId, IpKey, KeyId, OperationClass};

/// A property that must always hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invariant {
    /// More requests were admitted than a limit allows (L2, S5).
    Limit,
    /// More hedges were granted than their share of the requests (R5).
    Hedges,
    /// More is held than a gate allows, or without a permit (P2, P3).
    Gate,
    /// The product counts something that no client holds (P2, S5).
    Leak,
    /// A waiter was served before one of its class that came earlier (P4).
    Order,
    /// A circuit admitted a request that it had to refuse (B2, B4, S5).
    Circuit,
    /// An excluded endpoint was called, or too many are excluded (P5).
    Endpoint,
    /// A credential was used above its limit or while out of rotation (C3).
    Credential,
    /// Something does not progress although nothing blocks it (B4, P4).
    Stuck,
    /// A cache or a queue exceeds its bound, or a cache returns another client's identity (C1).
    Cache,
    /// An ID means two names, or a request has another's session, key, endpoint or credential (G3).
    Identity,
    /// The resource level fell before its dwell time was over (X1).
    Level,
    /// An actor or the simulation panicked without an injected crash.
    Panic,
    /// The simulation could not start.
    Setup,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Limit => "a limit is exceeded",
            Self::Hedges => "there are more hedges than allowed",
            Self::Gate => "a gate is exceeded",
            Self::Leak => "a count leaks",
            Self::Order => "the queue is out of order",
            Self::Circuit => "a circuit admitted a request that it had to refuse",
            Self::Endpoint => "the wrong endpoint is called",
            Self::Credential => "a credential is misused",
            Self::Stuck => "nothing progresses",
            Self::Cache => "a cache is wrong",
            Self::Identity => "identities are mixed",
            Self::Level => "a level fell too early",
            Self::Panic => "an unplanned panic",
            Self::Setup => "the simulation could not start",
        })
    }
}

/// Increments a count for its lifetime.
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

/// What clients hold of one bucket.
#[derive(Debug, Default)]
pub(super) struct BucketLedger {
    pub(super) permits: Rc<Cell<usize>>,
    pub(super) calls: Rc<Cell<usize>>,
    /// Retries in flight.
    pub(super) retries: Rc<Cell<usize>>,
    /// Permits granted to requests, and to hedges.
    granted: u64,
    hedges: u64,
    /// Waiters of its queue, by order of arrival.
    pub(super) waiting: BTreeMap<u64, (usize, Priority)>,
    /// Waiters that were granted a permit; their order is still to be checked.
    pub(super) granted_in_order: Vec<(u64, Priority)>,
    next_position: u64,
}

/// The record of one scenario.
pub(super) struct Ledger {
    pub(super) origin: Instant,
    pub(super) violation: Option<(Invariant, String)>,
    pub(super) slots: Rc<Cell<usize>>,
    pub(super) buckets: Vec<BucketLedger>,
    /// By bucket, then by class; a bucket with one circuit for all classes uses the first.
    circuits: Vec<[CircuitObserver; CircuitId::COUNT]>,
    /// Allowed hedges in percent of the requests, by bucket.
    hedges_percent: Vec<u32>,
    /// Costs of requests, by bucket.
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
            std::array::from_fn(|_| CircuitObserver::new(terms, now))
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

    /// Keeps the first violation.
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

    /// The limiter admitted a request. A limit in shadow mode that would have refused the request does not count.
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

    /// Cost of a request for every limit.
    fn cost(&self, (bucket, class): (BucketId, OperationClass)) -> u32 {
        let costs = self.costs[bucket.index()];
        let cost = match class {
            OperationClass::Read => costs.read,
            OperationClass::Write => costs.write,
            OperationClass::List => costs.list,
        };
        cost.get()
    }

    /// A failed authentication was charged and not locked out.
    pub(super) fn record_auth_failure(&mut self, client: IpKey, at: u64) {
        let found = self.failures.as_mut().map_or(Ok(()), |rates| rates.record_admitted(client, 1, at));
        self.record_result(Invariant::Limit, "failed authentications", found);
    }

    /// A request began to wait in a bucket's queue.
    pub(super) fn record_queued(&mut self, bucket: BucketId, client: usize, priority: Priority) -> u64 {
        let ledger = &mut self.buckets[bucket.index()];
        ledger.next_position += 1;
        ledger.waiting.insert(ledger.next_position, (client, priority));
        ledger.next_position
    }

    /// A request stopped waiting; grants must be in order.
    pub(super) fn record_dequeued(&mut self, bucket: BucketId, position: u64, is_granted: bool) {
        let ledger = &mut self.buckets[bucket.index()];
        let left = ledger.waiting.remove(&position);
        if let (true, Some((_, priority))) = (is_granted, left) {
            ledger.granted_in_order.push((position, priority));
        }
    }

    /// Hedges granted, over all buckets.
    pub(super) fn hedges(&self) -> u64 {
        self.buckets.iter().map(|ledger| ledger.hedges).sum()
    }

    /// A hedge was granted; returns the bucket's count of permits.
    pub(super) fn record_hedge(
        &mut self,
        bucket: BucketId,
        endpoint: usize,
        decided: u64,
        now: Instant,
    ) -> Rc<Cell<usize>> {
        self.record_pick(bucket, endpoint, decided, now);
        let ledger = &mut self.buckets[bucket.index()];
        ledger.hedges += 1;
        let (hedges, granted) = (ledger.hedges, ledger.granted);
        let permits = Rc::clone(&ledger.permits);
        let percent = self.hedges_percent[bucket.index()];
        self.check(Invariant::Hedges, hedges * 100 <= granted * u64::from(percent), || {
            format!("{hedges} hedges for {granted} requests, {percent} % allowed")
        });
        permits
    }

    /// A circuit admitted a request, at some time between the two; returns its number if it is a trial.
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
            format!("{} waiters counted for {circuit:?}, {waiting} wait", view.waiting)
        });
    }

    /// A request received a permit at `now` that was decided at `decided`.
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
        let ledger = &mut self.buckets[bucket.index()];
        ledger.granted += 1;
        Rc::clone(&ledger.permits)
    }

    /// An endpoint was chosen, at some time between `decided` and `now`.
    pub(super) fn record_pick(&mut self, bucket: BucketId, endpoint: usize, decided: u64, now: Instant) {
        let decided = self.origin + Duration::from_nanos(decided);
        let found = self.endpoints[bucket.index()].record_pick(endpoint, (decided, now));
        self.record_result(Invariant::Endpoint, "endpoints", found);
    }

    /// A request uses a credential; returns the guard of its count.
    pub(super) fn record_credential_use(
        &mut self,
        bucket: BucketId,
        credential: CredentialId,
        decided: u64,
        now: Instant,
    ) -> Option<CountGuard> {
        let decided = self.origin + Duration::from_nanos(decided);
        let found = self.credentials[bucket.index()].record_use(credential, (decided, now)).map(Some);
        self.record_result(Invariant::Credential, "credentials", found)
    }

    /// A retry was allowed at `decided`.
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

    /// All clients have seen their decisions, so earlier ones are no longer needed.
    pub(super) fn discard_history(&mut self) {
        let single = self.per_bucket.iter_mut().chain(&mut self.per_key).flatten();
        self.global.iter_mut().chain(single).for_each(RateCheck::discard_history);
        self.per_client.iter_mut().chain(&mut self.failures).for_each(RateCheck::discard_history);
    }

    /// The observer of a circuit.
    pub(super) fn circuit(&mut self, circuit: CircuitRef) -> &mut CircuitObserver {
        &mut self.circuits[circuit.bucket.index()][circuit.id.index()]
    }

    /// The observers of all circuits.
    pub(super) fn all_circuits(&self) -> impl Iterator<Item = &CircuitObserver> {
        self.circuits.iter().flatten()
    }

    pub(super) fn is_closed(&self, circuit: CircuitRef) -> bool {
        self.circuits[circuit.bucket.index()][circuit.id.index()].state() == CircuitState::Closed
    }
}
