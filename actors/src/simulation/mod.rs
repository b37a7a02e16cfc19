//! All actors together, under a scheduler whose every choice comes from a seed, on a clock that only it moves.
//!
//! What runs is the product: the hosts with their crash rule, the mailboxes with their seats, handles, tickets and state
//! machines, made by `system.rs` from a configuration. Simulated are what surrounds them: the threads (who acts next), time,
//! the upstreams and the clients, which come, wait, hang up at any await and are answered late. Actors crash before a
//! write, in it, after it and as they start; mailboxes overflow; the clock leaps by hours. Order within a mailbox is
//! kept, as actix keeps it; between any two mailboxes and any two clients it is free.
//!
//! The checks are written apart from the code (`ledger.rs`): no limit is exceeded, nobody calls without a permit, nothing
//! leaks, the queue is fair, who is left out is left alone, nobody gets a permit over a limit that fell, open circuits stay open
//! until their time and are then tried, who waits for one is not left behind, a crash is no bypass. A *mutant* is a
//! gateway with a fault put in, by which the tests show that each check can fail. An episode that gets nowhere is a
//! failure with a seed, too (`watch.rs`).
//!
//! Deliberately absent: interleavings within one atomic operation, which `tests/loom.rs` has; the upstream's HTTP; a configuration
//! that changes, which no actor can do yet.

mod bounds_check;
mod circuit_observer;
mod client;
mod client_waker;
mod connect_probe;
mod credential_observer;
mod endpoint_observer;
mod hedge;
mod ledger;
mod limits;
mod plan;
mod planted_fault;
mod rate_check;
mod request;
mod retry_check;
mod rng;
mod scenario;
mod stepped_actor;
mod teardown;
#[cfg(test)]
mod tests;
mod threads;
mod tracked;
mod upstream;
mod watchdog;

use std::fmt;
use std::sync::mpsc;
use std::thread;

use tokio::runtime::Builder;
use tokio::task::unconstrained;

pub use crate::simulation::ledger::Invariant;
pub use crate::simulation::planted_fault::PlantedFault;
use crate::simulation::scenario::Scenario;
pub(crate) use crate::simulation::stepped_actor::{SteppableActor, SteppedActor};
use crate::simulation::watchdog::{Progress, STUCK_AFTER, WatchdogError, wait_for_result};
use crate::supervisor::panic_message;

/// Steps that one seed's conditions last.
pub const SCENARIO_STEPS: u64 = 10_000;

/// What happened in runs that found nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SimulationReport {
    /// Choices of the scheduler.
    pub steps: u64,
    /// Requests that began.
    pub requests: u64,
    /// Requests that the limiter let in.
    pub admitted: u64,
    /// Crashes of actors.
    pub crashes: u64,
    /// Circuits that opened.
    pub opened: u64,
    /// Trials of half-open circuits.
    pub trials: u64,
    /// Requests that a circuit let through for which they had waited.
    pub waited: u64,
    /// Circuits that closed again.
    pub closed: u64,
    /// Hedges that were granted.
    pub hedges: u64,
    /// All that happened, as a number: equal runs have equal ones.
    pub digest: u64,
}

impl SimulationReport {
    fn add(&mut self, other: Self) {
        let Self { steps, requests, admitted, crashes, opened, trials, waited: held, closed, hedges, digest } =
            other;
        self.steps += steps;
        self.requests += requests;
        self.admitted += admitted;
        self.crashes += crashes;
        self.opened += opened;
        self.trials += trials;
        self.waited += held;
        self.closed += closed;
        self.hedges += hedges;
        self.digest = self.digest.rotate_left(1) ^ digest;
    }
}

/// What must not be, and how to see it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulationFailure {
    /// The seed whose episode it is.
    pub seed: u64,
    /// Where in the episode.
    pub step: u64,
    /// The steps it was to have: the end is a part of it.
    pub steps: u64,
    /// What does not hold.
    pub invariant: Invariant,
    /// How.
    pub what: String,
    /// The last things that happened.
    pub trace: Vec<String>,
}

impl fmt::Display for SimulationFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, step, steps, invariant, what, trace } = self;
        for event in trace {
            writeln!(f, "{event}")?;
        }
        writeln!(f, "seed {seed}, step {step}: {invariant}: {what}")?;
        write!(
            f,
            "again: cargo run --release -p tidegate-actors --features simulation --example simulate -- \
             --seed {seed} --steps {steps}"
        )
    }
}

/// Runs episodes from this seed on, each with the next, until so many steps are taken.
///
/// # Errors
/// Something must not be; no further step is taken.
pub fn simulate(seed: u64, steps: u64) -> Result<SimulationReport, Box<SimulationFailure>> {
    let mut report = SimulationReport::default();
    let mut seed = seed;
    while report.steps < steps {
        report.add(run_scenario(seed, (steps - report.steps).min(SCENARIO_STEPS), None)?);
        seed = seed.wrapping_add(1);
    }
    Ok(report)
}

/// Runs one seed's episode, perhaps of a gateway with a fault.
///
/// # Errors
/// Something must not be.
pub fn run_scenario(
    seed: u64,
    steps: u64,
    fault: Option<PlantedFault>,
) -> Result<SimulationReport, Box<SimulationFailure>> {
    let failure = move |invariant, what| {
        Box::new(SimulationFailure { seed, step: 0, steps, invariant, what, trace: Vec::new() })
    };
    // On a thread of its own, for a thread keeps leases and permits from one request to the next.
    let progress = Progress::default();
    let watched = progress.clone();
    let (done, result) = mpsc::channel();
    let run = move || {
        // Paused before anything runs: timers count in milliseconds from the runtime's beginning.
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.map_err(|error| failure(Invariant::Setup, error.to_string()))?;
        let system = actix_rt::System::with_tokio_rt(|| runtime);
        system.block_on(unconstrained(drive_scenario(seed, steps, fault, progress)))
    };
    let running = thread::spawn(move || {
        let result = run();
        // nobody listens any more to an episode that was given up
        let _ = done.send(result);
    });
    match wait_for_result(&result, &watched, STUCK_AFTER) {
        Ok(result) => result,
        Err(WatchdogError::Stuck { step }) => {
            let what = "an actor does not return, or the simulation does not".to_owned();
            Err(Box::new(SimulationFailure { step, ..*failure(Invariant::Stuck, what) }))
        }
        Err(WatchdogError::Disconnected) => {
            let panic = running.join().err();
            Err(failure(Invariant::Panic, panic.map(|panic| panic_message(&*panic)).unwrap_or_default()))
        }
    }
}

async fn drive_scenario(
    seed: u64,
    steps: u64,
    fault: Option<PlantedFault>,
    progress: Progress,
) -> Result<SimulationReport, Box<SimulationFailure>> {
    let mut scenario = Scenario::new(seed, fault, progress).map_err(|what| {
        Box::new(SimulationFailure {
            seed,
            step: 0,
            steps,
            invariant: Invariant::Setup,
            what,
            trace: Vec::new(),
        })
    })?;
    scenario.run(steps).await;
    scenario.tear_down().await;
    let ledger = scenario.shared.ledger.borrow();
    if let Some((invariant, what)) = &ledger.violation {
        return Err(Box::new(SimulationFailure {
            seed,
            step: scenario.step,
            steps,
            invariant: *invariant,
            what: what.clone(),
            trace: scenario.trace_lines(),
        }));
    }
    Ok(SimulationReport {
        steps: scenario.step,
        requests: scenario.arrivals as u64,
        admitted: ledger.admitted,
        crashes: scenario.crashes,
        opened: ledger.all_circuits().map(|circuit| circuit.opened_total).sum(),
        trials: ledger.all_circuits().map(circuit_observer::CircuitObserver::trials_total).sum(),
        waited: ledger.all_circuits().map(|circuit| circuit.waited_total).sum(),
        hedges: ledger.hedges(),
        closed: ledger.all_circuits().map(|circuit| circuit.closed_total).sum(),
        digest: scenario.digest,
    })
}
