//! What an answer says of the credential that the request went on with (C3).
//!
//! *Throttled*: 429, and of a store `SlowDown`. *Doubted*: a store's codes that name the credential and `SignatureDoesNotMatch`, an
//! API's 401 and 403. None of them proves anything, as a client can provoke each with a request of its choice: the pool weighs
//! who asked for what (`actors/src/pool/doubt.rs`) and has the gateway check by itself (`credential_check.rs`). *Accepted*: 2xx, 3xx
//! and 404. A store's `AccessDenied` says nothing of a credential, and the answer to a HEAD has no code, so it says nothing
//! either. Where a bucket's credentials have no names nothing is asked.
//!
//! A request that was throttled or doubted has had no effect, so that it may go on as somebody else at once, if it
//! can be repeated, within the attempts and the budget. What the upstream says to a refused credential is not the
//! client's to read: it names the credential, and the client's own is good.

use std::time::Duration;

use tidegate_actors::{
    ClientIdentity, CredentialError, IpKey, Permit, RequestFingerprints, RetryTicket, clock,
};
use tidegate_config::Kind;

use crate::router::Bucket;
use crate::telemetry::record::Record;
use crate::upstream::UpstreamRejection;
use crate::upstream::outcome::is_throttling;
use crate::upstream::request::UpstreamRequest;

/// What was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CredentialFeedback {
    /// Nothing.
    Neutral,
    /// It is somebody's.
    Accepted,
    /// It is used too much; leave it alone for so long, if the upstream says how long.
    Throttled(Option<Duration>),
    /// It may be refused, or the request is.
    Suspect {
        /// Whether the answer is about who asks, and so not for the client to read.
        is_about_credential: bool,
    },
}

/// Error codes of S3 that name a credential as such ("Error responses", S3 API reference).
const CREDENTIAL_ERROR_CODES: [&str; 7] = [
    "AccountProblem",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidSecurity",
    "InvalidToken",
    "NotSignedUp",
    "TokenRefreshRequired",
];

/// Whether an error code of S3 names the credential.
pub(super) fn is_credential_error_code(code: &str) -> bool {
    CREDENTIAL_ERROR_CODES.contains(&code)
}

fn classify_feedback(
    kind: Kind,
    status: u16,
    code: Option<&str>,
    asked: Option<Duration>,
) -> CredentialFeedback {
    match (kind, status) {
        (_, ..=399) => CredentialFeedback::Accepted,
        _ if is_throttling(status, code) => CredentialFeedback::Throttled(asked),
        (Kind::S3, 400 | 401 | 403) if code.is_some_and(is_credential_error_code) => {
            CredentialFeedback::Suspect { is_about_credential: true }
        }
        (Kind::S3, 401 | 403) if code == Some("SignatureDoesNotMatch") => {
            CredentialFeedback::Suspect { is_about_credential: true }
        }
        // An upstream looks at the credential before it looks for the object.
        (_, 404) | (Kind::S3, 412 | 416) => CredentialFeedback::Accepted,
        (Kind::Http, 401) => CredentialFeedback::Suspect { is_about_credential: true },
        (Kind::Http, 403) => CredentialFeedback::Suspect { is_about_credential: false },
        _ => CredentialFeedback::Neutral,
    }
}

/// Sees to it that it is known as whom a request goes on. One that goes on as its own client takes no credential along.
pub(super) async fn ensure_ready(bucket: &Bucket, permit: &mut Permit, is_own: bool) {
    if is_own {
        permit.release_credential();
    } else {
        bucket.credentials.of_credential(permit.credential()).wait_until_known().await;
    }
}

/// Tells the pool what an answer says of the permit's credential.
pub(super) fn report_feedback(
    bucket: &Bucket,
    permit: &Permit,
    answer: Option<(u16, Option<&str>)>,
    (asked, evidence): (Option<Duration>, Option<RequestFingerprints>),
) -> CredentialFeedback {
    let answer = permit.credential().zip(answer).zip(evidence);
    let Some(((credential, (status, code)), evidence)) = answer else { return CredentialFeedback::Neutral };
    let feedback = classify_feedback(bucket.config.kind, status, code, asked);
    match feedback {
        CredentialFeedback::Accepted => bucket.pool.report_accepted(credential, evidence, clock::now()),
        CredentialFeedback::Throttled(asked) => {
            bucket.pool.report_credential_error(credential, CredentialError::Throttled(asked))
        }
        CredentialFeedback::Suspect { .. } => {
            bucket.pool.report_credential_error(credential, CredentialError::SuspectedRefusal(evidence))
        }
        CredentialFeedback::Neutral => {}
    }
    feedback
}

/// Who asks for what, as evidence for or against a credential; none in a bucket without several.
pub(super) fn evidence(
    bucket: &Bucket,
    outbound: &UpstreamRequest,
    record: &Record,
) -> Option<RequestFingerprints> {
    if bucket.config.upstream.credentials_by_name.is_empty() {
        return None;
    }
    let pool = &bucket.pool;
    let address = || record.request.client.as_ref().map(|client| IpKey::from(client.address));
    let client = match &record.caller {
        Some(ClientIdentity::Key(key)) => pool.fingerprint(("key", key)),
        Some(ClientIdentity::Token(bearer)) if bearer.subject.is_some() => pool.fingerprint(&bearer.subject),
        _ => pool.fingerprint(address()),
    };
    let (method, target) = (outbound.request.head().method, &outbound.target);
    let path = pool.fingerprint(target.path());
    let request = pool.fingerprint((method.as_str(), target.as_str()));
    Some(RequestFingerprints { client, path, request })
}

/// Whether only its code tells what a store's answer with this status says.
pub(super) fn depends_on_code(status: u16) -> bool {
    matches!(status, 401 | 403)
}

/// Moves on to another credential, if one has room and the bucket may try again.
pub(super) async fn retry_with_other(
    bucket: &Bucket,
    permit: &mut Permit,
) -> Option<(Duration, RetryTicket)> {
    if !bucket.pool.has_other_credential(permit, clock::now()) {
        return None;
    }
    let ticket = bucket.pool.acquire_retry().await?;
    bucket.pool.switch_credential(permit).await.then_some((Duration::ZERO, ticket))
}

impl CredentialFeedback {
    pub(super) fn is_credential_error(self) -> bool {
        matches!(self, Self::Throttled(_) | Self::Suspect { .. })
    }

    /// What the client is told in place of the answer.
    pub(super) fn rejection(self) -> Option<UpstreamRejection> {
        match self {
            Self::Suspect { is_about_credential: true } => {
                Some(UpstreamRejection::NoCredentials("the upstream refuses them"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C3: judged by code, so that an object that nobody may see, or a broken request, raises no doubt
    #[test]
    fn what_is_held_against_a_credential() {
        let store = |status, code: &str| classify_feedback(Kind::S3, status, Some(code), None);
        let named = CredentialFeedback::Suspect { is_about_credential: true };
        for code in CREDENTIAL_ERROR_CODES {
            assert_eq!(store(403, code), named, "{code}");
        }
        assert_eq!((store(400, "ExpiredToken"), store(403, "SignatureDoesNotMatch")), (named, named));
        assert_eq!(store(503, "SlowDown"), CredentialFeedback::Throttled(None));
        for (status, code) in [
            (403, "AccessDenied"),
            (403, "RequestTimeTooSkewed"),
            (400, "AuthorizationHeaderMalformed"),
            (404, "InvalidAccessKeyId"),
            (503, "ServiceUnavailable"),
            (500, "InternalError"),
        ] {
            assert!(!store(status, code).is_credential_error(), "{status} {code}");
        }
        assert_eq!(
            classify_feedback(Kind::S3, 403, None, None),
            CredentialFeedback::Neutral,
            "the answer to a HEAD"
        );
        let api = |status| classify_feedback(Kind::Http, status, None, Some(Duration::from_secs(7)));
        assert_eq!(api(429), CredentialFeedback::Throttled(Some(Duration::from_secs(7))));
        assert_eq!((api(401), api(403)), (named, CredentialFeedback::Suspect { is_about_credential: false }));
        assert_eq!(
            (api(200), api(304), api(404), api(503)),
            (
                CredentialFeedback::Accepted,
                CredentialFeedback::Accepted,
                CredentialFeedback::Accepted,
                CredentialFeedback::Neutral
            )
        );
    }
}
