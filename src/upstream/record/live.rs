//! The request among those under way, which the progress of a drain counts.

use tidegate_actors::{BucketId, EndpointId};

use crate::upstream::bucket::Bucket;
use crate::upstream::record::Record;

impl Record {
    /// The bucket does not drain, so the request counts as one that it has left until it ends.
    pub(crate) fn set_live(&mut self, bucket: BucketId) {
        if self.live.is_none() {
            self.live = Some(self.host.live_requests().begin(bucket, self.started));
        }
    }

    /// The endpoint of the attempt that begins.
    pub(crate) fn set_endpoint(&mut self, bucket: &Bucket, endpoint: EndpointId) {
        self.endpoint = Some(endpoint.0);
        if let Some(live) = self.live {
            self.host.live_requests().set_endpoint(live, bucket.pool.drain_number(endpoint));
        }
    }
}
