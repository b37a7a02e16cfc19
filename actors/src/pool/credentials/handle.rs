//! The request path's interface to a pool's credentials.

use std::future::pending;
use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::clock;
use crate::pool::actor::{ReassignPermit, Reassigned, WakeQueue};
use crate::pool::credentials::actor::{ReportCredentialError, ReportFailedCheck};
use crate::pool::credentials::credential::{CredentialError, CredentialId, all_out_of_rotation, has_other};
use crate::pool::credentials::refusal_evidence::{CredentialCheckResult, RequestFingerprints};
use crate::pool::decision::ReassignRefusal;
use crate::pool::gate::ticket::Permit;
use crate::pool::handle::PoolHandle;
use crate::pool::rejection::PoolRejection;

impl PoolHandle {
    /// Moves a permit to another endpoint for a retry, and to another credential if its own is out of rotation. The
    /// permit is unchanged with one endpoint and no credential, and if the actor does not answer.
    ///
    /// # Errors
    /// The credential is out of rotation, and no other has capacity, or all endpoints drain.
    pub async fn reassign(&self, permit: &mut Permit) -> Result<(), PoolRejection> {
        self.reassign_away(permit).await?;
        // The permit is unchanged if the actor did not answer.
        match self.may_drain(permit.endpoint()) {
            false => Ok(()),
            true => self.move_from_draining(permit).await,
        }
    }

    async fn reassign_away(&self, permit: &mut Permit) -> Result<(), PoolRejection> {
        let avoid = (self.endpoint_stats.len() > 1).then(|| permit.endpoint());
        let credential = permit.credential().map(|credential| (credential, false));
        if avoid.is_none() && credential.is_none() {
            return Ok(());
        }
        match (self.mailbox.ask(ReassignPermit { avoid, credential }).await, credential) {
            (Ok(Ok(reassigned)), _) => {
                apply_reassigned(permit, reassigned);
                Ok(())
            }
            (Ok(Err(ReassignRefusal::Draining)), _) => Err(self
                .all_draining(clock::now())
                .unwrap_or(PoolRejection::EndpointsDraining { left: None })),
            (Ok(Err(ReassignRefusal::NoCredential)), Some((credential, _))) => {
                let (now, out) = (clock::now(), self.credentials[credential.0].out());
                let retry_after = out.map_or(Duration::ZERO, |out| out.until.saturating_duration_since(now));
                let is_refused = out.is_some_and(|out| out.refused_at.is_some());
                Err(PoolRejection::NoCredential { retry_after, is_refused })
            }
            _ => Ok(()),
        }
    }

    /// Moves a permit to another endpoint, which does not drain.
    pub(in crate::pool) async fn reassign_endpoint(&self, permit: &mut Permit) -> Result<(), PoolRejection> {
        let avoid = Some(permit.endpoint());
        match self.mailbox.ask(ReassignPermit { avoid, credential: None }).await {
            Ok(Ok(reassigned)) => {
                apply_reassigned(permit, reassigned);
                Ok(())
            }
            Ok(Err(_)) => Err(self
                .all_draining(clock::now())
                .unwrap_or(PoolRejection::EndpointsDraining { left: None })),
            Err(error) => Err(PoolRejection::Unavailable(error)),
        }
    }

    /// Whether a credential other than the permit's has capacity.
    pub fn has_other_credential(&self, permit: &Permit, now: Instant) -> bool {
        permit.credential().is_some_and(|credential| has_other(&self.credentials, credential, now))
    }

    /// Moves a permit to another credential. Returns false if none has capacity.
    pub async fn switch_credential(&self, permit: &mut Permit) -> bool {
        let Some(credential) = permit.credential() else { return false };
        match self.mailbox.ask(ReassignPermit { avoid: None, credential: Some((credential, true)) }).await {
            Ok(Ok(reassigned)) => {
                apply_reassigned(permit, reassigned);
                true
            }
            _ => false,
        }
    }

    /// Fingerprint of a client, a path or a request, for [`RequestFingerprints`].
    pub fn fingerprint(&self, of: impl Hash) -> u64 {
        self.hasher.hash_one(of)
    }

    /// Records that the upstream accepted a request with a credential.
    pub fn report_accepted(&self, credential: CredentialId, evidence: RequestFingerprints, now: Instant) {
        self.credentials[credential.0].record_accepted_request(evidence.request);
        self.count_accepted(credential, now);
    }

    /// Waits until there is a suspect credential that the gateway can check.
    pub async fn wait_for_suspects(&self) {
        match &self.suspects {
            Some(suspects) => suspects.wait_for_mark().await,
            None => pending().await,
        }
    }

    /// Takes the credentials to check.
    pub fn drain_suspects(&self) -> Vec<CredentialId> {
        self.suspects.as_ref().map(|suspects| suspects.drain_marks()).unwrap_or_default()
    }

    /// Records the result of the gateway's own credential check.
    pub fn report_credential_check(
        &self,
        credential: CredentialId,
        check: CredentialCheckResult,
        now: Instant,
    ) {
        match check {
            CredentialCheckResult::Accepted => self.count_accepted(credential, now),
            CredentialCheckResult::Refused => {
                self.mailbox.notify(ReportFailedCheck { credential, is_refused: true })
            }
            CredentialCheckResult::Inconclusive => {
                self.mailbox.notify(ReportFailedCheck { credential, is_refused: false })
            }
        }
    }

    fn count_accepted(&self, credential: CredentialId, now: Instant) {
        if self.credentials[credential.0].count_accepted(now) {
            // The trial is over, so waiters may use the rest of the credential's capacity.
            self.mailbox.notify(WakeQueue);
        }
    }

    /// Records that the upstream throttled a credential or may have refused it.
    pub fn report_credential_error(&self, credential: CredentialId, error: CredentialError) {
        self.mailbox.notify(ReportCredentialError { credential, error });
    }

    /// A credential in rotation, for a request without a permit; none without named credentials.
    pub fn any_credential(&self, now: Instant) -> Option<CredentialId> {
        let is_in = |at: &usize| {
            let one = &self.credentials[*at];
            one.limit(one.out(), now) > 0
        };
        let all = 0..self.credentials.len();
        all.clone().find(is_in).or_else(|| all.clone().next()).map(CredentialId)
    }

    /// The rejection if no credential is in rotation.
    pub(in crate::pool) fn no_credential_rejection(&self) -> Option<PoolRejection> {
        let now = clock::now();
        if self.credentials.is_empty() {
            return None;
        }
        let (until, is_refused) = all_out_of_rotation(&self.credentials, now)?;
        Some(PoolRejection::NoCredential { retry_after: until.saturating_duration_since(now), is_refused })
    }
}

fn apply_reassigned(permit: &mut Permit, Reassigned { endpoint, credential }: Reassigned) {
    if let Some(endpoint) = endpoint {
        permit.set_endpoint(endpoint);
    }
    if let Some(credential) = credential {
        permit.set_credential(credential);
    }
}
