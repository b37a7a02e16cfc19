//! One step of a scenario: all its loads at once, events and crashes meanwhile, and the numbers at its end.
//!
//! Statistics are named STEP.LOAD.WHAT for loads, STEP.WHAT for the gateway's process and metrics,
//! STEP.upstream.BUCKET.WHAT for upstreams and STEP.storm.WHAT for crashes.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::certificate::Certificate;
use crate::client::{Keep, Request};
use crate::destination::Destination;
use crate::gateway::Gateway;
use crate::hostile::{Hostile, Target};
use crate::load::{self, Load};
use crate::progress;
use crate::recorder::Recorder;
use crate::run::{RunError, unless_interrupted};
use crate::sampler::Sampler;
use crate::scenario::{Action, LoadSpec, Step};
use crate::statistics::Statistics;
use crate::storm::{self, StormReport};
use crate::upstream::{Upstream, Upstreams};
use crate::{clock, pattern, usage};

/// The parts of a run that its steps use; the gateway ends before what it talks to.
pub(crate) struct Stage {
    pub(crate) gateway: Gateway,
    pub(crate) sampler: Sampler,
    pub(crate) upstreams: Upstreams,
    /// Where the gateway speaks TLS.
    pub(crate) certificate: Option<Certificate>,
}

/// A load of the step under way.
pub(crate) struct Offering {
    pub(crate) name: String,
    pub(crate) recorder: Rc<RefCell<Recorder>>,
}

/// What a step measures while it runs.
pub(crate) struct Tallies {
    pub(crate) step: String,
    pub(crate) begin: Instant,
    pub(crate) offerings: Vec<Offering>,
    pub(crate) storm: RefCell<StormReport>,
}

impl Stage {
    /// Plays `step` to its end.
    pub(crate) async fn play(
        &self,
        step: &Step,
        round: usize,
        into: &mut Statistics,
    ) -> Result<(), RunError> {
        self.upstreams.iter().for_each(|(_, upstream)| upstream.seen.reset());
        let mut loads = Vec::new();
        for spec in &step.loads {
            loads.push((spec.after_seconds, self.load(spec, step.seconds)?));
        }
        let hostile = Hostile::start(&step.hostile, self.target()?)?;
        let window = usage::Window::begin(usage::tree(std::process::id()));
        self.sampler.mark(&step.name, round);
        let mut tallies = Tallies {
            step: step.name.clone(),
            begin: clock::now(),
            offerings: Vec::new(),
            storm: RefCell::default(),
        };
        let mut running = JoinSet::new();
        for ((after_seconds, load), spec) in loads.into_iter().zip(&step.loads) {
            let recorder = Rc::new(RefCell::new(Recorder::new()));
            let start = tallies.begin + Duration::from_secs_f64(after_seconds);
            let name = spec.name.clone();
            tallies.offerings.push(Offering { name, recorder: Rc::clone(&recorder) });
            running.spawn_local(async move {
                tokio::time::sleep_until(start.into()).await;
                load::offer(load, recorder).await
            });
        }
        tokio::select! {
            done = unless_interrupted(self.finish(step, &tallies, running)) => done??,
            never = progress::show(&tallies, self.gateway.id()) => match never {},
        }
        self.sampler.mark(&step.name, round);
        hostile.map(|hostile| hostile.finish(&step.name, into)).transpose()?;
        into.set(format!("{}.other_cores", step.name), window.other_cores());
        self.summarize(step, &tallies, into);
        Ok(())
    }

    /// How hostile clients reach the gateway.
    fn target(&self) -> Result<Target, RunError> {
        let address = self.gateway.address;
        let both = |certificate: &Certificate| {
            Ok::<_, RunError>([certificate.client("http/1.1")?, certificate.client("h2")?])
        };
        Ok(Target { address, tls: self.certificate.as_ref().map(both).transpose()? })
    }

    fn load(&self, spec: &LoadSpec, seconds: f64) -> Result<Load, RunError> {
        let keep = match (&spec.verify_bytes, spec.method.as_str()) {
            (None, _) => Keep::Count,
            (Some(_), "GET") => Keep::Digest,
            (Some(_), _) => Keep::Text,
        };
        let path = format!("/{}/object", spec.bucket);
        let bare = Request::new(&spec.method, self.gateway.address, &path, spec.body_bytes.0, keep);
        let tls = self.certificate.as_ref().map(|certificate| certificate.client("http/1.1")).transpose()?;
        let source = spec.source;
        Ok(Load {
            destination: Destination { source, tls, ..Destination::from(self.gateway.address) },
            request: spec.headers.iter().fold(bare, |request, (name, value)| request.with(name, value)),
            offered: spec.offered(seconds),
            connections: spec.connections,
            timeout: spec.timeout(),
            expected: spec.verify_bytes.map(|bytes| pattern::digest(bytes.0)),
            settles_within: spec.settle_seconds.map(Duration::from_secs_f64),
            hang_up_after: spec.hang_up_after_bytes.map(|bytes| bytes.0),
        })
    }

    /// Waits for loads, events and storm, whichever takes longest; without any load, for the step's length.
    async fn finish(
        &self,
        step: &Step,
        tallies: &Tallies,
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
                Some(spec) => storm::rage(spec, self.gateway.address, self.gateway.admin, &tallies.storm)
                    .await
                    .map_err(RunError::from),
                None => Ok(()),
            }
        };
        tokio::try_join!(loads, idle, storm, self.events(step, tallies)).map(|_| ())
    }

    async fn events(&self, step: &Step, tallies: &Tallies) -> Result<(), RunError> {
        for event in &step.events {
            let at = tallies.begin + Duration::from_secs_f64(event.at_seconds);
            tokio::time::sleep_until(at.into()).await;
            let upstream = self.upstream(&event.bucket)?;
            match event.action {
                Action::Kill => self.upstreams.kill(upstream).await?,
                Action::Restore => self.upstreams.restore(upstream).await?,
            }
            for offering in &tallies.offerings {
                offering.recorder.borrow_mut().mark(event.action.name(), clock::now());
            }
        }
        Ok(())
    }

    fn upstream(&self, bucket: &str) -> Result<&Upstream, RunError> {
        self.upstreams.named(bucket).ok_or_else(|| RunError::Upstream(bucket.to_owned()))
    }

    fn summarize(&self, step: &Step, tallies: &Tallies, into: &mut Statistics) {
        let step_name = &step.name;
        let mut lost_total = tallies.storm.borrow().probes_lost();
        for offering in &tallies.offerings {
            let recorder = offering.recorder.borrow();
            recorder.summarize(&format!("{step_name}.{}", offering.name), into);
            lost_total += recorder.lost();
        }
        into.set(format!("{step_name}.lost_total"), lost_total as f64);
        if step.storm.is_some() {
            tallies.storm.borrow().summarize(&format!("{step_name}.storm"), into);
        }
        for (bucket, upstream) in self.upstreams.iter() {
            let prefix = format!("{step_name}.upstream.{bucket}");
            into.set(format!("{prefix}.requests"), upstream.seen.requests() as f64);
            into.set(format!("{prefix}.peak"), upstream.seen.peak() as f64);
            into.set(format!("{prefix}.peak_per_s"), upstream.seen.peak_per_second() as f64);
        }
    }
}
