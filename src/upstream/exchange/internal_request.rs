//! GET requests of the gateway itself: small documents such as token keys (A3) and credentials (A2), and checks.
//!
//! awc sends them. It has no timeout, redirect, decompression or header of its own here; each request has a connection of its own, which
//! the dialer opens with the addresses and the TLS of the endpoint. `internal_connection.rs` is between awc and that connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_service::fn_service;
use actix_tls::connect::{ConnectError as SocketConnectError, ConnectInfo, Connection as Connected};
use actix_web::body;
use actix_web::error::{ParseError, PayloadError};
use actix_web::http::header::{HOST, HeaderMap, HeaderValue};
use actix_web::http::uri::{PathAndQuery, Scheme};
use actix_web::http::{Method, StatusCode, Uri};
use awc::error::{ConnectError, SendRequestError};
use awc::{ClientBuilder, ClientResponse, Connector};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use thiserror::Error;
use tidegate_config::Endpoint;
use tokio::time::timeout;

use crate::shortage::Shortage;
use crate::upstream::connect::dialer::Dialer;
use crate::upstream::exchange::internal_connection::{InternalConnection, head_error};
use crate::upstream::exchange::outbound_head::OutboundHead;
use crate::upstream::exchange::send_error::SendError;
use crate::upstream::exchange::sent_request::ResponseParts;

/// Why a document could not be fetched.
#[derive(Debug, Error)]
pub(crate) enum FetchError {
    /// The request could not be sent, or no response head arrived.
    #[error("{0}")]
    Request(#[from] SendError),
    /// The response was not complete in time.
    #[error("no response within {0:?}")]
    Timeout(Duration),
    /// The response is not a success.
    #[error("response status {0}")]
    Status(u16),
    /// The body broke off.
    #[error("cannot read the response body: {0}")]
    Body(io::Error),
    /// The body is larger than the limit.
    #[error("cannot read the response body: it is larger than {0} bytes")]
    TooLarge(usize),
    /// The endpoint's path or name is not valid in a request.
    #[error("the URL is not valid in a request")]
    Url,
}

impl FetchError {
    /// The gateway's own resource shortage, if that kept the request from being sent.
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        match self {
            Self::Request(error) => error.shortage(),
            Self::Timeout(_) | Self::Status(_) | Self::Body(_) | Self::TooLarge(_) | Self::Url => None,
        }
    }
}

/// A client for the gateway's internal calls. Each has a connection of its own.
pub(crate) struct InternalClient {
    dialer: Arc<Dialer>,
    connect_timeout: Duration,
}

impl InternalClient {
    pub(crate) fn new(dialer: impl Into<Arc<Dialer>>, connect_timeout: Duration) -> Self {
        Self { dialer: dialer.into(), connect_timeout }
    }

    /// Sends a request to the endpoint with this number in the dialer. `tls_bucket` is the bucket in the TLS server name, or empty.
    pub(crate) async fn send(
        &self,
        endpoint: usize,
        tls_bucket: &str,
        mut head: OutboundHead,
    ) -> Result<InternalReceived, SendError> {
        let client = self.client(endpoint, tls_bucket);
        let mut request = client.request(head.method.clone(), request_uri(&head)?).force_close();
        *request.headers_mut() = std::mem::take(&mut head.headers);
        // With a body of no bytes instead of none, awc would announce its length.
        let response = request.send_body(body::None::new()).await;
        response.map(InternalReceived).map_err(map_send_error)
    }

    /// A client of awc with connections to this endpoint only.
    fn client(&self, endpoint: usize, tls_bucket: &str) -> awc::Client {
        let (dialer, tls_bucket): (_, Arc<str>) = (Arc::clone(&self.dialer), tls_bucket.into());
        let connect = fn_service(move |info: ConnectInfo<Uri>| {
            let (dialer, tls_bucket) = (Arc::clone(&dialer), Arc::clone(&tls_bucket));
            async move {
                let stream = dialer.connect_endpoint(endpoint, &tls_bucket).await;
                let connection = InternalConnection::new(
                    stream.map_err(SocketConnectError::Io)?,
                    dialer.buffer_retention(),
                );
                Ok::<_, SocketConnectError>(Connected::new(info.request().clone(), connection))
            }
        });
        ClientBuilder::new()
            .connector(Connector::new().connector(connect).timeout(self.connect_timeout))
            .disable_timeout()
            .disable_redirects()
            .no_default_headers()
            .finish()
    }

    /// Requests the document of the one endpoint of this client, of at most `bytes_max` bytes, within `limit`.
    pub(crate) async fn fetch(
        &self,
        request: OutboundHead,
        bytes_max: usize,
        limit: Duration,
    ) -> Result<(HeaderMap, Bytes), FetchError> {
        let fetching = async {
            let mut response = self.send(0, "", request).await?;
            if !response.status().is_success() {
                return Err(FetchError::Status(response.status().as_u16()));
            }
            let mut body = BytesMut::new();
            while let Some(piece) = response.next().await {
                body.extend_from_slice(&piece.map_err(FetchError::Body)?);
                if body.len() > bytes_max {
                    return Err(FetchError::TooLarge(bytes_max));
                }
            }
            Ok((response.headers().clone(), body.freeze()))
        };
        timeout(limit, fetching).await.unwrap_or(Err(FetchError::Timeout(limit)))
    }
}

/// A response to a request of the gateway itself. Dropped before the end of its body, it closes its connection.
pub(crate) struct InternalReceived(ClientResponse);

impl ResponseParts for InternalReceived {
    fn status(&self) -> StatusCode {
        self.0.status()
    }

    fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }
}

impl Stream for InternalReceived {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(cx).map(|piece| piece.map(|piece| piece.map_err(body_error)))
    }
}

fn body_error(error: PayloadError) -> io::Error {
    match error {
        PayloadError::Io(error) | PayloadError::Incomplete(Some(error)) => error,
        error => io::Error::other(error.to_string()),
    }
}

fn map_send_error(error: SendRequestError) -> SendError {
    match error {
        SendRequestError::Connect(ConnectError::Io(error)) => SendError::Connect(error),
        SendRequestError::Connect(ConnectError::Timeout) => SendError::ConnectTimeout,
        SendRequestError::Send(error) | SendRequestError::Response(ParseError::Io(error)) => {
            head_error(&error).map_or(SendError::Io(error), SendError::Head)
        }
        error => SendError::Io(io::Error::other(error.to_string())),
    }
}

/// The URI for awc. Its authority selects nothing: the dialer has the endpoint. With the scheme `https`, awc would do TLS itself.
fn request_uri(head: &OutboundHead) -> Result<Uri, SendError> {
    let host = head.headers.get(HOST).map_or(&b""[..], HeaderValue::as_bytes);
    let uri = Uri::builder().scheme(Scheme::HTTP).authority(host).path_and_query(head.target.clone());
    uri.build().map_err(|error| SendError::Io(io::Error::new(io::ErrorKind::InvalidInput, error)))
}

/// A GET of an endpoint, with the path of its URL.
pub(crate) fn internal_get(endpoint: &Endpoint) -> Result<OutboundHead, FetchError> {
    let path = match endpoint.path_prefix.as_str() {
        "" => "/",
        path => path,
    };
    let target = PathAndQuery::try_from(path).map_err(|_| FetchError::Url)?;
    let mut head = OutboundHead::new(Method::GET, target);
    let host = HeaderValue::from_str(&endpoint.authority).map_err(|_| FetchError::Url)?;
    head.headers.insert(HOST, host);
    Ok(head)
}
