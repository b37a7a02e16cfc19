//! Lowers the pressure on memory and descriptors before requests are refused (X8).
//!
//! One task on each worker thread wakes with every sample of the monitor and calls the steps in order. Each step is a function of the
//! module that owns the resource. A step must return soon, because it runs between the requests of its thread.

mod collect;

use std::rc::Rc;
use std::sync::Arc;

use tidegate_actors::{Action, MonitorHandle, MonitorView, OverloadActions, clock};
use tokio::task::JoinHandle;

use crate::buffers::{self, MemorySample};
use crate::pressure::collect::CollectPlan;
use crate::worker::Worker;

/// Starts the task of a worker thread. Must be called on that thread.
pub(crate) fn start(worker: &Rc<Worker>) -> JoinHandle<()> {
    let worker = Rc::clone(worker);
    actix_rt::spawn(async move {
        let mut views = worker.shared.actors.monitor.subscribe();
        let (mut plan, mut was_short) = (CollectPlan::default(), false);
        while views.changed().await.is_ok() {
            let view = Arc::clone(&views.borrow_and_update());
            was_short = shrink_buffers(&worker, &view, was_short);
            close_idle(&worker, &view);
            // Last, so that memory which the other steps have freed is returned.
            collect::collect_if_due(&mut plan, &view);
        }
    })
}

/// The action `receive_buffers`. Returns whether memory is short.
fn shrink_buffers(worker: &Worker, view: &MonitorView, was_short: bool) -> bool {
    let (shared, actions) = (&worker.shared, worker.shared.actors.monitor.actions());
    let level = actions.rule(Action::ReceiveBuffers).on_level;
    let memory = MemorySample::from_view(view, (&shared.config.monitor, level), was_short);
    let freed_bytes = buffers::apply_sample(&worker.transfers, memory, clock::now());
    touch(actions, Action::ReceiveBuffers, freed_bytes);
    memory.is_short
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
            collect::collect_if_due(&mut plan, &view);
        }
    })
}
