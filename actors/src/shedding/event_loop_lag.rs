//! The lag of one thread's event loop: how late a timer of the thread fires.
//!
//! While other processes have the CPU the timer is late too, and refusing requests would not help (X8). So the time in
//! which the thread was ready to run and had no CPU is not counted, up to the CPU time that the thread itself used: a busy
//! thread without CPU has too much work for what it gets. Without the CPU time the two cannot be distinguished, and the lag
//! is unknown.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::shedding::thread_cpu::ThreadCpuTime;
use crate::shedding::waits::{PublishedWait, WaitTotals, WaitWindow};

/// The published lag of a thread.
#[derive(Debug)]
pub(crate) struct PublishedLag {
    /// The part that counts.
    pub(crate) counted: PublishedWait,
    /// The part in which others had the CPU.
    pub(crate) excluded: PublishedWait,
}

impl PublishedLag {
    pub(crate) fn new(now: Instant) -> Self {
        Self { counted: PublishedWait::new(now), excluded: PublishedWait::new(now) }
    }
}

/// Measures the lag of one thread's event loop.
#[derive(Debug)]
pub struct LagMeter {
    published: Arc<PublishedLag>,
    counted: WaitTotals,
    raw: Duration,
    raw_before: Duration,
    window: WaitWindow,
    cpu: Option<ThreadCpuTime>,
}

impl LagMeter {
    /// `cpu` is the CPU time of the thread at present; none if it is unknown.
    pub(crate) fn new(published: Arc<PublishedLag>, cpu: Option<ThreadCpuTime>, now: Instant) -> Self {
        let (counted, window) = (WaitTotals::default(), WaitWindow::new(now));
        Self { published, counted, raw: Duration::ZERO, raw_before: Duration::ZERO, window, cpu }
    }

    /// Records that a timer that was due at `due` fires now. The mean is published at the end of each window. Without the
    /// CPU time before and now the lag is unknown (X8): a new window begins.
    pub fn record(&mut self, due: Instant, now: Instant, cpu: Option<ThreadCpuTime>) {
        let before = std::mem::replace(&mut self.cpu, cpu);
        let (Some(before), Some(after)) = (before, cpu) else {
            self.raw_before = self.raw;
            return self.window.restart(self.counted, now);
        };
        let lag = now.saturating_duration_since(due);
        let used = after.used.saturating_sub(before.used);
        let counted = lag.saturating_sub(after.delayed.saturating_sub(before.delayed)).max(lag.min(used));
        self.raw += lag;
        self.counted.sum += counted;
        let before = self.window.before();
        self.counted.count += 1;
        if self.window.sample(self.counted, now) {
            let mean = self.window.mean().unwrap_or_default();
            let count = u32::try_from(self.counted.count - before.count).unwrap_or(u32::MAX).max(1);
            let excluded = ((self.raw - self.raw_before) / count).saturating_sub(mean);
            self.raw_before = self.raw;
            self.published.counted.publish(mean, now);
            self.published.excluded.publish(excluded, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn cpu(used: u64, delayed: u64) -> Option<ThreadCpuTime> {
        Some(ThreadCpuTime { used: ms(used), delayed: ms(delayed) })
    }

    /// The counted and the excluded part of a lag of 80 ms, after a thread used and waited for the CPU so long.
    fn lag_of(used: u64, delayed: u64) -> (Duration, Duration) {
        let t0 = clock::now();
        let published = Arc::new(PublishedLag::new(t0));
        let mut meter = LagMeter::new(Arc::clone(&published), cpu(10, 10), t0);
        meter.record(t0, t0, cpu(10, 10));
        meter.record(t0 + ms(25), t0 + ms(105), cpu(10 + used, 10 + delayed));
        let wait = |of: &PublishedWait| of.reading(t0 + ms(105)).unwrap().wait * 2;
        (wait(&published.counted), wait(&published.excluded))
    }

    /// X1, X4: the lag is the mean lateness of a window, and it is stale after a second
    #[test]
    fn the_lag_is_published_with_its_age() {
        let t0 = clock::now();
        let published = Arc::new(PublishedLag::new(t0));
        let mut meter = LagMeter::new(Arc::clone(&published), cpu(0, 0), t0);
        assert_eq!(published.counted.reading(t0), None);
        meter.record(t0 + ms(25), t0 + ms(25), cpu(0, 0));
        meter.record(t0 + ms(50), t0 + ms(110), cpu(0, 0));
        let reading = published.counted.reading(t0 + ms(1_110)).unwrap();
        assert_eq!((reading.wait, reading.age), (ms(30), ms(1_000)));
        assert!(!reading.is_stale() && published.counted.reading(t0 + ms(1_111)).unwrap().is_stale());
    }

    /// X8, X11: a lag because other processes have the CPU does not count, a lag by own work or a blocked thread does
    #[test]
    fn the_lag_of_others_does_not_count() {
        assert_eq!(lag_of(2, 78), (ms(2), ms(78)));
        assert_eq!(lag_of(80, 0), (ms(80), ms(0)));
        assert_eq!(lag_of(1, 0), (ms(80), ms(0)), "blocked");
        assert_eq!(lag_of(40, 65), (ms(40), ms(40)), "busy, with too little CPU");
        assert_eq!(lag_of(500, 500), (ms(80), ms(0)));
    }

    /// X4, X8: without the CPU time before and after a lag nothing is published, and the next window begins without it
    #[test]
    fn a_lag_without_the_cpu_time_is_unknown() {
        let t0 = clock::now();
        let published = Arc::new(PublishedLag::new(t0));
        let mut meter = LagMeter::new(Arc::clone(&published), None, t0);
        for step in 1..10 {
            meter.record(t0 + ms(step * 100 - 60), t0 + ms(step * 100), None);
        }
        meter.record(t0 + ms(940), t0 + ms(1_000), cpu(5, 5));
        assert_eq!((published.counted.reading(t0), published.excluded.reading(t0)), (None, None));
        meter.record(t0 + ms(1_090), t0 + ms(1_100), cpu(5, 5));
        let counted = published.counted.reading(t0 + ms(1_100)).unwrap();
        let excluded = published.excluded.reading(t0 + ms(1_100)).unwrap();
        assert_eq!((counted.wait, excluded.wait), (ms(10), ms(0)));
    }
}
