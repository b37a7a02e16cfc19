//! Which open times a connection ends, and which it does not (B1, B4).

use std::num::NonZeroU32;

use super::*;
use crate::clock;

const REFUSED: CallFailure = CallFailure { cause: FailureCause::Connect, retry_after: None };
const CONNECT_TIMED_OUT: CallFailure = CallFailure { cause: FailureCause::ConnectTimeout, retry_after: None };
const RESET: CallFailure = CallFailure { cause: FailureCause::Reset, retry_after: None };
const TIMED_OUT: CallFailure = CallFailure { cause: FailureCause::Timeout, retry_after: None };
const TLS_REJECTED: CallFailure = CallFailure { cause: FailureCause::TlsRejected, retry_after: None };
const RETRY_AFTER: CallFailure =
    CallFailure { cause: FailureCause::Status(503), retry_after: Some(Duration::from_secs(50)) };

fn circuit(interval_ms: Option<u64>) -> Circuit {
    let config = BreakerConfig {
        failure_threshold: NonZeroU32::new(3).unwrap(),
        success_threshold: NonZeroU32::MIN,
        timeout: Duration::from_secs(60),
        connect_probe_interval: interval_ms.map(Duration::from_millis),
        ..BreakerConfig::default()
    };
    Circuit::new(config, 1)
}

fn fail(circuit: &mut Circuit, failures: &[CallFailure], now: Instant) {
    for failure in failures {
        let change = circuit.evaluate_calls(circuit.generation, 0, Some(AdverseOutcome::Failed(*failure)));
        circuit.apply_change(change, now);
    }
}

/// Reports a connection made in the present generation.
fn connect(circuit: &mut Circuit) -> bool {
    let is_ended = circuit.is_ended_by_connect(circuit.generation);
    if is_ended {
        assert_eq!(circuit.end_open_by_connect(), CircuitTransition::HalfOpenedByConnect);
    }
    is_ended
}

fn trial(circuit: &mut Circuit, outcome: Outcome, now: Instant) {
    let admission = circuit.admit(now).unwrap();
    let (TicketKind::Trial { generation, id }, _) = circuit.acquire(admission, now) else {
        panic!("the circuit is closed")
    };
    let change = circuit.evaluate_trial(generation, id, outcome);
    circuit.apply_change(change, now);
}

/// B1, B4: a connection ends an open time that began because no connection could be made; then trials decide
#[test]
fn the_first_connection_ends_the_open_time_and_trials_decide() {
    let t0 = clock::now();
    for failures in [[REFUSED; 3], [REFUSED, CONNECT_TIMED_OUT, REFUSED], [RESET, RESET, CONNECT_TIMED_OUT]] {
        let mut circuit = circuit(Some(100));
        fail(&mut circuit, &failures, t0);
        assert!(circuit.snapshot().probed, "{failures:?}");
        assert!(circuit.admit(t0).is_err());
        let generation = circuit.generation;
        assert!(connect(&mut circuit), "{failures:?}");
        assert_eq!(circuit.snapshot().state, CircuitState::HalfOpen);
        assert!(!circuit.is_ended_by_connect(generation), "the same connection, reported again");
        trial(&mut circuit, Outcome::Success, t0);
        assert_eq!(circuit.snapshot().state, CircuitState::Closed);
    }
}

/// B1, R4: an upstream that answered or accepted a connection can be connected to: a connection is no evidence, and
/// its Retry-After holds
#[test]
fn an_open_time_that_an_answer_led_to_runs_to_its_end() {
    let t0 = clock::now();
    for failures in [
        [RETRY_AFTER; 3],
        [RETRY_AFTER, REFUSED, REFUSED],
        [REFUSED, TIMED_OUT, REFUSED],
        [REFUSED, REFUSED, RESET],
        [TLS_REJECTED; 3],
        [REFUSED, TLS_REJECTED, REFUSED],
    ] {
        let mut circuit = circuit(Some(100));
        fail(&mut circuit, &failures, t0);
        assert_eq!(circuit.snapshot().state, CircuitState::Open, "{failures:?}");
        assert!(!circuit.snapshot().probed && !connect(&mut circuit), "{failures:?}");
        assert!(circuit.admit(t0 + Duration::from_secs(49)).is_err(), "{failures:?}");
    }
}

/// B1: where half of the calls failed to connect, the other half was answered
#[test]
fn a_failure_rate_is_not_probed() {
    let t0 = clock::now();
    let mut circuit = circuit(Some(100));
    for _ in 0..10 {
        let change = circuit.evaluate_calls(circuit.generation, 1, Some(AdverseOutcome::Failed(REFUSED)));
        circuit.apply_change(change, t0);
    }
    assert_eq!((circuit.snapshot().state, circuit.snapshot().probed), (CircuitState::Open, false));
}

/// B1: off unless it is configured
#[test]
fn without_probes_a_connection_ends_nothing() {
    let mut circuit = circuit(None);
    fail(&mut circuit, &[REFUSED; 3], clock::now());
    assert!(!connect(&mut circuit));
}

/// B4: if a trial fails although a connection was made, the next open time is not shortened; otherwise trials would
/// follow each other as fast as connections
#[test]
fn a_connection_that_proved_nothing_shortens_no_further_open_time() {
    let mut now = clock::now();
    let mut circuit = circuit(Some(100));
    fail(&mut circuit, &[REFUSED; 3], now);
    assert!(connect(&mut circuit));
    let refused = Outcome::Failure { cause: REFUSED.cause, retry_after: None };
    trial(&mut circuit, refused, now);
    assert_eq!(circuit.snapshot().state, CircuitState::Open);
    assert!(!connect(&mut circuit), "the open time is not shortened");
    now += Duration::from_secs(600);
    trial(&mut circuit, refused, now);
    assert!(connect(&mut circuit), "the trial failed to connect, so connections count again");
}

/// S5, B4: a rebuild keeps the probed open time, and a connection made before it changes nothing
#[test]
fn a_rebuild_keeps_a_probed_open_time() {
    let t0 = clock::now();
    let mut circuit = circuit(Some(100));
    fail(&mut circuit, &[REFUSED; 3], t0);
    let last = circuit.snapshot();
    circuit.rebuild(last, t0);
    assert!(!circuit.is_ended_by_connect(last.generation));
    assert!(circuit.admit(t0).is_err(), "a crash admits nothing");
    assert!(connect(&mut circuit));
}
