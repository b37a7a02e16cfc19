//! Bodies for tests, built without the encoder.

#[cfg(test)]
use hmac::{Hmac, KeyInit, Mac};
#[cfg(test)]
use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};
use sha2::{Digest, Sha256};

use crate::chunked::ChunkLayout;
use crate::sigv4::SignatureChain;

/// The name of the trailing header in these bodies.
pub const TRAILER: &str = "x-amz-checksum-crc32c";

/// A chain with the key that consists of this byte.
pub fn sample_chain(key_byte: u8) -> SignatureChain {
    let scope = "20130524/us-east-1/s3/aws4_request".to_owned();
    SignatureChain::new([key_byte; 32], "20130524T000000Z".to_owned(), scope, "0".repeat(64))
}

/// The chain of S3's documented examples. `signature` is the signature of the request.
#[cfg(test)]
pub(crate) fn documented_chain(signature: &str) -> SignatureChain {
    let hmac = |key: &[u8], text: &str| -> [u8; 32] {
        let mac = Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(text.as_bytes());
        mac.finalize().into_bytes().into()
    };
    let mut key = hmac(b"AWS4wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524");
    for step in ["us-east-1", "s3", "aws4_request"] {
        key = hmac(&key, step);
    }
    let scope = "20130524/us-east-1/s3/aws4_request".to_owned();
    SignatureChain::new(key, "20130524T000000Z".to_owned(), scope, signature.to_owned())
}

/// Pseudo-random bytes.
#[cfg(test)]
pub(crate) fn random_bytes(bytes: usize) -> Vec<u8> {
    let mut random = vec![0; bytes];
    SmallRng::seed_from_u64(1).fill_bytes(&mut random);
    random
}

/// A body with these chunks and this trailing value.
pub fn body(
    layout: ChunkLayout,
    chunks: &[&[u8]],
    value: Option<&str>,
    mut chain: SignatureChain,
) -> Vec<u8> {
    let mut body = Vec::new();
    for chunk in chunks.iter().copied().chain([&[] as &[u8]]) {
        body.extend_from_slice(format!("{:x}", chunk.len()).as_bytes());
        if layout.is_signed() {
            let signature = chain.chunk_signature(&Sha256::digest(chunk).into());
            body.extend_from_slice(format!(";chunk-signature={signature}").as_bytes());
        }
        body.extend_from_slice(b"\r\n");
        body.extend_from_slice(chunk);
        if !chunk.is_empty() {
            body.extend_from_slice(b"\r\n");
        }
    }
    if let Some(value) = value {
        body.extend_from_slice(format!("{TRAILER}:{value}\r\n").as_bytes());
        if layout.is_signed() {
            let signature = chain.trailer_signature(&Sha256::digest(format!("{TRAILER}:{value}\n")).into());
            body.extend_from_slice(format!("x-amz-trailer-signature:{signature}\r\n").as_bytes());
        }
    }
    body.extend_from_slice(b"\r\n");
    body
}
