//! SigV4 of clients, verified: the pure part (A1).
//!
//! `claim` reads what a request says of itself, in its `Authorization` header or as a presigned URL; `check` holds that
//! against clock and place; `verify` against a key. Nothing here knows configured keys, caches or buckets, and nothing
//! reads the time. `canonical` is shared with the signer towards upstreams (`s3/sign.rs`), `seed` with chunked bodies.
//!
//! Deliberately absent: SigV2, which `s3/sigv2` verifies, and SigV4A, which is answered `NotImplemented`.
//! Session tokens are compared with the one that a key was given; the gateway makes none of its own.

#[cfg(feature = "bench")]
pub mod bench;
pub(crate) mod canonical;
mod claim;
mod form;
mod mismatch;
mod payload;
pub(crate) mod query;
mod rejection;
mod seed;
mod timestamp;

pub(crate) use claim::{Claim, SECURITY_TOKEN, SKEW_MAX, Verified, check_token, header_token, offers_proof};
pub(crate) use mismatch::{SignatureMismatch, fingerprint, is_s3_secret};
pub(crate) use payload::PayloadHash;
pub(crate) use rejection::{Place, SignatureRejection};
pub(crate) use seed::Seed;
pub(crate) use timestamp::Timestamp;

/// Headers that Amazon CloudFront and API Gateway add to requests on their way to S3, which ignores them. They may be unsigned,
/// and they end at the gateway.
pub(crate) const CDN_HEADERS: [&str; 2] = ["x-amz-apigw-id", "x-amz-cf-id"];
