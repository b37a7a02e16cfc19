//! Error replies for requests that got no permit from a bucket's gate, with the time at which a permit is expected.

use std::time::Duration;

use actix_web::http::StatusCode;
use tidegate_actors::PoolRejection;

use crate::http::error::{slow_down, unavailable};
use crate::http::error_reply::ErrorReply;

/// The throughput of a queue predicts no more than this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// When a client may try again if a drain has no end.
const DRAIN_RETRY_AFTER: Duration = Duration::from_secs(30);

fn draining(reason: &'static str, message: &'static str, left: Option<Duration>) -> ErrorReply {
    ErrorReply::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", reason, message)
        .with_retry_after(left.unwrap_or(DRAIN_RETRY_AFTER))
}

pub(super) fn error_reply(rejection: &PoolRejection) -> ErrorReply {
    let refused = |reason, message: String, after: Duration| {
        slow_down(reason, message).with_retry_after(after.min(RETRY_AFTER_MAX))
    };
    match rejection {
        PoolRejection::QueueFull { queued, in_flight, retry_after } => {
            refused("queue_full", "the queue of this bucket is full".to_owned(), *retry_after)
                .with_log_detail(format!(
                    "{in_flight} requests of this bucket are in flight and {queued} wait"
                ))
        }
        PoolRejection::QueueTooLong { expected, left, is_deadline: _ } => refused(
            "queue_too_long",
            "the queue of this bucket is longer than this request can wait".to_owned(),
            *expected,
        )
        .with_log_detail(format!(
            "the expected wait is {} ms, and the request can wait for {} ms",
            expected.as_millis(),
            left.as_millis()
        )),
        PoolRejection::Displaced { retry_after } => refused(
            "queue_displaced",
            "the queue is full, and a request of higher priority displaced this one".to_owned(),
            *retry_after,
        ),
        PoolRejection::Overload { waited, retry_after } => refused(
            "queue_overload",
            format!(
                "the queue is overloaded and serves newer requests first; this request waited for {} ms",
                waited.as_millis()
            ),
            *retry_after,
        ),
        PoolRejection::QueueTimeout { waited, retry_after, limit: _, is_deadline: _ } => refused(
            "queue_timeout",
            format!("no permit was released within {} ms", waited.as_millis()),
            *retry_after,
        ),
        PoolRejection::NoCredential { retry_after, is_refused: false } => ErrorReply::new(
            StatusCode::TOO_MANY_REQUESTS,
            "SlowDown",
            "credentials_throttled",
            "the upstream throttles all of the gateway's credentials",
        )
        .with_retry_after(*retry_after),
        PoolRejection::NoCredential { retry_after, is_refused: true } => ErrorReply::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            "credentials_refused",
            "the upstream refuses all of the gateway's credentials",
        )
        .with_retry_after(*retry_after),
        PoolRejection::BucketDraining { left } => draining(
            "bucket_draining",
            "an operator drains this bucket, which accepts no new requests",
            *left,
        ),
        PoolRejection::EndpointsDraining { left } => {
            draining("endpoints_draining", "an operator drains all endpoints of this bucket", *left)
        }
        PoolRejection::Unavailable(error) => unavailable("pool_unavailable", *error),
    }
}
