//! HTTP/1.1 on both listeners: one task per connection, one request after the other.
//!
//! actix-http has such a loop, and its parser takes bare LF and `#`, forgets the answer to a valid request when garbage
//! follows it, and copies long bodies; `docs/design/http1-loop.md` has the reasons for one of our own. This one reads a head
//! (`head.rs`), gives the application the request with a body that is read as it is asked for (`payload.rs`, `framing.rs`), and
//! writes the answer (`encode.rs`, `send.rs`, `outbox.rs`). `connection.rs` owns the socket and its timer. HTTP/2 is `http2`'s.
//!
//! Rules of this loop:
//! - `100 Continue` is sent when the application asks for the body, so every refusal comes before it (RFC 9110, 10.1.1).
//! - What is left of a body after the answer is read and dropped up to 64 KiB; beyond that the connection closes.
//! - Bytes that are no request get an answer without a body, after the answers to all requests before them.
//! - An upgrade is never taken, and a body is delimited by its length whatever `Upgrade` says.

mod body_decoder;
mod connection;
mod date_cache;
mod encode;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod head;
mod request_buffer;
mod response_sender;
mod write_buffer;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;

use actix_http::{HttpMessage, Payload, Request};
use actix_service::Service;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::{Error, HttpResponse};
use tidegate_actors::clock;

use crate::http::client_address::AddressSource;
use crate::http::connection::{ClientConnection, log_rejected};
use crate::http::error::head_rejection_status;
use crate::http::http1::connection::{Http1Connection, NextRequest};
use crate::http::http1::date_cache::DateCache;
use crate::http::http1::encode::ResponseFraming;
use crate::http::http1::head::HeadInfo;
use crate::http::http1::request_buffer::{RequestBuffer, UnreadBody};
use crate::http::http1::response_sender::{ResponseSender, SendResult};
use crate::http::request_validation::BodyLength;
use crate::http::send_buffer::ConnectionBuffer;
use crate::http::send_progress::SendProgress;
use crate::worker::Worker;

pub(crate) use connection::ClientTransport;
pub(crate) use head::HeadError;

/// The longest rest of a body that is read for the sake of the connection.
const DISCARD_BYTES_MAX: u64 = 64 << 10;
/// So many requests of one connection are answered in a row before others have their turn.
const REQUESTS_BEFORE_YIELD: u32 = 32;

/// Why a connection gets an answer to something that is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadRejection {
    #[error(transparent)]
    Head(#[from] HeadError),
    #[error("the request's head did not arrive in time")]
    Late,
}

/// What serves the HTTP/1.1 connections of one worker thread.
pub(crate) struct Http1<A> {
    application: Rc<A>,
    worker: Rc<Worker>,
    date: DateCache,
}

impl<A> Http1<A>
where
    A: Service<Request, Response = ServiceResponse<BoxBody>, Error = Error>,
{
    pub(crate) fn new(application: Rc<A>, worker: Rc<Worker>) -> Self {
        Self { application, worker, date: DateCache::default() }
    }

    /// The worker of its thread.
    pub(crate) fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Serves a connection to its end.
    pub(crate) async fn serve<S: ClientTransport>(
        &self,
        accepted: ClientConnection<S>,
        client: Option<SocketAddr>,
    ) {
        let source = accepted.source;
        let (stream, slot) = accepted.into_parts();
        let mut connection = Http1Connection::new(stream, slot, &self.worker);
        let buffer = ConnectionBuffer::new(&self.worker);
        for turn in (1..=REQUESTS_BEFORE_YIELD).cycle() {
            let bytes = match connection.next_request().await {
                NextRequest::Head(bytes) => bytes,
                NextRequest::Malformed(error) => return self.refuse(connection, client, error.into()).await,
                NextRequest::Late => return self.refuse(connection, client, HeadRejection::Late).await,
                NextRequest::Closed => return connection.close(false).await,
            };
            let mut request = Request::new();
            let facts = match head::parse(&bytes, request.head_mut()) {
                Ok(facts) => facts,
                Err(error) => return self.refuse(connection, client, error.into()).await,
            };
            drop(bytes);
            let progress = self.worker.send_watch.progress(Some(connection.socket.buffers()));
            attach_context(&mut request, &facts, &connection.inbound, (client, source, &progress));
            let answered = {
                let answering = pin!(self.application.call(request));
                connection.run_request(answering).await
            };
            // The client has closed: everything that the request holds is dropped with it (T7).
            let Some(answered) = answered else { return };
            let response =
                answered.map_or_else(|error| error.error_response(), |answered| answered.into_parts().1);
            match self.respond(&mut connection, &facts, response, (&progress, &buffer)).await {
                AfterResponse::Next => {}
                AfterResponse::Close { may_send } => return connection.close(may_send).await,
                AfterResponse::Reset => return connection.abort(),
                AfterResponse::Gone => return,
            }
            if turn == REQUESTS_BEFORE_YIELD {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Writes an answer; returns the next state of the connection.
    async fn respond<S: ClientTransport>(
        &self,
        connection: &mut Http1Connection<S>,
        facts: &HeadInfo,
        response: HttpResponse<BoxBody>,
        (progress, buffer): (&Rc<SendProgress>, &Rc<ConnectionBuffer>),
    ) -> AfterResponse {
        let (response, body) = response.into_parts();
        let (head, size) = (response.head(), body.size());
        let transfer = ResponseFraming::of(facts, head.status, size);
        let rest = connection.inbound.borrow_mut().begin_response();
        let may_follow = facts.length.is_some() && rest.is_at_most(DISCARD_BYTES_MAX);
        let keeps_alive = may_follow
            && facts.keeps_alive
            && head.keep_alive()
            && transfer != ResponseFraming::UntilClose
            && !connection.is_draining()
            // A request that is here already is answered, too.
            && (!connection.idle.is_last_response() || !connection.inbound.borrow().buffer.is_empty());
        self.date.with(clock::now(), |date| {
            connection.write_buffer.write(|buffer| {
                encode::write_head(buffer, head, (facts, size, transfer), keeps_alive, date);
            });
        });
        drop(response);
        match ResponseSender::new(body, transfer, progress, buffer).run(connection).await {
            SendResult::Whole if keeps_alive => {}
            SendResult::Whole => {
                let has_more = rest != UnreadBody::Complete || !connection.inbound.borrow().buffer.is_empty();
                return AfterResponse::Close { may_send: has_more || facts.length.is_none() };
            }
            SendResult::Cut => return AfterResponse::Reset,
            // The end of the connection would be the end of the body.
            SendResult::Broken if transfer == ResponseFraming::UntilClose => return AfterResponse::Reset,
            SendResult::Broken | SendResult::ClientClosed => return AfterResponse::Gone,
        }
        if rest == UnreadBody::Complete || connection.discard_body().await {
            AfterResponse::Next
        } else {
            AfterResponse::Gone
        }
    }

    /// Answers bytes that are no request, and closes.
    async fn refuse<S: ClientTransport>(
        &self,
        mut connection: Http1Connection<S>,
        client: Option<SocketAddr>,
        why: HeadRejection,
    ) {
        let (status, reason) = head_rejection_status(why);
        log_rejected(&self.worker, client, reason, &why);
        self.date.with(clock::now(), |date| {
            connection.write_buffer.write(|buffer| encode::write_refusal(buffer, status, date));
        });
        connection.close(true).await;
    }
}

/// The state of a connection after an answer.
enum AfterResponse {
    /// The next request follows.
    Next,
    /// It closes; whether the client may still be sending.
    Close { may_send: bool },
    /// It ends with a reset.
    Reset,
    /// It is gone.
    Gone,
}

/// Adds to a request what does not stand in its head.
fn attach_context(
    request: &mut Request,
    facts: &HeadInfo,
    inbound: &Rc<RefCell<RequestBuffer>>,
    (client, source, progress): (Option<SocketAddr>, AddressSource, &Rc<SendProgress>),
) {
    // A body of ambiguous length is not read.
    let length = facts.length.unwrap_or(BodyLength::Empty);
    if let Some(body) = RequestBuffer::begin_body(inbound, length, facts.expects_continue) {
        *request.payload() = Payload::Stream { payload: Box::pin(body) };
    }
    request.head_mut().peer_addr = client;
    let mut extensions = request.extensions_mut();
    if source != AddressSource::Peer {
        extensions.insert(source);
    }
    extensions.insert(Rc::clone(progress));
}
