//! HTTP/1.0 clients, and answers without a body.

use super::answers;
use crate::support::{Client, Gateway, Response, Upstream, UpstreamReply, client};

async fn exchange(gateway: &Gateway, target: &str, lines: &str) -> (Response, bool) {
    let mut client = Client::connect(gateway.address()).await;
    client.send(format!("GET {target} HTTP/1.0\r\nhost: a\r\n{lines}\r\n")).await;
    let answer = client.response("GET").await;
    (answer, client.is_closed().await)
}

/// T6: an HTTP/1.0 client never gets a chunked body: a length if it is known, otherwise the end of the connection
#[tokio::test]
async fn http_1_0_never_gets_chunks() {
    let list = "<ListBucketResult><Name>theirs</Name></ListBucketResult>";
    let upstream = Upstream::start(move |seen| match seen.target.as_str() {
        "/b/chunked" => UpstreamReply::ok("in chunks").chunked(),
        "/b/close" => UpstreamReply::ok("until close").until_close(),
        target if target.contains("list-type") => {
            UpstreamReply::ok(list).header("content-type", "application/xml")
        }
        _ => UpstreamReply::ok("sized"),
    });
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .bucket("ours", &upstream)
        .set("buckets.ours.s3.bucket", "theirs")
        .start()
        .await;
    let renamed = list.replace("theirs", "ours");
    for (target, body) in [
        ("/b/chunked", "in chunks"),
        ("/b/close", "until close"),
        ("/b/sized", "sized"),
        ("/ours?list-type=2", renamed.as_str()),
    ] {
        for lines in ["", "connection: keep-alive\r\n"] {
            let mut client = Client::connect(gateway.address()).await;
            client.send(format!("GET {target} HTTP/1.0\r\nhost: a\r\n{lines}\r\n")).await;
            let answer = client.response("GET").await;
            assert_eq!((answer.complete_status(), answer.text().as_str()), (200, body), "{target} {lines:?}");
            assert_eq!(answer.header("transfer-encoding"), None, "{target}");
            let is_kept = answer.header("connection") == Some("keep-alive");
            assert_eq!(is_kept, !lines.is_empty() && target == "/b/sized", "{target} {lines:?}: {answer:?}");
            if is_kept {
                client.send("GET /b/sized HTTP/1.0\r\n\r\n").await;
                assert_eq!(client.response("GET").await.complete_status(), 200);
            }
            assert!(client.is_closed().await, "{target} {lines:?}");
        }
    }
}

/// T6: a truncated body that is delimited by the close ends with a reset, so that it does not look complete
#[tokio::test]
async fn a_body_until_close_that_breaks_ends_with_a_reset() {
    let upstream = Upstream::start(|_| UpstreamReply::ok("0123456789".repeat(1000)).chunked().cut_at(5000));
    let gateway = Gateway::in_front_of(&upstream).await;
    let mut stream = std::net::TcpStream::connect(gateway.address()).unwrap();
    let read = tokio::task::spawn_blocking(move || {
        use std::io::{Read, Write};
        stream.write_all(b"GET /b/k HTTP/1.0\r\nhost: a\r\n\r\n").unwrap();
        stream.read_to_end(&mut Vec::new())
    });
    assert_eq!(read.await.unwrap().unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

/// V1: HTTP/1.0 requests have no transfer coding and get no interim answer
#[tokio::test]
async fn http_1_0_has_no_chunks_and_no_100() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let chunked = "PUT /b/k HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let got = answers(&gateway, chunked).await;
    assert_eq!(
        got.iter().map(|answer| (answer.complete_status(), answer.reason())).collect::<Vec<_>>(),
        [(400, "framing")]
    );
    let mut expecting = Client::connect(gateway.address()).await;
    expecting.send("PUT /b/k HTTP/1.0\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n").await;
    expecting.send("abc").await;
    assert_eq!(expecting.head().await.status, 200);
    assert_eq!(upstream.count(), 1);
}

/// V7, I2: answers to HEAD, and 204 and 304, have no body, keep their length header, and keep the connection open
#[tokio::test]
async fn answers_without_a_body_keep_the_connection() {
    let upstream = Upstream::start(|seen| match seen.target.as_str() {
        "/b/304" => {
            UpstreamReply::raw("HTTP/1.1 304 Not Modified\r\netag: \"e\"\r\ncontent-length: 9\r\n\r\n")
        }
        "/b/204" => UpstreamReply::status(204),
        _ => UpstreamReply::ok("a body"),
    });
    let gateway = Gateway::in_front_of(&upstream).await;
    let mut client = Client::connect(gateway.address()).await;
    for (method, target, status, length) in [
        ("HEAD", "/b/k", 200, Some("6")),
        ("GET", "/b/304", 304, Some("9")),
        ("DELETE", "/b/204", 204, None),
        ("HEAD", "/nowhere/k", 404, None),
        ("HEAD", "/-/readyz", 200, Some("15")),
        ("GET", "/b/k", 200, Some("6")),
    ] {
        client.send(client::message(method, target, &[], None)).await;
        let answer = client.response(method).await;
        assert_eq!(answer.complete_status(), status, "{method} {target}");
        assert_eq!(answer.header("transfer-encoding"), None, "{method} {target}");
        if status != 404 {
            assert_eq!(answer.header("content-length"), length, "{method} {target}");
        }
        assert!(
            answer.header("date").is_some_and(|date| httpdate::parse_http_date(date).is_ok()),
            "{answer:?}"
        );
    }
    assert_eq!(upstream.last().target, "/b/k");
}

/// O5, V5: a health path is answered with any Host that names no bucket; with a bucket's Host it is an object key
#[tokio::test]
async fn a_virtual_hosted_key_is_not_a_health_path() {
    let upstream = Upstream::ok("an object");
    let gateway =
        Gateway::builder().bucket("b", &upstream).set("server.base_domains", "s3.test").start().await;
    for path in ["/-/livez", "/-/readyz"] {
        for (host, is_key) in
            [("b.s3.test", true), ("s3.test", false), ("nobody.s3.test", false), ("10.0.0.1:80", false)]
        {
            let mut client = Client::connect(gateway.address()).await;
            client.send(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
            let answer = client.response("GET").await;
            assert_eq!(
                (answer.complete_status(), answer.text() == "an object"),
                (200, is_key),
                "{host}{path}"
            );
        }
        assert_eq!(upstream.last().target, format!("/b{path}"));
    }
    let (answer, _) = exchange(&gateway, "/-/livez", "").await;
    assert_eq!(answer.complete_status(), 200);
    let put = client::message("PUT", "/-/livez", &[], Some(b"x"));
    assert_eq!(
        answers(&gateway, [put, b"GARBAGE\r\n\r\n".to_vec()].concat()).await[0].complete_status(),
        404
    );
    assert_eq!(upstream.count(), 2);
}
