//! The ticket: a request's leave to call the upstream, and its duty to say how that went.
//!
//! A ticket of a closed circuit owes nothing and its `Drop` is free. A trial's ticket is a permit: dropped without a
//! report, on whichever path, it goes back without a verdict.

use std::fmt;
use std::sync::Arc;

use crate::breaker::actor::{Breaker, EndTrial, Judge};
use crate::breaker::decision::{Pass, TrialId};
use crate::breaker::outcome::{Failure, Outcome};
use crate::breaker::published::Board;
use crate::clock;
use crate::mailbox::Mailbox;
use crate::types::BucketId;

/// What a ticket needs of its handle.
pub(crate) struct Shared {
    pub(crate) mailbox: Mailbox<Breaker>,
    pub(crate) board: Arc<Board>,
}

/// Leave to call a bucket's upstream.
#[must_use = "a trial's ticket that is dropped gives its permit back"]
pub struct BreakerTicket {
    shared: Arc<Shared>,
    bucket: BucketId,
    generation: u32,
    trial: Option<TrialId>,
}

impl fmt::Debug for BreakerTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerTicket")
            .field("bucket", &self.bucket)
            .field("generation", &self.generation)
            .field("trial", &self.trial)
            .finish_non_exhaustive()
    }
}

impl BreakerTicket {
    pub(crate) fn new(shared: Arc<Shared>, bucket: BucketId, pass: Pass) -> Self {
        match pass {
            Pass::Closed { generation } => Self { shared, bucket, generation, trial: None },
            Pass::Trial { generation, id } => Self { shared, bucket, generation, trial: Some(id) },
        }
    }

    /// Says how the call went. Dropping the ticket instead says `Neutral`.
    pub fn report(mut self, outcome: Outcome) {
        if self.trial.is_some() {
            self.end_trial(outcome);
            return;
        }
        match outcome {
            Outcome::Success => self.succeeded(),
            Outcome::Failure { cause, retry_after } => self.failed(Failure { cause, retry_after }),
            Outcome::Neutral => {}
        }
    }

    fn succeeded(&self) {
        let board = &self.shared.board;
        // The message tells the actor nothing it needs before the next failure, unless it could end a row of them.
        if board.count_success(self.bucket, self.generation)
            && board.has_failures(self.bucket)
            && board.claim_flush(self.bucket, clock::now())
        {
            self.tell(None);
        }
    }

    fn failed(&self, failure: Failure) {
        if self.shared.board.word(self.bucket).1 == self.generation {
            self.tell(Some(failure));
        }
    }

    fn tell(&self, failure: Option<Failure>) {
        let Self { bucket, generation, .. } = *self;
        let successes = self.shared.board.take_successes(bucket, generation);
        self.shared.mailbox.tell(Judge { bucket, generation, successes, failure });
    }

    fn end_trial(&mut self, outcome: Outcome) {
        if let Some(id) = self.trial.take() {
            let Self { bucket, generation, .. } = *self;
            self.shared.mailbox.tell(EndTrial { bucket, generation, id, outcome });
        }
    }
}

impl Drop for BreakerTicket {
    fn drop(&mut self) {
        self.end_trial(Outcome::Neutral);
    }
}
