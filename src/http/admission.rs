//! Steps 3 and 4 of a request (`proxy.rs`): in-flight slot and rate limits.
//!
//! A request that is refused or answered without a bucket passes both steps too.

use tidegate_actors::{BucketId, InFlightSlot, IpKey, MonitorRejection, OperationClass};

use crate::http::error::GatewayError;
use crate::upstream::record::Record;
use crate::worker::Worker;

/// Checks the level and acquires an in-flight slot. A form has no slot before its signature is verified, so only the
/// level is checked.
pub(super) fn acquire_slot(worker: &Worker, is_form: bool) -> Result<Option<InFlightSlot>, MonitorRejection> {
    let monitor = &worker.shared.actors.monitor;
    if is_form { monitor.check_level().map(|()| None) } else { monitor.acquire_slot().map(Some) }
}

/// Charges a request to the limits that its head determines: global, of its client's address, and of its bucket if it
/// names one.
pub(super) async fn charge_limits(
    worker: &Worker,
    bucket: Option<BucketId>,
    class: OperationClass,
    record: &mut Record,
) -> Result<(), GatewayError> {
    if let Some(client) = record.request.client {
        let (limiter, client) = (&worker.shared.actors.limiter, IpKey::from(client.address));
        record.allowed = match bucket {
            Some(bucket) => limiter.admit(bucket, class, client, record.started).await?,
            None => limiter.admit_unrouted(class, client, record.started).await?,
        };
    }
    Ok(())
}
