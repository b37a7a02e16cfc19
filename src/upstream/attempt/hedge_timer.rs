//! The hedge timer of a call. The timer of the call (`timeouts.rs`) fires it.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Instant;

/// When to start the hedge of a call that has not ended.
pub(crate) struct HedgeTimer(Cell<TimerState>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TimerState {
    Armed(Instant),
    Fired,
}

impl HedgeTimer {
    /// A timer that fires at this time if the call has not ended.
    pub(crate) fn new(at: Instant) -> Self {
        Self(Cell::new(TimerState::Armed(at)))
    }

    /// Ready once the timer has fired. It registers no waker: poll it together with the call.
    pub(crate) fn fired(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|_| if self.0.get() == TimerState::Fired { Poll::Ready(()) } else { Poll::Pending })
    }

    /// Fires the timer if it is due. Returns when the call's timer must be polled again, at the latest at `due`.
    pub(crate) fn check(&self, due: Instant, now: Instant) -> Instant {
        match self.0.get() {
            TimerState::Armed(at) if at <= now => {
                self.0.set(TimerState::Fired);
                due
            }
            TimerState::Armed(at) => due.min(at),
            TimerState::Fired => due,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use tidegate_actors::clock;

    use super::*;

    /// S1
    #[test]
    fn a_timer_fires_once_it_is_due() {
        let (now, second) = (clock::now(), Duration::from_secs(1));
        let timer = HedgeTimer::new(now + second);
        assert_eq!(timer.check(now + 3 * second, now), now + second);
        assert!(timer.fired().now_or_never().is_none());
        assert_eq!(timer.check(now + 3 * second, now + second), now + 3 * second);
        assert!(timer.fired().now_or_never().is_some());
        assert_eq!(timer.check(now + 3 * second, now), now + 3 * second);
    }
}
