//! The data listener's services: from an accepted socket to the loop of its protocol.
//!
//! A listener speaks cleartext or TLS, and the two are services of their own, so that cleartext pays nothing for the other.
//! HTTP/1.1 is `http1`'s and HTTP/2 is `http2`'s; both hand their requests to the same application. The admin listener is
//! actix-web's own server.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use actix_http::{Protocol, Request};
use actix_service::{IntoServiceFactory, Service, ServiceFactory, fn_factory, fn_service, map_config};
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::web::{self, Data};
use actix_web::{App, Error};
use tokio::net::TcpStream;

use crate::http::connection::{Connection, tell};
use crate::http::http1::Http1;
use crate::http::http2::{self, Ended};
use crate::http::proxy;
use crate::http::tls::Tls;
use crate::worker::Worker;

/// What serves the cleartext connections of one worker thread.
pub(crate) fn plain(
    worker: &Rc<Worker>,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = (), InitError = ()> + use<> {
    let (application, worker) = (Rc::new(application(worker)), Rc::clone(worker));
    fn_factory(move || {
        let (application, worker) = (Rc::clone(&application), Rc::clone(&worker));
        async move {
            let application = Rc::new(application.new_service(()).await?);
            let http1 = Rc::new(Http1::new(application, Rc::clone(&worker)));
            Ok(fn_service(move |stream: TcpStream| {
                let (http1, worker) = (Rc::clone(&http1), Rc::clone(&worker));
                async move {
                    if let Some((connection, client)) = Connection::accept(stream, &worker).await {
                        http1.serve(connection, client).await;
                    }
                    Ok(())
                }
            }))
        }
    })
}

/// What serves the secured connections of one worker thread.
pub(crate) fn secured(
    worker: &Rc<Worker>,
    tls: &Arc<Tls>,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = (), InitError = ()> + use<> {
    let (application, worker, tls) = (Rc::new(application(worker)), Rc::clone(worker), Arc::clone(tls));
    fn_factory(move || {
        let (application, worker, tls) = (Rc::clone(&application), Rc::clone(&worker), Arc::clone(&tls));
        async move {
            let application = Rc::new(application.new_service(()).await?);
            let http1 = Rc::new(Http1::new(Rc::clone(&application), Rc::clone(&worker)));
            let secured = Rc::new(Secured { application, http1, worker, tls });
            Ok(fn_service(move |stream: TcpStream| {
                let secured = Rc::clone(&secured);
                async move {
                    secured.serve(stream).await;
                    Ok(())
                }
            }))
        }
    })
}

/// What secured connections need.
struct Secured<A> {
    application: Rc<A>,
    http1: Rc<Http1<A>>,
    worker: Rc<Worker>,
    tls: Arc<Tls>,
}

impl<A> Secured<A>
where
    A: Service<Request, Response = ServiceResponse<BoxBody>, Error = Error> + 'static,
{
    /// HTTP/1.1 or HTTP/2, as was agreed on.
    async fn serve(&self, stream: TcpStream) {
        let worker = &self.worker;
        let Some((connection, client)) = Connection::accept(stream, worker).await else { return };
        match connection.secure(client, &self.tls, worker).await {
            Some((connection, Protocol::Http2)) => {
                let served = http2::serve(connection, client, &self.application, worker).await;
                if let Err(ended) = served {
                    tell_http2(worker, client, ended);
                }
            }
            Some((connection, _)) => self.http1.serve(connection, client).await,
            None => {}
        }
    }
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
    let application =
        App::new().app_data(Data::new(Rc::clone(worker))).default_service(web::to(proxy::proxy));
    map_config(application.into_factory(), |()| AppConfig::default())
}

fn tell_http2(worker: &Worker, client: Option<SocketAddr>, ended: Ended) {
    match ended {
        Ended::Late => tell(worker, client, "header_timeout", &"the connection did not begin in time"),
        // An I/O error and a GOAWAY or reset by the client are no malformed input.
        Ended::Broken(error) if error.is_io() || error.is_remote() => {}
        Ended::Broken(error) => tell(worker, client, "malformed", &error),
    }
}
