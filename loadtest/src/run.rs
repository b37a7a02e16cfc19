//! Runs a scenario: starts upstreams and gateway, runs the steps in order, collects statistics, and checks the ranges.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::rc::Rc;

use serde::Serialize;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use crate::certificate::Certificate;
use crate::clock;
use crate::configuration::{Placeholders, Timeline};
use crate::container::{CgroupMeter, Container, LogTail};
use crate::decision_check::DecisionCheck;
use crate::descriptor_limit::DescriptorLimit;
use crate::expectation::CheckResult;
use crate::gateway::{BucketSpec, Gateway, GatewayConfiguration, GatewayError, merge, table};
use crate::process::RunDirectory;
use crate::sampler::{self, Reading, SampledGateway, Sampler};
use crate::scenario::{Scenario, ScenarioError, UpstreamSpec};
use crate::statistics::Statistics;
use crate::step::TestBed;
use crate::upstream::Upstreams;

/// Why a run failed. A missed range is a result, not an error.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    /// The scenario.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The gateway.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// Sockets, timers, files.
    #[error("the load generator failed: {0}")]
    Io(#[from] io::Error),
    /// The scenario refers to an upstream that it does not have; its validation should have found that.
    #[error("no upstream called {0}")]
    Upstream(String),
    /// A reload or an upgrade that the scenario expects to succeed.
    #[error("the gateway was not changed: {0}")]
    Change(String),
    /// A signal requested the end. It is returned as an error, so that the started servers are ended.
    #[error("interrupted")]
    Interrupted,
}

/// The output of `work`, or `Interrupted` if SIGINT or SIGTERM arrives first.
pub(crate) async fn unless_interrupted<T>(work: impl Future<Output = T>) -> Result<T, RunError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        output = work => Ok(output),
        _ = interrupt.recv() => Err(RunError::Interrupted),
        _ = terminate.recv() => Err(RunError::Interrupted),
    }
}

/// Results of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Findings {
    pub(crate) scenario: String,
    pub(crate) held: bool,
    pub(crate) verdicts: Vec<CheckResult>,
    pub(crate) statistics: Statistics,
    pub(crate) readings: Vec<Reading>,
}

/// Runs `scenario` against `binary`.
pub(crate) fn run(
    name: &str,
    scenario: &Scenario,
    binary: &Path,
    latency_tolerance: f64,
) -> Result<Findings, RunError> {
    let directory = RunDirectory::create(name)?;
    let mut test_bed = start_test_bed(scenario, binary, directory.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rounds = vec![Statistics::default(); scenario.rounds];
    for (round, statistics) in rounds.iter_mut().enumerate() {
        for step in &scenario.steps {
            LocalSet::new().block_on(&runtime, test_bed.run_step(step, round, statistics))?;
        }
    }
    let meter = test_bed.container.as_ref().map(Container::meter);
    let mut verdicts = vec![check_survival(&mut test_bed.gateway, meter.as_ref())];
    test_bed.match_broken_with_log(scenario, &mut rounds);
    test_bed.match_refusals_with_decisions(&mut rounds)?;
    // Unmounts the log disk before the directory is removed.
    let readings = test_bed.shut_down();
    for (round, statistics) in rounds.iter_mut().enumerate() {
        for step in &scenario.steps {
            sampler::summarize(&readings, &step.name, round, statistics);
        }
    }
    let statistics = Statistics::median_of_rounds(&rounds);
    let expectations = scenario.expectations.iter();
    verdicts.extend(expectations.map(|expectation| expectation.check(&statistics, latency_tolerance)));
    let held = verdicts.iter().all(|verdict| verdict.held);
    if held {
        directory.discard();
    }
    Ok(Findings { scenario: name.to_owned(), held, verdicts, statistics, readings })
}

fn start_test_bed(scenario: &Scenario, binary: &Path, directory: &Path) -> Result<TestBed, RunError> {
    let behaviours: Vec<_> = scenario.upstreams.iter().flat_map(UpstreamSpec::endpoints_by_name).collect();
    let upstreams = Upstreams::start(&behaviours)?;
    let buckets = bucket_specs(scenario, &upstreams)?;
    let certificate = scenario.tls.then(|| Certificate::create(directory)).transpose()?;
    let mut settings = certificate.as_ref().map(Certificate::settings).unwrap_or_default();
    merge(&mut settings, &scenario.gateway);
    if scenario.check_decisions {
        merge(&mut settings, &table([("log", table([("decisions", true.into())]).into())]));
    }
    let addresses = upstreams.iter().map(|(name, upstream)| (name.to_owned(), upstream.address)).collect();
    let variables = scenario.overlays.iter().map(|overlay| overlay.variables.clone()).collect();
    let placeholders = Placeholders::new(addresses, variables);
    let configuration = GatewayConfiguration {
        buckets,
        settings,
        repeated: &scenario.repeated,
        overlays: &scenario.overlays,
        placeholders: placeholders.clone(),
    };
    let container = scenario.container.as_ref().map(|spec| Container::create(spec, directory)).transpose()?;
    let gateway = Gateway::start(binary, directory, configuration, container.as_ref())?;
    let log_tail = container.as_ref().map(|_| LogTail::start(&gateway.log)).transpose()?;
    let metrics = scenario.metrics.clone();
    let meter = container.as_ref().map(Container::meter);
    let sampler = Sampler::start(SampledGateway {
        process: gateway.id().clone(),
        admin: gateway.admin,
        metrics,
        meter,
    })?;
    let decision_check = scenario.check_decisions.then(|| RefCell::new(DecisionCheck::default()));
    let broken = RefCell::default();
    let descriptor_limit = DescriptorLimit::default();
    Ok(TestBed {
        gateway,
        sampler,
        upstreams,
        certificate,
        log_tail,
        container,
        broken,
        decision_check,
        descriptor_limit,
        binary: binary.to_owned(),
        placeholders,
        overlays: scenario.overlays.len(),
        timeline: Rc::new(RefCell::new(Timeline::new(clock::now()))),
    })
}

/// The buckets of a scenario, with the addresses of their upstreams.
fn bucket_specs<'a>(scenario: &'a Scenario, upstreams: &Upstreams) -> Result<Vec<BucketSpec<'a>>, RunError> {
    let mut buckets = Vec::new();
    for spec in &scenario.upstreams {
        let address = |(name, _): (String, _)| match upstreams.get(&name) {
            Some(upstream) => Ok(upstream.address),
            None => Err(RunError::Upstream(name)),
        };
        let endpoints = spec.endpoints_by_name().into_iter().map(address).collect::<Result<_, _>>()?;
        buckets.push(BucketSpec { name: &spec.bucket, endpoints, settings: &spec.settings });
    }
    Ok(buckets)
}

fn check_survival(gateway: &mut Gateway, meter: Option<&CgroupMeter>) -> CheckResult {
    let held = gateway.is_running();
    let text =
        if held { "the gateway's process survived" } else { "the gateway's process ended during the run" };
    let kills =
        meter.and_then(CgroupMeter::oom_kills).map(|kills| format!("; OOM kills in its cgroup: {kills}"));
    CheckResult { held, text: format!("{text}{}", kills.unwrap_or_default()) }
}
