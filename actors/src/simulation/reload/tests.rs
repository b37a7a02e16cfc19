//! The simulation finds no violation of reloads in the product, and detects each planted fault.

use super::*;
use crate::simulation::Invariant;

/// G3, S5, L2, C1, B4: reloads during requests, crashes and clock leaps, each step checked
#[test]
fn reloads_break_nothing() {
    match simulate_reloads(1, 200_000) {
        Ok(report) => {
            let ReloadReport { reloads, retired, admitted, found, kept_open, crashes, .. } = report;
            let seen = [reloads, retired, admitted, found, kept_open, crashes];
            assert!(seen.iter().all(|count| *count > 50), "too few events: {report:?}");
        }
        Err(failure) => panic!("\n{failure}"),
    }
}

/// A failing seed fails again in the same way.
#[test]
fn a_seed_determines_every_reload() {
    for seed in 1..20 {
        let run = || run_reload_scenario(seed, 1_000, None);
        assert_eq!(run(), run());
    }
    let fault = Some(ReloadFault::KeepActors);
    let failure = run_reload_scenario(1, RELOAD_SCENARIO_STEPS, fault).unwrap_err();
    assert_eq!(run_reload_scenario(1, RELOAD_SCENARIO_STEPS, fault), Err(failure.clone()));
    assert!(failure.to_string().contains("--reloads --seed 1 --steps 2000"), "{failure}");
}

/// Shows that the checks work: each fault is detected by its check, on a seed without a violation in the product.
#[test]
fn every_planted_fault_of_a_reload_is_caught() {
    for fault in ReloadFault::ALL {
        let expected = match fault {
            ReloadFault::IdsByPosition | ReloadFault::KeepWithdrawn | ReloadFault::MixConfigurations => {
                Invariant::Identity
            }
            ReloadFault::ResetLimiter | ReloadFault::KeepOldLimits => Invariant::Limit,
            ReloadFault::SeparateGates => Invariant::Gate,
            ReloadFault::CloseCircuits => Invariant::Circuit,
            ReloadFault::KeepActors | ReloadFault::KeepLimits | ReloadFault::ReviveSeries => Invariant::Leak,
        };
        let run = |seed| run_reload_scenario(seed, RELOAD_SCENARIO_STEPS, Some(fault)).err();
        let Some(failure) = (1..40).find_map(run) else { panic!("{fault:?} was not detected") };
        assert_eq!(failure.invariant, expected, "{fault:?}: {failure}");
        assert!(run_reload_scenario(failure.seed, failure.steps, None).is_ok(), "{fault:?}: {failure}");
    }
}
