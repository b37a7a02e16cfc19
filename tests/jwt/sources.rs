//! Answers of an issuer's server in each framing of HTTP/1, and those that are none. awc fetches key sets: its faults in
//! `docs/design/connections.md` must not show.

use std::time::Duration;

use serde_json::json;

use super::issuer::Issuer;
use super::{buckets, claims, send_with_token};
use crate::support::{Gateway, ReplaceableUpstream, Upstream, UpstreamReply, wait_for};

async fn gateway_of(source: &ReplaceableUpstream, upstream: &Upstream) -> Gateway {
    let url = format!("http://{}/keys", source.address());
    buckets(upstream).set("jwt.jwks_url", &url).start().await
}

/// A3, T6: a key set is read whatever ends it: a length, chunks, the close; interim answers before it are skipped
#[tokio::test]
async fn a_key_set_is_read_in_each_framing() {
    let (upstream, issuer) = (Upstream::ok("x"), Issuer::p256().named("one"));
    let set = json!({ "keys": [issuer.jwk()] }).to_string();
    let raw = |head: &str| UpstreamReply::raw(format!("{head}\r\n\r\n{set}"));
    let early = format!(
        "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: {}",
        set.len()
    );
    let chunks = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x};a=b\r\n{set}\r\n0\r\nx-trailer: 1\r\n\r\n",
        set.len()
    );
    for (case, reply) in [
        ("length", UpstreamReply::ok(&set)),
        ("chunks", UpstreamReply::ok(&set).chunked()),
        ("extensions and trailers", UpstreamReply::raw(chunks)),
        ("the close, HTTP/1.1", UpstreamReply::ok(&set).until_close()),
        ("the close, HTTP/1.0", raw("HTTP/1.0 200 OK")),
        ("bare LF", UpstreamReply::raw(format!("HTTP/1.1 200 OK\ncache-control: max-age=90\n\n{set}"))),
        ("an interim answer", raw(&early)),
    ] {
        let source = ReplaceableUpstream::start(reply);
        let gateway = gateway_of(&source, &upstream).await;
        let answer = send_with_token(&gateway, "GET", "/b/k", &issuer.token(&claims())).await;
        assert_eq!((answer.complete_status(), answer.reason()), (200, ""), "{case}");
        let seen = source.server.last();
        let host = source.address().to_string();
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/keys"));
        assert_eq!(seen.headers_named("host"), [host.as_str()]);
        assert_eq!(seen.headers_named("connection"), ["close"]);
        for absent in ["content-length", "transfer-encoding", "user-agent", "expect"] {
            assert_eq!(seen.header(absent), None, "{absent}");
        }
        wait_for("its connection is closed", || async {
            (source.server.open_connections() == 0).then_some(())
        })
        .await;
    }
}

/// A3, T6: an answer that is truncated, too large or unclear is no key set; the log has the cause, and no connection is left
#[tokio::test]
async fn a_broken_answer_is_no_key_set() {
    let upstream = Upstream::ok("x");
    // Whole for a reader that takes the close for its end.
    let set = json!({ "keys": [] }).to_string();
    let raw = |head: &str, body: &str| UpstreamReply::raw(format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}"));
    let closed = "cannot read the response body: the upstream closed the connection";
    let large = "cannot read the response body: it is larger than 262144 bytes";
    let chunk = format!("{:x}\r\n{set}\r\n", set.len());
    let cases = [
        (raw("transfer-encoding: chunked\r\n", &chunk), closed),
        (UpstreamReply::ok(&set).cut_at(5), closed),
        (raw("", &set).then_reset(), "Connection reset by peer"),
        (raw("", &" ".repeat(300 << 10)), large),
        (UpstreamReply::ok(" ".repeat(300 << 10)).chunked(), large),
        (raw("transfer-encoding: chunked\r\ncontent-length: 9\r\n", &chunk), "has both Content-Length and"),
        (raw("content-length: 1\r\ncontent-length: 2\r\n", "{}"), "two Content-Lengths differ"),
        (raw("x-a: a\0b\r\n", "{}"), "the value of a header is malformed"),
        (raw(&"x-a: b\r\n".repeat(97), "{}"), "more headers than the limit"),
        (UpstreamReply::raw("HTTP/1.1 101 Switching\r\nupgrade: websocket\r\n\r\n"), "switches protocols"),
        (UpstreamReply::raw("HTTP/1.1 102 Processing\r\n\r\n".repeat(10_000)), "longer than the limit"),
        (UpstreamReply::raw("<html>"), "it is not an HTTP/1 response"),
        (UpstreamReply::raw(""), "the upstream closed the connection"),
        (UpstreamReply::ok("{}").delayed(Duration::from_secs(60)), "no response within 5s"),
    ];
    for (reply, expected) in cases {
        let source = ReplaceableUpstream::start(reply);
        let gateway = gateway_of(&source, &upstream).await;
        let line = gateway.wait_for_log_line("token keys cannot be refreshed", |_| true).await;
        let error = line["error"].as_str().unwrap();
        assert!(error.contains(expected), "{error} instead of {expected}");
        wait_for("its connection is closed", || async {
            (source.server.open_connections() == 0).then_some(())
        })
        .await;
    }
}
