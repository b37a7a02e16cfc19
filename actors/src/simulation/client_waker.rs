//! Wakes a simulated client, and records when its answer was decided.
//!
//! A client sees its answer when the scheduler polls it, but a limit applies at the time of the decision. So a wake-up
//! from an actor's step records the time of that step.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Wake;

thread_local! {
    static STEP_TIME: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Runs `step` as an actor's step at this time.
pub(super) fn during_step<T>(now: u64, step: impl FnOnce() -> T) -> T {
    STEP_TIME.set(Some(now));
    let done = step();
    STEP_TIME.set(None);
    done
}

/// One client's waker.
#[derive(Debug)]
pub(super) struct ClientWaker {
    woken: AtomicBool,
    answered: AtomicU64,
}

impl ClientWaker {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { woken: AtomicBool::new(true), answered: AtomicU64::new(0) })
    }

    pub(super) fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Relaxed)
    }

    pub(super) fn clear(&self) {
        self.woken.store(false, Ordering::Relaxed);
    }

    /// Time at which an answer was decided that was requested at `asked` and seen at `now`.
    pub(super) fn decided_at(&self, asked: u64, now: u64) -> u64 {
        let answered = self.answered.load(Ordering::Relaxed);
        if answered >= asked { answered } else { now }
    }
}

impl Wake for ClientWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Relaxed);
        if let Some(now) = STEP_TIME.get() {
            self.answered.store(now, Ordering::Relaxed);
        }
    }
}
