//! State of each credential outside the mailbox, and the ticket of a request (C3).
//!
//! Only the selector (`credentials/selector.rs`) builds tickets, which raises the load. A ticket's `Drop` lowers it and
//! wakes the queue; a ticket may end before its permit does, when a retry switches to another credential. Accepted
//! requests are counted. The actor publishes which credentials are out of rotation, for the status, metrics and
//! retries.
//!
//! A credential is identified by its configured name. Its secrets never reach this module.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_config::PooledCredential;

use crate::count::Gate;
use crate::limit_share::{GateShare, LimitShare};
use crate::pool::credentials::refusal_evidence::{AcceptedRequests, RequestFingerprints};
use crate::pool::gate::ticket::GateShared;

/// One of a bucket's credentials, by its index in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CredentialId(pub usize);

/// An upstream's complaint about a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialError {
    /// Throttled; the upstream's requested pause, if it gave one.
    Throttled(Option<Duration>),
    /// The answer to this request may mean that the credential is refused; see `refusal_evidence.rs`.
    SuspectedRefusal(RequestFingerprints),
}

/// A credential's time out of rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfRotation {
    pub(crate) until: Instant,
    /// After a refusal: the number of accepted requests at that time. The credential is on trial until there are more.
    pub(crate) refused_at: Option<u64>,
}

/// Whether a credential is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialState {
    /// In rotation.
    InUse,
    /// Throttled until then.
    CoolingDown(Instant),
    /// Refused; a trial follows then.
    Refused(Instant),
    /// Refused before; one request at a time is a trial.
    OnTrial,
}

/// A credential in the status page and in metrics.
#[derive(Debug, Clone)]
pub struct CredentialView {
    /// The configured name.
    pub name: String,
    /// Requests in flight with it.
    pub in_flight: usize,
    /// Largest number of requests in flight.
    pub concurrent_max: usize,
    /// Credentials of the same group are throttled together.
    pub quota_group: Option<String>,
    /// Whether the credential is used.
    pub state: CredentialState,
    /// Number of times it was throttled.
    pub throttled: u64,
    /// Number of times it was refused.
    pub refused: u64,
}

/// State of one credential.
#[derive(Debug)]
pub(crate) struct CredentialStats {
    name: String,
    concurrent_max: usize,
    quota_group: Option<String>,
    /// Requests in flight of all pools of the bucket, and the limit of the newest.
    load: Arc<Gate>,
    /// What this process has of the limit.
    share: Arc<GateShare>,
    accepted: Arc<Accepted>,
    errors: Arc<ErrorCounts>,
    out: Mutex<Option<OutOfRotation>>,
}

/// Accepted requests with one identity.
#[derive(Debug)]
struct Accepted {
    count: AtomicU64,
    requests: AcceptedRequests,
}

/// How often a credential was taken out of rotation.
#[derive(Debug, Default)]
struct ErrorCounts {
    throttled: AtomicU64,
    refused: AtomicU64,
}

impl CredentialStats {
    pub(crate) fn from_config(config: &PooledCredential) -> Self {
        let (load, share) = (Gate::new(), GateShare::new());
        share.set_limit(&load, 0, config.max_concurrent.get());
        Self {
            name: config.name.clone(),
            concurrent_max: config.max_concurrent.get(),
            quota_group: config.quota_group.clone(),
            load: Arc::new(load),
            share: Arc::new(share),
            accepted: Arc::new(Accepted { count: AtomicU64::new(0), requests: AcceptedRequests::new() }),
            errors: Arc::default(),
            out: Mutex::new(None),
        }
    }

    /// The credential of the same name in a pool that replaces this one's. Its requests in flight count together.
    /// `is_replaced`: it has another identity, so what the upstream accepted before proves nothing.
    pub(crate) fn successor(&self, config: &PooledCredential, is_replaced: bool) -> Self {
        let new = Self::from_config(config);
        let accepted = if is_replaced { new.accepted } else { Arc::clone(&self.accepted) };
        let (load, share) = (Arc::clone(&self.load), Arc::clone(&self.share));
        Self { load, share, accepted, errors: Arc::clone(&self.errors), ..new }
    }

    /// The limit of a pool's configuration comes into force, unless that of a newer one has.
    pub(crate) fn set_limit(&self, generation: u32) {
        self.share.set_limit(&self.load, generation, self.concurrent_max);
    }

    /// Changes what this process has of the limit.
    pub(crate) fn change_share<R>(&self, change: impl FnOnce(&mut LimitShare) -> R) -> R {
        self.share.change(&self.load, change)
    }

    /// Counts a request, if fewer than `max` are in flight.
    fn try_acquire_below(&self, max: usize) -> bool {
        self.load.try_acquire_below(max)
    }

    pub(crate) fn quota_group(&self) -> Option<&str> {
        self.quota_group.as_deref()
    }

    pub(crate) fn load(&self) -> usize {
        self.load.live()
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.count.load(Ordering::Acquire)
    }

    /// Stores the fingerprint of an accepted request.
    pub(crate) fn record_accepted_request(&self, request: u64) {
        self.accepted.requests.insert(request);
    }

    /// Whether the same request was accepted before.
    pub(crate) fn has_worked(&self, request: u64) -> bool {
        self.accepted.requests.contains(request)
    }

    /// Counts an accepted request. Returns whether it ends a trial.
    pub(crate) fn count_accepted(&self, now: Instant) -> bool {
        let before = self.accepted.count.fetch_add(1, Ordering::AcqRel);
        self.out().is_some_and(|out| out.until <= now && out.refused_at == Some(before))
    }

    pub(crate) fn count_error(&self, is_refused: bool) {
        let counter = if is_refused { &self.errors.refused } else { &self.errors.throttled };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn publish(&self, out: Option<OutOfRotation>) {
        *self.out.lock().unwrap_or_else(PoisonError::into_inner) = out;
    }

    pub(crate) fn out(&self) -> Option<OutOfRotation> {
        *self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state_of(&self, out: Option<OutOfRotation>, now: Instant) -> CredentialState {
        match out {
            Some(OutOfRotation { until, refused_at: None }) if until > now => {
                CredentialState::CoolingDown(until)
            }
            Some(OutOfRotation { until, .. }) if until > now => CredentialState::Refused(until),
            Some(OutOfRotation { refused_at: Some(at), .. }) if at == self.accepted() => {
                CredentialState::OnTrial
            }
            _ => CredentialState::InUse,
        }
    }

    /// Largest number of requests in flight in the current state.
    pub(crate) fn limit(&self, out: Option<OutOfRotation>, now: Instant) -> usize {
        match self.state_of(out, now) {
            CredentialState::InUse => self.load.limit(),
            CredentialState::OnTrial => 1,
            CredentialState::CoolingDown(_) | CredentialState::Refused(_) => 0,
        }
    }

    fn has_capacity(&self, now: Instant) -> bool {
        self.load() < self.limit(self.out(), now)
    }

    pub(crate) fn view(&self, now: Instant) -> CredentialView {
        CredentialView {
            name: self.name.clone(),
            in_flight: self.load(),
            concurrent_max: self.load.limit(),
            quota_group: self.quota_group.clone(),
            state: self.state_of(self.out(), now),
            throttled: self.errors.throttled.load(Ordering::Relaxed),
            refused: self.errors.refused.load(Ordering::Relaxed),
        }
    }
}

/// Whether a credential other than `than` has capacity.
pub(crate) fn has_other(all: &[CredentialStats], than: CredentialId, now: Instant) -> bool {
    all.iter().enumerate().any(|(i, one)| i != than.0 && one.has_capacity(now))
}

/// If no credential is in rotation: when the first returns, and whether it was refused.
pub(crate) fn all_out_of_rotation(all: &[CredentialStats], now: Instant) -> Option<(Instant, bool)> {
    let out = |one: &CredentialStats| match one.state_of(one.out(), now) {
        CredentialState::CoolingDown(until) => Some((until, false)),
        CredentialState::Refused(until) => Some((until, true)),
        CredentialState::InUse | CredentialState::OnTrial => None,
    };
    let outs: Option<Vec<_>> = all.iter().map(out).collect();
    outs?.into_iter().min()
}

/// A request that counts for the load of one credential.
#[derive(Debug)]
pub struct CredentialTicket {
    id: CredentialId,
    load: Arc<Gate>,
    gate: Arc<GateShared>,
}

impl CredentialTicket {
    /// The load rises, if fewer than `max` requests are in flight. Only the selector calls this.
    pub(crate) fn try_acquire_below(
        max: usize,
        (id, stats): (CredentialId, &CredentialStats),
        gate: &Arc<GateShared>,
    ) -> Option<Self> {
        let acquired = stats.try_acquire_below(max);
        acquired.then(|| Self { id, load: Arc::clone(&stats.load), gate: Arc::clone(gate) })
    }

    /// The credential.
    pub fn id(&self) -> CredentialId {
        self.id
    }
}

impl Drop for CredentialTicket {
    fn drop(&mut self) {
        // No request waits at this gate: waiters are in the bucket's queues.
        let _ = self.load.release();
        self.gate.wake_if_waiting();
    }
}
