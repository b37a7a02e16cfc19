//! Lowers the pressure on memory and descriptors before requests are refused (X8).
//!
//! One task on each worker thread wakes with every sample of the monitor while requests are in flight, with some samples otherwise, and
//! calls the steps in order. Each step is a function of the module that owns the resource. A step must return soon, because it runs between
//! the requests of its thread.

mod collect;
mod schedule;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_actors::{Action, MonitorHandle, MonitorView, OverloadActions, clock};
use tokio::task::JoinHandle;

use crate::buffers::{self, MemorySample};
use crate::pressure::collect::CollectPlan;
use crate::pressure::schedule::has_passed;
use crate::worker::Worker;

/// Time between two reviews of the transfers while memory is not short. Sockets that were idle for two reviews give up their large buffers.
const REVIEW_EVERY: Duration = Duration::from_millis(250);

/// Starts the task of a worker thread. Must be called on that thread.
pub(crate) fn start(worker: &Rc<Worker>) -> JoinHandle<()> {
    let worker = Rc::clone(worker);
    actix_rt::spawn(async move {
        let mut views = worker.shared.actors.monitor.subscribe();
        let (mut plan, mut review) = (CollectPlan::default(), TransferReview::default());
        while views.changed().await.is_ok() {
            let view = Arc::clone(&views.borrow_and_update());
            let now = clock::now();
            review.shrink_buffers(&worker, &view, now);
            close_idle(&worker, &view);
            // Last, so that memory which the other steps have freed is returned.
            collect::collect_if_due(&mut plan, &view, now);
        }
    })
}

/// The reviews of the transfers of a worker thread.
#[derive(Debug, Default)]
struct TransferReview {
    last: Option<Instant>,
    was_short: bool,
}

impl TransferReview {
    /// The action `receive_buffers`.
    fn shrink_buffers(&mut self, worker: &Worker, view: &MonitorView, now: Instant) {
        let (shared, actions) = (&worker.shared, worker.shared.actors.monitor.actions());
        let level = actions.rule(Action::ReceiveBuffers).on_level;
        let memory = MemorySample::from_view(view, (&shared.config.monitor, level), self.was_short);
        if memory.is_short || self.was_short || has_passed(REVIEW_EVERY, self.last, now) {
            touch(actions, Action::ReceiveBuffers, buffers::apply_sample(&worker.transfers, memory, now));
            self.last = Some(now);
        }
        self.was_short = memory.is_short;
    }
}

/// The action `idle_connections`.
fn close_idle(worker: &Worker, view: &MonitorView) {
    let (shared, actions) = (&worker.shared, worker.shared.actors.monitor.actions());
    let config = (&shared.config.monitor, actions.rule(Action::IdleConnections).on_level);
    let closing = shared.idle_closer.close_idle(view, config, &shared.client_connections, &shared.log);
    touch(actions, Action::IdleConnections, closing.clients as u64);
    if closing.needs_upstreams {
        let upstreams = worker.close_idle_upstreams();
        shared.idle_closer.count_closed_upstreams(upstreams);
        touch(actions, Action::IdleConnections, upstreams as u64);
    }
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
