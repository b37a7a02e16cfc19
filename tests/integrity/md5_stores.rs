//! A store that requires `Content-MD5` for documents (`content_md5 = "add"`), and clients that send a newer checksum or
//! none.

use super::{checksums, code, content_md5, unsigned_chunks};
use crate::support::client::message;
use crate::support::{Client, Gateway, Response, SeenRequest, Upstream, UpstreamReply, gateway, request};

/// Refuses documents for which S3 requires a digest, without a correct `Content-MD5`. Like such stores, it supports no
/// other digest.
fn store() -> Upstream {
    Upstream::start(|seen: &SeenRequest| match seen.headers_named("content-md5").as_slice() {
        [] => UpstreamReply::s3_error(400, "InvalidRequest"),
        [digest] if *digest == content_md5(&seen.body) => UpstreamReply::ok("taken"),
        _ => UpstreamReply::s3_error(400, "BadDigest"),
    })
}

fn adding(store: &Upstream) -> gateway::Builder {
    Gateway::builder().bucket("b", store).set("buckets.b.s3.content_md5", "add")
}

const DOCUMENTS: [(&str, &str); 12] = [
    ("POST", "/b?delete"),
    ("PUT", "/b?lifecycle"),
    ("PUT", "/b?tagging"),
    ("PUT", "/b/k?tagging"),
    ("PUT", "/b/k?versionId=7&tagging="),
    ("PUT", "/b?object-lock"),
    ("PUT", "/b/k?retention"),
    ("PUT", "/b/k?legal-hold"),
    ("PUT", "/b?cors"),
    ("PUT", "/b?policy"),
    ("PUT", "/b?acl"),
    ("PUT", "/b?versioning"),
];

async fn send(gateway: &Gateway, (method, target): (&str, &str), headers: &[(&str, &str)]) -> Response {
    request(gateway.address(), method, target, headers, Some(b"<Document/>")).await
}

/// I1: with the setting each listed document reaches such a store, with the headers of current SDKs; without it, it
/// does not
#[tokio::test]
async fn the_listed_documents_get_a_digest() {
    let store = store();
    let (adds, passes) = (adding(&store).start().await, Gateway::in_front_of(&store).await);
    let (name, crc) = &checksums(b"<Document/>")[0];
    for document in DOCUMENTS {
        let with_crc = [(*name, crc.as_str()), ("x-amz-sdk-checksum-algorithm", "CRC32")];
        for headers in [&[][..], &with_crc[..]] {
            let answer = send(&adds, document, headers).await;
            assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "taken"), "{document:?}");
            assert_eq!(store.last().header(name), headers.first().map(|(_, crc)| *crc), "{document:?}");
            assert_eq!(send(&passes, document, headers).await.complete_status(), 400, "{document:?}");
        }
    }
}

/// I1: a client's own digest is verified and kept; a wrong one is refused
#[tokio::test]
async fn a_clients_own_digest_is_kept() {
    let store = store();
    let gateway = adding(&store).start().await;
    let own = content_md5(b"<Document/>");
    assert_eq!(send(&gateway, DOCUMENTS[0], &[("content-md5", &own)]).await.complete_status(), 200);
    assert_eq!(store.last().headers_named("content-md5"), [own.as_str()]);
    let answer = send(&gateway, DOCUMENTS[0], &[("content-md5", &content_md5(b"other"))]).await;
    assert_eq!((answer.complete_status(), answer.reason()), (400, "md5_mismatch"));
    let (name, _) = checksums(b"")[0];
    let answer = send(&gateway, DOCUMENTS[1], &[(name, "AAAAAA==")]).await;
    assert_eq!((answer.complete_status(), answer.reason()), (400, "checksum_mismatch"));
    assert_eq!(store.count(), 1);
}

/// I1: the digest of a chunked document is computed from its decoded bytes
#[tokio::test]
async fn a_document_in_chunks_gets_a_digest() {
    let store = store();
    let gateway = adding(&store)
        .set("buckets.b.s3.access_key_id", "key")
        .set("buckets.b.s3.secret_access_key", "secret")
        .start()
        .await;
    let document = "<Delete><Object><Key>a</Key></Object></Delete>".repeat(3_000);
    let (name, value) = &checksums(document.as_bytes())[0];
    let length = document.len().to_string();
    let headers = [
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("x-amz-decoded-content-length", length.as_str()),
        ("x-amz-trailer", name),
        ("content-encoding", "aws-chunked"),
    ];
    let body = unsigned_chunks(document.as_bytes(), 40_000, &format!("{name}:{value}\r\n"));
    let answer = request(gateway.address(), "POST", "/b?delete", &headers, Some(&body)).await;
    assert_eq!(answer.complete_status(), 200, "{}", answer.text());
    let seen = store.last();
    assert_eq!((seen.body.len(), seen.header(name)), (document.len(), Some(value.as_str())));
    assert!(!seen.header("authorization").unwrap().is_empty());
}

/// I1, M3: a document up to 2 MiB is buffered for its digest, a longer one is streamed without; objects never get one
#[tokio::test]
async fn only_buffered_documents_get_a_digest() {
    let store = store();
    let gateway = adding(&store).start().await;
    for (bytes, status) in [(65_537, 200), (2 << 20, 200), ((2 << 20) + 1, 400)] {
        let answer = request(gateway.address(), "POST", "/b?delete", &[], Some(&vec![b'x'; bytes])).await;
        assert_eq!((answer.complete_status(), answer.reason()), (status, ""), "{bytes}");
        assert_eq!(store.last().body.len(), bytes);
    }
    for (method, target) in
        [("PUT", "/b/tagging"), ("PUT", "/b/k?partNumber=1&uploadId=7"), ("POST", "/b/k?uploadId=7")]
    {
        let answer = request(gateway.address(), method, target, &[], Some(b"data")).await;
        assert_eq!((answer.complete_status(), code(&answer).as_str()), (400, "InvalidRequest"), "{target}");
        assert_eq!(store.last().header("content-md5"), None, "{target}");
    }
    // Of unknown length, so it is streamed.
    let mut client = Client::connect(gateway.address()).await;
    client
        .send("POST /b?delete HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
        .await;
    assert_eq!(client.response("POST").await.complete_status(), 400);
    assert_eq!(store.last().body, b"x");
    client.send(message("PUT", "/b?tagging", &[], Some(b"x"))).await;
    assert_eq!(client.response("PUT").await.complete_status(), 200);
}
