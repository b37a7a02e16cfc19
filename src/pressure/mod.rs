//! Lowers the pressure on memory and descriptors before requests are refused (X8).
//!
//! One task on each worker thread wakes with every sample of the monitor and calls the steps in order. Each step is a function of the
//! module that owns the resource. A step must return soon, because it runs between the requests of its thread.

mod collect;
mod schedule;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidegate_actors::{MonitorHandle, MonitorView, clock};
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
        let (mut plan, mut reviewed) = (CollectPlan::default(), None);
        while views.changed().await.is_ok() {
            let view = Arc::clone(&views.borrow_and_update());
            let budget = &worker.shared.buffer_budget;
            let memory = MemorySample::from_view(&view, &worker.shared.config.monitor, budget.is_short());
            let now = clock::now();
            if memory.is_short() || budget.is_short() || has_passed(REVIEW_EVERY, reviewed, now) {
                buffers::apply_sample(&worker.transfers, memory, now);
                reviewed = Some(now);
            }
            close_idle(&worker, &view);
            // Last, so that memory which the other steps have freed is returned.
            collect::collect_if_due(&mut plan, &view, now);
        }
    })
}

fn close_idle(worker: &Worker, view: &MonitorView) {
    let shared = &worker.shared;
    if shared.idle_closer.close_idle(view, &shared.config.monitor, &shared.client_connections, &shared.log) {
        shared.idle_closer.count_closed_upstreams(worker.close_idle_upstreams());
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
