//! Rate limits, the count per client, and priorities of a replay.

use std::time::Instant;

use tidegate_config::{ActionMode, Config, Costs, Priority, PriorityConfig, RateLimit};

use crate::client_counts::{ClientCounts, ClientTicket};
use crate::limiter::{LimitScopes, LimitStatus, LimiterState, PerKeyState, PerSubjectState, SubjectKey};
use crate::replay::{Arrival, RateScope, Refusal, ReplayCaller};
use crate::types::BucketId;

/// The costs and priorities of one bucket.
struct BucketSettings {
    costs: Costs,
    priority: PriorityConfig,
}

/// What the limit of requests in flight of one client decided.
pub(super) enum ClientAdmission {
    /// There is no limit.
    Unlimited,
    /// The request is counted.
    Counted(ClientTicket),
    /// The request is beyond the limit, which is in shadow mode. It is not counted, as if it had been refused.
    Shadowed,
}

/// The limits of one configuration.
pub(super) struct ReplayLimits {
    state: LimiterState,
    per_key: PerKeyState,
    per_subject: PerSubjectState,
    clients: Option<ClientCounts>,
    /// Whether the limit of requests in flight of one client refuses nothing.
    is_client_shadow: bool,
    buckets: Vec<BucketSettings>,
    /// Costs of requests without a bucket.
    costs: Costs,
    key_priorities: Vec<Option<Priority>>,
    hasher: ahash::RandomState,
}

impl ReplayLimits {
    pub(super) fn new(config: &Config, origin: Instant) -> Self {
        let limits = &config.rate_limit;
        let own = config.buckets.values().map(|bucket| bucket.rate_limit).collect::<Vec<_>>();
        let keys = config.keys.values().map(|key| (key.rate_limit, key.priority));
        let keys = keys.chain(config.api_keys.values().map(|key| (key.rate_limit, key.priority)));
        let (key_limits, key_priorities): (Vec<Option<RateLimit>>, Vec<_>) =
            keys.map(|(limit, priority)| (limit.or(limits.per_key), priority)).unzip();
        let clients_max = limits.table_capacity.get();
        let settings = |bucket: &tidegate_config::BucketConfig| BucketSettings {
            costs: bucket.costs,
            priority: bucket.upstream.concurrency.priority,
        };
        let per_client_max = config.concurrency.max_per_client;
        let per_client_mode = config.concurrency.max_per_client_mode;
        Self {
            state: LimiterState::new(limits.global, limits.per_ip, &own, clients_max, origin),
            per_key: PerKeyState::new(&key_limits, false, origin),
            per_subject: PerSubjectState::new(limits.per_subject, clients_max, false, origin),
            clients: (per_client_max > 0 && per_client_mode != ActionMode::Off)
                .then(|| ClientCounts::new(usize::MAX, per_client_max)),
            is_client_shadow: per_client_mode == ActionMode::Shadow,
            buckets: config.buckets.values().map(settings).collect(),
            costs: limits.cost,
            key_priorities,
            hasher: ahash::RandomState::with_seeds(1, 2, 3, 4),
        }
    }

    /// What the request costs the limits.
    pub(super) fn cost(&self, arrival: &Arrival<'_>) -> u32 {
        let bucket = arrival.bucket.and_then(|bucket| self.buckets.get(bucket.index()));
        arrival.class.cost(bucket.map_or(&self.costs, |bucket| &bucket.costs))
    }

    /// Charges the limits that the head determines. Returns the shadow limits that would have refused.
    pub(super) fn charge_head(
        &mut self,
        arrival: &Arrival<'_>,
        now: Instant,
    ) -> Result<LimitScopes, Refusal> {
        // A connection without an address has no limits of its head.
        let Some(client) = arrival.client else { return Ok(LimitScopes::default()) };
        let charge =
            self.state.decide(arrival.bucket, client, self.cost(arrival), 0, now).map_err(refusal)?;
        self.state.apply(&charge, now);
        Ok(charge.allowed.shadowed_scopes())
    }

    /// Charges the limit of the key or the subject.
    pub(super) fn charge_caller(
        &mut self,
        arrival: &Arrival<'_>,
        now: Instant,
    ) -> Result<LimitScopes, Refusal> {
        let cost = self.cost(arrival);
        match arrival.caller {
            ReplayCaller::Anonymous | ReplayCaller::Untracked => Ok(LimitScopes::default()),
            ReplayCaller::Key(key) => {
                let charge = self.per_key.decide(key, cost, now).map_err(refusal)?;
                self.per_key.apply(key, &charge);
                Ok(charge.allowed.shadowed_scopes())
            }
            ReplayCaller::Subject(subject) => {
                let subject = SubjectKey::from_subject(Some(subject), &self.hasher);
                let charge = self.per_subject.decide(subject, cost, now).map_err(refusal)?;
                self.per_subject.apply(&charge, now);
                Ok(charge.allowed.shadowed_scopes())
            }
        }
    }

    /// Counts the request for its client, if clients have a limit of requests in flight.
    pub(super) fn acquire_client(&mut self, arrival: &Arrival<'_>) -> Result<ClientAdmission, Refusal> {
        let Some((clients, client)) = self.clients.as_mut().zip(arrival.client_id()) else {
            return Ok(ClientAdmission::Unlimited);
        };
        match clients.decide(client) {
            Ok(()) => Ok(ClientAdmission::Counted(clients.apply(client))),
            Err(_) if self.is_client_shadow => Ok(ClientAdmission::Shadowed),
            Err(_) => Err(Refusal::ClientConcurrency),
        }
    }

    /// The priority of the request in the queue of its bucket.
    pub(super) fn priority(&self, bucket: BucketId, arrival: &Arrival<'_>) -> Priority {
        let of_key = match arrival.caller {
            ReplayCaller::Key(key) => self.key_priorities.get(key.index()).copied().flatten(),
            ReplayCaller::Anonymous | ReplayCaller::Subject(_) | ReplayCaller::Untracked => None,
        };
        let of_bucket =
            self.buckets.get(bucket.index()).map(|bucket| arrival.class.priority(&bucket.priority));
        of_key.or(of_bucket).unwrap_or(Priority::Normal)
    }
}

fn refusal(status: LimitStatus) -> Refusal {
    Refusal::Limit(RateScope::of(status.scope))
}
