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
use crate::limiter::{Scope, Scopes};
use crate::pool::{CredentialId, PoolHandle};
use crate::simulation::budgets::Retried;
use crate::simulation::circuits::{Circuit, Terms, Watched};
use crate::simulation::credentials::Wallet;
use crate::simulation::endpoints::Rotating;
use crate::simulation::rates::Rates;
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
    Wedge,
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
            Self::Wedge => "something stands still",
            Self::Cache => "a cache is wrong",
            Self::Level => "a level fell too early",
            Self::Panic => "something panicked",
            Self::Setup => "the simulation could not begin",
        })
    }
}

/// A count that lives as long as what is counted.
#[derive(Debug)]
pub(super) struct Counted(Rc<Cell<usize>>);

impl Counted {
    pub(super) fn in_(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// What clients hold of a bucket.
#[derive(Debug, Default)]
pub(super) struct Holdings {
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
    pub(super) handed: Vec<(u64, Priority)>,
    next_place: u64,
}

/// Everything that is known from outside.
pub(super) struct Ledger {
    pub(super) origin: Instant,
    pub(super) wrong: Option<(Invariant, String)>,
    pub(super) slots: Rc<Cell<usize>>,
    pub(super) buckets: Vec<Holdings>,
    /// By bucket, then by class; a bucket with one circuit for all classes uses the first.
    circuits: Vec<[Watched; OperationClass::ALL.len()]>,
    /// Hedges in percent of the requests, by bucket.
    hedges_percent: Vec<u32>,
    /// What requests cost of the limits, by bucket.
    costs: Vec<Costs>,
    pub(super) rotations: Vec<Rotating>,
    retried: Vec<Retried>,
    pub(super) wallets: Vec<Wallet>,
    global: Option<Rates<()>>,
    per_bucket: Vec<Option<Rates<()>>>,
    per_client: Option<Rates<IpKey>>,
    per_key: Vec<Option<Rates<()>>>,
    failures: Option<Rates<IpKey>>,
    pub(super) admitted: u64,
}

impl Ledger {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        let limits = &config.rate_limit;
        let circuits = |bucket: &tidegate_config::BucketConfig| {
            let breaker = &bucket.upstream.circuit_breaker;
            let terms = Terms {
                trials_max: breaker.half_open_max_requests.get() as usize,
                success_threshold: breaker.success_threshold.get(),
            };
            OperationClass::ALL.map(|_| Watched::new(terms, now))
        };
        let upstreams = || config.buckets.values().map(|bucket| &bucket.upstream);
        Self {
            origin: now,
            wrong: None,
            slots: Rc::default(),
            buckets: config.buckets.iter().map(|_| Holdings::default()).collect(),
            circuits: config.buckets.values().map(circuits).collect(),
            hedges_percent: config
                .buckets
                .values()
                .map(|bucket| bucket.upstream.hedging.percent.get())
                .collect(),
            costs: config.buckets.values().map(|bucket| bucket.costs).collect(),
            rotations: upstreams().map(|it| Rotating::new(&it.load_balancing, it.endpoints.len())).collect(),
            wallets: upstreams().map(|upstream| Wallet::new(upstream.credentials_by_name.len())).collect(),
            retried: upstreams().map(|upstream| Retried::new(upstream.retry.budget)).collect(),
            global: limits.global.map(Rates::new),
            per_bucket: config.buckets.values().map(|bucket| bucket.rate_limit.map(Rates::new)).collect(),
            per_client: limits.per_ip.map(Rates::new),
            per_key: config
                .keys
                .values()
                .map(|key| key.rate_limit.or(limits.per_key).map(Rates::new))
                .collect(),
            failures: limits.failed_auth.map(Rates::new),
            admitted: 0,
        }
    }

    /// Keeps the first thing that is wrong.
    pub(super) fn accuse(&mut self, invariant: Invariant, what: impl Into<String>) {
        if self.wrong.is_none() {
            self.wrong = Some((invariant, what.into()));
        }
    }

    pub(super) fn check(&mut self, invariant: Invariant, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.accuse(invariant, what());
        }
    }

    fn note<T: Default>(&mut self, invariant: Invariant, of: &str, found: Result<T, String>) -> T {
        match found {
            Ok(found) => found,
            Err(what) => {
                self.accuse(invariant, format!("{of}: {what}"));
                T::default()
            }
        }
    }

    pub(super) fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }

    /// The limiter let a request in. What a limit in shadow mode would have refused it does not count.
    pub(super) fn admitted(
        &mut self,
        of: (BucketId, OperationClass),
        client: IpKey,
        shadowed: Scopes,
        at: u64,
    ) {
        self.admitted += 1;
        let (bucket, cost) = (of.0, self.cost(of));
        let global = self.global.as_mut().filter(|_| !shadowed.contains(Scope::Global));
        let global = global.map_or(Ok(()), |rates| rates.admitted((), cost, at));
        self.note(Invariant::Limit, "global", global);
        let limit = self.per_bucket.get_mut(bucket.index()).and_then(Option::as_mut);
        let limit = limit.filter(|_| !shadowed.contains(Scope::Bucket));
        let of_bucket = limit.map_or(Ok(()), |rates| rates.admitted((), cost, at));
        self.note(Invariant::Limit, "bucket", of_bucket);
        let limit = self.per_client.as_mut().filter(|_| !shadowed.contains(Scope::Ip));
        let of_client = limit.map_or(Ok(()), |rates| rates.admitted(client, cost, at));
        self.note(Invariant::Limit, "client", of_client);
    }

    pub(super) fn key_admitted(&mut self, of: (BucketId, OperationClass), key: KeyId, at: u64) {
        let cost = self.cost(of);
        let limit = self.per_key.get_mut(key.index()).and_then(Option::as_mut);
        let found = limit.map_or(Ok(()), |rates| rates.admitted((), cost, at));
        self.note(Invariant::Limit, "key", found);
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
    pub(super) fn failure_heard(&mut self, client: IpKey, at: u64) {
        let found = self.failures.as_mut().map_or(Ok(()), |rates| rates.admitted(client, 1, at));
        self.note(Invariant::Limit, "failed authentications", found);
    }

    /// Somebody waits in a bucket's queue.
    pub(super) fn queued(&mut self, bucket: BucketId, client: usize, priority: Priority) -> u64 {
        let holdings = &mut self.buckets[bucket.index()];
        holdings.next_place += 1;
        holdings.waiting.insert(holdings.next_place, (client, priority));
        holdings.next_place
    }

    /// Waits no longer; what was handed over must be in order.
    pub(super) fn left_queue(&mut self, bucket: BucketId, place: u64, handed: bool) {
        let holdings = &mut self.buckets[bucket.index()];
        let left = holdings.waiting.remove(&place);
        if let (true, Some((_, priority))) = (handed, left) {
            holdings.handed.push((place, priority));
        }
    }

    /// Hedges that were granted, of all buckets.
    pub(super) fn hedges(&self) -> u64 {
        self.buckets.iter().map(|holdings| holdings.hedges).sum()
    }

    /// A slow read may be asked for a second time; returns what counts permits.
    pub(super) fn hedged(
        &mut self,
        bucket: BucketId,
        endpoint: usize,
        decided: u64,
        now: Instant,
    ) -> Rc<Cell<usize>> {
        self.chosen(bucket, endpoint, decided, now);
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
    pub(super) fn entered(&mut self, circuit: Circuit, is_trial: bool, decided: (u64, u64)) -> Option<u64> {
        let at = |nanos: u64| self.origin + Duration::from_nanos(nanos);
        let decided = (at(decided.0), at(decided.1));
        let found = self.circuit(circuit).entered(is_trial, decided);
        self.note(Invariant::Circuit, "circuit", found)
    }

    pub(super) fn look_at_circuit(&mut self, circuit: Circuit, view: &BreakerView, now: Instant) {
        let found = self.circuit(circuit).look(view, now);
        self.note(Invariant::Circuit, "circuit", found);
        let waiting = self.circuit(circuit).waiting.get();
        self.check(Invariant::Leak, view.held <= waiting, || {
            format!("{} places to wait for {circuit:?} are taken, {waiting} wait", view.held)
        });
    }

    /// A request got a permit, now, that was decided then.
    pub(super) fn granted(
        &mut self,
        bucket: BucketId,
        endpoint: usize,
        decided: u64,
        now: Instant,
    ) -> Rc<Cell<usize>> {
        let nanos = self.nanos(now);
        self.retried[bucket.index()].requested(nanos);
        self.chosen(bucket, endpoint, decided, now);
        let holdings = &mut self.buckets[bucket.index()];
        holdings.granted += 1;
        Rc::clone(&holdings.permits)
    }

    /// An endpoint was chosen, at `decided` or, where that was to wait, between then and now.
    pub(super) fn chosen(&mut self, bucket: BucketId, endpoint: usize, decided: u64, now: Instant) {
        let decided = self.origin + Duration::from_nanos(decided);
        let found = self.rotations[bucket.index()].chosen(endpoint, (decided, now));
        self.note(Invariant::Endpoint, "endpoints", found);
    }

    /// A request goes on as somebody; the count of those who do.
    pub(super) fn goes_on_as(
        &mut self,
        bucket: BucketId,
        as_whom: CredentialId,
        decided: u64,
        now: Instant,
    ) -> Option<Counted> {
        let decided = self.origin + Duration::from_nanos(decided);
        let found = self.wallets[bucket.index()].goes_on_as(as_whom, (decided, now)).map(Some);
        self.note(Invariant::Credential, "credentials", found)
    }

    /// A request may be tried again, as was decided then.
    pub(super) fn retry_allowed(&mut self, bucket: BucketId, decided: u64) {
        let found = self.retried[bucket.index()].allowed(decided);
        self.note(Invariant::Limit, "retries", found);
    }

    pub(super) fn look_at_endpoints(&mut self, bucket: usize, pool: &PoolHandle, now: Instant) {
        let found = self.rotations[bucket].look(pool, now);
        self.note(Invariant::Endpoint, "endpoints", found);
        let found = self.wallets[bucket].look(bucket, pool, now);
        self.note(Invariant::Credential, "credentials", found);
    }

    /// Everybody has seen what was decided for him.
    pub(super) fn settle(&mut self) {
        let single = self.per_bucket.iter_mut().chain(&mut self.per_key).flatten();
        self.global.iter_mut().chain(single).for_each(Rates::settle);
        self.per_client.iter_mut().chain(&mut self.failures).for_each(Rates::settle);
    }

    /// The watch over a circuit.
    pub(super) fn circuit(&mut self, circuit: Circuit) -> &mut Watched {
        &mut self.circuits[circuit.bucket.index()][circuit.id.index()]
    }

    /// The watches over all circuits.
    pub(super) fn all_circuits(&self) -> impl Iterator<Item = &Watched> {
        self.circuits.iter().flatten()
    }

    pub(super) fn is_closed(&self, circuit: Circuit) -> bool {
        self.circuits[circuit.bucket.index()][circuit.id.index()].state() == CircuitState::Closed
    }
}
