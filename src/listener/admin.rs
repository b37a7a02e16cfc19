//! The connections of the admin listener: cleartext or TLS, HTTP/1.1 only.
//!
//! A connection of the reserve (`server/connection_reserve.rs`) serves one request and ends after [`RESERVE_TIME`] at
//! the latest, so clients that send or read nothing cannot keep the reserve. One that has become an event stream is of
//! the reserve no longer. Each request has [`REQUEST_TIME`] until its response begins; an upgrade has
//! `server.upgrade_timeout` too. The request's extensions hold its [`AdminConnection`] and the ticket of its connection.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::{HttpMessage, Request};
use actix_service::{IntoServiceFactory, Service, ServiceFactory, map_config};
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::middleware::from_fn;
use actix_web::web::Data;
use actix_web::{App, Error};
use tidegate_actors::{clock, descriptors};
use tokio::net::TcpStream;

use crate::admin::access::{self, AdminAccess, AdminConnection};
use crate::admin::reload::ReloadRequests;
use crate::admin::status::stream::StatusFeed;
use crate::admin::upgrade::UpgradeRequests;
use crate::admin::{self, UPGRADE, rejection};
use crate::listener::application::WebApplication;
use crate::listener::connection::ClientConnection;
use crate::listener::http1::Http1;
use crate::server::ConnectionHandler;
use crate::server::connection_reserve::{ConnectionReserve, ConnectionTicket};
use crate::worker::slot::WorkerSlot;

/// The longest life of a connection of the reserve.
const RESERVE_TIME: Duration = Duration::from_secs(2);
/// The longest time from the head of a request to that of its response.
const REQUEST_TIME: Duration = Duration::from_secs(30);

/// Serves the connections of the admin listener.
struct AdminHandler<A> {
    application: Rc<A>,
    slot: Rc<WorkerSlot>,
    reserve: Arc<ConnectionReserve>,
}

/// The application for the requests of one connection.
struct AdminService<A> {
    application: Rc<A>,
    connection: AdminConnection,
    ticket: Rc<ConnectionTicket>,
    /// The longest upgrade.
    upgrade_time: Duration,
}

/// The admin listener.
pub(crate) async fn admin_handler(
    slot: Rc<WorkerSlot>,
    reserve: Arc<ConnectionReserve>,
    (reloads, upgrades): (Arc<dyn ReloadRequests>, Arc<dyn UpgradeRequests>),
) -> io::Result<impl ConnectionHandler> {
    let access = Rc::new(AdminAccess::new(&slot.current().shared.config.admin, clock::now())?);
    let application = App::new()
        .wrap(from_fn(access::guard))
        .app_data(Rc::clone(&slot))
        .app_data(Data::new(Rc::clone(&access)))
        .app_data(Data::from(reloads))
        .app_data(Data::from(upgrades))
        .app_data(Data::new(StatusFeed::start(&slot, &reserve, &access)))
        .configure(admin::routes);
    let application = map_config(application.into_factory(), |()| AppConfig::default());
    let application = application.new_service(()).await;
    let application = application.map_err(|()| io::Error::other("the HTTP application cannot be built"))?;
    Ok(AdminHandler { application: Rc::new(application), slot, reserve })
}

impl<A> ConnectionHandler for AdminHandler<A>
where
    A: Service<Request, Response = ServiceResponse<BoxBody>, Error = Error> + 'static,
{
    async fn serve(self: Rc<Self>, stream: TcpStream, peer: Option<SocketAddr>) {
        let ticket = ConnectionTicket::acquire(&self.reserve);
        let is_reserve = ticket.is_reserve();
        {
            let mut served = pin!(self.serve_until_end(stream, peer, &ticket));
            let has_ended = is_reserve && tokio::time::timeout(RESERVE_TIME, served.as_mut()).await.is_ok();
            if !has_ended && !ticket.is_reserve() {
                served.await;
            }
            // Otherwise an incomplete response is cut: its client was too slow for the reserve.
        }
        // The descriptor of the connection may come from the reserve of descriptors.
        descriptors::fill_reserve();
    }
}

impl<A> AdminHandler<A>
where
    A: Service<Request, Response = ServiceResponse<BoxBody>, Error = Error> + 'static,
{
    async fn serve_until_end(
        &self,
        stream: TcpStream,
        client: Option<SocketAddr>,
        ticket: &Rc<ConnectionTicket>,
    ) {
        let worker = self.slot.current();
        let connection = ClientConnection::without_proxy(stream, &worker);
        let upgrade_time = worker.shared.config.server.upgrade_timeout + REQUEST_TIME;
        let http1 = |has_certificate| {
            let connection = AdminConnection { is_reserve: ticket.is_reserve(), has_certificate };
            let application = Rc::clone(&self.application);
            let service = AdminService { application, connection, ticket: Rc::clone(ticket), upgrade_time };
            Http1::new(Rc::new(WebApplication(service)), Rc::clone(&self.slot))
        };
        let Some(tls) = worker.process.admin_tls.clone() else {
            drop(worker);
            return http1(false).serve(connection, client).await;
        };
        let secured = connection.tls_handshake(client, &tls, &worker).await;
        drop(worker);
        if let Some((connection, _)) = secured {
            http1(connection.has_client_certificate()).serve(connection, client).await;
        }
    }
}

impl<A> Service<Request> for AdminService<A>
where
    A: Service<Request, Response = ServiceResponse<BoxBody>, Error = Error> + 'static,
{
    type Response = ServiceResponse<BoxBody>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>>>>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.application.poll_ready(cx)
    }

    fn call(&self, request: Request) -> Self::Future {
        request.extensions_mut().insert(self.connection);
        request.extensions_mut().insert(Rc::clone(&self.ticket));
        let time = if request.path() == UPGRADE { self.upgrade_time } else { REQUEST_TIME };
        let response = tokio::time::timeout(time, self.application.call(request));
        Box::pin(async move { response.await.unwrap_or_else(|_| Err(rejection::timeout())) })
    }
}

#[cfg(test)]
mod tests {
    use actix_service::fn_service;

    use super::*;

    /// O5: a request without a response after 30 s gets 408, and its connection closes
    #[tokio::test(start_paused = true)]
    async fn a_request_has_a_time_limit() {
        let stuck =
            fn_service(|_: Request| std::future::pending::<Result<ServiceResponse<BoxBody>, Error>>());
        let ticket = ConnectionTicket::acquire(&ConnectionReserve::new(1, 0));
        let (connection, upgrade_time) = (AdminConnection::default(), REQUEST_TIME * 2);
        let service = AdminService { application: Rc::new(stuck), connection, ticket, upgrade_time };
        let began = clock::now();
        let error = service.call(Request::new()).await.unwrap_err();
        assert!(clock::now().duration_since(began) >= REQUEST_TIME);
        let response = error.error_response();
        assert_eq!(response.status().as_u16(), 408);
        assert!(!response.head().keep_alive());
    }
}
