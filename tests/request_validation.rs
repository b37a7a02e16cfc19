//! Requests that the gateway refuses before it spends anything on them, as raw bytes; none of them reaches the
//! upstream.

use crate::support::{Client, Gateway, Response, Upstream, client, get, request};

/// Sends these bytes and reads one answer; returns it, and whether the gateway closed the connection.
async fn raw(gateway: &Gateway, bytes: impl AsRef<[u8]>) -> (Response, bool) {
    let method = if bytes.as_ref().starts_with(b"HEAD") { "HEAD" } else { "GET" };
    let mut client = Client::connect(gateway.address()).await;
    client.send(bytes).await;
    let answer = client.response(method).await;
    // An open connection would serve another request.
    if client.try_send("GET /-/livez HTTP/1.1\r\nhost: a\r\n\r\n").await.is_err() {
        return (answer, true);
    }
    let next = client.try_response("GET").await;
    (answer, next.is_none())
}

/// V1: ambiguous framing is refused, the connection closed, and nothing forwarded
#[tokio::test]
async fn ambiguous_framing_is_refused_and_the_connection_closed() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let head = "POST /b/k HTTP/1.1\r\nhost: a\r\n";
    let smuggled = "GET /b/smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    for headers in [
        "content-length: 3\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 3\r\n",
        "content-length: 3\r\ncontent-length: 3\r\n",
        "content-length: 3\r\ncontent-length: 4\r\n",
        "content-length: 3, 3\r\n",
        "content-length: +3\r\n",
        "content-length: -3\r\n",
        "content-length: 0x3\r\n",
        "content-length: 3 3\r\n",
        "content-length: 99999999999999999999\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: xchunked\r\n",
    ] {
        let (answer, closed) = raw(&gateway, format!("{head}{headers}\r\n0\r\n\r\n{smuggled}")).await;
        assert_eq!(answer.complete_status(), 400, "{headers}");
        assert!(closed, "{headers}: the connection was kept");
    }
    assert_eq!(upstream.seen().len(), 0, "{:?}", upstream.seen());
}

/// E1, O4: early refusals have the format of every error, and are logged and counted
#[tokio::test]
async fn early_refusals_are_s3_errors() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let answer = get(gateway.address(), "/b/../k").await;
    assert_eq!((answer.complete_status(), answer.reason()), (400, "path"));
    assert!(answer.text().contains("<Code>InvalidURI</Code>"), "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/xml"));
    let id = answer.header("x-request-id").unwrap();
    assert!(answer.text().contains(&format!("<RequestId>{id}</RequestId>")), "{}", answer.text());
    let line = gateway.wait_for_access_line(id).await;
    assert_eq!((&line["status"], &line["reason"]), (&400.into(), &"path".into()));
    assert_eq!(gateway.metric("unrouted_total{reason=\"path\"}").await, 1.0);
}

/// V1: exactly one Host on HTTP/1.1
#[tokio::test]
async fn a_request_needs_exactly_one_host() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for headers in ["", "host: a\r\nhost: b\r\n"] {
        let (answer, closed) = raw(&gateway, format!("GET /b/k HTTP/1.1\r\n{headers}\r\n")).await;
        assert_eq!((answer.complete_status(), closed), (400, true), "{headers}");
    }
    assert_eq!(upstream.count(), 0);
}

/// V1, V3: invalid HTTP is refused and the connection closed: bare CR and LF, NUL, obs-fold, malformed lines
#[tokio::test]
async fn invalid_http_is_refused() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for bytes in [
        b"GET /b/k HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n".as_slice(),
        b"GET /b/k HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n",
        b"GET /b/k HTTP/1.1\r\nhost: a\r\nx: a\r\n folded\r\n\r\n",
        b"GET /b/k HTTP/1.1\r\nhost: a\r\nx : a\r\n\r\n",
        b"GET /b/k HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n",
        b"GET /b/a b HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /b/\xc3\xa9 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /b/k HTTP/9.9\r\nhost: a\r\n\r\n",
        b"G=T /b/k HTTP/1.1\r\nhost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ] {
        let shown = client::latin1(bytes);
        let (answer, closed) = raw(&gateway, bytes).await;
        assert_eq!(answer.complete_status(), 400, "{shown}");
        assert!(closed, "{shown}: the connection was kept");
    }
    assert_eq!(upstream.seen().len(), 0, "{:?}", upstream.seen());
}

/// V2: refusals of the HTTP parser, before a request exists, are logged and counted too
#[tokio::test]
async fn parser_refusals_are_logged_and_counted() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let many: String = (0..97).map(|n| format!("x-{n}: a\r\n")).collect();
    for (bytes, reason) in [
        (format!("GET /b/k HTTP/1.1\r\nhost: a\r\n{many}\r\n"), "head_too_large"),
        ("G=T / HTTP/1.1\r\n\r\n".to_owned(), "malformed"),
    ] {
        let (answer, closed) = raw(&gateway, bytes).await;
        assert!(closed && answer.body.is_empty(), "{answer:?}");
        let line = gateway.wait_for_log_line("request", |line| line["reason"] == reason).await;
        assert_eq!(line["client"], "127.0.0.1");
        assert_eq!(gateway.metric(&format!("unrouted_total{{reason=\"{reason}\"}}")).await, 1.0);
    }
}

/// V1: a body with invalid chunks is refused, and the upstream never gets it as a complete one
#[tokio::test]
async fn bad_chunks_are_refused() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for chunks in [
        "xyz\r\nabc\r\n0\r\n\r\n",
        "-1\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcdef\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nabc\r\n",
    ] {
        let head = "PUT /b/k HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut client = Client::connect(gateway.address()).await;
        client.send(format!("{head}{chunks}")).await;
        let answer = client.response("PUT").await;
        assert_eq!(
            (answer.complete_status(), answer.reason()),
            (400, "body_malformed"),
            "{chunks}: {answer:?}"
        );
        assert!(client.is_closed().await, "{chunks}: the connection was kept");
    }
    gateway.wait_until_idle().await;
    assert!(upstream.seen().iter().all(|seen| !seen.is_complete), "{:?}", upstream.seen());
}

/// V2: a body with a `content-length` over the limit is refused before the upstream is called
#[tokio::test]
async fn a_body_announced_too_large_is_413() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .bucket("large", &upstream)
        .set("server.limits.max_request_size", "100000")
        .set("buckets.large.max_request_size", "unlimited")
        .start()
        .await;
    let put = async |target: &str, bytes: usize| {
        request(gateway.address(), "PUT", target, &[], Some(&vec![b'x'; bytes])).await
    };
    assert_eq!(put("/b/k", 100_000).await.complete_status(), 200, "a value at the limit is accepted");
    let before = upstream.count();
    let answer = raw(&gateway, "PUT /b/k HTTP/1.1\r\nhost: a\r\ncontent-length: 100001\r\n\r\n").await;
    assert_eq!((answer.0.complete_status(), answer.0.reason(), answer.1), (413, "body_too_large", true));
    assert!(answer.0.text().contains("<Code>EntityTooLarge</Code>"), "{}", answer.0.text());
    assert_eq!(upstream.count(), before);
    assert_eq!(put("/large/k", 300_000).await.complete_status(), 200, "a bucket may set its own");
}

/// V2, Bad input: a chunked body is counted while it streams; over the limit it is 413, and the upstream never gets it
/// whole
#[tokio::test]
async fn a_chunked_body_that_grows_too_large_is_413() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("server.limits.max_request_size", "100000")
        .start()
        .await;
    let chunk = format!("c350\r\n{}\r\n", "x".repeat(50_000));
    let head = "PUT /b/k HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let (fits, _) = raw(&gateway, format!("{head}{chunk}{chunk}0\r\n\r\n")).await;
    assert_eq!(fits.complete_status(), 200, "a value at the limit is accepted");
    let mut client = Client::connect(gateway.address()).await;
    client.send(format!("{head}{chunk}{chunk}1\r\nx\r\n0\r\n\r\n")).await;
    let answer = client.response("PUT").await;
    assert_eq!((answer.complete_status(), answer.reason()), (413, "body_too_large"));
    assert!(client.is_closed().await);
    gateway.wait_until_idle().await;
    assert!(upstream.seen().iter().skip(1).all(|seen| !seen.is_complete), "the upstream got it as complete");
}

/// V2: PUT and POST need a body length
#[tokio::test]
async fn put_and_post_need_a_length() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for method in ["PUT", "POST"] {
        let answer = request(gateway.address(), method, "/b/k", &[], None).await;
        assert_eq!((answer.complete_status(), answer.reason()), (411, "length_required"), "{method}");
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(
        request(gateway.address(), "PUT", "/b/k", &[], Some(b"")).await.complete_status(),
        200,
        "zero is a length"
    );
}

/// V2: longest targets: 8 KiB in s3 buckets, 2 KiB in http buckets
#[tokio::test]
async fn a_target_too_long_is_414() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).http_bucket("api", &upstream).start().await;
    for (bucket, limit, shape) in
        [("b", 8192, "<Code>InvalidURI</Code>"), ("api", 2048, "\"code\":\"uri_too_long\"")]
    {
        let target = |bytes: usize| format!("/{bucket}/{}", "k".repeat(bytes - bucket.len() - 2));
        assert_eq!(
            get(gateway.address(), &target(limit)).await.complete_status(),
            200,
            "{bucket}: the limit itself passes"
        );
        let answer = get(gateway.address(), &target(limit + 1)).await;
        assert_eq!((answer.complete_status(), answer.reason()), (414, "uri_too_long"), "{bucket}");
        assert!(answer.text().contains(shape), "{}", answer.text());
    }
    assert_eq!(upstream.count(), 2);
}

/// V2: headers too large or too many are 431
#[tokio::test]
async fn too_many_or_too_large_headers_are_431() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let large = "v".repeat(8192);
    let answer = request(gateway.address(), "GET", "/b/k", &[("x-large", &large)], None).await;
    assert_eq!((answer.complete_status(), answer.reason()), (431, "headers_too_large"));
    // Host is one of them.
    let names: Vec<String> = (0..90).map(|i| format!("x-{i}")).collect();
    let headers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
    assert_eq!(request(gateway.address(), "GET", "/b/k", &headers[..89], None).await.complete_status(), 200);
    let answer = request(gateway.address(), "GET", "/b/k", &headers, None).await;
    assert_eq!((answer.complete_status(), answer.reason()), (431, "too_many_headers"));
    assert_eq!(upstream.count(), 1);
}

/// V2: heads beyond the HTTP parser's bounds are refused with a 4xx, and the connection closed
#[tokio::test]
async fn a_head_beyond_the_parsers_bounds_is_refused() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let many: String = (0..200).map(|i| format!("x-{i}: v\r\n")).collect();
    let huge = format!("x-huge: {}\r\n", "v".repeat(200_000));
    for headers in [many, huge] {
        let mut client = Client::connect(gateway.address()).await;
        // The gateway may close before it has read all bytes.
        let _ = client.try_send(format!("GET /b/k HTTP/1.1\r\nhost: a\r\n{headers}\r\n")).await;
        if let Some(answer) = client.try_response("GET").await {
            assert!((400..500).contains(&answer.status), "{answer:?}");
            assert!(client.is_closed().await);
        }
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
}

/// V3: paths that an upstream could resolve to another bucket, and encoded control bytes in paths, are refused
#[tokio::test]
async fn traversal_and_control_bytes_in_paths_are_refused() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for path in [
        "/b/../other/k",
        "/b/a/../../other",
        "/b/..",
        "/b/a/..",
        "/b/%2e%2e/other",
        "/b/%2E%2E%2Fother",
        "/b/.%2e/other",
        "/b/..%2fother",
        "/b/..%5cother",
        "/b/..\\other",
        "/b/%252e%252e%252fother",
        "/b/a%00b",
        "/b/a%0db",
        "/b/a%0Ab",
    ] {
        let answer = get(gateway.address(), path).await;
        assert_eq!((answer.complete_status(), answer.reason()), (400, "path"), "{path}");
    }
    assert_eq!(upstream.seen().len(), 0, "{:?}", upstream.seen());
}

/// V1: targets that are no paths, and methods that are not forwarded, are refused
#[tokio::test]
async fn other_forms_of_target_and_other_methods_are_refused() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for head in
        ["OPTIONS * HTTP/1.1", "CONNECT other:80 HTTP/1.1", "TRACE /b/k HTTP/1.1", "PATCH /b/k HTTP/1.1"]
    {
        let (answer, _) = raw(&gateway, format!("{head}\r\nhost: a\r\n\r\n")).await;
        assert!((400..500).contains(&answer.complete_status()), "{head}: {answer:?}");
    }
    assert_eq!(upstream.seen().len(), 0, "{:?}", upstream.seen());
}

/// E1, Bad input: an unknown bucket is named in the error
#[tokio::test]
async fn an_unknown_bucket_is_named() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let answer = get(gateway.address(), "/nowhere/k").await;
    assert_eq!((answer.complete_status(), answer.reason()), (404, "no_such_bucket"));
    assert!(answer.text().contains("<Code>NoSuchBucket</Code>"), "{}", answer.text());
    assert!(answer.text().contains("`nowhere`"), "{}", answer.text());
    assert!(answer.text().contains("<Resource>/nowhere/k</Resource>"), "{}", answer.text());
    let head = request(gateway.address(), "HEAD", "/nowhere/k", &[], None).await;
    assert_eq!((head.complete_status(), head.body.len()), (404, 0));
    assert_eq!(upstream.count(), 0);
}

/// A4: a bucket without an `auth` entry is closed, and the start logs it
#[tokio::test]
async fn a_bucket_without_auth_is_closed() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .set("buckets.closed.s3.endpoints", &format!("http://{}", upstream.address()))
        .start()
        .await;
    let answer = get(gateway.address(), "/closed/k").await;
    assert_eq!((answer.complete_status(), answer.reason()), (403, "bucket_closed"));
    assert!(answer.text().contains("<Code>AccessDenied</Code>"), "{}", answer.text());
    assert_eq!(upstream.count(), 0);
    let warned =
        gateway.wait_for_log_line("configuration warning", |line| line["key"] == "buckets.closed.auth").await;
    assert_eq!((&warned["level"], &warned["source"]), (&"WARNING".into(), &"not set".into()));
    assert_eq!(warned["detail"], "is empty: the bucket refuses every request");
}

/// E1, H1: a request to an http bucket is rejected in JSON also before it is routed
#[tokio::test]
async fn an_http_buckets_early_rejections_are_json() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).http_bucket("api", &upstream).start().await;
    let names: Vec<String> = (0..95).map(|number| format!("x-{number}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
    let long = "v".repeat(9000);
    let large = [("x-long", long.as_str())];
    for (method, headers, status) in [
        ("PATCH", &[][..], 405),
        ("TRACE", &[], 405),
        ("GET", &many, 431),
        ("GET", &large, 431),
        ("POST", &[], 411),
    ] {
        let answer = request(gateway.address(), method, "/api/k", headers, None).await;
        let media_type = answer.header("content-type");
        assert_eq!((answer.complete_status(), media_type), (status, Some("application/json")), "{method}");
        let document: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(document["error"]["request_id"].as_str(), answer.header("x-request-id"));
        let answer = request(gateway.address(), method, "/b/k", headers, None).await;
        assert_eq!(answer.header("content-type"), Some("application/xml"), "{method}");
    }
    assert_eq!(upstream.count(), 0);
}

/// E1: an http bucket's errors are JSON
#[tokio::test]
async fn an_http_buckets_errors_are_json() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .http_bucket("api", &upstream)
        .set("buckets.api.rate_limit.requests_per_second", "0.001")
        .set("buckets.api.rate_limit.burst", "1")
        .start()
        .await;
    assert_eq!(get(gateway.address(), "/api/v1").await.complete_status(), 200);
    let answer = get(gateway.address(), "/api/v1").await;
    assert_eq!((answer.complete_status(), answer.header("content-type")), (429, Some("application/json")));
    let document: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let error = &document["error"];
    assert_eq!(error["code"], "rate_limit_bucket");
    assert_eq!(error["request_id"].as_str(), answer.header("x-request-id"));
    assert_eq!(error["retry_after"].as_u64(), answer.retry_after());
    assert!(!error["message"].as_str().unwrap().is_empty());
}
