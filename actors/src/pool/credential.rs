//! What is known of each credential outside the mailbox, and a request's share of one (C3).
//!
//! The load rises only where the roster builds a ticket, and falls in the ticket's `Drop`, which wakes the queue: a ticket may
//! end before its permit does, when a retry goes on as somebody else. Accepted requests merely count. Whether a credential is out
//! is published by the actor, for those who look: the status, a scrape, and a retry that asks whether there is another.
//!
//! A credential is known by its configured name; what it holds never comes here.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_config::PooledCredential;

use crate::pool::refusal_evidence::{AcceptedRequests, RequestFingerprints};
use crate::pool::ticket::GateShared;

/// One of a bucket's credentials, by its place in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CredentialId(pub usize);

/// What an upstream may have against a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialError {
    /// It is used too much; leave it alone for so long, if the upstream says how long.
    Throttled(Option<Duration>),
    /// The answer to this request may mean that it is refused; see `doubt.rs`.
    SuspectedRefusal(RequestFingerprints),
}

/// Out of rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfRotation {
    pub(crate) until: Instant,
    /// Where it was refused: how many requests it had been accepted for. It is on trial until there are more.
    pub(crate) refused_at: Option<u64>,
}

/// Whether a credential is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialState {
    /// It is.
    InUse,
    /// Throttled until then.
    CoolingDown(Instant),
    /// Refused; it is tried again then.
    Refused(Instant),
    /// Refused before; one request at a time tries whether it still is.
    OnTrial,
}

/// What the status page and a scrape show of a credential.
#[derive(Debug, Clone)]
pub struct CredentialView {
    /// Its configured name.
    pub name: String,
    /// Requests under way with it.
    pub in_flight: usize,
    /// Most of them at once.
    pub concurrent_max: usize,
    /// The group that it is left alone with.
    pub quota_group: Option<String>,
    /// Whether it is used.
    pub state: CredentialState,
    /// Times it was left alone for being throttled.
    pub throttled: u64,
    /// Times it was left out for being refused.
    pub refused: u64,
}

/// One credential's.
#[derive(Debug)]
pub(crate) struct CredentialStats {
    name: String,
    concurrent_max: usize,
    quota_group: Option<String>,
    in_flight: Arc<AtomicUsize>,
    accepted: AtomicU64,
    accepted_requests: AcceptedRequests,
    throttled: AtomicU64,
    refused: AtomicU64,
    out: Mutex<Option<OutOfRotation>>,
}

impl CredentialStats {
    pub(crate) fn from_config(config: &PooledCredential) -> Self {
        Self {
            name: config.name.clone(),
            concurrent_max: config.max_concurrent.get(),
            quota_group: config.quota_group.clone(),
            in_flight: Arc::default(),
            accepted: AtomicU64::new(0),
            accepted_requests: AcceptedRequests::new(),
            throttled: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            out: Mutex::new(None),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn quota_group(&self) -> Option<&str> {
        self.quota_group.as_deref()
    }

    pub(crate) fn load(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Acquire)
    }

    /// Remembers a request that was accepted with it.
    pub(crate) fn record_accepted_request(&self, request: u64) {
        self.accepted_requests.insert(request);
    }

    /// Whether the same request was accepted with it before.
    pub(crate) fn has_worked(&self, request: u64) -> bool {
        self.accepted_requests.contains(request)
    }

    /// Counts an accepted request. True: that ends its trial.
    pub(crate) fn count_accepted(&self, now: Instant) -> bool {
        let before = self.accepted.fetch_add(1, Ordering::AcqRel);
        self.out().is_some_and(|out| out.until <= now && out.refused_at == Some(before))
    }

    pub(crate) fn count_error(&self, is_refused: bool) {
        let counter = if is_refused { &self.refused } else { &self.throttled };
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

    /// How many requests may be under way with it.
    pub(crate) fn limit(&self, out: Option<OutOfRotation>, now: Instant) -> usize {
        match self.state_of(out, now) {
            CredentialState::InUse => self.concurrent_max,
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
            concurrent_max: self.concurrent_max,
            quota_group: self.quota_group.clone(),
            state: self.state_of(self.out(), now),
            throttled: self.throttled.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

/// Whether any of these but one has room for a request.
pub(crate) fn has_other(all: &[CredentialStats], than: CredentialId, now: Instant) -> bool {
    all.iter().enumerate().any(|(i, one)| i != than.0 && one.has_capacity(now))
}

/// If none of them is in rotation: when the first will be, and whether it was refused.
pub(crate) fn all_out_of_rotation(all: &[CredentialStats], now: Instant) -> Option<(Instant, bool)> {
    let out = |one: &CredentialStats| match one.state_of(one.out(), now) {
        CredentialState::CoolingDown(until) => Some((until, false)),
        CredentialState::Refused(until) => Some((until, true)),
        CredentialState::InUse | CredentialState::OnTrial => None,
    };
    let outs: Option<Vec<_>> = all.iter().map(out).collect();
    outs?.into_iter().min()
}

/// One request's share of a credential.
#[derive(Debug)]
pub struct CredentialTicket {
    id: CredentialId,
    in_flight: Arc<AtomicUsize>,
    gate: Arc<GateShared>,
}

impl CredentialTicket {
    /// Only the roster calls this: the count rises.
    pub(crate) fn new(id: CredentialId, signs: &CredentialStats, gate: &Arc<GateShared>) -> Self {
        signs.in_flight.fetch_add(1, Ordering::AcqRel);
        Self { id, in_flight: Arc::clone(&signs.in_flight), gate: Arc::clone(gate) }
    }

    /// Which credential.
    pub fn id(&self) -> CredentialId {
        self.id
    }
}

impl Drop for CredentialTicket {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.gate.wake_if_waiting();
    }
}
