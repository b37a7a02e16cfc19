//! Request bodies: strict framing and its bounds.

use super::{answers, statuses};
use crate::support::gateway::Builder;
use crate::support::{Client, Gateway, Response, Upstream, client};

const PUT: &str = "PUT /b/k HTTP/1.1\r\nhost: a\r\n";

/// One failure opens the circuit.
fn one_failure_opens(upstream: &Upstream) -> Builder {
    Gateway::builder()
        .bucket("b", upstream)
        .http_bucket("api", upstream)
        .set("buckets.b.s3.circuit_breaker.failure_threshold", "1")
        .set("buckets.api.http.circuit_breaker.failure_threshold", "1")
}

/// V1, E1, B3: invalid chunks in the packet of the head are 400 in the bucket's format, and are not counted against the
/// upstream
#[tokio::test]
async fn bad_chunks_beside_their_head_are_400() {
    let upstream = Upstream::ok("x");
    let gateway = one_failure_opens(&upstream).start().await;
    for chunks in [
        "5;\n\r\n",
        "5;\n\r\n12345\r\n0\r\n\r\n",
        "zz\r\n",
        " 5\r\n12345\r\n",
        "5 \r\n12345\r\n",
        "5\n12345\r\n",
        "+5\r\n",
    ] {
        for target in ["/b/k", "/api/k"] {
            let head = format!("PUT {target} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
            let got = answers(&gateway, format!("{head}{chunks}")).await;
            assert_eq!(
                got.iter().map(Response::complete_status).collect::<Vec<_>>(),
                [400],
                "{target} {chunks:?}"
            );
            assert_eq!(got[0].reason(), "body_malformed", "{chunks:?}");
            let shape = if target == "/b/k" { "<Code>" } else { "{\"error\":" };
            assert!(got[0].text().contains(shape), "{}", got[0].text());
            let line = gateway.wait_for_access_line(got[0].header("x-request-id").unwrap()).await;
            assert_eq!((&line["status"], &line["reason"]), (&400.into(), &"body_malformed".into()));
        }
    }
    assert!(upstream.seen().iter().all(|seen| !seen.is_complete), "{:?}", upstream.seen());
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "the circuit is closed");
}

/// V1: invalid framing after data that was already forwarded is 400 too, and the upstream gets no complete body
#[tokio::test]
async fn bad_chunks_in_mid_upload_are_400() {
    let upstream = Upstream::ok("x");
    let gateway = one_failure_opens(&upstream).start().await;
    let data = "x".repeat(200_000);
    for end in ["0\r\n\n", "0\r\nno colon\r\n\r\n", "0\r\nx: a\0b\r\n\r\n", "30d40;\x07\r\n", "x"] {
        let mut uploading = Client::connect(gateway.address()).await;
        uploading.send(format!("{PUT}transfer-encoding: chunked\r\n\r\n30d40\r\n{data}\r\n")).await;
        uploading.send(end).await;
        let answer = uploading.response("PUT").await;
        assert_eq!((answer.complete_status(), answer.reason()), (400, "body_malformed"), "{end:?}");
        assert!(uploading.is_closed().await, "{end:?}");
    }
    gateway.wait_until_idle().await;
    assert!(upstream.seen().iter().all(|seen| !seen.is_complete), "the upstream got it as complete");
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "the circuit is closed");
}

/// V10: endless extensions, trailers and leading zeros are refused after 16 KiB, and are not buffered
#[tokio::test]
async fn endless_framing_is_refused() {
    let upstream = Upstream::ok("x");
    let gateway = one_failure_opens(&upstream).start().await;
    let hundred = "e".repeat(100);
    for (start, piece) in [
        ("1;".to_owned(), hundred.clone()),
        (String::new(), format!("1;{hundred}\r\nx\r\n")),
        (String::new(), "0".repeat(100)),
        ("1\r\nx\r\n0\r\n".to_owned(), format!("t: {hundred}\r\n")),
    ] {
        let mut endless = Client::connect(gateway.address()).await;
        endless.send(format!("{PUT}transfer-encoding: chunked\r\n\r\n{start}")).await;
        let mut sent_bytes = 0;
        let piece = piece.repeat(100);
        while sent_bytes < 1 << 30 && endless.try_send(&piece).await.is_ok() {
            sent_bytes += piece.len();
        }
        assert!(sent_bytes < 64 << 20, "{start:?}: {sent_bytes} framing bytes were read");
        if let Some(answer) = endless.try_response("PUT").await {
            assert_eq!((answer.complete_status(), answer.reason()), (400, "body_malformed"), "{start:?}");
        }
    }
    gateway.wait_until_idle().await;
    assert!(upstream.seen().iter().all(|seen| !seen.is_complete), "the upstream got it as complete");
    // Framing within the bound is dropped, and the data is forwarded.
    let fits = format!(
        "{PUT}transfer-encoding: chunked\r\n\r\n3;{}\r\nabc\r\n000\r\nx: y\r\n\r\n",
        "e".repeat(10_000)
    );
    let mut client = Client::connect(gateway.address()).await;
    client.send(fits).await;
    assert_eq!(client.response("PUT").await.complete_status(), 200);
    let seen = upstream.last();
    assert_eq!((&seen.body[..], seen.header("x")), (&b"abc"[..], None));
}

/// V10, M3: a body in chunks of one byte arrives whole
#[tokio::test]
async fn a_body_in_one_byte_chunks_arrives_complete() {
    let upstream = Upstream::ok("stored");
    let gateway = one_failure_opens(&upstream).start().await;
    for bytes in [1_000, 300_000] {
        let pieces = "1\r\nx\r\n".repeat(bytes) + "0\r\n\r\n";
        let mut client = Client::connect(gateway.address()).await;
        client.send(format!("{PUT}transfer-encoding: chunked\r\n\r\n{pieces}")).await;
        assert_eq!(client.response("PUT").await.complete_status(), 200);
        assert_eq!(upstream.last().body, vec![b'x'; bytes]);
    }
}

/// V1, B3: a body beside `Upgrade` is framed by its length; five such bodies with an extra byte do not open the circuit
#[tokio::test]
async fn an_upgrade_does_not_undo_a_length() {
    let upstream = Upstream::ok("done");
    let gateway = one_failure_opens(&upstream).set("server.header_timeout", "0.5").start().await;
    for version in ["1.1", "1.0"] {
        for _ in 0..5 {
            let post = format!(
                "POST /api/1 HTTP/{version}\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade, keep-alive\r\n\
                 content-length: 5\r\n\r\nhello!"
            );
            let got = answers(&gateway, post).await;
            assert_eq!(got[0].complete_status(), 200, "{}", got[0].text());
            // The extra byte is parsed as the beginning of an invalid request.
            assert!(got[1..].iter().all(|answer| answer.complete_status() >= 400), "{got:?}");
            assert_eq!(got[0].header("upgrade"), None);
            assert!(got[0].header("connection").is_none_or(|value| value == "keep-alive"), "{got:?}");
            let seen = upstream.last();
            assert_eq!((&seen.body[..], seen.header("upgrade")), (&b"hello"[..], None));
        }
    }
    let upgrade = "GET /api/1 HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
    let mut client = Client::connect(gateway.address()).await;
    client.send(format!("{upgrade}{upgrade}")).await;
    for _ in 0..2 {
        let answer = client.response("GET").await;
        assert_eq!(
            (answer.complete_status(), answer.header("upgrade"), answer.header("connection")),
            (200, None, None)
        );
    }
    assert_eq!(gateway.errors("api").await, 0.0);
}

/// V1: a refused request keeps its connection if the rest of its body is short; otherwise the connection closes after
/// the answer
#[tokio::test]
async fn the_rest_of_a_refused_body_decides_keep_alive() {
    let upstream = Upstream::ok("x");
    let gateway = one_failure_opens(&upstream).start().await;
    let next = client::message("GET", "/b/k", &[], None);
    for (length, keeps) in [(10, true), (64 << 10, true), ((64 << 10) + 1, false), (10 << 20, false)] {
        let mut refused = Client::connect(gateway.address()).await;
        refused.send(format!("PUT /nowhere/k HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n")).await;
        let answer = refused.response("PUT").await;
        assert_eq!(
            (answer.complete_status(), answer.header("connection").is_none()),
            (404, keeps),
            "{length}"
        );
        // Bytes after the answer are still read, so that no reset overtakes it.
        let _ = refused.try_send([vec![b'x'; length], next.clone()].concat()).await;
        assert_eq!(
            refused.try_response("GET").await.map(|answer| answer.complete_status()),
            keeps.then_some(200),
            "{length}"
        );
    }
    let chunked = "PUT /nowhere/k HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let whole =
        format!("{chunked}3\r\nabc\r\n0\r\n\r\nGET /b/k HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert_eq!(statuses(&gateway, whole).await, [404, 200]);
    assert_eq!(statuses(&gateway, format!("{chunked}3\r\nabc\r\n")).await, [404]);
}
