//! Takes readings of the gateway under load: memory, descriptors, metrics, and for a gateway in a container its status document.
//!
//! It runs on a separate thread with blocking calls, so that reading `/proc` never delays a request. Each step of a scenario begins and
//! ends with a reading, so that differences over a step are exact.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, str};

use serde::Serialize;

use crate::container::CgroupMeter;
use crate::process::ServingId;
use crate::statistics::{Statistics, growth_percent};
use crate::status::{self, StatusReading};
use crate::{admin_call, clock, usage};

const INTERVAL: Duration = Duration::from_millis(250);
/// Three hours of readings. A longer run keeps only the first ones and those at the boundaries of steps.
const READINGS_MAX: usize = 40_000;
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(2);

/// One reading.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Reading {
    /// Seconds since the sampler began.
    pub(crate) seconds: f64,
    /// The current step.
    pub(crate) step: String,
    /// The round, from 0.
    pub(crate) round: usize,
    /// Resident memory.
    pub(crate) rss_mib: f64,
    /// Open descriptors.
    pub(crate) descriptors: f64,
    /// Threads.
    pub(crate) threads: f64,
    /// The requested metrics, summed over their labels; a metric that the gateway does not export is absent.
    pub(crate) metrics: BTreeMap<String, f64>,
    /// Memory of the container, and its number of OOM kills.
    pub(crate) container: Option<ContainerReading>,
    /// The status document, in a step that reads it.
    pub(crate) status: Option<StatusReading>,
}

/// The metrics that count connections to upstreams.
const UPSTREAM_CONNECTIONS: [&str; 2] = ["tidegate_connection_pool_active", "tidegate_connection_pool_idle"];

impl Reading {
    /// Open descriptors without the connections to upstreams, if both counts of these are sampled. Idle ones come and go.
    fn own_descriptors(&self) -> Option<f64> {
        let connections = UPSTREAM_CONNECTIONS.map(|name| self.metrics.get(name).copied());
        let [Some(active), Some(idle)] = connections else { return None };
        Some(self.descriptors - active - idle)
    }
}

/// The kernel's counts for the container.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct ContainerReading {
    /// Memory that counts against the limit.
    pub(crate) usage_mib: f64,
    /// Count since the start of the container.
    pub(crate) oom_kills: f64,
}

enum SamplerCommand {
    /// Take a reading immediately and confirm it. This and later readings belong to the step.
    Mark(StepMark, Sender<()>),
    /// Send all readings and end.
    Finish(Sender<Vec<Reading>>),
}

/// A step, and what is read during it.
#[derive(Debug, Clone, Default)]
pub(crate) struct StepMark {
    /// Its name.
    pub(crate) step: String,
    /// The round, from 0.
    pub(crate) round: usize,
    /// Whether the status document is read.
    pub(crate) with_status: bool,
}

/// The process to read, and its metrics.
pub(crate) struct SampledGateway {
    /// The gateway.
    pub(crate) process: ServingId,
    /// Its admin listener.
    pub(crate) admin: SocketAddr,
    /// Names of metrics.
    pub(crate) metrics: Vec<String>,
    /// Its memory cgroup, if it runs in a container. Its status document is read then, too.
    pub(crate) meter: Option<CgroupMeter>,
}

/// Handle of the sampler thread.
pub(crate) struct Sampler {
    commands: Sender<SamplerCommand>,
    thread: JoinHandle<()>,
}

impl Sampler {
    /// Starts the thread.
    pub(crate) fn start(subject: SampledGateway) -> io::Result<Self> {
        let (commands, receiver) = mpsc::channel();
        let thread =
            std::thread::Builder::new().name("sampler".to_owned()).spawn(move || run(&subject, &receiver))?;
        Ok(Self { commands, thread })
    }

    /// Takes a reading now. It and the following ones belong to the step.
    pub(crate) fn mark(&self, mark: StepMark) {
        let (done, is_done) = mpsc::channel();
        if self.commands.send(SamplerCommand::Mark(mark, done)).is_ok() {
            // An error means that the thread has ended; `finish` then returns no readings.
            let _ = is_done.recv();
        }
    }

    /// All readings, in order.
    pub(crate) fn finish(self) -> Vec<Reading> {
        let (done, is_done) = mpsc::channel();
        let sent = self.commands.send(SamplerCommand::Finish(done));
        let readings = sent.ok().and_then(|()| is_done.recv().ok()).unwrap_or_default();
        let _ = self.thread.join();
        readings
    }
}

fn run(subject: &SampledGateway, receiver: &Receiver<SamplerCommand>) {
    let begin = clock::now();
    let mut readings = Vec::new();
    let mut mark = StepMark::default();
    loop {
        match receiver.recv_timeout(INTERVAL) {
            Ok(SamplerCommand::Mark(next, done)) => {
                mark = next;
                readings.push(read(subject, &mark, begin.elapsed()));
                // An error means that the sender no longer waits.
                let _ = done.send(());
            }
            Ok(SamplerCommand::Finish(done)) => {
                let _ = done.send(readings);
                return;
            }
            Err(RecvTimeoutError::Timeout) if !mark.step.is_empty() && readings.len() < READINGS_MAX => {
                readings.push(read(subject, &mark, begin.elapsed()));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn read(subject: &SampledGateway, mark: &StepMark, since: Duration) -> Reading {
    let StepMark { step, round, with_status } = mark;
    let processes = [subject.process.get()];
    let text =
        if subject.metrics.is_empty() { String::new() } else { scrape(subject.admin).unwrap_or_default() };
    let sums = subject.metrics.iter().filter_map(|name| Some((name.clone(), sum_of(&text, name)?)));
    Reading {
        seconds: since.as_secs_f64(),
        step: step.clone(),
        round: *round,
        rss_mib: usage::rss_mib(&processes),
        descriptors: usage::descriptors(&processes),
        threads: usage::threads(&processes),
        metrics: sums.collect(),
        container: subject.meter.as_ref().and_then(container),
        status: (*with_status || subject.meter.is_some()).then(|| status::read(subject.admin)),
    }
}

fn container(meter: &CgroupMeter) -> Option<ContainerReading> {
    Some(ContainerReading { usage_mib: meter.usage_mib()?, oom_kills: meter.oom_kills()? })
}

fn scrape(admin: SocketAddr) -> io::Result<String> {
    admin_call::get(admin, "/metrics", SCRAPE_TIMEOUT)
}

/// The sum of a metric over its labels, from Prometheus text; none if it is absent.
fn sum_of(text: &str, name: &str) -> Option<f64> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.as_bytes().first()? {
            b' ' => rest,
            b'{' => rest.rsplit_once('}')?.1,
            _ => return None,
        };
        value.split_whitespace().next()?.parse::<f64>().ok()
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

/// Writes the statistics of one step's readings, such as `STEP.rss_mib_max`.
pub(crate) fn summarize(readings: &[Reading], step: &str, round: usize, into: &mut Statistics) {
    let of_step: Vec<_> =
        readings.iter().filter(|reading| reading.step == step && reading.round == round).collect();
    let rss: Vec<_> = of_step.iter().map(|reading| reading.rss_mib).collect();
    let descriptors: Vec<_> = of_step.iter().map(|reading| reading.descriptors).collect();
    into.set_spread(&format!("{step}.rss_mib"), &rss);
    into.set_spread(&format!("{step}.descriptors"), &descriptors);
    let own: Vec<_> = of_step.iter().filter_map(|reading| reading.own_descriptors()).collect();
    into.set_spread(&format!("{step}.own_descriptors"), &own);
    let threads: Vec<_> = of_step.iter().map(|reading| reading.threads).collect();
    into.set_spread(&format!("{step}.threads"), &threads);
    let container: Vec<_> = of_step.iter().filter_map(|reading| reading.container).collect();
    let usage: Vec<_> = container.iter().map(|reading| reading.usage_mib).collect();
    let oom_kills: Vec<_> = container.iter().map(|reading| reading.oom_kills).collect();
    into.set_spread(&format!("{step}.cgroup_mib"), &usage);
    into.set_spread(&format!("{step}.oom_kills"), &oom_kills);
    let status: Vec<_> = of_step.iter().filter_map(|reading| reading.status.as_ref()).collect();
    status::summarize(&status, step, into);
    into.set_if_present(format!("{step}.rss_growth_percent"), growth_percent(&rss));
    let names = of_step.iter().flat_map(|reading| reading.metrics.keys());
    for name in names.collect::<std::collections::BTreeSet<_>>() {
        let values: Vec<_> =
            of_step.iter().filter_map(|reading| reading.metrics.get(name).copied()).collect();
        into.set_spread(&format!("{step}.metric.{name}"), &values);
        // A counter with labels is absent until its first event, so absent counts as 0.
        let first = of_step.first().map(|reading| reading.metrics.get(name).copied().unwrap_or(0.0));
        let rise = first.zip(values.last()).map(|(first, last)| last - first);
        into.set_if_present(format!("{step}.metric.{name}_rise"), rise);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_not_mixed_with_its_namesakes() {
        let text = "# TYPE opened_total counter\nopened_total{bucket=\"a b\"} 2\nopened_total{bucket=\"c\"} 3\n\
                    opened_total_created 99\nup 1\n";
        assert_eq!(sum_of(text, "opened_total"), Some(5.0));
        assert_eq!(sum_of(text, "up"), Some(1.0));
        assert_eq!(sum_of(text, "opened"), None);
    }

    #[test]
    fn a_step_has_its_own_readings_and_a_counter_that_appears_rises_from_zero() {
        let reading = |step: &str, rss_mib, opened: Option<f64>| Reading {
            seconds: 0.0,
            step: step.to_owned(),
            round: 0,
            rss_mib,
            descriptors: 10.0,
            threads: 3.0,
            container: Some(ContainerReading { usage_mib: rss_mib + 1.0, oom_kills: 0.0 }),
            status: None,
            metrics: opened.map(|value| ("opened_total".to_owned(), value)).into_iter().collect(),
        };
        let mut readings =
            [reading("a", 90.0, None), reading("b", 20.0, None), reading("b", 30.0, Some(2.0))];
        for (name, count) in UPSTREAM_CONNECTIONS.iter().zip([1.0, 4.0]) {
            readings[2].metrics.insert((*name).to_owned(), count);
        }
        let mut statistics = Statistics::default();
        summarize(&readings, "b", 0, &mut statistics);
        assert_eq!(statistics.value("b.rss_mib_max"), Some(30.0));
        assert_eq!(statistics.value("b.cgroup_mib_max"), Some(31.0));
        assert_eq!(statistics.value("b.oom_kills_last"), Some(0.0));
        assert_eq!(statistics.value("b.metric.opened_total_rise"), Some(2.0));
        assert_eq!(statistics.value("b.own_descriptors_max"), Some(5.0));
        assert_eq!(statistics.value("a.rss_mib_max"), None);
    }
}
