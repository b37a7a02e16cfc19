//! Compares tidegate with other proxies: same upstreams, same guards, same load, one after another in random order.
//!
//! All proxies of one transport run during all workloads of that transport, but only one is under load. Rounds are interleaved, so that
//! other activity of the machine affects all proxies alike. A round with too much other activity is discarded and repeated. CPU time per
//! request depends least on other activity. Latency and throughput share the machine with the load generator and the upstreams, and are
//! comparable within one run only.

mod haproxy;
mod nginx;
mod peer;
mod table;
mod workload;

use std::path::PathBuf;

use rand::seq::SliceRandom as _;
use serde::Serialize;

use crate::certificate::Certificate;
use crate::process::RunDirectory;
use crate::run::RunError;
use peer::{ComparedProxy, SharedUpstreams};
pub(crate) use peer::{ProxyRoute, ProxyTransport, single_nginx};
pub(crate) use table::markdown;
use workload::{TlsClients, Workload};

/// Parameters of a comparison.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// The gateway's binary.
    pub(crate) binary: PathBuf,
    /// Number of valid rounds.
    pub(crate) rounds: usize,
    /// Length of one measurement, in seconds.
    pub(crate) seconds: f64,
    /// A measurement is repeated if unrelated processes used more cores than this.
    pub(crate) other_cores_max: f64,
    /// Names of workloads; empty for all.
    pub(crate) only: Vec<String>,
}

/// One measurement.
#[derive(Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) workload: String,
    pub(crate) proxy: String,
    pub(crate) other_cores: f64,
    pub(crate) counts: bool,
    pub(crate) statistics: crate::statistics::Statistics,
}

/// What the workloads of one transport share.
struct TestBed<'a> {
    upstreams: &'a SharedUpstreams,
    peers: &'a [ComparedProxy],
    clients: &'a TlsClients,
}

/// Runs the comparison.
pub(crate) fn run(comparison: &Comparison) -> Result<Vec<Round>, RunError> {
    let directory = RunDirectory::create("compare")?;
    let upstreams = SharedUpstreams::start()?;
    let certificate = Certificate::create(directory.path())?;
    let clients = TlsClients::of(&certificate)?;
    let mut results = Vec::new();
    for transport in [ProxyTransport::Cleartext, ProxyTransport::Tls(&certificate)] {
        let is_due = |workload: &&Workload| {
            comparison.is_selected(workload) && workload.protocol.is_tls() == transport.is_tls()
        };
        let workloads: Vec<_> = workload::ALL.iter().filter(is_due).collect();
        if workloads.is_empty() {
            continue;
        }
        let home = directory.path().join(transport.folder());
        std::fs::create_dir_all(&home)?;
        let peers = ComparedProxy::start_all(&comparison.binary, &home, &upstreams, transport)?;
        for workload in workloads {
            let bed = TestBed { upstreams: &upstreams, peers: &peers, clients: &clients };
            results.extend(comparison.workload(workload, &bed)?);
        }
    }
    directory.discard();
    Ok(results)
}

impl Comparison {
    fn is_selected(&self, workload: &Workload) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == workload.name)
    }

    /// Measures every proxy once per round, until enough rounds are valid or twice as many were tried.
    fn workload(&self, workload: &Workload, bed: &TestBed<'_>) -> Result<Vec<Round>, RunError> {
        let mut results: Vec<Round> = Vec::new();
        for attempt in 0..self.rounds * 2 {
            let counted = |peer: &ComparedProxy| {
                results.iter().filter(|round| round.counts && round.proxy == peer.name).count()
            };
            let mut due: Vec<_> = bed.peers.iter().filter(|peer| counted(peer) < self.rounds).collect();
            if due.is_empty() {
                break;
            }
            due.shuffle(&mut rand::rng());
            for peer in due {
                let mut round = workload.measure(bed.upstreams, peer, bed.clients, self.seconds)?;
                round.counts = round.other_cores <= self.other_cores_max;
                eprintln!("{}", progress(&round, attempt));
                results.push(round);
            }
        }
        Ok(results)
    }
}

fn progress(round: &Round, attempt: usize) -> String {
    let cpu = round.statistics.value("cpu_us").unwrap_or(0.0);
    let goodput = round.statistics.value("goodput_per_s").unwrap_or(0.0);
    let note = if round.counts { "" } else { ", discarded: unrelated processes were busy" };
    format!("{} round {} {}: {goodput:.0}/s, {cpu:.1} µs{note}", round.workload, attempt + 1, round.proxy)
}
