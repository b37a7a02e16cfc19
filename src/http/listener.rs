//! The data listener's connections: from an accepted socket to requests in `proxy.rs`.
//!
//! actix-web's own server would do, but for two things that need the layer below it: a request with
//! `Expect: 100-continue` is decided on before the 100 is sent (RFC 9110, 10.1.1), and what the HTTP parser refuses
//! before there is a request is logged and counted (V1, V2). The parser answers those itself, with an empty body.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use actix_http::error::{DispatchError, ParseError};
use actix_http::{HttpService, Protocol};
use actix_server::GracefulShutdownSignal;
use actix_service::{Service, ServiceFactory, ServiceFactoryExt, apply_fn_factory, fn_service, map_config};
use actix_web::App;
use actix_web::dev::AppConfig;
use actix_web::web::{self, Data};
use slog::info;
use tokio::net::TcpStream;

use crate::http::connection::Connection;
use crate::http::{probes, proxy};
use crate::worker::Worker;

/// Answers are written to a connection in pieces of about this size: one system call for an object of 64 KiB, where
/// actix's default needs two. A client that does not read holds as much.
const WRITE_BYTES: usize = 64 << 10;
/// How long a closed connection may linger.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// What serves the connections of one worker thread.
pub(crate) fn service(
    worker: &Rc<Worker>,
    draining: GracefulShutdownSignal,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = DispatchError, InitError = ()> + use<>
{
    let server = &worker.shared.config.server;
    let application = App::new()
        .app_data(Data::new(Rc::clone(worker)))
        .route("/-/livez", web::get().to(probes::live))
        .route("/-/readyz", web::get().to(probes::ready))
        .default_service(web::to(proxy::proxy));
    let expecting = Rc::clone(worker);
    let mut http = HttpService::build();
    if server.proxy_protocol {
        http = http.on_connect_ext(|connection: &Connection<TcpStream>, data| {
            data.insert(connection.source);
        });
    }
    let http = http
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
        .finish(map_config(application, |()| AppConfig::default()));
    let accepted_by = Rc::clone(worker);
    let accepting = fn_service(move |stream: TcpStream| {
        let worker = Rc::clone(&accepted_by);
        async move {
            let (connection, client) = Connection::accept(stream, &worker).await?;
            Ok((connection, Protocol::Http1, client))
        }
    });
    let telling = Rc::clone(worker);
    let serving = apply_fn_factory(http, move |accepted: Accepted, http: &_| {
        let client = accepted.2;
        let served = Service::call(http, accepted);
        let worker = Rc::clone(&telling);
        async move { served.await.inspect_err(|error| tell(&worker, client, error)) }
    });
    accepting.and_then(serving)
}

type Accepted = (Connection<TcpStream>, Protocol, Option<SocketAddr>);

/// Tells of a connection that ended in something else than a request.
fn tell(worker: &Worker, client: Option<SocketAddr>, error: &DispatchError) {
    let reason = match error {
        DispatchError::Parse(ParseError::TooLarge) => "head_too_large",
        DispatchError::Parse(_) => "malformed",
        DispatchError::SlowRequestTimeout => "header_timeout",
        _ => return,
    };
    worker.shared.metrics.unrouted(reason);
    if worker.shared.config.log.access {
        info!(worker.shared.log, "request"; "error" => error.to_string(),
            "client" => client.map(|client| client.ip().to_canonical().to_string()), "reason" => reason);
    }
}
