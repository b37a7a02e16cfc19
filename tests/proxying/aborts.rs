//! Aborts: if one side breaks off, the other is closed and everything is released.

use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, get, wait_for};

/// T6: an answer shorter than its announced length is a broken transfer for the client, counted and logged
#[tokio::test]
async fn a_truncated_answer_is_a_broken_transfer() {
    let body = "0123456789".repeat(10_000);
    for chunked in [false, true] {
        for cut in [0, 5, 99_999] {
            let answer = body.clone();
            let upstream = Upstream::start(move |_| {
                let reply = UpstreamReply::ok(&answer).cut_at(cut);
                if chunked { reply.chunked() } else { reply }
            });
            let gateway = Gateway::in_front_of(&upstream).await;
            let id = format!("cut-{cut}-{chunked}");
            let mut client = Client::connect(gateway.address()).await;
            client.send(client::message("GET", "/b/k", &[("x-request-id", &id)], None)).await;
            // A connection that closes without a head would be a broken transfer too.
            if let Some(answer) = client.try_response("GET").await {
                assert!(answer.broken.is_some(), "cut at {cut}, chunked {chunked}: the body looks complete");
                assert!(body.as_bytes()[..cut].starts_with(&answer.body), "cut at {cut}, chunked {chunked}");
            }
            let line = gateway.wait_for_access_line(&id).await;
            let reason = line["reason"].as_str().expect("a reason");
            assert!(matches!(reason, "short_answer" | "broken_answer"), "{line}");
            let counted = format!("errors_total{{bucket=\"b\",reason=\"{reason}\"}}");
            assert_eq!(gateway.metric(&counted).await, 1.0);
            gateway.wait_for_log_line("transfer broken", |line| line["id"] == id.as_str()).await;
            gateway.wait_until_idle().await;
        }
    }
}

/// T6: a chunked answer without its last chunk is a broken transfer
#[tokio::test]
async fn a_chunked_answer_without_its_last_chunk_is_broken() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegin\r\n";
    let upstream = Upstream::start(move |_| UpstreamReply::raw(head));
    let gateway = Gateway::in_front_of(&upstream).await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(client::message("GET", "/b/k", &[], None)).await;
    let answer = client.try_response("GET").await;
    assert!(answer.is_none_or(|answer| answer.broken.is_some()), "the body looks complete");
}

/// E2: an answer that is not HTTP is 502
#[tokio::test]
async fn an_invalid_http_answer_is_502() {
    let upstream = Upstream::start(|_| UpstreamReply::raw("220 mail.example ESMTP\r\n\r\n"));
    let gateway = Gateway::in_front_of(&upstream).await;
    let answer = get(gateway.address(), "/b/k").await;
    assert_eq!((answer.complete_status(), answer.reason()), (502, "decode_failed"));
    assert!(answer.text().contains("<Code>BadGateway</Code>"), "{}", answer.text());
}

/// E1: an unreachable upstream is 502 with its own reason
#[tokio::test]
async fn an_unreachable_upstream_is_502() {
    let refusing = crate::support::unreachable::RefusingAddress::new();
    let gateway = Gateway::builder().bucket_at("b", &[refusing.address]).start().await;
    let answer = get(gateway.address(), "/b/k").await;
    assert_eq!((answer.complete_status(), answer.reason()), (502, "upstream_connect"));
    assert!(answer.text().contains("cannot connect to the upstream"), "{}", answer.text());
    gateway.wait_until_idle().await;
}

/// T7: a client disconnect in mid-download closes the upstream connection and releases everything
#[tokio::test]
async fn a_disconnect_in_mid_download_cancels_the_upstream() {
    for resets in [false, true] {
        let latch = Latch::new();
        let held = latch.clone();
        let upstream = Upstream::start(move |_| {
            UpstreamReply::ok("begin").then_body_when_open(&held, "end".repeat(1_000_000))
        });
        let gateway = Gateway::in_front_of(&upstream).await;
        let mut leaving = Client::connect(gateway.address()).await;
        leaving.send(client::message("GET", "/b/k", &[("x-request-id", "leaving")], None)).await;
        assert_eq!(leaving.head().await.status, 200);
        if resets {
            leaving.reset();
        } else {
            drop(leaving);
        }
        wait_for("the upstream connection is closed", || async { (upstream.cancelled() == 1).then_some(()) })
            .await;
        gateway.wait_until_idle().await;
        assert_eq!(gateway.wait_for_access_line("leaving").await["reason"], "client_gone");
        latch.open_for_all();
        assert_eq!(get(gateway.address(), "/b/k").await.complete_status(), 200);
    }
}

/// T7: a client disconnect before the upstream's answer does the same
#[tokio::test]
async fn a_disconnect_before_the_answer_cancels_the_upstream() {
    for resets in [false, true] {
        let upstream = Upstream::start(|_| UpstreamReply::hang());
        // Long enough that no timeout can be mistaken for the disconnect.
        let gateway = Gateway::builder()
            .bucket("b", &upstream)
            .set("buckets.b.s3.timeout", "600")
            .set("server.request_timeout", "600")
            .start()
            .await;
        let mut leaving = Client::connect(gateway.address()).await;
        leaving.send(client::message("GET", "/b/k", &[], None)).await;
        upstream.wait_until_in_flight(1).await;
        if resets {
            leaving.reset();
        } else {
            drop(leaving);
        }
        wait_for("the upstream connection is closed", || async { (upstream.cancelled() == 1).then_some(()) })
            .await;
        gateway.wait_until_idle().await;
    }
}

/// T7, Bad input: a client disconnect in mid-upload closes the upstream connection, and the upstream never gets a
/// complete body
#[tokio::test]
async fn a_disconnect_in_mid_upload_leaves_nothing() {
    for framing in ["content-length: 1000000", "transfer-encoding: chunked"] {
        for resets in [false, true] {
            let upstream = Upstream::ok("stored");
            let gateway = Gateway::in_front_of(&upstream).await;
            let mut leaving = Client::connect(gateway.address()).await;
            let begin = "x".repeat(0x7_0000);
            let head = format!("PUT /b/k HTTP/1.1\r\nhost: a\r\nx-request-id: leaving\r\n{framing}\r\n\r\n");
            leaving.send(format!("{head}70000\r\n{begin}\r\n")).await;
            upstream.wait_until_in_flight(1).await;
            if resets {
                leaving.reset();
            } else {
                drop(leaving);
            }
            wait_for("the upstream connection is closed", || async {
                (upstream.cancelled() == 1).then_some(())
            })
            .await;
            assert!(!upstream.last().is_complete, "{framing}: the upstream got it as complete");
            gateway.wait_until_idle().await;
            assert_eq!(upstream.count(), 1, "{framing}: it was retried");
            assert_eq!(
                gateway.wait_for_access_line("leaving").await["reason"],
                "client_gone",
                "{framing}, resets {resets}"
            );
        }
    }
}

/// T7: a small upload that the client ends early is not sent upstream
#[tokio::test]
async fn a_disconnect_in_a_small_upload_sends_nothing_upstream() {
    let upstream = Upstream::ok("stored");
    let gateway = Gateway::in_front_of(&upstream).await;
    let mut leaving = Client::connect(gateway.address()).await;
    leaving
        .send("PUT /b/k HTTP/1.1\r\nhost: a\r\nx-request-id: leaving\r\ncontent-length: 100\r\n\r\nbegin")
        .await;
    drop(leaving);
    assert_eq!(gateway.wait_for_access_line("leaving").await["reason"], "client_gone");
    gateway.wait_until_idle().await;
    assert_eq!(upstream.count(), 0);
}

/// B3, R3: if the upstream answers in mid-upload and closes, the client gets that answer, not a gateway error
#[tokio::test]
async fn an_early_answer_reaches_a_client_that_still_sends() {
    for (status, code) in [(403, "AccessDenied"), (503, "ServiceUnavailable")] {
        for framing in ["content-length", "chunked"] {
            let upstream =
                Upstream::replying_before_body(move |_| UpstreamReply::s3_error(status, code).closing());
            let gateway = Gateway::in_front_of(&upstream).await;
            let mut uploading = Client::connect(gateway.address()).await;
            let head = "PUT /b/k HTTP/1.1\r\nhost: a\r\n";
            // More than all buffers on the way hold, so that the answer comes before the upload's end.
            let piece = vec![b'x'; 1 << 20];
            match framing {
                "chunked" => uploading.send(format!("{head}transfer-encoding: chunked\r\n\r\n")).await,
                _ => uploading.send(format!("{head}content-length: {}\r\n\r\n", 64 << 20)).await,
            }
            for _ in 0..64 {
                // After its answer the gateway need not read the rest.
                let sent = match framing {
                    "chunked" => {
                        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
                        chunk.extend_from_slice(&piece);
                        chunk.extend_from_slice(b"\r\n");
                        uploading.try_send(chunk).await
                    }
                    _ => uploading.try_send(&piece).await,
                };
                if sent.is_err() {
                    break;
                }
            }
            let answer = uploading.try_response("PUT").await;
            let answer =
                answer.unwrap_or_else(|| panic!("{framing}: no answer to the upload that {status} refused"));
            assert_eq!(answer.status, status, "{framing}: {}", answer.text());
            assert!(answer.text().contains(code), "{framing}: {}", answer.text());
            gateway.wait_until_idle().await;
        }
    }
}

/// T4, B3: a client that pauses in mid-upload gets the upstream's early answer
#[tokio::test]
async fn an_early_answer_reaches_a_client_that_pauses() {
    for framing in ["content-length: 1048576\r\n\r\n", "transfer-encoding: chunked\r\n\r\n19000\r\n"] {
        for sent in [0, 1, 100_000] {
            let upstream =
                Upstream::replying_before_body(|_| UpstreamReply::s3_error(403, "AccessDenied").closing());
            let gateway = Gateway::in_front_of(&upstream).await;
            let mut pausing = Client::connect(gateway.address()).await;
            pausing.send(format!("PUT /b/k HTTP/1.1\r\nhost: a\r\n{framing}")).await;
            pausing.send(vec![b'x'; sent]).await;
            let answer = pausing.response("PUT").await;
            assert_eq!((answer.status, answer.reason()), (403, ""), "{framing:?}, {sent} bytes sent");
            assert!(answer.text().contains("AccessDenied"), "{}", answer.text());
            gateway.wait_until_idle().await;
        }
    }
}

/// T1, T4: the sent part of an upload reaches the upstream before the client continues
#[tokio::test]
async fn a_pausing_upload_is_forwarded_without_delay() {
    let upstream = Upstream::ok("stored");
    let gateway = Gateway::in_front_of(&upstream).await;
    let mut pausing = Client::connect(gateway.address()).await;
    pausing.send(client::message("PUT", "/b/k", &[("content-length", "100000")], None)).await;
    upstream.wait_until_in_flight(1).await;
    let body: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    for piece in body.chunks(7_001) {
        pausing.send(piece).await;
    }
    assert_eq!(pausing.response("PUT").await.complete_status(), 200);
    assert_eq!(upstream.seen()[0].body, body);
}

/// T6, B3: an upstream disconnect in mid-upload is noticed while the client pauses
#[tokio::test]
async fn an_upstream_disconnect_in_mid_upload_is_noticed() {
    for reply in [UpstreamReply::raw(""), UpstreamReply::raw("HTTP/1.1 20"), UpstreamReply::reset()] {
        let upstream = Upstream::replying_before_body(move |_| reply.clone());
        let gateway = Gateway::in_front_of(&upstream).await;
        let mut pausing = Client::connect(gateway.address()).await;
        pausing.send(client::message("PUT", "/b/k", &[("content-length", "100000")], None)).await;
        pausing.send("begin").await;
        let answer = pausing.response("PUT").await;
        assert_eq!((answer.status, answer.reason()), (502, "upstream_reset"));
        gateway.wait_until_idle().await;
    }
}

/// T4, V2: a client that keeps sending a refused upload is cut off, and holds nothing
#[tokio::test]
async fn a_refused_upload_that_goes_on_is_cut_off() {
    let upstream = Upstream::ok("stored");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("rate_limit.global.requests_per_second", "0.001")
        .set("rate_limit.global.burst", "1")
        .start()
        .await;
    assert_eq!(get(gateway.address(), "/b/k").await.complete_status(), 200);
    let uploads = (0..8).map(async |i| {
        let mut uploading = Client::connect(gateway.address()).await;
        let head = "PUT /b/k HTTP/1.1\r\nhost: a\r\n";
        let (framing, size) = if i % 2 == 0 {
            ("transfer-encoding: chunked", "100000\r\n")
        } else {
            ("content-length: 33554432", "")
        };
        uploading.send(format!("{head}{framing}\r\n\r\n")).await;
        let piece = format!("{size}{}{}", "x".repeat(1 << 20), if size.is_empty() { "" } else { "\r\n" });
        for _ in 0..32 {
            // Fails the test if the gateway neither reads nor closes.
            if uploading.try_send(&piece).await.is_err() {
                break;
            }
        }
        uploading.try_response("PUT").await
    });
    for answer in futures_util::future::join_all(uploads).await {
        // A reset may overtake the answer if the client keeps sending.
        assert!(answer.as_ref().is_none_or(|answer| answer.status == 429), "{answer:?}");
    }
    gateway.wait_until_idle().await;
    assert_eq!(upstream.count(), 1);
}
