//! What one side did with the requests: the log, the model of the old configuration, or the model of the new one.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_actors::replay::{CircuitMove, Observer, Refusal};

use crate::replay::names::OTHERS;
use crate::replay::request::RefusalReason;
use crate::replay::timeline::Timeline;
use crate::replay::wait_histogram::WaitHistogram;

/// A wait up to this time is not counted as queueing, as in decisions.
pub(crate) const LONG_WAIT: Duration = Duration::from_millis(10);
/// Changes of circuits that are listed.
const MOVES_MAX: usize = 1_000;

/// What a side must remember of a request until it is decided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestTag {
    pub(crate) start_us: u64,
    pub(crate) bucket: Option<u32>,
    pub(crate) client: u32,
    /// Whether the log refused it.
    pub(crate) is_refused_by_log: bool,
    /// The reason with which it is refused once the limits of a replay admit it.
    pub(crate) lasting_refusal: Option<u32>,
    pub(crate) is_estimated: bool,
}

/// Counts of one bucket, or of all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) admitted: u64,
    pub(crate) queued: u64,
    pub(crate) refused: BTreeMap<RefusalReason, u64>,
    pub(crate) waits: WaitHistogram,
}

impl Counts {
    fn admit(&mut self, waited: Duration) {
        self.requests += 1;
        self.admitted += 1;
        self.queued += u64::from(waited > LONG_WAIT);
        self.waits.observe(waited);
    }

    fn refuse(&mut self, reason: RefusalReason) {
        self.requests += 1;
        *self.refused.entry(reason).or_default() += 1;
    }

    pub(crate) fn refused_total(&self) -> u64 {
        self.refused.values().sum()
    }
}

/// One side.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) all: Counts,
    /// By the number of the bucket; none for requests without one.
    pub(crate) buckets: BTreeMap<Option<u32>, Counts>,
    /// Requests and refusals by the number of the client. The last one has the others.
    pub(crate) clients: Vec<(u64, u64)>,
    pub(crate) other_clients: (u64, u64),
    pub(crate) timeline: Timeline,
    pub(crate) shadowed: BTreeMap<Refusal, u64>,
    pub(crate) moves: Vec<CircuitMove>,
    pub(crate) moves_total: u64,
    /// Requests that the log admitted and this side refused, and the reverse.
    pub(crate) newly_refused: u64,
    pub(crate) newly_admitted: u64,
}

impl Tally {
    pub(crate) fn new(begin_us: u64) -> Self {
        Self {
            all: Counts::default(),
            buckets: BTreeMap::new(),
            clients: Vec::new(),
            other_clients: (0, 0),
            timeline: Timeline::new(begin_us),
            shadowed: BTreeMap::new(),
            moves: Vec::new(),
            moves_total: 0,
            newly_refused: 0,
            newly_admitted: 0,
        }
    }

    fn client(&mut self, client: u32) -> &mut (u64, u64) {
        if client == OTHERS {
            return &mut self.other_clients;
        }
        let at = client as usize;
        if self.clients.len() <= at {
            self.clients.resize(at + 1, (0, 0));
        }
        &mut self.clients[at]
    }

    /// Counts an admitted request.
    pub(crate) fn admit(&mut self, tag: RequestTag, waited: Duration) {
        self.all.admit(waited);
        self.buckets.entry(tag.bucket).or_default().admit(waited);
        self.client(tag.client).0 += 1;
        let interval = self.timeline.at(tag.start_us);
        interval.requests += 1;
        interval.queued += u64::from(waited > LONG_WAIT);
        self.newly_admitted += u64::from(tag.is_refused_by_log);
    }

    /// Counts a refused request.
    pub(crate) fn refuse(&mut self, tag: RequestTag, reason: RefusalReason) {
        self.all.refuse(reason);
        self.buckets.entry(tag.bucket).or_default().refuse(reason);
        let client = self.client(tag.client);
        *client = (client.0 + 1, client.1 + 1);
        let interval = self.timeline.at(tag.start_us);
        interval.requests += 1;
        interval.count_refusal(reason);
        self.newly_refused += u64::from(!tag.is_refused_by_log);
    }
}

impl Observer<RequestTag> for Tally {
    fn queued(&mut self, _: RequestTag, _: usize) {}

    fn admitted(&mut self, tag: RequestTag, waited: Duration) {
        match tag.lasting_refusal {
            Some(reason) => self.refuse(tag, RefusalReason::Other(reason)),
            None => self.admit(tag, waited),
        }
    }

    fn refused(&mut self, tag: RequestTag, refusal: Refusal, _: Duration) {
        self.refuse(tag, RefusalReason::Decided(refusal));
    }

    fn shadowed(&mut self, _: RequestTag, refusal: Refusal) {
        *self.shadowed.entry(refusal).or_default() += 1;
    }

    fn circuit(&mut self, change: CircuitMove) {
        self.moves_total += 1;
        if self.moves.len() < MOVES_MAX {
            self.moves.push(change);
        }
    }
}
