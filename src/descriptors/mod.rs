//! The descriptor budget of the process.
//!
//! The limit is the lower of `RLIMIT_NOFILE` and `monitor.descriptor_limit`. The share of it up to `monitor.exhausted` is divided into
//! - descriptors that are open from the start: listeners, workers, the log, and the reserve of the admin listener, the log and the sensors
//!   (`actors/src/descriptors.rs`);
//! - upstream connections: as many as the buckets may have open, at most half of the rest;
//! - client connections: the remainder.
//!
//! A client connection beyond that share replaces the one that has been idle longest, or waits in the backlog. So clients cannot use up the
//! descriptors that their own requests need upstream. Idle connections also close under pressure, see
//! `server/idle_closer.rs`.

pub(crate) mod admission;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use slog::{Logger, info, warn};
use thiserror::Error;
use tidegate_actors::descriptors::{self, RaisedLimit};
use tidegate_config::{Config, LogOutput};

use crate::worker::worker_threads;

/// Descriptors for the gateway's own calls (health checks, key sets, credentials) and for DNS lookups.
const OWN_CALLS: u64 = 8;
/// Open from the start under every configuration: the reserve, the listeners, the log, the admin thread, the monitor's files.
const OPEN_AT_START: u64 = 58;
/// Open from the start for each worker thread: its event loop (`THREAD_FILES`), and the file with its CPU time.
const OPEN_PER_WORKER: u64 = 5;
/// Files that the monitor keeps open. It may not have opened them yet when the start counts.
const MONITOR_FILES: u64 = 10;
/// The pipe of each worker thread for large bodies (`buffers/pipe.rs`). It is opened when the thread has such a body.
const PIPE_PER_WORKER: u64 = 2;
/// Open before listeners and threads start, besides the reserve: the standard streams, the event loop and the signal pipe.
const OPEN_IN_MAIN: u64 = 13;
/// Descriptors of a thread's event loop: two event queues, a wake-up, and the signal pipe.
const THREAD_FILES: u64 = 4;
/// Threads with an event loop besides the data workers: the admin listener's and the monitor's.
const OWN_THREADS: u64 = 2;
/// Two listeners, and the two descriptors that wake the acceptor.
const LISTENER_FILES: u64 = 4;
/// A client connection and its upstream connection.
const ONE_REQUEST: u64 = 2;
/// Admin connections may use 1/16 of the descriptors.
const ADMIN_SHARE: u64 = 16;
/// Event streams of the admin listener may use 1/16 of the descriptors.
const STREAM_SHARE: u64 = 16;
/// How old the maximum may be that worker threads compare with.
const RECENT: Duration = Duration::from_millis(10);

/// Raises the soft limit of descriptors to the hard limit, and opens the reserve while low descriptor numbers are free. Called once, at the
/// start of the process.
pub fn raise_limit(log: &Logger) {
    descriptors::fill_reserve();
    match descriptors::raise_limit() {
        Ok(RaisedLimit { before, now }) if before != now => {
            info!(log, "soft limit of descriptors raised to the hard limit"; "before" => before, "now" => now);
        }
        Ok(_) => {}
        Err(error) => {
            warn!(log, "soft limit of descriptors cannot be raised to the hard limit"; "error" => error.to_string(),
                "limit" => descriptors::limit());
        }
    }
}

/// The limit of descriptors is too low to serve a client.
#[derive(Debug, Error)]
pub enum DescriptorLimitError {
    /// The process's limit of descriptors leaves none for a client.
    #[error(
        "the limit of {limit} descriptors is too low, the gateway needs at least {needed}: raise the limit of open \
         files (ulimit -n, LimitNOFILE= in systemd, --ulimit nofile in Docker)"
    )]
    Process {
        /// The limit of the process.
        limit: u64,
        /// The lowest limit under which one client can be served.
        needed: u64,
    },
    /// `monitor.descriptor_limit` leaves no descriptor for a client.
    #[error(
        "monitor.descriptor_limit: {limit} is too low, the gateway needs at least {needed} and would refuse every request; \
         raise it, or remove it to use the system's limit"
    )]
    Key {
        /// The value of the key.
        limit: u64,
        /// The lowest limit under which one client can be served.
        needed: u64,
    },
}

/// The shares of the limit. A reload replaces those of the configuration.
#[derive(Debug)]
pub(crate) struct DescriptorBudget {
    shares: ArcSwap<DescriptorShares>,
    /// Open from the start. Counted when the first client connects, because the monitor's thread opens its files after the start.
    fixed: OnceLock<u64>,
    /// The last [`clients_max`](Self::clients_max), and when it was computed.
    recent_clients_max: Mutex<Option<(Instant, usize)>>,
}

/// The shares of one configuration.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DescriptorShares {
    /// `monitor.descriptor_limit`
    configured: Option<u64>,
    /// `monitor.exhausted`: clients that use their whole share must not raise the level to `exhausted`, at which requests are refused.
    exhausted_percent: u8,
    /// Estimate of the descriptors that are open from the start. It needs the configuration alone, so `tidegate check` and a start
    /// compute the same need.
    estimated: u64,
    /// Those of the pipes that the worker threads may open later.
    pipes: u64,
    /// Upstream connections that all buckets together may have open.
    upstream: u64,
    /// Client connections that `server.max_concurrent_requests` can need.
    clients: u64,
}

impl DescriptorBudget {
    pub(crate) fn new(config: &Config) -> Self {
        let shares = ArcSwap::from_pointee(DescriptorShares::new(config));
        Self { shares, fixed: OnceLock::new(), recent_clients_max: Mutex::default() }
    }

    /// The shares of another configuration hold from the next connection on. Open connections stay.
    pub(crate) fn reconfigure(&self, config: &Config, log: &Logger) {
        let next = DescriptorShares::new(config);
        if **self.shares.load() != next {
            self.shares.store(Arc::new(next));
            self.log_limits(log);
        }
    }

    /// Client connections that may be open under the current limit.
    pub(crate) fn clients_max(&self) -> usize {
        let shares = self.shares.load();
        // Uses the estimate where /proc is not available.
        let fixed = *self.fixed.get_or_init(|| descriptors::open_count().unwrap_or(shares.estimated));
        shares.clients_within(shares.limit(), fixed)
    }

    /// The same, at most [`RECENT`] ago, without a system call for each connection. A listener that is short of places uses the exact one.
    pub(crate) fn recent_clients_max(&self, now: Instant) -> usize {
        let mut recent = self.recent_clients_max.lock().unwrap_or_else(PoisonError::into_inner);
        match *recent {
            Some((computed, max)) if now.saturating_duration_since(computed) < RECENT => max,
            _ => {
                let max = self.clients_max();
                *recent = Some((now, max));
                max
            }
        }
    }

    /// Admin connections that may be open under the current limit.
    pub(crate) fn admin_max(&self) -> usize {
        let limit = self.shares.load().limit();
        usize::try_from(limit / ADMIN_SHARE).unwrap_or(usize::MAX).max(descriptors::ADMIN_CONNECTIONS)
    }

    /// Event streams that may be open under the current limit.
    pub(crate) fn streams_max(&self) -> usize {
        usize::try_from(self.shares.load().limit() / STREAM_SHARE).unwrap_or(usize::MAX)
    }

    /// Logs the limit and the need. If the limit is lower, `gateway/startup_check.rs` adds a warning.
    pub(crate) fn log_limits(&self, log: &Logger) {
        let shares = self.shares.load();
        let limit = shares.limit();
        info!(log, "descriptor limit"; "limit" => limit, "needed" => shares.needed(),
            "clients_max" => shares.clients_within(limit, shares.estimated));
    }
}

impl DescriptorShares {
    pub(crate) fn new(config: &Config) -> Self {
        let upstreams = config.buckets.values().map(|bucket| {
            let pool = &bucket.upstream.connection_pool;
            let in_use = pool.size.min(bucket.upstream.concurrency.max_concurrent).get();
            to_u64(in_use.saturating_add(pool.max_idle))
        });
        Self {
            configured: config.monitor.descriptor_limit,
            exhausted_percent: config.monitor.exhausted,
            estimated: OPEN_AT_START + OPEN_PER_WORKER * to_u64(worker_threads(config)),
            pipes: PIPE_PER_WORKER * to_u64(worker_threads(config)),
            upstream: upstreams.fold(0, u64::saturating_add),
            clients: to_u64(config.server.max_concurrent_requests.get()),
        }
    }

    /// Checks the limit before listeners and threads start. Without it they would fail one after the other.
    ///
    /// # Errors
    /// No request could be served under the limit of the process or under `monitor.descriptor_limit`.
    pub(crate) fn check_start(&self, config: &Config) -> Result<(), DescriptorLimitError> {
        let open = descriptors::open_count().unwrap_or(0).max(estimated_open(config));
        self.check(config, descriptors::limit().unwrap_or(u64::MAX), open)
    }

    /// Checks the limit without a start. A start raises the soft limit to `hard_limit`.
    ///
    /// # Errors
    /// As for [`Self::check_start`].
    pub(crate) fn check_without_start(
        &self,
        config: &Config,
        hard_limit: u64,
    ) -> Result<(), DescriptorLimitError> {
        self.check(config, hard_limit, estimated_open(config))
    }

    fn check(&self, config: &Config, limit: u64, open: u64) -> Result<(), DescriptorLimitError> {
        let needed = self.least_needed(open, to_u64(worker_threads(config)));
        match self.configured {
            _ if limit < needed => Err(DescriptorLimitError::Process { limit, needed }),
            Some(limit) if limit < needed => Err(DescriptorLimitError::Key { limit, needed }),
            _ => Ok(()),
        }
    }

    /// The lowest limit under which one request can be served. `open`: descriptors that are open before listeners and threads start, with
    /// the reserve.
    fn least_needed(&self, open: u64, workers: u64) -> u64 {
        let threads = workers * OPEN_PER_WORKER + OWN_THREADS * THREAD_FILES;
        let all = open + LISTENER_FILES + threads + MONITOR_FILES + ONE_REQUEST;
        (all * 100).div_ceil(u64::from(self.exhausted_percent).max(1))
    }

    /// The current limit.
    fn limit(&self) -> u64 {
        [self.configured, descriptors::limit()].into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    fn clients_within(&self, limit: u64, fixed: u64) -> usize {
        let usable = limit.saturating_mul(u64::from(self.exhausted_percent)) / 100;
        let free = usable.saturating_sub(fixed + self.pipes + OWN_CALLS);
        let upstream = self.upstream.min(free.div_ceil(2));
        usize::try_from(free - upstream).unwrap_or(usize::MAX).max(1)
    }

    /// Descriptors that the configured connections can need, and the share that `monitor.exhausted` keeps free.
    fn needed(&self) -> u64 {
        let all = [self.estimated, self.pipes, OWN_CALLS, self.upstream, self.clients]
            .into_iter()
            .fold(0, u64::saturating_add);
        all.saturating_mul(100).div_ceil(u64::from(self.exhausted_percent).max(1))
    }

    /// The problem and the remedy if the limit is below the need. A start raises the soft limit to `hard_limit`.
    pub(crate) fn shortfall(&self, hard_limit: u64) -> Option<(String, String)> {
        let limit = self.configured.map_or(hard_limit, |configured| configured.min(hard_limit));
        let needed = self.needed();
        let message = || {
            format!(
                "{limit} descriptors are fewer than the {needed} that the configuration can need (clients {}, upstream \
                 connections {}, open from the start {}, pipes {}, and the share that monitor.exhausted keeps free): clients wait \
                 when descriptors are short",
                self.clients, self.upstream, self.estimated, self.pipes
            )
        };
        let hint = || {
            format!(
                "raise it and the limit of open files to {needed} (ulimit -n, LimitNOFILE= in systemd, --ulimit nofile in \
                 Docker), or lower server.max_concurrent_requests, concurrency.max_concurrent and connection_pool.max_idle"
            )
        };
        (limit < needed).then(|| (message(), hint()))
    }
}

/// Estimate of the descriptors that are open before listeners and threads start, with the reserve.
fn estimated_open(config: &Config) -> u64 {
    let log = u64::from(matches!(config.log.output, LogOutput::File(_)));
    OPEN_IN_MAIN + to_u64(descriptors::RESERVED) + log
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIXED: u64 = 50;
    static SHARES: DescriptorShares = DescriptorShares {
        configured: None,
        exhausted_percent: 95,
        estimated: FIXED,
        pipes: 4,
        upstream: 60,
        clients: 1000,
    };

    /// X9: the request of each client can open an upstream connection
    #[test]
    fn clients_leave_descriptors_for_the_upstream() {
        for limit in [60, 128, 256, 1024, 1_048_576] {
            let clients = to_u64(SHARES.clients_within(limit, FIXED));
            let left = (limit * 95 / 100).saturating_sub(FIXED + OWN_CALLS + clients);
            assert!(
                clients == 1 || left >= SHARES.upstream.min(clients),
                "limit {limit}: {clients} clients, {left} left"
            );
        }
        assert_eq!(SHARES.clients_within(1024, FIXED), 972 - 50 - 4 - 8 - 60);
        assert_eq!(SHARES.clients_within(128, FIXED), 29);
        assert_eq!(SHARES.clients_within(10, FIXED), 1, "one is served whatever the limit is");
    }

    /// X5: a start is refused only where not even one request could be served
    #[test]
    fn the_least_need_is_one_request() {
        assert_eq!(SHARES.least_needed(27, 2), 65, "61 are 95 %");
        assert_eq!(SHARES.least_needed(27, 64), 391);
        assert!(SHARES.least_needed(27, 2) < SHARES.needed());
    }

    /// X5: a limit equal to the need has room for every client; one descriptor fewer is a shortfall with the need in its remedy
    #[test]
    fn the_need_counts_clients_and_upstreams() {
        assert_eq!(SHARES.needed(), 1182, "1122 are 95 %");
        assert!(SHARES.clients_within(SHARES.needed(), FIXED) >= 1000);
        assert_eq!(SHARES.shortfall(1182), None);
        let (message, hint) = SHARES.shortfall(1181).unwrap();
        assert!(message.starts_with("1181 descriptors") && hint.contains("1182"), "{message}; {hint}");
    }
}
