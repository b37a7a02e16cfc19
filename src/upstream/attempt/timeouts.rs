//! The timeouts up to the response head (T1–T3), with one timer.
//!
//! While the request body is transferred, only the idle timeout runs and the total timeout pauses. From its last byte
//! on, the response head is due within `timeout`, and within the rest of the total timeout. The timer is set once and
//! checks the limits when it fires, so progress costs nothing.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use tidegate_actors::clock;

use crate::upstream::attempt::hedge_timer::HedgeTimer;
use crate::upstream::body::upload_progress::UploadProgress;
use crate::upstream::rules::deadline::{Deadline, DeadlineSource};
use crate::upstream::rules::late_calls::LateCalls;
use crate::upstream::rules::rejection::{ExpiredTimeout, TimeoutKind};

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

/// The limit that expires next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DueLimit {
    at: Instant,
    kind: TimeoutKind,
    /// The start of its phase.
    since: Instant,
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
    pub(crate) fn check(&self, progress: &UploadProgress) -> Result<(), ExpiredTimeout> {
        let due = self.due(progress, self.began);
        if due.at <= self.began { Err(self.expired(due, self.began)) } else { Ok(()) }
    }

    /// What decided that `due` has expired at `now`.
    fn expired(&self, due: DueLimit, now: Instant) -> ExpiredTimeout {
        let DueLimit { at, kind, since } = due;
        // The limit of a rate grows with the bytes.
        let limit = (kind != TimeoutKind::BodyRate).then(|| at.saturating_duration_since(since));
        let took = Some(now.saturating_duration_since(since));
        ExpiredTimeout { limit, ..ExpiredTimeout::of(kind, took) }
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

    fn due(&self, progress: &UploadProgress, now: Instant) -> DueLimit {
        if let Some(moved) = progress.uploading_since(now) {
            let idle = DueLimit { at: moved + self.idle, kind: TimeoutKind::Upload, since: moved };
            let Some(left) = progress.remaining_wait(now) else { return idle };
            // While the gateway does not wait for the client nothing is due, but the wait may begin at any time.
            let left =
                if progress.is_awaited() && !progress.is_paused() { left } else { left.max(RECHECK_AFTER) };
            let rate = DueLimit { at: now + left, kind: TimeoutKind::BodyRate, since: self.began };
            return if rate.at < idle.at { rate } else { idle };
        }
        let (ended, paused) = progress.uploaded().unwrap_or((self.began, Duration::ZERO));
        let Deadline { started, total, first_byte, is_long_operation, .. } = self.deadline;
        let sent = ended.max(self.began);
        let (first_byte, total) = (sent + first_byte, total + paused);
        if first_byte <= total {
            let kind = if is_long_operation { TimeoutKind::LongOperation } else { TimeoutKind::FirstByte };
            return DueLimit { at: first_byte, kind, since: sent };
        }
        let kind = match self.deadline.source() {
            DeadlineSource::Client => TimeoutKind::Deadline,
            DeadlineSource::LongOperation => TimeoutKind::LongOperation,
            DeadlineSource::Total => TimeoutKind::Total,
        };
        DueLimit { at: total, kind, since: started + paused }
    }
}

/// Runs a call until it is done or a limit expires. The caller then drops the call, which closes its connection.
pub(crate) async fn with_timeouts<F: Future>(
    call: F,
    limits: AttemptLimits,
    (progress, hedge_timer): (&UploadProgress, Option<&HedgeTimer>),
    late_calls: &LateCalls,
) -> Result<F::Output, ExpiredTimeout> {
    let with_hedge = |due, now| hedge_timer.map_or(due, |timer| timer.check(due, now));
    let mut call = pin!(call);
    let mut late = None;
    let due = limits.due(progress, limits.began).at;
    let first = limits.late_after(progress).map_or(due, |(_, late)| late.min(due));
    let first = with_hedge(first, limits.began);
    let mut timer = pin!(tokio::time::sleep_until(first.into()));
    poll_fn(|cx| {
        if let Poll::Ready(done) = call.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = clock::now();
            let due = limits.due(progress, now);
            if due.at <= now {
                return Poll::Ready(Err(limits.expired(due, now)));
            }
            let mut next = due.at;
            if let Some((began, late_at)) = limits.late_after(progress).filter(|_| late.is_none()) {
                if late_at <= now {
                    late = Some(late_calls.register(began));
                } else {
                    next = next.min(late_at);
                }
            }
            timer.as_mut().reset(with_hedge(next, now).into());
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
        let deadline = Deadline::of(HeaderView::of(&HeaderMap::new()), false, &config, t0).unwrap();
        let limits = AttemptLimits { began: t0, deadline, idle: config.idle_timeout };
        let progress = UploadProgress::default();
        let due = |limits: &AttemptLimits, progress: &UploadProgress| {
            let DueLimit { at, kind, .. } = limits.due(progress, t0);
            (at, kind)
        };
        assert_eq!(due(&limits, &progress), (t0 + secs(20), TimeoutKind::FirstByte));
        assert_eq!(limits.upstream_wait(&progress, t0 + secs(3)), secs(3));
        progress.begin(t0);
        progress.record_bytes(1, t0 + secs(100));
        assert_eq!(due(&limits, &progress), (t0 + secs(110), TimeoutKind::Upload));
        assert_eq!(limits.upstream_wait(&progress, t0 + secs(104)), Duration::ZERO);
        progress.finish(t0 + secs(105));
        assert_eq!(due(&limits, &progress), (t0 + secs(125), TimeoutKind::FirstByte));
        assert_eq!(limits.upstream_wait(&progress, t0 + secs(107)), secs(2));
        let late = AttemptLimits { deadline: Deadline { total: t0 + secs(15), ..deadline }, ..limits };
        assert_eq!(due(&late, &progress), (t0 + secs(120), TimeoutKind::Total));
        let client_limited =
            AttemptLimits { deadline: Deadline { is_client_deadline: true, ..late.deadline }, ..limits };
        assert_eq!(due(&client_limited, &progress), (t0 + secs(120), TimeoutKind::Deadline));
        let long = Deadline::of(HeaderView::of(&HeaderMap::new()), true, &config, t0).unwrap();
        let of_long = |total, deadline| {
            let deadline = Deadline { total: t0 + secs(total), ..deadline };
            due(&AttemptLimits { deadline, ..limits }, &UploadProgress::default())
        };
        assert_eq!(of_long(300, long), (t0 + secs(300), TimeoutKind::LongOperation));
        assert_eq!(of_long(299, long), (t0 + secs(299), TimeoutKind::LongOperation));
        let short = Deadline { has_long_total: false, ..long };
        assert_eq!(of_long(30, short), (t0 + secs(30), TimeoutKind::Total));
        assert!(TimeoutKind::Total.is_upstream_failure() && !TimeoutKind::Deadline.is_upstream_failure());
    }

    /// O4, T2: an expired limit has its own length and the time of its phase, without the transfer of the body
    #[test]
    fn an_expired_limit_has_its_length_and_the_time_of_its_phase() {
        let t0 = clock::now();
        let expired = |is_long, config: &UpstreamConfig, taken: Duration| {
            let deadline = Deadline::of(HeaderView::of(&HeaderMap::new()), is_long, config, t0).unwrap();
            let limits = AttemptLimits { began: t0 + secs(2), deadline, idle: config.idle_timeout };
            let progress = UploadProgress::default();
            progress.begin(t0 + secs(2));
            progress.finish(t0 + secs(102));
            let now = t0 + secs(102) + taken;
            let expired = limits.expired(limits.due(&progress, now), now);
            (expired.kind, expired.limit, expired.took)
        };
        let (some, config) = (|n| Some(secs(n)), UpstreamConfig::default());
        assert_eq!(expired(false, &config, secs(21)), (TimeoutKind::FirstByte, some(20), some(21)));
        let short = UpstreamConfig { request_timeout: secs(15), ..config.clone() };
        assert_eq!(expired(false, &short, secs(13)), (TimeoutKind::Total, some(15), some(15)));
        let long = UpstreamConfig { long_operation_timeout: some(40), ..short };
        assert_eq!(expired(true, &long, secs(38)), (TimeoutKind::LongOperation, some(40), some(40)));
        let below = UpstreamConfig { long_operation_timeout: some(21), ..config };
        assert_eq!(expired(true, &below, secs(21)), (TimeoutKind::LongOperation, some(21), some(21)));
    }
}
