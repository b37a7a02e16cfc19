//! One circuit: when it opens, who may try, when it closes.

use std::time::{Duration, Instant};

use tidegate_config::{BreakerConfig, BreakerMode};

use crate::breaker::decision::{
    Change, CircuitState, Entry, Pass, Refusal, Snapshot, TRIALS_TAKEN_RETRY, Transition, TrialId, Verdict,
};
use crate::breaker::outcome::{Adverse, Cause, Failure, Outcome};
use crate::breaker::tally::{Tally, Thresholds};

/// How long a circuit found half-open by a rebuild stays open.
const OPEN_AFTER_REBUILD: Duration = Duration::from_secs(1);
/// How long a trial's permit is good without a report.
const LEASE: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Trial {
    id: TrialId,
    lease_end: Instant,
}

#[derive(Debug)]
enum Phase {
    Closed(Tally),
    Open {
        until: Instant,
        /// Whether a connection to the upstream ends it.
        probed: bool,
    },
    HalfOpen {
        successes: u32,
    },
    /// Open without an end, because the configuration says so.
    Forced,
}

/// One circuit. In shadow mode it lives as it would otherwise: that nobody is refused is up to the handle.
#[derive(Debug)]
pub(crate) struct Circuit {
    config: BreakerConfig,
    thresholds: Thresholds,
    phase: Phase,
    generation: u32,
    /// Permits out, of earlier generations too: those requests still weigh on the upstream.
    trials: Vec<Trial>,
    next_trial: u64,
    /// Failures in a row, trials included, up to the last success in a closed circuit.
    consecutive_failures: u32,
    opened_total: u64,
    reopened: u32,
    cause: Option<Cause>,
    /// Its last open time was ended by a connection. Where trials fail all the same, connections say nothing: the next open
    /// time runs to its end.
    hastened: bool,
    jitter: u64,
}

impl Circuit {
    pub(crate) fn new(config: BreakerConfig, seed: u64) -> Self {
        Self {
            thresholds: Thresholds::from(&config),
            phase: at_rest(config.mode),
            config,
            generation: 1,
            trials: Vec::new(),
            next_trial: 0,
            consecutive_failures: 0,
            opened_total: 0,
            reopened: 0,
            cause: None,
            hastened: false,
            jitter: seed,
        }
    }

    /// May a request be tried?
    pub(crate) fn admit(&self, now: Instant) -> Result<Entry, Refusal> {
        let entry = match self.phase {
            Phase::Closed(_) => return Ok(Entry::Closed),
            Phase::Open { until, .. } if now < until => {
                let retry_after = until.saturating_duration_since(now);
                return Err(Refusal::Open { retry_after, cause: self.blame() });
            }
            Phase::Forced => return Err(Refusal::Forced { retry_after: self.config.timeout }),
            Phase::Open { .. } => Entry::FirstTrial,
            Phase::HalfOpen { .. } => Entry::Trial,
        };
        let leases = self.trials.iter().map(|trial| trial.lease_end).filter(|end| now < *end);
        if leases.clone().count() < self.trials_max() {
            return Ok(entry);
        }
        let next_end = leases.min().map_or(Duration::ZERO, |end| end.saturating_duration_since(now));
        Err(Refusal::HalfOpenFull { retry_after: next_end.min(TRIALS_TAKEN_RETRY) })
    }

    /// Admits what `admit` allowed.
    pub(crate) fn enter(&mut self, entry: Entry, now: Instant) -> (Pass, Option<Transition>) {
        let transition = match entry {
            Entry::Closed => {
                return (Pass::Closed { generation: self.generation }, None);
            }
            Entry::Trial => None,
            Entry::FirstTrial => {
                self.turn(Phase::HalfOpen { successes: 0 });
                Some(Transition::HalfOpened)
            }
        };
        let id = TrialId(self.next_trial);
        self.next_trial += 1;
        self.trials.retain(|trial| now < trial.lease_end);
        self.trials.push(Trial { id, lease_end: now + LEASE });
        (Pass::Trial { generation: self.generation, id }, transition)
    }

    /// Judges calls made through the closed circuit: some successes, and perhaps one that tells against the upstream.
    pub(crate) fn judge(&self, generation: u32, successes: u32, adverse: Option<Adverse>) -> Change {
        let Phase::Closed(mut tally) = self.phase else {
            return Change::Nothing;
        };
        if self.generation != generation {
            return Change::Nothing;
        }
        tally.succeed(successes);
        let Some(adverse) = adverse else {
            return Change::Tallied(tally);
        };
        tally.note(adverse);
        // Only an adverse call opens a circuit, so successes may come in late without changing any verdict.
        if self.config.mode != BreakerMode::Off && tally.is_bad(&self.thresholds) {
            Change::Tripped(tally, adverse.failure())
        } else {
            Change::Tallied(tally)
        }
    }

    /// Judges a trial. A verdict after the end of its lease still counts: the lease bounds permits, not evidence,
    /// or an upstream whose every answer takes longer would never be trusted again.
    pub(crate) fn judge_trial(&self, generation: u32, id: TrialId, outcome: Outcome) -> Change {
        let verdict = match (&self.phase, outcome) {
            (Phase::HalfOpen { .. }, _) if self.generation != generation => Verdict::Nothing,
            (Phase::HalfOpen { .. }, Outcome::Failure { cause, retry_after }) => {
                Verdict::Bad(Failure { cause, retry_after })
            }
            (Phase::HalfOpen { successes }, Outcome::Success)
                if successes + 1 >= self.config.success_threshold.get() =>
            {
                Verdict::GoodEnough
            }
            (Phase::HalfOpen { .. }, Outcome::Success) => Verdict::Good,
            _ => Verdict::Nothing,
        };
        Change::TrialEnded(id, verdict)
    }

    /// Carries out a judgement.
    pub(crate) fn change(&mut self, change: Change, now: Instant) -> Option<Transition> {
        match change {
            Change::Nothing => None,
            Change::Tallied(tally) => {
                self.tally(tally);
                None
            }
            Change::Tripped(tally, failure) => {
                self.tally(tally);
                Some(self.open(failure, tally.is_row_out_of_reach(&self.thresholds), now))
            }
            Change::TrialEnded(id, verdict) => {
                self.trials.retain(|trial| trial.id != id);
                self.conclude(verdict, now)
            }
        }
    }

    fn conclude(&mut self, verdict: Verdict, now: Instant) -> Option<Transition> {
        match verdict {
            Verdict::Nothing => None,
            Verdict::Good => {
                if let Phase::HalfOpen { successes } = &mut self.phase {
                    *successes += 1;
                }
                None
            }
            Verdict::GoodEnough => {
                self.reopened = 0;
                self.consecutive_failures = 0;
                self.hastened = false;
                self.turn(Phase::Closed(Tally::default()));
                Some(Transition::Closed)
            }
            Verdict::Bad(failure) => {
                self.reopened = self.reopened.saturating_add(1);
                self.consecutive_failures = self.consecutive_failures.saturating_add(1);
                Some(self.open(failure, true, now))
            }
        }
    }

    /// Whether this connection to the upstream ends the open time it was made in.
    pub(crate) fn is_ended_by_reach(&self, generation: u32) -> bool {
        self.generation == generation && matches!(self.phase, Phase::Open { probed: true, .. })
    }

    /// Ends the open time; trials decide.
    pub(crate) fn reach(&mut self) -> Transition {
        self.hastened = true;
        self.turn(Phase::HalfOpen { successes: 0 });
        Transition::Reached
    }

    /// Starts over from what was published: nothing open is forgiven, and permits out stay out until their leases end.
    pub(crate) fn rebuild(&mut self, last: Snapshot, now: Instant) -> Option<Transition> {
        let Snapshot { state, generation, open_until, consecutive_failures, .. } = last;
        self.generation = generation;
        self.opened_total = last.opened_total;
        self.reopened = last.reopened;
        self.cause = last.cause;
        self.consecutive_failures = consecutive_failures;
        self.trials.clear();
        for lease_end in last.leases_end.into_iter().cycle().take(last.trials as usize) {
            self.trials.push(Trial { id: TrialId(self.next_trial), lease_end });
            self.next_trial += 1;
        }
        match state {
            CircuitState::Closed => {
                self.consecutive_failures = 0;
                self.turn(Phase::Closed(Tally::default()));
                None
            }
            CircuitState::Open if self.config.mode == BreakerMode::ForcedOpen => {
                self.turn(Phase::Forced);
                None
            }
            CircuitState::Open => {
                let until = open_until.unwrap_or(now + OPEN_AFTER_REBUILD);
                self.turn(Phase::Open { until, probed: last.probed });
                None
            }
            CircuitState::HalfOpen => {
                self.opened_total += 1;
                self.turn(Phase::Open { until: now + OPEN_AFTER_REBUILD, probed: false });
                Some(Transition::Opened { cause: self.blame(), open_for: OPEN_AFTER_REBUILD })
            }
        }
    }

    /// What to publish.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let (state, open_until, probed) = match self.phase {
            Phase::Closed(_) => (CircuitState::Closed, None, false),
            Phase::Open { until, probed } => (CircuitState::Open, Some(until), probed),
            Phase::HalfOpen { .. } => (CircuitState::HalfOpen, None, false),
            Phase::Forced => (CircuitState::Open, None, false),
        };
        Snapshot {
            state,
            generation: self.generation,
            open_until,
            probed,
            consecutive_failures: self.consecutive_failures,
            opened_total: self.opened_total,
            reopened: self.reopened,
            cause: self.cause,
            trials: u32::try_from(self.trials.len()).unwrap_or(u32::MAX),
            leases_end: self.trials.iter().map(|trial| trial.lease_end).max(),
        }
    }

    /// `out_of_reach`: no failure that led here was an answer.
    fn open(&mut self, failure: Failure, out_of_reach: bool, now: Instant) -> Transition {
        let open_for = self.open_for(failure.retry_after);
        let was_hastened = std::mem::take(&mut self.hastened);
        let is_probed = self.config.connect_probe_interval.is_some()
            && out_of_reach
            && failure.cause.is_unreachable()
            && !was_hastened;
        self.cause = Some(failure.cause);
        self.opened_total += 1;
        self.turn(Phase::Open { until: now + open_for, probed: is_probed });
        Transition::Opened { cause: failure.cause, open_for }
    }

    /// The first opening lasts as configured; only re-openings grow and are spread, lest gateways try in step.
    fn open_for(&mut self, retry_after: Option<Duration>) -> Duration {
        let BreakerConfig { timeout, max_timeout, .. } = self.config;
        let grown = match self.reopened {
            0 => timeout,
            n => timeout.saturating_mul(1 << n.min(20)).min(max_timeout).mul_f64(self.spread()),
        };
        grown.max(retry_after.unwrap_or_default()).min(max_timeout)
    }

    /// A factor between 0.9 and 1.1 (splitmix64).
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn spread(&mut self) -> f64 {
        self.jitter = self.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.jitter;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = ((bits ^ bits >> 31) >> 11) as f64 / (1u64 << 53) as f64;
        0.9 + 0.2 * share
    }

    fn blame(&self) -> Cause {
        self.cause.unwrap_or(Cause::Connect)
    }

    fn trials_max(&self) -> usize {
        self.config.half_open_max_requests.get() as usize
    }

    fn turn(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation = self.generation.wrapping_add(1);
    }

    fn tally(&mut self, tally: Tally) {
        self.consecutive_failures = tally.consecutive_failures();
        self.phase = Phase::Closed(tally);
    }
}

/// Where a circuit begins.
fn at_rest(mode: BreakerMode) -> Phase {
    match mode {
        BreakerMode::On | BreakerMode::Off | BreakerMode::Shadow => Phase::Closed(Tally::default()),
        BreakerMode::ForcedOpen => Phase::Forced,
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "reach_tests.rs"]
mod reach_tests;
