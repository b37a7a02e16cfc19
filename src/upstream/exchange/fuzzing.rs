//! Fuzzing target `upstream`: whole exchanges with an upstream that sends any bytes.

#![allow(clippy::unwrap_used, reason = "a failed assertion is the result")]

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::uri::PathAndQuery;
use futures_util::{FutureExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::{ConnectionCounts, UpstreamTransport};
use super::outbound_head::OutboundHead;
use super::pool::{EndpointPool, PoolSettings};
use super::request_writer::OutboundBody;
use super::response_framing::UpstreamFraming;
use super::response_head::ResponseHeadLimits;
use super::sent_request::{ConnectionChoice, ExchangeObservers, OutboundRequest, SentRequest};
use crate::buffers::BufferRetention;
use crate::fuzz_input::{Input, split};

/// Limits that short inputs reach.
const LIMITS: ResponseHeadLimits = ResponseHeadLimits { bytes_max: 512, fields_max: 8 };

/// Checks for upstreams: the result does not depend on how the network splits an answer; a body is not longer than what was sent, and has
/// its declared length; a connection is idle only after a complete response; what follows a response is no part of the next one.
pub fn upstream(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (mode, cuts) = (input.byte(), input.byte());
    let method = if mode & 1 == 0 { Method::GET } else { Method::HEAD };
    let first = input.bytes();
    let second = input.rest();
    let answers = [first, second];
    let whole = run(&method, &answers, 0);
    for cuts in [1, cuts] {
        assert_eq!(run(&method, &answers, cuts), whole, "cut by {cuts}");
    }
    let Exchanges { results, connections } = whole;
    let longest = first.len().max(second.len());
    assert!(results.iter().all(|result| result.body.len() <= longest));
    if let [Exchanged { outcome: Ok(_), .. }, of_second] = &results[..]
        && connections == 1
        && !second.is_empty()
    {
        let alone = run(&method, &[second], cuts);
        assert_eq!(alone.results[0], *of_second, "a response depends on the one before");
    }
}

/// The result of one exchange.
#[derive(Debug, PartialEq, Eq)]
struct Exchanged {
    outcome: Result<u16, String>,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
struct Exchanges {
    results: Vec<Exchanged>,
    connections: usize,
}

/// Sends as many requests as there are answers. Each connection sends these answers, and then closes.
fn run(method: &Method, answers: &[&[u8]], cuts: u8) -> Exchanges {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (counts, connections) = (ConnectionCounts::default(), Rc::new(Cell::new(0)));
    let settings = PoolSettings {
        idle_max: 2,
        idle_timeout: Duration::from_secs(60),
        lifetime: None,
        connect_timeout: Duration::from_secs(60),
        head_limits: LIMITS,
        retention: BufferRetention::Fixed,
    };
    let pieces = |answer: &&[u8]| split(answer, cuts).into_iter().map(<[u8]>::to_vec).collect();
    let script: VecDeque<VecDeque<Vec<u8>>> = answers.iter().map(pieces).collect();
    let opened = Rc::clone(&connections);
    let pool = EndpointPool::new(settings, counts.clone(), move |_| {
        opened.set(opened.get() + 1);
        let stream = ScriptedStream { answers: script.clone(), sending: VecDeque::new(), is_begun: false };
        Box::pin(async move { Ok(stream) })
    });
    let results =
        runtime.block_on(async { answers.iter().map(|_| exchange(&pool, method, &counts)).collect() });
    Exchanges { results, connections: connections.get() }
}

fn exchange(
    pool: &Rc<EndpointPool<ScriptedStream>>,
    method: &Method,
    counts: &ConnectionCounts,
) -> Exchanged {
    let head = OutboundHead::new(method.clone(), PathAndQuery::from_static("/"));
    let request = OutboundRequest { head, connection: ConnectionChoice::default(), may_resend: true };
    let sent = SentRequest::new(pool, request, OutboundBody::None, ExchangeObservers::default());
    let mut result = Exchanged { outcome: Err("waits".to_owned()), headers: Vec::new(), body: Vec::new() };
    // Everything is ready at once, so a call that is not waits for more bytes.
    let exchanging = async {
        let mut response = match sent.await {
            Ok(response) => response,
            Err(error) => return Err(error.to_string()),
        };
        let headers = response.headers().iter();
        result.headers = headers.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
        result.headers.sort();
        while let Some(piece) = response.next().await {
            result.body.extend_from_slice(&piece.map_err(|error| error.to_string())?);
        }
        if let UpstreamFraming::Length(bytes) = response.framing() {
            assert_eq!(result.body.len() as u64, bytes);
        }
        Ok(response.status().as_u16())
    };
    if let Some(outcome) = exchanging.now_or_never() {
        result.outcome = outcome;
    }
    assert_eq!(counts.open(), counts.idle(), "a connection leaks");
    assert!(result.outcome.is_ok() || counts.idle() == 0, "a broken connection is kept");
    result
}

/// An upstream: one answer for each request, then the end of the stream.
struct ScriptedStream {
    answers: VecDeque<VecDeque<Vec<u8>>>,
    sending: VecDeque<Vec<u8>>,
    is_begun: bool,
}

impl UpstreamTransport for ScriptedStream {
    fn descriptor(&self) -> Option<RawFd> {
        None
    }
}

impl AsyncRead for ScriptedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(mut piece) = self.sending.pop_front() else {
            // After the last answer it closes.
            return if self.is_begun && self.answers.is_empty() {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            };
        };
        let count = piece.len().min(buf.remaining());
        buf.put_slice(&piece[..count]);
        if count < piece.len() {
            piece.drain(..count);
            self.sending.push_front(piece);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ScriptedStream {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.is_begun = true;
        if bytes.ends_with(b"\r\n\r\n")
            && let Some(answer) = self.answers.pop_front()
        {
            self.sending.extend(answer);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
