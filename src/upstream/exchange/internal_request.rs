//! GET requests of the gateway itself for a small document: token keys (A3) and credentials (A2).

use std::sync::Arc;
use std::time::Duration;

use actix_web::error::ParseError;
use actix_web::http::header::HOST;
use awc::error::{ConnectError, SendRequestError};
use tidegate_config::Endpoint;

use crate::shortage::{Shortage, record_shortage};
use crate::upstream::connect::dialer::Dialer;
use crate::upstream::exchange::connector::{ConnectionCounts, ConnectorSettings};

/// A client for the gateway's internal calls, with one connection.
pub(crate) fn internal_client(dialer: impl Into<Arc<Dialer>>, timeout: Duration) -> awc::Client {
    ConnectorSettings { dialer: dialer.into(), counts: ConnectionCounts::default(), timeout, limit: 1 }
        .client()
}

/// A GET to the one endpoint of such a client, with the path of the endpoint.
pub(crate) fn internal_get(http: &awc::Client, endpoint: &Endpoint) -> awc::ClientRequest {
    let Endpoint { host, port, path_prefix, authority, .. } = endpoint;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    // The dialer does TLS where the endpoint has it. With scheme `https`, awc would do TLS itself.
    http.get(format!("http://{host}:{port}{path_prefix}")).insert_header((HOST, authority.as_str()))
}

/// The shortage in the gateway that kept a request from being sent.
pub(crate) fn shortage_of(error: &SendRequestError) -> Option<Shortage> {
    match error {
        SendRequestError::Connect(ConnectError::Io(error)) => Shortage::of(error),
        SendRequestError::Send(error) | SendRequestError::Response(ParseError::Io(error)) => {
            Shortage::of_system(error).inspect(|shortage| record_shortage(*shortage))
        }
        _ => None,
    }
}
