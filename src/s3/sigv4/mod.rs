//! Verifies the SigV4 signatures of clients (A1): headers, presigned URLs and forms.
//!
//! `claim.rs` reads a signature, checks its time and its scope, and verifies it with a signing key. `auth` finds the key, keeps
//! signing keys and knows buckets; the callers pass the time. `canonical.rs` also serves the signer towards upstreams
//! (`s3/sign.rs`), and `seed.rs` the signatures of chunks.
//!
//! Deliberately absent: SigV2 (`s3/sigv2`), and SigV4A, which is answered with `NotImplemented`. The gateway compares session tokens
//! and issues none.

#[cfg(feature = "bench")]
pub mod bench;
pub(crate) mod canonical;
mod form;
mod mismatch;
mod payload;
mod presented_signature;
pub(crate) mod query;
mod rejection;
mod signature_chain;
mod timestamp;

pub(crate) use mismatch::{SignatureMismatch, fingerprint, is_s3_secret};
pub(crate) use payload::PayloadHash;
pub(crate) use presented_signature::{
    PresentedSignature, SECURITY_TOKEN, SKEW_MAX, VerifiedSignature, check_session_token,
    header_session_token, is_auth_presented,
};
pub(crate) use rejection::{SignatureLocation, SignatureRejection, Validity};
pub(crate) use signature_chain::SignatureChain;
pub(crate) use timestamp::Timestamp;

/// Headers that Amazon CloudFront and API Gateway add to requests to S3, which ignores them. They may be unsigned, and the gateway
/// removes them.
pub(crate) const CDN_HEADERS: [&str; 2] = ["x-amz-apigw-id", "x-amz-cf-id"];
