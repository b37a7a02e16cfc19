//! The memory of request bodies that are read whole, and of signed chunks, checked before they are read (X6).
//!
//! The slot of a request stands for 256 KiB (`actors/src/monitor/headroom.rs`), which is enough for a body that is streamed and for one
//! of up to 64 KiB. A longer body that is read whole (a list of objects to delete, the end of a multipart upload) needs megabytes, and
//! many can come between two samples of the monitor. So each reserves its memory first, and is refused if the sum exceeds what was free
//! below `exhausted` in the last sample. The sample contains bodies that have arrived, so these count twice, and all together use at
//! most about half of the free memory. A signed chunk of a streamed upload is held until its signature is verified, so one above 64 KiB
//! reserves its memory when its size is known ([`ChunkMemory`]). One body is always admitted: to refuse it would end nothing (X8).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tidegate_actors::MonitorView;

/// A changed document is held beside that of the client, and a chunk beside the one before it.
const COPIES: u64 = 2;

/// The reserved bytes of the process.
#[derive(Debug, Default)]
pub(crate) struct BodyMemory(AtomicU64);

/// The memory is not enough for a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BodyMemoryFull {
    /// The bytes of this body and of the others.
    pub(crate) needed_bytes: u64,
    pub(crate) free_bytes: u64,
}

/// The memory of one body. Dropping it releases it.
#[derive(Debug)]
#[must_use = "a dropped reservation is released"]
pub(crate) struct BodyReservation {
    memory: Arc<BodyMemory>,
    bytes: u64,
}

/// Reserves memory.
pub(crate) type ReserveBody = Box<dyn Fn(u64) -> Result<BodyReservation, BodyMemoryFull>>;

/// The memory of the signed chunks of one upload, as much as its largest one needs.
pub(crate) struct ChunkMemory {
    reserve: ReserveBody,
    chunk_bytes: u64,
    reservation: Option<BodyReservation>,
}

impl ChunkMemory {
    pub(crate) fn new(reserve: ReserveBody) -> Self {
        Self { reserve, chunk_bytes: 0, reservation: None }
    }

    /// Reserves the memory of a chunk of this length. One up to `free_of_charge` fits the slot of the request.
    pub(crate) fn grow(&mut self, chunk_bytes: u64, free_of_charge: u64) -> Result<(), BodyMemoryFull> {
        if chunk_bytes > free_of_charge && chunk_bytes > self.chunk_bytes {
            // One body is always admitted, so its own memory must not count beside it.
            self.reservation = None;
            self.reservation = Some((self.reserve)(chunk_bytes)?);
            self.chunk_bytes = chunk_bytes;
        }
        Ok(())
    }
}

impl BodyMemory {
    /// Reserves the memory of a body of this length. `free_bytes` is none if the memory is unknown: then nothing is refused (X4).
    pub(crate) fn try_reserve(
        self: &Arc<Self>,
        length: u64,
        free_bytes: Option<u64>,
    ) -> Result<BodyReservation, BodyMemoryFull> {
        let bytes = length.saturating_mul(COPIES);
        let limit = free_bytes.unwrap_or(u64::MAX);
        let add = |reserved: u64| {
            let sum = reserved.checked_add(bytes)?;
            Some(sum).filter(|sum| *sum <= limit || reserved == 0)
        };
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(_) => Ok(BodyReservation { memory: Arc::clone(self), bytes }),
            Err(reserved) => {
                Err(BodyMemoryFull { needed_bytes: reserved.saturating_add(bytes), free_bytes: limit })
            }
        }
    }
}

impl Drop for BodyReservation {
    fn drop(&mut self) {
        self.memory.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The bytes that the process may still use below this percentage of its memory limit; none if they are unknown.
pub(crate) fn free_bytes(view: &MonitorView, percent: u8, now: Instant) -> Option<u64> {
    let memory = view.memory().filter(|_| !view.is_stale(now))?;
    let usable = memory.own_limit_bytes / 100 * u64::from(percent);
    Some(usable.saturating_sub(memory.own_bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// X6, X8: bodies reserve twice their length; what does not fit is refused with both numbers, and one body always fits
    #[test]
    fn bodies_fit_the_free_memory() {
        let memory = Arc::<BodyMemory>::default();
        let first = memory.try_reserve(40, Some(100)).unwrap();
        let refused = memory.try_reserve(11, Some(100)).unwrap_err();
        assert_eq!(refused, BodyMemoryFull { needed_bytes: 102, free_bytes: 100 });
        let second = memory.try_reserve(10, Some(100)).unwrap();
        drop((first, second));
        let alone = memory.try_reserve(1000, Some(0)).unwrap();
        assert!(memory.try_reserve(1, Some(0)).is_err());
        drop(alone);
        assert_eq!(memory.0.load(Ordering::Relaxed), 0);
    }

    /// X6, X8: an upload reserves the memory of its largest chunk once, and a small chunk none
    #[test]
    fn chunks_reserve_what_the_largest_needs() {
        let memory = Arc::<BodyMemory>::default();
        let of_upload = Arc::clone(&memory);
        let mut chunks = ChunkMemory::new(Box::new(move |bytes| of_upload.try_reserve(bytes, Some(100))));
        for (bytes, reserved) in [(10, 0), (11, 22), (30, 60), (20, 60), (400, 800)] {
            assert_eq!(chunks.grow(bytes, 10), Ok(()), "{bytes}");
            assert_eq!(memory.0.load(Ordering::Relaxed), reserved, "{bytes}");
        }
        let of_other = Arc::clone(&memory);
        let mut other = ChunkMemory::new(Box::new(move |bytes| of_other.try_reserve(bytes, Some(100))));
        assert_eq!(other.grow(11, 10), Err(BodyMemoryFull { needed_bytes: 822, free_bytes: 100 }));
        drop(chunks);
        assert_eq!(other.grow(11, 10), Ok(()));
        drop(other);
        assert_eq!(memory.0.load(Ordering::Relaxed), 0);
    }

    /// X4: unknown memory refuses nothing
    #[test]
    fn unknown_memory_refuses_nothing() {
        let memory = Arc::<BodyMemory>::default();
        let _held: Vec<_> = (0..100).map(|_| memory.try_reserve(1 << 30, None).unwrap()).collect();
    }

    proptest! {
        /// X6: the bodies never exceed the free memory, except one alone, and all is released
        #[test]
        fn the_sum_stays_within_the_free_memory(
            steps in prop::collection::vec((0_u64..100, 0_u64..300, any::<bool>()), 1..100)
        ) {
            let memory = Arc::<BodyMemory>::default();
            let mut held = Vec::new();
            for (length, free, ends_one) in steps {
                if ends_one {
                    held.pop();
                }
                if let Ok(reservation) = memory.try_reserve(length, Some(free)) {
                    held.push(reservation);
                    let sum: u64 = held.iter().map(|one| one.bytes).sum();
                    prop_assert_eq!(sum, memory.0.load(Ordering::Relaxed));
                    prop_assert!(sum <= free || held.iter().filter(|one| one.bytes > 0).count() <= 1);
                }
            }
            held.clear();
            prop_assert_eq!(memory.0.load(Ordering::Relaxed), 0);
        }
    }
}
