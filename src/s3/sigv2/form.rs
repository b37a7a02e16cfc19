//! The SigV2 signature of a form. It covers the value of the policy field, in base64.

use crate::s3::sigv2::canonical::{signature_bytes, verify_hmac};
use crate::s3::sigv4::SignatureRejection;

/// Whether a form's policy is signed with the secret.
pub(crate) fn verify_policy(policy: &str, signature: &str, secret: &str) -> Result<(), SignatureRejection> {
    let given = signature_bytes(signature)?;
    match verify_hmac(secret, [policy.as_bytes(), b""], &given) {
        true => Ok(()),
        false => Err(SignatureRejection::Mismatch),
    }
}
