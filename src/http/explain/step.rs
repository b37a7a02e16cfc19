//! The steps of an explanation.

use std::time::Duration;

use tidegate_actors::{BucketId, KeyId, PeekedLimit};

use crate::decisions::decision::{DecisionFacts, DecisionKind};
use crate::http::error::GatewayError;
use crate::http::error::figure_context::FigureContext;
use crate::http::explain::Stopped;
use crate::upstream::rules::deadline::DeadlineSource;
use crate::worker::Worker;

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepResult {
    /// The request goes on.
    Pass,
    /// The request waits.
    Wait,
    /// The request is refused.
    Refuse,
    /// The result depends on what the explanation does not have.
    Unknown,
}

impl StepResult {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Wait => "wait",
            Self::Refuse => "refuse",
            Self::Unknown => "unknown",
        }
    }
}

/// The refusal that a step would make.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// The decision that would be recorded.
    pub(crate) facts: DecisionFacts,
}

/// One step.
#[derive(Debug)]
pub(crate) struct ExplanationStep {
    pub(crate) step: &'static str,
    pub(crate) result: StepResult,
    pub(crate) sentence: String,
    pub(crate) limit: Option<PeekedLimit>,
    pub(crate) refusal: Option<Refusal>,
}

/// All steps up to the first refusal, or up to the gateway's own answer.
#[derive(Debug, Default)]
pub(crate) struct Explanation {
    pub(crate) bucket: Option<BucketId>,
    pub(crate) bucket_name: Option<String>,
    /// What the deadline of the call follows from.
    pub(super) deadline: DeadlineSource,
    key: Option<KeyId>,
    /// Whether the gateway answers without a call.
    is_answered: bool,
    pub(crate) steps: Vec<ExplanationStep>,
}

impl Explanation {
    /// What would happen: a refusal, else the gateway's own answer, else what is not known, else a wait, else a call.
    pub(crate) fn outcome(&self) -> &'static str {
        let has = |result| self.steps.iter().any(|step| step.result == result);
        if has(StepResult::Refuse) {
            "refused"
        } else if self.is_answered {
            "answered"
        } else if has(StepResult::Unknown) {
            "unknown"
        } else if has(StepResult::Wait) {
            "waits"
        } else {
            "forwarded"
        }
    }

    pub(super) fn set_key(&mut self, key: Option<KeyId>) {
        self.key = key;
    }

    fn push(&mut self, step: &'static str, result: StepResult, sentence: String) {
        self.steps.push(ExplanationStep { step, result, sentence, limit: None, refusal: None });
    }

    pub(super) fn pass(&mut self, step: &'static str, sentence: String) {
        self.push(step, StepResult::Pass, sentence);
    }

    /// Adds the step that answers the request without a call.
    pub(super) fn answer(&mut self, step: &'static str, sentence: String) -> Result<(), Stopped> {
        self.is_answered = true;
        self.pass(step, sentence);
        Err(Stopped)
    }

    pub(super) fn wait(&mut self, step: &'static str, sentence: String) {
        self.push(step, StepResult::Wait, sentence);
    }

    pub(super) fn unknown(&mut self, step: &'static str, sentence: String) {
        self.push(step, StepResult::Unknown, sentence);
    }

    /// Adds the state of a limit. A limit that does not fit is refused by its own step.
    pub(super) fn limit(&mut self, step: &'static str, limit: &PeekedLimit, sentence: String) {
        let result = StepResult::Pass;
        let limit = Some(*limit);
        self.steps.push(ExplanationStep { step, result, sentence, limit, refusal: None });
    }

    /// Adds the state of the limit that refuses to the last step.
    pub(super) fn attach_limit(&mut self, limit: &PeekedLimit) {
        if let Some(step) = self.steps.last_mut() {
            step.limit = Some(*limit);
        }
    }

    /// Adds the refusal, with the reply and the figures that the request would get.
    pub(super) fn refuse(
        &mut self,
        worker: &Worker,
        step: &'static str,
        error: &GatewayError,
    ) -> Result<(), Stopped> {
        let reply = error.to_reply();
        let figures = error.figures(FigureContext {
            config: &worker.shared.config,
            bucket: self.bucket.map(|id| &worker.shared.router.bucket(id).config),
            deadline: self.deadline,
        });
        let facts = DecisionFacts {
            bucket: self.bucket,
            key: self.key,
            status: Some(reply.status.as_u16()),
            ..DecisionFacts::new(DecisionKind::Refusal, reply.reason, figures)
        };
        let after = figures.until.filter(|until| *until > Duration::ZERO);
        let after = after
            .map_or_else(String::new, |after| format!("; this could change after {} ms", after.as_millis()));
        let status = reply.status.as_u16();
        let sentence = format!(
            "the request is refused with status {status} ({}): {}{after}",
            reply.reason, reply.message
        );
        let refusal = Some(Refusal { status, facts });
        self.steps.push(ExplanationStep { step, result: StepResult::Refuse, sentence, limit: None, refusal });
        Err(Stopped)
    }
}
