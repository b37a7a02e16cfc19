//! The wait of a request in the queue, on its caller's side.
//!
//! A caller that gives up sends a message to the pool. Behind a full gate no other message comes, and the queue would count requests
//! that have left it.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::actor_shell::MessageHandler;
use crate::clock;
use crate::mailbox::{ActorMessage, Mailbox};
use crate::pool::actor::{GrantResult, Pool};
use crate::pool::decision::{WaitRejection, WaitRejectionCause};
use crate::pool::gate::ticket::Permit;
use crate::pool::handle::PoolHandle;
use crate::pool::queue::queue_throughput::expected_wait;
use crate::pool::rejection::PoolRejection;

/// A caller has left the queue.
pub(crate) struct LeaveQueue;

impl ActorMessage for LeaveQueue {
    type Reply = ();
    const NAME: &'static str = "pool.leave";

    fn message_fingerprint(&self) -> u64 {
        0
    }

    const CAN_BE_POISON: bool = false;
}

impl MessageHandler<LeaveQueue> for Pool {
    type Decision = ();

    fn decide(&self, _: &LeaveQueue, _: Instant) {}

    fn apply(&mut self, _: LeaveQueue, (): (), now: Instant) {
        self.state.prune_queue(now);
        self.schedule_wake(now);
    }
}

/// Sends [`LeaveQueue`] at the end of a wait, if the caller has given up.
struct QueueExit<'a> {
    mailbox: &'a Mailbox<Pool>,
    /// Whether the pool has removed the request from the queue itself.
    is_removed: bool,
}

impl Drop for QueueExit<'_> {
    fn drop(&mut self) {
        if !self.is_removed {
            self.mailbox.notify(LeaveQueue);
        }
    }
}

impl PoolHandle {
    pub(super) async fn wait_in_queue(
        &self,
        grant: oneshot::Receiver<GrantResult>,
        deadline: Instant,
    ) -> Result<Permit, PoolRejection> {
        self.shared.count_waited();
        let since = clock::now();
        let until = deadline.min(since + self.bounds.queue_timeout);
        // Dropped after the wait, also if the caller gives up.
        let mut exit = QueueExit { mailbox: &self.mailbox, is_removed: false };
        let granted = tokio::time::timeout_at(until.into(), grant).await;
        exit.is_removed = granted.is_ok();
        let waited = clock::now().saturating_duration_since(since);
        self.metrics.wait.observe(waited.as_secs_f64());
        self.shedder.record_queue_wait(waited);
        match granted {
            Ok(Ok(Ok(permit))) => Ok(permit),
            Ok(Ok(Err(WaitRejection { cause: WaitRejectionCause::Displaced, retry_after }))) => {
                self.metrics.displaced.inc();
                Err(PoolRejection::Displaced { retry_after })
            }
            Ok(Ok(Err(WaitRejection { cause: WaitRejectionCause::Overload, retry_after }))) => {
                self.metrics.overload.inc();
                Err(PoolRejection::Overload { waited, retry_after })
            }
            Ok(Ok(Err(WaitRejection { cause: WaitRejectionCause::Draining, .. }))) => {
                // The drain may have ended in the meantime.
                let rejection = self.all_draining(clock::now());
                Err(rejection.unwrap_or(PoolRejection::EndpointsDraining { left: Some(Duration::ZERO) }))
            }
            Ok(Err(_)) => Err(PoolRejection::Unavailable(self.mailbox.lost_reply())),
            Err(_) => {
                self.metrics.queue_timeout.inc();
                let waiting = self.shared.gate.waiting();
                let expected = self.shared.grant_interval().map(|pace| expected_wait(pace, waiting));
                // This client waited so long without a permit; a retry before that time would wait again.
                let retry_after = expected.map_or(waited, |expected| expected.max(waited));
                let limit = until.saturating_duration_since(since);
                let is_deadline = limit < self.bounds.queue_timeout;
                let timeout = PoolRejection::QueueTimeout { waited, limit, is_deadline, retry_after };
                Err(self.no_credential_rejection().unwrap_or(timeout))
            }
        }
    }
}
