//! Authenticates requests and forms that are signed with SigV2 (A8), and checks that the signature covers the operation.
//!
//! Keys, session tokens, expirations, policies and limits are those of SigV4. Only buckets that list `sigv2` accept SigV2. The list of
//! buckets accepts it if some bucket does, and shows only such buckets.
//!
//! SigV2 leaves most of a query unsigned. Listings are allowed all the same: their parameters choose among keys that the policy
//! allows. Anybody who sees a request could add a sub-resource that is not covered, or a parameter that takes the request out of the
//! table of operations. Such requests are refused.

use std::time::Duration;

use tidegate_actors::{Identity, clock};
use tidegate_config::Addressing;

use crate::auth::operation::Operation;
use crate::auth::proofs::Proofs;
use crate::auth::{AuthRejection, Caller, Keyring};
use crate::http::answer::Answer;
use crate::http::edge::Head;
use crate::http::error::{GatewayError, bad_request, forbidden, not_implemented};
use crate::s3::document::shortened;
use crate::s3::form::fields::Fields;
use crate::s3::naming;
use crate::s3::sigv2::{self, Claim, Place, Version2Rejection};
use crate::s3::sigv4::{SignatureMismatch, SignatureRejection};
use crate::worker::Worker;

/// Authenticates a request that is signed with SigV2.
pub(super) fn authenticate(
    head: Head<'_>,
    proofs: &Proofs,
    worker: &Worker,
) -> Result<Caller, AuthRejection> {
    sigv2::check_alone(head)?;
    let lifetime_max = proofs.version_2.ok_or(SignatureRejection::Version2(Version2Rejection::Off))?;
    let claim = Claim::of(head)?;
    let keyring = &worker.shared.keyring;
    let id = keyring.find_with_token(claim.access_key_id(), claim.token())?;
    let now = clock::wall();
    claim.check_time(now, lifetime_max)?;
    let named = naming::of(head.uri, head.headers, &worker.shared.config.server.base_domains);
    let in_host = (named.addressing == Addressing::Virtual).then_some(named.bucket);
    let verified =
        claim.verify(head, in_host.as_deref(), keyring.secret(id)).map_err(|rejection| match rejection {
            SignatureRejection::Mismatch => {
                AuthRejection::Mismatch(Box::new(claim.mismatch(head, in_host.as_deref())))
            }
            other => other.into(),
        })?;
    keyring.check_expiry(id, now)?;
    Ok(Caller { identity: Identity::Key(id), verified: Some(verified), is_version_2: true })
}

/// Authenticates a form that is signed with SigV2.
pub(super) fn authenticate_form(
    fields: &Fields,
    proofs: &Proofs,
    keyring: &Keyring,
) -> Result<Caller, GatewayError> {
    let refused = |rejection: SignatureRejection| GatewayError::from(AuthRejection::from(rejection));
    if fields.is_version_4() {
        return Err(refused(SignatureRejection::Ambiguous));
    }
    if proofs.version_2.is_none() {
        return Err(refused(Version2Rejection::Off.into()));
    }
    let policy = fields.need("policy")?;
    let (key_id, signature) = (fields.need("awsaccesskeyid")?, fields.need("signature")?);
    let id = keyring.find_with_token(key_id, fields.get("x-amz-security-token")).map_err(refused)?;
    sigv2::verify_policy(policy, signature, keyring.secret(id)).map_err(|_| {
        let mismatch = SignatureMismatch::new(key_id, signature, policy.as_bytes());
        AuthRejection::Mismatch(Box::new(mismatch))
    })?;
    keyring.check_expiry(id, clock::wall()).map_err(refused)?;
    Ok(Caller { is_version_2: true, ..Caller::known(Identity::Key(id)) })
}

/// Checks the remaining validity of a form's policy against the limit of its bucket, if the form is signed with SigV2.
pub(crate) fn check_form_lifetime(
    caller: &Caller,
    left: Duration,
    max: Duration,
) -> Result<(), AuthRejection> {
    if caller.is_version_2 && left > max {
        return Err(SignatureRejection::from(Version2Rejection::TooFarAhead { max }).into());
    }
    Ok(())
}

/// Refuses an operation that depends on a header or parameter that the signature does not cover. `query` is without the signature.
pub(super) fn check_coverage(
    operation: &Operation<'_>,
    head: Head<'_>,
    query: &str,
) -> Result<(), SignatureRejection> {
    match operation.uncovered(head, query, sigv2::query::covers) {
        Some(name) => Err(Version2Rejection::Uncovered(shortened(&name)).into()),
        None => Ok(()),
    }
}

/// The answer to the client.
pub(super) fn answer(rejection: &Version2Rejection) -> Answer {
    match rejection {
        Version2Rejection::Off => not_implemented(
            "signature_not_implemented",
            "SigV2 (AWSAccessKeyId) is off here: sign with AWS4-HMAC-SHA256, or let the operator add sigv2 to \
             buckets.NAME.auth",
        ),
        Version2Rejection::Malformed(Place::Header, what) => bad_request(
            "InvalidArgument",
            "sigv2_malformed",
            format!("AWS authorization header is invalid: {what}"),
        ),
        Version2Rejection::Malformed(Place::Query, what) => forbidden(
            "AccessDenied",
            "sigv2_malformed",
            format!("error parsing the query's SigV2 signature: {what}"),
        ),
        Version2Rejection::Chunks => bad_request(
            "InvalidRequest",
            "sigv2_chunks",
            "a body in chunks (aws-chunked, STREAMING-…) needs SigV4; with SigV2 send it as it is",
        ),
        Version2Rejection::Uncovered(name) => forbidden(
            "AccessDenied",
            "sigv2_uncovered",
            format!(
                "a SigV2 signature does not cover `{name}`, so it cannot authorize this request; sign with SigV4"
            ),
        ),
        Version2Rejection::Expired { expires, now } => {
            forbidden("AccessDenied", "presigned_expired", "Request has expired")
                .detail("Expires", expires)
                .detail("ServerTime", now)
        }
        Version2Rejection::TooFarAhead { max } => forbidden(
            "AccessDenied",
            "sigv2_lifetime",
            format!(
                "a SigV2 URL or form may be valid for at most {} seconds; let it expire sooner, or let the operator raise \
                 buckets.NAME.sigv2_max_lifetime",
                max.as_secs()
            ),
        ),
    }
}
