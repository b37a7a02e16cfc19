//! The byte stream to an upstream, with TLS or without.
//!
//! One type for both; the plain case costs a branch. A peer that closes without
//! `close_notify` may have been cut off by an attacker on the path (RFC 8446, 6.1): that is a broken connection and
//! not the end of a response.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use tidegate_actors::ephemeral_ports::LocalPort;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::buffers;
use crate::upstream::connect::tls_failure::TlsFailure;

/// The byte stream of a connection, which holds its local port.
#[derive(Debug)]
pub(crate) struct UpstreamStream {
    transport: Transport,
    port: LocalPort,
}

#[derive(Debug)]
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The side that closes first keeps the port in TIME_WAIT.
impl Drop for UpstreamStream {
    fn drop(&mut self) {
        if buffers::would_close_first(self.descriptor()) {
            self.port.keep_in_time_wait();
        }
    }
}

impl UpstreamStream {
    /// A connection without TLS.
    pub(crate) fn plain(stream: TcpStream, port: LocalPort) -> Self {
        Self { transport: Transport::Plain(stream), port }
    }

    /// A connection with TLS.
    pub(crate) fn tls(stream: TlsStream<TcpStream>, port: LocalPort) -> Self {
        Self { transport: Transport::Tls(Box::new(stream)), port }
    }

    /// The descriptor of the socket.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.socket().as_raw_fd()
    }

    /// The socket of a connection without TLS.
    pub(crate) fn cleartext(&self) -> Option<&TcpStream> {
        match &self.transport {
            Transport::Plain(stream) => Some(stream),
            Transport::Tls(_) => None,
        }
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        match &self.transport {
            Transport::Plain(stream) => stream,
            Transport::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf).map_err(map_read_error),
        }
    }
}

/// The end of the stream has its own meaning for the reader of a response, so a TLS truncation needs another error
/// kind. With TLS 1.3 an endpoint may reject the handshake after the gateway's part of it is done.
fn map_read_error(error: io::Error) -> io::Error {
    let error = TlsFailure::wrap(error);
    if error.kind() == io::ErrorKind::UnexpectedEof {
        io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "the upstream closed the connection without TLS close_notify",
        )
    } else {
        error
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
