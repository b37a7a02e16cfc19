//! Metrics of every actor (S9), registered on the given registry.
//!
//! Restarts, generation and depth are read from the actor's statistics at each scrape. Only what cannot be read later
//! is counted when it happens.

use std::time::Duration;

use prometheus::core::{MetricVec, MetricVecBuilder};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
};

use crate::actor_stats::{ActorStats, ActorStatus};
use crate::shedding::WaitTotals;

/// The metric families of all actors, with one label value for each actor.
#[derive(Debug, Clone)]
pub(crate) struct ActorFamilies {
    restarts: IntCounterVec,
    generation: IntGaugeVec,
    depth: IntGaugeVec,
    state: IntGaugeVec,
    wait: HistogramVec,
    handle: HistogramVec,
    rejected: IntCounterVec,
    expired: IntCounterVec,
}

/// The metrics of one actor.
#[derive(Debug, Clone)]
pub(crate) struct ActorMetrics {
    pub(crate) wait: Histogram,
    pub(crate) handle: Histogram,
    pub(crate) rejected_busy: IntCounter,
    pub(crate) rejected_failed: IntCounter,
    pub(crate) rejected_poison: IntCounter,
    pub(crate) expired: IntCounter,
}

/// The waits in mailboxes since the start. They are those of the histogram, so measuring them costs a message nothing.
#[derive(Debug)]
pub(crate) struct MailboxWaits(Vec<Histogram>);

impl MailboxWaits {
    pub(crate) fn totals(&self) -> WaitTotals {
        let seconds: f64 = self.0.iter().map(Histogram::get_sample_sum).sum();
        let sum = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        WaitTotals { sum, count: self.0.iter().map(Histogram::get_sample_count).sum() }
    }
}

/// Removes one series of a family, if it has it.
pub(crate) fn remove_series<B: MetricVecBuilder>(family: &MetricVec<B>, labels: &[&str]) {
    // A series that nothing was counted in may not exist.
    let _ = family.remove_label_values(labels);
}

impl ActorFamilies {
    /// Registers every family.
    ///
    /// # Errors
    /// A family of that name is registered already.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &["actor"]);
        let counter =
            |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let times = |name: &str, help: &str| {
            let buckets = vec![1e-6, 5e-6, 2.5e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];
            HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), &["actor"])
        };
        let this = Self {
            restarts: counter(
                "actor_restarts_total",
                "times the supervisor restarted the actor",
                &["actor"],
            )?,
            generation: gauge("actor_generation", "incarnation of the actor; the first is 1")?,
            depth: gauge(
                "actor_mailbox_depth",
                "messages that wait in the actor's mailbox or are being handled",
            )?,
            state: gauge("actor_state", "0 running, 1 stalled, 2 failed")?,
            wait: times("actor_mailbox_wait_seconds", "time a message waited in the mailbox")?,
            handle: times("actor_handle_seconds", "time to handle a message; one message in 16 is measured")?,
            rejected: counter(
                "actor_messages_rejected_total",
                "messages refused, by reason: busy, failed, poison",
                &["actor", "reason"],
            )?,
            expired: counter(
                "actor_messages_expired_total",
                "messages skipped because their deadline had passed",
                &["actor"],
            )?,
        };
        for family in [&this.generation, &this.depth, &this.state] {
            registry.register(Box::new(family.clone()))?;
        }
        registry.register(Box::new(this.restarts.clone()))?;
        registry.register(Box::new(this.wait.clone()))?;
        registry.register(Box::new(this.handle.clone()))?;
        registry.register(Box::new(this.rejected.clone()))?;
        registry.register(Box::new(this.expired.clone()))?;
        Ok(this)
    }

    pub(crate) fn actor(&self, name: &str) -> ActorMetrics {
        ActorMetrics {
            wait: self.wait.with_label_values(&[name]),
            handle: self.handle.with_label_values(&[name]),
            rejected_busy: self.rejected.with_label_values(&[name, "busy"]),
            rejected_failed: self.rejected.with_label_values(&[name, "failed"]),
            rejected_poison: self.rejected.with_label_values(&[name, "poison"]),
            expired: self.expired.with_label_values(&[name]),
        }
    }

    /// Removes the series of an actor that has ended, if no other actor has its name.
    pub(crate) fn remove(&self, name: &str) {
        for family in [&self.generation, &self.depth, &self.state] {
            remove_series(family, &[name]);
        }
        for family in [&self.wait, &self.handle] {
            remove_series(family, &[name]);
        }
        for family in [&self.restarts, &self.expired] {
            remove_series(family, &[name]);
        }
        for reason in ["busy", "failed", "poison"] {
            remove_series(&self.rejected, &[name, reason]);
        }
    }

    /// The waits in the mailboxes of actors with these names.
    pub(crate) fn mailbox_waits<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> MailboxWaits {
        MailboxWaits(names.into_iter().map(|name| self.wait.with_label_values(&[name])).collect())
    }

    /// Copies an actor's statistics into the gauges; called before a scrape is answered.
    pub(crate) fn observe(&self, stats: &ActorStats, now: std::time::Instant) {
        let name = &[stats.name()];
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let restarts = self.restarts.with_label_values(name);
        restarts.inc_by(stats.restarts().saturating_sub(restarts.get()));
        self.generation.with_label_values(name).set(signed(stats.generation()));
        self.depth.with_label_values(name).set(signed(stats.depth() as u64));
        self.state.with_label_values(name).set(match stats.status(now) {
            ActorStatus::Running => 0,
            ActorStatus::Stalled => 1,
            ActorStatus::Failed { .. } => 2,
        });
    }
}
