//! Verifies the SigV2 signatures of clients (A8): headers, presigned URLs and forms.
//!
//! ```text
//! Authorization: AWS KEY-ID:SIGNATURE                ┐
//! ?AWSAccessKeyId=…&Expires=…&Signature=…            ├─> presented_signature ─> time, token ─> HMAC-SHA1 over canonical
//! form fields AWSAccessKeyId, policy, signature      ┘
//! ```
//!
//! SigV2 is weaker than SigV4. It covers neither the body nor the host nor most parameters, a presigned URL has no start time, and the
//! secret itself is the HMAC key. So it is disabled unless a bucket lists `sigv2`. `query` lists the parameters that it covers, and a
//! request that depends on any other parameter is rejected (`auth/sigv2_auth.rs`). `auth` has the keys and buckets, and the callers pass
//! the time.
//!
//! Source: S3 User Guide, "Signing and Authenticating REST Requests (AWS signature version 2)" and "Browser-Based Uploads Using POST
//! (AWS signature version 2)".

mod canonical;
mod form;
mod presented_signature;
pub mod query;
mod rejection;
#[cfg(test)]
mod tests;

pub use form::verify_policy;
pub use presented_signature::{PresentedSigV2, check_single_auth, is_presented};
pub use rejection::{SigV2Location, SigV2Rejection};
