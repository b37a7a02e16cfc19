//! Which open times a connection ends, and which run to their end whatever is connected to (B1, B4).

use std::num::NonZeroU32;

use super::*;
use crate::clock;

const REFUSED: CallFailure = CallFailure { cause: FailureCause::Connect, retry_after: None };
const SILENT: CallFailure = CallFailure { cause: FailureCause::ConnectTimeout, retry_after: None };
const RESET: CallFailure = CallFailure { cause: FailureCause::Reset, retry_after: None };
const TIMED_OUT: CallFailure = CallFailure { cause: FailureCause::Timeout, retry_after: None };
const DISTRUSTED: CallFailure = CallFailure { cause: FailureCause::TlsRejected, retry_after: None };
const ASKED: CallFailure =
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

/// A connection that began while the circuit is as it is.
fn connect(circuit: &mut Circuit) -> bool {
    let is_ended = circuit.is_ended_by_connect(circuit.generation);
    if is_ended {
        assert_eq!(circuit.end_open_by_connect(), CircuitTransition::HalfOpenedByConnect);
    }
    is_ended
}

fn trial(circuit: &mut Circuit, outcome: Outcome, now: Instant) {
    let entry = circuit.admit(now).unwrap();
    let (TicketKind::Trial { generation, id }, _) = circuit.acquire(entry, now) else {
        panic!("it is closed")
    };
    let change = circuit.evaluate_trial(generation, id, outcome);
    circuit.apply_change(change, now);
}

/// B1, B4: a connection ends an open time that began because none could be made; then trials decide
#[test]
fn the_first_connection_ends_the_open_time_and_trials_decide() {
    let t0 = clock::now();
    for row in [[REFUSED; 3], [REFUSED, SILENT, REFUSED], [RESET, RESET, SILENT]] {
        let mut circuit = circuit(Some(100));
        fail(&mut circuit, &row, t0);
        assert!(circuit.snapshot().probed, "{row:?}");
        assert!(circuit.admit(t0).is_err());
        let generation = circuit.generation;
        assert!(connect(&mut circuit), "{row:?}");
        assert_eq!(circuit.snapshot().state, CircuitState::HalfOpen);
        assert!(!circuit.is_ended_by_connect(generation), "the same connection, told once more");
        trial(&mut circuit, Outcome::Success, t0);
        assert_eq!(circuit.snapshot().state, CircuitState::Closed);
    }
}

/// B1, R4: who answered, or was connected to, can be connected to: that says nothing, and what it asked for holds
#[test]
fn an_open_time_that_an_answer_led_to_runs_to_its_end() {
    let t0 = clock::now();
    for row in [
        [ASKED; 3],
        [ASKED, REFUSED, REFUSED],
        [REFUSED, TIMED_OUT, REFUSED],
        [REFUSED, REFUSED, RESET],
        [DISTRUSTED; 3],
        [REFUSED, DISTRUSTED, REFUSED],
    ] {
        let mut circuit = circuit(Some(100));
        fail(&mut circuit, &row, t0);
        assert_eq!(circuit.snapshot().state, CircuitState::Open, "{row:?}");
        assert!(!circuit.snapshot().probed && !connect(&mut circuit), "{row:?}");
        assert!(circuit.admit(t0 + Duration::from_secs(49)).is_err(), "{row:?}");
    }
}

/// B1: the half of the calls that failed may have failed to connect, the other half got an answer
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

/// B4: a trial that fails although a connection was made says that connections do not tell: the next open time is not
/// cut short, or trials would follow each other as fast as connections do
#[test]
fn a_connection_in_vain_is_not_believed_twice() {
    let mut now = clock::now();
    let mut circuit = circuit(Some(100));
    fail(&mut circuit, &[REFUSED; 3], now);
    assert!(connect(&mut circuit));
    let refused = Outcome::Failure { cause: REFUSED.cause, retry_after: None };
    trial(&mut circuit, refused, now);
    assert_eq!(circuit.snapshot().state, CircuitState::Open);
    assert!(!connect(&mut circuit), "it is open for its time");
    now += Duration::from_secs(600);
    trial(&mut circuit, refused, now);
    assert!(connect(&mut circuit), "its own trial found it gone, so connections may tell again");
}

/// S5, B4: a rebuild keeps what the open time waits for, and what was connected to before it changes nothing
#[test]
fn a_rebuild_goes_on_waiting_for_a_connection() {
    let t0 = clock::now();
    let mut circuit = circuit(Some(100));
    fail(&mut circuit, &[REFUSED; 3], t0);
    let last = circuit.snapshot();
    circuit.rebuild(last, t0);
    assert!(!circuit.is_ended_by_connect(last.generation));
    assert!(circuit.admit(t0).is_err(), "a crash is no bypass");
    assert!(connect(&mut circuit));
}
