//! One stream: the task that runs its request and sends its response.
//!
//! The task ends when the socket has accepted the last byte of the response, when the client resets the stream, when
//! the response is cut, or with the connection. It then drops everything that the request holds. If the client is
//! still sending, `h2` resets the stream with NO_ERROR (RFC 9113, 8.1).

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::body::MessageBody;
use actix_web::http::Method;
use actix_web::http::header::EXPECT;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};

use super::connection_state::ConnectionState;
use super::inbound_body::InboundBody;
use super::response;
use super::response_queue::ResponseQueue;
use crate::http::client_request::ClientRequest;
use crate::http::request_validation::is_expect_continue;
use crate::interim::{InterimResponse, InterimResponses};
use crate::listener::application::Application;
use crate::upstream::interim_headers;

/// A stream's request, and the handles to respond to it.
pub(super) struct Exchange {
    pub(super) request: ClientRequest,
    /// The request's body, if it has one.
    pub(super) inbound: Option<Rc<InboundBody>>,
    pub(super) respond: SendResponse<Bytes>,
    pub(super) queue: Rc<ResponseQueue>,
    pub(super) connection: Rc<ConnectionState>,
}

impl Exchange {
    /// Calls the application and sends its response.
    pub(super) async fn run<A: Application>(self, application: Rc<A>) {
        let Self { request, inbound, mut respond, queue, connection } = self;
        let is_head = request.head.method == Method::HEAD;
        let mut expects_continue = request.head.headers.get(EXPECT).is_some_and(is_expect_continue);
        // A stream that was reset before this task started must not reach the application.
        let response = {
            // Boxed, so that responses on their way have no memory of it.
            let mut handler = Box::pin(application.respond(request));
            poll_fn(|cx| {
                let polled = poll_response(cx, handler.as_mut(), &mut respond, inbound.as_deref());
                if let Some(progress) = queue.progress() {
                    send_interim(&mut respond, &progress.interim);
                }
                if expects_continue
                    && polled.is_pending()
                    && inbound.as_ref().is_some_and(|it| it.is_awaited())
                {
                    expects_continue = false;
                    send_continue(&mut respond);
                }
                polled
            })
            .await
        };
        // The dropped future has released the request's slot and permit and cancelled its upstream call (T7).
        let Some(response) = response else { return };
        if inbound.as_ref().is_some_and(|inbound| inbound.is_malformed()) {
            return respond.send_reset(Reason::PROTOCOL_ERROR);
        }
        let (response, body) = response.into_parts();
        let size = body.size();
        let is_complete = is_head || size.is_eof();
        let Some(head) = response::convert_head(response.head(), size) else {
            return respond.send_reset(Reason::INTERNAL_ERROR);
        };
        let Ok(stream) = respond.send_response(head, is_complete) else { return };
        connection.credit_response();
        if is_complete {
            return;
        }
        let id = stream.stream_id().as_u32();
        connection.begin_sending(id, &queue);
        let mut sending = ResponseSender {
            body: Some(body),
            has_failed: false,
            has_ended: false,
            stream,
            inbound,
            queue,
            connection,
        };
        poll_fn(|cx| sending.poll(cx)).await;
    }
}

/// Sends the interim responses of the upstream.
fn send_interim(respond: &mut SendResponse<Bytes>, interim: &InterimResponses) {
    for InterimResponse { status, headers } in interim.take() {
        if let Some(interim) = response::convert_interim(status, &interim_headers(headers)) {
            // An error means that the stream is closed; the next poll finds that.
            let _ = respond.send_informational(interim);
        }
    }
}

/// Sends `100 Continue`.
fn send_continue(respond: &mut SendResponse<Bytes>) {
    if let Ok(interim) = http::Response::builder().status(100_u16).body(()) {
        // An error means that the stream is closed; the next poll finds that.
        let _ = respond.send_informational(interim);
    }
}

/// The application's response; `None` if the client resets the stream first.
fn poll_response<F: Future>(
    cx: &mut Context<'_>,
    handler: Pin<&mut F>,
    respond: &mut SendResponse<Bytes>,
    inbound: Option<&InboundBody>,
) -> Poll<Option<F::Output>> {
    if respond.poll_reset(cx).is_ready() {
        return Poll::Ready(None);
    }
    if let Poll::Ready(output) = handler.poll(cx) {
        return Poll::Ready(Some(output));
    }
    if let Some(inbound) = inbound {
        inbound.receive(cx);
        if inbound.is_malformed() {
            respond.send_reset(Reason::PROTOCOL_ERROR);
            return Poll::Ready(None);
        }
    }
    Poll::Pending
}

/// A response after its head was sent.
struct ResponseSender<B> {
    /// Dropped at its end, which releases the request's slot and permit.
    body: Option<B>,
    /// The body failed: the stream is reset, because the response must not look complete (T6).
    has_failed: bool,
    /// END_STREAM was passed to `h2`.
    has_ended: bool,
    stream: SendStream<Bytes>,
    inbound: Option<Rc<InboundBody>>,
    queue: Rc<ResponseQueue>,
    connection: Rc<ConnectionState>,
}

impl<B> Drop for ResponseSender<B> {
    fn drop(&mut self) {
        self.connection.end_sending(self.stream.stream_id().as_u32());
        if let Some(inbound) = &self.inbound {
            inbound.abandon();
        }
    }
}

impl<B: MessageBody + Unpin> ResponseSender<B> {
    /// Sends the body as fast as the client accepts it.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(());
        }
        if self.queue.progress().is_some_and(|progress| progress.poll_cut(cx).is_ready()) {
            self.stream.send_reset(Reason::CANCEL);
            return Poll::Ready(());
        }
        self.fill(cx);
        if self.send_queued(cx).is_err() {
            return Poll::Ready(());
        }
        if self.body.is_none() && self.queue.is_written() {
            if self.has_failed {
                self.stream.send_reset(Reason::INTERNAL_ERROR);
            }
            return Poll::Ready(());
        }
        self.queue.park(cx, self.body.is_none(), self.connection.is_blocked());
        if let Some(inbound) = &self.inbound {
            inbound.receive(cx);
        }
        Poll::Pending
    }

    /// Reads the body up to the read-ahead limit or its end.
    fn fill(&mut self, cx: &mut Context<'_>) {
        while let Some(body) = &mut self.body
            && self.queue.may_read()
        {
            match Pin::new(body).poll_next(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(piece))) => self.queue.push(piece),
                Poll::Ready(Some(Err(_))) => {
                    self.has_failed = true;
                    self.body = None;
                }
                Poll::Ready(None) => self.body = None,
            }
        }
    }

    /// Moves queued bytes to `h2` as far as the window allows. An error means that the stream is closed.
    fn send_queued(&mut self, cx: &mut Context<'_>) -> Result<(), h2::Error> {
        while self.queue.queued_bytes() > 0 {
            let mut window = self.stream.capacity();
            if window == 0 {
                self.stream.reserve_capacity(self.queue.queued_bytes());
                window = self.stream.capacity();
            }
            if window == 0 {
                match self.stream.poll_capacity(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(None) => return Err(Reason::STREAM_CLOSED.into()),
                    Poll::Ready(Some(granted)) => window = granted?,
                }
            }
            let Some(part) = self.queue.pop(window) else { break };
            let is_last = self.body.is_none() && !self.has_failed && self.queue.queued_bytes() == 0;
            self.stream.send_data(part, is_last)?;
            self.has_ended = is_last;
        }
        if self.body.is_none() && !self.has_failed && !self.has_ended {
            self.stream.send_data(Bytes::new(), true)?;
            self.has_ended = true;
        }
        Ok(())
    }
}
