//! The decisions of the gateway: recorded, counted, and kept in fixed memory for explanations (O4, O6).
//!
//! Each worker thread has its own ring and counts, so that recording never waits for another worker. One more ring is for the actors,
//! so that no client can overwrite their transitions. The admin listener has counts only. A query takes a copy of what matches from
//! each ring and merges the copies by the order of the process. The rings keep the newest decisions (`log.decision_memory`) and count
//! those that they overwrote. A full ring samples a flood of equal decisions. The counts of reasons and scopes are exact. With
//! `log.decisions` each decision is a log line too.
//!
//! Only rare paths record: refusals, waits, repeated attempts, cut transfers, and transitions of actors.

mod actor_events;
pub(crate) mod actor_figures;
mod counts;
pub(crate) mod decision;
mod log_line;
mod names;
pub(crate) mod query;
mod ring;
mod sampling;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use slog::Logger;
use tidegate_actors::{ActorEventSink, ActorStats, Actors, BucketId, clock};
use tidegate_config::Config;

use crate::decisions::counts::DecisionCounts;
use crate::decisions::decision::{DecidingActor, DecisionFacts, EntryFacts, EntryTexts, RequestEnd};
use crate::decisions::ring::Ring;

pub(crate) use counts::DecisionCount;
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

/// The statistics of the actors that decide, for their generations.
struct DecidingActors {
    monitor: Arc<ActorStats>,
    limiter: Arc<ActorStats>,
    pools: Vec<Arc<ActorStats>>,
    breakers: Vec<Arc<ActorStats>>,
}

/// All decisions of the process.
pub(crate) struct Decisions {
    order: AtomicU64,
    /// One for each worker thread, one without memory for the admin thread, and the last for the actors.
    workers: Vec<Mutex<WorkerDecisions>>,
    /// The workers that have their recorder.
    assigned: AtomicUsize,
    actors: OnceLock<DecidingActors>,
    names: Names,
    /// None if decisions are not logged.
    log: Option<Logger>,
}

impl Decisions {
    /// The rings of this number of workers.
    pub(crate) fn new(config: &Config, workers: usize, log: &Logger) -> Arc<Self> {
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
            actors: OnceLock::new(),
            names: Names::new(config),
            log: config.log.decisions.then(|| log.clone()),
        })
    }

    /// Sets the actors, which are created after this.
    pub(crate) fn set_actors(&self, actors: &Actors) {
        let stats: Vec<_> = actors.actor_stats().cloned().collect();
        let named = |name: &str| stats.iter().find(|stats| stats.name() == name).cloned();
        let of_buckets = |kind: &str| {
            let is_kind = |stats: &&Arc<ActorStats>| {
                stats.name().strip_prefix(kind).is_some_and(|rest| rest.starts_with(':'))
            };
            stats.iter().filter(is_kind).cloned().collect()
        };
        if let (Some(monitor), Some(limiter)) = (named("monitor"), named("limiter")) {
            let (pools, breakers) = (of_buckets("pool"), of_buckets("breaker"));
            // A second call changes nothing: there is one set of actors.
            let _ = self.actors.set(DecidingActors { monitor, limiter, pools, breakers });
        }
    }

    /// The recorder of the next worker thread of the data listener.
    pub(crate) fn recorder(self: &Arc<Self>) -> Recorder {
        let next = self.assigned.fetch_add(1, Ordering::Relaxed);
        Recorder { decisions: Arc::clone(self), worker: next.min(self.workers.len() - 2) }
    }

    /// The recorder of the admin thread. Requests on the admin listener are no decisions.
    pub(crate) fn admin_recorder(self: &Arc<Self>) -> Recorder {
        Recorder { decisions: Arc::clone(self), worker: self.workers.len() - 2 }
    }

    /// Records the transitions of the actors.
    pub(crate) fn actor_events(self: &Arc<Self>) -> Arc<dyn ActorEventSink> {
        let recorder = Recorder { decisions: Arc::clone(self), worker: self.workers.len() - 1 };
        Arc::new(actor_events::ActorDecisions(recorder))
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    fn actor(&self, actor: DecidingActor, bucket: Option<BucketId>) -> Option<&ActorStats> {
        let actors = self.actors.get()?;
        let of_bucket =
            |stats: &'_ [Arc<ActorStats>]| bucket.map(|id| id.index()).filter(|at| *at < stats.len());
        Some(match actor {
            DecidingActor::Monitor => &actors.monitor,
            DecidingActor::Limiter => &actors.limiter,
            DecidingActor::Pool => &actors.pools[of_bucket(&actors.pools)?],
            DecidingActor::Breaker => &actors.breakers[of_bucket(&actors.breakers)?],
        })
    }

    /// The name of the actor that decided.
    pub(crate) fn actor_name(&self, facts: &DecisionFacts) -> Option<&str> {
        facts.figures.actor.and_then(|actor| self.actor(actor, facts.bucket)).map(ActorStats::name)
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

/// Records the decisions of one thread.
#[derive(Clone)]
pub(crate) struct Recorder {
    decisions: Arc<Decisions>,
    worker: usize,
}

impl Recorder {
    /// Records a decision. The generation is that of the deciding actor now, directly after its reply. Returns whether it is kept
    /// in memory.
    pub(crate) fn record(&self, mut facts: DecisionFacts, texts: &EntryTexts<'_>) -> bool {
        let decisions = &self.decisions;
        let actor = facts.figures.actor.and_then(|actor| decisions.actor(actor, facts.bucket));
        facts.generation = actor.map(ActorStats::generation);
        if let Some(log) = &decisions.log {
            log_line::write(log, decisions, &facts, texts);
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
