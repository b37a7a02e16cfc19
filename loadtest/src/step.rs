//! Runs one step of a scenario: its concurrent loads, its events and crashes, and its statistics.
//!
//! Statistics are named STEP.LOAD.WHAT for loads, STEP.WHAT for the gateway's process and metrics,
//! STEP.upstream.BUCKET.WHAT for upstreams and STEP.storm.WHAT for crashes.

use std::cell::RefCell;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::certificate::Certificate;
use crate::client::BodyCapture;
use crate::configuration::{ConfigurationCheck, JudgedSpec, LimitCheck, Placeholders, SharedTimeline};
use crate::container::{BrokenConnection, Container, LogTail, unexplained};
use crate::decision_check::DecisionCheck;
use crate::descriptor_limit::DescriptorLimit;
use crate::destination::Destination;
use crate::gateway::Gateway;
use crate::hostile::{AttackTarget, HostileClients};
use crate::load::{self, Load};
use crate::load_checks::LoadChecks;
use crate::progress;
use crate::recorder::Recorder;
use crate::reload::{self, ChangeTimes};
use crate::request_source::{RequestSource, RequestTemplate};
use crate::run::{RunError, unless_interrupted};
use crate::sampler::{Reading, Sampler, StepMark};
use crate::scenario::{LoadSpec, Scenario, Step};
use crate::statistics::Statistics;
use crate::storm::{self, StormReport};
use crate::upstream::Upstreams;
use crate::watchers::Watchers;
use crate::{clock, pattern, usage};

/// The parts of a run that all steps share. The gateway ends before its upstreams.
pub(crate) struct TestBed {
    pub(crate) gateway: Gateway,
    pub(crate) sampler: Sampler,
    pub(crate) upstreams: Upstreams,
    /// The certificate of a gateway with TLS.
    pub(crate) certificate: Option<Certificate>,
    /// Reads the log of a gateway in a container.
    pub(crate) log_tail: Option<LogTail>,
    pub(crate) container: Option<Container>,
    /// Broken connections so far.
    pub(crate) broken: RefCell<Vec<BrokenConnection>>,
    /// The refusals so far, if they are compared with the decisions.
    pub(crate) decision_check: Option<RefCell<DecisionCheck>>,
    pub(crate) descriptor_limit: DescriptorLimit,
    /// The gateway's binary, for upgrades.
    pub(crate) binary: PathBuf,
    pub(crate) placeholders: Placeholders,
    /// Number of overlays over the configuration.
    pub(crate) overlays: usize,
    /// The reloads and upgrades so far.
    pub(crate) timeline: SharedTimeline,
}

/// A running load of the step.
pub(crate) struct RunningStepLoad {
    pub(crate) name: String,
    pub(crate) recorder: Rc<RefCell<Recorder>>,
    pub(crate) checks: Rc<RefCell<LoadChecks>>,
}

/// Measurements of a running step.
pub(crate) struct StepTallies {
    pub(crate) step: String,
    pub(crate) begin: Instant,
    pub(crate) offerings: Vec<RunningStepLoad>,
    pub(crate) storm: RefCell<StormReport>,
    pub(crate) reloads: RefCell<ChangeTimes>,
    pub(crate) upgrades: RefCell<ChangeTimes>,
}

impl TestBed {
    /// Runs `step` to its end.
    pub(crate) async fn run_step(
        &self,
        step: &Step,
        round: usize,
        into: &mut Statistics,
    ) -> Result<(), RunError> {
        self.upstreams.iter().for_each(|(_, upstream)| upstream.counters.reset());
        let mut loads = Vec::new();
        for spec in &step.loads {
            loads.push((spec.after_seconds, self.load(spec, step.seconds)?));
        }
        let watchers = Watchers::start(&step.watchers, self.gateway.admin)?;
        let hostile = HostileClients::start(&step.hostile, self.target()?)?;
        let window = usage::CpuWindow::begin(usage::tree(std::process::id()));
        let mark = StepMark { step: step.name.clone(), round, with_status: step.sample_status };
        self.sampler.mark(mark.clone());
        let (begin, gateway) = (clock::now(), [self.gateway.id().get()]);
        let used_before = usage::cpu_seconds(&gateway);
        let mut tallies = StepTallies {
            step: step.name.clone(),
            begin: clock::now(),
            offerings: Vec::new(),
            storm: RefCell::default(),
            reloads: RefCell::default(),
            upgrades: RefCell::default(),
        };
        let mut running = JoinSet::new();
        for ((after_seconds, load), spec) in loads.into_iter().zip(&step.loads) {
            let recorder = Rc::new(RefCell::new(Recorder::new()));
            let start = tallies.begin + Duration::from_secs_f64(after_seconds);
            let (name, checks) = (spec.name.clone(), Rc::clone(&load.checks));
            tallies.offerings.push(RunningStepLoad { name, recorder: Rc::clone(&recorder), checks });
            running.spawn_local(async move {
                tokio::time::sleep_until(start.into()).await;
                load::run_load(load, recorder).await
            });
        }
        tokio::select! {
            done = unless_interrupted(self.finish(step, &tallies, running)) => done??,
            never = progress::show(&tallies, self.gateway.id()) => match never {},
        }
        let used = usage::cpu_seconds(&gateway) - used_before;
        let seconds = (clock::now() - begin).as_secs_f64();
        self.sampler.mark(mark);
        into.set(format!("{}.gateway_cores", step.name), used / seconds.max(1e-3));
        if let Some(hostile) = hostile {
            self.broken.borrow_mut().extend(hostile.finish(&step.name, into)?);
        }
        if let Some(watchers) = watchers {
            watchers.finish(&step.name, into)?;
        }
        self.record_broken(step, &tallies);
        self.record_refusals(step, &tallies);
        into.set(format!("{}.other_cores", step.name), window.other_cores());
        self.summarize(step, &tallies, into)?;
        Ok(())
    }

    /// Address and TLS for hostile clients.
    fn target(&self) -> Result<AttackTarget, RunError> {
        let address = self.gateway.address;
        let both = |certificate: &Certificate| {
            Ok::<_, RunError>([certificate.client("http/1.1")?, certificate.client("h2")?])
        };
        Ok(AttackTarget { address, tls: self.certificate.as_ref().map(both).transpose()? })
    }

    fn load(&self, spec: &LoadSpec, seconds: f64) -> Result<Load, RunError> {
        let keep = match (&spec.verify_bytes, spec.method.as_str()) {
            (None, _) => BodyCapture::CountBytes,
            (Some(_), "GET") => BodyCapture::Digest,
            (Some(_), _) => BodyCapture::Text,
        };
        let path = spec.path.clone().unwrap_or_else(|| format!("/{}/object", spec.bucket));
        let template = RequestTemplate {
            method: spec.method.clone(),
            host: self.gateway.address,
            path,
            headers: spec.headers.clone(),
            key: spec.key.clone(),
            body_bytes: spec.body_bytes.0,
            capture: keep,
            kept_headers: spec.judged.iter().flat_map(JudgedSpec::header_names).collect(),
            read_bytes_per_second: spec.read_bytes_per_second.map(|bytes| bytes.0),
        };
        let ahead = spec.judged.as_ref().map_or(0, |judged| judged.ahead);
        let tls = self.certificate.as_ref().map(|certificate| certificate.client("http/1.1")).transpose()?;
        let source = spec.source;
        Ok(Load {
            destination: Destination { source, tls, ..Destination::from(self.gateway.address) },
            requests: RequestSource::new(
                template,
                self.placeholders.clone(),
                Rc::clone(&self.timeline),
                ahead,
            ),
            shape: spec.offered(seconds),
            connections: spec.connections,
            timeout: spec.timeout(),
            expected: spec.verify_bytes.map(|bytes| pattern::digest(bytes.0)),
            recovery_allowance: spec.settle_seconds.map(Duration::from_secs_f64),
            pause: Duration::from_secs_f64(spec.pause_seconds),
            pause_after_refusal: Duration::from_secs_f64(spec.pause_after_refusal_seconds),
            hang_up_after: spec.hang_up_after_bytes.map(|bytes| bytes.0),
            new_connections: spec.new_connections,
            checks: Rc::new(RefCell::new(self.checks(spec))),
        })
    }

    /// The checks of a load.
    fn checks(&self, spec: &LoadSpec) -> LoadChecks {
        let judged = spec.judged.clone().map(|judged| {
            ConfigurationCheck::new(judged, self.placeholders.clone(), Rc::clone(&self.timeline))
        });
        let limits = (1..=self.overlays.max(1) as u64)
            .map(|number| self.gateway.configuration.rate_limit(&spec.bucket, number))
            .collect();
        let limits: Option<Vec<_>> = spec.check_limit.then_some(limits).flatten();
        let limit = LimitCheck::new(limits, Rc::clone(&self.timeline));
        LoadChecks::new(Rc::clone(&self.timeline), spec.expects_refusals, judged, limit)
    }

    /// Waits until loads, events and storm have ended; without loads, for the length of the step.
    async fn finish(
        &self,
        step: &Step,
        tallies: &StepTallies,
        mut running: JoinSet<io::Result<()>>,
    ) -> Result<(), RunError> {
        let loads = async {
            while let Some(done) = running.join_next().await {
                done.map_err(io::Error::other)??;
            }
            Ok(())
        };
        let idle = async {
            if step.loads.is_empty() {
                tokio::time::sleep(Duration::from_secs_f64(step.seconds)).await;
            }
            Ok(())
        };
        let storm = async {
            match &step.storm {
                Some(spec) => storm::run(spec, self.gateway.address, self.gateway.admin, &tallies.storm)
                    .await
                    .map_err(RunError::from),
                None => Ok(()),
            }
        };
        tokio::try_join!(loads, idle, storm, self.events(step, tallies)).map(|_| ())
    }

    fn record_broken(&self, step: &Step, tallies: &StepTallies) {
        let mut broken = self.broken.borrow_mut();
        for (offering, spec) in tallies.offerings.iter().zip(&step.loads) {
            let client = spec.source.unwrap_or(Ipv4Addr::LOCALHOST.into());
            let recorder = offering.recorder.borrow();
            let at = recorder.broken().iter();
            broken.extend(at.map(|&at| BrokenConnection { step: step.name.clone(), at, client }));
        }
    }

    fn record_refusals(&self, step: &Step, tallies: &StepTallies) {
        let Some(check) = &self.decision_check else { return };
        let mut unanswered = tallies.storm.borrow().probes_lost();
        let mut refusals = Vec::new();
        for offering in &tallies.offerings {
            let mut recorder = offering.recorder.borrow_mut();
            let (received, left_out) = recorder.take_refusals();
            refusals.extend(received);
            unanswered += recorder.unanswered() + left_out;
        }
        check.borrow_mut().add_step(&step.name, refusals, unanswered);
    }

    /// Compares the refusals that clients received with the decisions in the log, and writes `STEP.decisions.…`.
    pub(crate) fn match_refusals_with_decisions(&self, rounds: &mut [Statistics]) -> io::Result<()> {
        let (Some(check), Some(into)) = (&self.decision_check, rounds.last_mut()) else { return Ok(()) };
        check.borrow().compare(&self.gateway.log, into)
    }

    /// Matches broken connections with the log, and writes `STEP.broken` and `STEP.broken_without_reason`. Counts of log lines are those of
    /// the whole run, in the last round.
    pub(crate) fn match_broken_with_log(&self, scenario: &Scenario, rounds: &mut [Statistics]) {
        let (Some(log_tail), Some(into)) = (&self.log_tail, rounds.last_mut()) else { return };
        let (reasons, broken) = (log_tail.reasons(), self.broken.borrow());
        for step in &scenario.steps {
            let of_step = || broken.iter().filter(|each| each.step == step.name);
            into.set(format!("{}.broken", step.name), of_step().count() as f64);
            into.set(format!("{}.broken_without_reason", step.name), unexplained(of_step(), &reasons) as f64);
            log_tail.summarize(&step.name, into);
        }
    }

    /// Ends all parts, the gateway first.
    pub(crate) fn shut_down(self) -> Vec<Reading> {
        self.sampler.finish()
    }

    fn summarize(&self, step: &Step, tallies: &StepTallies, into: &mut Statistics) -> io::Result<()> {
        let step_name = &step.name;
        let mut lost_total = tallies.storm.borrow().probes_lost();
        let (mut failed_total, mut resets_total) = (lost_total, 0);
        for offering in &tallies.offerings {
            let recorder = offering.recorder.borrow();
            recorder.summarize(&format!("{step_name}.{}", offering.name), into);
            lost_total += recorder.lost();
            let checks = offering.checks.borrow();
            checks.summarize(&format!("{step_name}.{}", offering.name), into);
            failed_total += checks.failed();
            resets_total += checks.resets();
            for text in checks.describe(tallies.begin) {
                eprintln!("{step_name}.{}: {text}", offering.name);
            }
        }
        into.set(format!("{step_name}.lost_total"), lost_total as f64);
        into.set(format!("{step_name}.failed_total"), failed_total as f64);
        into.set(format!("{step_name}.resets_total"), resets_total as f64);
        let (reloads, upgrades) = (tallies.reloads.borrow(), tallies.upgrades.borrow());
        if reloads.count() > 0 {
            let logged = reload::logged_durations(&self.gateway.log)?;
            reloads.summarize(&format!("{step_name}.reloads"), &logged, into);
        }
        if upgrades.count() > 0 {
            upgrades.summarize(&format!("{step_name}.upgrades"), &[], into);
        }
        if step.storm.is_some() {
            tallies.storm.borrow().summarize(&format!("{step_name}.storm"), into);
        }
        for (bucket, upstream) in self.upstreams.iter() {
            let prefix = format!("{step_name}.upstream.{bucket}");
            into.set(format!("{prefix}.requests"), upstream.counters.requests() as f64);
            into.set(format!("{prefix}.peak"), upstream.counters.peak() as f64);
            into.set(format!("{prefix}.peak_per_s"), upstream.counters.peak_per_second() as f64);
        }
        Ok(())
    }
}
