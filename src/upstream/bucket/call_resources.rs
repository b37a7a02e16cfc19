//! What calls use of their worker thread.

use std::rc::Rc;

use tidegate_actors::{Action, BucketId, IdMap, MonitorHandle};

use crate::buffers::Transfers;
use crate::upstream::bucket::Bucket;
use crate::upstream::bucket::client::UpstreamClient;

/// The clients and the large bodies of one worker thread, and the monitor.
#[derive(Clone, Copy)]
pub(crate) struct CallResources<'a> {
    /// The clients, by bucket.
    pub(crate) clients: &'a IdMap<BucketId, Rc<UpstreamClient>>,
    pub(crate) transfers: &'a Rc<Transfers>,
    pub(crate) monitor: &'a MonitorHandle,
}

impl<'a> CallResources<'a> {
    pub(crate) fn client(self, bucket: &Bucket) -> &'a UpstreamClient {
        &self.clients[bucket.id]
    }

    /// Whether a failed attempt may be repeated: not while the action `retries` is in force. Counts what the action prevents.
    pub(crate) fn may_repeat(self) -> bool {
        !self.monitor.actions().applies(Action::Retries)
    }
}
