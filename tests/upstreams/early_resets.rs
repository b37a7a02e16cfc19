//! Upstreams that answer in mid-upload and close at once, as servers without a lingering close do: the reset of the unread rest follows
//! the answer.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::client::{Client, message};
use crate::support::{Gateway, random_bytes};

/// An upstream that reads the head and this much of the body, answers 403 and drops its socket.
async fn upstream(body_bytes: usize) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut received = vec![0; 500 + body_bytes];
                stream.read_exact(&mut received).await.ok()?;
                let answer = "HTTP/1.1 403 Forbidden\r\ncontent-length: 6\r\n\r\ndenied";
                stream.write_all(answer.as_bytes()).await.ok()
            });
        }
    });
    address
}

/// T7, B3: the answer reaches the client, also if a write fails before the gateway has seen the answer
#[tokio::test]
async fn an_answer_before_a_reset_is_forwarded() {
    let body = random_bytes(300_000);
    for (kind, read) in [("s3", 0), ("http", 0), ("s3", 100_000), ("http", 100_000)] {
        let address = upstream(read).await;
        let gateway = Gateway::builder()
            .set("buckets.b.auth", "anonymous")
            .set("buckets.b.kind", kind)
            .set(&format!("buckets.b.{kind}.endpoints"), &format!("http://{address}"))
            .set(&format!("buckets.b.{kind}.retry.max_attempts"), "1")
            .set(&format!("buckets.b.{kind}.circuit_breaker.mode"), "off")
            .start()
            .await;
        for number in 0..100 {
            let mut client = Client::connect(gateway.address()).await;
            client.send(message("PUT", "/b/k", &[("content-length", "300000")], None)).await;
            // The gateway need not read the rest after the answer.
            let _ = client.try_send(&body).await;
            let answer = client.response("PUT").await;
            let got = (answer.status, answer.reason(), answer.text());
            assert_eq!(got, (403, "", "denied".to_owned()), "{kind} {read}: upload {number}");
        }
    }
}
