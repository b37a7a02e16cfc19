//! One endpoint's health: what its calls and its checks say of it, and whether it is called.
//!
//! ```text
//!               failures in a row, or too large a share; or the first after it came back
//!   in rotation ───────────────────────────────────────────────▶ ejected: base × times, capped, jittered
//!        ▲  └── cannot be connected to ──▶ rests: 1 s, doubled each time up to base
//!        └──── time is up, or a check that can tell says so ────┘     bad checks in a row ──▶ unhealthy
//! ```
//!
//! After Envoy's outlier detection, with what its users ran into taken care of: the row starts over with each ejection; what a
//! call says that began before the endpoint came back is old news; the share of endpoints that may be out counts the one that
//! is about to go. One that comes back from an ejection proves itself: its first failure, unless a success came first, ejects
//! it again. A good check ends an absence early only if it can tell: one that connects disproves a refused connection,
//! but says nothing about requests that failed while checks went on succeeding.
//!
//! Time is looked at when somebody asks; there are no timers. Deliberately absent: latency as a reason to eject, which the
//! choice among endpoints weighs instead.

use std::time::{Duration, Instant};

use crate::pool::rules::Rules;

/// The first rest of an endpoint that cannot be connected to.
const REST: Duration = Duration::from_secs(1);
/// Over which time, and of how many calls at least, the share of failures is taken.
const SHARE_TIME: Duration = Duration::from_secs(10);
const SHARE_CALLS_MIN: u64 = 20;
/// Thousandths of its share that an endpoint has at once when it comes back.
const WEIGHT_MIN: u32 = 100;
/// Thousandths of a whole share.
pub(crate) const WEIGHT_WHOLE: u32 = 1000;

/// How an endpoint failed a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// It cannot be connected to, or is not trusted.
    Unreachable,
    /// No answer in time.
    Silent,
    /// The connection broke, or what came was no answer.
    Broken,
    /// It answered that it failed.
    Status,
}

impl Strike {
    /// The word in logs and the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Silent => "silent",
            Self::Broken => "broken",
            Self::Status => "status",
        }
    }
}

/// A failed call as it is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure {
    pub(crate) strike: Strike,
    pub(crate) began: Instant,
    /// The endpoint's successes up to the failure.
    pub(crate) successes: u64,
}

/// What a failure calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sentence {
    Rest,
    Eject,
}

/// Whether an endpoint is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    InRotation,
    /// Not until then, because it could not be connected to.
    Resting(Instant),
    /// Not until then, because it failed like this.
    Ejected(Instant, Strike),
    /// Not until checks find it well.
    Unhealthy,
}

#[derive(Debug, Clone, Copy)]
struct Absence {
    since: Instant,
    until: Instant,
    strike: Strike,
    sentence: Sentence,
}

/// Failures of late, for their share.
#[derive(Debug, Clone, Copy)]
struct Share {
    began: Instant,
    successes_before: u64,
    failures: u64,
}

/// One endpoint.
#[derive(Debug)]
pub(crate) struct Endpoint {
    absence: Option<Absence>,
    unhealthy: bool,
    /// Failures in a row, and the successes before them.
    row: u32,
    row_after: u64,
    share: Option<Share>,
    /// Ejections that are not forgiven yet.
    ejections: u32,
    /// When it came back last; at first, its beginning.
    back: Instant,
    came_back: bool,
    /// The successes it had when it came back from an ejection; with a new one it has proven itself.
    proving: Option<u64>,
    good_checks: u32,
    bad_checks: u32,
    /// Whether checks have failed since it was left out: then they see what calls see.
    checks_saw: bool,
}

impl Endpoint {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            absence: None,
            unhealthy: false,
            row: 0,
            row_after: 0,
            share: None,
            ejections: 0,
            back: now,
            came_back: false,
            proving: None,
            good_checks: 0,
            bad_checks: 0,
            checks_saw: false,
        }
    }

    pub(crate) fn is_usable(&self) -> bool {
        self.absence.is_none() && !self.unhealthy
    }

    pub(crate) fn is_ejected(&self) -> bool {
        self.absence.is_some_and(|absence| absence.sentence == Sentence::Eject)
    }

    /// When it comes back by itself.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.absence.map(|absence| absence.until)
    }

    pub(crate) fn standing(&self) -> Standing {
        match self.absence {
            _ if self.unhealthy => Standing::Unhealthy,
            None => Standing::InRotation,
            Some(Absence { until, sentence: Sentence::Rest, .. }) => Standing::Resting(until),
            Some(Absence { until, strike, .. }) => Standing::Ejected(until, strike),
        }
    }

    /// Thousandths of a whole share: less while it has only just come back, never none.
    pub(crate) fn weight(&self, slow_start: Duration, now: Instant) -> u32 {
        let since = now.saturating_duration_since(self.back);
        if !self.came_back || since >= slow_start {
            return WEIGHT_WHOLE;
        }
        let rise = since.as_secs_f64() / slow_start.as_secs_f64() * f64::from(WEIGHT_WHOLE - WEIGHT_MIN);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 900")]
        let rise = rise as u32;
        WEIGHT_MIN + rise
    }

    /// Counts a failed call and says what it calls for.
    pub(crate) fn fail(&mut self, failure: &Failure, rules: &Rules, now: Instant) -> Option<Sentence> {
        if !self.is_usable() || failure.began < self.back {
            return None;
        }
        if failure.successes != self.row_after {
            self.row = 0;
            self.row_after = failure.successes;
        }
        self.row = self.row.saturating_add(1);
        let has_share = self.has_bad_share(failure.successes, rules, now);
        let is_unproven = self.proving == Some(failure.successes);
        if is_unproven || has_share || self.row >= rules.consecutive_failures {
            Some(Sentence::Eject)
        } else {
            (failure.strike == Strike::Unreachable).then_some(Sentence::Rest)
        }
    }

    fn has_bad_share(&mut self, successes: u64, rules: &Rules, now: Instant) -> bool {
        let old = |share: &Share| now.saturating_duration_since(share.began) >= SHARE_TIME;
        if self.share.as_ref().is_none_or(old) {
            self.share = Some(Share { began: now, successes_before: successes, failures: 0 });
        }
        let Some(share) = &mut self.share else { return false };
        share.failures += 1;
        let calls = share.failures + successes.saturating_sub(share.successes_before);
        calls >= SHARE_CALLS_MIN && share.failures * 100 >= calls * u64::from(rules.failure_percent)
    }

    /// Leaves the rotation; `jitter` is from 0 to 1. Returns for how long.
    pub(crate) fn leave(
        &mut self,
        sentence: Sentence,
        strike: Strike,
        rules: &Rules,
        jitter: f64,
        now: Instant,
    ) -> Duration {
        let jittered = |time: Duration| time.mul_f64(0.9 + 0.2 * jitter);
        let time = match sentence {
            Sentence::Rest => {
                let doublings = self.row.saturating_sub(1).min(16);
                jittered(REST.saturating_mul(1 << doublings)).min(rules.base)
            }
            Sentence::Eject => {
                let kept =
                    now.saturating_duration_since(self.back).as_millis() / rules.base.as_millis().max(1);
                let forgiven = u32::try_from(kept).unwrap_or(u32::MAX);
                self.ejections = self.ejections.saturating_sub(forgiven).saturating_add(1);
                self.row = 0;
                self.share = None;
                jittered(rules.base.saturating_mul(self.ejections)).min(rules.max)
            }
        };
        self.checks_saw = false;
        self.absence = Some(Absence { since: now, until: now + time, strike, sentence });
        time
    }

    /// Whether it is left out for what a connection disproves that began then.
    pub(crate) fn is_disproven_by_reach(&self, began: Instant) -> bool {
        self.absence.is_some_and(|absence| absence.strike == Strike::Unreachable && began >= absence.since)
    }

    /// Ends an absence: its time is up, or somebody knows better. `successes` are those so far.
    pub(crate) fn end_absence(&mut self, successes: u64, now: Instant) {
        if let Some(absence) = self.absence.take() {
            self.proving = (absence.sentence == Sentence::Eject).then_some(successes);
        }
        self.come_back(now);
    }

    fn come_back(&mut self, now: Instant) {
        self.back = now;
        self.came_back = true;
    }

    /// Counts a check that began then. Says whether the endpoint came into the rotation or left it.
    pub(crate) fn checked(&mut self, check: &Check, rules: &Rules, successes: u64, now: Instant) -> bool {
        let was_usable = self.is_usable();
        if check.is_good {
            self.good_checks = self.good_checks.saturating_add(1);
            self.bad_checks = 0;
            if self.unhealthy && self.good_checks >= rules.healthy_threshold {
                self.unhealthy = false;
                self.come_back(now);
            }
            let can_tell = |absence: Absence| {
                let is_disproven = absence.strike == Strike::Unreachable || self.checks_saw;
                check.began >= absence.since && is_disproven && !self.unhealthy
            };
            if self.absence.is_some_and(can_tell) {
                self.end_absence(successes, now);
            }
        } else {
            self.bad_checks = self.bad_checks.saturating_add(1);
            self.good_checks = 0;
            self.checks_saw = true;
            self.unhealthy |= self.bad_checks >= rules.unhealthy_threshold;
        }
        was_usable != self.is_usable()
    }
}

/// What a check found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Check {
    pub(crate) is_good: bool,
    pub(crate) began: Instant,
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
