//! The data listener's connections: from an accepted socket to requests in `proxy.rs`.
//!
//! actix-web's own server would do, but for what needs the layer below it: a request with
//! `Expect: 100-continue` is decided on before the 100 is sent (RFC 9110, 10.1.1), what the HTTP parser refuses
//! before there is a request is logged and counted (V1, V2), and HTTP/2 is spoken by `http2/`. The parser answers what it
//! refuses itself, with an empty body.
//!
//! A listener speaks cleartext or TLS, and the two are services of their own, so that cleartext pays nothing for the other.
//!
//! Deliberately absent: a certain answer to badly framed chunks of a body (V1). actix-http takes them for a broken connection: a
//! client whose request was waiting for its body already hears 400, any other sees the connection close. The upstream
//! gets no end of the body in either case.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::error::{DispatchError, ParseError};
use actix_http::{HttpService, Protocol, Request};
use actix_server::GracefulShutdownSignal;
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, apply_fn_factory, fn_factory, fn_service,
    map_config,
};
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::web::{self, Data};
use actix_web::{App, Error};
use futures_util::future::Either;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::http::connection::{Connection, tell};
use crate::http::http2;
use crate::http::tls::Tls;
use crate::http::{probes, proxy};
use crate::worker::Worker;

/// Answers are written to a connection in pieces of about this size: one system call for an object of 64 KiB, where
/// actix's default needs two. A client that does not read holds as much.
const WRITE_BYTES: usize = 64 << 10;
/// How long a closed connection may linger.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// What a connection is by the time HTTP begins.
type Accepted<S> = (Connection<S>, Protocol, Option<SocketAddr>);

/// What serves the cleartext connections of one worker thread.
pub(crate) fn plain(
    worker: &Rc<Worker>,
    draining: &GracefulShutdownSignal,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = DispatchError, InitError = ()> + use<>
{
    let accepted_by = Rc::clone(worker);
    let accepting = fn_service(move |stream: TcpStream| {
        let worker = Rc::clone(&accepted_by);
        async move {
            let (connection, client) = Connection::accept(stream, &worker).await?;
            Ok((connection, Protocol::Http1, client))
        }
    });
    accepting.and_then(http1(worker, draining))
}

/// What serves the secured connections of one worker thread.
pub(crate) fn secured(
    worker: &Rc<Worker>,
    draining: &GracefulShutdownSignal,
    tls: &Arc<Tls>,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = DispatchError, InitError = ()> + use<>
{
    let (accepted_by, tls) = (Rc::clone(worker), Arc::clone(tls));
    let accepting = fn_service(move |stream: TcpStream| {
        let (worker, tls) = (Rc::clone(&accepted_by), Arc::clone(&tls));
        async move {
            let (connection, client) = Connection::accept(stream, &worker).await?;
            let (connection, protocol) = connection.secure(client, &tls, &worker).await?;
            Ok((connection, protocol, client))
        }
    });
    accepting.and_then(either(worker, draining))
}

/// HTTP/1.1 or HTTP/2, as was agreed on.
fn either(
    worker: &Rc<Worker>,
    draining: &GracefulShutdownSignal,
) -> impl ServiceFactory<
    Accepted<TlsStream<TcpStream>>,
    Config = (),
    Response = (),
    Error = DispatchError,
    InitError = (),
> + use<> {
    let (http1, http2) = (Rc::new(http1(worker, draining)), Rc::new(application(worker)));
    let worker = Rc::clone(worker);
    fn_factory(move || {
        let (http1, http2, worker) = (Rc::clone(&http1), Rc::clone(&http2), Rc::clone(&worker));
        async move {
            let (http1, http2) =
                (Rc::new(http1.new_service(()).await?), Rc::new(http2.new_service(()).await?));
            Ok(fn_service(move |accepted: Accepted<TlsStream<TcpStream>>| match accepted {
                (connection, Protocol::Http2, client) => {
                    let (http2, worker) = (Rc::clone(&http2), Rc::clone(&worker));
                    Either::Left(async move {
                        http2::serve(connection, client, &http2, &worker).await;
                        Ok(())
                    })
                }
                other => Either::Right(http1.call(other)),
            }))
        }
    })
}

/// What answers requests, whatever they came by.
fn application(
    worker: &Rc<Worker>,
) -> impl ServiceFactory<
    Request,
    Config = (),
    Response = ServiceResponse<BoxBody>,
    Error = Error,
    InitError = (),
    Service: 'static,
    Future: 'static,
> + use<> {
    let application = App::new()
        .app_data(Data::new(Rc::clone(worker)))
        .route("/-/livez", web::get().to(probes::live))
        .route("/-/readyz", web::get().to(probes::ready))
        .default_service(web::to(proxy::proxy));
    map_config(application.into_factory(), |()| AppConfig::default())
}

fn http1<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    worker: &Rc<Worker>,
    draining: &GracefulShutdownSignal,
) -> impl ServiceFactory<Accepted<S>, Config = (), Response = (), Error = DispatchError, InitError = ()> + use<S>
{
    let server = &worker.shared.config.server;
    let (expecting, draining) = (Rc::clone(worker), draining.clone());
    let http = HttpService::build()
        .on_connect_ext(|connection: &Connection<S>, data| {
            data.insert(connection.source);
            data.insert(connection.passage.clone());
        })
        .graceful_shutdown_signal(move || {
            let draining = draining.clone();
            async move { draining.notified().await }
        })
        .keep_alive(server.keep_alive)
        .client_request_timeout(server.header_timeout)
        .client_disconnect_timeout(DISCONNECT_TIMEOUT)
        // A client that closes has left: its upstream call is cancelled and everything is released (T7).
        .h1_allow_half_closed(false)
        .h1_write_buffer_size(WRITE_BYTES)
        .expect(fn_service(move |request| proxy::expect(Rc::clone(&expecting), request)))
        .finish(application(worker));
    let telling = Rc::clone(worker);
    apply_fn_factory(http, move |accepted: Accepted<S>, http: &_| {
        let client = accepted.2;
        let served = Service::call(http, accepted);
        let worker = Rc::clone(&telling);
        async move { served.await.inspect_err(|error| tell_http1(&worker, client, error)) }
    })
}

fn tell_http1(worker: &Worker, client: Option<SocketAddr>, error: &DispatchError) {
    let reason = match error {
        DispatchError::Parse(ParseError::TooLarge) => "head_too_large",
        DispatchError::Parse(_) => "malformed",
        DispatchError::SlowRequestTimeout => "header_timeout",
        _ => return,
    };
    tell(worker, client, reason, error);
}
