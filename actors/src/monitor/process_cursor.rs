//! The cursor of the process (X11): moved with each sample of the monitor, by the waits inside the gateway and by the
//! pressure on resources.
//!
//! Pressure counts from the middle between `critical` and `exhausted` on: shedding is the last step before all requests
//! are refused. It counts only for sensors that may cause `exhausted` and that refusals relieve.
//!
//! A process that was stopped (SIGSTOP, a paused virtual machine) has waits that its requests did not cause. The monitor has its own
//! thread, so its samples are late by the same time, and that time does not count.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::MonitorConfig;

use crate::monitor::level::{Level, LevelThresholds};
use crate::monitor::reading::Readings;
use crate::monitor::sensor::Sensor;
use crate::shedding::{
    CursorOwner, PressureReading, ProcessWaits, ShedderSettings, SheddingHandle, WaitTotals, WaitWindow,
};

/// How long after a late sample the waits may be those of the same stop: the windows of all waits have begun anew then.
const LATENESS_HOLDS: Duration = Duration::from_millis(300);

/// The owner of the process's cursor.
#[derive(Debug)]
pub(crate) struct ProcessCursor {
    owner: CursorOwner,
    waits: Arc<ProcessWaits>,
    mailboxes: WaitWindow,
    thresholds: LevelThresholds,
    /// Time between two samples.
    interval: Duration,
    /// The last sample.
    sampled: Instant,
    /// The gap before a late sample, and until when it counts.
    lateness: Duration,
    late_until: Instant,
}

impl ProcessCursor {
    pub(crate) fn new(shedding: &SheddingHandle, config: &MonitorConfig, now: Instant) -> Self {
        Self {
            owner: CursorOwner::new(Arc::clone(&shedding.process), now),
            waits: Arc::clone(&shedding.waits),
            mailboxes: WaitWindow::new(now),
            thresholds: LevelThresholds::from(config),
            interval: config.interval,
            sampled: now,
            lateness: Duration::ZERO,
            late_until: now,
        }
    }

    /// Continues with another configuration from the present cursor. `mailboxes` are the waits of the asks of its actors.
    pub(crate) fn reconfigure(
        &mut self,
        (config, settings): (&MonitorConfig, ShedderSettings),
        mailboxes: WaitTotals,
        now: Instant,
    ) {
        self.owner.reconfigure(settings);
        self.thresholds = LevelThresholds::from(config);
        self.interval = config.interval;
        // The totals before were those of other actors.
        self.mailboxes.restart(mailboxes, now);
    }

    /// Goes on from the published cursor after a crash.
    pub(crate) fn rebuild(&mut self) {
        self.owner.rebuild();
    }

    /// Takes a sample. `mailboxes` are the waits of all asks since the start.
    pub(crate) fn update(&mut self, readings: &Readings, mailboxes: WaitTotals, now: Instant) {
        if self.mailboxes.sample(mailboxes, now) {
            self.waits.mailboxes.publish(self.mailboxes.mean().unwrap_or_default(), now);
        }
        let pressure = self.pressure(readings);
        let lateness = self.lateness(now);
        let wait = self.waits.worst(now).map(|wait| wait.saturating_sub(lateness));
        self.owner.publish_wait(wait, now);
        self.owner.update(wait, pressure, now);
    }

    /// The time since the sample before, if this sample or one just before it is late. The samples have a thread of their own, so
    /// requests do not make them late.
    fn lateness(&mut self, now: Instant) -> Duration {
        let gap = now.saturating_duration_since(std::mem::replace(&mut self.sampled, now));
        if now >= self.late_until {
            self.lateness = Duration::ZERO;
        }
        // Timers of other threads were due up to one interval before this one.
        if gap > self.interval * 3 / 2 && gap >= self.lateness {
            (self.lateness, self.late_until) = (gap, now + LATENESS_HOLDS);
        }
        self.lateness
    }

    /// The highest pressure that refusals relieve before all requests are refused.
    fn pressure(&self, readings: &Readings) -> Option<PressureReading> {
        let (level, left) = (Level::Exhausted, readings.memory_left_by_refusing());
        let counts = |sensor: Sensor| {
            sensor.level_max() == level && sensor.is_relieved_by_refusals(level, left, &self.thresholds)
        };
        let relieved = Sensor::ALL.into_iter().zip(readings.in_order()).filter(|(sensor, _)| counts(*sensor));
        let percent = relieved.filter_map(|(_, reading)| reading.percent()).max_by(f64::total_cmp);
        let exhausted = f64::from(self.thresholds.threshold(level));
        percent.map(|percent| PressureReading { percent, exhausted })
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use tidegate_config::Config;

    use super::*;
    use crate::clock;
    use crate::monitor::measurement::{LimitSource, Measurement};
    use crate::monitor::reading::Reading;
    use crate::shedding::{CursorCause, ThreadCpuTime};

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn cursor(now: Instant, interval: Duration) -> (SheddingHandle, ProcessCursor) {
        let mut config = Config::default();
        config.monitor.interval = interval;
        let shedding = SheddingHandle::new(&config, std::iter::empty(), &Registry::new(), now).unwrap();
        let cursor = ProcessCursor::new(&shedding, &config.monitor, now);
        (shedding, cursor)
    }

    fn descriptors(used: u64) -> Readings {
        let descriptors = Measurement::known(used, 1000, LimitSource::OpenFiles);
        Readings { descriptors, ..Readings::NONE }
    }

    /// X1, X11: a slow event loop and slow mailboxes raise the cursor, and unknown waits lower it
    #[test]
    fn waits_raise_the_cursor() {
        let mut now = clock::now();
        let (shedding, mut cursor) = cursor(now, ms(250));
        let shedder = &shedding.process;
        let cpu = Some(ThreadCpuTime { used: ms(0), delayed: ms(0) });
        let mut meter = shedding.waits.lag_meter(0, cpu, now);
        for _ in 0..5 {
            now += ms(250);
            meter.record(now - ms(60), now, cpu);
            cursor.update(&Readings::NONE, WaitTotals::default(), now);
        }
        let by_lag = shedder.view(now).cursor;
        assert!(by_lag > 0.5, "{by_lag}");
        let mut totals = WaitTotals::default();
        for _ in 0..4 {
            now += ms(250);
            totals = WaitTotals { sum: totals.sum + ms(1_000), count: totals.count + 10 };
            cursor.update(&Readings::NONE, totals, now);
        }
        let view = shedder.view(now);
        assert!(view.cursor > by_lag && view.cause == CursorCause::Wait(ms(100)), "{view:?}");
        for _ in 0..40 {
            now += ms(250);
            cursor.update(&Readings::NONE, totals, now);
        }
        assert!(!shedder.is_active());
    }

    /// X8: the lag of a process that was stopped refuses nothing, and a lag after it counts again
    #[test]
    fn a_stop_of_the_process_is_no_wait() {
        let mut now = clock::now();
        let (shedding, mut cursor) = cursor(now, ms(100));
        let cpu = Some(ThreadCpuTime { used: ms(0), delayed: ms(0) });
        let mut meter = shedding.waits.lag_meter(0, cpu, now);
        let mut sample = |after: u64, lag: u64| {
            now += ms(after);
            meter.record(now - ms(lag), now, cpu);
            cursor.update(&Readings::NONE, WaitTotals::default(), now);
            shedding.process.view(now).cursor
        };
        sample(100, 0);
        assert!(sample(3_000, 3_000) < 1e-9, "stopped for three seconds");
        assert!((0..10).all(|_| sample(100, 0) < 1e-9));
        for _ in 0..10 {
            assert!(sample(400, 300) < 1e-9 && sample(100, 0) < 1e-9, "stopped for 300 ms each");
        }
        let last = (0..10).map(|_| sample(100, 60)).last();
        assert!(last > Some(0.1), "{last:?}");
    }

    /// X2: pressure counts above the middle of critical and exhausted, and only of what refusing requests relieves
    #[test]
    fn pressure_raises_the_cursor_before_all_is_refused() {
        let run = |readings: Readings| {
            let mut now = clock::now();
            let (shedding, mut cursor) = cursor(now, ms(250));
            for _ in 0..10 {
                now += ms(250);
                cursor.update(&readings, WaitTotals::default(), now);
            }
            shedding.process.view(now)
        };
        let view = run(descriptors(945));
        assert!(view.cursor > 0.5 && view.cause == CursorCause::Pressure(94.5), "{view:?}");
        assert!(run(descriptors(924)).cursor < 1e-9);
        let slots = Readings { in_flight: Reading::Known { used: 99, limit: 100 }, ..Readings::NONE };
        assert!(run(slots).cursor < 1e-9, "slots have a hard cap of their own");
    }
}
