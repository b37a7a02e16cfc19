//! A store that refuses checksums (`checksums = "strip"`): the gateway verifies them and does not forward them.

use super::{checksums, code, content_md5, random_bytes, unsigned_chunks};
use crate::support::client::sha256;
use crate::support::gateway::ExitReport;
use crate::support::{
    Gateway, Scratch, SeenRequest, Upstream, UpstreamReply, gateway, get, request, wait_until,
};

/// Sizes below and above the limit for buffering.
const SIZES: [usize; 2] = [1000, 300_000];

/// Refuses a request with any checksum header or trailer, as stores without checksums do.
fn store() -> Upstream {
    Upstream::start(|seen| match is_free_of_checksums(seen) {
        true => UpstreamReply::ok("taken").header("etag", "\"e\""),
        false => UpstreamReply::s3_error(400, "InvalidArgument"),
    })
}

fn is_free_of_checksums(seen: &SeenRequest) -> bool {
    let is_of_checksum = |name: &str| {
        name.starts_with("x-amz-checksum-")
            || matches!(name, "x-amz-sdk-checksum-algorithm" | "x-amz-trailer")
    };
    let signed = seen.header("authorization").unwrap_or_default();
    let target = seen.target.to_ascii_lowercase();
    !seen.headers.iter().any(|(name, _)| is_of_checksum(name))
        && !signed.contains("checksum")
        && !target.contains("checksum")
        && !target.contains("x-amz-trailer")
        && !seen.body.windows(9).any(|window| window == b"<Checksum")
}

fn stripping(builder: gateway::Builder) -> gateway::Builder {
    builder.set("buckets.b.s3.checksums", "strip")
}

fn signed(store: &Upstream) -> gateway::Builder {
    stripping(Gateway::builder().bucket("b", store))
        .set("buckets.b.s3.access_key_id", "key")
        .set("buckets.b.s3.secret_access_key", "secret")
}

fn trailed<'a>(name: &'a str, length: &'a str) -> [(&'a str, &'a str); 4] {
    [
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("x-amz-decoded-content-length", length),
        ("x-amz-trailer", name),
        ("content-encoding", "aws-chunked"),
    ]
}

/// I1, A1: a checksum of each algorithm, as header and as trailer, is verified by the gateway and does not reach the
/// store
#[tokio::test]
async fn checksums_are_removed_after_verification() {
    let store = store();
    for framing in ["signed_chunks", "unsigned"] {
        let gateway = signed(&store).set("buckets.b.s3.upload_framing", framing).start().await;
        for size in SIZES {
            let (data, other) = (random_bytes(size), random_bytes(size + 1));
            let length = size.to_string();
            for ((name, right), (_, wrong)) in checksums(&data).into_iter().zip(checksums(&other)) {
                for (value, status) in [(&right, 200), (&wrong, 400)] {
                    let before = store.count();
                    let headers = [(name, value.as_str())];
                    let header = request(gateway.address(), "PUT", "/b/k", &headers, Some(&data)).await;
                    assert_eq!(header.complete_status(), status, "{name} of {size}: {}", header.text());
                    let body = unsigned_chunks(&data, 70_000, &format!("{name}:{value}\r\n"));
                    let headers = trailed(name, &length);
                    let trailer = request(gateway.address(), "PUT", "/b/k", &headers, Some(&body)).await;
                    assert_eq!(trailer.complete_status(), status, "{name} of {size}: {}", trailer.text());
                    if status == 400 {
                        assert_eq!(
                            (code(&header).as_str(), code(&trailer).as_str()),
                            ("BadDigest", "BadDigest")
                        );
                        wait_until("the uploads have ended", || store.in_flight() == 0).await;
                        assert!(
                            store.seen().iter().skip(before).all(|seen| !seen.is_complete),
                            "{name} was stored"
                        );
                    }
                }
            }
        }
    }
}

const KEPT: &str = "<PartNumber>1</PartNumber><ETag>\"e\"</ETag>";

/// A CompleteMultipartUpload with this many parts, each with `extra` beside its number and ETag.
fn completion(parts: usize, more: &str) -> String {
    let parts = format!("<Part>{KEPT}{more}</Part>").repeat(parts);
    format!("<?xml version=\"1.0\"?>\n<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>")
}

/// I1: every step of a multipart upload with checksums succeeds at such a store; digests of the changed document are
/// computed anew
#[tokio::test]
async fn a_multipart_upload_is_sent_without_checksums() {
    let store = store();
    let gateway = signed(&store).start().await;
    let send = async |method, target, headers: &[(&str, &str)], body: &[u8]| {
        let answer = request(gateway.address(), method, target, headers, Some(body)).await;
        assert_eq!(answer.complete_status(), 200, "{method} {target}: {}", answer.text());
        store.last()
    };
    let create = [("x-amz-checksum-algorithm", "SHA512"), ("x-amz-checksum-type", "COMPOSITE")];
    send("POST", "/b/k?uploads", &create, b"").await;
    let (name, value) = &checksums(b"part")[5];
    let part = [(*name, value.as_str()), ("x-amz-sdk-checksum-algorithm", "SHA512")];
    send("PUT", "/b/k?partNumber=1&uploadId=7", &part, b"part").await;
    let checksum = format!("<ChecksumSHA512>{value}</ChecksumSHA512>");
    let given = [
        ("x-amz-checksum-crc64nvme", "rosUhgp5mIg="),
        ("x-amz-checksum-type", "FULL_OBJECT"),
        ("x-amz-mp-object-size", "4"),
    ];
    for parts in [1, 10_000] {
        let (document, kept) = (completion(parts, &checksum), completion(parts, ""));
        let (hash, md5) = (sha256(document.as_bytes()), content_md5(document.as_bytes()));
        let digests = [("x-amz-content-sha256", hash.as_str()), ("content-md5", md5.as_str())];
        let headers: Vec<_> = given.into_iter().chain(digests).collect();
        let seen = send("POST", "/b/k?uploadId=7", &headers, document.as_bytes()).await;
        assert_eq!(String::from_utf8_lossy(&seen.body), kept);
        assert_eq!(seen.header("x-amz-content-sha256"), Some(sha256(kept.as_bytes()).as_str()));
        assert_eq!(seen.header("content-md5"), Some(content_md5(kept.as_bytes()).as_str()));
        assert_eq!(seen.header("x-amz-mp-object-size"), Some("4"));
    }
    // Without checksums it is forwarded unchanged.
    let plain = completion(2, "");
    let seen = send("POST", "/b/k?uploadId=7", &[], plain.as_bytes()).await;
    assert_eq!((seen.body.as_slice(), seen.header("content-md5")), (plain.as_bytes(), None));
}

/// I1: the same with a store that gets no signatures
#[tokio::test]
async fn an_unsigned_completion_has_the_digests_of_its_changed_document() {
    let store = store();
    let gateway = stripping(Gateway::builder().bucket("b", &store)).start().await;
    let (document, kept) = (completion(1, "<ChecksumCRC32>AAAAAA==</ChecksumCRC32>"), completion(1, ""));
    let hash = sha256(document.as_bytes());
    let headers = [("x-amz-content-sha256", hash.as_str())];
    let answer =
        request(gateway.address(), "POST", "/b/k?uploadId=7", &headers, Some(document.as_bytes())).await;
    assert_eq!(answer.complete_status(), 200, "{}", answer.text());
    let seen = store.last();
    assert_eq!((seen.body.as_slice(), seen.header("authorization")), (kept.as_bytes(), None));
    assert_eq!(seen.header("x-amz-content-sha256"), Some(sha256(kept.as_bytes()).as_str()));
}

/// I1: a document that does not match its own digest is refused before it is changed
#[tokio::test]
async fn a_completion_is_verified_before_the_change() {
    let store = store();
    let gateway = signed(&store).start().await;
    let document = completion(1, "<ChecksumSHA1>x</ChecksumSHA1>");
    let kept = completion(1, "");
    for (name, value, reason) in [
        ("content-md5", content_md5(kept.as_bytes()), "md5_mismatch"),
        ("x-amz-content-sha256", sha256(kept.as_bytes()), "sha256_mismatch"),
    ] {
        let headers = [(name, value.as_str())];
        let target = "/b/k?uploadId=7";
        let answer = request(gateway.address(), "POST", target, &headers, Some(document.as_bytes())).await;
        assert_eq!((answer.complete_status(), answer.reason()), (400, reason));
    }
    let (name, value) = &checksums(document.as_bytes())[0];
    let body = unsigned_chunks(document.as_bytes(), 50, &format!("{name}:{value}\r\n"));
    let length = document.len().to_string();
    let headers = trailed(name, &length);
    let answer = request(gateway.address(), "POST", "/b/k?uploadId=7", &headers, Some(&body)).await;
    assert_eq!(answer.complete_status(), 200, "{}", answer.text());
    assert_eq!((store.count(), store.last().body.as_slice()), (1, kept.as_bytes()));
}

/// I1, M3: the buffer for documents is bounded, and the error names the bound
#[tokio::test]
async fn a_completion_over_the_buffer_limit_is_refused() {
    let store = store();
    let gateway = signed(&store).start().await;
    let long = vec![b' '; (4 << 20) + 1];
    let answer = request(gateway.address(), "POST", "/b/k?uploadId=7", &[], Some(&long)).await;
    assert_eq!((answer.complete_status(), code(&answer).as_str()), (413, "EntityTooLarge"));
    assert!(answer.text().contains("4194304"), "{}", answer.text());
    let headers = [("transfer-encoding", "chunked")];
    let answer = request(gateway.address(), "POST", "/b/k?uploadId=7", &headers, None).await;
    assert_eq!((answer.complete_status(), code(&answer).as_str()), (411, "MissingContentLength"));
    assert_eq!(answer.reason(), "document_length");
    assert_eq!(store.count(), 0);
}

/// I1: checksum parameters are removed on reads, copies and in presigned URLs too
#[tokio::test]
async fn other_requests_are_sent_without_checksums() {
    let store = store();
    let gateway = signed(&store).start().await;
    for (method, target, headers) in [
        ("GET", "/b/k", &[("x-amz-checksum-mode", "ENABLED")][..]),
        ("HEAD", "/b/k", &[("x-amz-checksum-mode", "ENABLED")][..]),
        ("GET", "/b/k?x-amz-checksum-mode=ENABLED&versionId=7", &[][..]),
        ("PUT", "/b/k", &[("x-amz-copy-source", "/b/a"), ("x-amz-checksum-algorithm", "CRC32")][..]),
        ("PUT", "/b/k?X-Amz-Checksum-Crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32", &[][..]),
        ("PUT", "/b/k?x%2Damz-checksum-sha512=x&X-Amz-Trailer=x-amz-checksum-crc32", &[][..]),
    ] {
        let body = (method == "PUT").then_some(&b""[..]);
        let answer = request(gateway.address(), method, target, headers, body).await;
        assert_eq!(answer.complete_status(), 200, "{method} {target}: {}", answer.text());
    }
    assert_eq!(store.seen()[2].target, "/b/k?versionId=7");
    assert_eq!(store.last().target, "/b/k");
    // User metadata with a similar name is kept.
    let metadata = [("x-amz-meta-checksum", "x")];
    request(gateway.address(), "PUT", "/b/k", &metadata, Some(b"")).await;
    assert_eq!(store.last().header("x-amz-meta-checksum"), Some("x"));
}

/// I1: the upload from a form is sent without a checksum
#[tokio::test]
async fn a_form_upload_is_sent_without_a_checksum() {
    let store = store();
    let gateway = signed(&store).start().await;
    for (value, status) in [(checksums(b"data")[7].1.clone(), 204), (checksums(b"other")[7].1.clone(), 400)] {
        let field = |name: &str, value: &str| {
            format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let form = format!(
            "{}{}--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\ndata\r\n--B--\r\n",
            field("key", "k"),
            field("x-amz-checksum-xxhash64", &value)
        );
        let kind = [("content-type", "multipart/form-data; boundary=B")];
        let answer = request(gateway.address(), "POST", "/b", &kind, Some(form.as_bytes())).await;
        assert_eq!(answer.complete_status(), status, "{}", answer.text());
    }
    assert_eq!((store.count(), store.last().body.as_slice()), (1, &b"data"[..]));
}

/// A2, I1: a server that verifies signatures accepts the changed requests, plain and chunked
#[tokio::test]
async fn a_real_server_accepts_stripped_requests() {
    let directory = Scratch::new();
    let origin = tidegate::origin::start(directory.path(), "real").unwrap();
    let gateway = stripping(Gateway::builder().bucket_at("b", &[origin.address]))
        .set("buckets.b.s3.bucket", "real")
        .set("buckets.b.s3.access_key_id", &origin.access_key_id)
        .set("buckets.b.s3.secret_access_key", &origin.secret_access_key)
        .start()
        .await;
    let send = async |method, target: &str, headers: &[(&str, &str)], body: &[u8]| {
        let answer = request(gateway.address(), method, target, headers, Some(body)).await;
        assert_eq!(answer.complete_status(), 200, "{method} {target}: {}", answer.text());
        answer
    };
    for size in SIZES {
        let data = random_bytes(size);
        let length = size.to_string();
        let (name, value) = &checksums(&data)[9];
        let body = unsigned_chunks(&data, 70_000, &format!("{name}:{value}\r\n"));
        send("PUT", "/b/k", &trailed(name, &length), &body).await;
        assert_eq!(get(gateway.address(), "/b/k").await.sha256(), sha256(&data));
    }
    let created = send("POST", "/b/m?uploads", &[("x-amz-checksum-algorithm", "CRC32")], b"").await.text();
    let id = created.split_once("<UploadId>").and_then(|(_, rest)| rest.split_once("</UploadId>")).unwrap().0;
    let data = random_bytes(SIZES[1]);
    let (name, value) = &checksums(&data)[0];
    let part = send("PUT", &format!("/b/m?partNumber=1&uploadId={id}"), &[(*name, value)], &data).await;
    let document = format!(
        "<CompleteMultipartUpload><Part><ChecksumCRC32>{value}</ChecksumCRC32><PartNumber>1</PartNumber><ETag>{}</ETag>\
         </Part></CompleteMultipartUpload>",
        part.header("etag").unwrap()
    );
    let whole = [("x-amz-checksum-crc64nvme", "AAAAAAAAAAA="), ("x-amz-checksum-type", "FULL_OBJECT")];
    send("POST", &format!("/b/m?uploadId={id}"), &whole, document.as_bytes()).await;
    let got = get(gateway.address(), "/b/m").await;
    assert_eq!((got.complete_status(), got.sha256()), (200, sha256(&data)));
}

/// G1: a framing with trailing checksums for a store without checksums is a start-up error
#[test]
fn a_framing_with_a_trailer_contradicts_it() {
    for framing in ["signed_chunks_trailer", "unsigned_trailer"] {
        let builder = stripping(Gateway::builder())
            .set("buckets.b.auth", "anonymous")
            .set("buckets.b.s3.endpoints", "http://127.0.0.1:9000")
            .set("buckets.b.s3.upload_framing", framing)
            .argument("check");
        let ExitReport { code, stderr, .. } = builder.run();
        assert_eq!(code, Some(78), "{stderr}");
        for word in ["buckets.b.s3.upload_framing", "buckets.b.s3.checksums", "signed_chunks or unsigned"] {
            assert!(stderr.contains(word), "`{word}` in {stderr}");
        }
    }
}
