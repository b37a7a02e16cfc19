//! What the limits would do with a request now. Nothing is charged, counted or written.

use std::time::Instant;

use crate::actor_shell::MessageHandler;
use crate::limiter::actor::Limiter;
use crate::limiter::gcra::Gcra;
use crate::limiter::limit_status::{LimitScope, LimitStatus};
use crate::limiter::tat::Tat;
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

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use tidegate_config::{LimitMode, RateLimit};

    use super::*;
    use crate::limiter::{LimiterSettings, LimiterState, PerKeyState};

    fn limit(burst: u32, mode: LimitMode) -> Option<RateLimit> {
        Some(RateLimit { requests_per_second: 1.0, burst: burst.try_into().unwrap(), mode })
    }

    /// O6: a peek has the same result as the charge that follows, and it changes nothing
    #[test]
    fn a_peek_agrees_with_the_charge_and_changes_nothing() {
        let (now, bucket) = (crate::clock::now(), BucketId::new(0));
        let client = IpKey::from(IpAddr::from(Ipv4Addr::LOCALHOST));
        let buckets = [limit(3, LimitMode::Enforce)];
        let (global, per_ip) = (limit(9, LimitMode::Enforce), limit(1, LimitMode::Shadow));
        let settings = LimiterSettings::of_heads(global, per_ip, &buckets, 10);
        let mut state = LimiterState::new(&settings, now);
        for left in [3, 2, 1, 0, 0] {
            let before = format!("{state:?}");
            let peeked = state.peek(Some(bucket), client, 1, now);
            assert_eq!(format!("{state:?}"), before);
            let scopes: Vec<_> = peeked.iter().map(|limit| limit.status.scope).collect();
            assert_eq!(scopes, [LimitScope::Global, LimitScope::Ip, LimitScope::Bucket]);
            assert_eq!((peeked[2].status.remaining, peeked[2].fits), (left, left > 0));
            let refusing = peeked.iter().find(|limit| !limit.fits && !limit.is_shadow);
            match state.decide(bucket, client, 1, 0, now) {
                Ok(charge) => {
                    assert_eq!(refusing, None);
                    state.apply(&charge, now);
                }
                Err(refusal) => assert_eq!(refusing.map(|limit| limit.status), Some(refusal)),
            }
        }
        assert_eq!(state.peek(None, client, 1, now).len(), 2, "without a bucket");
    }

    /// O6: the limit of a key is that of its charge
    #[test]
    fn a_peek_of_a_key_agrees_with_its_charge() {
        let now = crate::clock::now();
        let mut state =
            PerKeyState::new(&LimiterSettings::of_keys(&[limit(2, LimitMode::Enforce), None]), now);
        let charge = state.decide(KeyId::new(0), 2, now).unwrap();
        state.apply(KeyId::new(0), &charge);
        let peeked = state.peek(KeyId::new(0), 1, now).unwrap();
        assert_eq!(Some(peeked.status), state.decide(KeyId::new(0), 1, now).err());
        assert_eq!((peeked.fits, state.peek(KeyId::new(1), 1, now)), (false, None));
    }
}
