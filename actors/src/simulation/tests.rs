//! The simulation finds no violation in the product, detects each planted fault, and reproduces it.

use super::*;

/// S5, L2, P2, P4, B4, R5: a million steps, each checked
#[test]
fn a_million_steps_break_nothing() {
    match simulate(1, 1_000_000) {
        Ok(report) => {
            assert_eq!(report.steps, 1_000_000);
            let SimulationReport { admitted, crashes, opened, trials, waited, closed, hedges, .. } = report;
            let seen = [admitted, crashes, opened, trials, closed, hedges];
            assert!(seen.iter().all(|count| *count > 100), "too few events: {report:?}");
            // Waits for a circuit are rare: 77 to 153 in a million steps with other seeds.
            assert!(waited > 50, "too few waits: {report:?}");
        }
        Err(failure) => panic!("\n{failure}"),
    }
}

/// A failing seed fails again in the same way.
#[test]
fn a_seed_determines_everything() {
    for seed in 1..30 {
        assert_eq!(run_scenario(seed, 2_000, None), run_scenario(seed, 2_000, None));
    }
    let fault = Some(PlantedFault::ReleaseEarly);
    let failure = run_scenario(1, SCENARIO_STEPS, fault).unwrap_err();
    assert_eq!(run_scenario(1, SCENARIO_STEPS, fault), Err(failure.clone()));
    let text = failure.to_string();
    assert!(text.contains("--seed 1 --steps 10000") && text.contains("a gate is exceeded"), "{text}");
}

/// Shows that the checks work: each fault is detected by its check, on a seed without a violation in the product.
#[test]
fn every_planted_fault_is_caught() {
    for fault in PlantedFault::ALL {
        let expected: &[Invariant] = match fault {
            PlantedFault::LeakPermits | PlantedFault::LeakSlots => &[Invariant::Leak, Invariant::Stuck],
            PlantedFault::LeakCircuitWaits => &[Invariant::Leak],
            PlantedFault::ReleaseEarly | PlantedFault::GrantOnCrash | PlantedFault::ResetPool => {
                &[Invariant::Gate]
            }
            PlantedFault::AdmitOnCrash | PlantedFault::ResetLimiter => &[Invariant::Limit],
            PlantedFault::IgnoreOpenCircuit | PlantedFault::ResetBreaker => &[Invariant::Circuit],
            PlantedFault::NewestFirst => &[Invariant::Order],
            PlantedFault::StallActors => &[Invariant::Stuck],
            PlantedFault::LoseMessages => &[Invariant::Stuck, Invariant::Leak],
            PlantedFault::KeepDisconnected => &[Invariant::Leak, Invariant::Order, Invariant::Stuck],
        };
        let found = (1..80).find_map(|seed| run_scenario(seed, SCENARIO_STEPS, Some(fault)).err());
        let Some(failure) = found else { panic!("{fault:?} was not detected") };
        assert!(expected.contains(&failure.invariant), "{fault:?}: {failure}");
        assert!(run_scenario(failure.seed, failure.steps, None).is_ok(), "{fault:?}: {failure}");
    }
}
