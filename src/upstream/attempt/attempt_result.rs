//! A finished attempt: its result, its classification, and the reports to pool, credentials and store clock.
//!
//! `rules/outcome.rs` classifies, `bucket/failure_attribution.rs` decides between endpoint and circuit. The breaker ticket is reported by
//! `call.rs`, because the outcome of a success is known only at the last byte.
//!
//! Design: `docs/design/failure-attribution.md`.

use std::time::{Duration, Instant};

use tidegate_actors::{BreakerTicket, EndpointId, Outcome, Permit, RequestFingerprints, clock};

use crate::upstream::UpstreamRejection;
use crate::upstream::attempt::credential_feedback::{self, CredentialFeedback};
use crate::upstream::attempt::misdirected;
use crate::upstream::attempt::response_head::InspectedResponse;
use crate::upstream::attempt::timeouts::AttemptLimits;
use crate::upstream::body::upload_progress::UploadProgress;
use crate::upstream::bucket::Bucket;
use crate::upstream::bucket::failure_attribution::FinishedAttempt;
use crate::upstream::record::attempt_notes::{AttemptNote, AttemptOutcome};
use crate::upstream::rules::outcome::{self, Classification};
use crate::upstream::rules::retry::UpstreamRetryAfter;
use crate::upstream::rules::store_clock::ClockSkew;

/// A finished attempt with its classification.
pub(crate) struct AttemptResult {
    pub(crate) result: Result<InspectedResponse, UpstreamRejection>,
    pub(crate) classified: ClassifiedResult,
    /// Feedback about the credential of the attempt.
    pub(crate) feedback: CredentialFeedback,
    /// Set if the store refused the time of the signature.
    pub(crate) skew: Option<ClockSkew>,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
}

impl AttemptResult {
    /// Classifies an attempt that has just ended, and reports it to the pool.
    pub(crate) fn classify(
        (bucket, evidence, counts): (&Bucket, Option<RequestFingerprints>, bool),
        limits: AttemptLimits,
        upload_progress: &UploadProgress,
        (permit, ticket): (&Permit, &mut BreakerTicket),
        result: Result<InspectedResponse, UpstreamRejection>,
    ) -> Self {
        let ended = clock::now();
        let waited = limits.upstream_wait(upload_progress, ended);
        let is_long = limits.deadline.is_long_operation;
        let slow = bucket.config.upstream.circuit_breaker.slow_call_duration.filter(|_| !is_long && counts);
        if slow.is_some_and(|slow| waited > slow) {
            ticket.mark_slow();
        }
        if result.is_ok() {
            let duration = ended.saturating_duration_since(limits.began);
            bucket.metrics.times.observe_call(permit.endpoint().0, duration);
        }
        if counts {
            record_whether_answered(bucket, permit.endpoint(), &result, (limits.began, ended));
        }
        let mut classified = classify_result(&result, bucket);
        // Some proxies answer 5xx when a client stalls its upload.
        if result.is_ok() && upload_progress.is_stalled_by_client(ended) {
            classified.classification.outcome = Outcome::Neutral;
        }
        // The duration of a server-side copy is no measure of the endpoint's latency.
        let waited = if is_long { Duration::ZERO } else { waited };
        let attempt = FinishedAttempt { endpoint: permit.endpoint(), began: limits.began, waited };
        let status = result.as_ref().map(|inspected| inspected.response.status().as_u16());
        classified.classification.outcome = match counts {
            true => attempt.report_outcome(bucket, classified.classification.outcome, status),
            false => Outcome::Neutral,
        };
        let response = result.as_ref().ok().map(InspectedResponse::status_and_code);
        let feedback = credential_feedback::report_feedback(
            bucket,
            permit,
            response,
            (classified.retry_after.wait, evidence),
        );
        let skew = result
            .as_ref()
            .ok()
            .and_then(|inspected| inspected.report_clock(bucket.clock(permit.endpoint())));
        if skew.as_ref().is_some_and(|skew| skew.is_confirmed) {
            bucket.metrics.clock_refused.inc();
        }
        // The clock of another endpoint may be right.
        let is_uncorrectable =
            skew.as_ref().is_some_and(|skew| skew.is_confirmed && skew.retry_offset.is_none());
        classified.classification.is_transient |=
            is_uncorrectable && bucket.config.upstream.endpoints.len() > 1;
        Self { result, classified, feedback, skew, began: limits.began, ended }
    }

    /// Whether the store refused the credential or the signature without processing the request.
    pub(crate) fn is_credential_refused(&self) -> bool {
        self.feedback.is_credential_error()
            || self.skew.as_ref().is_some_and(|skew| skew.retry_offset.is_some())
    }

    /// The status of the response, if there is one.
    pub(crate) fn status(&self) -> Option<u16> {
        self.result.as_ref().ok().map(|inspected| inspected.response.status().as_u16())
    }

    /// The attempt for the access line of its request.
    pub(crate) fn note(&self, endpoint: EndpointId) -> AttemptNote {
        let outcome = match self.status() {
            Some(status) => AttemptOutcome::Status(status),
            None => AttemptOutcome::Failed(self.failure_reason()),
        };
        let is_failure =
            self.result.is_err() || matches!(self.classified.classification.outcome, Outcome::Failure { .. });
        let took = self.ended.saturating_duration_since(self.began);
        AttemptNote { endpoint: endpoint.0, outcome, is_failure, took }
    }

    /// Why the attempt failed, if it is repeated. A failure without a response has the reason of the refusal that it would be.
    pub(crate) fn failure_reason(&self) -> &'static str {
        let rejection = match &self.result {
            Ok(_) if misdirected::is_misdirected_response(&self.result) => return "misdirected",
            Ok(_) if self.feedback.is_credential_error() => return "credential_error",
            Ok(_) if self.skew.is_some() => return "upstream_clock_skew",
            Ok(_) => return "upstream_status",
            Err(rejection) => rejection,
        };
        match rejection {
            UpstreamRejection::NoAddress(_) => "upstream_dns",
            UpstreamRejection::Connect(_) => "upstream_connect",
            UpstreamRejection::TlsRejected(_) => "upstream_tls",
            UpstreamRejection::HostNotInCertificate(_) => "upstream_tls_host",
            UpstreamRejection::Reset(_) => "upstream_reset",
            UpstreamRejection::ReusedClosed(_) => "upstream_connection_reused_closed",
            UpstreamRejection::Decode(_) => "decode_failed",
            UpstreamRejection::Timeout(expired) => expired.kind.reason(),
            _ => "upstream_failed",
        }
    }

    /// Whether the response is about the request and not about the state of the upstream.
    pub(crate) fn is_conclusive(&self) -> bool {
        let is_about_request =
            |inspected: &InspectedResponse| !matches!(inspected.response.status().as_u16(), 429 | 500..);
        let is_refused = self.feedback.is_credential_error() || self.skew.is_some();
        !self.classified.classification.is_transient
            && !is_refused
            && self.result.as_ref().is_ok_and(is_about_request)
    }
}

/// Records a response head, or a timeout without one that is the upstream's failure.
fn record_whether_answered(
    bucket: &Bucket,
    endpoint: EndpointId,
    result: &Result<InspectedResponse, UpstreamRejection>,
    (began, ended): (Instant, Instant),
) {
    match result {
        Ok(_) => bucket.unanswered_calls.record_answer(endpoint.0),
        Err(UpstreamRejection::Timeout(expired)) if expired.kind.is_upstream_failure() => {
            bucket.unanswered_calls.record_timeout(endpoint.0, began, ended);
        }
        Err(_) => {}
    }
}

/// The classification of an attempt, and how long the upstream asks to wait.
pub(crate) struct ClassifiedResult {
    pub(crate) classification: Classification,
    pub(crate) retry_after: UpstreamRetryAfter,
}

fn classify_result(
    result: &Result<InspectedResponse, UpstreamRejection>,
    bucket: &Bucket,
) -> ClassifiedResult {
    match result {
        Ok(inspected) => {
            let status = inspected.response.status().as_u16();
            let upstream = &bucket.config.upstream;
            let is_throttled = outcome::is_throttling(status, inspected.code.as_deref());
            let retry_after_max = match is_throttled && !upstream.credentials_by_name.is_empty() {
                true => upstream.credential_pool.max_cool_down,
                false => upstream.circuit_breaker.max_timeout,
            };
            let retry_after = match status {
                400.. => {
                    UpstreamRetryAfter::parse(inspected.response.headers(), clock::wall(), retry_after_max)
                }
                _ => UpstreamRetryAfter::default(),
            };
            if let Some(anomaly) = retry_after.anomaly {
                bucket.metrics.count_odd_retry_after(anomaly);
            }
            let mut classification =
                outcome::classify_status(status, inspected.code.as_deref(), retry_after.wait);
            classification.is_transient |= inspected.is_truncated();
            ClassifiedResult { classification, retry_after }
        }
        Err(rejection) => {
            if rejection.is_unsent() {
                bucket.metrics.count_error("upstream_connect_attempt");
            }
            ClassifiedResult {
                classification: outcome::classify_rejection(rejection),
                retry_after: UpstreamRetryAfter::default(),
            }
        }
    }
}
