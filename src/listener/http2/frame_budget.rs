//! The rate limit for frames that make no progress (V9).
//!
//! A token bucket per connection. Every received frame costs points. Received data, sent data, answered requests and
//! time give points back. A client without points has only sent frames that cost parsing; its connection ends with
//! ENHANCE_YOUR_CALM. The costs, and the clients that they must not affect, are in `docs/design/http2-loop.md`. The
//! clock is read only when the bucket is half empty, so an ordinary connection never reads it.

use std::time::{Duration, Instant};

use super::frames::FrameKind;

/// Points of a full bucket.
const POINTS_MAX: i64 = 64 << 10;
/// Points that are refilled per second.
const POINTS_PER_SECOND: i64 = 4 << 10;
/// Points for an answered request.
const RESPONSE_POINTS: i64 = 512;
/// The cost of a DATA frame; its payload gives one point per byte.
const DATA_POINTS: i64 = 16;
/// A sent DATA frame gives one point per byte up to this: the cost of three WINDOW_UPDATE.
const SENT_POINTS_MAX: i64 = 48;
/// Sent bytes that give one more point.
const SENT_BYTES_PER_POINT: i64 = 16;

/// The cost of a frame by its type.
const fn cost(kind: FrameKind) -> i64 {
    match kind {
        FrameKind::Data => DATA_POINTS,
        FrameKind::Priority | FrameKind::WindowUpdate => 16,
        FrameKind::Headers | FrameKind::Continuation | FrameKind::Ping | FrameKind::GoAway => 64,
        FrameKind::Settings | FrameKind::PushPromise => 256,
        // The request may have started an upstream call.
        FrameKind::Reset => 512,
        FrameKind::Unknown => 64,
    }
}

/// The points of one connection.
#[derive(Debug)]
pub(super) struct FrameBudget {
    points: i64,
    filled: Option<Instant>,
}

impl Default for FrameBudget {
    fn default() -> Self {
        Self { points: POINTS_MAX, filled: None }
    }
}

impl FrameBudget {
    /// Charges a received frame; false if there are not enough points. `length` is the frame's payload in bytes; it is charged for
    /// unknown types, which `h2` ignores.
    pub(super) fn charge(&mut self, kind: FrameKind, length: u32, now: impl FnOnce() -> Instant) -> bool {
        let unused = if kind == FrameKind::Unknown { i64::from(length) / SENT_BYTES_PER_POINT } else { 0 };
        self.spend(cost(kind) + unused, now)
    }

    /// Credits the payload of a received DATA frame, in bytes without padding.
    pub(super) fn credit_data(&mut self, bytes: u32) {
        self.credit(i64::from(bytes));
    }

    /// Credits a sent DATA frame of this length.
    pub(super) fn credit_sent(&mut self, bytes: u32) {
        let bytes = i64::from(bytes);
        self.credit(bytes.min(SENT_POINTS_MAX) + bytes / SENT_BYTES_PER_POINT);
    }

    /// Credits an answered request.
    pub(super) fn credit_response(&mut self) {
        self.credit(RESPONSE_POINTS);
    }

    fn spend(&mut self, points: i64, now: impl FnOnce() -> Instant) -> bool {
        if self.points < POINTS_MAX / 2 {
            self.refill(now());
        }
        self.points -= points;
        self.points >= 0
    }

    fn refill(&mut self, now: Instant) {
        let Some(filled) = self.filled else {
            self.filled = Some(now);
            return;
        };
        let elapsed = now.saturating_duration_since(filled).min(Duration::from_secs(60));
        let points = i64::try_from(elapsed.as_millis()).unwrap_or(0) * POINTS_PER_SECOND / 1000;
        if points > 0 {
            self.filled = Some(now);
            self.credit(points);
        }
    }

    fn credit(&mut self, points: i64) {
        self.points = self.points.saturating_add(points).min(POINTS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use tidegate_actors::clock;

    use super::*;

    /// The number of such frames that a new connection may send at once.
    fn burst(kind: FrameKind, carried: u32) -> usize {
        let (mut budget, now) = (FrameBudget::default(), clock::now());
        let passes = |budget: &mut FrameBudget| {
            let passes = budget.charge(kind, carried, || now);
            budget.credit_data(if kind == FrameKind::Data { carried } else { 0 });
            passes
        };
        (0..1_000_000).take_while(|_| passes(&mut budget)).count()
    }

    /// V9
    #[test]
    fn frames_without_progress_run_out() {
        for (kind, carried, most) in [
            (FrameKind::Data, 0, 4096),
            (FrameKind::Data, 1, 4400),
            (FrameKind::Ping, 8, 1024),
            (FrameKind::Settings, 0, 256),
            (FrameKind::WindowUpdate, 4, 4096),
            (FrameKind::Priority, 5, 4096),
            (FrameKind::Continuation, 0, 1024),
            (FrameKind::Headers, 0, 1024),
            (FrameKind::Reset, 4, 128),
            (FrameKind::Unknown, 0, 1024),
            (FrameKind::Unknown, 16384, 64),
        ] {
            let burst = burst(kind, carried);
            assert!(burst >= 60 && burst <= most, "{kind:?} of {carried} bytes: {burst}");
        }
    }

    /// V9
    #[test]
    fn frames_that_carry_data_never_run_out() {
        assert_eq!(burst(FrameKind::Data, 16), 1_000_000);
    }

    /// V9: an upload of any size, a download with two acknowledgements for each frame, and requests that are answered
    #[test]
    fn progress_covers_the_cost_of_its_frames() {
        let (mut budget, now) = (FrameBudget::default(), clock::now());
        for _ in 0..100_000 {
            budget.credit_sent(50);
            assert!(budget.charge(FrameKind::WindowUpdate, 4, || now));
            assert!(budget.charge(FrameKind::WindowUpdate, 4, || now));
            assert!(budget.charge(FrameKind::Headers, 40, || now));
            assert!(budget.charge(FrameKind::Priority, 5, || now));
            budget.credit_response();
            budget.credit_sent(16_384);
            for _ in 0..32 {
                assert!(budget.charge(FrameKind::WindowUpdate, 4, || now));
            }
        }
    }

    /// V9: window updates of one byte are not progress
    #[test]
    fn window_updates_of_one_byte_run_out() {
        let (mut budget, now) = (FrameBudget::default(), clock::now());
        let passes = |budget: &mut FrameBudget| {
            budget.credit_sent(1);
            budget.charge(FrameKind::WindowUpdate, 4, || now)
        };
        let grants = (0..100_000).take_while(|_| passes(&mut budget)).count();
        assert!(grants < 5000, "{grants}");
    }

    /// V9: 60 pings per second are never too many
    #[test]
    fn time_gives_points_back() {
        let (mut budget, start) = (FrameBudget::default(), clock::now());
        for second in 0..100_000_u64 {
            let now = start + Duration::from_secs(second);
            for _ in 0..60 {
                assert!(budget.charge(FrameKind::Ping, 8, || now), "second {second}");
            }
        }
        let now = start + Duration::from_secs(100_000);
        assert!((0..3000).any(|_| !budget.charge(FrameKind::Ping, 8, || now)), "the points run out");
    }
}
