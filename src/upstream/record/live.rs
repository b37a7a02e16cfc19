//! Updates the slot of the request in the thread's table of live requests: bucket, endpoint, stream.

use tidegate_actors::{BucketId, EndpointId};

use crate::upstream::bucket::Bucket;
use crate::upstream::record::Record;

impl Record {
    /// Counts the request for the bucket, which did not drain when it was checked.
    pub(crate) fn set_live(&self, bucket: BucketId) {
        if let Some(live) = self.live {
            self.host.live_requests().set_bucket(live, bucket);
        }
    }

    /// The endpoint of the attempt that begins.
    pub(crate) fn set_endpoint(&mut self, bucket: &Bucket, endpoint: EndpointId) {
        self.endpoint = Some(endpoint.0);
        if let Some(live) = self.live {
            self.host.live_requests().set_endpoint(live, bucket.pool.drain_number(endpoint));
        }
    }

    /// The answer has begun and is a stream.
    pub(crate) fn mark_stream(&self) {
        if let Some(live) = self.live {
            self.host.live_requests().set_stream(live);
        }
    }
}
