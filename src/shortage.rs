//! Shortages of the gateway itself (X9): no descriptor, no local port or no memory is left to open a file or a
//! socket.
//!
//! A shortage is no evidence about the upstream of the call. The operation fails with a [`Shortage`] inside its
//! `io::Error`, so callers can distinguish it from a failure of the upstream, and [`record_shortage`] counts it.
//! Limits of descriptors, ports and memory belong to the process and the host, so the counts are global. One task
//! logs the start and the end of each episode.
//!
//! Sources: `socket(2)`, `connect(2)`, `open(2)`, `ip(7)` (`ip_local_port_range`).

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use rustix::io::Errno;
use slog::{Logger, info, warn};
use thiserror::Error;
use tidegate_actors::{clock, descriptors};
use tokio::sync::Notify;
use tokio::time::sleep;

/// The time between two comparisons of the counts during an episode.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);
/// An episode ends after this time without a failure.
const EPISODE_END: Duration = Duration::from_secs(10);

/// The exhausted resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Shortage {
    /// `EMFILE`, `ENFILE`
    #[error("the gateway has no descriptor left")]
    Descriptors,
    /// `EADDRNOTAVAIL` from `connect(2)`
    #[error("the gateway has no local port left for this destination")]
    Ports,
    /// `ENOMEM`, `ENOBUFS`
    #[error("the kernel has no memory left for the gateway's socket")]
    Memory,
}

impl Shortage {
    pub(crate) const ALL: [Self; 3] = [Self::Descriptors, Self::Ports, Self::Memory];

    /// The shortage that an error of a system call means.
    pub(crate) fn of_system(error: &io::Error) -> Option<Self> {
        match Errno::from_io_error(error)? {
            Errno::MFILE | Errno::NFILE => Some(Self::Descriptors),
            Errno::ADDRNOTAVAIL => Some(Self::Ports),
            Errno::NOMEM | Errno::NOBUFS => Some(Self::Memory),
            _ => None,
        }
    }

    /// The shortage that prevented a socket from connecting to `address`.
    pub(crate) fn of_connect(error: &io::Error, address: SocketAddr) -> Option<Self> {
        // The same error means that the host has no address of this family to connect from.
        Self::of_system(error).filter(|shortage| *shortage != Self::Ports || has_local_address(address))
    }

    /// The shortage inside an error that was created from one.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }

    /// The reason of a refusal, and the cause in log, metrics and status.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Descriptors => "out_of_descriptors",
            Self::Ports => "out_of_ports",
            Self::Memory => "out_of_memory",
        }
    }

    /// What the operator can do about it.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::Descriptors => {
                "raise the limit of open files (ulimit -n, LimitNOFILE=) or lower max_concurrent and max_idle"
            }
            Self::Ports => {
                "widen net.ipv4.ip_local_port_range, add endpoints or raise connection_pool.max_idle"
            }
            Self::Memory => {
                "raise the memory limit, or lower net.ipv4.tcp_rmem and tcp_wmem or server.max_concurrent_requests"
            }
        }
    }

    /// The current shortages.
    pub(crate) fn present() -> impl Iterator<Item = PresentShortage> {
        Self::ALL.into_iter().filter_map(|shortage| {
            let counts = shortage.counts();
            let (since, before) = counts.episode()?;
            let failed = counts.failed.load(Ordering::Relaxed).saturating_sub(before);
            Some(PresentShortage { shortage, since, failed })
        })
    }

    fn counts(self) -> &'static ShortageCounts {
        &COUNTS[self as usize]
    }
}

impl From<Shortage> for io::Error {
    fn from(shortage: Shortage) -> Self {
        Self::other(shortage)
    }
}

/// Whether the host has an address to connect from. A UDP socket shows it without a packet and needs no TCP port.
fn has_local_address(address: SocketAddr) -> bool {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    UdpSocket::bind(any).and_then(|socket| socket.connect(address)).is_ok()
}

/// Wakes the task that logs the episodes if it waits for a failure.
static FAILED: Notify = Notify::const_new();

static COUNTS: [ShortageCounts; 3] =
    [const { ShortageCounts { failed: AtomicU64::new(0), episode: Mutex::new(None) } }; 3];

/// A shortage that is present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PresentShortage {
    pub(crate) shortage: Shortage,
    /// The start of its episode.
    pub(crate) since: Instant,
    /// The operations that failed because of it since then.
    pub(crate) failed: u64,
}

/// The counts of one shortage.
struct ShortageCounts {
    /// The operations that failed because of it since the start of the process.
    failed: AtomicU64,
    /// The start of the current episode, and `failed` before it.
    episode: Mutex<Option<(Instant, u64)>>,
}

impl ShortageCounts {
    fn episode(&self) -> Option<(Instant, u64)> {
        *self.episode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an episode, unless one is running. `before` is the number of failures before it.
    fn begin(&self, before: u64) {
        let mut episode = self.episode.lock().unwrap_or_else(PoisonError::into_inner);
        episode.get_or_insert_with(|| (clock::now(), before));
    }

    fn end(&self) {
        *self.episode.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Counts an operation that failed because of a shortage. The first one begins the episode, before its request is refused: so the
/// refusal counts for the cause.
pub(crate) fn record_shortage(shortage: Shortage) {
    let counts = shortage.counts();
    let before = counts.failed.fetch_add(1, Ordering::Relaxed);
    counts.begin(before);
    // In an episode too: it may end at this moment, and then the failure begins the next one.
    FAILED.notify_one();
}

/// Counts a failed operation if its error is a shortage.
pub(crate) fn with_shortage_recorded<T>(result: io::Result<T>) -> io::Result<T> {
    result.inspect_err(|error| Shortage::of(error).into_iter().for_each(record_shortage))
}

/// An episode of a shortage.
#[derive(Debug, Clone, Copy)]
struct ShortageEpisode {
    began: Instant,
    /// The time of the last failure.
    last: Instant,
    /// The count before its start.
    before: u64,
}

/// A change that is logged.
#[derive(Debug, PartialEq, Eq)]
enum EpisodeChange {
    Began,
    Ended { failed: u64, lasted: Duration },
}

/// Detects the episodes of one shortage.
#[derive(Debug, Default)]
struct EpisodeTracker {
    last_failed: u64,
    episode: Option<ShortageEpisode>,
}

impl EpisodeTracker {
    /// Processes the present count.
    fn sample(&mut self, failed: u64, now: Instant) -> Option<EpisodeChange> {
        let before = std::mem::replace(&mut self.last_failed, failed);
        match &mut self.episode {
            None if failed > before => {
                self.episode = Some(ShortageEpisode { began: now, last: now, before });
                Some(EpisodeChange::Began)
            }
            Some(episode) if failed > before => {
                episode.last = now;
                None
            }
            Some(ShortageEpisode { began, last, before })
                if now.saturating_duration_since(*last) >= EPISODE_END =>
            {
                let lasted = last.saturating_duration_since(*began);
                let ended = EpisodeChange::Ended { failed: failed - *before, lasted };
                self.episode = None;
                Some(ended)
            }
            _ => None,
        }
    }
}

/// Logs the start and the end of each episode. Never returns.
pub(crate) async fn log_episodes(log: Logger) {
    let mut trackers = Shortage::ALL.map(|shortage| {
        let last_failed = shortage.counts().failed.load(Ordering::Relaxed);
        (shortage, EpisodeTracker { last_failed, episode: None })
    });
    loop {
        let now = clock::now();
        for (shortage, tracker) in &mut trackers {
            let counts = shortage.counts();
            let Some(change) = tracker.sample(counts.failed.load(Ordering::Relaxed), now) else { continue };
            match change {
                EpisodeChange::Began => {
                    // The failure may have come while the last episode ended.
                    counts.begin(tracker.last_failed.saturating_sub(1));
                    warn!(log, "a resource of the gateway is exhausted; calls that need it are refused with 503";
                        "cause" => shortage.as_str(), "error" => shortage.to_string(),
                        "descriptor_limit" => descriptors::limit(), "hint" => shortage.hint());
                }
                EpisodeChange::Ended { failed, lasted } => {
                    counts.end();
                    info!(log, "the exhausted resource of the gateway is available again"; "cause" => shortage.as_str(),
                        "failed" => failed, "lasted_ms" => u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX));
                }
            }
        }
        if trackers.iter().any(|(_, tracker)| tracker.episode.is_some()) {
            sleep(SAMPLE_EVERY).await;
        } else {
            FAILED.notified().await;
        }
    }
}

/// The metric `own_shortages_total`.
#[derive(Clone)]
pub(crate) struct ShortageMetrics([IntCounter; 3]);

impl ShortageMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "operations that failed because the gateway had no descriptor, port or memory left";
        let family = IntCounterVec::new(Opts::new("own_shortages_total", help), &["cause"])?;
        registry.register(Box::new(family.clone()))?;
        Ok(Self(Shortage::ALL.map(|shortage| family.with_label_values(&[shortage.as_str()]))))
    }

    /// Copies the counts; called before each scrape.
    pub(crate) fn observe(&self) {
        for (shortage, counter) in Shortage::ALL.iter().zip(&self.0) {
            let failed = shortage.counts().failed.load(Ordering::Relaxed);
            counter.inc_by(failed.saturating_sub(counter.get()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X9: every kernel error that means a shortage of the gateway is classified, and no other error
    #[test]
    fn shortages_are_distinguished_from_upstream_failures() {
        let of = |errno: Errno| Shortage::of_system(&errno.into());
        assert_eq!(
            (of(Errno::MFILE), of(Errno::NFILE)),
            (Some(Shortage::Descriptors), Some(Shortage::Descriptors))
        );
        assert_eq!((of(Errno::NOMEM), of(Errno::NOBUFS)), (Some(Shortage::Memory), Some(Shortage::Memory)));
        assert_eq!(of(Errno::ADDRNOTAVAIL), Some(Shortage::Ports));
        for errno in
            [Errno::CONNREFUSED, Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::TIMEDOUT, Errno::ACCESS]
        {
            assert_eq!(of(errno), None, "{errno}");
        }
        assert_eq!(Shortage::of(&Shortage::Ports.into()), Some(Shortage::Ports));
        assert_eq!(Shortage::of(&Errno::MFILE.into()), None, "an error that was not classified");
    }

    /// X9: `EADDRNOTAVAIL` means ports only if the host has an address to connect from
    #[test]
    fn a_host_without_an_address_is_not_out_of_ports() {
        let error = || io::Error::from(Errno::ADDRNOTAVAIL);
        assert_eq!(Shortage::of_connect(&error(), "127.0.0.1:9".parse().unwrap()), Some(Shortage::Ports));
        // No interface has the scope that this link-local address names.
        let nowhere = "[fe80::1%4294967]:9".parse().unwrap();
        assert_eq!(Shortage::of_connect(&error(), nowhere), None);
    }

    /// X9: one line at the start of an episode and one at its end, with the number of failures
    #[test]
    fn an_episode_has_a_start_and_an_end() {
        let (start, mut tracker) = (clock::now(), EpisodeTracker::default());
        let mut sample = |failed, seconds| tracker.sample(failed, start + Duration::from_secs(seconds));
        assert_eq!(sample(0, 0), None);
        assert_eq!(sample(3, 1), Some(EpisodeChange::Began));
        assert_eq!(sample(3, 2), None);
        assert_eq!(sample(9, 5), None);
        assert_eq!(sample(9, 14), None, "no failure for 9 s");
        assert_eq!(sample(9, 15), Some(EpisodeChange::Ended { failed: 9, lasted: Duration::from_secs(4) }));
        assert_eq!(sample(9, 60), None);
        assert_eq!(sample(10, 61), Some(EpisodeChange::Began));
        assert_eq!(sample(10, 71), Some(EpisodeChange::Ended { failed: 1, lasted: Duration::ZERO }));
    }
}
