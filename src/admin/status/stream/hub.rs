//! The numbers of events, the changes that are kept for watchers that resume, and the list of watchers.
//!
//! The first number of a process is its start in microseconds since 1970, so it is higher than all numbers of earlier processes, and
//! JavaScript can represent it. A watcher resumes if no change after its last event has been dropped; else it gets a snapshot.

use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use serde::Serialize;

use super::encode::{self, EventKind};
use super::watcher::Watcher;
use crate::admin::session::{Session, StreamSession};
use crate::buffers::send_progress::SendProgress;

/// The changes that are kept.
const CHANGES_MAX: usize = 64;
/// The most bytes of kept changes. The last one is kept whatever its length.
const CHANGES_BYTES_MAX: usize = 1 << 20;

/// The changes that a watcher can resume from.
struct KeptChanges {
    changes: VecDeque<(u64, Bytes)>,
    bytes: usize,
    /// No change after this number has been dropped.
    complete_after: u64,
}

impl KeptChanges {
    fn push(&mut self, id: u64, event: Bytes) {
        self.bytes += event.len();
        self.changes.push_back((id, event));
        while self.changes.len() > CHANGES_MAX || (self.bytes > CHANGES_BYTES_MAX && self.changes.len() > 1) {
            let Some((id, event)) = self.changes.pop_front() else { return };
            self.bytes -= event.len();
            self.complete_after = id;
        }
    }

    /// The changes after an event, which share their bytes with this list; none if they are not all kept.
    fn after(&self, id: u64) -> Option<VecDeque<Bytes>> {
        if id < self.complete_after {
            return None;
        }
        Some(self.changes.iter().filter(|(change, _)| *change > id).map(|(_, event)| event.clone()).collect())
    }
}

/// All event streams.
pub(super) struct EventHub {
    last_id: u64,
    kept: KeptChanges,
    watchers: Vec<Weak<Watcher>>,
    /// Watchers that were cut since the last call of `take_dropped`.
    dropped: usize,
}

impl EventHub {
    pub(super) fn new(started: SystemTime) -> Self {
        let micros = started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
        let last_id = u64::try_from(micros).unwrap_or_default();
        let kept = KeptChanges { changes: VecDeque::new(), bytes: 0, complete_after: last_id };
        Self { last_id, kept, watchers: Vec::new(), dropped: 0 }
    }

    /// Adds a watcher, which resumes after the event `last_id` if that is possible.
    pub(super) fn add_watcher(
        &mut self,
        last_id: Option<u64>,
        (has_samples, session): (bool, Option<StreamSession>),
        progress: Option<Rc<SendProgress>>,
        now: Instant,
    ) -> Rc<Watcher> {
        let missed = last_id.filter(|id| *id <= self.last_id).and_then(|id| self.kept.after(id));
        let watcher = Watcher::new(missed, (has_samples, session), progress, now);
        self.watchers.push(Rc::downgrade(&watcher));
        watcher
    }

    pub(super) fn send_change(&mut self, data: &impl Serialize, now: Instant) {
        let event = self.event(EventKind::Change, data);
        self.kept.push(self.last_id, event.clone());
        self.for_each(|watcher| watcher.send(&event, now));
    }

    pub(super) fn send_sample(&mut self, data: &impl Serialize, now: Instant) {
        let event = self.event(EventKind::Sample, data);
        self.for_each(|watcher| !watcher.has_samples || watcher.send(&event, now));
    }

    /// Sends how far the drain is.
    pub(super) fn send_drain(&mut self, data: &impl Serialize, now: Instant) {
        let event = self.event(EventKind::Drain, data);
        self.for_each(|watcher| watcher.send(&event, now));
    }

    /// Ends every stream after the events that wait.
    pub(super) fn finish_all_streams(&mut self) {
        self.for_each(|watcher| {
            watcher.finish();
            true
        });
    }

    /// Sends a snapshot to all watchers that wait for one.
    pub(super) fn send_snapshot(&mut self, document: &impl Serialize, now: Instant) {
        let event = self.event(EventKind::Snapshot, document);
        self.for_each(|watcher| {
            if watcher.awaits_snapshot() {
                watcher.send_snapshot(&event, now);
            }
            true
        });
    }

    /// Whether a watcher gets samples.
    pub(super) fn has_sample_watchers(&self) -> bool {
        self.watchers.iter().any(|watcher| watcher.upgrade().is_some_and(|watcher| watcher.has_samples))
    }

    /// Sends heartbeats, and ends old streams.
    pub(super) fn tend_watchers(&mut self, now: Instant) {
        self.for_each(|watcher| {
            watcher.tend(now);
            true
        });
    }

    /// Ends the streams of these sessions.
    pub(super) fn end_streams(&mut self, has_ended: impl Fn(&Session) -> bool) {
        self.for_each(|watcher| {
            if watcher.session.is_some_and(|of| has_ended(&of.session)) {
                watcher.end();
            }
            true
        });
    }

    /// Ends every stream.
    pub(super) fn end_all_streams(&mut self) {
        self.for_each(|watcher| {
            watcher.end();
            true
        });
    }

    /// The number of watchers that were cut since the last call.
    pub(super) fn take_dropped(&mut self) -> usize {
        std::mem::take(&mut self.dropped)
    }

    fn event(&mut self, kind: EventKind, data: &impl Serialize) -> Bytes {
        self.last_id += 1;
        encode::event(self.last_id, kind, data)
    }

    /// Calls `each`, which returns false for a watcher that it has cut, and forgets watchers that have ended.
    fn for_each(&mut self, each: impl Fn(&Watcher) -> bool) {
        let dropped = &mut self.dropped;
        self.watchers.retain(|watcher| {
            let Some(watcher) = watcher.upgrade() else { return false };
            let stays = each(&watcher);
            *dropped += usize::from(!stays);
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_actors::clock;

    use super::*;

    const START: u64 = 1_700_000_000_000_000;

    fn hub() -> EventHub {
        EventHub::new(SystemTime::UNIX_EPOCH + Duration::from_micros(START))
    }

    fn resumes(hub: &mut EventHub, id: u64) -> bool {
        !hub.add_watcher(Some(id), (true, None), None, clock::now()).awaits_snapshot()
    }

    /// X7: a watcher resumes where it stopped; an ID of another process or of the future gets a snapshot
    #[test]
    fn only_own_ids_are_resumed() {
        let mut hub = hub();
        for change in 0..5 {
            hub.send_change(&change, clock::now());
        }
        assert!(resumes(&mut hub, START) && resumes(&mut hub, START + 5));
        assert!(!resumes(&mut hub, START - 1) && !resumes(&mut hub, START + 6));
        assert!(hub.add_watcher(None, (true, None), None, clock::now()).awaits_snapshot());
        let missed = hub.kept.after(START + 3).unwrap();
        let event = |id, data| format!("id: {id}\nevent: change\ndata: {data}\n\n");
        assert_eq!(missed, [event(START + 4, 3), event(START + 5, 4)]);
        let is_shared = missed
            .iter()
            .zip(hub.kept.changes.range(3..))
            .all(|(sent, (_, kept))| sent.as_ptr() == kept.as_ptr());
        assert!(is_shared, "nothing is copied for a watcher");
        assert_eq!(hub.kept.after(START + 5).unwrap().len(), 0);
    }

    /// X7: kept changes are bounded in number and bytes, and an ID from before them gets a snapshot
    #[test]
    fn kept_changes_are_bounded() {
        let mut hub = hub();
        for change in 0..100 {
            hub.send_change(&change, clock::now());
        }
        assert_eq!(hub.kept.changes.len(), CHANGES_MAX);
        assert!(!resumes(&mut hub, START + 35) && resumes(&mut hub, START + 36));
        let long = "x".repeat(CHANGES_BYTES_MAX / 2);
        for _ in 0..5 {
            hub.send_change(&long, clock::now());
        }
        assert!(hub.kept.changes.len() < 3 && hub.kept.bytes <= CHANGES_BYTES_MAX, "{}", hub.kept.bytes);
        hub.send_change(&"x".repeat(2 * CHANGES_BYTES_MAX), clock::now());
        assert_eq!(hub.kept.changes.len(), 1);
    }

    /// X7: a watcher that ended is forgotten, and one that does not read is cut without harm to the others
    #[test]
    fn slow_watchers_are_dropped() {
        let (mut hub, now) = (hub(), clock::now());
        let slow = hub.add_watcher(Some(START), (true, None), None, now);
        let quiet = hub.add_watcher(Some(START), (false, None), None, now);
        drop(hub.add_watcher(Some(START), (true, None), None, now));
        for sample in 0..100 {
            hub.send_sample(&sample, now);
        }
        assert_eq!((hub.watchers.len(), hub.take_dropped(), hub.take_dropped()), (1, 1, 0));
        assert!(!hub.has_sample_watchers());
        drop((slow, quiet));
        hub.tend_watchers(now);
        assert_eq!(hub.watchers.len(), 0);
    }
}
