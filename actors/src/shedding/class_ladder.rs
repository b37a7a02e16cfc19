//! The classes with traffic, in the order in which the cursor cuts them.
//!
//! The controller moves in steps: one step cuts one class. A class without traffic below or above all others is skipped. A
//! cursor that moved through it would have no effect for seconds while the queue fills, and again on its way back.

use std::time::Duration;

use crate::shedding::cursor::{ADMITTED_MIN, CLASSES};
use crate::shedding::fair_share::ClassCosts;

/// A class with a smaller part of the traffic counts as empty.
const SHARE_MIN: f64 = 0.01;
/// A refused request is charged to no client. For so long after one its class has traffic.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// Part of the traffic by class; 0 of a class without traffic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ClassLadder([f64; CLASSES]);

impl ClassLadder {
    /// All classes have traffic, as long as nothing is known.
    pub(crate) const ALL: Self = Self([1.0 / CLASSES as f64; CLASSES]);

    /// The steps to a cursor.
    pub(crate) fn steps(&self, cursor: f64) -> f64 {
        self.present().map(|(position, _)| (cursor - position).clamp(0.0, 1.0)).sum()
    }

    /// The cursor after these steps.
    pub(crate) fn cursor(&self, steps: f64) -> f64 {
        let (mut left, mut cursor) = (steps, 0.0);
        for (position, _) in self.present() {
            if left <= 0.0 {
                return cursor;
            }
            cursor = position + left.min(1.0);
            left -= 1.0;
        }
        cursor
    }

    /// The most steps: a part of class high is always admitted.
    pub(crate) fn steps_max(&self) -> f64 {
        let admitted = if self.0[CLASSES - 1] > 0.0 { ADMITTED_MIN } else { 0.0 };
        self.present().map(|_| 1.0).sum::<f64>() - admitted
    }

    /// Whether the class has this part of the traffic at least.
    pub(crate) fn has_part(&self, position: usize, part: f64) -> bool {
        let all: f64 = self.0.iter().sum();
        self.0.get(position).is_some_and(|share| *share >= part * all)
    }

    /// The steps that cut this part of the traffic.
    pub(crate) fn steps_of_traffic(&self, part: f64) -> f64 {
        let all: f64 = self.0.iter().sum();
        let (mut left, mut steps) = (part * all, 0.0);
        for (_, share) in self.present() {
            steps += (left / share).clamp(0.0, 1.0);
            left -= share;
        }
        steps
    }

    fn present(&self) -> impl Iterator<Item = (f64, f64)> {
        [0.0, 1.0, 2.0].into_iter().zip(self.0).filter(|(_, share)| *share > 0.0)
    }
}

/// Which classes have traffic: clients with costs, or refused requests.
#[derive(Debug)]
pub(crate) struct ClassPresence {
    refused: [u64; CLASSES],
    since_refused: [Duration; CLASSES],
}

impl Default for ClassPresence {
    fn default() -> Self {
        Self { refused: [0; CLASSES], since_refused: [REFUSED_FOR; CLASSES] }
    }
}

impl ClassPresence {
    /// The ladder after `period`. `refused` are all refused requests since the start.
    pub(crate) fn ladder(
        &mut self,
        costs: &[ClassCosts; CLASSES],
        refused: [u64; CLASSES],
        period: Duration,
    ) -> ClassLadder {
        let all: f64 = costs.iter().map(|class| class.total).sum();
        let mut shares = [0.0; CLASSES];
        for (at, share) in shares.iter_mut().enumerate() {
            self.since_refused[at] = if refused[at] == self.refused[at] {
                self.since_refused[at] + period
            } else {
                Duration::ZERO
            };
            let share_known = if all > 0.0 { costs[at].total / all } else { 0.0 };
            if share_known >= SHARE_MIN || self.since_refused[at] < REFUSED_FOR {
                *share = share_known.max(SHARE_MIN);
            }
        }
        self.refused = refused;
        // An empty class between two others stays: it gives the cut of the lower one time before the higher one is cut.
        if let Some(first) = shares.iter().position(|share| *share > 0.0)
            && let Some(last) = shares.iter().rposition(|share| *share > 0.0)
        {
            shares[first..=last].iter_mut().for_each(|share| *share = share.max(SHARE_MIN));
        }
        if shares.iter().all(|share| *share <= 0.0) { ClassLadder::ALL } else { ClassLadder(shares) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(totals: [f64; CLASSES]) -> [ClassCosts; CLASSES] {
        totals.map(|total| ClassCosts { total, ..ClassCosts::default() })
    }

    fn ladder(totals: [f64; CLASSES]) -> ClassLadder {
        ClassPresence::default().ladder(&costs(totals), [0; CLASSES], Duration::ZERO)
    }

    /// X11: the cursor skips classes without traffic on its way up and down
    #[test]
    fn classes_without_traffic_are_skipped() {
        let normal = ladder([0.0, 50.0, 0.0]);
        let cursors = [0.0, 0.001, 0.4, 0.95].map(|steps| normal.cursor(steps));
        assert_eq!(cursors, [0.0, 1.001, 1.4, 1.95]);
        assert!(cursors.iter().all(|cursor| (normal.cursor(normal.steps(*cursor)) - cursor).abs() < 1e-9));
        assert!(
            (normal.steps_max() - 1.0).abs() < 1e-9 && (ClassLadder::ALL.steps_max() - 2.95).abs() < 1e-9
        );
        assert!(normal.has_part(1, 1.0) && !normal.has_part(0, 0.01));
        assert!(normal.steps(0.7) < 1e-9 && (normal.steps(2.9) - 1.0).abs() < 1e-9);
        let outer = ladder([50.0, 0.4, 50.0]);
        assert_eq!(
            [1.0, 1.25, 2.25].map(|steps| outer.cursor(steps)),
            [1.0, 1.25, 2.25],
            "the middle one stays"
        );
        assert_eq!(ladder([0.0; CLASSES]), ClassLadder::ALL);
        assert!((ClassLadder::ALL.cursor(2.5) - 2.5).abs() < 1e-9);
    }

    /// X11: a part of the traffic is cut from the lowest class first
    #[test]
    fn traffic_is_cut_in_steps() {
        let ladder = ladder([20.0, 80.0, 0.0]);
        for (part, steps) in [(0.0, 0.0), (0.1, 0.5), (0.2, 1.0), (0.6, 1.5)] {
            assert!((ladder.steps_of_traffic(part) - steps).abs() < 1e-9, "{part}");
        }
    }

    /// X11: a class with only refused requests has traffic, for ten seconds after the last one
    #[test]
    fn a_refused_class_has_traffic() {
        let mut presence = ClassPresence::default();
        let costs = costs([0.0, 50.0, 0.0]);
        let mut steps = |refused, seconds| {
            presence.ladder(&costs, [refused, 0, 0], Duration::from_secs(seconds)).steps(1.5)
        };
        assert_eq!([steps(0, 1), steps(7, 1), steps(7, 9), steps(8, 9)], [0.5, 1.5, 1.5, 1.5]);
        assert_eq!([steps(8, 9), steps(8, 1)], [1.5, 0.5]);
    }
}
