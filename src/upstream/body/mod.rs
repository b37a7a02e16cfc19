//! The request body on its way to the upstream: byte count, size limit, progress, and the checks against the request
//! head.
//!
//! A small body is read whole. It is verified before the upstream call begins, and the request can be retried (R3). A
//! larger body is streamed with one piece in memory. `tidegate_s3::upload` verifies the body and frames it for the upstream.
//!
//! Design: `docs/design/uploads.md`.

mod upload_buffers;
pub(crate) mod upload_progress;

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
use tidegate_config::BucketConfig;
use tidegate_s3::checksum::expected_digest::ExpectedDigests;
use tidegate_s3::chunked::decode::{ChunkSizePeek, peek_chunk_size};
use tidegate_s3::chunked::encode::{ChunkEncoding, Encoder};
use tidegate_s3::upload::pipeline::Pipeline;

use crate::buffers::TransferGate;
use crate::buffers::body_memory::{ChunkMemory, ReserveBody};
use crate::upstream::body::upload_progress::UploadProgress;
use crate::upstream::{ExpiredTimeout, TimeoutKind, UpstreamRejection};

/// Bodies up to this size are read whole if the request may be retried afterwards.
pub(crate) const REPLAY_BYTES_MAX: u64 = 64 << 10;

/// The body of one request.
pub(crate) enum RequestBody {
    /// No body and no `Content-Length`.
    None,
    /// Bytes in memory. They can be sent again.
    Buffered(Bytes),
    /// A stream. It can be sent once.
    Stream(Option<Box<Upload>>),
}

impl RequestBody {
    /// The whole body, if it was read into memory.
    pub(crate) fn buffered(&self) -> Option<&Bytes> {
        match self {
            Self::Buffered(bytes) => Some(bytes),
            Self::None | Self::Stream(_) => None,
        }
    }
}

/// A streamed body. It can be sent once.
pub(crate) struct Upload {
    body: BodySource,
    /// None if the request declares neither a digest nor framing: the bytes are forwarded unchanged.
    pipeline: Option<Pipeline>,
    /// The memory of its signed chunks; none if no chunk is held.
    chunk_memory: Option<Box<ChunkMemory>>,
    /// Verified pieces that the connection has not polled yet.
    ready: VecDeque<Bytes>,
    /// The length towards the upstream, if it is known.
    size: Option<u64>,
    has_ended: bool,
}

/// The bytes that the client sends.
pub(crate) struct BodySource {
    payload: Payload,
    /// The length in the request head, framing included.
    pub(crate) declared_length: Option<u64>,
    limit: Option<u64>,
    /// The longest time between two pieces.
    idle_timeout: Duration,
    progress: Rc<UploadProgress>,
    /// Pieces that were read in advance to find out the framing.
    peeked: VecDeque<Bytes>,
}

const LONGER_THAN_DECLARED: &str = "it is longer than its declared length";

/// The connection needs an error value. `UploadProgress` has the reason.
#[derive(Debug, Error)]
#[error("the request body failed")]
pub(crate) struct UploadFailed;

impl BodySource {
    /// Takes the payload out of a request.
    pub(crate) fn from_payload(
        payload: &mut Payload,
        declared_length: Option<u64>,
        bucket: &BucketConfig,
        progress: Rc<UploadProgress>,
    ) -> Self {
        Self {
            payload: mem::replace(payload, Payload::None),
            declared_length,
            limit: bucket.max_request_size,
            idle_timeout: bucket.upstream.idle_timeout,
            progress,
            peeked: VecDeque::new(),
        }
    }

    /// The next piece. None at the end; the end must be where the request head declares it.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamRejection>>> {
        if let Some(piece) = self.peeked.pop_front() {
            return Poll::Ready(Some(Ok(piece)));
        }
        if let TransferGate::Cut(cut) = ready!(self.progress.poll_gate(cx)) {
            return Poll::Ready(Some(Err(UpstreamRejection::UploadCut(cut))));
        }
        match self.payload.poll_next_unpin(cx) {
            Poll::Pending => {
                self.progress.begin_wait(clock::now);
                let cut = self.progress.poll_slow_client_cut(cx);
                cut.map(|cut| {
                    let expired = ExpiredTimeout::of(TimeoutKind::Crowding, None);
                    let expired = ExpiredTimeout { crowding: Some(cut), ..expired };
                    Some(Err(UpstreamRejection::Timeout(expired)))
                })
            }
            Poll::Ready(Some(Ok(piece))) => {
                let bytes = self.progress.bytes() + piece.len() as u64;
                let left = self.declared_length.map(|declared| declared.saturating_sub(bytes));
                self.progress.record_streamed(piece.len(), left, clock::now());
                if let Some(limit) = self.limit.filter(|limit| self.progress.bytes() > *limit) {
                    return Poll::Ready(Some(Err(UpstreamRejection::BodyTooLarge { limit })));
                }
                if self.declared_length.is_some_and(|declared| self.progress.bytes() > declared) {
                    let fault = UpstreamRejection::BodyMalformed(LONGER_THAN_DECLARED.to_owned());
                    return Poll::Ready(Some(Err(fault)));
                }
                Poll::Ready(Some(Ok(piece)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(classify_payload_error(&error)))),
            Poll::Ready(None) if self.declared_length.is_some_and(|bytes| self.progress.bytes() < bytes) => {
                Poll::Ready(Some(Err(UpstreamRejection::ClientGone)))
            }
            Poll::Ready(None) => Poll::Ready(None),
        }
    }

    /// Whether the whole body has arrived. Always false if the head declares no length.
    fn is_complete(&self) -> bool {
        self.peeked.is_empty() && self.declared_length == Some(self.progress.bytes())
    }

    /// The next piece, within the idle timeout and the minimum body rate.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, UpstreamRejection> {
        let began = clock::now();
        let (wait_max, kind, limit) = match self.progress.remaining_wait(began) {
            Some(left) if left < self.idle_timeout => (left, TimeoutKind::BodyRate, None),
            _ => (self.idle_timeout, TimeoutKind::Upload, Some(self.idle_timeout)),
        };
        let next = tokio::time::timeout(wait_max, std::future::poll_fn(|cx| self.poll(cx)));
        let expired = |_| {
            let took = Some(clock::now().saturating_duration_since(began));
            UpstreamRejection::Timeout(ExpiredTimeout { limit, ..ExpiredTimeout::of(kind, took) })
        };
        next.await.map_err(expired)?.transpose()
    }

    /// A body that is in memory already.
    pub(crate) fn from_bytes(bytes: Bytes, bucket: &BucketConfig, progress: Rc<UploadProgress>) -> Self {
        let declared_length = Some(bytes.len() as u64);
        let mut source = Self::from_payload(&mut Payload::None, declared_length, bucket, progress);
        source.unread(bytes);
        source
    }

    /// Puts back bytes that were read too far.
    pub(crate) fn unread(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.peeked.push_front(bytes);
        }
    }

    /// Removes the size limit from the bytes on the wire, after the decoded length was checked against it.
    pub(crate) fn without_limit(mut self) -> Self {
        self.limit = None;
        self
    }

    /// The size of the first chunk of an `aws-chunked` body.
    pub(crate) async fn peek_chunk_size(&mut self) -> Result<Option<u64>, UpstreamRejection> {
        let mut pieces = VecDeque::new();
        let mut beginning = BytesMut::new();
        let size = loop {
            match peek_chunk_size(&beginning) {
                ChunkSizePeek::Size(bytes) => break Some(bytes),
                ChunkSizePeek::Invalid => break None,
                ChunkSizePeek::NeedMore => {}
            }
            let Some(piece) = self.next().await? else { break None };
            beginning.extend_from_slice(&piece[..piece.len().min(32)]);
            pieces.push_back(piece);
        };
        self.peeked = pieces;
        Ok(size)
    }

    /// Reads a small body whole. Nothing is verified.
    pub(crate) async fn read_unverified(self) -> Result<Bytes, UpstreamRejection> {
        let pipeline = Pipeline::for_data(None, ExpectedDigests::empty(), None);
        let expected_bytes = self.declared_length.unwrap_or(0).min(REPLAY_BYTES_MAX);
        self.read_buffered(pipeline, expected_bytes).await.map(|(bytes, _)| bytes)
    }

    /// Reads a small body whole and verifies it. Returns it with the trailing checksum, if there is one. `expected_bytes` is the length of
    /// its data: a buffer that grows would be copied, and the copies would stay in the allocator.
    pub(crate) async fn read_buffered(
        mut self,
        mut pipeline: Pipeline,
        expected_bytes: u64,
    ) -> Result<(Bytes, Option<String>), UpstreamRejection> {
        let mut whole = BytesMut::with_capacity(usize::try_from(expected_bytes).unwrap_or(0));
        // The time in which the body arrives does not count for the total timeout (T1).
        self.progress.begin(clock::now());
        let trailer = loop {
            let piece = self.next().await?;
            let ended = piece.is_none();
            if let Some(piece) = piece {
                pipeline.push(piece).map_err(UpstreamRejection::InvalidUpload)?;
            }
            let trailer =
                if ended { pipeline.finish().map_err(UpstreamRejection::InvalidUpload)? } else { None };
            while let Some(piece) = pipeline.pop() {
                whole.extend_from_slice(&piece);
            }
            if ended {
                self.progress.finish(clock::now());
                break trailer;
            }
        };
        Ok((whole.freeze(), trailer))
    }
}

impl Upload {
    /// `size` is the length that is sent to the upstream.
    pub(crate) fn new(body: BodySource, pipeline: Option<Pipeline>, size: Option<u64>) -> Self {
        Self { body, pipeline, chunk_memory: None, ready: VecDeque::new(), size, has_ended: false }
    }

    /// Reserves the memory of each signed chunk that is held. Must be called before the first piece is polled.
    pub(crate) fn reserve_chunks(&mut self, reserve: ReserveBody) {
        self.chunk_memory = Some(Box::new(ChunkMemory::new(reserve)));
    }

    /// Sets the framing for the upstream. Must be called before the first piece is polled.
    pub(crate) fn set_framing(&mut self, frame: ChunkEncoding, encoder: Encoder) {
        if let Some(pipeline) = &mut self.pipeline {
            self.size = frame.framed_length();
            pipeline.encode_with(encoder);
        }
    }

    /// The length that is sent to the upstream. None if it is not known in advance.
    pub(crate) fn size(&self) -> Option<u64> {
        self.size
    }

    fn push(&mut self, piece: Bytes) -> Result<(), UpstreamRejection> {
        match &mut self.pipeline {
            None => self.ready.push_back(piece),
            Some(pipeline) => {
                pipeline.push(piece).map_err(UpstreamRejection::InvalidUpload)?;
                if let Some(memory) = &mut self.chunk_memory {
                    memory
                        .grow(pipeline.held_chunk_bytes(), REPLAY_BYTES_MAX)
                        .map_err(UpstreamRejection::BodyMemory)?;
                }
                self.ready.extend(std::iter::from_fn(|| pipeline.pop()));
            }
        }
        if self.body.is_complete() { self.finish() } else { Ok(()) }
    }

    /// Handles the end of the client's body.
    fn finish(&mut self) -> Result<(), UpstreamRejection> {
        self.has_ended = true;
        if let Some(mut pipeline) = self.pipeline.take() {
            pipeline.finish().map_err(UpstreamRejection::InvalidUpload)?;
            self.ready.extend(std::iter::from_fn(|| pipeline.pop()));
        }
        self.report_end();
        Ok(())
    }

    fn report_end(&self) {
        if self.has_ended && self.ready.is_empty() {
            self.body.progress.finish(clock::now());
        }
    }

    /// The next piece for the upstream. None at the end.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UploadFailed>>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                self.report_end();
                return Poll::Ready(Some(Ok(piece)));
            }
            if self.has_ended {
                return Poll::Ready(None);
            }
            let pushed = match self.body.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(piece))) => self.push(piece),
                Poll::Ready(Some(Err(fault))) => Err(fault),
                Poll::Ready(None) => self.finish(),
            };
            if let Err(fault) = pushed {
                self.body.progress.set_failure(fault);
                return Poll::Ready(Some(Err(UploadFailed)));
            }
        }
    }

    /// Called while the upstream accepts no bytes. Ready if the upload was cut.
    pub(crate) fn poll_cut(&self, cx: &Context<'_>) -> Poll<UploadFailed> {
        self.body.progress.poll_cut(cx).map(|cut| {
            self.body.progress.set_failure(UpstreamRejection::UploadCut(cut));
            UploadFailed
        })
    }

    /// The body does not have the length that was sent to the upstream. This is never a failure of the upstream.
    pub(crate) fn fail_length(&self, is_longer: bool) -> UploadFailed {
        let what = if is_longer { LONGER_THAN_DECLARED } else { "it is shorter than its declared length" };
        self.body.progress.set_failure(UpstreamRejection::BodyMalformed(what.to_owned()));
        UploadFailed
    }
}

fn classify_payload_error(error: &PayloadError) -> UpstreamRejection {
    match error {
        // The HTTP/1.1 and HTTP/2 loops report malformed framing with this kind.
        PayloadError::Io(cause) if cause.kind() == io::ErrorKind::InvalidData => {
            UpstreamRejection::BodyMalformed(cause.to_string())
        }
        PayloadError::Incomplete(_) | PayloadError::Io(_) | PayloadError::Http2Payload(_) => {
            UpstreamRejection::ClientGone
        }
        other => UpstreamRejection::BodyMalformed(other.to_string()),
    }
}
