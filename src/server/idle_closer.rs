//! Closes idle connections when descriptors or memory run short (X8): a step of `pressure`.
//!
//! While the action `idle_connections` is in force and the descriptors are at or above the threshold of its level (`monitor.warning`),
//! client connections close until the count is below the end of the level (`monitor.recover`), on all workers together. Those that have
//! been idle longest close first. If too few close, the action `idle_upstreams` closes idle upstream connections as well. While the
//! memory is at or above the threshold, each sample closes a part of the idle client connections, because they hold buffers; about half
//! of them close in a second. Shadow mode counts each connection once.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use slog::{Logger, info};
use tidegate_actors::{Action, InForce, Level, MonitorView, OverloadActions, Reading, Sensor, clock};
use tidegate_config::MonitorConfig;

use crate::server::idle_connections::{IDLE_MIN, IdleConnections};

/// Under memory pressure a connection that has been idle for less time stays open: its client is likely to use it again soon.
const MEMORY_IDLE_MIN: Duration = Duration::from_secs(1);
/// Under memory pressure a sample closes the part of the idle connections that its interval is of this time.
const MEMORY_CLOSE_TIME: Duration = Duration::from_secs(2);

/// Connections that the process must close for one sample of the monitor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct CloseTarget {
    /// Number of client connections to close because of descriptors.
    for_descriptors: usize,
    /// Whether connections close because of memory.
    for_memory: bool,
}

impl CloseTarget {
    fn from_readings(of: impl Fn(Sensor) -> Reading, config: &MonitorConfig, on_level: Level) -> Self {
        let reading = |sensor: Sensor| match of(sensor) {
            Reading::Known { used, limit } if limit > 0 => Some((used, limit)),
            _ => None,
        };
        let begins_at = on_level.begins_at(config);
        let is_short = |(used, limit): (u64, u64)| is_over(used, limit, begins_at);
        let for_descriptors =
            reading(Sensor::Descriptors).filter(|reading| is_short(*reading)).map_or(0, |(used, limit)| {
                let most = limit.saturating_mul(u64::from(on_level.ends_below(config))) / 100;
                usize::try_from(used.saturating_sub(most) + 1).unwrap_or(usize::MAX)
            });
        Self { for_descriptors, for_memory: reading(Sensor::Memory).is_some_and(is_short) }
    }
}

fn is_over(used: u64, limit: u64, percent: u8) -> bool {
    u128::from(used) * 100 >= u128::from(limit) * u128::from(percent)
}

/// The result of a sample for one worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct IdleClosing {
    /// Client connections that this worker has closed, or in shadow mode would have closed.
    pub(crate) clients: usize,
    /// What this worker does with its idle upstream connections: it closes them, or counts those of all workers.
    pub(crate) upstreams: Option<InForce>,
}

/// The levels of both actions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdleLevels {
    clients: Level,
    upstreams: Level,
}

impl IdleLevels {
    pub(crate) fn of(actions: &OverloadActions) -> Self {
        let level = |action| actions.rule(action).on_level;
        Self { clients: level(Action::IdleConnections), upstreams: level(Action::IdleUpstreams) }
    }
}

/// The state that all workers share.
pub(crate) struct IdleCloser {
    metrics: IdleCloseMetrics,
    last: Mutex<LastSample>,
}

/// Result of the last sample.
#[derive(Default)]
struct LastSample {
    sampled: Option<Instant>,
    /// Whether too few clients were idle, and how the action `idle_upstreams` acts.
    upstreams: Option<InForce>,
    /// Shadow mode: the most idle upstream connections since they are needed.
    counted_upstreams: usize,
    /// Connections closed since the log message about the start of the episode.
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

    /// Closes client connections for a sample: on the first worker that calls it with the sample.
    pub(crate) fn close_idle(
        &self,
        view: &MonitorView,
        (config, levels): (&MonitorConfig, IdleLevels),
        connections: &IdleConnections,
        log: &Logger,
    ) -> IdleClosing {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.sampled == view.sampled {
            // Each worker closes its own. One counts those of all.
            let upstreams = last.upstreams.filter(|in_force| *in_force == InForce::Enforced);
            return IdleClosing { clients: 0, upstreams };
        }
        let interval = last.interval_until(view.sampled);
        last.sampled = view.sampled;
        let target = |on_level| CloseTarget::from_readings(|sensor| view.reading(sensor), config, on_level);
        let mut closing = 0;
        let clients;
        let in_force = view.actions.check(Action::IdleConnections);
        let of_clients = in_force.map_or(CloseTarget::default(), |_| target(levels.clients));
        if in_force == Some(InForce::Shadow) {
            clients = count_clients(of_clients, interval, connections);
        } else {
            (clients, closing) = self.close_clients(of_clients, interval, connections);
            last.log_transition(of_clients != CloseTarget::default(), clients, log);
        }
        let is_needed = |_: &InForce| target(levels.upstreams).for_descriptors > closing;
        last.upstreams = view.actions.check(Action::IdleUpstreams).filter(is_needed);
        if last.upstreams.is_none() {
            last.counted_upstreams = 0;
        }
        IdleClosing { clients, upstreams: last.upstreams }
    }

    /// Counts idle connections to upstreams that a worker closed.
    pub(crate) fn count_closed_upstreams(&self, count: usize) {
        self.metrics.upstream.inc_by(count as u64);
    }

    /// Counts in shadow mode. Returns the idle upstream connections beyond the highest number of this shortage.
    pub(crate) fn count_more_upstreams(&self, idle: usize) -> usize {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let more = idle.saturating_sub(last.counted_upstreams);
        last.counted_upstreams += more;
        more
    }

    /// Closes client connections. Returns the number that it is the first to close, now or with their next
    /// response, and of all that close because of descriptors.
    fn close_clients(
        &self,
        target: CloseTarget,
        interval: Duration,
        connections: &IdleConnections,
    ) -> (usize, usize) {
        let (mut closed, mut all) = (0, 0);
        if target.for_descriptors > 0 {
            let closing = connections.close_oldest(target.for_descriptors, IDLE_MIN, clock::now());
            self.metrics.descriptors.inc_by(closing.newly_closing as u64);
            all = closing.all;
            closed += closing.newly_chosen;
        }
        if target.for_memory {
            let count = part_to_close(connections.count().idle, interval);
            let closing = connections.close_oldest(count, MEMORY_IDLE_MIN, clock::now());
            self.metrics.memory.inc_by(closing.newly_closing as u64);
            closed += closing.newly_chosen;
        }
        (closed, all)
    }
}

/// Counts the client connections that a sample would close.
fn count_clients(target: CloseTarget, interval: Duration, connections: &IdleConnections) -> usize {
    let now = clock::now();
    let clients = connections.count_oldest(target.for_descriptors, IDLE_MIN, now);
    if !target.for_memory {
        return clients;
    }
    let count = part_to_close(connections.count().idle, interval);
    clients + connections.count_oldest(count, MEMORY_IDLE_MIN, now)
}

/// How many of the idle connections a sample closes after this interval.
fn part_to_close(idle: usize, interval: Duration) -> usize {
    let part = idle as u128 * interval.min(MEMORY_CLOSE_TIME).as_millis() / MEMORY_CLOSE_TIME.as_millis();
    usize::try_from(part).unwrap_or(usize::MAX).saturating_add(1)
}

impl LastSample {
    /// The time from the last sample to this one; nothing before the first.
    fn interval_until(&self, sampled: Option<Instant>) -> Duration {
        let both = self.sampled.zip(sampled);
        both.map_or(Duration::ZERO, |(last, sampled)| sampled.saturating_duration_since(last))
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    fn target(descriptors: Reading, memory: Reading) -> CloseTarget {
        let of = |sensor| if sensor == Sensor::Descriptors { descriptors } else { memory };
        CloseTarget::from_readings(of, &MonitorConfig::default(), Level::Warning)
    }

    /// X8: at 80 % or more, enough connections close to get below 80 %; below it, none
    #[test]
    fn the_count_to_close_brings_the_use_below_the_warning() {
        let of = |used| target(Reading::Known { used, limit: 200 }, Reading::Unknown).for_descriptors;
        assert_eq!((of(159), of(160), of(170), of(250)), (0, 1, 11, 91));
        assert_eq!(target(Reading::Unknown, Reading::Unknown), CloseTarget::default());
    }

    /// X8: the part is in proportion to the interval, so that the rate does not depend on `monitor.interval_ms`
    #[test]
    fn the_part_to_close_follows_the_interval() {
        let millis = Duration::from_millis;
        assert_eq!(part_to_close(800, millis(250)), 101);
        assert_eq!(part_to_close(800, millis(100)), 41);
        assert_eq!(part_to_close(800, Duration::from_secs(60)), 801);
        assert_eq!((part_to_close(3, millis(100)), part_to_close(0, Duration::ZERO)), (1, 1));
    }

    /// X8: at 75 % of the memory idle connections close
    #[test]
    fn memory_closes_connections() {
        let of = |used| target(Reading::Unknown, Reading::Known { used, limit: 1 << 30 }).for_memory;
        assert!(!of(700 << 20) && of(820 << 20));
    }
}
