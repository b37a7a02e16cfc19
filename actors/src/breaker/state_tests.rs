//! One circuit under scripted results, clock jumps and rebuilds (B1–B4, S5).
//!
//! `state_random_tests.rs` has random results.

use std::num::NonZeroU32;

use super::*;
use crate::clock;
use crate::trip::TripRule;

pub(super) fn config() -> BreakerConfig {
    BreakerConfig {
        failure_threshold: NonZeroU32::new(5).unwrap(),
        success_threshold: NonZeroU32::new(2).unwrap(),
        timeout: secs(60),
        half_open_max_requests: NonZeroU32::new(3).unwrap(),
        ..BreakerConfig::default()
    }
}

pub(super) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(super) const FAILED: CallFailure = CallFailure { cause: FailureCause::Status(503), retry_after: None };
pub(super) const BAD: Outcome = Outcome::Failure { cause: FailureCause::Timeout, retry_after: None };

fn fail(circuit: &mut Circuit, failure: CallFailure, now: Instant) -> Option<CircuitTransition> {
    let change = circuit.evaluate_calls(circuit.generation, 0, Some(AdverseOutcome::Failed(failure)));
    circuit.apply_change(change, now)
}

fn open(circuit: &mut Circuit, now: Instant) -> CircuitTransition {
    for _ in 0..4 {
        assert_eq!(fail(circuit, FAILED, now), None);
    }
    fail(circuit, FAILED, now).expect("the fifth failure opens")
}

fn acquire(circuit: &mut Circuit, now: Instant) -> Result<(u32, TrialId), CircuitRefusal> {
    let admission = circuit.admit(now)?;
    match circuit.acquire(admission, now).0 {
        TicketKind::Trial { generation, id } => Ok((generation, id)),
        TicketKind::Closed { .. } => panic!("the circuit is not closed"),
    }
}

pub(super) fn report_trial(
    circuit: &mut Circuit,
    (generation, id): (u32, TrialId),
    outcome: Outcome,
    now: Instant,
) -> Option<CircuitTransition> {
    let change = circuit.evaluate_trial(generation, id, outcome);
    circuit.apply_change(change, now)
}

pub(super) fn state(circuit: &Circuit) -> CircuitState {
    circuit.snapshot().state
}

/// The rule that `open` breaks.
const FIVE_FAILURES: Option<Trip> =
    Some(Trip { rule: TripRule::ConsecutiveFailures, measured: 5, threshold: 5 });

/// B1, B2
#[test]
fn five_failures_in_a_row_open_it_for_the_timeout() {
    let t0 = clock::now();
    let mut circuit = Circuit::new(config(), 1);
    assert_eq!(
        open(&mut circuit, t0),
        CircuitTransition::Opened { cause: FAILED.cause, trip: FIVE_FAILURES, open_for: secs(60) }
    );
    let refusal = CircuitRefusal::Open { retry_after: secs(10), cause: FAILED.cause, trip: FIVE_FAILURES };
    assert_eq!(circuit.admit(t0 + secs(50)), Err(refusal));
    assert_eq!(circuit.admit(t0 + secs(60)), Ok(CircuitAdmission::FirstTrial));
    let published = circuit.snapshot();
    assert_eq!((published.consecutive_failures, published.opened_total, published.generation), (5, 1, 2));
}

/// B1
#[test]
fn successes_reported_with_a_failure_count_before_it() {
    let t0 = clock::now();
    let mut circuit = Circuit::new(config(), 1);
    for _ in 0..4 {
        fail(&mut circuit, FAILED, t0);
    }
    let change = circuit.evaluate_calls(1, 1, Some(AdverseOutcome::Failed(FAILED)));
    assert_eq!(circuit.apply_change(change, t0), None);
    assert_eq!(circuit.snapshot().consecutive_failures, 1);
}

/// B1, B4
#[test]
fn three_trials_are_admitted_and_two_successes_close_it_with_zero_counts() {
    let t0 = clock::now();
    let mut circuit = Circuit::new(config(), 1);
    open(&mut circuit, t0);
    let now = t0 + secs(60);
    let trials = [(); 3].map(|()| acquire(&mut circuit, now).unwrap());
    assert_eq!(acquire(&mut circuit, now), Err(CircuitRefusal::HalfOpenFull { retry_after: secs(1) }));
    assert_eq!(report_trial(&mut circuit, trials[0], Outcome::Success, now), None);
    assert_eq!(report_trial(&mut circuit, trials[1], Outcome::Success, now), Some(CircuitTransition::Closed));
    assert_eq!(circuit.snapshot().consecutive_failures, 0);
    assert_eq!(report_trial(&mut circuit, trials[2], BAD, now), None, "an earlier generation's failure");
    assert_eq!(state(&circuit), CircuitState::Closed);
}

/// B4: a trial with a neutral outcome leaks no permit (Resilience4j #544)
#[test]
fn a_neutral_trial_releases_its_permit_without_a_result() {
    let t0 = clock::now();
    let mut circuit = Circuit::new(config(), 1);
    open(&mut circuit, t0);
    let now = t0 + secs(60);
    for _ in 0..20 {
        let trial = acquire(&mut circuit, now).expect("the permit before was released");
        assert_eq!(report_trial(&mut circuit, trial, Outcome::Neutral, now), None);
    }
    assert_eq!(state(&circuit), CircuitState::HalfOpen);
}

/// B4: a call that never ends does not keep a circuit half-open forever (Resilience4j #903, #935, #1389)
#[test]
fn a_permit_without_a_report_expires() {
    let t0 = clock::now();
    let mut circuit = Circuit::new(config(), 1);
    open(&mut circuit, t0);
    let now = t0 + secs(60);
    let lost = [(); 3].map(|()| acquire(&mut circuit, now).unwrap());
    assert!(acquire(&mut circuit, now + secs(29)).is_err());
    assert!(acquire(&mut circuit, now + LEASE).is_ok());
    let late = now + LEASE;
    assert_eq!(report_trial(&mut circuit, lost[0], Outcome::Success, late), None);
    assert_eq!(
        report_trial(&mut circuit, lost[1], Outcome::Success, late),
        Some(CircuitTransition::Closed),
        "late evidence counts"
    );
}

/// B4: permits of an earlier half-open phase still count
#[test]
fn trials_of_an_earlier_generation_hold_their_permits() {
    let t0 = clock::now();
    let mut circuit = Circuit::new(BreakerConfig { timeout: secs(1), ..config() }, 1);
    open(&mut circuit, t0);
    let now = t0 + secs(1);
    let trials = [(); 3].map(|()| acquire(&mut circuit, now).unwrap());
    assert!(matches!(
        report_trial(&mut circuit, trials[0], BAD, now),
        Some(CircuitTransition::Opened { .. })
    ));
    let again = now + secs(3);
    assert!(acquire(&mut circuit, again).is_ok());
    assert!(matches!(acquire(&mut circuit, again), Err(CircuitRefusal::HalfOpenFull { .. })));
    assert_eq!(report_trial(&mut circuit, trials[1], BAD, again), None, "its result does not count");
    assert!(acquire(&mut circuit, again).is_ok(), "its permit is released");
    assert_eq!(state(&circuit), CircuitState::HalfOpen);
}

/// B1: the open time grows with each re-opening, with jitter, up to a maximum
#[test]
fn each_reopening_doubles_within_ten_percent_up_to_ten_minutes() {
    let mut now = clock::now();
    let mut circuit = Circuit::new(config(), 7);
    open(&mut circuit, now);
    for expected in [120.0, 240.0, 480.0, 600.0, 600.0] {
        now += secs(600);
        let trial = acquire(&mut circuit, now).unwrap();
        let Some(CircuitTransition::Opened { open_for, .. }) = report_trial(&mut circuit, trial, BAD, now)
        else {
            panic!("one failure re-opens")
        };
        let ratio = open_for.as_secs_f64() / expected;
        assert!((0.9..=1.1).contains(&ratio) && open_for <= secs(600), "{open_for:?} for {expected} s");
    }
    now += secs(600);
    let trials = [(); 2].map(|()| acquire(&mut circuit, now).unwrap());
    for trial in trials {
        report_trial(&mut circuit, trial, Outcome::Success, now);
    }
    let reopened = CircuitTransition::Opened { cause: FAILED.cause, trip: FIVE_FAILURES, open_for: secs(60) };
    assert_eq!(open(&mut circuit, now), reopened, "closing resets the open time");
}

/// B1: honours Retry-After
#[test]
fn a_longer_retry_after_is_honoured_up_to_ten_minutes() {
    for (asked, expected) in [(5, 60), (90, 90), (86_400, 600)] {
        let t0 = clock::now();
        let mut circuit = Circuit::new(config(), 1);
        for _ in 0..4 {
            fail(&mut circuit, FAILED, t0);
        }
        let failure = CallFailure { retry_after: Some(secs(asked)), ..FAILED };
        let opened =
            CircuitTransition::Opened { cause: FAILED.cause, trip: FIVE_FAILURES, open_for: secs(expected) };
        assert_eq!(fail(&mut circuit, failure, t0), Some(opened), "asked {asked} s");
    }
}

/// B1: `max_timeout` bounds the growing open time and Retry-After
#[test]
fn the_longest_time_open_is_configured() {
    let config = BreakerConfig { max_timeout: secs(90), ..config() };
    let mut now = clock::now();
    let mut circuit = Circuit::new(config.clone(), 1);
    open(&mut circuit, now);
    for _ in 0..8 {
        now += secs(90);
        let trial = acquire(&mut circuit, now).unwrap();
        let opened = report_trial(&mut circuit, trial, BAD, now);
        let Some(CircuitTransition::Opened { open_for, .. }) = opened else { panic!("one failure re-opens") };
        assert!((secs(81)..=secs(90)).contains(&open_for), "{open_for:?}");
    }
    let mut circuit = Circuit::new(config, 1);
    for _ in 0..4 {
        fail(&mut circuit, FAILED, now);
    }
    let asked = CallFailure { retry_after: Some(Duration::MAX), ..FAILED };
    let opened = CircuitTransition::Opened { cause: FAILED.cause, trip: FIVE_FAILURES, open_for: secs(90) };
    assert_eq!(fail(&mut circuit, asked, now), Some(opened));
}

fn slow(circuit: &mut Circuit, successes: u32, now: Instant) -> Option<CircuitTransition> {
    let change = circuit.evaluate_calls(circuit.generation, successes, Some(AdverseOutcome::Slow));
    circuit.apply_change(change, now)
}

/// B1: slow calls open a circuit only where `slow_call_duration` is set
#[test]
fn slow_calls_open_it_by_their_rate() {
    let t0 = clock::now();
    let mut circuit = Circuit::new(config(), 1);
    assert!((0..200).all(|_| slow(&mut circuit, 0, t0).is_none()));
    let config = BreakerConfig { slow_call_duration: Some(secs(1)), ..config() };
    let mut circuit = Circuit::new(config, 1);
    for _ in 0..9 {
        assert_eq!(slow(&mut circuit, 1, t0), None);
    }
    let trip = Some(Trip { rule: TripRule::SlowCallRate, measured: 50, threshold: 50 });
    let opened = CircuitTransition::Opened { cause: FailureCause::Slow, trip, open_for: secs(60) };
    assert_eq!(slow(&mut circuit, 1, t0), Some(opened), "ten of twenty");
    assert_eq!(circuit.snapshot().consecutive_failures, 0);
    let now = t0 + secs(60);
    let trial = acquire(&mut circuit, now).unwrap();
    let slow = Outcome::Failure { cause: FailureCause::Slow, retry_after: None };
    assert!(matches!(report_trial(&mut circuit, trial, slow, now), Some(CircuitTransition::Opened { .. })));
}

/// B1, B2: off counts and never opens; forced open has no end and survives a rebuild
#[test]
fn the_modes_off_and_forced_open_do_not_change() {
    let t0 = clock::now();
    let mut off = Circuit::new(BreakerConfig { mode: BreakerMode::Off, ..config() }, 1);
    assert!((0..1000).all(|_| fail(&mut off, FAILED, t0).is_none()));
    assert_eq!((state(&off), off.snapshot().consecutive_failures), (CircuitState::Closed, 1000));
    let mut forced = Circuit::new(BreakerConfig { mode: BreakerMode::ForcedOpen, ..config() }, 1);
    let refused = Err(CircuitRefusal::Forced { retry_after: secs(60) });
    assert_eq!(forced.admit(t0 + secs(1_000_000)), refused);
    assert_eq!(fail(&mut forced, FAILED, t0), None);
    let last = forced.snapshot();
    assert_eq!((last.state, last.open_until), (CircuitState::Open, None));
    assert_eq!(forced.rebuild(last, t0), None);
    assert_eq!(forced.admit(t0 + secs(1_000_000)), refused);
}

/// S5: a rebuild forgives nothing
#[test]
fn a_rebuild_starts_over_from_the_publication() {
    let t0 = clock::now();
    let mut circuit = Circuit::new(config(), 1);
    fail(&mut circuit, FAILED, t0);
    let last = circuit.snapshot();
    assert_eq!(circuit.rebuild(last, t0), None);
    assert_eq!((state(&circuit), circuit.snapshot().consecutive_failures), (CircuitState::Closed, 0));
    assert_eq!(circuit.generation, last.generation + 1);

    open(&mut circuit, t0);
    let last = circuit.snapshot();
    assert_eq!(circuit.rebuild(last, t0 + secs(1)), None);
    assert_eq!(circuit.snapshot(), CircuitSnapshot { generation: last.generation + 1, ..last });

    let now = t0 + secs(60);
    let trial = acquire(&mut circuit, now).unwrap();
    let last = circuit.snapshot();
    let opened = CircuitTransition::Opened { cause: FAILED.cause, trip: FIVE_FAILURES, open_for: secs(1) };
    assert_eq!(circuit.rebuild(last, now), Some(opened));
    assert!(circuit.admit(now).is_err());
    let later = now + secs(1);
    assert_eq!(
        [(); 3].map(|()| acquire(&mut circuit, later).is_ok()),
        [true, true, false],
        "one is still in use"
    );
    assert_eq!(report_trial(&mut circuit, trial, Outcome::Success, later), None);
    assert_eq!(state(&circuit), CircuitState::HalfOpen);
}
