//! Malformed requests by RFC 9113: the stream is reset with PROTOCOL_ERROR, and the connection stays open.

use super::raw::*;
use crate::https::{Identity, NAME};
use crate::support::{Gateway, Upstream, wait_until};

/// X8: after a malformed request a connection is idle as after any other: it closes first when descriptors run short
#[tokio::test]
async fn connections_with_malformed_requests_are_closed_first() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity
        .gateway_before(&upstream)
        .set("buckets.b.s3.concurrency.max_concurrent", "4")
        .set("buckets.b.s3.connection_pool.max_idle", "2")
        .set("monitor.descriptor_limit", "200")
        .start()
        .await;
    let mut hostile = Vec::new();
    for _ in 0..220 {
        let mut raw = Raw::open(&identity, &gateway, &[]).await;
        raw.begin(1, &request("GET", "/b/k"), END_STREAM).await;
        raw.head(1).await;
        raw.begin(3, &request("GET", "/b/a#b"), END_STREAM).await;
        raw.reset(3, "a fragment").await;
        hostile.push(raw);
    }
    for _ in 0..20 {
        assert_eq!(identity.http2(&gateway).await.get("/b/k").await.complete_status(), 200);
    }
    assert_eq!(gateway.metric("load_shed_total").await, 0.0, "nothing was refused");
}

async fn refuses(identity: &Identity, gateway: &Gateway, name: &str, head: &[u8]) {
    let mut raw = Raw::open(identity, gateway, &[]).await;
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, head)).await;
    assert_eq!(raw.reset(1, name).await, PROTOCOL_ERROR, "{name}");
    assert!(raw.seen().iter().all(|frame| frame.kind != HEADERS), "{name} was answered");
    raw.begin(3, &request("GET", "/b/after"), END_STREAM).await;
    raw.head(3).await;
}

/// V9, V1
#[tokio::test]
async fn malformed_heads_reset_their_stream() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.gateway_before(&upstream).start().await;
    let with = |method, path, field: (&str, &str)| {
        let mut fields = request(method, path).to_vec();
        fields.push(field);
        block(&fields)
    };
    let pseudo = |scheme: &str, authority: &str, path: &str| {
        block(&[(":method", "GET"), (":scheme", scheme), (":authority", authority), (":path", path)])
    };
    let user = format!("user@{NAME}");
    for (name, head) in [
        ("leading white space", with("GET", "/b/k", ("x-a", " v"))),
        ("trailing white space", with("GET", "/b/k", ("x-a", "v\t"))),
        ("another scheme", pseudo("ftp", NAME, "/b/k")),
        (
            "another scheme without authority",
            block(&[(":method", "GET"), (":scheme", "ftp"), (":path", "/b/k"), ("host", NAME)]),
        ),
        ("an unknown scheme", pseudo("x+y", NAME, "/b/k")),
        ("userinfo", pseudo("https", &user, "/b/k")),
        ("an empty path", pseudo("https", NAME, "")),
        ("a path without a slash", pseudo("https", NAME, "b/k")),
        ("a path that is a query", pseudo("https", NAME, "?x")),
        ("an asterisk for GET", pseudo("https", NAME, "*")),
        ("a fragment", pseudo("https", NAME, "/b/a#b")),
        ("a fragment in a query", pseudo("https", NAME, "/b/a?x#b")),
        ("CONNECT without authority", block(&[(":method", "CONNECT")])),
        ("CONNECT with a path", with("CONNECT", "/b/k", ("x-a", "v"))),
        ("no path", block(&[(":method", "GET"), (":scheme", "https"), (":authority", NAME)])),
        ("no method", block(&[(":scheme", "https"), (":authority", NAME), (":path", "/b/k")])),
        ("no scheme", block(&[(":method", "GET"), (":authority", NAME), (":path", "/b/k")])),
        ("a pseudo-header field behind others", with("GET", "/b/k", (":authority", NAME))),
        ("a repeated one", block(&[&request("GET", "/b/k")[..], &[(":path", "/b/j")]].concat())),
        ("a response's", with("GET", "/b/k", (":status", "200"))),
        ("connection", with("GET", "/b/k", ("connection", "close"))),
        ("transfer-encoding", with("PUT", "/b/k", ("transfer-encoding", "chunked"))),
        ("upgrade", with("GET", "/b/k", ("upgrade", "websocket"))),
        ("keep-alive", with("GET", "/b/k", ("keep-alive", "5"))),
        ("proxy-connection", with("GET", "/b/k", ("proxy-connection", "close"))),
        ("te", with("GET", "/b/k", ("te", "gzip"))),
        ("a length without a body", with("PUT", "/b/k", ("content-length", "5"))),
        (
            "two lengths",
            block(
                &[&request("PUT", "/b/k")[..], &[("content-length", "0"), ("content-length", "1")]].concat(),
            ),
        ),
    ] {
        refuses(&identity, &gateway, name, &head).await;
    }
    // `/b/a#b` in Huffman code
    let rest = block(&[(":method", "GET"), (":scheme", "https"), (":authority", NAME)]);
    let coded = [&rest[..], b"\x04\x86\x62\x36\x07\xff\x51\xff"].concat();
    refuses(&identity, &gateway, "a fragment in Huffman code", &coded).await;
    assert!(upstream.seen().iter().all(|seen| seen.target == "/b/after"));
    gateway
        .wait_for_log_line("request", |line| {
            line["reason"] == "malformed" && line["error"] == "userinfo in :authority"
        })
        .await;
    assert!(gateway.metric("unrouted_total{reason=\"malformed\"}").await >= 10.0);
}

/// V9, V1: malformed trailers reset the stream, and the upstream never gets a complete body
#[tokio::test]
async fn malformed_trailers_reset_their_stream() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("stored"));
    let gateway = identity.gateway_before(&upstream).start().await;
    // The head adds `:path` to the dynamic table, as its newest entry.
    let mut head = block(&[(":method", "PUT"), (":scheme", "https"), (":authority", NAME)]);
    head.extend(b"\x44\x05/b/up");
    for (name, trailers) in [
        ("a pseudo-header field", block(&[(":path", "/b/k")])),
        ("a static one", vec![0x82]),
        ("a dynamic one", vec![0xbe]),
        ("one before a field", block(&[(":scheme", "https"), ("x-a", "v")])),
        ("one behind a field", block(&[("x-a", "v"), (":scheme", "https")])),
        ("white space", block(&[("x-a", "v ")])),
        ("a field of the connection", block(&[("connection", "close")])),
    ] {
        let mut raw = Raw::open(&identity, &gateway, &[]).await;
        raw.send(&frame(HEADERS, END_HEADERS, 1, &head)).await;
        raw.send(&frame(DATA, 0, 1, b"body")).await;
        raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailers)).await;
        assert_eq!(raw.reset(1, name).await, PROTOCOL_ERROR, "{name}");
        raw.begin(3, &request("GET", "/b/after"), END_STREAM).await;
        raw.head(3).await;
        wait_until("the upstream call is cancelled", || upstream.in_flight() == 0).await;
    }
    let was_stored = |seen: &crate::support::SeenRequest| seen.target == "/b/up" && seen.is_complete;
    assert!(!upstream.seen().iter().any(was_stored), "an upload with malformed trailers is complete");
    let mut raw = Raw::open(&identity, &gateway, &[]).await;
    raw.send(&frame(HEADERS, END_HEADERS, 1, &head)).await;
    raw.send(&frame(DATA, 0, 1, b"body")).await;
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("x-a", "v")]))).await;
    raw.head(1).await;
    assert!(upstream.seen().iter().any(was_stored), "valid trailers are accepted");
}

/// V9, V1: an uppercase name is a connection error in `h2`, as RFC 9113, 5.4.1 allows
#[tokio::test]
async fn an_uppercase_name_ends_the_connection() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.gateway_before(&upstream).start().await;
    let fields = [&request("PUT", "/b/k")[..], &[("X-A", "v")]].concat();
    let mut raw = Raw::open(&identity, &gateway, &[]).await;
    raw.begin(1, &fields, END_STREAM).await;
    assert_eq!(raw.ended().await, Some(PROTOCOL_ERROR));
    let mut raw = Raw::open(&identity, &gateway, &[]).await;
    raw.begin(1, &request("PUT", "/b/trailers"), 0).await;
    raw.begin(1, &[("X-A", "v")], END_STREAM).await;
    assert_eq!(raw.ended().await, Some(PROTOCOL_ERROR));
    assert!(
        !upstream.seen().iter().any(|seen| seen.is_complete),
        "a request with an uppercase name is complete"
    );
}

/// V9: valid methods and targets that the gateway does not serve get an answer
#[tokio::test]
async fn unserved_methods_get_an_answer() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.gateway_before(&upstream).start().await;
    let mut raw = Raw::open(&identity, &gateway, &[]).await;
    for (stream, fields) in [
        (1, vec![(":method", "CONNECT"), (":authority", "elsewhere.test:443")]),
        (3, request("OPTIONS", "*").to_vec()),
        (5, request("TRACE", "/b/k").to_vec()),
    ] {
        raw.begin(stream, &fields, END_STREAM).await;
        raw.head(stream).await;
    }
    assert_eq!(upstream.count(), 0);
}

/// V9: padding, priority, continuation and `te: trailers` are accepted
#[tokio::test]
async fn unusual_heads_are_accepted() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.gateway_before(&upstream).start().await;
    let mut raw = Raw::open(&identity, &gateway, &[]).await;
    let padded = |fields: &[(&str, &str)]| {
        // Four bytes of padding, and a priority.
        [&[4_u8, 0, 0, 0, 0, 9][..], &block(fields), &[0; 4]].concat()
    };
    let head = [&request("GET", "/b/padded")[..], &[("te", "trailers"), ("x-a", "")]].concat();
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM | 0x28, 1, &padded(&head))).await;
    raw.head(1).await;
    let whole = block(&request("GET", "/b/continued"));
    let (first, second) = whole.split_at(20);
    raw.send(&frame(HEADERS, END_STREAM, 3, first)).await;
    raw.send(&frame(CONTINUATION, END_HEADERS, 3, second)).await;
    raw.head(3).await;
    let targets: Vec<String> = upstream.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/b/padded", "/b/continued"]);
}
