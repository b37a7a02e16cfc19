//! The cursors in an explanation: which requests they cut now. Nothing is counted or charged.

use tidegate_actors::{ClientId, IpKey, OperationClass, Shedder, clock};
use tidegate_config::{ActionMode, Priority};

use crate::http::explain::{Explanation, Stopped};
use crate::http::route::Route;
use crate::http::shedding;
use crate::http::shedding_rejection::{CursorScope, SheddingRejection};
use crate::request_head::Head;
use crate::upstream::bucket::Bucket;
use crate::upstream::record::Record;
use crate::worker::Worker;

/// The cursor of the process, by the client that the request presents.
pub(super) fn of_process(
    worker: &Worker,
    route: &Route<'_>,
    (head, class): (Head<'_>, OperationClass),
    record: &Record,
    explanation: &mut Explanation,
) -> Result<(), Stopped> {
    let key = shedding::presented_key(worker, route, head);
    let priority = shedding::presented_priority(worker, route, class, key);
    let address = record.request.client.map(|client| ClientId::Address(IpKey::from(client.address)));
    let client = (key.map(ClientId::Key).or(address), priority);
    explain(worker, &worker.shared.actors.shedding.process, client, CursorScope::Process, explanation)
}

/// The cursor of a bucket.
pub(super) fn of_bucket(
    worker: &Worker,
    bucket: &Bucket,
    client: (Option<ClientId>, Priority),
    explanation: &mut Explanation,
) -> Result<(), Stopped> {
    if bucket.pool.has_free_permit() {
        explanation
            .pass("shedding", "the cursor of the bucket cuts no request while a permit is free".to_owned());
        return Ok(());
    }
    explain(worker, bucket.pool.shedder(), client, CursorScope::Bucket, explanation)
}

/// One cursor.
fn explain(
    worker: &Worker,
    shedder: &Shedder,
    (client, priority): (Option<ClientId>, Priority),
    scope: CursorScope,
    explanation: &mut Explanation,
) -> Result<(), Stopped> {
    let now = clock::now();
    let view = shedder.view(now);
    let of = match scope {
        CursorScope::Process => "process",
        CursorScope::Bucket => "bucket",
    };
    if view.mode == ActionMode::Off {
        explanation.pass("shedding", format!("shedding by the cursor of the {of} is off"));
        return Ok(());
    }
    let (keep, shed) = shedder.peek(client, priority, now);
    let rejection = SheddingRejection::new(&worker.shared.keyring, scope, shed);
    let state = format!("the cursor of the {of} is {:.2}", view.cursor);
    let class = priority.as_str();
    if keep >= 1.0 {
        // Without the number, which moves all the time.
        explanation.pass(
            "shedding",
            format!("the cursor of the {of} does not cut requests of class {class} of this client"),
        );
    } else if view.mode == ActionMode::Shadow {
        let part = (1.0 - keep) * 100.0;
        let sentence = format!("{state}; its mode only counts; it would cut {part:.0} % of such requests");
        explanation.pass("shedding", sentence);
    } else if keep <= 0.0 {
        return explanation.refuse(worker, "shedding", &rejection.into());
    } else {
        let (part, detail) = (keep * 100.0, rejection.detail());
        explanation.unknown("shedding", format!("{part:.0} % of such requests are admitted: {detail}"));
    }
    Ok(())
}
