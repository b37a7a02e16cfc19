//! Kept upstream connections that the upstream closes: no request fails because of it if it can be sent again.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::client::{Client, message};
use crate::support::{Gateway, Upstream, UpstreamReply, wait_for};

/// When an upstream closes a connection, without a word.
#[derive(Debug, Clone, Copy)]
enum Closing {
    /// After this idle time between two requests.
    Idle(Duration),
    /// After the answer to each second request.
    EverySecond,
    /// When it has read the second request, without an answer.
    OnReuse,
}

/// An upstream that closes its connections, and the number of those that it has accepted.
struct ClosingUpstream {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl ClosingUpstream {
    async fn start(closing: Closing) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, closing));
            }
        });
        Self { address, accepted }
    }
}

/// Serves one connection.
async fn serve(mut stream: TcpStream, closing: Closing) -> Option<()> {
    stream.set_nodelay(true).unwrap();
    let mut unread = Vec::new();
    for number in 1.. {
        // A new connection is not idle: a busy machine delays its first request.
        let limit = match closing {
            Closing::Idle(time) if number > 1 => time,
            _ => Duration::from_secs(60),
        };
        let method = timeout(limit, read_request(&mut stream, &mut unread)).await.ok()??;
        if number == 2 && matches!(closing, Closing::OnReuse) {
            return None;
        }
        let body = if method == "HEAD" { "" } else { "ok" };
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await.ok()?;
        if number == 2 && matches!(closing, Closing::EverySecond) {
            return None;
        }
    }
    None
}

/// Reads a request; returns its method.
async fn read_request(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(unread[..end].to_vec()).unwrap();
            let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
            let all = end + 4 + length.map_or(0, |length| length.parse().unwrap());
            if unread.len() >= all {
                unread.drain(..all);
                return head.split(' ').next().map(str::to_owned);
            }
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(bytes @ 1..) => unread.extend_from_slice(&buffer[..bytes]),
            _ => return None,
        }
    }
}

/// A gateway without retries before this upstream.
async fn gateway_before(upstream: &ClosingUpstream) -> Gateway {
    Gateway::builder()
        .bucket_at("b", &[upstream.address])
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.connection_pool.max_idle", "16")
        .start()
        .await
}

/// Sends this many requests with bodies that can be sent again over 16 connections, each after a pause. All of them must succeed.
pub(super) async fn all_succeed(
    gateway: &Gateway,
    requests: usize,
    pause: impl Fn(usize) -> Duration + Copy + Send + 'static,
) {
    let clients: Vec<_> = (0..16)
        .map(|client| {
            let address = gateway.address();
            tokio::spawn(async move {
                let mut connection = Client::connect(address).await;
                for number in 0..requests / 16 {
                    let (method, body) = match (client + number) % 4 {
                        0 => ("GET", None),
                        1 => ("HEAD", None),
                        2 => ("PUT", Some(&b"body"[..])),
                        _ => ("DELETE", None),
                    };
                    connection.send(message(method, "/b/k", &[], body)).await;
                    let answer = connection.response(method).await;
                    assert_eq!((answer.complete_status(), answer.reason()), (200, ""), "{method} {number}");
                    tokio::time::sleep(pause(number)).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
}

pub(super) const COUNTER: &str = "upstream_reused_connection_closed_total{bucket=\"b\"}";

pub(super) async fn circuit_has_no_failures(gateway: &Gateway) {
    let status = gateway.status().await;
    for class in ["read", "write"] {
        assert_eq!(status["buckets"]["b"]["breaker"][class]["consecutive_failures"], 0, "{status}");
    }
    let metrics = gateway.metrics().await;
    let mut retries =
        metrics.lines().filter(|line| line.starts_with("tidegate_s3_retry_attempts_total{bucket=\"b\"} "));
    assert!(retries.all(|line| line.ends_with(" 0")), "none is an attempt of the retry policy: {metrics}");
}

/// P9: an upstream that closes after each second request, 10,000 requests
#[tokio::test]
async fn no_request_fails_if_each_second_answer_ends_its_connection() {
    let upstream = ClosingUpstream::start(Closing::EverySecond).await;
    let gateway = gateway_before(&upstream).await;
    all_succeed(&gateway, 10_000, |_| Duration::ZERO).await;
    circuit_has_no_failures(&gateway).await;
    assert!(upstream.accepted.load(Ordering::SeqCst) >= 5_000);
}

/// P9: an upstream with an idle time that ends as requests arrive, 10,000 requests
#[tokio::test]
async fn no_request_fails_if_connections_close_after_an_idle_time() {
    let upstream = ClosingUpstream::start(Closing::Idle(Duration::from_millis(20))).await;
    let gateway = gateway_before(&upstream).await;
    all_succeed(&gateway, 10_000, |number| Duration::from_millis(16 + number as u64 % 8)).await;
    circuit_has_no_failures(&gateway).await;
}

/// P9, B3: an upstream that reads a request on a kept connection and closes: it is sent again on a new one, outside of the retry budget,
/// 10,000 requests
#[tokio::test]
async fn a_request_on_a_closed_connection_is_sent_again() {
    let upstream = ClosingUpstream::start(Closing::OnReuse).await;
    let gateway = gateway_before(&upstream).await;
    all_succeed(&gateway, 10_000, |_| Duration::ZERO).await;
    circuit_has_no_failures(&gateway).await;
    let resent = gateway.metric(COUNTER).await;
    assert!(resent > 3_000.0, "{resent} of 10,000 requests found a closed connection");
}

/// P9, B3: what must not be sent twice is refused with a reason of its own, and counts for nothing
#[tokio::test]
async fn a_request_that_was_written_is_not_sent_twice_unless_it_is_safe() {
    let upstream = Upstream::start(|seen| match seen.target.as_str() {
        "/b/keep" => UpstreamReply::ok("ok"),
        // Reads the request and closes.
        _ => UpstreamReply::raw(""),
    });
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.retry.max_attempts", "3")
        .set("server.workers", "1")
        .start()
        .await;
    let cases: [(&str, &str, &str); 4] = [
        ("POST", "/b/k?uploads", "x-a"),
        ("POST", "/b/k?uploadId=1", "x-a"),
        ("PUT", "/b/k", "if-none-match"),
        ("DELETE", "/b/k", "if-match"),
    ];
    for (number, (method, target, header)) in cases.into_iter().enumerate() {
        assert_eq!(gateway.get("/b/keep").await.complete_status(), 200);
        let (before, connections) = (upstream.count(), upstream.connections());
        let body = (method != "DELETE").then_some(&b"<x/>"[..]);
        let answer = crate::support::request(gateway.address(), method, target, &[(header, "*")], body).await;
        assert_eq!(
            (answer.status, answer.reason()),
            (502, "upstream_connection_reused_closed"),
            "{method} {target} {answer:?}"
        );
        assert_eq!(
            (upstream.count(), upstream.connections()),
            (before + 1, connections),
            "{method} {target}"
        );
        assert_eq!(gateway.metric(COUNTER).await, (number + 1) as f64);
    }
    circuit_has_no_failures(&gateway).await;
    // The same without such a connection is a failure of the upstream.
    let answer = crate::support::request(gateway.address(), "POST", "/b/k?uploads", &[], Some(b"")).await;
    assert_eq!((answer.status, answer.reason()), (502, "upstream_reset"));
    wait_for("it counts", || async {
        let status = gateway.status().await;
        (status["buckets"]["b"]["breaker"]["write"]["consecutive_failures"] == 1).then_some(())
    })
    .await;
}

/// P1: an idle connection ends with its idle time, or before that of the upstream
#[tokio::test]
async fn idle_connections_end_with_their_time() {
    let upstream = Upstream::start(|seen| match seen.target.as_str() {
        "/b/short" => UpstreamReply::ok("ok").header("keep-alive", "timeout=1"),
        _ => UpstreamReply::ok("ok"),
    });
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.connection_pool.idle_timeout", "1")
        .start()
        .await;
    for target in ["/b/short", "/b/k"] {
        let answer = gateway.get(target).await;
        assert_eq!(answer.complete_status(), 200);
        assert_eq!(answer.header("keep-alive"), None, "it concerns the gateway's connection");
        assert_eq!(upstream.open_connections(), 1, "{target}");
        wait_for("it is closed without another request", || async {
            (upstream.open_connections() == 0).then_some(())
        })
        .await;
    }
}
