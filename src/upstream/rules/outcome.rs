//! Classifies a response, or the failure of a call: for the breaker (B3) and for a retry (R1).
//!
//! Design: `docs/design/retries-and-hedging.md`.

use std::time::Duration;

use tidegate_actors::{FailureCause, Outcome};

use crate::upstream::{ExpiredTimeout, TimeoutKind, UpstreamRejection};

/// A classified attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Classification {
    /// The outcome for the breaker.
    pub(crate) outcome: Outcome,
    /// Whether another attempt may succeed.
    pub(crate) is_transient: bool,
}

/// Whether a response is throttling.
pub(crate) fn is_throttling(status: u16, code: Option<&str>) -> bool {
    status == 429 || code == Some("SlowDown")
}

/// Classifies a status. `code` is the S3 error code, if the body was read.
pub(crate) fn classify_status(
    status: u16,
    code: Option<&str>,
    retry_after: Option<Duration>,
) -> Classification {
    let failure = Outcome::Failure { cause: FailureCause::Status(status), retry_after };
    match (status, code) {
        // Throttling proves that the upstream is alive (B3).
        _ if is_throttling(status, code) => {
            Classification { outcome: Outcome::Neutral, is_transient: status >= 500 }
        }
        (400, Some("RequestTimeout")) => Classification { outcome: Outcome::Neutral, is_transient: true },
        (500 | 502..=504, _) => Classification { outcome: failure, is_transient: true },
        // 501 is a response about the request, like a 4xx.
        (501, _) => Classification { outcome: Outcome::Neutral, is_transient: false },
        (505..=599, _) => Classification { outcome: failure, is_transient: false },
        (400..=499, _) => Classification { outcome: Outcome::Neutral, is_transient: false },
        _ => Classification { outcome: Outcome::Success, is_transient: false },
    }
}

/// Whether a status means overload. The response to HEAD has no document with a code.
pub(crate) fn is_overload(status: u16) -> bool {
    matches!(status, 429 | 503)
}

/// Whether a status means that the connection is the wrong one for this `Host`.
pub(crate) fn is_misdirected(status: u16) -> bool {
    status == 421
}

/// Classifies a call without a response.
pub(crate) fn classify_rejection(rejection: &UpstreamRejection) -> Classification {
    let transient = |cause| Classification { outcome: failure(cause), is_transient: true };
    match rejection {
        UpstreamRejection::Connect(_) | UpstreamRejection::NoAddress(_) => transient(FailureCause::Connect),
        UpstreamRejection::Timeout(ExpiredTimeout { kind: TimeoutKind::Connect, .. }) => {
            transient(FailureCause::ConnectTimeout)
        }
        UpstreamRejection::TlsRejected(_) => transient(FailureCause::TlsRejected),
        UpstreamRejection::Reset(_) => transient(FailureCause::Reset),
        UpstreamRejection::Decode(_) => {
            Classification { outcome: failure(FailureCause::Decode), is_transient: false }
        }
        UpstreamRejection::Timeout(expired) if expired.kind.is_upstream_failure() => {
            transient(FailureCause::Timeout)
        }
        // The upstream is alive; the client or the gateway caused these. A shortage is not retried: the next attempt
        // would lack the same resource.
        UpstreamRejection::Redirect(_)
        | UpstreamRejection::WrongRegion(_)
        // An upstream may close an idle connection at any time (RFC 9112, 9.5).
        | UpstreamRejection::ReusedClosed(_)
        | UpstreamRejection::NoDeleteResult
        | UpstreamRejection::Shortage(_)
        | UpstreamRejection::Timeout(_)
        | UpstreamRejection::BodyTooLarge { .. }
        | UpstreamRejection::ClientGone
        | UpstreamRejection::BodyMalformed(_)
        | UpstreamRejection::InvalidUpload(_)
        | UpstreamRejection::HostNotInCertificate(_)
        | UpstreamRejection::NoCredentials(_)
        | UpstreamRejection::ClockSkew(_)
        | UpstreamRejection::UploadCut(_)
        | UpstreamRejection::BodyMemory(_)
        | UpstreamRejection::InvalidTarget
        | UpstreamRejection::CopySourceDenied
        | UpstreamRejection::Breaker(_)
        | UpstreamRejection::Pool(_) => Classification { outcome: Outcome::Neutral, is_transient: false },
    }
}

/// A failure without `Retry-After`.
pub(crate) fn failure(cause: FailureCause) -> Outcome {
    Outcome::Failure { cause, retry_after: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shortage::Shortage;

    /// R1
    #[test]
    fn transient_statuses_are_retried() {
        for status in [500, 502, 503, 504] {
            assert!(classify_status(status, None, None).is_transient, "{status}");
        }
        for status in [200, 304, 400, 401, 403, 404, 405, 409, 412, 416, 501] {
            assert!(!classify_status(status, None, None).is_transient, "{status}");
        }
        assert!(classify_status(400, Some("RequestTimeout"), None).is_transient);
        assert!(classify_status(503, Some("SlowDown"), None).is_transient);
    }

    /// B3, X9: a shortage in the gateway neither counts nor is retried
    #[test]
    fn failures_count_against_the_upstream() {
        let counts =
            |status, code| matches!(classify_status(status, code, None).outcome, Outcome::Failure { .. });
        assert!(counts(500, None) && counts(503, None) && counts(504, None));
        assert!(
            !counts(503, Some("SlowDown")) && !counts(429, None) && !counts(404, None) && !counts(501, None)
        );
        assert_eq!(classify_rejection(&UpstreamRejection::ClientGone).outcome, Outcome::Neutral);
        let misnamed = UpstreamRejection::HostNotInCertificate(String::new());
        let neutral = Classification { outcome: Outcome::Neutral, is_transient: false };
        assert_eq!((classify_rejection(&misnamed), classify_status(421, None, None)), (neutral, neutral));
        for shortage in Shortage::ALL {
            let classification = classify_rejection(&UpstreamRejection::Shortage(shortage));
            assert_eq!(classification, neutral, "{shortage}");
        }
        assert!(matches!(
            classify_rejection(&UpstreamRejection::Connect(String::new())).outcome,
            Outcome::Failure { .. }
        ));
    }
}
