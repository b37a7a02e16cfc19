//! Decisions about a request: the facts that its record adds to them (O4).

use std::time::Duration;

use tidegate_actors::{BreakerRejection, ClientIdentity, InForce, clock};

use crate::buffers::TransferDecisions;
use crate::buffers::cut::CutReason;
use crate::decisions::actor_figures;
use crate::decisions::decision::{
    DecidingActor, DecisionFacts, DecisionKind, DecisionScope, EntryTexts, Figures, KeyName, RequestEnd,
    Unit, ms,
};
use crate::telemetry::metrics::timings::RequestDurations;
use crate::upstream::bucket::Bucket;
use crate::upstream::record::Record;

/// What has been decided about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Decided {
    /// Nothing that is recorded.
    #[default]
    Nothing,
    /// It waited, or an attempt was repeated.
    Delayed,
    /// It was refused.
    Refused,
}

/// A wait up to this time is no decision.
const LONG_WAIT: Duration = Duration::from_millis(10);
/// Reasons of transfers that end early without a decision of the gateway, that are passed on whole, or that end with the gateway.
const UNDECIDED: [&str; 5] = ["client_gone", "short_answer", "broken_answer", "late_error", "drained"];

impl Record {
    /// Records a decision about this request. A refusal has the status of its reply; `status` is that of a failed attempt.
    pub(crate) fn record_decision(
        &mut self,
        kind: DecisionKind,
        reason: &'static str,
        figures: Figures,
        status: Option<u16>,
    ) {
        self.decided = match kind {
            DecisionKind::Refusal => Decided::Refused,
            _ if self.decided == Decided::Refused => Decided::Refused,
            _ => Decided::Delayed,
        };
        let (key, subject) = match &self.caller {
            Some(ClientIdentity::Key(key)) => (Some(*key), ""),
            Some(ClientIdentity::Token(bearer)) => (None, bearer.subject.as_deref().unwrap_or_default()),
            Some(ClientIdentity::Anonymous) | None => (None, ""),
        };
        let client_scope = match (key, subject) {
            (Some(_), _) => DecisionScope::ClientKey,
            (None, "") => DecisionScope::ClientAddress,
            (None, _) => DecisionScope::ClientSubject,
        };
        let scope = if figures.scope == DecisionScope::Client { client_scope } else { figures.scope };
        let facts = DecisionFacts {
            status,
            bucket: self.bucket,
            endpoint: self.endpoint.and_then(|endpoint| u16::try_from(endpoint).ok()),
            credential: self.credential.and_then(|credential| u16::try_from(credential.0).ok()),
            key,
            client: self.request.client.map(|client| client.address),
            elapsed: Some(clock::now().saturating_duration_since(self.started)),
            ..DecisionFacts::new(kind, reason, Figures { scope, ..figures })
        };
        let texts = EntryTexts {
            request_id: self.id.to_str().unwrap_or_default(),
            subject,
            detail: self.detail.as_deref().unwrap_or_default(),
        };
        self.has_decision |= self.host.decisions().record(facts, &texts);
    }

    /// Records a wait for a permit of the bucket's gate, if it was long.
    pub(crate) fn record_queueing(&mut self, bucket: &Bucket, waited: Duration) {
        if waited <= LONG_WAIT {
            return;
        }
        let timeout = bucket.config.upstream.concurrency.queue_timeout;
        let figures = Figures::of(DecisionScope::Bucket)
            .measured(ms(waited), Unit::Milliseconds)
            .threshold(ms(timeout), Unit::Milliseconds)
            .decided_by(DecidingActor::Pool)
            .set_by(&[KeyName::Upstream("concurrency.queue_timeout_ms")]);
        self.record_decision(DecisionKind::Queued, "permit_wait", figures, None);
    }

    /// Records a wait for the bucket's circuit, if it was long.
    pub(crate) fn record_circuit_wait(&mut self, bucket: &Bucket, waited: Duration) {
        if waited <= LONG_WAIT {
            return;
        }
        let figures = actor_figures::circuit_wait(waited, &bucket.config.upstream.circuit_breaker);
        self.record_decision(DecisionKind::Queued, "circuit_wait", figures, None);
    }

    /// Records that the attempts made so far are followed by another after `pause`.
    pub(crate) fn record_retry(
        &mut self,
        bucket: &Bucket,
        reason: &'static str,
        status: Option<u16>,
        pause: Duration,
    ) {
        let attempts_max = bucket.config.upstream.retry.max_attempts.get();
        let figures = Figures::of(DecisionScope::Endpoint)
            .measured(f64::from(self.attempts), Unit::Attempts)
            .threshold(f64::from(attempts_max), Unit::Attempts)
            .until(pause)
            .decided_by(DecidingActor::Pool)
            .set_by(&[KeyName::Upstream("retry.max_attempts")]);
        self.record_decision(DecisionKind::Retry, reason, figures, status);
    }

    /// Records that a read is sent a second time, because its first attempt has taken this long.
    pub(crate) fn record_hedge(&mut self, taken: Duration, delay: Duration) {
        let figures = Figures::of(DecisionScope::Endpoint)
            .measured(ms(taken), Unit::Milliseconds)
            .threshold(ms(delay), Unit::Milliseconds)
            .decided_by(DecidingActor::Pool)
            .set_by(&[KeyName::Upstream("hedging.enabled")]);
        self.record_decision(DecisionKind::Hedge, "slow_read", figures, None);
    }

    /// Records that only the shadow mode of the breaker admitted a call. The calls of one request count once.
    #[cold]
    pub(crate) fn record_shadowed_circuit(&mut self, bucket: &Bucket, refusal: &BreakerRejection) {
        let reason = refusal.reason();
        if self.shadowed.contains(&reason) {
            return;
        }
        let config = Some(&bucket.config.upstream.circuit_breaker);
        let figures = actor_figures::breaker(refusal, config, &self.host.config().supervision);
        self.record_decision(DecisionKind::Shadow, reason, figures, Some(503));
        self.shadowed.push(reason);
    }

    /// Sets the figures of an answer that ends because its store sends nothing.
    pub(crate) fn set_idle_timeout(&mut self, waited: Duration, limit: Duration) {
        let figures = Figures::of(DecisionScope::Endpoint).set_by(&[KeyName::Upstream("idle_timeout")]);
        let figures = figures.measured(ms(waited), Unit::Milliseconds);
        self.cut_figures = Some(Box::new(figures.threshold(ms(limit), Unit::Milliseconds)));
    }

    /// What decided that the request ended early.
    fn end_figures(&self, reason: &str) -> Figures {
        if reason == "drain_timeout" {
            let limit = self.host.config().server.drain_timeout;
            let figures =
                Figures::of(DecisionScope::Process).set_by(&[KeyName::Process("server.drain_timeout")]);
            return figures.measured(ms(limit), Unit::Milliseconds).threshold(ms(limit), Unit::Milliseconds);
        }
        let of_client = || self.send_progress.as_ref().and_then(|progress| progress.cut_figures());
        let figures = of_client().or_else(|| self.cut_figures.as_deref().copied());
        figures.unwrap_or(Figures::of(DecisionScope::Request))
    }

    /// Records that memory pressure paused the body, or that shadow mode suppressed a pause or a cut.
    fn record_transfer(&mut self) {
        let of_upload = self.upload_progress.decisions().map(|decisions| (decisions, Some(503)));
        // An answer that is cut keeps the status of its head.
        let of_answer = self.send_progress.as_ref().and_then(|progress| progress.decisions());
        for (decisions, status) in
            [of_upload, of_answer.map(|decisions| (decisions, None))].into_iter().flatten()
        {
            if let Some((in_force, memory)) = decisions.pause() {
                let kind = match in_force {
                    InForce::Enforced => DecisionKind::Queued,
                    InForce::Shadow => DecisionKind::Shadow,
                };
                self.record_decision(kind, TransferDecisions::PAUSE, memory.figures(), None);
            }
            if let Some(memory) = decisions.shadow_cut() {
                let reason = CutReason::Memory.reason();
                self.record_decision(DecisionKind::Shadow, reason, memory.figures(), status);
            }
        }
    }

    /// Records what the end of the request adds to its decisions: a transfer that was cut, and the times of a request about which
    /// there are decisions.
    pub(super) fn record_end(&mut self, durations: &RequestDurations) {
        self.record_transfer();
        if let Some(reason) = self.reason
            && self.decided != Decided::Refused
            && !UNDECIDED.contains(&reason)
        {
            let figures = self.end_figures(reason);
            // Without a status no head was sent.
            let kind = if self.status == 0 { DecisionKind::Refusal } else { DecisionKind::Cut };
            self.record_decision(kind, reason, figures, Some(self.status).filter(|status| *status != 0));
        }
        let has_end = match self.decided {
            Decided::Nothing => false,
            Decided::Delayed => true,
            // The record of the refusal has the rest.
            Decided::Refused => self.attempts > 0,
        };
        if has_end && self.has_decision {
            let end = RequestEnd {
                status: self.status,
                attempts: self.attempts,
                admission: durations.admission,
                queue: durations.queue,
                first_byte: durations.first_byte,
                total: durations.total,
                sent_bytes: self.sent_bytes,
            };
            self.host.decisions().record_end(end, self.id.to_str().unwrap_or_default());
        }
    }
}
