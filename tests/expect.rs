//! `Expect: 100-continue`: a refusal replaces the 100, and the 100 is sent after all guards have admitted the request.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;

use crate::support::{Client, Gateway, Response, Upstream, UpstreamReply, request};

const HEAD: &str = "PUT /b/k HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 70000\r\n";

async fn first_status(gateway: &Gateway, head: &str) -> (Client, u16) {
    let mut client = Client::connect(gateway.address()).await;
    client.send(format!("{head}\r\n")).await;
    let status = client.head().await.status;
    (client, status)
}

/// E1, V2, P3, L1, B2: 413, 429, 503 and 403 replace the 100, complete, and nothing reaches the upstream
#[tokio::test]
async fn a_refusal_replaces_the_100() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .bucket("slow", &upstream)
        .set("buckets.b.max_request_size", "1000")
        .set("buckets.closed.s3.endpoints", &format!("http://{}", upstream.address()))
        .set("buckets.slow.rate_limit.requests_per_second", "0.001")
        .set("buckets.slow.rate_limit.burst", "1")
        .start()
        .await;
    assert_eq!(gateway.get("/slow/k").await.complete_status(), 200);
    let before = upstream.count();
    for (name, status, reason) in [
        ("b", 413, "body_too_large"),
        ("closed", 403, "bucket_closed"),
        ("slow", 429, "rate_limit_bucket"),
        ("nobody", 404, "no_such_bucket"),
    ] {
        let mut client = Client::connect(gateway.address()).await;
        client.send(format!("{}\r\n", HEAD.replace("/b/", &format!("/{name}/")))).await;
        let answer = client.response("PUT").await;
        assert_eq!((answer.complete_status(), answer.reason()), (status, reason));
        assert!(answer.text().contains("<Error>"), "{}", answer.text());
        let id = answer.header("x-request-id").unwrap();
        assert_eq!(gateway.wait_for_access_line(id).await["reason"], reason);
        assert!(client.is_closed().await, "a body that was not asked for must not be read as a request");
    }
    assert_eq!(upstream.count(), before);
    gateway.wait_until_idle().await;
}

/// Sends a head that expects a 100; returns the answer in its place.
async fn refused(gateway: &Gateway, lines: &[(&str, &str)]) -> Response {
    let mut client = Client::connect(gateway.address()).await;
    let lines: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    client.send(format!("PUT /b/k HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n{lines}\r\n")).await;
    let mut answer = client.head().await;
    if answer.status != 100 {
        client.body(&mut answer, "PUT").await;
        assert!(client.is_closed().await, "a body that was not asked for must not be read as a request");
    }
    answer
}

/// V2: the size limit applies to the object without its framing, and both lengths are known before the 100
#[tokio::test]
async fn the_limit_counts_the_objects_own_bytes() {
    let upstream = Upstream::ok("x");
    let gateway =
        Gateway::builder().bucket("b", &upstream).set("buckets.b.max_request_size", "1000").start().await;
    let chunked = |decoded: &'static str, length: &'static str| {
        [
            ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            ("x-amz-decoded-content-length", decoded),
            ("x-amz-trailer", "x-amz-checksum-crc32"),
            ("content-length", length),
        ]
    };
    let answer = refused(&gateway, &chunked("1001", "900")).await;
    assert_eq!((answer.status, answer.reason()), (413, "body_too_large"));
    assert_eq!(refused(&gateway, &chunked("1000", "1090")).await.status, 100);
    // A false length is found while the chunks arrive: here one byte too many, in chunks of one byte each.
    let body = "1\r\nx\r\n".repeat(1001) + "0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n";
    let headers = &chunked("1000", "")[..3];
    let answer = request(gateway.address(), "PUT", "/b/k", headers, Some(body.as_bytes())).await;
    assert_eq!((answer.complete_status(), answer.reason()), (400, "decoded_length"));
    let mut crc = crc_fast::Digest::new(CrcAlgorithm::Crc32IsoHdlc);
    crc.update(&[b'x'; 1000]);
    let crc = STANDARD.encode(&crc.finalize().to_be_bytes()[4..]);
    let body = "1\r\nx\r\n".repeat(1000) + &format!("0\r\nx-amz-checksum-crc32:{crc}\r\n\r\n");
    assert!(body.len() > 6000);
    let answer = request(gateway.address(), "PUT", "/b/k", headers, Some(body.as_bytes())).await;
    assert_eq!(answer.complete_status(), 200, "{}", answer.text());
    assert_eq!((upstream.count(), upstream.last().body.len()), (1, 1000));
    gateway.wait_until_idle().await;
}

/// I1, A1: a head with an invalid description of its body is refused with S3's code before the 100
#[tokio::test]
async fn an_invalid_body_description_is_refused_before_the_100() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let length = ("content-length", "70000");
    let trailed = ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER");
    let decoded = ("x-amz-decoded-content-length", "60000");
    let algorithm = |word| ("x-amz-sdk-checksum-algorithm", word);
    for (more, status, code) in [
        (vec![("content-md5", "nonsense")], 400, "InvalidDigest"),
        (vec![("content-md5", "JfnnlDI7RTiF9RgfG2JNCw=="); 2], 400, "InvalidDigest"),
        (vec![("x-amz-checksum-crc32", "AAAA")], 400, "InvalidRequest"),
        (
            vec![("x-amz-checksum-crc32", "AAAAAA=="), ("x-amz-checksum-crc32c", "AAAAAA==")],
            400,
            "InvalidRequest",
        ),
        (vec![algorithm("CRC32")], 400, "InvalidRequest"),
        (vec![algorithm("CRC32"), ("x-amz-checksum-crc32c", "AAAAAA==")], 400, "InvalidRequest"),
        (vec![("x-amz-trailer", "x-amz-meta-a"), trailed, decoded], 400, "InvalidRequest"),
        (vec![trailed, decoded], 400, "MalformedTrailerError"),
        (vec![trailed, ("x-amz-trailer", "x-amz-checksum-crc32")], 411, "MissingContentLength"),
        (vec![("x-amz-content-sha256", "STREAMING-NONSENSE")], 400, "InvalidArgument"),
    ] {
        let lines: Vec<_> = more.iter().copied().chain([length]).collect();
        let answer = refused(&gateway, &lines).await;
        assert_eq!(answer.status, status, "{more:?}");
        assert!(answer.text().contains(&format!("<Code>{code}</Code>")), "{more:?}: {}", answer.text());
    }
    assert_eq!(upstream.count(), 0);
    let right = [length, algorithm("crc32"), ("x-amz-checksum-crc32", "AAAAAA==")];
    assert_eq!(refused(&gateway, &right).await.status, 100);
    gateway.wait_until_idle().await;
}

/// R3, T7: the 100 is sent when a permit is acquired, then the body is forwarded, and the permit is released in the end
#[tokio::test]
async fn the_100_is_sent_once_admitted() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let (mut client, status) = first_status(&gateway, HEAD).await;
    assert_eq!(status, 100);
    client.send(vec![b'x'; 70_000]).await;
    assert_eq!(client.response("PUT").await.complete_status(), 200);
    let seen = upstream.seen();
    assert_eq!((seen.len(), seen[0].body.len()), (1, 70_000));
    assert_eq!(seen[0].header("expect"), None, "the gateway answers it itself");
    let id = seen[0].header("x-request-id").unwrap().to_owned();
    assert_eq!(gateway.wait_for_access_line(&id).await["status"], 200);
    gateway.wait_until_idle().await;
}

/// P4, T7: a client that disconnects after its 100 releases its permit
#[tokio::test]
async fn a_disconnect_after_the_100_releases_the_permit() {
    let upstream = Upstream::start(|_| UpstreamReply::hang());
    let gateway = Gateway::in_front_of(&upstream).await;
    let (client, status) = first_status(&gateway, HEAD).await;
    assert_eq!(status, 100);
    client.reset();
    gateway.wait_until_idle().await;
    assert_eq!(gateway.get("/-/livez").await.complete_status(), 200);
}

/// M3: an SDK that announces an empty object waits for the 100 too; without it, it misparses the answer to its next
/// request
#[tokio::test]
async fn an_empty_object_gets_its_100() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let mut client = Client::connect(gateway.address()).await;
    for _ in 0..2 {
        client.send(format!("{}\r\n", HEAD.replace("70000", "0"))).await;
        assert_eq!(client.head().await.status, 100);
        assert_eq!(client.response("PUT").await.complete_status(), 200);
    }
    assert_eq!((upstream.count(), upstream.last().body.len()), (2, 0));
}

/// E1, V10, A1: a form is refused by its head before the 100; for its fields it gets the 100 and holds no slot
#[tokio::test]
async fn a_form_gets_its_100_for_its_fields() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.closed.s3.endpoints", &format!("http://{}", upstream.address()))
        .start()
        .await;
    let body = "--x\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n\
        --x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\ndata\r\n--x--\r\n";
    let head = |bucket: &str| {
        format!(
            "POST /{bucket} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n\
             content-type: multipart/form-data; boundary=x\r\ncontent-length: {}\r\n",
            body.len()
        )
    };
    let (_, status) = first_status(&gateway, &head("closed")).await;
    assert_eq!(status, 403);
    let (mut client, status) = first_status(&gateway, &head("b")).await;
    assert_eq!(status, 100);
    assert_eq!(gateway.metric("requests_in_flight").await, 0.0);
    client.send(body).await;
    assert_eq!(client.response("POST").await.complete_status(), 204);
    assert_eq!((upstream.count(), upstream.last().method.as_str()), (1, "PUT"));
    gateway.wait_until_idle().await;
}
