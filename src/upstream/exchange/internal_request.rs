//! GET requests of the gateway itself: small documents such as token keys (A3) and credentials (A2), and checks.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::{HOST, HeaderMap, HeaderValue};
use actix_web::http::uri::PathAndQuery;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use thiserror::Error;
use tidegate_config::Endpoint;
use tokio::time::timeout;

use crate::shortage::Shortage;
use crate::upstream::connect::dialer::Dialer;
use crate::upstream::exchange::connection::ConnectionCounts;
use crate::upstream::exchange::outbound_head::OutboundHead;
use crate::upstream::exchange::pool::{EndpointPool, PoolSettings};
use crate::upstream::exchange::request_writer::OutboundBody;
use crate::upstream::exchange::response_head::ResponseHeadLimits;
use crate::upstream::exchange::send_error::SendError;
use crate::upstream::exchange::sent_request::{
    ConnectionChoice, ExchangeObservers, OutboundRequest, SentRequest,
};

/// Limits of the head of a response to the gateway itself.
const HEAD_LIMITS: ResponseHeadLimits = ResponseHeadLimits { bytes_max: 128 << 10, fields_max: 96 };

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

    /// A request to the endpoint with this number in the dialer. `tls_bucket` is the bucket in the TLS server name, or empty.
    pub(crate) fn send(&self, endpoint: usize, tls_bucket: &str, head: OutboundHead) -> SentRequest {
        let settings = PoolSettings {
            idle_max: 0,
            idle_timeout: Duration::ZERO,
            lifetime: None,
            connect_timeout: self.connect_timeout,
            head_limits: HEAD_LIMITS,
            retention: self.dialer.buffer_retention(),
        };
        let pool = endpoint_pool(&self.dialer, endpoint, settings, ConnectionCounts::default());
        let connection = ConnectionChoice { tls_bucket: tls_bucket.into(), is_single_use: true };
        let request = OutboundRequest { head, connection, may_resend: false };
        SentRequest::new(&pool, request, OutboundBody::None, ExchangeObservers::default())
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
            Ok((response.take_headers(), body.freeze()))
        };
        timeout(limit, fetching).await.unwrap_or(Err(FetchError::Timeout(limit)))
    }
}

/// The connections of a worker thread to the endpoint with this number.
pub(crate) fn endpoint_pool(
    dialer: &Arc<Dialer>,
    endpoint: usize,
    settings: PoolSettings,
    counts: ConnectionCounts,
) -> Rc<EndpointPool> {
    let dialer = Arc::clone(dialer);
    EndpointPool::new(settings, counts, move |tls_bucket| {
        let dialer = Arc::clone(&dialer);
        Box::pin(async move { dialer.connect_endpoint(endpoint, &tls_bucket).await })
    })
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
