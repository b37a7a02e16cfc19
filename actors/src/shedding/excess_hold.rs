//! Keeps the cursor where the excess of the heavy clients ends, and where a class with most of the traffic ends, while that
//! helps.
//!
//! A full queue takes seconds to drain after the excess is cut. A controller that goes on meanwhile refuses the clients and
//! classes that did not cause the overload. The cursor goes on once the wait has not fallen for a second: then the cut was
//! not enough.

use std::time::Duration;

use crate::shedding::class_ladder::ClassLadder;
use crate::shedding::cursor::CLASSES;

/// The time without an improvement after which the cursor goes on.
const TIME: Duration = Duration::from_secs(1);
/// The wait improves if it falls to this part of the lowest one before.
const IMPROVED: f64 = 0.95;
/// The cursor stops at the end of a class with at least this part of the traffic.
const CLASS_MIN: f64 = 0.5;

/// Where the cursor stops.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stop {
    cursor: f64,
    /// A cursor from here on has passed it.
    passed: f64,
}

/// The stops in order. `ends` are the parts of the classes that are excess, none if that is little.
fn stops(ends: [Option<f64>; CLASSES], ladder: &ClassLadder) -> [Option<Stop>; 2 * CLASSES] {
    let mut stops = [None; 2 * CLASSES];
    for ((position, start), end) in [0.0, 1.0, 2.0].into_iter().enumerate().zip(ends) {
        let class_end = start + 1.0;
        stops[2 * position] = end.map(|end| Stop { cursor: start + end, passed: class_end });
        let is_most = ladder.has_part(position, CLASS_MIN);
        stops[2 * position + 1] =
            is_most.then_some(Stop { cursor: class_end, passed: class_end + f64::EPSILON * 4.0 });
    }
    stops
}

/// The cursor at a stop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExcessHold {
    /// The stop; none while the cursor is at none.
    stop: Option<usize>,
    /// In units of the target.
    lowest_wait: f64,
    waited: Duration,
}

impl Default for ExcessHold {
    fn default() -> Self {
        Self { stop: None, lowest_wait: f64::INFINITY, waited: Duration::ZERO }
    }
}

impl ExcessHold {
    /// The highest cursor after `period`.
    pub(crate) fn cursor_max(
        &mut self,
        (before, wanted): (f64, f64),
        (ends, ladder): ([Option<f64>; CLASSES], &ClassLadder),
        error: f64,
        period: Duration,
    ) -> f64 {
        let at = stops(ends, ladder).into_iter().enumerate().find_map(|(at, stop)| {
            stop.filter(|stop| wanted >= stop.cursor && before < stop.passed).map(|stop| (at, stop.cursor))
        });
        let Some((at, cursor)) = at else {
            *self = Self::default();
            return f64::INFINITY;
        };
        if self.stop != Some(at) {
            *self = Self { stop: Some(at), ..Self::default() };
        } else if self.waited >= TIME {
            return f64::INFINITY;
        } else {
            self.waited += period;
        }
        let wait = 1.0 + error;
        if wait <= self.lowest_wait * IMPROVED || error <= 0.0 {
            (self.lowest_wait, self.waited) = (wait, Duration::ZERO);
        }
        if self.waited >= TIME { f64::INFINITY } else { cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shedding::class_ladder::ClassPresence;
    use crate::shedding::fair_share::ClassCosts;

    const PERIOD: Duration = Duration::from_millis(100);
    const ENDS: [Option<f64>; CLASSES] = [None, Some(0.7), None];

    fn max(hold: &mut ExcessHold, cursors: (f64, f64), ends: [Option<f64>; CLASSES], error: f64) -> f64 {
        hold.cursor_max(cursors, (ends, &ClassLadder::ALL), error, PERIOD)
    }

    /// X11: the cursor stops at the end of the excess as long as the wait falls, and goes on when it does not
    #[test]
    fn the_cursor_waits_for_the_effect_of_the_cut() {
        let mut hold = ExcessHold::default();
        assert!(max(&mut hold, (1.4, 1.6), ENDS, 2.0).is_infinite());
        let mut error = 2.0;
        for _ in 0..50 {
            error -= 0.02;
            assert!((max(&mut hold, (1.6, 1.8), ENDS, error) - 1.7).abs() < 1e-9, "{error}");
        }
        let ended = (0..20).find(|_| max(&mut hold, (1.7, 1.75), ENDS, error).is_infinite());
        assert!(matches!(ended, Some(5..=10)), "{ended:?}");
        assert!(max(&mut hold, (1.9, 1.95), ENDS, 5.0).is_infinite(), "it stays so");
        max(&mut hold, (1.9, 1.65), ENDS, 1.0);
        assert!(max(&mut hold, (1.65, 1.8), ENDS, 1.0).is_finite(), "until it was below");
    }

    /// X11: a jump over several classes stops at the first excess that is not cut; a class that is cut holds nothing
    #[test]
    fn the_first_excess_holds() {
        let ends = [Some(0.5), Some(0.7), None];
        let mut hold = ExcessHold::default();
        assert!((max(&mut hold, (0.0, 2.0), ends, 1.0) - 0.5).abs() < 1e-9);
        assert!((max(&mut hold, (1.0, 2.0), ends, 1.0) - 1.7).abs() < 1e-9);
        assert!(max(&mut ExcessHold::default(), (0.0, 2.0), [None; CLASSES], 1.0).is_infinite());
    }

    /// X11, P3: a class with most of the traffic is cut completely before the next class is cut, and that must have had time to
    /// help
    #[test]
    fn the_class_with_most_of_the_traffic_holds() {
        let costs = [90.0, 0.0, 10.0].map(|total| ClassCosts { total, ..ClassCosts::default() });
        let ladder = ClassPresence::default().ladder(&costs, [0; CLASSES], PERIOD);
        let mut hold = ExcessHold::default();
        let mut next = |cursors| hold.cursor_max(cursors, ([None; CLASSES], &ladder), 5.0, PERIOD);
        assert!((next((0.9, 2.1)) - 1.0).abs() < 1e-9);
        let ended = (0..20).find(|_| next((1.0, 2.1)).is_infinite());
        assert!(matches!(ended, Some(8..=10)), "{ended:?}");
        assert!(next((2.1, 2.3)).is_infinite());
    }

    /// X11: a wait below the target is no reason to go on
    #[test]
    fn without_an_overload_it_holds() {
        let mut hold = ExcessHold::default();
        assert!((0..100).all(|_| max(&mut hold, (1.7, 1.7), ENDS, -0.1).is_finite()));
    }
}
