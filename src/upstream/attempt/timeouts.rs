//! The timeouts up to the response head (T1–T3), with one timer.
//!
//! While the request body is transferred, only the idle timeout runs and the total timeout pauses. From its last byte
//! on, the response head is due within `timeout`, and within the rest of the total timeout. The timer is set once and
//! checks the limits when it fires, so progress costs nothing.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tidegate_actors::clock;

use crate::upstream::body::upload_progress::UploadProgress;
use crate::upstream::exchange::call_context::{CallContext, CurrentCall};
use crate::upstream::rules::deadline::Deadline;
use crate::upstream::rules::late_calls::LateCalls;
use crate::upstream::rules::rejection::TimeoutKind;

/// How often to check whether the gateway waits for a client that has used up its time.
const RECHECK_AFTER: Duration = Duration::from_millis(100);
/// A wait for a response head is late after this fraction of its timeout.
const LATE_FRACTION: u32 = 4;

/// The limits of one attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttemptLimits {
    pub(crate) began: Instant,
    pub(crate) deadline: Deadline,
    pub(crate) idle: Duration,
}

impl AttemptLimits {
    /// How long the upstream took from the end of the request until now. Zero for a response before the end of the
    /// request body.
    pub(crate) fn upstream_wait(&self, progress: &UploadProgress, now: Instant) -> Duration {
        if progress.uploading_since(now).is_some() {
            return Duration::ZERO;
        }
        let ended = progress.uploaded().map_or(self.began, |(ended, _)| ended);
        now.saturating_duration_since(ended.max(self.began))
    }

    /// Whether there is time for the attempt. A request is not sent after its timeout expired in a queue.
    pub(crate) fn check(&self, progress: &UploadProgress) -> Result<(), TimeoutKind> {
        let (due, phase) = self.due(progress, self.began);
        if due <= self.began { Err(phase) } else { Ok(()) }
    }

    /// Start of the wait for the response head, and when that wait becomes late: after a quarter of `first_byte`.
    /// None while the request body is transferred.
    fn late_after(&self, progress: &UploadProgress) -> Option<(Instant, Instant)> {
        if progress.uploading_since(self.began).is_some() {
            return None;
        }
        let began = progress.uploaded().map_or(self.began, |(ended, _)| ended.max(self.began));
        Some((began, began + self.deadline.first_byte / LATE_FRACTION))
    }

    fn due(&self, progress: &UploadProgress, now: Instant) -> (Instant, TimeoutKind) {
        if let Some(moved) = progress.uploading_since(now) {
            let idle = (moved + self.idle, TimeoutKind::Upload);
            let Some(left) = progress.remaining_wait(now) else { return idle };
            // While the gateway does not wait for the client nothing is due, but the wait may begin at any time.
            let left =
                if progress.is_awaited() && !progress.is_paused() { left } else { left.max(RECHECK_AFTER) };
            return if now + left < idle.0 { (now + left, TimeoutKind::BodyRate) } else { idle };
        }
        let (ended, paused) = progress.uploaded().unwrap_or((self.began, Duration::ZERO));
        let Deadline { total, first_byte, is_client_deadline: is_clients, .. } = self.deadline;
        let Deadline { is_long_operation, has_long_total, .. } = self.deadline;
        let (first_byte, total) = (ended.max(self.began) + first_byte, total + paused);
        match is_clients {
            _ if first_byte <= total && is_long_operation => (first_byte, TimeoutKind::LongOperation),
            _ if first_byte <= total => (first_byte, TimeoutKind::FirstByte),
            true => (total, TimeoutKind::Deadline),
            false if has_long_total => (total, TimeoutKind::LongOperation),
            false => (total, TimeoutKind::Total),
        }
    }
}

/// Runs a call until it is done or a limit expires. The call is then dropped and its connection closes.
pub(crate) async fn with_timeouts<F: Future>(
    call: F,
    limits: AttemptLimits,
    context: &Rc<CallContext>,
    late_calls: &LateCalls,
) -> Result<F::Output, TimeoutKind> {
    let progress = &context.upload_progress;
    let mut call = pin!(call);
    let mut late = None;
    let due = limits.due(progress, limits.began).0;
    let first = limits.late_after(progress).map_or(due, |(_, late)| late.min(due));
    let first = context.check_hedge_timer(first, limits.began);
    let mut timer = pin!(tokio::time::sleep_until(first.into()));
    poll_fn(|cx| {
        let _current = CurrentCall::set(context);
        if let Poll::Ready(done) = call.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = clock::now();
            let (due, phase) = limits.due(progress, now);
            if due <= now {
                return Poll::Ready(Err(phase));
            }
            let mut next = due;
            if let Some((began, late_at)) = limits.late_after(progress).filter(|_| late.is_none()) {
                if late_at <= now {
                    late = Some(late_calls.register(began));
                } else {
                    next = next.min(late_at);
                }
            }
            timer.as_mut().reset(context.check_hedge_timer(next, now).into());
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
        let limits = AttemptLimits { began: t0, deadline, idle: config.idle_timeout };
        let progress = UploadProgress::default();
        assert_eq!(limits.due(&progress, t0), (t0 + secs(20), TimeoutKind::FirstByte));
        assert_eq!(limits.upstream_wait(&progress, t0 + secs(3)), secs(3));
        progress.begin(t0);
        progress.record_bytes(1, t0 + secs(100));
        assert_eq!(limits.due(&progress, t0), (t0 + secs(110), TimeoutKind::Upload));
        assert_eq!(limits.upstream_wait(&progress, t0 + secs(104)), Duration::ZERO);
        progress.finish(t0 + secs(105));
        assert_eq!(limits.due(&progress, t0), (t0 + secs(125), TimeoutKind::FirstByte));
        assert_eq!(limits.upstream_wait(&progress, t0 + secs(107)), secs(2));
        let late = AttemptLimits { deadline: Deadline { total: t0 + secs(15), ..deadline }, ..limits };
        assert_eq!(late.due(&progress, t0), (t0 + secs(120), TimeoutKind::Total));
        let client_limited =
            AttemptLimits { deadline: Deadline { is_client_deadline: true, ..late.deadline }, ..limits };
        assert_eq!(client_limited.due(&progress, t0), (t0 + secs(120), TimeoutKind::Deadline));
        let long = Deadline::of(&HeaderMap::new(), true, &config, t0).unwrap();
        let of_long = |total, deadline| {
            let deadline = Deadline { total: t0 + secs(total), ..deadline };
            AttemptLimits { deadline, ..limits }.due(&UploadProgress::default(), t0)
        };
        assert_eq!(of_long(300, long), (t0 + secs(300), TimeoutKind::LongOperation));
        assert_eq!(of_long(299, long), (t0 + secs(299), TimeoutKind::LongOperation));
        let short = Deadline { has_long_total: false, ..long };
        assert_eq!(of_long(30, short), (t0 + secs(30), TimeoutKind::Total));
        assert!(TimeoutKind::Total.is_upstream_failure() && !TimeoutKind::Deadline.is_upstream_failure());
    }
}
