//! The settings of a bucket's breaker that a reload replaces in place.
//!
//! Old and new handles share mailbox and publication, so a circuit is one for all configurations. Each handle has the mode,
//! the layout and the waits of its own configuration; the actor has those of the current one.

use std::sync::Arc;
use std::time::Instant;

use tidegate_config::BreakerConfig;

use crate::breaker::actor::Breaker;
use crate::breaker::circuit_id::CircuitId;
use crate::breaker::handle::{BreakerHandle, BreakerSettings};
use crate::breaker::metrics::BreakerMetrics;
use crate::breaker::ticket::BreakerShared;
use crate::latest_settings::LatestSettings;
use crate::wake_up::WakeUp;

/// What the actor has of a configuration.
#[derive(Debug)]
pub(crate) struct CircuitSettings {
    pub(crate) config: BreakerConfig,
    pub(crate) metrics: Arc<BreakerMetrics>,
}

impl CircuitSettings {
    /// The settings of the first configuration.
    pub(crate) fn new(config: BreakerConfig, metrics: BreakerMetrics) -> Arc<LatestSettings<Self>> {
        LatestSettings::new(Self { config, metrics: Arc::new(metrics) })
    }
}

/// New settings of a bucket's breaker. They have no effect until they are committed.
#[must_use = "without a commit the actor keeps its settings"]
pub struct BreakerReconfigure {
    shared: Arc<BreakerShared>,
    settings: Arc<CircuitSettings>,
}

impl BreakerReconfigure {
    /// Gives the settings to the actor. It has them before it handles a message that is sent afterwards, and also after a crash.
    pub fn commit(self) {
        let was_per_operation = self.shared.latest.load().config.per_operation;
        if was_per_operation != self.settings.config.per_operation {
            self.shared.published.copy_layout(was_per_operation);
        }
        self.shared.latest.store(self.settings);
        self.shared.mailbox.notify(SettingsChanged);
    }
}

impl BreakerHandle {
    /// The handle for another configuration of the same bucket, and the settings to be committed. Both handles work.
    pub fn reconfigured(&self, config: &BreakerConfig) -> (Self, BreakerReconfigure) {
        let metrics = Arc::new(self.metrics.reconfigured(config));
        let settings = Arc::new(CircuitSettings { config: config.clone(), metrics: Arc::clone(&metrics) });
        let shared = Arc::clone(&self.shared);
        let handle = Self { shared: Arc::clone(&shared), settings: BreakerSettings::from(config), metrics };
        (handle, BreakerReconfigure { shared, settings })
    }

    /// Removes the series of the circuits that this handle's configuration does not have. For the handle of the current
    /// configuration, once a replaced one is retired.
    pub fn remove_replaced_series(&self) {
        self.metrics.remove_replaced();
    }

    /// Removes all series of the bucket. For a bucket that the current configuration lacks.
    pub fn remove_series(&self) {
        self.metrics.remove();
    }
}

/// Makes the actor read its latest settings.
pub(crate) struct SettingsChanged;

impl WakeUp for SettingsChanged {
    type Actor = Breaker;
    const NAME: &'static str = "breaker.reconfigure";

    fn wake(breaker: &mut Breaker, now: Instant) {
        breaker.reconfigure(now);
    }
}

impl Breaker {
    /// Continues with the latest settings. A circuit keeps its state, and a new layout takes over that of the old one.
    pub(super) fn reconfigure(&mut self, now: Instant) {
        let Some(settings) = self.latest.load_changed(&self.settings) else { return };
        let replaced = Arc::clone(&self.settings);
        let (before, config) = (&replaced.config, &settings.config);
        let transitions: Vec<_> =
            self.circuits.iter_mut().map(|circuit| circuit.reconfigure(config, now)).collect();
        if before.per_operation != config.per_operation {
            self.change_layout(before.per_operation);
        }
        for queue in &mut self.queues {
            queue.set_capacity(config.held_max());
        }
        settings.metrics.set_mode(config.mode);
        self.settings = Arc::clone(&settings);
        if before != config {
            self.log_reconfigured();
        }
        for (circuit, transition) in CircuitId::all().zip(transitions) {
            self.publish_transition(circuit, transition);
        }
        CircuitId::all().for_each(|circuit| self.admit_waiters(circuit, now));
        self.published.notify_reconfigured();
    }

    /// Gives the circuits of the other layout the state of the unhealthiest circuit of this one.
    pub(super) fn change_layout(&mut self, was_per_operation: bool) {
        let severity = |circuit: &CircuitId| self.circuits[circuit.index()].severity();
        let Some(worst) = CircuitId::of_layout(was_per_operation).max_by_key(severity) else { return };
        for circuit in CircuitId::of_layout(!was_per_operation) {
            if let Ok([circuit, worst]) = self.circuits.get_disjoint_mut([circuit.index(), worst.index()]) {
                circuit.adopt(worst);
            }
        }
    }
}
