//! A long body on its way past actix's write buffer: see `http/passage.rs` for why, and for the rules it keeps.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::ResponseHead;
use actix_web::http::header::{CONTENT_LENGTH, HeaderValue};
use bytes::Bytes;

use crate::http::passage::Passage;
use crate::upstream::answer::{AnswerBody, TransferError};

/// For a shorter body, one more turn of the connection's task costs more than its copy.
const LONG_BYTES_MIN: u64 = 32 << 10;
/// What may wait to be written: a client that does not read holds as much, and one piece more.
const BATCH_BYTES: usize = 64 << 10;

pub(crate) fn is_long(size: BodySize) -> bool {
    matches!(size, BodySize::Sized(bytes) if bytes >= LONG_BYTES_MIN)
}

/// An upstream's body of a known length.
pub(crate) struct LongBody {
    body: Box<AnswerBody>,
    passage: Passage,
    has_ended: bool,
}

impl LongBody {
    /// Takes the length into the head, where actix would count what passes through its buffer.
    pub(crate) fn new(body: Box<AnswerBody>, passage: Passage, head: &mut ResponseHead) -> Self {
        if let BodySize::Sized(bytes) = body.size() {
            head.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(bytes));
            head.no_chunking(true);
        }
        Self { body, passage, has_ended: false }
    }
}

impl MessageBody for LongBody {
    type Error = TransferError;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, TransferError>>> {
        loop {
            if self.passage.bytes() >= BATCH_BYTES || (self.has_ended && !self.passage.is_empty()) {
                self.passage.wait(cx);
                return Poll::Pending;
            }
            if self.has_ended {
                return Poll::Ready(None);
            }
            match Pin::new(&mut *self.body).poll_next(cx) {
                Poll::Ready(Some(Ok(piece))) if piece.is_empty() => {}
                Poll::Ready(Some(Ok(mut piece))) if self.passage.is_empty() => {
                    let carrier = piece.split_to(1);
                    self.passage.push(piece);
                    return Poll::Ready(Some(Ok(carrier)));
                }
                Poll::Ready(Some(Ok(piece))) => self.passage.push(piece),
                Poll::Ready(None) => self.has_ended = true,
                other => return other,
            }
        }
    }
}
