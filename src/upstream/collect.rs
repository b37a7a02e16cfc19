//! A small answer read whole, for an answer that the gateway composes itself.
//!
//! A body that ends before its announced end is an error, as for answers that are passed on (`answer.rs`), and the outcome is reported in
//! the same way: what the upstream broke counts against it, a body over the bound does not.

use std::time::Instant;

use actix_web::http::Method;
use bytes::BytesMut;
use futures_util::StreamExt;
use thiserror::Error;
use tidegate_actors::{FailureCause, Outcome, clock};
use tokio::time::timeout_at;

use crate::router::Bucket;
use crate::upstream::call::UpstreamResponse;
use crate::upstream::error_document::RemainingBody;
use crate::upstream::failure_attribution;
use crate::upstream::response_source::{UpstreamFraming, is_connection_close};

/// Why an answer is not there whole.
#[derive(Debug, Error)]
pub(crate) enum CollectError {
    /// The connection ended or broke before the end of the body.
    #[error("the connection ended before the end of its answer")]
    Truncated,
    /// No byte within `idle_timeout`.
    #[error("its answer stood still")]
    Idle,
    /// The body did not come within the time of the request.
    #[error("its answer did not end in time")]
    Late,
    /// The body is larger than the bound.
    #[error("its answer is larger than {0} bytes")]
    TooLarge(usize),
}

/// The limits of an answer that is read whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CollectLimits {
    /// The most bytes.
    pub(crate) bytes_max: usize,
    /// The moment at which all of it must be there.
    pub(crate) deadline: Instant,
    /// Whether the client chose that moment, so that it is not the upstream's failure.
    pub(crate) is_client_deadline: bool,
}

/// Reads an answer to its end, reports the outcome of the call, and gives back what was held for it.
pub(crate) async fn collect(
    bucket: &Bucket,
    called: UpstreamResponse,
    limits: CollectLimits,
) -> Result<BytesMut, CollectError> {
    let UpstreamResponse { mut response, error_document, permit, ticket, socket: _ } = called;
    let began = clock::now();
    let ending = UpstreamFraming::of(response.headers(), response.status(), &Method::GET);
    let (mut body, rest) = match error_document {
        Some(document) => (BytesMut::from(&document.bytes[..]), document.remaining),
        None => (BytesMut::new(), RemainingBody::Stream),
    };
    let read = match rest {
        RemainingBody::Complete => Ok(()),
        RemainingBody::Broken(_) => Err(CollectError::Truncated),
        RemainingBody::Stream => read_body(&mut response, ending, bucket, limits, &mut body).await,
    };
    // An unread rest takes its connection along, before the place is given back.
    drop(response);
    let outcome = match &read {
        Ok(()) => Outcome::Success,
        Err(CollectError::TooLarge(_)) => Outcome::Neutral,
        Err(CollectError::Late) if limits.is_client_deadline => Outcome::Neutral,
        Err(CollectError::Truncated) => failure(FailureCause::Reset),
        Err(CollectError::Idle | CollectError::Late) => failure(FailureCause::Timeout),
    };
    // Without a ticket the outcome was reported with the head.
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
    response: &mut awc::ClientResponse,
    ending: UpstreamFraming,
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
            Some(Err(error)) if ending == UpstreamFraming::Close && is_connection_close(&error) => {
                return Ok(());
            }
            Some(Err(_)) => return Err(CollectError::Truncated),
            None => {
                let is_short =
                    matches!(ending, UpstreamFraming::Length(bytes) if (body.len() as u64) < bytes);
                return if is_short { Err(CollectError::Truncated) } else { Ok(()) };
            }
        }
    }
}

fn failure(cause: FailureCause) -> Outcome {
    Outcome::Failure { cause, retry_after: None }
}
