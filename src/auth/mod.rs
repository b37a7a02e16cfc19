//! Authentication and authorization of clients. A bucket without configured authentication is closed (A4).
//!
//! `authenticate` verifies a signature, else an API key, else a token, if the request has one and the bucket accepts it
//! (`presented_auth`). A failed authentication never falls back to another method or to anonymous. A client without authentication is
//! anonymous, if the bucket accepts anonymous clients. `authorize` checks the operation and its keys, which `operation` reads from the
//! request's head, against the policy of the client's key (`policy`, A5). A policy denies everything that it does not name.
//!
//! Clients choose their session IDs, so a session ID does not authenticate: the session cache stores sessions of anonymous clients only.
//! Every signature is verified, with cached signing keys (`signing_keys`). Verified tokens are cached by their hash (`token_cache`).
//! `sigv2_auth` verifies SigV2 requests, and `form` the signatures of HTML forms.

mod context;
pub(crate) mod cookies;
mod form;
mod form_rejection;
pub(crate) mod jwt;
mod keyring;
mod multi_delete;
mod operation;
mod overrides;
mod policy;
mod presented_auth;
mod presented_caller;
mod regions;
mod signing_keys;
mod sigv2_auth;
mod token_cache;
mod ttl_cache;

use actix_web::http::header::HeaderName;
use jwt::JwtRejection;
use presented_auth::{PresentedAuth, RepeatedHeader};
use regions::AcceptedRegions;
use tidegate_actors::{ClientIdentity, KeyId, SessionId, SessionsHandle, clock};
use tidegate_config::{Access, Kind, PolicyConfig};
use tidegate_s3::copy_source::{CopySource, InvalidCopySource};
use tidegate_s3::sigv2;
use tidegate_s3::sigv4::{
    self, PayloadHash, PresentedSignature, SignatureChain, SignatureMismatch, SignatureRejection,
    VerifiedSignature,
};

use crate::request_head::Head;

pub(crate) use context::{AuthContext, BucketAuth, NamedBucket};
pub(crate) use form::{authenticate_form, check_form_possible};
pub(crate) use form_rejection::FormAuthRejection;
pub(crate) use keyring::Keyring;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use multi_delete::parse_keys as delete_keys;
pub(crate) use multi_delete::{
    CheckedDeleteList, DeleteListRejection, check_delete_keys, needs_delete_key_check,
};
pub(crate) use operation::{ConfigureCause, Operation};
pub(crate) use overrides::check_overrides;
pub(crate) use presented_auth::AcceptedAuth;
pub(crate) use presented_caller::{PresentedCaller, presented_caller};
pub(crate) use regions::Regions;
pub(crate) use signing_keys::SigningKeyCache;
pub(crate) use sigv2_auth::check_form_lifetime;
pub(crate) use token_cache::TokenCache;

pub(crate) use tidegate_s3::delete_list::BYTES_MAX as LIST_BYTES_MAX;

/// The header with the client's session ID. It is never forwarded to the upstream.
pub(crate) const SESSION_HEADER: HeaderName = HeaderName::from_static("x-tidegate-session");

/// Why a request failed authentication or authorization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AuthRejection {
    /// The bucket has no `auth` entry.
    BucketClosed,
    /// The session ID is malformed (V8).
    MalformedSession,
    /// The bucket accepts signatures only, and the request has none.
    Unsigned,
    /// The bucket accepts other authentication methods too, and the request uses none.
    MissingAuth(Kind),
    /// The presented API key does not exist, or the request has more than one.
    UnknownApiKey,
    /// The token was rejected.
    Token(JwtRejection),
    /// The signature was rejected.
    Signature(SignatureRejection),
    /// The signature does not match. Contains the texts that the gateway computed.
    SignatureMismatch(Box<SignatureMismatch>),
    /// The bucket does not allow this access to anonymous clients.
    AnonymousDenied(Access),
    /// The policy of the key or token does not allow this access.
    PolicyDenied(Access),
    /// The copy source is malformed, or the client may not read it.
    CopySourceDenied,
    /// An anonymous client overrides headers of the response.
    AnonymousOverride,
    /// A list of keys to delete cannot be checked or reduced.
    InvalidDeleteList(DeleteListRejection),
    /// The key has dot segments, and the caller's policy has prefixes.
    DotSegment,
    /// The operation needs `configure`, and the caller does not have it.
    NeedsConfigure {
        /// Whether the caller is anonymous.
        is_anonymous: bool,
        /// Why `configure` is needed.
        configure_cause: ConfigureCause,
    },
    /// The request has two sub-resources.
    ConflictingParameters([&'static str; 2]),
}

impl From<SignatureRejection> for AuthRejection {
    fn from(rejection: SignatureRejection) -> Self {
        Self::Signature(rejection)
    }
}

impl From<JwtRejection> for AuthRejection {
    fn from(rejection: JwtRejection) -> Self {
        Self::Token(rejection)
    }
}

impl From<RepeatedHeader> for AuthRejection {
    fn from(_: RepeatedHeader) -> Self {
        Self::UnknownApiKey
    }
}

impl AuthRejection {
    /// Adds why the operation needs `configure`, if the rejection is about `configure`.
    fn with_configure_cause(self, operation: &Operation<'_>) -> Self {
        let is_anonymous = match self {
            Self::AnonymousDenied(Access::Configure) => true,
            Self::PolicyDenied(Access::Configure) => false,
            _ => return self,
        };
        let cause = operation.configure_cause.clone();
        cause.map_or(self, |configure_cause| Self::NeedsConfigure { is_anonymous, configure_cause })
    }

    /// Whether it counts as a failed authentication (L8).
    pub(crate) fn counts_toward_lockout(&self) -> bool {
        match self {
            Self::MalformedSession | Self::UnknownApiKey | Self::SignatureMismatch(_) => true,
            Self::Token(rejection) => rejection.counts_toward_lockout(),
            Self::Signature(rejection) => rejection.counts_toward_lockout(),
            Self::BucketClosed
            | Self::Unsigned
            | Self::MissingAuth(_)
            | Self::AnonymousDenied(_)
            | Self::PolicyDenied(_)
            | Self::CopySourceDenied
            | Self::AnonymousOverride
            | Self::InvalidDeleteList(_)
            | Self::DotSegment
            | Self::NeedsConfigure { .. }
            | Self::ConflictingParameters(_) => false,
        }
    }
}

/// An authenticated or anonymous client.
pub(crate) struct Caller {
    pub(crate) identity: ClientIdentity,
    /// The verified signature with its payload hash; none if the request has no verified signature.
    /// Boxed like other values that few requests have, so that a request is moved at less cost.
    pub(crate) verified: Option<Box<VerifiedSignature>>,
    /// Whether the signature is SigV2, which covers less of the request than SigV4.
    is_sigv2: bool,
}

impl Caller {
    /// An anonymous client.
    pub(crate) const ANONYMOUS: Self =
        Self { identity: ClientIdentity::Anonymous, verified: None, is_sigv2: false };

    fn identified(identity: ClientIdentity) -> Self {
        Self { identity, verified: None, is_sigv2: false }
    }

    /// The client key of the signature, or the API key.
    pub(crate) fn key(&self) -> Option<KeyId> {
        match self.identity {
            ClientIdentity::Key(id) => Some(id),
            ClientIdentity::Anonymous | ClientIdentity::Token(_) => None,
        }
    }

    /// The policy of the client; none for an anonymous one.
    fn policy<'a>(&'a self, keyring: &'a Keyring) -> Option<&'a PolicyConfig> {
        match &self.identity {
            ClientIdentity::Key(id) => Some(keyring.policy(*id)),
            ClientIdentity::Token(token) => Some(&token.policy),
            ClientIdentity::Anonymous => None,
        }
    }

    /// The payload hash of the verified signature; none if the request has no verified signature.
    pub(crate) fn payload_hash(&self) -> Option<PayloadHash> {
        self.verified.as_ref().map(|verified| verified.payload)
    }

    /// Takes the signature chain of the chunks out of the verified signature.
    pub(crate) fn take_signature_chain(&mut self) -> Option<Box<SignatureChain>> {
        self.verified.as_mut()?.signature_chain.take().map(Box::new)
    }
}

/// Authenticates the client of a request to a bucket.
pub(crate) async fn authenticate(
    head: Head<'_>,
    bucket: BucketAuth<'_>,
    context: AuthContext<'_>,
) -> Result<Caller, AuthRejection> {
    let session = parse_session(head)?;
    if bucket.config.auth.is_empty() {
        return Err(AuthRejection::BucketClosed);
    }
    let accepted_auth = bucket.accepted_auth;
    if accepted_auth.is_signed_request(head) {
        if sigv2::is_presented(head) {
            return sigv2_auth::authenticate(head, accepted_auth, context);
        }
        let accepted = AcceptedRegions::for_request(head, bucket.config, context);
        return verify_sigv4(head, &accepted, context).await;
    }
    if let Some(caller) = authenticate_bearer(head, accepted_auth, context).await? {
        return Ok(caller);
    }
    if !accepted_auth.anonymous {
        return Err(missing_auth(bucket));
    }
    if let Some(id) = session {
        insert_new_session(&id, context.sessions).await;
    }
    Ok(Caller::ANONYMOUS)
}

/// The key that a presigned URL (SigV4) names. The signature is not verified.
pub(crate) fn presigned_key(head: Head<'_>, accepted: &AcceptedAuth, keyring: &Keyring) -> Option<KeyId> {
    if !accepted.signature || !sigv4::query::is_presigned(head.uri.query()?) {
        return None;
    }
    keyring.find(PresentedSignature::from_request(head).ok()??.access_key_id())
}

/// Authenticates the client of a request for the list of buckets. `accepted_auth` is the union of all buckets; other methods are ignored.
pub(crate) async fn authenticate_bucket_list(
    head: Head<'_>,
    accepted_auth: &AcceptedAuth,
    context: AuthContext<'_>,
) -> Result<Caller, AuthRejection> {
    if accepted_auth.is_signed_request(head) {
        if sigv2::is_presented(head) {
            return sigv2_auth::authenticate(head, accepted_auth, context);
        }
        return verify_sigv4(head, &AcceptedRegions::for_bucket_list(context), context).await;
    }
    Ok(authenticate_bearer(head, accepted_auth, context).await?.unwrap_or(Caller::ANONYMOUS))
}

/// Authenticates by API key or token; none if the request has neither. The value of `Bearer` may be either.
async fn authenticate_bearer(
    head: Head<'_>,
    accepted: &AcceptedAuth,
    context: AuthContext<'_>,
) -> Result<Option<Caller>, AuthRejection> {
    let presented = accepted.presented_api_key(head.headers)?;
    if let Some(PresentedAuth::ApiKey(secret) | PresentedAuth::Bearer(secret)) = presented {
        match context.keyring.find_api_key(secret) {
            Some(id) => return Ok(Some(Caller::identified(ClientIdentity::Key(id)))),
            None if matches!(presented, Some(PresentedAuth::Bearer(_))) && accepted.accepts_tokens() => {}
            None => return Err(AuthRejection::UnknownApiKey),
        }
    }
    let Some(token) = accepted.presented_token(head.headers, head.uri.query().unwrap_or_default())? else {
        return Ok(None);
    };
    let verifier = context.tokens.ok_or(JwtRejection::NoKeys)?;
    let verified = context.token_cache.get_or_verify(&token, verifier, context).await?;
    Ok(Some(Caller::identified(ClientIdentity::Token(verified))))
}

async fn verify_sigv4(
    head: Head<'_>,
    accepted: &AcceptedRegions<'_>,
    context: AuthContext<'_>,
) -> Result<Caller, AuthRejection> {
    let presented = PresentedSignature::from_request(head)?.ok_or(AuthRejection::Unsigned)?;
    presented.check_scope(|region| accepted.contains(region), accepted.advertised())?;
    let keyring = context.keyring;
    let id = keyring.find_with_token(presented.access_key_id(), presented.token())?;
    presented.check_time(clock::wall())?;
    let key = context.signing_keys.get_or_derive(id, presented.date(), presented.region(), context).await?;
    let verified = presented.verify(head, key.bytes()).map_err(|rejection| match rejection {
        SignatureRejection::Mismatch => {
            let mismatch = presented.mismatch(head, |name| context.redaction.is_secret_name(name));
            AuthRejection::SignatureMismatch(Box::new(mismatch))
        }
        other => other.into(),
    })?;
    context.signing_keys.insert_verified(id, key, context);
    keyring.check_expiry(id, clock::wall())?;
    Ok(Caller { verified: Some(Box::new(verified)), ..Caller::identified(ClientIdentity::Key(id)) })
}

fn parse_session(head: Head<'_>) -> Result<Option<SessionId>, AuthRejection> {
    let Some(value) = head.find(&SESSION_HEADER) else { return Ok(None) };
    let id = value.to_str().ok().and_then(|text| SessionId::parse(text).ok());
    id.map(Some).ok_or(AuthRejection::MalformedSession)
}

/// Adds a session to the session cache if it is new. The look-up marks a known session as used.
async fn insert_new_session(id: &SessionId, sessions: &SessionsHandle) {
    if sessions.session(id).await.is_none() {
        sessions.insert_session(id, ClientIdentity::Anonymous).await;
    }
}

fn missing_auth(bucket: BucketAuth<'_>) -> AuthRejection {
    if bucket.accepted_auth.is_signature_only() {
        AuthRejection::Unsigned
    } else {
        AuthRejection::MissingAuth(bucket.config.kind)
    }
}

/// Checks that the caller may do the operation in the bucket. A copy also needs read access to its source.
pub(crate) fn authorize(
    caller: &Caller,
    NamedBucket { auth: BucketAuth { config, accepted_auth }, name, routes_here }: NamedBucket<'_>,
    head: Head<'_>,
    operation: &Operation<'_>,
    keyring: &Keyring,
) -> Result<(), AuthRejection> {
    let query = head.uri.query().unwrap_or_default();
    if caller.is_sigv2 {
        sigv2_auth::check_coverage(operation, head, &accepted_auth.strip_query(query))?;
    }
    let may = |name: &str, operation: &Operation<'_>| match caller.policy(keyring) {
        Some(policy) => policy::allows(policy, name, operation),
        None if config.anonymous.contains(&operation.access) => Ok(()),
        None => Err(AuthRejection::AnonymousDenied(operation.access)),
    };
    if let Some(ConfigureCause::ConflictingParameters(names, accesses)) = &operation.configure_cause {
        accesses.iter().try_for_each(|access| may(name, &operation.with_access(*access)))?;
        return Err(AuthRejection::ConflictingParameters(*names));
    }
    may(name, operation).map_err(|rejection| rejection.with_configure_cause(operation))?;
    if config.kind != Kind::S3 {
        return Ok(());
    }
    match CopySource::from_request(head.header_view(), query) {
        Ok(None) => Ok(()),
        // The source must route to this section: a section with a narrower pattern may have other rules or another store.
        Ok(Some(source)) if routes_here(&source.bucket) => {
            may(&source.bucket, &Operation::get_object(&source.key))
                .map_err(|_| AuthRejection::CopySourceDenied)
        }
        Ok(Some(_)) | Err(InvalidCopySource) => Err(AuthRejection::CopySourceDenied),
    }
}

/// Whether the list of buckets shows the caller a bucket with an exact name.
pub(crate) fn may_list_bucket(caller: &Caller, bucket: BucketAuth<'_>, keyring: &Keyring) -> bool {
    bucket.accepted_auth.anonymous || may_list_name(caller, bucket, bucket.config.pattern.as_str(), keyring)
}

/// Whether the list of buckets shows the authenticated caller the bucket `name` of a section. Buckets of the embedded origin are shown
/// to every caller.
pub(crate) fn may_list_name(caller: &Caller, bucket: BucketAuth<'_>, name: &str, keyring: &Keyring) -> bool {
    bucket.config.is_embedded
        || accepted_policy(caller, bucket, keyring).is_some_and(|policy| policy::covers_bucket(policy, name))
}

/// Whether the list of buckets may show the authenticated caller any name that a section's pattern matches.
pub(crate) fn may_list_any(caller: &Caller, bucket: BucketAuth<'_>, keyring: &Keyring) -> bool {
    bucket.config.is_embedded
        || accepted_policy(caller, bucket, keyring)
            .is_some_and(|policy| policy::overlaps_pattern(policy, &bucket.config.pattern))
}

/// The policy of a caller in a section, if the section accepts the caller's authentication method.
fn accepted_policy<'a>(
    caller: &'a Caller,
    bucket: BucketAuth<'_>,
    keyring: &'a Keyring,
) -> Option<&'a PolicyConfig> {
    let accepted_auth = bucket.accepted_auth;
    let is_accepted = match &caller.identity {
        ClientIdentity::Anonymous => false,
        ClientIdentity::Token(_) => accepted_auth.accepts_tokens(),
        ClientIdentity::Key(id) if keyring.is_api_key(*id) => accepted_auth.api_key,
        ClientIdentity::Key(_) if caller.is_sigv2 => accepted_auth.sigv2_max_lifetime.is_some(),
        ClientIdentity::Key(_) => accepted_auth.signature,
    };
    caller.policy(keyring).filter(|_| is_accepted)
}
