//! The decisions of the gateway: recorded, counted, and kept in fixed memory for explanations (O4, O6).
//!
//! Each worker thread has its own ring and counts, so that recording never waits for another worker. One more ring is for the actors,
//! so that no client can overwrite their transitions. The admin listener has counts only. A query takes a copy of what matches from
//! each ring and merges the copies by the order of the process. The rings keep the newest decisions (`log.decision_memory`) and count
//! those that they overwrote. A full ring samples a flood of equal decisions. The counts of reasons and scopes are exact. With
//! `log.decisions` each decision is a log line too.
//!
//! The rings and counts outlive a reload. An entry refers to the names of the configuration that it was made with (`names.rs`).
//!
//! Only rare paths record: refusals, waits, repeated attempts, cut transfers, and transitions of actors.

mod actor_events;
pub(crate) mod actor_figures;
mod counts;
pub(crate) mod decision;
mod kept_names;
mod log_line;
pub(crate) mod names;
pub(crate) mod query;
#[cfg(test)]
mod reload_tests;
mod ring;
mod sampling;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use slog::Logger;
use tidegate_actors::{ActorEventSink, ActorStats, Ids, clock};
use tidegate_config::Config;

use crate::decisions::counts::DecisionCounts;
use crate::decisions::decision::{DecisionFacts, EntryFacts, EntryTexts, NamesNumber, RequestEnd};
use crate::decisions::ring::Ring;

pub(crate) use counts::DecisionCount;
pub(crate) use kept_names::KeptNames;
pub(crate) use names::Names;

/// The ring and the counts of one thread.
#[derive(Debug)]
struct WorkerDecisions {
    ring: Ring,
    counts: DecisionCounts,
    recorded: u64,
    /// Decisions that are counted only, because the ring was full and many were equal.
    sampled_out: u64,
}

/// All decisions of the process.
pub(crate) struct Decisions {
    order: AtomicU64,
    /// One for each worker thread, one without memory for the admin thread, and the last for the actors.
    workers: Vec<Mutex<WorkerDecisions>>,
    /// The workers that have their recorder.
    assigned: AtomicUsize,
    /// The number of the next configuration's names.
    next_names: AtomicU32,
    names: Mutex<KeptNames>,
    log: Logger,
}

impl Decisions {
    /// The rings of this number of workers, with the names of the first configuration.
    pub(crate) fn new(config: &Config, ids: &Ids, workers: usize, log: &Logger) -> Arc<Self> {
        let bytes = usize::try_from(config.log.decision_memory).unwrap_or(usize::MAX) / (workers + 1);
        let new = |bytes| {
            let ring = Ring::new(bytes);
            Mutex::new(WorkerDecisions {
                ring,
                counts: DecisionCounts::default(),
                recorded: 0,
                sampled_out: 0,
            })
        };
        let of_workers = std::iter::repeat_n(bytes, workers);
        Arc::new(Self {
            order: AtomicU64::new(0),
            workers: of_workers.chain([0, bytes]).map(new).collect(),
            assigned: AtomicUsize::new(0),
            next_names: AtomicU32::new(1),
            names: Mutex::new(KeptNames::new(Arc::new(Names::new(config, ids)))),
            log: log.clone(),
        })
    }

    /// The names of the next configuration. They have no effect before [`Self::replace_names`].
    pub(crate) fn prepare_names(&self, config: &Config, ids: &Ids) -> Arc<Names> {
        let number = NamesNumber(self.next_names.fetch_add(1, Ordering::Relaxed));
        Arc::new(self.current_names().next(config, ids, number))
    }

    /// Makes the names of the next configuration the current ones. Drops those of replaced configurations that nothing refers to. The
    /// counts of their buckets are added to those without a bucket.
    pub(crate) fn replace_names(&self, next: Arc<Names>) {
        let mut referred = HashSet::new();
        (0..self.workers.len()).for_each(|at| referred.extend(self.worker(at).ring.names()));
        self.kept_names().replace(next, &referred);
        let kept = self.names();
        (0..self.workers.len())
            .for_each(|at| self.worker(at).counts.merge_buckets(|bucket| kept.bucket(bucket).is_none()));
    }

    /// The names of the current configuration.
    pub(crate) fn current_names(&self) -> Arc<Names> {
        Arc::clone(self.kept_names().current())
    }

    /// A copy of the names that are kept.
    pub(crate) fn names(&self) -> KeptNames {
        self.kept_names().clone()
    }

    fn kept_names(&self) -> MutexGuard<'_, KeptNames> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The recorder of the next worker thread of the data listener.
    pub(crate) fn recorder(self: &Arc<Self>) -> Recorder {
        let next = self.assigned.fetch_add(1, Ordering::Relaxed);
        self.recorder_of(next.min(self.workers.len() - 2))
    }

    /// The recorder of the admin thread. Requests on the admin listener are no decisions.
    pub(crate) fn admin_recorder(self: &Arc<Self>) -> Recorder {
        self.recorder_of(self.workers.len() - 2)
    }

    fn recorder_of(self: &Arc<Self>, worker: usize) -> Recorder {
        Recorder { decisions: Arc::clone(self), names: self.current_names(), worker }
    }

    /// Records the transitions of actors that are created for the configuration with these names.
    pub(crate) fn actor_events(self: &Arc<Self>, names: &Arc<Names>) -> Arc<dyn ActorEventSink> {
        Arc::new(actor_events::ActorDecisions::new(self, names, self.workers.len() - 1))
    }

    fn worker(&self, at: usize) -> MutexGuard<'_, WorkerDecisions> {
        self.workers[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts and keeps a decision. Returns whether it was kept.
    fn push_decision(&self, worker: usize, facts: DecisionFacts, texts: &EntryTexts<'_>) -> bool {
        let at = clock::wall();
        let mut own = self.worker(worker);
        own.recorded += 1;
        let in_second = own.counts.count(&facts, at);
        if own.ring.is_full() && !sampling::is_kept(in_second) {
            own.sampled_out += 1;
            return false;
        }
        own.push(&self.order, at, EntryFacts::Decision(facts), texts);
        true
    }
}

impl WorkerDecisions {
    /// Adds an entry. Its order is taken under the lock, so that each ring is in order.
    fn push(&mut self, order: &AtomicU64, at: SystemTime, facts: EntryFacts, texts: &EntryTexts<'_>) {
        self.ring.push(order.fetch_add(1, Ordering::Relaxed), at, facts, texts);
    }
}

/// Records the decisions of one thread under one configuration.
#[derive(Clone)]
pub(crate) struct Recorder {
    decisions: Arc<Decisions>,
    names: Arc<Names>,
    worker: usize,
}

impl Recorder {
    /// The recorder of the same thread under the configuration with these names.
    pub(crate) fn reconfigured(&self, names: &Arc<Names>) -> Self {
        Self { decisions: Arc::clone(&self.decisions), names: Arc::clone(names), worker: self.worker }
    }

    /// The names of the configuration.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// Records a decision. The generation is that of the deciding actor now, directly after its reply. Returns whether it is kept
    /// in memory.
    pub(crate) fn record(&self, mut facts: DecisionFacts, texts: &EntryTexts<'_>) -> bool {
        let (decisions, names) = (&self.decisions, &self.names);
        facts.names = names.number();
        let actor = facts.figures.actor.and_then(|actor| names.actor(actor, facts.bucket));
        facts.generation = actor.map(ActorStats::generation);
        if names.is_logged {
            log_line::write(&decisions.log, names, &facts, texts);
        }
        decisions.push_decision(self.worker, facts, texts)
    }

    /// Records the end of a request about which there are decisions.
    pub(crate) fn record_end(&self, end: RequestEnd, request_id: &str) {
        let texts = EntryTexts { request_id, ..EntryTexts::default() };
        let decisions = &self.decisions;
        decisions.worker(self.worker).push(&decisions.order, clock::wall(), EntryFacts::End(end), &texts);
    }
}
