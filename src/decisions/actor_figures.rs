//! The figures of decisions by actors that several layers record: about a circuit, and of an actor that gave no reply.

use std::time::Duration;

use tidegate_actors::{AskError, BreakerRejection};
use tidegate_config::{BreakerConfig, SupervisionConfig};

use crate::decisions::decision::KeyName::{Process, Upstream};
use crate::decisions::decision::{DecidingActor, DecisionScope, Figures, Unit, ms, number};

/// An actor that gave no reply.
pub(crate) fn unavailable(
    scope: Figures,
    actor: DecidingActor,
    error: AskError,
    supervision: &SupervisionConfig,
) -> Figures {
    let figures = scope.decided_by(actor).until(error.retry_after());
    match error {
        AskError::Busy => {
            // The mailbox is full: its depth is its capacity.
            let capacity = number(supervision.mailbox_capacity.get() as u64);
            figures
                .measured(capacity, Unit::Messages)
                .threshold(capacity, Unit::Messages)
                .set_by(&[Process("supervision.mailbox_capacity")])
        }
        AskError::Failed { .. } => figures
            .threshold(number(supervision.max_restarts), Unit::Restarts)
            .set_by(&[Process("supervision.max_restarts")]),
        AskError::Expired => figures
            .threshold(ms(supervision.ask_timeout), Unit::Milliseconds)
            .set_by(&[Process("supervision.ask_timeout_ms")]),
        AskError::Crashed | AskError::Poison => figures,
    }
}

/// A circuit that is not closed. `config` is that of the bucket's breaker.
pub(crate) fn breaker(
    rejection: &BreakerRejection,
    config: Option<&BreakerConfig>,
    supervision: &SupervisionConfig,
) -> Figures {
    let bucket = Figures::of(DecisionScope::Bucket);
    let figures = bucket.decided_by(DecidingActor::Breaker);
    match rejection {
        BreakerRejection::Open { retry_after, trip, .. } => figures.until(*retry_after).of_trip(*trip),
        BreakerRejection::HalfOpenFull { retry_after } => {
            let figures = figures.until(*retry_after);
            let figures = figures.set_by(&[Upstream("circuit_breaker.half_open_max_requests")]);
            // All trials are in use.
            config.map_or(figures, |config| {
                let trials = f64::from(config.half_open_max_requests.get());
                figures.measured(trials, Unit::Requests).threshold(trials, Unit::Requests)
            })
        }
        BreakerRejection::Forced { retry_after } => {
            figures.until(*retry_after).set_by(&[Upstream("circuit_breaker.mode")])
        }
        BreakerRejection::Unavailable(error) => {
            unavailable(bucket, DecidingActor::Breaker, *error, supervision)
        }
    }
}

/// A wait for a circuit.
pub(crate) fn circuit_wait(waited: Duration, config: &BreakerConfig) -> Figures {
    let figures = Figures::of(DecisionScope::Bucket).decided_by(DecidingActor::Breaker);
    let figures = figures.measured(ms(waited), Unit::Milliseconds);
    let figures = figures.set_by(&[Upstream("circuit_breaker.hold_ms")]);
    config.hold.map_or(figures, |limit| figures.threshold(ms(limit), Unit::Milliseconds))
}
