//! A client's connection, from its socket to the first byte of HTTP.
//!
//! Where `server.proxy_protocol` is on, a trusted proxy says first, for whom it connects (L3): its header is read here, and
//! exactly its header, so that the request behind it stays in the socket. It has as much time as a request's head. Who is no
//! trusted proxy has no say: its connection begins with HTTP, where a PROXY line is malformed. A connection that ends
//! before its first byte is a proxy's look at whether the port is open, and no fault.
//!
//! The address that a proxy gave takes the peer's place in all that follows; that it was a proxy's word travels in
//! the connection's data. Without the setting neither costs anything.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_http::error::DispatchError;
use slog::info;
use tidegate_config::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::http::client_address::{Source, is_trusted};
use crate::http::proxy_protocol::{self, HEADER_BYTES_MAX, Parsed};
use crate::worker::Worker;

/// A connection's bytes, and from whom its client's address was learnt.
pub(crate) struct Connection<S> {
    stream: S,
    pub(crate) source: Source,
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
            return Ok((Self { stream, source: Source::Peer }, peer));
        }
        match proxied(&mut stream, server).await {
            Ok(Some(client)) => Ok((Self { stream, source: Source::Proxy }, Some(client))),
            Ok(None) => Ok((Self { stream, source: Source::Peer }, peer)),
            Err(fault) => {
                tell(worker, peer, &fault);
                Err(DispatchError::Io(io::ErrorKind::InvalidData.into()))
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

fn tell(worker: &Worker, peer: Option<SocketAddr>, fault: &Unproxied) {
    let (reason, error) = match fault {
        Unproxied::Silent => return,
        Unproxied::Malformed(why) => ("proxy_header", *why),
        Unproxied::Late => ("proxy_header_timeout", "the PROXY header did not come in time"),
    };
    worker.shared.metrics.unrouted(reason);
    if worker.shared.config.log.access {
        info!(worker.shared.log, "request"; "error" => error,
            "client" => peer.map(|peer| peer.ip().to_canonical().to_string()), "reason" => reason);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
