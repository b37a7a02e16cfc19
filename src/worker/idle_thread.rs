//! Notices when an idle thread gets a request or a connection.

use std::cell::Cell;

use tokio::sync::Notify;

/// Whether a task of the thread waits for the end of its idle time.
#[derive(Debug, Default)]
pub(crate) struct IdleThread {
    is_awaited: Cell<bool>,
    ended: Notify,
}

impl IdleThread {
    /// Ends the idle time: a request or a connection begins.
    #[inline]
    pub(crate) fn end(&self) {
        if self.is_awaited.get() {
            self.is_awaited.set(false);
            self.ended.notify_one();
        }
    }

    /// Waits until a request or a connection begins. Only one task may wait.
    pub(crate) async fn ended(&self) {
        self.is_awaited.set(true);
        self.ended.notified().await;
    }
}
