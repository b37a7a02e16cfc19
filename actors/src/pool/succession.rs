//! How a pool follows another one of the same bucket, after a reload that changed the bucket.
//!
//! The replaced pool goes on to serve the requests of its configuration, with its own endpoints and credentials. Both
//! pools live at the same time, and no limit holds for each of them alone: gate, credentials' loads, retry budget and hedge
//! budget are shared, with the limits of the newest pool (`gate/members.rs`). The state of endpoints and credentials is
//! copied by name when the replaced pool hands over. See `docs/design/queue-and-permits.md`.
//!
//! *Restart*: a crash of either pool changes nothing for the other. `enter` runs again, and a newer pool's limits stay.

use std::time::{Duration, Instant};

use tidegate_config::UpstreamConfig;

use crate::actor_shell::MessageHandler;
use crate::clock;
use crate::mailbox::ActorMessage;
use crate::pool::actor::Pool;
use crate::pool::adaptive::limit_samples::LimitLearner;
use crate::pool::credentials::selector::{CredentialEntry, CredentialSelector};
use crate::pool::handle::PoolHandle;
use crate::pool::hedge::Hedging;
use crate::pool::load_balancer::LoadBalancerHistory;
use crate::pool::queue::queue_throughput::QueueThroughput;
use crate::pool::state::{PoolState, Waiter};

/// What a successor goes on from, by the replaced pool's indices.
#[derive(Debug)]
pub(crate) struct PoolSeed {
    pub(super) load_balancer: LoadBalancerHistory,
    pub(super) credentials: Vec<CredentialEntry>,
    /// None if the replaced pool did not answer: its throughput and latencies are unknown, and its limit is the published one.
    pub(super) throughput: Option<QueueThroughput>,
    pub(super) limit_learner: Option<LimitLearner>,
    pub(super) hedging: Option<Hedging>,
}

/// The pool that a new one replaces.
pub(crate) struct ReplacedPool<'a> {
    pub(crate) handle: &'a PoolHandle,
    /// Its configuration: a credential with another identity is another one.
    pub(crate) upstream: &'a UpstreamConfig,
    pub(crate) seed: PoolSeed,
}

/// Asks for what the successor goes on from. The asked pool is not changed.
pub(crate) struct HandOver;

impl ActorMessage for HandOver {
    type Reply = PoolSeed;
    const NAME: &'static str = "pool.hand_over";

    fn message_fingerprint(&self) -> u64 {
        0
    }

    const CAN_BE_POISON: bool = false;
}

impl MessageHandler<HandOver> for Pool {
    type Decision = PoolSeed;

    fn decide(&self, _: &HandOver, _: Instant) -> PoolSeed {
        self.state.seed()
    }

    fn apply(&mut self, _: HandOver, seed: PoolSeed, _: Instant) -> PoolSeed {
        seed
    }
}

impl PoolHandle {
    /// What a successor goes on from. If the actor does not answer, that is what it has published.
    pub(crate) async fn hand_over(&self) -> PoolSeed {
        match self.mailbox.ask(HandOver).await {
            Ok(seed) => seed,
            Err(_) => self.published_seed(clock::now()),
        }
    }

    pub(super) fn published_seed(&self, now: Instant) -> PoolSeed {
        PoolSeed {
            load_balancer: LoadBalancerHistory::from_published(&self.endpoint_stats, now),
            credentials: self.credentials.iter().map(CredentialEntry::from_published).collect(),
            throughput: None,
            limit_learner: None,
            hedging: None,
        }
    }
}

impl<W: Waiter> PoolState<W> {
    pub(super) fn seed(&self) -> PoolSeed {
        let credentials = self.credential_selector.as_ref().map(CredentialSelector::history);
        PoolSeed {
            load_balancer: self.load_balancer.history(),
            credentials: credentials.unwrap_or_default(),
            throughput: Some(self.throughput.clone()),
            limit_learner: self.limit_learner.clone(),
            hedging: self.hedging.clone(),
        }
    }

    /// Goes on from the throughput of the replaced pool's queue.
    pub(crate) fn with_throughput(mut self, throughput: QueueThroughput) -> Self {
        self.throughput = throughput;
        self
    }

    /// The first pool of a bucket is in force before its actor starts. A later one comes into force with `enter`.
    pub(super) fn publish_first_limit(&self) {
        if self.shared.generation() == 0 {
            self.shared.set_limit(self.configured_limit());
        }
    }

    /// The limit of this pool's configuration.
    pub(super) fn configured_limit(&self) -> usize {
        let max = self.bounds.concurrent_max;
        self.limit_learner.as_ref().map_or(max, |learner| learner.limit().min(max))
    }

    /// The pool comes into force: its limits hold at once, also for the pools that it replaces. Called at the start and
    /// after each restart.
    pub(crate) fn enter(&mut self, now: Instant) {
        self.shared.enter();
        self.shared.set_limit(self.configured_limit());
        if let Some(selector) = &self.credential_selector {
            selector.set_limits(self.shared.generation());
            // A higher limit of a credential serves waiters of the replaced pool too.
            self.shared.wake_if_waiting();
        }
        if let Some(learner) = &self.limit_learner
            && self.shared.sets_limit()
        {
            learner.publish_start(now);
        }
    }

    /// Goes on from the limit that a predecessor has learnt.
    pub(super) fn import_limit(&mut self, limit: usize, baseline: Option<Duration>, now: Instant) {
        let Some(learner) = self.limit_learner.as_mut().filter(|_| self.shared.sets_limit()) else { return };
        learner.import(limit, baseline);
        learner.publish_start(now);
        self.shared.set_limit(self.configured_limit());
    }

    /// The pool ends. Its waiters get no permit any more.
    pub(crate) fn leave(&mut self) {
        self.wait_queue.clear();
        self.shared.publish_waiting(0, false);
        self.shared.leave();
    }
}

#[cfg(test)]
#[path = "succession_tests.rs"]
mod tests;
