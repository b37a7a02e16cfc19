//! Signed chunks of a configured key: each is verified before its data is forwarded.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::{checksums, code as code_in, random_bytes};
use crate::auth::signer::{Headers, Signer};
use crate::support::client::sha256;
use crate::support::{Gateway, Response, Scratch, Upstream, gateway, get, request, wait_until};

const CRC: &str = "x-amz-checksum-crc32";
const CHUNKS: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
const SIZE: usize = 200_000;
const CHUNK: usize = 30_000;

fn keyed(builder: gateway::Builder) -> gateway::Builder {
    builder
        .set("buckets.b.auth", "sigv4,anonymous")
        .set("buckets.b.anonymous", "read")
        .set("keys.writer.access_key_id", "AKIDWRITER")
        .set("keys.writer.secret", "writer/secret")
        .set("keys.writer.policy", "all")
        .set("policies.all.buckets", "*")
        .set("policies.all.methods", "read,write")
        .set("buckets.b.s3.access_key_id", "upstreams")
        .set("buckets.b.s3.secret_access_key", "own")
}

/// The signatures of a body's chunks, written from the specification alone.
struct Chain {
    key: [u8; 32],
    timestamp: String,
    scope: String,
    previous: String,
}

impl Chain {
    fn of(signer: &Signer, headers: &Headers) -> Self {
        let header = |name: &str| headers.iter().find(|(each, _)| each == name).unwrap().1.clone();
        let timestamp = header("x-amz-date");
        let previous = header("authorization").rsplit('=').next().unwrap().to_owned();
        let mut key = code(format!("AWS4{}", signer.secret).as_bytes(), &timestamp[..8]);
        for step in ["us-east-1", "s3", "aws4_request"] {
            key = code(&key, step);
        }
        let scope = format!("{}/us-east-1/s3/aws4_request", &timestamp[..8]);
        Self { key, timestamp, scope, previous }
    }

    fn sign(&mut self, kind: &str, text: &str) -> String {
        let text = format!("{kind}\n{}\n{}\n{}\n{text}", self.timestamp, self.scope, self.previous);
        self.previous = hex::encode(code(&self.key, &text));
        self.previous.clone()
    }

    /// `trailer` is a header and its value.
    fn body(&mut self, data: &[u8], trailer: Option<(&str, &str)>) -> Vec<u8> {
        let mut body = Vec::new();
        for chunk in data.chunks(CHUNK).chain([&[] as &[u8]]) {
            let text = format!("{}\n{}", sha256(b""), sha256(chunk));
            let signature = self.sign("AWS4-HMAC-SHA256-PAYLOAD", &text);
            body.extend_from_slice(format!("{:x};chunk-signature={signature}\r\n", chunk.len()).as_bytes());
            body.extend_from_slice(chunk);
            if !chunk.is_empty() {
                body.extend_from_slice(b"\r\n");
            }
        }
        if let Some((name, value)) = trailer {
            let hash = hex::encode(Sha256::digest(format!("{name}:{value}\n")));
            let signature = self.sign("AWS4-HMAC-SHA256-TRAILER", &hash);
            let lines = format!("{name}:{value}\r\nx-amz-trailer-signature:{signature}\r\n");
            body.extend_from_slice(lines.as_bytes());
        }
        body.extend_from_slice(b"\r\n");
        body
    }
}

fn code(key: &[u8], text: &str) -> [u8; 32] {
    Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(text).finalize().into_bytes().into()
}

/// Uploads data in signed chunks, after `spoil` has changed the body.
async fn upload(
    gateway: &Gateway,
    data: &[u8],
    trailer: Option<(&str, &str)>,
    corrupt: impl FnOnce(&mut Vec<u8>),
) -> Response {
    let signer = Signer::new("AKIDWRITER", "writer/secret");
    let length = data.len().to_string();
    let mut more = vec![("x-amz-decoded-content-length", length.as_str())];
    if let Some((name, _)) = trailer {
        more.push(("x-amz-trailer", name));
    }
    let form = if trailer.is_some() { TRAILER } else { CHUNKS };
    let headers = signer.headers("PUT", "/b/k", form, &more);
    let mut body = Chain::of(&signer, &headers).body(data, trailer);
    corrupt(&mut body);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    request(gateway.address(), "PUT", "/b/k", &headers, Some(&body)).await
}

/// A1: chunks are signed anew with the client's chunk boundaries
#[tokio::test]
async fn chunks_are_signed_anew_at_their_boundaries() {
    let upstream = Upstream::ok("stored");
    let gateway = keyed(Gateway::builder().bucket("b", &upstream)).start().await;
    let data = random_bytes(SIZE);
    let mut sent = Vec::new();
    let answer = upload(&gateway, &data, None, |body| sent = body.clone()).await;
    assert_eq!(answer.complete_status(), 200, "{}", answer.text());
    let seen = upstream.last();
    assert_eq!(seen.header("x-amz-content-sha256"), Some(CHUNKS));
    assert_eq!(seen.body.len(), sent.len());
    let mut at = 0;
    for chunk in data.chunks(CHUNK) {
        let line = format!("{:x};chunk-signature=", chunk.len());
        assert_eq!(seen.body[at..at + line.len()], *line.as_bytes());
        let from = at + line.len();
        assert_ne!(
            seen.body[from..from + 64],
            sent[from..from + 64],
            "the client's own signature was forwarded"
        );
        at = from + 66;
        assert_eq!(seen.body[at..at + chunk.len()], *chunk);
        at += chunk.len() + 2;
    }
    assert!(seen.body[at..].starts_with(b"0;chunk-signature="));
}

/// A1, A2: small and large bodies, with and without a trailer: a server that verifies signatures stores the data
#[tokio::test]
async fn a_real_server_stores_signed_chunks() {
    let directory = Scratch::new();
    let origin = tidegate::origin::start(directory.path(), "real").unwrap();
    for framing in ["signed_chunks", "signed_chunks_trailer", "unsigned_trailer"] {
        let gateway = keyed(Gateway::builder().bucket_at("b", &[origin.address]))
            .set("buckets.b.s3.bucket", "real")
            .set("buckets.b.s3.access_key_id", &origin.access_key_id)
            .set("buckets.b.s3.secret_access_key", &origin.secret_access_key)
            .set("buckets.b.s3.upload_framing", framing)
            .start()
            .await;
        for size in [0, 1, 65_536, 65_537, SIZE] {
            let data = random_bytes(size);
            let crc = checksums(&data)[0].1.clone();
            for trailer in [None, Some((CRC, crc.as_str()))] {
                let answer = upload(&gateway, &data, trailer, |_| ()).await;
                assert_eq!(answer.complete_status(), 200, "{framing} {size}: {}", answer.text());
                let got = get(gateway.address(), "/b/k").await;
                assert_eq!((got.complete_status(), got.sha256()), (200, sha256(&data)), "{framing} {size}");
            }
        }
    }
}

/// A1: no byte of a chunk with a wrong signature is forwarded; no object and no connection remains
#[tokio::test]
async fn a_forged_chunk_is_not_forwarded() {
    let upstream = Upstream::ok("stored");
    let gateway = keyed(Gateway::builder().bucket("b", &upstream)).start().await;
    let data = random_bytes(SIZE);
    let line = format!("{CHUNK:x};chunk-signature={}\r\n", "0".repeat(64)).len();
    let chunk = line + CHUNK + 2;
    type Corruption = fn(&mut [u8], usize);
    let corruptions: [(&str, Corruption); 3] = [
        ("its first byte", |body, from| body[from] ^= 1),
        ("its last byte", |body, from| body[from + CHUNK - 1] ^= 1),
        ("its signature", |body, from| body[from - 3] = if body[from - 3] == b'0' { b'1' } else { b'0' }),
    ];
    for index in [0, 3, 5] {
        for (what, corrupt) in corruptions {
            let before = upstream.count();
            let answer = upload(&gateway, &data, None, |body| corrupt(body, index * chunk + line)).await;
            let code = code_in(&answer);
            assert_eq!(
                (answer.complete_status(), code.as_str()),
                (403, "SignatureDoesNotMatch"),
                "{what} of {index}"
            );
            assert_eq!(answer.reason(), "chunk_signature");
            wait_until("the upload's connection is closed", || upstream.open_connections() == 0).await;
            for seen in upstream.seen().iter().skip(before) {
                assert!(
                    !seen.is_complete && seen.body.len() <= index * chunk,
                    "{what} of {index} was forwarded"
                );
            }
        }
    }
    gateway.wait_until_idle().await;
}

/// A1, I1: a trailer's signature and its checksum are both verified
#[tokio::test]
async fn a_signed_trailer_is_verified() {
    let directory = Scratch::new();
    let origin = tidegate::origin::start(directory.path(), "real").unwrap();
    let gateway = keyed(Gateway::builder().bucket_at("b", &[origin.address]))
        .set("buckets.b.s3.bucket", "real")
        .set("buckets.b.s3.access_key_id", &origin.access_key_id)
        .set("buckets.b.s3.secret_access_key", &origin.secret_access_key)
        .start()
        .await;
    for size in [1000, SIZE] {
        let data = random_bytes(size);
        let crc = checksums(&data)[0].1.clone();
        let forged = upload(&gateway, &data, Some((CRC, &crc)), |body| {
            let at = body.len() - 10;
            body[at] = if body[at] == b'0' { b'1' } else { b'0' };
        });
        let forged = forged.await;
        assert_eq!((forged.complete_status(), code_in(&forged).as_str()), (403, "SignatureDoesNotMatch"));
        let forged = upload(&gateway, &data, Some((CRC, "AAAAAA==")), |_| ()).await;
        assert_eq!((forged.complete_status(), code_in(&forged).as_str()), (400, "BadDigest"));
        let cut = upload(&gateway, &data, Some((CRC, &crc)), |body| body.truncate(body.len() - 100)).await;
        assert_eq!((cut.complete_status(), code_in(&cut).as_str()), (400, "MalformedTrailerError"));
        assert_eq!(get(gateway.address(), "/b/k").await.complete_status(), 404, "something was stored");
    }
}

/// A1, I1: a signed trailer of each algorithm is verified; that of a buffered body reaches the store as a header
#[tokio::test]
async fn a_signed_trailer_of_each_algorithm_is_verified() {
    let upstream = Upstream::ok("stored");
    let gateway = keyed(Gateway::builder().bucket("b", &upstream)).start().await;
    for size in [1000, SIZE] {
        let (data, other) = (random_bytes(size), random_bytes(size + 1));
        for ((name, right), (_, wrong)) in checksums(&data).into_iter().zip(checksums(&other)) {
            let before = upstream.count();
            let forged = upload(&gateway, &data, Some((name, &wrong)), |_| ()).await;
            assert_eq!(
                (forged.complete_status(), code_in(&forged).as_str()),
                (400, "BadDigest"),
                "{name} of {size}"
            );
            wait_until("the upload has ended", || upstream.in_flight() == 0).await;
            assert!(
                upstream.seen().iter().skip(before).all(|seen| !seen.is_complete),
                "{name} of {size} was stored"
            );
            let stored = upload(&gateway, &data, Some((name, &right)), |_| ()).await;
            assert_eq!(stored.complete_status(), 200, "{name} of {size}: {}", stored.text());
            let kept = upstream.last().header(name).map(str::to_owned);
            assert_eq!(kept, (size == 1000).then_some(right), "{name} of {size}");
        }
    }
}

/// A1, M3: a signed chunk over the bucket's buffer limit is refused by its size
#[tokio::test]
async fn signed_chunks_are_bounded() {
    let upstream = Upstream::ok("stored");
    let gateway = keyed(Gateway::builder().bucket("b", &upstream))
        .set("buckets.b.max_chunk_size", "16KiB")
        .start()
        .await;
    let answer = upload(&gateway, &random_bytes(SIZE), None, |_| ()).await;
    assert_eq!((answer.complete_status(), code_in(&answer).as_str()), (413, "EntityTooLarge"));
    for element in ["<MaxSizeAllowed>", "<ProposedSize>", "buckets.NAME.max_chunk_size"] {
        assert!(answer.text().contains(element), "{}", answer.text());
    }
    assert!(answer.text().contains("max_chunk_size"), "{}", answer.text());
}
