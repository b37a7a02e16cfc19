//! Drains of a bucket and of its endpoints, as an operator orders them.
//!
//! A draining bucket refuses new requests before they are authenticated; requests that it has admitted end normally, waiting ones
//! included. A draining endpoint gets no new call, not even as the last one: retries, hedges and trials go to another endpoint, and
//! without another one they are refused. Calls under way end normally.
//!
//! The order goes through the mailbox of the bucket's current pool, which writes the published cells (`drain_cell.rs`). The load
//! balancer reads those of its endpoints, the request path that of the bucket. In an upgrade the drains cross to the successor
//! (`exported_drain.rs`). See `docs/design/endpoint-health.md`.

mod actor;
pub(crate) mod drain_cell;
pub(in crate::pool) mod exported_drain;
mod handle;

use std::time::{Duration, Instant};

pub use drain_cell::Drain;
pub use handle::{DrainTarget, DrainView};

use crate::pool::gate::ticket::EndpointId;
use crate::pool::load_balancer::endpoint_stats::EndpointStatsTable;
use crate::pool::operator_drain::drain_cell::DrainCell;

/// An order of an operator to drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainOrder {
    /// Who orders it.
    pub ordered_by: String,
    /// Why.
    pub reason: Option<String>,
    /// How long it lasts; none for a drain without an end.
    pub expires: Option<Duration>,
}

impl DrainOrder {
    /// The drain that it begins at `now`.
    fn begin(self, now: Instant) -> Drain {
        let Self { ordered_by, reason, expires } = self;
        // An end that the clock cannot express is none.
        Drain { began: now, until: expires.and_then(|expires| now.checked_add(expires)), ordered_by, reason }
    }
}

/// The time until a drain ends; none if it has no end.
pub(crate) fn time_left(until: Option<Instant>, now: Instant) -> Option<Duration> {
    until.map(|until| until.saturating_duration_since(now))
}

impl EndpointStatsTable {
    /// The cells of a target.
    fn drain_cells<'a>(&'a self, target: &'a DrainTarget) -> Box<dyn Iterator<Item = &'a DrainCell> + 'a> {
        match target {
            DrainTarget::Bucket => Box::new(std::iter::once(self.bucket_drain())),
            DrainTarget::Endpoints(endpoints) => {
                let known = endpoints.iter().filter(|EndpointId(at)| *at < self.len());
                Box::new(known.map(|EndpointId(at)| self.endpoint(*at).drain()))
            }
        }
    }

    /// Publishes each drain again, after a crash in mid-write.
    pub(crate) fn publish_drains(&self) {
        self.all_drain_cells().for_each(DrainCell::publish);
    }

    /// All cells: that of the bucket, then those of the endpoints.
    fn all_drain_cells(&self) -> impl Iterator<Item = &DrainCell> {
        let endpoints = (0..self.len()).map(|at| self.endpoint(at).drain());
        std::iter::once(self.bucket_drain()).chain(endpoints)
    }
}
