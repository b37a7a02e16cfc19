//! A client's connection, from its socket to the first byte of HTTP.
//!
//! Where `server.proxy_protocol` is on, a trusted proxy says first, for whom it connects (L3): its header is read here, and
//! exactly its header, so that the request behind it stays in the socket. It has as much time as a request's head. Who is no
//! trusted proxy has no say: its connection begins with HTTP, where a PROXY line is malformed. A connection of a trusted proxy that
//! begins without a header may only probe (`probes.rs`); any other request on it gets 400. A connection that ends
//! before its first byte is a proxy's look at whether the port is open, and no fault.
//!
//! Then comes the handshake where the listener speaks TLS (A7), within as much time again.
//!
//! The address that a proxy gave takes the peer's place in all that follows; that it was a proxy's word travels in
//! the request's extensions.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use actix_http::Protocol;
use futures_util::FutureExt;
use slog::info;
use tidegate_actors::clock;
use tidegate_config::ServerConfig;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::http::client_address::{AddressSource, is_trusted};
use crate::http::http1::ClientTransport;
use crate::http::idle_connections::IdleSlot;
use crate::http::proxy_protocol::{self, HEADER_BYTES_MAX, Parsed};
use crate::http::tls::{H2, ServerTls};
use crate::worker::Worker;

/// A connection's bytes, and from whom its client's address was learnt.
pub(crate) struct ClientConnection<S> {
    stream: S,
    /// Its place among those that may be idle, from its first moment on.
    slot: IdleSlot,
    pub(crate) source: AddressSource,
}

/// Why there will be no request.
#[derive(Debug, PartialEq, Eq)]
enum ProxyHeaderError {
    /// The connection ended before its first byte.
    ClosedEarly,
    /// What came is no header.
    Malformed(&'static str),
    /// The header did not come whole in time.
    Late,
}

impl ClientConnection<TcpStream> {
    /// The connection and the address of its client, as far as it is known before the first request. None where the connection is
    /// refused.
    pub(crate) async fn accept(mut stream: TcpStream, worker: &Worker) -> Option<(Self, Option<SocketAddr>)> {
        stream.set_nodelay(true).ok()?;
        let mut slot = worker.connections.register(clock::now());
        let peer = stream.peer_addr().ok();
        let server = &worker.shared.config.server;
        if !server.proxy_protocol || !peer.is_some_and(|peer| is_trusted(peer.ip(), &server.trusted_proxies))
        {
            return Some((Self { stream, slot, source: AddressSource::Peer }, peer));
        }
        let begin = tokio::select! {
            biased;
            begin = read_proxy_header(&mut stream, server) => begin,
            () = slot.closing() => return None,
        };
        match begin {
            Ok(ConnectionStart::Proxied(client)) => {
                Some((Self { stream, slot, source: AddressSource::Proxy }, Some(client)))
            }
            Ok(ConnectionStart::ProxyOwn) => Some((Self { stream, slot, source: AddressSource::Peer }, peer)),
            Ok(ConnectionStart::MissingHeader) => {
                Some((Self { stream, slot, source: AddressSource::MissingProxyHeader }, peer))
            }
            Err(fault) => {
                match fault {
                    ProxyHeaderError::ClosedEarly => {}
                    ProxyHeaderError::Malformed(why) => log_rejected(worker, peer, "proxy_header", &why),
                    ProxyHeaderError::Late => log_rejected(
                        worker,
                        peer,
                        "proxy_header_timeout",
                        &"no whole PROXY header came in time",
                    ),
                }
                None
            }
        }
    }

    /// A connection of a listener that takes no PROXY header, and the address of its peer. None where the socket is broken already.
    pub(crate) fn without_proxy(stream: TcpStream, worker: &Worker) -> Option<(Self, Option<SocketAddr>)> {
        stream.set_nodelay(true).ok()?;
        let slot = worker.connections.register(clock::now());
        let peer = stream.peer_addr().ok();
        Some((Self { stream, slot, source: AddressSource::Peer }, peer))
    }

    /// The same connection behind its handshake, and the protocol that was agreed on.
    pub(crate) async fn tls_handshake(
        self,
        client: Option<SocketAddr>,
        tls: &ServerTls,
        worker: &Worker,
    ) -> Option<(ClientConnection<TlsStream<TcpStream>>, Protocol)> {
        let Self { stream, mut slot, source } = self;
        let handshake = tls.acceptor().accept(stream);
        let handshake = tokio::time::timeout(worker.shared.config.server.header_timeout, handshake);
        let secured = tokio::select! {
            biased;
            secured = handshake => secured,
            () = slot.closing() => return None,
        };
        match secured {
            Ok(Ok(stream)) => {
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(H2);
                let protocol = if is_http2 { Protocol::Http2 } else { Protocol::Http1 };
                Some((ClientConnection { stream, slot, source }, protocol))
            }
            Ok(Err(error)) => {
                // Who merely looks whether the port is open ends like that too.
                if error.kind() != io::ErrorKind::UnexpectedEof {
                    log_rejected(worker, client, "tls_handshake", &error);
                }
                None
            }
            Err(_) => {
                log_rejected(worker, client, "tls_handshake_timeout", &"the handshake did not end in time");
                None
            }
        }
    }
}

/// The beginning of a trusted proxy's connection.
enum ConnectionStart {
    /// A PROXY header that names a client.
    Proxied(SocketAddr),
    /// A PROXY header of a connection that the proxy makes for itself.
    ProxyOwn,
    /// No PROXY header, but an HTTP request: health checks of proxies often send no header, and any other request gets 400. No byte of it
    /// was consumed.
    MissingHeader,
}

async fn read_proxy_header(
    stream: &mut TcpStream,
    server: &ServerConfig,
) -> Result<ConnectionStart, ProxyHeaderError> {
    let read = tokio::time::timeout(server.header_timeout, parse_proxy_header(stream, server));
    read.await.unwrap_or(Err(ProxyHeaderError::Late))
}

async fn parse_proxy_header(
    stream: &mut TcpStream,
    server: &ServerConfig,
) -> Result<ConnectionStart, ProxyHeaderError> {
    let mut bytes = [0; HEADER_BYTES_MAX];
    // An error shows again in the read that follows.
    let count = stream.peek(&mut bytes[..2]).await.unwrap_or(0);
    if begins_request(&bytes[..count], server.tls.files().is_some()) {
        return Ok(ConnectionStart::MissingHeader);
    }
    let mut length = 0;
    loop {
        let more = match proxy_protocol::parse(&bytes[..length]) {
            Parsed::Done { address, .. } => {
                return Ok(address.map_or(ConnectionStart::ProxyOwn, ConnectionStart::Proxied));
            }
            Parsed::Malformed(why) => return Err(ProxyHeaderError::Malformed(why)),
            Parsed::NeedMore(more) => more,
        };
        match stream.read(&mut bytes[length..length + more]).await {
            Ok(count) if count > 0 => length += count,
            _ if length == 0 => return Err(ProxyHeaderError::ClosedEarly),
            _ => return Err(ProxyHeaderError::Malformed("the connection ended within the PROXY header")),
        }
    }
}

/// Whether these first bytes begin a method in capitals or, with TLS, a handshake record (RFC 8446, 5.1), and no PROXY header. A `P` that
/// comes alone may begin either, and is read as a header.
fn begins_request(first: &[u8], is_tls: bool) -> bool {
    match first {
        [first, ..] if is_tls => *first == 0x16,
        [b'P', second, ..] => *second != b'R' && second.is_ascii_uppercase(),
        [first, ..] => first.is_ascii_uppercase() && *first != b'P',
        [] => false,
    }
}

/// Tells of a connection that ended in something else than a request.
pub(crate) fn log_rejected(
    worker: &Worker,
    client: Option<SocketAddr>,
    reason: &str,
    error: &dyn fmt::Display,
) {
    worker.shared.metrics.count_unrouted(reason);
    if worker.shared.config.log.access {
        info!(worker.shared.log, "request"; "error" => error.to_string(),
            "client" => client.map(|client| client.ip().to_canonical().to_string()), "reason" => reason);
    }
}

impl<S> ClientConnection<S> {
    pub(crate) fn stream(&self) -> &S {
        &self.stream
    }

    pub(crate) fn into_parts(self) -> (S, IdleSlot) {
        (self.stream, self.slot)
    }
}

impl ClientTransport for TcpStream {
    fn reset_on_drop(&self) {
        // A connection that is broken already needs no reset.
        let _ = socket2::SockRef::from(self).set_linger(Some(Duration::ZERO));
    }

    fn is_closed(&self) -> bool {
        let readiness = self.ready(Interest::READABLE).now_or_never();
        readiness.is_some_and(|ready| ready.is_ok_and(|ready| ready.is_read_closed()))
    }

    fn descriptor(&self) -> Option<RawFd> {
        Some(self.as_raw_fd())
    }
}

impl ClientTransport for TlsStream<TcpStream> {
    fn reset_on_drop(&self) {
        self.get_ref().0.reset_on_drop();
    }

    fn is_closed(&self) -> bool {
        self.get_ref().0.is_closed()
    }

    fn descriptor(&self) -> Option<RawFd> {
        self.get_ref().0.descriptor()
    }
}
