//! Bodies are forwarded completely, in either framing.

use std::time::Duration;

use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, get, head, put, random_bytes};

/// M3: bodies of every size arrive byte for byte, in both directions and in both framings
#[tokio::test]
async fn bodies_of_every_size_arrive_byte_for_byte() {
    for bytes in [0, 1, 1000, 65_535, 65_536, 65_537, 1_000_000, 8 << 20] {
        let body = random_bytes(bytes);
        let hash = client::sha256(&body);
        for chunked in [false, true] {
            let answer = body.clone();
            let upstream = Upstream::start(move |_| {
                if chunked { UpstreamReply::ok(&answer).chunked() } else { UpstreamReply::ok(&answer) }
            });
            let gateway = Gateway::in_front_of(&upstream).await;
            let down = get(gateway.address(), "/b/k").await;
            assert_eq!(
                (down.complete_status(), down.sha256()),
                (200, hash.clone()),
                "{bytes} bytes, chunked {chunked}"
            );
            if chunked {
                let mut up = Client::connect(gateway.address()).await;
                up.send("PUT /b/k HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
                for chunk in body.chunks(70_000) {
                    up.send(format!("{:x}\r\n", chunk.len())).await;
                    up.send(chunk).await;
                    up.send("\r\n").await;
                }
                up.send("0\r\n\r\n").await;
                assert_eq!(up.response("PUT").await.complete_status(), 200);
            } else {
                assert_eq!(put(gateway.address(), "/b/k", &body).await.complete_status(), 200);
                assert_eq!(upstream.last().header("content-length"), Some(bytes.to_string().as_str()));
            }
            assert_eq!(upstream.last().sha256(), hash, "{bytes} bytes up, chunked {chunked}");
        }
    }
}

/// T6, I2: long bodies are written after the head and beyond its buffer; pipelined requests get complete answers in
/// order
#[tokio::test]
async fn long_bodies_and_pipelined_answers_are_in_order() {
    const SIZES: [usize; 6] = [40_000, 3, 300_000, 32_768, 4 << 20, 70_000];
    let upstream = Upstream::start(|seen| {
        UpstreamReply::ok(random_bytes(seen.target.rsplit('/').next().unwrap().parse().unwrap()))
    });
    let gateway = Gateway::in_front_of(&upstream).await;
    let mut client = Client::connect(gateway.address()).await;
    let asked = SIZES.map(|bytes| client::message("GET", &format!("/b/{bytes}"), &[], None)).concat();
    client.send(asked).await;
    for bytes in SIZES {
        let answer = client.response("GET").await;
        assert_eq!(
            (answer.complete_status(), answer.sha256()),
            (200, client::sha256(&random_bytes(bytes))),
            "{bytes} bytes"
        );
    }
}

/// I2: answers to HEAD and 304 keep the length header of the absent body; 204 has neither
#[tokio::test]
async fn answers_without_a_body_keep_their_length() {
    let upstream = Upstream::start(|seen| match seen.target.as_str() {
        "/b/head" => UpstreamReply::ok("0123456789").header("etag", "\"e\""),
        "/b/unchanged" => UpstreamReply::status(304).header("content-length", "10").header("etag", "\"e\""),
        "/b/nothing" => UpstreamReply::status(204),
        _ => UpstreamReply::ok("x"),
    });
    let gateway = Gateway::in_front_of(&upstream).await;
    let mut client = Client::connect(gateway.address()).await;
    for (method, target, status, length) in [
        ("HEAD", "/b/head", 200, Some("10")),
        ("GET", "/b/unchanged", 304, Some("10")),
        ("GET", "/b/nothing", 204, None),
    ] {
        client.send(client::message(method, target, &[], None)).await;
        let answer = client.response(method).await;
        assert_eq!(
            (answer.complete_status(), answer.header("content-length")),
            (status, length),
            "{method} {target}"
        );
        assert_eq!(answer.header("transfer-encoding"), None, "{method} {target}");
    }
    client.send(client::message("GET", "/b/k", &[], None)).await;
    assert_eq!(client.response("GET").await.text(), "x", "the connection is usable");
    gateway.wait_until_idle().await;
}

/// E1: a refused HEAD has the error's headers and no body
#[tokio::test]
async fn a_refused_head_has_no_body() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(client::message("HEAD", "/nowhere/k", &[], None)).await;
    assert_eq!(client.response("HEAD").await.reason(), "no_such_bucket");
    client.send(client::message("HEAD", "/b/k", &[], None)).await;
    assert_eq!(client.response("HEAD").await.complete_status(), 200, "the connection is usable");
    assert_eq!(head(gateway.address(), "/b/k").await.header("content-length"), Some("1"));
}

/// T6: an answer delimited by the close is forwarded completely
#[tokio::test]
async fn an_answer_delimited_by_the_close_is_complete() {
    let body = random_bytes(300_000);
    let answer = body.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok(&answer).until_close());
    let gateway = Gateway::in_front_of(&upstream).await;
    let answer = get(gateway.address(), "/b/k").await;
    assert_eq!((answer.complete_status(), answer.sha256()), (200, client::sha256(&body)));
}

/// T6: the same for HTTP/1.0, and for a fragmented head
#[tokio::test]
async fn a_fragmented_head_and_http_1_0_are_accepted() {
    let pause = Duration::from_millis(30);
    for reply in [
        UpstreamReply::raw("HTTP/1.0 200 OK\r\nx-a: b\r\n\r\nbody"),
        UpstreamReply::raw("HTTP/1.1 200 OK\r\nx-a: b\r\n\r\nbody"),
        UpstreamReply::raw("HTTP/1.1 200 OK\r\nx-")
            .then_body_after(pause, "a: b\r\n\r")
            .then_body_after(pause, "\nbo")
            .then_body_after(pause, "dy"),
        UpstreamReply::raw("HTTP/1.1 200 OK\r\nx-a: b\r\nconte")
            .then_body_after(pause, "nt-length: 4\r\n\r\nbody"),
        UpstreamReply::raw("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nx-a: b\r\n\r\nbody"),
    ] {
        let shared = reply.clone();
        let upstream = Upstream::start(move |_| shared.clone());
        let gateway = Gateway::in_front_of(&upstream).await;
        for _ in 0..2 {
            let answer = get(gateway.address(), "/b/k").await;
            assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "body"), "{reply:?}");
            assert_eq!(answer.header("x-a"), Some("b"), "{reply:?}");
        }
        gateway.wait_until_idle().await;
    }
}

/// H2, T5: a stream is forwarded without buffering: the client gets the first piece while the upstream still holds the
/// second
#[tokio::test]
async fn a_stream_is_forwarded_without_delay() {
    for chunked in [false, true] {
        let latch = Latch::new();
        let held = latch.clone();
        let upstream = Upstream::start(move |_| {
            let reply = UpstreamReply::ok("data: 1\n\n").then_body_when_open(&held, "data: 2\n\n");
            if chunked { reply.chunked() } else { reply.until_close() }
        });
        let gateway = Gateway::in_front_of(&upstream).await;
        let mut stream = Client::connect(gateway.address()).await;
        stream.send(client::message("GET", "/b/k", &[], None)).await;
        let mut answer = stream.head().await;
        let first = stream.read_some().await.unwrap();
        assert!(client::latin1(&first).contains("data: 1"), "{first:?}");
        latch.open_for_all();
        let mut rest = Vec::new();
        while let Ok(more) = stream.read_some().await {
            rest.extend(more);
            if client::latin1(&rest).contains("data: 2") {
                break;
            }
        }
        assert!(client::latin1(&rest).contains("data: 2"), "{rest:?}");
        answer.broken = None;
        assert_eq!(answer.status, 200);
    }
}

/// R3: several requests on one connection, sequential and pipelined, get their own answers
#[tokio::test]
async fn answers_keep_their_requests_order() {
    let upstream = Upstream::start(|seen| {
        let pause = if seen.target.ends_with('0') { 50 } else { 0 };
        UpstreamReply::ok(&seen.target).delayed(Duration::from_millis(pause))
    });
    let gateway = Gateway::in_front_of(&upstream).await;
    let mut client = Client::connect(gateway.address()).await;
    let pipeline: Vec<u8> =
        (0..5).flat_map(|i| client::message("GET", &format!("/b/{i}"), &[], None)).collect();
    client.send(pipeline).await;
    for i in 0..5 {
        assert_eq!(client.response("GET").await.text(), format!("/b/{i}"));
    }
}

/// V2: `Expect: 100-continue` is answered by the gateway and not forwarded, and the upload arrives
#[tokio::test]
async fn expect_continue_is_answered() {
    let upstream = Upstream::ok("stored");
    let gateway = Gateway::in_front_of(&upstream).await;
    let body = random_bytes(200_000);
    let mut client = Client::connect(gateway.address()).await;
    let head = format!(
        "PUT /b/k HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client.send(head).await;
    let interim = client.head().await;
    assert_eq!(interim.status, 100);
    client.send(&body).await;
    assert_eq!(client.response("PUT").await.complete_status(), 200);
    let seen = upstream.last();
    assert_eq!((seen.sha256(), seen.header("expect")), (client::sha256(&body), None));

    let mut empty = Client::connect(gateway.address()).await;
    empty.send("PUT /b/k HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(empty.response("PUT").await.complete_status(), 200, "with an empty body too");
}

/// E1, E2, E4: an upstream's own error is forwarded unchanged, and is not a gateway error
#[tokio::test]
async fn an_upstreams_error_is_forwarded_unchanged() {
    let upstream =
        Upstream::start(|_| UpstreamReply::s3_error(404, "NoSuchKey").header("x-amz-request-id", "theirs"));
    let gateway = Gateway::in_front_of(&upstream).await;
    let answer = get(gateway.address(), "/b/k").await;
    assert_eq!((answer.complete_status(), answer.reason()), (404, ""));
    assert_eq!(answer.header("x-amz-request-id"), Some("theirs"));
    assert!(answer.text().contains("<Code>NoSuchKey</Code>"));
    assert_eq!(gateway.metric("requests_total{bucket=\"b\",class=\"4xx\"}").await, 1.0);
    assert_eq!(gateway.errors("b").await, 0.0);
}
