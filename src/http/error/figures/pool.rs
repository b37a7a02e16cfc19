//! The figures of requests that got no permit from a bucket's gate.

use std::time::Duration;

use tidegate_actors::PoolRejection;

use crate::decisions::actor_figures::unavailable;
use crate::decisions::decision::KeyName::Upstream;
use crate::decisions::decision::{DecidingActor, DecisionScope, Figures, ThresholdKeys, Unit, ms, number};
use crate::http::error::figure_context::FigureContext;
use crate::http::error::figures::deadline;

pub(super) fn of(rejection: &PoolRejection, context: FigureContext<'_>) -> Figures {
    let bucket = Figures::of(DecisionScope::Bucket);
    let figures = bucket.decided_by(DecidingActor::Pool);
    let concurrency = context.bucket.map(|bucket| &bucket.upstream.concurrency);
    let queue_max = concurrency.map(|concurrency| number(concurrency.max_queued as u64));
    let with_max = |figures: Figures| {
        let figures = figures.set_by(&[Upstream("concurrency.max_queued")]);
        queue_max.map_or(figures, |max| figures.threshold(max, Unit::Requests))
    };
    match rejection {
        PoolRejection::QueueFull { queued, in_flight: _, retry_after } => {
            with_max(until(figures.measured(number(*queued as u64), Unit::Requests), *retry_after))
        }
        // The queue was full.
        PoolRejection::Displaced { retry_after } => with_max(until(figures, *retry_after)),
        PoolRejection::QueueTooLong { expected, left, is_deadline } => figures
            .measured(ms(*expected), Unit::Milliseconds)
            .threshold(ms(*left), Unit::Milliseconds)
            .until(*expected)
            .set_by(wait_keys(*is_deadline, context)),
        PoolRejection::Overload { waited, retry_after } => {
            let figures = until(figures.measured(ms(*waited), Unit::Milliseconds), *retry_after);
            let figures = figures.set_by(&[Upstream("concurrency.codel_target_ms")]);
            concurrency.map_or(figures, |one| figures.threshold(ms(one.codel_target), Unit::Milliseconds))
        }
        PoolRejection::QueueTimeout { waited, limit, is_deadline, retry_after } => {
            let figures = figures.measured(ms(*waited), Unit::Milliseconds);
            let figures = until(figures.threshold(ms(*limit), Unit::Milliseconds), *retry_after);
            figures.set_by(wait_keys(*is_deadline, context))
        }
        PoolRejection::NoCredential { retry_after, is_refused } => {
            let keys: &[_] = match is_refused {
                true => &[Upstream("credential_pool.refused_seconds")],
                false => &[Upstream("credential_pool.cool_down_seconds")],
            };
            let figures = Figures::of(DecisionScope::Credential).decided_by(DecidingActor::Pool);
            figures.until(*retry_after).set_by(keys)
        }
        PoolRejection::BucketDraining { left } | PoolRejection::EndpointsDraining { left } => {
            left.map_or(figures, |left| figures.until(left))
        }
        PoolRejection::Unavailable(error) => {
            unavailable(bucket, DecidingActor::Pool, *error, &context.config.supervision)
        }
    }
}

/// The figures with the expected wait of a queue. A queue without a known pace expects zero, which is no time.
fn until(figures: Figures, expected: Duration) -> Figures {
    if expected.is_zero() { figures } else { figures.until(expected) }
}

/// What limits the wait of a request: its deadline, or the timeout of the queue.
fn wait_keys(is_deadline: bool, context: FigureContext<'_>) -> ThresholdKeys {
    if is_deadline { deadline::keys(context.deadline) } else { &[Upstream("concurrency.queue_timeout_ms")] }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// O4: a queue without a known pace names no time
    #[test]
    fn an_unknown_wait_is_no_time() {
        let figures = || Figures::of(DecisionScope::Bucket);
        assert_eq!(until(figures(), Duration::ZERO).until, None);
        assert_eq!(until(figures(), Duration::from_millis(1)).until, Some(Duration::from_millis(1)));
    }
}
