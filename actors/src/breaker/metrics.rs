//! The breaker's metrics (B5). The actor sets them when it publishes.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use tidegate_config::{BreakerConfig, BreakerMode};

use crate::breaker::circuit_id::CircuitId;
use crate::breaker::circuit_wait::WaitOutcome;
use crate::breaker::decision::{CircuitSnapshot, CircuitState};

/// The metric families, with label values for each bucket and class.
#[derive(Debug, Clone)]
pub(crate) struct BreakerFamilies {
    state: IntGaugeVec,
    failures: IntGaugeVec,
    mode: IntGaugeVec,
    opened: IntCounterVec,
    shadow_refused: IntCounterVec,
    waiting: IntGaugeVec,
    waits_started: IntCounterVec,
    waits_ended: IntCounterVec,
}

/// The metrics of one bucket in one configuration. Only the circuits of the configured layout have series.
#[derive(Debug)]
pub(crate) struct BreakerMetrics {
    families: BreakerFamilies,
    bucket: Box<str>,
    mode: IntGauge,
    /// By `CircuitId`.
    circuits: [Option<PerCircuit>; CircuitId::COUNT],
}

#[derive(Debug)]
struct PerCircuit {
    state: IntGauge,
    failures: IntGauge,
    opened: IntCounter,
    shadow_refused: IntCounter,
    waiting: IntGauge,
    waits_started: IntCounter,
    waits_ended: [IntCounter; 3],
}

impl BreakerFamilies {
    /// # Errors
    /// A family of that name is registered already.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str, labels: &[&str]| -> Result<IntGaugeVec, prometheus::Error> {
            let family = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        };
        let counter = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let family = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        };
        let labels = &["bucket", "class"];
        let by_result = &["bucket", "class", "result"];
        Ok(Self {
            state: gauge(
                "circuit_breaker_state",
                "state of the circuit: 0 closed, 1 open, 2 half-open",
                labels,
            )?,
            failures: gauge("circuit_breaker_failures", "consecutive failures of the upstream", labels)?,
            mode: gauge(
                "circuit_breaker_mode",
                "mode of the bucket's breaker: 0 on, 1 off, 2 shadow, 3 forced open",
                &["bucket"],
            )?,
            opened: counter("circuit_breaker_opened_total", "times the circuit opened", labels)?,
            shadow_refused: counter(
                "circuit_breaker_shadow_refused_total",
                "calls that only the shadow mode admitted",
                labels,
            )?,
            waiting: gauge("circuit_breaker_waiting", "requests that wait for the circuit", labels)?,
            waits_started: counter(
                "circuit_breaker_waits_total",
                "requests that waited for the circuit",
                labels,
            )?,
            waits_ended: counter(
                "circuit_breaker_waits_ended_total",
                "waits for the circuit that have ended, by result: released, timed_out, left",
                by_result,
            )?,
        })
    }

    pub(crate) fn bucket(&self, name: &str, config: &BreakerConfig) -> BreakerMetrics {
        let mut circuits = [const { None }; CircuitId::COUNT];
        for circuit in CircuitId::of_layout(config.per_operation) {
            circuits[circuit.index()] = Some(self.circuit(&[name, circuit.label()]));
        }
        let mode = self.mode.with_label_values(&[name]);
        BreakerMetrics { families: self.clone(), bucket: name.into(), mode, circuits }
    }

    fn circuit(&self, labels: &[&str; 2]) -> PerCircuit {
        let [name, class] = *labels;
        PerCircuit {
            state: self.state.with_label_values(labels),
            failures: self.failures.with_label_values(labels),
            opened: self.opened.with_label_values(labels),
            shadow_refused: self.shadow_refused.with_label_values(labels),
            waiting: self.waiting.with_label_values(labels),
            waits_started: self.waits_started.with_label_values(labels),
            waits_ended: WaitOutcome::ALL
                .map(|outcome| self.waits_ended.with_label_values(&[name, class, outcome.as_str()])),
        }
    }

    /// Removes the series of circuits. A series that is not there is no error.
    fn remove_circuits(&self, name: &str, circuits: impl Iterator<Item = CircuitId>) {
        for circuit in circuits {
            let class = circuit.label();
            for family in [&self.state, &self.failures, &self.waiting] {
                let _ = family.remove_label_values(&[name, class]);
            }
            for family in [&self.opened, &self.shadow_refused, &self.waits_started] {
                let _ = family.remove_label_values(&[name, class]);
            }
            for outcome in WaitOutcome::ALL {
                let _ = self.waits_ended.remove_label_values(&[name, class, outcome.as_str()]);
            }
        }
    }
}

impl BreakerMetrics {
    /// The metrics of the same bucket in another configuration. Series of the same labels are the same.
    pub(crate) fn reconfigured(&self, config: &BreakerConfig) -> Self {
        self.families.bucket(&self.bucket, config)
    }

    /// Removes the series of the circuits that this configuration does not have.
    pub(crate) fn remove_replaced(&self) {
        let replaced = CircuitId::all().filter(|circuit| self.circuit(*circuit).is_none());
        self.families.remove_circuits(&self.bucket, replaced);
    }

    /// Removes all series of the bucket.
    pub(crate) fn remove(&self) {
        self.families.remove_circuits(&self.bucket, CircuitId::all());
        let _ = self.families.mode.remove_label_values(&[&self.bucket]);
    }

    fn circuit(&self, circuit: CircuitId) -> Option<&PerCircuit> {
        self.circuits.get(circuit.index())?.as_ref()
    }

    pub(crate) fn set_mode(&self, mode: BreakerMode) {
        self.mode.set(match mode {
            BreakerMode::On => 0,
            BreakerMode::Off => 1,
            BreakerMode::Shadow => 2,
            BreakerMode::ForcedOpen => 3,
        });
    }

    pub(crate) fn published(&self, circuit: CircuitId, snapshot: &CircuitSnapshot) {
        if let Some(metrics) = self.circuit(circuit) {
            metrics.state.set(match snapshot.state {
                CircuitState::Closed => 0,
                CircuitState::Open => 1,
                CircuitState::HalfOpen => 2,
            });
            metrics.failures.set(i64::from(snapshot.consecutive_failures));
        }
    }

    pub(crate) fn opened(&self, circuit: CircuitId) {
        if let Some(metrics) = self.circuit(circuit) {
            metrics.opened.inc();
        }
    }

    pub(crate) fn shadow_refused(&self, circuit: CircuitId) {
        if let Some(metrics) = self.circuit(circuit) {
            metrics.shadow_refused.inc();
        }
    }

    /// The number of requests that have begun to wait.
    pub(crate) fn waits_started(&self, circuit: CircuitId) -> u64 {
        self.circuit(circuit).map_or(0, |metrics| metrics.waits_started.get())
    }

    /// Counts a request that begins to wait.
    pub(crate) fn wait_started(&self, circuit: CircuitId) {
        if let Some(metrics) = self.circuit(circuit) {
            metrics.waits_started.inc();
            metrics.waiting.inc();
        }
    }

    pub(crate) fn wait_ended(&self, circuit: CircuitId, outcome: WaitOutcome) {
        let Some(metrics) = self.circuit(circuit) else { return };
        metrics.waiting.dec();
        let index = WaitOutcome::ALL.iter().position(|each| *each == outcome);
        if let Some(counter) = index.and_then(|index| metrics.waits_ended.get(index)) {
            counter.inc();
        }
    }
}
