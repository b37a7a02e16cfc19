//! The HTTP/1.1 server of both listeners: one task per connection, one request after the other.
//!
//! actix-http's dispatcher is not used; the reasons are in `docs/design/http1-loop.md`. This loop reads a head
//! (`head.rs`), calls the application with a request that has a lazily read body (`request_buffer.rs`,
//! `src/body_framing.rs`), and writes the response (`encode.rs`, `response_sender.rs`, `write_buffer.rs`).
//! `connection.rs` owns the socket and its timer. HTTP/2 is in `http2`.
//!
//! Rules of this loop:
//! - `100 Continue` is sent when the application polls the body, so every refusal comes before it (RFC 9110, 10.1.1).
//! - The unread rest of a body is read and dropped after the response up to 64 KiB; a longer rest closes the
//!   connection.
//! - Bytes that are not a request get a response without a body, after the responses to all requests before them.
//! - An upgrade is never accepted, and a body is delimited by its length even beside `Upgrade`.

mod connection;
mod connection_timer;
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
use std::rc::Rc;

use actix_http::{Message, Payload};
use actix_web::HttpResponse;
use actix_web::body::MessageBody;
use actix_web::http::Version;
use tidegate_actors::clock;
use tidegate_s3::request::BodyLength;

use crate::boxed::boxed;
use crate::buffers::send_progress::{SendProgress, SendWatch};
use crate::http::client_request::ClientRequest;
use crate::http::error::head_rejection_status;
use crate::http::head_rejection::HeadRejection;
use crate::listener::application::Application;
use crate::listener::connection::{ClientConnection, log_rejected};
use crate::listener::http1::connection::{Http1Connection, NextRequest};
use crate::listener::http1::date_cache::DateCache;
use crate::listener::http1::encode::ResponseFraming;
use crate::listener::http1::head::HeadInfo;
use crate::listener::http1::request_buffer::{RequestBuffer, UnreadBody};
use crate::listener::http1::response_sender::{ResponseSender, SendResult};
use crate::listener::send_buffer::ConnectionBuffer;
use crate::request_head::ClientHead;
use crate::worker::slot::WorkerSlot;

pub(crate) use connection::ClientTransport;

/// The longest unread rest of a body that is dropped to keep the connection.
const DISCARD_BYTES_MAX: u64 = 64 << 10;
/// The requests of one connection that are served in a row before it yields to other connections.
const REQUESTS_BEFORE_YIELD: u32 = 32;

/// The HTTP/1.1 server of one worker thread.
pub(crate) struct Http1<A> {
    application: Rc<A>,
    slot: Rc<WorkerSlot>,
    /// That of the thread.
    send_watch: Rc<SendWatch>,
    date: DateCache,
}

impl<A: Application> Http1<A> {
    pub(crate) fn new(application: Rc<A>, slot: Rc<WorkerSlot>) -> Self {
        let send_watch = Rc::clone(&slot.current().send_watch);
        Self { application, slot, send_watch, date: DateCache::default() }
    }

    /// Serves a connection to its end.
    pub(crate) async fn serve<S: ClientTransport>(
        &self,
        accepted: ClientConnection<S>,
        client: Option<SocketAddr>,
    ) {
        let source = accepted.source;
        let (stream, idle) = accepted.into_parts();
        let (mut connection, buffer) = {
            let worker = self.slot.current();
            (Http1Connection::new(stream, idle, &worker), ConnectionBuffer::new(&worker))
        };
        for turn in (1..=REQUESTS_BEFORE_YIELD).cycle() {
            let bytes = match connection.next_request().await {
                NextRequest::Head(bytes) => bytes,
                NextRequest::Malformed(error) => return self.refuse(connection, client, error.into()).await,
                NextRequest::Timeout => return self.refuse(connection, client, HeadRejection::Timeout).await,
                NextRequest::Closed => return connection.close(false).await,
            };
            let mut head = Message::new();
            let head_info = match head::parse(&bytes, &mut head) {
                Ok(head_info) => head_info,
                Err(error) => return self.refuse(connection, client, error.into()).await,
            };
            drop(bytes);
            let progress = self.send_watch.progress(Some(connection.socket.buffers()));
            if head_info.version == Version::HTTP_11 {
                progress.interim.accept();
            }
            let payload = begin_body(&head_info, &connection.inbound);
            let request = ClientRequest {
                head: ClientHead::new(head),
                payload,
                client,
                source,
                progress: Some(Rc::clone(&progress)),
            };
            let response = {
                // Boxed, so that idle connections and responses on their way have no memory of it.
                let mut handler = Box::into_pin(boxed!(self.application.respond(request)));
                connection.run_request(handler.as_mut(), &progress.interim).await
            };
            // The client has closed: everything that the request holds is dropped (T7).
            let Some(response) = response else { return };
            match self.respond(&mut connection, &head_info, response, (&progress, &buffer)).await {
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

    /// Writes a response; returns the next state of the connection.
    async fn respond<S: ClientTransport>(
        &self,
        connection: &mut Http1Connection<S>,
        head_info: &HeadInfo,
        response: HttpResponse<A::Body>,
        (progress, buffer): (&Rc<SendProgress>, &Rc<ConnectionBuffer>),
    ) -> AfterResponse {
        let (response, body) = response.into_parts();
        let (head, size) = (response.head(), body.size());
        let framing = ResponseFraming::of(head_info, head.status, size);
        let unread = connection.inbound.borrow_mut().begin_response();
        let may_follow = head_info.length.is_some() && unread.is_at_most(DISCARD_BYTES_MAX);
        let keeps_alive = may_follow
            && head_info.keeps_alive
            && head.keep_alive()
            && framing != ResponseFraming::UntilClose
            && !connection.is_draining()
            // A request that has arrived already is served, too.
            && (!connection.idle.is_last_response() || !connection.inbound.borrow().buffer.is_empty());
        self.date.with(clock::now(), |date| {
            connection.write_buffer.write(|buffer| {
                encode::write_head(buffer, head, (head_info, size, framing), keeps_alive, date);
            });
        });
        drop(response);
        match ResponseSender::new(body, framing, progress, buffer).run(connection).await {
            SendResult::Complete if keeps_alive => {}
            SendResult::Complete => {
                let has_more =
                    unread != UnreadBody::Complete || !connection.inbound.borrow().buffer.is_empty();
                return AfterResponse::Close { may_send: has_more || head_info.length.is_none() };
            }
            SendResult::Cut => return AfterResponse::Reset,
            // A regular close would look like the end of the body.
            SendResult::BodyFailed if framing == ResponseFraming::UntilClose => return AfterResponse::Reset,
            SendResult::BodyFailed | SendResult::ClientClosed => return AfterResponse::Gone,
        }
        if unread == UnreadBody::Complete || connection.discard_body().await {
            AfterResponse::Next
        } else {
            AfterResponse::Gone
        }
    }

    /// Responds to bytes that are not a request, and closes.
    async fn refuse<S: ClientTransport>(
        &self,
        mut connection: Http1Connection<S>,
        client: Option<SocketAddr>,
        why: HeadRejection,
    ) {
        let (status, reason) = head_rejection_status(why);
        log_rejected(&self.slot.current(), client, reason, &why);
        self.date.with(clock::now(), |date| {
            connection.write_buffer.write(|buffer| encode::write_refusal(buffer, status, date));
        });
        connection.close(true).await;
    }
}

/// The state of a connection after a response.
enum AfterResponse {
    /// The next request follows.
    Next,
    /// It closes. `may_send`: the client may still be sending.
    Close { may_send: bool },
    /// It ends with a reset.
    Reset,
    /// It is broken or closed already.
    Gone,
}

/// The body of a request, which is read when the application polls it.
fn begin_body(head_info: &HeadInfo, inbound: &Rc<RefCell<RequestBuffer>>) -> Payload {
    // A body of ambiguous length is not read.
    let length = head_info.length.unwrap_or(BodyLength::Empty);
    match RequestBuffer::begin_body(inbound, length, head_info.expects_continue) {
        Some(body) => Payload::Stream { payload: Box::pin(body) },
        None => Payload::None,
    }
}
