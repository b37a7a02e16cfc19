//! Searches the rings of all workers (`GET /decisions`, `GET /explain`).

use std::cell::Cell;
use std::net::IpAddr;
use std::time::SystemTime;

use tidegate_actors::BucketId;

use crate::decisions::counts::DecisionCounts;
use crate::decisions::decision::{EntryFacts, RingEntry};
use crate::decisions::ring::EntryView;
use crate::decisions::{DecisionCount, Decisions, KeptNames};

/// A client of decisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ClientFilter {
    Address(IpAddr),
    /// The name of a key, or the subject of a token.
    Name(String),
}

/// Which decisions are wanted; a criterion that is none fits all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecisionQuery {
    pub(crate) request_id: Option<String>,
    pub(crate) reason: Option<String>,
    /// The buckets of one name.
    pub(crate) buckets: Option<Vec<BucketId>>,
    pub(crate) client: Option<ClientFilter>,
    pub(crate) since: Option<SystemTime>,
    pub(crate) limit: usize,
}

/// The result of a search, with what the rings hold.
#[derive(Debug)]
pub(crate) struct FoundDecisions {
    /// The newest first.
    pub(crate) entries: Vec<RingEntry>,
    /// All decisions since the start.
    pub(crate) recorded: u64,
    /// Entries in the rings.
    pub(crate) kept: u64,
    /// Entries that newer ones have overwritten.
    pub(crate) overwritten: u64,
    /// Decisions that are counted only, because the ring was full and many were equal.
    pub(crate) sampled_out: u64,
    /// Memory of all rings.
    pub(crate) memory_bytes: usize,
    pub(crate) counts: Vec<DecisionCount>,
}

/// The entries of one request.
#[derive(Debug)]
pub(crate) struct RequestEntries {
    /// The oldest first.
    pub(crate) entries: Vec<RingEntry>,
    /// Older entries in the rings that are left out.
    pub(crate) omitted: usize,
}

impl DecisionQuery {
    fn matches(&self, names: &KeptNames, entry: &EntryView<'_>) -> bool {
        let EntryFacts::Decision(facts) = entry.facts() else { return false };
        let is_bucket = |wanted: &Vec<BucketId>| facts.bucket.is_some_and(|bucket| wanted.contains(&bucket));
        self.since.is_none_or(|since| entry.at() >= since)
            && self.buckets.as_ref().is_none_or(is_bucket)
            && self.reason.as_deref().is_none_or(|reason| facts.reason == reason)
            && match &self.client {
                Some(ClientFilter::Address(address)) => facts.client == Some(*address),
                Some(ClientFilter::Name(name)) => {
                    entry.is_subject(name) || names.client_key(facts) == Some(name)
                }
                None => true,
            }
            && self.request_id.as_deref().is_none_or(|id| entry.is_request(id))
    }
}

impl Decisions {
    /// The newest decisions that fit. Each ring is locked for the time of its own search only.
    pub(crate) fn find(&self, query: &DecisionQuery) -> FoundDecisions {
        let mut found = FoundDecisions {
            entries: Vec::new(),
            recorded: 0,
            kept: 0,
            overwritten: 0,
            sampled_out: 0,
            memory_bytes: 0,
            counts: Vec::new(),
        };
        let mut counts = DecisionCounts::default();
        let names = self.names();
        for at in 0..self.workers.len() {
            let worker = self.worker(at);
            found.entries.extend(worker.ring.newest(query.limit, |entry| query.matches(&names, entry)));
            found.recorded += worker.recorded;
            found.kept += worker.ring.len() as u64;
            found.overwritten += worker.ring.overwritten();
            found.sampled_out += worker.sampled_out;
            found.memory_bytes += worker.ring.memory_bytes();
            counts.add(&worker.counts);
        }
        found.entries.sort_by_key(|entry| std::cmp::Reverse(entry.order));
        found.entries.truncate(query.limit);
        found.counts = counts.sorted();
        found
    }

    /// The newest entries of a request, at most `limit`.
    pub(crate) fn of_request(&self, request_id: &str, limit: usize) -> RequestEntries {
        let (mut entries, mut all) = (Vec::new(), 0);
        for at in 0..self.workers.len() {
            // Entries above the limit are counted and not collected.
            let own = Cell::new(0);
            let is_wanted = |entry: &EntryView<'_>| {
                let is_own = entry.is_request(request_id);
                own.set(own.get() + usize::from(is_own));
                is_own && own.get() <= limit
            };
            entries.extend(self.worker(at).ring.newest(usize::MAX, is_wanted));
            all += own.get();
        }
        entries.sort_by_key(|entry| entry.order);
        entries.drain(..entries.len().saturating_sub(limit));
        RequestEntries { omitted: all - entries.len(), entries }
    }
}
