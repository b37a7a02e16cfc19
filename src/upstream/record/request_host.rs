//! The parts of a worker thread that the record of a request and the body of its response use until their last byte.

use std::rc::Rc;
use std::sync::Arc;

use slog::Logger;
use tidegate_actors::{BucketId, MonitorHandle};
use tidegate_config::Config;

use crate::auth::Keyring;
use crate::buffers::body_memory::BodyMemory;
use crate::buffers::send_progress::SendWatch;
use crate::buffers::{BufferBudget, Transfers};
use crate::decisions::Recorder;
use crate::live_requests::ThreadRequests;
use crate::telemetry::log::AccessLog;
use crate::telemetry::metrics::RequestMetrics;
use crate::telemetry::redact::Redaction;
use crate::upstream::bucket::Bucket;
use crate::upstream::rules::event_streams::EventStreams;

/// The worker thread of a request.
pub(crate) trait RequestHost: 'static {
    /// A bucket of the configuration.
    fn bucket(&self, id: BucketId) -> &Bucket;

    fn log(&self) -> &Logger;

    fn access_log(&self) -> &AccessLog;

    fn monitor(&self) -> &MonitorHandle;

    fn config(&self) -> &Config;

    fn keyring(&self) -> &Keyring;

    fn redaction(&self) -> &Redaction;

    fn metrics(&self) -> &RequestMetrics;

    /// Records decisions.
    fn decisions(&self) -> &Recorder;

    fn send_watch(&self) -> &Rc<SendWatch>;

    fn transfers(&self) -> &Rc<Transfers>;

    fn buffer_budget(&self) -> &Arc<BufferBudget>;

    /// The memory of bodies that are read whole.
    fn body_memory(&self) -> &Arc<BodyMemory>;

    /// The requests of the thread that are under way.
    fn live_requests(&self) -> &ThreadRequests;

    /// The event streams of the data listener.
    fn event_streams(&self) -> &EventStreams;

    /// The reason of a request that ends without its complete response, if nothing else is known.
    fn unfinished_reason(&self) -> &'static str;
}
