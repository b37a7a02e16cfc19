//! The hand-over of a bucket's pool to the successor of an upgrade (G8).
//!
//! As in a reload (`succession.rs`), endpoints cross by authority and credentials by name. Permits cannot cross: the predecessor
//! keeps a part of the gate and of each credential's limit for its last requests, and the successor holds it
//! (`actors/src/limit_share.rs`).
//! Evidence against credentials, and the latencies for hedges, are learnt anew.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tidegate_config::{Identity, PooledCredential, UpstreamConfig};

use crate::actor_shell::MessageHandler;
use crate::clock::{self, MonotonicClock};
use crate::limit_share::LimitShare;
use crate::mailbox::ActorMessage;
use crate::pool::actor::Pool;
use crate::pool::credentials::credential::{CredentialStats, OutOfRotation};
use crate::pool::credentials::selector::CredentialEntry;
use crate::pool::handle::PoolHandle;
use crate::pool::load_balancer::exported_endpoints::ExportedEndpoints;
use crate::pool::operator_drain::exported_drain::ExportedDrain;
use crate::pool::parts::sources;
use crate::pool::retry_budget::{ExportedRetries, RetriesInUse};
use crate::pool::succession::PoolSeed;
use crate::wake_up::WakeUp;

/// A credential out of rotation.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct ExportedCredential {
    name: String,
    /// A hash of its identity: another identity is another credential.
    identity: u64,
    until: u64,
    is_refused: bool,
}

/// A learnt limit.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
struct ExportedLearntLimit {
    limit: usize,
    baseline_us: Option<u64>,
}

/// The pool of one bucket. Times are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ExportedPool {
    at: u64,
    endpoints: ExportedEndpoints,
    credentials: Vec<ExportedCredential>,
    learnt_limit: Option<ExportedLearntLimit>,
    /// None if the actor did not answer: the budget counts as spent.
    retries: Option<ExportedRetries>,
    /// The cursor of the queue, as published.
    cursor: u64,
    /// The drain of the bucket. Those of the endpoints are with them.
    drain: Option<ExportedDrain>,
}

/// What a process may still use of a bucket's limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PermitsInUse {
    pub(crate) permits: usize,
    pub(crate) credentials: BTreeMap<String, usize>,
    pub(crate) retries: RetriesInUse,
}

/// A hash of an identity. It is compared, and never shown.
fn identity_hash(identity: &Identity) -> u64 {
    let mut hasher = DefaultHasher::new();
    match identity {
        Identity::Pair(pair) => {
            let token = pair.session_token.as_ref().map(|token| token.expose());
            (0, &pair.access_key_id, pair.secret_access_key.expose(), token).hash(&mut hasher);
        }
        Identity::Container(container) => {
            (1, &container.url.authority, &container.url.path_prefix).hash(&mut hasher);
        }
        Identity::Header { name, value } => (2, name, value.expose()).hash(&mut hasher),
    }
    hasher.finish()
}

impl ExportedCredential {
    fn new(
        config: &PooledCredential,
        (entry, stats): (&CredentialEntry, &CredentialStats),
        clock: &MonotonicClock,
        now: Instant,
    ) -> Option<Self> {
        let OutOfRotation { until, refused_at } = entry.out()?;
        let is_refused = refused_at.is_some_and(|at| at == stats.accepted());
        (is_refused || until > now).then(|| Self {
            name: config.name.clone(),
            identity: identity_hash(&config.identity),
            until: clock.nanos(until),
            is_refused,
        })
    }

    fn entry(
        &self,
        config: &PooledCredential,
        stats: &CredentialStats,
        clock: &MonotonicClock,
    ) -> CredentialEntry {
        let refused_at = self.is_refused.then(|| stats.accepted());
        let until = clock.instant(self.until);
        let entry = CredentialEntry::from_out(Some(OutOfRotation { until, refused_at }));
        if self.identity == identity_hash(&config.identity) { entry } else { entry.with_new_identity() }
    }
}

/// How long the export may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks for the state as it crosses to a successor, and hands the retry budget over.
pub(crate) struct ExportPool {
    connections: u64,
}

impl ActorMessage for ExportPool {
    type Reply = (PoolSeed, (ExportedRetries, RetriesInUse));
    const NAME: &'static str = "pool.export";
    const CAN_BE_POISON: bool = false;

    fn message_fingerprint(&self) -> u64 {
        0
    }
}

impl MessageHandler<ExportPool> for Pool {
    type Decision = PoolSeed;

    fn decide(&self, _: &ExportPool, _: Instant) -> PoolSeed {
        self.state.seed()
    }

    fn apply(
        &mut self,
        message: ExportPool,
        seed: PoolSeed,
        now: Instant,
    ) -> (PoolSeed, (ExportedRetries, RetriesInUse)) {
        let requests = (self.state.shared.granted(), self.state.shared.gate.live());
        (seed, self.state.retry_budget.hand_over(requests, message.connections, now))
    }
}

/// The state of a predecessor. The entries of credentials are those of this process's configuration.
#[derive(Debug)]
pub(crate) struct PoolImport {
    exported: ExportedPool,
    credentials: Vec<Option<CredentialEntry>>,
}

/// Wakes the actor to take over the state of a predecessor.
pub(crate) struct ApplyImports;

impl WakeUp for ApplyImports {
    type Actor = Pool;
    const NAME: &'static str = "pool.import";

    fn wake(pool: &mut Pool, now: Instant) {
        pool.apply_imports(now);
        pool.update_cursor(now);
        pool.schedule_wake(now);
    }
}

impl Pool {
    /// Takes over the state of a predecessor, if it waits.
    pub(super) fn apply_imports(&mut self, now: Instant) {
        let shared = Arc::clone(&self.state.shared);
        shared.imports.apply_all(|import| self.import(import, now));
    }

    fn import(&mut self, PoolImport { exported, credentials }: &PoolImport, now: Instant) {
        let clock = clock::monotonic_clock();
        let sources = sources(self.names.endpoints.iter().map(String::as_str), &exported.endpoints.names());
        self.state.load_balancer.adopt(&exported.endpoints.history(&clock, now), &sources, now);
        if let Some(selector) = self.state.credential_selector() {
            selector.adopt(credentials, now);
        }
        if let Some(learnt) = exported.learnt_limit {
            self.state.import_limit(learnt.limit, learnt.baseline_us.map(Duration::from_micros), now);
        }
        let granted = self.state.shared.granted();
        match &exported.retries {
            Some(retries) => {
                let elapsed = now.saturating_duration_since(clock.instant(exported.at));
                self.state.retry_budget.import(retries, elapsed, granted, now);
            }
            None => self.state.retry_budget.exhaust(granted, now),
        }
        self.cursor.rebuild();
        self.follow_imported_drains(now);
    }
}

/// Takes back what the export left to a successor.
pub(crate) struct TakeBackBudget;

impl WakeUp for TakeBackBudget {
    type Actor = Pool;
    const NAME: &'static str = "pool.take_back";

    fn wake(pool: &mut Pool, _: Instant) {
        pool.state.retry_budget.spent().take_back();
    }
}

impl PoolHandle {
    /// The state for a successor, and what this process may still use. It grants no more from now on.
    pub(crate) async fn export(
        &self,
        upstream: &UpstreamConfig,
        connections: usize,
        clock: &MonotonicClock,
    ) -> (ExportedPool, PermitsInUse) {
        let mut kept = self.for_each_share(|share, live| share.keep(live, connections));
        let message = || ExportPool { connections: u64::try_from(connections).unwrap_or(u64::MAX) };
        let (seed, retries) = match self.mailbox.ask_again(message, EXPORT_TIMEOUT).await {
            Ok((seed, (retries, of_this_process))) => {
                kept.retries = of_this_process;
                (seed, Some(retries))
            }
            Err(_) => {
                // The successor starts with a spent budget, and gets all of it.
                kept.retries = self.retries.keep_none();
                (self.published_seed(clock::now()), None)
            }
        };
        (self.exported(upstream, &seed, retries, clock), kept)
    }

    fn exported(
        &self,
        upstream: &UpstreamConfig,
        seed: &PoolSeed,
        retries: Option<ExportedRetries>,
        clock: &MonotonicClock,
    ) -> ExportedPool {
        let now = clock::now();
        let endpoints = (self.names.endpoints.as_slice(), &*self.endpoint_stats);
        let known = seed.credentials.iter().zip(self.credentials.iter());
        let credentials = upstream.credentials_by_name.iter().zip(known);
        let learnt = self.limit_samples.as_ref().map(|samples| {
            let view = samples.view();
            let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            ExportedLearntLimit { limit: view.limit, baseline_us: view.baseline.map(micros) }
        });
        ExportedPool {
            at: clock.nanos(now),
            endpoints: ExportedEndpoints::new(&seed.load_balancer, endpoints, clock, now),
            credentials: credentials
                .filter_map(|(config, known)| ExportedCredential::new(config, known, clock, now))
                .collect(),
            learnt_limit: learnt,
            retries,
            cursor: self.shedder.exported(),
            drain: ExportedDrain::of(self.endpoint_stats.bucket_drain(), clock, now),
        }
    }

    /// Goes on from the state of a predecessor. The actor has it before it handles a message that is sent afterwards.
    pub(crate) fn import(&self, exported: ExportedPool, upstream: &UpstreamConfig, clock: &MonotonicClock) {
        let endpoints = sources(self.names.endpoints.iter().map(String::as_str), &exported.endpoints.names());
        let now = clock::now();
        exported.endpoints.import_published(&self.endpoint_stats, &endpoints, clock, now);
        if let Some(drain) = &exported.drain {
            drain.import(self.endpoint_stats.bucket_drain(), clock, now);
        }
        self.shedder.import(exported.cursor);
        let entry = |(config, stats): (&PooledCredential, &CredentialStats)| {
            let known = exported.credentials.iter().find(|one| one.name == config.name)?;
            Some(known.entry(config, stats, clock))
        };
        let credentials = upstream.credentials_by_name.iter().zip(self.credentials.iter()).map(entry);
        let credentials = credentials.collect();
        self.shared.imports.push(PoolImport { exported, credentials });
        self.mailbox.notify(ApplyImports);
    }

    /// Takes back what `export` left to a successor.
    pub(crate) fn resume(&self) {
        self.for_each_share(|share, _| share.take_back());
        // At once, because a crash of the actor may lose the message. The message follows an export that still runs.
        self.retries.take_back();
        self.mailbox.notify(TakeBackBudget);
        // A request may wait for a credential that has room again.
        self.shared.wake_if_waiting();
    }

    /// After `export`, with fewer connections. Returns what this process may still use.
    pub(crate) fn lower_kept(&self, connections: usize) -> PermitsInUse {
        let permits = self.for_each_share(|share, live| share.lower(live, connections));
        PermitsInUse { retries: self.retries.lower(connections), ..permits }
    }

    /// Holds what a predecessor may still use.
    pub(crate) fn hold(&self, permits: &PermitsInUse) {
        self.shared.change_share(|share| share.hold(permits.permits));
        for (name, stats) in self.names.credentials.iter().zip(self.credentials.iter()) {
            let held = permits.credentials.get(name).copied().unwrap_or(0);
            stats.change_share(|share| share.hold(held));
        }
        self.retries.hold(permits.retries, self.shared.granted(), clock::now());
        self.shared.wake_if_waiting();
    }

    /// Changes the share of the gate and of each credential's limit, and returns what is in use or may be.
    fn for_each_share<R: Into<Kept>>(&self, change: impl Fn(&mut LimitShare, usize) -> R) -> PermitsInUse {
        let gate = &self.shared.gate;
        let kept = self.shared.change_share(|share| change(share, gate.live()).into());
        let of_credential = |(name, stats): (&String, &CredentialStats)| {
            let kept = stats.change_share(|share| change(share, stats.load()).into());
            (name.clone(), kept.at_least(stats.load()))
        };
        PermitsInUse {
            permits: kept.at_least(gate.live()),
            credentials: self
                .names
                .credentials
                .iter()
                .zip(self.credentials.iter())
                .map(of_credential)
                .collect(),
            retries: RetriesInUse::default(),
        }
    }

    /// The bucket's name.
    pub(crate) fn bucket_name(&self) -> &str {
        &self.names.bucket
    }
}

/// What a change of a share leaves; nothing is known if the share was taken back.
struct Kept(usize);

impl From<usize> for Kept {
    fn from(units: usize) -> Self {
        Self(units)
    }
}

impl From<()> for Kept {
    fn from((): ()) -> Self {
        Self(0)
    }
}

impl Kept {
    /// A permit may have been granted while the limit was lowered.
    fn at_least(self, live: usize) -> usize {
        self.0.max(live)
    }
}
