//! Runs all actors under a seeded scheduler on a simulated clock.
//!
//! The product's code runs: actor shells with their crash rule, bounded mailboxes, handles, tickets and state machines,
//! built by `src/system.rs` from a configuration. Simulated are threads, time, upstreams and clients, which come, wait,
//! disconnect at any await and are answered late. Actors crash before, in and after a write and at their start;
//! mailboxes overflow; the clock advances by hours. Order within a mailbox is kept, as in actix; between mailboxes and
//! clients any order is possible.
//!
//! The checks are independent of the product's code (`ledger.rs`, `Invariant`). A *planted fault* makes the product
//! wrong; the tests show that the checks detect each one. A scenario that hangs fails with its seed (`watchdog.rs`).
//!
//! Changes of the configuration have scenarios of their own (`reload/`), and so has an upgrade (`handover/`).
//!
//! Not covered: interleavings within one atomic operation (`tests/loom.rs`) and the upstream's HTTP.

mod bounds_check;
mod circuit_observer;
mod client;
mod client_waker;
mod connect_probe;
mod credential_observer;
mod endpoint_observer;
pub mod handover;
mod hedge;
mod ledger;
mod limits;
mod plan;
mod planted_fault;
mod rate_check;
pub mod reload;
mod request;
mod retry_check;
mod rng;
mod running_client;
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
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;

use tokio::runtime::Builder;
use tokio::task::unconstrained;

pub use crate::simulation::ledger::Invariant;
pub use crate::simulation::planted_fault::PlantedFault;
use crate::simulation::scenario::Scenario;
pub(crate) use crate::simulation::stepped_actor::{SteppableActor, SteppedActor};
use crate::simulation::watchdog::{Progress, STUCK_AFTER, WatchdogError, wait_for_result};
use crate::supervisor::panic_message;

/// Steps of one seed's scenario.
pub const SCENARIO_STEPS: u64 = 10_000;

/// Counts of runs without a violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SimulationReport {
    /// Steps of the scheduler.
    pub steps: u64,
    /// Requests that were started.
    pub requests: u64,
    /// Requests that the limiter admitted.
    pub admitted: u64,
    /// Crashes of actors.
    pub crashes: u64,
    /// Circuits that opened.
    pub opened: u64,
    /// Trials of half-open circuits.
    pub trials: u64,
    /// Requests that a circuit admitted after a wait.
    pub waited: u64,
    /// Circuits that closed again.
    pub closed: u64,
    /// Hedges granted.
    pub hedges: u64,
    /// A hash of all events: equal runs have equal ones.
    pub digest: u64,
}

impl SimulationReport {
    fn add(&mut self, other: Self) {
        let Self { steps, requests, admitted, crashes, opened, trials, waited, closed, hedges, digest } =
            other;
        self.steps += steps;
        self.requests += requests;
        self.admitted += admitted;
        self.crashes += crashes;
        self.opened += opened;
        self.trials += trials;
        self.waited += waited;
        self.closed += closed;
        self.hedges += hedges;
        self.digest = self.digest.rotate_left(1) ^ digest;
    }
}

/// What a scenario simulates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScenarioKind {
    /// One configuration, with every kind of call.
    OneConfiguration,
    /// Reloads.
    Reloads,
    /// A hand-over to a second process.
    HandOver,
}

/// A violation, and how to reproduce it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulationFailure {
    /// What was simulated.
    pub kind: ScenarioKind,
    /// The scenario's seed.
    pub seed: u64,
    /// The step of the violation.
    pub step: u64,
    /// Planned number of steps; the teardown depends on it.
    pub steps: u64,
    /// The violated property.
    pub invariant: Invariant,
    /// Details.
    pub what: String,
    /// The last events.
    pub trace: Vec<String>,
}

impl fmt::Display for SimulationFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, seed, step, steps, invariant, what, trace } = self;
        let option = match kind {
            ScenarioKind::OneConfiguration => "",
            ScenarioKind::Reloads => "--reloads ",
            ScenarioKind::HandOver => "--handover ",
        };
        for event in trace {
            writeln!(f, "{event}")?;
        }
        writeln!(f, "seed {seed}, step {step}: {invariant}: {what}")?;
        write!(
            f,
            "again: cargo run --release -p tidegate-actors --features simulation --example simulate -- \
             {option}--seed {seed} --steps {steps}"
        )
    }
}

/// Runs scenarios with successive seeds until `steps` steps are done.
///
/// # Errors
/// A property is violated; the run ends there.
pub fn simulate(seed: u64, steps: u64) -> Result<SimulationReport, Box<SimulationFailure>> {
    let mut report = SimulationReport::default();
    let mut seed = seed;
    while report.steps < steps {
        report.add(run_scenario(seed, (steps - report.steps).min(SCENARIO_STEPS), None)?);
        seed = seed.wrapping_add(1);
    }
    Ok(report)
}

/// Runs one seed's scenario, optionally with a planted fault.
///
/// # Errors
/// A property is violated.
pub fn run_scenario(
    seed: u64,
    steps: u64,
    fault: Option<PlantedFault>,
) -> Result<SimulationReport, Box<SimulationFailure>> {
    run_watched((ScenarioKind::OneConfiguration, seed, steps), move |progress| {
        drive_scenario(seed, steps, fault, progress)
    })
}

impl SimulationFailure {
    /// The failure of a scenario that does not start.
    fn of_setup(kind: ScenarioKind, seed: u64, steps: u64) -> Self {
        let (invariant, what, trace) = (Invariant::Setup, String::new(), Vec::new());
        Self { kind, seed, step: 0, steps, invariant, what, trace }
    }
}

/// Runs a scenario on a thread of its own, because a thread keeps leases and permits from one request to the next.
fn run_watched<R, F>(
    (kind, seed, steps): (ScenarioKind, u64, u64),
    drive: impl FnOnce(Progress) -> F + Send + 'static,
) -> Result<R, Box<SimulationFailure>>
where
    R: Send + 'static,
    F: Future<Output = Result<R, Box<SimulationFailure>>>,
{
    let failure = move |invariant, what| {
        Box::new(SimulationFailure { invariant, what, ..SimulationFailure::of_setup(kind, seed, steps) })
    };
    let progress = Progress::default();
    let watched = progress.clone();
    let (done, result) = mpsc::channel();
    let run = move || {
        // Paused before anything runs: timers count in milliseconds from the start of the runtime.
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.map_err(|error| failure(Invariant::Setup, error.to_string()))?;
        let system = actix_rt::System::with_tokio_rt(|| runtime);
        system.block_on(unconstrained(drive(progress)))
    };
    let running = thread::spawn(move || {
        let result = run();
        // The receiver is gone if the scenario was given up.
        let _ = done.send(result);
    });
    match wait_for_result(&result, &watched, STUCK_AFTER) {
        Ok(result) => result,
        Err(WatchdogError::Stuck { step }) => {
            let what = "an actor or the simulation hangs".to_owned();
            Err(Box::new(SimulationFailure { step, ..*failure(Invariant::Stuck, what) }))
        }
        Err(WatchdogError::Disconnected) => {
            let panic = running.join().err();
            Err(failure(Invariant::Panic, panic.map(|panic| panic_message(&*panic)).unwrap_or_default()))
        }
    }
}

/// Polls a message to an actor. If it has no answer yet, lets the actors run without time passing, and polls once more.
fn poll_answer<T>(asking: impl Future<Output = T>, run_until_idle: impl FnOnce()) -> Option<T> {
    let mut asking = pin!(asking);
    let mut context = Context::from_waker(Waker::noop());
    if let Poll::Ready(answer) = asking.as_mut().poll(&mut context) {
        return Some(answer);
    }
    run_until_idle();
    match asking.as_mut().poll(&mut context) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

async fn drive_scenario(
    seed: u64,
    steps: u64,
    fault: Option<PlantedFault>,
    progress: Progress,
) -> Result<SimulationReport, Box<SimulationFailure>> {
    let failure = SimulationFailure::of_setup(ScenarioKind::OneConfiguration, seed, steps);
    let mut scenario = Scenario::new(seed, fault, progress)
        .map_err(|what| Box::new(SimulationFailure { what, ..failure.clone() }))?;
    scenario.run(steps).await;
    scenario.tear_down().await;
    let ledger = scenario.shared.ledger.borrow();
    if let Some((invariant, what)) = ledger.violation.clone() {
        let trace = scenario.trace_lines();
        return Err(Box::new(SimulationFailure { step: scenario.step, invariant, what, trace, ..failure }));
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
