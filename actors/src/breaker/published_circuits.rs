//! The published state of a bucket's circuits, in atomics, and the successes that the actor has not received yet.
//!
//! Only the actor writes a circuit's atomics. It writes `state_word` last, and readers read it first. The successes
//! are the only atomic that the request path writes: a count beside its generation. A success of an earlier
//! generation finds another generation there and is not counted.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::breaker::circuit_id::CircuitId;
use crate::breaker::decision::{CircuitSnapshot, CircuitState};
use crate::breaker::handover::ExportedBreaker;
use crate::breaker::outcome::FailureCause;
use crate::change_queue::ChangeQueue;
use crate::clock;
use crate::trip::{Trip, TripRule};

/// Minimum time between two reports of successes that may end consecutive failures.
const FLUSH_EVERY: Duration = Duration::from_millis(10);

/// A bucket's circuits, as last published.
#[derive(Debug)]
pub(crate) struct PublishedCircuits {
    origin: Instant,
    circuits: [PublishedCircuit; CircuitId::COUNT],
    /// Notified when a circuit opens with an open time that a connection can end.
    probe_needed: Notify,
    /// Notifies the waiters of a new configuration.
    reconfigured: Notify,
    /// Whether a successor has the circuits: it makes the trials.
    is_handed_over: AtomicBool,
    /// The circuits of a predecessor, until the actor has them.
    pub(super) imports: ChangeQueue<ExportedBreaker>,
}

#[derive(Debug, Default)]
struct PublishedCircuit {
    /// Generation, `probed` flag and state in one word.
    state_word: AtomicU64,
    open_until: AtomicU64,
    consecutive_failures: AtomicU32,
    reopened: AtomicU32,
    opened_total: AtomicU64,
    /// How often each rule opened it, for advice on the thresholds.
    opened_by: [AtomicU64; TripRule::ALL.len()],
    /// The most failures in a row since the peak was read, for the same advice.
    failures_peak: AtomicU32,
    cause: AtomicU32,
    trip: AtomicU64,
    trials: AtomicU32,
    leases_end: AtomicU64,
    /// Requests that wait for the circuit.
    waiting: AtomicUsize,
    pending: PendingSuccesses,
}

/// On its own cache line: every success writes it, and every request reads the words above.
#[derive(Debug, Default)]
#[repr(align(64))]
struct PendingSuccesses {
    /// The generation in the high half, the count in the low half.
    successes: AtomicU64,
    flushed: AtomicU64,
}

impl PublishedCircuits {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            origin: now,
            circuits: Default::default(),
            probe_needed: Notify::new(),
            reconfigured: Notify::new(),
            is_handed_over: AtomicBool::new(false),
            imports: ChangeQueue::default(),
        }
    }

    /// Whether a successor makes the trials of open circuits.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.is_handed_over.load(Ordering::Acquire)
    }

    /// Leaves the trials to a successor, or takes them back.
    pub(crate) fn set_handed_over(&self, is_handed_over: bool) {
        self.is_handed_over.store(is_handed_over, Ordering::Release);
    }

    /// Publishes the unhealthiest circuit of a layout as those of the other one, until the actor publishes them itself: requests of a
    /// new configuration may come before the actor has it.
    pub(crate) fn copy_layout(&self, was_per_operation: bool) {
        let state = |circuit: CircuitId| {
            let published = &self.circuits[circuit.index()];
            let (state, probed, _) = decode_state(published.state_word.load(Ordering::Acquire));
            (state, probed, published.open_until.load(Ordering::Acquire))
        };
        let severity = |(state, _, until): &(CircuitState, bool, u64)| match state {
            CircuitState::Closed => (0, 0),
            CircuitState::HalfOpen => (1, 0),
            CircuitState::Open => (2, *until),
        };
        let Some((state, probed, until)) =
            CircuitId::of_layout(was_per_operation).map(state).max_by_key(severity)
        else {
            return;
        };
        for circuit in CircuitId::of_layout(!was_per_operation) {
            let published = &self.circuits[circuit.index()];
            let (.., generation) = decode_state(published.state_word.load(Ordering::Acquire));
            published.open_until.store(until, Ordering::Release);
            published.state_word.store(encode_state(state, probed, generation), Ordering::Release);
        }
    }

    /// Wakes all waiters. Only the actor calls this, after it has published the circuits of a new configuration.
    pub(crate) fn notify_reconfigured(&self) {
        self.reconfigured.notify_waiters();
    }

    /// Completes after the next new configuration.
    pub(crate) fn reconfigured(&self) -> Notified<'_> {
        self.reconfigured.notified()
    }

    /// Publishes a circuit. Only the actor calls this.
    pub(crate) fn publish(&self, circuit: CircuitId, snapshot: CircuitSnapshot) {
        let published = &self.circuits[circuit.index()];
        let CircuitSnapshot { state, generation, open_until, probed, trials, leases_end, .. } = snapshot;
        published.open_until.store(self.nanos(open_until), Ordering::Release);
        published.consecutive_failures.store(snapshot.consecutive_failures, Ordering::Release);
        published.failures_peak.fetch_max(snapshot.consecutive_failures, Ordering::Relaxed);
        let opened = snapshot.opened_total.saturating_sub(published.opened_total.load(Ordering::Acquire));
        if let Some(trip) = snapshot.trip.filter(|_| opened > 0) {
            published.opened_by[trip.rule as usize].fetch_add(opened, Ordering::Relaxed);
        }
        published.reopened.store(snapshot.reopened, Ordering::Release);
        published.opened_total.store(snapshot.opened_total, Ordering::Release);
        published.cause.store(encode_cause(snapshot.cause), Ordering::Release);
        published.trip.store(Trip::encode(snapshot.trip), Ordering::Release);
        published.trials.store(trials, Ordering::Release);
        published.leases_end.store(self.nanos(leases_end), Ordering::Release);
        if decode_state(published.state_word.load(Ordering::Acquire)).2 != generation {
            // Before `state_word`: no reader has the new generation yet, and successes of the old one come too late.
            published.pending.successes.store(u64::from(generation) << 32, Ordering::Release);
        }
        published.state_word.store(encode_state(state, probed, generation), Ordering::Release);
        if probed {
            self.probe_needed.notify_one();
        }
    }

    /// Waits until a circuit of the bucket opens with an open time that a connection can end. Returns at once if one
    /// has opened since the last call.
    pub(crate) async fn wait_for_probe(&self) {
        self.probe_needed.notified().await;
    }

    pub(crate) fn snapshot(&self, circuit: CircuitId) -> CircuitSnapshot {
        let published = &self.circuits[circuit.index()];
        let (state, probed, generation) = decode_state(published.state_word.load(Ordering::Acquire));
        CircuitSnapshot {
            state,
            generation,
            probed,
            open_until: self.instant(published.open_until.load(Ordering::Acquire)),
            consecutive_failures: published.consecutive_failures.load(Ordering::Acquire),
            opened_total: published.opened_total.load(Ordering::Acquire),
            reopened: published.reopened.load(Ordering::Acquire),
            cause: decode_cause(published.cause.load(Ordering::Acquire)),
            trip: Trip::decode(published.trip.load(Ordering::Acquire)),
            trials: published.trials.load(Ordering::Acquire),
            leases_end: self.instant(published.leases_end.load(Ordering::Acquire)),
        }
    }

    /// The most failures in a row of a circuit since the last call.
    pub(crate) fn take_failures_peak(&self) -> u32 {
        let peaks = self.circuits.iter().map(|circuit| circuit.failures_peak.swap(0, Ordering::Relaxed));
        peaks.max().unwrap_or(0)
    }

    /// How often a rule has opened a circuit of the bucket.
    pub(crate) fn opened_by(&self, rule: TripRule) -> u64 {
        self.circuits.iter().map(|circuit| circuit.opened_by[rule as usize].load(Ordering::Relaxed)).sum()
    }

    /// The state and its generation: the only read of a request while the circuit is closed.
    pub(crate) fn state(&self, circuit: CircuitId) -> (CircuitState, u32) {
        let (state, _, generation) =
            decode_state(self.circuits[circuit.index()].state_word.load(Ordering::Acquire));
        (state, generation)
    }

    /// Number of requests that wait for the circuit.
    pub(crate) fn waiting(&self, circuit: CircuitId) -> usize {
        self.circuits[circuit.index()].waiting.load(Ordering::Acquire)
    }

    /// Counts a waiter. Only the actor calls this.
    pub(crate) fn add_waiter(&self, circuit: CircuitId) {
        self.circuits[circuit.index()].waiting.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn remove_waiter(&self, circuit: CircuitId) {
        self.circuits[circuit.index()].waiting.fetch_sub(1, Ordering::AcqRel);
    }

    /// Counts a success of this generation; false if the circuit is in a later one.
    pub(crate) fn count_success(&self, circuit: CircuitId, generation: u32) -> bool {
        let successes = &self.circuits[circuit.index()].pending.successes;
        let count = |word: u64| {
            let (counted, count) = (word >> 32, word & u64::from(u32::MAX));
            (counted == u64::from(generation)).then(|| counted << 32 | (count + 1).min(u64::from(u32::MAX)))
        };
        successes.fetch_update(Ordering::AcqRel, Ordering::Acquire, count).is_ok()
    }

    /// Removes and returns the pending successes of this generation.
    pub(crate) fn drain_successes(&self, circuit: CircuitId, generation: u32) -> u32 {
        let successes = &self.circuits[circuit.index()].pending.successes;
        let empty = u64::from(generation) << 32;
        let drained = |word: u64| (word >> 32 == u64::from(generation)).then_some(empty);
        successes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, drained)
            .map_or(0, |word| u32::try_from(word & u64::from(u32::MAX)).unwrap_or(u32::MAX))
    }

    /// Whether the actor has counted consecutive failures, which a success ends.
    pub(crate) fn has_failures(&self, circuit: CircuitId) -> bool {
        self.circuits[circuit.index()].consecutive_failures.load(Ordering::Acquire) > 0
    }

    /// True for one caller in each `FLUSH_EVERY`.
    pub(crate) fn claim_flush(&self, circuit: CircuitId, now: Instant) -> bool {
        let flushed = &self.circuits[circuit.index()].pending.flushed;
        let now = self.nanos(Some(now));
        let last = flushed.load(Ordering::Acquire);
        let is_due = now.saturating_sub(last) >= u64::try_from(FLUSH_EVERY.as_nanos()).unwrap_or(u64::MAX);
        is_due && flushed.compare_exchange(last, now, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Nanoseconds since the origin; 0 = none.
    fn nanos(&self, instant: Option<Instant>) -> u64 {
        instant.map_or(0, |instant| clock::nanos_between(self.origin, instant).max(1))
    }

    fn instant(&self, nanos: u64) -> Option<Instant> {
        (nanos > 0).then(|| self.origin + Duration::from_nanos(nanos))
    }
}

fn encode_state(state: CircuitState, probed: bool, generation: u32) -> u64 {
    let state = match state {
        CircuitState::Closed => 0,
        CircuitState::Open => 1,
        CircuitState::HalfOpen => 2,
    };
    u64::from(generation) << 3 | u64::from(probed) << 2 | state
}

fn decode_state(word: u64) -> (CircuitState, bool, u32) {
    let state = match word & 3 {
        0 => CircuitState::Closed,
        1 => CircuitState::Open,
        _ => CircuitState::HalfOpen,
    };
    (state, word & 4 != 0, u32::try_from(word >> 3).unwrap_or(u32::MAX))
}

/// Causes other than a status have a higher number than any status; 0 = none.
pub(super) fn encode_cause(cause: Option<FailureCause>) -> u32 {
    match cause {
        None => 0,
        Some(FailureCause::Status(status)) => 1 << 16 | u32::from(status),
        Some(FailureCause::Connect) => 2 << 16,
        Some(FailureCause::Timeout) => 3 << 16,
        Some(FailureCause::Reset) => 4 << 16,
        Some(FailureCause::Decode) => 5 << 16,
        Some(FailureCause::Slow) => 6 << 16,
        Some(FailureCause::ConnectTimeout) => 7 << 16,
        Some(FailureCause::TlsRejected) => 8 << 16,
    }
}

pub(super) fn decode_cause(word: u32) -> Option<FailureCause> {
    match word >> 16 {
        0 => None,
        1 => Some(FailureCause::Status(u16::try_from(word & 0xffff).unwrap_or(0))),
        2 => Some(FailureCause::Connect),
        3 => Some(FailureCause::Timeout),
        4 => Some(FailureCause::Reset),
        6 => Some(FailureCause::Slow),
        7 => Some(FailureCause::ConnectTimeout),
        8 => Some(FailureCause::TlsRejected),
        _ => Some(FailureCause::Decode),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trip::TripRule;
    use crate::types::OperationClass;

    fn circuit() -> CircuitId {
        CircuitId::for_class(OperationClass::Write, true)
    }

    fn snapshot(
        state: CircuitState,
        generation: u32,
        cause: Option<FailureCause>,
        t0: Instant,
    ) -> CircuitSnapshot {
        CircuitSnapshot {
            state,
            generation,
            open_until: Some(t0 + Duration::from_secs(60)),
            probed: state == CircuitState::Open,
            consecutive_failures: 5,
            opened_total: 2,
            reopened: 1,
            cause,
            trip: cause.map(|_| Trip { rule: TripRule::FailureRate, measured: 60, threshold: 50 }),
            trials: 3,
            leases_end: Some(t0 + Duration::from_secs(30)),
        }
    }

    #[test]
    fn a_snapshot_is_what_was_published() {
        let t0 = clock::now();
        let published = PublishedCircuits::new(t0);
        let causes = [
            FailureCause::Status(503),
            FailureCause::Status(u16::MAX),
            FailureCause::Connect,
            FailureCause::Timeout,
            FailureCause::Reset,
            FailureCause::Decode,
            FailureCause::Slow,
            FailureCause::ConnectTimeout,
            FailureCause::TlsRejected,
        ];
        for cause in causes.map(Some).into_iter().chain([None]) {
            for state in [CircuitState::Closed, CircuitState::Open, CircuitState::HalfOpen] {
                let written = snapshot(state, u32::MAX, cause, t0);
                published.publish(circuit(), written);
                assert_eq!(published.snapshot(circuit()), written);
            }
        }
    }

    /// B4: results of an earlier generation are ignored
    #[test]
    fn a_success_counts_only_for_its_own_generation() {
        let t0 = clock::now();
        let published = PublishedCircuits::new(t0);
        published.publish(circuit(), snapshot(CircuitState::Closed, 7, None, t0));
        assert!(published.count_success(circuit(), 7));
        assert!(published.count_success(circuit(), 7));
        assert!(!published.count_success(circuit(), 6));
        published.publish(circuit(), snapshot(CircuitState::Closed, 7, None, t0));
        assert_eq!(published.drain_successes(circuit(), 6), 0);
        assert_eq!(published.drain_successes(circuit(), 7), 2);
        assert_eq!(published.drain_successes(circuit(), 7), 0);
        assert!(published.count_success(circuit(), 7));
        published.publish(circuit(), snapshot(CircuitState::Open, 8, None, t0));
        assert!(!published.count_success(circuit(), 7));
        assert_eq!(published.drain_successes(circuit(), 8), 0, "those of the old generation are discarded");
    }

    /// B1: successes are reported in batches of at most 10 ms
    #[test]
    fn one_caller_in_ten_milliseconds_flushes() {
        let t0 = clock::now();
        let published = PublishedCircuits::new(t0);
        assert!(published.claim_flush(circuit(), t0 + Duration::from_millis(10)));
        assert!(!published.claim_flush(circuit(), t0 + Duration::from_millis(19)));
        assert!(published.claim_flush(circuit(), t0 + Duration::from_millis(20)));
    }
}
