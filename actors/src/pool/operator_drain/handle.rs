//! The interface to a bucket's drains, for the request path, the status and the admin listener.

use std::sync::Arc;
use std::time::Instant;

use crate::clock;
use crate::mailbox::AskError;
use crate::pool::gate::ticket::{EndpointId, Permit};
use crate::pool::handle::PoolHandle;
use crate::pool::operator_drain::actor::SetDrain;
use crate::pool::operator_drain::{Drain, DrainOrder, time_left};
use crate::pool::rejection::PoolRejection;

/// What drains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrainTarget {
    /// The whole bucket.
    Bucket,
    /// These endpoints: those with one name.
    Endpoints(Vec<EndpointId>),
}

/// The drains of a bucket that are in effect.
#[derive(Debug, Clone, Default)]
pub struct DrainView {
    /// That of the bucket.
    pub bucket: Option<Arc<Drain>>,
    /// Those of its endpoints, in the order of the configuration.
    pub endpoints: Vec<Option<Arc<Drain>>>,
}

impl DrainView {
    /// Whether every endpoint drains.
    pub fn has_all_endpoints(&self) -> bool {
        !self.endpoints.is_empty() && self.endpoints.iter().all(Option::is_some)
    }
}

impl PoolHandle {
    /// Begins a drain, or changes the reason and the end of one. Returns whether the target was draining before.
    ///
    /// # Errors
    /// The actor did not answer. The drain may have begun.
    pub async fn drain(&self, target: DrainTarget, order: DrainOrder) -> Result<bool, AskError> {
        self.set_drain(target, Some(order)).await
    }

    /// Ends a drain. Returns whether there was one.
    ///
    /// # Errors
    /// The actor did not answer. The drain may have ended.
    pub async fn end_drain(&self, target: DrainTarget) -> Result<bool, AskError> {
        self.set_drain(target, None).await
    }

    async fn set_drain(&self, target: DrainTarget, order: Option<DrainOrder>) -> Result<bool, AskError> {
        let was_draining = self.mailbox.ask(SetDrain { target, order }).await?;
        // The pools of replaced configurations have waiters of their own.
        self.shared.wake_if_waiting();
        Ok(was_draining)
    }

    /// Refuses a new request while the bucket drains.
    ///
    /// # Errors
    /// The bucket drains.
    #[inline]
    pub fn check_drain(&self) -> Result<(), PoolRejection> {
        match self.endpoint_stats.bucket_drain().is_set() {
            false => Ok(()),
            true => self.check_set_drain(),
        }
    }

    #[cold]
    fn check_set_drain(&self) -> Result<(), PoolRejection> {
        let now = clock::now();
        match self.endpoint_stats.bucket_drain().drain(now) {
            None => Ok(()),
            Some(drain) => Err(PoolRejection::BucketDraining { left: time_left(drain.until, now) }),
        }
    }

    /// Whether an endpoint may drain. Only then a permit for it needs `move_from_draining`.
    #[inline]
    pub fn may_drain(&self, endpoint: EndpointId) -> bool {
        self.endpoint_stats.endpoint(endpoint.0).drain().is_set()
    }

    /// The endpoints that drain.
    pub fn draining_endpoints(&self, now: Instant) -> impl Iterator<Item = EndpointId> {
        let endpoints = (0..self.endpoint_stats.len()).map(EndpointId);
        endpoints.filter(move |endpoint| self.is_draining(*endpoint, now))
    }

    /// Calls at an endpoint, those of the pools of replaced configurations included.
    pub fn calls_at(&self, endpoint: EndpointId) -> usize {
        self.endpoint_stats.endpoint(endpoint.0).load()
    }

    /// The number of an endpoint that it has in all configurations. It is not 0.
    pub fn drain_number(&self, endpoint: EndpointId) -> u64 {
        self.endpoint_stats.endpoint(endpoint.0).drain().number()
    }

    /// Whether an endpoint drains.
    pub fn is_draining(&self, endpoint: EndpointId, now: Instant) -> bool {
        self.endpoint_stats.endpoint(endpoint.0).drain().is_draining(now)
    }

    /// Moves a permit away from an endpoint that drains.
    ///
    /// # Errors
    /// All endpoints drain, or the actor did not answer.
    pub async fn move_from_draining(&self, permit: &mut Permit) -> Result<(), PoolRejection> {
        match self.is_draining(permit.endpoint(), clock::now()) {
            true => self.reassign_endpoint(permit).await,
            false => Ok(()),
        }
    }

    /// The refusal of a call while all endpoints drain.
    pub(in crate::pool) fn all_draining(&self, now: Instant) -> Option<PoolRejection> {
        let until = self.endpoint_stats.all_draining(now)?;
        Some(PoolRejection::EndpointsDraining { left: time_left(until, now) })
    }

    /// The drains in effect.
    pub fn drains(&self, now: Instant) -> DrainView {
        let stats = &self.endpoint_stats;
        DrainView {
            bucket: stats.bucket_drain().drain(now),
            endpoints: (0..stats.len()).map(|at| stats.endpoint(at).drain().drain(now)).collect(),
        }
    }
}
