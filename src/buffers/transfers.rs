//! The large transfers of one worker, and what is done to them at each sample of the monitor.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use crate::buffers::budget::BufferBudget;
use crate::buffers::metrics::BufferMetrics;
use crate::buffers::pausing::{self, Step};
use crate::buffers::transfer::Transfer;

/// A worker's transfers.
pub(crate) struct Transfers {
    budget: Arc<BufferBudget>,
    metrics: BufferMetrics,
    registered: RefCell<Vec<Weak<Transfer>>>,
}

/// What a sample says of memory, for one worker.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemorySample {
    /// The limit, in bytes; none where memory has no limit.
    pub(crate) limit_bytes: Option<u64>,
    /// Memory is at `warning` or above.
    pub(crate) is_short: bool,
    /// Memory is at `exhausted`: the bytes that this worker's transfers should free.
    pub(crate) excess_bytes: Option<u64>,
}

impl Transfers {
    pub(crate) fn new(budget: &Arc<BufferBudget>, metrics: &BufferMetrics) -> Self {
        Self { budget: Arc::clone(budget), metrics: metrics.clone(), registered: RefCell::default() }
    }

    pub(super) fn budget(&self) -> &Arc<BufferBudget> {
        &self.budget
    }

    pub(super) fn register(&self, transfer: &Rc<Transfer>) {
        let mut registered = self.registered.borrow_mut();
        // Ended ones are removed at each sample, and here where no sample comes.
        if registered.len() == registered.capacity() {
            registered.retain(|transfer| transfer.strong_count() > 0);
        }
        registered.push(Rc::downgrade(transfer));
    }

    fn live(&self) -> Vec<Rc<Transfer>> {
        let mut registered = self.registered.borrow_mut();
        registered.retain(|transfer| transfer.strong_count() > 0);
        registered.iter().filter_map(Weak::upgrade).collect()
    }
}

/// One sample of the monitor: shrinks, pauses, resumes and cuts.
pub(crate) fn step(transfers: &Transfers, sample: MemorySample, now: Instant) {
    transfers.budget.sampled(sample.limit_bytes, !sample.is_short);
    let live = transfers.live();
    for transfer in &live {
        transfer.review(now);
        if sample.is_short {
            transfer.shrink(now);
        }
    }
    if sample.excess_bytes.is_none() && !live.iter().any(|transfer| transfer.was_paused()) {
        return;
    }
    let (live, candidates): (Vec<_>, Vec<_>) =
        live.iter().filter_map(|transfer| Some((transfer, transfer.candidate(now)?))).unzip();
    let steps = pausing::decide(&candidates, sample.excess_bytes);
    for (transfer, step) in live.into_iter().zip(steps) {
        match step {
            Step::Leave => {}
            Step::Pause => {
                transfers.metrics.paused.inc();
                transfer.pause(now);
            }
            Step::Resume => transfer.resume(sample.excess_bytes.is_some(), now),
            Step::Cut => {
                transfers.metrics.cut.inc();
                transfer.cut();
            }
        }
    }
}
