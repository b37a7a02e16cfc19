//! Which configurations the gateway can have had at a time, as its clients see it.
//!
//! A configuration can be current from its request on, and the one before it until the reply. So a request can be judged by any
//! configuration between these two bounds of its own time, and by no other.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Instant;

/// A timeline that loads and events share.
pub(crate) type SharedTimeline = Rc<RefCell<Timeline>>;

/// The configurations of a run, from number 1.
#[derive(Debug)]
pub(crate) struct Timeline {
    periods: Vec<Period>,
    /// Requested and finished changes of the process that leave its configuration as it is.
    upgrades: Vec<Period>,
}

/// Begin of one configuration.
#[derive(Debug, Clone, Copy)]
struct Period {
    requested: Instant,
    /// The reply; none while it is awaited.
    installed: Option<Instant>,
}

impl Timeline {
    /// With configuration 1, which the gateway started with.
    pub(crate) fn new(started: Instant) -> Self {
        let first = Period { requested: started, installed: Some(started) };
        Self { periods: vec![first], upgrades: Vec::new() }
    }

    /// The newest configuration that is known to be installed.
    pub(crate) fn installed(&self) -> u64 {
        let waits = self.periods.last().is_some_and(|last| last.installed.is_none());
        self.periods.len() as u64 - u64::from(waits)
    }

    /// The number of the newest requested configuration.
    pub(crate) fn newest(&self) -> u64 {
        self.periods.len() as u64
    }

    /// The next configuration is requested. Returns its number.
    pub(crate) fn request(&mut self, at: Instant) -> u64 {
        self.periods.push(Period { requested: at, installed: None });
        self.newest()
    }

    /// The newest configuration is installed.
    pub(crate) fn install(&mut self, at: Instant) {
        if let Some(last) = self.periods.last_mut() {
            last.installed = Some(at);
        }
    }

    /// An upgrade is requested.
    pub(crate) fn begin_upgrade(&mut self, at: Instant) {
        self.upgrades.push(Period { requested: at, installed: None });
    }

    /// The successor of an upgrade serves.
    pub(crate) fn end_upgrade(&mut self, at: Instant) {
        if let Some(last) = self.upgrades.last_mut() {
            last.installed = Some(at);
        }
    }

    /// The configurations that can have been current between two times.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> RangeInclusive<u64> {
        let mut newest = self.periods.len();
        while newest > 1 && self.periods[newest - 1].requested > to {
            newest -= 1;
        }
        let mut oldest = newest;
        // The one before a configuration can be current until this one is installed.
        while oldest > 1 && self.periods[oldest - 1].installed.is_none_or(|installed| installed >= from) {
            oldest -= 1;
        }
        oldest as u64..=newest as u64
    }

    /// Whether a reload or an upgrade was under way at some time between these two.
    pub(crate) fn changes_between(&self, from: Instant, to: Instant) -> bool {
        let overlaps = |period: &&Period| {
            period.requested <= to && period.installed.is_none_or(|installed| installed >= from)
        };
        let newest_first = |periods: &[Period]| periods.iter().rev().take(2).any(|one| overlaps(&one));
        newest_first(&self.periods[1..]) || newest_first(&self.upgrades)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    #[test]
    fn a_configuration_can_be_current_from_its_request_to_the_reply_of_the_next() {
        let start = clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timeline = Timeline::new(start);
        assert_eq!((timeline.between(at(0), at(9)), timeline.installed()), (1..=1, 1));
        assert_eq!(timeline.request(at(10)), 2);
        assert_eq!((timeline.between(at(11), at(12)), timeline.installed()), (1..=2, 1));
        timeline.install(at(20));
        timeline.request(at(30));
        timeline.install(at(40));
        assert_eq!(timeline.installed(), 3);
        let cases = [
            ((0, 9), 1..=1, false),
            ((0, 10), 1..=2, true),
            ((12, 19), 1..=2, true),
            ((20, 25), 1..=2, true),
            ((21, 25), 2..=2, false),
            ((21, 31), 2..=3, true),
            ((15, 35), 1..=3, true),
            ((41, 50), 3..=3, false),
        ];
        for ((from, to), current, changes) in cases {
            assert_eq!(timeline.between(at(from), at(to)), current, "{from} to {to}");
            assert_eq!(timeline.changes_between(at(from), at(to)), changes, "{from} to {to}");
        }
    }

    #[test]
    fn an_upgrade_is_a_change_without_a_new_configuration() {
        let start = clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timeline = Timeline::new(start);
        timeline.begin_upgrade(at(10));
        assert!(timeline.changes_between(at(11), at(12)));
        timeline.end_upgrade(at(20));
        assert!(!timeline.changes_between(at(21), at(30)));
        assert_eq!(timeline.between(at(5), at(30)), 1..=1);
    }
}
