//! The request's body on its way up: counted, limited, and known to the watch.
//!
//! A small body of an idempotent request is read whole, so that the request can be tried again (R3); any other is
//! streamed with one chunk in hand.

use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use thiserror::Error;
use tidegate_actors::clock;

use crate::upstream::flow::Flow;
use crate::upstream::{Phase, UpstreamRejection};

/// Bodies up to this size are read whole if the request may then be retried.
pub(crate) const REPLAY_BYTES_MAX: u64 = 64 << 10;

/// The body of one request.
pub(crate) enum RequestBody {
    /// None, and no length is said.
    None,
    /// Known bytes, which can be sent again.
    Whole(Bytes),
    /// A stream, which can be sent once.
    Stream(Option<Upload>),
}

/// A body in flight, once.
pub(crate) struct Upload {
    pub(crate) payload: Payload,
    pub(crate) size: BodySize,
    pub(crate) limit: Option<u64>,
    pub(crate) flow: Rc<Flow>,
    /// Bytes handed on, those of the pretence after an early answer included.
    pub(crate) handed: u64,
}

/// What is pretended at a time.
const PRETENCE_BYTES: usize = 64 << 10;
static PRETENCE: [u8; PRETENCE_BYTES] = [0; PRETENCE_BYTES];

/// awc wants an error; the flow knows the reason.
#[derive(Debug, Error)]
#[error("the request's body failed")]
pub(crate) struct UploadFailed;

impl Drop for Upload {
    fn drop(&mut self) {
        self.flow.leave(mem::replace(&mut self.payload, Payload::None));
    }
}

impl Upload {
    fn fail(&self, fault: UpstreamRejection) -> UploadFailed {
        self.flow.fail(fault);
        UploadFailed
    }
}

impl Upload {
    /// The upstream has answered, its connection swallows what is written: the length is made up without the client.
    fn pretend(&mut self) -> Poll<Option<Result<Bytes, UploadFailed>>> {
        let BodySize::Sized(size) = self.size else { return Poll::Ready(None) };
        let left = size - self.handed;
        if left == 0 {
            return Poll::Ready(None);
        }
        let chunk = left.min(PRETENCE_BYTES as u64);
        self.handed += chunk;
        Poll::Ready(Some(Ok(
            Bytes::from_static(&PRETENCE).slice(..usize::try_from(chunk).unwrap_or(PRETENCE_BYTES))
        )))
    }
}

impl MessageBody for Upload {
    type Error = UploadFailed;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, UploadFailed>>> {
        if self.flow.answered_early() {
            return self.pretend();
        }
        match self.payload.poll_next_unpin(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(chunk))) => {
                self.handed += chunk.len() as u64;
                self.flow.moved(chunk.len(), clock::now());
                if let Some(limit) = self.limit.filter(|limit| self.flow.bytes() > *limit) {
                    return Poll::Ready(Some(Err(self.fail(UpstreamRejection::BodyTooLarge { limit }))));
                }
                if let BodySize::Sized(size) = self.size
                    && self.flow.bytes() == size
                {
                    self.flow.end(clock::now());
                }
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(self.fail(client_fault(&error))))),
            Poll::Ready(None) => {
                self.flow.end(clock::now());
                if let BodySize::Sized(size) = self.size
                    && self.flow.bytes() < size
                {
                    return Poll::Ready(Some(Err(self.fail(UpstreamRejection::ClientGone))));
                }
                Poll::Ready(None)
            }
        }
    }
}

fn client_fault(error: &PayloadError) -> UpstreamRejection {
    match error {
        PayloadError::Incomplete(_) | PayloadError::Io(_) => UpstreamRejection::ClientGone,
        other => UpstreamRejection::BodyMalformed(other.to_string()),
    }
}

/// Reads a small body whole. Its length was announced and is within the limit.
///
/// `idle` is the longest it may stand still, as for a streamed one.
pub(crate) async fn read_whole(
    payload: &mut Payload,
    length: u64,
    idle: Duration,
    flow: &Flow,
) -> Result<Bytes, UpstreamRejection> {
    let mut whole = BytesMut::with_capacity(usize::try_from(length).unwrap_or(0));
    loop {
        let next = tokio::time::timeout(idle, payload.next()).await;
        let Some(chunk) = next.map_err(|_| UpstreamRejection::Timeout(Phase::Upload))? else { break };
        let chunk = chunk.map_err(|error| client_fault(&error))?;
        flow.moved(chunk.len(), clock::now());
        whole.extend_from_slice(&chunk);
    }
    if (whole.len() as u64) < length {
        return Err(UpstreamRejection::ClientGone);
    }
    Ok(whole.freeze())
}
