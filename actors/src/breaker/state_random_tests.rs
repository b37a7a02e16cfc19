//! One circuit under random results, clock jumps and rebuilds (B1, B4, S5).

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::tests::{BAD, FAILED, config, report_trial, secs, state};
use super::*;
use crate::clock;

#[derive(Debug, Clone)]
enum Op {
    Advance(Duration),
    Acquire,
    /// Ends the n-th live trial.
    ReportTrial(usize, Outcome),
    /// The n-th live trial's message is lost.
    Lose(usize),
    /// Results of a closed circuit, this many generations old.
    ReportCalls(u32, u32, bool),
    Rebuild,
}

fn op() -> impl Strategy<Value = Op> {
    let outcome = prop_oneof![Just(Outcome::Success), Just(Outcome::Neutral), Just(BAD)];
    prop_oneof![
        3 => prop_oneof![0u64..5000, 0u64..70_000].prop_map(|ms| Op::Advance(Duration::from_millis(ms))),
        6 => Just(Op::Acquire),
        4 => (0usize..8, outcome).prop_map(|(n, outcome)| Op::ReportTrial(n, outcome)),
        1 => (0usize..8).prop_map(Op::Lose),
        6 => (prop_oneof![4 => Just(0u32), 1 => 1u32..3], 0u32..3, any::<bool>())
            .prop_map(|(age, successes, failed)| Op::ReportCalls(age, successes, failed)),
        1 => Just(Op::Rebuild),
    ]
}

/// A permit as the test recorded it.
struct IssuedTrial {
    trial: (u32, TrialId),
    since: Instant,
    lost: bool,
}

fn nth(issued: &[IssuedTrial], n: usize) -> Option<usize> {
    let live: Vec<usize> = (0..issued.len()).filter(|i| !issued[*i].lost).collect();
    (!live.is_empty()).then(|| live[n % live.len()])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// B1, B4, S5: whatever happens, it does not stay half-open (Resilience4j #1568, nora #585, OmniRoute's six days
    /// of 503)
    #[test]
    fn permits_are_bounded_and_no_circuit_is_stuck(
        ops in prop::collection::vec(op(), 1..300), trials_max in 1u32..4, timeout in prop_oneof![Just(1u64), 1u64..90],
    ) {
        // A low threshold, so that random results open it often.
        let config = BreakerConfig {
            failure_threshold: NonZeroU32::new(2).unwrap(),
            half_open_max_requests: NonZeroU32::new(trials_max).unwrap(),
            timeout: secs(timeout),
            ..config()
        };
        let mut circuit = Circuit::new(config, 3);
        let mut now = clock::now();
        let mut issued: Vec<IssuedTrial> = Vec::new();
        for op in ops {
            let before = circuit.snapshot();
            let mut stale = false;
            match op {
                Op::Advance(by) => now += by,
                Op::Acquire => {
                    let admitted = circuit.admit(now);
                    if before.state == CircuitState::Open && before.open_until.unwrap() > now {
                        prop_assert!(matches!(admitted, Err(CircuitRefusal::Open { .. })), "an open circuit admits nothing");
                    }
                    if let Ok(admission) = admitted
                        && let (TicketKind::Trial { generation, id }, _) = circuit.acquire(admission, now)
                    {
                        issued.push(IssuedTrial { trial: (generation, id), since: now, lost: false });
                    }
                }
                Op::ReportTrial(n, outcome) => if let Some(i) = nth(&issued, n) {
                    let IssuedTrial { trial, .. } = issued.swap_remove(i);
                    stale = trial.0 != before.generation;
                    report_trial(&mut circuit, trial, outcome, now);
                },
                Op::Lose(n) => if let Some(i) = nth(&issued, n) {
                    issued[i].lost = true;
                },
                Op::ReportCalls(age, successes, failed) => {
                    stale = age > 0;
                    let generation = before.generation.saturating_sub(age);
                    let change = circuit.evaluate_calls(generation, successes, failed.then_some(AdverseOutcome::Failed(FAILED)));
                    circuit.apply_change(change, now);
                }
                Op::Rebuild => {
                    circuit.rebuild(before, now);
                    prop_assert_eq!(state(&circuit) == CircuitState::Closed, before.state == CircuitState::Closed);
                    prop_assert_eq!(circuit.generation, before.generation + 1);
                }
            }
            let after = circuit.snapshot();
            let live = issued.iter().filter(|issued| now < issued.since + LEASE).count();
            prop_assert!(live <= trials_max as usize, "{} live permits", live);
            prop_assert!(before.state == after.state || after.generation == before.generation + 1);
            if stale {
                prop_assert_eq!((before.state, before.consecutive_failures, before.generation),
                    (after.state, after.consecutive_failures, after.generation), "an earlier generation's result");
            }
        }
        let until = circuit.snapshot().open_until.unwrap_or(now);
        prop_assert!(circuit.admit(until.max(now) + LEASE).is_ok(), "stuck: {:?}", circuit);
    }
}
