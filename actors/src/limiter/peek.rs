//! What the limits would do with a request now. Nothing is charged, counted or written.

use std::time::Instant;

use crate::actor_shell::MessageHandler;
use crate::limiter::actor::Limiter;
use crate::limiter::gcra::{Gcra, Tat};
use crate::limiter::limit_status::{LimitScope, LimitStatus};
use crate::mailbox::ActorMessage;
use crate::types::{BucketId, IpKey, KeyId};

/// One limit, before a request is charged to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PeekedLimit {
    /// Its state. For a request that does not fit, `retry_after` is the time until it does.
    pub status: LimitStatus,
    /// Tokens that the request would cost.
    pub cost: u32,
    /// Whether the request fits.
    pub fits: bool,
    /// Whether the limit only counts what it would refuse.
    pub is_shadow: bool,
}

impl PeekedLimit {
    /// Checks a request of this cost against a limit with this arrival time.
    pub(super) fn of(scope: LimitScope, gcra: &Gcra, tat: Tat, cost: u32, now: u64) -> Self {
        let checked = gcra.next_tat(tat, cost, now);
        let wait = checked.err().unwrap_or(0);
        Self {
            status: gcra.status(scope, tat, wait, now),
            cost,
            fits: checked.is_ok(),
            is_shadow: gcra.is_shadow(),
        }
    }
}

/// Asks for the limits of a request.
pub(crate) struct Peek {
    pub(crate) bucket: Option<BucketId>,
    /// None for a request without an address, which passes the limits of step 4.
    pub(crate) client: Option<IpKey>,
    pub(crate) key: Option<KeyId>,
    pub(crate) cost: u32,
}

impl ActorMessage for Peek {
    type Reply = Vec<PeekedLimit>;
    const NAME: &'static str = "limiter.peek";

    fn message_fingerprint(&self) -> u64 {
        0
    }

    const CAN_BE_POISON: bool = false;
}

impl MessageHandler<Peek> for Limiter {
    type Decision = Vec<PeekedLimit>;

    fn decide(&self, message: &Peek, now: Instant) -> Vec<PeekedLimit> {
        let Peek { bucket, client, key, cost } = *message;
        let of_head = client.map(|client| self.state.peek(bucket, client, cost, now));
        let of_key = key.and_then(|key| self.per_key.peek(key, cost, now));
        of_head.into_iter().flatten().chain(of_key).collect()
    }

    fn apply(&mut self, _: Peek, limits: Vec<PeekedLimit>, _: Instant) -> Vec<PeekedLimit> {
        limits
    }
}
