//! The waits inside the gateway: the lag of each worker thread's event loop, and the wait in the mailboxes of actors.
//!
//! The time from readable to handled is the lag of the event loop: a connection's task reads the socket and calls the
//! handler in one poll, so a request waits only before that poll.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::shedding::event_loop_lag::{LagMeter, PublishedLag};
use crate::shedding::thread_cpu::ThreadCpuTime;
use crate::shedding::waits::{PublishedWait, WaitReading};

/// The published waits of the process.
#[derive(Debug)]
pub struct ProcessWaits {
    /// By the number of the worker thread.
    lags: Mutex<Vec<(usize, Arc<PublishedLag>)>>,
    /// Mean wait of the asks of all actors.
    pub(crate) mailboxes: PublishedWait,
}

/// The lag of one worker thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerLagView {
    /// The number of the thread.
    pub worker: usize,
    /// Its lag; none before the first window.
    pub lag: Option<WaitReading>,
    /// The time in which others had the CPU; it does not count as lag.
    pub excluded: Option<WaitReading>,
}

impl ProcessWaits {
    pub(crate) fn new(now: Instant) -> Self {
        Self { lags: Mutex::default(), mailboxes: PublishedWait::new(now) }
    }

    /// A meter for a worker thread's event loop, with the CPU time of the thread. A thread registers once.
    pub fn lag_meter(&self, worker: usize, cpu: Option<ThreadCpuTime>, now: Instant) -> LagMeter {
        let published = Arc::new(PublishedLag::new(now));
        let mut lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        lags.push((worker, Arc::clone(&published)));
        lags.sort_unstable_by_key(|(worker, _)| *worker);
        LagMeter::new(published, cpu, now)
    }

    /// The lag of each worker thread.
    pub fn lags(&self, now: Instant) -> Vec<WorkerLagView> {
        let lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        let view = |(worker, lag): &(usize, Arc<PublishedLag>)| WorkerLagView {
            worker: *worker,
            lag: lag.counted.reading(now),
            excluded: lag.excluded.reading(now),
        };
        lags.iter().map(view).collect()
    }

    /// The mean wait in mailboxes; none before the first window.
    pub fn mailboxes(&self, now: Instant) -> Option<WaitReading> {
        self.mailboxes.reading(now)
    }

    /// The longest of the waits that are not stale. A thread that is stuck publishes nothing: it is no reason to refuse
    /// the requests of the others.
    pub(crate) fn worst(&self, now: Instant) -> Option<Duration> {
        let lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |wait: &PublishedWait| {
            wait.reading(now).filter(|reading| !reading.is_stale()).map(|reading| reading.wait)
        };
        let lag = lags.iter().filter_map(|(_, lag)| known(&lag.counted)).max();
        // Messages wait too while others have the CPU.
        let excluded = lags.iter().filter_map(|(_, lag)| known(&lag.excluded)).max().unwrap_or_default();
        lag.max(known(&self.mailboxes).map(|wait| wait.saturating_sub(excluded)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    /// X1, X4: the wait of the process is the longest that is known; a stale one has no effect
    #[test]
    fn the_longest_known_wait_counts() {
        let ms = Duration::from_millis;
        let t0 = clock::now();
        let waits = ProcessWaits::new(t0);
        assert_eq!(waits.worst(t0), None);
        let cpu = Some(ThreadCpuTime { used: ms(0), delayed: ms(0) });
        let (mut second, mut first) = (waits.lag_meter(1, cpu, t0), waits.lag_meter(0, cpu, t0));
        first.record(t0 + ms(60), t0 + ms(100), cpu);
        second.record(t0 + ms(93), t0 + ms(100), cpu);
        assert_eq!(waits.worst(t0 + ms(200)), Some(ms(40)));
        second.record(t0 + ms(1_190), t0 + ms(1_200), cpu);
        assert_eq!(waits.worst(t0 + ms(1_200)), Some(ms(10)), "the first thread is stuck");
        waits.mailboxes.publish(ms(15), t0 + ms(1_200));
        assert_eq!(waits.worst(t0 + ms(1_200)), Some(ms(15)));
        assert_eq!(waits.worst(t0 + ms(2_201)), None);
        assert_eq!(waits.lags(t0 + ms(1_200)).iter().map(|lag| lag.worker).collect::<Vec<_>>(), [0, 1]);
    }
}
