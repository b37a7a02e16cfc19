//! The limit of each subject of tokens (JWT): whom the issuer gave them to, however many a subject has.
//!
//! Subjects are known by their hash under a key of this process: two in 100,000 have the same about once in ten billion starts, and
//! then share a budget. The table is bounded as that of client addresses is; tokens without a subject are one. An issuer's
//! subjects are believed, so an address that invents some does not get here.

use std::hash::BuildHasher;
use std::time::Instant;

use tidegate_config::RateLimit;

use crate::limiter::gcra::{Gcra, Tat, nanos};
use crate::limiter::limit_status::{Allowed, LimitScope, LimitStatus};
use crate::limiter::table::{TatSlot, TatTable};

/// A subject, as its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SubjectKey(u64);

impl SubjectKey {
    pub(crate) fn from_subject(subject: Option<&str>, hasher: &impl BuildHasher) -> Self {
        Self(hasher.hash_one(subject))
    }

    /// A number that is the same for the same subject.
    pub(crate) fn fingerprint(self) -> u64 {
        self.0
    }
}

/// The limit and what each subject has left of it.
#[derive(Debug)]
pub(crate) struct PerSubjectState {
    origin: Instant,
    gcra: Option<Gcra>,
    subjects: TatTable<SubjectKey>,
    /// Whether those who are admitted are told what is left.
    sends_headers: bool,
}

/// What a request of a subject is charged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SubjectCharge {
    /// Nothing without a limit, and where one in shadow mode would have refused.
    slot: Option<(TatSlot<SubjectKey>, Tat)>,
    pub(crate) allowed: Allowed,
}

impl PerSubjectState {
    pub(crate) fn new(
        limit: Option<RateLimit>,
        subjects_max: usize,
        sends_headers: bool,
        now: Instant,
    ) -> Self {
        Self { origin: now, gcra: limit.map(Gcra::new), subjects: TatTable::new(subjects_max), sends_headers }
    }

    /// What so many tokens more mean to the subject, or why it must wait.
    pub(crate) fn decide(
        &self,
        subject: SubjectKey,
        cost: u32,
        now: Instant,
    ) -> Result<SubjectCharge, LimitStatus> {
        let Some(gcra) = &self.gcra else {
            return Ok(SubjectCharge { slot: None, allowed: Allowed::default() });
        };
        let now = nanos(self.origin, now);
        let (slot, tat) = self.subjects.slot(subject, now);
        let (next, allowed) = gcra.check(LimitScope::Subject, tat, cost, self.sends_headers, now)?;
        Ok(SubjectCharge { slot: next.map(|next| (slot, next)), allowed })
    }

    /// Charges what `decide` allowed.
    pub(crate) fn apply(&mut self, charge: SubjectCharge, now: Instant) {
        if let Some((slot, next)) = charge.slot {
            self.subjects.write(slot, next, nanos(self.origin, now));
        }
    }

    /// Every subject's burst is spent as of now.
    pub(crate) fn rebuild(&mut self, now: Instant) {
        self.subjects.rebuild(nanos(self.origin, now) + self.gcra.map_or(0, |gcra| gcra.tolerance));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_config::LimitMode;

    use super::*;

    /// L1, L5, S5: subjects have budgets of their own, those beyond the table share one, and a crash is no amnesty
    #[test]
    fn subjects_have_budgets_of_their_own() {
        let t0 = crate::clock::now();
        let hasher = ahash::RandomState::new();
        let limit =
            RateLimit { requests_per_second: 1.0, burst: 2.try_into().unwrap(), mode: LimitMode::Enforce };
        let mut state = PerSubjectState::new(Some(limit), 2, false, t0);
        let mut take = |subject: Option<&str>, now, crash| {
            if crash {
                state.rebuild(now);
            }
            let charge = state
                .decide(SubjectKey::from_subject(subject, &hasher), 1, now)
                .map_err(|refusal| refusal.scope)?;
            state.apply(charge, now);
            Ok::<_, LimitScope>(())
        };
        for subject in [Some("ann"), Some("ann"), None, None] {
            assert_eq!(take(subject, t0, false), Ok(()));
        }
        assert_eq!(
            (take(Some("ann"), t0, false), take(None, t0, false)),
            (Err(LimitScope::Subject), Err(LimitScope::Subject))
        );
        assert_eq!((take(Some("ben"), t0, false), take(Some("cem"), t0, false)), (Ok(()), Ok(())));
        assert!(take(Some("dan"), t0, false).is_err(), "those beyond the table share one budget");
        let later = t0 + Duration::from_secs(9);
        assert_eq!(take(Some("ann"), later, false), Ok(()));
        assert!(take(Some("ann"), later, true).is_err(), "spent by the crash");
    }
}
