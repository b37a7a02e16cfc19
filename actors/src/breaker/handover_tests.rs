//! Hand-over of the circuits (G8, B1, B2, B4).

use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;
use tidegate_config::BreakerConfig;

use super::*;
use crate::breaker::decision::{CircuitAdmission, CircuitRefusal};
use crate::breaker::outcome::{AdverseOutcome, CallFailure, FailureCause};

/// Conversions of times err by the time of one read of the clock.
const MS: Duration = Duration::from_millis(1);

fn config() -> BreakerConfig {
    BreakerConfig {
        failure_threshold: NonZeroU32::new(5).unwrap(),
        success_threshold: NonZeroU32::new(2).unwrap(),
        half_open_max_requests: NonZeroU32::new(3).unwrap(),
        timeout: Duration::from_secs(60),
        max_timeout: Duration::from_secs(600),
        ..BreakerConfig::default()
    }
}

fn fail(circuit: &mut Circuit, times: u32, now: Instant) {
    for _ in 0..times {
        let failure = CallFailure { cause: FailureCause::Status(503), retry_after: None };
        let adverse = Some(AdverseOutcome::Failed(failure));
        let change = circuit.evaluate_calls(circuit.generation, 0, adverse);
        circuit.apply_change(change, now);
    }
}

/// The circuit of the successor, after a way through JSON.
fn crossed(circuit: &Circuit, config: BreakerConfig, now: Instant) -> Circuit {
    let clock = clock::monotonic_clock();
    let text = serde_json::to_string(&circuit.exported(&clock, now)).unwrap();
    let mut next = Circuit::new(config, 7);
    next.import(&serde_json::from_str(&text).unwrap(), &clock, now);
    next
}

fn open_until(circuit: &Circuit) -> Instant {
    circuit.snapshot().open_until.expect("it is open")
}

/// G8, B1: failures in a row and the window go on in the successor
#[test]
fn a_closed_circuit_keeps_its_failures() {
    let t0 = clock::now();
    let mut circuit = Circuit::new(config(), 1);
    fail(&mut circuit, 4, t0);
    let mut next = crossed(&circuit, config(), t0);
    assert_eq!((next.snapshot().state, next.consecutive_failures), (CircuitState::Closed, 4));
    fail(&mut next, 1, t0);
    assert_eq!(next.snapshot().state, CircuitState::Open, "the fifth failure");
}

/// G8, B1, B2: an open circuit stays open to the same time, with its cause and its back-off
#[test]
fn an_open_circuit_stays_open_until_the_same_time() {
    let t0 = clock::now();
    let mut circuit = Circuit::new(config(), 1);
    fail(&mut circuit, 5, t0);
    circuit.reopened = 3;
    let later = t0 + Duration::from_secs(20);
    let next = crossed(&circuit, config(), later);
    let (before, after) = (open_until(&circuit), open_until(&next));
    assert!(after >= before && after < before + MS);
    assert!(next.admit(before - MS).is_err() && next.admit(before + MS) == Ok(CircuitAdmission::FirstTrial));
    let (one, other) = (circuit.snapshot(), next.snapshot());
    assert_eq!((one.cause, one.trip, one.reopened), (other.cause, other.trip, other.reopened));
    let off = crossed(&circuit, BreakerConfig { mode: BreakerMode::Off, ..config() }, later);
    assert_eq!(off.snapshot().state, CircuitState::Closed);
    let short = BreakerConfig { max_timeout: Duration::from_secs(9), ..config() };
    assert!(open_until(&crossed(&circuit, short, later)) <= later + Duration::from_secs(9));
}

/// G8, B4: trials of the predecessor are permits in use at the successor, until their leases end
#[test]
fn trials_stay_permits_in_use() {
    let t0 = clock::now();
    let mut circuit = Circuit::new(config(), 1);
    fail(&mut circuit, 5, t0);
    let half_open = open_until(&circuit);
    for _ in 0..2 {
        let admission = circuit.admit(half_open).unwrap();
        circuit.acquire(admission, half_open);
    }
    let mut next = crossed(&circuit, config(), half_open);
    assert_eq!(next.snapshot().state, CircuitState::HalfOpen);
    assert_eq!(next.admit(half_open), Ok(CircuitAdmission::Trial));
    next.acquire(CircuitAdmission::Trial, half_open);
    assert!(matches!(next.admit(half_open), Err(CircuitRefusal::HalfOpenFull { .. })), "three of three");
    assert_eq!(next.admit(half_open + LEASE + MS), Ok(CircuitAdmission::Trial));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// G8: no numbers in a document break a circuit: it never stays open longer than its configuration allows
    #[test]
    fn any_numbers_are_bounded(
        kind in 0usize..3, one in any::<u64>(), two in any::<u64>(), small in any::<u32>(), trials in any::<u32>(),
        outcomes in prop::collection::vec(any::<bool>(), 0..30),
    ) {
        let t0 = clock::now();
        let phase = [
            serde_json::json!({"Closed": {"consecutive_failures": small, "failed": [one, two], "slow": [two, one],
                "calls": trials}}),
            serde_json::json!({"Open": {"until": one, "earliest": two, "is_probed": true}}),
            serde_json::json!({"HalfOpen": {"successes": small}}),
        ];
        let document = serde_json::json!({
            "phase": phase[kind], "consecutive_failures": small, "reopened": small, "cause": trials, "trip": one,
            "trials": trials, "leases_end": two, "unknown": {"of a later": "version"},
        });
        let exported: ExportedCircuit = serde_json::from_value(document).unwrap();
        let mut circuit = Circuit::new(config(), 1);
        circuit.import(&exported, &clock::monotonic_clock(), t0);
        let open_until = circuit.snapshot().open_until;
        prop_assert!(open_until.is_none_or(|until| until <= t0 + config().max_timeout));
        let now = t0 + config().max_timeout + LEASE + MS;
        for is_good in outcomes {
            if circuit.snapshot().state == CircuitState::Closed {
                fail(&mut circuit, 1, now);
            } else if let Ok(admission) = circuit.admit(now + config().max_timeout) {
                circuit.acquire(admission, now);
                circuit.reserve_trials(u32::from(is_good), Some(now));
            }
        }
        prop_assert!(circuit.admit(now + Duration::from_hours(1)).is_ok());
    }
}
