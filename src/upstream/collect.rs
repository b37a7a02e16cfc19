//! A small answer read whole, for an answer that the gateway composes itself.
//!
//! A body that ends before its announced end is an error, as for answers that are passed on (`answer.rs`), and the outcome is reported in
//! the same way: what the upstream broke counts against it, a body over the bound does not.

use std::time::Instant;

use actix_web::http::Method;
use bytes::BytesMut;
use futures_util::StreamExt;
use thiserror::Error;
use tidegate_actors::{Cause, Outcome, clock};
use tokio::time::timeout_at;

use crate::router::Bucket;
use crate::upstream::answer_source::{Ending, is_close};
use crate::upstream::blame;
use crate::upstream::call::Called;
use crate::upstream::error_document::Rest;

/// Why an answer is not there whole.
#[derive(Debug, Error)]
pub(crate) enum CollectError {
    /// The connection ended or broke before the end of the body.
    #[error("the connection ended before the end of its answer")]
    Cut,
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
    pub(crate) is_clients: bool,
}

/// Reads an answer to its end, reports the outcome of the call, and gives back what was held for it.
pub(crate) async fn collect(
    bucket: &Bucket,
    called: Called,
    limits: CollectLimits,
) -> Result<BytesMut, CollectError> {
    let Called { mut response, document, permit, ticket, socket: _ } = called;
    let began = clock::now();
    let ending = Ending::of(response.headers(), response.status(), &Method::GET);
    let (mut body, rest) = match document {
        Some(document) => (BytesMut::from(&document.bytes[..]), document.rest),
        None => (BytesMut::new(), Rest::Stream),
    };
    let read = match rest {
        Rest::Nothing => Ok(()),
        Rest::Broken(_) => Err(CollectError::Cut),
        Rest::Stream => read(&mut response, ending, bucket, limits, &mut body).await,
    };
    // An unread rest takes its connection along, before the place is given back.
    drop(response);
    let outcome = match &read {
        Ok(()) => Outcome::Success,
        Err(CollectError::TooLarge(_)) => Outcome::Neutral,
        Err(CollectError::Late) if limits.is_clients => Outcome::Neutral,
        Err(CollectError::Cut) => failed(Cause::Reset),
        Err(CollectError::Idle | CollectError::Late) => failed(Cause::Timeout),
    };
    // Without a ticket the outcome was reported with the head.
    if let Some(ticket) = ticket {
        if read.is_ok() {
            bucket.pool.succeeded(permit.endpoint());
        }
        ticket.report(blame::lay(bucket, permit.endpoint(), outcome, began));
    }
    bucket.pool.finish(permit, clock::now());
    read.map(|()| body)
}

async fn read(
    response: &mut awc::ClientResponse,
    ending: Ending,
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
            Some(Err(error)) if ending == Ending::Close && is_close(&error) => return Ok(()),
            Some(Err(_)) => return Err(CollectError::Cut),
            None => {
                let is_short = matches!(ending, Ending::Length(bytes) if (body.len() as u64) < bytes);
                return if is_short { Err(CollectError::Cut) } else { Ok(()) };
            }
        }
    }
}

fn failed(cause: Cause) -> Outcome {
    Outcome::Failure { cause, retry_after: None }
}
