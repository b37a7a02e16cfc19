//! Size limits of requests: by kind, by bucket, and the text of a refusal. Memory does not grow with the limit.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::support::gateway::Builder;
use crate::support::{Client, Gateway, Response, Upstream, UpstreamReply, wait_until};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Bucket `b` of kind s3, and bucket `api` of kind http.
fn both(upstream: &Upstream) -> Builder {
    Gateway::builder().bucket("b", upstream).http_bucket("api", upstream)
}

/// The answer to the head of an upload; no body is sent.
async fn announce(gateway: &Gateway, target: &str, bytes: u64) -> Response {
    let mut client = Client::connect(gateway.address()).await;
    client.send(format!("PUT {target} HTTP/1.1\r\nhost: a\r\ncontent-length: {bytes}\r\n\r\n")).await;
    client.response("PUT").await
}

fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inner, _)| inner)
}

/// V2: an s3 bucket allows S3's maximum, an http bucket 100 MiB, and a refusal names the limit and its config key
#[tokio::test]
async fn the_default_depends_on_the_kind() {
    let upstream = Upstream::replying_before_body(|_| UpstreamReply::ok("").closing());
    let gateway = both(&upstream).start().await;
    for (target, limit) in [("/b/k", 5 * GIB), ("/api/k", 100 * MIB)] {
        assert_eq!(announce(&gateway, target, limit).await.status, 200, "{target}");
        assert_eq!(upstream.last().header("content-length"), Some(limit.to_string().as_str()));
        let before = upstream.count();
        let refused = announce(&gateway, target, limit + 1).await;
        assert_eq!((refused.complete_status(), refused.reason()), (413, "body_too_large"), "{target}");
        assert!(refused.text().contains("buckets.NAME.max_request_size"), "{}", refused.text());
        assert_eq!(upstream.count(), before);
    }
    let text = announce(&gateway, "/b/k", 5 * GIB + 1).await.text();
    assert_eq!(element(&text, "Code"), Some("EntityTooLarge"));
    assert_eq!(element(&text, "MaxSizeAllowed"), Some("5368709120"));
    assert_eq!(element(&text, "ProposedSize"), Some("5368709121"));
}

/// V2: a limit of the server section applies to both kinds, and a bucket's own takes precedence
#[tokio::test]
async fn a_limit_that_is_set_applies_to_both_kinds() {
    let upstream = Upstream::replying_before_body(|_| UpstreamReply::ok("").closing());
    let gateway = both(&upstream)
        .bucket("own", &upstream)
        .set("server.limits.max_request_size", "100000")
        .set("buckets.own.max_request_size", "200000")
        .start()
        .await;
    for (target, limit) in [("/b/k", 100_000), ("/api/k", 100_000), ("/own/k", 200_000)] {
        assert_eq!(announce(&gateway, target, limit).await.status, 200, "{target}");
        assert_eq!(announce(&gateway, target, limit + 1).await.complete_status(), 413, "{target}");
    }
}

/// V2: the refusal of a body without an announced size names the limit too
#[tokio::test]
async fn a_growing_bodys_refusal_names_the_limit() {
    let upstream = Upstream::ok("x");
    let gateway = both(&upstream).set("buckets.b.max_request_size", "100000").start().await;
    let mut client = Client::connect(gateway.address()).await;
    let chunk = format!("186a1\r\n{}\r\n0\r\n\r\n", "x".repeat(100_001));
    client.send(format!("PUT /b/k HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunk}")).await;
    let streamed = client.response("PUT").await;
    assert_eq!((streamed.complete_status(), streamed.reason()), (413, "body_too_large"));
    let text = streamed.text();
    assert_eq!((element(&text, "MaxSizeAllowed"), element(&text, "ProposedSize")), (Some("100000"), None));
}

/// A store that keeps only the length of uploads.
fn sink() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let taken = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&taken);
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let count = Arc::clone(&count);
            thread::spawn(move || {
                let mut piece = vec![0; 1 << 18];
                while let Ok(bytes @ 1..) = stream.read(&mut piece) {
                    if piece.starts_with(b"GET ") {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                    } else {
                        count.fetch_add(bytes as u64, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    (address, taken)
}

/// V2, M3: 256 MiB of an upload that announces 5 GiB are forwarded; the gateway's memory does not grow with them
#[tokio::test]
async fn an_upload_of_the_largest_size_is_not_held_in_memory() {
    let (address, taken) = sink();
    let gateway = Gateway::builder().bucket_at("b", &[address]).start().await;
    assert_eq!(gateway.get("/b/first").await.complete_status(), 200);
    let idle = gateway.resident_bytes();
    let mut client = Client::connect(gateway.address()).await;
    client.send(format!("PUT /b/k HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", 5 * GIB)).await;
    let piece = vec![b'x'; MIB as usize];
    let mut highest = 0;
    for _ in 0..256 {
        client.send(&piece).await;
        highest = highest.max(gateway.resident_bytes());
    }
    wait_until("the store has the body", || taken.load(Ordering::SeqCst) >= 250 * MIB).await;
    let grown = highest.saturating_sub(idle) / MIB;
    assert!(grown < 48, "{grown} MiB more for 256 forwarded MiB");
    drop(client);
    gateway.wait_until_idle().await;
}
