//! Draws upstream complaints about credentials for calls with a neutral outcome, and observes from outside which
//! credential each request uses and which were out of rotation at that time.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::breaker::Outcome;
use crate::clock;
use crate::pool::{
    CredentialCheckResult, CredentialError, CredentialId, CredentialState, CredentialView, Permit,
    PoolHandle, PoolRejection, RequestFingerprints,
};
use crate::simulation::client::Client;
use crate::simulation::client_waker::ClientWaker;
use crate::simulation::ledger::CountGuard;
use crate::simulation::running_client::RunningClient;
use crate::simulation::scenario::Scenario;
use crate::simulation::tracked::Tracked;
use crate::simulation::upstream::CallPlan;
use crate::types::{BucketId, IpKey};

/// Number of states kept.
const STATES_KEPT: usize = 256;

/// Observer of one bucket's credentials.
#[derive(Debug, Default)]
pub(super) struct CredentialObserver {
    /// Requests in flight per credential.
    in_use: Vec<Rc<Cell<usize>>>,
    states: VecDeque<(Instant, Vec<CredentialState>)>,
}

/// End of a credential's time out of rotation.
fn out_until(state: CredentialState) -> Option<Instant> {
    match state {
        CredentialState::CoolingDown(until) | CredentialState::Refused(until) => Some(until),
        CredentialState::InUse | CredentialState::OnTrial => None,
    }
}

/// Whether a request could use this credential.
pub(super) fn has_capacity(view: &CredentialView) -> bool {
    match view.state {
        CredentialState::InUse => view.in_flight < view.concurrent_max,
        CredentialState::OnTrial => view.in_flight == 0,
        CredentialState::CoolingDown(_) | CredentialState::Refused(_) => false,
    }
}

impl CredentialObserver {
    pub(super) fn new(credentials: usize) -> Self {
        Self { in_use: (0..credentials).map(|_| Rc::default()).collect(), states: VecDeque::new() }
    }

    /// Compares the published states with the previous ones, after every step that may have changed them.
    pub(super) fn observe(&mut self, bucket: usize, pool: &PoolHandle, now: Instant) -> Result<(), String> {
        if self.in_use.is_empty() {
            return Ok(());
        }
        let views = pool.view(now).credentials;
        let states: Vec<CredentialState> = views.iter().map(|view| view.state).collect();
        let is_refused = |state: &CredentialState| matches!(state, CredentialState::Refused(_));
        if bucket == SINGLE_SUSPECTOR_BUCKET.index() && states.iter().any(is_refused) {
            return Err("evidence of a single client withdrew a credential".to_owned());
        }
        if let Some((_, before)) = self.states.back() {
            for (at, (before, is)) in before.iter().zip(&states).enumerate() {
                let promised = out_until(*before).filter(|until| now < *until);
                if promised.is_some_and(|until| out_until(*is).is_none_or(|now_until| now_until < until)) {
                    return Err(format!("{at} returned too early: {before:?}, then {is:?}"));
                }
            }
        }
        for (view, held) in views.iter().zip(&self.in_use) {
            if view.in_flight > view.concurrent_max || held.get() > view.in_flight {
                return Err(format!("{} requests use {view:?}", held.get()));
            }
        }
        if self.states.back().is_none_or(|(_, before)| *before != states) {
            if self.states.len() == STATES_KEPT {
                self.states.pop_front();
            }
            self.states.push_back((now, states));
        }
        Ok(())
    }

    /// A request uses a credential, since some time within `within`.
    pub(super) fn record_use(
        &self,
        credential: CredentialId,
        within: (Instant, Instant),
    ) -> Result<CountGuard, String> {
        let (from, at) = within;
        let ends = self.states.iter().skip(1).map(|(since, _)| Some(*since)).chain([None]);
        let then = self
            .states
            .iter()
            .zip(ends)
            .filter(|((since, _), end)| *since <= at && end.is_none_or(|end| from <= end));
        let known_from = self.states.front().is_none_or(|(first, _)| *first > from);
        let was_in = then
            .map(|((_, states), _)| states[credential.0])
            .any(|state| out_until(state).is_none_or(|until| until <= at));
        if known_from || was_in {
            return Ok(CountGuard::increment(&self.in_use[credential.0]));
        }
        Err(format!("a request uses {}, which is out of rotation", credential.0))
    }

    /// Whether the published loads equal those of the clients, when idle.
    pub(super) fn matches(&self, views: &[CredentialView]) -> bool {
        self.in_use.iter().zip(views).all(|(held, view)| held.get() == view.in_flight)
    }
}

/// In this bucket only one client gives evidence, and no check is refused: no credential may be withdrawn.
const SINGLE_SUSPECTOR_BUCKET: BucketId = BucketId::new(0);
const SINGLE_SUSPECTOR: IpKey = IpKey::V4(0);
/// Longest time of a check, in ms.
const CHECK_MS_MAX: u64 = 200;

impl Client {
    /// Reports an answer to the pool as far as it concerns the permit's credential; returns whether it was a complaint.
    pub(super) fn report_credential(&self, permit: &Permit, call: &CallPlan) -> bool {
        let Some(credential) = permit.credential() else { return false };
        let Self { shared, spec, .. } = self;
        let pool = &shared.pools[spec.bucket.index()];
        let mut rng = shared.rng.borrow_mut();
        let path = rng.between(0, 4);
        let evidence = RequestFingerprints { client: pool.fingerprint(spec.address), path, request: path };
        match call.outcome {
            Outcome::Success => {
                pool.report_accepted(credential, evidence, clock::now());
                false
            }
            Outcome::Failure { .. } => false,
            Outcome::Neutral => {
                let asked = rng.choose([
                    None,
                    Some(Duration::ZERO),
                    Some(Duration::from_millis(300)),
                    Some(Duration::MAX),
                ]);
                let may_suspect = spec.bucket != SINGLE_SUSPECTOR_BUCKET || spec.address == SINGLE_SUSPECTOR;
                let is_suspected = may_suspect && rng.one_in(2);
                let error = if is_suspected {
                    CredentialError::SuspectedRefusal(evidence)
                } else {
                    CredentialError::Throttled(asked)
                };
                pool.report_credential_error(credential, error);
                true
            }
        }
    }
}

impl Scenario {
    /// Checks suspect credentials, as `src/upstream/health/credential_check.rs` does.
    pub(super) fn check_credentials(&mut self) {
        let Some(at) = self.clients.iter().position(Option::is_none) else { return };
        let chosen = self.rng.below(self.shared.pools.len());
        let suspects = self.shared.pools[chosen].drain_suspects();
        if suspects.is_empty() {
            return;
        }
        let takes = Duration::from_millis(self.rng.between(0, CHECK_MS_MAX));
        let results = [
            CredentialCheckResult::Accepted,
            CredentialCheckResult::Inconclusive,
            CredentialCheckResult::Refused,
        ];
        let possible = if chosen == SINGLE_SUSPECTOR_BUCKET.index() { 2 } else { 3 };
        let found = results[self.rng.below(possible)];
        let pool = self.shared.pools[chosen].clone();
        let checking = async move {
            tokio::time::sleep(takes).await;
            for credential in suspects {
                pool.report_credential_check(credential, found, clock::now());
            }
        };
        self.clients[at] = Some(RunningClient::new(checking, Arc::clone(&ClientWaker::new()), 0));
        self.record_event("credential check starts", chosen);
    }
}

impl Client {
    /// Records the credential of a request if it changed.
    pub(super) fn track_credential(&self, permit: &mut Tracked<Permit>, decided: u64) {
        let Some(credential) = permit.value.as_ref().and_then(Permit::credential) else { return };
        permit.credential_count = None;
        let mut ledger = self.shared.ledger.borrow_mut();
        permit.credential_count =
            ledger.record_credential_use(self.spec.bucket, credential, decided, clock::now());
    }

    /// Switches to another credential.
    pub(super) async fn switch_credential(&self, permit: &mut Tracked<Permit>) -> bool {
        let Some(current) = &mut permit.value else { return false };
        let asked = clock::now();
        if !self.shared.pools[self.spec.bucket.index()].switch_credential(current).await {
            return false;
        }
        self.track_credential(permit, self.decided_at(asked));
        true
    }

    /// For a retry: another endpoint, and another credential if needed.
    pub(super) async fn reassign(&self, permit: &mut Tracked<Permit>) -> Result<(), PoolRejection> {
        let Self { shared, spec, .. } = self;
        let Some(current) = &mut permit.value else { return Ok(()) };
        let (endpoint, credential) = (current.endpoint(), current.credential());
        let asked = clock::now();
        shared.pools[spec.bucket.index()].reassign(current).await?;
        // Without an answer the permit is unchanged, which is no choice.
        let decided = self.decided_at(asked);
        if current.endpoint() != endpoint {
            shared.ledger.borrow_mut().record_pick(spec.bucket, current.endpoint().0, decided, clock::now());
        }
        if current.credential() != credential {
            self.track_credential(permit, decided);
        }
        Ok(())
    }
}
