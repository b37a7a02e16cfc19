//! How the clients of one worker thread take their answers: the task that cuts those that do not (T4, V10).
//!
//! A connection reports when bytes of an answer wait for the client, when the client took some, and when none wait any more. An
//! answer that waits for the first time is registered here; one task per worker then visits all registered answers every 250 ms. It
//! ends when none is left. An answer that never waits costs nothing but its allocation. The decision is `send_pace.rs`; this module
//! owns the registry, the task and the wake-up. It must not close connections: the connection polls [`SendProgress::poll_cut`].

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tidegate_actors::clock;

pub(crate) use crate::http::send_pace::Cut;
use crate::http::send_pace::{SendLimits, SendPace};
use crate::worker::Shared;

/// How often the registered answers are visited.
const VISIT_EVERY: Duration = Duration::from_millis(250);

/// The answers of one worker thread that wait for their clients.
pub(crate) struct SendWatch {
    limits: SendLimits,
    registered: RefCell<Vec<Weak<SendProgress>>>,
    is_running: Cell<bool>,
}

/// How the client of one answer takes it.
pub(crate) struct SendProgress {
    watch: Weak<SendWatch>,
    pace: Cell<SendPace>,
    /// Unsent bytes wait for the client.
    waits: Cell<bool>,
    /// It did not wait all the time since the last visit.
    is_interrupted: Cell<bool>,
    /// What the client took since the last visit.
    taken_bytes: Cell<u64>,
    is_registered: Cell<bool>,
    cut: Cell<Option<Cut>>,
    connection: RefCell<Option<Waker>>,
}

impl SendWatch {
    pub(crate) fn new(shared: &Arc<Shared>) -> Rc<Self> {
        let limits = SendLimits::of(&shared.config.server);
        Rc::new(Self { limits, registered: RefCell::default(), is_running: Cell::new(false) })
    }

    /// For one answer.
    pub(crate) fn progress(self: &Rc<Self>) -> Rc<SendProgress> {
        Rc::new(SendProgress {
            watch: Rc::downgrade(self),
            pace: Cell::default(),
            waits: Cell::new(false),
            is_interrupted: Cell::new(true),
            taken_bytes: Cell::new(0),
            is_registered: Cell::new(false),
            cut: Cell::new(None),
            connection: RefCell::default(),
        })
    }

    fn register(self: &Rc<Self>, progress: &Rc<SendProgress>) {
        self.registered.borrow_mut().push(Rc::downgrade(progress));
        if !self.is_running.replace(true) {
            actix_rt::spawn(Rc::clone(self).run());
        }
    }

    async fn run(self: Rc<Self>) {
        let mut last = clock::now();
        while !self.registered.borrow().is_empty() {
            tokio::time::sleep(VISIT_EVERY).await;
            let now = clock::now();
            self.visit(last, now);
            last = now;
        }
        self.is_running.set(false);
    }

    fn visit(&self, last: Instant, now: Instant) {
        let passed = now.saturating_duration_since(last);
        // A connection that is woken is polled later, so nothing is registered while this runs.
        self.registered.borrow_mut().retain(|progress| {
            progress.upgrade().is_some_and(|progress| progress.visit(passed, &self.limits))
        });
    }
}

impl SendProgress {
    /// Unsent bytes of this answer wait for the client: its socket is full, or it grants no window.
    pub(crate) fn waits(self: &Rc<Self>) {
        self.waits.set(true);
        if !self.is_registered.replace(true)
            && let Some(watch) = self.watch.upgrade()
        {
            watch.register(self);
        }
    }

    /// The client's socket or window took so many bytes of this answer.
    pub(crate) fn sent(&self, bytes: usize) {
        self.taken_bytes.set(self.taken_bytes.get().saturating_add(bytes as u64));
    }

    /// Nothing of this answer waits for the client: the upstream is waited for, or the answer has ended.
    pub(crate) fn idle(&self) {
        self.waits.set(false);
        self.is_interrupted.set(true);
    }

    /// Ready when this answer is cut: HTTP/1 then closes the connection without a terminator, HTTP/2 resets the stream.
    pub(crate) fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<Cut> {
        if let Some(cut) = self.cut.get() {
            return Poll::Ready(cut);
        }
        let mut connection = self.connection.borrow_mut();
        if !connection.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *connection = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Why it was cut.
    pub(crate) fn cut(&self) -> Option<Cut> {
        self.cut.get()
    }

    /// Accounts for the time since the last visit. False if this answer need not be visited any more.
    fn visit(&self, passed: Duration, limits: &SendLimits) -> bool {
        let has_waited = self.waits.get() && !self.is_interrupted.replace(false);
        let waited = if has_waited { passed } else { Duration::ZERO };
        let mut pace = self.pace.get();
        let cut = pace.advance(waited, self.taken_bytes.take(), limits);
        self.pace.set(pace);
        if cut.is_some() {
            self.cut.set(cut);
            if let Some(connection) = self.connection.take() {
                connection.wake();
            }
        }
        let stays = cut.is_none() && self.waits.get();
        self.is_registered.set(stays);
        stays
    }
}
