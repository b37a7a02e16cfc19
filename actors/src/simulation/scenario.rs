//! The scheduler: executes one step at a time, chosen by the random generator: a client is polled, an actor handles a
//! message, time passes, a client comes or disconnects, or a fault is injected.
//!
//! After each step all counts are compared, see `bounds_check.rs`.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use prometheus::Registry;
use slog::{Discard, Logger, o};
use tidegate_config::{BucketConfig, Overload, Priority};

use crate::chaos::{Crash, CrashPoint};
use crate::clock;
use crate::events::ActorEvents;
use crate::pool::EndpointId;
use crate::seeded_rng::SeededRng;
use crate::simulation::client::{Client, ClientCredential, ClientSpec, ScenarioShared};
use crate::simulation::client_waker::{ClientWaker, during_step};
use crate::simulation::ledger::{Invariant, Ledger};
use crate::simulation::plan::Plan;
use crate::simulation::planted_fault::PlantedFault;
use crate::simulation::running_client::RunningClient;
use crate::simulation::stepped_actor::{StepFault, StepResult, SteppableActor};
use crate::simulation::threads::WorkerThreads;
use crate::simulation::upstream::Upstream;
use crate::simulation::watchdog::Progress;
use crate::system::{ActorSystem, prepare_with_seed};
use crate::types::{BucketId, IpKey, KeyId, OperationClass};

/// Steps between two idle checks.
const IDLE_CHECK_EVERY: u64 = 400;
/// Number of events kept for a trace.
const TRACE_MAX: usize = 60;

/// Steps per connection attempt, and per check of credentials.
const PROBE_ONE_IN: usize = 20;

/// Step, kind and subject of an event.
type TraceEvent = (u64, &'static str, usize);

/// The run of one seed.
pub(super) struct Scenario {
    pub(super) shared: Rc<ScenarioShared>,
    pub(super) stepped_actors: Vec<Box<dyn SteppableActor>>,
    pub(super) plan: Plan,
    pub(super) now: Instant,
    pub(super) step: u64,
    trace: VecDeque<TraceEvent>,
    pub(super) digest: u64,
    pub(super) arrivals: usize,
    pub(super) crashes: u64,
    pub(super) level_rose_at: Instant,
    pub(super) clients: Vec<Option<RunningClient>>,
    threads: WorkerThreads,
    /// The scheduler's own, so that a client's draws do not change the schedule.
    pub(super) rng: SeededRng,
    seed: u64,
    progress: Progress,
}

impl Scenario {
    pub(super) fn new(
        seed: u64,
        planted_fault: Option<PlantedFault>,
        progress: Progress,
    ) -> Result<Self, String> {
        let mut rng = SeededRng::new(seed);
        let plan = Plan::generate(&mut rng).map_err(|problems| problems.to_string())?;
        let now = clock::now();
        let ActorSystem { actors, pools, breakers, launches } = build_actors(&plan, seed)?;
        let ledger = Ledger::new(&plan.config, now);
        let upstream = |bucket: &BucketConfig| Upstream::new(bucket.upstream.endpoints.len());
        let limiters = (0..plan.threads).map(|_| actors.limiter.on_another_thread()).collect();
        let shared = ScenarioShared {
            limiters,
            actors,
            pools,
            breakers,
            ledger: ledger.into(),
            rng: SeededRng::new(!seed).into(),
            upstreams: plan.config.buckets.values().map(upstream).collect::<Vec<_>>().into(),
            planted_fault,
        };
        Ok(Self {
            shared: Rc::new(shared),
            stepped_actors: launches.into_stepped(),
            threads: WorkerThreads::new(plan.threads, now),
            clients: (0..plan.clients_max).map(|_| None).collect(),
            plan,
            now,
            step: 0,
            trace: VecDeque::new(),
            digest: 0xcbf2_9ce4_8422_2325,
            arrivals: 0,
            crashes: 0,
            level_rose_at: now,
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
                _ => self.poll_any_client(),
            }
            self.inject_faults();
            self.check_bounds();
            if self.step.is_multiple_of(IDLE_CHECK_EVERY) {
                self.check_idle();
            }
        }
    }

    pub(super) fn has_violation(&self) -> bool {
        self.shared.ledger.borrow().violation.is_some()
    }

    pub(super) fn record_event(&mut self, what: &'static str, subject: usize) {
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
        let line = |(step, what, subject): &TraceEvent| {
            let actor = what.starts_with("actor").then(|| self.stepped_actors.get(*subject)).flatten();
            let subject =
                actor.map_or_else(|| subject.to_string(), |actor| actor.actor_stats().name().to_owned());
            format!("{step:>7} {what} {subject}")
        };
        self.trace.iter().map(line).collect()
    }

    fn poll_woken_client(&mut self) {
        let start = self.rng.below(self.clients.len());
        let order = (start..self.clients.len()).chain(0..start);
        let woken = |at: &usize| self.clients[*at].as_ref().is_some_and(|client| client.waker.is_woken());
        if let Some(at) = order.into_iter().find(woken) {
            self.poll_client(at);
        }
    }

    /// Polls a client without a wake-up: wakers may be called spuriously.
    fn poll_any_client(&mut self) {
        let at = self.rng.below(self.clients.len());
        self.poll_client(at);
    }

    pub(super) fn poll_client(&mut self, at: usize) {
        let Some(client) = &mut self.clients[at] else { return };
        client.waker.clear();
        let waker = Waker::from(Arc::clone(&client.waker));
        let future = client.future.as_mut();
        let poll = || future.poll(&mut Context::from_waker(&waker)).is_ready();
        let ready = self.threads.run_on(client.thread, poll);
        if ready {
            self.clients[at] = None;
        }
        self.record_event(if ready { "client ends" } else { "client waits" }, at);
        self.check_order();
    }

    /// A granted waiter has not overtaken an earlier one of its class that still waits.
    fn check_order(&mut self) {
        for bucket in 0..self.shared.pools.len() {
            let granted =
                std::mem::take(&mut self.shared.ledger.borrow_mut().buckets[bucket].granted_in_order);
            let config = self.plan.config.buckets.values().nth(bucket);
            if config.is_none_or(|config| config.upstream.concurrency.overload != Overload::Fifo) {
                // In overload the newest goes first, which cannot be seen from outside.
                continue;
            }
            for (position, priority) in granted {
                let earlier: Vec<(u64, usize)> = {
                    let ledger = self.shared.ledger.borrow();
                    let waiting = ledger.buckets[bucket].waiting.range(..position);
                    let of_class = waiting.filter(|(_, (_, other))| *other == priority);
                    of_class.map(|(position, (client, _))| (*position, *client)).collect()
                };
                for (before, client) in earlier {
                    self.poll_client(client);
                    let mut ledger = self.shared.ledger.borrow_mut();
                    let waits = ledger.buckets[bucket].waiting.contains_key(&before);
                    ledger.check(Invariant::Order, !waits, || {
                        format!("in bucket {bucket}, {position} was served before {before}")
                    });
                }
            }
        }
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
        let step_fault = match self.shared.planted_fault {
            Some(PlantedFault::NewestFirst) => StepFault::NewestFirst,
            Some(PlantedFault::StallActors) => StepFault::SkipMessage,
            Some(PlantedFault::LoseMessages) if self.rng.one_in(30) => StepFault::LoseMessage,
            _ => StepFault::None,
        };
        let level = self.shared.actors.monitor.level();
        let nanos = self.shared.ledger.borrow().nanos(self.now);
        let now = self.now;
        let gates = self.gates();
        let actor = &mut self.stepped_actors[at];
        let result = during_step(nanos, || actor.step(step_fault, now));
        self.check_gates(&gates, result == StepResult::Crashed);
        match result {
            StepResult::Idle | StepResult::HeldDown => return false,
            StepResult::Handled => self.record_event("actor handles", at),
            StepResult::Crashed => {
                self.crashes += 1;
                self.record_event("actor crashes", at);
                self.reset_if_planted(at);
            }
            StepResult::Panicked(message) => {
                let what = format!("{}: {message}", self.stepped_actors[at].actor_stats().name());
                self.shared.ledger.borrow_mut().record_violation(Invariant::Panic, what);
            }
        }
        self.observe_circuits();
        self.observe_endpoints();
        self.check_level(level);
        true
    }

    fn reset_if_planted(&mut self, at: usize) {
        let name = self.stepped_actors[at].actor_stats().name();
        if !self.shared.planted_fault.is_some_and(|fault| fault.resets(name)) {
            return;
        }
        if let Ok(ActorSystem { launches, .. }) = build_actors(&self.plan, self.seed) {
            self.stepped_actors[at].replace_state(launches.into_stepped().swap_remove(at));
        }
    }

    pub(super) fn observe_circuits(&mut self) {
        let mut ledger = self.shared.ledger.borrow_mut();
        for (circuit, view) in self.shared.circuits(self.now) {
            ledger.observe_circuit(circuit, &view, self.now);
        }
    }

    async fn advance_clock(&mut self) {
        let clock = self.plan.clock;
        let span = if self.rng.one_in(clock.leap_one_in) {
            Duration::from_millis(self.rng.choose([50, 1_000, 11_000, 61_000, 3_600_000]))
        } else {
            let max = u64::try_from(clock.step.as_nanos()).unwrap_or(u64::MAX);
            Duration::from_nanos(self.rng.between(1, max))
        };
        self.advance(span).await;
    }

    pub(super) async fn advance(&mut self, span: Duration) {
        tokio::time::advance(span).await;
        // Tasks that slept until now run, too.
        tokio::task::yield_now().await;
        self.now = clock::now();
        self.threads.drop_expired_permits(self.now);
        self.record_event("time passes", usize::try_from(span.as_nanos()).unwrap_or(usize::MAX));
    }

    fn start_client(&mut self) {
        let Some(at) = self.clients.iter().position(Option::is_none) else { return };
        self.arrivals += 1;
        let bucket = self.rng.below(self.shared.pools.len());
        let Ok(address) = u32::try_from(self.rng.below(self.plan.addresses)) else { return };
        let spec = ClientSpec {
            number: at,
            thread: self.rng.below(self.plan.threads),
            bucket: BucketId::new(u32::try_from(bucket).unwrap_or(0)),
            address: IpKey::V4(address),
            key: KeyId::new(u32::from(self.rng.one_in(2))),
            class: self.rng.choose(OperationClass::ALL),
            priority: self.rng.choose(Priority::ALL),
            is_replayable: !self.rng.one_in(8),
            credential: self.rng.choose([
                ClientCredential::None,
                ClientCredential::None,
                ClientCredential::Valid,
                ClientCredential::Valid,
                ClientCredential::Forged,
            ]),
        };
        let waker = ClientWaker::new();
        let upstream = self.plan.config.buckets.values().nth(bucket).map(|bucket| &bucket.upstream);
        let client = Client {
            shared: Rc::clone(&self.shared),
            spec,
            waker: Arc::clone(&waker),
            slow_from: upstream.and_then(|upstream| upstream.circuit_breaker.slow_call_duration),
        };
        let thread = spec.thread;
        self.clients[at] = Some(RunningClient::new(client.run(), waker, thread));
        self.record_event("client comes", at);
    }

    fn inject_faults(&mut self) {
        if self.rng.one_in(self.plan.disconnect_one_in) {
            let at = self.rng.below(self.clients.len());
            self.disconnect(at);
        }
        if self.rng.one_in(self.plan.behavior_one_in) {
            let bucket = self.rng.below(self.shared.pools.len());
            self.shared.upstreams.borrow_mut()[bucket].change_behavior(&mut self.rng);
            self.record_event("upstream changes", bucket);
            let endpoint =
                EndpointId(self.rng.below(self.shared.pools[bucket].view(self.now).endpoints.len()));
            self.shared.pools[bucket].report_health_check(endpoint, self.rng.one_in(2), self.now);
        }
        if self.rng.one_in(PROBE_ONE_IN) {
            self.start_connect_probe();
        }
        if self.rng.one_in(PROBE_ONE_IN) {
            self.check_credentials();
        }
        if self.rng.one_in(self.plan.sample_one_in) {
            let percent = self.rng.choose([10, 20, 30, 50, 60, 82, 91, 99]);
            self.shared.actors.monitor.inject_sample(percent);
        }
        if self.plan.crash_one_in.is_some_and(|times| self.rng.one_in(times)) {
            self.crash_actor();
        }
    }

    fn disconnect(&mut self, at: usize) {
        let Some(client) = self.clients[at].take() else { return };
        if self.shared.planted_fault == Some(PlantedFault::KeepDisconnected) {
            std::mem::forget(client);
        }
        self.record_event("client hangs up", at);
    }

    pub(super) fn disconnect_all(&mut self) {
        for at in 0..self.clients.len() {
            self.disconnect(at);
        }
    }

    fn crash_actor(&mut self) {
        let points = [CrashPoint::Decide, CrashPoint::Apply, CrashPoint::Applied, CrashPoint::Started];
        let crash = Crash { point: self.rng.choose(points), next_message: !self.rng.one_in(3) };
        let at = self.rng.below(self.stepped_actors.len());
        if self.stepped_actors[at].actor_stats().failed_for(self.now).is_some() {
            return;
        }
        let injected = self.shared.actors.crash(self.stepped_actors[at].actor_stats().name(), crash);
        self.shared.ledger.borrow_mut().check(Invariant::Setup, injected.is_ok(), || format!("{injected:?}"));
        self.record_event("actor crash is scheduled", at);
    }
}

/// All possible bucket IDs.
pub(super) fn bucket_ids() -> impl Iterator<Item = BucketId> {
    (0..).map(BucketId::new)
}

fn build_actors(plan: &Plan, seed: u64) -> Result<ActorSystem, String> {
    let log = Logger::root(Discard, o!());
    prepare_with_seed(&plan.config, &Registry::new(), &log, (seed, ActorEvents::default()))
        .map_err(|error| error.to_string())
}
