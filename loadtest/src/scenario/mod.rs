//! Scenarios as data: the gateway's configuration, its upstreams, the load, and the expected ranges.
//!
//! A scenario is one TOML file; a new one needs no code. Errors in a file are found when it is read, before any load.

mod validation;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use crate::container::ContainerSpec;
use crate::expectation::Expectation;
use crate::hostile::HostileSpec;
use crate::load::LoadShape;
use crate::schedule::{Phase, Schedule};
use crate::size::Bytes;
use crate::storm::StormSpec;
use crate::upstream::Behaviour;
use crate::watchers::WatcherSpec;

/// Minimum length of a scaled step: rates of shorter ones are not meaningful.
const SECONDS_MIN: f64 = 1.0;

/// Why a scenario cannot be run.
#[derive(Debug, Error)]
pub(crate) enum ScenarioError {
    /// The file cannot be read.
    #[error("cannot read {path}: {cause}")]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        cause: std::io::Error,
    },
    /// The file is not a valid scenario.
    #[error("{path}: {cause}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Position and cause.
        cause: toml::de::Error,
    },
    /// The file is inconsistent.
    #[error("{path}: {reason}")]
    Inconsistent {
        /// The file.
        path: PathBuf,
        /// The inconsistency.
        reason: String,
    },
}

/// One scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// What it tests, in one sentence.
    pub(crate) about: String,
    /// Gateway settings, merged over those of the runner.
    #[serde(default)]
    pub(crate) gateway: toml::Table,
    /// Whether the gateway and all loads use TLS, which enables HTTP/2 too.
    #[serde(default)]
    pub(crate) tls: bool,
    /// Memory cgroup, descriptors and log disk of the gateway; none for those of the caller. With it the status document is sampled too.
    pub(crate) container: Option<ContainerSpec>,
    /// Whether each refusal that a client receives must have its decision in the gateway's log. It sets `log.decisions`.
    #[serde(default)]
    pub(crate) check_decisions: bool,
    /// Gateway metrics to sample.
    #[serde(default)]
    pub(crate) metrics: Vec<String>,
    /// The upstreams, one for each bucket.
    #[serde(rename = "upstream")]
    pub(crate) upstreams: Vec<UpstreamSpec>,
    /// Number of rounds of all steps. Each statistic is the median of all rounds.
    #[serde(default = "one_round")]
    pub(crate) rounds: usize,
    /// The steps, in order.
    #[serde(rename = "step")]
    pub(crate) steps: Vec<Step>,
    /// The expected ranges.
    #[serde(rename = "expect")]
    pub(crate) expectations: Vec<Expectation>,
}

fn one_round() -> usize {
    1
}

/// One upstream and the bucket in front of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpstreamSpec {
    /// The bucket's name.
    pub(crate) bucket: String,
    /// Its behaviour.
    pub(crate) behaviour: Behaviour,
    /// Behaviours of further endpoints of the bucket; the second has the name `BUCKET-2`, and so on.
    #[serde(default)]
    pub(crate) further: Vec<Behaviour>,
    /// Settings of the bucket, merged over those of the runner.
    #[serde(default)]
    pub(crate) settings: toml::Table,
}

impl UpstreamSpec {
    /// Every endpoint of the bucket, by name.
    pub(crate) fn endpoints_by_name(&self) -> Vec<(String, Behaviour)> {
        let further = self.further.iter().zip(2..);
        let further = further.map(|(behaviour, n)| (format!("{}-{n}", self.bucket), behaviour.clone()));
        std::iter::once((self.bucket.clone(), self.behaviour.clone())).chain(further).collect()
    }
}

/// A stretch of the scenario with its own statistics.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    /// The first part of the names of its statistics.
    pub(crate) name: String,
    /// Length of the load.
    #[serde(default = "one_second")]
    pub(crate) seconds: f64,
    /// Scaling does not change its length.
    #[serde(default)]
    pub(crate) fixed: bool,
    /// Concurrent loads. A step without loads observes the idle gateway.
    #[serde(default, rename = "load")]
    pub(crate) loads: Vec<LoadSpec>,
    /// Events at the upstreams and the log disk.
    #[serde(default, rename = "event")]
    pub(crate) events: Vec<Event>,
    /// Crashes of the gateway's actors during the step.
    pub(crate) storm: Option<StormSpec>,
    /// Whether the status document is read during the step. With a container it always is.
    #[serde(default)]
    pub(crate) sample_status: bool,
    /// Hostile clients during the step.
    #[serde(default)]
    pub(crate) hostile: Vec<HostileSpec>,
    /// Watchers of the status stream during the step.
    #[serde(default)]
    pub(crate) watchers: Vec<WatcherSpec>,
}

fn one_second() -> f64 {
    SECONDS_MIN
}

/// One load of a step. Exactly one of `rate`, `phases`, `requests`, `closed` defines its shape.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoadSpec {
    /// The second part of the names of its statistics.
    pub(crate) name: String,
    /// The requested bucket.
    pub(crate) bucket: String,
    /// `GET` or `PUT`.
    #[serde(default = "get")]
    pub(crate) method: String,
    /// Size of the uploaded body.
    #[serde(default)]
    pub(crate) body_bytes: Bytes,
    /// Additional headers.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// Open loop: requests per second, for the step's length.
    pub(crate) rate: Option<f64>,
    /// Open loop: several rates, one after another.
    pub(crate) phases: Option<Vec<Phase>>,
    /// Closed loop: total number of requests.
    pub(crate) requests: Option<u64>,
    /// Closed loop for the step's length.
    #[serde(default)]
    pub(crate) closed: bool,
    /// Maximum of connections, and so of requests in flight.
    pub(crate) connections: usize,
    /// Source address within 127.0.0.0/8; the system's choice if absent.
    pub(crate) source: Option<IpAddr>,
    /// The client's timeout.
    #[serde(default = "three_seconds")]
    pub(crate) timeout_ms: u64,
    /// Pause of a closed-loop worker after a refusal (429, 503), as in a client with back-off.
    #[serde(default)]
    pub(crate) pause_after_refusal_seconds: f64,
    /// Start of the load after the start of the step.
    #[serde(default)]
    pub(crate) after_seconds: f64,
    /// Requests later than this after the load's start are also reported as `…_after_settling`; not scaled.
    pub(crate) settle_seconds: Option<f64>,
    /// Close the connection after this number of bytes of each answer's body. Each request has a new connection.
    pub(crate) hang_up_after_bytes: Option<Bytes>,
    /// The answer must have the expected content: this number of bytes of the pattern, or its digest.
    pub(crate) verify_bytes: Option<Bytes>,
}

fn get() -> String {
    "GET".to_owned()
}

fn three_seconds() -> u64 {
    3_000
}

/// An event at an upstream, at the log disk of the container, or at the gateway.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Event {
    /// Time from the start of the step.
    pub(crate) at_seconds: f64,
    /// The bucket of the upstream; none for the log disk and the gateway.
    pub(crate) bucket: Option<String>,
    /// The action.
    pub(crate) action: Action,
    /// Requests later than this after the event are also reported as `…_after_ACTION_settled`; not scaled.
    pub(crate) settle_seconds: Option<f64>,
}

/// Actions on an upstream, the log disk or the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// Stop the upstream.
    Kill,
    /// Start the upstream again.
    Restore,
    /// Freeze the upstream: connections stay open and the kernel accepts new ones, but nothing is read or sent.
    Freeze,
    /// Unfreeze the upstream.
    Thaw,
    /// Fill the log disk.
    FillLogDisk,
    /// Empty the log disk.
    EmptyLogDisk,
    /// Lower the gateway's limit of descriptors to those that it has open.
    ExhaustDescriptors,
    /// Restore the limit.
    FreeDescriptors,
}

impl Action {
    /// The name in statistics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Restore => "restore",
            Self::Freeze => "freeze",
            Self::Thaw => "thaw",
            Self::FillLogDisk => "fill_log_disk",
            Self::EmptyLogDisk => "empty_log_disk",
            Self::ExhaustDescriptors => "exhaust_descriptors",
            Self::FreeDescriptors => "free_descriptors",
        }
    }

    /// Whether it acts on an upstream.
    pub(crate) fn is_of_upstream(self) -> bool {
        !self.is_of_log_disk() && !matches!(self, Self::ExhaustDescriptors | Self::FreeDescriptors)
    }

    /// Whether it acts on the log disk.
    pub(crate) fn is_of_log_disk(self) -> bool {
        matches!(self, Self::FillLogDisk | Self::EmptyLogDisk)
    }
}

impl LoadSpec {
    /// Its shape within a step of `seconds`.
    pub(crate) fn offered(&self, seconds: f64) -> LoadShape {
        let seconds = seconds - self.after_seconds;
        match (self.rate, &self.phases, self.requests) {
            (Some(rate), _, _) => LoadShape::Open(Schedule::constant(rate, seconds)),
            (_, Some(phases), _) => LoadShape::Open(Schedule::new(phases.clone())),
            (_, _, Some(requests)) => LoadShape::Requests(requests),
            _ => LoadShape::Seconds(seconds),
        }
    }

    /// The client's timeout.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

impl Scenario {
    /// Reads the scenario `name` of a folder.
    pub(crate) fn read(folder: &Path, name: &str) -> Result<Self, ScenarioError> {
        let path = folder.join(format!("{name}.toml"));
        let text = fs::read_to_string(&path)
            .map_err(|cause| ScenarioError::Unreadable { path: path.clone(), cause })?;
        let scenario: Self =
            toml::from_str(&text).map_err(|cause| ScenarioError::Malformed { path: path.clone(), cause })?;
        match validation::find_inconsistency(&scenario) {
            Some(reason) => Err(ScenarioError::Inconsistent { path, reason }),
            None => Ok(scenario),
        }
    }

    /// The sorted names of the scenarios in a folder.
    pub(crate) fn names(folder: &Path) -> Result<Vec<String>, ScenarioError> {
        let unreadable = |cause| ScenarioError::Unreadable { path: folder.to_owned(), cause };
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
            }
        }
        Ok(names.into_iter().collect())
    }

    /// Scales the lengths of steps by `factor`. Rates stay, because the ranges depend on them.
    pub(crate) fn scaled(mut self, factor: f64) -> Self {
        for step in self.steps.iter_mut().filter(|step| !step.fixed) {
            let seconds = (step.seconds * factor).max(SECONDS_MIN.min(step.seconds));
            let factor = seconds / step.seconds;
            step.seconds = seconds;
            for event in &mut step.events {
                event.at_seconds *= factor;
            }
            for load in &mut step.loads {
                load.after_seconds *= factor;
                for phase in load.phases.iter_mut().flatten() {
                    phase.seconds *= factor;
                }
            }
        }
        for step in &mut self.steps {
            let count = |count: u64| ((count as f64 * factor).ceil() as u64).max(1);
            for load in &mut step.loads {
                load.requests = load.requests.map(count);
            }
            if let Some(storm) = &mut step.storm {
                storm.crashes = count(storm.crashes);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
    }

    pub(super) const SMALL: &str = "about = 'x'\n\
        [[upstream]]\nbucket = 'a'\nbehaviour = { kind = 'hang' }\n\
        [[step]]\nname = 's'\nseconds = 10\n\
        [[step.load]]\nname = 'l'\nbucket = 'a'\nrate = 5\nconnections = 1\n\
        [[step.event]]\nat_seconds = 5\nbucket = 'a'\naction = 'kill'\n\
        [[expect]]\nstatistic = 's.l.ok'\nmax = 0\nwhy = 'w'\n";

    #[test]
    fn every_scenario_of_the_folder_is_valid() {
        let names = Scenario::names(&folder()).unwrap();
        assert!(names.len() >= 7, "{names:?}");
        for name in names {
            let scenario = Scenario::read(&folder(), &name).unwrap_or_else(|error| panic!("{error}"));
            assert!(!scenario.expectations.is_empty(), "{name} has no expectations");
        }
    }

    #[test]
    fn scaling_keeps_rates_and_moves_events() {
        let scenario: Scenario = toml::from_str(SMALL).unwrap();
        let half = scenario.clone().scaled(0.5);
        assert_eq!((half.steps[0].seconds, half.steps[0].events[0].at_seconds), (5.0, 2.5));
        assert_eq!(half.steps[0].loads[0].rate, Some(5.0));
        assert_eq!(scenario.clone().scaled(0.001).steps[0].seconds, SECONDS_MIN);
        let fixed: Scenario =
            toml::from_str(&SMALL.replace("seconds = 10", "seconds = 10\nfixed = true")).unwrap();
        assert_eq!(fixed.scaled(0.5).steps[0].seconds, 10.0);
    }

    #[test]
    fn a_missing_scenario_names_its_file() {
        let error = Scenario::read(&folder(), "no-such-scenario").unwrap_err();
        assert!(error.to_string().contains("no-such-scenario.toml"), "{error}");
    }
}
