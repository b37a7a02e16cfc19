//! Verifies the SigV2 signature of a form. It covers the base64 value of the policy field.

use crate::sigv2::canonical::{signature_bytes, verify_hmac};
use crate::sigv4::SignatureRejection;

/// Verifies the signature of a form's policy.
pub fn verify_policy(policy: &str, signature: &str, secret: &str) -> Result<(), SignatureRejection> {
    let given = signature_bytes(signature)?;
    match verify_hmac(secret, [policy.as_bytes(), b""], &given) {
        true => Ok(()),
        false => Err(SignatureRejection::Mismatch),
    }
}
