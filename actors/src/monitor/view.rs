//! The published state of the monitor: the level as an atomic for every request, and a snapshot for all other
//! readers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::count::Peak;
use crate::monitor::level::Level;
use crate::monitor::reading::{MemoryUse, Reading, Readings, SENSORS, Sensor};
use crate::monitor::reason::LevelReason;
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
    readings: Readings,
    stale_after: Duration,
}

impl MonitorView {
    pub(super) fn from_state(state: &MonitorState, sampled: Option<(Readings, Instant)>) -> Self {
        Self {
            level: state.level(),
            since: state.since(),
            reason: state.reason(),
            sampled: sampled.map(|(_, at)| at),
            transitions: state.transitions(),
            in_flight_max: state.in_flight_max(),
            readings: sampled.map_or(Readings::NONE, |(readings, _)| readings),
            stale_after: state.stale_after(),
        }
    }

    /// The readings of the last sample, by the name of the sensor.
    pub fn readings(&self) -> [(&'static str, Reading); SENSORS] {
        self.readings.by_sensor().map(|(sensor, reading)| (sensor.as_str(), reading))
    }

    /// The pressure on a resource in the last sample, in percent of its limit; none if it is unknown.
    pub fn pressure_percent(&self, sensor: Sensor) -> Option<f64> {
        let mut readings = self.readings.by_sensor().into_iter();
        readings.find(|(each, _)| *each == sensor).and_then(|(_, reading)| reading.percent())
    }

    /// The highest level that a sensor may cause, by its name; none if there is no such sensor.
    pub fn level_max(&self, sensor: &str) -> Option<Level> {
        let mut sensors = self.readings.by_sensor().into_iter().map(|(sensor, _)| sensor);
        sensors.find(|each| each.as_str() == sensor).map(Sensor::level_max)
    }

    /// Requests in flight in the last sample; none if they are unknown.
    pub fn in_flight(&self) -> Option<u64> {
        match self.readings.in_flight {
            Reading::Known { used, .. } => Some(used),
            Reading::Unknown => None,
        }
    }

    /// Memory as the kernel counts it before it kills; none if it is unknown.
    pub fn memory(&self) -> Option<&MemoryUse> {
        self.readings.memory.as_ref()
    }

    /// The functions that are switched off at this level.
    pub fn switched_off(&self) -> &'static [&'static str] {
        self.level.switched_off()
    }

    /// Whether the last sample is older than four intervals: the level is only the last known one (S4).
    pub fn is_stale(&self, now: Instant) -> bool {
        self.sampled.is_none_or(|sampled| now.saturating_duration_since(sampled) >= self.stale_after)
    }
}

/// The published state, shared with the handles.
#[derive(Debug)]
pub(crate) struct MonitorShared {
    level: AtomicU8,
    in_flight_max: AtomicUsize,
    view: watch::Sender<Arc<MonitorView>>,
    pub(super) in_flight_peak: Peak,
    pub(super) client_peak: Peak,
}

impl MonitorShared {
    pub(super) fn new(state: &MonitorState) -> Self {
        let view = MonitorView::from_state(state, None);
        Self {
            level: AtomicU8::new(view.level.number()),
            in_flight_max: AtomicUsize::new(usize::MAX),
            view: watch::Sender::new(Arc::new(view)),
            in_flight_peak: Peak::default(),
            client_peak: Peak::default(),
        }
    }

    pub(super) fn publish(&self, view: MonitorView) {
        let (level, in_flight_max) = (view.level.number(), view.in_flight_max.unwrap_or(usize::MAX));
        // The view is written first: a request that the level sheds reads the reason from it.
        self.view.send_replace(Arc::new(view));
        self.level.store(level, Ordering::Release);
        self.in_flight_max.store(in_flight_max, Ordering::Relaxed);
    }

    /// The most requests in flight for which the memory is enough.
    pub(super) fn in_flight_max(&self) -> usize {
        self.in_flight_max.load(Ordering::Relaxed)
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
