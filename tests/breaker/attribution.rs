//! A failure that the client's own bytes cause is never counted against the upstream: one test per path that reports an
//! outcome and that a client can affect. The paths are listed in docs/design/failure-attribution.md.

use std::time::Duration;

use super::circuit_of;
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, wait_for};

/// More than the default threshold of failures in a row.
const TIMES: usize = 6;
/// More than is buffered before the upstream is connected to.
const LARGE: usize = 200_000;

/// Buckets `b` (s3, signed towards the upstream, any size) and `api` (http).
async fn start(upstream: &Upstream) -> Gateway {
    Gateway::builder()
        .bucket("b", upstream)
        .set("buckets.b.max_request_size", "unlimited")
        .set("buckets.b.s3.access_key_id", "A")
        .set("buckets.b.s3.secret_access_key", "s")
        .http_bucket("api", upstream)
        .start()
        .await
}

/// The write circuit counted no failure, and the pool still calls the endpoint.
async fn nothing_counts(gateway: &Gateway, bucket: &str) {
    gateway.wait_until_idle().await;
    let status = gateway.status().await;
    let circuit = &status["buckets"][bucket]["breaker"]["write"];
    for (field, expected) in [("opened_total", 0), ("consecutive_failures", 0), ("generation", 1)] {
        assert_eq!(circuit[field], expected, "{field} of {bucket}: {circuit}");
    }
    let endpoint = &status["buckets"][bucket]["pool"]["endpoints"][0];
    assert_eq!(
        (&endpoint["state"], &endpoint["ejections"]),
        (&"in_rotation".into(), &0.into()),
        "{endpoint}"
    );
}

fn head(method: &str, target: &str, lines: &[(&str, &str)]) -> String {
    let lines: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {target} HTTP/1.1\r\nhost: a\r\n{lines}\r\n")
}

/// Sends a head and part of a body, waits until the upstream has the request if it should, and disconnects.
async fn send_and_leave(gateway: &Gateway, upstream: &Upstream, head: &str, body: &[u8], reaches: bool) {
    for number in 0..TIMES {
        let mut client = Client::connect(gateway.address()).await;
        client.send(head).await;
        client.send(body).await;
        if reaches {
            upstream.wait_until_in_flight(1).await;
        }
        // Alternately with a reset and an orderly close.
        if number % 2 == 0 {
            client.reset();
        } else {
            drop(client);
        }
        upstream.wait_until_in_flight(0).await;
    }
}

/// Sends an invalid message several times.
async fn send_wrong(gateway: &Gateway, message: &[u8], expected: (u16, &str)) {
    for _ in 0..TIMES {
        let mut client = Client::connect(gateway.address()).await;
        // The gateway may close before it has read all bytes.
        let _ = client.try_send(message).await;
        if let Some(answer) = client.try_response("PUT").await {
            assert_eq!((answer.status, answer.reason()), expected, "{}", answer.text());
        }
    }
}

/// B3, T7: a body that the client cuts short, streamed or buffered, is attributed to the client
#[tokio::test]
async fn a_truncated_request_body_is_attributed_to_the_client() {
    let upstream = Upstream::ok("x");
    let gateway = start(&upstream).await;
    let large = head("PUT", "/b/k", &[("content-length", &LARGE.to_string())]);
    send_and_leave(&gateway, &upstream, &large, &[b'x'; LARGE / 2], true).await;
    let small = head("PUT", "/b/k", &[("content-length", "10")]);
    send_and_leave(&gateway, &upstream, &small, b"12345", false).await;
    let waits = head("PUT", "/b/k", &[("content-length", "200000"), ("expect", "100-continue")]);
    send_and_leave(&gateway, &upstream, &waits, b"", false).await;
    nothing_counts(&gateway, "b").await;
}

/// B3, V1: a body that is longer than its `content-length`, beside an upgrade that is not accepted, is attributed to
/// the client
#[tokio::test]
async fn an_overlong_body_is_attributed_to_the_client() {
    let upstream = Upstream::ok("x");
    let gateway = start(&upstream).await;
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket"), ("content-length", "5")];
    for target in ["/api/x", "/b/x"] {
        for method in ["POST", "PUT"] {
            let message = format!("{}123456", head(method, target, &upgrade));
            for _ in 0..TIMES {
                let mut client = Client::connect(gateway.address()).await;
                client.send(&message).await;
                let answer = client.try_response(method).await;
                assert!(answer.is_none_or(|answer| answer.status < 500), "{method} {target}");
            }
        }
    }
    let form = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("content-type", "multipart/form-data; boundary=x"),
        ("content-length", "5"),
    ];
    let fields = "--x\r\ncontent-disposition: form-data; name=\"key\"\r\n\r\nk\r\n\
                  --x\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\ndata\r\n--x--\r\n";
    let mut client = Client::connect(gateway.address()).await;
    client.send(head("POST", "/b", &form) + fields).await;
    let answer = client.try_response("POST").await;
    assert!(answer.is_none_or(|answer| answer.status < 500), "a form");
    nothing_counts(&gateway, "api").await;
    nothing_counts(&gateway, "b").await;
}

/// B3, V1: an invalid chunk after many valid ones, in HTTP or in `aws-chunked`, is attributed to the client
#[tokio::test]
async fn an_invalid_chunk_is_attributed_to_the_client() {
    let upstream = Upstream::ok("x");
    let gateway = start(&upstream).await;
    let good = format!("{:x}\r\n{}\r\n", 100_000, "x".repeat(100_000));
    let in_http = head("POST", "/api/x", &[("transfer-encoding", "chunked")]) + &good + "zz\r\n";
    send_wrong(&gateway, in_http.as_bytes(), (400, "body_malformed")).await;
    let lines = [
        ("content-length", "300000"),
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("x-amz-decoded-content-length", "200000"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
    ];
    let in_s3 = head("PUT", "/b/k", &lines) + &good + "no size\r\n";
    send_wrong(&gateway, in_s3.as_bytes(), (400, "chunk_framing")).await;
    nothing_counts(&gateway, "api").await;
    nothing_counts(&gateway, "b").await;
}

/// B3, I1: a body that does not match its declared digest is attributed to the client
#[tokio::test]
async fn a_wrong_digest_is_attributed_to_the_client() {
    let upstream = Upstream::ok("x");
    let gateway = start(&upstream).await;
    let lines = [("content-length", "200000"), ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")];
    let message = head("PUT", "/b/k", &lines) + &"x".repeat(LARGE);
    send_wrong(&gateway, message.as_bytes(), (400, "md5_mismatch")).await;
    nothing_counts(&gateway, "b").await;
}

/// V2, B3: an announced length that overflows with its framing is refused before the upstream is connected to
#[tokio::test]
async fn a_length_that_overflows_is_refused_before_connecting() {
    let upstream = Upstream::ok("x");
    let gateway = start(&upstream).await;
    for length in ["18421446067330467091", "18446744073709551615", "9223372036854775808"] {
        for framing in [("transfer-encoding", "chunked"), ("content-length", "200000")] {
            let lines = [
                framing,
                ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
                ("x-amz-decoded-content-length", length),
            ];
            let message = head("PUT", "/b/k", &lines);
            send_wrong(&gateway, message.as_bytes(), (400, "decoded_length")).await;
        }
    }
    let lines = [
        ("content-length", "200000"),
        ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
        ("x-amz-decoded-content-length", "200001"),
    ];
    let beyond_its_body = head("PUT", "/b/k", &lines);
    send_wrong(&gateway, beyond_its_body.as_bytes(), (400, "decoded_length")).await;
    assert_eq!((upstream.count(), upstream.connections()), (0, 0));
    nothing_counts(&gateway, "b").await;
}

/// B3: an upstream timeout during a stalled client upload is attributed to the client
#[tokio::test]
async fn a_stalled_upload_is_attributed_to_the_client() {
    let lost_patience = Duration::from_millis(1500);
    for (reply, expected) in
        [(UpstreamReply::reset(), (504, "timeout_upload")), (UpstreamReply::status(504), (504, ""))]
    {
        let reply = reply.delayed(lost_patience);
        let upstream = Upstream::replying_before_body(move |_| reply.clone());
        let gateway = start(&upstream).await;
        let message = head("PUT", "/b/k", &[("content-length", &LARGE.to_string())]) + "begin";
        let stalled = (0..TIMES).map(|_| {
            let (message, address) = (message.clone(), gateway.address());
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                client.send(&message).await;
                client.response("PUT").await
            })
        });
        for answer in stalled.collect::<Vec<_>>() {
            let answer = answer.await.unwrap();
            assert_eq!((answer.status, answer.reason()), expected, "{}", answer.text());
        }
        nothing_counts(&gateway, "b").await;
    }
}

/// B3, T7: a client that disconnects after an early answer to its upload counts for nothing
#[tokio::test]
async fn a_disconnect_after_an_early_answer_is_not_counted() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream =
        Upstream::replying_before_body(move |_| UpstreamReply::ok("begin").then_body_when_open(&held, "end"));
    let gateway = start(&upstream).await;
    let message = head("PUT", "/b/k", &[("content-length", &LARGE.to_string())]) + "begin";
    for number in 0..TIMES {
        let mut client = Client::connect(gateway.address()).await;
        client.send(&message).await;
        assert_eq!(client.head().await.status, 200);
        if number % 2 == 0 {
            client.reset();
        }
    }
    nothing_counts(&gateway, "b").await;
}

/// R1, B3, E2: an error document in a 200 counts only if its code is a store fault, also after keep-alive white space
/// and with a long message
#[tokio::test]
async fn a_late_error_counts_by_its_code() {
    let upstream = Upstream::start(|seen| {
        let code = if seen.target.contains("own") { "InternalError" } else { "InvalidPart" };
        let (padding, message) = (" \n".repeat(600), "m".repeat(2000));
        UpstreamReply::ok(format!(
            "<?xml version=\"1.0\"?>{padding}<Error><Message>{message}</Message><Code>{code}</Code></Error>"
        ))
    });
    let gateway = start(&upstream).await;
    let complete = async |key: &str| {
        let target = format!("/b/{key}?uploadId=1");
        let message = client::message("POST", &target, &[], Some(b"<CompleteMultipartUpload/>"));
        let mut client = Client::connect(gateway.address()).await;
        client.send(message).await;
        client.response("POST").await.complete_status()
    };
    for _ in 0..TIMES {
        assert_eq!(complete("clients").await, 200);
    }
    nothing_counts(&gateway, "b").await;
    assert_eq!(complete("own").await, 200);
    wait_for("the store's own error counts", || async {
        (circuit_of(&gateway, "write").await["consecutive_failures"] == 1).then_some(())
    })
    .await;
}

/// B3: an upstream reset during an upload still counts
#[tokio::test]
async fn a_reset_during_an_upload_is_attributed_to_the_upstream() {
    let upstream = Upstream::replying_before_body(|_| UpstreamReply::reset());
    let gateway = start(&upstream).await;
    let message = head("PUT", "/b/k", &[("content-length", &LARGE.to_string())]) + &"x".repeat(LARGE / 2);
    let mut client = Client::connect(gateway.address()).await;
    client.send(&message).await;
    assert_eq!(client.head().await.reason(), "upstream_reset");
    wait_for("it is counted", || async {
        (circuit_of(&gateway, "write").await["consecutive_failures"] == 1).then_some(())
    })
    .await;
}
