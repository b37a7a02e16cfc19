//! The checks of all buckets, off the request path. Those of an unchanged bucket go on over a reload.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::process::Shared;
use crate::upstream::bucket::Bucket;
use crate::upstream::health;

/// The checks of all buckets. They end with it.
#[derive(Default)]
pub(super) struct BucketTasks(Vec<(Arc<Bucket>, Vec<JoinHandle<()>>)>);

impl BucketTasks {
    /// Ends the tasks of buckets that are not in `shared`, and starts those of its new buckets.
    pub(super) fn replace(&mut self, shared: &Shared) {
        let (log, monitor) = (&shared.process.log, &shared.actors.monitor);
        let is_in = |bucket: &Arc<Bucket>| {
            shared.router.get(bucket.id).is_some_and(|current| Arc::ptr_eq(current, bucket))
        };
        for (_, ended) in self.0.extract_if(.., |(bucket, _)| !is_in(bucket)) {
            ended.iter().for_each(JoinHandle::abort);
        }
        let running: HashSet<_> = self.0.iter().map(|(bucket, _)| bucket.id).collect();
        let new = shared.router.buckets().iter().filter(|bucket| !running.contains(&bucket.id));
        self.0.extend(new.map(|bucket| (Arc::clone(bucket), health::start(bucket, log, monitor))));
    }
}

impl Drop for BucketTasks {
    fn drop(&mut self) {
        self.0.iter().flat_map(|(_, tasks)| tasks).for_each(JoinHandle::abort);
    }
}
