//! SigV2 of clients, verified: the pure part (A8).
//!
//! ```text
//! Authorization: AWS KEY-ID:SIGNATURE                ┐
//! ?AWSAccessKeyId=…&Expires=…&Signature=…            ├─> claim ──> time, token ──> HMAC-SHA1 over canonical
//! form fields AWSAccessKeyId, policy, signature      ┘
//! ```
//!
//! SigV2 is weaker than SigV4. It covers neither the body nor the host nor most parameters, a presigned URL has no start, and the
//! secret itself is the key. So it is off unless a bucket lists `sigv2`, `query` names what it covers, and a request that rests on anything
//! else is refused (`auth/version_2.rs`). Nothing here knows configured keys or buckets, and nothing reads the time.
//!
//! Source: S3 User Guide, "Signing and Authenticating REST Requests (AWS signature version 2)" and "Browser-Based Uploads Using POST
//! (AWS signature version 2)".

mod canonical;
mod claim;
mod form;
pub(crate) mod query;
mod rejection;
#[cfg(test)]
mod tests;

pub(crate) use claim::{Claim, check_alone, is_offered};
pub(crate) use form::verify_policy;
pub(crate) use rejection::{Place, Version2Rejection};
