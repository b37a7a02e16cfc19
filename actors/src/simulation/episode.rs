//! The scheduler: one thing at a time, and which one, the dice say. A client is looked after, an actor handles a message,
//! time passes, somebody comes or leaves, something breaks.
//!
//! After each step all counts are compared, see `comparison.rs`.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use prometheus::Registry;
use slog::{Discard, Logger, o};
use tidegate_config::{BucketConfig, Overload, Priority};

use crate::chaos::{Crash, CrashPlace};
use crate::clock;
use crate::pool::EndpointId;
use crate::simulation::client::{Client, Proof, Script, World};
use crate::simulation::dice::Dice;
use crate::simulation::ledger::{Invariant, Ledger};
use crate::simulation::mutant::Mutant;
use crate::simulation::plan::Plan;
use crate::simulation::signal::{Signal, during_turn};
use crate::simulation::stage::{Stage, Tampering, Turn};
use crate::simulation::threads::Threads;
use crate::simulation::upstream::Upstream;
use crate::simulation::watch::Pulse;
use crate::system::{Prepared, prepare_from};
use crate::types::{BucketId, IpKey, KeyId, OperationClass};

/// Steps between two rests.
const REST_EVERY: u64 = 400;
/// What is remembered of the way to a failure.
const TRACE_MAX: usize = 60;

/// Steps per connection that is tried, and per check of credentials.
const PROBE_ONCE_IN: usize = 20;

/// One thing that happened: at which step, what, to whom.
type Event = (u64, &'static str, usize);

pub(super) struct Running {
    future: Pin<Box<dyn Future<Output = ()>>>,
    pub(super) signal: Arc<Signal>,
    thread: usize,
}

impl Running {
    pub(super) fn new(
        future: impl Future<Output = ()> + 'static,
        signal: Arc<Signal>,
        thread: usize,
    ) -> Self {
        Self { future: Box::pin(future), signal, thread }
    }
}

/// A run with one seed.
pub(super) struct Episode {
    pub(super) world: Rc<World>,
    pub(super) stages: Vec<Box<dyn Stage>>,
    pub(super) plan: Plan,
    pub(super) now: Instant,
    pub(super) step: u64,
    trace: VecDeque<Event>,
    pub(super) digest: u64,
    pub(super) arrivals: usize,
    pub(super) crashes: u64,
    pub(super) level_rose: Instant,
    pub(super) clients: Vec<Option<Running>>,
    threads: Threads,
    /// The scheduler's own, so that what a client draws does not change who comes next.
    pub(super) dice: Dice,
    seed: u64,
    pulse: Pulse,
}

impl Episode {
    pub(super) fn new(seed: u64, mutant: Option<Mutant>, pulse: Pulse) -> Result<Self, String> {
        let mut dice = Dice::new(seed);
        let plan = Plan::draw(&mut dice).map_err(|problems| problems.to_string())?;
        let now = clock::now();
        let Prepared { actors, pools, breakers, launches } = universe(&plan, seed)?;
        let ledger = Ledger::new(&plan.config, now);
        let upstream = |bucket: &BucketConfig| Upstream::new(bucket.upstream.endpoints.len());
        let limiters = (0..plan.threads).map(|_| actors.limiter.on_another_thread()).collect();
        let world = World {
            limiters,
            actors,
            pools,
            breakers,
            ledger: ledger.into(),
            dice: Dice::new(!seed).into(),
            upstreams: plan.config.buckets.values().map(upstream).collect::<Vec<_>>().into(),
            mutant,
        };
        Ok(Self {
            world: Rc::new(world),
            stages: launches.stage(),
            threads: Threads::new(plan.threads, now),
            clients: (0..plan.clients_max).map(|_| None).collect(),
            plan,
            now,
            step: 0,
            trace: VecDeque::new(),
            digest: 0xcbf2_9ce4_8422_2325,
            arrivals: 0,
            crashes: 0,
            level_rose: now,
            dice,
            seed,
            pulse,
        })
    }

    /// Takes so many steps, or as many as nothing is wrong.
    pub(super) async fn run(&mut self, steps: u64) {
        while self.step < steps && !self.is_wrong() {
            self.step += 1;
            match self.dice.below(100) {
                0..40 => self.look_after_somebody(),
                40..75 => self.have_somebody_act(),
                75..85 => self.let_time_pass().await,
                85..97 => self.arrive(),
                _ => self.poke_somebody(),
            }
            self.make_trouble();
            self.compare();
            if self.step.is_multiple_of(REST_EVERY) {
                self.rest();
            }
        }
    }

    pub(super) fn is_wrong(&self) -> bool {
        self.world.ledger.borrow().wrong.is_some()
    }

    pub(super) fn note(&mut self, what: &'static str, whom: usize) {
        self.pulse.beat(self.step);
        if self.trace.len() == TRACE_MAX {
            self.trace.pop_front();
        }
        self.trace.push_back((self.step, what, whom));
        for byte in what.bytes().chain(whom.to_le_bytes()) {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// The last things that happened, in words.
    pub(super) fn story(&self) -> Vec<String> {
        let told = |(step, what, whom): &Event| {
            let actor = what.starts_with("actor").then(|| self.stages.get(*whom)).flatten();
            let whom = actor.map_or_else(|| whom.to_string(), |stage| stage.vitals().name().to_owned());
            format!("{step:>7} {what} {whom}")
        };
        self.trace.iter().map(told).collect()
    }

    fn look_after_somebody(&mut self) {
        let start = self.dice.below(self.clients.len());
        let order = (start..self.clients.len()).chain(0..start);
        let woken = |at: &usize| self.clients[*at].as_ref().is_some_and(|client| client.signal.is_woken());
        if let Some(at) = order.into_iter().find(woken) {
            self.look_after(at);
        }
    }

    /// Without having been woken: a waker may be called for nothing.
    fn poke_somebody(&mut self) {
        let at = self.dice.below(self.clients.len());
        self.look_after(at);
    }

    pub(super) fn look_after(&mut self, at: usize) {
        let Some(client) = &mut self.clients[at] else { return };
        client.signal.take();
        let waker = Waker::from(Arc::clone(&client.signal));
        let future = client.future.as_mut();
        let poll = || future.poll(&mut Context::from_waker(&waker)).is_ready();
        let ready = self.threads.on(client.thread, poll);
        if ready {
            self.clients[at] = None;
        }
        self.note(if ready { "client ends" } else { "client waits" }, at);
        self.check_order();
    }

    /// Who was handed a permit has not overtaken anybody of its class, if all who came before have theirs, too.
    fn check_order(&mut self) {
        for bucket in 0..self.world.pools.len() {
            let handed = std::mem::take(&mut self.world.ledger.borrow_mut().buckets[bucket].handed);
            let config = self.plan.config.buckets.values().nth(bucket);
            if config.is_none_or(|config| config.upstream.concurrency.overload != Overload::Fifo) {
                // Whether the newest went first because of an overload cannot be seen from outside.
                continue;
            }
            for (place, priority) in handed {
                let earlier: Vec<(u64, usize)> = {
                    let ledger = self.world.ledger.borrow();
                    let waiting = ledger.buckets[bucket].waiting.range(..place);
                    let of_class = waiting.filter(|(_, (_, other))| *other == priority);
                    of_class.map(|(place, (client, _))| (*place, *client)).collect()
                };
                for (before, client) in earlier {
                    self.look_after(client);
                    let mut ledger = self.world.ledger.borrow_mut();
                    let waits = ledger.buckets[bucket].waiting.contains_key(&before);
                    ledger.check(Invariant::Order, !waits, || {
                        format!("in bucket {bucket}, {place} was served before {before}")
                    });
                }
            }
        }
    }

    fn have_somebody_act(&mut self) {
        let start = self.dice.below(self.stages.len());
        for at in (start..self.stages.len()).chain(0..start) {
            if self.act(at) {
                return;
            }
        }
    }

    /// Has an actor handle a message, if there is one.
    pub(super) fn act(&mut self, at: usize) -> bool {
        let tampering = match self.world.mutant {
            Some(Mutant::NewestFirst) => Tampering::NewestFirst,
            Some(Mutant::Stutters) => Tampering::Nothing,
            Some(Mutant::LosesMessages) if self.dice.once_in(30) => Tampering::Lose,
            _ => Tampering::None,
        };
        let level = self.world.actors.monitor.level();
        let nanos = self.world.ledger.borrow().nanos(self.now);
        let now = self.now;
        let gates = self.gates();
        let stage = &mut self.stages[at];
        let turn = during_turn(nanos, || stage.turn(tampering, now));
        self.look_at_gates(&gates, turn == Turn::Crashed);
        match turn {
            Turn::Idle | Turn::Held => return false,
            Turn::Handled => self.note("actor handles", at),
            Turn::Crashed => {
                self.crashes += 1;
                self.note("actor crashes", at);
                self.start_over(at);
            }
            Turn::Panicked(said) => {
                let what = format!("{}: {said}", self.stages[at].vitals().name());
                self.world.ledger.borrow_mut().accuse(Invariant::Panic, what);
            }
        }
        self.look_at_circuits();
        self.look_at_endpoints();
        self.look_at_level(level);
        true
    }

    fn start_over(&mut self, at: usize) {
        let name = self.stages[at].vitals().name();
        if !self.world.mutant.is_some_and(|mutant| mutant.starts_over(name)) {
            return;
        }
        if let Ok(Prepared { launches, .. }) = universe(&self.plan, self.seed) {
            self.stages[at].lose_to(launches.stage().swap_remove(at));
        }
    }

    pub(super) fn look_at_circuits(&mut self) {
        let mut ledger = self.world.ledger.borrow_mut();
        for (circuit, view) in self.world.circuits(self.now) {
            ledger.look_at_circuit(circuit, &view, self.now);
        }
    }

    async fn let_time_pass(&mut self) {
        let clock = self.plan.clock;
        let span = if self.dice.once_in(clock.leap_once_in) {
            Duration::from_millis(self.dice.one_of([50, 1_000, 11_000, 61_000, 3_600_000]))
        } else {
            let most = u64::try_from(clock.step.as_nanos()).unwrap_or(u64::MAX);
            Duration::from_nanos(self.dice.between(1, most))
        };
        self.pass(span).await;
    }

    pub(super) async fn pass(&mut self, span: Duration) {
        tokio::time::advance(span).await;
        // Those that slept until now run, too.
        tokio::task::yield_now().await;
        self.now = clock::now();
        self.threads.clear_out(self.now);
        self.note("time passes", usize::try_from(span.as_nanos()).unwrap_or(usize::MAX));
    }

    fn arrive(&mut self) {
        let Some(at) = self.clients.iter().position(Option::is_none) else { return };
        self.arrivals += 1;
        let bucket = self.dice.below(self.world.pools.len());
        let Ok(address) = u32::try_from(self.dice.below(self.plan.addresses)) else { return };
        let script = Script {
            number: at,
            thread: self.dice.below(self.plan.threads),
            bucket: BucketId::new(u16::try_from(bucket).unwrap_or(0)),
            address: IpKey::V4(address),
            key: KeyId::new(u32::from(self.dice.once_in(2))),
            class: self.dice.one_of(OperationClass::ALL),
            priority: self.dice.one_of(Priority::ALL),
            is_patient: !self.dice.once_in(8),
            proof: self.dice.one_of([Proof::None, Proof::None, Proof::Good, Proof::Good, Proof::Forged]),
        };
        let signal = Signal::new();
        let upstream = self.plan.config.buckets.values().nth(bucket).map(|bucket| &bucket.upstream);
        let client = Client {
            world: Rc::clone(&self.world),
            script,
            signal: Arc::clone(&signal),
            slow_from: upstream.and_then(|upstream| upstream.circuit_breaker.slow_call_duration),
        };
        let thread = script.thread;
        self.clients[at] = Some(Running::new(client.run(), signal, thread));
        self.note("client comes", at);
    }

    fn make_trouble(&mut self) {
        if self.dice.once_in(self.plan.hang_up_once_in) {
            let at = self.dice.below(self.clients.len());
            self.hang_up(at);
        }
        if self.dice.once_in(self.plan.mood_once_in) {
            let bucket = self.dice.below(self.world.pools.len());
            self.world.upstreams.borrow_mut()[bucket].change(&mut self.dice);
            self.note("upstream changes", bucket);
            let endpoint =
                EndpointId(self.dice.below(self.world.pools[bucket].view(self.now).endpoints.len()));
            self.world.pools[bucket].checked(endpoint, self.dice.once_in(2), self.now);
        }
        if self.dice.once_in(PROBE_ONCE_IN) {
            self.probe();
        }
        if self.dice.once_in(PROBE_ONCE_IN) {
            self.check_credentials();
        }
        if self.dice.once_in(self.plan.sample_once_in) {
            let percent = self.dice.one_of([10, 20, 30, 50, 60, 82, 91, 99]);
            self.world.actors.monitor.sense(percent);
        }
        if self.plan.crash_once_in.is_some_and(|times| self.dice.once_in(times)) {
            self.strike();
        }
    }

    fn hang_up(&mut self, at: usize) {
        let Some(client) = self.clients[at].take() else { return };
        if self.world.mutant == Some(Mutant::KeepsTheDead) {
            std::mem::forget(client);
        }
        self.note("client hangs up", at);
    }

    pub(super) fn hang_up_all(&mut self) {
        for at in 0..self.clients.len() {
            self.hang_up(at);
        }
    }

    fn strike(&mut self) {
        let places = [CrashPlace::Decide, CrashPlace::Apply, CrashPlace::Applied, CrashPlace::Started];
        let crash = Crash { place: self.dice.one_of(places), next_message: !self.dice.once_in(3) };
        let at = self.dice.below(self.stages.len());
        if self.stages[at].vitals().failed_for(self.now).is_some() {
            return;
        }
        let struck = self.world.actors.crash(self.stages[at].vitals().name(), crash);
        self.world.ledger.borrow_mut().check(Invariant::Setup, struck.is_ok(), || format!("{struck:?}"));
        self.note("actor is to crash", at);
    }
}

/// All buckets there can be.
pub(super) fn buckets() -> impl Iterator<Item = BucketId> {
    (0..=u16::MAX).map(BucketId::new)
}

fn universe(plan: &Plan, seed: u64) -> Result<Prepared, String> {
    let log = Logger::root(Discard, o!());
    prepare_from(&plan.config, &Registry::new(), &log, seed).map_err(|error| error.to_string())
}
