//! Serves the connections of a listener: from an accepted socket to the loop of its protocol.
//!
//! The acceptor and the worker threads are in `server/`. A data listener uses cleartext or TLS. Each has its own
//! type, so cleartext connections have no TLS overhead. `http1` serves HTTP/1.1 and `http2` HTTP/2; both call the
//! same application (`application.rs`). The admin listener (`admin.rs`) uses HTTP/1.1 and has its own application.

mod admin;
mod application;
pub(crate) mod connection;
pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod keep_alive;
pub(crate) mod proxy_protocol;
pub(crate) mod send_buffer;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use actix_http::Protocol;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

pub(crate) use admin::admin_handler;

use crate::listener::application::DataApplication;
use crate::listener::connection::ClientConnection;
use crate::listener::http1::Http1;
use crate::server::ConnectionHandler;
use crate::server::tls::ServerTls;
use crate::telemetry::metrics::connections::{HttpProtocol, TlsVersion};
use crate::worker::slot::WorkerSlot;

/// Serves the cleartext connections of one worker thread.
pub(crate) struct CleartextHandler {
    http1: Http1<DataApplication>,
    slot: Rc<WorkerSlot>,
}

/// Serves the TLS connections of one worker thread.
pub(crate) struct TlsHandler {
    application: Rc<DataApplication>,
    http1: Http1<DataApplication>,
    slot: Rc<WorkerSlot>,
    tls: Arc<ServerTls>,
}

/// The data listener without TLS.
pub(crate) async fn cleartext_handler(slot: Rc<WorkerSlot>) -> io::Result<impl ConnectionHandler> {
    let application = Rc::new(DataApplication::new(Rc::clone(&slot)));
    Ok(CleartextHandler { http1: Http1::new(application, Rc::clone(&slot)), slot })
}

/// The data listener with TLS.
pub(crate) async fn tls_handler(
    slot: Rc<WorkerSlot>,
    tls: Arc<ServerTls>,
) -> io::Result<impl ConnectionHandler> {
    let application = Rc::new(DataApplication::new(Rc::clone(&slot)));
    let http1 = Http1::new(Rc::clone(&application), Rc::clone(&slot));
    Ok(TlsHandler { application, http1, slot, tls })
}

impl ConnectionHandler for CleartextHandler {
    async fn serve(self: Rc<Self>, stream: TcpStream, peer: Option<SocketAddr>) {
        let accepted = {
            let worker = self.slot.begin();
            let accepted = ClientConnection::accept(stream, peer, &worker).await;
            if accepted.is_some() {
                worker.process.metrics.client_connections.count(HttpProtocol::Http1, TlsVersion::None);
            }
            accepted
        };
        if let Some((connection, client)) = accepted {
            self.http1.serve(connection, client).await;
        }
    }
}

impl ConnectionHandler for TlsHandler {
    /// Serves HTTP/1.1 or HTTP/2, as the TLS handshake negotiates.
    async fn serve(self: Rc<Self>, stream: TcpStream, peer: Option<SocketAddr>) {
        match self.handshake(stream, peer).await {
            Some((connection, client, Protocol::Http2)) => {
                http2::serve(connection, client, &self.application, &self.slot).await;
            }
            Some((connection, client, _)) => self.http1.serve(connection, client).await,
            None => {}
        }
    }
}

impl TlsHandler {
    /// The connection after its PROXY header and its handshake, its client's address, and the negotiated protocol.
    async fn handshake(
        &self,
        stream: TcpStream,
        peer: Option<SocketAddr>,
    ) -> Option<(ClientConnection<TlsStream<TcpStream>>, Option<SocketAddr>, Protocol)> {
        let worker = self.slot.begin();
        let (connection, client) = ClientConnection::accept(stream, peer, &worker).await?;
        let (connection, protocol) = connection.tls_handshake(client, &self.tls, &worker).await?;
        Some((connection, client, protocol))
    }
}
