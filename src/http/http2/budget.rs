//! The rate limit for frames that make no progress (V9).
//!
//! A token bucket per connection. Every received frame costs points. Received data, sent data, answered requests and time give points
//! back. A client without points has sent only frames to parse; its connection ends with ENHANCE_YOUR_CALM. The costs, and the
//! clients that they must not affect, are in `docs/design/http2-loop.md`. The clock is read only when the bucket is half empty, so an
//! ordinary connection never reads it.

use std::time::{Duration, Instant};

use super::frames::Kind;

/// Points of a full bucket.
const POINTS_MAX: i64 = 64 << 10;
/// Points that are refilled per second.
const POINTS_PER_SECOND: i64 = 4 << 10;
/// Points for an answered request.
const ANSWERED_POINTS: i64 = 512;
/// The cost of a DATA frame; its payload gives one point per byte.
const DATA_POINTS: i64 = 16;
/// A sent DATA frame gives one point per byte up to this: the cost of three WINDOW_UPDATE.
const SENT_POINTS_MAX: i64 = 48;
/// Sent bytes that give one more point.
const SENT_BYTES_PER_POINT: i64 = 16;

/// The cost of a frame by its type.
const fn cost(kind: Kind) -> i64 {
    match kind {
        Kind::Data => DATA_POINTS,
        Kind::Priority | Kind::WindowUpdate => 16,
        Kind::Headers | Kind::Continuation | Kind::Ping | Kind::GoAway => 64,
        Kind::Settings | Kind::PushPromise => 256,
        // The request may have started an upstream call.
        Kind::Reset => 512,
        Kind::Unknown => 64,
    }
}

/// The points of one connection.
#[derive(Debug)]
pub(super) struct Budget {
    points: i64,
    filled: Option<Instant>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { points: POINTS_MAX, filled: None }
    }
}

impl Budget {
    /// Charges a received frame; false if there are not enough points. `length` is the frame's payload in bytes; it is charged for
    /// unknown types, which `h2` ignores.
    pub(super) fn charge(&mut self, kind: Kind, length: u32, now: impl FnOnce() -> Instant) -> bool {
        let unused = if kind == Kind::Unknown { i64::from(length) / SENT_BYTES_PER_POINT } else { 0 };
        self.spend(cost(kind) + unused, now)
    }

    /// Credits the payload of a received DATA frame, in bytes without padding.
    pub(super) fn data(&mut self, bytes: u32) {
        self.give(i64::from(bytes));
    }

    /// Credits a sent DATA frame of so many bytes.
    pub(super) fn sent(&mut self, bytes: u32) {
        let bytes = i64::from(bytes);
        self.give(bytes.min(SENT_POINTS_MAX) + bytes / SENT_BYTES_PER_POINT);
    }

    /// Credits an answered request.
    pub(super) fn answered(&mut self) {
        self.give(ANSWERED_POINTS);
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
            self.give(points);
        }
    }

    fn give(&mut self, points: i64) {
        self.points = self.points.saturating_add(points).min(POINTS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use tidegate_actors::clock;

    use super::*;

    /// The number of such frames that a new connection may send at once.
    fn burst(kind: Kind, carried: u32) -> usize {
        let (mut budget, now) = (Budget::default(), clock::now());
        let passes = |budget: &mut Budget| {
            let passes = budget.charge(kind, carried, || now);
            budget.data(if kind == Kind::Data { carried } else { 0 });
            passes
        };
        (0..1_000_000).take_while(|_| passes(&mut budget)).count()
    }

    /// V9
    #[test]
    fn frames_without_progress_run_out() {
        for (kind, carried, most) in [
            (Kind::Data, 0, 4096),
            (Kind::Data, 1, 4400),
            (Kind::Ping, 8, 1024),
            (Kind::Settings, 0, 256),
            (Kind::WindowUpdate, 4, 4096),
            (Kind::Priority, 5, 4096),
            (Kind::Continuation, 0, 1024),
            (Kind::Headers, 0, 1024),
            (Kind::Reset, 4, 128),
            (Kind::Unknown, 0, 1024),
            (Kind::Unknown, 16384, 64),
        ] {
            let burst = burst(kind, carried);
            assert!(burst >= 60 && burst <= most, "{kind:?} of {carried} bytes: {burst}");
        }
    }

    /// V9
    #[test]
    fn frames_that_carry_data_never_run_out() {
        assert_eq!(burst(Kind::Data, 16), 1_000_000);
    }

    /// V9: an upload of any size, a download whose every frame is acknowledged twice, and requests that are answered
    #[test]
    fn progress_pays_for_its_frames() {
        let (mut budget, now) = (Budget::default(), clock::now());
        for _ in 0..100_000 {
            budget.sent(50);
            assert!(budget.charge(Kind::WindowUpdate, 4, || now));
            assert!(budget.charge(Kind::WindowUpdate, 4, || now));
            assert!(budget.charge(Kind::Headers, 40, || now));
            assert!(budget.charge(Kind::Priority, 5, || now));
            budget.answered();
            budget.sent(16_384);
            for _ in 0..32 {
                assert!(budget.charge(Kind::WindowUpdate, 4, || now));
            }
        }
    }

    /// V9: grants of one byte are no progress
    #[test]
    fn grants_of_one_byte_run_out() {
        let (mut budget, now) = (Budget::default(), clock::now());
        let passes = |budget: &mut Budget| {
            budget.sent(1);
            budget.charge(Kind::WindowUpdate, 4, || now)
        };
        let grants = (0..100_000).take_while(|_| passes(&mut budget)).count();
        assert!(grants < 5000, "{grants}");
    }

    /// V9: 60 pings per second are never too many
    #[test]
    fn time_gives_points_back() {
        let (mut budget, start) = (Budget::default(), clock::now());
        for second in 0..100_000_u64 {
            let now = start + Duration::from_secs(second);
            for _ in 0..60 {
                assert!(budget.charge(Kind::Ping, 8, || now), "second {second}");
            }
        }
        let now = start + Duration::from_secs(100_000);
        assert!((0..3000).any(|_| !budget.charge(Kind::Ping, 8, || now)), "the bucket has a bottom");
    }
}
