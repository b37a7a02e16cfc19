//! A client's connection, from its socket to the first byte of HTTP.
//!
//! Where `server.proxy_protocol` is on, a trusted proxy says first, for whom it connects (L3): its header is read here, and
//! exactly its header, so that the request behind it stays in the socket. It has as much time as a request's head. Who is no
//! trusted proxy has no say: its connection begins with HTTP, where a PROXY line is malformed. A connection that ends
//! before its first byte is a proxy's look at whether the port is open, and no fault.
//!
//! Then comes the handshake where the listener speaks TLS (A7), within as much time again.
//!
//! The address that a proxy gave takes the peer's place in all that follows; that it was a proxy's word travels in
//! the connection's data.
//!
//! Beyond that first byte a connection does one thing of its own: it writes long bodies behind actix's buffer, see
//! `passage.rs`.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_http::Protocol;
use actix_http::error::DispatchError;
use slog::info;
use tidegate_config::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::http::client_address::{Source, is_trusted};
use crate::http::passage::Passage;
use crate::http::proxy_protocol::{self, HEADER_BYTES_MAX, Parsed};
use crate::http::tls::{H2, Tls};
use crate::worker::Worker;

/// A connection's bytes, and from whom its client's address was learnt.
pub(crate) struct Connection<S> {
    stream: S,
    pub(crate) source: Source,
    pub(crate) passage: Passage,
    /// All of actix's buffer is written, and its last byte not yet reported so.
    carried: bool,
}

/// Why there will be no request.
#[derive(Debug, PartialEq, Eq)]
enum Unproxied {
    /// The connection ended before its first byte.
    Silent,
    /// What came is no header.
    Malformed(&'static str),
    /// The header did not come whole in time.
    Late,
}

impl Connection<TcpStream> {
    /// Whose connection it is, as far as can be told before its first request.
    pub(crate) async fn accept(
        mut stream: TcpStream,
        worker: &Worker,
    ) -> Result<(Self, Option<SocketAddr>), DispatchError> {
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr().ok();
        let server = &worker.shared.config.server;
        if !server.proxy_protocol || !peer.is_some_and(|peer| is_trusted(peer.ip(), &server.trusted_proxies))
        {
            return Ok((Self::new(stream, Source::Peer), peer));
        }
        match proxied(&mut stream, server).await {
            Ok(Some(client)) => Ok((Self::new(stream, Source::Proxy), Some(client))),
            Ok(None) => Ok((Self::new(stream, Source::Peer), peer)),
            Err(fault) => {
                match fault {
                    Unproxied::Silent => {}
                    Unproxied::Malformed(why) => tell(worker, peer, "proxy_header", &why),
                    Unproxied::Late => {
                        tell(worker, peer, "proxy_header_timeout", &"no whole PROXY header came in time")
                    }
                }
                Err(DispatchError::Io(io::ErrorKind::InvalidData.into()))
            }
        }
    }

    /// The same connection behind its handshake, and the protocol that was agreed on.
    pub(crate) async fn secure(
        self,
        client: Option<SocketAddr>,
        tls: &Tls,
        worker: &Worker,
    ) -> Result<(Connection<TlsStream<TcpStream>>, Protocol), DispatchError> {
        let handshake = tls.acceptor().accept(self.stream);
        match tokio::time::timeout(worker.shared.config.server.header_timeout, handshake).await {
            Ok(Ok(stream)) => {
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(H2);
                let protocol = if is_http2 { Protocol::Http2 } else { Protocol::Http1 };
                Ok((Connection::new(stream, self.source), protocol))
            }
            Ok(Err(error)) => {
                // Who merely looks whether the port is open ends like that too.
                if error.kind() != io::ErrorKind::UnexpectedEof {
                    tell(worker, client, "tls_handshake", &error);
                }
                Err(DispatchError::Io(error))
            }
            Err(_) => {
                tell(worker, client, "tls_handshake_timeout", &"the handshake did not end in time");
                Err(DispatchError::Io(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

/// For whom the proxy at the other end connects; none where it does so for itself.
async fn proxied(stream: &mut TcpStream, server: &ServerConfig) -> Result<Option<SocketAddr>, Unproxied> {
    let read = tokio::time::timeout(server.header_timeout, header(stream)).await;
    read.unwrap_or(Err(Unproxied::Late))
}

async fn header(stream: &mut TcpStream) -> Result<Option<SocketAddr>, Unproxied> {
    let mut bytes = [0; HEADER_BYTES_MAX];
    let mut length = 0;
    loop {
        let more = match proxy_protocol::parse(&bytes[..length]) {
            Parsed::Done { address, .. } => return Ok(address),
            Parsed::Malformed(why) => return Err(Unproxied::Malformed(why)),
            Parsed::NeedMore(more) => more,
        };
        match stream.read(&mut bytes[length..length + more]).await {
            Ok(count) if count > 0 => length += count,
            _ if length == 0 => return Err(Unproxied::Silent),
            _ => return Err(Unproxied::Malformed("the connection ended within the PROXY header")),
        }
    }
}

/// Tells of a connection that ended in something else than a request.
pub(crate) fn tell(worker: &Worker, client: Option<SocketAddr>, reason: &str, error: &dyn fmt::Display) {
    worker.shared.metrics.unrouted(reason);
    if worker.shared.config.log.access {
        info!(worker.shared.log, "request"; "error" => error.to_string(),
            "client" => client.map(|client| client.ip().to_canonical().to_string()), "reason" => reason);
    }
}

impl<S> Connection<S> {
    pub(crate) fn new(stream: S, source: Source) -> Self {
        Self { stream, source, passage: Passage::default(), carried: false }
    }

    #[cfg(test)]
    pub(crate) fn into_stream(self) -> S {
        self.stream
    }
}

impl<S: AsyncWrite + Unpin> Connection<S> {
    /// Writes actix's buffer and, behind it, the batch in the passage.
    fn poll_write_behind(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let buffer = if self.carried { &[][..] } else { bytes };
            let stream = Pin::new(&mut self.stream);
            let polled = self.passage.write_behind(buffer, |slices| stream.poll_write_vectored(cx, slices));
            let count = match polled {
                Poll::Ready(count) => count?,
                Poll::Pending if self.carried && bytes.len() > 1 => return Poll::Ready(Ok(bytes.len() - 1)),
                Poll::Pending => return Poll::Pending,
            };
            if count < buffer.len() || count == 0 {
                return Poll::Ready(Ok(count));
            }
            self.carried = true;
            self.passage.written(count - buffer.len());
            if self.passage.is_empty() {
                self.carried = false;
                return Poll::Ready(Ok(bytes.len()));
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.passage.is_empty() {
            return Pin::new(&mut this.stream).poll_write(cx, bytes);
        }
        this.poll_write_behind(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
