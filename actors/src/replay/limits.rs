//! Rate limits, the count per client, and priorities of a replay.

use std::time::Instant;

use tidegate_config::{ActionMode, Config, Costs, Priority, PriorityConfig};

use crate::client_counts::{ClientCounts, ClientTicket};
use crate::ids::{IdMap, Ids};
use crate::limiter::{
    LimitScopes, LimitStatus, LimiterSettings, LimiterState, PerKeyState, PerSubjectState, SubjectKey,
};
use crate::replay::{Arrival, Observer, RateScope, Refusal, ReplayCaller};
use crate::types::{BucketId, KeyId};

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
    buckets: IdMap<BucketId, BucketSettings>,
    /// Costs of requests without a bucket.
    costs: Costs,
    key_priorities: IdMap<KeyId, Option<Priority>>,
    hasher: ahash::RandomState,
}

impl ReplayLimits {
    pub(super) fn new(config: &Config, ids: &Ids, origin: Instant) -> Self {
        let client_keys = ids.client_keys().zip(config.keys.values().map(|key| key.priority));
        let api_keys = ids.api_keys().zip(config.api_keys.values().map(|key| key.priority));
        let settings = |bucket: &tidegate_config::BucketConfig| BucketSettings {
            costs: bucket.costs,
            priority: bucket.upstream.concurrency.priority,
        };
        let buckets = ids.buckets().zip(config.buckets.values());
        let per_client_max = config.concurrency.max_per_client;
        let per_client_mode = config.concurrency.max_per_client_mode;
        // A replay has no headers.
        let limits = LimiterSettings::new(config, ids).without_headers();
        Self {
            state: LimiterState::new(&limits, origin),
            per_key: PerKeyState::new(&limits, origin),
            per_subject: PerSubjectState::new(&limits, origin),
            clients: (per_client_max > 0 && per_client_mode != ActionMode::Off)
                .then(|| ClientCounts::new(usize::MAX, per_client_max)),
            is_client_shadow: per_client_mode == ActionMode::Shadow,
            buckets: buckets.map(|((_, id), bucket)| (id, settings(bucket))).collect(),
            costs: config.rate_limit.cost,
            key_priorities: client_keys.chain(api_keys).map(|((_, id), priority)| (id, priority)).collect(),
            hasher: ahash::RandomState::with_seeds(1, 2, 3, 4),
        }
    }

    /// What the request costs the limits.
    pub(super) fn cost(&self, arrival: &Arrival<'_>) -> u32 {
        let bucket = arrival.bucket.and_then(|bucket| self.buckets.get(bucket));
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
            ReplayCaller::Key(key) => self.key_priorities.get(key).copied().flatten(),
            ReplayCaller::Anonymous | ReplayCaller::Subject(_) | ReplayCaller::Untracked => None,
        };
        let of_bucket = self.buckets.get(bucket).map(|bucket| arrival.class.priority(&bucket.priority));
        of_key.or(of_bucket).unwrap_or(Priority::Normal)
    }
}

fn refusal(status: LimitStatus) -> Refusal {
    Refusal::Limit(RateScope::of(status.scope))
}

/// Reports the limits in shadow mode that would have refused a request.
pub(super) fn report_shadowed<T: Copy>(scopes: LimitScopes, request: T, observer: &mut impl Observer<T>) {
    for scope in scopes.iter() {
        observer.shadowed(request, Refusal::Limit(RateScope::of(scope)));
    }
}
