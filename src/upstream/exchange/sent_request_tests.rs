//! Whole exchanges over in-memory streams, with upstreams that break each rule.

use std::cell::RefCell;
use std::time::Duration;

use actix_web::http::header::{HOST, HeaderValue};
use actix_web::http::uri::PathAndQuery;
use futures_util::StreamExt;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::buffers::BufferRetention;
use crate::upstream::exchange::connection::ConnectionCounts;
use crate::upstream::exchange::pool::PoolSettings;

/// What an upstream does on one connection: an answer after each request. It then closes.
type Script = Vec<Vec<u8>>;

/// A pool with connections to upstreams with these scripts, in turn.
struct Upstreams {
    pool: Rc<EndpointPool<DuplexStream>>,
    counts: ConnectionCounts,
    connects: Rc<RefCell<Vec<Script>>>,
}

impl Upstreams {
    /// `step` is the number of bytes that an upstream writes at a time.
    fn new(mut scripts: Vec<Script>, step: usize) -> Self {
        scripts.reverse();
        let counts = ConnectionCounts::default();
        let connects = Rc::new(RefCell::new(scripts));
        let left = Rc::clone(&connects);
        let settings = PoolSettings {
            idle_max: 4,
            idle_timeout: Duration::from_secs(10),
            lifetime: None,
            connect_timeout: Duration::from_secs(5),
            head_limits: ResponseHeadLimits { bytes_max: 2000, fields_max: 20 },
            retention: BufferRetention::Fixed,
        };
        let pool = EndpointPool::new(settings, counts.clone(), move |_| {
            let script = left.borrow_mut().pop();
            Box::pin(async move {
                let script = script.ok_or(io::ErrorKind::ConnectionRefused)?;
                let (near, far) = duplex(64);
                tokio::spawn(serve(far, script, step));
                Ok(near)
            })
        });
        Self { pool, counts, connects }
    }

    fn send(&self, method: Method, body: OutboundBody, may_resend: bool) -> SentRequest<DuplexStream> {
        let mut head = OutboundHead::new(method, PathAndQuery::from_static("/k"));
        head.headers.insert(HOST, HeaderValue::from_static("h"));
        let request = OutboundRequest { head, connection: ConnectionChoice::default(), may_resend };
        SentRequest::new(&self.pool, request, body, ExchangeObservers::default())
    }

    /// The status and the body, or why there is none.
    async fn exchange(&self, method: Method, may_resend: bool) -> Result<(u16, String), String> {
        let sent = self.send(method, OutboundBody::None, may_resend);
        let mut response = sent.await.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(piece) = response.next().await {
            body.extend_from_slice(&piece.map_err(|error| format!("{status}: {error}"))?);
        }
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    async fn get(&self) -> Result<(u16, String), String> {
        self.exchange(Method::GET, true).await
    }

    /// Connections that were not needed.
    fn left(&self) -> usize {
        self.connects.borrow().len()
    }
}

async fn serve(mut stream: DuplexStream, script: Script, step: usize) {
    let mut received = Vec::new();
    for answer in script {
        while !received.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match stream.read(&mut byte).await {
                Ok(1..) => received.push(byte[0]),
                _ => return,
            }
        }
        received.clear();
        for piece in answer.chunks(step) {
            if stream.write_all(piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

fn ok(body: &str) -> Result<(u16, String), String> {
    Ok((200, body.to_owned()))
}

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// One answer of an upstream, and then a good one on the next connection: the result of the first, and whether its connection was used
/// again.
async fn answer(text: &str, step: usize) -> (Result<(u16, String), String>, bool) {
    let first = vec![text.as_bytes().to_vec(), HELLO.as_bytes().to_vec()];
    let upstreams = Upstreams::new(vec![first, vec![HELLO.as_bytes().to_vec()]], step);
    let result = upstreams.get().await;
    // The upstream may send more than the response.
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(upstreams.get().await, ok("hello"), "after {text:?}");
    (result, upstreams.left() == 1)
}

/// V1, T6: each framing, whole and in single bytes; only a connection that is clean is used again
#[tokio::test(start_paused = true)]
async fn a_response_is_read_by_its_framing() {
    for (text, body, is_reused) in [
        (HELLO, "hello", true),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nt: v\r\n\r\n",
            "abcde",
            true,
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "", true),
        ("HTTP/1.1 200 OK\ncontent-length: 2\n\nab", "ab", true),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nab", "ab", false),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nab", "ab", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nab", "ab", false),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na",
            "a",
            true,
        ),
        // Bytes after the body, and a response without a request.
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nabc", "ab", false),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nabHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
            "ab",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            "ab",
            false,
        ),
    ] {
        for step in [1, 7, 1000] {
            assert_eq!(answer(text, step).await, (ok(body), is_reused), "{text:?} in pieces of {step}");
        }
    }
    for (text, status) in [
        ("HTTP/1.1 204 No Content\r\n\r\nbody", 204),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\nbody", 204),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 4\r\n\r\nbody", 304),
    ] {
        for step in [1, 1000] {
            assert_eq!(answer(text, step).await, (Ok((status, String::new())), false), "{text:?}");
        }
    }
    assert_eq!(
        answer("HTTP/1.1 304 Not Modified\r\ncontent-length: 4\r\n\r\n", 9).await,
        (Ok((304, String::new())), true)
    );
}

/// T6, B3: a response that is malformed or ends early is a visible failure, and its connection closes
#[tokio::test(start_paused = true)]
async fn a_broken_response_is_an_error() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "v".repeat(3000));
    let flood = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(200);
    for (text, error) in [
        ("", "the upstream closed the connection"),
        ("HTTP/1.1 200 OK\r\nx: y", "the upstream closed the connection"),
        ("<html>hello</html>", "it is not an HTTP/1 response"),
        ("HTTP/2 200\r\n\r\n", "the version of HTTP is neither 1.1 nor 1.0"),
        (&long, "the head is longer than the limit"),
        (&flood, "the head is longer than the limit"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
            "the upstream switches protocols without a request for it",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "the head has both Content-Length and Transfer-Encoding",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab", "200: the upstream closed the connection"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
            "200: the upstream closed the connection",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
            "200: the upstream closed the connection",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
            "200: a chunk's size is not a hexadecimal number",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabc\r\n",
            "200: a chunk is longer than its size",
        ),
    ] {
        for step in [1, 1000] {
            // The upstream closes after this answer.
            let scripts = vec![vec![text.as_bytes().to_vec()], vec![HELLO.as_bytes().to_vec()]];
            let upstreams = Upstreams::new(scripts, step);
            assert_eq!(upstreams.get().await, Err(error.to_owned()), "{text:?}");
            assert_eq!((upstreams.counts.open(), upstreams.counts.idle()), (0, 0), "{text:?}");
            assert_eq!(upstreams.get().await, ok("hello"), "after {text:?}");
        }
    }
}

/// T6: the close ends a body that has no other end
#[tokio::test(start_paused = true)]
async fn a_close_ends_a_body_without_a_length() {
    for version in ["1.0", "1.1"] {
        let text = format!("HTTP/{version} 200 OK\r\n\r\nall of it").into_bytes();
        let upstreams = Upstreams::new(vec![vec![text]], 5);
        assert_eq!(upstreams.get().await, ok("all of it"));
        assert_eq!(upstreams.counts.open(), 0);
    }
}

/// P9: a request on a reused connection that the upstream closes is sent again once, if that is safe
#[tokio::test(start_paused = true)]
async fn a_closed_reused_connection_is_replaced() {
    let good = HELLO.as_bytes().to_vec();
    // An empty answer: it reads the request and closes.
    let scripts = || vec![vec![good.clone(), Vec::new()], vec![good.clone()]];
    let upstreams = Upstreams::new(scripts(), 100);
    assert_eq!((upstreams.get().await, upstreams.get().await), (ok("hello"), ok("hello")));
    assert_eq!(upstreams.left(), 0);

    let upstreams = Upstreams::new(scripts(), 100);
    assert_eq!(upstreams.exchange(Method::POST, false).await, ok("hello"));
    let error = upstreams.exchange(Method::POST, false).await.unwrap_err();
    assert_eq!(error, "the upstream closed a reused connection: the upstream closed the connection");
    assert_eq!((upstreams.left(), upstreams.counts.open()), (1, 0));

    // A new connection has no such excuse.
    let upstreams =
        Upstreams::new(vec![vec![good.clone(), Vec::new()], vec![Vec::new()], vec![good.clone()]], 100);
    assert_eq!(upstreams.get().await, ok("hello"));
    assert_eq!(upstreams.get().await, Err("the upstream closed the connection".to_owned()));
    assert_eq!(upstreams.left(), 1);

    // After the first byte of a response the request may have been processed.
    let upstreams = Upstreams::new(vec![vec![good.clone(), b"H".to_vec()], vec![good]], 100);
    assert_eq!(upstreams.get().await, ok("hello"));
    assert_eq!(upstreams.get().await, Err("the upstream closed the connection".to_owned()));
    assert_eq!(upstreams.left(), 1);
}

/// P9: a body that is held whole is sent again whole
#[tokio::test(start_paused = true)]
async fn a_held_body_is_sent_again() {
    for bytes in [3, 100_000] {
        let good = HELLO.as_bytes().to_vec();
        let upstreams = Upstreams::new(vec![vec![good.clone(), Vec::new()]], 100);
        let pool = &upstreams.pool;
        assert_eq!(upstreams.get().await, ok("hello"));
        let body = Bytes::from(vec![b'x'; bytes]);
        let (near, mut far) = duplex(1000);
        let near = RefCell::new(Some(near));
        let second = EndpointPool::new(pool.settings.clone(), upstreams.counts.clone(), move |_| {
            let near = near.borrow_mut().take();
            Box::pin(async move { near.ok_or_else(|| io::ErrorKind::NotFound.into()) })
        });
        second.release(pool.take("", clock::now()).unwrap(), None, clock::now());
        let mut head = OutboundHead::new(Method::PUT, PathAndQuery::from_static("/k"));
        head.headers.insert(HOST, HeaderValue::from_static("h"));
        let request = OutboundRequest { head, connection: ConnectionChoice::default(), may_resend: true };
        let sent =
            SentRequest::new(&second, request, OutboundBody::Buffered(body), ExchangeObservers::default());
        let serving = async {
            let expected =
                format!("PUT /k HTTP/1.1\r\nhost: h\r\ncontent-length: {bytes}\r\n\r\n{}", "x".repeat(bytes));
            let mut received = vec![0; expected.len()];
            far.read_exact(&mut received).await.unwrap();
            assert!(received == expected.as_bytes());
            far.write_all(HELLO.as_bytes()).await.unwrap();
        };
        let (response, ()) = futures_util::future::join(sent, serving).await;
        assert_eq!(response.unwrap().status().as_u16(), 200);
    }
}

/// B3: a response before the end of the body ends the request, and the connection is not used again
#[tokio::test(start_paused = true)]
async fn an_early_response_ends_the_request() {
    let refusal = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno".to_vec();
    let upstreams = Upstreams::new(vec![vec![refusal, HELLO.as_bytes().to_vec()]], 100);
    // More than the stream accepts, so the upstream answers before it was written.
    let body = OutboundBody::Buffered(Bytes::from(vec![b'x'; 10_000]));
    let mut response = upstreams.send(Method::PUT, body, true).await.unwrap();
    assert_eq!(response.status().as_u16(), 403);
    assert_eq!(response.next().await.unwrap().unwrap(), "no");
    assert!(response.next().await.is_none());
    assert_eq!((upstreams.counts.open(), upstreams.counts.idle()), (0, 0));
}

/// T7: a call that is dropped closes its connection, in each of its states
#[tokio::test(start_paused = true)]
async fn a_dropped_call_closes_its_connection() {
    let upstreams = Upstreams::new(vec![vec![b"HTTP/1.1 200 OK\r\n".to_vec(), Vec::new()]; 2], 100);
    let mut sent = upstreams.send(Method::GET, OutboundBody::None, true);
    assert!(timeout(Duration::from_millis(5), &mut sent).await.is_err());
    assert_eq!(upstreams.counts.open(), 1);
    drop(sent);
    assert_eq!((upstreams.counts.open(), upstreams.counts.idle()), (0, 0));
    let partial = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab".to_vec();
    let upstreams = Upstreams::new(vec![vec![partial, Vec::new()]], 100);
    let mut response = upstreams.send(Method::GET, OutboundBody::None, true).await.unwrap();
    assert_eq!(response.next().await.unwrap().unwrap(), "ab");
    drop(response);
    assert_eq!((upstreams.counts.open(), upstreams.counts.idle()), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// E4, T6: any split of a stream of responses gives the same results, and no byte of one response is in another
    #[test]
    fn responses_are_read_alike_however_they_are_split(
        bodies in prop::collection::vec("[a-z]{0,200}", 1..4),
        chunk in prop::option::of(1_usize..50),
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        step in 1_usize..300,
    ) {
        let mut answers: Script = bodies.iter().map(|body| encode(body, chunk)).collect();
        if let Some((at, byte)) = damage {
            let answer = &mut answers[0];
            let at = at.index(answer.len());
            answer[at] = byte;
        }
        let run = |step| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let upstreams = Upstreams::new(vec![answers.clone(); 4], step);
                let mut results = Vec::new();
                for _ in 0..bodies.len() {
                    let getting = timeout(Duration::from_secs(1), upstreams.get());
                    results.push(getting.await.unwrap_or_else(|_| Err("timeout".to_owned())));
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                results
            })
        };
        let whole = run(10_000);
        prop_assert_eq!(&run(step), &whole);
        if damage.is_none() {
            let expected: Vec<_> = bodies.iter().map(|body| ok(body)).collect();
            prop_assert_eq!(whole, expected);
        }
    }
}

/// A response with this body, in chunks or with a length.
fn encode(body: &str, chunk: Option<usize>) -> Vec<u8> {
    let Some(chunk) = chunk else {
        return format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes();
    };
    let mut text = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for piece in body.as_bytes().chunks(chunk) {
        text.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        text.extend_from_slice(piece);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"0\r\n\r\n");
    text
}
