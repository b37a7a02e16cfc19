//! Verification of bodies: lengths, hashes, checksums and chunk signatures, in both directions.
//!
//! Stored results are checked on the embedded origin, a real S3 server that verifies signatures; the bytes sent
//! upstream on a scripted upstream.

mod contradictions;
mod downloads;
mod framing;
mod md5_stores;
mod signed;
mod stripped;
mod uploads;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use twox_hash::{XxHash3_64, XxHash3_128, XxHash64};

use crate::support::{Response, random_bytes};

/// Every S3 checksum, by its header.
pub(crate) fn checksums(data: &[u8]) -> [(&'static str, String); 10] {
    let crc = |kind, bytes: usize| {
        let mut digest = crc_fast::Digest::new(kind);
        digest.update(data);
        STANDARD.encode(&digest.finalize().to_be_bytes()[8 - bytes..])
    };
    [
        ("x-amz-checksum-crc32", crc(CrcAlgorithm::Crc32IsoHdlc, 4)),
        ("x-amz-checksum-crc32c", crc(CrcAlgorithm::Crc32Iscsi, 4)),
        ("x-amz-checksum-crc64nvme", crc(CrcAlgorithm::Crc64Nvme, 8)),
        ("x-amz-checksum-sha1", STANDARD.encode(Sha1::digest(data))),
        ("x-amz-checksum-sha256", STANDARD.encode(Sha256::digest(data))),
        ("x-amz-checksum-sha512", STANDARD.encode(Sha512::digest(data))),
        ("x-amz-checksum-md5", content_md5(data)),
        ("x-amz-checksum-xxhash64", STANDARD.encode(XxHash64::oneshot(0, data).to_be_bytes())),
        ("x-amz-checksum-xxhash3", STANDARD.encode(XxHash3_64::oneshot(data).to_be_bytes())),
        ("x-amz-checksum-xxhash128", STANDARD.encode(XxHash3_128::oneshot(data).to_be_bytes())),
    ]
}

/// The code in an answer's error document, or its text.
fn code(answer: &Response) -> String {
    answer.element("Code").unwrap_or_else(|| answer.text())
}

pub(crate) fn content_md5(data: &[u8]) -> String {
    STANDARD.encode(Md5::digest(data))
}

/// Data in unsigned chunks, followed by these trailer lines.
pub(crate) fn unsigned_chunks(data: &[u8], chunk: usize, lines: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for chunk in data.chunks(chunk) {
        body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("0\r\n{lines}\r\n").as_bytes());
    body
}

/// Data in chunks with a forged signature.
fn forged_chunks(data: &[u8], chunk: usize) -> Vec<u8> {
    let signature = "0".repeat(64);
    let mut body = Vec::new();
    for chunk in data.chunks(chunk).chain([&[] as &[u8]]) {
        body.extend_from_slice(format!("{:x};chunk-signature={signature}\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
    }
    body
}
