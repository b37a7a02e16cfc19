//! The gate and the queue of one bucket in a replay.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidegate_config::{Priority, UpstreamConfig};

use crate::pool::{
    AcquireDecision, AcquireRefusal, EndpointStatsTable, GateShared, LoadBalancer, LoadBalancerSettings,
    Permit, PoolBounds, PoolState, RetryBudget, WaitRejection, WaitRejectionCause, Waiter,
};
use crate::replay::cursor::{BucketCursor, CursorAnswer};
use crate::replay::{Arrival, Refusal};

/// What the queue decided about a waiter.
pub(super) enum GateEvent {
    Granted { flight: u32, permit: Permit },
    Rejected { flight: u32, refusal: Refusal },
}

impl GateEvent {
    /// The request that waited.
    pub(super) fn flight(&self) -> u32 {
        match self {
            Self::Granted { flight, .. } | Self::Rejected { flight, .. } => *flight,
        }
    }
}

/// The answer to a request for a permit.
pub(super) enum GateAnswer {
    Granted(Permit),
    Queued,
    Refused(Refusal),
}

type Events = Rc<RefCell<Vec<GateEvent>>>;

/// A request in the queue.
#[derive(Debug)]
struct ReplayWaiter {
    flight: u32,
    is_cancelled: Rc<Cell<bool>>,
    events: Events,
}

impl std::fmt::Debug for GateEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Granted { flight, .. } => write!(f, "granted {flight}"),
            Self::Rejected { flight, refusal } => write!(f, "rejected {flight}: {refusal:?}"),
        }
    }
}

impl Waiter for ReplayWaiter {
    fn is_cancelled(&self) -> bool {
        self.is_cancelled.get()
    }

    fn try_grant(self, permit: Permit) -> Result<(), Permit> {
        if self.is_cancelled.get() {
            return Err(permit);
        }
        self.events.borrow_mut().push(GateEvent::Granted { flight: self.flight, permit });
        Ok(())
    }

    fn reject(self, rejection: WaitRejection) {
        if self.is_cancelled.get() {
            return;
        }
        let refusal = match rejection.cause {
            WaitRejectionCause::Displaced => Refusal::QueueDisplaced,
            WaitRejectionCause::Overload => Refusal::QueueOverload,
            // A replay has no operator.
            WaitRejectionCause::Draining => Refusal::QueueFull,
        };
        self.events.borrow_mut().push(GateEvent::Rejected { flight: self.flight, refusal });
    }
}

/// The gate of one bucket, and the cursor of its queue. It has one endpoint and no named credentials.
pub(super) struct BucketGate {
    pub(super) cursor: BucketCursor,
    /// Requests in the queue, without cancelled ones.
    waiting: usize,
    state: PoolState<ReplayWaiter>,
    shared: Arc<GateShared>,
    bounds: PoolBounds,
    request_timeout: Duration,
    /// Set by a released permit while requests wait.
    is_woken: Arc<AtomicBool>,
    events: Events,
    /// The flags of waiters that may still be cancelled, by the number of the wait.
    waits: HashMap<u64, Rc<Cell<bool>>, ahash::RandomState>,
}

impl BucketGate {
    pub(super) fn new(upstream: &UpstreamConfig, seed: u64, origin: Instant) -> Self {
        let is_woken = Arc::new(AtomicBool::new(false));
        let woken = Arc::clone(&is_woken);
        let shared = Arc::new(GateShared::new(move || woken.store(true, Ordering::Relaxed)));
        let bounds = PoolBounds::from(upstream);
        let stats = Arc::new(EndpointStatsTable::new(1));
        let rules = LoadBalancerSettings::from(&upstream.load_balancing);
        let load_balancer = LoadBalancer::new(Arc::clone(&stats), rules, 0, origin);
        let budget = RetryBudget::new(upstream.retry.budget, origin);
        Self {
            cursor: BucketCursor::new(&upstream.concurrency, seed, origin),
            waiting: 0,
            state: PoolState::new(Arc::clone(&shared), bounds, stats, load_balancer, budget),
            shared,
            bounds,
            request_timeout: upstream.request_timeout,
            is_woken,
            events: Events::default(),
            waits: HashMap::default(),
        }
    }

    /// Permits in use and waiters.
    pub(super) fn occupancy(&self) -> (usize, usize) {
        (self.shared.gate.live(), self.waiting)
    }

    /// What the cursor decides about a request. It refuses none that gets a permit without a wait.
    pub(super) fn cursor_answer(&self, arrival: &Arrival<'_>, class: Priority, now: Instant) -> CursorAnswer {
        match self.waiting == 0 && self.shared.gate.live() < self.bounds.concurrent_max {
            true => CursorAnswer::Admitted,
            false => self.cursor.decide(arrival, class, now),
        }
    }

    /// Total time of a request.
    pub(super) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// The longest wait of a request that arrives now.
    pub(super) fn wait_max(&self, deadline: Instant, now: Instant) -> Duration {
        self.bounds.queue_timeout.min(deadline.saturating_duration_since(now))
    }

    /// Asks for a permit. `wait` is the number of the wait if the request is queued.
    pub(super) fn acquire(
        &mut self,
        (flight, wait): (u32, u64),
        priority: Priority,
        deadline: Instant,
        now: Instant,
    ) -> GateAnswer {
        match self.state.decide(priority, deadline, now) {
            // A permit is always there: without named credentials the gate alone decides.
            AcquireDecision::Grant => match self.state.grant(now) {
                Some(permit) => GateAnswer::Granted(permit),
                None => GateAnswer::Refused(Refusal::QueueFull),
            },
            AcquireDecision::Queue => {
                let is_cancelled = Rc::new(Cell::new(false));
                self.waits.insert(wait, Rc::clone(&is_cancelled));
                let waiter = ReplayWaiter { flight, is_cancelled, events: Rc::clone(&self.events) };
                self.waiting += 1;
                self.state.enqueue(waiter, priority, now);
                GateAnswer::Queued
            }
            AcquireDecision::Refuse(AcquireRefusal::QueueTooLong { .. }) => {
                GateAnswer::Refused(Refusal::QueueTooLong)
            }
            AcquireDecision::Refuse(
                AcquireRefusal::QueueFull { .. }
                | AcquireRefusal::NoCredential { .. }
                | AcquireRefusal::Draining { .. },
            ) => GateAnswer::Refused(Refusal::QueueFull),
        }
    }

    /// Ends a wait.
    pub(super) fn cancel(&mut self, wait: u64) {
        self.waiting = self.waiting.saturating_sub(1);
        if let Some(is_cancelled) = self.waits.remove(&wait) {
            is_cancelled.set(true);
        }
    }

    /// Moves the cursor if its period is over. Returns the time of the next update if it is not scheduled yet.
    pub(super) fn update_cursor(&mut self, now: Instant) -> Option<Instant> {
        self.cursor.update(&self.state, now)
    }

    /// Serves the queue, as the pool does at each update of the cursor.
    pub(super) fn serve_queue(&mut self, now: Instant) {
        self.state.on_wake(now);
    }

    /// Serves the queue if a permit was released while requests waited.
    pub(super) fn wake(&mut self, now: Instant) {
        if self.is_woken.swap(false, Ordering::Relaxed) {
            self.state.on_wake(now);
        }
    }

    /// Moves the decisions about waiters into `events`.
    pub(super) fn take_events(&mut self, events: &mut Vec<GateEvent>) {
        let mut decided = self.events.borrow_mut();
        self.waiting = self.waiting.saturating_sub(decided.len());
        events.append(&mut decided);
        drop(decided);
        if self.waits.len() > 2 * self.bounds.queued_max.max(64) {
            // The queue has dropped its half of the flag of each wait that is over.
            self.waits.retain(|_, is_cancelled| Rc::strong_count(is_cancelled) > 1);
        }
    }
}
