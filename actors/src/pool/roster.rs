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
    CredentialId, CredentialSigns, CredentialStanding, CredentialTicket, Out, Setback,
};
use crate::pool::doubt::{Doubts, Evidence};
use crate::pool::suspects::Suspects;
use crate::pool::ticket::GateShared;

/// Whether there is a credential to go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// One has room.
    Free,
    /// Those in rotation are used as much as they may be; another comes back then.
    Busy {
        /// None is out.
        next: Option<Instant>,
    },
    /// None is in rotation.
    Out {
        /// The first comes back then.
        until: Instant,
        /// Whether that one was refused.
        is_refused: bool,
    },
}

/// What changed, for logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RosterTurn {
    /// It is throttled and left alone.
    Cooled { credential: usize, time: Duration },
    /// It is refused and left out.
    Refused { credential: usize, time: Duration },
    /// It is used again.
    CameBack { credential: usize },
}

#[derive(Debug, Default, Clone, Copy)]
struct Member {
    out: Option<Out>,
    doubts: Doubts,
}

/// The credentials of one bucket.
#[derive(Debug)]
pub(crate) struct Roster {
    members: Vec<Member>,
    signs: Arc<[CredentialSigns]>,
    gate: Arc<GateShared>,
    rules: CredentialPoolConfig,
    /// What the gateway checks by itself; none where it cannot.
    suspects: Option<Arc<Suspects>>,
    /// Who comes first among equals.
    first: usize,
    turns: Vec<RosterTurn>,
}

impl Roster {
    pub(crate) fn new(
        signs: &Arc<[CredentialSigns]>,
        gate: &Arc<GateShared>,
        rules: CredentialPoolConfig,
    ) -> Self {
        let members = vec![Member::default(); signs.len()];
        let (signs, gate) = (Arc::clone(signs), Arc::clone(gate));
        Self { members, signs, gate, rules, suspects: None, first: 0, turns: Vec::new() }
    }

    /// With checks of the gateway's own.
    pub(crate) fn checked(mut self, suspects: Option<Arc<Suspects>>) -> Self {
        self.suspects = suspects;
        self
    }

    /// What changed since this was asked last.
    pub(crate) fn take_turns(&mut self) -> Vec<RosterTurn> {
        std::mem::take(&mut self.turns)
    }

    pub(crate) fn room(&self, now: Instant) -> Room {
        if (0..self.members.len()).any(|i| self.has_room(i, now)) {
            return Room::Free;
        }
        let mut next: Option<(Instant, bool)> = None;
        let mut is_any_in = false;
        for i in 0..self.members.len() {
            let until = match self.standing(i, now) {
                CredentialStanding::Cooling(until) => (until, false),
                CredentialStanding::Refused(until) => (until, true),
                CredentialStanding::InUse | CredentialStanding::OnTrial => {
                    is_any_in = true;
                    continue;
                }
            };
            next = Some(next.map_or(until, |next| next.min(until)));
        }
        match next {
            Some((until, is_refused)) if !is_any_in => Room::Out { until, is_refused },
            next => Room::Busy { next: next.map(|(until, _)| until) },
        }
    }

    /// Reserves a place with a credential, but with that one.
    pub(crate) fn pick(&mut self, leave: Option<CredentialId>, now: Instant) -> Option<CredentialTicket> {
        let count = self.members.len();
        let load = |i: usize| (self.signs[i].load(), self.signs[i].limit(self.members[i].out, now));
        let cheaper = |one: &usize, other: &usize| {
            let ((of_one, max_one), (of_other, max_other)) = (load(*one), load(*other));
            (of_one * max_other).cmp(&(of_other * max_one))
        };
        let picked = (0..count)
            .map(|i| (self.first + i) % count)
            .filter(|i| leave != Some(CredentialId(*i)) && self.has_room(*i, now))
            .min_by(cheaper)?;
        self.first = (picked + 1) % count;
        self.settle(picked, now);
        Some(CredentialTicket::new(CredentialId(picked), &self.signs[picked], &self.gate))
    }

    /// Whether a request may go on once more with the credential that it has.
    pub(crate) fn is_in_rotation(&self, credential: CredentialId, now: Instant) -> bool {
        self.signs[credential.0].limit(self.members[credential.0].out, now) > 0
    }

    /// The upstream has something against a credential.
    pub(crate) fn set_back(&mut self, credential: CredentialId, setback: Setback, now: Instant) {
        match setback {
            Setback::Throttled(asked) => {
                let time = asked.unwrap_or(self.rules.cool_down).min(self.rules.max_cool_down);
                let group = self.signs[credential.0].quota_group();
                let affected: Vec<usize> = (0..self.members.len())
                    .filter(|i| {
                        *i == credential.0 || (group.is_some() && self.signs[*i].quota_group() == group)
                    })
                    .collect();
                affected.into_iter().for_each(|i| self.cool(i, time, now));
            }
            Setback::Doubted(evidence) => self.doubt(credential.0, evidence, now),
        }
    }

    /// A check of the gateway's own ended without the upstream's word for the credential.
    pub(crate) fn check_failed(&mut self, credential: CredentialId, is_refused: bool, now: Instant) {
        if is_refused {
            self.refuse(credential.0, now);
            return;
        }
        let accepted = self.signs[credential.0].accepted();
        self.members[credential.0].doubts.check_was_inconclusive(accepted);
        self.refuse_if_doubts_suffice(credential.0, now);
    }

    fn doubt(&mut self, i: usize, evidence: Evidence, now: Instant) {
        if matches!(self.standing(i, now), CredentialStanding::Refused(_)) {
            // A request that began before it was refused.
            return;
        }
        let has_worked = self.signs[i].has_worked(evidence.request);
        self.members[i].doubts.add(evidence, has_worked, self.signs[i].accepted());
        if let Some(suspects) = &self.suspects {
            suspects.mark(i);
        }
        self.refuse_if_doubts_suffice(i, now);
    }

    fn refuse_if_doubts_suffice(&mut self, i: usize, now: Instant) {
        if self.members[i].doubts.suffice(self.suspects.is_some()) {
            self.refuse(i, now);
        }
    }

    /// Who was out as published stays out, after a crash in mid-write.
    pub(crate) fn rebuild(&mut self) {
        for (i, member) in self.members.iter_mut().enumerate() {
            let (ours, published) = (member.out, self.signs[i].out());
            let until = ours.iter().chain(&published).map(|out| out.until).max();
            let refused_at = ours.iter().chain(&published).find_map(|out| out.refused_at);
            member.out = until.map(|until| Out { until, refused_at });
            self.signs[i].publish(member.out);
        }
    }

    fn cool(&mut self, i: usize, time: Duration, now: Instant) {
        if time.is_zero() {
            return;
        }
        let refused_at = self.trial_of(i, now);
        let was_in = self.is_in_rotation(CredentialId(i), now);
        self.leave(i, now + time, refused_at);
        if was_in {
            self.signs[i].count(false);
            self.turns.push(RosterTurn::Cooled { credential: i, time });
        }
    }

    fn refuse(&mut self, i: usize, now: Instant) {
        let was_refused = matches!(self.standing(i, now), CredentialStanding::Refused(_));
        self.members[i].doubts = Doubts::default();
        self.leave(i, now + self.rules.refused, Some(self.signs[i].accepted()));
        if !was_refused {
            self.signs[i].count(true);
            self.turns.push(RosterTurn::Refused { credential: i, time: self.rules.refused });
        }
    }

    /// Out until then, or longer if it was so before.
    fn leave(&mut self, i: usize, until: Instant, refused_at: Option<u64>) {
        let until = self.members[i].out.map_or(until, |out| out.until.max(until));
        self.members[i].out = Some(Out { until, refused_at });
        self.signs[i].publish(self.members[i].out);
    }

    /// The refusal that it has not lived down yet.
    fn trial_of(&self, i: usize, now: Instant) -> Option<u64> {
        match self.standing(i, now) {
            CredentialStanding::Refused(_) | CredentialStanding::OnTrial => {
                self.members[i].out.and_then(|out| out.refused_at)
            }
            CredentialStanding::InUse | CredentialStanding::Cooling(_) => None,
        }
    }

    /// Forgets that it was out once it is fully back.
    fn settle(&mut self, i: usize, now: Instant) {
        if self.members[i].out.is_some() && self.standing(i, now) == CredentialStanding::InUse {
            self.members[i].out = None;
            self.signs[i].publish(None);
            self.turns.push(RosterTurn::CameBack { credential: i });
        }
    }

    fn standing(&self, i: usize, now: Instant) -> CredentialStanding {
        self.signs[i].standing_of(self.members[i].out, now)
    }

    fn has_room(&self, i: usize, now: Instant) -> bool {
        self.signs[i].load() < self.signs[i].limit(self.members[i].out, now)
    }
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
