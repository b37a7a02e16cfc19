//! How many frames a client may send that move nothing (V9).
//!
//! A bucket of points. Every frame costs some; a frame that carries data, an answered request and data that the gateway sent give
//! points back, and so does time, slowly. A client that only makes the gateway parse frames runs out of points, and its
//! connection ends with ENHANCE_YOUR_CALM. The costs are in `docs/design/http2-loop.md`, each with the clients that it must let through.
//! The clock is read only when the bucket is half empty: an ordinary connection never reads it.

use std::time::{Duration, Instant};

use super::frames::Kind;

/// Points of a full bucket.
const POINTS_MAX: i64 = 64 << 10;
/// Points that time gives back, in a second.
const POINTS_PER_SECOND: i64 = 4 << 10;
/// Points for a request that was answered.
const ANSWERED_POINTS: i64 = 512;
/// What a DATA frame must carry to cost nothing.
const DATA_POINTS: i64 = 16;
/// The most that a sent DATA frame gives back for its being a frame: three WINDOW_UPDATE.
const SENT_POINTS_MAX: i64 = 48;
/// Each so many bytes that were sent give back a point more.
const SENT_BYTES_PER_POINT: i64 = 16;

/// What a frame costs by its type alone.
const fn cost(kind: Kind) -> i64 {
    match kind {
        Kind::Data => DATA_POINTS,
        Kind::Priority | Kind::WindowUpdate => 16,
        Kind::Headers | Kind::Continuation | Kind::Ping | Kind::GoAway => 64,
        Kind::Settings | Kind::PushPromise => 256,
        // It may have cost an upstream call.
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
    /// A frame came; false if the client has no points left for it. `length` is of its payload, whose bytes count where nobody
    /// uses them.
    pub(super) fn charge(&mut self, kind: Kind, length: u32, now: impl FnOnce() -> Instant) -> bool {
        let unused = if kind == Kind::Unknown { i64::from(length) / SENT_BYTES_PER_POINT } else { 0 };
        self.spend(cost(kind) + unused, now)
    }

    /// So many bytes of a DATA frame are data, not padding.
    pub(super) fn data(&mut self, bytes: u32) {
        self.give(i64::from(bytes));
    }

    /// The gateway sent a DATA frame with so many bytes.
    pub(super) fn sent(&mut self, bytes: u32) {
        let bytes = i64::from(bytes);
        self.give(bytes.min(SENT_POINTS_MAX) + bytes / SENT_BYTES_PER_POINT);
    }

    /// A request was answered.
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

    /// How many such frames a fresh connection may send at once.
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

    /// V9: a client that sends such frames now and then, for ever
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
