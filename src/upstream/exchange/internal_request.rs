//! GET requests of the gateway itself: small documents such as token keys (A3) and credentials (A2), and checks.

use std::sync::Arc;
use std::time::Duration;

use actix_web::error::ParseError;
use actix_web::http::header::HOST;
use actix_web::http::header::HeaderMap;
use awc::error::{ConnectError, PayloadError, SendRequestError};
use bytes::Bytes;
use thiserror::Error;
use tidegate_config::Endpoint;
use tokio::time::timeout;

use crate::shortage::{Shortage, record_shortage};
use crate::upstream::connect::dialer::Dialer;
use crate::upstream::exchange::connector::{ConnectionCounts, ConnectorSettings};

/// Why a document could not be fetched.
#[derive(Debug, Error)]
pub(crate) enum FetchError {
    /// The request could not be sent, or no response head arrived.
    #[error("{0}")]
    Request(#[from] SendRequestError),
    /// The response was not complete in time.
    #[error("no response within {0:?}")]
    Timeout(Duration),
    /// The response is not a success.
    #[error("response status {0}")]
    Status(u16),
    /// The body broke off, or is larger than the limit.
    #[error("cannot read the response body: {0}")]
    Body(#[from] PayloadError),
}

impl FetchError {
    /// The gateway's own resource shortage, if that kept the request from being sent.
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        match self {
            Self::Request(error) => shortage_of(error),
            Self::Timeout(_) | Self::Status(_) | Self::Body(_) => None,
        }
    }
}

/// Sends a request and reads the document of at most `bytes_max` bytes, both within `limit`.
pub(crate) async fn fetch(
    request: awc::ClientRequest,
    bytes_max: usize,
    limit: Duration,
) -> Result<(HeaderMap, Bytes), FetchError> {
    let fetching = async {
        let mut response = request.send().await?;
        if !response.status().is_success() {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let body = response.body().limit(bytes_max).await?;
        Ok((response.headers().clone(), body))
    };
    timeout(limit, fetching).await.unwrap_or(Err(FetchError::Timeout(limit)))
}

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
