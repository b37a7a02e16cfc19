//! Hedging metrics (O3): hedges sent, hedges won, and hedges suppressed by cause.

use prometheus::{IntCounterVec, Opts, Registry};
use tidegate_actors::LazyCounter;

/// Why a due hedge was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HedgeSuppression {
    /// The client is retrying itself.
    Client,
    /// The resource level is critical.
    Level,
    /// The circuit is not closed.
    Breaker,
    /// The hedge budget is empty.
    Budget,
    /// No permit is free.
    Gate,
    /// The pool did not respond.
    Pool,
    /// There are no credentials to sign with.
    Credentials,
}

impl HedgeSuppression {
    pub(crate) const ALL: [Self; 7] =
        [Self::Client, Self::Level, Self::Breaker, Self::Budget, Self::Gate, Self::Pool, Self::Credentials];

    /// The value of the metric label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Level => "level",
            Self::Breaker => "breaker",
            Self::Budget => "budget",
            Self::Gate => "gate",
            Self::Pool => "pool",
            Self::Credentials => "credentials",
        }
    }
}

/// The families, one label value per bucket.
#[derive(Clone)]
pub(crate) struct HedgeFamilies {
    pub(super) sent: IntCounterVec,
    pub(super) won: IntCounterVec,
    pub(super) suppressed: IntCounterVec,
}

/// The metrics of one bucket.
pub(crate) struct HedgeMetrics {
    pub(crate) sent: LazyCounter,
    pub(crate) won: LazyCounter,
    suppressed: [LazyCounter; HedgeSuppression::ALL.len()],
}

impl HedgeFamilies {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let family = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        };
        Ok(Self {
            sent: counter("hedges_sent_total", "hedges: second attempts of slow reads", &["bucket"])?,
            won: counter("hedges_won_total", "hedges that delivered the answer to the client", &["bucket"])?,
            suppressed: counter(
                "hedges_suppressed_total",
                "slow reads without a hedge, by cause",
                &["bucket", "cause"],
            )?,
        })
    }

    pub(crate) fn bucket(&self, name: &str, is_enabled: bool) -> HedgeMetrics {
        let suppressed =
            |cause: HedgeSuppression| LazyCounter::new(&self.suppressed, &[name, cause.as_str()], is_enabled);
        HedgeMetrics {
            sent: LazyCounter::new(&self.sent, &[name], is_enabled),
            won: LazyCounter::new(&self.won, &[name], is_enabled),
            suppressed: HedgeSuppression::ALL.map(suppressed),
        }
    }
}

impl HedgeMetrics {
    pub(crate) fn count_suppressed(&self, cause: HedgeSuppression) {
        let index = HedgeSuppression::ALL.iter().position(|each| *each == cause);
        if let Some(counter) = index.and_then(|index| self.suppressed.get(index)) {
            counter.inc();
        }
    }
}
