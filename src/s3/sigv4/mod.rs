//! Verifies the SigV4 signatures of clients (A1): headers, presigned URLs and forms.
//!
//! `presented_signature.rs` reads a signature, checks its time and scope, and verifies it with a signing key. `auth` finds the key, caches
//! signing keys and has the buckets' rules; the callers pass the time. The signer of upstream requests (`s3/signer.rs`) also uses
//! `canonical.rs`. `signature_chain.rs` computes the signatures of chunks.
//!
//! SigV2 is in `s3/sigv2`. SigV4A is not supported; the reply is `NotImplemented`. The gateway compares session tokens and issues none.

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
    PresentedSignature, SKEW_MAX, VerifiedSignature, check_session_token, header_session_token,
    is_auth_presented,
};
pub(crate) use rejection::{SignatureLocation, SignatureRejection, Validity};
pub(crate) use signature_chain::SignatureChain;
pub(crate) use timestamp::Timestamp;

/// Headers that Amazon CloudFront and API Gateway add to requests. S3 ignores them. They may be unsigned, and the gateway removes them.
pub(crate) const CDN_HEADERS: [&str; 2] = ["x-amz-apigw-id", "x-amz-cf-id"];
