//! The chain of chunk signatures (SigV4): it verifies the chunks of clients and signs chunks for upstreams.
//!
//! Source: S3 "Transferring Payload in Multiple Chunks (Chunked Upload)" and its variant with trailing headers.

use crate::sigv4::EMPTY_SHA256;
use crate::sigv4::canonical::hmac;

/// The state of a signature chain. Each signature covers the one before it.
#[derive(Clone)]
pub struct SignatureChain {
    key: [u8; 32],
    /// For example `20130524T000000Z`.
    timestamp: String,
    /// `20130524/us-east-1/s3/aws4_request`.
    scope: String,
    /// The previous signature in lower-case hexadecimal digits. The first one is the request's.
    signature: String,
}

impl SignatureChain {
    /// A chain that begins with the signature of a request.
    pub fn new(key: [u8; 32], timestamp: String, scope: String, signature: String) -> Self {
        Self { key, timestamp, scope, signature }
    }

    /// The next chunk's signature in lower-case hexadecimal digits, from the SHA-256 of its data. Advances the chain.
    pub(crate) fn chunk_signature(&mut self, data_sha256: &[u8; 32]) -> &str {
        let text = format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{}\n{EMPTY_SHA256}\n{}",
            self.timestamp,
            self.scope,
            self.signature,
            hex::encode(data_sha256)
        );
        self.advance(&text)
    }

    /// The signature of the trailing headers, from the SHA-256 of their canonical lines (`name:value\n` each).
    pub(crate) fn trailer_signature(&mut self, lines_sha256: &[u8; 32]) -> &str {
        let text = format!(
            "AWS4-HMAC-SHA256-TRAILER\n{}\n{}\n{}\n{}",
            self.timestamp,
            self.scope,
            self.signature,
            hex::encode(lines_sha256)
        );
        self.advance(&text)
    }

    fn advance(&mut self, text: &str) -> &str {
        self.signature = hex::encode(hmac(&self.key, text.as_bytes()));
        &self.signature
    }
}
