//! The requests between their head and the last byte of their answer, for the progress of drains (G4): their number and the oldest, of
//! the process, of a bucket and of an endpoint.
//!
//! Each thread writes the slots of its own requests with plain stores, and any thread reads them without a message. A read is no snapshot:
//! requests that begin or end meanwhile may be counted or not. The slots of a thread are as many as it has had requests at a time.
//!
//! A *stream* is an answer that has begun and has no declared length or is `text/event-stream`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_actors::BucketId;

/// Slots that a thread adds at a time.
const CHUNK: usize = 64;
/// The bucket of a request that no bucket has admitted yet.
const NO_BUCKET: u32 = u32::MAX;

/// A request under way, or none.
#[derive(Debug, Default)]
struct Slot {
    /// Its begin in nanoseconds since that of the process, plus one. 0: no request.
    began: AtomicU64,
    bucket: AtomicU32,
    /// The number of its present endpoint; 0 before its first call.
    endpoint: AtomicU64,
    is_stream: AtomicBool,
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

/// All requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LiveCounts {
    pub(crate) requests: usize,
    /// Those with a stream.
    pub(crate) streams: usize,
    /// The age of the oldest, and its bucket.
    pub(crate) oldest: Option<(Duration, Option<BucketId>)>,
    /// Requests of each bucket. A request that no bucket has admitted has none.
    pub(crate) buckets: BTreeMap<BucketId, usize>,
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

    /// Counts all requests.
    pub(crate) fn counts(&self, now: Instant) -> LiveCounts {
        let mut counts = LiveCounts::default();
        let mut oldest: Option<(u64, u32)> = None;
        self.for_each(|began, slot| {
            let bucket = slot.bucket.load(Ordering::Relaxed);
            counts.requests += 1;
            counts.streams += usize::from(slot.is_stream.load(Ordering::Relaxed));
            if bucket != NO_BUCKET {
                *counts.buckets.entry(BucketId::new(bucket)).or_default() += 1;
            }
            if oldest.is_none_or(|(first, _)| began < first) {
                oldest = Some((began, bucket));
            }
        });
        let bucket = |number| (number != NO_BUCKET).then(|| BucketId::new(number));
        counts.oldest = oldest.map(|(began, number)| (self.age(began, now), bucket(number)));
        counts
    }

    fn count(&self, is_counted: impl Fn(&Slot) -> bool, now: Instant) -> RequestsLeft {
        let mut left = RequestsLeft::default();
        let mut first = u64::MAX;
        self.for_each(|began, slot| {
            if is_counted(slot) {
                left.count += 1;
                first = first.min(began);
            }
        });
        left.oldest = (left.count > 0).then(|| self.age(first, now));
        left
    }

    /// The time since a begin as it is in a slot.
    fn age(&self, began: u64, now: Instant) -> Duration {
        let began = self.began + Duration::from_nanos(began.saturating_sub(1).min(u64::MAX >> 1));
        now.saturating_duration_since(began)
    }

    /// Calls this with the begin and the slot of each request.
    fn for_each(&self, mut read: impl FnMut(u64, &Slot)) {
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let chunks = thread.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for slot in chunks.iter().flat_map(|chunk| chunk.iter()) {
                let began = slot.began.load(Ordering::Acquire);
                if began > 0 {
                    read(began, slot);
                }
            }
        }
    }
}

impl ThreadRequests {
    /// A request began.
    #[inline]
    pub(crate) fn begin(&self, began: Instant) -> LiveRequest {
        let free = self.free.borrow_mut().pop();
        let at = free.unwrap_or_else(|| self.add_chunk());
        let nanos = began.saturating_duration_since(self.began).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX).saturating_add(1);
        self.with_slot(at, |slot| {
            slot.bucket.store(NO_BUCKET, Ordering::Relaxed);
            slot.endpoint.store(0, Ordering::Relaxed);
            slot.is_stream.store(false, Ordering::Relaxed);
            slot.began.store(nanos, Ordering::Release);
        });
        LiveRequest(at)
    }

    /// This bucket has admitted it.
    #[inline]
    pub(crate) fn set_bucket(&self, LiveRequest(at): LiveRequest, bucket: BucketId) {
        self.with_slot(at, |slot| slot.bucket.store(bucket.number(), Ordering::Relaxed));
    }

    /// Its answer has begun, and is a stream.
    pub(crate) fn set_stream(&self, LiveRequest(at): LiveRequest) {
        self.with_slot(at, |slot| slot.is_stream.store(true, Ordering::Relaxed));
    }

    /// Its present call is one of this endpoint.
    pub(crate) fn set_endpoint(&self, LiveRequest(at): LiveRequest, endpoint: u64) {
        self.with_slot(at, |slot| slot.endpoint.store(endpoint, Ordering::Relaxed));
    }

    /// It ended.
    #[inline]
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
        let begin = |thread: &ThreadRequests, bucket, seconds| {
            let request = thread.begin(after(seconds));
            thread.set_bucket(request, bucket);
            request
        };
        let (first, second, third) = (begin(&one, a, 0), begin(&other, a, 5), begin(&one, b, 7));
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

    /// G4: all requests are counted by bucket, with the streams and the oldest of all threads
    #[test]
    fn all_requests_are_counted() {
        let start = tidegate_actors::clock::now();
        let live = LiveRequests::new(start);
        let (one, other) = (live.thread(), live.thread());
        let after = |seconds| start + Duration::from_secs(seconds);
        let [a, b] = [7, 2].map(BucketId::new);
        let (unrouted, oldest, streaming) = (one.begin(after(1)), other.begin(start), other.begin(after(2)));
        other.set_bucket(oldest, a);
        other.set_bucket(streaming, b);
        other.set_stream(streaming);
        let counts = live.counts(after(9));
        let oldest_of_all = Some((Duration::from_secs(9), Some(a)));
        assert_eq!((counts.requests, counts.streams, counts.oldest), (3, 1, oldest_of_all));
        assert_eq!(counts.buckets, [(a, 1), (b, 1)].into());
        other.end(oldest);
        assert_eq!(live.counts(after(9)).oldest, Some((Duration::from_secs(8), None)));
        one.end(unrouted);
        other.end(streaming);
        assert_eq!(live.counts(after(9)), LiveCounts::default());
    }

    /// X8: slots are used again, and a reused one has no endpoint
    #[test]
    fn slots_are_used_again() {
        let start = tidegate_actors::clock::now();
        let live = LiveRequests::new(start);
        let thread = live.thread();
        for _ in 0..3 {
            let requests: Vec<_> = (0..150).map(|_| thread.begin(start)).collect();
            let counts = live.counts(start);
            assert_eq!((counts.requests, counts.streams, counts.buckets.len()), (150, 0, 0));
            requests.iter().for_each(|request| thread.set_bucket(*request, BucketId::new(9)));
            requests.iter().for_each(|request| thread.set_stream(*request));
            assert_eq!(live.of_bucket(BucketId::new(9), start).count, 150);
            assert_eq!(live.of_endpoint(7, start).count, 0);
            requests.iter().for_each(|request| thread.set_endpoint(*request, 7));
            assert_eq!(live.of_endpoint(7, start).count, 150);
            requests.into_iter().for_each(|request| thread.end(request));
        }
        assert_eq!(thread.chunks.borrow().len(), 3);
    }
}
