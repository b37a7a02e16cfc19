//! The simulation finds no violation of a hand-over in the product, and detects each planted fault.

use super::*;
use crate::simulation::Invariant;

/// G8, S5, L2, P2, P3, B2: upgrades during requests, crashes and clock leaps, each step checked
#[test]
fn hand_overs_break_nothing() {
    match simulate_hand_overs(1, 200_000) {
        Ok(report) => {
            let HandoverReport { upgrades, failed, kept_open, crashes, .. } = report;
            let admitted = [report.admitted_by_predecessor, report.admitted_by_successor];
            let seen = [upgrades, failed, kept_open, crashes].into_iter().chain(admitted);
            assert!(seen.into_iter().all(|count| count > 10), "too few events: {report:?}");
        }
        Err(failure) => panic!("\n{failure}"),
    }
}

/// Shows that the checks work: each fault is detected by its check, on a seed without a violation in the product.
#[test]
fn every_planted_fault_of_a_hand_over_is_caught() {
    for fault in HandoverFault::ALL {
        let expected = match fault {
            HandoverFault::ForgetLimits | HandoverFault::KeepRefilling => Invariant::Limit,
            HandoverFault::ForgetPredecessor => Invariant::Gate,
            HandoverFault::CloseCircuits => Invariant::Circuit,
        };
        let run = |seed| run_handover_scenario(seed, HANDOVER_SCENARIO_STEPS, Some(fault)).err();
        let Some(failure) = (1..100).find_map(run) else { panic!("{fault:?} was not detected") };
        assert_eq!(failure.invariant, expected, "{fault:?}: {failure}");
        assert!(run_handover_scenario(failure.seed, failure.steps, None).is_ok(), "{fault:?}: {failure}");
        assert!(failure.to_string().contains("--handover --seed"), "{failure}");
    }
}
