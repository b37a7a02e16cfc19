//! One connection to an upstream: its stream, its socket's buffers, and its place in the count of open connections.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::os::fd::RawFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::BytesMut;
use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::buffers::pipe::{PipedBytes, is_unsupported};
use crate::buffers::{BufferRetention, OpenSocket, SocketBuffers};
use crate::upstream::connect::stream::UpstreamStream;

/// The bytes to and from an upstream.
pub(crate) trait UpstreamTransport: AsyncRead + AsyncWrite + Unpin + 'static {
    /// The descriptor of the socket; none if the stream is not a socket.
    fn descriptor(&self) -> Option<RawFd>;

    /// The socket, if its bytes are those of the stream.
    fn cleartext(&self) -> Option<&TcpStream> {
        None
    }
}

impl UpstreamTransport for UpstreamStream {
    fn descriptor(&self) -> Option<RawFd> {
        Some(Self::descriptor(self))
    }

    fn cleartext(&self) -> Option<&TcpStream> {
        Self::cleartext(self)
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl UpstreamTransport for tokio::io::DuplexStream {
    fn descriptor(&self) -> Option<RawFd> {
        None
    }
}

/// Upstream connections of one bucket, on all workers.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConnectionCounts {
    open: Arc<AtomicUsize>,
    idle: Arc<AtomicUsize>,
    reused_closed: Option<IntCounter>,
}

impl ConnectionCounts {
    /// `reused_closed` counts reused connections that the upstream had closed when a request was sent.
    pub(crate) fn new(reused_closed: IntCounter) -> Self {
        Self { reused_closed: Some(reused_closed), ..Self::default() }
    }

    /// Open connections, in use or idle.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections that wait for a request.
    pub(crate) fn idle(&self) -> usize {
        self.idle.load(Ordering::Relaxed)
    }

    pub(super) fn count_reused_closed(&self) {
        if let Some(counter) = &self.reused_closed {
            counter.inc();
        }
    }

    pub(super) fn count_idle(&self) -> Counted {
        Counted::new(&self.idle)
    }
}

/// One of a number, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(number: &Arc<AtomicUsize>) -> Self {
        number.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(number))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An open connection.
pub(super) struct UpstreamConnection<S> {
    /// Dropped before the stream.
    socket: OpenSocket,
    pub(super) stream: S,
    _open: Counted,
    pub(super) opened: Instant,
    /// Whether it served a request before this one.
    pub(super) is_reused: bool,
    /// The bucket in its TLS server name. Empty: the endpoint's name alone.
    pub(super) tls_bucket: Box<str>,
}

impl<S: UpstreamTransport> UpstreamConnection<S> {
    /// `retention` is how the connection keeps its receive buffer between large bodies.
    pub(super) fn new(
        stream: S,
        counts: &ConnectionCounts,
        (retention, opened): (BufferRetention, Instant),
        tls_bucket: Box<str>,
    ) -> Self {
        let socket = OpenSocket::new(stream.descriptor(), retention);
        Self { socket, stream, _open: Counted::new(&counts.open), opened, is_reused: false, tls_bucket }
    }

    pub(super) fn socket(&self) -> &Rc<SocketBuffers> {
        self.socket.buffers()
    }

    /// Reads the bytes that have arrived. The end of the stream is an error of its own kind. Costs a readiness check as long as nothing
    /// arrives.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>> {
        pin!(self.stream.read_buf(into)).poll(cx).map(|read| match read? {
            0 => Err(closed_error()),
            bytes => Ok(bytes),
        })
    }

    /// Moves the bytes that have arrived into the pipe of the thread, at most `max`. None if they must be read: the stream has TLS, or
    /// there is no pipe.
    pub(super) fn poll_piped(&self, cx: &mut Context<'_>, max: u64) -> Poll<io::Result<Option<PipedBytes>>> {
        let Some(socket) = self.stream.cleartext() else { return Poll::Ready(Ok(None)) };
        loop {
            ready!(socket.poll_read_ready(cx))?;
            let Some(mut piped) = PipedBytes::empty() else { return Poll::Ready(Ok(None)) };
            match socket.try_io(Interest::READABLE, || piped.receive(socket, max)) {
                Ok(0) => return Poll::Ready(Err(closed_error())),
                Ok(_) => return Poll::Ready(Ok(Some(piped))),
                Err(error) if is_unsupported(&error) => return Poll::Ready(Ok(None)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Whether an idle connection can be used: it is neither closed, nor has it received a byte without a request.
    pub(super) fn is_live(&mut self) -> bool {
        let mut byte = [0];
        let mut buf = ReadBuf::new(&mut byte);
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(&mut self.stream).poll_read(&mut cx, &mut buf).is_pending()
    }
}

pub(super) fn closed_error() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the upstream closed the connection")
}
