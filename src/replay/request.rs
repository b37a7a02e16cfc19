//! A recorded request as a replay needs it, made from its access line.

use std::net::IpAddr;
use std::time::Duration;

use tidegate_actors::OperationClass;
use tidegate_actors::replay::{CallOutcome, Refusal};

use crate::replay::log::line::RequestFields;
use crate::replay::names::{LogNames, LoggedClient, Names};

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RefusalReason {
    /// A replay decides it.
    Decided(Refusal),
    /// The number of another reason.
    Other(u32),
}

impl RefusalReason {
    /// Why the gateway refused the request of a line; none if it was admitted. A request with another reason than a refusal may have been
    /// admitted: its call failed, or a transfer was broken.
    pub(crate) fn of(fields: &RequestFields<'_>, reasons: &mut Names) -> Option<Self> {
        let reason = fields.reason.as_deref()?;
        let decided = Refusal::from_reason(reason).map(Self::Decided);
        // A reason with a lower status broke the transfer of an answer.
        let is_refused = !is_called(fields) && fields.status >= 400;
        decided.or_else(|| is_refused.then(|| Self::Other(reasons.id(reason))))
    }
}

fn is_called(fields: &RequestFields<'_>) -> bool {
    fields.attempts.is_some_and(|attempts| attempts > 0)
}

/// Refusals because of load that a replay does not decide: the process's cursor, and the actions of resource levels.
const SHED: [&str; 3] = ["exhausted", "shed", "shed_upload"];

/// A recorded request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RecordedRequest {
    /// Microseconds since 1970.
    pub(crate) start_us: u64,
    pub(crate) total_us: u64,
    /// The number of its bucket; none if it named no configured one.
    pub(crate) bucket: Option<u32>,
    pub(crate) class: OperationClass,
    pub(crate) address: Option<IpAddr>,
    pub(crate) client: LoggedClient,
    /// Why the gateway refused it.
    pub(crate) refusal: Option<RefusalReason>,
    /// The reason of the gateway with which it ends in a replay too, refused or broken.
    pub(crate) reason: Option<u32>,
    pub(crate) call: RecordedCall,
    pub(crate) queue_us: Option<u64>,
    /// Whether the class was derived from the method, because the line is of an older version.
    pub(crate) is_class_derived: bool,
}

/// What the request did after it was admitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum RecordedCall {
    /// It called no upstream.
    None,
    /// It held its permit for this time.
    Made { service_us: u64, outcome: CallOutcome },
    /// It was refused before a call, and may make it in a replay.
    Prevented,
}

/// The distance in which a start of the line is trusted. Beyond it the time of writing counts.
const START_TOLERANCE_US: u64 = 10_000_000;

impl RecordedRequest {
    /// The request of a line. `written_us` is the time at which the line was written.
    pub(crate) fn new(fields: &RequestFields<'_>, written_us: u64, names: &mut LogNames) -> Self {
        let total_us = fields.total_us.unwrap_or_default();
        let by_writing = written_us.saturating_sub(total_us);
        let start_us = fields
            .start_us
            .filter(|start| start.abs_diff(by_writing) <= START_TOLERANCE_US)
            .unwrap_or(by_writing);
        let client = names.client_of(fields);
        let refusal = RefusalReason::of(fields, &mut names.reasons);
        let is_decided = matches!(refusal, Some(RefusalReason::Decided(_)));
        let is_called = is_called(fields);
        let other = fields.reason.as_deref().filter(|_| !is_decided);
        let is_shed = refusal.is_some() && other.is_some_and(|reason| SHED.contains(&reason));
        let other = other.map(|reason| names.reasons.id(reason));
        let call = match is_decided {
            _ if is_shed => RecordedCall::Prevented,
            true if !is_called => RecordedCall::Prevented,
            false if !is_called && fields.queue_us.is_none() => RecordedCall::None,
            _ => {
                let admission_us = fields.admission_us.unwrap_or_default();
                let before = admission_us.saturating_add(fields.queue_us.unwrap_or_default());
                RecordedCall::Made { service_us: total_us.saturating_sub(before), outcome: outcome(fields) }
            }
        };
        Self {
            start_us,
            total_us,
            bucket: fields.bucket.as_deref().map(|name| names.buckets.id(name)),
            class: fields.class.unwrap_or_else(|| class_of_method(&fields.method)),
            address: fields.client,
            client,
            refusal,
            reason: other.filter(|_| !is_shed),
            call,
            queue_us: fields.queue_us,
            is_class_derived: fields.class.is_none(),
        }
    }

    /// The reason with which a replay refuses the request too, once its limits admit it.
    pub(crate) fn lasting_refusal(&self) -> Option<u32> {
        self.reason.filter(|_| self.refusal.is_some())
    }

    /// Whether the process's cursor or a resource level refused it.
    pub(crate) fn is_shed(&self) -> bool {
        self.reason.is_none() && matches!(self.refusal, Some(RefusalReason::Other(_)))
    }
}

/// The class as far as the method shows it. A listing cannot be told from a read.
fn class_of_method(method: &str) -> OperationClass {
    match method {
        "GET" | "HEAD" | "OPTIONS" => OperationClass::Read,
        _ => OperationClass::Write,
    }
}

/// What one attempt proves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Evidence {
    Success,
    Failure(Option<u16>),
    Neutral,
}

impl Evidence {
    /// As the gateway classifies a status without an error code (`upstream/rules/outcome.rs`).
    fn of_status(status: u16) -> Self {
        match status {
            500 | 502..=599 => Self::Failure(Some(status)),
            400..=499 | 501 => Self::Neutral,
            _ => Self::Success,
        }
    }
}

/// What the attempts of a request prove about the upstream.
fn outcome(fields: &RequestFields<'_>) -> CallOutcome {
    let first_byte = Duration::from_micros(fields.first_byte_us.unwrap_or_default());
    let mut outcome = CallOutcome { first_byte, ..CallOutcome::default() };
    let mut add = |evidence| match evidence {
        Evidence::Failure(status) => {
            outcome.failures = outcome.failures.saturating_add(1);
            outcome.status = status;
            outcome.is_success = false;
        }
        Evidence::Success => outcome.is_success = true,
        Evidence::Neutral => outcome.is_success = false,
    };
    match (&fields.attempts_detail, &fields.reason) {
        (Some(detail), _) => {
            for attempt in detail.split(',') {
                match attempt.split(':').nth(1) {
                    Some("superseded") | None => {}
                    Some(word) => add(word.parse().map_or(Evidence::Failure(None), Evidence::of_status)),
                }
            }
        }
        (None, None) => add(Evidence::of_status(fields.status)),
        // A transfer that was broken by its client is no evidence.
        (None, Some(_)) => add(Evidence::Neutral),
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> RequestFields<'static> {
        RequestFields {
            method: "GET".into(),
            bucket: Some("b".into()),
            status: 200,
            client: Some([10, 0, 0, 1].into()),
            attempts: Some(1),
            admission_us: Some(10),
            queue_us: Some(90),
            total_us: Some(1_100),
            ..RequestFields::default()
        }
    }

    fn recorded(fields: &RequestFields<'_>) -> RecordedRequest {
        RecordedRequest::new(fields, 5_000_000, &mut LogNames::default())
    }

    /// The time of the permit is the time without the phases before it.
    #[test]
    fn a_call_has_its_service_time() {
        let RecordedCall::Made { service_us, outcome } = recorded(&fields()).call else { panic!() };
        assert_eq!((service_us, outcome.is_success, outcome.failures), (1_000, true, 0));
        assert_eq!(recorded(&fields()).start_us, 5_000_000 - 1_100);
        let early = RequestFields { start_us: Some(4_990_000), ..fields() };
        assert_eq!(recorded(&early).start_us, 4_990_000);
        let wild = RequestFields { start_us: Some(u64::MAX), ..fields() };
        assert_eq!(recorded(&wild).start_us, 5_000_000 - 1_100);
    }

    /// A refusal of the limits has no service time; one of the gateway's rules ends as recorded.
    #[test]
    fn refusals_are_told_apart() {
        let limited = RequestFields {
            reason: Some("rate_limit_ip".into()),
            attempts: Some(0),
            queue_us: None,
            status: 429,
            ..fields()
        };
        let limited = recorded(&limited);
        assert!(
            limited.refusal.is_some() && limited.call == RecordedCall::Prevented && limited.reason.is_none()
        );
        let denied = RequestFields {
            reason: Some("x_denied".into()),
            attempts: Some(0),
            queue_us: None,
            status: 403,
            ..fields()
        };
        let broken = recorded(&RequestFields { status: 200, ..denied.clone() });
        assert!(broken.refusal.is_none() && broken.reason.is_some() && broken.lasting_refusal().is_none());
        let denied = recorded(&denied);
        assert_eq!((denied.call, denied.lasting_refusal()), (RecordedCall::None, Some(1)));
        assert!(denied.refusal == Some(RefusalReason::Other(1)) && !denied.is_shed());
    }

    /// A request that was shed may make its call in a replay.
    #[test]
    fn shed_requests_may_be_admitted() {
        for reason in SHED {
            let shed = RequestFields {
                reason: Some(reason.into()),
                attempts: Some(0),
                queue_us: None,
                status: 503,
                ..fields()
            };
            let shed = recorded(&shed);
            assert_eq!((shed.call, shed.lasting_refusal()), (RecordedCall::Prevented, None), "{reason}");
            assert!(shed.refusal == Some(RefusalReason::Other(1)) && shed.is_shed(), "{reason}");
        }
    }

    /// Times of any size do not overflow.
    #[test]
    fn times_may_be_damaged() {
        let damaged = RequestFields { admission_us: Some(u64::MAX), ..fields() };
        let RecordedCall::Made { service_us, .. } = recorded(&damaged).call else { panic!() };
        assert_eq!(service_us, 0);
    }

    /// Attempts prove what the circuit would have seen.
    #[test]
    fn attempts_are_evidence() {
        let outcome_of = |detail: Option<&'static str>, status| {
            let fields = RequestFields { attempts_detail: detail.map(Into::into), status, ..fields() };
            let outcome = outcome(&fields);
            (outcome.failures, outcome.is_success, outcome.status)
        };
        assert_eq!(outcome_of(Some("0:503:1,1:200:2"), 200), (1, true, Some(503)));
        assert_eq!(outcome_of(Some("0:upstream_reset:1,0:upstream_reset:1"), 502), (2, false, None));
        assert_eq!(outcome_of(Some("0:superseded:5,1:200:2"), 200), (0, true, None));
        assert_eq!(outcome_of(None, 404), (0, false, None));
        assert_eq!(outcome_of(None, 204), (0, true, None));
        assert_eq!(outcome_of(Some("damaged,,:"), 204).0, 1);
    }
}
