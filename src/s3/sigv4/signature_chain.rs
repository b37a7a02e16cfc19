//! The seed of chunk signatures: the key, the scope and the previous signature.
//!
//! It verifies the chunks of clients, and signs chunks for upstreams.
//!
//! Source: S3 "Transferring Payload in Multiple Chunks (Chunked Upload)" and its form with trailing headers.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::s3::signer::EMPTY_SHA256;

/// The state of a signature chain. Each signature covers the one before it.
#[derive(Clone)]
pub(crate) struct SignatureChain {
    key: [u8; 32],
    /// As in the header: `20130524T000000Z`.
    timestamp: String,
    /// `20130524/us-east-1/s3/aws4_request`.
    scope: String,
    /// The signature before, at first the request's own; lower-case hex.
    signature: String,
}

impl SignatureChain {
    pub(crate) fn new(key: [u8; 32], timestamp: String, scope: String, signature: String) -> Self {
        Self { key, timestamp, scope, signature }
    }

    /// The next chunk's signature, in lower-case hex, from the SHA-256 of its data. The chain goes on from it.
    pub(crate) fn chunk_signature(&mut self, data_sha256: &[u8; 32]) -> &str {
        let text = format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{}\n{EMPTY_SHA256}\n{}",
            self.timestamp,
            self.scope,
            self.signature,
            hex(data_sha256)
        );
        self.advance(&text)
    }

    /// The signature over the trailing headers, from the SHA-256 of their canonical lines (`name:value\n` each).
    pub(crate) fn trailer_signature(&mut self, lines_sha256: &[u8; 32]) -> &str {
        let text = format!(
            "AWS4-HMAC-SHA256-TRAILER\n{}\n{}\n{}\n{}",
            self.timestamp,
            self.scope,
            self.signature,
            hex(lines_sha256)
        );
        self.advance(&text)
    }

    fn advance(&mut self, text: &str) -> &str {
        let code: [u8; 32] = Hmac::<Sha256>::new_from_slice(&self.key)
            .map_or([0; 32], |mac| mac.chain_update(text.as_bytes()).finalize().into_bytes().into());
        self.signature = hex(&code);
        &self.signature
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
