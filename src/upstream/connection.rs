//! One connection to an upstream, counted, with an end of stream that cannot be overlooked.
//!
//! awc takes a closed connection for the end of a chunked body, so a truncated answer would look whole (T6). Here the
//! end of the stream is an error of its own kind; the answer's body knows whether a close may end it. An answer that comes
//! before its request is written is kept, see `early.rs`; one whose body only the close ends is mended, see `head.rs`.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use actix_rt::net::{ActixStream, Ready};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::upstream::early;
use crate::upstream::flow::Flow;
use crate::upstream::head::{Sight, mend};
use crate::upstream::stream::Stream;

/// A connection that counts itself and notices an answer that comes before its request is written.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    open: Arc<AtomicUsize>,
    early: Early,
    head: Head,
}

/// How far the head of the next answer has come.
#[derive(Debug)]
enum Head {
    /// None is due: what comes is body.
    Passed,
    /// A request was written. What has come so far is kept until it is a whole head.
    Due(BytesMut),
    /// It came in pieces; these bytes are still to be handed on.
    Kept(BytesMut),
}

/// How far an answer has come that came too early.
#[derive(Debug)]
enum Early {
    /// Nothing has come.
    No,
    /// A final answer to this call. Its first bytes are still to be read; whatever is written is swallowed.
    Final(BytesMut, Rc<Flow>),
}

const EARLY_BYTES_MAX: usize = 8 << 10;
/// A head longer than this is handed on as it is; the decoder refuses it.
const HEAD_BYTES_MAX: usize = 128 << 10;

impl Connection {
    pub(crate) fn new(stream: Stream, open: Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self { stream, open, early: Early::No, head: Head::Passed }
    }

    /// Looks whether the upstream has answered already. Costs a flag as long as it has not.
    fn look_for_answer(&mut self, cx: &mut Context<'_>) {
        let (Early::No, Head::Due(kept)) = (&self.early, &mut self.head) else { return };
        let Some(flow) = early::uploading() else { return };
        if !self.stream.take_arrived(cx, kept, EARLY_BYTES_MAX) {
            return;
        }
        if is_whole(kept) {
            flow.answer_early();
            self.early = Early::Final(std::mem::take(kept), flow);
            self.head = Head::Passed;
        }
    }

    /// Whether what was just read may be handed on; a part of a head is kept back until it can be looked at whole.
    fn hands_on(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> bool {
        let Head::Due(kept) = &mut self.head else { return true };
        if kept.is_empty() && mend(&mut buf.filled_mut()[before..]) == Sight::Whole {
            self.head = Head::Passed;
            return true;
        }
        kept.extend_from_slice(&buf.filled()[before..]);
        buf.set_filled(before);
        if !is_whole(kept) && kept.len() < HEAD_BYTES_MAX {
            return false;
        }
        let mut bytes = std::mem::take(kept);
        move_into(buf, &mut bytes);
        self.head = if bytes.is_empty() { Head::Passed } else { Head::Kept(bytes) };
        true
    }

    fn swallows(&self) -> bool {
        matches!(self.early, Early::Final(..))
    }

    fn write_with(
        &mut self,
        cx: &mut Context<'_>,
        length: usize,
        write: impl FnOnce(Pin<&mut Stream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if matches!((&self.early, &self.head), (Early::No, Head::Passed)) {
            self.head = Head::Due(BytesMut::new());
        }
        self.look_for_answer(cx);
        if self.swallows() {
            return Poll::Ready(Ok(length));
        }
        let written = write(Pin::new(&mut self.stream), cx);
        if let Poll::Ready(Err(_)) = &written {
            // An upstream that answers and closes resets what is still written; its answer may be there all the same.
            self.look_for_answer(cx);
            if self.swallows() {
                return Poll::Ready(Ok(length));
            }
        }
        written
    }
}

/// Leaves interim answers (1xx) out, which awc would take for the final one, and mends the head behind them.
fn is_whole(bytes: &mut BytesMut) -> bool {
    loop {
        match mend(bytes) {
            Sight::Interim { length } => bytes.advance(length),
            Sight::Partial => return false,
            Sight::Whole => return true,
        }
    }
}

fn move_into(buf: &mut ReadBuf<'_>, bytes: &mut BytesMut) {
    let count = bytes.len().min(buf.remaining());
    buf.put_slice(&bytes.split_to(count));
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.early {
            Early::No => {}
            Early::Final(_, flow) if early::is_another(flow) => {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::BrokenPipe,
                    "the connection has answered early",
                )));
            }
            Early::Final(bytes, _) if !bytes.is_empty() => {
                move_into(buf, bytes);
                return Poll::Ready(Ok(()));
            }
            Early::Final(..) => {}
        }
        if let Head::Kept(bytes) = &mut self.head {
            move_into(buf, bytes);
            if bytes.is_empty() {
                self.head = Head::Passed;
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        loop {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
            if buf.filled().len() == before && buf.remaining() > 0 {
                let end = io::Error::new(io::ErrorKind::UnexpectedEof, "the upstream closed the connection");
                return Poll::Ready(Err(end));
            }
            if self.hands_on(buf, before) {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write_with(cx, bytes.len(), |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bytes.iter().map(|slice| slice.len()).sum();
        self.write_with(cx, length, |stream, cx| stream.poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl ActixStream for Connection {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_read_ready(&self.stream, cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_write_ready(&self.stream, cx)
    }
}
