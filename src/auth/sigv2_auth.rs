//! Authenticates requests and forms that are signed with SigV2 (A8), and checks that the signature covers the operation.
//!
//! Keys, session tokens, expirations, policies and limits are those of SigV4. Only buckets that list `sigv2` accept SigV2. The list of
//! buckets accepts SigV2 if some bucket does, and then shows only such buckets.
//!
//! SigV2 leaves most of a query unsigned. Listings are still allowed: their parameters only select among keys that the policy allows.
//! Anybody who sees a request could add an unsigned sub-resource, or a parameter that makes it a request outside the table of operations.
//! Such requests are rejected.

use std::time::Duration;

use tidegate_actors::{ClientIdentity, clock};
use tidegate_config::Addressing;
use tidegate_s3::addressing;
use tidegate_s3::error_document::shortened;
use tidegate_s3::form::fields::FormFields;
use tidegate_s3::sigv2::{self, PresentedSigV2, SigV2Rejection};
use tidegate_s3::sigv4::{SignatureMismatch, SignatureRejection};

use crate::auth::operation::Operation;
use crate::auth::presented_auth::AcceptedAuth;
use crate::auth::{AuthContext, AuthRejection, Caller, FormAuthRejection, Keyring};
use crate::request_head::Head;

/// Authenticates a request that is signed with SigV2.
pub(super) fn authenticate(
    head: Head<'_>,
    accepted_auth: &AcceptedAuth,
    context: AuthContext<'_>,
) -> Result<Caller, AuthRejection> {
    sigv2::check_single_auth(head)?;
    let lifetime_max =
        accepted_auth.sigv2_max_lifetime.ok_or(SignatureRejection::SigV2(SigV2Rejection::Disabled))?;
    let presented = PresentedSigV2::from_request(head)?;
    let keyring = context.keyring;
    let id = keyring.find_with_token(presented.access_key_id(), presented.token())?;
    let now = clock::wall();
    presented.check_time(now, lifetime_max)?;
    let address = addressing::resolve(head, context.base_domains);
    let host_bucket = (address.addressing == Addressing::Virtual).then_some(address.bucket);
    let verified =
        presented.verify(head, host_bucket.as_deref(), keyring.secret(id)?).map_err(|rejection| {
            match rejection {
                SignatureRejection::Mismatch => AuthRejection::SignatureMismatch(Box::new(
                    presented.mismatch(head, host_bucket.as_deref()),
                )),
                other => other.into(),
            }
        })?;
    keyring.check_expiry(id, now)?;
    Ok(Caller { identity: ClientIdentity::Key(id), verified: Some(Box::new(verified)), is_sigv2: true })
}

/// Authenticates a form that is signed with SigV2.
pub(super) fn authenticate_form(
    fields: &FormFields,
    accepted_auth: &AcceptedAuth,
    keyring: &Keyring,
) -> Result<Caller, FormAuthRejection> {
    let reject = |rejection: SignatureRejection| FormAuthRejection::from(AuthRejection::from(rejection));
    if fields.is_sigv4() {
        return Err(reject(SignatureRejection::Ambiguous));
    }
    if accepted_auth.sigv2_max_lifetime.is_none() {
        return Err(reject(SigV2Rejection::Disabled.into()));
    }
    let policy = fields.require("policy")?;
    let (key_id, signature) = (fields.require("awsaccesskeyid")?, fields.require("signature")?);
    let id = keyring.find_with_token(key_id, fields.get("x-amz-security-token")).map_err(reject)?;
    let secret = keyring.secret(id).map_err(reject)?;
    sigv2::verify_policy(policy, signature, secret).map_err(|_| {
        let mismatch = SignatureMismatch::new(key_id, signature, policy.as_bytes());
        AuthRejection::SignatureMismatch(Box::new(mismatch))
    })?;
    keyring.check_expiry(id, clock::wall()).map_err(reject)?;
    Ok(Caller { is_sigv2: true, ..Caller::identified(ClientIdentity::Key(id)) })
}

/// Checks the remaining validity of a form's policy against the limit of its bucket, if the form is signed with SigV2.
pub(crate) fn check_form_lifetime(
    caller: &Caller,
    remaining: Duration,
    max: Duration,
) -> Result<(), AuthRejection> {
    if caller.is_sigv2 && remaining > max {
        return Err(SignatureRejection::from(SigV2Rejection::TooFarAhead { max }).into());
    }
    Ok(())
}

/// Rejects an operation that depends on a header or parameter that the signature does not cover. `query` is the query without the
/// signature's parameters.
pub(super) fn check_coverage(
    operation: &Operation<'_>,
    head: Head<'_>,
    query: &str,
) -> Result<(), SignatureRejection> {
    match operation.first_unsigned(head, query, sigv2::query::covers) {
        Some(name) => Err(SigV2Rejection::Uncovered(shortened(&name)).into()),
        None => Ok(()),
    }
}
