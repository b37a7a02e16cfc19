//! Verifies the SigV4 signatures of clients (A1): headers, presigned URLs and forms.
//!
//! `presented_signature.rs` reads a signature, checks its time and scope, and verifies it with a signing key. `auth` finds the key, caches
//! signing keys and has the buckets' rules; the callers pass the time. The signer of upstream requests (`s3/src/signer.rs`) also uses
//! `canonical.rs`. `signature_chain.rs` computes the signatures of chunks.
//!
//! SigV2 is in `sigv2/`. SigV4A is not supported; the reply is `NotImplemented`. The gateway compares session tokens and issues none.

pub mod canonical;
mod form;
mod mismatch;
mod payload;
mod presented_signature;
mod presigned_url;
pub mod query;
mod rejection;
mod signature_chain;
mod timestamp;

pub use mismatch::SignatureMismatch;
pub(crate) use mismatch::{fingerprint, is_s3_secret};
pub use payload::{EMPTY_SHA256, PayloadHash, UNSIGNED_PAYLOAD};
pub(crate) use presented_signature::header_session_token;
pub use presented_signature::{
    PresentedSignature, SKEW_MAX, VerifiedSignature, check_session_token, is_auth_presented,
};
pub use rejection::{SignatureLocation, SignatureRejection, Validity};
pub use signature_chain::SignatureChain;
pub use timestamp::Timestamp;

/// Headers that Amazon CloudFront and API Gateway add to requests. S3 ignores them. They may be unsigned, and the gateway removes them.
pub const CDN_HEADERS: [&str; 2] = ["x-amz-apigw-id", "x-amz-cf-id"];
