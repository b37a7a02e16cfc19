//! The newest entries of one worker, in memory that is allocated once.
//!
//! Entries have a fixed part in a queue of fixed capacity and texts in a ring of bytes. A new entry overwrites the oldest ones until
//! both have room. So the ring has exactly the newest entries, and it counts those that it overwrote.

use std::collections::VecDeque;
use std::time::SystemTime;

use crate::decisions::decision::{EntryFacts, EntryTexts, NamesNumber, RingEntry};

/// Bytes of texts for each entry, on average.
const TEXT_BYTES_MEAN: usize = 64;
/// The most bytes of the ID, the subject and the detail. A request ID has at most 128.
const TEXT_BYTES_MAX: [usize; 3] = [128, 128, 256];
/// The end of a text that was cut.
const CUT: &str = "…";

/// The fixed part of an entry.
#[derive(Debug, Clone, Copy)]
struct Slot {
    order: u64,
    at: SystemTime,
    facts: EntryFacts,
    /// Position of the texts in the stream of all texts.
    text_begin: u64,
    lengths: [u16; 3],
}

/// An entry in the ring, which a search compares without a copy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EntryView<'a> {
    ring: &'a Ring,
    slot: &'a Slot,
}

impl EntryView<'_> {
    pub(crate) fn at(&self) -> SystemTime {
        self.slot.at
    }

    pub(crate) fn facts(&self) -> &EntryFacts {
        &self.slot.facts
    }

    pub(crate) fn is_request(&self, id: &str) -> bool {
        self.ring.is_text(self.slot.text_begin, self.slot.lengths[0], id)
    }

    pub(crate) fn is_subject(&self, subject: &str) -> bool {
        let begin = self.slot.text_begin + u64::from(self.slot.lengths[0]);
        self.ring.is_text(begin, self.slot.lengths[1], subject)
    }

    fn to_entry(self) -> RingEntry {
        let Slot { order, at, facts, text_begin, lengths: [id, subject, detail] } = *self.slot;
        let subject_begin = text_begin + u64::from(id);
        RingEntry {
            order,
            at,
            facts,
            request_id: self.ring.read(text_begin, id),
            subject: self.ring.read(subject_begin, subject),
            detail: self.ring.read(subject_begin + u64::from(subject), detail),
        }
    }
}

/// The ring.
#[derive(Debug)]
pub(crate) struct Ring {
    slots: VecDeque<Slot>,
    slots_max: usize,
    text: Box<[u8]>,
    /// Bytes of texts that were ever written.
    text_end: u64,
    overwritten: u64,
}

impl Ring {
    /// A ring that uses at most this much memory. It is empty if that is too little for one entry.
    pub(crate) fn new(bytes: usize) -> Self {
        let slots_max = bytes / (size_of::<Slot>() + TEXT_BYTES_MEAN);
        let text = vec![0; slots_max * TEXT_BYTES_MEAN].into_boxed_slice();
        Self { slots: VecDeque::with_capacity(slots_max), slots_max, text, text_end: 0, overwritten: 0 }
    }

    /// Adds an entry.
    pub(crate) fn push(&mut self, order: u64, at: SystemTime, facts: EntryFacts, texts: &EntryTexts<'_>) {
        if self.slots_max == 0 {
            self.overwritten += 1;
            return;
        }
        let (text_begin, mut left) = (self.text_end, self.text.len());
        let mut lengths = [0; 3];
        let texts = [texts.request_id, texts.subject, texts.detail];
        for ((text, max), length) in texts.into_iter().zip(TEXT_BYTES_MAX).zip(&mut lengths) {
            let (kept, mark) = cut(text, max.min(left));
            left -= kept.len() + mark.len();
            *length = u16::try_from(kept.len() + mark.len()).unwrap_or(u16::MAX);
            let end = self.text_end + u64::from(*length);
            self.make_room(end);
            self.write(kept);
            self.write(mark);
        }
        self.make_room_for_slot();
        self.slots.push_back(Slot { order, at, facts, text_begin, lengths });
    }

    /// Removes the entries with texts that a write up to `end` overwrites.
    fn make_room(&mut self, end: u64) {
        let kept_from = end.saturating_sub(self.text.len() as u64);
        while self.slots.front().is_some_and(|oldest| oldest.text_begin < kept_from) {
            self.slots.pop_front();
            self.overwritten += 1;
        }
    }

    fn make_room_for_slot(&mut self) {
        if self.slots.len() >= self.slots_max {
            self.slots.pop_front();
            self.overwritten += 1;
        }
    }

    fn write(&mut self, text: &str) {
        let at = self.index(self.text_end);
        let bytes = text.as_bytes();
        let (first, rest) = bytes.split_at(bytes.len().min(self.text.len() - at));
        self.text[at..at + first.len()].copy_from_slice(first);
        self.text[..rest.len()].copy_from_slice(rest);
        self.text_end += bytes.len() as u64;
    }

    fn index(&self, position: u64) -> usize {
        usize::try_from(position % self.text.len() as u64).unwrap_or(0)
    }

    fn read(&self, begin: u64, length: u16) -> String {
        let at = self.index(begin);
        let length = usize::from(length);
        let first = length.min(self.text.len() - at);
        let mut bytes = self.text[at..at + first].to_vec();
        bytes.extend_from_slice(&self.text[..length - first]);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn is_text(&self, begin: u64, length: u16, text: &str) -> bool {
        let bytes = text.as_bytes();
        if bytes.len() != usize::from(length) || bytes.is_empty() {
            return bytes.len() == usize::from(length);
        }
        let at = self.index(begin);
        let (first, rest) = bytes.split_at(bytes.len().min(self.text.len() - at));
        self.text[at..at + first.len()] == *first && self.text[..rest.len()] == *rest
    }

    /// The newest entries for which `matches` holds, the newest first. Only they are copied.
    pub(crate) fn newest(&self, limit: usize, matches: impl Fn(&EntryView<'_>) -> bool) -> Vec<RingEntry> {
        let views = self.slots.iter().rev().map(|slot| EntryView { ring: self, slot });
        views.filter(matches).take(limit).map(|view| view.to_entry()).collect()
    }

    /// The names that the decisions refer to.
    pub(crate) fn names(&self) -> impl Iterator<Item = NamesNumber> {
        self.slots.iter().filter_map(|slot| match &slot.facts {
            EntryFacts::Decision(facts) => Some(facts.names),
            EntryFacts::End(_) => None,
        })
    }

    /// Whether the next entry overwrites another, or already one has.
    pub(crate) fn is_full(&self) -> bool {
        self.overwritten > 0 || self.slots.len() >= self.slots_max
    }

    /// Entries that are kept.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Entries that newer ones have overwritten.
    pub(crate) fn overwritten(&self) -> u64 {
        self.overwritten
    }

    /// The memory that the ring has allocated.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>() + self.text.len()
    }
}

/// The longest start of a text that fits with its mark, and the mark if the text is cut.
fn cut(text: &str, max: usize) -> (&str, &'static str) {
    if text.len() <= max {
        return (text, "");
    }
    let Some(room) = max.checked_sub(CUT.len()) else { return ("", "") };
    let end = (0..=room).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    (&text[..end], CUT)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::decisions::decision::{DecisionFacts, DecisionKind, DecisionScope, Figures};

    fn facts(reason: &'static str) -> EntryFacts {
        let figures = Figures::of(DecisionScope::Process);
        EntryFacts::Decision(DecisionFacts::new(DecisionKind::Refusal, reason, figures))
    }

    fn push(ring: &mut Ring, order: u64, request_id: &str, subject: &str, detail: &str) {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(order);
        ring.push(order, at, facts("exhausted"), &EntryTexts { request_id, subject, detail });
    }

    fn all(ring: &Ring) -> Vec<RingEntry> {
        ring.newest(usize::MAX, |_| true)
    }

    /// O4: a million refusals with texts of any length stay within the memory, and the newest are exact
    #[test]
    fn a_million_refusals_stay_within_the_memory() {
        let bytes = 64 << 10;
        let mut ring = Ring::new(bytes);
        let (allocated, long) = (ring.memory_bytes(), "d".repeat(300));
        assert!(allocated <= bytes, "{allocated}");
        for order in 0..1_000_000_u64 {
            let length = usize::try_from(order % 300).unwrap();
            push(&mut ring, order, &order.to_string(), &long[..length % 7], &long[..length]);
        }
        assert_eq!(ring.memory_bytes(), allocated, "nothing was allocated");
        let kept = all(&ring);
        assert_eq!((kept.len() as u64 + ring.overwritten(), kept.len()), (1_000_000, ring.len()));
        assert!(kept.len() > 100, "{}", kept.len());
        for (entry, order) in kept.iter().zip((0..1_000_000).rev()) {
            let length = usize::try_from(order % 300).unwrap();
            assert_eq!((entry.order, &entry.request_id), (order, &order.to_string()));
            assert_eq!(entry.subject.len(), length % 7);
            let is_cut = length > 256;
            assert_eq!((entry.detail.len(), entry.detail.ends_with(CUT)), (length.min(256), is_cut));
        }
    }

    /// O4: a long text is cut at a character and marked
    #[test]
    fn long_texts_are_cut_and_marked() {
        let mut ring = Ring::new(64 << 10);
        push(&mut ring, 1, "id", &"é".repeat(100), "");
        let entry = all(&ring).pop().unwrap();
        assert_eq!((entry.request_id.as_str(), entry.detail.as_str()), ("id", ""));
        assert_eq!(entry.subject, format!("{}…", "é".repeat(62)));
        assert_eq!(cut("abc", 3), ("abc", ""));
        assert_eq!(cut("abcd", 3), ("", "…"));
        assert_eq!(cut("abcd", 2), ("", ""));
    }

    /// O4: a ring without memory keeps nothing and counts what it lost
    #[test]
    fn a_ring_without_memory_only_counts() {
        for bytes in [0, 50] {
            let mut ring = Ring::new(bytes);
            push(&mut ring, 1, "id", "", "");
            assert_eq!((all(&ring).len(), ring.overwritten(), ring.memory_bytes()), (0, 1, 0));
        }
    }

    /// O4: a ring for one entry keeps the newest, with texts that fit
    #[test]
    fn the_smallest_ring_keeps_the_newest() {
        let mut ring = Ring::new(size_of::<Slot>() + TEXT_BYTES_MEAN);
        for order in 0..10 {
            push(&mut ring, order, &"i".repeat(128), "subject", "detail");
        }
        let kept = all(&ring);
        assert_eq!((kept.len(), kept[0].order, ring.overwritten()), (1, 9, 9));
        assert_eq!(kept[0].request_id, format!("{}…", "i".repeat(TEXT_BYTES_MEAN - CUT.len())));
    }

    /// O4: a search returns the newest matches first
    #[test]
    fn a_search_returns_the_newest_matches() {
        let mut ring = Ring::new(64 << 10);
        for order in 0..20 {
            push(&mut ring, order, if order % 2 == 0 { "even" } else { "odd" }, "", "");
        }
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(5);
        let found = ring.newest(3, |entry| entry.at() >= since && entry.is_request("odd"));
        assert_eq!(found.iter().map(|entry| entry.order).collect::<Vec<_>>(), [19, 17, 15]);
    }
}
