//! How a simulated client is woken, and when the answer it was woken for was decided.
//!
//! A client looks at its answer whenever the scheduler lets it; a limit binds at the moment of the decision. So whoever
//! wakes a client from within an actor's turn notes the time of that turn.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Wake;

thread_local! {
    static STEP_TIME: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Marks all that happens in `turn` as an actor's answer at this time.
pub(super) fn during_step<T>(now: u64, turn: impl FnOnce() -> T) -> T {
    STEP_TIME.set(Some(now));
    let done = turn();
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

    /// When an answer was decided that was asked for at `asked` and is seen at `now`.
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
