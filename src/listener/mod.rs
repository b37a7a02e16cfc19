//! Serves the connections of a listener: from an accepted socket to the loop of its protocol.
//!
//! The acceptor and the worker threads are in `server/`. A data listener uses cleartext or TLS. Each has its own
//! type, so cleartext connections have no TLS overhead. `http1` serves HTTP/1.1 and `http2` HTTP/2; both call the
//! same application. The admin listener (`admin.rs`) uses HTTP/1.1 and has its own application.

mod admin;
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

use actix_http::{Protocol, Request};
use actix_service::{IntoServiceFactory, Service, ServiceFactory, map_config};
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::web;
use actix_web::{App, Error};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

pub(crate) use admin::admin_handler;

use crate::http::proxy;
use crate::listener::connection::ClientConnection;
use crate::listener::http1::Http1;
use crate::server::ConnectionHandler;
use crate::server::tls::ServerTls;
use crate::telemetry::metrics::connections::{HttpProtocol, TlsVersion};
use crate::worker::slot::WorkerSlot;

/// Serves the cleartext connections of one worker thread.
pub(crate) struct CleartextHandler<A> {
    http1: Http1<A>,
    slot: Rc<WorkerSlot>,
}

/// Serves the TLS connections of one worker thread.
pub(crate) struct TlsHandler<A> {
    application: Rc<A>,
    http1: Http1<A>,
    slot: Rc<WorkerSlot>,
    tls: Arc<ServerTls>,
}

/// The data listener without TLS.
pub(crate) async fn cleartext_handler(slot: Rc<WorkerSlot>) -> io::Result<impl ConnectionHandler> {
    let application = Rc::new(data_application(&slot).await?);
    Ok(CleartextHandler { http1: Http1::new(application, Rc::clone(&slot)), slot })
}

/// The data listener with TLS.
pub(crate) async fn tls_handler(
    slot: Rc<WorkerSlot>,
    tls: Arc<ServerTls>,
) -> io::Result<impl ConnectionHandler> {
    let application = Rc::new(data_application(&slot).await?);
    let http1 = Http1::new(Rc::clone(&application), Rc::clone(&slot));
    Ok(TlsHandler { application, http1, slot, tls })
}

impl<A> ConnectionHandler for CleartextHandler<A>
where
    A: Service<Request, Response = ServiceResponse<BoxBody>, Error = Error> + 'static,
{
    async fn serve(self: Rc<Self>, stream: TcpStream) {
        let accepted = {
            let worker = self.slot.current();
            let accepted = ClientConnection::accept(stream, &worker).await;
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

impl<A> ConnectionHandler for TlsHandler<A>
where
    A: Service<Request, Response = ServiceResponse<BoxBody>, Error = Error> + 'static,
{
    /// Serves HTTP/1.1 or HTTP/2, as the TLS handshake negotiates.
    async fn serve(self: Rc<Self>, stream: TcpStream) {
        match self.handshake(stream).await {
            Some((connection, client, Protocol::Http2)) => {
                http2::serve(connection, client, &self.application, &self.slot).await;
            }
            Some((connection, client, _)) => self.http1.serve(connection, client).await,
            None => {}
        }
    }
}

impl<A> TlsHandler<A> {
    /// The connection after its PROXY header and its handshake, its client's address, and the negotiated protocol.
    async fn handshake(
        &self,
        stream: TcpStream,
    ) -> Option<(ClientConnection<TlsStream<TcpStream>>, Option<SocketAddr>, Protocol)> {
        let worker = self.slot.current();
        let (connection, client) = ClientConnection::accept(stream, &worker).await?;
        let (connection, protocol) = connection.tls_handshake(client, &self.tls, &worker).await?;
        Some((connection, client, protocol))
    }
}

/// The application of the data listener, for both protocols.
async fn data_application(
    slot: &Rc<WorkerSlot>,
) -> io::Result<impl Service<Request, Response = ServiceResponse<BoxBody>, Error = Error> + 'static + use<>> {
    let application = App::new().app_data(Rc::clone(slot)).default_service(web::to(proxy::proxy));
    build_service(map_config(application.into_factory(), |()| AppConfig::default())).await
}

async fn build_service<F>(factory: F) -> io::Result<F::Service>
where
    F: ServiceFactory<Request, Config = (), InitError = ()>,
{
    factory.new_service(()).await.map_err(|()| io::Error::other("the HTTP application cannot be built"))
}
