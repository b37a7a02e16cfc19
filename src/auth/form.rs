//! Authenticates forms (A1). Their fields have the signature, which covers the policy.
//!
//! Keys, session tokens, expirations and answers are those of requests. A form with a wrong signature never falls back to anonymous. A
//! bucket that verifies no signatures still checks the form against its policy.

use tidegate_actors::{Identity, clock};
use tidegate_config::Access;

use crate::auth::regions::AcceptedRegions;
use crate::auth::{AuthRejection, Caller, Keyring, unproven, version_2};
use crate::http::error::GatewayError;
use crate::router::Bucket;
use crate::s3::form::FormRejection;
use crate::s3::form::fields::Fields;
use crate::s3::sigv4::canonical::ALGORITHM;
use crate::s3::sigv4::{Claim, SignatureRejection};
use crate::worker::Worker;

/// Whether any form can succeed in a bucket, which its head tells.
pub(crate) fn may_prove_form(bucket: &Bucket, keyring: &Keyring) -> Result<(), AuthRejection> {
    let config = &bucket.config;
    if config.auth.is_empty() {
        return Err(AuthRejection::Closed);
    }
    let may_sign = bucket.proofs.signature && keyring.has_client_keys();
    if may_sign || config.anonymous.contains(&Access::Write) {
        return Ok(());
    }
    if bucket.proofs.anonymous {
        Err(AuthRejection::AnonymousMay(Access::Write))
    } else {
        Err(unproven(bucket))
    }
}

/// Authenticates a form that was sent to a bucket.
pub(crate) async fn authenticate_form(
    fields: &Fields,
    bucket: &Bucket,
    worker: &Worker,
) -> Result<Caller, GatewayError> {
    if bucket.config.auth.is_empty() {
        return Err(AuthRejection::Closed.into());
    }
    if bucket.proofs.signature && fields.offers_proof() {
        if fields.is_version_2() {
            return version_2::authenticate_form(fields, &bucket.proofs, &worker.shared.keyring);
        }
        return verify(fields, &AcceptedRegions::of_form(&bucket.config, worker), worker).await;
    }
    if bucket.proofs.anonymous { Ok(Caller::ANONYMOUS) } else { Err(unproven(bucket).into()) }
}

async fn verify(
    fields: &Fields,
    accepted: &AcceptedRegions<'_>,
    worker: &Worker,
) -> Result<Caller, GatewayError> {
    let refused = |rejection: SignatureRejection| GatewayError::from(AuthRejection::from(rejection));
    let policy = fields.need("policy")?;
    match fields.need("x-amz-algorithm")? {
        ALGORITHM => {}
        "AWS4-ECDSA-P256-SHA256" => {
            return Err(refused(SignatureRejection::NotImplemented("SigV4A (AWS4-ECDSA-P256-SHA256)")));
        }
        _ => {
            let (name, what) = ("x-amz-algorithm".to_owned(), "must be AWS4-HMAC-SHA256");
            return Err(FormRejection::Field { name, what }.into());
        }
    }
    let (credential, date) = (fields.need("x-amz-credential")?, fields.need("x-amz-date")?);
    let signature = fields.need("x-amz-signature")?;
    let token = fields.get("x-amz-security-token");
    let claim = Claim::of_form(credential, date, signature, token).map_err(refused)?;
    claim.check_scope(|region| accepted.contains(region), accepted.advertised()).map_err(refused)?;
    let keyring = &worker.shared.keyring;
    let id = keyring.find_with_token(claim.access_key_id(), claim.token()).map_err(refused)?;
    claim.check_time(clock::wall()).map_err(refused)?;
    let key = worker.signing_keys.get(id, claim.date(), claim.region(), worker).await;
    claim
        .verify_policy(policy, key.bytes())
        .map_err(|_| GatewayError::from(AuthRejection::Mismatch(Box::new(claim.policy_mismatch(policy)))))?;
    worker.signing_keys.verified(id, key, worker);
    keyring.check_expiry(id, clock::wall()).map_err(refused)?;
    Ok(Caller::known(Identity::Key(id)))
}
