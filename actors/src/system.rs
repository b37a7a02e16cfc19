//! The supervision tree: every actor is created in this file and nowhere else, one field each.
//!
//! `prepare` builds addresses, state and handles. An actor runs when its `Launch` is started, on the thread it stays
//! on. Request-path actors are distributed over the workers' own arbiters. The monitor has its own thread, because an
//! actor drains its mailbox before its timers run: sampling would starve exactly under load
//! (`docs/design/supervision.md`).

use std::sync::Arc;
use std::time::Instant;

use prometheus::Registry;
use slog::Logger;
use thiserror::Error;
use tidegate_config::{BreakerConfig, Config, UpstreamConfig};

use crate::actor_stats::ActorStats;
use crate::breaker::{Breaker, BreakerFamilies, BreakerHandle, CircuitSettings, PublishedCircuits};
use crate::chaos::{Crash, Stall};
use crate::clock;
use crate::events::{ActorEventSink, ActorEvents};
use crate::ids::{IdMap, Ids};
use crate::launches::{Launch, Launches};
use crate::limiter::{Limiter, LimiterHandle, LimiterMetrics};
use crate::mailbox::SupervisedActor;
use crate::metrics::ActorFamilies;
use crate::monitor::{Monitor, MonitorHandle, MonitorSettings, ProcessCursor};
use crate::pool::{Pool, PoolFamilies, PoolHandle, PoolParts, ReplacedPool};
use crate::sessions::{Sessions, SessionsHandle, SessionsMetrics};
use crate::shedding::SheddingHandle;
use crate::spawner::Spawner;
use crate::types::BucketId;

/// The handles of all actors.
#[derive(Clone)]
pub struct Actors {
    /// Resource levels and the cap on requests in flight.
    pub monitor: MonitorHandle,
    /// Rate limits.
    pub limiter: LimiterHandle,
    /// Verified identities.
    pub sessions: SessionsHandle,
    /// One breaker per bucket.
    pub(crate) breakers: IdMap<BucketId, BreakerHandle>,
    /// One pool per bucket.
    pub(crate) pools: IdMap<BucketId, PoolHandle>,
    pub(crate) log: Logger,
    pub(crate) seed: u64,
    pub(crate) families: ActorFamilies,
    pub(crate) pool_families: PoolFamilies,
    pub(crate) breaker_families: BreakerFamilies,
    pub(crate) limiter_metrics: Arc<LimiterMetrics>,
    /// The cursors of the process and of the buckets.
    pub shedding: SheddingHandle,
}

/// No actor of this name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no actor is named `{name}`; the names are {}", .known.join(", "))]
pub struct UnknownActor {
    name: String,
    known: Vec<String>,
}

/// The result of `prepare`.
pub struct ActorSystem {
    /// All handles.
    pub actors: Actors,
    /// One pool per bucket, in the order of the buckets.
    pub pools: Vec<PoolHandle>,
    /// One breaker per bucket, in the order of the buckets.
    pub breakers: Vec<BreakerHandle>,
    /// The prepared actors, to be started.
    pub launches: Launches,
}

/// Creates every actor once. The actors report their transitions to `events`.
///
/// A metric of the same name is registered already.
pub fn prepare(
    config: &Config,
    registry: &Registry,
    log: &Logger,
    events: Arc<dyn ActorEventSink>,
) -> Result<ActorSystem, prometheus::Error> {
    prepare_with_seed(config, registry, log, (seed(), ActorEvents::new(events)))
}

/// As `prepare`, with a given seed for all random choices.
pub(crate) fn prepare_with_seed(
    config: &Config,
    registry: &Registry,
    log: &Logger,
    (seed, events): (u64, ActorEvents),
) -> Result<ActorSystem, prometheus::Error> {
    let now = clock::now();
    let families = ActorFamilies::register(registry)?;
    let pool_families = PoolFamilies::register(registry, &config.metrics.buckets)?;
    let breaker_families = BreakerFamilies::register(registry)?;
    let spawner = Spawner { config, families: &families, log, events, seed };
    let mut on_workers = Vec::new();
    let ids = &Ids::new(config);

    let limiter_metrics = Arc::new(LimiterMetrics::register(registry, config, ids)?);
    let (limiter, launch) = limiter(&spawner, ids, &limiter_metrics, now);
    on_workers.push(launch);

    // All pools first, then all breakers: in alternation, every pool would be on the same one of two workers.
    let mut pools = Vec::new();
    let bucket_ids = || ids.buckets().map(|(_, id)| id);
    for ((name, bucket), id) in config.buckets.iter().zip(bucket_ids()) {
        let (pool, launch) = pool(&spawner, (name, id), &bucket.upstream, &pool_families, None);
        pools.push(pool);
        on_workers.push(launch);
    }
    let mut breakers = Vec::new();
    for ((name, bucket), id) in config.buckets.iter().zip(bucket_ids()) {
        let circuits = &bucket.upstream.circuit_breaker;
        let (breaker, launch) = breaker(&spawner, (name, id), circuits, &breaker_families, now);
        breakers.push(breaker);
        on_workers.push(launch);
    }

    let channel = spawner.prepare::<Sessions>("sessions");
    let component = Sessions::new(&config.sessions, SessionsMetrics::register(registry)?);
    let sessions = SessionsHandle::new(channel.mailbox.clone(), &component);
    on_workers.push(spawner.build(channel, component));

    let channel = spawner.prepare::<Monitor>("monitor");
    let watched: Vec<Arc<ActorStats>> = [limiter.actor(), sessions.actor()]
        .into_iter()
        .chain(breakers.iter().map(BreakerHandle::actor))
        .chain(pools.iter().map(PoolHandle::actor))
        .map(SupervisedActor::actor_stats)
        .chain([&channel.stats])
        .cloned()
        .collect();
    let settings = MonitorSettings::new(config, watched);
    let (monitor, component) = MonitorHandle::new(channel.mailbox.clone(), settings, registry, log.clone())?;
    let shedders = config.buckets.keys().zip(bucket_ids()).zip(&pools);
    let shedders = shedders.map(|((name, id), pool)| (name.as_str(), id, Arc::clone(pool.shedder())));
    let shedding = SheddingHandle::new(config, shedders, registry, now)?;
    let cursor = ProcessCursor::new(&shedding, &config.monitor, now);
    let component = component.with_events(spawner.events.clone()).with_cursor(cursor, &families);
    let own_thread = vec![spawner.build(channel, component)];

    let actors = Actors {
        monitor,
        limiter,
        sessions,
        breakers: bucket_ids().zip(breakers.iter().cloned()).collect(),
        pools: bucket_ids().zip(pools.iter().cloned()).collect(),
        log: log.clone(),
        seed,
        families,
        pool_families,
        breaker_families,
        limiter_metrics,
        shedding,
    };
    Ok(ActorSystem { actors, pools, breakers, launches: Launches { own_thread, on_workers } })
}

fn limiter(
    spawner: &Spawner<'_>,
    ids: &Ids,
    metrics: &Arc<LimiterMetrics>,
    now: Instant,
) -> (LimiterHandle, Launch) {
    let channel = spawner.prepare::<Limiter>("limiter");
    let (handle, limiter) =
        LimiterHandle::create(channel.mailbox.clone(), (spawner.config, ids), metrics, now);
    (handle, spawner.build(channel, limiter))
}

/// The pool of a bucket: its first one, or one that replaces another and has no effect before it is started.
pub(crate) fn pool(
    spawner: &Spawner<'_>,
    (name, id): (&str, BucketId),
    upstream: &UpstreamConfig,
    families: &PoolFamilies,
    replaced: Option<&ReplacedPool<'_>>,
) -> (PoolHandle, Launch) {
    let channel = match replaced {
        None => spawner.prepare::<Pool>(format!("pool:{name}")),
        Some(replaced) => spawner.prepare_successor::<Pool>(replaced.handle.actor().actor_stats()),
    };
    let random = (spawner.seed_for(name), clock::now());
    let PoolParts { state, names, wake_timer, cursor, handle } =
        PoolParts::new(&channel.mailbox, (name, upstream), families, replaced, random);
    let pool = Pool::new(state, names, (wake_timer, cursor), spawner.log.clone());
    (handle, spawner.build(channel, pool.with_events(spawner.events.of_bucket(id))))
}

pub(crate) fn breaker(
    spawner: &Spawner<'_>,
    (name, id): (&str, BucketId),
    config: &BreakerConfig,
    families: &BreakerFamilies,
    now: Instant,
) -> (BreakerHandle, Launch) {
    let channel = spawner.prepare::<Breaker>(format!("breaker:{name}"));
    let published = Arc::new(PublishedCircuits::new(now));
    let settings = CircuitSettings::new(config.clone(), families.bucket(name, config));
    let handle = BreakerHandle::new(channel.mailbox.clone(), Arc::clone(&published), Arc::clone(&settings));
    let seed = spawner.seed_for(name);
    let component = Breaker::new(name, settings, seed, published, spawner.log.clone());
    (handle, spawner.build(channel, component.with_events(spawner.events.of_bucket(id))))
}

/// A random seed, different in every process.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

impl Actors {
    /// Every actor.
    fn supervised(&self) -> impl Iterator<Item = &dyn SupervisedActor> {
        let Self {
            monitor,
            limiter,
            sessions,
            breakers,
            pools,
            log: _,
            seed: _,
            families: _,
            pool_families: _,
            breaker_families: _,
            limiter_metrics: _,
            shedding: _,
        } = self;
        [monitor.actor(), limiter.actor(), sessions.actor()]
            .into_iter()
            .chain(breakers.values().map(BreakerHandle::actor))
            .chain(pools.values().map(PoolHandle::actor))
    }

    /// The pool of a bucket of this configuration.
    pub fn pool(&self, bucket: BucketId) -> &PoolHandle {
        &self.pools[bucket]
    }

    /// The breaker of a bucket of this configuration.
    pub fn breaker(&self, bucket: BucketId) -> &BreakerHandle {
        &self.breakers[bucket]
    }

    /// The statistics of every actor.
    pub fn actor_stats(&self) -> impl Iterator<Item = &Arc<ActorStats>> {
        self.supervised().map(SupervisedActor::actor_stats)
    }

    /// Updates the gauges that are only computed for a scrape.
    pub fn observe(&self, now: Instant) {
        for stats in self.actor_stats() {
            self.families.observe(stats, now);
        }
        self.limiter_metrics.observe(now);
        self.pool_families.observe_total(self.pools.values().map(|pool| pool.observe(now)).sum());
        self.monitor.observe();
        self.shedding.observe(now);
    }

    /// Crashes the actors with this name: `pool` and `breaker` mean those of every bucket, `pool:NAME` and
    /// `breaker:NAME` that of one bucket. Returns their number.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn crash(&self, name: &str, crash: Crash) -> Result<usize, UnknownActor> {
        self.for_each_named(name, |actor| actor.crash(crash))
    }

    /// Blocks the threads of the actors with this name, as for `crash`. Returns their number.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn stall(&self, name: &str, stall: Stall) -> Result<usize, UnknownActor> {
        self.for_each_named(name, |actor| actor.stall(stall))
    }

    fn for_each_named(
        &self,
        name: &str,
        action: impl Fn(&dyn SupervisedActor),
    ) -> Result<usize, UnknownActor> {
        let is_named = |actor: &&dyn SupervisedActor| {
            let own = actor.actor_stats().name();
            own == name || own.strip_prefix(name).is_some_and(|bucket| bucket.starts_with(':'))
        };
        let count = self.supervised().filter(is_named).map(action).count();
        if count == 0 {
            let known = self.actor_stats().map(|stats| stats.name().to_owned()).collect();
            return Err(UnknownActor { name: name.to_owned(), known });
        }
        Ok(count)
    }
}
