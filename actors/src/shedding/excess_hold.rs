//! Keeps the cursor where the excess of the heavy clients ends, while that helps.
//!
//! A full queue takes seconds to drain after the excess is cut. A controller that goes on meanwhile refuses the clients that
//! did not cause the overload. So the cursor stops where a class has no more excess. It goes on once the wait has not
//! fallen for a second: then the excess was not enough.

use std::time::Duration;

use crate::shedding::cursor::CLASSES;

/// The time without an improvement after which the cursor goes on.
const PATIENCE: Duration = Duration::from_secs(1);
/// The wait improves if it falls to this part of the lowest one before.
const IMPROVED: f64 = 0.95;

/// The cursor at the end of a class's excess.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExcessHold {
    /// The class; none while the cursor is below the end of each excess.
    position: Option<usize>,
    /// In units of the target.
    lowest_wait: f64,
    waited: Duration,
}

impl Default for ExcessHold {
    fn default() -> Self {
        Self { position: None, lowest_wait: f64::INFINITY, waited: Duration::ZERO }
    }
}

impl ExcessHold {
    /// The highest cursor after `period`. `ends` are the parts of the classes that are excess, none if that is little.
    pub(crate) fn cursor_max(
        &mut self,
        (before, wanted): (f64, f64),
        ends: [Option<f64>; CLASSES],
        error: f64,
        period: Duration,
    ) -> f64 {
        let crossed =
            [0.0, 1.0, 2.0].into_iter().zip(ends).enumerate().find_map(|(position, (start, end))| {
                // A class that is cut completely holds nothing.
                end.map(|end| (position, start + end))
                    .filter(|(_, end)| wanted >= *end && before < start + 1.0)
            });
        let Some((position, end)) = crossed else {
            *self = Self::default();
            return f64::INFINITY;
        };
        if self.position != Some(position) {
            *self = Self { position: Some(position), ..Self::default() };
        } else if self.waited >= PATIENCE {
            return f64::INFINITY;
        } else {
            self.waited += period;
        }
        let wait = 1.0 + error;
        if wait <= self.lowest_wait * IMPROVED || error <= 0.0 {
            (self.lowest_wait, self.waited) = (wait, Duration::ZERO);
        }
        if self.waited >= PATIENCE { f64::INFINITY } else { end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(100);
    const ENDS: [Option<f64>; CLASSES] = [None, Some(0.7), None];

    /// X11: the cursor stops at the end of the excess as long as the wait falls, and goes on when it does not
    #[test]
    fn the_cursor_waits_for_the_effect_of_the_cut() {
        let mut hold = ExcessHold::default();
        assert!(hold.cursor_max((1.4, 1.6), ENDS, 2.0, PERIOD).is_infinite());
        let mut error = 2.0;
        for _ in 0..50 {
            error -= 0.02;
            assert!((hold.cursor_max((1.6, 1.8), ENDS, error, PERIOD) - 1.7).abs() < 1e-9, "{error}");
        }
        let ended = (0..20).find(|_| hold.cursor_max((1.7, 1.75), ENDS, error, PERIOD).is_infinite());
        assert!(matches!(ended, Some(5..=10)), "{ended:?}");
        assert!(hold.cursor_max((1.9, 1.95), ENDS, 5.0, PERIOD).is_infinite(), "it stays so");
        hold.cursor_max((1.9, 1.65), ENDS, 1.0, PERIOD);
        assert!(hold.cursor_max((1.65, 1.8), ENDS, 1.0, PERIOD).is_finite(), "until it was below");
    }

    /// X11: a jump over several classes stops at the first excess that is not cut; a class that is cut holds nothing
    #[test]
    fn the_first_excess_holds() {
        let ends = [Some(0.5), Some(0.7), None];
        let mut hold = ExcessHold::default();
        assert!((hold.cursor_max((0.0, 2.0), ends, 1.0, PERIOD) - 0.5).abs() < 1e-9);
        assert!((hold.cursor_max((1.0, 2.0), ends, 1.0, PERIOD) - 1.7).abs() < 1e-9);
        assert!(ExcessHold::default().cursor_max((0.0, 2.0), [None; CLASSES], 1.0, PERIOD).is_infinite());
    }

    /// X11: a wait below the target is no reason to go on
    #[test]
    fn without_an_overload_it_holds() {
        let mut hold = ExcessHold::default();
        assert!((0..100).all(|_| hold.cursor_max((1.7, 1.7), ENDS, -0.1, PERIOD).is_finite()));
    }
}
