//! Bodies of one-byte pieces: their memory cost, and the bound on the framing of a body.

use crate::auth::signer::Signer;
use crate::integrity::unsigned_chunks;
use crate::support::{Client, Gateway, Response, Upstream, random_bytes, request, wait_for};

const MIB: u64 = 1 << 20;

/// Data as HTTP/1.1 chunks of one byte each.
fn one_byte_chunks(data: &[u8]) -> Vec<u8> {
    data.iter().flat_map(|byte| [b'1', b'\r', b'\n', *byte, b'\r', b'\n']).collect()
}

/// V10, M3: a signed chunk in one-byte pieces takes memory for its size, not 32 times as much
#[tokio::test]
async fn a_signed_chunk_in_one_byte_pieces_takes_its_size() {
    let upstream = Upstream::ok("stored");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.auth", "sigv4")
        .set("buckets.b.max_chunk_size", "8MiB")
        .set("keys.writer.access_key_id", "AKIDWRITER")
        .set("keys.writer.secret", "writer/secret")
        .set("keys.writer.policy", "all")
        .set("policies.all.buckets", "*")
        .set("policies.all.methods", "read,write")
        .start()
        .await;
    let (chunk, sent) = (8 * MIB, 4 * MIB);
    let signer = Signer::new("AKIDWRITER", "writer/secret");
    let length = chunk.to_string();
    let more = [("x-amz-decoded-content-length", length.as_str())];
    let headers = signer.headers("PUT", "/b/k", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", &more);
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let before = gateway.resident_bytes();
    let mut client = Client::connect(gateway.address()).await;
    client
        .send(format!(
            "PUT /b/k HTTP/1.1\r\nhost: {}\r\ntransfer-encoding: chunked\r\n{lines}\r\n",
            crate::auth::signer::HOST
        ))
        .await;
    let line = format!("{chunk:x};chunk-signature={}\r\n", "0".repeat(64));
    client.send(format!("{:x}\r\n{line}\r\n", line.len())).await;
    let piece = one_byte_chunks(&vec![b'x'; 64 << 10]);
    for _ in 0..sent / (64 << 10) {
        client.send(&piece).await;
    }
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < sent + 24 * MIB, "{grown} bytes for {sent}");
    let other = gateway.get("/b/k").await;
    assert_eq!((other.complete_status(), other.reason()), (403, "not_signed"), "other requests are answered");
    drop(client);
    gateway.wait_until_idle().await;
}

/// V10, I1: one-byte pieces arrive complete and in order
#[tokio::test]
async fn one_byte_pieces_arrive_complete() {
    let upstream = Upstream::ok("stored");
    let gateway = Gateway::in_front_of(&upstream).await;
    let data = random_bytes(300_000);
    let mut client = Client::connect(gateway.address()).await;
    client.send("PUT /b/k HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
    client.send(one_byte_chunks(&data)).await;
    client.send("0\r\n\r\n").await;
    assert_eq!(client.response("PUT").await.complete_status(), 200);
    assert_eq!(upstream.last().body, data);
}

async fn upload(gateway: &Gateway, data: &[u8], chunk: usize) -> Response {
    let length = data.len().to_string();
    let headers = [
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
        ("x-amz-decoded-content-length", length.as_str()),
    ];
    let crc = crate::integrity::checksums(data)[0].1.clone();
    let body = unsigned_chunks(data, chunk, &format!("x-amz-checksum-crc32:{crc}\r\n"));
    request(gateway.address(), "PUT", "/b/k", &headers, Some(&body)).await
}

/// V10, V2: the framing of an `aws-chunked` body may not exceed its data; chunks of the size that S3 accepts are far
/// below that
#[tokio::test]
async fn framing_may_not_exceed_its_data() {
    let upstream = Upstream::ok("stored");
    let gateway = Gateway::in_front_of(&upstream).await;
    let data = random_bytes(100_000);
    for chunk in [8192, 64, 7] {
        assert_eq!(upload(&gateway, &data, chunk).await.complete_status(), 200, "chunks of {chunk}");
        assert_eq!(upstream.last().body, data, "chunks of {chunk}");
    }
    let few = &data[..2000];
    assert_eq!(upload(&gateway, few, 1).await.complete_status(), 200, "a small body may have any chunks");
    let answer = upload(&gateway, &data, 1).await;
    assert_eq!((answer.complete_status(), answer.reason()), (400, "chunk_overhead"));
    assert!(answer.text().contains("<Code>InvalidChunkSizeError</Code>"), "{}", answer.text());
    wait_for("the upstream connection is closed", || async { (upstream.in_flight() == 0).then_some(()) })
        .await;
    gateway.wait_until_idle().await;
}
