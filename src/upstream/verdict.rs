//! What an upstream's answer, or its failure to answer, means: for the breaker (B3) and for a retry (R1).

use std::time::Duration;

use tidegate_actors::{Cause, Outcome};

use crate::upstream::{Phase, UpstreamRejection};

/// A judged attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// For the breaker.
    pub(crate) outcome: Outcome,
    /// Whether another attempt may help.
    pub(crate) transient: bool,
}

/// Whether an answer says that too much was asked.
pub(crate) fn is_throttling(status: u16, code: Option<&str>) -> bool {
    status == 429 || code == Some("SlowDown")
}

/// Judges a status. `code` is the S3 error code, where the body was looked at.
pub(crate) fn of_status(status: u16, code: Option<&str>, retry_after: Option<Duration>) -> Verdict {
    match (status, code) {
        // Throttling says the upstream lives (B3).
        _ if is_throttling(status, code) => Verdict { outcome: Outcome::Neutral, transient: status >= 500 },
        (400, Some("RequestTimeout")) => Verdict { outcome: Outcome::Neutral, transient: true },
        (500 | 502..=504, _) => {
            Verdict { outcome: failure(Cause::Status(status), retry_after), transient: true }
        }
        // 501 is an answer about the request, like a 4xx.
        (501, _) => Verdict { outcome: Outcome::Neutral, transient: false },
        (505..=599, _) => Verdict { outcome: failure(Cause::Status(status), retry_after), transient: false },
        (400..=499, _) => Verdict { outcome: Outcome::Neutral, transient: false },
        _ => Verdict { outcome: Outcome::Success, transient: false },
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
pub(crate) fn of_failure(rejection: &UpstreamRejection) -> Verdict {
    let failed = |cause| Verdict { outcome: failure(cause, None), transient: true };
    match rejection {
        UpstreamRejection::Connect(_) => failed(Cause::Connect),
        UpstreamRejection::Timeout(Phase::Connect) => failed(Cause::ConnectTimeout),
        UpstreamRejection::Distrust(_) => failed(Cause::Distrust),
        UpstreamRejection::Reset(_) => failed(Cause::Reset),
        UpstreamRejection::Decode(_) => Verdict { outcome: failure(Cause::Decode, None), transient: false },
        UpstreamRejection::Timeout(phase) if phase.is_upstreams() => failed(Cause::Timeout),
        // The upstream lives, and the rest is the client's doing, or the gateway's own. A shortage is not retried: the next attempt
        // would need what is missing.
        UpstreamRejection::Redirect(_)
        | UpstreamRejection::Region(_)
        | UpstreamRejection::NoDeleteResult
        | UpstreamRejection::Shortage(_)
        | UpstreamRejection::Timeout(_)
        | UpstreamRejection::BodyTooLarge { .. }
        | UpstreamRejection::ClientGone
        | UpstreamRejection::BodyMalformed(_)
        | UpstreamRejection::Upload(_)
        | UpstreamRejection::HostNotInCertificate(_)
        | UpstreamRejection::Credentials(_)
        | UpstreamRejection::ClockSkew(_)
        | UpstreamRejection::MemoryPressure
        | UpstreamRejection::Target => Verdict { outcome: Outcome::Neutral, transient: false },
    }
}

fn failure(cause: Cause, retry_after: Option<Duration>) -> Outcome {
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
            assert!(of_status(status, None, None).transient, "{status}");
        }
        for status in [200, 304, 400, 401, 403, 404, 405, 409, 412, 416, 501] {
            assert!(!of_status(status, None, None).transient, "{status}");
        }
        assert!(of_status(400, Some("RequestTimeout"), None).transient);
        assert!(of_status(503, Some("SlowDown"), None).transient);
    }

    /// B3, X9: an own shortage neither counts nor is retried
    #[test]
    fn what_counts_against_the_upstream() {
        let counts = |status, code| matches!(of_status(status, code, None).outcome, Outcome::Failure { .. });
        assert!(counts(500, None) && counts(503, None) && counts(504, None));
        assert!(
            !counts(503, Some("SlowDown")) && !counts(429, None) && !counts(404, None) && !counts(501, None)
        );
        assert_eq!(of_failure(&UpstreamRejection::ClientGone).outcome, Outcome::Neutral);
        let misnamed = UpstreamRejection::HostNotInCertificate(String::new());
        let neutral = Verdict { outcome: Outcome::Neutral, transient: false };
        assert_eq!((of_failure(&misnamed), of_status(421, None, None)), (neutral, neutral));
        for shortage in Shortage::ALL {
            let verdict = of_failure(&UpstreamRejection::Shortage(shortage));
            assert_eq!(verdict, Verdict { outcome: Outcome::Neutral, transient: false }, "{shortage}");
        }
        assert!(matches!(
            of_failure(&UpstreamRejection::Connect(String::new())).outcome,
            Outcome::Failure { .. }
        ));
    }
}
