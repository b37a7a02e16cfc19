//! Waiting for an actor's answer, but not for ever, without a timer per question.
//!
//! A question is answered within microseconds or, when a thread stands still, hardly at all. A timer of the runtime for
//! each costs more than the answer does, so the questions that wait on a thread are kept in a small table, and one
//! task per thread looks through it every 50 ms while there are any. The price is precision: a question may wait
//! that much longer than it was willing to.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::clock;

const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The deadline passed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AskTimeout;

#[derive(Default)]
struct PendingAsks {
    entries: Vec<Option<PendingAsk>>,
    free: Vec<usize>,
    is_timer_running: bool,
}

struct PendingAsk {
    deadline: Instant,
    waker: Waker,
    expired: bool,
}

thread_local! {
    static PENDING_ASKS: RefCell<PendingAsks> = RefCell::default();
}

/// Waits for `answer` until about `deadline`.
pub(crate) fn wait<F: Future + Unpin>(answer: F, deadline: Instant) -> PendingAnswer<F> {
    PendingAnswer { answer, deadline, entry: None }
}

/// A question that waits.
pub(crate) struct PendingAnswer<F> {
    answer: F,
    deadline: Instant,
    entry: Option<usize>,
}

impl<F: Future + Unpin> Future for PendingAnswer<F> {
    type Output = Result<F::Output, AskTimeout>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Poll::Ready(answer) = Pin::new(&mut this.answer).poll(cx) {
            return Poll::Ready(Ok(answer));
        }
        let expired = PENDING_ASKS.with_borrow_mut(|waiting| match this.entry {
            None => {
                this.entry = Some(waiting.insert(this.deadline, cx.waker()));
                false
            }
            Some(entry) => waiting.poll_expired(entry, cx.waker()),
        });
        if expired { Poll::Ready(Err(AskTimeout)) } else { Poll::Pending }
    }
}

impl<F> Drop for PendingAnswer<F> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry {
            PENDING_ASKS.with_borrow_mut(|waiting| waiting.remove(entry));
        }
    }
}

impl PendingAsks {
    fn insert(&mut self, deadline: Instant, waker: &Waker) -> usize {
        if !self.is_timer_running {
            self.is_timer_running = true;
            actix_rt::spawn(expire_overdue());
        }
        let entry = Some(PendingAsk { deadline, waker: waker.clone(), expired: false });
        if let Some(at) = self.free.pop() {
            self.entries[at] = entry;
            return at;
        }
        self.entries.push(entry);
        self.entries.len() - 1
    }

    /// Whether the deadline has passed.
    fn poll_expired(&mut self, at: usize, waker: &Waker) -> bool {
        let Some(entry) = &mut self.entries[at] else { return false };
        entry.waker.clone_from(waker);
        entry.expired
    }

    fn remove(&mut self, at: usize) {
        self.entries[at] = None;
        self.free.push(at);
    }
}

/// Wakes the questions whose deadline has passed, for as long as any wait.
async fn expire_overdue() {
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        let now = clock::now();
        let go_on = PENDING_ASKS.with_borrow_mut(|waiting| {
            for entry in waiting.entries.iter_mut().flatten().filter(|entry| entry.deadline <= now) {
                entry.expired = true;
                entry.waker.wake_by_ref();
            }
            waiting.is_timer_running = waiting.free.len() < waiting.entries.len();
            if !waiting.is_timer_running {
                *waiting = PendingAsks::default();
            }
            waiting.is_timer_running
        });
        if !go_on {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S2, S7: a question to a thread that stands still ends, and leaves nothing behind
    #[actix_rt::test]
    async fn an_ask_without_an_answer_times_out() {
        tokio::time::pause();
        let began = clock::now();
        let nobody = std::future::pending::<()>();
        let asked = wait(Box::pin(nobody), began + Duration::from_secs(1)).await;
        assert_eq!(asked, Err(AskTimeout));
        let took = clock::now() - began;
        assert!(took >= Duration::from_secs(1) && took <= Duration::from_millis(1100), "{took:?}");
        assert_eq!(wait(Box::pin(async { 7 }), began).await, Ok(7), "an answer wins over a deadline");
        tokio::time::sleep(CHECK_INTERVAL * 3).await;
        assert!(PENDING_ASKS.with_borrow(|waiting| waiting.entries.is_empty() && !waiting.is_timer_running));
    }
}
