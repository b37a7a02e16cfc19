//! A client's connection, from `accept` to the first byte of HTTP.
//!
//! With `server.proxy_protocol`, a trusted proxy sends a PROXY header with its client's address first (L3). It is
//! read here to its exact length, so the request after it stays in the socket; the time limit is
//! `server.header_timeout`. Connections of untrusted peers begin with HTTP, and a PROXY line there is malformed. A
//! trusted proxy that sends no PROXY header may only probe (`http/probes.rs`); any other request on its connection gets
//! 400. A connection that ends before its first byte is a port check and not an error.
//!
//! Then follows the TLS handshake if the listener uses TLS (A7), with `server.header_timeout` again.
//!
//! The address from the PROXY header replaces the peer's in everything that follows; the request's extensions hold
//! its [`AddressSource`].

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
use tokio_rustls::rustls::ProtocolVersion;
use tokio_rustls::server::TlsStream;

use crate::client_address::{AddressSource, is_trusted};
use crate::decisions::decision::{DecisionFacts, DecisionKind, DecisionScope, EntryTexts, Figures};
use crate::listener::http1::ClientTransport;
use crate::listener::proxy_protocol;
use crate::listener::proxy_protocol::{HEADER_BYTES_MAX, Parsed};
use crate::server::idle_connections::IdleSlot;
use crate::server::tls::{H2, ServerTls};
use crate::telemetry::metrics::connections::{HttpProtocol, TlsVersion};
use crate::worker::Worker;

/// A connection's stream, and the source of its client's address.
pub(crate) struct ClientConnection<S> {
    stream: S,
    /// Its entry in the worker's list of connections, from `accept` on.
    slot: IdleSlot,
    pub(crate) source: AddressSource,
}

/// Why no client address could be read.
#[derive(Debug, PartialEq, Eq)]
enum ProxyHeaderError {
    /// The connection ended before its first byte.
    ClosedEarly,
    /// The bytes are not a PROXY header.
    Malformed(&'static str),
    /// The header was incomplete when its time expired.
    Timeout,
}

impl ClientConnection<TcpStream> {
    /// Begins a connection of this peer: the connection and the address of its client. `None` if the connection is refused.
    pub(crate) async fn accept(
        mut stream: TcpStream,
        peer: Option<SocketAddr>,
        worker: &Worker,
    ) -> Option<(Self, Option<SocketAddr>)> {
        let mut slot = worker.client_connections.register(clock::now());
        let server = &worker.shared.config.server;
        if !server.proxy_protocol || !peer.is_some_and(|peer| is_trusted(peer.ip(), &server.trusted_proxies))
        {
            return Some((Self { stream, slot, source: AddressSource::Peer }, peer));
        }
        let start = tokio::select! {
            biased;
            start = read_proxy_header(&mut stream, server) => start,
            () = slot.closing() => return None,
        };
        match start {
            Ok(ConnectionStart::Proxied(client)) => {
                Some((Self { stream, slot, source: AddressSource::Proxy }, Some(client)))
            }
            Ok(ConnectionStart::ProxyOwn) => Some((Self { stream, slot, source: AddressSource::Peer }, peer)),
            Ok(ConnectionStart::MissingHeader) => {
                Some((Self { stream, slot, source: AddressSource::MissingProxyHeader }, peer))
            }
            Err(error) => {
                match error {
                    ProxyHeaderError::ClosedEarly => {}
                    ProxyHeaderError::Malformed(why) => log_rejected(worker, peer, "proxy_header", &why),
                    ProxyHeaderError::Timeout => log_rejected(
                        worker,
                        peer,
                        "proxy_header_timeout",
                        &"the PROXY header was not complete within server.header_timeout",
                    ),
                }
                None
            }
        }
    }

    /// A connection of a listener without PROXY headers.
    pub(crate) fn without_proxy(stream: TcpStream, worker: &Worker) -> Self {
        let slot = worker.client_connections.register(clock::now());
        Self { stream, slot, source: AddressSource::Peer }
    }

    /// Runs the TLS handshake; returns the connection and the negotiated protocol.
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
                let session = stream.get_ref().1;
                let version = match session.protocol_version() {
                    Some(ProtocolVersion::TLSv1_2) => TlsVersion::Tls12,
                    _ => TlsVersion::Tls13,
                };
                let (protocol, http) = match session.alpn_protocol() == Some(H2) {
                    true => (Protocol::Http2, HttpProtocol::Http2),
                    false => (Protocol::Http1, HttpProtocol::Http1),
                };
                worker.process.metrics.client_connections.count(http, version);
                Some((ClientConnection { stream, slot, source }, protocol))
            }
            Ok(Err(error)) => {
                // A port check ends like that too.
                if error.kind() != io::ErrorKind::UnexpectedEof {
                    log_rejected(worker, client, "tls_handshake", &error);
                }
                None
            }
            Err(_) => {
                log_rejected(
                    worker,
                    client,
                    "tls_handshake_timeout",
                    &"the TLS handshake did not end within server.header_timeout",
                );
                None
            }
        }
    }
}

impl ClientConnection<TlsStream<TcpStream>> {
    /// Whether the client has shown a certificate of a known authority in its handshake.
    pub(crate) fn has_client_certificate(&self) -> bool {
        let (_, session) = self.stream.get_ref();
        session.peer_certificates().is_some_and(|certificates| !certificates.is_empty())
    }
}

/// The beginning of a trusted proxy's connection.
enum ConnectionStart {
    /// A PROXY header that names a client.
    Proxied(SocketAddr),
    /// A PROXY header of the proxy's own connection (`LOCAL`, `UNKNOWN`).
    ProxyOwn,
    /// An HTTP request without a PROXY header: health checks of proxies often send none, and any other request gets
    /// 400. No byte of it was consumed.
    MissingHeader,
}

async fn read_proxy_header(
    stream: &mut TcpStream,
    server: &ServerConfig,
) -> Result<ConnectionStart, ProxyHeaderError> {
    let read = tokio::time::timeout(server.header_timeout, parse_proxy_header(stream, server));
    read.await.unwrap_or(Err(ProxyHeaderError::Timeout))
}

async fn parse_proxy_header(
    stream: &mut TcpStream,
    server: &ServerConfig,
) -> Result<ConnectionStart, ProxyHeaderError> {
    let mut bytes = [0; HEADER_BYTES_MAX];
    // The read below returns the same error again.
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

/// Whether these first bytes begin a method in capitals or, with TLS, a handshake record (RFC 8446, 5.1). A single
/// `P` may begin a method or a PROXY header, and is read as a header.
fn begins_request(first: &[u8], is_tls: bool) -> bool {
    match first {
        [first, ..] if is_tls => *first == 0x16,
        [b'P', second, ..] => *second != b'R' && second.is_ascii_uppercase(),
        [first, ..] => first.is_ascii_uppercase() && *first != b'P',
        [] => false,
    }
}

/// Logs and counts a connection that ended without a valid request. On the admin listener it is no decision, and has one log line
/// for each address and minute, because its client has shown no token.
pub(crate) fn log_rejected(
    worker: &Worker,
    client: Option<SocketAddr>,
    reason: &'static str,
    error: &dyn fmt::Display,
) {
    worker.process.metrics.unrouted.count(reason);
    let detail = error.to_string();
    let is_logged = match (&worker.rejected_addresses, client) {
        (None, _) => {
            let facts = DecisionFacts {
                client: client.map(|client| client.ip().to_canonical()),
                ..DecisionFacts::new(DecisionKind::Refusal, reason, Figures::of(DecisionScope::Request))
            };
            worker.decisions.record(facts, &EntryTexts { detail: &detail, ..EntryTexts::default() });
            true
        }
        (Some(addresses), Some(client)) => addresses.borrow_mut().is_first(client.ip(), clock::now()),
        (Some(_), None) => false,
    };
    if is_logged && worker.shared.config.log.access {
        info!(worker.process.log, "request"; "error" => detail,
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
    const HAS_CLOSING_MESSAGE: bool = false;

    fn reset_on_drop(&self) {
        // A broken connection needs no reset.
        let _ = socket2::SockRef::from(self).set_linger(Some(Duration::ZERO));
    }

    fn is_closed(&self) -> bool {
        let readiness = self.ready(Interest::READABLE).now_or_never();
        readiness.is_some_and(|ready| ready.is_ok_and(|ready| ready.is_read_closed()))
    }

    fn descriptor(&self) -> Option<RawFd> {
        Some(self.as_raw_fd())
    }

    fn cleartext(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

impl ClientTransport for TlsStream<TcpStream> {
    const HAS_CLOSING_MESSAGE: bool = true;

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
