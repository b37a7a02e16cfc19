//! Which samples wake the subscribers.
//!
//! Each subscriber is a task of another thread, and a thread that wakes without work costs more than the sample. While no request is in
//! flight and nothing has changed, the subscribers get every third sample at the default interval.

use std::time::{Duration, Instant};

use crate::monitor::view::MonitorView;

/// The longest time without a notice, to the accuracy of the timer.
const NOTICE_EVERY: Duration = Duration::from_millis(230);

/// The notices of one monitor.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    last: Option<Instant>,
}

impl Notices {
    /// Whether the subscribers must learn of a view that follows `before`.
    pub(crate) fn is_due(&mut self, before: &MonitorView, view: &MonitorView, now: Instant) -> bool {
        let is_quiet = view.in_flight() == Some(0) && before.is_alike(view);
        let is_recent = self.last.is_some_and(|last| now.saturating_duration_since(last) < NOTICE_EVERY);
        if is_quiet && is_recent {
            return false;
        }
        self.last = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use tidegate_config::{ActionsConfig, MonitorConfig};

    use super::*;
    use crate::clock;
    use crate::monitor::actions::ActionRules;
    use crate::monitor::level::Level;
    use crate::monitor::measurement::{LimitSource, Measurement};
    use crate::monitor::reading::{Reading, Readings};
    use crate::monitor::state::MonitorState;

    /// A view with so many requests in flight and open descriptors.
    fn view(in_flight: u64, descriptors: u64, now: Instant) -> MonitorView {
        let readings = Readings {
            in_flight: Reading::Known { used: in_flight, limit: 100 },
            descriptors: Measurement::known(descriptors, 1000, LimitSource::OpenFiles),
            ..Readings::NONE
        };
        let state = MonitorState::new(&MonitorConfig::default(), now);
        MonitorView::from_state(&state, ActionRules::new(&ActionsConfig::default()), Some((readings, now)))
    }

    /// The times in ms of ten samples, one each 100 ms, that wake the subscribers.
    fn woken(view_at: impl Fn(u64, Instant) -> MonitorView) -> Vec<u64> {
        let (mut notices, start) = (Notices::default(), clock::now());
        let mut before = view_at(0, start);
        let is_due = |millis: &u64| {
            let now = start + Duration::from_millis(*millis);
            let view = view_at(*millis, now);
            let is_due = notices.is_due(&before, &view, now);
            before = view;
            is_due
        };
        (0..10).map(|sample| sample * 100).filter(is_due).collect()
    }

    /// X8: without requests some samples wake the subscribers, with requests each one does
    #[test]
    fn samples_without_requests_wake_seldom() {
        assert_eq!(woken(|_, now| view(0, 40, now)), [0, 300, 600, 900]);
        assert_eq!(woken(|_, now| view(1, 40, now)).len(), 10);
    }

    /// X8: a change of what the subscribers act on wakes them at once
    #[test]
    fn a_change_wakes_at_once() {
        let opened = |millis, now| view(0, if millis < 400 { 40 } else { 41 }, now);
        assert_eq!(woken(opened), [0, 300, 400, 700]);
        let ended = |millis, now| view(u64::from(millis < 100), 40, now);
        assert_eq!(woken(ended), [0, 100, 400, 700]);
        let risen = |millis, now| {
            let mut view = view(0, 40, now);
            view.level = if millis < 500 { Level::Normal } else { Level::Exhausted };
            view
        };
        assert_eq!(woken(risen), [0, 300, 500, 800]);
    }
}
