//! Measures the lag of a worker thread's event loop (X1): how late a timer of the thread fires.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tidegate_actors::{ThreadCpuFile, ThreadCpuTime, clock};
use tokio::time::sleep_until;

use crate::worker::idle_thread::IdleThread;
use crate::worker::slot::WorkerSlot;

/// Time between two measurements: four in each window of 100 ms.
const PERIOD: Duration = Duration::from_millis(25);
/// The longest time while the thread is idle. Each measurement wakes the thread, and a lag that is older than a second is unknown.
const IDLE_PERIOD: Duration = Duration::from_millis(500);
/// A thread is idle if it used less than this part of the time since the last measurement. The measurements use about 0.2 %.
const IDLE_BELOW: u32 = 50;

/// Starts the task of a worker thread. Must be called on that thread.
pub(super) fn start(slot: &Rc<WorkerSlot>, index: usize) {
    // Opened before the thread serves: the budget of descriptors counts what is open.
    let mut file = ThreadCpuFile::default();
    let mut last = (clock::now(), file.read());
    let slot = Rc::clone(slot);
    let mut meter = slot.current().shared.actors.shedding.waits.lag_meter(index, last.1, last.0);
    actix_rt::spawn(async move {
        let mut period = PERIOD;
        loop {
            let due = next_due(&slot.idle, last.0, period).await;
            let present = (clock::now(), file.read());
            meter.record(due, present.0, present.1);
            period = next_period(last, present);
            last = present;
        }
    });
}

/// Waits for the next measurement, and returns when its timer was due. A request or a connection ends the idle time of a thread: from then
/// on the lag is measured often.
async fn next_due(idle: &IdleThread, last: Instant, period: Duration) -> Instant {
    let mut due = last + period;
    if period > PERIOD {
        tokio::select! {
            biased;
            () = sleep_until(due.into()) => return due,
            () = idle.ended() => due = clock::now() + PERIOD,
        }
    }
    sleep_until(due.into()).await;
    due
}

/// The time to the next measurement, from the CPU time of the thread at the last two. Without the CPU time the lag is unknown however
/// often it is measured.
fn next_period(
    (began, before): (Instant, Option<ThreadCpuTime>),
    (now, after): (Instant, Option<ThreadCpuTime>),
) -> Duration {
    let used =
        before.zip(after).map_or(Duration::ZERO, |(before, after)| after.used.saturating_sub(before.used));
    if used * IDLE_BELOW < now.saturating_duration_since(began) { IDLE_PERIOD } else { PERIOD }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X1: a request or a connection ends the idle time of a thread, so that its lag is measured soon
    #[tokio::test(start_paused = true)]
    async fn work_ends_the_idle_time() {
        let (idle, start) = (IdleThread::default(), Instant::from(tokio::time::Instant::now()));
        let elapsed = || Instant::from(tokio::time::Instant::now()) - start;
        assert_eq!(next_due(&idle, start, PERIOD).await, start + PERIOD);
        assert_eq!(next_due(&idle, start, IDLE_PERIOD).await, start + IDLE_PERIOD);
        assert_eq!(elapsed(), IDLE_PERIOD);
        let begin = async {
            sleep_until((start + IDLE_PERIOD * 3 / 2).into()).await;
            idle.end();
        };
        tokio::join!(next_due(&idle, start + IDLE_PERIOD, IDLE_PERIOD), begin);
        assert_eq!(elapsed(), IDLE_PERIOD * 3 / 2 + PERIOD);
    }

    /// X1: a thread that works is measured four times in a window, an idle one twice a second
    #[test]
    fn an_idle_thread_is_measured_less_often() {
        let began = clock::now();
        let cpu = |used| Some(ThreadCpuTime { used: Duration::from_micros(used), delayed: Duration::ZERO });
        let period = |millis, before, after| {
            next_period((began, before), (began + Duration::from_millis(millis), after))
        };
        assert_eq!(period(25, cpu(100), cpu(599)), IDLE_PERIOD);
        assert_eq!(period(25, cpu(100), cpu(600)), PERIOD);
        assert_eq!(period(500, cpu(100), cpu(10_099)), IDLE_PERIOD);
        assert_eq!(period(500, cpu(100), cpu(10_100)), PERIOD);
        assert_eq!(period(25, None, cpu(9_000)), IDLE_PERIOD);
    }
}
