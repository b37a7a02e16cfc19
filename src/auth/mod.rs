//! Who asks, and whether they may: closed unless the bucket says otherwise (A4).
//!
//! So far there is one way in, `anonymous`. A client may carry a session ID, under which a verified identity is kept,
//! so that a repeated client is not verified again; when the cache has no answer, the client is verified afresh.
//! Deliberately absent: signatures, tokens, keys and policies.

use actix_web::http::header::{HeaderMap, HeaderName};
use tidegate_actors::{Identity, SessionId, SessionsHandle};
use tidegate_config::{AuthMethod, BucketConfig};

/// The header by which a client names its session; it never travels on.
pub(crate) const SESSION: HeaderName = HeaderName::from_static("x-tidegate-session");

/// Why a client was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthRejection {
    /// The bucket has no `auth` entry.
    Closed,
    /// The session ID is none (V8).
    Session,
    /// The copy source is not the client's to read.
    CopySource,
}

/// Says who the client is, from its session or afresh.
pub(crate) async fn authenticate(
    headers: &HeaderMap,
    bucket: &BucketConfig,
    sessions: &SessionsHandle,
) -> Result<Identity, AuthRejection> {
    let session = match headers.get(SESSION) {
        Some(value) => {
            let id = value.to_str().ok().and_then(|text| SessionId::parse(text).ok());
            Some(id.ok_or(AuthRejection::Session)?)
        }
        None => None,
    };
    if let Some(id) = &session
        && let Some(identity) = sessions.resolve(id).await
        && may(&identity, bucket)
    {
        return Ok(identity);
    }
    let identity = verify(bucket)?;
    if let Some(id) = session {
        sessions.remember(&id, identity.clone()).await;
    }
    Ok(identity)
}

/// Whether a bucket lets this identity in.
pub(crate) fn may(identity: &Identity, bucket: &BucketConfig) -> bool {
    match identity {
        Identity::Anonymous => bucket.auth.contains(&AuthMethod::Anonymous),
    }
}

fn verify(bucket: &BucketConfig) -> Result<Identity, AuthRejection> {
    if may(&Identity::Anonymous, bucket) { Ok(Identity::Anonymous) } else { Err(AuthRejection::Closed) }
}
