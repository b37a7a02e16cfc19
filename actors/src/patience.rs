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

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The deadline passed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfPatience;

#[derive(Default)]
struct Waiting {
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    watched: bool,
}

struct Entry {
    deadline: Instant,
    waker: Waker,
    expired: bool,
}

thread_local! {
    static WAITING: RefCell<Waiting> = RefCell::default();
}

/// Waits for `answer` until about `deadline`.
pub(crate) fn wait<F: Future + Unpin>(answer: F, deadline: Instant) -> Patient<F> {
    Patient { answer, deadline, entry: None }
}

/// A question that waits.
pub(crate) struct Patient<F> {
    answer: F,
    deadline: Instant,
    entry: Option<usize>,
}

impl<F: Future + Unpin> Future for Patient<F> {
    type Output = Result<F::Output, OutOfPatience>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Poll::Ready(answer) = Pin::new(&mut this.answer).poll(cx) {
            return Poll::Ready(Ok(answer));
        }
        let expired = WAITING.with_borrow_mut(|waiting| match this.entry {
            None => {
                this.entry = Some(waiting.enter(this.deadline, cx.waker()));
                false
            }
            Some(entry) => waiting.look(entry, cx.waker()),
        });
        if expired { Poll::Ready(Err(OutOfPatience)) } else { Poll::Pending }
    }
}

impl<F> Drop for Patient<F> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry {
            WAITING.with_borrow_mut(|waiting| waiting.leave(entry));
        }
    }
}

impl Waiting {
    fn enter(&mut self, deadline: Instant, waker: &Waker) -> usize {
        if !self.watched {
            self.watched = true;
            actix_rt::spawn(watch());
        }
        let entry = Some(Entry { deadline, waker: waker.clone(), expired: false });
        if let Some(at) = self.free.pop() {
            self.entries[at] = entry;
            return at;
        }
        self.entries.push(entry);
        self.entries.len() - 1
    }

    /// Whether the deadline has passed.
    fn look(&mut self, at: usize, waker: &Waker) -> bool {
        let Some(entry) = &mut self.entries[at] else { return false };
        entry.waker.clone_from(waker);
        entry.expired
    }

    fn leave(&mut self, at: usize) {
        self.entries[at] = None;
        self.free.push(at);
    }
}

/// Wakes the questions whose deadline has passed, for as long as any wait.
async fn watch() {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = clock::now();
        let go_on = WAITING.with_borrow_mut(|waiting| {
            for entry in waiting.entries.iter_mut().flatten().filter(|entry| entry.deadline <= now) {
                entry.expired = true;
                entry.waker.wake_by_ref();
            }
            waiting.watched = waiting.free.len() < waiting.entries.len();
            if !waiting.watched {
                *waiting = Waiting::default();
            }
            waiting.watched
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
    async fn a_question_without_an_answer_ends() {
        tokio::time::pause();
        let began = clock::now();
        let nobody = std::future::pending::<()>();
        let asked = wait(Box::pin(nobody), began + Duration::from_secs(1)).await;
        assert_eq!(asked, Err(OutOfPatience));
        let took = clock::now() - began;
        assert!(took >= Duration::from_secs(1) && took <= Duration::from_millis(1100), "{took:?}");
        assert_eq!(wait(Box::pin(async { 7 }), began).await, Ok(7), "an answer wins over a deadline");
        tokio::time::sleep(LOOK_EVERY * 3).await;
        assert!(WAITING.with_borrow(|waiting| waiting.entries.is_empty() && !waiting.watched));
    }
}
