//! The workloads of a comparison, and the measurement of one workload with one proxy.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::LocalSet;

use super::Round;
use super::peer::{CAPPED, ComparedProxy, SharedUpstreams};
use crate::client::{BodyCapture, Request};
use crate::load::{self, Load, LoadShape};
use crate::recorder::Recorder;
use crate::run::{RunError, unless_interrupted};
use crate::schedule::Schedule;
use crate::statistics::Statistics;
use crate::usage;

const WARM_SECONDS: f64 = 0.5;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Rate of the load.
pub(super) enum LoadRate {
    /// Open loop with this rate per second.
    PerSecond(f64),
    /// Closed loop.
    Closed,
}

/// One workload.
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    route: &'static str,
    upload_bytes: u64,
    pace: LoadRate,
    connections: usize,
}

/// All workloads, in the order of the report.
pub(super) const ALL: [Workload; 5] = [
    Workload {
        name: "steady",
        about: "1 KiB objects, open loop at 2,000/s",
        route: "small",
        upload_bytes: 0,
        pace: LoadRate::PerSecond(2_000.0),
        connections: 64,
    },
    Workload {
        name: "saturated",
        about: "1 KiB objects, 64 connections, closed loop",
        route: "small",
        upload_bytes: 0,
        pace: LoadRate::Closed,
        connections: 64,
    },
    Workload {
        name: "large",
        about: "64 KiB objects, 64 connections, closed loop",
        route: "large",
        upload_bytes: 0,
        pace: LoadRate::Closed,
        connections: 64,
    },
    Workload {
        name: "upload",
        about: "1 MiB uploads, 16 connections, closed loop",
        route: "sink",
        upload_bytes: 1 << 20,
        pace: LoadRate::Closed,
        connections: 16,
    },
    Workload {
        name: "overload",
        about: "1,500/s to an upstream that can do 500/s (10 at a time, 20 ms each)",
        route: CAPPED,
        upload_bytes: 0,
        pace: LoadRate::PerSecond(1_500.0),
        connections: 4_000,
    },
];

impl Workload {
    pub(super) fn is_overload(&self) -> bool {
        self.route == CAPPED
    }

    /// Offers the load for `seconds` after a short warm-up.
    pub(super) fn measure(
        &self,
        upstreams: &SharedUpstreams,
        peer: &ComparedProxy,
        seconds: f64,
    ) -> Result<Round, RunError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let offer = |seconds: f64| -> Result<Rc<RefCell<Recorder>>, RunError> {
            let recorder = Rc::new(RefCell::new(Recorder::new()));
            let offered = load::run_load(self.load(peer, seconds), Rc::clone(&recorder));
            LocalSet::new().block_on(&runtime, unless_interrupted(offered))??;
            Ok(recorder)
        };
        offer(WARM_SECONDS)?;
        let upstream = upstreams.upstream(self.route)?;
        upstream.counters.reset();
        let processes = usage::tree(peer.id());
        let window = usage::CpuWindow::begin(usage::tree(std::process::id()));
        let cpu_begin = usage::cpu_seconds(&processes);
        let recorder = offer(seconds)?;
        let cpu_seconds = usage::cpu_seconds(&processes) - cpu_begin;
        let other_cores = window.other_cores();
        let mut all = Statistics::default();
        let recorder = recorder.borrow();
        recorder.summarize("x", &mut all);
        let mut statistics = Statistics::default();
        for (name, value) in all.iter() {
            statistics.set(name.trim_start_matches("x."), value);
        }
        statistics.set("cpu_us", cpu_seconds * 1e6 / recorder.done().max(1) as f64);
        statistics.set("upstream_peak", upstream.counters.peak() as f64);
        statistics.set("rss_mib", usage::rss_mib(&processes));
        let (workload, proxy) = (self.name.to_owned(), peer.name.to_owned());
        Ok(Round { workload, proxy, other_cores, counts: true, statistics })
    }

    fn load(&self, peer: &ComparedProxy, seconds: f64) -> Load {
        let method = if self.upload_bytes > 0 { "PUT" } else { "GET" };
        let path = format!("/{}/object", self.route);
        Load {
            destination: peer.address.into(),
            requests: Request::new(method, peer.address, &path, self.upload_bytes, BodyCapture::CountBytes)
                .into(),
            shape: match self.pace {
                LoadRate::PerSecond(rate) => LoadShape::Open(Schedule::constant(rate, seconds)),
                LoadRate::Closed => LoadShape::Seconds(seconds),
            },
            connections: self.connections,
            timeout: REQUEST_TIMEOUT,
            expected: None,
            recovery_allowance: None,
            pause: Duration::ZERO,
            pause_after_refusal: Duration::ZERO,
            hang_up_after: None,
            new_connections: false,
            checks: Rc::default(),
        }
    }
}
