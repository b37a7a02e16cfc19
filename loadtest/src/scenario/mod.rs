//! Scenarios as data: the gateway's configuration, its upstreams, the load, and the expected ranges.
//!
//! A scenario is one TOML file; a new one needs no code. Errors in a file are found when it is read, before any load.

mod event;
mod load;
mod validation;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

pub(crate) use event::{Action, Event};
pub(crate) use load::LoadSpec;

use crate::configuration::{OverlaySpec, RepeatedSpec};
use crate::container::ContainerSpec;
use crate::expectation::Expectation;
use crate::gateway::merge;
use crate::hostile::HostileSpec;
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
    /// This scenario has the gateway, configurations, upstreams and loads of that one.
    based_on: Option<String>,
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
    /// Overlays over the gateway's configuration, which reloads install in rotation. It starts with the first one.
    #[serde(default, rename = "configuration")]
    pub(crate) overlays: Vec<OverlaySpec>,
    /// Sections that are repeated, such as thousands of keys.
    #[serde(default)]
    pub(crate) repeated: Vec<RepeatedSpec>,
    /// The upstreams, one for each bucket.
    #[serde(default, rename = "upstream")]
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
    /// The step has the loads of this other step.
    pub(crate) loads_of: Option<String>,
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

impl Scenario {
    /// Reads the scenario `name` of a folder.
    pub(crate) fn read(folder: &Path, name: &str) -> Result<Self, ScenarioError> {
        let path = path_of(folder, name);
        let text = fs::read_to_string(&path)
            .map_err(|cause| ScenarioError::Unreadable { path: path.clone(), cause })?;
        let mut scenario: Self =
            toml::from_str(&text).map_err(|cause| ScenarioError::Malformed { path: path.clone(), cause })?;
        if let Some(base) = scenario.based_on.take() {
            scenario = scenario.over(Self::read(folder, &base)?);
        }
        let steps = scenario.steps.clone();
        scenario.copy_loads(&steps);
        match validation::find_inconsistency(&scenario) {
            Some(reason) => Err(ScenarioError::Inconsistent { path, reason }),
            None => Ok(scenario),
        }
    }

    /// This scenario with the gateway, configurations, upstreams and loads of another one.
    fn over(mut self, base: Self) -> Self {
        merge(&mut self.gateway, &base.gateway);
        self.metrics.extend(base.metrics);
        self.overlays = base.overlays;
        self.repeated = base.repeated;
        self.upstreams = base.upstreams;
        self.copy_loads(&base.steps);
        self
    }

    /// Gives steps without loads those of the step that they name.
    fn copy_loads(&mut self, from: &[Step]) {
        for step in self.steps.iter_mut().filter(|step| step.loads.is_empty()) {
            let named = from.iter().find(|other| Some(&other.name) == step.loads_of.as_ref());
            step.loads = named.map(|named| named.loads.clone()).unwrap_or_default();
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
                event.times = ((event.times as f64 * factor).ceil() as u64).max(1);
            }
            for load in &mut step.loads {
                load.after_seconds *= factor;
                for phase in load.phases.iter_mut().flatten() {
                    phase.seconds *= factor;
                }
            }
        }
        for step in self.steps.iter_mut() {
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

    /// Multiplies the rates of open loops by `factor`.
    pub(crate) fn with_rates(mut self, factor: f64) -> Self {
        for load in self.steps.iter_mut().flat_map(|step| &mut step.loads) {
            load.rate = load.rate.map(|rate| rate * factor);
            for phase in load.phases.iter_mut().flatten() {
                phase.rate *= factor;
            }
        }
        self
    }
}

fn path_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.toml"))
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
    fn a_scenario_has_the_gateway_and_the_loads_of_its_base() {
        let (base, over) = (Scenario::read(&folder(), "reloads"), Scenario::read(&folder(), "upgrades"));
        let (base, over) = (base.unwrap(), over.unwrap());
        assert_eq!((over.upstreams.len(), over.overlays.len()), (base.upstreams.len(), base.overlays.len()));
        let loads = |scenario: &Scenario, step: &str| {
            scenario.steps.iter().find(|one| one.name == step).unwrap().loads.len()
        };
        assert_eq!(loads(&over, "upgrades"), loads(&base, "reloads"));
        assert_eq!(loads(&base, "warm"), loads(&base, "reloads"));
        assert_eq!(loads(&base, "before"), 0);
        let rate = |scenario: &Scenario| scenario.steps[0].loads[0].rate.unwrap();
        let full = rate(&base);
        assert_eq!(rate(&base.with_rates(0.1)), full * 0.1);
    }

    #[test]
    fn a_missing_scenario_names_its_file() {
        let error = Scenario::read(&folder(), "no-such-scenario").unwrap_err();
        assert!(error.to_string().contains("no-such-scenario.toml"), "{error}");
    }
}
