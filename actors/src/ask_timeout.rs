//! Waiting for an actor's reply with a deadline, without one runtime timer per ask.
//!
//! A reply takes microseconds, or does not come at all because a thread is blocked. A runtime timer for each ask
//! costs more than the reply. So each thread keeps its pending asks in a small table, and one task per thread checks
//! the table every 50 ms while it is not empty. The price is precision: an ask may wait up to 50 ms beyond its
//! deadline.

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

/// A pending ask.
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
        let expired = PENDING_ASKS.with_borrow_mut(|pending| match this.entry {
            None => {
                this.entry = Some(pending.insert(this.deadline, cx.waker()));
                false
            }
            Some(entry) => pending.poll_expired(entry, cx.waker()),
        });
        if expired { Poll::Ready(Err(AskTimeout)) } else { Poll::Pending }
    }
}

impl<F> Drop for PendingAnswer<F> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry {
            PENDING_ASKS.with_borrow_mut(|pending| pending.remove(entry));
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

    /// Whether the deadline has passed; otherwise stores the waker.
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

/// Wakes the asks with a deadline in the past, until no ask is pending.
async fn expire_overdue() {
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        let now = clock::now();
        let is_needed = PENDING_ASKS.with_borrow_mut(|pending| {
            for entry in pending.entries.iter_mut().flatten().filter(|entry| entry.deadline <= now) {
                entry.expired = true;
                entry.waker.wake_by_ref();
            }
            pending.is_timer_running = pending.free.len() < pending.entries.len();
            if !pending.is_timer_running {
                *pending = PendingAsks::default();
            }
            pending.is_timer_running
        });
        if !is_needed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S2, S7: an ask of a blocked thread ends, and leaves no entry behind
    #[actix_rt::test]
    async fn an_ask_without_an_answer_times_out() {
        tokio::time::pause();
        let began = clock::now();
        let no_reply = std::future::pending::<()>();
        let asked = wait(Box::pin(no_reply), began + Duration::from_secs(1)).await;
        assert_eq!(asked, Err(AskTimeout));
        let took = clock::now() - began;
        assert!(took >= Duration::from_secs(1) && took <= Duration::from_millis(1100), "{took:?}");
        assert_eq!(
            wait(Box::pin(async { 7 }), began).await,
            Ok(7),
            "a reply takes precedence over the deadline"
        );
        tokio::time::sleep(CHECK_INTERVAL * 3).await;
        assert!(PENDING_ASKS.with_borrow(|pending| pending.entries.is_empty() && !pending.is_timer_running));
    }
}
