//! The limit of each token subject (JWT), for all tokens of the subject together.
//!
//! Subjects are stored as a hash under a key of this process. Two of 100,000 subjects share a hash about once in ten
//! billion process starts, and then share a budget. The table is bounded like that of client addresses. All tokens
//! without a subject share one budget. Only verified tokens are counted, so a client cannot invent subjects.

use std::hash::BuildHasher;
use std::time::Instant;

use crate::limiter::client_limits::{ClientLimits, LimitedClient};
use crate::limiter::exported_limits::LimitTimes;
use crate::limiter::limit_status::{Allowed, LimitScope, LimitStatus};
use crate::limiter::settings::LimiterSettings;
use crate::limiter::table::TatSlot;
use crate::limiter::tat::Tat;

/// A subject, as its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SubjectKey(u64);

impl SubjectKey {
    pub(crate) fn from_subject(subject: Option<&str>, hasher: &impl BuildHasher) -> Self {
        Self(hasher.hash_one(subject))
    }

    /// The subject with this hash.
    pub(super) fn from_hash(hash: u64) -> Self {
        Self(hash)
    }

    /// Fingerprint for `ActorMessage::message_fingerprint`.
    pub(crate) fn fingerprint(self) -> u64 {
        self.0
    }
}

/// The limit and the arrival time of each subject.
#[derive(Debug)]
pub(crate) struct PerSubjectState {
    pub(super) subjects: ClientLimits<SubjectKey>,
    /// Whether admitted requests get rate-limit headers.
    sends_headers: bool,
}

/// The charge of one request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SubjectCharge {
    /// None without a limit, and if a shadow limit would have refused.
    slot: Option<(TatSlot<SubjectKey>, Tat)>,
    pub(crate) allowed: Allowed,
}

impl PerSubjectState {
    pub(crate) fn new(settings: &LimiterSettings, now: Instant) -> Self {
        let subjects = ClientLimits::new(settings.per_subject.as_ref(), settings.clients_max, now);
        Self { subjects, sends_headers: settings.sends_headers }
    }

    /// Replaces the limit. Used tokens stay used.
    pub(super) fn reconfigure(&mut self, settings: &LimiterSettings, now: Instant) {
        // Subjects have no leases.
        self.subjects.reconfigure(settings.per_subject.as_ref(), settings.clients_max, 0, now);
        self.sends_headers = settings.sends_headers;
    }

    /// Checks a request of this cost.
    pub(crate) fn decide(
        &self,
        subject: SubjectKey,
        cost: u32,
        now: Instant,
    ) -> Result<SubjectCharge, LimitStatus> {
        let Some(LimitedClient { gcra, slot, tat, now }) = self.subjects.client(subject, now) else {
            return Ok(SubjectCharge { slot: None, allowed: Allowed::default() });
        };
        let (next, allowed) = gcra.check(LimitScope::Subject, tat, cost, self.sends_headers, now)?;
        Ok(SubjectCharge { slot: next.map(|next| (slot, next)), allowed })
    }

    /// Charges what `decide` allowed.
    pub(crate) fn apply(&mut self, charge: &SubjectCharge, now: Instant) {
        if let Some((slot, next)) = charge.slot {
            self.subjects.charge(slot, next, now);
        }
    }

    /// Goes on from the times of a predecessor.
    pub(super) fn import(&mut self, times: &LimitTimes, now: Instant) {
        if times.is_lost || times.are_subjects_lost {
            return self.subjects.rebuild(now);
        }
        self.subjects.import(times.per_subject.as_ref(), times.received(now), now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_config::{LimitMode, RateLimit};

    use super::*;
    use crate::limiter::settings::ConfiguredLimit;

    /// L1, L5, S5: each subject has its own budget, subjects beyond the table share one, and a crash spends all
    #[test]
    fn subjects_have_budgets_of_their_own() {
        let t0 = crate::clock::now();
        let hasher = ahash::RandomState::new();
        let limit =
            RateLimit { requests_per_second: 1.0, burst: 2.try_into().unwrap(), mode: LimitMode::Enforce };
        let per_subject = Some(ConfiguredLimit::new(limit));
        let settings = LimiterSettings { per_subject, ..LimiterSettings::unlimited(2) };
        let mut state = PerSubjectState::new(&settings, t0);
        let mut charge_one = |subject: Option<&str>, now, crash| {
            if crash {
                state.subjects.rebuild(now);
            }
            let charge = state
                .decide(SubjectKey::from_subject(subject, &hasher), 1, now)
                .map_err(|refusal| refusal.scope)?;
            state.apply(&charge, now);
            Ok::<_, LimitScope>(())
        };
        for subject in [Some("ann"), Some("ann"), None, None] {
            assert_eq!(charge_one(subject, t0, false), Ok(()));
        }
        assert_eq!(
            (charge_one(Some("ann"), t0, false), charge_one(None, t0, false)),
            (Err(LimitScope::Subject), Err(LimitScope::Subject))
        );
        assert_eq!(
            (charge_one(Some("ben"), t0, false), charge_one(Some("cem"), t0, false)),
            (Ok(()), Ok(()))
        );
        assert!(charge_one(Some("dan"), t0, false).is_err(), "subjects beyond the table share one budget");
        let later = t0 + Duration::from_secs(9);
        assert_eq!(charge_one(Some("ann"), later, false), Ok(()));
        assert!(charge_one(Some("ann"), later, true).is_err(), "spent by the crash");
    }
}
