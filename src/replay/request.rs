//! A recorded request as a replay needs it, made from its access line.

use std::net::IpAddr;
use std::time::Duration;

use tidegate_actors::OperationClass;
use tidegate_actors::replay::{CallOutcome, Refusal};

use crate::replay::log::line::RequestFields;
use crate::replay::names::{LogNames, LoggedClient};

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
    /// Why it was refused, if a replay decides that too.
    pub(crate) refusal: Option<Refusal>,
    /// Another reason of the gateway.
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
    /// It was refused before a call.
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
        let client = match (&fields.key, &fields.subject, fields.client) {
            (Some(key), _, _) => LoggedClient::Key(names.keys.id(key)),
            (None, Some(subject), _) => LoggedClient::Subject(names.subjects.id(subject)),
            (None, None, Some(address)) => LoggedClient::Address(address),
            (None, None, None) => LoggedClient::Unknown,
        };
        let refusal = fields.reason.as_deref().and_then(Refusal::from_reason);
        let other_reason = fields.reason.as_deref().filter(|_| refusal.is_none());
        let is_called = fields.attempts.is_some_and(|attempts| attempts > 0);
        let call = match refusal {
            Some(_) if !is_called => RecordedCall::Prevented,
            None if !is_called && fields.queue_us.is_none() => RecordedCall::None,
            _ => {
                let before = fields.admission_us.unwrap_or_default() + fields.queue_us.unwrap_or_default();
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
            reason: other_reason.map(|reason| names.reasons.id(reason)),
            call,
            queue_us: fields.queue_us,
            is_class_derived: fields.class.is_none(),
        }
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
        let denied =
            RequestFields { reason: Some("x_denied".into()), attempts: Some(0), queue_us: None, ..fields() };
        let denied = recorded(&denied);
        assert!(denied.refusal.is_none() && denied.call == RecordedCall::None && denied.reason.is_some());
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
