//! One TCP connection to an upstream, counted, with an end of stream that cannot be overlooked.
//!
//! awc takes a closed connection for the end of a chunked body, so a truncated answer would look whole (T6). Here the
//! end of the stream is an error of its own kind; the answer's body knows whether a close may end it. An answer that comes
//! before its request is written is kept, see `early.rs`.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use actix_rt::net::{ActixStream, Ready, TcpStream};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::upstream::early;
use crate::upstream::flow::Flow;

/// A connection that counts itself and notices an answer that comes before its request is written.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    open: Arc<AtomicUsize>,
    early: Early,
}

/// How far an answer has come that came too early.
#[derive(Debug)]
enum Early {
    /// Nothing has come.
    No,
    /// An interim answer (1xx), read while the request was being written; the writing goes on.
    Interim(BytesMut),
    /// A final answer to this call. Its first bytes are still to be read; whatever is written is swallowed.
    Final(BytesMut, Rc<Flow>),
}

const EARLY_BYTES_MAX: usize = 8 << 10;

impl Connection {
    pub(crate) fn new(stream: TcpStream, open: Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self { stream, open, early: Early::No }
    }

    /// Looks whether the upstream has answered already. Costs a flag as long as it has not.
    fn look_for_answer(&mut self, cx: &mut Context<'_>) {
        if !matches!(self.early, Early::No) {
            return;
        }
        let Some(flow) = early::uploading() else { return };
        if self.stream.poll_read_ready(cx).is_pending() {
            return;
        }
        let mut bytes = BytesMut::with_capacity(EARLY_BYTES_MAX);
        // An error or the end of the stream is left for the write to find.
        if !self.stream.try_read_buf(&mut bytes).is_ok_and(|count| count > 0) {
            return;
        }
        self.early = if early::is_final(&bytes) {
            flow.answer_early();
            Early::Final(bytes, flow)
        } else {
            Early::Interim(bytes)
        };
    }

    fn swallows(&self) -> bool {
        matches!(self.early, Early::Final(..))
    }

    fn write_with(
        &mut self,
        cx: &mut Context<'_>,
        length: usize,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
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
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.early {
            Early::No => {}
            Early::Interim(bytes) => {
                move_into(buf, bytes);
                if bytes.is_empty() {
                    self.early = Early::No;
                }
                return Poll::Ready(Ok(()));
            }
            Early::Final(_, flow) if early::is_another(flow) => {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, "the connection has answered early")));
            }
            Early::Final(bytes, _) if !bytes.is_empty() => {
                move_into(buf, bytes);
                return Poll::Ready(Ok(()));
            }
            Early::Final(..) => {}
        }
        let before = buf.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) if buf.filled().len() == before && buf.remaining() > 0 => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the upstream closed the connection")))
            }
            other => other,
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
