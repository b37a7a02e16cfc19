//! Chooses the credential of a request among a bucket's credentials and reserves it (C3, P3).
//!
//! Choice: the least loaded one in rotation with capacity, relative to its limit; round robin among equals. A throttled
//! credential cools down for the time that the upstream requested, together with its quota group. A refused one is out
//! for long, and then one trial request at a time uses it. `refusal_evidence.rs` decides what proves a refusal.
//!
//! ```text
//! in use ──throttled──▶ cooling down (with its group) ──time is up──▶ in use
//!    └──refused by a check, or by independent evidence──▶ refused ──time is up──▶ on trial ──accepted──▶ in use
//!                                                            ▲───────as before───────┘
//! ```
//!
//! A later message never shortens a time out. The state is computed on access; there is no timer. *Restart*: kept; if
//! dirty, published exclusions stay and the live tickets are the counts. Not implemented: client affinity, and limits
//! learnt from an upstream's headers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::CredentialPoolConfig;

use crate::pool::credentials::credential::{
    CredentialError, CredentialId, CredentialState, CredentialStats, CredentialTicket, OutOfRotation,
};
use crate::pool::credentials::refusal_evidence::{
    INDEPENDENT_REQUESTS, RefusalEvidence, RequestFingerprints,
};
use crate::pool::credentials::suspects::SuspectCredentials;
use crate::pool::gate::ticket::GateShared;
use crate::trip::RefusalProof;

/// Whether a request can use a credential now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CredentialCapacity {
    /// At least one has capacity.
    Available,
    /// Those in rotation are at their limits.
    Exhausted {
        /// When the next one returns; none if all are in rotation.
        next: Option<Instant>,
    },
    /// None is in rotation.
    OutOfRotation {
        /// When the first one returns.
        until: Instant,
        /// Whether that one was refused.
        is_refused: bool,
    },
}

/// A change of state, for logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CredentialEvent {
    /// Throttled and out of rotation.
    Throttled { credential: usize, time: Duration },
    /// Refused and out of rotation.
    Refused { credential: usize, proof: RefusalProof, time: Duration },
    /// Used again.
    Returned { credential: usize },
}

/// The state of one credential.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct CredentialEntry {
    out: Option<OutOfRotation>,
    refusal_evidence: RefusalEvidence,
}

/// The credentials of one bucket.
#[derive(Debug)]
pub(crate) struct CredentialSelector {
    entries: Vec<CredentialEntry>,
    stats: Arc<[CredentialStats]>,
    gate: Arc<GateShared>,
    rules: CredentialPoolConfig,
    /// Credentials for the gateway's own check; none if it cannot check.
    suspects: Option<Arc<SuspectCredentials>>,
    /// First candidate among equals.
    round_robin_start: usize,
    events: Vec<CredentialEvent>,
}

impl CredentialEntry {
    /// The state as far as it is published, for a pool that replaces one that does not answer.
    pub(crate) fn from_published(stats: &CredentialStats) -> Self {
        Self { out: stats.out(), ..Self::default() }
    }

    /// The state with this time out of rotation, and without evidence.
    pub(crate) fn from_out(out: Option<OutOfRotation>) -> Self {
        Self { out, ..Self::default() }
    }

    pub(crate) fn out(&self) -> Option<OutOfRotation> {
        self.out
    }

    /// The state of a credential of the same name with another identity: a pause of its account stays, a refusal does not.
    pub(crate) fn with_new_identity(self) -> Self {
        Self { out: self.out.filter(|out| out.refused_at.is_none()), ..Self::default() }
    }
}

impl CredentialSelector {
    pub(crate) fn new(
        stats: &Arc<[CredentialStats]>,
        gate: &Arc<GateShared>,
        rules: CredentialPoolConfig,
    ) -> Self {
        let entries = vec![CredentialEntry::default(); stats.len()];
        let (stats, gate) = (Arc::clone(stats), Arc::clone(gate));
        Self { entries, stats, gate, rules, suspects: None, round_robin_start: 0, events: Vec::new() }
    }

    /// Enables the gateway's own checks.
    pub(crate) fn with_suspects(mut self, suspects: Option<Arc<SuspectCredentials>>) -> Self {
        self.suspects = suspects;
        self
    }

    /// What a pool that replaces this one's goes on from.
    pub(crate) fn history(&self) -> Vec<CredentialEntry> {
        self.entries.clone()
    }

    /// Goes on from the credentials of the replaced pool; none has no predecessor there. A time out of rotation stays,
    /// within the new rules.
    pub(crate) fn with_history(mut self, history: &[Option<CredentialEntry>], now: Instant) -> Self {
        self.adopt(history, now);
        self
    }

    /// As `with_history`.
    pub(crate) fn adopt(&mut self, history: &[Option<CredentialEntry>], now: Instant) {
        for (i, known) in history.iter().enumerate().take(self.entries.len()) {
            let Some(CredentialEntry { out, refusal_evidence }) = *known else { continue };
            let longest = |out: OutOfRotation| {
                if out.refused_at.is_some() { self.rules.refused } else { self.rules.max_cool_down }
            };
            let out = out.map(|out| OutOfRotation { until: out.until.min(now + longest(out)), ..out });
            self.entries[i] = CredentialEntry { out, refusal_evidence };
            self.stats[i].publish(out);
            if let Some(suspects) = &self.suspects
                && refusal_evidence != RefusalEvidence::default()
            {
                // The task that checks the credentials of the replaced pool ends with it.
                suspects.mark(i);
            }
        }
    }

    /// The limits of this pool's configuration come into force.
    pub(crate) fn set_limits(&self, generation: u32) {
        self.stats.iter().for_each(|one| one.set_limit(generation));
    }

    /// Takes the events since the last call.
    pub(crate) fn drain_events(&mut self) -> Vec<CredentialEvent> {
        std::mem::take(&mut self.events)
    }

    pub(crate) fn capacity(&self, now: Instant) -> CredentialCapacity {
        if (0..self.entries.len()).any(|i| self.has_capacity(i, now)) {
            return CredentialCapacity::Available;
        }
        let mut next: Option<(Instant, bool)> = None;
        let mut is_any_in = false;
        for i in 0..self.entries.len() {
            let until = match self.state(i, now) {
                CredentialState::CoolingDown(until) => (until, false),
                CredentialState::Refused(until) => (until, true),
                CredentialState::InUse | CredentialState::OnTrial => {
                    is_any_in = true;
                    continue;
                }
            };
            next = Some(next.map_or(until, |next| next.min(until)));
        }
        match next {
            Some((until, is_refused)) if !is_any_in => {
                CredentialCapacity::OutOfRotation { until, is_refused }
            }
            next => CredentialCapacity::Exhausted { next: next.map(|(until, _)| until) },
        }
    }

    /// Reserves a credential other than `avoid`.
    pub(crate) fn pick(&mut self, avoid: Option<CredentialId>, now: Instant) -> Option<CredentialTicket> {
        let count = self.entries.len();
        let load = |i: usize| (self.stats[i].load(), self.stats[i].limit(self.entries[i].out, now));
        let cheaper = |one: &usize, other: &usize| {
            let ((of_one, max_one), (of_other, max_other)) = (load(*one), load(*other));
            (of_one * max_other).cmp(&(of_other * max_one))
        };
        let picked = (0..count)
            .map(|i| (self.round_robin_start + i) % count)
            .filter(|i| avoid != Some(CredentialId(*i)) && self.has_capacity(*i, now))
            .min_by(cheaper)?;
        self.round_robin_start = (picked + 1) % count;
        self.clear_if_returned(picked, now);
        let (stats, out) = (&self.stats[picked], self.entries[picked].out);
        CredentialTicket::try_acquire_below(stats.limit(out, now), (CredentialId(picked), stats), &self.gate)
    }

    /// Whether a retry may keep this credential.
    pub(crate) fn is_in_rotation(&self, credential: CredentialId, now: Instant) -> bool {
        self.stats[credential.0].limit(self.entries[credential.0].out, now) > 0
    }

    /// Records an upstream's complaint about a credential.
    pub(crate) fn record_error(&mut self, credential: CredentialId, error: CredentialError, now: Instant) {
        match error {
            CredentialError::Throttled(asked) => {
                let time = asked.unwrap_or(self.rules.cool_down).min(self.rules.max_cool_down);
                let group = self.stats[credential.0].quota_group();
                let affected: Vec<usize> = (0..self.entries.len())
                    .filter(|i| {
                        *i == credential.0 || (group.is_some() && self.stats[*i].quota_group() == group)
                    })
                    .collect();
                affected.into_iter().for_each(|i| self.cool_down(i, time, now));
            }
            CredentialError::SuspectedRefusal(evidence) => self.add_evidence(credential.0, evidence, now),
        }
    }

    /// Records a check that did not end with acceptance.
    pub(crate) fn record_failed_check(&mut self, credential: CredentialId, is_refused: bool, now: Instant) {
        if is_refused {
            self.refuse(credential.0, RefusalProof::Check, now);
            return;
        }
        let accepted = self.stats[credential.0].accepted();
        self.entries[credential.0].refusal_evidence.add_inconclusive_check(accepted);
        self.refuse_if_evident(credential.0, now);
    }

    fn add_evidence(&mut self, i: usize, evidence: RequestFingerprints, now: Instant) {
        if matches!(self.state(i, now), CredentialState::Refused(_)) {
            // The request began before the refusal.
            return;
        }
        let has_worked = self.stats[i].has_worked(evidence.request);
        self.entries[i].refusal_evidence.add(evidence, has_worked, self.stats[i].accepted());
        if let Some(suspects) = &self.suspects {
            suspects.mark(i);
        }
        self.refuse_if_evident(i, now);
    }

    fn refuse_if_evident(&mut self, i: usize, now: Instant) {
        if self.entries[i].refusal_evidence.is_sufficient(self.suspects.is_some()) {
            self.refuse(i, INDEPENDENT_REQUESTS, now);
        }
    }

    /// After a crash in mid-write: a credential that was published as out stays out.
    pub(crate) fn rebuild(&mut self) {
        for (i, member) in self.entries.iter_mut().enumerate() {
            let (ours, published) = (member.out, self.stats[i].out());
            let until = ours.iter().chain(&published).map(|out| out.until).max();
            let refused_at = ours.iter().chain(&published).find_map(|out| out.refused_at);
            member.out = until.map(|until| OutOfRotation { until, refused_at });
            self.stats[i].publish(member.out);
        }
    }

    fn cool_down(&mut self, i: usize, time: Duration, now: Instant) {
        if time.is_zero() {
            return;
        }
        let refused_at = self.unconfirmed_refusal(i, now);
        let was_in = self.is_in_rotation(CredentialId(i), now);
        self.take_out_of_rotation(i, now + time, refused_at);
        if was_in {
            self.stats[i].count_error(false);
            self.events.push(CredentialEvent::Throttled { credential: i, time });
        }
    }

    fn refuse(&mut self, i: usize, proof: RefusalProof, now: Instant) {
        let was_refused = matches!(self.state(i, now), CredentialState::Refused(_));
        self.entries[i].refusal_evidence = RefusalEvidence::default();
        self.take_out_of_rotation(i, now + self.rules.refused, Some(self.stats[i].accepted()));
        if !was_refused {
            self.stats[i].count_error(true);
            self.events.push(CredentialEvent::Refused { credential: i, proof, time: self.rules.refused });
        }
    }

    /// Out of rotation until `until`, or longer if that was set before.
    fn take_out_of_rotation(&mut self, i: usize, until: Instant, refused_at: Option<u64>) {
        let until = self.entries[i].out.map_or(until, |out| out.until.max(until));
        self.entries[i].out = Some(OutOfRotation { until, refused_at });
        self.stats[i].publish(self.entries[i].out);
    }

    /// The refusal that no accepted request has disproven yet.
    fn unconfirmed_refusal(&self, i: usize, now: Instant) -> Option<u64> {
        match self.state(i, now) {
            CredentialState::Refused(_) | CredentialState::OnTrial => {
                self.entries[i].out.and_then(|out| out.refused_at)
            }
            CredentialState::InUse | CredentialState::CoolingDown(_) => None,
        }
    }

    /// Clears the exclusion of a credential that is fully back.
    fn clear_if_returned(&mut self, i: usize, now: Instant) {
        if self.entries[i].out.is_some() && self.state(i, now) == CredentialState::InUse {
            self.entries[i].out = None;
            self.stats[i].publish(None);
            self.events.push(CredentialEvent::Returned { credential: i });
        }
    }

    fn state(&self, i: usize, now: Instant) -> CredentialState {
        self.stats[i].state_of(self.entries[i].out, now)
    }

    fn has_capacity(&self, i: usize, now: Instant) -> bool {
        self.stats[i].load() < self.stats[i].limit(self.entries[i].out, now)
    }
}

#[cfg(test)]
#[path = "selector_tests.rs"]
mod tests;
