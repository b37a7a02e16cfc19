//! Idle connections close when descriptors or memory run short (X8): a step of `pressure.rs`.
//!
//! From `monitor.warning` percent of the descriptors on, as many client connections close as bring the count below `monitor.recover`
//! percent, those first that have been idle longest, on all workers together. Where too few are idle, idle upstream connections
//! close as well. From `monitor.warning` percent of the memory on, a part of the connections that have been idle for a while closes
//! with each sample, because they hold buffers.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use slog::{Logger, info};
use tidegate_actors::{MonitorView, Reading, Sensor, clock};
use tidegate_config::MonitorConfig;

use crate::http::idle_connections::{IDLE_MIN, IdleConnections};
use crate::worker::Worker;

/// Under memory pressure a connection that has been idle for less stays: its client is likely to use it again at once.
const MEMORY_IDLE_MIN: Duration = Duration::from_secs(1);
/// Under memory pressure one in so many idle connections closes with each sample.
const MEMORY_SHARE: usize = 8;

/// What the process closes for one sample of the monitor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct CloseTarget {
    /// Client connections that must close for want of descriptors.
    for_descriptors: usize,
    /// Whether connections close for want of memory.
    for_memory: bool,
}

impl CloseTarget {
    fn from_readings(readings: &[(&str, Reading)], config: &MonitorConfig) -> Self {
        let reading = |sensor: Sensor| {
            let found = readings.iter().find(|(name, _)| *name == sensor.as_str());
            match found {
                Some(&(_, Reading::Known { used, limit })) if limit > 0 => Some((used, limit)),
                _ => None,
            }
        };
        let is_warned = |(used, limit): (u64, u64)| is_over(used, limit, config.warning);
        let for_descriptors =
            reading(Sensor::Descriptors).filter(|reading| is_warned(*reading)).map_or(0, |(used, limit)| {
                let most = limit.saturating_mul(u64::from(config.recover)) / 100;
                usize::try_from(used.saturating_sub(most) + 1).unwrap_or(usize::MAX)
            });
        Self { for_descriptors, for_memory: reading(Sensor::Memory).is_some_and(is_warned) }
    }
}

fn is_over(used: u64, limit: u64, percent: u8) -> bool {
    u128::from(used) * 100 >= u128::from(limit) * u128::from(percent)
}

/// The state that all workers share.
pub(crate) struct IdleCloser {
    metrics: IdleCloseMetrics,
    last: Mutex<LastSample>,
}

/// What was done for the last sample.
#[derive(Default)]
struct LastSample {
    sampled: Option<Instant>,
    /// Whether too few clients were idle.
    needs_upstreams: bool,
    /// Connections closed since the log said that they close.
    closed_in_episode: Option<usize>,
}

/// Connections closed, by side and cause.
struct IdleCloseMetrics {
    descriptors: IntCounter,
    memory: IntCounter,
    over_budget: IntCounter,
    upstream: IntCounter,
}

impl IdleCloser {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "idle connections closed to free descriptors or memory";
        let family =
            IntCounterVec::new(Opts::new("idle_connections_closed_total", help), &["side", "cause"])?;
        registry.register(Box::new(family.clone()))?;
        let counter = |side: &str, cause: &str| family.with_label_values(&[side, cause]);
        let metrics = IdleCloseMetrics {
            descriptors: counter("client", "descriptors"),
            memory: counter("client", "memory"),
            over_budget: counter("client", "over_budget"),
            upstream: counter("upstream", "descriptors"),
        };
        Ok(Self { metrics, last: Mutex::default() })
    }

    /// Counts connections that the acceptor closed to accept others.
    pub(crate) fn count_closed_for_new(&self, count: usize) {
        self.metrics.over_budget.inc_by(count as u64);
    }

    /// Closes client connections, once per sample, whichever worker comes first. Returns whether this worker's idle upstream connections
    /// should close too.
    fn close_clients(
        &self,
        (relief, sampled): (CloseTarget, Option<Instant>),
        connections: &IdleConnections,
        log: &Logger,
    ) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.sampled == sampled {
            return last.needs_upstreams;
        }
        last.sampled = sampled;
        let mut closed = 0;
        last.needs_upstreams = false;
        if relief.for_descriptors > 0 {
            let closing = connections.close_oldest(relief.for_descriptors, IDLE_MIN, clock::now());
            self.metrics.descriptors.inc_by(closing.newly_closing as u64);
            last.needs_upstreams = closing.all < relief.for_descriptors;
            closed += closing.newly_closing;
        }
        if relief.for_memory {
            let count = connections.count().idle / MEMORY_SHARE + 1;
            let closing = connections.close_oldest(count, MEMORY_IDLE_MIN, clock::now());
            self.metrics.memory.inc_by(closing.newly_closing as u64);
            closed += closing.newly_closing;
        }
        last.log_transition(relief != CloseTarget::default(), closed, log);
        last.needs_upstreams
    }
}

impl LastSample {
    /// Logs the beginning and the end of an episode in which connections close.
    fn log_transition(&mut self, is_short: bool, closed: usize, log: &Logger) {
        match &mut self.closed_in_episode {
            None if closed > 0 => {
                info!(log, "idle connections close to free descriptors or memory"; "closed" => closed);
                self.closed_in_episode = Some(closed);
            }
            Some(sum) if is_short => *sum += closed,
            Some(sum) => {
                info!(log, "idle connections no longer close early"; "closed" => *sum);
                self.closed_in_episode = None;
            }
            None => {}
        }
    }
}

/// The step. Called on each worker with each sample.
pub(crate) fn close_idle(worker: &Worker, view: &MonitorView) {
    let shared = &worker.shared;
    let relief = CloseTarget::from_readings(&view.readings(), &shared.config.monitor);
    if shared.idle_relief.close_clients((relief, view.sampled), &shared.clients, &shared.log) {
        shared.idle_relief.metrics.upstream.inc_by(worker.close_idle_upstreams() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relief(descriptors: Reading, memory: Reading) -> CloseTarget {
        let readings = [(Sensor::Descriptors.as_str(), descriptors), (Sensor::Memory.as_str(), memory)];
        CloseTarget::from_readings(&readings, &MonitorConfig::default())
    }

    /// X8: from 80 % on as many as bring it below 80 %, and none below
    #[test]
    fn as_many_close_as_bring_it_below_the_warning() {
        let of = |used| relief(Reading::Known { used, limit: 200 }, Reading::Unknown).for_descriptors;
        assert_eq!((of(159), of(160), of(170), of(250)), (0, 1, 11, 91));
        assert_eq!(relief(Reading::Unknown, Reading::Unknown), CloseTarget::default());
    }

    /// X8
    #[test]
    fn memory_counts_as_well() {
        let of = |used| relief(Reading::Unknown, Reading::Known { used, limit: 1 << 30 }).for_memory;
        assert!(!of(700 << 20) && of(820 << 20));
    }
}
