//! Steps 3 and 4 of a request (`proxy.rs`): in-flight slot and rate limits.
//!
//! A request that is refused or answered without a bucket passes both steps too.

use tidegate_actors::{Action, BucketId, InFlightSlot, IpKey, MonitorRejection, OperationClass, Shedding};
use tidegate_config::Priority;

use crate::http::error::GatewayError;
use crate::http::priority;
use crate::http::shadow::{add_allowed, record_shadowed};
use crate::upstream::bucket::Bucket;
use crate::upstream::record::Record;
use crate::worker::Worker;

/// Checks the level and acquires an in-flight slot. A form has no slot before its signature is verified, so only the
/// level is checked.
pub(super) fn acquire_slot(
    worker: &Worker,
    is_form: bool,
    record: &mut Record,
) -> Result<Option<InFlightSlot>, MonitorRejection> {
    let monitor = &worker.shared.actors.monitor;
    if let Shedding::Shadowed(refusal) = monitor.check_level()? {
        record_shadowed(worker, refusal, record);
    }
    if is_form { Ok(None) } else { monitor.acquire_free_slot().map(Some) }
}

/// Refuses a write of the lowest priority while the action `shed_uploads` is in force (X6). Its body is not read.
pub(super) fn check_upload(
    worker: &Worker,
    bucket: &Bucket,
    class: OperationClass,
    record: &mut Record,
) -> Result<(), MonitorRejection> {
    let monitor = &worker.shared.actors.monitor;
    if class != OperationClass::Write || monitor.actions().check(Action::ShedUploads).is_none() {
        return Ok(());
    }
    let priority = priority::of(record.caller.as_ref(), class, bucket, &worker.shared.keyring);
    if priority == Priority::Low
        && let Shedding::Shadowed(refusal) = monitor.check_upload()?
    {
        record_shadowed(worker, refusal, record);
    }
    Ok(())
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
        let allowed = match bucket {
            Some(bucket) => limiter.admit(bucket, class, client, record.started).await?,
            None => limiter.admit_unrouted(class, client, record.started).await?,
        };
        add_allowed(worker, allowed, record);
    }
    Ok(())
}
