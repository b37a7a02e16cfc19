//! A request's wait for its client, and its report to the pool and the monitor, which count such waits (V10).
//!
//! Responses (`send_progress.rs`) and uploads (`upstream/body/upload_progress.rs`) both hold a [`ClientWait`]; the visits
//! of `SendWatch` advance it. The client is slow while it reads or sends fewer than 4 KiB per second although the
//! request waits for it. After one second the bucket's pool and the monitor get a report. The report ends when the
//! client catches up or the request releases its slot and permit.

use std::time::{Duration, Instant};

use tidegate_actors::{BucketId, ClientId, ClientWaitTicket, IdMap, MonitorHandle, PoolHandle};

use crate::buffers::cut::CrowdingCut;

/// A client that moves bytes at this rate is not slow.
const STEADY_BYTES_PER_SECOND: u64 = 4 << 10;
/// Shorter waits are not reported.
const REPORT_AFTER: Duration = Duration::from_secs(1);
/// A report that an actor has not counted after this time was lost in a crash.
const COUNTED_WITHIN: Duration = Duration::from_secs(2);

/// The capacity that a request occupies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Occupancy {
    /// The client.
    pub(crate) client: ClientId,
    /// The bucket of its gate permit; none while it holds only a slot.
    pub(crate) bucket: Option<BucketId>,
}

/// The actors that count the waits.
pub(crate) struct WaitReceivers {
    pub(crate) monitor: MonitorHandle,
    /// The pools, by bucket.
    pub(crate) pools: IdMap<BucketId, PoolHandle>,
}

/// The wait of one request.
#[derive(Debug, Default)]
pub(crate) struct ClientWait {
    lag: Duration,
    report: Option<WaitReport>,
}

#[derive(Debug)]
struct WaitReport {
    created: Instant,
    slot: ClientWaitTicket,
    gate: Option<ClientWaitTicket>,
}

impl WaitReport {
    fn new(occupancy: Occupancy, since: Instant, receivers: &WaitReceivers, now: Instant) -> Self {
        let gate = occupancy
            .bucket
            .and_then(|bucket| receivers.pools.get(bucket))
            .map(|pool| pool.report_client_wait(occupancy.client, since));
        Self { created: now, slot: receivers.monitor.report_client_wait(occupancy.client, since), gate }
    }

    fn tickets(&self) -> impl Iterator<Item = &ClientWaitTicket> {
        [Some(&self.slot), self.gate.as_ref()].into_iter().flatten()
    }

    fn cut(&self) -> Option<CrowdingCut> {
        let of_slots = self.slot.cut().map(|waits| CrowdingCut { waits, is_gate: false });
        let of_gate = || self.gate.as_ref()?.cut().map(|waits| CrowdingCut { waits, is_gate: true });
        of_slots.or_else(of_gate)
    }

    fn is_lost(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.created) > COUNTED_WITHIN
            && self.tickets().any(|ticket| !ticket.is_counted())
    }
}

impl ClientWait {
    /// Adds a time in which the request waited for its client, and the bytes that the client moved in that time. Returns
    /// why the request is to be cut.
    pub(crate) fn advance(
        &mut self,
        (waited, moved_bytes): (Duration, u64),
        occupancy: Option<Occupancy>,
        receivers: &WaitReceivers,
        now: Instant,
    ) -> Option<CrowdingCut> {
        self.lag = lag_after(self.lag, waited, moved_bytes);
        let Some(occupancy) = occupancy.filter(|_| self.lag > REPORT_AFTER) else {
            self.report = None;
            return None;
        };
        if self.report.as_ref().is_some_and(|report| report.is_lost(now)) {
            self.report = None;
        }
        let since = now.checked_sub(self.lag).unwrap_or(now);
        let report = self.report.get_or_insert_with(|| WaitReport::new(occupancy, since, receivers, now));
        report.cut()
    }

    /// Ends the wait: the request does not wait any more, or its slot and permit are released.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

fn lag_after(lag: Duration, waited: Duration, moved_bytes: u64) -> Duration {
    let caught_up = Duration::from_millis(moved_bytes.saturating_mul(1000) / STEADY_BYTES_PER_SECOND);
    lag.saturating_add(waited).saturating_sub(caught_up)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// V10: single bytes do not end a wait, a steady client has none
    #[test]
    fn lag_is_time_minus_moved_bytes() {
        let visit = Duration::from_millis(250);
        let after = |bytes: u64| (0..8).fold(Duration::ZERO, |lag, _| lag_after(lag, visit, bytes));
        assert_eq!(after(0), Duration::from_secs(2));
        assert!(after(100) > REPORT_AFTER);
        assert_eq!(after(STEADY_BYTES_PER_SECOND / 4), Duration::ZERO);
        assert_eq!(lag_after(Duration::from_secs(50), visit, 1 << 20), Duration::ZERO);
    }
}
