//! The transfers of one worker, and their review after a sample of the monitor.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use tidegate_actors::InForce;

use crate::buffers::budget::BufferBudget;
use crate::buffers::metrics::BufferMetrics;
use crate::buffers::pause_policy::{self, BytesToFree, PauseAction};
use crate::buffers::revocation::RevocableStreams;
use crate::buffers::sample::{MemoryExcess, MemorySample};
use crate::buffers::socket::SocketBuffers;
use crate::buffers::transfer::Transfer;

/// A worker's transfers.
pub(crate) struct Transfers {
    budget: Arc<BufferBudget>,
    metrics: BufferMetrics,
    registered: RefCell<Vec<Weak<Transfer>>>,
    /// The streams of clients with keys.
    pub(crate) revocable: RevocableStreams,
    /// Sockets that retain the size of their last transfer, or hold bytes of it.
    retained: RefCell<Vec<Weak<SocketBuffers>>>,
    /// The budget counts this worker as one with transfers.
    is_serving: Cell<bool>,
}

impl Transfers {
    pub(crate) fn new(budget: &Arc<BufferBudget>, metrics: &BufferMetrics) -> Self {
        Self {
            budget: Arc::clone(budget),
            metrics: metrics.clone(),
            registered: RefCell::default(),
            revocable: RevocableStreams::default(),
            retained: RefCell::default(),
            is_serving: Cell::new(false),
        }
    }

    pub(super) fn budget(&self) -> &Arc<BufferBudget> {
        &self.budget
    }

    pub(super) fn register(&self, transfer: &Rc<Transfer>) {
        let mut registered = self.registered.borrow_mut();
        // Ended transfers are removed with each sample, and here in case no sample comes.
        if registered.len() == registered.capacity() {
            registered.retain(|transfer| transfer.strong_count() > 0);
        }
        registered.push(Rc::downgrade(transfer));
    }

    /// Begins sweeps of a socket after a transfer: its retained size is released if no other transfer follows soon.
    pub(super) fn retain(&self, socket: &Rc<SocketBuffers>) {
        if socket.begin_sweeps() {
            self.retained.borrow_mut().push(Rc::downgrade(socket));
        }
    }

    /// Counts bytes of a body that were moved through the pipe of the thread.
    pub(super) fn count_spliced(&self, bytes: usize) {
        self.metrics.spliced.inc_by(bytes as u64);
    }

    fn sweep_retained(&self) {
        let is_short = self.budget.is_short();
        let mut retained = self.retained.borrow_mut();
        retained.retain(|socket| socket.upgrade().is_some_and(|socket| socket.sweep(is_short)));
    }

    fn active(&self) -> Vec<Rc<Transfer>> {
        let mut registered = self.registered.borrow_mut();
        registered.retain(|transfer| transfer.strong_count() > 0);
        registered.iter().filter_map(Weak::upgrade).collect()
    }

    fn count_serving(&self, is_serving: bool) {
        if self.is_serving.replace(is_serving) != is_serving {
            self.budget.count_serving(is_serving);
        }
    }
}

/// What a sample did to the transfers of a worker, or in shadow mode would have done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SampleEffect {
    /// Bytes that buffers gave up.
    pub(crate) freed_bytes: u64,
    pub(crate) paused: u64,
    pub(crate) cut: u64,
}

/// Applies a sample of the monitor, four times a second or more often (`pressure`): shrinks, pauses, resumes and cuts transfers.
pub(crate) fn apply_sample(transfers: &Transfers, sample: MemorySample, now: Instant) -> SampleEffect {
    transfers.budget.update(
        sample.limit_bytes,
        sample.buffers_max,
        sample.shrinking != Some(InForce::Enforced),
    );
    transfers.sweep_retained();
    let active = transfers.active();
    transfers.count_serving(!active.is_empty());
    let mut effect = SampleEffect::default();
    for transfer in &active {
        transfer.review(now);
        effect.freed_bytes += match sample.shrinking {
            Some(InForce::Enforced) => transfer.shrink(now),
            Some(InForce::Shadow) => transfer.count_shrinkable(),
            None => 0,
        };
    }
    if sample.pausing.is_some() || active.iter().any(|transfer| transfer.was_paused()) {
        apply_pauses(transfers, &active, sample, now, &mut effect);
    }
    effect
}

/// Pauses, resumes and cuts transfers.
fn apply_pauses(
    transfers: &Transfers,
    active: &[Rc<Transfer>],
    MemorySample { pausing, cutting, .. }: MemorySample,
    now: Instant,
    effect: &mut SampleEffect,
) {
    let (active, candidates): (Vec<_>, Vec<_>) =
        active.iter().filter_map(|transfer| Some((transfer, transfer.pause_candidate(now)?))).unzip();
    let share = |excess: MemoryExcess| excess.bytes / transfers.budget.serving_workers();
    let to_free = BytesToFree { by_pauses: pausing.map(share), by_cuts: cutting.map(share) };
    let actions = pause_policy::decide(&candidates, to_free);
    for (transfer, action) in active.into_iter().zip(actions) {
        match action {
            PauseAction::Continue => {}
            PauseAction::Pause => {
                let Some(MemoryExcess { in_force, figures, .. }) = pausing else { continue };
                effect.paused += 1;
                if in_force == InForce::Enforced {
                    transfers.metrics.paused.inc();
                    transfer.pause(figures, now);
                } else {
                    transfer.pause_in_shadow(figures, now);
                }
            }
            PauseAction::Resume => transfer.resume(pausing.is_some(), now),
            PauseAction::Cut => match cutting {
                Some(MemoryExcess { in_force: InForce::Enforced, figures, .. }) if transfer.has_paused() => {
                    effect.cut += 1;
                    transfers.metrics.cut.inc();
                    transfer.cut(figures);
                }
                Some(MemoryExcess { in_force: InForce::Shadow, figures, .. }) => {
                    effect.cut += u64::from(transfer.cut_in_shadow(figures, now));
                }
                // Its pause was in shadow mode, so it has not had one.
                _ => transfer.resume(true, now),
            },
        }
    }
}
