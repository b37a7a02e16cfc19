//! The requests of one worker thread between their head and the last byte of their answer, for the progress of a drain (G4).
//!
//! Each record has one entry. The table belongs to its thread, so it needs no lock, and a freed entry is used again, so a request needs
//! no allocation. An entry costs a request 54 instructions (callgrind). Other threads get [`LiveCounts`] by a command to the thread.
//!
//! A *stream* is an answer that has begun and has no declared length or is `text/event-stream`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use tidegate_actors::BucketId;

/// The index that no entry has: the end of the list of free entries.
const NONE: u32 = u32::MAX;
/// The entries that are added when none is free.
const GROWTH: usize = 64;

/// What an entry stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EntryState {
    /// No request. The next free entry follows.
    Free(u32),
    /// A request without an answer, or with one of known length.
    Request,
    /// A request with a stream.
    Stream,
}

#[derive(Debug, Clone, Copy)]
struct LiveEntry {
    started: Instant,
    bucket: Option<BucketId>,
    state: EntryState,
}

/// The entries, and the first free one.
#[derive(Debug)]
struct Entries {
    all: Vec<LiveEntry>,
    first_free: u32,
}

impl Entries {
    /// Adds free entries.
    #[cold]
    #[inline(never)]
    fn grow(&mut self, started: Instant) {
        let first = self.all.len();
        let number = |at: usize| u32::try_from(at).unwrap_or(NONE);
        let entry = |at: usize| {
            let next = if at + 1 == first + GROWTH { NONE } else { number(at + 1) };
            LiveEntry { started, bucket: None, state: EntryState::Free(next) }
        };
        self.all.extend((first..first + GROWTH).map(entry));
        self.first_free = number(first);
    }
}

/// The requests of one worker thread.
#[derive(Debug)]
pub(crate) struct LiveRequests(RefCell<Entries>);

impl LiveRequests {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self(RefCell::new(Entries { all: Vec::new(), first_free: NONE })))
    }

    /// Adds a request.
    #[inline]
    pub(super) fn begin(self: &Rc<Self>, started: Instant) -> LiveRequest {
        let entries = &mut *self.0.borrow_mut();
        if entries.first_free as usize >= entries.all.len() {
            entries.grow(started);
        }
        let index = entries.first_free;
        if let Some(entry) = entries.all.get_mut(index as usize) {
            if let EntryState::Free(next) = entry.state {
                entries.first_free = next;
            }
            *entry = LiveEntry { started, bucket: None, state: EntryState::Request };
        }
        LiveRequest { table: Rc::clone(self), index }
    }

    /// Counts the requests.
    pub(crate) fn counts(&self) -> LiveCounts {
        let mut counts = LiveCounts::default();
        for entry in &self.0.borrow().all {
            if matches!(entry.state, EntryState::Free(_)) {
                continue;
            }
            counts.requests += 1;
            counts.streams += usize::from(entry.state == EntryState::Stream);
            if let Some(bucket) = entry.bucket {
                *counts.buckets.entry(bucket).or_default() += 1;
            }
            counts.add_oldest(Some((entry.started, entry.bucket)));
        }
        counts
    }
}

/// The entry of a request. Its drop frees it.
#[derive(Debug)]
pub(super) struct LiveRequest {
    table: Rc<LiveRequests>,
    index: u32,
}

impl LiveRequest {
    #[inline]
    pub(super) fn set_bucket(&self, bucket: BucketId) {
        self.change(|entry| entry.bucket = Some(bucket));
    }

    /// The answer has begun, and is a stream.
    pub(super) fn set_stream(&self) {
        self.change(|entry| entry.state = EntryState::Stream);
    }

    #[inline]
    fn change(&self, change: impl FnOnce(&mut LiveEntry)) {
        if let Some(entry) = self.table.0.borrow_mut().all.get_mut(self.index as usize) {
            change(entry);
        }
    }
}

impl Drop for LiveRequest {
    #[inline]
    fn drop(&mut self) {
        let entries = &mut *self.table.0.borrow_mut();
        if let Some(entry) = entries.all.get_mut(self.index as usize) {
            entry.state = EntryState::Free(entries.first_free);
            entries.first_free = self.index;
        }
    }
}

/// Requests by bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LiveCounts {
    pub(crate) requests: usize,
    /// Those with a stream.
    pub(crate) streams: usize,
    /// The start of the oldest, and its bucket.
    pub(crate) oldest: Option<(Instant, Option<BucketId>)>,
    /// Requests of each bucket. A request that is not routed has none.
    pub(crate) buckets: BTreeMap<BucketId, usize>,
}

impl LiveCounts {
    /// Adds those of another thread.
    pub(crate) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.streams += other.streams;
        self.add_oldest(other.oldest);
        for (bucket, requests) in other.buckets {
            *self.buckets.entry(bucket).or_default() += requests;
        }
    }

    fn add_oldest(&mut self, other: Option<(Instant, Option<BucketId>)>) {
        let is_older = |own: (Instant, _)| other.is_some_and(|other| other.0 < own.0);
        if self.oldest.is_none_or(is_older) {
            self.oldest = other;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_actors::clock;

    use super::*;

    /// G4: requests are counted by bucket, with the oldest and the streams, and freed entries are used again
    #[test]
    fn requests_are_counted_until_they_end() {
        let (table, start) = (LiveRequests::new(), clock::now());
        let at = |millis| start + Duration::from_millis(millis);
        let [a, b] = [7, 2].map(BucketId::new);
        let unrouted = table.begin(at(1));
        let oldest = table.begin(at(0));
        oldest.set_bucket(a);
        let streaming = table.begin(at(2));
        streaming.set_bucket(b);
        streaming.set_stream();
        let counts = table.counts();
        assert_eq!((counts.requests, counts.streams, counts.oldest), (3, 1, Some((at(0), Some(a)))));
        assert_eq!(counts.buckets, [(a, 1), (b, 1)].into());
        drop(oldest);
        assert_eq!(table.counts().oldest, Some((at(1), None)));
        drop((unrouted, streaming));
        assert_eq!(table.counts(), LiveCounts::default());
        for _ in 0..1000 {
            let pair = (table.begin(at(3)), table.begin(at(3)));
            assert_eq!(table.counts().requests, 2);
            drop(pair);
        }
        assert_eq!(table.0.borrow().all.len(), GROWTH, "freed entries are used again");
        let many: Vec<_> = (0..GROWTH + 1).map(|_| table.begin(at(4))).collect();
        assert_eq!((table.counts().requests, table.0.borrow().all.len()), (GROWTH + 1, 2 * GROWTH));
        drop(many);
        assert_eq!(table.counts(), LiveCounts::default());
    }

    /// G4: the counts of several threads add up
    #[test]
    fn counts_of_threads_add_up() {
        let start = clock::now();
        let (a, b) = (BucketId::new(1), BucketId::new(2));
        let mut sum = LiveCounts::default();
        for (later, buckets) in [(5, vec![a, b]), (3, vec![b]), (9, vec![])] {
            let table = LiveRequests::new();
            let begin = |bucket: &BucketId| {
                let request = table.begin(start + Duration::from_millis(later));
                request.set_bucket(*bucket);
                request
            };
            let _live: Vec<_> = buckets.iter().map(begin).collect();
            sum.add(table.counts());
        }
        let oldest = Some((start + Duration::from_millis(3), Some(b)));
        let buckets = [(a, 1), (b, 2)].into();
        assert_eq!(sum, LiveCounts { requests: 3, streams: 0, oldest, buckets });
    }
}
