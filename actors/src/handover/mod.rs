//! The state of the actors that crosses from a process to its successor in an upgrade (G8).
//!
//! The document has names and no IDs: endpoints by authority, credentials by name. Times are nanoseconds of `CLOCK_MONOTONIC`,
//! which both processes read. Unknown names are ignored, and a missing section is an empty one, so the processes may differ in
//! version and configuration. Every value is bounded on import: a wrong document can refuse requests, and never panics.
//!
//! A limit is not doubled: the predecessor keeps what is in use and a part of what is free, and the successor has the rest. What
//! crosses, and what does not, is in `docs/design/upgrade.md`.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::Poll;

use serde::{Deserialize, Serialize};
use tidegate_config::Config;

use crate::breaker::ExportedBreaker;
use crate::clock;
use crate::ids::Ids;
use crate::limiter::ExportedLimits;
use crate::pool::{ExportedPool, PermitsInUse, RetriesInUse};
use crate::system::Actors;

#[cfg(test)]
mod document_tests;
#[cfg(test)]
mod limits_tests;
#[cfg(test)]
mod tests;

/// The state of one bucket.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct ExportedBucket {
    breaker: ExportedBreaker,
    pool: ExportedPool,
}

/// The state that crosses.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ActorsState {
    limits: ExportedLimits,
    buckets: BTreeMap<String, ExportedBucket>,
    /// What the predecessor may use until its first report.
    predecessor: PredecessorUse,
}

/// What a predecessor may still use of the limits of concurrent requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PredecessorUse {
    /// Slots of requests in flight.
    pub in_flight: usize,
    /// Permits of each bucket's gate, by name.
    pub permits: BTreeMap<String, usize>,
    /// Requests with each credential of a bucket, by the names of both.
    pub credentials: BTreeMap<String, BTreeMap<String, usize>>,
    /// The retry budget of each bucket, by name.
    pub retries: BTreeMap<String, RetriesInUse>,
}

impl PredecessorUse {
    fn insert(&mut self, bucket: &str, used: PermitsInUse) {
        self.permits.insert(bucket.to_owned(), used.permits);
        if !used.credentials.is_empty() {
            self.credentials.insert(bucket.to_owned(), used.credentials);
        }
        self.retries.insert(bucket.to_owned(), used.retries);
    }
}

/// Waits for all futures at once: each asks other actors, and one that does not answer delays no other.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    poll_fn(|context| {
        let mut is_ready = true;
        for (future, output) in running.iter_mut().filter(|(_, output)| output.is_none()) {
            match future.as_mut().poll(context) {
                Poll::Ready(done) => *output = Some(done),
                Poll::Pending => is_ready = false,
            }
        }
        if is_ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}

impl Actors {
    /// The state for a successor. From now on this process has only what its requests and `connections` may still use. `config`
    /// and `ids` are the current ones. `resume_limits` undoes it.
    pub async fn export_state(&self, config: &Config, ids: &Ids, connections: usize) -> ActorsState {
        let clock = clock::monotonic_clock();
        let mut predecessor =
            PredecessorUse { in_flight: self.monitor.hand_over(connections), ..PredecessorUse::default() };
        let clock = &clock;
        let exports = ids.buckets().zip(config.buckets.values()).filter_map(|((name, id), bucket)| {
            let (pool, breaker) = (self.pools.get(id)?, self.breakers.get(id)?);
            Some(async move {
                let (pool, used) = pool.export(&bucket.upstream, connections, clock).await;
                let breaker = breaker.export(clock).await;
                (name, ExportedBucket { breaker, pool }, used)
            })
        });
        let mut buckets = BTreeMap::new();
        for (name, exported, used) in join_all(exports).await {
            predecessor.insert(name, used);
            buckets.insert(name.to_owned(), exported);
        }
        // Last, so that the requests of the meantime are charged.
        let limits = self.limiter.export(ids, connections, clock).await;
        ActorsState { limits, buckets, predecessor }
    }

    /// Goes on from the state of a predecessor. The actors need not run yet, and have the state before they handle a message that
    /// is sent afterwards. Called before the first request.
    #[expect(clippy::unused_async, reason = "the caller must not rely on it that no actor is asked")]
    pub async fn import_state(&self, config: &Config, ids: &Ids, state: ActorsState) {
        let (clock, now) = (clock::monotonic_clock(), clock::now());
        let ActorsState { limits, mut buckets, predecessor } = state;
        self.reserve_for_predecessor(&predecessor);
        self.limiter.import(limits, ids, &clock, now);
        for ((name, id), bucket) in ids.buckets().zip(config.buckets.values()) {
            let Some(exported) = buckets.remove(name) else { continue };
            if let (Some(pool), Some(breaker)) = (self.pools.get(id), self.breakers.get(id)) {
                pool.import(exported.pool, &bucket.upstream, &clock);
                breaker.import(exported.breaker, &clock, now);
            }
        }
    }

    /// Takes back what `export_state` left to a successor: the upgrade has failed.
    pub fn resume_limits(&self) {
        self.monitor.resume();
        self.limiter.resume();
        self.pools.values().for_each(crate::pool::PoolHandle::resume);
        self.breakers.values().for_each(crate::breaker::BreakerHandle::resume);
    }

    /// After `export_state`, as connections end: lowers what this process may still use, and returns it for the successor.
    pub fn remaining_use(&self, connections: usize) -> PredecessorUse {
        let mut used =
            PredecessorUse { in_flight: self.monitor.lower_kept(connections), ..PredecessorUse::default() };
        for pool in self.pools.values() {
            used.insert(pool.bucket_name(), pool.lower_kept(connections));
        }
        self.limiter.lower(connections);
        used
    }

    /// Holds what a predecessor may still use, instead of what it reported before. Its end is a report without any use.
    pub fn reserve_for_predecessor(&self, used: &PredecessorUse) {
        self.monitor.hold(used.in_flight);
        for pool in self.pools.values() {
            let name = pool.bucket_name();
            let credentials = used.credentials.get(name).cloned().unwrap_or_default();
            let permits = used.permits.get(name).copied().unwrap_or(0);
            let retries = used.retries.get(name).copied().unwrap_or_default();
            pool.hold(&PermitsInUse { permits, credentials, retries });
        }
    }
}
