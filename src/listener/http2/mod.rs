//! HTTP/2 on the data listener (RFC 9113): the connection loop around `h2` (`docs/design/http2-loop.md`).
//!
//! The loop passes each request to the application that also serves HTTP/1.1. actix-http's own dispatcher has none of
//! the limits of V9, ignores resets before the response (T7), and sends no GOAWAY. `h2` uses http 1 and actix http
//! 0.2; `request.rs` and `response.rs` convert, and no code outside this folder uses the newer types.
//!
//! - `limits.rs`: the limits that `h2` enforces; `scanned_socket.rs` and `frame_budget.rs`: the limits that it lacks. The
//!   socket also joins the writes of several streams.
//! - `windows.rs`: the windows of uploads, which follow the budget of socket buffers.
//! - `exchange.rs`: one stream, in one task; `inbound_body.rs` its request's body, `response_queue.rs` its
//!   response's.
//!
//! `:authority` stays in the request's target and replaces Host. A failed transfer resets its own stream only. `100
//! Continue` is sent when the application waits for the body, so a refusal comes before it. Not supported: cleartext
//! HTTP/2, pushes, priorities, and trailers of responses. Interim responses of upstreams are forwarded (`src/interim.rs`).

mod connection_state;
mod exchange;
mod frame_budget;
mod frames;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod header_block;
mod huffman;
mod inbound_body;
mod limits;
mod open_streams;
mod request;
mod response;
mod response_queue;
mod scanned_socket;
#[cfg(test)]
mod tests;
mod windows;

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_http::{BoxedPayloadStream, Message, Payload, RequestHead};
use actix_web::http::Version;
use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use tidegate_actors::clock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout};

use crate::buffers::send_progress::SendWatch;
use crate::buffers::{BufferRetention, OpenSocket};
use crate::client_address::AddressSource;
use crate::http::client_request::ClientRequest;
use crate::listener::application::Application;
use crate::listener::connection::{ClientConnection, log_rejected};
use crate::listener::http1::ClientTransport;
use crate::listener::keep_alive::KeepAlive;
use crate::listener::send_buffer::ConnectionBuffer;
use crate::process::DrainPhase;
use crate::request_head::ClientHead;
use crate::server::idle_connections::IdleSlot;
use crate::worker::FIRST_REQUEST_TIME;
use crate::worker::Worker;
use crate::worker::slot::WorkerSlot;
use connection_state::ConnectionState;
use exchange::Exchange;
use inbound_body::InboundBody;
use open_streams::OpenStreams;
use request::MalformedRequest;
use response_queue::ResponseQueue;
use scanned_socket::ScannedSocket;
use windows::{ClientSocket, Windows};

/// A request of `h2`, and the handle to respond to it.
type Accepted = (http::Request<RecvStream>, SendResponse<Bytes>);

/// How long a connection stays open after GOAWAY without requests.
const GOAWAY_LINGER: Duration = Duration::from_secs(1);

/// Why the gateway ended a connection.
#[derive(Debug)]
pub(crate) enum ConnectionError {
    /// The preface or the first request did not arrive in time.
    Timeout,
    /// The client sent too many frames without progress.
    Flooded,
    /// The client broke the protocol.
    Malformed(h2::Error),
}

impl ConnectionError {
    /// Classifies an error of `h2`. I/O errors and errors that the client reported are normal ends.
    fn of(error: h2::Error) -> Result<(), Self> {
        if error.is_io() || error.is_remote() {
            Ok(())
        } else if error.reason() == Some(Reason::ENHANCE_YOUR_CALM) {
            Err(Self::Flooded)
        } else {
            Err(Self::Malformed(error))
        }
    }

    /// The reason in log and metrics.
    fn reason(&self) -> &'static str {
        match self {
            Self::Timeout => "header_timeout",
            Self::Flooded => "frame_flood",
            Self::Malformed(_) => "malformed",
        }
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str(
                "the HTTP/2 preface or the first request did not arrive within server.header_timeout",
            ),
            Self::Flooded => f.write_str("too many HTTP/2 frames without progress"),
            Self::Malformed(error) => write!(f, "{error}"),
        }
    }
}

/// Serves a connection to its end; logs and counts protocol errors.
pub(crate) async fn serve<S, A>(
    connection: ClientConnection<S>,
    client: Option<SocketAddr>,
    application: &Rc<A>,
    slot: &WorkerSlot,
) where
    S: ClientTransport,
    A: Application,
{
    let socket = OpenSocket::new(connection.stream().descriptor(), BufferRetention::UntilIdle);
    let peer = Peer { client, source: connection.source };
    let (stream, idle) = connection.into_parts();
    let settings = ConnectionSettings::new(idle, &socket, &slot.current());
    let refused = |why: MalformedRequest| log_rejected(&slot.current(), client, "malformed", &why);
    if let Err(ended) = drive(stream, peer, application, settings, refused).await {
        log_rejected(&slot.current(), client, ended.reason(), &ended);
    }
}

/// The settings of one connection.
pub(crate) struct ConnectionSettings {
    /// Time for the preface, and for the first request.
    pub(crate) header_timeout: Duration,
    /// Idle time after which a connection gets GOAWAY.
    pub(crate) keep_alive: KeepAlive,
    /// `server.limits.max_header_size`, in bytes.
    pub(crate) header_bytes: u64,
    pub(crate) drain: watch::Receiver<DrainPhase>,
    /// Watches how fast clients read their responses; `None` if the loop runs in memory.
    pub(crate) watch: Option<Rc<SendWatch>>,
    /// Memory for responses that wait for the client; `None` if the loop runs in memory.
    pub(crate) buffer: Option<Rc<ConnectionBuffer>>,
    /// The connection's entry in the worker's list of connections.
    pub(crate) idle: IdleSlot,
    /// The client's socket; `None` if the loop runs in memory.
    pub(crate) client_socket: Option<ClientSocket>,
}

impl ConnectionSettings {
    fn new(idle: IdleSlot, socket: &OpenSocket, worker: &Worker) -> Self {
        let server = &worker.shared.config.server;
        Self {
            header_timeout: server.header_timeout,
            keep_alive: KeepAlive::of(worker),
            header_bytes: server.limits.max_header_size,
            drain: worker.process.drain.subscribe(),
            watch: Some(Rc::clone(&worker.send_watch)),
            buffer: Some(ConnectionBuffer::new(worker)),
            idle,
            client_socket: Some(ClientSocket {
                buffers: Rc::clone(socket.buffers()),
                budget: Arc::clone(&worker.process.buffer_budget),
            }),
        }
    }
}

/// The peer of the connection.
#[derive(Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) client: Option<SocketAddr>,
    pub(crate) source: AddressSource,
}

/// Serves a connection over any stream to its end. Calls `refused` for each malformed request.
pub(crate) async fn drive<S, A>(
    socket: S,
    peer: Peer,
    application: &Rc<A>,
    settings: ConnectionSettings,
    refused: impl Fn(MalformedRequest),
) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: Application,
{
    let ConnectionSettings { header_timeout, keep_alive, header_bytes, mut drain, watch, buffer, .. } =
        settings;
    let (mut windows, mut idle_slot) = (Windows::new(settings.client_socket), settings.idle);
    let state = Rc::<ConnectionState>::default();
    let socket = ScannedSocket::new(socket, Rc::clone(&state));
    let sender = socket.handle();
    let mut connection = match timeout(header_timeout, limits::builder(header_bytes).handshake(socket)).await
    {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return ConnectionError::of(error),
        Err(_) => return Err(ConnectionError::Timeout),
    };
    sender.defer_writes();
    let streams = Rc::<OpenStreams>::default();
    let (mut is_closing, mut has_begun, first_request_due) =
        (false, false, clock::now() + FIRST_REQUEST_TIME);
    // Runs until the first request, and again when no request is open.
    let mut idle = pin!(sleep(header_timeout));
    loop {
        tokio::select! {
            // The connection is polled first, so that the last response is written before an idle connection ends.
            biased;
            accepted = poll_fn(|cx| poll_accept(cx, &mut connection, &sender)) => match accepted {
                Some(Ok((request, respond))) => {
                    has_begun = true;
                    let progress = watch.as_ref().map(|watch| watch.progress(windows.buffers()));
                    let queue = ResponseQueue::new(progress, buffer.clone());
                    match new_exchange(request, respond, peer, queue, &state) {
                        Err(why) => refused(why),
                        Ok(exchange) => {
                            idle_slot.set_busy();
                            streams.spawn(exchange, application);
                        }
                    }
                }
                Some(Err(_)) | None if state.is_flooded() => return Err(ConnectionError::Flooded),
                Some(Err(error)) => return ConnectionError::of(error),
                None => return Ok(()),
            },
            () = windows.resized() => windows.adjust(&mut connection),
            () = state.flooded.notified() => {
                is_closing = true;
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                idle.as_mut().reset((clock::now() + GOAWAY_LINGER).into());
            }
            () = shutdown_due(&mut drain, has_begun, first_request_due, &mut idle_slot), if !is_closing => {
                is_closing = true;
                connection.graceful_shutdown();
                idle.as_mut().reset((clock::now() + GOAWAY_LINGER).into());
            }
            () = streams.idle() => {
                streams.report_idle(&idle_slot);
                sender.shrink();
                windows.shrink(&mut connection);
                let idle_timeout = if is_closing { GOAWAY_LINGER } else { keep_alive.idle_time() };
                idle.as_mut().reset((clock::now() + idle_timeout).into());
            }
            () = &mut idle, if streams.is_empty() || state.is_flooded() => {
                if state.is_flooded() {
                    return Err(ConnectionError::Flooded);
                }
                if is_closing {
                    return Ok(());
                }
                is_closing = true;
                connection.graceful_shutdown();
                idle.as_mut().reset((clock::now() + GOAWAY_LINGER).into());
            }
        }
    }
}

/// Drives the connection to the next request, and sends what `h2` has written. `None` at the end, also by an error of the
/// socket.
fn poll_accept<S: AsyncRead + AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    connection: &mut Connection<ScannedSocket<S>, Bytes>,
    sender: &ScannedSocket<S>,
) -> Poll<Option<Result<Accepted, h2::Error>>> {
    let accepted = connection.poll_accept(cx);
    if accepted.is_pending() && matches!(sender.poll_send(cx), Poll::Ready(Err(_))) {
        return Poll::Ready(None);
    }
    accepted
}

/// Returns when the gateway ends the connection: because it drains, or because it needs the descriptor of an idle
/// connection.
async fn shutdown_due(
    drain: &mut watch::Receiver<DrainPhase>,
    has_begun: bool,
    first_request_due: Instant,
    idle_slot: &mut IdleSlot,
) {
    tokio::select! {
        () = drain_due(drain, has_begun, first_request_due) => {}
        () = idle_slot.closing() => {}
    }
}

/// Returns when a draining gateway ends the connection. A connection without a request may have been in the backlog.
/// A GOAWAY before its first request would make the client repeat that elsewhere, so it gets some time.
async fn drain_due(drain: &mut watch::Receiver<DrainPhase>, has_begun: bool, first_request_due: Instant) {
    let must_end = |phase: &DrainPhase| match phase {
        DrainPhase::Serving => false,
        DrainPhase::HandedOver | DrainPhase::Draining => has_begun,
        DrainPhase::Closing | DrainPhase::EndingStreams | DrainPhase::CuttingOff => true,
    };
    let _ = drain.wait_for(must_end).await;
    if !has_begun {
        sleep_until(first_request_due.into()).await;
    }
}

/// Builds the exchange of a stream, or returns why the request is malformed (RFC 9113, 8.1.1).
fn new_exchange(
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    Peer { client, source }: Peer,
    queue: Rc<ResponseQueue>,
    state: &Rc<ConnectionState>,
) -> Result<Exchange, MalformedRequest> {
    let (parts, body) = request.into_parts();
    let has_body = !body.is_end_stream();
    let converted = if state.take_malformed(respond.stream_id().as_u32()) {
        Err("a # or an unknown scheme in a pseudo-header field")
    } else {
        request::convert_head(&parts, has_body)
    };
    let converted = converted.inspect_err(|_| respond.send_reset(Reason::PROTOCOL_ERROR))?;
    let inbound = has_body.then(|| InboundBody::new(body, Rc::clone(state)));
    let payload = match &inbound {
        None => Payload::None,
        Some(inbound) => Payload::Stream { payload: Box::pin(inbound.payload()) as BoxedPayloadStream },
    };
    let progress = queue.progress().cloned();
    if let Some(progress) = &progress {
        progress.interim.accept();
    }
    let mut head = Message::<RequestHead>::new();
    head.method = converted.method;
    head.uri = converted.uri;
    head.version = Version::HTTP_2;
    head.headers = converted.headers;
    let request = ClientRequest { head: ClientHead::new(head), payload, client, source, progress };
    Ok(Exchange { request, inbound, respond, queue, connection: Rc::clone(state) })
}
