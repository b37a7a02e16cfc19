//! Authenticates HTML forms (A1). The signature is in the form's fields and covers the form's policy.
//!
//! Keys, session tokens, expirations and error replies are those of signed requests. A form with a wrong signature never falls back to
//! anonymous. A bucket that verifies no signatures still checks the form against the form's policy.

use tidegate_actors::{ClientIdentity, clock};
use tidegate_config::Access;
use tidegate_s3::form::FormRejection;
use tidegate_s3::form::fields::FormFields;
use tidegate_s3::sigv4::canonical::ALGORITHM;
use tidegate_s3::sigv4::{PresentedSignature, SignatureRejection};

use crate::auth::regions::AcceptedRegions;
use crate::auth::{
    AuthContext, AuthRejection, BucketAuth, Caller, FormAuthRejection, Keyring, missing_auth, sigv2_auth,
};

/// Rejects a form from its head alone, if the bucket's configuration accepts no form at all.
pub(crate) fn check_form_possible(bucket: BucketAuth<'_>, keyring: &Keyring) -> Result<(), AuthRejection> {
    let config = bucket.config;
    if config.auth.is_empty() {
        return Err(AuthRejection::BucketClosed);
    }
    let may_sign = bucket.accepted_auth.signature && keyring.has_client_keys();
    if may_sign || config.anonymous.contains(&Access::Write) {
        return Ok(());
    }
    if bucket.accepted_auth.anonymous {
        Err(AuthRejection::AnonymousDenied(Access::Write))
    } else {
        Err(missing_auth(bucket))
    }
}

/// Authenticates the sender of a form.
pub(crate) async fn authenticate_form(
    fields: &FormFields,
    bucket: BucketAuth<'_>,
    context: AuthContext<'_>,
) -> Result<Caller, FormAuthRejection> {
    if bucket.config.auth.is_empty() {
        return Err(AuthRejection::BucketClosed.into());
    }
    if bucket.accepted_auth.signature && fields.is_auth_presented() {
        if fields.is_sigv2() {
            return sigv2_auth::authenticate_form(fields, bucket.accepted_auth, context.keyring);
        }
        return verify_sigv4(fields, &AcceptedRegions::for_form(bucket.config, context), context).await;
    }
    if bucket.accepted_auth.anonymous { Ok(Caller::ANONYMOUS) } else { Err(missing_auth(bucket).into()) }
}

async fn verify_sigv4(
    fields: &FormFields,
    accepted: &AcceptedRegions<'_>,
    context: AuthContext<'_>,
) -> Result<Caller, FormAuthRejection> {
    let reject = |rejection: SignatureRejection| FormAuthRejection::from(AuthRejection::from(rejection));
    let policy = fields.require("policy")?;
    match fields.require("x-amz-algorithm")? {
        ALGORITHM => {}
        "AWS4-ECDSA-P256-SHA256" => {
            return Err(reject(SignatureRejection::NotImplemented("SigV4A (AWS4-ECDSA-P256-SHA256)")));
        }
        _ => {
            let (name, what) = ("x-amz-algorithm".to_owned(), "must be AWS4-HMAC-SHA256");
            return Err(FormRejection::InvalidField { name, what }.into());
        }
    }
    let (credential, date) = (fields.require("x-amz-credential")?, fields.require("x-amz-date")?);
    let signature = fields.require("x-amz-signature")?;
    let token = fields.get("x-amz-security-token");
    let presented = PresentedSignature::from_form(credential, date, signature, token).map_err(reject)?;
    presented.check_scope(|region| accepted.contains(region), accepted.advertised()).map_err(reject)?;
    let keyring = context.keyring;
    let id = keyring.find_with_token(presented.access_key_id(), presented.token()).map_err(reject)?;
    presented.check_time(clock::wall()).map_err(reject)?;
    let key = context.signing_keys.get_or_derive(id, presented.date(), presented.region(), context).await;
    let key = key.map_err(reject)?;
    presented.verify_policy(policy, key.bytes()).map_err(|_| {
        FormAuthRejection::from(AuthRejection::SignatureMismatch(Box::new(presented.policy_mismatch(policy))))
    })?;
    context.signing_keys.insert_verified(id, key, context);
    keyring.check_expiry(id, clock::wall()).map_err(reject)?;
    Ok(Caller::identified(ClientIdentity::Key(id)))
}
