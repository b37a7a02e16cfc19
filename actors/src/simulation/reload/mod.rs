//! Reloads under the seeded scheduler (G3): buckets, keys, limits, endpoints, credentials and secrets change while requests,
//! crashes and clock leaps go on.
//!
//! A configuration is a text that is loaded, prepared with `Actors::reconfigured`, committed, taken by one thread after the
//! other, and retired with its last request, in the order of `src/gateway/reload.rs`. The checks are those of `ledger.rs` and
//! `teardown.rs`: an ID always means one name; a session or signing key is found by its own name only, and not after its
//! withdrawal; no limit is exceeded across a change; open circuits stay open; nothing of a retired configuration is left.
//!
//! Not covered: a change of `circuit_breaker.per_operation`, during which the circuits of the other layout are closed until the
//! breaker has handled it; leases of a replaced configuration, which its requests may spend after the limit was lowered;
//! tokens; circuits in the modes `shadow` and `off`; hedges and retries, which `simulation/client.rs` makes without reloads.

mod changing_rate;
mod client;
pub(in crate::simulation) mod config_plan;
mod configuration;
mod ledger;
mod planted_fault;
mod reloading;
mod scenario;
mod teardown;
#[cfg(test)]
mod tests;

pub use crate::simulation::reload::planted_fault::ReloadFault;
use crate::simulation::reload::scenario::ReloadScenario;
use crate::simulation::watchdog::Progress;
use crate::simulation::{ScenarioKind, SimulationFailure, run_watched};

/// Steps of one seed's scenario with reloads.
pub const RELOAD_SCENARIO_STEPS: u64 = 2_000;

/// Counts of runs without a violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReloadReport {
    /// Steps of the scheduler.
    pub steps: u64,
    /// Reloads that were committed.
    pub reloads: u64,
    /// Configurations that were retired.
    pub retired: u64,
    /// Requests that the limiter admitted.
    pub admitted: u64,
    /// Sessions and signing keys that were found.
    pub found: u64,
    /// Buckets with an open circuit at a reload.
    pub kept_open: u64,
    /// Crashes of actors.
    pub crashes: u64,
    /// A hash of all events: equal runs have equal ones.
    pub digest: u64,
}

impl ReloadReport {
    fn add(&mut self, other: Self) {
        let Self { steps, reloads, retired, admitted, found, kept_open, crashes, digest } = other;
        self.steps += steps;
        self.reloads += reloads;
        self.retired += retired;
        self.admitted += admitted;
        self.found += found;
        self.kept_open += kept_open;
        self.crashes += crashes;
        self.digest = self.digest.rotate_left(1) ^ digest;
    }
}

/// Runs scenarios with reloads and successive seeds until `steps` steps are done.
///
/// # Errors
/// A property is violated; the run ends there.
pub fn simulate_reloads(seed: u64, steps: u64) -> Result<ReloadReport, Box<SimulationFailure>> {
    let mut report = ReloadReport::default();
    let mut seed = seed;
    while report.steps < steps {
        let steps = (steps - report.steps).min(RELOAD_SCENARIO_STEPS);
        report.add(run_reload_scenario(seed, steps, None)?);
        seed = seed.wrapping_add(1);
    }
    Ok(report)
}

/// Runs one seed's scenario with reloads, optionally with a planted fault.
///
/// # Errors
/// A property is violated.
pub fn run_reload_scenario(
    seed: u64,
    steps: u64,
    fault: Option<ReloadFault>,
) -> Result<ReloadReport, Box<SimulationFailure>> {
    run_watched((ScenarioKind::Reloads, seed, steps), move |progress| {
        drive_scenario(seed, steps, fault, progress)
    })
}

async fn drive_scenario(
    seed: u64,
    steps: u64,
    fault: Option<ReloadFault>,
    progress: Progress,
) -> Result<ReloadReport, Box<SimulationFailure>> {
    let failure = SimulationFailure::of_setup(ScenarioKind::Reloads, seed, steps);
    let mut scenario = ReloadScenario::new(seed, fault, progress)
        .map_err(|what| Box::new(SimulationFailure { what, ..failure.clone() }))?;
    scenario.run(steps).await;
    scenario.tear_down().await;
    let ledger = scenario.shared.ledger.borrow();
    if let Some((invariant, what)) = ledger.violation.clone() {
        let trace = scenario.trace_lines();
        return Err(Box::new(SimulationFailure { step: scenario.step, invariant, what, trace, ..failure }));
    }
    Ok(ReloadReport {
        steps: scenario.step,
        reloads: scenario.reloads,
        retired: scenario.retired,
        admitted: ledger.admitted,
        found: ledger.found,
        kept_open: ledger.kept_open,
        crashes: scenario.crashes,
        digest: scenario.digest,
    })
}
