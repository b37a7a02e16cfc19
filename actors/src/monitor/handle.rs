//! The monitor's API for the request path: an atomic and a counter, without an ask.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use slog::Logger;
use thiserror::Error;
use tokio::sync::watch;

use crate::clock;
use crate::count::BoundedCount;
use crate::latest_settings::LatestSettings;
use crate::limit_share::LimitShare;
use crate::mailbox::{AskError, Mailbox, SupervisedActor};
use crate::monitor::actions::{Action, InForce};
use crate::monitor::actor::Monitor;
#[cfg(any(test, feature = "simulation"))]
use crate::monitor::actor::Sample;
use crate::monitor::in_force::OverloadActions;
use crate::monitor::level::Level;
use crate::monitor::log_probe::LogProbe;
use crate::monitor::metrics::{ActionMetrics, MonitorMetrics};
#[cfg(any(test, feature = "simulation"))]
use crate::monitor::reading::{MemorySource, MemoryUse, Readings};
use crate::monitor::reason::LevelReason;
use crate::monitor::sensors::LogCell;
use crate::monitor::settings::MonitorSettings;
use crate::monitor::view::{MonitorShared, MonitorView};

/// Retry time of a shed request: long enough for a few samples.
const SHED_RETRY: Duration = Duration::from_secs(1);

/// Why the monitor refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum MonitorRejection {
    /// Resources are exhausted (X2).
    #[error("resources are exhausted")]
    Exhausted {
        /// The cause of the level.
        reason: Option<LevelReason>,
        /// When to retry.
        retry_after: Duration,
    },
    /// The level sheds uploads of the lowest priority (X2).
    #[error("uploads with the priority low are shed")]
    ShedUpload {
        /// The cause of the level.
        reason: Option<LevelReason>,
        /// When to retry.
        retry_after: Duration,
    },
    /// All slots are in use, or as many as the free memory allows (P2, X6).
    #[error("{in_flight} requests are in flight, the limit is {limit}")]
    Full {
        /// Requests in flight.
        in_flight: usize,
        /// The cap.
        limit: usize,
    },
    /// The client has the maximum number of requests in flight.
    #[error("the client has {in_flight} requests in flight, the limit is {limit}")]
    ClientFull {
        /// Its requests in flight.
        in_flight: usize,
        /// The cap for one client.
        limit: usize,
    },
    /// The maximum number of forms is being read.
    #[error("{pending} forms are being read, the limit is {limit}")]
    FormsFull {
        /// Forms that are being read.
        pending: usize,
        /// The cap.
        limit: usize,
        /// Whether both numbers are those of the client, not of all clients.
        is_clients: bool,
    },
    /// The actor gave no reply.
    #[error("the monitor gave no reply: {0}")]
    Unavailable(AskError),
}

/// Whether the level sheds a request.
#[derive(Debug, PartialEq)]
pub enum Shedding {
    /// It does not.
    Admitted,
    /// It would, but the action is in shadow mode.
    Shadowed(MonitorRejection),
}

/// One slot of the requests in flight. Held until the last body byte; dropping it releases it.
#[derive(Debug)]
#[must_use = "dropping the slot releases it"]
pub struct InFlightSlot {
    slots: Arc<BoundedCount>,
}

impl Drop for InFlightSlot {
    fn drop(&mut self) {
        self.slots.release();
    }
}

/// The highest counts since they were last read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonitorPeaks {
    /// Requests that held a slot.
    pub in_flight: usize,
    /// Requests in flight of one client, where `concurrency.max_per_client` is set.
    pub of_client: usize,
}

/// The handle of the monitor, the same for all configurations. It reads the published state and counts requests in flight.
#[derive(Clone)]
pub struct MonitorHandle {
    pub(super) mailbox: Mailbox<Monitor>,
    shared: Arc<MonitorShared>,
    actions: Arc<OverloadActions>,
    slots: Arc<BoundedCount>,
    pub(super) metrics: MonitorMetrics,
    pub(super) latest: Arc<LatestSettings<MonitorSettings>>,
    log: LogCell,
}

impl MonitorHandle {
    /// Creates the handle and the component.
    pub(crate) fn new(
        mailbox: Mailbox<Monitor>,
        settings: MonitorSettings,
        registry: &Registry,
        log: Logger,
    ) -> Result<(Self, Monitor), prometheus::Error> {
        let metrics = MonitorMetrics::register(registry)?;
        let slots = Arc::new(BoundedCount::new(settings.slots));
        let actions = Arc::new(OverloadActions::new(settings.actions, ActionMetrics::register(registry)?));
        let latest = LatestSettings::new(settings);
        let published = (metrics.clone(), Arc::clone(&actions));
        let monitor = Monitor::new(&latest, Arc::clone(&slots), published, log, clock::now());
        let shared = Arc::clone(monitor.shared());
        let log = Arc::clone(monitor.log_cell());
        let handle = Self { mailbox, shared, actions, slots, metrics, latest, log };
        handle.set_caps(&handle.latest.load());
        Ok((handle, monitor))
    }

    /// Sets what requests read without an ask.
    pub(super) fn set_caps(&self, settings: &MonitorSettings) {
        self.slots.set_capacity(settings.slots);
        self.shared.change_share(|share| share.set_whole(settings.slots));
        self.shared.set_per_client(settings.per_client());
    }

    /// How `concurrency.max_per_client` acts; none if it is off.
    pub(super) fn per_client(&self) -> Option<InForce> {
        self.shared.per_client()
    }

    /// Acquires a slot.
    ///
    /// # Errors
    /// Resources are exhausted, or all slots are in use.
    pub fn acquire_slot(&self) -> Result<InFlightSlot, MonitorRejection> {
        if self.sheds_requests() {
            self.check_level()?;
        }
        self.acquire_free_slot()
    }

    /// Acquires a slot for a request that has passed `check_level`.
    ///
    /// # Errors
    /// All slots are in use.
    pub fn acquire_free_slot(&self) -> Result<InFlightSlot, MonitorRejection> {
        let limit = self.shared.in_flight_max();
        if !self.slots.try_acquire_below(limit) {
            self.metrics.full.inc();
            let (in_flight, limit) = (self.slots.in_use(), self.slots.capacity().min(limit));
            return Err(MonitorRejection::Full { in_flight, limit });
        }
        self.shared.in_flight_peak.record(self.slots.in_use());
        Ok(InFlightSlot { slots: Arc::clone(&self.slots) })
    }

    /// Requests in flight and their limit, if a request would get a slot. Nothing is acquired or counted.
    ///
    /// # Errors
    /// Resources are exhausted, or all slots are in use.
    pub fn peek_slot(&self) -> Result<(usize, usize), MonitorRejection> {
        if self.sheds_requests() {
            return Err(self.exhausted());
        }
        let (in_flight, limit) =
            (self.slots.in_use(), self.slots.capacity().min(self.shared.in_flight_max()));
        if in_flight < limit {
            Ok((in_flight, limit))
        } else {
            Err(MonitorRejection::Full { in_flight, limit })
        }
    }

    /// Checks whether the level admits requests.
    ///
    /// # Errors
    /// Resources are exhausted.
    #[inline]
    pub fn check_level(&self) -> Result<Shedding, MonitorRejection> {
        match self.actions.count(Action::ShedRequests) {
            None => Ok(Shedding::Admitted),
            Some(InForce::Shadow) => Ok(Shedding::Shadowed(self.exhausted())),
            Some(InForce::Enforced) => {
                self.metrics.shed.inc();
                Err(self.exhausted())
            }
        }
    }

    /// Checks whether the level admits uploads of the lowest priority.
    ///
    /// # Errors
    /// It does not.
    pub fn check_upload(&self) -> Result<Shedding, MonitorRejection> {
        match self.actions.count(Action::ShedUploads) {
            None => Ok(Shedding::Admitted),
            Some(InForce::Shadow) => Ok(Shedding::Shadowed(self.shed_upload())),
            Some(InForce::Enforced) => Err(self.shed_upload()),
        }
    }

    /// The refusal that an upload of the lowest priority would get. Nothing is counted.
    pub fn peek_upload(&self) -> Option<MonitorRejection> {
        let is_enforced = self.actions.check(Action::ShedUploads) == Some(InForce::Enforced);
        is_enforced.then(|| self.shed_upload())
    }

    /// Whether every request is refused.
    pub fn sheds_requests(&self) -> bool {
        self.actions.check(Action::ShedRequests) == Some(InForce::Enforced)
    }

    #[cold]
    fn exhausted(&self) -> MonitorRejection {
        MonitorRejection::Exhausted { reason: self.shared.view().reason, retry_after: SHED_RETRY }
    }

    #[cold]
    fn shed_upload(&self) -> MonitorRejection {
        MonitorRejection::ShedUpload { reason: self.shared.view().reason, retry_after: SHED_RETRY }
    }

    /// The actions of the levels.
    #[inline]
    pub fn actions(&self) -> &Arc<OverloadActions> {
        &self.actions
    }

    /// Requests that only the shadow mode of `concurrency.max_per_client` admitted.
    pub fn shadowed_clients(&self) -> u64 {
        self.metrics.client_shadowed.get()
    }

    /// The published level.
    pub fn level(&self) -> Level {
        self.shared.level()
    }

    /// The last snapshot.
    pub fn view(&self) -> Arc<MonitorView> {
        self.shared.view()
    }

    /// Receives a new view with every sample (`monitor.interval_ms`) while anything happens, and a few times a second otherwise.
    pub fn subscribe(&self) -> watch::Receiver<Arc<MonitorView>> {
        self.shared.subscribe()
    }

    /// Samples this log from now on. A later call has no effect.
    pub fn watch_log(&self, log: Arc<dyn LogProbe>) {
        let _ = self.log.set(log);
    }

    /// Requests that hold a slot.
    pub fn in_flight(&self) -> usize {
        self.slots.in_use()
    }

    /// The peaks since the last call.
    pub fn take_peaks(&self) -> MonitorPeaks {
        MonitorPeaks {
            in_flight: self.shared.in_flight_peak.take().max(self.slots.in_use()),
            of_client: self.shared.client_peak.take(),
        }
    }

    /// Hands the slots over to a successor. Returns how many this process may still use.
    pub(crate) fn hand_over(&self, connections: usize) -> usize {
        let kept = self.shared.change_share(|share| share.keep(self.slots.in_use(), connections));
        // A slot may have been acquired while the bound was lowered.
        kept.max(self.slots.in_use())
    }

    /// After `hand_over`, with fewer connections. Returns how many slots this process may still use.
    pub(crate) fn lower_kept(&self, connections: usize) -> usize {
        let kept = self.shared.change_share(|share| share.lower(self.slots.in_use(), connections));
        kept.max(self.slots.in_use())
    }

    /// Takes back what `hand_over` left to a successor.
    pub(crate) fn resume(&self) {
        self.shared.change_share(LimitShare::take_back);
    }

    /// Holds the slots that a predecessor may still use.
    pub(crate) fn hold(&self, slots: usize) {
        self.shared.change_share(|share| share.hold(slots));
    }

    /// Copies the requests in flight into their gauge; called before a scrape is answered.
    pub(crate) fn observe(&self) {
        self.metrics.in_flight(self.in_flight());
    }

    /// Injects a sample in which this process uses this percentage of the memory.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn inject_sample(&self, percent: u64) {
        let memory = MemoryUse {
            used_bytes: percent,
            limit_bytes: 100,
            own_bytes: percent,
            own_limit_bytes: 100,
            sockets_bytes: 0,
            rss_bytes: percent,
            source: MemorySource::Configured,
        };
        self.mailbox.notify(Sample(Readings { memory: Some(memory), ..Readings::NONE }));
    }

    /// The supervised actor, for statistics and chaos.
    pub(crate) fn actor(&self) -> &dyn SupervisedActor {
        &self.mailbox
    }
}

#[cfg(test)]
#[path = "handle_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "settings_tests.rs"]
mod settings_tests;
