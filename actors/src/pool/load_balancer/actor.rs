//! Reports the events of the load balancer: log lines, and decisions of the actor.

use slog::{info, warn};

use crate::events::ActorChange;
use crate::pool::actor::Pool;
use crate::pool::load_balancer::EndpointEvent;
use crate::pool::load_balancer::endpoint::EjectionAction;
use crate::pool::load_balancer::tier::TierChange;

impl Pool {
    /// Logs the events of the load balancer and of the credential selector.
    pub(in crate::pool) fn log_events(&mut self) {
        self.log_credential_events();
        let events = self.state.load_balancer().drain_events();
        let (log, bucket) = (&self.log, self.names.bucket.as_str());
        let name = |endpoint: usize| self.names.endpoints.get(endpoint).map_or("", String::as_str);
        for event in events {
            self.events.emit(change(event));
            match event {
                EndpointEvent::Excluded { endpoint, action, kind, time, failures: _ } => {
                    let how = match action {
                        EjectionAction::BackOff => "endpoint unreachable, backing off",
                        EjectionAction::Eject(_) => "endpoint ejected",
                    };
                    warn!(log, "{}", how; "bucket" => bucket, "endpoint" => name(endpoint),
                        "cause" => kind.as_str(), "for_ms" => u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
                }
                EndpointEvent::FoundUnhealthy { endpoint, failures: _ } => {
                    warn!(log, "endpoint unhealthy"; "bucket" => bucket, "endpoint" => name(endpoint));
                }
                EndpointEvent::Returned { endpoint } => {
                    info!(log, "endpoint returned to rotation"; "bucket" => bucket, "endpoint" => name(endpoint));
                }
                EndpointEvent::PanicEntered => {
                    warn!(log, "all endpoints failed, all stay in rotation"; "bucket" => bucket)
                }
                EndpointEvent::PanicEnded => {
                    info!(log, "an endpoint succeeded again, failed endpoints are ejected again"; "bucket" => bucket)
                }
                EndpointEvent::TierChanged(TierChange::FailedOver { .. }) => {
                    warn!(log, "failed over to standby endpoints"; "bucket" => bucket)
                }
                EndpointEvent::TierChanged(TierChange::Returned { .. } | TierChange::StandbyFailed) => {
                    info!(log, "failed back from standby endpoints"; "bucket" => bucket)
                }
            }
        }
    }
}

/// What the load balancer changed.
fn change(event: EndpointEvent) -> ActorChange {
    match event {
        EndpointEvent::Excluded { endpoint, action, kind, failures, time } => ActorChange::EndpointExcluded {
            endpoint,
            cause: kind.as_str(),
            ejected_by: match action {
                EjectionAction::Eject(trip) => Some(trip),
                EjectionAction::BackOff => None,
            },
            failures,
            time,
        },
        EndpointEvent::FoundUnhealthy { endpoint, failures } => {
            ActorChange::EndpointUnhealthy { endpoint, failures }
        }
        EndpointEvent::Returned { endpoint } => ActorChange::EndpointReturned { endpoint },
        EndpointEvent::PanicEntered => ActorChange::PanicEntered,
        EndpointEvent::PanicEnded => ActorChange::PanicEnded,
        EndpointEvent::TierChanged(TierChange::FailedOver { usable_percent, min_usable_percent }) => {
            ActorChange::FailedOver { usable_percent, min_usable_percent }
        }
        EndpointEvent::TierChanged(TierChange::Returned { usable_for, return_after }) => {
            ActorChange::FailedBack { usable_for, return_after }
        }
        EndpointEvent::TierChanged(TierChange::StandbyFailed) => ActorChange::StandbyFailed,
    }
}
