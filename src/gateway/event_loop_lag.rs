//! Measures the lag of a worker thread's event loop (X1): how late a timer of the thread fires.

use std::rc::Rc;
use std::time::Duration;

use tidegate_actors::{ThreadCpuTime, clock};
use tokio::time::{MissedTickBehavior, interval};

use crate::worker::Worker;

/// Time between two measurements: four in each window of 100 ms.
const PERIOD: Duration = Duration::from_millis(25);

/// Starts the task of a worker thread. Must be called on that thread.
pub(super) fn start(worker: &Rc<Worker>, index: usize) {
    let mut meter = worker.shared.actors.shedding.waits.lag_meter(index, clock::now());
    actix_rt::spawn(async move {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = ticks.tick().await;
            meter.record(due.into_std(), clock::now(), thread_cpu_time());
        }
    });
}

/// CPU time of this thread; none where the kernel has no scheduler statistics, and without a free descriptor.
fn thread_cpu_time() -> Option<ThreadCpuTime> {
    parse(&std::fs::read_to_string("/proc/thread-self/schedstat").ok()?)
}

/// Nanoseconds on a CPU, and nanoseconds in which the thread waited for one.
fn parse(text: &str) -> Option<ThreadCpuTime> {
    let mut nanos = text.split_ascii_whitespace().map(str::parse);
    let (used, delayed) = (nanos.next()?.ok()?, nanos.next()?.ok()?);
    Some(ThreadCpuTime { used: Duration::from_nanos(used), delayed: Duration::from_nanos(delayed) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X1, X11: the statistics are read, and unknown text gives none
    #[test]
    fn the_statistics_are_read() {
        let time = parse("1500 70 4\n").unwrap();
        assert_eq!((time.used, time.delayed), (Duration::from_nanos(1500), Duration::from_nanos(70)));
        for text in ["", "5", "x 1 1", "1 -1 1"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
