//! What the actors of a predecessor and of its successor exchange during an upgrade, as JSON.
//!
//! The predecessor exports the state while no process accepts, and reports what it may still use of each limit while it drains. The
//! successor holds that much back, so that no limit is exceeded by both together.

use serde_json::{Value, json};

use crate::process::Shared;

/// The state of the actors. `connections` are open, each of which may have one more request.
pub(super) async fn export_state(_shared: &Shared, _connections: usize) -> Value {
    Value::Null
}

/// Continues with the state of the predecessor.
pub(super) async fn import_state(_shared: &Shared, _state: Value) {}

/// Takes back what the export kept for the predecessor alone: the upgrade has failed.
pub(super) fn resume_limits(_shared: &Shared) {}

/// What this predecessor may still use.
pub(super) fn remaining_use(shared: &Shared, _connections: usize) -> Value {
    let permits = shared.router.buckets().iter().map(|bucket| {
        let in_flight = bucket.pool.in_flight();
        (bucket.name.clone(), in_flight.into())
    });
    json!({ "in_flight": shared.actors.monitor.in_flight(), "permits": permits.collect::<serde_json::Map<_, _>>() })
}

/// Holds back what the predecessor may still use. Replaces the last report.
pub(super) fn reserve_for_predecessor(_shared: &Shared, _limits: &Value) {}
