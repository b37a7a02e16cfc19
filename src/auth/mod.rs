//! Who asks, and whether they may: closed unless the bucket says otherwise (A4).
//!
//! Two questions, asked one after the other. `authenticate`: who is it? A proof that the bucket takes and the request has
//! must be right: a signature, else an API key, else a token (`proofs` says where they stand). A wrong one never falls back to
//! another or to anonymous. Without proof the client is anonymous, where the bucket lets such in. `authorize`: may
//! they do this? `operation` reads from the request's head what it does and to which keys, `policy` holds that
//! against what the key's policy allows (A5). Nothing is allowed that is not named.
//!
//! A client may carry a session ID, under which an identity is kept. Clients choose these IDs, so they prove nothing: what
//! is kept there is only that the client is anonymous, and a signature is verified every time. What makes that cheap is
//! that the keys it is verified with are kept (`signing_keys`). A token proves something, and is remembered by its hash
//! (`bearers`). SigV2, where a bucket accepts it, is verified in `version_2`. A form brings its signature in its
//! body, where `form` looks for it.

mod answer;
mod bearers;
mod form;
pub(crate) mod jwt;
mod keyring;
mod multi_delete;
mod operation;
mod overrides;
mod policy;
mod proofs;
mod recent;
mod regions;
mod signing_keys;
mod version_2;

use actix_web::http::header::{HeaderMap, HeaderName};
use tidegate_actors::{Identity, KeyId, SessionId, SessionsHandle, clock};
use tidegate_config::{Access, Kind, PolicyConfig};

use crate::http::edge::Head;
use crate::router::{Bucket, Router};
use crate::s3::copy_source::{CopySource, NoSource};
use crate::s3::sigv2;
use crate::s3::sigv4::{Claim, PayloadHash, Seed, SignatureMismatch, SignatureRejection, Verified};
use crate::worker::Worker;

use jwt::JwtRejection;
use operation::Exception;
use proofs::{Repeated, Shown};
use regions::AcceptedRegions;

pub(crate) use answer::answer;
pub(crate) use bearers::Bearers;
pub(crate) use form::{authenticate_form, may_prove_form};
pub(crate) use keyring::Keyring;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use multi_delete::keys_of as delete_keys;
pub(crate) use multi_delete::{BYTES_MAX as LIST_BYTES_MAX, Screened, screen, screens};
pub(crate) use operation::Operation;
pub(crate) use overrides::check_overrides;
pub(crate) use proofs::Proofs;
pub(crate) use regions::Regions;
pub(crate) use signing_keys::SigningKeys;
pub(crate) use version_2::check_form_lifetime;

/// The header by which a client names its session; it never travels on.
pub(crate) const SESSION: HeaderName = HeaderName::from_static("x-tidegate-session");

/// Why a client was not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AuthRejection {
    /// The bucket has no `auth` entry.
    Closed,
    /// The session ID is none (V8).
    Session,
    /// The bucket takes signatures only, and there is none.
    Unsigned,
    /// The bucket takes proofs of other kinds as well or only, and there is none.
    Unproven(Kind),
    /// No API key is what was shown as one.
    ApiKey,
    /// The token was not believed.
    Token(JwtRejection),
    /// The signature was not accepted.
    Signature(SignatureRejection),
    /// The signature is another one; what was computed in its place.
    Mismatch(Box<SignatureMismatch>),
    /// The bucket does not let those without proof do this.
    AnonymousMay(Access),
    /// The key's policy does not allow this.
    PolicyLacks(Access),
    /// The copy source is not the client's to read.
    CopySource,
    /// An anonymous client chooses headers of the answer.
    AnonymousOverride,
    /// A list of keys to delete that is not understood.
    DeleteList(&'static str),
    /// A key with dot segments, for a caller whose policy has prefixes.
    DotSegment,
    /// An operation that needs `configure` because of this, for a caller without it. It is anonymous, or its policy lacks it.
    Exception {
        /// Whether the caller is anonymous.
        is_anonymous: bool,
        /// Why `configure` is needed.
        exception: Exception,
    },
    /// Two sub-resources of one request.
    Contradiction([&'static str; 2]),
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

impl From<Repeated> for AuthRejection {
    fn from(_: Repeated) -> Self {
        Self::ApiKey
    }
}

impl AuthRejection {
    /// Adds why an operation needs `configure`, where that is what the caller lacks.
    fn because_of(self, operation: &Operation<'_>) -> Self {
        let is_anonymous = match self {
            Self::AnonymousMay(Access::Configure) => true,
            Self::PolicyLacks(Access::Configure) => false,
            _ => return self,
        };
        let exception = operation.exception.clone();
        exception.map_or(self, |exception| Self::Exception { is_anonymous, exception })
    }

    /// Whether somebody may be guessing (L8).
    pub(crate) fn is_suspect(&self) -> bool {
        match self {
            Self::Session | Self::ApiKey | Self::Mismatch(_) => true,
            Self::Token(rejection) => rejection.is_suspect(),
            Self::Signature(rejection) => rejection.is_suspect(),
            Self::Closed
            | Self::Unsigned
            | Self::Unproven(_)
            | Self::AnonymousMay(_)
            | Self::PolicyLacks(_)
            | Self::CopySource
            | Self::AnonymousOverride
            | Self::DeleteList(_)
            | Self::DotSegment
            | Self::Exception { .. }
            | Self::Contradiction(_) => false,
        }
    }
}

/// A client that is known, or known to be nobody in particular.
pub(crate) struct Caller {
    pub(crate) identity: Identity,
    /// What the signature says of the body; none where nothing was verified.
    pub(crate) verified: Option<Verified>,
    /// Whether its signature is of version 2, which covers less.
    is_version_2: bool,
}

impl Caller {
    /// A client without proof of identity.
    pub(crate) const ANONYMOUS: Self =
        Self { identity: Identity::Anonymous, verified: None, is_version_2: false };

    fn known(identity: Identity) -> Self {
        Self { identity, verified: None, is_version_2: false }
    }

    /// The key it signed with, or the API key it showed.
    pub(crate) fn key(&self) -> Option<KeyId> {
        match self.identity {
            Identity::Key(id) => Some(id),
            Identity::Anonymous | Identity::Token(_) => None,
        }
    }

    /// What says what it may do; none for those without proof.
    fn policy<'a>(&'a self, keyring: &'a Keyring) -> Option<&'a PolicyConfig> {
        match &self.identity {
            Identity::Key(id) => Some(keyring.policy(*id)),
            Identity::Token(bearer) => Some(&bearer.policy),
            Identity::Anonymous => None,
        }
    }

    /// What its signature says of the body; none where nothing was verified.
    pub(crate) fn payload(&self) -> Option<PayloadHash> {
        self.verified.as_ref().map(|verified| verified.payload)
    }

    /// What the signatures of its chunks go on from.
    pub(crate) fn take_seed(&mut self) -> Option<Seed> {
        self.verified.as_mut().and_then(|verified| verified.seed.take())
    }
}

/// Says who the client of a bucket is.
pub(crate) async fn authenticate(
    head: Head<'_>,
    bucket: &Bucket,
    worker: &Worker,
) -> Result<Caller, AuthRejection> {
    let session = session(head.headers)?;
    if bucket.config.auth.is_empty() {
        return Err(AuthRejection::Closed);
    }
    let proofs = &bucket.proofs;
    if proofs.are_signature(head) {
        if sigv2::is_offered(head) {
            return version_2::authenticate(head, proofs, worker);
        }
        let accepted = AcceptedRegions::of_request(head, &bucket.config, worker);
        return verify(head, &accepted, worker).await;
    }
    if let Some(caller) = by_bearer(head, proofs, worker).await? {
        return Ok(caller);
    }
    if !proofs.anonymous {
        return Err(unproven(bucket));
    }
    if let Some(id) = session {
        recognise(&id, &worker.shared.actors.sessions).await;
    }
    Ok(Caller::ANONYMOUS)
}

/// Says who asks for the list of buckets. Proofs that no bucket takes are not looked at.
pub(crate) async fn authenticate_lister(head: Head<'_>, worker: &Worker) -> Result<Caller, AuthRejection> {
    let router = &worker.shared.router;
    if router.proofs().are_signature(head) && sigv2::is_offered(head) {
        return version_2::authenticate(head, router.proofs(), worker);
    }
    if router.proofs().are_signature(head) {
        return verify(head, &AcceptedRegions::of_lister(worker), worker).await;
    }
    Ok(by_bearer(head, router.proofs(), worker).await?.unwrap_or(Caller::ANONYMOUS))
}

/// Who shows an API key or a token; none where neither is shown. What stands behind `Bearer` may be either.
async fn by_bearer(
    head: Head<'_>,
    proofs: &Proofs,
    worker: &Worker,
) -> Result<Option<Caller>, AuthRejection> {
    let shown = proofs.api_key(head.headers)?;
    if let Some(Shown::ApiKey(secret) | Shown::Bearer(secret)) = shown {
        match worker.shared.keyring.find_api_key(secret) {
            Some(id) => return Ok(Some(Caller::known(Identity::Key(id)))),
            None if matches!(shown, Some(Shown::Bearer(_))) && proofs.takes_tokens() => {}
            None => return Err(AuthRejection::ApiKey),
        }
    }
    let Some(token) = proofs.token(head.headers, head.uri.query().unwrap_or_default())? else {
        return Ok(None);
    };
    let tokens = worker.shared.tokens.as_ref().ok_or(JwtRejection::NoKeys)?;
    let bearer = worker.bearers.get(&token, tokens, worker).await?;
    Ok(Some(Caller::known(Identity::Token(bearer))))
}

async fn verify(
    head: Head<'_>,
    accepted: &AcceptedRegions<'_>,
    worker: &Worker,
) -> Result<Caller, AuthRejection> {
    let claim = Claim::of(head)?.ok_or(AuthRejection::Unsigned)?;
    claim.check_scope(|region| accepted.contains(region), accepted.advertised())?;
    let keyring = &worker.shared.keyring;
    let id = keyring.find(claim.access_key_id()).ok_or(SignatureRejection::UnknownKey)?;
    claim.check_token(keyring.session_token(id))?;
    claim.check_time(clock::wall())?;
    let key = worker.signing_keys.get(id, claim.date(), claim.region(), worker).await;
    let verified = claim.verify(head, key.bytes()).map_err(|rejection| match rejection {
        SignatureRejection::Mismatch => {
            let redaction = &worker.shared.redaction;
            let mismatch = claim.mismatch(head, |name| redaction.names_secret(name));
            AuthRejection::Mismatch(Box::new(mismatch))
        }
        other => other.into(),
    })?;
    worker.signing_keys.verified(id, key, worker);
    if keyring.has_expired(id, clock::wall()) {
        return Err(SignatureRejection::KeyExpired.into());
    }
    Ok(Caller { identity: Identity::Key(id), verified: Some(verified), is_version_2: false })
}

fn session(headers: &HeaderMap) -> Result<Option<SessionId>, AuthRejection> {
    let Some(value) = headers.get(SESSION) else { return Ok(None) };
    let id = value.to_str().ok().and_then(|text| SessionId::parse(text).ok());
    id.map(Some).ok_or(AuthRejection::Session)
}

/// Looks a session up, and remembers it if it is new.
async fn recognise(id: &SessionId, sessions: &SessionsHandle) {
    if sessions.resolve(id).await.is_none() {
        sessions.remember(id, Identity::Anonymous).await;
    }
}

fn unproven(bucket: &Bucket) -> AuthRejection {
    if bucket.proofs.is_signature_only() {
        AuthRejection::Unsigned
    } else {
        AuthRejection::Unproven(bucket.config.kind)
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
    if caller.is_version_2 {
        version_2::check_coverage(operation, &bucket.proofs.without_proofs(query))?;
    }
    let may = |name: &str, operation: &Operation<'_>| match caller.policy(keyring) {
        Some(policy) => policy::allows(policy, name, operation),
        None if config.anonymous.contains(&operation.access) => Ok(()),
        None => Err(AuthRejection::AnonymousMay(operation.access)),
    };
    if let Some(Exception::Contradiction(names, accesses)) = &operation.exception {
        accesses.iter().try_for_each(|access| may(name, &operation.with_access(*access)))?;
        return Err(AuthRejection::Contradiction(*names));
    }
    may(name, operation).map_err(|rejection| rejection.because_of(operation))?;
    if config.kind != Kind::S3 {
        return Ok(());
    }
    match CopySource::of(head.headers, query) {
        Ok(None) => Ok(()),
        // The section that a read of the source would reach: a narrower pattern may have other rules, or another store.
        Ok(Some(source)) if router.route(&source.bucket).is_ok_and(|found| found.id == bucket.id) => {
            may(&source.bucket, &Operation::read(&source.key)).map_err(|_| AuthRejection::CopySource)
        }
        Ok(Some(_)) | Err(NoSource) => Err(AuthRejection::CopySource),
    }
}

/// Whether the caller sees a bucket with an exact name in the list of buckets.
pub(crate) fn sees(caller: &Caller, bucket: &Bucket, keyring: &Keyring) -> bool {
    bucket.proofs.anonymous || sees_name(caller, bucket, bucket.config.pattern.as_str(), keyring)
}

/// Whether the caller's proof lets it see the bucket `name` of a section in the list of buckets. Those of the embedded origin need
/// no proof.
pub(crate) fn sees_name(caller: &Caller, bucket: &Bucket, name: &str, keyring: &Keyring) -> bool {
    bucket.config.is_embedded
        || accepted_policy(caller, bucket, keyring).is_some_and(|policy| policy::names(policy, name))
}

/// Whether there is a name of the section by pattern that the caller's proof lets it see.
pub(crate) fn may_see_any(caller: &Caller, bucket: &Bucket, keyring: &Keyring) -> bool {
    bucket.config.is_embedded
        || accepted_policy(caller, bucket, keyring)
            .is_some_and(|policy| policy::overlaps(policy, &bucket.config.pattern))
}

/// The policy of a caller in a section, if the section accepts the caller's proof.
fn accepted_policy<'a>(
    caller: &'a Caller,
    bucket: &Bucket,
    keyring: &'a Keyring,
) -> Option<&'a PolicyConfig> {
    let proofs = &bucket.proofs;
    let is_taken = match &caller.identity {
        Identity::Anonymous => false,
        Identity::Token(_) => proofs.takes_tokens(),
        Identity::Key(id) if keyring.is_api_key(*id) => proofs.api_key,
        Identity::Key(_) if caller.is_version_2 => proofs.version_2.is_some(),
        Identity::Key(_) => proofs.signature,
    };
    caller.policy(keyring).filter(|_| is_taken)
}
