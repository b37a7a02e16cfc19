//! What the gate would do with a request now. Nothing is granted, queued or counted.

use std::time::Instant;

use tidegate_config::Priority;

use crate::actor_shell::MessageHandler;
use crate::clock;
use crate::mailbox::ActorMessage;
use crate::pool::actor::Pool;
use crate::pool::decision::{AcquireDecision, AcquireRefusal};
use crate::pool::handle::PoolHandle;
use crate::pool::operator_drain::time_left;
use crate::pool::rejection::PoolRejection;

/// The decision that a request would get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeekedPermit {
    /// A permit at once.
    Granted,
    /// A place in the queue.
    Queued,
}

/// Asks for the decision.
pub(crate) struct PeekAcquire {
    priority: Priority,
    deadline: Instant,
}

impl ActorMessage for PeekAcquire {
    type Reply = AcquireDecision;
    const NAME: &'static str = "pool.peek";

    fn message_fingerprint(&self) -> u64 {
        0
    }

    const CAN_BE_POISON: bool = false;
}

impl MessageHandler<PeekAcquire> for Pool {
    type Decision = AcquireDecision;

    fn decide(&self, message: &PeekAcquire, now: Instant) -> AcquireDecision {
        self.state.decide(message.priority, message.deadline, now)
    }

    fn apply(&mut self, _: PeekAcquire, decision: AcquireDecision, _: Instant) -> AcquireDecision {
        decision
    }
}

impl PoolHandle {
    /// What `acquire` would do now.
    ///
    /// # Errors
    /// It would refuse, or the actor did not answer.
    pub async fn peek(&self, priority: Priority, deadline: Instant) -> Result<PeekedPermit, PoolRejection> {
        let decision = self.mailbox.ask(PeekAcquire { priority, deadline }).await;
        Err(match decision.map_err(PoolRejection::Unavailable)? {
            AcquireDecision::Grant => return Ok(PeekedPermit::Granted),
            AcquireDecision::Queue => return Ok(PeekedPermit::Queued),
            AcquireDecision::Refuse(AcquireRefusal::QueueFull { queued, retry_after }) => {
                PoolRejection::QueueFull { queued, in_flight: self.in_flight(), retry_after }
            }
            AcquireDecision::Refuse(AcquireRefusal::QueueTooLong { expected, left, is_deadline }) => {
                PoolRejection::QueueTooLong { expected, left, is_deadline }
            }
            AcquireDecision::Refuse(AcquireRefusal::Draining { until }) => {
                PoolRejection::EndpointsDraining { left: time_left(until, clock::now()) }
            }
            AcquireDecision::Refuse(AcquireRefusal::NoCredential { until, is_refused }) => {
                let retry_after = until.saturating_duration_since(clock::now());
                PoolRejection::NoCredential { retry_after, is_refused }
            }
        })
    }
}
