//! Verifies the SigV4 signature of a form. It covers the base64 value of the policy field; there is no canonical request.
//!
//! The policy has the form's expiration. The signing key is for one day, and S3 accepts it for a week.
//!
//! Source: S3 "Authenticating Requests in Browser-Based Uploads Using POST (AWS Signature Version 4)".

use std::borrow::Cow;
use std::time::Duration;

use crate::sigv4::canonical::verify_hmac;
use crate::sigv4::mismatch::fingerprint;
use crate::sigv4::presented_signature::{CredentialScope, PresentedSignature};
use crate::sigv4::presigned_url::LIFETIME_SECONDS_MAX;
use crate::sigv4::{SignatureLocation, SignatureMismatch, SignatureRejection, Timestamp};

impl<'a> PresentedSignature<'a> {
    /// Reads the signature from a form's fields.
    pub fn from_form(
        credential: &'a str,
        date: &str,
        signature: &'a str,
        token: Option<&'a str>,
    ) -> Result<Self, SignatureRejection> {
        let malformed = |what| SignatureRejection::Malformed(SignatureLocation::Form, what);
        let invalid_credential =
            malformed("X-Amz-Credential is not ACCESS-KEY-ID/YYYYMMDD/REGION/s3/aws4_request");
        Ok(Self {
            location: SignatureLocation::Form,
            scope: CredentialScope::parse(credential.into()).ok_or(invalid_credential)?,
            timestamp: Timestamp::parse(date)
                .ok_or(malformed("X-Amz-Date is not of the form YYYYMMDDTHHMMSSZ"))?,
            lifetime: Some(Duration::from_secs(LIFETIME_SECONDS_MAX)),
            signed_headers: Cow::default(),
            signature: signature.into(),
            payload: Cow::default(),
            session_token: token.map(Cow::Borrowed),
        })
    }

    /// Verifies the signature of the policy. `key` is the signing key for the credential's date and region.
    pub fn verify_policy(&self, policy: &str, key: &[u8; 32]) -> Result<(), SignatureRejection> {
        let given = self.signature_bytes()?;
        if verify_hmac(key, policy.as_bytes(), &given) { Ok(()) } else { Err(SignatureRejection::Mismatch) }
    }

    /// The elements of the reply to a signature that does not match. A policy repeats the form's session token, so the policy of a form
    /// with a token is not shown.
    pub fn policy_mismatch(&self, policy: &str) -> SignatureMismatch {
        let shown = match self.session_token {
            None => Cow::Borrowed(policy),
            Some(_) => Cow::Owned(fingerprint(policy.as_bytes())),
        };
        SignatureMismatch::new(self.access_key_id(), &self.signature, shown.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sigv4::canonical::signing_key;

    /// A1: the policy and signature of the S3 documentation ("Example: Browser-Based Upload using HTTP POST")
    #[test]
    fn the_documented_example_is_accepted() {
        let policy = "eyAiZXhwaXJhdGlvbiI6ICIyMDE1LTEyLTMwVDEyOjAwOjAwLjAwMFoiLA0KICAiY29uZGl0aW9ucyI6IFsNCiAgICB7ImJ1Y2tldCI6ICJzaWd2NGV4YW1wbGVidWNrZXQifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRrZXkiLCAidXNlci91c2VyMS8iXSwNCiAgICB7ImFjbCI6ICJwdWJsaWMtcmVhZCJ9LA0KICAgIHsic3VjY2Vzc19hY3Rpb25fcmVkaXJlY3QiOiAiaHR0cDovL3NpZ3Y0ZXhhbXBsZWJ1Y2tldC5zMy5hbWF6b25hd3MuY29tL3N1Y2Nlc3NmdWxfdXBsb2FkLmh0bWwifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRDb250ZW50LVR5cGUiLCAiaW1hZ2UvIl0sDQogICAgeyJ4LWFtei1tZXRhLXV1aWQiOiAiMTQzNjUxMjM2NTEyNzQifSwNCiAgICB7IngtYW16LXNlcnZlci1zaWRlLWVuY3J5cHRpb24iOiAiQUVTMjU2In0sDQogICAgWyJzdGFydHMtd2l0aCIsICIkeC1hbXotbWV0YS10YWciLCAiIl0sDQoNCiAgICB7IngtYW16LWNyZWRlbnRpYWwiOiAiQUtJQUlPU0ZPRE5ON0VYQU1QTEUvMjAxNTEyMjkvdXMtZWFzdC0xL3MzL2F3czRfcmVxdWVzdCJ9LA0KICAgIHsieC1hbXotYWxnb3JpdGhtIjogIkFXUzQtSE1BQy1TSEEyNTYifSwNCiAgICB7IngtYW16LWRhdGUiOiAiMjAxNTEyMjlUMDAwMDAwWiIgfQ0KICBdDQp9";
        let signature = "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e";
        let key = signing_key("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20151229", "us-east-1");
        let credential = "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request";
        let presented = |signature| {
            PresentedSignature::from_form(credential, "20151229T000000Z", signature, None).unwrap()
        };
        assert_eq!(presented(signature).verify_policy(policy, &key), Ok(()));
        let mismatch = Err(SignatureRejection::Mismatch);
        assert_eq!(presented(signature).verify_policy(&policy[4..], &key), mismatch);
        assert_eq!(presented(&signature[1..]).verify_policy(policy, &key), mismatch);
        assert_eq!(presented(&signature.to_uppercase()).verify_policy(policy, &key), mismatch);
    }
}
