//! Requests to upgrade, from the admin listener and from signals, on their way to the one task that upgrades.

use tokio::sync::{mpsc, oneshot};

use crate::admin::upgrade::{UpgradeFuture, UpgradeReply, UpgradeRequests};

/// A request: where its reply goes.
pub(super) type UpgradeRequest = oneshot::Sender<UpgradeReply>;

/// Sends requests. One that comes while an upgrade runs is refused.
#[derive(Clone)]
pub(super) struct UpgradeSender(mpsc::UnboundedSender<UpgradeRequest>);

impl UpgradeSender {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<UpgradeRequest>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }
}

impl UpgradeRequests for UpgradeSender {
    fn upgrade(&self) -> UpgradeFuture {
        let (reply, replied) = oneshot::channel();
        // Without a receiver the reply's sender is dropped, which is the error below.
        let _ = self.0.send(reply);
        Box::pin(async move {
            let ended = || UpgradeReply::Refused("the gateway stops and starts no successor".to_owned());
            replied.await.unwrap_or_else(|_| ended())
        })
    }
}

/// Requests upgrades.
#[derive(Clone)]
pub struct Upgrade(pub(super) UpgradeSender);

impl Upgrade {
    /// Requests an upgrade without waiting for its reply. The result is logged.
    pub fn request(&self) {
        drop(self.0.upgrade());
    }
}
