//! Simulated upstreams. Each endpoint has its own behavior and can fail in every way.

use std::time::Duration;

use crate::breaker::{FailureCause, Outcome};
use crate::seeded_rng::SeededRng;

/// Behavior of an endpoint for some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behavior {
    Healthy,
    /// Every second call fails.
    Flaky,
    Failing,
    /// Accepts the request and does not answer.
    Silent,
    Refusing,
    /// Answers, with a slow body.
    Slow,
}

/// How a call goes if it is not cancelled.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallPlan {
    pub(super) to_first_byte: Duration,
    pub(super) body: Duration,
    pub(super) outcome: Outcome,
}

/// The endpoints of one bucket.
#[derive(Debug)]
pub(super) struct Upstream {
    behaviors: Vec<Behavior>,
}

/// Timeout of a call to a silent endpoint.
const SILENT_TIMEOUT: Duration = Duration::from_secs(20);

impl Upstream {
    pub(super) fn new(endpoints: usize) -> Self {
        Self { behaviors: vec![Behavior::Healthy; endpoints] }
    }

    /// Changes the behavior of one endpoint or of all.
    pub(super) fn change_behavior(&mut self, rng: &mut SeededRng) {
        let behavior = || {
            [
                Behavior::Healthy,
                Behavior::Healthy,
                Behavior::Healthy,
                Behavior::Flaky,
                Behavior::Failing,
                Behavior::Silent,
                Behavior::Refusing,
                Behavior::Slow,
            ]
        };
        if rng.one_in(2) {
            self.behaviors.fill(rng.choose(behavior()));
        } else {
            let chosen = rng.below(self.behaviors.len());
            self.behaviors[chosen] = rng.choose(behavior());
        }
    }

    /// Whether an endpoint accepts connections.
    pub(super) fn accepts_connections(&self, endpoint: usize) -> bool {
        self.behaviors.get(endpoint) != Some(&Behavior::Refusing)
    }

    /// Draws how a call to an endpoint goes.
    pub(super) fn plan_call(&self, endpoint: usize, rng: &mut SeededRng) -> CallPlan {
        let behavior = match self.behaviors.get(endpoint).copied().unwrap_or(Behavior::Healthy) {
            Behavior::Flaky => rng.choose([Behavior::Healthy, Behavior::Failing]),
            behavior => behavior,
        };
        let well = CallPlan {
            to_first_byte: Duration::from_micros(rng.between(0, 20_000)),
            body: Duration::from_micros(rng.choose([0, 100, 50_000])),
            outcome: Outcome::Success,
        };
        let failing = |cause, retry_after| CallPlan {
            outcome: Outcome::Failure { cause, retry_after },
            body: Duration::ZERO,
            ..well
        };
        match behavior {
            Behavior::Healthy | Behavior::Flaky if rng.one_in(20) => {
                CallPlan { outcome: Outcome::Neutral, ..well }
            }
            Behavior::Healthy | Behavior::Flaky => well,
            Behavior::Slow => CallPlan { body: Duration::from_millis(rng.between(100, 60_000)), ..well },
            Behavior::Failing => {
                let asked = [None, None, Some(Duration::from_secs(3)), Some(Duration::MAX)];
                failing(
                    rng.choose([FailureCause::Status(503), FailureCause::Reset, FailureCause::Decode]),
                    rng.choose(asked),
                )
            }
            Behavior::Silent => {
                CallPlan { to_first_byte: SILENT_TIMEOUT, ..failing(FailureCause::Timeout, None) }
            }
            Behavior::Refusing => {
                CallPlan { to_first_byte: Duration::ZERO, ..failing(FailureCause::Connect, None) }
            }
        }
    }
}
