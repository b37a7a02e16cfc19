//! The open requests of one connection: each runs in a task of its own, so a panic ends one stream and not the connection.

use std::cell::Cell;
use std::rc::Rc;

use tidegate_actors::clock;
use tokio::sync::Notify;

use super::exchange::Exchange;
use crate::listener::application::Application;
use crate::server::idle_connections::IdleSlot;

/// Counts the open requests of a connection.
#[derive(Default)]
pub(super) struct OpenStreams {
    open: Cell<usize>,
    idle: Notify,
}

impl OpenStreams {
    /// Whether no request is open.
    pub(super) fn is_empty(&self) -> bool {
        self.open.get() == 0
    }

    /// Returns when the last open request has ended.
    pub(super) async fn idle(&self) {
        self.idle.notified().await;
    }

    /// Marks the connection as idle if no request is open.
    pub(super) fn report_idle(&self, slot: &IdleSlot) {
        if self.is_empty() {
            slot.set_idle(clock::now());
        }
    }

    /// Runs a request in its own task.
    pub(super) fn spawn<A>(self: &Rc<Self>, exchange: Exchange, application: &Rc<A>)
    where
        A: Application,
    {
        let (stream, application) = (self.open(), Rc::clone(application));
        actix_rt::spawn(async move {
            exchange.run(application).await;
            drop(stream);
        });
    }

    fn open(self: &Rc<Self>) -> OpenStream {
        self.open.set(self.open.get() + 1);
        OpenStream(Rc::clone(self))
    }
}

/// An open request.
struct OpenStream(Rc<OpenStreams>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        let left = self.0.open.get() - 1;
        self.0.open.set(left);
        if left == 0 {
            self.0.idle.notify_one();
        }
    }
}
