//! How the clients of one worker thread take their answers and send their bodies: the task that cuts those that do not (T4, V10).
//!
//! A connection reports when bytes of an answer wait for the client, when the client took some, and when none wait any more. An
//! answer that waits for the first time is registered here, and so is an upload (`upstream/flow.rs`) that waits for its client; one task
//! per worker then visits all that are registered every 250 ms. It ends when none is left. An answer that never waits costs nothing
//! but its allocation. The decisions are made by `send_pace.rs` and, for places that wait, by the actors
//! (`client_wait.rs`); this module owns the registry, the task and the wake-up. It must not close connections: the
//! connection polls [`SendProgress::poll_cut`].

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tidegate_actors::clock;

use crate::buffers::SocketBuffers;
use crate::http::client_wait::{ClientWait, Occupancy};
pub(crate) use crate::http::send_pace::CutReason;
use crate::http::send_pace::{SendLimits, SendPace};
use crate::worker::Shared;

/// How often the registered answers are visited.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);

/// What waits for a client.
pub(crate) trait Sampled {
    /// Accounts for the time since the last visit. False if no further visit is needed.
    fn sample(&self, visit: &Sample<'_>) -> bool;
}

/// One visit.
pub(crate) struct Sample<'a> {
    /// Since the last one.
    pub(crate) elapsed: Duration,
    pub(crate) now: Instant,
    pub(crate) shared: &'a Shared,
    limits: &'a SendLimits,
}

/// What waits for its client on one worker thread.
pub(crate) struct SendWatch {
    shared: Arc<Shared>,
    limits: SendLimits,
    registered: RefCell<Vec<Weak<dyn Sampled>>>,
    is_running: Cell<bool>,
}

/// How the client of one answer takes it.
pub(crate) struct SendProgress {
    watch: Weak<SendWatch>,
    pace: Cell<SendPace>,
    /// Unsent bytes wait for the client.
    is_waiting: Cell<bool>,
    /// It did not wait all the time since the last visit.
    is_interrupted: Cell<bool>,
    /// What the client took since the last visit.
    taken_bytes: Cell<u64>,
    is_registered: Cell<bool>,
    /// Memory is exhausted and the answer is paused: nothing is counted.
    is_paused: Cell<bool>,
    wait: RefCell<ClientWait>,
    /// The client's socket; none where the connection has none.
    socket: Option<Rc<SocketBuffers>>,
    /// What the answer holds until its last byte.
    occupancy: Cell<Option<Occupancy>>,
    cut: Cell<Option<CutReason>>,
    connection: RefCell<Option<Waker>>,
}

impl SendWatch {
    pub(crate) fn new(shared: &Arc<Shared>) -> Rc<Self> {
        let (limits, shared) = (SendLimits::of(&shared.config.server), Arc::clone(shared));
        Rc::new(Self { shared, limits, registered: RefCell::default(), is_running: Cell::new(false) })
    }

    /// For one answer.
    pub(crate) fn progress(self: &Rc<Self>, socket: Option<&Rc<SocketBuffers>>) -> Rc<SendProgress> {
        Rc::new(SendProgress {
            watch: Rc::downgrade(self),
            pace: Cell::default(),
            is_waiting: Cell::new(false),
            is_interrupted: Cell::new(true),
            taken_bytes: Cell::new(0),
            is_registered: Cell::new(false),
            is_paused: Cell::new(false),
            wait: RefCell::default(),
            socket: socket.cloned(),
            occupancy: Cell::new(None),
            cut: Cell::new(None),
            connection: RefCell::default(),
        })
    }

    /// Has this visited from now on.
    pub(crate) fn register(self: &Rc<Self>, visited: Weak<dyn Sampled>) {
        self.registered.borrow_mut().push(visited);
        if !self.is_running.replace(true) {
            actix_rt::spawn(Rc::clone(self).run());
        }
    }

    async fn run(self: Rc<Self>) {
        let _running = Running(&self.is_running);
        let mut last = clock::now();
        while !self.registered.borrow().is_empty() {
            tokio::time::sleep(SAMPLE_EVERY).await;
            let now = clock::now();
            self.sample_all(last, now);
            last = now;
        }
    }

    fn sample_all(&self, last: Instant, now: Instant) {
        let elapsed = now.saturating_duration_since(last);
        let visit = Sample { elapsed, now, shared: &self.shared, limits: &self.limits };
        // A connection that is woken is polled later, so nothing is registered while this runs.
        self.registered
            .borrow_mut()
            .retain(|visited| visited.upgrade().is_some_and(|visited| visited.sample(&visit)));
    }
}

/// The task runs. Dropped with it, so that the next registration starts another even if this one panicked.
struct Running<'a>(&'a Cell<bool>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl SendProgress {
    /// Unsent bytes of this answer wait for the client: its socket is full, or it grants no window.
    pub(crate) fn set_waiting(self: &Rc<Self>) {
        self.is_waiting.set(true);
        if !self.is_registered.replace(true)
            && let Some(watch) = self.watch.upgrade()
        {
            let visited: Weak<Self> = Rc::downgrade(self);
            watch.register(visited);
        }
    }

    /// The client's socket or window took so many bytes of this answer.
    pub(crate) fn record_sent(&self, bytes: usize) {
        self.taken_bytes.set(self.taken_bytes.get().saturating_add(bytes as u64));
    }

    /// Nothing of this answer waits for the client: the upstream is waited for, or the answer has ended.
    pub(crate) fn set_idle(&self) {
        self.is_waiting.set(false);
        self.is_interrupted.set(true);
    }

    /// Ready when this answer is cut: HTTP/1 then closes the connection without a terminator, HTTP/2 resets the stream.
    pub(crate) fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<CutReason> {
        if let Some(cut) = self.cut.get() {
            return Poll::Ready(cut);
        }
        let mut connection = self.connection.borrow_mut();
        if !connection.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *connection = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Cuts the answer from outside of its own pace.
    pub(crate) fn cut(&self, cut: CutReason) {
        self.cut.set(Some(cut));
        if let Some(connection) = self.connection.take() {
            connection.wake();
        }
    }

    /// Whether the gateway has paused the answer.
    pub(crate) fn set_paused(&self, is_paused: bool) {
        self.is_paused.set(is_paused);
        self.is_interrupted.set(true);
    }

    /// The client's socket.
    pub(crate) fn socket(&self) -> Option<&Rc<SocketBuffers>> {
        self.socket.as_ref()
    }

    /// Why it was cut.
    pub(crate) fn cut_reason(&self) -> Option<CutReason> {
        self.cut.get()
    }

    /// The answer holds these places until they are released.
    pub(crate) fn set_occupancy(&self, places: Option<Occupancy>) {
        self.occupancy.set(places);
    }

    /// The answer's places are given back, whatever of it still waits.
    pub(crate) fn clear_occupancy(&self) {
        self.occupancy.set(None);
        self.wait.borrow_mut().reset();
    }
}

impl Sampled for SendProgress {
    fn sample(&self, visit: &Sample<'_>) -> bool {
        let is_waiting = self.is_waiting.get() && !self.is_paused.get();
        let has_waited = is_waiting && !self.is_interrupted.replace(false);
        let waited = if has_waited { visit.elapsed } else { Duration::ZERO };
        let taken_bytes = self.taken_bytes.take();
        let mut pace = self.pace.get();
        let cut = pace.advance(waited, taken_bytes, visit.limits);
        self.pace.set(pace);
        let mut wait = self.wait.borrow_mut();
        let is_crowding = if is_waiting {
            wait.advance((waited, taken_bytes), self.occupancy.get(), visit.shared, visit.now)
        } else {
            wait.reset();
            false
        };
        let cut = cut.or(is_crowding.then_some(CutReason::Crowding));
        if let Some(cut) = cut {
            self.cut(cut);
        }
        let stays = cut.is_none() && self.is_waiting.get();
        self.is_registered.set(stays);
        stays
    }
}
