//! Uploads that do not match their hashes store nothing.

use super::{checksums, code, content_md5, forged_chunks, random_bytes, unsigned_chunks};
use crate::support::client::{message, sha256};
use crate::support::{Client, Gateway, Response, Upstream, UpstreamReply, get, request, wait_until};

/// Sizes below and above the limit for buffering.
const SIZES: [usize; 2] = [1000, 300_000];

async fn put(gateway: &Gateway, headers: &[(&str, &str)], body: &[u8]) -> Response {
    request(gateway.address(), "PUT", "/demo/o", headers, Some(body)).await
}

/// I1, A1: a wrong hash of any kind is S3's own error, and stores no object; the right one stores it
#[tokio::test]
async fn a_wrong_hash_stores_nothing() {
    let gateway = Gateway::builder().start().await;
    for size in SIZES {
        let (data, other) = (random_bytes(size), random_bytes(size + 1));
        let mut cases = vec![
            ("content-md5", content_md5(&data), content_md5(&other), "BadDigest"),
            ("x-amz-content-sha256", sha256(&data), sha256(&other), "XAmzContentSHA256Mismatch"),
        ];
        for ((name, right), (_, wrong)) in checksums(&data).into_iter().zip(checksums(&other)) {
            cases.push((name, right, wrong, "BadDigest"));
        }
        for (name, right, wrong, expected) in cases {
            let refused = put(&gateway, &[(name, &wrong)], &data).await;
            assert_eq!(
                (refused.complete_status(), code(&refused).as_str()),
                (400, expected),
                "{name} of {size}"
            );
            assert_eq!(get(gateway.address(), "/demo/o").await.complete_status(), 404, "{name} of {size}");
            let stored = put(&gateway, &[(name, &right)], &data).await;
            assert_eq!(stored.complete_status(), 200, "{name} of {size}: {}", stored.text());
            assert_eq!(get(gateway.address(), "/demo/o").await.sha256(), sha256(&data));
            request(gateway.address(), "DELETE", "/demo/o", &[], None).await;
        }
    }
    gateway.wait_until_idle().await;
}

/// I1, V8: a malformed hash is refused with its header's name before the body is forwarded
#[tokio::test]
async fn a_malformed_hash_is_refused() {
    let upstream = Upstream::ok("stored");
    let gateway = Gateway::in_front_of(&upstream).await;
    for (name, value, status, expected) in [
        ("content-md5", "not base64", 400, "InvalidDigest"),
        ("content-md5", "AAAA", 400, "InvalidDigest"),
        ("x-amz-checksum-crc32", "AAAA", 400, "InvalidRequest"),
        ("x-amz-checksum-sha256", "x", 400, "InvalidRequest"),
        ("x-amz-checksum-sha512", "AAAA", 400, "InvalidRequest"),
        ("x-amz-checksum-md5", "AAAA", 400, "InvalidRequest"),
        ("x-amz-checksum-xxhash64", "y/Q5Jg==", 400, "InvalidRequest"),
        ("x-amz-checksum-xxhash3", "", 400, "InvalidRequest"),
        ("x-amz-checksum-xxhash128", "AAAAAAAAAAA=", 400, "InvalidRequest"),
        ("x-amz-content-sha256", "abc", 400, "InvalidArgument"),
        ("x-amz-content-sha256", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", 501, "NotImplemented"),
        ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", 411, "MissingContentLength"),
    ] {
        let answer =
            request(gateway.address(), "PUT", "/b/k", &[(name, value)], Some(&random_bytes(300_000))).await;
        assert_eq!((answer.complete_status(), code(&answer).as_str()), (status, expected), "{name}: {value}");
        assert!(!answer.reason().is_empty());
    }
    let crc = [("x-amz-checksum-crc32", "AAAAAA=="), ("x-amz-checksum-crc32c", "AAAAAA==")];
    let answer = request(gateway.address(), "PUT", "/b/k", &crc, Some(b"x")).await;
    assert_eq!((answer.complete_status(), code(&answer).as_str()), (400, "InvalidRequest"));
    assert_eq!(upstream.count(), 0);
}

/// I1, T7: the last bytes of a large body with a wrong hash are never sent, and the upstream connection is closed
#[tokio::test]
async fn a_wrong_upload_is_cut_and_its_connection_closed() {
    let upstream = Upstream::ok("stored");
    let gateway = Gateway::in_front_of(&upstream).await;
    let data = random_bytes(3_000_000);
    let headers = [("x-amz-checksum-crc32c", "AAAAAA==")];
    let answer = request(gateway.address(), "PUT", "/b/k", &headers, Some(&data)).await;
    assert_eq!((answer.complete_status(), answer.reason()), (400, "checksum_mismatch"));
    wait_until("the upload's connection is closed", || upstream.open_connections() == 0).await;
    let seen = upstream.last();
    assert!(!seen.is_complete && seen.body.len() < data.len(), "{} bytes came", seen.body.len());
    assert_eq!(upstream.count(), 1, "it is not retried");
    let line = gateway.wait_for_access_line(answer.header("x-request-id").unwrap()).await;
    assert_eq!(line["reason"], "checksum_mismatch");
    gateway.wait_until_idle().await;
}

/// I1: without a length the chunked transfer is left without its end
#[tokio::test]
async fn a_wrong_chunked_transfer_is_left_without_its_end() {
    let upstream = Upstream::ok("stored");
    let gateway = Gateway::in_front_of(&upstream).await;
    let data = random_bytes(200_000);
    let mut client = Client::connect(gateway.address()).await;
    let wrong = content_md5(b"other");
    let head =
        format!("PUT /b/k HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-md5: {wrong}\r\n\r\n");
    client.send(head).await;
    client.send(format!("{:x}\r\n", data.len())).await;
    client.send(&data).await;
    client.send("\r\n0\r\n\r\n").await;
    let answer = client.response("PUT").await;
    assert_eq!((answer.complete_status(), code(&answer).as_str()), (400, "BadDigest"));
    wait_until("the upload has arrived", || upstream.count() == 1).await;
    wait_until("the upload's connection is closed", || upstream.open_connections() == 0).await;
    assert!(!upstream.last().is_complete);
}

/// A1, I1: a trailing checksum is verified with chunks of any size; a mismatch stores nothing
#[tokio::test]
async fn a_trailing_checksum_is_verified() {
    let gateway = Gateway::builder().start().await;
    for size in SIZES {
        let (data, other) = (random_bytes(size), random_bytes(size + 1));
        for ((name, right), (_, wrong)) in checksums(&data).into_iter().zip(checksums(&other)) {
            let headers = [
                ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
                ("x-amz-decoded-content-length", &size.to_string()),
                ("x-amz-trailer", name),
                ("content-encoding", "aws-chunked"),
            ];
            for (chunk, value, expected) in
                [(777, &wrong, Some("BadDigest")), (100_000, &right, None), (777, &right, None)]
            {
                let body = unsigned_chunks(&data, chunk, &format!("{name}:{value}\r\n"));
                let answer = put(&gateway, &headers, &body).await;
                let got = get(gateway.address(), "/demo/o").await;
                match expected {
                    Some(expected) => {
                        assert_eq!(
                            (answer.complete_status(), code(&answer).as_str()),
                            (400, expected),
                            "{name}"
                        );
                        assert_eq!(got.complete_status(), 404);
                    }
                    None => {
                        assert_eq!(answer.complete_status(), 200, "{name}: {}", answer.text());
                        assert_eq!((got.complete_status(), got.sha256()), (200, sha256(&data)));
                        assert_eq!(got.header("content-encoding"), None);
                    }
                }
            }
            request(gateway.address(), "DELETE", "/demo/o", &[], None).await;
        }
    }
}

/// A1: inconsistent framing is S3's own error, and stores nothing
#[tokio::test]
async fn broken_framing_stores_nothing() {
    let gateway = Gateway::builder().start().await;
    let crc = "x-amz-checksum-crc32";
    for size in SIZES {
        let data = random_bytes(size);
        let line = format!("{crc}:{}\r\n", checksums(&data)[0].1);
        let whole = unsigned_chunks(&data, 70_000, &line);
        let cases = [
            (whole.clone(), size + 1, "IncompleteBody"),
            (whole.clone(), size - 1, "IncompleteBody"),
            (whole[..whole.len() - 2].to_vec(), size, "MalformedTrailerError"),
            (unsigned_chunks(&data, 70_000, ""), size, "MalformedTrailerError"),
            (unsigned_chunks(&data, 70_000, "x-amz-meta-a: b\r\n"), size, "MalformedTrailerError"),
            (unsigned_chunks(&data, 70_000, &format!("{crc}:AA\r\n")), size, "InvalidRequest"),
            (data.clone(), size, "IncompleteBody"),
        ];
        for (body, length, expected) in cases {
            let headers = [
                ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
                ("x-amz-decoded-content-length", &length.to_string()),
                ("x-amz-trailer", crc),
            ];
            let answer = put(&gateway, &headers, &body).await;
            assert_eq!((answer.complete_status(), code(&answer).as_str()), (400, expected), "{size}");
            assert_eq!(get(gateway.address(), "/demo/o").await.complete_status(), 404);
        }
    }
    gateway.wait_until_idle().await;
}

/// A1: in an open bucket chunk signatures cannot be verified; framing and checksums are verified, and the data is
/// stored
#[tokio::test]
async fn an_open_bucket_accepts_signed_chunks_by_their_framing() {
    let gateway = Gateway::builder().start().await;
    for size in SIZES {
        let data = random_bytes(size);
        let length = size.to_string();
        let headers = [
            ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
            ("x-amz-decoded-content-length", length.as_str()),
            ("content-encoding", "aws-chunked,identity"),
        ];
        let answer = put(&gateway, &headers, &forged_chunks(&data, 65_536)).await;
        assert_eq!(answer.complete_status(), 200, "{}", answer.text());
        let got = get(gateway.address(), "/demo/o").await;
        assert_eq!((got.complete_status(), got.sha256()), (200, sha256(&data)));
        let md5 = content_md5(b"other");
        let wrong = [headers[0], headers[1], ("content-md5", &md5)];
        let answer = put(&gateway, &wrong, &forged_chunks(&data, 65_536)).await;
        assert_eq!((answer.complete_status(), code(&answer).as_str()), (400, "BadDigest"));
    }
}

/// A1, V2: 10,000 fuzzed chunk streams: no panic, no 5xx, and no altered data is stored
#[tokio::test]
async fn fuzzed_chunk_streams_are_refused() {
    let upstream = Upstream::start(|seen| {
        assert_eq!(seen.body, random_bytes(200));
        UpstreamReply::ok("stored")
    });
    let gateway = Gateway::in_front_of(&upstream).await;
    let data = random_bytes(200);
    let line = format!("x-amz-checksum-crc32:{}\r\n", checksums(&data)[0].1);
    let right = unsigned_chunks(&data, 70, &line);
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below
    };
    let headers = [
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("x-amz-decoded-content-length", "200"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
    ];
    let mut refused = 0;
    let mut client = Client::connect(gateway.address()).await;
    for round in 0..10_000 {
        let mut body = right.clone();
        for _ in 0..=random(2) {
            let at = random(body.len());
            match random(4) {
                0 => body.truncate(at.max(1)),
                1 => body.insert(at, b"\r\n0;:a"[random(6)]),
                2 => drop(body.remove(at)),
                _ => body[at] = u8::try_from(random(256)).unwrap(),
            }
        }
        client.send(message("PUT", "/b/k", &headers, Some(&body))).await;
        let answer = client.response("PUT").await;
        match answer.complete_status() {
            200 => {}
            400 => {
                refused += 1;
                client = Client::connect(gateway.address()).await;
            }
            other => panic!("round {round}: {other} {}", answer.text()),
        }
    }
    assert!(refused > 9_000, "only {refused} were refused: the fuzzer has no effect");
    gateway.wait_until_idle().await;
}

/// I1, A1: the payload hash in a presigned URL's query is verified like the header. Checksums that SDKs move into the
/// query are forwarded unverified, because the JavaScript SDK presigns the checksum of an empty body
#[tokio::test]
async fn the_payload_hash_in_a_presigned_query_is_verified() {
    let upstream = Upstream::ok("stored");
    let gateway = Gateway::in_front_of(&upstream).await;
    for size in [1000, 200_000] {
        let data = random_bytes(size);
        let hash = |value: &str| format!("/b/k?X-Amz-Content-Sha256={value}");
        let right = request(gateway.address(), "PUT", &hash(&sha256(&data)), &[], Some(&data)).await;
        assert_eq!(right.complete_status(), 200);
        let wrong = request(gateway.address(), "PUT", &hash(&sha256(b"other")), &[], Some(&data)).await;
        assert_eq!((wrong.complete_status(), wrong.reason()), (400, "sha256_mismatch"));
        let of_nothing = "/b/k?x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32";
        let answer = request(gateway.address(), "PUT", of_nothing, &[], Some(&data)).await;
        assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "stored"));
        let seen = upstream.last();
        assert_eq!((seen.target.as_str(), seen.sha256()), (of_nothing, sha256(&data)));
    }
}
