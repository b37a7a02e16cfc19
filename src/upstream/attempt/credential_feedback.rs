//! Feedback about the credential of a request, from the response (C3).
//!
//! *Throttled*: 429, and `SlowDown` of a store. *Suspect*: the codes of a store that name the credential,
//! `SignatureDoesNotMatch`, and 401 and 403 of an API. None of them proves anything, because a client can provoke
//! each with a request of its choice: the pool weighs them as evidence by client and target
//! (`actors/src/pool/credentials/refusal_evidence.rs`), and the gateway checks the credential itself (`health/credential_check.rs`).
//! *Accepted*: 2xx, 3xx and 404. `AccessDenied` of a store is no feedback about a credential, and neither is the
//! response to a HEAD, which has no code. Buckets without named credentials have no feedback.
//!
//! A throttled or suspect request had no effect. If it is replayable it may be retried at once with another
//! credential, within the attempts and the retry budget. The client does not get a response about the credential: it
//! names the gateway's credential, and the client's own is valid.

use std::time::Duration;

use tidegate_actors::{
    ClientIdentity, CredentialError, IpKey, Permit, RequestFingerprints, RetryTicket, clock,
};
use tidegate_config::Kind;

use crate::upstream::UpstreamRejection;
use crate::upstream::bucket::Bucket;
use crate::upstream::record::Record;
use crate::upstream::request::UpstreamRequest;
use crate::upstream::rules::outcome::is_throttling;

/// Feedback about a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CredentialFeedback {
    /// No feedback.
    Neutral,
    /// The upstream accepted the credential.
    Accepted,
    /// The credential is used too much. Do not use it for this long, if the upstream sent a duration.
    Throttled(Option<Duration>),
    /// The upstream refused the credential or the request.
    Suspect {
        /// Whether the response is about the credential. It is then not forwarded to the client.
        is_about_credential: bool,
    },
}

/// S3 error codes that name a credential ("Error responses", S3 API reference).
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
pub(crate) fn is_credential_error_code(code: &str) -> bool {
    CREDENTIAL_ERROR_CODES.contains(&code)
}

fn classify_feedback(
    kind: Kind,
    status: u16,
    code: Option<&str>,
    retry_after: Option<Duration>,
) -> CredentialFeedback {
    match (kind, status) {
        (_, ..=399) => CredentialFeedback::Accepted,
        _ if is_throttling(status, code) => CredentialFeedback::Throttled(retry_after),
        (Kind::S3, 400 | 401 | 403) if code.is_some_and(is_credential_error_code) => {
            CredentialFeedback::Suspect { is_about_credential: true }
        }
        (Kind::S3, 401 | 403) if code == Some("SignatureDoesNotMatch") => {
            CredentialFeedback::Suspect { is_about_credential: true }
        }
        // An upstream checks the credential before it looks up the object.
        (_, 404) | (Kind::S3, 412 | 416) => CredentialFeedback::Accepted,
        (Kind::Http, 401) => CredentialFeedback::Suspect { is_about_credential: true },
        (Kind::Http, 403) => CredentialFeedback::Suspect { is_about_credential: false },
        _ => CredentialFeedback::Neutral,
    }
}

/// Waits until the permit's credential is known. A request that is signed as its client uses none.
pub(crate) async fn ensure_ready(bucket: &Bucket, permit: &mut Permit, signs_as_client: bool) {
    if signs_as_client {
        permit.release_credential();
    } else {
        bucket.credentials.of_credential(permit.credential()).wait_until_known().await;
    }
}

/// Reports the feedback about the permit's credential to the pool.
pub(crate) fn report_feedback(
    bucket: &Bucket,
    permit: &Permit,
    response: Option<(u16, Option<&str>)>,
    (retry_after, evidence): (Option<Duration>, Option<RequestFingerprints>),
) -> CredentialFeedback {
    let response = permit.credential().zip(response).zip(evidence);
    let Some(((credential, (status, code)), evidence)) = response else { return CredentialFeedback::Neutral };
    let feedback = classify_feedback(bucket.config.kind, status, code, retry_after);
    match feedback {
        CredentialFeedback::Accepted => bucket.pool.report_accepted(credential, evidence, clock::now()),
        CredentialFeedback::Throttled(retry_after) => {
            bucket.pool.report_credential_error(credential, CredentialError::Throttled(retry_after))
        }
        CredentialFeedback::Suspect { .. } => {
            bucket.pool.report_credential_error(credential, CredentialError::SuspectedRefusal(evidence))
        }
        CredentialFeedback::Neutral => {}
    }
    feedback
}

/// Fingerprints of client and target, as evidence about a credential. None if the bucket has no named credentials.
pub(crate) fn evidence(
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

/// Whether the error code of a store decides what a response with this status means.
pub(crate) fn depends_on_code(status: u16) -> bool {
    matches!(status, 401 | 403)
}

/// Switches to another credential, if one has capacity and the retry budget allows it.
pub(crate) async fn retry_with_other(
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
    pub(crate) fn is_credential_error(self) -> bool {
        matches!(self, Self::Throttled(_) | Self::Suspect { .. })
    }

    /// The error that the client gets instead of the response.
    pub(crate) fn rejection(self) -> Option<UpstreamRejection> {
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

    /// C3: the code decides, so a forbidden object or a malformed request makes no credential suspect
    #[test]
    fn feedback_depends_on_status_and_code() {
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
            "the response to a HEAD"
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
