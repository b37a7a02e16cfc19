//! One circuit under changes of its configuration (G3).

use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::breaker::decision::{CircuitAdmission, CircuitRefusal, CircuitState, TicketKind};
use crate::breaker::outcome::{AdverseOutcome, CallFailure, FailureCause, Outcome};
use crate::clock;
use crate::trip::TripRule;

const FAILED: CallFailure = CallFailure { cause: FailureCause::Status(503), retry_after: None };

fn number(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn config() -> BreakerConfig {
    BreakerConfig { failure_threshold: number(1_000), timeout: secs(60), ..BreakerConfig::default() }
}

/// A configuration that opens with the first failure.
fn fragile() -> BreakerConfig {
    BreakerConfig { failure_threshold: number(1), ..config() }
}

/// Records one call per character: `s` success, `f` failure, `w` slow success.
fn record(circuit: &mut Circuit, calls: &str, now: Instant) -> Option<CircuitTransition> {
    let mut last = None;
    for call in calls.chars() {
        let (successes, adverse) = match call {
            'f' => (0, Some(AdverseOutcome::Failed(FAILED))),
            'w' => (0, Some(AdverseOutcome::Slow)),
            _ => (1, None),
        };
        let change = circuit.evaluate_calls(circuit.generation, successes, adverse);
        last = circuit.apply_change(change, now);
    }
    last
}

fn state(circuit: &Circuit) -> CircuitState {
    circuit.snapshot().state
}

fn opened(config: BreakerConfig, now: Instant) -> Circuit {
    let mut circuit = Circuit::new(config, 1);
    record(&mut circuit, "f", now).expect("the first failure opens");
    circuit
}

/// The remaining open time.
fn left(circuit: &Circuit, now: Instant) -> Duration {
    circuit.snapshot().open_until.unwrap().saturating_duration_since(now)
}

/// G3: an open circuit stays open to its end, which a longer open time does not move and a shorter one brings nearer
#[test]
fn an_open_circuit_stays_open() {
    let t0 = clock::now();
    for (timeout, expected) in [(600, 50), (60, 50), (51, 50), (20, 20), (1, 1)] {
        let mut circuit = opened(fragile(), t0);
        let generation = circuit.generation;
        let now = t0 + secs(10);
        let config = BreakerConfig { timeout: secs(timeout), failure_threshold: number(9), ..config() };
        assert_eq!(circuit.reconfigure(&config, now), None);
        assert_eq!((left(&circuit, now), circuit.generation), (secs(expected), generation), "{timeout}");
        assert_eq!(circuit.reconfigure(&config, now), None);
        assert_eq!(left(&circuit, now), secs(expected), "a second reload moves nothing");
        assert!(matches!(circuit.admit(now), Err(CircuitRefusal::Open { .. })));
        assert_eq!(circuit.admit(now + secs(expected)), Ok(CircuitAdmission::FirstTrial));
    }
}

/// G3, B1: a grown open time, which varies by 10 %, is shortened by a shorter one only
#[test]
fn a_grown_open_time_stays() {
    let t0 = clock::now();
    for seed in 0..20 {
        let mut circuit = Circuit::new(fragile(), seed);
        record(&mut circuit, "f", t0).unwrap();
        let now = t0 + secs(60);
        let (ticket, _) = circuit.acquire(circuit.admit(now).unwrap(), now);
        let TicketKind::Trial { generation, id } = ticket else { panic!("{ticket:?}") };
        let failure = Outcome::Failure { cause: FAILED.cause, retry_after: None };
        let change = circuit.evaluate_trial(generation, id, failure);
        circuit.apply_change(change, now).unwrap();
        let before = left(&circuit, now);
        circuit.reconfigure(&BreakerConfig { success_threshold: number(3), ..fragile() }, now);
        assert_eq!(left(&circuit, now), before);
        circuit.reconfigure(&BreakerConfig { timeout: secs(40), ..fragile() }, now);
        assert_eq!(left(&circuit, now), secs(80), "twice the new open time");
    }
}

/// G3, B1: a shorter open time does not cut the upstream's Retry-After, but `max_timeout` does
#[test]
fn a_retry_after_is_honoured() {
    let t0 = clock::now();
    let open = || {
        let mut circuit = Circuit::new(fragile(), 1);
        let failure = CallFailure { retry_after: Some(secs(90)), ..FAILED };
        let change = circuit.evaluate_calls(circuit.generation, 0, Some(AdverseOutcome::Failed(failure)));
        circuit.apply_change(change, t0).unwrap();
        circuit
    };
    let now = t0 + secs(10);
    for (timeout, max_timeout, expected) in [(1, 600, 80), (5, 30, 30), (100, 600, 80)] {
        let mut circuit = open();
        let config = BreakerConfig { timeout: secs(timeout), max_timeout: secs(max_timeout), ..fragile() };
        circuit.reconfigure(&config, now);
        assert_eq!(left(&circuit, now), secs(expected), "{timeout} {max_timeout}");
    }
    let mut rebuilt = open();
    let last = rebuilt.snapshot();
    rebuilt.rebuild(last, t0 + secs(5));
    rebuilt.reconfigure(&BreakerConfig { timeout: secs(1), ..fragile() }, now);
    assert_eq!(left(&rebuilt, now), secs(80), "after a crash it is not known what was asked");
}

/// G3, B1: recorded calls stay, and windows of another size judge them with the next adverse call
#[test]
fn the_window_stays() {
    let t0 = clock::now();
    let window = |calls: u32, minimum: u32, percent: u32| BreakerConfig {
        window_calls: number(calls),
        minimum_calls: number(minimum),
        failure_rate_threshold: number(percent),
        ..config()
    };
    let circuit = || {
        let mut circuit = Circuit::new(window(100, 20, 100), 1);
        assert_eq!(record(&mut circuit, &format!("s{}{}", "f".repeat(20), "s".repeat(19)), t0), None);
        circuit
    };
    let opens = |mut circuit: Circuit, config: &BreakerConfig, calls: &str| {
        assert_eq!(circuit.reconfigure(config, t0), None, "a reload alone opens nothing");
        record(&mut circuit, calls, t0).is_some()
    };
    assert!(opens(circuit(), &window(100, 20, 50), "f"), "21 of 41");
    assert!(!opens(circuit(), &window(20, 20, 10), "f"), "1 of the last 20");
    assert!(opens(circuit(), &window(20, 20, 10), "ff"), "2 of the last 20");
    assert!(opens(circuit(), &window(100, 41, 50), "f") && !opens(circuit(), &window(100, 42, 50), "f"));
    let mut circuit = Circuit::new(config(), 1);
    record(&mut circuit, "ffff", t0);
    circuit.reconfigure(&BreakerConfig { failure_threshold: number(3), ..config() }, t0);
    assert_eq!((state(&circuit), circuit.snapshot().consecutive_failures), (CircuitState::Closed, 4));
    let Some(CircuitTransition::Opened { trip: Some(trip), .. }) = record(&mut circuit, "f", t0) else {
        panic!("the fifth of three failures opens")
    };
    assert_eq!((trip.rule, trip.measured, trip.threshold), (TripRule::ConsecutiveFailures, 5, 3));
}

/// G3, B1: calls that were slow by another duration do not count, and timeouts do
#[test]
fn another_slow_call_duration_forgets_slow_calls() {
    let t0 = clock::now();
    let slow = |secs_slow| BreakerConfig { slow_call_duration: Some(secs(secs_slow)), ..config() };
    let run = |after: BreakerConfig| {
        let mut circuit = Circuit::new(slow(1), 1);
        assert_eq!(record(&mut circuit, &"sw".repeat(9), t0), None);
        circuit.reconfigure(&after, t0);
        record(&mut circuit, "sw", t0).is_some()
    };
    assert!(run(slow(1)), "ten of twenty");
    assert!(!run(slow(5)), "one of twenty");
    let mut circuit = Circuit::new(slow(1), 1);
    let timeout = CallFailure { cause: FailureCause::Timeout, ..FAILED };
    for _ in 0..10 {
        let change = circuit.evaluate_calls(circuit.generation, 1, Some(AdverseOutcome::Failed(timeout)));
        circuit.phase = Phase::Closed(match change {
            crate::breaker::decision::CircuitChange::Tripped(calls, ..)
            | crate::breaker::decision::CircuitChange::Recorded(calls) => calls,
            other => panic!("{other:?}"),
        });
    }
    let rate = BreakerConfig { failure_rate_threshold: number(100), ..slow(5) };
    circuit.reconfigure(&rate, t0);
    let opened = record(&mut circuit, "w", t0);
    assert!(
        matches!(opened, Some(CircuitTransition::Opened { cause: FailureCause::Slow, .. })),
        "{opened:?}"
    );
}

/// G3, B2: `off` closes an open circuit at once, and `shadow` and `on` leave it open
#[test]
fn modes_change_in_place() {
    let t0 = clock::now();
    let mode = |mode| BreakerConfig { mode, ..fragile() };
    let mut circuit = opened(fragile(), t0);
    for kept in [BreakerMode::Shadow, BreakerMode::On] {
        assert_eq!(circuit.reconfigure(&mode(kept), t0), None);
        assert_eq!((state(&circuit), left(&circuit, t0)), (CircuitState::Open, secs(60)));
    }
    let generation = circuit.generation;
    assert_eq!(circuit.reconfigure(&mode(BreakerMode::Off), t0), Some(CircuitTransition::SwitchedOff));
    assert_eq!((state(&circuit), circuit.generation), (CircuitState::Closed, generation + 1));
    assert_eq!(record(&mut circuit, "fffff", t0), None);
    assert_eq!(circuit.reconfigure(&mode(BreakerMode::On), t0), None);
    assert!(record(&mut circuit, "f", t0).is_some(), "the counts of `off` stay");
}

/// G3, B1: `forced_open` covers the state, which holds again afterwards
#[test]
fn a_forced_mode_covers_the_state() {
    let t0 = clock::now();
    let forced = BreakerConfig { mode: BreakerMode::ForcedOpen, ..fragile() };
    let mut circuit = Circuit::new(fragile(), 1);
    let before = circuit.generation;
    circuit.reconfigure(&forced, t0);
    assert!(matches!(circuit.admit(t0), Err(CircuitRefusal::Forced { .. })));
    assert_eq!((state(&circuit), circuit.snapshot().open_until), (CircuitState::Open, None));
    let late = circuit.evaluate_calls(before, 0, Some(AdverseOutcome::Failed(FAILED)));
    assert_eq!(circuit.apply_change(late, t0), None, "a call of before does not count");
    circuit.reconfigure(&fragile(), t0);
    assert_eq!((circuit.admit(t0), circuit.generation), (Ok(CircuitAdmission::Closed), before + 2));

    let mut circuit = opened(fragile(), t0);
    circuit.reconfigure(&forced, t0);
    circuit.reconfigure(&fragile(), t0 + secs(10));
    assert_eq!(left(&circuit, t0), secs(60));

    let mut circuit = Circuit::new(forced, 1);
    let last = circuit.snapshot();
    circuit.rebuild(last, t0);
    circuit.reconfigure(&fragile(), t0);
    assert!(circuit.admit(t0).is_err(), "its state was lost");
    assert_eq!(circuit.admit(t0 + secs(1)), Ok(CircuitAdmission::FirstTrial));
}

/// G3, B4: trials under way keep their permits and results
#[test]
fn a_half_open_circuit_keeps_its_trials() {
    let t0 = clock::now();
    let mut circuit = opened(fragile(), t0);
    let now = t0 + secs(60);
    let acquire = |circuit: &mut Circuit| {
        let admission = circuit.admit(now)?;
        match circuit.acquire(admission, now).0 {
            TicketKind::Trial { generation, id } => Ok::<_, CircuitRefusal>((generation, id)),
            TicketKind::Closed { .. } => panic!("the circuit is not closed"),
        }
    };
    let trials = [(); 3].map(|()| acquire(&mut circuit).unwrap());
    let fewer = BreakerConfig { half_open_max_requests: number(1), ..fragile() };
    circuit.reconfigure(&fewer, now);
    for (at, (generation, id)) in trials.into_iter().enumerate() {
        assert!(matches!(acquire(&mut circuit), Err(CircuitRefusal::HalfOpenFull { .. })), "trial {at}");
        let outcome = if at == 0 { Outcome::Success } else { Outcome::Neutral };
        let change = circuit.evaluate_trial(generation, id, outcome);
        assert_eq!(circuit.apply_change(change, now), None);
    }
    let (generation, id) = acquire(&mut circuit).unwrap();
    let change = circuit.evaluate_trial(generation, id, Outcome::Success);
    assert_eq!(circuit.apply_change(change, now), Some(CircuitTransition::Closed), "the second success");
}

/// G3: the worst of several circuits is the one that admits requests last
#[test]
fn circuits_are_ordered_by_severity() {
    let t0 = clock::now();
    let mut failing = Circuit::new(config(), 1);
    record(&mut failing, "ff", t0);
    let mut half_open = opened(fragile(), t0);
    half_open.end_open_by_connect();
    let order = [
        Circuit::new(config(), 1),
        failing,
        half_open,
        opened(fragile(), t0),
        opened(BreakerConfig { timeout: secs(90), ..fragile() }, t0),
    ];
    assert!(order.iter().map(Circuit::severity).is_sorted());
    for other in &order {
        let mut circuit = Circuit::new(config(), 1);
        circuit.adopt(other);
        assert_eq!(circuit.severity(), other.severity());
        assert_eq!((circuit.snapshot().opened_total, circuit.generation), (0, 2));
    }
}

fn any_config() -> impl Strategy<Value = BreakerConfig> {
    const MODES: &[BreakerMode] = &[BreakerMode::On, BreakerMode::Shadow, BreakerMode::ForcedOpen];
    (prop::sample::select(MODES), 1_u32..4, 1_u64..100, 0_u64..100).prop_map(
        |(mode, failures, timeout, more)| BreakerConfig {
            mode,
            failure_threshold: number(failures),
            timeout: secs(timeout),
            max_timeout: secs(timeout + more),
            ..config()
        },
    )
}

proptest! {
    /// G3: no change of the configuration, other than `off`, makes an open circuit closed or moves its end away, and a
    /// crash after it forgets nothing
    #[test]
    fn no_reload_closes_an_open_circuit(steps in prop::collection::vec((any_config(), 0_u64..20, any::<bool>()), 1..20)) {
        let t0 = clock::now();
        let mut circuit = opened(fragile(), t0);
        let mut now = t0;
        let mut end = t0 + secs(60);
        for (config, pause, crash) in steps {
            now += secs(pause);
            prop_assert_eq!(circuit.reconfigure(&config, now), None);
            if crash {
                let last = circuit.snapshot();
                circuit.rebuild(last, now);
                if circuit.is_forced() {
                    // The end is lost: a trial decides.
                    end = end.max(now + secs(1));
                }
            }
            prop_assert_eq!(state(&circuit), CircuitState::Open);
            match circuit.admit(now) {
                Ok(admission) => prop_assert_eq!(admission, CircuitAdmission::FirstTrial),
                Err(CircuitRefusal::Open { retry_after, .. }) => prop_assert!(now + retry_after <= end),
                Err(refusal) => prop_assert!(circuit.is_forced(), "{refusal:?}"),
            }
        }
    }
}
