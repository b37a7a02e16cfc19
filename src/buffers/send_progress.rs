//! Samples the clients of one worker thread that responses and uploads wait for, and cuts the slow ones (T4, V10).
//!
//! A connection reports when bytes of a response wait for the client, when the client has read some, and when none
//! wait any more. A response that waits for the first time is registered here, and so is an upload
//! (`upstream/body/upload_progress.rs`) that waits for its client. One task per worker then samples all registered ones
//! every 250 ms; it ends when none is left. A response that never waits costs only its allocation. `send_pace.rs`
//! decides on slow responses, the actors (`client_wait.rs`) on occupied capacity. This module owns the registry, the
//! task and the wake-up. It must not close connections: the connection polls [`SendProgress::poll_cut`].

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tidegate_actors::clock;

use crate::buffers::SocketBuffers;
use crate::buffers::client_wait::{ClientWait, Occupancy, WaitReceivers};
use crate::buffers::cut::Cut;
pub(crate) use crate::buffers::cut::CutReason;
use crate::buffers::pipe::PipeHandover;
pub(crate) use crate::buffers::send_pace::SendLimits;
use crate::buffers::send_pace::SendPace;
use crate::buffers::transfer_decisions::TransferDecisions;
use crate::decisions::decision::Figures;
use crate::interim::InterimResponses;

/// The time between two samples.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);

/// A response or upload that waits for a client.
pub(crate) trait Sampled {
    /// Processes the time since the last sample. False if no further sample is needed.
    fn sample(&self, sample: &Sample<'_>) -> bool;
}

/// One sample.
pub(crate) struct Sample<'a> {
    /// The time since the last sample.
    pub(crate) elapsed: Duration,
    pub(crate) now: Instant,
    pub(crate) receivers: &'a WaitReceivers,
    limits: &'a SendLimits,
}

/// The responses and uploads of one worker thread that wait for their clients.
pub(crate) struct SendWatch {
    receivers: RefCell<WaitReceivers>,
    limits: Cell<SendLimits>,
    registered: RefCell<Vec<Weak<dyn Sampled>>>,
    is_running: Cell<bool>,
}

/// The progress of one response's client.
pub(crate) struct SendProgress {
    watch: Weak<SendWatch>,
    pace: Cell<SendPace>,
    /// Whether unsent bytes wait for the client.
    is_waiting: Cell<bool>,
    /// Whether there was a time without waiting since the last sample.
    is_interrupted: Cell<bool>,
    /// The bytes that the client read since the last sample.
    read_bytes: Cell<u64>,
    is_registered: Cell<bool>,
    /// Whether the response is paused because memory is exhausted; then nothing is counted.
    is_paused: Cell<bool>,
    wait: RefCell<ClientWait>,
    /// The client's socket, if the connection has one.
    socket: Option<Rc<SocketBuffers>>,
    /// The capacity that the response occupies until its last byte.
    occupancy: Cell<Option<Occupancy>>,
    cut: Cell<Option<CutReason>>,
    /// What decided the cut. Boxed, because few responses are cut.
    cut_figures: RefCell<Option<Box<Figures>>>,
    /// What the actions on transfers decided about the response, if it is large.
    decisions: RefCell<Option<Rc<TransferDecisions>>>,
    connection: RefCell<Option<Waker>>,
    /// Interim responses that are sent before the response.
    pub(crate) interim: InterimResponses,
    /// Bytes of the response that the connection gets in a pipe.
    pub(crate) pipe: PipeHandover,
}

impl SendWatch {
    pub(crate) fn new(limits: SendLimits, receivers: WaitReceivers) -> Rc<Self> {
        Rc::new(Self {
            receivers: RefCell::new(receivers),
            limits: Cell::new(limits),
            registered: RefCell::default(),
            is_running: Cell::new(false),
        })
    }

    /// Uses the limits and the actors of another configuration from the next sample on.
    pub(crate) fn configure(&self, limits: SendLimits, receivers: WaitReceivers) {
        self.limits.set(limits);
        self.receivers.replace(receivers);
    }

    /// The progress of a new response.
    pub(crate) fn progress(self: &Rc<Self>, socket: Option<&Rc<SocketBuffers>>) -> Rc<SendProgress> {
        Rc::new(SendProgress {
            watch: Rc::downgrade(self),
            pace: Cell::default(),
            is_waiting: Cell::new(false),
            is_interrupted: Cell::new(true),
            read_bytes: Cell::new(0),
            is_registered: Cell::new(false),
            is_paused: Cell::new(false),
            wait: RefCell::default(),
            socket: socket.cloned(),
            occupancy: Cell::new(None),
            cut: Cell::new(None),
            cut_figures: RefCell::default(),
            decisions: RefCell::default(),
            connection: RefCell::default(),
            interim: InterimResponses::default(),
            pipe: PipeHandover::default(),
        })
    }

    /// Registers an object for sampling.
    pub(crate) fn register(self: &Rc<Self>, sampled: Weak<dyn Sampled>) {
        self.registered.borrow_mut().push(sampled);
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
        let (receivers, limits) = (self.receivers.borrow(), self.limits.get());
        let sample = Sample { elapsed, now, receivers: &receivers, limits: &limits };
        // A woken connection is polled later, so nothing is registered while this runs.
        self.registered
            .borrow_mut()
            .retain(|sampled| sampled.upgrade().is_some_and(|sampled| sampled.sample(&sample)));
    }
}

/// Marks the task as running. Dropped with it, so that the next registration starts another even if this one
/// panicked.
struct Running<'a>(&'a Cell<bool>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl SendProgress {
    /// Reports that unsent bytes of this response wait for the client: its socket is full, or it grants no window.
    pub(crate) fn set_waiting(self: &Rc<Self>) {
        self.is_waiting.set(true);
        if !self.is_registered.replace(true)
            && let Some(watch) = self.watch.upgrade()
        {
            let sampled: Weak<Self> = Rc::downgrade(self);
            watch.register(sampled);
        }
    }

    /// Records bytes of this response that the client's socket or window accepted.
    pub(crate) fn record_sent(&self, bytes: usize) {
        self.read_bytes.set(self.read_bytes.get().saturating_add(bytes as u64));
    }

    /// Reports that no byte of this response waits for the client: it waits for the upstream, or has ended.
    pub(crate) fn set_idle(&self) {
        self.is_waiting.set(false);
        self.is_interrupted.set(true);
    }

    /// Whether unsent bytes of this response wait for the client.
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_waiting.get()
    }

    /// Ready when this response is cut: HTTP/1 then closes the connection without a terminator, HTTP/2 resets the
    /// stream.
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

    /// Cuts the response because of these figures.
    pub(crate) fn cut_by(&self, Cut { reason, figures }: Cut) {
        *self.cut_figures.borrow_mut() = Some(Box::new(figures));
        self.cut(reason);
    }

    /// Cuts the response for a reason without figures.
    pub(crate) fn cut(&self, cut: CutReason) {
        self.cut.set(Some(cut));
        if let Some(connection) = self.connection.take() {
            connection.wake();
        }
    }

    /// Sets whether the gateway has paused the response.
    pub(crate) fn set_paused(&self, is_paused: bool) {
        self.is_paused.set(is_paused);
        self.is_interrupted.set(true);
    }

    /// The client's socket.
    pub(crate) fn socket(&self) -> Option<&Rc<SocketBuffers>> {
        self.socket.as_ref()
    }

    /// Why the response was cut.
    pub(crate) fn cut_reason(&self) -> Option<CutReason> {
        self.cut.get()
    }

    /// What decided the cut.
    pub(crate) fn cut_figures(&self) -> Option<Figures> {
        self.cut_figures.borrow().as_deref().copied()
    }

    pub(super) fn set_decisions(&self, decisions: &Rc<TransferDecisions>) {
        *self.decisions.borrow_mut() = Some(Rc::clone(decisions));
    }

    /// What the actions on transfers decided about the response; none while it is small.
    pub(crate) fn decisions(&self) -> Option<Rc<TransferDecisions>> {
        self.decisions.borrow().clone()
    }

    /// Sets the capacity that the response occupies until it is released.
    pub(crate) fn set_occupancy(&self, occupancy: Option<Occupancy>) {
        self.occupancy.set(occupancy);
    }

    /// Records that the response's slot and permit are released, even if bytes of it still wait.
    pub(crate) fn clear_occupancy(&self) {
        self.occupancy.set(None);
        self.wait.borrow_mut().reset();
    }
}

impl Sampled for SendProgress {
    fn sample(&self, sample: &Sample<'_>) -> bool {
        let is_waiting = self.is_waiting.get() && !self.is_paused.get();
        let has_waited = is_waiting && !self.is_interrupted.replace(false);
        let waited = if has_waited { sample.elapsed } else { Duration::ZERO };
        let read_bytes = self.read_bytes.take();
        let mut pace = self.pace.get();
        let cut = pace.advance(waited, read_bytes, sample.limits);
        self.pace.set(pace);
        let mut wait = self.wait.borrow_mut();
        let crowding = if is_waiting {
            wait.advance((waited, read_bytes), self.occupancy.get(), sample.receivers, sample.now)
        } else {
            wait.reset();
            None
        };
        let cut = cut.or(crowding.map(Cut::from));
        if let Some(cut) = cut {
            self.cut_by(cut);
        }
        let remains = cut.is_none() && self.is_waiting.get();
        self.is_registered.set(remains);
        remains
    }
}
