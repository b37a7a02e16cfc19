//! An upgrade under the seeded scheduler (G8): a second set of actors takes over while requests, crashes and clock leaps go on.
//!
//! One process runs, hands over at a random step and serves the requests of its connections to their end. The second one imports
//! the state as JSON, and serves new requests and those of its own. In some runs the upgrade fails, and the first process takes
//! its limits back. The checks: no limit is exceeded from the hand-over on, by both together; the gates and slots of both
//! together hold at every moment; an open circuit stays open to its time.
//!
//! Not covered: keys and subjects, retries, credentials and endpoints, which `handover/tests.rs` in `actors/src/` checks.

mod client;
mod ledger;
mod planted_fault;
mod scenario;
#[cfg(test)]
mod tests;

pub use crate::simulation::handover::planted_fault::HandoverFault;
use crate::simulation::handover::scenario::HandoverScenario;
use crate::simulation::watchdog::Progress;
use crate::simulation::{ScenarioKind, SimulationFailure, run_watched};

/// Steps of one seed's scenario with a hand-over.
pub const HANDOVER_SCENARIO_STEPS: u64 = 2_000;

/// Counts of runs without a violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HandoverReport {
    /// Steps of the scheduler.
    pub steps: u64,
    /// Hand-overs to a second process.
    pub upgrades: u64,
    /// Upgrades that failed after the export.
    pub failed: u64,
    /// Requests that the limiter of the first process admitted after the hand-over.
    pub admitted_by_predecessor: u64,
    /// Requests that the limiter of the second process admitted.
    pub admitted_by_successor: u64,
    /// Circuits that were open at a hand-over.
    pub kept_open: u64,
    /// Crashes of actors.
    pub crashes: u64,
}

impl HandoverReport {
    fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.upgrades += other.upgrades;
        self.failed += other.failed;
        self.admitted_by_predecessor += other.admitted_by_predecessor;
        self.admitted_by_successor += other.admitted_by_successor;
        self.kept_open += other.kept_open;
        self.crashes += other.crashes;
    }
}

/// Runs scenarios with a hand-over and successive seeds until `steps` steps are done.
///
/// # Errors
/// A property is violated; the run ends there.
pub fn simulate_hand_overs(seed: u64, steps: u64) -> Result<HandoverReport, Box<SimulationFailure>> {
    let mut report = HandoverReport::default();
    let mut seed = seed;
    while report.steps < steps {
        let steps = (steps - report.steps).min(HANDOVER_SCENARIO_STEPS);
        report.add(run_handover_scenario(seed, steps, None)?);
        seed = seed.wrapping_add(1);
    }
    Ok(report)
}

/// Runs one seed's scenario with a hand-over, optionally with a planted fault.
///
/// # Errors
/// A property is violated.
pub fn run_handover_scenario(
    seed: u64,
    steps: u64,
    fault: Option<HandoverFault>,
) -> Result<HandoverReport, Box<SimulationFailure>> {
    run_watched((ScenarioKind::HandOver, seed, steps), move |progress| {
        drive_scenario(seed, steps, fault, progress)
    })
}

async fn drive_scenario(
    seed: u64,
    steps: u64,
    fault: Option<HandoverFault>,
    progress: Progress,
) -> Result<HandoverReport, Box<SimulationFailure>> {
    let failure = SimulationFailure::of_setup(ScenarioKind::HandOver, seed, steps);
    let mut scenario = HandoverScenario::new((seed, steps), fault, progress)
        .map_err(|what| Box::new(SimulationFailure { what, ..failure.clone() }))?;
    scenario.run(steps).await;
    let report = scenario.report();
    let ledger = scenario.shared.ledger.borrow();
    match ledger.violation.clone() {
        Some((invariant, what)) => {
            Err(Box::new(SimulationFailure { step: report.steps, invariant, what, ..failure }))
        }
        None => Ok(report),
    }
}
