//! Who a request claims to be, for explanations. No signature and no token is verified, and no cache is read or written.

use tidegate_actors::{ClientIdentity, KeyId, clock};
use tidegate_s3::sigv2::{self, PresentedSigV2, SigV2Rejection};
use tidegate_s3::sigv4::{PresentedSignature, SignatureRejection};

use crate::auth::context::BucketAuth;
use crate::auth::keyring::Keyring;
use crate::auth::presented_auth::{AcceptedAuth, PresentedAuth};
use crate::auth::{AuthRejection, Caller, missing_auth, parse_session};
use crate::request_head::Head;

/// The method that would authenticate a request, and the client if the method succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PresentedCaller {
    /// No method: the bucket accepts anonymous clients.
    Anonymous,
    /// A signature (SigV4) by this key.
    SigV4(KeyId),
    /// A signature (SigV2) by this key.
    SigV2(KeyId),
    /// This API key.
    ApiKey(KeyId),
    /// A token, which is not read.
    Token,
}

impl PresentedCaller {
    /// The client if the method succeeds; none for a token.
    pub(crate) fn caller(self) -> Option<Caller> {
        match self {
            Self::Anonymous => Some(Caller::ANONYMOUS),
            Self::SigV4(key) | Self::ApiKey(key) => Some(Caller::identified(ClientIdentity::Key(key))),
            Self::SigV2(key) => {
                Some(Caller { is_sigv2: true, ..Caller::identified(ClientIdentity::Key(key)) })
            }
            Self::Token => None,
        }
    }

    /// The client's key.
    pub(crate) fn key(self) -> Option<KeyId> {
        match self {
            Self::SigV4(key) | Self::SigV2(key) | Self::ApiKey(key) => Some(key),
            Self::Anonymous | Self::Token => None,
        }
    }
}

/// Finds the method in the order of `authenticate`.
pub(crate) fn presented_caller(
    head: Head<'_>,
    bucket: BucketAuth<'_>,
    keyring: &Keyring,
) -> Result<PresentedCaller, AuthRejection> {
    parse_session(head)?;
    if bucket.config.auth.is_empty() {
        return Err(AuthRejection::BucketClosed);
    }
    let accepted = bucket.accepted_auth;
    if accepted.is_signed_request(head) {
        return Ok(signing_key(head, accepted, keyring)?);
    }
    let presented = accepted.presented_api_key(head.headers)?;
    if let Some(PresentedAuth::ApiKey(secret) | PresentedAuth::Bearer(secret)) = presented {
        match keyring.find_api_key(secret) {
            Some(id) => return Ok(PresentedCaller::ApiKey(id)),
            None if matches!(presented, Some(PresentedAuth::Bearer(_))) && accepted.accepts_tokens() => {}
            None => return Err(AuthRejection::UnknownApiKey),
        }
    }
    if accepted.presented_token(head.headers, head.uri.query().unwrap_or_default())?.is_some() {
        return Ok(PresentedCaller::Token);
    }
    if accepted.anonymous { Ok(PresentedCaller::Anonymous) } else { Err(missing_auth(bucket)) }
}

fn signing_key(
    head: Head<'_>,
    accepted: &AcceptedAuth,
    keyring: &Keyring,
) -> Result<PresentedCaller, SignatureRejection> {
    if sigv2::is_presented(head) {
        sigv2::check_single_auth(head)?;
        let lifetime_max =
            accepted.sigv2_max_lifetime.ok_or(SignatureRejection::SigV2(SigV2Rejection::Disabled))?;
        let presented = PresentedSigV2::from_request(head)?;
        presented.check_time(clock::wall(), lifetime_max)?;
        let key = keyring.find_with_token(presented.access_key_id(), presented.token())?;
        PresentedSigV2::payload_hash(head)?;
        return Ok(PresentedCaller::SigV2(key));
    }
    // A request with an Authorization header that is no signature is malformed.
    let presented = PresentedSignature::from_request(head)?.ok_or(SignatureRejection::UnsupportedScheme)?;
    presented.check_time(clock::wall())?;
    let key = keyring.find_with_token(presented.access_key_id(), presented.token())?;
    presented.payload_hash()?;
    Ok(PresentedCaller::SigV4(key))
}
