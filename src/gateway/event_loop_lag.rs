//! Measures the lag of a worker thread's event loop (X1): how late a timer of the thread fires.

use std::rc::Rc;
use std::time::Duration;

use tidegate_actors::{ThreadCpuFile, clock};
use tokio::time::{MissedTickBehavior, interval};

use crate::worker::Worker;

/// Time between two measurements: four in each window of 100 ms.
const PERIOD: Duration = Duration::from_millis(25);

/// Starts the task of a worker thread. Must be called on that thread.
pub(super) fn start(worker: &Rc<Worker>, index: usize) {
    // Opened before the thread serves: the budget of descriptors counts what is open.
    let mut cpu = ThreadCpuFile::default();
    let waits = &worker.shared.actors.shedding.waits;
    let mut meter = waits.lag_meter(index, cpu.read(), clock::now());
    actix_rt::spawn(async move {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = ticks.tick().await;
            meter.record(due.into_std(), clock::now(), cpu.read());
        }
    });
}
