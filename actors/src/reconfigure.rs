//! How the actors get another configuration (G3): prepared without an effect, then committed; ended when no configuration needs them.
//!
//! A bucket that stays keeps its breaker. It keeps its pool too, unless a setting of its upstream has changed: then a successor takes over
//! (`docs/design/reload.md`). Requests of the replaced configuration go on with the actors that they know.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::join_all;
use tidegate_config::{Config, UpstreamConfig};

use crate::actor_stats::ActorStats;
use crate::breaker::{BreakerHandle, BreakerReconfigure};
use crate::clock;
use crate::events::{ActorEventSink, ActorEvents};
use crate::ids::{IdMap, Ids};
use crate::launches::{Launch, Launches};
use crate::limiter::LimiterReconfigure;
use crate::monitor::MonitorReconfigure;
use crate::pool::{PoolHandle, PoolSeed, ReplacedPool};
use crate::sessions::SessionsReconfigure;
use crate::spawner::Spawner;
use crate::system::{self, Actors};
use crate::types::{BucketId, ConfigNumber, KeyId};

/// A configuration and the IDs of its names.
pub type ConfigWithIds<'a> = (&'a Config, &'a Ids);

/// The most pools that are asked at a time: a thread that serves requests replies to them between two of its requests.
const ASKS_AT_A_TIME: usize = 16;

/// The actors for another configuration. They have no effect until `commit`.
#[must_use = "without a commit the actors keep their configuration"]
pub struct ActorsReconfigure {
    /// The handles of the other configuration.
    pub actors: Actors,
    /// Actors of new buckets, and successors of pools.
    new_actors: Vec<Launch>,
    limiter: LimiterReconfigure,
    sessions: SessionsReconfigure,
    breakers: Vec<BreakerReconfigure>,
    monitor: MonitorReconfigure,
}

/// The keys and tokens that another configuration no longer accepts.
#[derive(Debug, Default)]
pub struct Withdrawn {
    /// Keys that went, or that clients prove in another way.
    pub keys: Vec<KeyId>,
    /// Whether tokens must be verified again.
    pub all_tokens: bool,
}

impl ActorsReconfigure {
    /// Puts the configuration into effect. The actors have it before any request that begins afterwards. Returns the new actors,
    /// which must start before such a request.
    pub fn commit(self, withdrawn: Withdrawn) -> Launches {
        let Self { actors, new_actors, limiter, sessions, breakers, monitor } = self;
        limiter.commit();
        sessions.commit();
        breakers.into_iter().for_each(BreakerReconfigure::commit);
        monitor.commit();
        if withdrawn.all_tokens || !withdrawn.keys.is_empty() {
            actors.sessions.purge(withdrawn.keys, withdrawn.all_tokens);
        }
        Launches { own_thread: Vec::new(), on_workers: new_actors }
    }
}

impl Actors {
    /// Prepares the actors for the configuration `after`, which replaces `before`, the one of these handles. New actors report to
    /// `events`.
    pub async fn reconfigured(
        &self,
        before: &Config,
        (after, ids): ConfigWithIds<'_>,
        number: ConfigNumber,
        events: Arc<dyn ActorEventSink>,
    ) -> ActorsReconfigure {
        let events = ActorEvents::new(events);
        let mut new_actors = Vec::new();
        let pools = self.next_pools(before, (after, ids), &events, &mut new_actors).await;
        let mut changes = Vec::new();
        let breakers = self.next_breakers(before, (after, ids), &events, (&mut new_actors, &mut changes));
        let (limiter, limiter_change) = self.limiter.reconfigured(after, ids);
        let (sessions, sessions_change) = self.sessions.reconfigured(&after.sessions, number);
        let shedders =
            ids.buckets().filter_map(|(name, id)| Some((name, id, pools.get(id)?.shedder().clone())));
        let shedding = self.shedding.reconfigured(shedders);
        let actors = Self { limiter, sessions, breakers, pools, shedding, ..self.clone() };
        let watched: Vec<Arc<ActorStats>> = actors.actor_stats().cloned().collect();
        let monitor = self.monitor.reconfigured(after, watched);
        ActorsReconfigure {
            actors,
            new_actors,
            limiter: limiter_change,
            sessions: sessions_change,
            breakers: changes,
            monitor,
        }
    }

    pub(crate) fn spawner<'a>(&'a self, config: &'a Config, events: &ActorEvents) -> Spawner<'a> {
        let Self { families, log, .. } = self;
        Spawner { config, families, log, events: events.clone(), seed: self.seed }
    }

    async fn next_pools(
        &self,
        before: &Config,
        (after, ids): ConfigWithIds<'_>,
        events: &ActorEvents,
        new_actors: &mut Vec<Launch>,
    ) -> IdMap<BucketId, PoolHandle> {
        let spawner = self.spawner(after, events);
        let mut seeds = self.seeds_of_changed(before, (after, ids)).await;
        let mut pools = Vec::with_capacity(after.buckets.len());
        for ((name, bucket), (_, id)) in after.buckets.iter().zip(ids.buckets()) {
            let upstream = &bucket.upstream;
            let known = self.pools.get(id).zip(before.buckets.get(name).map(|bucket| &bucket.upstream));
            let (pool, launch) = match known {
                Some((pool, old)) if old == upstream => {
                    pools.push((id, pool.clone()));
                    continue;
                }
                Some((pool, old)) => {
                    let seed = match seeds.remove(&id) {
                        Some(seed) => seed,
                        None => pool.hand_over().await,
                    };
                    self.pool_successor(&spawner, (name, id), (pool, seed), (old, upstream))
                }
                None => system::pool(&spawner, (name, id), upstream, &self.pool_families, None),
            };
            pools.push((id, pool));
            new_actors.push(launch);
        }
        pools.into_iter().collect()
    }

    /// What the successors of pools with changed settings go on from. Many pools are asked at a time, because a reload can change
    /// thousands and each reply waits for a thread that serves requests.
    async fn seeds_of_changed(
        &self,
        before: &Config,
        (after, ids): ConfigWithIds<'_>,
    ) -> HashMap<BucketId, PoolSeed> {
        let changed = after.buckets.iter().zip(ids.buckets()).filter_map(|((name, bucket), (_, id))| {
            let is_changed = before.buckets.get(name)?.upstream != bucket.upstream;
            Some((id, self.pools.get(id)?)).filter(|_| is_changed)
        });
        let changed: Vec<(BucketId, &PoolHandle)> = changed.collect();
        let mut seeds = HashMap::with_capacity(changed.len());
        for some in changed.chunks(ASKS_AT_A_TIME) {
            let ask = |(id, pool): &(BucketId, &PoolHandle)| {
                let (id, pool) = (*id, PoolHandle::clone(pool));
                async move { (id, pool.hand_over().await) }
            };
            seeds.extend(join_all(some.iter().map(ask)).await);
        }
        seeds
    }

    fn next_breakers(
        &self,
        before: &Config,
        (after, ids): ConfigWithIds<'_>,
        events: &ActorEvents,
        (new_actors, changes): (&mut Vec<Launch>, &mut Vec<BreakerReconfigure>),
    ) -> IdMap<BucketId, BreakerHandle> {
        let (spawner, now) = (self.spawner(after, events), clock::now());
        let named = after.buckets.iter().zip(ids.buckets());
        let next = named.map(|((name, bucket), (_, id))| {
            let config = &bucket.upstream.circuit_breaker;
            let old = before.buckets.get(name).map(|bucket| &bucket.upstream.circuit_breaker);
            let breaker = match (self.breakers.get(id), old) {
                (Some(breaker), Some(old)) if old == config => breaker.clone(),
                (Some(breaker), _) => {
                    let (breaker, change) = breaker.reconfigured(config);
                    changes.push(change);
                    breaker
                }
                (None, _) => {
                    let (breaker, launch) =
                        system::breaker(&spawner, (name, id), config, &self.breaker_families, now);
                    new_actors.push(launch);
                    breaker
                }
            };
            (id, breaker)
        });
        next.collect()
    }

    /// Prepares the pool that replaces the one of a bucket. It has no effect before its launch is started. Both serve until `end_pool`.
    pub(crate) fn pool_successor(
        &self,
        spawner: &Spawner<'_>,
        bucket: (&str, BucketId),
        (replaced, seed): (&PoolHandle, PoolSeed),
        (before, after): (&UpstreamConfig, &UpstreamConfig),
    ) -> (PoolHandle, Launch) {
        let replaced = ReplacedPool { handle: replaced, upstream: before, seed };
        system::pool(spawner, bucket, after, &self.pool_families, Some(&replaced))
    }

    /// Ends the pool of a replaced configuration. Its series go, but those that the current pool of a bucket of that name has too.
    pub(crate) fn end_pool(&self, pool: &PoolHandle, current: Option<&PoolHandle>) {
        pool.stop();
        self.pool_families.remove(pool, current);
        if current.is_none() {
            self.families.remove(pool.actor().actor_stats().name());
        }
    }

    /// Ends the actors of a retired configuration that no other one has, and removes their series. `in_use` are the handles of the other
    /// configurations, the current one first.
    pub fn end_retired(&self, in_use: &[&Self]) {
        let Some(current) = in_use.first() else { return };
        let is_used = |id: BucketId, pool: &PoolHandle| {
            in_use.iter().any(|other| other.pools.get(id).is_some_and(|used| used.is_same(pool)))
        };
        let by_name: HashMap<&str, &PoolHandle> =
            current.pools.values().map(|pool| (pool.actor().actor_stats().name(), pool)).collect();
        for (_, pool) in self.pools.iter().filter(|(id, pool)| !is_used(*id, pool)) {
            self.end_pool(pool, by_name.get(pool.actor().actor_stats().name()).copied());
        }
        let names: HashSet<&str> =
            current.breakers.values().map(|breaker| breaker.actor().actor_stats().name()).collect();
        for (id, breaker) in self.breakers.iter() {
            if in_use.iter().any(|other| other.breakers.get(id).is_some()) {
                continue;
            }
            breaker.actor().stop();
            let name = breaker.actor().actor_stats().name();
            if !names.contains(name) {
                breaker.remove_series();
                self.families.remove(name);
            }
        }
        current.breakers.values().for_each(BreakerHandle::remove_replaced_series);
    }
}
