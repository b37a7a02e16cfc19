//! HTTP/2 on the data listener (RFC 9113): from a connection to requests in `proxy.rs`, many at a time.
//!
//! actix-http has a dispatcher of its own, but it does not see a client reset a stream before it was answered (T7), waits for ever for
//! a client that grants no window (T4), holds idle connections for ever while they answer pings (T4), bounds neither streams
//! nor headers (P2, V2), and says no GOAWAY when the gateway drains (G4). So this is the loop around `h2` itself; what a request
//! is and does is the same application's as on HTTP/1.1.
//!
//! What differs is settled here. `:authority` stays in the request's target and stands for Host, which need not be
//! there. A body without a length is what chunks are on HTTP/1.1, and is marked so. Cookies that were split are one header again.
//! A transfer that breaks resets its stream, and no other. `h2` itself refuses fields of the connection, bodies of another
//! length than announced, and floods of resets.
//! Deliberately absent: cleartext HTTP/2, pushes, priorities, trailers, and interim answers: who waits for `100 Continue` is answered by the
//! head all the same, before a byte of its body was read, and a client must not wait for ever.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use actix_http::{HttpMessage, Payload, Request};
use actix_service::Service;
use actix_web::Error;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ResponseHead, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, DATE, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use tidegate_actors::clock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::http::client_address::Source;
use crate::http::connection::Connection;
use crate::worker::Worker;

/// Requests of one connection at a time; more wait with the client.
const STREAMS_MAX: u32 = 128;
/// What a client may send of one body, and of all together, before it is read.
const STREAM_WINDOW_BYTES: u32 = 512 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 2 << 20;
/// What waits to be written of one answer.
const SEND_BYTES: usize = 128 << 10;
/// Above what the edge takes, so that it is the edge that refuses, in its own words.
const HEAD_BYTES_SPARE: u32 = 64 << 10;
/// How long a connection may linger once it was told to go.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a connection ended in something else than a request.
pub(crate) enum Ended {
    /// It did not begin in time.
    Late,
    /// The client broke the protocol, or the connection broke.
    Broken(h2::Error),
}

/// Serves a connection to its end.
pub(crate) async fn serve<S, A>(
    connection: Connection<S>,
    client: Option<SocketAddr>,
    application: &Rc<A>,
    worker: &Worker,
) -> Result<(), Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: Service<Request, Response = ServiceResponse<BoxBody>, Error = Error> + 'static,
{
    let server = &worker.shared.config.server;
    let source = connection.source;
    let header_bytes = u32::try_from(server.limits.max_header_size).unwrap_or(u32::MAX);
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BYTES)
        .max_header_list_size(header_bytes.saturating_add(HEAD_BYTES_SPARE));
    let handshake = timeout(server.header_timeout, builder.handshake::<_, Bytes>(connection)).await;
    let mut connection = handshake.map_err(|_| Ended::Late)?.map_err(Ended::Broken)?;
    let streams = Rc::<Streams>::default();
    let mut draining = worker.shared.draining.subscribe();
    let mut is_leaving = false;
    // Until the first request, and from the last answer on: who says nothing is let go.
    let mut silence = pin!(sleep(server.header_timeout));
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let request = request_of(request, client, source);
                    let stream = streams.open();
                    let answering = answer(request, respond, Rc::clone(application), server.write_stall_timeout);
                    actix_rt::spawn(async move {
                        answering.await;
                        drop(stream);
                    });
                }
                Some(Err(error)) => return Err(Ended::Broken(error)),
                None => return Ok(()),
            },
            _ = draining.wait_for(|is_draining| *is_draining), if !is_leaving => {
                is_leaving = true;
                connection.graceful_shutdown();
                silence.as_mut().reset((clock::now() + FAREWELL).into());
            }
            () = streams.quiet.notified() => {
                let patience = if is_leaving { FAREWELL } else { server.keep_alive };
                silence.as_mut().reset((clock::now() + patience).into());
            }
            () = &mut silence, if streams.open.get() == 0 => {
                if is_leaving {
                    return Ok(());
                }
                is_leaving = true;
                connection.graceful_shutdown();
                silence.as_mut().reset((clock::now() + FAREWELL).into());
            }
        }
    }
}

/// How many requests of a connection are being answered.
#[derive(Default)]
struct Streams {
    open: Cell<usize>,
    quiet: Notify,
}

impl Streams {
    fn open(self: &Rc<Self>) -> Open {
        self.open.set(self.open.get() + 1);
        Open(Rc::clone(self))
    }
}

/// One of them.
struct Open(Rc<Streams>);

impl Drop for Open {
    fn drop(&mut self) {
        let left = self.0.open.get() - 1;
        self.0.open.set(left);
        if left == 0 {
            self.0.quiet.notify_one();
        }
    }
}

/// The request as the application knows requests.
fn request_of(request: http::Request<RecvStream>, client: Option<SocketAddr>, source: Source) -> Request {
    let (parts, body) = request.into_parts();
    let is_bare = body.is_end_stream();
    let mut request = Request::with_payload(if is_bare { Payload::None } else { Payload::from(body) });
    request.extensions_mut().insert(source);
    let head = request.head_mut();
    head.method = parts.method;
    head.uri = parts.uri;
    head.version = parts.version;
    head.headers = parts.headers.into();
    head.peer_addr = client;
    settle(&mut head.headers, is_bare);
    request
}

/// Says in HTTP/1.1's words what HTTP/2 says in others.
fn settle(headers: &mut HeaderMap, is_bare: bool) {
    if !is_bare && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let cookies: Vec<&[u8]> = headers.get_all(COOKIE).map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

/// Answers one request, or stops where the client does.
async fn answer<A>(request: Request, mut respond: SendResponse<Bytes>, application: Rc<A>, stall: Duration)
where
    A: Service<Request, Response = ServiceResponse<BoxBody>, Error = Error>,
{
    let is_head = request.method() == Method::HEAD;
    let answered = tokio::select! {
        biased;
        answered = application.call(request) => answered,
        // Whatever the request holds is dropped with it, its call of the upstream too (T7).
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return,
    };
    let response = answered.map_or_else(|error| error.error_response(), |answered| answered.into_parts().1);
    let (response, body) = response.into_parts();
    let size = body.size();
    let is_whole = is_head || size.is_eof();
    let Ok(stream) = respond.send_response(head_of(response.head(), size), is_whole) else { return };
    if !is_whole {
        send(body, stream, stall).await;
    }
}

/// Sends a body at the pace of the client; one that breaks resets the stream, so that it cannot look whole (T6).
async fn send(body: BoxBody, mut stream: SendStream<Bytes>, stall: Duration) {
    let mut body = pin!(body);
    loop {
        let polled = tokio::select! {
            biased;
            polled = poll_fn(|cx| body.as_mut().poll_next(cx)) => polled,
            _ = poll_fn(|cx| stream.poll_reset(cx)) => return,
        };
        let mut piece = match polled {
            Some(Ok(piece)) => piece,
            Some(Err(_)) => return stream.send_reset(Reason::INTERNAL_ERROR),
            None => {
                // A client that left misses nothing.
                let _ = stream.send_data(Bytes::new(), true);
                return;
            }
        };
        while !piece.is_empty() {
            stream.reserve_capacity(piece.len());
            let Ok(granted) = timeout(stall, poll_fn(|cx| stream.poll_capacity(cx))).await else {
                return stream.send_reset(Reason::CANCEL);
            };
            let Some(Ok(granted)) = granted else { return };
            let part = piece.split_to(granted.min(piece.len()));
            if stream.send_data(part, false).is_err() {
                return;
            }
        }
    }
}

/// The answer's head, without what is HTTP/1.1's own.
fn head_of(head: &ResponseHead, size: BodySize) -> http::Response<()> {
    let mut response = http::Response::new(());
    *response.status_mut() = head.status;
    let headers = response.headers_mut();
    for (name, value) in head.headers() {
        if !is_of_the_connection(name) {
            headers.append(name, value.clone());
        }
    }
    if let BodySize::Sized(bytes) = size {
        headers.insert(CONTENT_LENGTH, bytes.into());
    }
    if !headers.contains_key(DATE)
        && let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(clock::wall()))
    {
        headers.insert(DATE, date);
    }
    response
}

fn is_of_the_connection(name: &HeaderName) -> bool {
    [CONNECTION, TRANSFER_ENCODING, UPGRADE].contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

#[cfg(test)]
mod tests {
    use actix_web::http::StatusCode;

    use super::*;

    fn settled(pairs: &[(&'static str, &'static str)], is_bare: bool) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        settle(&mut headers, is_bare);
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.to_string(), value.to_str().unwrap().to_owned())
        };
        headers.iter().map(text).collect()
    }

    fn pair(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), value.to_owned())]
    }

    /// V1, V2
    #[test]
    fn a_body_without_a_length_is_chunked_in_other_words() {
        assert_eq!(settled(&[], true), []);
        assert_eq!(settled(&[], false), pair("transfer-encoding", "chunked"));
        assert_eq!(settled(&[("content-length", "3")], false), pair("content-length", "3"));
    }

    /// A7
    #[test]
    fn split_cookies_are_one_header_again() {
        assert_eq!(settled(&[("cookie", "a=1"), ("cookie", "b=2")], true), pair("cookie", "a=1; b=2"));
        assert_eq!(settled(&[("cookie", "a=1")], true), pair("cookie", "a=1"));
    }

    /// A7, V7
    #[test]
    fn an_answers_head_holds_nothing_of_a_connection() {
        let mut head = ResponseHead::new(StatusCode::OK);
        for (name, value) in [("connection", "close"), ("keep-alive", "x"), ("etag", "\"a\""), ("date", "d")]
        {
            head.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let sent = head_of(&head, BodySize::Sized(7));
        let mut names: Vec<&str> = sent.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "date", "etag"]);
        assert_eq!(sent.headers()[CONTENT_LENGTH], "7");
        assert!(!head_of(&head, BodySize::Stream).headers().contains_key(CONTENT_LENGTH));
    }
}
