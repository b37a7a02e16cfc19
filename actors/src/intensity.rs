//! Restart intensity (S3): how many crashes in a window before an actor is held down. A pure state machine.
//!
//! As in Erlang, but the supervisor does not give up: beyond the intensity the actor is `failed` for a back-off that
//! doubles from 100 ms to 10 s. The back-off starts over after a whole window without a crash.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// What the supervisor does after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestartDecision {
    /// Restart at once.
    Restart,
    /// Hold the actor down for this long first.
    HoldDown(Duration),
}

/// The crashes of one actor within the window.
#[derive(Debug)]
pub(crate) struct Intensity {
    restarts_max: usize,
    window: Duration,
    crashes: VecDeque<Instant>,
    hold_count: u32,
    /// Since when the actor runs; time held down does not count.
    up_since: Option<Instant>,
}

impl Intensity {
    pub(crate) fn new(restarts_max: usize, window: Duration) -> Self {
        Self { restarts_max, window, crashes: VecDeque::new(), hold_count: 0, up_since: None }
    }

    pub(crate) fn record_crash(&mut self, now: Instant) -> RestartDecision {
        if self.up_since.is_some_and(|up| now.saturating_duration_since(up) >= self.window) {
            self.hold_count = 0;
        }
        let window = self.window;
        while self.crashes.front().is_some_and(|first| now.saturating_duration_since(*first) >= window) {
            self.crashes.pop_front();
        }
        self.crashes.push_back(now);
        self.up_since = Some(now);
        if self.crashes.len() <= self.restarts_max {
            return RestartDecision::Restart;
        }
        self.crashes.pop_front();
        let hold = BACKOFF_MIN.saturating_mul(1 << self.hold_count.min(10)).min(BACKOFF_MAX);
        self.hold_count += 1;
        self.up_since = Some(now + hold);
        RestartDecision::HoldDown(hold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// S3
    #[test]
    fn five_crashes_in_the_window_restart_the_sixth_is_held_down() {
        let t0 = crate::clock::now();
        let mut intensity = Intensity::new(5, ms(10_000));
        for i in 0..5 {
            assert_eq!(intensity.record_crash(t0 + ms(i)), RestartDecision::Restart);
        }
        assert_eq!(intensity.record_crash(t0 + ms(5)), RestartDecision::HoldDown(ms(100)));
        assert_eq!(intensity.record_crash(t0 + ms(200)), RestartDecision::HoldDown(ms(200)));
    }

    /// S3
    #[test]
    fn the_hold_doubles_up_to_ten_seconds_and_starts_over_after_a_quiet_window() {
        let mut now = crate::clock::now();
        let mut intensity = Intensity::new(0, ms(10_000));
        let mut holds = Vec::new();
        for _ in 0..9 {
            let RestartDecision::HoldDown(hold) = intensity.record_crash(now) else { panic!("must hold") };
            holds.push(hold.as_millis());
            now += hold + ms(1);
        }
        assert_eq!(holds, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(intensity.record_crash(now + ms(10_000)), RestartDecision::HoldDown(ms(100)));
    }

    /// S3
    #[test]
    fn crashes_older_than_the_window_do_not_count() {
        let t0 = crate::clock::now();
        let mut intensity = Intensity::new(2, ms(100));
        for i in 0..20 {
            assert_eq!(intensity.record_crash(t0 + ms(i * 60)), RestartDecision::Restart, "crash {i}");
        }
    }
}
