//! Authentication and authorization of clients. A bucket without configured authentication is closed (A4).
//!
//! `authenticate` verifies the proof of identity that the request has and the bucket accepts: a signature, else an API key, else a token
//! (`proofs`). A wrong proof never falls back to another one or to anonymous. Without a proof the client is anonymous, if the bucket
//! accepts anonymous clients. `authorize` reads the operation and its keys from the request's head (`operation`) and checks them against
//! the policy of the key (`policy`, A5). Everything is denied that the policy does not name.
//!
//! Clients choose their session IDs, so an ID proves nothing: the session cache keeps only that its client is anonymous, and signatures
//! are verified every time, with signing keys that are kept (`signing_keys`). Verified tokens are kept by their hash (`bearers`).
//! `version_2` verifies SigV2, and `form` the signatures of forms.

mod answer;
mod form;
pub(crate) mod jwt;
mod keyring;
mod multi_delete;
mod operation;
mod overrides;
mod policy;
mod presented_auth;
mod regions;
mod signing_keys;
mod sigv2_auth;
mod token_cache;
mod ttl_cache;

use actix_web::http::header::{HeaderMap, HeaderName};
use tidegate_actors::{ClientIdentity, KeyId, SessionId, SessionsHandle, clock};
use tidegate_config::{Access, Kind, PolicyConfig};

use crate::http::request_validation::Head;
use crate::router::{Bucket, Router};
use crate::s3::copy_source::{CopySource, InvalidCopySource};
use crate::s3::sigv2;
use crate::s3::sigv4::{
    self, PayloadHash, PresentedSignature, SignatureChain, SignatureMismatch, SignatureRejection,
    VerifiedSignature,
};
use crate::worker::Worker;

use jwt::JwtRejection;
use operation::ConfigureCause;
use presented_auth::{PresentedAuth, RepeatedHeader};
use regions::AcceptedRegions;

pub(crate) use answer::error_reply;
pub(crate) use form::{authenticate_form, check_form_possible};
pub(crate) use keyring::Keyring;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use multi_delete::parse_keys as delete_keys;
pub(crate) use multi_delete::{
    CheckedDeleteList, DeleteListRejection, check_delete_keys, needs_delete_key_check,
};
pub(crate) use operation::Operation;
pub(crate) use overrides::check_overrides;
pub(crate) use presented_auth::AcceptedAuth;
pub(crate) use regions::Regions;
pub(crate) use signing_keys::SigningKeyCache;
pub(crate) use sigv2_auth::check_form_lifetime;
pub(crate) use token_cache::TokenCache;

pub(crate) use crate::s3::delete_list::BYTES_MAX as LIST_BYTES_MAX;

/// The header by which a client names its session; it never travels on.
pub(crate) const SESSION_HEADER: HeaderName = HeaderName::from_static("x-tidegate-session");

/// Why a client was not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AuthRejection {
    /// The bucket has no `auth` entry.
    BucketClosed,
    /// The session ID is malformed (V8).
    MalformedSession,
    /// The bucket accepts signatures only, and the request has none.
    Unsigned,
    /// The bucket accepts other proofs too, and the request has none.
    MissingAuth(Kind),
    /// No API key is what was shown as one.
    UnknownApiKey,
    /// The token was refused.
    Token(JwtRejection),
    /// The signature was not accepted.
    Signature(SignatureRejection),
    /// The signature is another one; what was computed in its place.
    SignatureMismatch(Box<SignatureMismatch>),
    /// The bucket does not let those without proof do this.
    AnonymousDenied(Access),
    /// The key's policy does not allow this.
    PolicyDenied(Access),
    /// The copy source is not the client's to read.
    CopySourceDenied,
    /// An anonymous client chooses headers of the answer.
    AnonymousOverride,
    /// A list of keys to delete cannot be checked or shortened.
    InvalidDeleteList(DeleteListRejection),
    /// A key with dot segments, for a caller whose policy has prefixes.
    DotSegment,
    /// An operation that needs `configure` because of this, for a caller without it. It is anonymous, or its policy lacks it.
    NeedsConfigure {
        /// Whether the caller is anonymous.
        is_anonymous: bool,
        /// Why `configure` is needed.
        configure_cause: ConfigureCause,
    },
    /// Two sub-resources of one request.
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
    /// Adds why an operation needs `configure`, where that is what the caller lacks.
    fn with_configure_cause(self, operation: &Operation<'_>) -> Self {
        let is_anonymous = match self {
            Self::AnonymousDenied(Access::Configure) => true,
            Self::PolicyDenied(Access::Configure) => false,
            _ => return self,
        };
        let exception = operation.configure_cause.clone();
        exception.map_or(self, |exception| Self::NeedsConfigure { is_anonymous, configure_cause: exception })
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
    /// What the signature says of the body; none where nothing was verified.
    pub(crate) verified: Option<VerifiedSignature>,
    /// Whether its signature is of version 2, which covers less.
    is_sigv2: bool,
}

impl Caller {
    /// A client without proof of identity.
    pub(crate) const ANONYMOUS: Self =
        Self { identity: ClientIdentity::Anonymous, verified: None, is_sigv2: false };

    fn identified(identity: ClientIdentity) -> Self {
        Self { identity, verified: None, is_sigv2: false }
    }

    /// The key it signed with, or the API key it showed.
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
            ClientIdentity::Token(bearer) => Some(&bearer.policy),
            ClientIdentity::Anonymous => None,
        }
    }

    /// What its signature says of the body; none where nothing was verified.
    pub(crate) fn payload_hash(&self) -> Option<PayloadHash> {
        self.verified.as_ref().map(|verified| verified.payload)
    }

    /// The seed of the signatures of its chunks.
    pub(crate) fn take_signature_chain(&mut self) -> Option<SignatureChain> {
        self.verified.as_mut().and_then(|verified| verified.signature_chain.take())
    }
}

/// Authenticates the client of a request to a bucket.
pub(crate) async fn authenticate(
    head: Head<'_>,
    bucket: &Bucket,
    worker: &Worker,
) -> Result<Caller, AuthRejection> {
    let session = parse_session(head.headers)?;
    if bucket.config.auth.is_empty() {
        return Err(AuthRejection::BucketClosed);
    }
    let proofs = &bucket.accepted_auth;
    if proofs.is_signed_request(head) {
        if sigv2::is_presented(head) {
            return sigv2_auth::authenticate(head, proofs, worker);
        }
        let accepted = AcceptedRegions::for_request(head, &bucket.config, worker);
        return verify_sigv4(head, &accepted, worker).await;
    }
    if let Some(caller) = authenticate_bearer(head, proofs, worker).await? {
        return Ok(caller);
    }
    if !proofs.anonymous {
        return Err(missing_auth(bucket));
    }
    if let Some(id) = session {
        insert_new_session(&id, &worker.shared.actors.sessions).await;
    }
    Ok(Caller::ANONYMOUS)
}

/// The key that a presigned URL (SigV4) names. The signature is not verified.
pub(crate) fn presigned_key(head: Head<'_>, proofs: &AcceptedAuth, keyring: &Keyring) -> Option<KeyId> {
    if !proofs.signature || !sigv4::query::is_presigned(head.uri.query()?) {
        return None;
    }
    keyring.find(PresentedSignature::from_request(head).ok()??.access_key_id())
}

/// Authenticates the client of a request for the list of buckets. Proofs that no bucket accepts are ignored.
pub(crate) async fn authenticate_bucket_list(
    head: Head<'_>,
    worker: &Worker,
) -> Result<Caller, AuthRejection> {
    let router = &worker.shared.router;
    if router.accepted_auth().is_signed_request(head) && sigv2::is_presented(head) {
        return sigv2_auth::authenticate(head, router.accepted_auth(), worker);
    }
    if router.accepted_auth().is_signed_request(head) {
        return verify_sigv4(head, &AcceptedRegions::for_bucket_list(worker), worker).await;
    }
    Ok(authenticate_bearer(head, router.accepted_auth(), worker).await?.unwrap_or(Caller::ANONYMOUS))
}

/// Authenticates by API key or token; none where the request has neither. The value of `Bearer` may be either.
async fn authenticate_bearer(
    head: Head<'_>,
    proofs: &AcceptedAuth,
    worker: &Worker,
) -> Result<Option<Caller>, AuthRejection> {
    let shown = proofs.presented_api_key(head.headers)?;
    if let Some(PresentedAuth::ApiKey(secret) | PresentedAuth::Bearer(secret)) = shown {
        match worker.shared.keyring.find_api_key(secret) {
            Some(id) => return Ok(Some(Caller::identified(ClientIdentity::Key(id)))),
            None if matches!(shown, Some(PresentedAuth::Bearer(_))) && proofs.accepts_tokens() => {}
            None => return Err(AuthRejection::UnknownApiKey),
        }
    }
    let Some(token) = proofs.presented_token(head.headers, head.uri.query().unwrap_or_default())? else {
        return Ok(None);
    };
    let tokens = worker.shared.tokens.as_ref().ok_or(JwtRejection::NoKeys)?;
    let bearer = worker.token_cache.get_or_verify(&token, tokens, worker).await?;
    Ok(Some(Caller::identified(ClientIdentity::Token(bearer))))
}

async fn verify_sigv4(
    head: Head<'_>,
    accepted: &AcceptedRegions<'_>,
    worker: &Worker,
) -> Result<Caller, AuthRejection> {
    let claim = PresentedSignature::from_request(head)?.ok_or(AuthRejection::Unsigned)?;
    claim.check_scope(|region| accepted.contains(region), accepted.advertised())?;
    let keyring = &worker.shared.keyring;
    let id = keyring.find_with_token(claim.access_key_id(), claim.token())?;
    claim.check_time(clock::wall())?;
    let key = worker.signing_keys.get_or_derive(id, claim.date(), claim.region(), worker).await;
    let verified = claim.verify(head, key.bytes()).map_err(|rejection| match rejection {
        SignatureRejection::Mismatch => {
            let redaction = &worker.shared.redaction;
            let mismatch = claim.mismatch(head, |name| redaction.is_secret_name(name));
            AuthRejection::SignatureMismatch(Box::new(mismatch))
        }
        other => other.into(),
    })?;
    worker.signing_keys.insert_verified(id, key, worker);
    keyring.check_expiry(id, clock::wall())?;
    Ok(Caller { verified: Some(verified), ..Caller::identified(ClientIdentity::Key(id)) })
}

fn parse_session(headers: &HeaderMap) -> Result<Option<SessionId>, AuthRejection> {
    let Some(value) = headers.get(SESSION_HEADER) else { return Ok(None) };
    let id = value.to_str().ok().and_then(|text| SessionId::parse(text).ok());
    id.map(Some).ok_or(AuthRejection::MalformedSession)
}

/// Looks a session up, and remembers it if it is new.
async fn insert_new_session(id: &SessionId, sessions: &SessionsHandle) {
    if sessions.session(id).await.is_none() {
        sessions.insert_session(id, ClientIdentity::Anonymous).await;
    }
}

fn missing_auth(bucket: &Bucket) -> AuthRejection {
    if bucket.accepted_auth.is_signature_only() {
        AuthRejection::Unsigned
    } else {
        AuthRejection::MissingAuth(bucket.config.kind)
    }
}

/// Whether the caller may do this in a bucket, which it calls `name`; a copy must be a read of its source as well.
pub(crate) fn authorize(
    caller: &Caller,
    (bucket, name): (&Bucket, &str),
    head: Head<'_>,
    operation: &Operation<'_>,
    (router, keyring): (&Router, &Keyring),
) -> Result<(), AuthRejection> {
    let config = &bucket.config;
    let query = head.uri.query().unwrap_or_default();
    if caller.is_sigv2 {
        sigv2_auth::check_coverage(operation, head, &bucket.accepted_auth.strip_query(query))?;
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
    match CopySource::from_request(head.headers, query) {
        Ok(None) => Ok(()),
        // The section that a read of the source would reach: a narrower pattern may have other rules, or another store.
        Ok(Some(source)) if router.route(&source.bucket).is_ok_and(|found| found.id == bucket.id) => {
            may(&source.bucket, &Operation::get_object(&source.key))
                .map_err(|_| AuthRejection::CopySourceDenied)
        }
        Ok(Some(_)) | Err(InvalidCopySource) => Err(AuthRejection::CopySourceDenied),
    }
}

/// Whether the caller sees a bucket with an exact name in the list of buckets.
pub(crate) fn may_list_bucket(caller: &Caller, bucket: &Bucket, keyring: &Keyring) -> bool {
    bucket.accepted_auth.anonymous || may_list_name(caller, bucket, bucket.config.pattern.as_str(), keyring)
}

/// Whether the caller's proof lets it see the bucket `name` of a section in the list of buckets. Those of the embedded origin need
/// no proof.
pub(crate) fn may_list_name(caller: &Caller, bucket: &Bucket, name: &str, keyring: &Keyring) -> bool {
    bucket.config.is_embedded
        || accepted_policy(caller, bucket, keyring).is_some_and(|policy| policy::covers_bucket(policy, name))
}

/// Whether there is a name of the section by pattern that the caller's proof lets it see.
pub(crate) fn may_list_any(caller: &Caller, bucket: &Bucket, keyring: &Keyring) -> bool {
    bucket.config.is_embedded
        || accepted_policy(caller, bucket, keyring)
            .is_some_and(|policy| policy::overlaps_pattern(policy, &bucket.config.pattern))
}

/// The policy of a caller in a section, if the section accepts the caller's proof.
fn accepted_policy<'a>(
    caller: &'a Caller,
    bucket: &Bucket,
    keyring: &'a Keyring,
) -> Option<&'a PolicyConfig> {
    let proofs = &bucket.accepted_auth;
    let is_taken = match &caller.identity {
        ClientIdentity::Anonymous => false,
        ClientIdentity::Token(_) => proofs.accepts_tokens(),
        ClientIdentity::Key(id) if keyring.is_api_key(*id) => proofs.api_key,
        ClientIdentity::Key(_) if caller.is_sigv2 => proofs.sigv2_max_lifetime.is_some(),
        ClientIdentity::Key(_) => proofs.signature,
    };
    caller.policy(keyring).filter(|_| is_taken)
}
