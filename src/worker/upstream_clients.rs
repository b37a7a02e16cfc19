//! The clients of upstreams of one worker. A replaced worker gives them to a task of its thread, which drops them in turns: the drop of
//! thousands of connection pools at the end of a request would delay the requests behind it.

use std::mem::take;
use std::rc::Rc;

use tidegate_actors::{BucketId, IdMap};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::slot::pause_after;
use crate::upstream::bucket::client::UpstreamClient;

pub(super) type ClientsByBucket = IdMap<BucketId, Rc<UpstreamClient>>;

/// The clients of one worker.
pub(super) struct UpstreamClients {
    by_bucket: ClientsByBucket,
    dropped: UnboundedSender<ClientsByBucket>,
}

impl UpstreamClients {
    /// Those of the first worker of a thread. Must be called on that thread.
    pub(super) fn first(by_bucket: ClientsByBucket) -> Self {
        let (dropped, receiver) = unbounded_channel();
        actix_rt::spawn(drop_in_turns(receiver));
        Self { by_bucket, dropped }
    }

    /// Those of the next worker of the thread.
    pub(super) fn next(&self, by_bucket: ClientsByBucket) -> Self {
        Self { by_bucket, dropped: self.dropped.clone() }
    }

    pub(super) fn by_bucket(&self) -> &ClientsByBucket {
        &self.by_bucket
    }
}

impl Drop for UpstreamClients {
    fn drop(&mut self) {
        // The task is gone once the thread ends. Then the clients are dropped here.
        let _ = self.dropped.send(take(&mut self.by_bucket));
    }
}

/// Drops the clients of replaced workers, with requests in between. Returns when the last worker of the thread is gone.
async fn drop_in_turns(mut dropped: UnboundedReceiver<ClientsByBucket>) {
    while let Some(clients) = dropped.recv().await {
        for (number, client) in clients.into_values().enumerate() {
            drop(client);
            pause_after(number + 1).await;
        }
    }
}
