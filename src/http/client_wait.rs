//! A request's wait for its client, and the report of it to the actors that count such waits (V10).
//!
//! Answers (`send_progress.rs`) and uploads (`upstream/flow.rs`) both keep a [`ClientWait`]; the visits of
//! `SendWatch` advance it. A request waits while its client takes or sends fewer than 4 KiB per second although it is
//! waited for. After one second the bucket's pool and the monitor get a report, which ends when the client catches up
//! or the request releases its places.

use std::time::{Duration, Instant};

use tidegate_actors::{BucketId, ClientId, ClientWaitTicket};

use crate::worker::Shared;

/// A client that moves as much is not waited for.
const STEADY_BYTES_PER_SECOND: u64 = 4 << 10;
/// Waits up to this are not reported.
const REPORT_AFTER: Duration = Duration::from_secs(1);
/// A report that an actor has not counted by then was lost in a crash.
const COUNTED_WITHIN: Duration = Duration::from_secs(2);

/// What a request holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Occupancy {
    /// For whom.
    pub(crate) client: ClientId,
    /// The bucket in whose gate it has a place; none while it holds a slot alone.
    pub(crate) bucket: Option<BucketId>,
}

/// One request's wait.
#[derive(Debug, Default)]
pub(crate) struct ClientWait {
    lag: Duration,
    report: Option<WaitReport>,
}

#[derive(Debug)]
struct WaitReport {
    made: Instant,
    slot: ClientWaitTicket,
    gate: Option<ClientWaitTicket>,
}

impl WaitReport {
    fn new(places: Occupancy, since: Instant, shared: &Shared, now: Instant) -> Self {
        let gate = places
            .bucket
            .map(|bucket| shared.router.bucket(bucket).pool.report_client_wait(places.client, since));
        Self { made: now, slot: shared.actors.monitor.report_client_wait(places.client, since), gate }
    }

    fn tickets(&self) -> impl Iterator<Item = &ClientWaitTicket> {
        [Some(&self.slot), self.gate.as_ref()].into_iter().flatten()
    }

    fn is_lost(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.made) > COUNTED_WITHIN
            && self.tickets().any(|ticket| !ticket.is_counted())
    }
}

impl ClientWait {
    /// Accounts for a time in which the client was waited for and for what it moved in that time. True if the request is to be cut.
    pub(crate) fn advance(
        &mut self,
        (waited, moved_bytes): (Duration, u64),
        places: Option<Occupancy>,
        shared: &Shared,
        now: Instant,
    ) -> bool {
        self.lag = lag_after(self.lag, waited, moved_bytes);
        let Some(places) = places.filter(|_| self.lag > REPORT_AFTER) else {
            self.report = None;
            return false;
        };
        if self.report.as_ref().is_some_and(|report| report.is_lost(now)) {
            self.report = None;
        }
        let since = now.checked_sub(self.lag).unwrap_or(now);
        let report = self.report.get_or_insert_with(|| WaitReport::new(places, since, shared, now));
        report.tickets().any(ClientWaitTicket::is_cut)
    }

    /// The client is not waited for any more, or the places are given back.
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

    /// V10: crumbs do not end a wait, a steady client has none
    #[test]
    fn lag_is_time_less_what_moved() {
        let visit = Duration::from_millis(250);
        let after = |bytes: u64| (0..8).fold(Duration::ZERO, |lag, _| lag_after(lag, visit, bytes));
        assert_eq!(after(0), Duration::from_secs(2));
        assert!(after(100) > REPORT_AFTER);
        assert_eq!(after(STEADY_BYTES_PER_SECOND / 4), Duration::ZERO);
        assert_eq!(lag_after(Duration::from_secs(50), visit, 1 << 20), Duration::ZERO);
    }
}
