//! The requests of a bucket that are under way, for the progress of a drain: their number and the oldest.
//!
//! Each thread writes the slots of its own requests with plain stores, and any thread reads them without a message. A read is no snapshot:
//! requests that begin or end meanwhile may be counted or not. The slots of a thread are as many as it has had requests at a time.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_actors::BucketId;

/// Slots that a thread adds at a time.
const CHUNK: usize = 64;

/// A request under way, or none.
#[derive(Debug, Default)]
struct Slot {
    /// Its begin in nanoseconds since that of the process, plus one. 0: no request.
    began: AtomicU64,
    bucket: AtomicU32,
    /// The number of its present endpoint; 0 before its first call.
    endpoint: AtomicU64,
}

type Chunks = Vec<Arc<[Slot]>>;

/// The requests of all threads.
#[derive(Debug)]
pub(crate) struct LiveRequests {
    began: Instant,
    threads: Mutex<Vec<Arc<Mutex<Chunks>>>>,
}

/// The requests of one thread.
#[derive(Debug)]
pub(crate) struct ThreadRequests {
    began: Instant,
    chunks: RefCell<Chunks>,
    published: Arc<Mutex<Chunks>>,
    free: RefCell<Vec<u32>>,
}

/// A request's slot on its thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LiveRequest(u32);

/// The requests that are left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RequestsLeft {
    pub(crate) count: usize,
    /// The age of the oldest.
    pub(crate) oldest: Option<Duration>,
}

impl LiveRequests {
    /// `began`: the start of the process.
    pub(crate) fn new(began: Instant) -> Self {
        Self { began, threads: Mutex::default() }
    }

    /// The requests of a new thread.
    pub(crate) fn thread(&self) -> Rc<ThreadRequests> {
        let published = Arc::default();
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&published));
        Rc::new(ThreadRequests {
            began: self.began,
            chunks: RefCell::default(),
            published,
            free: RefCell::default(),
        })
    }

    /// The requests of a bucket.
    pub(crate) fn of_bucket(&self, bucket: BucketId, now: Instant) -> RequestsLeft {
        self.count(|slot| slot.bucket.load(Ordering::Relaxed) == bucket.number(), now)
    }

    /// The requests that an endpoint answers.
    pub(crate) fn of_endpoint(&self, endpoint: u64, now: Instant) -> RequestsLeft {
        self.count(|slot| slot.endpoint.load(Ordering::Relaxed) == endpoint, now)
    }

    fn count(&self, is_counted: impl Fn(&Slot) -> bool, now: Instant) -> RequestsLeft {
        let mut left = RequestsLeft::default();
        let mut first = u64::MAX;
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let chunks = thread.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for slot in chunks.iter().flat_map(|chunk| chunk.iter()) {
                let began = slot.began.load(Ordering::Acquire);
                if began > 0 && is_counted(slot) {
                    left.count += 1;
                    first = first.min(began);
                }
            }
        }
        let oldest = self.began + Duration::from_nanos(first.saturating_sub(1).min(u64::MAX >> 1));
        left.oldest = (left.count > 0).then(|| now.saturating_duration_since(oldest));
        left
    }
}

impl ThreadRequests {
    /// A request of this bucket began.
    pub(crate) fn begin(&self, bucket: BucketId, began: Instant) -> LiveRequest {
        let free = self.free.borrow_mut().pop();
        let at = free.unwrap_or_else(|| self.add_chunk());
        let nanos = began.saturating_duration_since(self.began).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX).saturating_add(1);
        self.with_slot(at, |slot| {
            slot.bucket.store(bucket.number(), Ordering::Relaxed);
            slot.endpoint.store(0, Ordering::Relaxed);
            slot.began.store(nanos, Ordering::Release);
        });
        LiveRequest(at)
    }

    /// Its present call is one of this endpoint.
    pub(crate) fn set_endpoint(&self, LiveRequest(at): LiveRequest, endpoint: u64) {
        self.with_slot(at, |slot| slot.endpoint.store(endpoint, Ordering::Relaxed));
    }

    /// It ended.
    pub(crate) fn end(&self, LiveRequest(at): LiveRequest) {
        self.with_slot(at, |slot| slot.began.store(0, Ordering::Release));
        self.free.borrow_mut().push(at);
    }

    fn with_slot(&self, at: u32, write: impl FnOnce(&Slot)) {
        let (chunk, slot) = (at as usize / CHUNK, at as usize % CHUNK);
        if let Some(slot) = self.chunks.borrow().get(chunk).and_then(|chunk| chunk.get(slot)) {
            write(slot);
        }
    }

    /// Adds free slots and takes one of them.
    #[cold]
    fn add_chunk(&self) -> u32 {
        let chunk: Arc<[Slot]> = std::iter::repeat_with(Slot::default).take(CHUNK).collect();
        let mut chunks = self.chunks.borrow_mut();
        let first = u32::try_from(chunks.len() * CHUNK).unwrap_or(u32::MAX - CHUNK as u32);
        chunks.push(Arc::clone(&chunk));
        self.published.lock().unwrap_or_else(PoisonError::into_inner).push(chunk);
        self.free.borrow_mut().extend((first + 1..first + CHUNK as u32).rev());
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G4: each request counts for its bucket and its endpoint until its end, whatever thread serves it
    #[test]
    fn requests_are_counted_by_bucket_and_endpoint() {
        let start = tidegate_actors::clock::now();
        let live = LiveRequests::new(start);
        let (one, other) = (live.thread(), live.thread());
        let (a, b) = (BucketId::new(0), BucketId::new(1));
        let after = |seconds| start + Duration::from_secs(seconds);
        let first = one.begin(a, after(0));
        let second = other.begin(a, after(5));
        let third = one.begin(b, after(7));
        one.set_endpoint(first, 3);
        one.set_endpoint(third, 4);
        let left =
            |count, seconds: Option<u64>| RequestsLeft { count, oldest: seconds.map(Duration::from_secs) };
        assert_eq!(live.of_bucket(a, after(9)), left(2, Some(9)));
        assert_eq!(live.of_bucket(b, after(9)), left(1, Some(2)));
        assert_eq!(live.of_endpoint(3, after(9)), left(1, Some(9)));
        one.end(first);
        assert_eq!(live.of_bucket(a, after(9)), left(1, Some(4)));
        assert_eq!(live.of_endpoint(3, after(9)), left(0, None));
        other.end(second);
        one.end(third);
        assert_eq!(
            (live.of_bucket(a, after(9)), live.of_bucket(b, after(9))),
            (left(0, None), left(0, None))
        );
    }

    /// X8: slots are used again, and a reused one has no endpoint
    #[test]
    fn slots_are_used_again() {
        let start = tidegate_actors::clock::now();
        let live = LiveRequests::new(start);
        let thread = live.thread();
        for _ in 0..3 {
            let requests: Vec<_> = (0..150).map(|_| thread.begin(BucketId::new(9), start)).collect();
            assert_eq!(live.of_bucket(BucketId::new(9), start).count, 150);
            assert_eq!(live.of_endpoint(7, start).count, 0);
            requests.iter().for_each(|request| thread.set_endpoint(*request, 7));
            assert_eq!(live.of_endpoint(7, start).count, 150);
            requests.into_iter().for_each(|request| thread.end(request));
        }
        assert_eq!(thread.chunks.borrow().len(), 3);
    }
}
