//! The idle time of a response body: how long its upstream has sent nothing although the gateway reads.
//!
//! The time in which the gateway does not read does not count (T4): the client accepts no bytes, or memory pressure has paused the body.
//! After such a stop the window of the upstream connection may be closed. The upstream's kernel tries again in intervals that double
//! (RFC 6298 5.5, RFC 9293 3.8.6.1), and a window that opens ends the interval only sometimes. So the next try can come as long after the
//! stop as the stop lasted, and this time does not count either.
//!
//! Design: `docs/design/timeouts.md`.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tidegate_actors::clock;
use tokio::time::Sleep;

use crate::upstream::response::transfer::ResponseTransfer;

/// The first interval after which a kernel tries again: `TCP_RTO_MIN` of Linux. A shorter stop delays nothing.
const RETRY_MIN: Duration = Duration::from_millis(200);
/// The longest interval: `TCP_RTO_MAX` of Linux.
const RETRY_MAX: Duration = Duration::from_secs(120);

/// When the gateway read, and since when it waits.
#[derive(Debug)]
struct ReadTimes {
    /// The end of the last time in which the gateway was reading.
    last_read: Instant,
    /// Since when the gateway reads and there are no bytes.
    waiting_since: Option<Instant>,
    /// When the upstream's kernel tries again at the latest.
    retry_due: Instant,
}

/// The idle time of one body.
pub(crate) struct IdleTime {
    limit: Duration,
    last_bytes: Instant,
    times: ReadTimes,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What the timer of the idle time found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdleEvent {
    /// The upstream was silent for the idle timeout.
    Expired,
    /// It was not. The timer is set again.
    Rearmed,
}

impl ReadTimes {
    fn new(now: Instant) -> Self {
        Self { last_read: now, waiting_since: None, retry_due: now }
    }

    fn record_bytes(&mut self, now: Instant) {
        let stop = now.saturating_duration_since(self.last_read);
        if self.waiting_since.take().is_some() {
            // They came while the gateway was reading, so the upstream's kernel sends.
            self.retry_due = now;
        } else if stop >= RETRY_MIN {
            self.retry_due = self.retry_due.max(now + stop.min(RETRY_MAX));
        }
        self.last_read = now;
    }

    /// Reading stops. A stop that is not reported is found with the next bytes.
    fn stop(&mut self, now: Instant) {
        if self.waiting_since.take().is_some() {
            self.last_read = now;
        }
    }

    /// The beginning of the idle time. `after_pause` moves it to the end of a pause.
    fn idle_since(&mut self, now: Instant, after_pause: impl Fn(Instant) -> Instant) -> Instant {
        after_pause(*self.waiting_since.get_or_insert(now)).max(self.retry_due)
    }
}

impl IdleTime {
    /// For a body that began at this time.
    pub(crate) fn new(limit: Duration, began: Instant) -> Self {
        Self { limit, last_bytes: began, times: ReadTimes::new(began), timer: None }
    }

    /// When the last bytes were read.
    pub(crate) fn last_bytes(&self) -> Instant {
        self.last_bytes
    }

    /// Records that bytes were read.
    pub(crate) fn record_bytes(&mut self, now: Instant) {
        self.last_bytes = now;
        self.times.record_bytes(now);
    }

    /// Records that the gateway does not read.
    pub(crate) fn stop(&mut self) {
        if self.times.waiting_since.is_some() {
            self.times.stop(clock::now());
        }
    }

    /// The longest silence of the upstream.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// How long the upstream has been silent.
    pub(crate) fn idle_for(&mut self, transfer: &ResponseTransfer) -> Duration {
        let now = clock::now();
        let since = self.times.idle_since(now, |since| transfer.after_pause(since));
        now.saturating_duration_since(since)
    }

    /// Waits for the timer: the gateway reads, and there are no bytes. Called again after each event but the last.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, transfer: &ResponseTransfer) -> Poll<IdleEvent> {
        let now = self.times.waiting_since.unwrap_or_else(clock::now);
        let due = self.times.idle_since(now, |since| transfer.after_pause(since)) + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due.into())));
        // It was set while a try of the upstream was due later.
        if timer.deadline() > due.into() {
            timer.as_mut().reset(due.into());
        }
        ready!(timer.as_mut().poll(cx));
        if due <= clock::now() {
            return Poll::Ready(IdleEvent::Expired);
        }
        timer.as_mut().reset(due.into());
        Poll::Ready(IdleEvent::Rearmed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The idle time of a body without pauses begins at this offset.
    fn since(times: &mut ReadTimes, began: Instant, at: Duration) -> Duration {
        times.idle_since(began + at, |since| since).duration_since(began)
    }

    /// T4: the idle time begins when the gateway waits, and not with the last bytes
    #[test]
    fn only_waiting_counts() {
        let began = clock::now();
        let mut times = ReadTimes::new(began);
        times.record_bytes(began);
        assert_eq!(
            since(&mut times, began, 5 * SECOND),
            5 * SECOND,
            "the client accepted nothing for five seconds"
        );
        assert_eq!(since(&mut times, began, 7 * SECOND), 5 * SECOND, "the upstream is silent");
        times.record_bytes(began + 8 * SECOND);
        assert_eq!(since(&mut times, began, 8 * SECOND), 8 * SECOND);
    }

    /// T4: after a stop the upstream's kernel has as much time as the stop lasted, at most its longest interval, until bytes come
    #[test]
    fn a_stop_delays_the_upstream() {
        let began = clock::now();
        let mut times = ReadTimes::new(began);
        times.record_bytes(began + 4 * SECOND);
        times.record_bytes(began + 4 * SECOND);
        assert_eq!(since(&mut times, began, 5 * SECOND), 8 * SECOND);
        times.record_bytes(began + 7 * SECOND);
        assert_eq!(since(&mut times, began, 7 * SECOND), 7 * SECOND, "the upstream sends");
        times.stop(began + 7 * SECOND);
        times.record_bytes(began + 1007 * SECOND);
        assert_eq!(since(&mut times, began, 1007 * SECOND), 1007 * SECOND + RETRY_MAX);
    }

    /// T4: a pause begins a stop even if the gateway was waiting
    #[test]
    fn a_pause_is_a_stop() {
        let began = clock::now();
        let mut times = ReadTimes::new(began);
        assert_eq!(since(&mut times, began, SECOND), SECOND);
        times.stop(began + 2 * SECOND);
        times.record_bytes(began + 5 * SECOND);
        assert_eq!(since(&mut times, began, 5 * SECOND), 8 * SECOND);
    }

    proptest! {
        /// T4: with an upstream that is silent from some time on, the idle time begins by then or as long after as the gateway had stopped
        #[test]
        fn silence_is_found(stops in proptest::collection::vec((0_u64..2000, any::<bool>()), 1..30)) {
            let began = clock::now();
            let mut times = ReadTimes::new(began);
            let (mut now, mut longest) = (began, Duration::ZERO);
            for (ms, is_waiting) in stops {
                if is_waiting {
                    times.idle_since(now, |since| since);
                }
                now += Duration::from_millis(ms);
                longest = longest.max(Duration::from_millis(ms));
                times.record_bytes(now);
            }
            let since = times.idle_since(now, |since| since);
            prop_assert!(since >= now && since <= now + longest);
        }
    }
}
