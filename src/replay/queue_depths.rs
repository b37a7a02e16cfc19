//! The queue that each request would have needed: a second replay of the new configuration, without a bound on the queues and
//! without their cursors.

use std::time::Duration;

use tidegate_actors::replay::{CircuitMove, Observer, Refusal, Work};
use tidegate_config::{ActionMode, Config};

use crate::replay::log::merge::MergedLog;
use crate::replay::model::Model;
use crate::replay::request::RecordedRequest;
use crate::replay::suggestion::OCCUPANCY_MAX;
use crate::replay::tally::RequestTag;

/// The replay.
pub(crate) struct QueueDepths {
    model: Model<LastDepth>,
}

impl QueueDepths {
    pub(crate) fn new(config: &Config, seed: u64) -> Self {
        let mut unbounded = config.clone();
        for bucket in unbounded.buckets.values_mut() {
            // A longer queue is not distinguished.
            bucket.upstream.concurrency.max_queued = OCCUPANCY_MAX;
            // A request that a cursor refuses finds no queue, so the queue would look shorter than it must be.
            bucket.upstream.concurrency.shedding.mode = ActionMode::Off;
        }
        Self { model: Model::new(&unbounded, seed, LastDepth::default()) }
    }

    /// The length of the queue with this request in it; 0 if it does not wait.
    pub(crate) fn of(
        &mut self,
        request: &RecordedRequest,
        (at, work): (Duration, Work),
        tag: RequestTag,
        log: &MergedLog,
    ) -> usize {
        self.model.observer.0 = 0;
        self.model.arrive(request, (at, work), tag, log);
        self.model.observer.0
    }
}

/// The depth that the last request found.
#[derive(Debug, Default)]
struct LastDepth(usize);

impl Observer<RequestTag> for LastDepth {
    fn queued(&mut self, _: RequestTag, waiting: usize) {
        self.0 = waiting;
    }

    fn admitted(&mut self, _: RequestTag, _: Duration) {}

    fn refused(&mut self, _: RequestTag, _: Refusal, _: Duration) {}

    fn shadowed(&mut self, _: RequestTag, _: Refusal) {}

    fn circuit(&mut self, _: CircuitMove) {}
}
