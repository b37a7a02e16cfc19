//! The parts of a bucket's pool, from its configuration and from the pool that it replaces.

use std::sync::Arc;
use std::time::Instant;

use tidegate_config::{PooledCredential, UpstreamConfig};

use crate::mailbox::{Mailbox, SupervisedActor};
use crate::pool::actor::{Pool, PoolNames, SharedPoolState, WakeQueue};
use crate::pool::adaptive::limit_samples::LimitLearner;
use crate::pool::bounds::PoolBounds;
use crate::pool::credentials::credential::CredentialStats;
use crate::pool::credentials::selector::{CredentialEntry, CredentialSelector};
use crate::pool::credentials::suspects::SuspectCredentials;
use crate::pool::gate::ticket::GateShared;
use crate::pool::handle::PoolHandle;
use crate::pool::hedge::Hedging;
use crate::pool::load_balancer::LoadBalancer;
use crate::pool::load_balancer::endpoint_stats::EndpointStatsTable;
use crate::pool::load_balancer::settings::LoadBalancerSettings;
use crate::pool::metrics::PoolFamilies;
use crate::pool::queue::wake_timer::WakeTimer;
use crate::pool::queue_cursor::QueueCursor;
use crate::pool::retry_budget::RetryBudget;
use crate::pool::state::PoolState;
use crate::pool::succession::ReplacedPool;
use crate::shedding::Shedder;

/// The parts of which `actors/src/system.rs` makes an actor, and the handle.
pub(crate) struct PoolParts {
    pub(crate) state: SharedPoolState,
    pub(crate) names: Arc<PoolNames>,
    pub(crate) wake_timer: WakeTimer,
    pub(crate) cursor: QueueCursor,
    pub(crate) handle: PoolHandle,
}

/// Index in `old` of each name in `new`. A name that occurs twice takes two of them.
pub(super) fn sources<'a>(new: impl Iterator<Item = &'a str>, old: &[String]) -> Vec<Option<usize>> {
    let mut is_taken = vec![false; old.len()];
    new.map(|name| {
        let at = old.iter().zip(&is_taken).position(|(old, is_taken)| old == name && !is_taken)?;
        is_taken[at] = true;
        Some(at)
    })
    .collect()
}

/// A configured credential and its predecessor: the index there, and whether it had another identity.
fn known_credentials<'a>(
    new: &'a [PooledCredential],
    replaced: Option<&ReplacedPool<'_>>,
) -> Vec<(&'a PooledCredential, Option<(usize, bool)>)> {
    let old = replaced.map_or(&[][..], |replaced| &replaced.upstream.credentials_by_name);
    let names: Vec<String> = old.iter().map(|one| one.name.clone()).collect();
    let known = sources(new.iter().map(|one| one.name.as_str()), &names);
    let with_identity = |(one, source): (&'a PooledCredential, Option<usize>)| {
        (one, source.map(|at| (at, old[at].identity != one.identity)))
    };
    new.iter().zip(known).map(with_identity).collect()
}

/// What is built of one configuration.
struct Build<'a, 'b> {
    upstream: &'a UpstreamConfig,
    replaced: Option<&'b ReplacedPool<'b>>,
    shared: Arc<GateShared>,
    now: Instant,
}

impl Build<'_, '_> {
    fn endpoints(&self, names: &[String], seed: u64) -> (Arc<EndpointStatsTable>, LoadBalancer) {
        let rules = LoadBalancerSettings::from(&self.upstream.load_balancing);
        let Some(replaced) = self.replaced else {
            let stats = Arc::new(EndpointStatsTable::new(names.len()));
            return (Arc::clone(&stats), LoadBalancer::new(stats, rules, seed, self.now));
        };
        let sources = sources(names.iter().map(String::as_str), &replaced.handle.names.endpoints);
        let stats = Arc::new(replaced.handle.endpoint_stats.successor(&sources));
        let load_balancer = LoadBalancer::new(Arc::clone(&stats), rules, seed, self.now);
        (stats, load_balancer.with_history(&replaced.seed.load_balancer, &sources, self.now))
    }

    fn credentials(
        &self,
        suspects: Option<&Arc<SuspectCredentials>>,
    ) -> (Arc<[CredentialStats]>, Option<CredentialSelector>) {
        let known = known_credentials(&self.upstream.credentials_by_name, self.replaced);
        let handle = self.replaced.map(|replaced| replaced.handle);
        let stats = |(config, source): &(&PooledCredential, Option<(usize, bool)>)| match (handle, source) {
            (Some(handle), Some((at, is_other))) => handle.credentials[*at].successor(config, *is_other),
            _ => CredentialStats::from_config(config),
        };
        let stats: Arc<[CredentialStats]> = known.iter().map(stats).collect();
        if stats.is_empty() {
            return (stats, None);
        }
        let entry = |(_, source): &(&PooledCredential, Option<(usize, bool)>)| {
            let (at, is_other) = (*source)?;
            let entry: CredentialEntry = *self.replaced?.seed.credentials.get(at)?;
            Some(if is_other { entry.with_new_identity() } else { entry })
        };
        let history: Vec<Option<CredentialEntry>> = known.iter().map(entry).collect();
        let selector = CredentialSelector::new(&stats, &self.shared, self.upstream.credential_pool)
            .with_suspects(suspects.cloned())
            .with_history(&history, self.now);
        (stats, Some(selector))
    }

    fn limit_learner(&self, bounds: PoolBounds) -> Option<LimitLearner> {
        let (config, max) = (&self.upstream.concurrency.adaptive, bounds.concurrent_max);
        let replaced =
            self.replaced.map(|replaced| (&replaced.seed.limit_learner, &replaced.handle.limit_samples));
        match replaced {
            Some((Some(learner), _)) => learner.successor(config, max, self.now),
            Some((None, Some(samples))) => LimitLearner::from_published(samples, config, max, self.now),
            Some((None, None)) | None => LimitLearner::from_config(config, max, self.now),
        }
    }

    fn shedder(&self) -> Arc<Shedder> {
        let concurrency = &self.upstream.concurrency;
        Arc::new(match self.replaced {
            Some(replaced) => replaced.handle.shedder.successor(concurrency, self.now),
            None => Shedder::of_queue(concurrency, self.now),
        })
    }
}

impl PoolParts {
    /// `seed` is that of the random choices.
    pub(crate) fn new(
        mailbox: &Mailbox<Pool>,
        (bucket, upstream): (&str, &UpstreamConfig),
        families: &PoolFamilies,
        replaced: Option<&ReplacedPool<'_>>,
        (seed, now): (u64, Instant),
    ) -> Self {
        let wake = {
            let mailbox = mailbox.clone();
            move || mailbox.notify(WakeQueue)
        };
        let actor = Some(Arc::clone(mailbox.actor_stats()));
        let shared = Arc::new(match replaced {
            Some(replaced) => replaced.handle.shared.successor(wake, actor),
            None => GateShared::first(wake, actor),
        });
        let build = Build { upstream, replaced, shared: Arc::clone(&shared), now };
        let names = Arc::new(PoolNames {
            bucket: bucket.to_owned(),
            endpoints: upstream.endpoints.iter().map(|endpoint| endpoint.authority.clone()).collect(),
            credentials: upstream.credentials_by_name.iter().map(|one| one.name.clone()).collect(),
        });
        let (endpoint_stats, load_balancer) = build.endpoints(&names.endpoints, seed);
        let suspects =
            upstream.checks_credentials().then(|| Arc::new(SuspectCredentials::new(names.credentials.len())));
        let (credentials, selector) = build.credentials(suspects.as_ref());
        let bounds = PoolBounds::from(upstream);
        let learner = build.limit_learner(bounds);
        let limit_samples = learner.as_ref().map(LimitLearner::samples).cloned();
        let (hedging, hedges) = match replaced.and_then(|replaced| replaced.seed.hedging.as_ref()) {
            Some(before) => before.successor(&upstream.hedging, now),
            None => Hedging::from_config(&upstream.hedging, shared.granted(), now),
        };
        let budget = match replaced {
            Some(replaced) => RetryBudget::sharing(upstream.retry.budget, &replaced.handle.retries),
            None => RetryBudget::new(upstream.retry.budget, now),
        };
        let retries = Arc::clone(budget.spent());
        let mut state =
            PoolState::new(Arc::clone(&shared), bounds, Arc::clone(&endpoint_stats), load_balancer, budget)
                .with_credential_selector(selector)
                .with_limit_learner(learner)
                .with_hedging(hedging);
        if let Some(before) = replaced.and_then(|replaced| replaced.seed.throughput.as_ref()) {
            state = state.with_throughput(before.successor(bounds.concurrent_max, now));
        }
        let shedder = build.shedder();
        let mut cursor = QueueCursor::new(Arc::clone(&shedder), now);
        if replaced.is_some() {
            cursor.rebuild();
        }
        // Fingerprints of one process are compared across reloads.
        let hasher = replaced.map_or_else(ahash::RandomState::new, |replaced| replaced.handle.hasher.clone());
        let handle = PoolHandle {
            mailbox: mailbox.clone(),
            shared: Arc::clone(&shared),
            endpoint_stats,
            credentials,
            metrics: families.bucket(&names, upstream),
            names: Arc::clone(&names),
            retries,
            limit_samples,
            bounds,
            hedging: hedges,
            suspects,
            hasher,
            shedder,
        };
        Self { state, names, wake_timer: WakeTimer::new(&shared), cursor, handle }
    }
}

#[cfg(test)]
#[path = "parts_tests.rs"]
mod tests;
