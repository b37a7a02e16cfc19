//! Which of a bucket's credentials a request goes on with (C3, P3): pick and reserve in one.
//!
//! The least loaded of those that are in rotation and have room, measured against each one's limit; equals take turns. A credential
//! is left alone after throttling for as long as the upstream asked, and everybody in its quota group with it, for a quota is an
//! account's more often than a key's. It is left out for long once it is refused, and then one request tries it again
//! before it gets its full share. What proves a refusal says `doubt.rs`.
//!
//! ```text
//! in use ──throttled──▶ cooling (it, its group) ──time is up──▶ in use
//!    └──refused by a check, or by independent doubts──▶ refused ──time is up──▶ on trial ──accepted──▶ in use
//!                                                          ▲──────as before──────┘
//! ```
//!
//! A time that is set later is never shortened by a message that came later. Standing is computed when somebody asks, so
//! there is no timer. *Restart*: kept; found dirty, who was out as published stays out, and the live tickets are the counts.
//! Deliberately absent: affinity of clients to credentials, and limits learnt from an upstream's headers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::CredentialPoolConfig;

use crate::pool::credential::{
    CredentialError, CredentialId, CredentialState, CredentialStats, CredentialTicket, OutOfRotation,
};
use crate::pool::refusal_evidence::{RefusalEvidence, RequestFingerprints};
use crate::pool::suspect_credentials::SuspectCredentials;
use crate::pool::ticket::GateShared;

/// Whether there is a credential to go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CredentialCapacity {
    /// One has room.
    Available,
    /// Those in rotation are used as much as they may be; another comes back then.
    Exhausted {
        /// None is out.
        next: Option<Instant>,
    },
    /// None is in rotation.
    OutOfRotation {
        /// The first comes back then.
        until: Instant,
        /// Whether that one was refused.
        is_refused: bool,
    },
}

/// What changed, for logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CredentialEvent {
    /// It is throttled and left alone.
    Throttled { credential: usize, time: Duration },
    /// It is refused and left out.
    Refused { credential: usize, time: Duration },
    /// It is used again.
    Returned { credential: usize },
}

#[derive(Debug, Default, Clone, Copy)]
struct CredentialEntry {
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
    /// What the gateway checks by itself; none where it cannot.
    suspects: Option<Arc<SuspectCredentials>>,
    /// Who comes first among equals.
    round_robin_start: usize,
    events: Vec<CredentialEvent>,
}

impl CredentialSelector {
    pub(crate) fn new(
        signs: &Arc<[CredentialStats]>,
        gate: &Arc<GateShared>,
        rules: CredentialPoolConfig,
    ) -> Self {
        let entries = vec![CredentialEntry::default(); signs.len()];
        let (stats, gate) = (Arc::clone(signs), Arc::clone(gate));
        Self { entries, stats, gate, rules, suspects: None, round_robin_start: 0, events: Vec::new() }
    }

    /// With checks of the gateway's own.
    pub(crate) fn with_suspects(mut self, suspects: Option<Arc<SuspectCredentials>>) -> Self {
        self.suspects = suspects;
        self
    }

    /// What changed since this was asked last.
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

    /// Reserves a place with a credential, but with that one.
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
        Some(CredentialTicket::new(CredentialId(picked), &self.stats[picked], &self.gate))
    }

    /// Whether a request may go on once more with the credential that it has.
    pub(crate) fn is_in_rotation(&self, credential: CredentialId, now: Instant) -> bool {
        self.stats[credential.0].limit(self.entries[credential.0].out, now) > 0
    }

    /// The upstream has something against a credential.
    pub(crate) fn record_error(&mut self, credential: CredentialId, setback: CredentialError, now: Instant) {
        match setback {
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

    /// A check of the gateway's own ended without the upstream's word for the credential.
    pub(crate) fn record_failed_check(&mut self, credential: CredentialId, is_refused: bool, now: Instant) {
        if is_refused {
            self.refuse(credential.0, now);
            return;
        }
        let accepted = self.stats[credential.0].accepted();
        self.entries[credential.0].refusal_evidence.add_inconclusive_check(accepted);
        self.refuse_if_evident(credential.0, now);
    }

    fn add_evidence(&mut self, i: usize, evidence: RequestFingerprints, now: Instant) {
        if matches!(self.state(i, now), CredentialState::Refused(_)) {
            // A request that began before it was refused.
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
            self.refuse(i, now);
        }
    }

    /// Who was out as published stays out, after a crash in mid-write.
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

    fn refuse(&mut self, i: usize, now: Instant) {
        let was_refused = matches!(self.state(i, now), CredentialState::Refused(_));
        self.entries[i].refusal_evidence = RefusalEvidence::default();
        self.take_out_of_rotation(i, now + self.rules.refused, Some(self.stats[i].accepted()));
        if !was_refused {
            self.stats[i].count_error(true);
            self.events.push(CredentialEvent::Refused { credential: i, time: self.rules.refused });
        }
    }

    /// Out until then, or longer if it was so before.
    fn take_out_of_rotation(&mut self, i: usize, until: Instant, refused_at: Option<u64>) {
        let until = self.entries[i].out.map_or(until, |out| out.until.max(until));
        self.entries[i].out = Some(OutOfRotation { until, refused_at });
        self.stats[i].publish(self.entries[i].out);
    }

    /// The refusal that it has not lived down yet.
    fn unconfirmed_refusal(&self, i: usize, now: Instant) -> Option<u64> {
        match self.state(i, now) {
            CredentialState::Refused(_) | CredentialState::OnTrial => {
                self.entries[i].out.and_then(|out| out.refused_at)
            }
            CredentialState::InUse | CredentialState::CoolingDown(_) => None,
        }
    }

    /// Forgets that it was out once it is fully back.
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
#[path = "roster_tests.rs"]
mod tests;
