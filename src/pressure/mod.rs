//! Lowers the pressure on memory and descriptors before requests are refused (X8).
//!
//! One task on each worker thread wakes with every sample of the monitor while requests are in flight, with some samples otherwise, and
//! calls the steps in order. Each step is a function of the module that owns the resource. A step must return soon, because it runs between
//! the requests of its thread.

pub(crate) mod collect;
mod schedule;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_actors::{Action, InForce, MonitorHandle, MonitorView, OverloadActions, clock};
use tokio::task::JoinHandle;

use crate::buffers::{self, MemorySample, SampleEffect, TransferLevels};
use crate::pressure::collect::CollectPlan;
use crate::pressure::schedule::has_passed;
use crate::server::idle_closer::IdleLevels;
use crate::worker::Worker;
use crate::worker::slot::WorkerSlot;

/// Time between two reviews of the transfers while memory is not short. Sockets that were idle for two reviews give up their large buffers.
const REVIEW_EVERY: Duration = Duration::from_millis(250);

/// Time between two searches for endpoints that drain.
const DRAINS_EVERY: Duration = Duration::from_millis(500);

/// Starts the task of a worker thread. Must be called on that thread.
pub(crate) fn start(slot: &Rc<WorkerSlot>) -> JoinHandle<()> {
    let slot = Rc::clone(slot);
    actix_rt::spawn(async move {
        let mut views = slot.current().shared.actors.monitor.subscribe();
        let (mut plan, mut review) = (CollectPlan::default(), TransferReview::default());
        let mut drains_read = None;
        while views.changed().await.is_ok() {
            let view = Arc::clone(&views.borrow_and_update());
            let (worker, now) = (slot.current(), clock::now());
            review.act_on_transfers(&worker, &view, now);
            close_idle(&worker, &view);
            if has_passed(DRAINS_EVERY, drains_read, now) {
                worker.close_draining_upstreams(now);
                worker.sweep_idle_upstreams(now);
                drains_read = Some(now);
            }
            // Last, so that memory which the other steps have freed is returned.
            collect::collect_if_due(&mut plan, &view, now);
        }
    })
}

/// The reviews of the transfers of a worker thread.
#[derive(Debug, Default)]
struct TransferReview {
    last: Option<Instant>,
    before: MemorySample,
}

impl TransferReview {
    /// The actions `receive_buffers`, `pause_transfers` and `cut_transfers`.
    fn act_on_transfers(&mut self, worker: &Worker, view: &MonitorView, now: Instant) {
        let (shared, actions) = (&worker.shared, worker.shared.actors.monitor.actions());
        let levels = TransferLevels::of(actions);
        let memory = MemorySample::from_view(view, (&shared.config.monitor, levels), &self.before);
        if memory.is_acting() || self.before.is_acting() || has_passed(REVIEW_EVERY, self.last, now) {
            let SampleEffect { freed_bytes, paused, cut } =
                buffers::apply_sample(&worker.transfers, memory, now);
            touch(actions, Action::ReceiveBuffers, freed_bytes);
            touch(actions, Action::PauseTransfers, paused);
            touch(actions, Action::CutTransfers, cut);
            self.last = Some(now);
        }
        self.before = memory;
    }
}

/// The actions `idle_connections` and `idle_upstreams`.
fn close_idle(worker: &Worker, view: &MonitorView) {
    let (shared, actions) = (&worker.shared, worker.shared.actors.monitor.actions());
    let config = (&shared.config.monitor, IdleLevels::of(actions));
    let closing = shared.process.idle_closer.close_idle(
        view,
        config,
        &shared.process.client_connections,
        &shared.process.log,
    );
    touch(actions, Action::IdleConnections, closing.clients as u64);
    let upstreams = match closing.upstreams {
        None => return,
        Some(InForce::Enforced) => {
            let closed = worker.close_idle_upstreams();
            shared.process.idle_closer.count_closed_upstreams(closed);
            closed
        }
        Some(InForce::Shadow) => shared.process.idle_closer.count_more_upstreams(worker.idle_upstreams()),
    };
    touch(actions, Action::IdleUpstreams, upstreams as u64);
}

fn touch(actions: &OverloadActions, action: Action, count: u64) {
    if count > 0 {
        actions.touch(action, count);
    }
}

/// Starts the task of a thread without clients. It only returns memory to the kernel.
pub(crate) fn start_without_clients(monitor: &MonitorHandle) -> JoinHandle<()> {
    let mut views = monitor.subscribe();
    actix_rt::spawn(async move {
        let mut plan = CollectPlan::default();
        while views.changed().await.is_ok() {
            let view = Arc::clone(&views.borrow_and_update());
            collect::collect_if_due(&mut plan, &view, clock::now());
        }
    })
}
