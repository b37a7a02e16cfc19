//! Step 6 of a request (`proxy.rs`): the breaker's published state, the bucket's cursor, and a permit of its gate.
//!
//! The breaker's state is read before the queue, so that a request to an open circuit does not wait for a permit. Its
//! ticket is step 7, immediately before the call.

use tidegate_actors::{OperationClass, clock};

use crate::http::error::GatewayError;
use crate::http::{priority, shedding};
use crate::upstream::bucket::Bucket;
use crate::upstream::record::Record;
use crate::upstream::rules::deadline::Deadline;
use crate::upstream::{self, UpstreamGrant};
use crate::worker::Worker;

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
    record.deadline_source = deadline.source();
    let priority = priority::of(record.caller.as_ref(), class, bucket, &worker.shared.keyring);
    record.priority = Some(priority);
    shedding::check_bucket(worker, bucket, priority, record)?;
    if must_wait {
        return Ok(UpstreamGrant { permit: None, circuit, class, priority, deadline });
    }
    let permit = bucket.pool.acquire(priority, deadline.total).await?;
    let permitted = clock::now();
    record.phases.permitted = Some(permitted);
    record.record_queueing(bucket, permitted.saturating_duration_since(now));
    Ok(UpstreamGrant { permit: Some(permit), circuit, class, priority, deadline })
}
