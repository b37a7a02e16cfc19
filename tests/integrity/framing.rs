//! Chunked uploads are sent to the store in each of the framings.

use super::{checksums, forged_chunks, random_bytes, unsigned_chunks};
use crate::support::client::sha256;
use crate::support::{Gateway, Scratch, SeenRequest, Upstream, gateway, get, request};

const CRC: &str = "x-amz-checksum-crc32";
const SIZE: usize = 200_000;

fn framing(builder: gateway::Builder, word: &str) -> gateway::Builder {
    builder
        .set("buckets.b.s3.access_key_id", "key")
        .set("buckets.b.s3.secret_access_key", "secret")
        .set("buckets.b.s3.upload_framing", word)
}

/// Uploads data with a trailing checksum; returns the upstream's request.
async fn seen(word: &str, trailed: bool) -> SeenRequest {
    let upstream = Upstream::ok("stored");
    let gateway = framing(Gateway::builder().bucket("b", &upstream), word).start().await;
    let data = random_bytes(SIZE);
    let length = SIZE.to_string();
    let (form, body) = if trailed {
        let line = format!("{CRC}:{}\r\n", checksums(&data)[0].1);
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", unsigned_chunks(&data, 50_000, &line))
    } else {
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", forged_chunks(&data, 50_000))
    };
    let mut headers = vec![
        ("x-amz-content-sha256", form),
        ("x-amz-decoded-content-length", &length),
        ("content-encoding", "gzip, aws-chunked"),
    ];
    if trailed {
        headers.extend([("x-amz-trailer", CRC), ("x-amz-sdk-checksum-algorithm", "CRC32")]);
    }
    let answer = request(gateway.address(), "PUT", "/b/k", &headers, Some(&body)).await;
    assert_eq!(answer.complete_status(), 200, "{word}: {}", answer.text());
    upstream.last()
}

/// A1: the headers of each framing describe exactly that framing
#[tokio::test]
async fn every_framing_matches_its_headers() {
    let signed = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
    let signed_trailer = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
    let unsigned_trailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
    for (word, trailed, form, has_trailer) in [
        ("signed_chunks", true, signed, false),
        ("signed_chunks", false, signed, false),
        ("signed_chunks_trailer", true, signed_trailer, true),
        ("signed_chunks_trailer", false, signed, false),
        ("unsigned", true, "UNSIGNED-PAYLOAD", false),
        ("unsigned", false, "UNSIGNED-PAYLOAD", false),
        ("unsigned_trailer", true, unsigned_trailer, true),
        ("unsigned_trailer", false, "UNSIGNED-PAYLOAD", false),
    ] {
        let seen = seen(word, trailed).await;
        assert_eq!(seen.header("x-amz-content-sha256"), Some(form), "{word}");
        assert_eq!(seen.headers_named("content-encoding"), ["gzip"], "{word}");
        assert_eq!(seen.header("x-amz-trailer"), has_trailer.then_some(CRC), "{word}");
        let algorithm = seen.header("x-amz-sdk-checksum-algorithm");
        assert_eq!(algorithm, has_trailer.then_some("CRC32"), "{word}");
        let is_framed = form != "UNSIGNED-PAYLOAD";
        let decoded = seen.header("x-amz-decoded-content-length");
        assert_eq!(decoded, is_framed.then_some(SIZE.to_string().as_str()), "{word}");
        assert_eq!(seen.body.starts_with(b"10000"), is_framed, "{word}");
        let chunks = seen.body.windows(17).filter(|window| *window == b";chunk-signature=").count();
        assert_eq!(chunks, if form.contains("HMAC") { 5 } else { 0 }, "{word}");
        if !is_framed {
            assert_eq!(seen.sha256(), sha256(&random_bytes(SIZE)), "{word}");
        }
    }
}

/// A1, A2: a server that verifies every signature accepts each framing, and stores the data
#[tokio::test]
async fn a_real_server_accepts_every_framing() {
    let directory = Scratch::new();
    let origin = tidegate::origin::start(directory.path(), "real").unwrap();
    let data = random_bytes(1_000_003);
    for word in ["signed_chunks", "signed_chunks_trailer", "unsigned", "unsigned_trailer"] {
        let gateway = framing(Gateway::builder().bucket_at("b", &[origin.address]), word)
            .set("buckets.b.s3.bucket", "real")
            .set("buckets.b.s3.access_key_id", &origin.access_key_id)
            .set("buckets.b.s3.secret_access_key", &origin.secret_access_key)
            .start()
            .await;
        let headers = [
            ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            ("x-amz-decoded-content-length", "1000003"),
            ("x-amz-trailer", CRC),
        ];
        let line = format!("{CRC}:{}\r\n", checksums(&data)[0].1);
        let body = unsigned_chunks(&data, 123_457, &line);
        let path = format!("/b/{word}");
        let answer = request(gateway.address(), "PUT", &path, &headers, Some(&body)).await;
        assert_eq!(answer.complete_status(), 200, "{word}: {}", answer.text());
        assert_eq!(get(gateway.address(), &path).await.sha256(), sha256(&data), "{word}");
    }
}

/// A1: a small body is verified before the upstream is called, and its trailing checksum becomes a header
#[tokio::test]
async fn a_small_body_is_sent_plain_with_its_checksum() {
    let upstream = Upstream::ok("stored");
    let gateway = framing(Gateway::builder().bucket("b", &upstream), "signed_chunks").start().await;
    let data = random_bytes(60_000);
    let (_, crc) = &checksums(&data)[0];
    let headers = [
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("x-amz-decoded-content-length", "60000"),
        ("x-amz-trailer", CRC),
        ("content-encoding", "aws-chunked"),
    ];
    let body = unsigned_chunks(&data, 999, &format!("{CRC}:{crc}\r\n"));
    assert_eq!(request(gateway.address(), "PUT", "/b/k", &headers, Some(&body)).await.complete_status(), 200);
    let seen = upstream.last();
    assert_eq!((seen.sha256(), seen.header("content-length")), (sha256(&data), Some("60000")));
    assert_eq!(seen.header("x-amz-content-sha256"), Some(sha256(&data).as_str()));
    assert_eq!(seen.header(CRC), Some(crc.as_str()));
    for gone in ["x-amz-trailer", "x-amz-decoded-content-length", "content-encoding"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
    let wrong = unsigned_chunks(&data, 999, &format!("{CRC}:AAAAAA==\r\n"));
    assert_eq!(
        request(gateway.address(), "PUT", "/b/k", &headers, Some(&wrong)).await.complete_status(),
        400
    );
    assert_eq!(upstream.count(), 1);
}

/// A1: without upstream credentials the data is sent without chunk framing
#[tokio::test]
async fn without_credentials_the_data_is_sent_plain() {
    let upstream = Upstream::ok("stored");
    let gateway = Gateway::in_front_of(&upstream).await;
    let data = random_bytes(SIZE);
    let length = SIZE.to_string();
    let headers = [
        ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
        ("x-amz-decoded-content-length", length.as_str()),
    ];
    let body = forged_chunks(&data, 10_000);
    assert_eq!(request(gateway.address(), "PUT", "/b/k", &headers, Some(&body)).await.complete_status(), 200);
    let seen = upstream.last();
    assert_eq!((seen.sha256(), seen.header("content-length")), (sha256(&data), Some(length.as_str())));
    assert_eq!(seen.header("x-amz-content-sha256"), Some("UNSIGNED-PAYLOAD"));
    assert_eq!(seen.header("x-amz-decoded-content-length"), None);
}

/// A1, I1: an unsigned trailer needs no key, so it is forwarded to an upstream without credentials
#[tokio::test]
async fn an_unsigned_trailer_is_forwarded_without_credentials() {
    let upstream = Upstream::ok("stored");
    let builder = Gateway::builder().bucket("b", &upstream);
    let gateway = builder.set("buckets.b.s3.upload_framing", "unsigned_trailer").start().await;
    let data = random_bytes(SIZE);
    let crc = &checksums(&data)[0].1;
    let length = SIZE.to_string();
    let headers = [
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("x-amz-decoded-content-length", length.as_str()),
        ("x-amz-trailer", CRC),
    ];
    let body = unsigned_chunks(&data, 50_000, &format!("{CRC}:{crc}\r\n"));
    assert_eq!(request(gateway.address(), "PUT", "/b/k", &headers, Some(&body)).await.complete_status(), 200);
    let seen = upstream.last();
    assert_eq!(seen.header("x-amz-content-sha256"), Some("STREAMING-UNSIGNED-PAYLOAD-TRAILER"));
    assert_eq!((seen.header("x-amz-trailer"), seen.header("authorization")), (Some(CRC), None));
    assert!(seen.body.ends_with(format!("0\r\n{CRC}:{crc}\r\n\r\n").as_bytes()));
}
