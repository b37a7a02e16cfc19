//! What the actors of a predecessor and of its successor exchange during an upgrade.
//!
//! The predecessor exports the state while no process accepts, and reports what it may still use of each limit while it drains. The
//! successor holds that much back, so that no limit is exceeded by both together.

use tidegate_actors::{ActorsState, PredecessorUse};

use crate::process::Shared;

/// The requests that may still begin: one on each open connection, and on connections of HTTP/2 as many as they have now, until they have
/// GOAWAY.
fn requests_to_come(shared: &Shared, connections: usize) -> usize {
    if connections == 0 { 0 } else { connections.max(shared.actors.monitor.in_flight()) }
}

/// The state of the actors, while so many connections are open.
pub(super) async fn export_state(shared: &Shared, connections: usize) -> ActorsState {
    let connections = requests_to_come(shared, connections);
    shared.actors.export_state(&shared.config, &shared.ids, connections).await
}

/// Continues with the state of the predecessor.
pub(super) async fn import_state(shared: &Shared, state: ActorsState) {
    shared.actors.import_state(&shared.config, &shared.ids, state).await;
}

/// Takes back what the export kept for the predecessor alone: the upgrade has failed.
pub(super) fn resume_limits(shared: &Shared) {
    shared.actors.resume_limits();
}

/// What this predecessor may still use.
pub(super) fn remaining_use(shared: &Shared, connections: usize) -> PredecessorUse {
    shared.actors.remaining_use(requests_to_come(shared, connections))
}

/// Holds back what the predecessor may still use. Replaces the last report.
pub(super) fn reserve_for_predecessor(shared: &Shared, used: &PredecessorUse) {
    shared.actors.reserve_for_predecessor(used);
}
