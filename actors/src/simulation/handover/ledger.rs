//! The checker's record of a hand-over, independent of the product's code.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use tidegate_config::{Config, RateLimit};

use crate::breaker::{BreakerHandle, CircuitState};
use crate::ids::Ids;
use crate::simulation::handover::client::Process;
use crate::simulation::ledger::Invariant;
use crate::types::{BucketId, IpKey};

/// A request that a limiter admitted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admission {
    pub(super) at: u64,
    pub(super) process: usize,
    pub(super) bucket: BucketId,
    pub(super) client: IpKey,
}

/// An open circuit: its bucket, its class and its end.
type OpenCircuit = (BucketId, &'static str, Instant);

/// The record of one scenario.
pub(super) struct HandoverLedger {
    origin: Instant,
    pub(super) violation: Option<(Invariant, String)>,
    pub(super) slots: Rc<Cell<usize>>,
    permits: BTreeMap<BucketId, Rc<Cell<usize>>>,
    admissions: Vec<Admission>,
    /// When the export began; none before, and after a failed upgrade.
    pub(super) handed_over: Option<u64>,
    /// The circuits that the successor must have open.
    promised: Vec<OpenCircuit>,
}

#[expect(clippy::cast_precision_loss, reason = "days in nanoseconds fit")]
fn float(nanos: u64) -> f64 {
    nanos as f64
}

/// The open circuits of a bucket.
fn open_circuits(breaker: &BreakerHandle, bucket: BucketId, now: Instant) -> Vec<OpenCircuit> {
    let open = breaker.views(now).filter(|view| view.state == CircuitState::Open);
    open.filter_map(|view| Some((bucket, view.class, now + view.open_for?))).collect()
}

/// Checks admissions in the order of their times: at every moment a leaky bucket, and from the hand-over on their total.
fn check_limit(limit: RateLimit, times: &[u64], handed_over: Option<u64>) -> Result<(), String> {
    let (rate, burst) = (limit.requests_per_second / 1e9, f64::from(limit.burst.get()) + 1e-3);
    let (mut level, mut last): (f64, u64) = (0.0, 0);
    let split = handed_over.map_or(times.len(), |at| times.partition_point(|time| *time < at));
    for at in &times[..split] {
        level = (level - float(at - last) * rate).max(0.0) + 1.0;
        last = *at;
        if level > burst {
            return Err(format!("level {level:.3} at {at}, burst {burst:.3}"));
        }
    }
    let since = handed_over.unwrap_or(last);
    let level = (level - float(since.saturating_sub(last)) * rate).max(0.0);
    let mut admitted = 0.0;
    for at in &times[split..] {
        admitted += 1.0;
        let most = burst - level + float(at.saturating_sub(since)) * rate;
        if admitted > most {
            return Err(format!("{admitted} admitted from the hand-over until {at}, {most:.3} allowed"));
        }
    }
    Ok(())
}

impl HandoverLedger {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            origin: now,
            violation: None,
            slots: Rc::default(),
            permits: BTreeMap::new(),
            admissions: Vec::new(),
            handed_over: None,
            promised: Vec::new(),
        }
    }

    pub(super) fn check(&mut self, invariant: Invariant, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.violation.is_none() {
            self.violation = Some((invariant, what()));
        }
    }

    pub(super) fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn permits(&mut self, bucket: BucketId) -> Rc<Cell<usize>> {
        Rc::clone(self.permits.entry(bucket).or_default())
    }

    pub(super) fn record(&mut self, admission: Admission) {
        self.admissions.push(admission);
    }

    /// Requests that a process admitted from the hand-over on.
    pub(super) fn admitted_by(&self, process: usize) -> u64 {
        let after = |admission: &&Admission| {
            admission.process == process && self.handed_over.is_some_and(|since| admission.at >= since)
        };
        self.admissions.iter().filter(after).count() as u64
    }

    /// The export begins.
    pub(super) fn begin(&mut self, process: &Process, now: Instant) {
        self.handed_over = Some(self.nanos(now));
        let open = process.actors.breakers.iter();
        self.promised = open.flat_map(|(id, breaker)| open_circuits(breaker, id, now)).collect();
    }

    /// The successor has the state. Returns the number of circuits that must be open there.
    pub(super) fn promise(&mut self, now: Instant) -> u64 {
        self.promised.retain(|(.., until)| now < *until);
        self.promised.len() as u64
    }

    /// The bounds that hold at every moment.
    pub(super) fn check_bounds(&mut self, processes: &[Rc<Process>], slots_max: usize, now: Instant) {
        let slots: usize = processes.iter().map(|process| process.actors.monitor.in_flight()).sum();
        let held = self.slots.get();
        self.check(Invariant::Gate, held <= slots && slots <= slots_max, || {
            format!("slots: {held} held, {slots} in use, {slots_max} allowed")
        });
        let [first, others @ ..] = processes else { return };
        for (id, pool) in first.actors.pools.iter() {
            let later = others.iter().filter_map(|process| process.actors.pools.get(id));
            let live = later.fold(pool.in_flight(), |live, pool| live + pool.in_flight());
            let held = self.permits(id).get();
            let max = pool.view(now).concurrent_max;
            self.check(Invariant::Gate, held <= live && live <= max, || {
                format!("{id:?}: {held} permits held, {live} in use, {max} allowed")
            });
        }
        let Some(successor) = others.last() else { return };
        self.promised.retain(|(.., until)| now < *until);
        for (id, class, until) in self.promised.clone() {
            let Some(breaker) = successor.actors.breakers.get(id) else { continue };
            let open = open_circuits(breaker, id, now);
            let stays = open.iter().any(|(_, open, end)| *open == class && *end >= until);
            self.check(Invariant::Circuit, stays, || {
                format!("{id:?}, {class}: open until {until:?} before the hand-over, now {open:?}")
            });
        }
    }

    /// Checks all admissions of the run.
    pub(super) fn check_limits(&mut self, config: &Config, ids: &Ids) {
        self.admissions.sort_by_key(|admission| admission.at);
        let times = |of: &dyn Fn(&Admission) -> bool| -> Vec<u64> {
            self.admissions.iter().filter(|one| of(one)).map(|one| one.at).collect()
        };
        let mut found = Vec::new();
        if let Some(limit) = config.rate_limit.global {
            found.push(("global".to_owned(), check_limit(limit, &times(&|_| true), self.handed_over)));
        }
        for client in [IpKey::V4(0), IpKey::V4(1)] {
            if let Some(limit) = config.rate_limit.per_ip {
                let of_client = times(&|one| one.client == client);
                found.push((client.to_string(), check_limit(limit, &of_client, self.handed_over)));
            }
        }
        for ((name, id), bucket) in ids.buckets().zip(config.buckets.values()) {
            if let Some(limit) = bucket.rate_limit {
                let of_bucket = times(&|one| one.bucket == id);
                found.push((name.to_owned(), check_limit(limit, &of_bucket, self.handed_over)));
            }
        }
        for (limit, result) in found {
            self.check(Invariant::Limit, result.is_ok(), || format!("{limit}: {result:?}"));
        }
    }
}
