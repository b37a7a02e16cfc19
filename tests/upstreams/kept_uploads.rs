//! Uploads on kept connections that the upstream closes: before their body, in it, and after much of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::kept_connections::{COUNTER, circuit_has_no_failures};
use crate::support::client::{Client, message};
use crate::support::{Gateway, random_bytes, wait_for, wait_until};

/// An upstream that answers the first request of each connection. Of the second it reads the head and `body_bytes` of the body, and
/// closes.
struct ClosingUpstream {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// The body of the last request that was read whole.
    body: Arc<Mutex<Vec<u8>>>,
}

impl ClosingUpstream {
    async fn start(body_bytes: usize) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, body) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<u8>>>::default());
        let (count, last) = (Arc::clone(&connections), Arc::clone(&body));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, body_bytes, Arc::clone(&last)));
            }
        });
        Self { address, connections, body }
    }

    /// A gateway with an idle connection to this upstream.
    async fn gateway(&self) -> Gateway {
        let gateway = Gateway::builder()
            .bucket_at("b", &[self.address])
            .set("buckets.b.s3.retry.max_attempts", "1")
            .set("server.workers", "1")
            .start()
            .await;
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        assert_eq!(gateway.metric("connection_pool_idle{bucket=\"b\"}").await, 1.0);
        gateway
    }
}

async fn serve(mut stream: TcpStream, body_bytes: usize, last: Arc<Mutex<Vec<u8>>>) -> Option<()> {
    for number in 1.. {
        let mut received = Vec::new();
        let end = loop {
            if let Some(at) = received.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            read(&mut stream, &mut received).await?;
        };
        let head = String::from_utf8(received[..end].to_vec()).unwrap();
        let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        let wanted = if number == 2 { body_bytes.min(length) } else { length };
        while received.len() < end + wanted {
            read(&mut stream, &mut received).await?;
        }
        if number == 2 {
            return None;
        }
        *last.lock().unwrap() = received.split_off(end);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.ok()?;
    }
    None
}

async fn read(stream: &mut TcpStream, into: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 4096];
    match stream.read(&mut buffer).await {
        Ok(bytes @ 1..) => into.extend_from_slice(&buffer[..bytes]),
        _ => return None,
    }
    Some(())
}

fn upload(method: &str, target: &str, bytes: usize) -> Vec<u8> {
    message(method, target, &[("content-length", &bytes.to_string())], None)
}

/// P9, T7: an upload of which no byte has arrived is sent again, whatever its size, and arrives whole
#[tokio::test]
async fn an_upload_that_has_not_begun_is_sent_again() {
    let body = random_bytes(3 << 20);
    let upstream = ClosingUpstream::start(0).await;
    let gateway = upstream.gateway().await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(upload("PUT", "/b/k", body.len())).await;
    wait_until("the head is sent again", || upstream.connections.load(Ordering::SeqCst) == 2).await;
    client.send(&body).await;
    assert_eq!(client.response("PUT").await.complete_status(), 200);
    assert!(*upstream.body.lock().unwrap() == body, "the body arrives whole");
    assert_eq!(gateway.metric(COUNTER).await, 1.0);
    circuit_has_no_failures(&gateway).await;
}

/// P9, B3: the head of a POST may have had an effect, so it is not sent again
#[tokio::test]
async fn a_post_that_has_not_begun_is_refused() {
    let upstream = ClosingUpstream::start(0).await;
    let gateway = upstream.gateway().await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(upload("POST", "/b/k?uploads", 3 << 20)).await;
    let answer = client.response("POST").await;
    assert_eq!((answer.status, answer.reason()), (502, "upstream_connection_reused_closed"), "{answer:?}");
    assert_eq!(upstream.connections.load(Ordering::SeqCst), 1);
    circuit_has_no_failures(&gateway).await;
}

/// P9, B3: an upload of which a part was written is lost: it is refused with its reason, and counts for nothing
#[tokio::test]
async fn an_upload_that_was_written_in_part_is_refused() {
    let body = random_bytes(200 << 10);
    let upstream = ClosingUpstream::start(50 << 10).await;
    let gateway = upstream.gateway().await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(upload("PUT", "/b/k", body.len())).await;
    let _ = client.try_send(&body).await;
    let answer = client.response("PUT").await;
    assert_eq!((answer.status, answer.reason()), (502, "upstream_connection_reused_closed"), "{answer:?}");
    assert_eq!((upstream.connections.load(Ordering::SeqCst), gateway.metric(COUNTER).await), (1, 1.0));
    circuit_has_no_failures(&gateway).await;
}

/// P9, B3: after more than 256 KiB the connection was open, so its end is a failure of the upstream
#[tokio::test]
async fn a_long_upload_that_is_cut_is_a_failure_of_the_upstream() {
    let upstream = ClosingUpstream::start(600 << 10).await;
    let gateway = upstream.gateway().await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(upload("PUT", "/b/k", 64 << 20)).await;
    let piece = random_bytes(1 << 20);
    for _ in 0..64 {
        if client.try_send(&piece).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    if let Some(answer) = client.try_response("PUT").await {
        assert_eq!((answer.status, answer.reason()), (502, "upstream_reset"), "{answer:?}");
    }
    wait_for("it counts", || async {
        let status = gateway.status().await;
        (status["buckets"]["b"]["breaker"]["write"]["consecutive_failures"] == 1).then_some(())
    })
    .await;
    assert_eq!((upstream.connections.load(Ordering::SeqCst), gateway.metric(COUNTER).await), (1, 0.0));
}
