//! What an upstream's answer, or its failure to answer, means: for the breaker (B3) and for a retry (R1).

use std::time::Duration;

use tidegate_actors::{FailureCause, Outcome};

use crate::upstream::{TimeoutKind, UpstreamRejection};

/// A judged attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Classification {
    /// For the breaker.
    pub(crate) outcome: Outcome,
    /// Whether another attempt may help.
    pub(crate) is_transient: bool,
}

/// Whether an answer says that too much was asked.
pub(crate) fn is_throttling(status: u16, code: Option<&str>) -> bool {
    status == 429 || code == Some("SlowDown")
}

/// Judges a status. `code` is the S3 error code, where the body was looked at.
pub(crate) fn classify_status(
    status: u16,
    code: Option<&str>,
    retry_after: Option<Duration>,
) -> Classification {
    match (status, code) {
        // Throttling says the upstream lives (B3).
        _ if is_throttling(status, code) => {
            Classification { outcome: Outcome::Neutral, is_transient: status >= 500 }
        }
        (400, Some("RequestTimeout")) => Classification { outcome: Outcome::Neutral, is_transient: true },
        (500 | 502..=504, _) => {
            Classification { outcome: failure(FailureCause::Status(status), retry_after), is_transient: true }
        }
        // 501 is an answer about the request, like a 4xx.
        (501, _) => Classification { outcome: Outcome::Neutral, is_transient: false },
        (505..=599, _) => Classification {
            outcome: failure(FailureCause::Status(status), retry_after),
            is_transient: false,
        },
        (400..=499, _) => Classification { outcome: Outcome::Neutral, is_transient: false },
        _ => Classification { outcome: Outcome::Success, is_transient: false },
    }
}

/// Whether a status says that the upstream has too much to do. An answer to HEAD has no document to say so in other words.
pub(crate) fn is_overload(status: u16) -> bool {
    matches!(status, 429 | 503)
}

/// Whether a status says that the connection is the wrong one for this `Host`.
pub(crate) fn is_misdirected(status: u16) -> bool {
    status == 421
}

/// Judges a call without an answer.
pub(crate) fn classify_rejection(rejection: &UpstreamRejection) -> Classification {
    let failed = |cause| Classification { outcome: failure(cause, None), is_transient: true };
    match rejection {
        UpstreamRejection::Connect(_) => failed(FailureCause::Connect),
        UpstreamRejection::Timeout(TimeoutKind::Connect) => failed(FailureCause::ConnectTimeout),
        UpstreamRejection::TlsRejected(_) => failed(FailureCause::TlsRejected),
        UpstreamRejection::Reset(_) => failed(FailureCause::Reset),
        UpstreamRejection::Decode(_) => {
            Classification { outcome: failure(FailureCause::Decode, None), is_transient: false }
        }
        UpstreamRejection::Timeout(phase) if phase.is_upstream_failure() => failed(FailureCause::Timeout),
        // The upstream lives, and the rest is the client's doing, or the gateway's own. A shortage is not retried: the next attempt
        // would need what is missing.
        UpstreamRejection::Redirect(_)
        | UpstreamRejection::WrongRegion(_)
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
        | UpstreamRejection::MemoryPressure
        | UpstreamRejection::InvalidTarget => {
            Classification { outcome: Outcome::Neutral, is_transient: false }
        }
    }
}

fn failure(cause: FailureCause, retry_after: Option<Duration>) -> Outcome {
    Outcome::Failure { cause, retry_after }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shortage::Shortage;

    /// R1
    #[test]
    fn what_is_retried() {
        for status in [500, 502, 503, 504] {
            assert!(classify_status(status, None, None).is_transient, "{status}");
        }
        for status in [200, 304, 400, 401, 403, 404, 405, 409, 412, 416, 501] {
            assert!(!classify_status(status, None, None).is_transient, "{status}");
        }
        assert!(classify_status(400, Some("RequestTimeout"), None).is_transient);
        assert!(classify_status(503, Some("SlowDown"), None).is_transient);
    }

    /// B3, X9: an own shortage neither counts nor is retried
    #[test]
    fn what_counts_against_the_upstream() {
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
            let verdict = classify_rejection(&UpstreamRejection::Shortage(shortage));
            assert_eq!(
                verdict,
                Classification { outcome: Outcome::Neutral, is_transient: false },
                "{shortage}"
            );
        }
        assert!(matches!(
            classify_rejection(&UpstreamRejection::Connect(String::new())).outcome,
            Outcome::Failure { .. }
        ));
    }
}
