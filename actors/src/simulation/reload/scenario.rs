//! The scheduler of a scenario with reloads. It executes one step at a time, chosen by the random generator, and checks the
//! bounds after each.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use prometheus::Registry;
use slog::{Discard, Logger, o};
use tidegate_config::Config;

use crate::chaos::{Crash, CrashPoint};
use crate::clock;
use crate::events::ActorEvents;
use crate::ids::Ids;
use crate::seeded_rng::SeededRng;
use crate::simulation::client_waker::{ClientWaker, during_step};
use crate::simulation::ledger::Invariant;
use crate::simulation::reload::client::{ReloadClient, ReloadShared};
use crate::simulation::reload::config_plan::ConfigPlan;
use crate::simulation::reload::configuration::Configuration;
use crate::simulation::reload::ledger::ReloadLedger;
use crate::simulation::reload::planted_fault::ReloadFault;
use crate::simulation::reload::reloading::PreparedReload;
use crate::simulation::running_client::RunningClient;
use crate::simulation::stepped_actor::{StepFault, StepResult, SteppableActor};
use crate::simulation::threads::WorkerThreads;
use crate::simulation::watchdog::Progress;
use crate::system::{ActorSystem, prepare_with_seed};
use crate::types::{BucketId, ConfigNumber, IpKey, KeyId, OperationClass};

/// Number of events kept for a trace.
const TRACE_MAX: usize = 60;

/// The run of one seed.
pub(super) struct ReloadScenario {
    pub(super) shared: Rc<ReloadShared>,
    pub(super) stepped_actors: Vec<Box<dyn SteppableActor>>,
    pub(super) plan: ConfigPlan,
    /// The configurations that have requests, the current one among them.
    pub(super) in_use: BTreeMap<ConfigNumber, Rc<Configuration>>,
    /// The configuration of each thread. Threads switch at different times.
    pub(super) slots: Vec<Rc<Configuration>>,
    /// The reload under way, and its result.
    pub(super) preparing: Option<RunningClient>,
    pub(super) prepared: Rc<RefCell<Option<PreparedReload>>>,
    pub(super) registry: Registry,
    /// Buckets and keys that no configuration has any more.
    pub(super) gone: (Vec<BucketId>, Vec<KeyId>),
    pub(super) now: Instant,
    pub(super) step: u64,
    pub(super) reloads: u64,
    pub(super) retired: u64,
    pub(super) crashes: u64,
    pub(super) digest: u64,
    trace: VecDeque<(u64, &'static str, u64)>,
    pub(super) clients: Vec<Option<RunningClient>>,
    threads: WorkerThreads,
    pub(super) rng: SeededRng,
    pub(super) seed: u64,
    crash_one_in: Option<usize>,
    reload_one_in: usize,
    leap_one_in: usize,
    progress: Progress,
}

/// The actors of a first configuration.
pub(super) fn build_actors(config: &Config, registry: &Registry, seed: u64) -> Result<ActorSystem, String> {
    let log = Logger::root(Discard, o!());
    prepare_with_seed(config, registry, &log, (seed, ActorEvents::default()))
        .map_err(|error| error.to_string())
}

impl ReloadScenario {
    pub(super) fn new(
        seed: u64,
        planted_fault: Option<ReloadFault>,
        progress: Progress,
    ) -> Result<Self, String> {
        let mut rng = SeededRng::new(seed);
        let plan = ConfigPlan::draw(&mut rng);
        let config = plan.config()?;
        let (now, registry) = (clock::now(), Registry::new());
        let ActorSystem { actors, launches, .. } = build_actors(&config, &registry, seed)?;
        let ids = Ids::new(&config);
        let threads = rng.choose([1, 2, 4]);
        let first = Rc::new(Configuration::new(ConfigNumber::FIRST, (config, ids), actors, threads));
        let mut ledger = ReloadLedger::new(now);
        ledger.record_commit(&first, &[], now);
        let shared = ReloadShared {
            ledger: ledger.into(),
            rng: SeededRng::new(!seed).into(),
            current: Rc::clone(&first).into(),
            is_failing: false.into(),
            planted_fault,
        };
        let clients = rng.choose([4, 16, 48]);
        Ok(Self {
            shared: Rc::new(shared),
            stepped_actors: launches.into_stepped(),
            plan,
            in_use: BTreeMap::from([(ConfigNumber::FIRST, Rc::clone(&first))]),
            slots: vec![first; threads],
            preparing: None,
            prepared: Rc::default(),
            registry,
            gone: Default::default(),
            now,
            step: 0,
            reloads: 0,
            retired: 0,
            crashes: 0,
            digest: 0xcbf2_9ce4_8422_2325,
            trace: VecDeque::new(),
            clients: (0..clients).map(|_| None).collect(),
            threads: WorkerThreads::new(threads, now),
            crash_one_in: rng.choose([None, Some(30), Some(300)]),
            reload_one_in: rng.choose([20, 60]),
            leap_one_in: rng.choose([5, 30, 300]),
            rng,
            seed,
            progress,
        })
    }

    /// Runs this many steps, or until a violation.
    pub(super) async fn run(&mut self, steps: u64) {
        while self.step < steps && !self.has_violation() {
            self.step += 1;
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
            if self.rng.one_in(self.reload_one_in) {
                self.start_reload();
            }
            self.continue_reload();
            self.retire_unused();
            self.inject_faults();
            self.check_bounds();
        }
    }

    pub(super) fn has_violation(&self) -> bool {
        self.shared.ledger.borrow().violation.is_some()
    }

    pub(super) fn check_bounds(&mut self) {
        let slots = self.shared.current.borrow().actors.monitor.in_flight();
        self.shared.ledger.borrow_mut().check_bounds(slots);
    }

    pub(super) fn record_event(&mut self, what: &'static str, subject: u64) {
        self.progress.record(self.step);
        if self.trace.len() == TRACE_MAX {
            self.trace.pop_front();
        }
        self.trace.push_back((self.step, what, subject));
        for byte in what.bytes().chain(subject.to_le_bytes()) {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// The last events as text.
    pub(super) fn trace_lines(&self) -> Vec<String> {
        self.trace.iter().map(|(step, what, subject)| format!("{step:>7} {what} {subject}")).collect()
    }

    fn poll_woken_client(&mut self) {
        let start = self.rng.below(self.clients.len());
        let order = (start..self.clients.len()).chain(0..start);
        let woken = |at: &usize| self.clients[*at].as_ref().is_some_and(|client| client.waker.is_woken());
        if let Some(at) = order.into_iter().find(woken) {
            self.poll_client(at);
        }
    }

    pub(super) fn poll_client(&mut self, at: usize) {
        let Some(mut client) = self.clients[at].take() else { return };
        let ready = self.poll(&mut client);
        if !ready {
            self.clients[at] = Some(client);
        }
        self.record_event(if ready { "client ends" } else { "client waits" }, at as u64);
    }

    pub(super) fn poll(&mut self, client: &mut RunningClient) -> bool {
        client.waker.clear();
        let waker = Waker::from(Arc::clone(&client.waker));
        let future = client.future.as_mut();
        self.threads.run_on(client.thread, || future.poll(&mut Context::from_waker(&waker)).is_ready())
    }

    fn step_any_actor(&mut self) {
        let start = self.rng.below(self.stepped_actors.len());
        for at in (start..self.stepped_actors.len()).chain(0..start) {
            if self.step_actor(at) {
                return;
            }
        }
    }

    /// Makes an actor handle a message, if there is one.
    pub(super) fn step_actor(&mut self, at: usize) -> bool {
        let nanos = self.shared.ledger.borrow().nanos(self.now);
        let (now, actor) = (self.now, &mut self.stepped_actors[at]);
        let result = during_step(nanos, || actor.step(StepFault::None, now));
        let name = self.stepped_actors[at].actor_stats().name().to_owned();
        match result {
            StepResult::Idle | StepResult::HeldDown => return false,
            StepResult::Handled => {
                let has_applied = || self.shared.current.borrow().actors.limiter.has_applied_changes();
                if name == "limiter" && has_applied() {
                    self.shared.ledger.borrow_mut().record_limits_applied(nanos);
                }
                self.record_event("actor handles", at as u64);
            }
            StepResult::Crashed => {
                self.crashes += 1;
                self.record_event("actor crashes", at as u64);
            }
            StepResult::Panicked(message) => {
                let what = || format!("{name}: {message}");
                self.shared.ledger.borrow_mut().check(Invariant::Panic, false, what);
            }
        }
        self.shared.ledger.borrow_mut().observe_circuits(now);
        true
    }

    async fn advance_clock(&mut self) {
        let span = if self.rng.one_in(self.leap_one_in) {
            Duration::from_millis(self.rng.choose([50, 1_000, 11_000, 61_000, 3_600_000]))
        } else {
            Duration::from_nanos(self.rng.between(1, 20_000_000))
        };
        self.advance(span).await;
    }

    pub(super) async fn advance(&mut self, span: Duration) {
        tokio::time::advance(span).await;
        // Tasks that slept until now run, too.
        tokio::task::yield_now().await;
        self.now = clock::now();
        self.threads.drop_expired_permits(self.now);
        self.record_event("time passes", u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
    }

    fn start_client(&mut self) {
        let Some(at) = self.clients.iter().position(Option::is_none) else { return };
        let thread = self.rng.below(self.slots.len());
        let configuration = Rc::clone(&self.slots[thread]);
        let bucket = self.rng.below(configuration.buckets.len());
        let Some(bucket) = configuration.buckets.get(bucket).cloned() else { return };
        let key = configuration.keys.get(self.rng.below(5)).cloned();
        let waker = ClientWaker::new();
        let client = ReloadClient {
            shared: Rc::clone(&self.shared),
            configuration,
            waker: Arc::clone(&waker),
            thread,
            bucket,
            key,
            address: IpKey::V4(u32::from(self.rng.one_in(2))),
            class: self.rng.choose(OperationClass::ALL),
        };
        self.clients[at] = Some(RunningClient::new(client.run(), waker, thread));
        self.record_event("client comes", at as u64);
    }

    fn inject_faults(&mut self) {
        if self.rng.one_in(100) {
            let at = self.rng.below(self.clients.len());
            self.clients[at] = None;
            self.record_event("client hangs up", at as u64);
        }
        if self.rng.one_in(200) {
            self.shared.is_failing.set(self.rng.one_in(2));
        }
        if self.crash_one_in.is_some_and(|times| self.rng.one_in(times)) {
            self.crash_actor();
        }
    }

    /// Crashes an actor of any configuration that has requests.
    fn crash_actor(&mut self) {
        let points = [CrashPoint::Decide, CrashPoint::Apply, CrashPoint::Applied, CrashPoint::Started];
        let crash = Crash { point: self.rng.choose(points), next_message: !self.rng.one_in(3) };
        let chosen = self.rng.below(self.in_use.len());
        let Some(configuration) = self.in_use.values().nth(chosen) else { return };
        let stats: Vec<_> = configuration.actors.actor_stats().cloned().collect();
        let Some(stats) = stats.get(self.rng.below(stats.len())) else { return };
        if stats.failed_for(self.now).is_none() {
            let injected = configuration.actors.crash(stats.name(), crash);
            self.shared
                .ledger
                .borrow_mut()
                .check(Invariant::Setup, injected.is_ok(), || format!("{injected:?}"));
        }
    }
}
