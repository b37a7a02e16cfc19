//! The checker's own record across reloads, independent of the product's code: which name has which ID, who inserted and
//! withdrew what, who was admitted when, and what is in force.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Instant;

use tidegate_config::RateLimit;

use crate::breaker::{BreakerHandle, CircuitState};
use crate::pool::PoolHandle;
use crate::simulation::ledger::Invariant;
use crate::simulation::reload::changing_rate::ChangingRateCheck;
use crate::simulation::reload::configuration::{Configuration, Named};
use crate::types::{BucketId, ConfigNumber, IpKey, KeyId};

/// What the ledger keeps of a bucket as long as a configuration has it.
struct BucketRecord {
    pool: PoolHandle,
    breaker: BreakerHandle,
    permits: Rc<Cell<usize>>,
    /// Permits that may be in use: the limit in force, or what is left of those that were granted before it was lowered.
    allowed: usize,
    limit: usize,
    /// The latest end of an open circuit.
    open_until: Option<Instant>,
}

/// The limits in force.
#[derive(Default)]
struct LimitRecords {
    global: Option<ChangingRateCheck<()>>,
    per_ip: Option<ChangingRateCheck<IpKey>>,
    buckets: BTreeMap<BucketId, ChangingRateCheck<()>>,
    keys: BTreeMap<KeyId, ChangingRateCheck<()>>,
}

/// The record of one scenario.
pub(super) struct ReloadLedger {
    origin: Instant,
    pub(super) violation: Option<(Invariant, String)>,
    pub(super) slots: Rc<Cell<usize>>,
    bucket_names: BTreeMap<BucketId, std::sync::Arc<str>>,
    key_names: BTreeMap<KeyId, std::sync::Arc<str>>,
    /// The first configuration that may use entries of a withdrawn key.
    withdrawn: BTreeMap<KeyId, ConfigNumber>,
    /// The latest configuration that inserted a session or a signing key.
    inserts: HashMap<(String, KeyId), ConfigNumber>,
    commits: BTreeMap<ConfigNumber, u64>,
    limits: LimitRecords,
    buckets: BTreeMap<BucketId, BucketRecord>,
    pub(super) admitted: u64,
    pub(super) found: u64,
    /// Circuits that were open at a commit.
    pub(super) kept_open: u64,
}

fn change<K: Eq + std::hash::Hash + Copy + std::fmt::Debug>(
    record: &mut Option<ChangingRateCheck<K>>,
    limit: Option<RateLimit>,
    now: u64,
) {
    match (record.as_mut(), limit) {
        (Some(record), Some(limit)) => record.change(limit, now),
        (_, limit) => *record = limit.map(|limit| ChangingRateCheck::new(limit, now)),
    }
}

fn change_all<I: Ord + Copy>(
    records: &mut BTreeMap<I, ChangingRateCheck<()>>,
    limits: impl Iterator<Item = (I, Option<RateLimit>)>,
    now: u64,
) {
    for (id, limit) in limits {
        let mut record = records.remove(&id);
        change(&mut record, limit, now);
        if let Some(record) = record {
            records.insert(id, record);
        }
    }
}

fn check_names<I: Ord + Copy + std::fmt::Debug>(
    known: &mut BTreeMap<I, std::sync::Arc<str>>,
    named: &[Named<I>],
) -> Result<(), String> {
    for (name, id) in named {
        let owner = known.entry(*id).or_insert_with(|| name.clone());
        if owner != name {
            return Err(format!("{id:?} was {owner}, now it is {name}"));
        }
    }
    Ok(())
}

impl ReloadLedger {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            origin: now,
            violation: None,
            slots: Rc::default(),
            bucket_names: BTreeMap::new(),
            key_names: BTreeMap::new(),
            withdrawn: BTreeMap::new(),
            inserts: HashMap::new(),
            commits: BTreeMap::new(),
            limits: LimitRecords::default(),
            buckets: BTreeMap::new(),
            admitted: 0,
            found: 0,
            kept_open: 0,
        }
    }

    pub(super) fn check(&mut self, invariant: Invariant, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.violation.is_none() {
            self.violation = Some((invariant, what()));
        }
    }

    fn record_result(&mut self, invariant: Invariant, of: &str, found: Result<(), String>) {
        if let Err(what) = found {
            self.check(invariant, false, || format!("{of}: {what}"));
        }
    }

    pub(super) fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }

    /// A configuration came into force.
    pub(super) fn record_commit(&mut self, next: &Configuration, withdrawn: &[KeyId], now: Instant) {
        let at = self.nanos(now);
        self.commits.insert(next.number, at);
        let known = check_names(&mut self.bucket_names, &next.buckets);
        self.record_result(Invariant::Identity, "bucket", known);
        let known = check_names(&mut self.key_names, &next.keys);
        self.record_result(Invariant::Identity, "key", known);
        self.withdrawn.extend(withdrawn.iter().map(|id| (*id, next.number)));
        let limits = &next.config.rate_limit;
        change(&mut self.limits.global, limits.global, at);
        change(&mut self.limits.per_ip, limits.per_ip, at);
        let of_bucket = |(name, id): &Named<BucketId>| {
            (*id, next.config.buckets.get(&**name).and_then(|bucket| bucket.rate_limit))
        };
        change_all(&mut self.limits.buckets, next.buckets.iter().map(of_bucket), at);
        let of_key = |(name, id): &Named<KeyId>| {
            (*id, next.config.keys.get(&**name).and_then(|key| key.rate_limit).or(limits.per_key))
        };
        change_all(&mut self.limits.keys, next.keys.iter().map(of_key), at);
        for (name, id) in &next.buckets {
            let limit = next.upstream(name).map_or(0, |upstream| upstream.concurrency.max_concurrent.get());
            let (pool, breaker) = (next.actors.pool(*id).clone(), next.actors.breaker(*id).clone());
            let before = self.buckets.remove(id);
            let permits = before.as_ref().map_or_else(Rc::default, |before| Rc::clone(&before.permits));
            let allowed = before.as_ref().map_or(0, |before| before.pool.in_flight());
            let open_until = before.and_then(|before| before.open_until).filter(|until| now < *until);
            self.kept_open += u64::from(open_until.is_some());
            let record =
                BucketRecord { pool, breaker, permits, allowed: allowed.max(limit), limit, open_until };
            self.buckets.insert(*id, record);
        }
    }

    /// The limiter has applied the committed limits.
    pub(super) fn record_limits_applied(&mut self, at: u64) {
        let LimitRecords { global, per_ip, buckets, keys } = &mut self.limits;
        global.iter_mut().chain(buckets.values_mut()).chain(keys.values_mut()).for_each(|one| one.apply(at));
        per_ip.iter_mut().for_each(|one| one.apply(at));
    }

    /// Forgets what no configuration has any more.
    pub(super) fn record_gone(&mut self, buckets: &[BucketId], keys: &[KeyId]) {
        self.buckets.retain(|id, _| !buckets.contains(id));
        self.limits.buckets.retain(|id, _| !buckets.contains(id));
        self.limits.keys.retain(|id, _| !keys.contains(id));
    }

    /// Whether another configuration was in force at this time. Its requests may still spend their leases.
    fn is_replaced(&self, number: ConfigNumber, at: u64) -> bool {
        self.commits.get(&number.next()).is_some_and(|replaced| *replaced <= at)
    }

    /// The limiter admitted a request of a configuration.
    pub(super) fn record_admitted(&mut self, number: ConfigNumber, bucket: BucketId, client: IpKey, at: u64) {
        self.admitted += 1;
        if self.is_replaced(number, at) {
            return;
        }
        let of_global = self.limits.global.as_mut().map_or(Ok(()), |one| one.record_admitted((), at));
        self.record_result(Invariant::Limit, "global", of_global);
        let of_client = self.limits.per_ip.as_mut().map_or(Ok(()), |one| one.record_admitted(client, at));
        self.record_result(Invariant::Limit, "client", of_client);
        let of_bucket =
            self.limits.buckets.get_mut(&bucket).map_or(Ok(()), |one| one.record_admitted((), at));
        self.record_result(Invariant::Limit, "bucket", of_bucket);
    }

    pub(super) fn record_key_admitted(&mut self, number: ConfigNumber, key: KeyId, at: u64) {
        if self.is_replaced(number, at) {
            return;
        }
        let found = self.limits.keys.get_mut(&key).map_or(Ok(()), |one| one.record_admitted((), at));
        self.record_result(Invariant::Limit, "key", found);
    }

    /// Whether a configuration may no longer use entries of a key.
    pub(super) fn is_barred(&self, key: KeyId, number: ConfigNumber) -> bool {
        self.withdrawn.get(&key).is_some_and(|since| number < *since)
    }

    pub(super) fn record_insert(&mut self, entry: &str, key: KeyId, number: ConfigNumber) {
        let last = self.inserts.entry((entry.to_owned(), key)).or_insert(number);
        *last = number.max(*last);
    }

    /// A request of a configuration found an entry for the name. `was_barred` shows whether that was so when it asked.
    pub(super) fn record_found(
        &mut self,
        (entry, name): (&str, &str),
        key: KeyId,
        (number, was_barred): (ConfigNumber, bool),
    ) {
        self.found += 1;
        let owner = self.key_names.get(&key).cloned();
        self.check(Invariant::Identity, owner.as_deref() == Some(name), || {
            format!("{entry} of {name} has {key:?}, which is {owner:?}")
        });
        self.check(Invariant::Identity, !was_barred, || {
            format!("configuration {number} finds {entry} of {key:?}, which is withdrawn")
        });
        let last = self.inserts.get(&(entry.to_owned(), key)).copied();
        let since = self.withdrawn.get(&key).copied().filter(|since| *since <= number);
        self.check(Invariant::Identity, last.is_some() && last >= since, || {
            format!("{entry} of {key:?} is found, inserted by {last:?}, withdrawn by {since:?}")
        });
    }

    pub(super) fn permits(&self, bucket: BucketId) -> Rc<Cell<usize>> {
        self.buckets.get(&bucket).map_or_else(Rc::default, |record| Rc::clone(&record.permits))
    }

    /// Checks the bounds that hold at every moment.
    pub(super) fn check_bounds(&mut self, slots: usize) {
        let held = self.slots.get();
        self.check(Invariant::Gate, held <= slots, || format!("slots: {held} held, {slots} counted"));
        let mut found = None;
        for (id, record) in &mut self.buckets {
            let (held, live, limit) = (record.permits.get(), record.pool.in_flight(), record.limit);
            record.allowed = record.limit.max(record.allowed.min(live));
            if held > live || live > record.allowed {
                found = Some(format!("{id:?}: {held} permits held, {live} counted, limit {limit}"));
            }
        }
        self.check(Invariant::Gate, found.is_none(), || found.unwrap_or_default());
    }

    /// An open circuit stays open until its time, across changes.
    pub(super) fn observe_circuits(&mut self, now: Instant) {
        let mut found = None;
        for (id, record) in &mut self.buckets {
            let until = record.breaker.views(now).filter(|view| view.state == CircuitState::Open);
            let until = until.filter_map(|view| view.open_for).map(|left| now + left).max();
            let promised = record.open_until.filter(|promised| now < *promised);
            if promised.is_some() && until < promised {
                found = Some(format!("{id:?}: open until {promised:?}, then until {until:?}"));
            }
            record.open_until = until.or(promised);
        }
        self.check(Invariant::Circuit, found.is_none(), || found.unwrap_or_default());
    }

    /// No request is left.
    pub(super) fn check_no_permits(&mut self) {
        let in_use = |(id, record): (&BucketId, &BucketRecord)| {
            let live = record.pool.in_flight();
            (live > 0).then(|| format!("{id:?}: {live} permits in use without a client"))
        };
        let found: Vec<String> = self.buckets.iter().filter_map(in_use).collect();
        self.check(Invariant::Leak, found.is_empty(), || found.join(", "));
    }
}
