//! What an answer says of the credential that the request went on with (C3).
//!
//! *Throttled*: 429, and of a store `SlowDown`. *Refused*: codes of a store that name the credential, of an API 401.
//! *Doubted*: what may as well be the request's fault, a store's `SignatureDoesNotMatch` (an odd path) and an API's 403 (one
//! object that this credential may not see); the roster wants a row of them. A store's `AccessDenied` says nothing of a credential,
//! and the answer to a HEAD has no code, so it says nothing either. Where a bucket's credentials have no names nothing is asked.
//!
//! A request that was throttled or refused has had no effect, so that it may go on as somebody else at once, if it
//! can be repeated, within the attempts and the budget. What the upstream says to a refused credential is not the
//! client's to read: it names the credential, and the client's own is good.

use std::time::Duration;

use tidegate_actors::{Permit, RetryTicket, Setback, clock};
use tidegate_config::Kind;

use crate::router::Bucket;
use crate::upstream::UpstreamRejection;
use crate::upstream::verdict::is_throttling;

/// What was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing.
    Nothing,
    /// It is somebody's.
    Accepted,
    /// Something against it.
    Against(Setback),
}

/// Error codes of S3 that name a credential as such ("Error responses", S3 API reference).
const REFUSALS: [&str; 7] = [
    "AccountProblem",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidSecurity",
    "InvalidToken",
    "NotSignedUp",
    "TokenRefreshRequired",
];

fn of_status(kind: Kind, status: u16, code: Option<&str>, asked: Option<Duration>) -> Said {
    let is_code = |codes: &[&str]| code.is_some_and(|code| codes.contains(&code));
    match (kind, status) {
        (_, ..=399) => Said::Accepted,
        _ if is_throttling(status, code) => Said::Against(Setback::Throttled(asked)),
        (Kind::S3, 400 | 401 | 403) if is_code(&REFUSALS) => Said::Against(Setback::Refused),
        (Kind::S3, 401 | 403) if is_code(&["SignatureDoesNotMatch"]) => Said::Against(Setback::Doubted),
        // A store looks at the signature before it looks for the object.
        (Kind::S3, 404 | 412 | 416) => Said::Accepted,
        (Kind::Http, 401) => Said::Against(Setback::Refused),
        (Kind::Http, 403) => Said::Against(Setback::Doubted),
        _ => Said::Nothing,
    }
}

/// Sees to it that it is known as whom a request goes on. One that goes on as its own client takes no credential along.
pub(super) async fn assume(bucket: &Bucket, permit: &mut Permit, is_own: bool) {
    if is_own {
        permit.go_without_credential();
    } else {
        bucket.credentials.of(permit.credential()).known().await;
    }
}

/// Tells the pool what an answer says of the permit's credential.
pub(super) fn settle(
    bucket: &Bucket,
    permit: &Permit,
    answer: Option<(u16, Option<&str>)>,
    asked: Option<Duration>,
) -> Said {
    let Some((credential, (status, code))) = permit.credential().zip(answer) else { return Said::Nothing };
    let said = of_status(bucket.config.kind, status, code, asked);
    match said {
        Said::Accepted => bucket.pool.accepted(credential, clock::now()),
        Said::Against(setback) => bucket.pool.set_back(credential, setback),
        Said::Nothing => {}
    }
    said
}

/// Whether only its code tells what a store's answer with this status says.
pub(super) fn is_told_by_code(status: u16) -> bool {
    matches!(status, 401 | 403)
}

/// Moves on to another credential, if one has room and the bucket may try again.
pub(super) async fn go_on_as_other(bucket: &Bucket, permit: &mut Permit) -> Option<(Duration, RetryTicket)> {
    if !bucket.pool.has_other_credential(permit, clock::now()) {
        return None;
    }
    let ticket = bucket.pool.retry().await?;
    bucket.pool.trade(permit).await.then_some((Duration::ZERO, ticket))
}

impl Said {
    pub(super) fn is_setback(self) -> bool {
        matches!(self, Self::Against(_))
    }

    /// What the client is told in place of the answer.
    pub(super) fn rejection(self, kind: Kind) -> Option<UpstreamRejection> {
        match (self, kind) {
            (Self::Against(Setback::Refused), _) | (Self::Against(Setback::Doubted), Kind::S3) => {
                Some(UpstreamRejection::Credentials("the upstream refuses them"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C3: judged by code, so that an object that nobody may see, or a broken request, withdraws no credential
    #[test]
    fn what_is_held_against_a_credential() {
        let store = |status, code: &str| of_status(Kind::S3, status, Some(code), None);
        for code in REFUSALS {
            assert_eq!(store(403, code), Said::Against(Setback::Refused), "{code}");
        }
        assert_eq!(store(400, "ExpiredToken"), Said::Against(Setback::Refused));
        assert_eq!(store(403, "SignatureDoesNotMatch"), Said::Against(Setback::Doubted));
        assert_eq!(store(503, "SlowDown"), Said::Against(Setback::Throttled(None)));
        for (status, code) in [
            (403, "AccessDenied"),
            (403, "RequestTimeTooSkewed"),
            (400, "AuthorizationHeaderMalformed"),
            (404, "InvalidAccessKeyId"),
            (503, "ServiceUnavailable"),
            (500, "InternalError"),
        ] {
            assert!(!store(status, code).is_setback(), "{status} {code}");
        }
        assert_eq!(of_status(Kind::S3, 403, None, None), Said::Nothing, "the answer to a HEAD");
        let api = |status| of_status(Kind::Http, status, None, Some(Duration::from_secs(7)));
        assert_eq!(api(429), Said::Against(Setback::Throttled(Some(Duration::from_secs(7)))));
        assert_eq!((api(401), api(403)), (Said::Against(Setback::Refused), Said::Against(Setback::Doubted)));
        assert_eq!(
            (api(200), api(304), api(404), api(503)),
            (Said::Accepted, Said::Accepted, Said::Nothing, Said::Nothing)
        );
    }
}
