//! Buffer sizes of one transfer: a pure state machine.
//!
//! A transfer starts small. It grows by one step when enough bytes have moved within a time limit. The first bytes do not count,
//! because buffers on the path accept them at once, so a slow client never reaches the threshold. A transfer that has slowed down becomes
//! small again.

use std::time::{Duration, Instant};

/// Bytes at the beginning that do not count, because buffers on the path accept them at once: the client's kernel buffer takes 64 KiB, the
/// gateway's send buffer and read-ahead take about 160 KiB.
const IGNORED_BYTES: u64 = 256 << 10;
/// Minimum of remaining bytes for an unlimited window.
const UNLIMITED_LEFT_MIN: u64 = 8 << 20;
/// Period over which the throughput of a grown transfer is checked.
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
    /// At most a small part.
    Scarce,
}

/// Size class of the buffers of a transfer.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum BufferSize {
    /// The initial size.
    #[default]
    Small,
    Medium,
    Large,
    /// The kernel sizes the buffers.
    Unlimited,
}

impl BufferSize {
    /// Bytes of one buffer as the kernel accounts them; none if the kernel sizes it. `large` is the size of a large buffer
    /// ([`BufferBudget::large_bytes`]).
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

    /// Whether this size helps a body with `left` bytes to come; none is unknown. `is_capped`: the system's limit is below a large buffer,
    /// so only the kernel's own growth can exceed it. The connection of an unlimited window is not reused, so the body must be long and its
    /// length known.
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

    /// Bytes that must move, and the time limit for them, before the next size. The threshold is lower while most of the budget is free,
    /// because growth without need then costs little.
    fn growth_threshold(self, headroom: BudgetHeadroom) -> (u64, Duration) {
        match (self, headroom) {
            (Self::Small, _) => (128 << 10, Duration::from_secs(1)),
            (Self::Medium, BudgetHeadroom::Ample) => (256 << 10, Duration::from_millis(500)),
            (Self::Medium | Self::Large | Self::Unlimited, _) => (1 << 20, Duration::from_millis(500)),
        }
    }

    /// Bytes that must move within [`STEADY_TIME`] to keep this size.
    fn steady_bytes(self) -> u64 {
        match self {
            Self::Small => 0,
            Self::Medium => 64 << 10,
            Self::Large | Self::Unlimited => 256 << 10,
        }
    }
}

/// Throughput and buffer size of one transfer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BufferTuner {
    size: BufferSize,
    ignored_bytes: u64,
    /// Bytes since the last growth decision.
    moved_bytes: u64,
    since: Instant,
    /// Bytes since the last check for a slowdown.
    bytes_since_check: u64,
    last_check: Instant,
}

impl BufferTuner {
    /// A new transfer with buffers of this size.
    pub(crate) fn new(size: BufferSize, now: Instant) -> Self {
        Self { size, ignored_bytes: 0, moved_bytes: 0, since: now, bytes_since_check: 0, last_check: now }
    }

    pub(crate) fn size(&self) -> BufferSize {
        self.size
    }

    /// Counts moved bytes. Returns the next size if the threshold is reached.
    pub(crate) fn advance(
        &mut self,
        bytes: u64,
        headroom: BudgetHeadroom,
        now: Instant,
    ) -> Option<BufferSize> {
        self.bytes_since_check = self.bytes_since_check.saturating_add(bytes);
        if self.ignored_bytes < IGNORED_BYTES {
            self.ignored_bytes = self.ignored_bytes.saturating_add(bytes);
            self.since = now;
            return None;
        }
        self.moved_bytes = self.moved_bytes.saturating_add(bytes);
        let (threshold_bytes, time) = self.size.growth_threshold(headroom);
        if self.moved_bytes < threshold_bytes {
            return None;
        }
        let is_fast = now.saturating_duration_since(self.since) <= time;
        self.moved_bytes = 0;
        self.since = now;
        if is_fast { self.size.next() } else { None }
    }

    /// Records a new size of the buffers.
    pub(crate) fn resized(&mut self, size: BufferSize, now: Instant) {
        self.size = size;
        self.moved_bytes = 0;
        (self.since, self.last_check, self.bytes_since_check) = (now, now, 0);
    }

    /// Whether the transfer has moved too few bytes since the last check to keep buffers of this size.
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

    /// The size after each piece if every growth is granted.
    fn sizes(pieces: impl IntoIterator<Item = (u64, Duration)>) -> Vec<BufferSize> {
        let mut now = clock::now();
        let mut tuner = BufferTuner::new(BufferSize::Small, now);
        let after = |(bytes, pause)| {
            now += pause;
            if let Some(size) = tuner.advance(bytes, BudgetHeadroom::Scarce, now) {
                tuner.resized(size, now);
            }
            if tuner.has_slowed(tuner.size(), now) {
                tuner.resized(BufferSize::Small, now);
            }
            tuner.size()
        };
        pieces.into_iter().map(after).collect()
    }

    /// P1: a fast transfer starts to grow within the first 450 KiB, and the kernel sizes its buffers after 2.5 MiB
    #[test]
    fn a_fast_transfer_grows_soon() {
        let pieces = std::iter::repeat_n((64 << 10, Duration::from_micros(50)), 160);
        let sizes = sizes(pieces);
        assert_eq!(sizes[3], BufferSize::Small);
        assert_eq!(sizes[6], BufferSize::Medium, "after 448 KiB");
        assert_eq!(sizes[39], BufferSize::Unlimited, "after 2.5 MiB");
    }

    /// P1: the buffers of a client that slows down after a burst become small again
    #[test]
    fn a_transfer_that_slows_down_shrinks() {
        let burst = std::iter::repeat_n((64 << 10, Duration::from_millis(1)), 64);
        let trickle = std::iter::repeat_n((4 << 10, Duration::from_millis(250)), 10);
        let sizes = sizes(burst.chain(trickle));
        assert_eq!(sizes[63], BufferSize::Unlimited);
        assert_eq!(sizes.last(), Some(&BufferSize::Small));
    }

    proptest! {
        /// P1: the buffers of a client below 128 KiB/s never grow, whatever the size of the first burst, up to the ignored bytes
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
