//! Reads a small response whole, for a response that the gateway composes itself.
//!
//! A body that ends before its declared end is an error, as for forwarded responses (`response/body.rs`), and the
//! outcome is reported in the same way. What the upstream broke counts as its failure. A body over the size limit
//! does not.

use std::time::Instant;

use bytes::BytesMut;
use futures_util::StreamExt;
use thiserror::Error;
use tidegate_actors::{FailureCause, Outcome, clock};
use tokio::time::timeout_at;

use crate::upstream::bucket::Bucket;
use crate::upstream::bucket::failure_attribution;
use crate::upstream::exchange::sent_request::ReceivedResponse;
use crate::upstream::response::UpstreamResponse;
use crate::upstream::response::error_document::RemainingBody;
use crate::upstream::rules::outcome::failure;

/// Why a response could not be read whole.
#[derive(Debug, Error)]
pub(crate) enum CollectError {
    /// The connection ended or broke before the end of the body.
    #[error("the upstream closed the connection before the end of the response")]
    Truncated,
    /// No byte within `idle_timeout`.
    #[error("the upstream sent nothing more of the response within the idle timeout")]
    Idle,
    /// The body did not arrive within the time of the request.
    #[error("the response did not end within the time of the request")]
    Late,
    /// The body is larger than the limit.
    #[error("the response is larger than {0} bytes")]
    TooLarge(usize),
}

/// The limits of a response that is read whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CollectLimits {
    /// The maximum size in bytes.
    pub(crate) bytes_max: usize,
    /// When the whole body must have arrived.
    pub(crate) deadline: Instant,
    /// Whether the client set that deadline, so that it is no failure of the upstream.
    pub(crate) is_client_deadline: bool,
}

/// Reads a response to its end, reports the outcome of the call, and releases its permits.
pub(crate) async fn collect(
    bucket: &Bucket,
    call: UpstreamResponse,
    limits: CollectLimits,
) -> Result<BytesMut, CollectError> {
    let UpstreamResponse { mut response, error_document, permit, ticket } = call;
    let began = clock::now();
    let (mut body, remaining) = match error_document {
        Some(document) => (BytesMut::from(&document.bytes[..]), document.remaining),
        None => (BytesMut::new(), RemainingBody::Stream),
    };
    let read = match remaining {
        RemainingBody::Complete => Ok(()),
        RemainingBody::Broken(_) => Err(CollectError::Truncated),
        RemainingBody::Stream => read_body(&mut response, bucket, limits, &mut body).await,
    };
    // Closes the connection of an unread rest before the permit is released.
    drop(response);
    let outcome = match &read {
        Ok(()) => Outcome::Success,
        Err(CollectError::TooLarge(_)) => Outcome::Neutral,
        Err(CollectError::Late) if limits.is_client_deadline => Outcome::Neutral,
        Err(CollectError::Truncated) => failure(FailureCause::Reset),
        Err(CollectError::Idle | CollectError::Late) => failure(FailureCause::Timeout),
    };
    // Without a ticket the outcome was reported with the response head.
    if let Some(ticket) = ticket {
        if read.is_ok() {
            bucket.pool.report_success(permit.endpoint());
        }
        ticket.report(failure_attribution::attribute(bucket, permit.endpoint(), outcome, began));
    }
    bucket.pool.release(permit, clock::now());
    read.map(|()| body)
}

async fn read_body(
    response: &mut ReceivedResponse,
    bucket: &Bucket,
    limits: CollectLimits,
    body: &mut BytesMut,
) -> Result<(), CollectError> {
    loop {
        let idle = clock::now() + bucket.config.upstream.idle_timeout;
        let (due, late) = match idle < limits.deadline {
            true => (idle, CollectError::Idle),
            false => (limits.deadline, CollectError::Late),
        };
        let piece = timeout_at(due.into(), response.next()).await.map_err(|_| late)?;
        match piece {
            Some(Ok(piece)) if body.len() + piece.len() > limits.bytes_max => {
                return Err(CollectError::TooLarge(limits.bytes_max));
            }
            Some(Ok(piece)) => body.extend_from_slice(&piece),
            Some(Err(_)) => return Err(CollectError::Truncated),
            None => return Ok(()),
        }
    }
}
