//! The request's body on its way up: counted, limited, known to the watch, and held to what its head says.
//!
//! A small body is read whole, so that it is verified before the upstream hears of it, and so that the request can be tried
//! again (R3); any other is streamed with one piece in hand. What is verified and how it is framed for the upstream is
//! the business of `s3::upload`.

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{io, mem};

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use thiserror::Error;
use tidegate_actors::clock;

use crate::buffers::Gate;
use crate::router::Bucket;
use crate::s3::checksum::claim::Claims;
use crate::s3::chunked::decode::{Peek, first_size};
use crate::s3::chunked::encode::{Encoder, Frame};
use crate::s3::upload::pipeline::Pipeline;
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
    Stream(Option<Box<Upload>>),
}

impl RequestBody {
    /// All of it, where it was read whole.
    pub(crate) fn whole(&self) -> Option<&Bytes> {
        match self {
            Self::Whole(bytes) => Some(bytes),
            Self::None | Self::Stream(_) => None,
        }
    }
}

/// A body in flight, once.
pub(crate) struct Upload {
    source: Source,
    /// None where nothing is claimed about the body: its bytes pass as they are.
    pipeline: Option<Pipeline>,
    /// Verified, and not yet asked for.
    ready: VecDeque<Bytes>,
    /// Towards the upstream, where it is known.
    size: Option<u64>,
    has_ended: bool,
}

/// What the client sends.
pub(crate) struct Source {
    payload: Payload,
    /// As its head says, framing included.
    pub(crate) announced: Option<u64>,
    limit: Option<u64>,
    /// The longest it may stand still.
    idle: Duration,
    flow: Rc<Flow>,
    /// Read to learn how it is framed.
    peeked: VecDeque<Bytes>,
}

const LONGER: &str = "it is longer than its head says";

/// The connection wants an error; the flow knows the reason.
#[derive(Debug, Error)]
#[error("the request's body failed")]
pub(crate) struct UploadFailed;

impl Source {
    /// Takes a request's body over.
    pub(crate) fn take(
        payload: &mut Payload,
        announced: Option<u64>,
        bucket: &Bucket,
        flow: Rc<Flow>,
    ) -> Self {
        Self {
            payload: mem::replace(payload, Payload::None),
            announced,
            limit: bucket.config.max_request_size,
            idle: bucket.config.upstream.idle_timeout,
            flow,
            peeked: VecDeque::new(),
        }
    }

    /// The next piece; none at the end, which is where the head says.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamRejection>>> {
        if let Some(piece) = self.peeked.pop_front() {
            return Poll::Ready(Some(Ok(piece)));
        }
        if ready!(self.flow.poll_gate(cx)) == Gate::Cut {
            return Poll::Ready(Some(Err(UpstreamRejection::MemoryPressure)));
        }
        match self.payload.poll_next_unpin(cx) {
            Poll::Pending => {
                self.flow.awaits(clock::now);
                let cut = self.flow.poll_crowding(cx);
                cut.map(|()| Some(Err(UpstreamRejection::Timeout(Phase::Crowding))))
            }
            Poll::Ready(Some(Ok(piece))) => {
                let bytes = self.flow.bytes() + piece.len() as u64;
                let left = self.announced.map(|announced| announced.saturating_sub(bytes));
                self.flow.streamed(piece.len(), left, clock::now());
                if let Some(limit) = self.limit.filter(|limit| self.flow.bytes() > *limit) {
                    return Poll::Ready(Some(Err(UpstreamRejection::BodyTooLarge { limit })));
                }
                if self.announced.is_some_and(|announced| self.flow.bytes() > announced) {
                    let fault = UpstreamRejection::BodyMalformed(LONGER.to_owned());
                    return Poll::Ready(Some(Err(fault)));
                }
                Poll::Ready(Some(Ok(piece)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(client_fault(&error)))),
            Poll::Ready(None) if self.announced.is_some_and(|bytes| self.flow.bytes() < bytes) => {
                Poll::Ready(Some(Err(UpstreamRejection::ClientGone)))
            }
            Poll::Ready(None) => Poll::Ready(None),
        }
    }

    /// Whether all of it has come, as far as its head can tell.
    fn is_whole(&self) -> bool {
        self.peeked.is_empty() && self.announced == Some(self.flow.bytes())
    }

    /// The next piece, within the time that a body may stand still and at the pace that it has to keep.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, UpstreamRejection> {
        let (patience, phase) = match self.flow.patience(clock::now()) {
            Some(left) if left < self.idle => (left, Phase::Pace),
            _ => (self.idle, Phase::Upload),
        };
        let next = tokio::time::timeout(patience, std::future::poll_fn(|cx| self.poll(cx)));
        next.await.map_err(|_| UpstreamRejection::Timeout(phase))?.transpose()
    }

    /// A body that was read already.
    pub(crate) fn holding(bytes: Bytes, bucket: &Bucket, flow: Rc<Flow>) -> Self {
        let announced = Some(bytes.len() as u64);
        let mut source = Self::take(&mut Payload::None, announced, bucket, flow);
        source.unread(bytes);
        source
    }

    /// Gives back what was read too far.
    pub(crate) fn unread(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.peeked.push_front(bytes);
        }
    }

    /// Lifts the limit from the bytes on the wire, where the data in them was held to it.
    pub(crate) fn unlimited(mut self) -> Self {
        self.limit = None;
        self
    }

    /// The size of the first chunk of an `aws-chunked` body.
    pub(crate) async fn first_chunk(&mut self) -> Result<Option<u64>, UpstreamRejection> {
        let mut pieces = VecDeque::new();
        let mut beginning = BytesMut::new();
        let size = loop {
            match first_size(&beginning) {
                Peek::Size(bytes) => break Some(bytes),
                Peek::Nonsense => break None,
                Peek::NeedMore => {}
            }
            let Some(piece) = self.next().await? else { break None };
            beginning.extend_from_slice(&piece[..piece.len().min(32)]);
            pieces.push_back(piece);
        };
        self.peeked = pieces;
        Ok(size)
    }

    /// Reads a small body whole, about which nothing is claimed.
    pub(crate) async fn read_plain(self) -> Result<Bytes, UpstreamRejection> {
        let pipeline = Pipeline::plain(None, Claims::none(), None);
        self.read_whole(pipeline).await.map(|(bytes, _)| bytes)
    }

    /// Reads a small body whole. What is returned is verified, with the trailing checksum where there is one.
    pub(crate) async fn read_whole(
        mut self,
        mut pipeline: Pipeline,
    ) -> Result<(Bytes, Option<String>), UpstreamRejection> {
        let mut whole = BytesMut::new();
        // The time in which it comes is not the total's (T1).
        self.flow.begin(clock::now());
        let trailer = loop {
            let piece = self.next().await?;
            let ended = piece.is_none();
            if let Some(piece) = piece {
                pipeline.push(piece).map_err(UpstreamRejection::Upload)?;
            }
            let trailer = if ended { pipeline.finish().map_err(UpstreamRejection::Upload)? } else { None };
            while let Some(piece) = pipeline.pop() {
                whole.extend_from_slice(&piece);
            }
            if ended {
                self.flow.end(clock::now());
                break trailer;
            }
        };
        Ok((whole.freeze(), trailer))
    }
}

impl Upload {
    /// `size` is what the upstream is told.
    pub(crate) fn new(source: Source, pipeline: Option<Pipeline>, size: Option<u64>) -> Self {
        Self { source, pipeline, ready: VecDeque::new(), size, has_ended: false }
    }

    /// Frames the body for the upstream. Must come before its first byte.
    pub(crate) fn frame(&mut self, frame: Frame, encoder: Encoder) {
        if let Some(pipeline) = &mut self.pipeline {
            self.size = frame.framed_length();
            pipeline.frame(encoder);
        }
    }

    /// The length the upstream is told; none where it is not known ahead.
    pub(crate) fn size(&self) -> Option<u64> {
        self.size
    }

    fn take(&mut self, piece: Bytes) -> Result<(), UpstreamRejection> {
        match &mut self.pipeline {
            None => self.ready.push_back(piece),
            Some(pipeline) => {
                pipeline.push(piece).map_err(UpstreamRejection::Upload)?;
                self.ready.extend(std::iter::from_fn(|| pipeline.pop()));
            }
        }
        if self.source.is_whole() { self.end() } else { Ok(()) }
    }

    /// The client has sent everything.
    fn end(&mut self) -> Result<(), UpstreamRejection> {
        self.has_ended = true;
        if let Some(mut pipeline) = self.pipeline.take() {
            pipeline.finish().map_err(UpstreamRejection::Upload)?;
            self.ready.extend(std::iter::from_fn(|| pipeline.pop()));
        }
        self.mark_end();
        Ok(())
    }

    fn mark_end(&self) {
        if self.has_ended && self.ready.is_empty() {
            self.source.flow.end(clock::now());
        }
    }

    /// The next piece for the upstream; none at the end.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UploadFailed>>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                self.mark_end();
                return Poll::Ready(Some(Ok(piece)));
            }
            if self.has_ended {
                return Poll::Ready(None);
            }
            let taken = match self.source.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(piece))) => self.take(piece),
                Poll::Ready(Some(Err(fault))) => Err(fault),
                Poll::Ready(None) => self.end(),
            };
            if let Err(fault) = taken {
                self.source.flow.fail(fault);
                return Poll::Ready(Some(Err(UploadFailed)));
            }
        }
    }

    /// The upstream takes nothing at the moment. Ready if the upload is cut.
    pub(crate) fn poll_cut(&self, cx: &Context<'_>) -> Poll<UploadFailed> {
        self.source.flow.poll_cut(cx).map(|()| {
            self.source.flow.fail(UpstreamRejection::MemoryPressure);
            UploadFailed
        })
    }

    /// The body does not have the length that the upstream was told: never the upstream's fault.
    pub(crate) fn has_other_length(&self, is_longer: bool) -> UploadFailed {
        let what = if is_longer { LONGER } else { "it is shorter than its head says" };
        self.source.flow.fail(UpstreamRejection::BodyMalformed(what.to_owned()));
        UploadFailed
    }
}

fn client_fault(error: &PayloadError) -> UpstreamRejection {
    match error {
        // What the connection's loop says of framing that is none.
        PayloadError::Io(cause) if cause.kind() == io::ErrorKind::InvalidData => {
            UpstreamRejection::BodyMalformed(cause.to_string())
        }
        PayloadError::Incomplete(_) | PayloadError::Io(_) | PayloadError::Http2Payload(_) => {
            UpstreamRejection::ClientGone
        }
        other => UpstreamRejection::BodyMalformed(other.to_string()),
    }
}
