//! What the monitor publishes: the level as an atomic for every request, all else as a snapshot for who asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::monitor::level::Level;
use crate::monitor::state::{MonitorState, Reading, Readings, Reason, Sensor, Transition};

/// The monitor's last word.
#[derive(Debug, Clone)]
pub struct MonitorView {
    /// The level.
    pub level: Level,
    /// Since when.
    pub since: Instant,
    /// Why; none if it never changed.
    pub reason: Option<Reason>,
    /// When the sensors were read; none before the first time, and after the state was rebuilt.
    pub sampled: Option<Instant>,
    /// The last transitions, the newest last.
    pub transitions: Vec<Transition>,
    readings: Readings,
    stale_after: Duration,
}

impl MonitorView {
    pub(super) fn of(state: &MonitorState, sampled: Option<(Readings, Instant)>) -> Self {
        Self {
            level: state.level(),
            since: state.since(),
            reason: state.reason(),
            sampled: sampled.map(|(_, at)| at),
            transitions: state.transitions(),
            readings: sampled.map_or(Readings::NONE, |(readings, _)| readings),
            stale_after: state.stale_after(),
        }
    }

    /// What each sensor said when they were read, by its name.
    pub fn readings(&self) -> [(&'static str, &Reading); 3] {
        let Readings { memory, descriptors, in_flight } = &self.readings;
        [
            (Sensor::Memory.as_str(), memory),
            (Sensor::Descriptors.as_str(), descriptors),
            (Sensor::InFlight.as_str(), in_flight),
        ]
    }

    /// What the gateway does without.
    pub fn switched_off(&self) -> &'static [&'static str] {
        self.level.switched_off()
    }

    /// Nobody has read the sensors for a while: the level is only the last one known (S4).
    pub fn is_stale(&self, now: Instant) -> bool {
        self.sampled.is_none_or(|sampled| now.saturating_duration_since(sampled) >= self.stale_after)
    }
}

/// Where it is published.
#[derive(Debug)]
pub(crate) struct Board {
    level: AtomicU8,
    view: watch::Sender<Arc<MonitorView>>,
}

impl Board {
    pub(super) fn new(state: &MonitorState) -> Self {
        let view = MonitorView::of(state, None);
        Self { level: AtomicU8::new(view.level.number()), view: watch::Sender::new(Arc::new(view)) }
    }

    pub(super) fn publish(&self, view: MonitorView) {
        let level = view.level.number();
        // The view first: who is shed by the level finds the reason there.
        self.view.send_replace(Arc::new(view));
        self.level.store(level, Ordering::Release);
    }

    pub(super) fn level(&self) -> Level {
        Level::from_number(self.level.load(Ordering::Acquire))
    }

    pub(super) fn view(&self) -> Arc<MonitorView> {
        Arc::clone(&self.view.borrow())
    }
}
