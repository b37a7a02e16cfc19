//! The timeouts until the head of the answer (T1–T3), in one timer.
//!
//! While the request's body flows, only idleness is timed and the total stands still; from its last byte on, the first
//! byte of the answer is due within `timeout`, and within what is left of the total. The timer is set once and
//! looks again when it fires, so progress costs nothing.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tidegate_actors::clock;

use crate::upstream::deadline::Deadline;
use crate::upstream::early::{Current, Ongoing};
use crate::upstream::flow::Flow;
use crate::upstream::late::LateCalls;

/// How often to look whether a client that has used up its time is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// A wait for an answer's head is late after this fraction of its timeout.
const LATE_FRACTION: u32 = 4;

/// Which timeout struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No connection in time.
    Connect,
    /// No body byte moved for too long.
    Upload,
    /// The client's body comes too slowly.
    Pace,
    /// The client holds too many places with requests that wait for it.
    Crowding,
    /// No first byte of the answer in time.
    FirstByte,
    /// The request's total time is up.
    Total,
    /// The time that the client gave is up.
    Deadline,
}

impl Phase {
    /// The word in reasons and metrics.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Connect => "timeout_connect",
            Self::Upload => "timeout_upload",
            Self::Pace => "timeout_body_rate",
            Self::Crowding => "slow_client",
            Self::FirstByte => "timeout_first_byte",
            Self::Total => "timeout_total",
            Self::Deadline => "timeout_deadline",
        }
    }

    /// Whether the upstream is to blame; an upload that stands still is as likely the client's doing, its haste surely is.
    pub(crate) fn is_upstreams(self) -> bool {
        !matches!(self, Self::Upload | Self::Pace | Self::Crowding | Self::Deadline)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connecting",
            Self::Upload => "the upload stood still",
            Self::Pace => "the request's body comes too slowly",
            Self::Crowding => "the client holds too many places with requests that wait for it",
            Self::FirstByte => "waiting for the first byte",
            Self::Total => "the request's total time is up",
            Self::Deadline => "the time that the client gave is up",
        }
    }
}

/// The limits of one attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) began: Instant,
    pub(crate) deadline: Deadline,
    pub(crate) idle: Duration,
}

impl Limits {
    /// How long the upstream had everything it needed for its answer, which came now. An answer that came before the end
    /// of the request's body took no time.
    pub(crate) fn waited(&self, flow: &Flow, now: Instant) -> Duration {
        if flow.uploading_since(now).is_some() {
            return Duration::ZERO;
        }
        let ended = flow.uploaded().map_or(self.began, |(ended, _)| ended);
        now.saturating_duration_since(ended.max(self.began))
    }

    /// Whether there is time for the attempt at all: a request whose time went by in a queue is not sent for nobody.
    pub(crate) fn check(&self, flow: &Flow) -> Result<(), Phase> {
        let (due, phase) = self.due(flow, self.began);
        if due <= self.began { Err(phase) } else { Ok(()) }
    }

    /// Start of the wait for the answer's head and the moment from which that wait is a late one: a quarter of the time that the
    /// upstream has for it. None while the request's body flows.
    fn late(&self, flow: &Flow) -> Option<(Instant, Instant)> {
        if flow.uploading_since(self.began).is_some() {
            return None;
        }
        let began = flow.uploaded().map_or(self.began, |(ended, _)| ended.max(self.began));
        Some((began, began + self.deadline.first_byte / LATE_FRACTION))
    }

    fn due(&self, flow: &Flow, now: Instant) -> (Instant, Phase) {
        if let Some(moved) = flow.uploading_since(now) {
            let idle = (moved + self.idle, Phase::Upload);
            let Some(left) = flow.patience(now) else { return idle };
            // While nobody waits for the client nothing is due, but the wait may begin at any moment.
            let left = if flow.is_awaited() && !flow.is_paused() { left } else { left.max(LOOK_AGAIN) };
            return if now + left < idle.0 { (now + left, Phase::Pace) } else { idle };
        }
        let (ended, paused) = flow.uploaded().unwrap_or((self.began, Duration::ZERO));
        let Deadline { total, first_byte, is_clients, .. } = self.deadline;
        let (first_byte, total) = (ended.max(self.began) + first_byte, total + paused);
        match is_clients {
            _ if first_byte <= total => (first_byte, Phase::FirstByte),
            true => (total, Phase::Deadline),
            false => (total, Phase::Total),
        }
    }
}

/// Runs a call until it is done or a limit strikes; the call is then dropped, and its connection with it.
pub(crate) async fn watch<F: Future>(
    call: F,
    limits: Limits,
    ongoing: &Rc<Ongoing>,
    late_calls: &LateCalls,
) -> Result<F::Output, Phase> {
    let flow = &ongoing.flow;
    let mut call = pin!(call);
    let mut late = None;
    let due = limits.due(flow, limits.began).0;
    let first = limits.late(flow).map_or(due, |(_, late)| late.min(due));
    let first = ongoing.look(first, limits.began);
    let mut timer = pin!(tokio::time::sleep_until(first.into()));
    poll_fn(|cx| {
        let _current = Current::enter(ongoing);
        if let Poll::Ready(done) = call.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = clock::now();
            let (due, phase) = limits.due(flow, now);
            if due <= now {
                return Poll::Ready(Err(phase));
            }
            let mut next = due;
            if let Some((began, is_late)) = limits.late(flow).filter(|_| late.is_none()) {
                if is_late <= now {
                    late = Some(late_calls.enter(began));
                } else {
                    next = next.min(is_late);
                }
            }
            timer.as_mut().reset(ongoing.look(next, now).into());
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderMap;
    use tidegate_config::UpstreamConfig;

    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// T1, T2
    #[test]
    fn the_total_pauses_while_the_body_flows() {
        let t0 = clock::now();
        let config = UpstreamConfig { idle_timeout: secs(10), ..UpstreamConfig::default() };
        let deadline = Deadline::of(&HeaderMap::new(), false, &config, t0).unwrap();
        let limits = Limits { began: t0, deadline, idle: config.idle_timeout };
        let flow = Flow::default();
        assert_eq!(limits.due(&flow, t0), (t0 + secs(20), Phase::FirstByte));
        assert_eq!(limits.waited(&flow, t0 + secs(3)), secs(3));
        flow.begin(t0);
        flow.moved(1, t0 + secs(100));
        assert_eq!(limits.due(&flow, t0), (t0 + secs(110), Phase::Upload));
        assert_eq!(limits.waited(&flow, t0 + secs(104)), Duration::ZERO);
        flow.end(t0 + secs(105));
        assert_eq!(limits.due(&flow, t0), (t0 + secs(125), Phase::FirstByte));
        assert_eq!(limits.waited(&flow, t0 + secs(107)), secs(2));
        let late = Limits { deadline: Deadline { total: t0 + secs(15), ..deadline }, ..limits };
        assert_eq!(late.due(&flow, t0), (t0 + secs(120), Phase::Total));
        let hasty = Limits { deadline: Deadline { is_clients: true, ..late.deadline }, ..limits };
        assert_eq!(hasty.due(&flow, t0), (t0 + secs(120), Phase::Deadline));
        assert!(Phase::Total.is_upstreams() && !Phase::Deadline.is_upstreams());
    }
}
