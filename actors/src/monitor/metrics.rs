//! The monitor's metrics (O3): resources in use, the level, and refusals.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::monitor::actions::{ACTIONS, Action};
use crate::monitor::level::Level;
use crate::monitor::reading::{Reading, Readings};
use crate::monitor::sensor::Sensor;

/// The gauges of one sensor.
#[derive(Debug, Clone)]
struct ResourceMetrics {
    used: IntGauge,
    limit: IntGauge,
    unknown: IntGauge,
}

/// Set with each sample, except the requests in flight, which are read at each scrape.
#[derive(Debug, Clone)]
pub(crate) struct MonitorMetrics {
    descriptors: IntGauge,
    rss: IntGauge,
    memory: IntGauge,
    memory_limit: IntGauge,
    own_memory: IntGauge,
    sockets: IntGauge,
    in_flight: IntGauge,
    level: IntGauge,
    resources: Vec<ResourceMetrics>,
    pub(super) full: IntCounter,
    pub(super) shed: IntCounter,
    pub(super) client_full: IntCounter,
    pub(super) client_shadowed: IntCounter,
    pub(super) forms_full: IntCounter,
}

/// Which actions are in force, and what they have touched.
#[derive(Debug, Clone)]
pub(crate) struct ActionMetrics {
    in_force: [IntGauge; ACTIONS],
    touched: [IntCounter; ACTIONS],
}

impl ActionMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let in_force = Opts::new(
            "degradation_action_in_force",
            "1 while the level of the action is reached, also in shadow mode",
        );
        let in_force = IntGaugeVec::new(in_force, &["action"])?;
        let touched = Opts::new(
            "degradation_action_touched_total",
            "what the action has touched, or in shadow mode would have touched, in its own unit",
        );
        let touched = IntCounterVec::new(touched, &["action"])?;
        registry.register(Box::new(in_force.clone()))?;
        registry.register(Box::new(touched.clone()))?;
        Ok(Self {
            in_force: Action::ALL.map(|action| in_force.with_label_values(&[action.entry().name])),
            touched: Action::ALL.map(|action| touched.with_label_values(&[action.entry().name])),
        })
    }

    pub(super) fn set_in_force(&self, action: Action, is_in_force: bool) {
        self.in_force[action as usize].set(i64::from(is_in_force));
    }

    pub(super) fn touch(&self, action: Action, count: u64) {
        self.touched[action as usize].inc_by(count);
    }

    pub(super) fn touched(&self, action: Action) -> u64 {
        self.touched[action as usize].get()
    }
}

impl MonitorMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let this = Self {
            descriptors: IntGauge::new("file_descriptors_used", "open descriptors of the process")?,
            rss: IntGauge::new("memory_allocated_bytes", "resident memory of the process (RSS)")?,
            memory: IntGauge::new(
                "memory_used_bytes",
                "memory in use under the tightest limit, less what the kernel can reclaim",
            )?,
            memory_limit: IntGauge::new("memory_limit_bytes", "the tightest memory limit")?,
            own_memory: IntGauge::new(
                "memory_own_bytes",
                "memory of the process alone: anonymous, shared, kernel and socket memory",
            )?,
            sockets: IntGauge::new(
                "socket_buffers_bytes",
                "memory of the process's socket buffers in the kernel",
            )?,
            in_flight: IntGauge::new("requests_in_flight", "requests that hold a slot")?,
            level: IntGauge::new("degradation_level", "0 normal, 1 warning, 2 critical, 3 exhausted")?,
            resources: resources(registry)?,
            full: IntCounter::new(
                "concurrency_limit_rejections_total",
                "requests refused because all slots were in use",
            )?,
            shed: IntCounter::new("load_shed_total", "requests refused by the action shed_requests")?,
            client_full: IntCounter::new(
                "client_concurrency_rejections_total",
                "requests refused because their client had the maximum number in flight",
            )?,
            client_shadowed: IntCounter::new(
                "client_concurrency_shadowed_total",
                "requests that passed the limit of their client only because it is in shadow mode",
            )?,
            forms_full: IntCounter::new(
                "form_rejections_total",
                "POST forms refused because the maximum number was being read",
            )?,
        };
        let memory = [&this.rss, &this.memory, &this.memory_limit, &this.own_memory, &this.sockets];
        for gauge in memory.into_iter().chain([&this.descriptors, &this.in_flight, &this.level]) {
            registry.register(Box::new(gauge.clone()))?;
        }
        let clients = [&this.client_full, &this.client_shadowed, &this.forms_full];
        for counter in clients.into_iter().chain([&this.full, &this.shed]) {
            registry.register(Box::new(counter.clone()))?;
        }
        Ok(this)
    }

    pub(super) fn sampled(&self, readings: &Readings, level: Level) {
        if let Some(memory) = &readings.memory {
            set(&self.rss, memory.rss_bytes);
            set(&self.memory, memory.used_bytes);
            set(&self.memory_limit, memory.limit_bytes);
            set(&self.own_memory, memory.own_bytes);
            set(&self.sockets, memory.sockets_bytes);
        }
        if let Reading::Known { used, .. } = readings.descriptors.reading {
            set(&self.descriptors, used);
        }
        for (metrics, reading) in self.resources.iter().zip(readings.in_order()) {
            metrics.unknown.set(i64::from(reading == Reading::Unknown));
            if let Reading::Known { used, limit } = reading {
                set(&metrics.used, used);
                set(&metrics.limit, limit);
            }
        }
        self.level.set(i64::from(level.number()));
    }

    pub(super) fn in_flight(&self, requests: usize) {
        self.in_flight.set(i64::try_from(requests).unwrap_or(i64::MAX));
    }
}

/// The gauges of all sensors, in the order of `Sensor::ALL`. All exist from the start, and are unknown until the first sample.
fn resources(registry: &Registry) -> Result<Vec<ResourceMetrics>, prometheus::Error> {
    let family = |name: &str, help: &str| {
        let family = IntGaugeVec::new(Opts::new(name, help), &["resource"])?;
        registry.register(Box::new(family.clone()))?;
        Ok::<_, prometheus::Error>(family)
    };
    let used = family("resource_used", "use of a resource as the monitor last measured it, in its own unit")?;
    let limit = family("resource_limit", "limit of the resource, in the same unit; 0 without a measurement")?;
    let unknown = family(
        "resource_unknown",
        "1 if the sensor failed in the last sample; 0 too if there is nothing to measure",
    )?;
    let gauges = |sensor: Sensor| {
        let gauge = |family: &IntGaugeVec| family.with_label_values(&[sensor.as_str()]);
        let gauges = ResourceMetrics { used: gauge(&used), limit: gauge(&limit), unknown: gauge(&unknown) };
        gauges.unknown.set(1);
        gauges
    };
    Ok(Sensor::ALL.into_iter().map(gauges).collect())
}

fn set(gauge: &IntGauge, value: u64) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}
