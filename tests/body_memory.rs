//! Bodies that are read whole reserve their memory before they are read.

use crate::auth::signer::Signer;
use crate::support::client::message;
use crate::support::gateway::Builder;
use crate::support::idle_memory::{idle_memory, settled_memory};
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, request, wait_for};

/// A list of objects to delete, padded to this size. Each reserves twice as much.
const LIST_BYTES: usize = 15 << 17;

fn list(bytes: usize) -> Vec<u8> {
    let mut list = b"<Delete><Object><Key>k</Key></Object></Delete>".to_vec();
    list.resize(bytes, b' ');
    list
}

/// A gateway with half again as much memory, beyond that of an idle one, as a list reserves.
async fn with_little_memory(builder: Builder, upstream: &Upstream) -> Gateway {
    let limit = idle_memory(upstream).await + 3 * LIST_BYTES as u64;
    let gateway = builder
        // The first request has its reservation before the thread reads the second one.
        .set("server.workers", "1")
        .set("monitor.memory_limit_bytes", &limit.to_string())
        .set("monitor.recover", "96")
        .set("monitor.warning", "97")
        .set("monitor.critical", "98")
        .set("monitor.exhausted", "99")
        .set("monitor.interval_ms", "20")
        // The first list is not sent for a while.
        .set("server.min_body_rate_grace", "600")
        .start()
        .await;
    wait_for("memory has a reading", || async {
        (gateway.metric("memory_own_bytes").await > 0.0).then_some(())
    })
    .await;
    settled_memory(&gateway).await;
    gateway
}

/// X6, X8, X10, O4: a list that does not fit the free memory beside another one is refused before its body is read, at level normal;
/// one alone always fits, and a small body needs no reservation
#[tokio::test]
async fn a_body_that_does_not_fit_the_memory_is_refused_before_it_is_read() {
    let upstream = Upstream::ok("<DeleteResult/>");
    let builder = Gateway::builder().bucket("b", &upstream).set("buckets.b.s3.content_md5", "add");
    let gateway = with_little_memory(builder, &upstream).await;
    let idle = settled_memory(&gateway).await;
    let head = format!("POST /b?delete HTTP/1.1\r\nhost: a\r\ncontent-length: {LIST_BYTES}\r\n\r\n");
    let (begin, rest) = (list(LIST_BYTES)[..1000].to_vec(), list(LIST_BYTES)[1000..].to_vec());
    let mut first = Client::connect(gateway.address()).await;
    first.send(head.clone()).await;
    first.send(begin).await;
    wait_for("the first list is being read", || async {
        (gateway.status().await["requests_in_flight"] == 1).then_some(())
    })
    .await;

    let mut second = Client::connect(gateway.address()).await;
    second.send(head).await;
    let refused = second.response("POST").await;
    assert_eq!((refused.complete_status(), refused.reason()), (503, "body_memory"), "{refused:?}");
    assert_eq!(refused.header("connection"), Some("close"));
    assert!(refused.retry_after().is_some());
    assert!(second.is_closed().await);
    let id = refused.header("x-request-id").unwrap();
    let found = gateway.admin(&format!("/decisions?request_id={id}")).await;
    let found: serde_json::Value = serde_json::from_slice(&found.body).unwrap();
    let record = &found["decisions"][0];
    assert_eq!((&record["kind"], &record["unit"]), (&"refusal".into(), &"bytes".into()), "{record}");
    assert_eq!(record["measured"], 4 * LIST_BYTES, "both lists: {record}");
    assert!(record["threshold"].as_u64().unwrap() < 4 * LIST_BYTES as u64, "{record}");
    assert_eq!(record["config"]["key"], "monitor.memory_limit_bytes", "{record}");
    let status = gateway.status().await;
    assert_eq!(status["level"], "normal", "{status}");
    let causes = status["causes"].as_array().unwrap();
    assert!(causes.iter().any(|cause| cause["code"] == "in_flight_full"), "{causes:?}");

    let small = request(gateway.address(), "POST", "/b?delete", &[], Some(&list(1000))).await;
    assert_eq!(small.complete_status(), 200, "{small:?}");
    first.send(rest).await;
    assert_eq!(first.response("POST").await.complete_status(), 200);
    // The allocator returns the memory of the first a little later. Until then, and for the dwell time, the level may be `exhausted`.
    wait_for("the memory of the first is returned", || async {
        let status = gateway.status().await;
        let is_free = status["memory"]["rss_bytes"].as_u64().unwrap() < idle + LIST_BYTES as u64 / 2;
        (is_free && status["level"] == "normal").then_some(())
    })
    .await;
    let mut third = Client::connect(gateway.address()).await;
    third.send(message("POST", "/b?delete", &[], Some(&list(LIST_BYTES)))).await;
    let third = third.response("POST").await;
    assert_eq!(third.complete_status(), 200, "the memory of the first is free again: {third:?}");
    assert_eq!(upstream.last().body.len(), LIST_BYTES);
}

/// The head of an upload in signed chunks, and the first line of a chunk with all of its data.
fn signed_upload() -> String {
    let signer = Signer::new("AKIDWRITER", "writer/secret");
    let (data, body) = (LIST_BYTES.to_string(), (LIST_BYTES + 200).to_string());
    let lengths = [("x-amz-decoded-content-length", data.as_str()), ("content-length", body.as_str())];
    let headers = signer.headers("PUT", "/b/k", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", &lengths);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let head = String::from_utf8(message("PUT", "/b/k", &headers, None)).unwrap();
    format!("{head}{LIST_BYTES:x};chunk-signature={}\r\n", "0".repeat(64))
}

/// X6, X8, O4: a signed chunk is held until its signature is verified, so one that does not fit the free memory beside another one is
/// refused when its size has arrived; one alone always fits
#[tokio::test]
async fn a_signed_chunk_that_does_not_fit_the_memory_is_refused() {
    let upstream = Upstream::ok("stored");
    let builder = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.auth", "sigv4")
        .set("buckets.b.max_chunk_size", "4MiB")
        .set("keys.writer.access_key_id", "AKIDWRITER")
        .set("keys.writer.secret", "writer/secret")
        .set("keys.writer.policy", "all")
        .set("policies.all.buckets", "*")
        .set("policies.all.methods", "write");
    let gateway = with_little_memory(builder, &upstream).await;
    let mut first = Client::connect(gateway.address()).await;
    first.send(signed_upload()).await;
    first.send([b'x'; 1000]).await;
    upstream.wait_until_in_flight(1).await;
    let mut second = Client::connect(gateway.address()).await;
    second.send(signed_upload()).await;
    second.send([b'x'; 1000]).await;
    let refused = second.response("PUT").await;
    assert!(second.is_closed().await);
    assert_eq!((refused.complete_status(), refused.reason()), (503, "body_memory"), "{refused:?}");
    let id = refused.header("x-request-id").unwrap();
    let found = gateway.admin(&format!("/decisions?request_id={id}")).await;
    let found: serde_json::Value = serde_json::from_slice(&found.body).unwrap();
    assert_eq!(found["decisions"][0]["measured"], 4 * LIST_BYTES, "both chunks: {found}");
    assert_eq!(gateway.status().await["level"], "normal");
    assert_eq!(gateway.status().await["buckets"]["b"]["breaker"]["write"]["consecutive_failures"], 0);

    drop(first);
    gateway.wait_until_idle().await;
    let mut third = Client::connect(gateway.address()).await;
    third.send(signed_upload()).await;
    let _ = third.try_send(vec![b'x'; LIST_BYTES]).await;
    let answer = third.response("PUT").await;
    assert_eq!((answer.complete_status(), answer.reason()), (403, "chunk_signature"), "{answer:?}");
}

/// X6, M3: a list is held once while it is checked and sent, beyond what an idle gateway uses
#[tokio::test]
async fn a_list_is_held_once() {
    /// Pieces that are read, and the tables of the request.
    const REST_BYTES: u64 = 256 << 10;
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |request| {
        let reply = UpstreamReply::ok("<DeleteResult/>");
        if request.method == "POST" { reply.when_open(&held) } else { reply }
    });
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.content_md5", "add")
        .set("server.workers", "1")
        .set("monitor.interval_ms", "20")
        .start()
        .await;
    for _ in 0..8 {
        let small = request(gateway.address(), "GET", "/b/k", &[], None).await;
        assert_eq!(small.complete_status(), 200);
    }
    let idle = settled_memory(&gateway).await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(message("POST", "/b?delete", &[], Some(&list(LIST_BYTES)))).await;
    upstream.wait_until_in_flight(1).await;
    let used = settled_memory(&gateway).await.saturating_sub(idle);
    assert!(used < LIST_BYTES as u64 + REST_BYTES, "{used} bytes for a list of {LIST_BYTES}");
    latch.open_for_all();
    assert_eq!(client.response("POST").await.complete_status(), 200);
}
