//! The breaker's metrics (B5). The actor sets them when it publishes.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use tidegate_config::{BreakerConfig, BreakerMode};

use crate::breaker::circuit_id::{self, CircuitId};
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

/// The metrics of one bucket, by circuit.
#[derive(Debug)]
pub(crate) struct BreakerMetrics {
    circuits: Vec<PerCircuit>,
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
        self.mode.with_label_values(&[name]).set(match config.mode {
            BreakerMode::On => 0,
            BreakerMode::Off => 1,
            BreakerMode::Shadow => 2,
            BreakerMode::ForcedOpen => 3,
        });
        let circuit = |(_, class): (CircuitId, &'static str)| {
            let labels = &[name, class];
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
        };
        BreakerMetrics {
            circuits: circuit_id::labelled_circuits(config.per_operation).map(circuit).collect(),
        }
    }
}

impl BreakerMetrics {
    fn circuit(&self, circuit: CircuitId) -> Option<&PerCircuit> {
        self.circuits.get(circuit.index())
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
