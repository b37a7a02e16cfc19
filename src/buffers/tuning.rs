//! The size of the buffers of one transfer, as a pure state machine.
//!
//! A transfer starts small. It grows in steps when enough bytes have moved in a short enough time, which
//! a slow client never reaches: its first bytes, which the buffers on the way take at any speed, do not count. A
//! transfer that has slowed down since it grew becomes small again.

use std::time::{Duration, Instant};

/// Bytes at the beginning that say nothing of the client: buffers on the way take them at once. The client's own
/// kernel buffer takes 64 KiB, the gateway's send buffer and what it reads ahead about 160 KiB.
const IGNORED_BYTES: u64 = 256 << 10;
/// A body with fewer bytes to come gets no unlimited window.
const UNLIMITED_LEFT_MIN: u64 = 8 << 20;
/// Over which time a grown transfer must have moved enough to stay as large.
const STEADY_TIME: Duration = Duration::from_secs(1);

/// A small buffer, in bytes as the kernel accounts them.
pub(crate) const SMALL_BYTES: u32 = 64 << 10;
/// A medium buffer, in bytes as the kernel accounts them.
pub(crate) const MEDIUM_BYTES: u32 = 512 << 10;

/// How much of the budget is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BudgetHeadroom {
    /// Most of it.
    Ample,
    /// Less than that.
    Scarce,
}

/// How large the buffers of a transfer are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum BufferSize {
    /// As every transfer starts.
    #[default]
    Small,
    Medium,
    Large,
    /// The kernel decides.
    Unlimited,
}

impl BufferSize {
    /// The bytes of one buffer as the kernel accounts them, where a large one has `large` ([`BufferBudget::large_bytes`]); none where the
    /// kernel decides.
    ///
    /// [`BufferBudget::large_bytes`]: super::BufferBudget::large_bytes
    pub(crate) fn bytes(self, large: u32) -> Option<u32> {
        match self {
            Self::Small => Some(SMALL_BYTES),
            Self::Medium => Some(MEDIUM_BYTES),
            Self::Large => Some(large),
            Self::Unlimited => None,
        }
    }

    /// Whether a body with so many bytes to come has a use for this size; none is an unknown number. `is_capped`: the system allows no
    /// large buffer, so only the kernel's own growth goes beyond it. The connection of an unlimited window is not
    /// used again, so the body must be worth a connection, and its end known.
    pub(super) fn is_useful(self, left: Option<u64>, is_capped: bool) -> bool {
        self != Self::Unlimited || (is_capped && left.is_some_and(|left| left >= UNLIMITED_LEFT_MIN))
    }

    fn next(self) -> Option<Self> {
        match self {
            Self::Small => Some(Self::Medium),
            Self::Medium => Some(Self::Large),
            Self::Large => Some(Self::Unlimited),
            Self::Unlimited => None,
        }
    }

    /// The bytes that must move, and in which time, before the next size. Where most of the budget is free, a wrong guess costs little.
    fn growth_threshold(self, room: BudgetHeadroom) -> (u64, Duration) {
        match (self, room) {
            (Self::Small, _) => (128 << 10, Duration::from_secs(1)),
            (Self::Medium, BudgetHeadroom::Ample) => (256 << 10, Duration::from_millis(500)),
            (Self::Medium | Self::Large | Self::Unlimited, _) => (1 << 20, Duration::from_millis(500)),
        }
    }

    /// The bytes that must move within [`STEADY_TIME`] for this size to stay.
    fn steady_bytes(self) -> u64 {
        match self {
            Self::Small => 0,
            Self::Medium => 64 << 10,
            Self::Large | Self::Unlimited => 256 << 10,
        }
    }
}

/// The pace of one transfer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BufferTuner {
    size: BufferSize,
    ignored_bytes: u64,
    /// Since the last decision.
    moved_bytes: u64,
    since: Instant,
    /// Since the last visit that decided.
    bytes_since_check: u64,
    last_check: Instant,
}

impl BufferTuner {
    /// A transfer that begins with buffers of this size.
    pub(crate) fn new(size: BufferSize, now: Instant) -> Self {
        Self { size, ignored_bytes: 0, moved_bytes: 0, since: now, bytes_since_check: 0, last_check: now }
    }

    pub(crate) fn size(&self) -> BufferSize {
        self.size
    }

    /// Accounts for bytes that moved; the next size if the transfer has earned it.
    pub(crate) fn advance(&mut self, bytes: u64, room: BudgetHeadroom, now: Instant) -> Option<BufferSize> {
        self.bytes_since_check = self.bytes_since_check.saturating_add(bytes);
        if self.ignored_bytes < IGNORED_BYTES {
            self.ignored_bytes = self.ignored_bytes.saturating_add(bytes);
            self.since = now;
            return None;
        }
        self.moved_bytes = self.moved_bytes.saturating_add(bytes);
        let (enough, time) = self.size.growth_threshold(room);
        if self.moved_bytes < enough {
            return None;
        }
        let is_fast = now.saturating_duration_since(self.since) <= time;
        self.moved_bytes = 0;
        self.since = now;
        if is_fast { self.size.next() } else { None }
    }

    /// The buffers have this size now.
    pub(crate) fn resized(&mut self, size: BufferSize, now: Instant) {
        self.size = size;
        self.moved_bytes = 0;
        (self.since, self.last_check, self.bytes_since_check) = (now, now, 0);
    }

    /// Whether the transfer moved too little of late for buffers of this size.
    pub(crate) fn has_slowed(&mut self, size: BufferSize, now: Instant) -> bool {
        if now.saturating_duration_since(self.last_check) < STEADY_TIME {
            return false;
        }
        let has_slowed = self.bytes_since_check < size.steady_bytes();
        (self.last_check, self.bytes_since_check) = (now, 0);
        has_slowed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_actors::clock;

    use super::*;

    /// The size after each piece, where every earned size is granted.
    fn sizes(pieces: impl IntoIterator<Item = (u64, Duration)>) -> Vec<BufferSize> {
        let mut now = clock::now();
        let mut pace = BufferTuner::new(BufferSize::Small, now);
        let after = |(bytes, pause)| {
            now += pause;
            if let Some(size) = pace.advance(bytes, BudgetHeadroom::Scarce, now) {
                pace.resized(size, now);
            }
            if pace.has_slowed(pace.size(), now) {
                pace.resized(BufferSize::Small, now);
            }
            pace.size()
        };
        pieces.into_iter().map(after).collect()
    }

    /// P1: a transfer that flows freely starts to grow within the first 450 KiB, and the kernel decides after 2.5 MiB
    #[test]
    fn a_fast_transfer_grows_soon() {
        let pieces = std::iter::repeat_n((64 << 10, Duration::from_micros(50)), 160);
        let sizes = sizes(pieces);
        assert_eq!(sizes[3], BufferSize::Small);
        assert_eq!(sizes[6], BufferSize::Medium, "after 448 KiB");
        assert_eq!(sizes[39], BufferSize::Unlimited, "after 2.5 MiB");
    }

    /// P1: a client that takes a burst at once and then slows down becomes small again
    #[test]
    fn a_transfer_that_slows_down_shrinks() {
        let burst = std::iter::repeat_n((64 << 10, Duration::from_millis(1)), 64);
        let crumbs = std::iter::repeat_n((4 << 10, Duration::from_millis(250)), 10);
        let sizes = sizes(burst.chain(crumbs));
        assert_eq!(sizes[63], BufferSize::Unlimited);
        assert_eq!(sizes.last(), Some(&BufferSize::Small));
    }

    proptest! {
        /// P1: a client slower than 128 KiB/s never grows, however large the burst that the buffers on the way take, up to their size
        #[test]
        fn a_slow_client_stays_small(
            burst in 0_u64..=IGNORED_BYTES,
            pieces in proptest::collection::vec((1_u64..(64 << 10), 0_u32..100), 1..300),
        ) {
            let slow = |(bytes, late): (u64, u32)| {
                // A little more than the time of these bytes at 128 KiB/s.
                (bytes, Duration::from_nanos(bytes * 8_000) + Duration::from_millis(late.into()))
            };
            let all = std::iter::once((burst, Duration::ZERO)).chain(pieces.into_iter().map(slow));
            prop_assert!(sizes(all).into_iter().all(|size| size == BufferSize::Small));
        }

        /// P1: sizes rise one step at a time
        #[test]
        fn sizes_rise_in_steps(pieces in proptest::collection::vec((0_u64..(4 << 20), 0_u32..3000), 1..200)) {
            let timed = pieces.into_iter().map(|(bytes, ms)| (bytes, Duration::from_millis(ms.into())));
            let sizes = sizes(timed);
            for pair in sizes.windows(2) {
                prop_assert!(pair[1] <= pair[0] || Some(pair[1]) == pair[0].next(), "{pair:?}");
            }
        }
    }
}
