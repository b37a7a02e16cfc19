//! Requests to reload, from the admin listener, from signals and from the watched files, on their way to the one task that reloads.

use tidegate_config::Problem;
use tokio::sync::{mpsc, oneshot};

use crate::admin::reload::{ReloadFuture, ReloadReply, ReloadRequests};

/// A request, and where its reply goes.
pub(super) struct ReloadRequest {
    /// Whether the configuration is applied, or only checked.
    pub(super) applies: bool,
    pub(super) reply: oneshot::Sender<ReloadReply>,
}

/// Sends requests. They wait while a reload runs; those that wait together share one reload.
#[derive(Clone)]
pub(super) struct ReloadSender(mpsc::UnboundedSender<ReloadRequest>);

impl ReloadSender {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<ReloadRequest>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    fn send(&self, applies: bool) -> ReloadFuture {
        let (reply, replied) = oneshot::channel();
        // Without a receiver the reply's sender is dropped, which is the error below.
        let _ = self.0.send(ReloadRequest { applies, reply });
        Box::pin(async move {
            replied.await.unwrap_or_else(|_| {
                let message = "the gateway stops and loads no configuration";
                let problems = vec![Problem::of_process("reload", message, None)];
                ReloadReply { problems, ..ReloadReply::default() }
            })
        })
    }

    /// Requests a reload without waiting for its reply. The result is logged.
    pub(super) fn request(&self) {
        drop(self.send(true));
    }
}

impl ReloadRequests for ReloadSender {
    fn reload(&self) -> ReloadFuture {
        self.send(true)
    }

    fn preview(&self) -> ReloadFuture {
        self.send(false)
    }
}
