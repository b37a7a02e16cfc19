//! The start of an overload in a queue: the growth of the wait gives the part of the traffic that is too much.
//!
//! If the wait of a new request grows by `g` seconds a second, the arrivals are `1 + g` times what the queue serves, so
//! `g / (1 + g)` of them is too much. A controller needs seconds to find this part, and a queue is full before. The growth
//! is that of two updates, the lower one, so that one burst has no effect. It counts from an error of -0.5 on, fully at the
//! target. Once the wait falls, the controller goes on alone: the noise of a regulated queue is no overload.
//!
//! Only an expected wait has this growth. The age of the oldest request grows by a second a second whatever arrives, and the
//! step from an age to the first expected wait is no growth.

use std::time::Duration;

/// The error from which the growth counts.
const ERROR_MIN: f64 = -0.5;

/// The wait before, while it grows.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Onset {
    /// None if the expected wait was unknown.
    wait: Option<f64>,
    growth: f64,
    /// The cursor was 0 when the wait began to grow.
    is_new: bool,
}

impl Onset {
    /// The start at a queue that was empty until now.
    pub(crate) const EMPTY_QUEUE: Self = Self { wait: Some(0.0), growth: 0.0, is_new: false };

    /// The part of the traffic that is too much; 0 if the overload is not new or the expected wait was unknown.
    /// `is_idle`: the cursor is 0.
    pub(crate) fn excess(
        &mut self,
        expected: Option<Duration>,
        error: f64,
        is_idle: bool,
        period: f64,
    ) -> f64 {
        let Some(wait) = expected.map(|wait| wait.as_secs_f64()) else {
            *self = Self::default();
            return 0.0;
        };
        let Some(before) = self.wait.replace(wait) else {
            self.is_new = is_idle;
            return 0.0;
        };
        let growth = (wait - before) / period.max(f64::MIN_POSITIVE);
        let lower = growth.min(self.growth);
        self.growth = growth;
        self.is_new = is_idle || (self.is_new && growth > 0.0);
        let weight = ((error - ERROR_MIN) / -ERROR_MIN).clamp(0.0, 1.0);
        if self.is_new && lower > 0.0 { weight * lower / (1.0 + lower) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The excess at a wait, with a target of a second.
    fn excess(onset: &mut Onset, ms: u64, is_idle: bool) -> f64 {
        let wait = Duration::from_millis(ms);
        onset.excess(Some(wait), wait.as_secs_f64() - 1.0, is_idle, 0.1)
    }

    /// X11: arrivals of four times the throughput are found in three updates, and a single burst is not taken for one
    #[test]
    fn the_growth_of_the_wait_is_the_excess() {
        let mut onset = Onset::EMPTY_QUEUE;
        assert!(excess(&mut onset, 300, true).abs() < 1e-9);
        let half = excess(&mut onset, 600, true);
        assert!((half - 0.15).abs() < 1e-9, "{half}");
        let all = [excess(&mut onset, 900, false), excess(&mut onset, 1_200, false)];
        assert!((all[0] - 0.6).abs() < 1e-9 && (all[1] - 0.75).abs() < 1e-9, "{all:?}");
        let mut burst = Onset::EMPTY_QUEUE;
        assert!([0, 2_000, 2_000, 1_900].into_iter().all(|wait| excess(&mut burst, wait, true).abs() < 1e-9));
    }

    /// X11: after the first fall of the wait its growth has no effect until the cursor was 0
    #[test]
    fn a_regulated_queue_has_no_onset() {
        let mut onset = Onset::EMPTY_QUEUE;
        let waits = [400, 800, 1_200, 1_100, 1_300, 1_500, 1_700];
        let found = waits.map(|wait| excess(&mut onset, wait, false));
        assert!(found.iter().all(|excess| excess.abs() < 1e-9), "{found:?}: the cursor was never 0");
        let found = waits.map(|wait| excess(&mut onset, wait, wait == 400));
        assert!(found[2] > 0.7 && found[3..].iter().all(|excess| excess.abs() < 1e-9), "{found:?}");
        assert!(excess(&mut onset, 1_900, true) > 0.6);
    }

    /// X11: a time without an expected wait has no growth, and neither has the step to the first expected wait after it
    #[test]
    fn an_unknown_wait_does_not_grow() {
        let mut onset = Onset::EMPTY_QUEUE;
        for wait in [400, 700, 1_000] {
            excess(&mut onset, wait, true);
        }
        assert!(onset.excess(None, 1.0, true, 0.1).abs() < 1e-9);
        let found = [1_300, 1_600, 1_900].map(|wait| excess(&mut onset, wait, true));
        assert!(
            found[..2].iter().all(|excess| excess.abs() < 1e-9) && (found[2] - 0.75).abs() < 1e-9,
            "{found:?}"
        );
    }
}
