//! The one timer of a client's connection. It is moved only when it fires too early or is due too late.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tidegate_actors::clock;
use tokio::time::{Sleep, sleep_until};

/// The connection's one timer.
pub(super) struct ConnectionTimer {
    sleep: Pin<Box<Sleep>>,
    pub(super) armed: Instant,
}

impl ConnectionTimer {
    pub(super) fn new(armed: Instant) -> Self {
        Self { sleep: Box::pin(sleep_until(armed.into())), armed }
    }

    /// Ready at `due`.
    pub(super) fn poll(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if due < self.armed {
            self.arm(due);
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            if due <= clock::now() {
                return Poll::Ready(());
            }
            self.arm(due);
        }
        Poll::Pending
    }

    fn arm(&mut self, due: Instant) {
        self.sleep.as_mut().reset(due.into());
        self.armed = due;
    }
}
