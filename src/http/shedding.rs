//! Steps 3 and 6 of a request (`proxy.rs`): the cursors that refuse requests while others wait too long (X11).
//!
//! The cursor of the process decides before authentication, by the client that the request presents: the key that it
//! names, else its address. A presented client is never charged. After authentication the request is charged to its
//! client; one that was admitted with a probability stands for those that were refused. A request that is refused
//! before that is charged to its address, and so a key that it only names is no way past the excess of the address.
//! The cursor of a bucket decides before the queue, by the authenticated client. While a cursor is 0, a request reads
//! one atomic of it.

use tidegate_actors::{
    ClientId, CostSampler, CutRule, IpKey, KeyId, OperationClass, Shedder, SheddingDecision, clock,
};
use tidegate_config::Priority;

use crate::auth::presented_caller;
use crate::http::error::GatewayError;
use crate::http::priority;
use crate::http::route::{RequestKind, Route};
use crate::http::shadow::record_shadowed;
use crate::http::shedding_rejection::{CursorScope, SheddingRejection};
use crate::request_head::Head;
use crate::upstream::bucket::Bucket;
use crate::upstream::record::Record;
use crate::worker::Worker;

/// The requests of a presented client that an admitted request stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Weight {
    client: Option<ClientId>,
    requests: f64,
}

impl Weight {
    const ONE: Self = Self { client: None, requests: 1.0 };

    /// The requests that are charged to the authenticated client: it stands for those of the same client only.
    fn of(self, client: ClientId) -> f64 {
        if self.client == Some(client) { self.requests } else { 1.0 }
    }
}

/// Step 3: refuses a request that the cursor of the process cuts.
pub(super) fn check_process(
    worker: &Worker,
    route: &Route<'_>,
    (head, class): (Head<'_>, OperationClass),
    record: &mut Record,
) -> Result<Weight, SheddingRejection> {
    let shedder = &worker.shared.actors.shedding.process;
    if !shedder.is_active() {
        return Ok(Weight::ONE);
    }
    let key = presented_key(worker, route, head);
    let priority = presented_priority(worker, route, class, key);
    let address = address(record);
    let client = key.map(ClientId::Key).or(address);
    let weight = decide(worker, shedder, (client, priority), CursorScope::Process, record)?;
    if key.is_none() {
        record.address_weight = weight.requests;
    } else if is_above_share(shedder, address, priority) {
        record.address_weight =
            decide(worker, shedder, (address, priority), CursorScope::Process, record)?.requests;
    }
    Ok(weight)
}

/// Whether the refused requests of an address are more than its fair share. Requests that were authenticated are not charged to it.
fn is_above_share(shedder: &Shedder, address: Option<ClientId>, priority: Priority) -> bool {
    let (_, shed) = shedder.peek(address, priority, clock::now());
    address.is_some() && matches!(shed.rule, CutRule::Excess | CutRule::Dominant)
}

/// Charges a request that was refused before it was charged to its client: to its address, in the class that it presented. A refusal
/// by the cursor itself is charged by the weight of the admitted requests.
#[cold]
pub(super) fn charge_refused(worker: &Worker, head: Head<'_>, error: &GatewayError, record: &Record) {
    let process = &worker.shared.actors.shedding.process;
    let is_active = process.is_active();
    let is_charged = process.is_tracking() && (is_active || worker.cost_sampler.draw());
    if record.is_charged || !is_charged || matches!(error, GatewayError::Shedding(_)) {
        return;
    }
    let Some(client) = address(record) else { return };
    let class = record.class.unwrap_or(OperationClass::Read);
    let bucket = record.bucket.map(|id| worker.shared.router.bucket(id));
    let key = bucket.and_then(|bucket| {
        presented_caller(head, bucket.auth(), &worker.shared.keyring).ok().and_then(|caller| caller.key())
    });
    let of_key = key.and_then(|key| worker.shared.keyring.priority(key));
    let of_bucket = || bucket.map_or(Priority::Normal, |bucket| priority::of_operation(class, bucket));
    let cost = f64::from(worker.shared.actors.limiter.cost(record.bucket, class));
    let requests = if is_active { record.address_weight } else { CostSampler::WEIGHT };
    process.charge(client, of_key.unwrap_or_else(of_bucket), cost * requests);
}

/// Step 5: charges an authenticated request to its client.
pub(super) fn charge(
    worker: &Worker,
    bucket: Option<&Bucket>,
    class: OperationClass,
    weight: Weight,
    record: &mut Record,
) {
    record.is_charged = true;
    let process = &worker.shared.actors.shedding.process;
    let of_bucket = bucket.map(|bucket| bucket.pool.shedder()).filter(|shedder| shedder.is_tracking());
    let is_sampled = worker.cost_sampler.draw();
    let (is_active, is_tracking) = (process.is_active(), process.is_tracking());
    let is_charged = is_tracking && (is_active || is_sampled);
    if !is_charged && of_bucket.is_none() {
        return;
    }
    let Some(client) = record.client_id() else { return };
    let priority = authenticated_priority(worker, bucket, class, record);
    let cost = f64::from(worker.shared.actors.limiter.cost(bucket.map(|bucket| bucket.id), class));
    if is_charged {
        let requests = if is_active { weight.of(client) } else { CostSampler::WEIGHT };
        process.charge(client, priority, cost * requests);
    }
    if let Some(shedder) = of_bucket {
        shedder.charge(client, priority, cost);
    }
}

/// Step 6: refuses a request that the cursor of its bucket cuts.
pub(super) fn check_bucket(
    worker: &Worker,
    bucket: &Bucket,
    priority: Priority,
    record: &mut Record,
) -> Result<(), SheddingRejection> {
    let shedder = bucket.pool.shedder();
    // The cursor falls for a while after the queue has emptied. A request that need not wait lengthens no wait.
    if !shedder.is_active() || bucket.pool.has_free_permit() {
        return Ok(());
    }
    let client = record.client_id();
    decide(worker, shedder, (client, priority), CursorScope::Bucket, record).map(|_| ())
}

fn decide(
    worker: &Worker,
    shedder: &Shedder,
    (client, priority): (Option<ClientId>, Priority),
    scope: CursorScope,
    record: &mut Record,
) -> Result<Weight, SheddingRejection> {
    match shedder.decide(client, priority, clock::now()) {
        SheddingDecision::Admit { weight } => Ok(Weight { client, requests: weight }),
        SheddingDecision::Refuse(shed) => Err(SheddingRejection::new(&worker.shared.keyring, scope, shed)),
        SheddingDecision::Shadow(shed) => {
            let rejection = SheddingRejection::new(&worker.shared.keyring, scope, shed);
            let before = record.detail.replace(rejection.detail());
            record_shadowed(worker, rejection, record);
            record.detail = before;
            Ok(Weight::ONE)
        }
    }
}

/// The key that a request presents, if it is configured. Nothing is verified.
pub(super) fn presented_key(worker: &Worker, route: &Route<'_>, head: Head<'_>) -> Option<KeyId> {
    let Route::Bucket(request) = route else { return None };
    match request.kind {
        RequestKind::Ordinary => {
            presented_caller(head, request.bucket.auth(), &worker.shared.keyring).ok()?.key()
        }
        RequestKind::Form | RequestKind::Options => None,
    }
}

/// The priority of a request before authentication: of the key that it presents, else of its operation.
pub(super) fn presented_priority(
    worker: &Worker,
    route: &Route<'_>,
    class: OperationClass,
    key: Option<KeyId>,
) -> Priority {
    let bucket = route.bucket();
    let of_key = key.and_then(|key| worker.shared.keyring.priority(key));
    of_key.unwrap_or_else(|| {
        bucket.map_or(Priority::Normal, |bucket| {
            priority::of_operation(class, worker.shared.router.bucket(bucket))
        })
    })
}

fn authenticated_priority(
    worker: &Worker,
    bucket: Option<&Bucket>,
    class: OperationClass,
    record: &Record,
) -> Priority {
    bucket.map_or(Priority::Normal, |bucket| {
        priority::of(record.caller.as_ref(), class, bucket, &worker.shared.keyring)
    })
}

fn address(record: &Record) -> Option<ClientId> {
    record.request.client.map(|client| ClientId::Address(IpKey::from(client.address)))
}
