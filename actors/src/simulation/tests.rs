//! The simulation finds nothing in the product, finds each mutant, and finds it again.

use super::*;

/// S5, L2, P2, P4, B4, R5: a million steps, each checked
#[test]
fn a_million_steps_break_nothing() {
    match simulate(1, 1_000_000) {
        Ok(report) => {
            assert_eq!(report.steps, 1_000_000);
            let Report { admitted, crashes, opened, trials, held, closed, hedges, .. } = report;
            let seen = [admitted, crashes, opened, trials, held, closed, hedges];
            assert!(seen.iter().all(|count| *count > 100), "hardly anything happened: {report:?}");
        }
        Err(failure) => panic!("\n{failure}"),
    }
}

/// A failing seed must fail again, and in the same way.
#[test]
fn a_seed_determines_everything() {
    for seed in 1..30 {
        assert_eq!(episode(seed, 2_000, None), episode(seed, 2_000, None));
    }
    let mutant = Some(Mutant::ReleasesEarly);
    let failure = episode(1, EPISODE_STEPS, mutant).unwrap_err();
    assert_eq!(episode(1, EPISODE_STEPS, mutant), Err(failure.clone()));
    let told = failure.to_string();
    assert!(told.contains("--seed 1 --steps 10000") && told.contains("a gate is exceeded"), "{told}");
}

/// A checker that finds nothing may not be looking: each fault is found, by the check that is to find it, on a seed that
/// finds nothing without the fault.
#[test]
fn every_mutant_is_caught() {
    for mutant in Mutant::ALL {
        let expected: &[Invariant] = match mutant {
            Mutant::ForgetsPermits | Mutant::ForgetsSlots => &[Invariant::Leak, Invariant::Wedge],
            Mutant::ForgetsHeld => &[Invariant::Leak],
            Mutant::ReleasesEarly | Mutant::CrashGrants | Mutant::PoolStartsOver => &[Invariant::Gate],
            Mutant::CrashAdmits | Mutant::LimiterStartsOver => &[Invariant::Limit],
            Mutant::DeafToOpen | Mutant::BreakerStartsOver => &[Invariant::Circuit],
            Mutant::NewestFirst => &[Invariant::Order],
            Mutant::Stutters => &[Invariant::Wedge],
            Mutant::LosesMessages => &[Invariant::Wedge, Invariant::Leak],
            Mutant::KeepsTheDead => &[Invariant::Leak, Invariant::Order, Invariant::Wedge],
        };
        let found = (1..80).find_map(|seed| episode(seed, EPISODE_STEPS, Some(mutant)).err());
        let Some(failure) = found else { panic!("{mutant:?} lives") };
        assert!(expected.contains(&failure.invariant), "{mutant:?}: {failure}");
        assert!(episode(failure.seed, failure.steps, None).is_ok(), "{mutant:?}: {failure}");
    }
}
