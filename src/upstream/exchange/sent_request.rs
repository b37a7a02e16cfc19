//! A call over one of awc's pooled connections, and its response.
//!
//! It uses the pool of awc without awc's builder of requests, which moves the head and the response between several types.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_http::body::BoxBody;
use actix_http::{Payload, ResponseHead};
use actix_web::HttpMessage;
use actix_web::error::PayloadError;
use actix_web::http::header::HeaderMap;
use actix_web::http::{StatusCode, Uri};
use awc::ClientResponse;
use awc::error::SendRequestError;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::LocalBoxFuture;

use crate::upstream::exchange::outbound_head::{OutboundHead, SharedHead};

/// The result of a call, in the types of awc.
type Answer = Result<(ResponseHead, Payload), SendRequestError>;
type Send = dyn Fn(Uri, SharedHead, BoxBody) -> LocalBoxFuture<'static, Answer>;

/// The connections of one client on one worker thread.
pub(crate) struct PooledConnections {
    send: Box<Send>,
}

/// A request that is not sent yet.
pub(crate) struct OutboundRequest {
    /// Selects the connection, see `connect/connection_key.rs`.
    pub(crate) connection: Uri,
    pub(crate) head: OutboundHead,
}

/// A call that starts when it is first polled. Dropped before the response head, it closes its connection.
pub(crate) struct SentRequest {
    /// Dropped before the head, of which it may have a reference.
    call: LocalBoxFuture<'static, Answer>,
    _head: OutboundHead,
}

/// A response with a body that has not been read. Dropped before its end, it closes its connection.
pub(crate) struct ReceivedResponse {
    head: ResponseHead,
    payload: Payload,
}

impl PooledConnections {
    pub(super) fn new(
        send: impl Fn(Uri, SharedHead, BoxBody) -> LocalBoxFuture<'static, Answer> + 'static,
    ) -> Self {
        Self { send: Box::new(send) }
    }

    /// The call of a request.
    pub(crate) fn send(&self, request: OutboundRequest, body: BoxBody) -> SentRequest {
        let OutboundRequest { connection, head } = request;
        SentRequest { call: (self.send)(connection, head.share(), body), _head: head }
    }
}

impl Future for SentRequest {
    type Output = Result<ReceivedResponse, SendRequestError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(self.call.as_mut().poll(cx));
        Poll::Ready(answer.map(|(head, payload)| ReceivedResponse { head, payload }))
    }
}

impl ReceivedResponse {
    pub(crate) fn status(&self) -> StatusCode {
        self.head.status
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// Takes the headers; none are left.
    pub(crate) fn take_headers(&mut self) -> HeaderMap {
        std::mem::take(&mut self.head.headers)
    }
}

impl Stream for ReceivedResponse {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.payload).poll_next(cx)
    }
}

/// The response to one of the gateway's own requests.
impl From<ClientResponse> for ReceivedResponse {
    fn from(mut response: ClientResponse) -> Self {
        let mut head = ResponseHead::new(response.status());
        head.headers.clone_from(response.headers());
        Self { head, payload: response.take_payload() }
    }
}
