//! The scheduler of a scenario with a hand-over. It executes one step at a time, chosen by the random generator, and checks the
//! bounds after each.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use prometheus::Registry;
use serde_json::Value;
use slog::{Discard, Logger, o};
use tidegate_config::Config;

use crate::chaos::{Crash, CrashPoint};
use crate::clock;
use crate::events::ActorEvents;
use crate::handover::{ActorsState, PredecessorUse};
use crate::ids::Ids;
use crate::seeded_rng::SeededRng;
use crate::simulation::client_waker::{ClientWaker, during_step};
use crate::simulation::handover::HandoverReport;
use crate::simulation::handover::client::{HandoverClient, HandoverShared, Process};
use crate::simulation::handover::ledger::HandoverLedger;
use crate::simulation::handover::planted_fault::HandoverFault;
use crate::simulation::ledger::Invariant;
use crate::simulation::reload::config_plan::ConfigPlan;
use crate::simulation::running_client::RunningClient;
use crate::simulation::stepped_actor::{StepFault, StepResult, SteppableActor};
use crate::simulation::threads::WorkerThreads;
use crate::simulation::watchdog::Progress;
use crate::system::{ActorSystem, prepare_with_seed};
use crate::types::{IpKey, OperationClass};

/// The run of one seed.
pub(super) struct HandoverScenario {
    pub(super) shared: Rc<HandoverShared>,
    stepped_actors: Vec<Box<dyn SteppableActor>>,
    /// The predecessor and the successor, each with a thread.
    processes: Vec<Rc<Process>>,
    clients: Vec<Option<RunningClient>>,
    threads: WorkerThreads,
    config: Config,
    seed: u64,
    rng: SeededRng,
    now: Instant,
    /// The step of the hand-over.
    hand_over_at: u64,
    exporting: Option<RunningClient>,
    exported: Rc<RefCell<Option<ActorsState>>>,
    /// Idle connections of the predecessor.
    idle: usize,
    /// Its last report, on its way.
    reported: Option<PredecessorUse>,
    fault: Option<HandoverFault>,
    crash_one_in: Option<usize>,
    report: HandoverReport,
    progress: Progress,
}

impl HandoverScenario {
    pub(super) fn new(
        (seed, steps): (u64, u64),
        fault: Option<HandoverFault>,
        progress: Progress,
    ) -> Result<Self, String> {
        let (mut rng, now) = (SeededRng::new(seed), clock::now());
        let mut config = ConfigPlan::draw(&mut rng).config()?;
        let slots = rng.choose([2, 8, 60]);
        config.server.max_concurrent_requests = NonZeroUsize::new(slots).unwrap_or(NonZeroUsize::MIN);
        let shared = HandoverShared {
            ledger: HandoverLedger::new(now).into(),
            rng: SeededRng::new(!seed).into(),
            is_failing: false.into(),
        };
        let clients = rng.choose([4, 16, 48]);
        let mut scenario = Self {
            shared: Rc::new(shared),
            stepped_actors: Vec::new(),
            processes: Vec::new(),
            clients: (0..clients).map(|_| None).collect(),
            threads: WorkerThreads::new(2, now),
            config,
            seed,
            now,
            hand_over_at: rng.between(steps / 20, steps * 2 / 3),
            exporting: None,
            exported: Rc::default(),
            idle: 0,
            reported: None,
            fault,
            crash_one_in: rng.choose([None, Some(30), Some(300)]),
            rng,
            report: HandoverReport::default(),
            progress,
        };
        scenario.start_process()?;
        Ok(scenario)
    }

    /// Prepares a process, with actors that run from the next step on.
    fn start_process(&mut self) -> Result<(), String> {
        let (config, log) = (self.config.clone(), Logger::root(Discard, o!()));
        let events = (self.seed, ActorEvents::default());
        let ActorSystem { actors, launches, .. } =
            prepare_with_seed(&config, &Registry::new(), &log, events).map_err(|error| error.to_string())?;
        let ids = Ids::new(&config);
        self.processes.push(Rc::new(Process { number: self.processes.len(), actors, config, ids }));
        self.stepped_actors.extend(launches.into_stepped());
        Ok(())
    }

    /// Runs this many steps, or until a violation. Then checks the limits of the whole run.
    pub(super) async fn run(&mut self, steps: u64) {
        while self.report.steps < steps && self.shared.ledger.borrow().violation.is_none() {
            self.report.steps += 1;
            self.progress.record(self.report.steps);
            match self.rng.below(100) {
                0..40 => self.poll_woken_client(),
                40..75 => self.step_any_actor(),
                75..85 => self.advance_clock().await,
                85..97 => self.start_client(),
                _ => {
                    let at = self.rng.below(self.clients.len());
                    self.poll_client(at);
                }
            }
            self.continue_hand_over();
            self.inject_faults();
            let slots = self.config.server.max_concurrent_requests.get();
            self.shared.ledger.borrow_mut().check_bounds(&self.processes, slots, self.now);
        }
        self.shared.ledger.borrow_mut().check_limits(&self.config, &self.processes[0].ids);
    }

    pub(super) fn report(&self) -> HandoverReport {
        let ledger = self.shared.ledger.borrow();
        let (admitted_by_predecessor, admitted_by_successor) = (ledger.admitted_by(0), ledger.admitted_by(1));
        HandoverReport { admitted_by_predecessor, admitted_by_successor, ..self.report }
    }

    fn has_fault(&self, fault: HandoverFault) -> bool {
        self.fault == Some(fault)
    }

    /// Begins the export at its step, takes its result, and exchanges reports afterwards.
    fn continue_hand_over(&mut self) {
        if self.report.steps == self.hand_over_at {
            self.idle = self.rng.below(9);
            let (process, exported) = (Rc::clone(&self.processes[0]), Rc::clone(&self.exported));
            let connections = self.connections();
            self.shared.ledger.borrow_mut().begin(&process, self.now);
            let exporting = async move {
                let state = process.actors.export_state(&process.config, &process.ids, connections).await;
                *exported.borrow_mut() = Some(state);
            };
            self.exporting = Some(RunningClient::new(exporting, ClientWaker::new(), 0));
        }
        if let Some(mut exporting) = self.exporting.take_if(|exporting| exporting.waker.is_woken())
            && !self.poll(&mut exporting)
        {
            self.exporting = Some(exporting);
        }
        let exported = self.exported.borrow_mut().take();
        match exported {
            Some(_) if self.fault.is_none() && self.rng.one_in(4) => self.fail_upgrade(),
            Some(state) => {
                let started = self.start_successor(&state);
                self.shared
                    .ledger
                    .borrow_mut()
                    .check(Invariant::Setup, started.is_ok(), || format!("{started:?}"));
            }
            None => self.exchange_reports(),
        }
    }

    /// Open connections of the predecessor.
    fn connections(&self) -> usize {
        self.idle + self.clients.iter().flatten().filter(|client| client.thread == 0).count()
    }

    fn fail_upgrade(&mut self) {
        self.processes[0].actors.resume_limits();
        self.shared.ledger.borrow_mut().handed_over = None;
        self.report.failed += 1;
    }

    fn start_successor(&mut self, state: &ActorsState) -> Result<(), String> {
        let mut document = serde_json::to_value(state).map_err(|error| error.to_string())?;
        let forgotten = match self.fault {
            Some(HandoverFault::ForgetLimits) => Some("limits"),
            Some(HandoverFault::ForgetPredecessor) => Some("predecessor"),
            Some(HandoverFault::CloseCircuits) => Some("buckets"),
            Some(HandoverFault::KeepRefilling) | None => None,
        };
        if let (Some(section), Value::Object(members)) = (forgotten, &mut document) {
            members.remove(section);
        }
        if self.has_fault(HandoverFault::KeepRefilling) {
            self.processes[0].actors.limiter.resume();
        }
        let state = serde_json::from_value(document).map_err(|error| error.to_string())?;
        self.start_process()?;
        let process = Rc::clone(&self.processes[1]);
        let mut importing = std::pin::pin!(process.actors.import_state(&process.config, &process.ids, state));
        if importing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            return Err("the import waits".to_owned());
        }
        self.report.upgrades += 1;
        self.report.kept_open += self.shared.ledger.borrow_mut().promise(self.now);
        Ok(())
    }

    fn exchange_reports(&mut self) {
        if self.processes.len() < 2 || self.has_fault(HandoverFault::ForgetPredecessor) {
            return;
        }
        if self.rng.one_in(20) {
            self.reported = Some(self.processes[0].actors.remaining_use(self.connections()));
        }
        if let Some(reported) = &self.reported
            && self.rng.one_in(20)
        {
            self.processes[1].actors.reserve_for_predecessor(reported);
        }
    }

    fn poll_woken_client(&mut self) {
        let start = self.rng.below(self.clients.len());
        let order = (start..self.clients.len()).chain(0..start);
        let woken = |at: &usize| self.clients[*at].as_ref().is_some_and(|client| client.waker.is_woken());
        if let Some(at) = order.into_iter().find(woken) {
            self.poll_client(at);
        }
    }

    fn poll_client(&mut self, at: usize) {
        let Some(mut client) = self.clients[at].take() else { return };
        if !self.poll(&mut client) {
            self.clients[at] = Some(client);
        }
    }

    fn poll(&mut self, client: &mut RunningClient) -> bool {
        client.waker.clear();
        let waker = Waker::from(Arc::clone(&client.waker));
        let future = client.future.as_mut();
        self.threads.run_on(client.thread, || future.poll(&mut Context::from_waker(&waker)).is_ready())
    }

    fn step_any_actor(&mut self) {
        let start = self.rng.below(self.stepped_actors.len());
        for at in (start..self.stepped_actors.len()).chain(0..start) {
            let nanos = self.shared.ledger.borrow().nanos(self.now);
            let (now, actor) = (self.now, &mut self.stepped_actors[at]);
            match during_step(nanos, || actor.step(StepFault::None, now)) {
                StepResult::Idle | StepResult::HeldDown => continue,
                StepResult::Handled => {}
                StepResult::Crashed => self.report.crashes += 1,
                StepResult::Panicked(what) => {
                    self.shared.ledger.borrow_mut().check(Invariant::Panic, false, || what);
                }
            }
            return;
        }
    }

    async fn advance_clock(&mut self) {
        let span = if self.rng.one_in(30) {
            Duration::from_millis(self.rng.choose([50, 1_000, 11_000]))
        } else {
            Duration::from_nanos(self.rng.between(1, 20_000_000))
        };
        tokio::time::advance(span).await;
        tokio::task::yield_now().await;
        self.now = clock::now();
        self.threads.drop_expired_permits(self.now);
    }

    /// A request at the newest process, or on an idle connection of the predecessor.
    fn start_client(&mut self) {
        let Some(at) = self.clients.iter().position(Option::is_none) else { return };
        let newest = self.processes.len() - 1;
        let thread = if newest == 1 && self.idle > 0 && self.rng.one_in(3) {
            self.idle -= 1;
            0
        } else {
            newest
        };
        let process = Rc::clone(&self.processes[thread]);
        let Some((_, bucket)) = process.ids.buckets().nth(self.rng.below(self.config.buckets.len())) else {
            return;
        };
        let waker = ClientWaker::new();
        let client = HandoverClient {
            shared: Rc::clone(&self.shared),
            process,
            waker: Arc::clone(&waker),
            bucket,
            address: IpKey::V4(u32::from(self.rng.one_in(2))),
            class: self.rng.choose(OperationClass::ALL),
        };
        self.clients[at] = Some(RunningClient::new(client.run(), waker, thread));
    }

    fn inject_faults(&mut self) {
        if self.rng.one_in(100) {
            let at = self.rng.below(self.clients.len());
            self.clients[at] = None;
        }
        if self.rng.one_in(200) {
            self.shared.is_failing.set(self.rng.one_in(2));
        }
        if self.crash_one_in.is_some_and(|times| self.rng.one_in(times)) {
            let points = [CrashPoint::Decide, CrashPoint::Apply, CrashPoint::Applied, CrashPoint::Started];
            let crash = Crash { point: self.rng.choose(points), next_message: !self.rng.one_in(3) };
            let process = &self.processes[self.rng.below(self.processes.len())];
            let stats: Vec<_> = process.actors.actor_stats().cloned().collect();
            if let Some(stats) = stats.get(self.rng.below(stats.len()))
                && stats.failed_for(self.now).is_none()
            {
                let injected = process.actors.crash(stats.name(), crash);
                self.shared
                    .ledger
                    .borrow_mut()
                    .check(Invariant::Setup, injected.is_ok(), || format!("{injected:?}"));
            }
        }
    }
}
