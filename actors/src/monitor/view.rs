//! The published state of the monitor: the level as an atomic for every request, and a snapshot for all other
//! readers.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::count::Peak;
use crate::limit_share::LimitShare;
use crate::monitor::actions::{ActionRules, ActionSet, InForce};
use crate::monitor::in_force::OverloadActions;
use crate::monitor::level::Level;
use crate::monitor::measurement::{LimitSource, Measurement, Subject};
use crate::monitor::notices::Notices;
use crate::monitor::reading::{MemoryUse, Reading, Readings};
use crate::monitor::reason::LevelReason;
use crate::monitor::relief::Relief;
use crate::monitor::sensor::{SENSORS, Sensor};
use crate::monitor::state::{LevelTransition, MonitorState};

/// A snapshot of the monitor.
#[derive(Debug, Clone)]
pub struct MonitorView {
    /// The level.
    pub level: Level,
    /// When the level last changed.
    pub since: Instant,
    /// The cause of the last change; none if the level never changed.
    pub reason: Option<LevelReason>,
    /// When the sensors were sampled; none before the first sample and after a rebuild of the state.
    pub sampled: Option<Instant>,
    /// The last transitions, the newest last.
    pub transitions: Vec<LevelTransition>,
    /// The most requests in flight until the next sample, for which the memory is enough; none if it is unknown.
    pub in_flight_max: Option<usize>,
    /// The actions in force.
    pub actions: ActionSet,
    pub(super) relief: Relief,
    readings: Readings,
    levels_max: [Level; SENSORS],
    stale_after: Duration,
}

/// A resource at a time.
#[derive(Debug, Clone)]
pub struct ResourceView {
    /// The sensor.
    pub sensor: Sensor,
    /// The highest level that it may cause with this configuration.
    pub level_max: Level,
    /// Its reading; unknown if it is too old.
    pub reading: Reading,
    /// Where the limit comes from; none without a limit.
    pub limit_source: Option<LimitSource>,
    /// What was measured, where there are several of a kind.
    pub subject: Option<Subject>,
    /// The age of the last sample; none before the first one.
    pub age: Option<Duration>,
    /// The sensors have not been read lately.
    pub is_stale: bool,
}

impl MonitorView {
    pub(super) fn from_state(
        state: &MonitorState,
        rules: ActionRules,
        sampled: Option<(Readings, Instant)>,
    ) -> Self {
        let relief = state.relief();
        Self {
            level: state.level(),
            since: state.since(),
            reason: state.reason(),
            sampled: sampled.as_ref().map(|(_, at)| *at),
            transitions: state.transitions(),
            in_flight_max: state.in_flight_max(),
            actions: rules.in_force(state.level(), |level| relief.may_end(level)),
            relief,
            readings: sampled.map_or(Readings::NONE, |(readings, _)| readings),
            levels_max: Sensor::ALL.map(|sensor| state.level_max(sensor)),
            stale_after: state.stale_after(),
        }
    }

    /// The same sample under other rules and settings.
    pub(super) fn reconfigured(&self, state: &MonitorState, rules: ActionRules) -> Self {
        Self::from_state(state, rules, self.sampled.map(|at| (self.readings.clone(), at)))
    }

    /// Whether level, actions, requests in flight and open descriptors are those of the other view.
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        self.level == other.level
            && self.actions == other.actions
            && self.in_flight() == other.in_flight()
            && self.reading(Sensor::Descriptors) == other.reading(Sensor::Descriptors)
    }

    /// The readings of the last sample.
    pub fn readings(&self) -> impl Iterator<Item = (Sensor, Reading)> {
        Sensor::ALL.into_iter().zip(self.readings.in_order())
    }

    /// The last reading of a sensor.
    pub fn reading(&self, sensor: Sensor) -> Reading {
        self.readings.in_order()[sensor as usize]
    }

    /// The resources as they are known at this time. After a pause of the samples all are unknown, although the last level holds.
    pub fn resources(&self, now: Instant) -> impl Iterator<Item = ResourceView> {
        let measurements = Sensor::ALL.into_iter().zip(self.levels_max).zip(self.readings.measurements());
        let (is_stale, sampled) = (self.is_stale(now), self.sampled);
        measurements.map(move |((sensor, level_max), measurement)| {
            let Measurement { reading, limit_source, subject, taken } = measurement;
            let reading = match reading {
                Reading::Known { .. } if is_stale => Reading::Unknown,
                reading => reading,
            };
            let age = taken.or(sampled).map(|at| now.saturating_duration_since(at));
            ResourceView { sensor, level_max, reading, limit_source, subject, age, is_stale }
        })
    }

    /// The pressure on a resource in the last sample, in percent of its limit; none if it is unknown.
    pub fn pressure_percent(&self, sensor: Sensor) -> Option<f64> {
        self.reading(sensor).percent()
    }

    /// The highest level that a sensor may cause with this configuration.
    pub fn level_max(&self, sensor: Sensor) -> Level {
        self.levels_max[sensor as usize]
    }

    /// Requests in flight in the last sample; none if they are unknown.
    pub fn in_flight(&self) -> Option<u64> {
        match self.readings.in_flight {
            Reading::Known { used, .. } => Some(used),
            Reading::Unknown | Reading::Absent(_) => None,
        }
    }

    /// Memory as the kernel counts it before it kills; none if it is unknown.
    pub fn memory(&self) -> Option<&MemoryUse> {
        self.readings.memory.as_ref()
    }

    /// The names of the actions that are in force and enforced, in the order of the table.
    pub fn switched_off(&self) -> Vec<&'static str> {
        self.actions.enforced().map(|action| action.entry().name).collect()
    }

    /// Whether the last sample is older than four intervals, and than a second: the level is only the last known one (S4).
    pub fn is_stale(&self, now: Instant) -> bool {
        self.sampled.is_none_or(|sampled| now.saturating_duration_since(sampled) >= self.stale_after)
    }
}

/// The bounds of the requests in flight beside the cap of the slots.
#[derive(Debug)]
struct InFlightBounds {
    /// The most for which the memory is enough.
    memory_max: usize,
    /// What this process has of the slots.
    share: LimitShare,
}

impl InFlightBounds {
    fn max(&self) -> usize {
        if self.share.is_shared() { self.memory_max.min(self.share.in_force()) } else { self.memory_max }
    }
}

/// The published state, shared with the handles.
#[derive(Debug)]
pub(crate) struct MonitorShared {
    level: AtomicU8,
    in_flight_max: AtomicUsize,
    /// What the maximum is made of.
    in_flight_bounds: Mutex<InFlightBounds>,
    /// How `concurrency.max_per_client` acts; 0 if it is off.
    per_client: AtomicU8,
    actions: Arc<OverloadActions>,
    view: watch::Sender<Arc<MonitorView>>,
    pub(super) in_flight_peak: Peak,
    pub(super) client_peak: Peak,
}

impl MonitorShared {
    pub(super) fn new(state: &MonitorState, actions: Arc<OverloadActions>) -> Self {
        let view = MonitorView::from_state(state, actions.rules(), None);
        Self {
            level: AtomicU8::new(view.level.number()),
            in_flight_max: AtomicUsize::new(usize::MAX),
            in_flight_bounds: Mutex::new(InFlightBounds {
                memory_max: usize::MAX,
                share: LimitShare::new(usize::MAX),
            }),
            per_client: AtomicU8::new(0),
            actions,
            view: watch::Sender::new(Arc::new(view)),
            in_flight_peak: Peak::default(),
            client_peak: Peak::default(),
        }
    }

    /// Publishes a view. Subscribers are only notified of it if that is due.
    pub(super) fn publish(&self, view: MonitorView, notices: &mut Notices, now: Instant) {
        let (level, in_flight_max) = (view.level.number(), view.in_flight_max.unwrap_or(usize::MAX));
        let actions = view.actions;
        // The view is written first: a request that is shed reads the reason from it.
        self.view.send_if_modified(|current| {
            let is_due = notices.is_due(current, &view, now);
            *current = Arc::new(view);
            is_due
        });
        self.actions.publish(actions, now);
        self.level.store(level, Ordering::Release);
        self.change_bounds(|bounds| bounds.memory_max = in_flight_max);
    }

    fn change_bounds<R>(&self, change: impl FnOnce(&mut InFlightBounds) -> R) -> R {
        let mut bounds = self.in_flight_bounds.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut bounds);
        self.in_flight_max.store(bounds.max(), Ordering::Relaxed);
        changed
    }

    /// Changes what this process has of the slots.
    pub(super) fn change_share<R>(&self, change: impl FnOnce(&mut LimitShare) -> R) -> R {
        self.change_bounds(|bounds| change(&mut bounds.share))
    }

    pub(super) fn actions(&self) -> &Arc<OverloadActions> {
        &self.actions
    }

    /// The most requests in flight for which the memory is enough, and which this process may have during an upgrade.
    pub(super) fn in_flight_max(&self) -> usize {
        self.in_flight_max.load(Ordering::Relaxed)
    }

    /// How `concurrency.max_per_client` acts.
    pub(super) fn per_client(&self) -> Option<InForce> {
        match self.per_client.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(InForce::Enforced),
            _ => Some(InForce::Shadow),
        }
    }

    pub(super) fn set_per_client(&self, in_force: Option<InForce>) {
        let number = match in_force {
            None => 0,
            Some(InForce::Enforced) => 1,
            Some(InForce::Shadow) => 2,
        };
        self.per_client.store(number, Ordering::Relaxed);
    }

    pub(super) fn level(&self) -> Level {
        Level::from_number(self.level.load(Ordering::Acquire))
    }

    pub(super) fn view(&self) -> Arc<MonitorView> {
        Arc::clone(&self.view.borrow())
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<MonitorView>> {
        self.view.subscribe()
    }
}
