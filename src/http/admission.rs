//! Steps 3, 4 and 6 of a request (`proxy.rs`): in-flight slot, rate limits, and the permit of the bucket's gate.
//!
//! Each function asks one actor, or reads what an actor has published. Nothing here reads a body or calls an upstream.

use tidegate_actors::{BucketId, InFlightSlot, IpKey, MonitorRejection, OperationClass, clock};

use crate::http::error::GatewayError;
use crate::http::priority;
use crate::upstream::bucket::Bucket;
use crate::upstream::deadline::Deadline;
use crate::upstream::record::Record;
use crate::upstream::{self, UpstreamGrant};
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

/// Acquires a permit of the bucket's gate if the circuit of the operation is closed. A replayable request may wait
/// for the circuit first, and acquires its permit then.
pub(super) async fn acquire_grant(
    worker: &Worker,
    bucket: &Bucket,
    (class, is_replayable): (OperationClass, bool),
    deadline: Deadline,
    record: &mut Record,
) -> Result<UpstreamGrant, GatewayError> {
    let now = clock::now();
    let breaker = &bucket.breaker;
    let circuit = breaker.circuit(class);
    let must_wait = match breaker.check(circuit, now) {
        Ok(_) => false,
        Err(refusal)
            if is_replayable
                && upstream::may_wait_for_circuit(worker.call_resources(), bucket, circuit, &refusal) =>
        {
            true
        }
        Err(refusal) => return Err(refusal.into()),
    };
    record.phases.admitted = Some(now);
    let priority = priority::of(record.caller.as_ref(), class, bucket, &worker.shared.keyring);
    if must_wait {
        return Ok(UpstreamGrant { permit: None, circuit, class, priority, deadline });
    }
    let permit = bucket.pool.acquire(priority, deadline.total).await?;
    record.phases.permitted = Some(clock::now());
    Ok(UpstreamGrant { permit: Some(permit), circuit, class, priority, deadline })
}
