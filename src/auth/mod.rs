//! Who asks, and whether they may: closed unless the bucket says otherwise (A4).
//!
//! Two questions, asked one after the other. `authenticate`: who is it? A signature, where the bucket takes signatures
//! and the request has one, must be right; a wrong one never falls back to anonymous. Without proof the client is
//! anonymous, where the bucket lets such in. `authorize`: may they do this? `operation` reads from the request's head
//! what it does and to which keys, `policy` holds that against what the key's policy allows (A5). Nothing is
//! allowed that is not named.
//!
//! A client may carry a session ID, under which an identity is kept. Clients choose these IDs, so they prove nothing: what
//! is kept there is only that the client is anonymous, and a signature is verified every time. What makes that cheap is
//! that the keys it is verified with are kept (`signing_keys`).
//! A form brings its signature in its body, where `form` looks for it. Deliberately absent: tokens and API keys.

mod answer;
mod form;
mod keyring;
mod multi_delete;
mod operation;
mod policy;
mod signing_keys;

use actix_web::http::header::{HeaderMap, HeaderName};
use tidegate_actors::{Identity, KeyId, SessionId, SessionsHandle, clock};
use tidegate_config::{Access, AuthMethod, BucketConfig, Kind};

use crate::http::edge::Head;
use crate::router::Bucket;
use crate::s3::copy_source::{CopySource, NoSource};
use crate::s3::sigv4::{Claim, PayloadHash, Seed, SignatureRejection, Verified, offers_proof};
use crate::worker::Worker;

pub(crate) use answer::answer;
pub(crate) use form::authenticate_form;
pub(crate) use keyring::Keyring;
pub(crate) use multi_delete::{BYTES_MAX as LIST_BYTES_MAX, screen, screens};
pub(crate) use operation::Operation;
pub(crate) use signing_keys::SigningKeys;

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
    /// The signature was not accepted.
    Signature(SignatureRejection),
    /// The bucket does not let those without proof do this.
    AnonymousMay(Access),
    /// The key's policy does not allow this.
    PolicyLacks(Access),
    /// The copy source is not the client's to read.
    CopySource,
    /// A list of keys to delete that is not understood.
    DeleteList(&'static str),
    /// A key with dot segments, for a caller whose policy has prefixes.
    DotSegment,
}

impl From<SignatureRejection> for AuthRejection {
    fn from(rejection: SignatureRejection) -> Self {
        Self::Signature(rejection)
    }
}

impl AuthRejection {
    /// Whether somebody may be guessing (L8).
    pub(crate) fn is_suspect(&self) -> bool {
        match self {
            Self::Session => true,
            Self::Signature(rejection) => rejection.is_suspect(),
            Self::Closed
            | Self::Unsigned
            | Self::AnonymousMay(_)
            | Self::PolicyLacks(_)
            | Self::CopySource
            | Self::DeleteList(_)
            | Self::DotSegment => false,
        }
    }
}

/// A client that is known, or known to be nobody in particular.
pub(crate) struct Caller {
    pub(crate) identity: Identity,
    /// What the signature says of the body; none where nothing was verified.
    pub(crate) verified: Option<Verified>,
}

impl Caller {
    const ANONYMOUS: Self = Self { identity: Identity::Anonymous, verified: None };

    /// The key it signed with.
    pub(crate) fn key(&self) -> Option<KeyId> {
        match self.identity {
            Identity::Key(id) => Some(id),
            Identity::Anonymous => None,
        }
    }

    /// What its signature says of the body; none where nothing was verified.
    pub(crate) fn payload(&self) -> Option<PayloadHash> {
        self.verified.as_ref().map(|verified| verified.payload)
    }

    /// What the signatures of its chunks go on from.
    pub(crate) fn into_seed(self) -> Option<Seed> {
        self.verified.and_then(|verified| verified.seed)
    }
}

/// Says who the client of a bucket is.
pub(crate) async fn authenticate(
    head: Head<'_>,
    bucket: &BucketConfig,
    worker: &Worker,
) -> Result<Caller, AuthRejection> {
    let session = session(head.headers)?;
    if bucket.auth.is_empty() {
        return Err(AuthRejection::Closed);
    }
    if bucket.auth.contains(&AuthMethod::Sigv4) && offers_proof(head) {
        let region = bucket.upstream.region.as_str();
        return verify(head, |given| given == region, region, worker).await;
    }
    if !bucket.auth.contains(&AuthMethod::Anonymous) {
        return Err(AuthRejection::Unsigned);
    }
    if let Some(id) = session {
        recognise(&id, &worker.shared.actors.sessions).await;
    }
    Ok(Caller::ANONYMOUS)
}

/// Says who asks for the list of buckets. A gateway of which no bucket takes signatures does not look at them.
pub(crate) async fn authenticate_lister(head: Head<'_>, worker: &Worker) -> Result<Caller, AuthRejection> {
    let buckets = worker.shared.router.buckets();
    let mut signed =
        buckets.iter().filter(|bucket| bucket.config.auth.contains(&AuthMethod::Sigv4)).peekable();
    let Some(first) = signed.peek().filter(|_| offers_proof(head)) else { return Ok(Caller::ANONYMOUS) };
    let expected = first.config.upstream.region.as_str();
    let accepts = |given: &str| signed.clone().any(|bucket| bucket.config.upstream.region == given);
    verify(head, accepts, expected, worker).await
}

async fn verify(
    head: Head<'_>,
    accepts: impl Fn(&str) -> bool,
    expected: &str,
    worker: &Worker,
) -> Result<Caller, AuthRejection> {
    let claim = Claim::of(head)?.ok_or(AuthRejection::Unsigned)?;
    claim.check_scope(accepts, expected)?;
    let keyring = &worker.shared.keyring;
    let id = keyring.find(claim.access_key_id()).ok_or(SignatureRejection::UnknownKey)?;
    claim.check_token(keyring.session_token(id))?;
    claim.check_time(clock::wall())?;
    let key = worker.signing_keys.get(id, claim.date(), claim.region(), worker).await;
    let verified = claim.verify(head, &key)?;
    if keyring.has_expired(id, clock::wall()) {
        return Err(SignatureRejection::KeyExpired.into());
    }
    Ok(Caller { identity: Identity::Key(id), verified: Some(verified) })
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

/// Whether the caller may do this in a bucket, which it calls `name`; a copy must be a read of its source as well.
pub(crate) fn authorize(
    caller: &Caller,
    (bucket, name): (&Bucket, &str),
    head: Head<'_>,
    operation: &Operation<'_>,
    keyring: &Keyring,
) -> Result<(), AuthRejection> {
    let config = &bucket.config;
    let may = |name: &str, operation: &Operation<'_>| match caller.key() {
        Some(id) => policy::allows(keyring.policy(id), name, operation),
        None if config.anonymous.contains(&operation.access) => Ok(()),
        None => Err(AuthRejection::AnonymousMay(operation.access)),
    };
    may(name, operation)?;
    if config.kind != Kind::S3 {
        return Ok(());
    }
    let query = head.uri.query().unwrap_or_default();
    match CopySource::of(head.headers, query) {
        Ok(None) => Ok(()),
        Ok(Some(source)) if config.pattern.matches(&source.bucket) => {
            may(&source.bucket, &Operation::read(&source.key)).map_err(|_| AuthRejection::CopySource)
        }
        Ok(Some(_)) | Err(NoSource) => Err(AuthRejection::CopySource),
    }
}

/// Whether the caller sees a bucket in the list of buckets.
pub(crate) fn sees(caller: &Caller, bucket: &BucketConfig, keyring: &Keyring) -> bool {
    let named = |id: KeyId| {
        bucket.auth.contains(&AuthMethod::Sigv4) && policy::names(keyring.policy(id), bucket.pattern.as_str())
    };
    bucket.auth.contains(&AuthMethod::Anonymous) || caller.key().is_some_and(named)
}
