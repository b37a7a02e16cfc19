//! Upstream redirects are never followed: an API's are forwarded, a store's are not, because they would bypass the
//! gateway.

use crate::support::{Gateway, Upstream, UpstreamReply, request};

const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

/// H4: an API's redirects are forwarded unchanged, to any target
#[tokio::test]
async fn an_http_buckets_redirects_are_forwarded_unchanged() {
    let elsewhere = Upstream::ok("secret");
    let location = format!("http://{}/latest/meta-data?x=%20", elsewhere.address());
    for status in STATUSES {
        let to = location.clone();
        let upstream = Upstream::start(move |_| UpstreamReply::new(status, "moved").header("Location", &to));
        let gateway = Gateway::builder().http_bucket("api", &upstream).start().await;
        for method in ["GET", "HEAD", "DELETE"] {
            let answer = request(gateway.address(), method, "/api/k", &[], None).await;
            assert_eq!(
                (answer.complete_status(), answer.header("location")),
                (status, Some(location.as_str())),
                "{method}"
            );
        }
        assert_eq!(upstream.count(), 3, "{status}: each endpoint was called once");
    }
    assert_eq!(elsewhere.count(), 0, "a redirect was followed");
}

/// H4, E4: a store's redirect becomes an S3 error without its target
#[tokio::test]
async fn an_s3_buckets_redirects_become_errors() {
    let elsewhere = Upstream::ok("secret");
    let host = elsewhere.address().to_string();
    for status in STATUSES {
        let to = host.clone();
        let upstream = Upstream::start(move |_| {
            let document = format!(
                "<Error><Code>PermanentRedirect</Code><Message>m</Message><Bucket>theirs</Bucket><Endpoint>{to}</Endpoint></Error>"
            );
            UpstreamReply::new(status, document)
                .header("content-type", "application/xml")
                .header("location", &format!("http://{to}/theirs/k"))
                .header("x-amz-bucket-region", "eu-west-1")
        });
        let gateway =
            Gateway::builder().bucket("b", &upstream).set("buckets.b.s3.bucket", "theirs").start().await;
        for (method, body) in [("GET", None), ("HEAD", None), ("PUT", Some(&b"body"[..]))] {
            let answer = request(gateway.address(), method, "/b/k", &[], body).await;
            assert_eq!(
                (answer.complete_status(), answer.reason()),
                (status, "upstream_redirect"),
                "{method}"
            );
            assert_eq!(answer.header("location"), None);
            assert_eq!(
                answer.headers_named("x-amz-bucket-region"),
                ["us-east-1"],
                "the gateway's region, which clients sign for"
            );
            let text = answer.text();
            assert!(
                !text.contains(&host) && !text.contains("theirs") && !text.contains("eu-west-1"),
                "{text}"
            );
            assert!(method == "HEAD" || text.contains("<Region>us-east-1</Region>"), "{text}");
            let code = if matches!(status, 301 | 308) { "PermanentRedirect" } else { "TemporaryRedirect" };
            assert!(method == "HEAD" || text.contains(&format!("<Code>{code}</Code>")), "{text}");
        }
        assert_eq!(upstream.count(), 3, "{status}: a redirect is not retried");
        assert_eq!(gateway.metric("errors_total{bucket=\"b\",reason=\"upstream_redirect\"}").await, 3.0);
    }
    assert_eq!(elsewhere.count(), 0, "a redirect was followed");
}

/// A9, E4: a store's wrong-region error concerns the gateway's configuration, so the client gets no region of the store
#[tokio::test]
async fn a_stores_wrong_region_is_not_shown_to_clients() {
    let document =
        "<Error><Code>AuthorizationHeaderMalformed</Code><Message>m</Message><Region>eu-x</Region></Error>";
    let upstream = Upstream::start(move |_| {
        UpstreamReply::new(400, document)
            .header("content-type", "application/xml")
            .header("x-amz-bucket-region", "eu-x")
    });
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.access_key_id", "A")
        .set("buckets.b.s3.secret_access_key", "s")
        .start()
        .await;
    for _ in 0..6 {
        let answer = request(gateway.address(), "GET", "/b/k", &[], None).await;
        assert_eq!((answer.complete_status(), answer.reason()), (502, "upstream_region"));
        let all = format!("{:?}{}", answer.headers, answer.text());
        assert!(!all.contains("eu-x"), "{all}");
        let line = gateway.wait_for_access_line(answer.header("x-request-id").unwrap()).await;
        let detail = line["detail"].as_str().unwrap();
        assert!(detail.contains("eu-x") && detail.contains("s3.region"), "{detail}");
    }
    assert_eq!(upstream.count(), 6, "a region error is not retried");
    // A response to HEAD has no document, only the header.
    let answer = request(gateway.address(), "HEAD", "/b/k", &[], None).await;
    assert_eq!((answer.complete_status(), answer.reason()), (502, "upstream_region"));
    assert!(!format!("{:?}", answer.headers).contains("eu-x"), "{:?}", answer.headers);
    let line = gateway.wait_for_access_line(answer.header("x-request-id").unwrap()).await;
    assert!(line["detail"].as_str().unwrap().contains("eu-x"), "{line}");
    assert_eq!(gateway.metric("circuit_breaker_opened_total{bucket=\"b\",class=\"read\"}").await, 0.0);
    // A 400 that names the gateway's own region has another cause.
    let same = Upstream::start(|_| UpstreamReply::status(400).header("x-amz-bucket-region", "us-east-1"));
    let gateway = Gateway::builder()
        .bucket("b", &same)
        .set("buckets.b.s3.access_key_id", "A")
        .set("buckets.b.s3.secret_access_key", "s")
        .start()
        .await;
    let answer = request(gateway.address(), "HEAD", "/b/k", &[], None).await;
    assert_eq!((answer.complete_status(), answer.reason()), (400, ""));
}

/// E4: the error for invalid upstream bytes quotes them shortened and as plain text
#[tokio::test]
async fn quoted_upstream_bytes_are_shortened_and_sanitised() {
    let garbage = format!("\u{1b}[31m\u{1}{}\r\n\r\n", "<x>&\u{7f}".repeat(2000));
    for answer in [garbage.clone(), format!("HTTP/1.1 {garbage}"), format!("HTTP/1.1 200 OK\r\n{garbage}")] {
        let upstream = Upstream::start(move |_| UpstreamReply::raw(answer.as_bytes()));
        let gateway = Gateway::in_front_of(&upstream).await;
        let refused = request(gateway.address(), "POST", "/b/k", &[], Some(b"")).await;
        assert_eq!(refused.complete_status(), 502, "{}", refused.text());
        let text = refused.text();
        let message =
            text.split_once("<Message>").and_then(|(_, rest)| rest.split_once("</Message>")).unwrap().0;
        assert!(!message.is_empty() && message.chars().count() <= 500, "{message}");
        assert!(!message.contains(char::is_control) && !message.contains(['<', '\u{fffd}']), "{message}");
    }
}
