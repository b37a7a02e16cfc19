//! The decisions of actors that concern no request: transitions of level and circuit, ejections and returns (O4).

use std::time::Duration;

use tidegate_actors::{ActorChange, ActorEventSink, BucketId};

use crate::decisions::Recorder;
use crate::decisions::decision::KeyName::{Process, Upstream};
use crate::decisions::decision::{
    DecidingActor, DecisionFacts, DecisionKind, DecisionScope, EntryTexts, Figures, ThresholdKeys, Unit,
};

/// Records what actors report.
pub(super) struct ActorDecisions(pub(super) Recorder);

/// A change as a decision: the facts, the detail, and the position of endpoint or credential.
struct ChangeDecision {
    kind: DecisionKind,
    reason: &'static str,
    figures: Figures,
    detail: String,
    endpoint: Option<usize>,
    credential: Option<usize>,
}

impl ActorEventSink for ActorDecisions {
    fn record(&self, bucket: Option<BucketId>, change: &ActorChange) {
        let ChangeDecision { kind, reason, figures, detail, endpoint, credential } = decision(change);
        let index = |at: Option<usize>| at.and_then(|at| u16::try_from(at).ok());
        let facts = DecisionFacts {
            bucket,
            endpoint: index(endpoint),
            credential: index(credential),
            ..DecisionFacts::new(kind, reason, figures)
        };
        self.0.record(facts, &EntryTexts { detail: &detail, ..EntryTexts::default() });
    }
}

fn decision(change: &ActorChange) -> ChangeDecision {
    let none = String::new;
    let bucket = || pool(DecisionScope::Bucket);
    match change {
        ActorChange::Level { from, to, rose, percent, threshold, cause } => {
            let reason = if *rose { "level_rose" } else { "level_fell" };
            transition(reason, level(to, *percent, *threshold), format!("from {from} to {to}: {cause}"))
        }
        ActorChange::CircuitOpened { class, cause, trip, open_for } => {
            let figures = circuit(&[]).of_trip(*trip);
            transition("circuit_opened", figures.until(*open_for), format!("circuit {class}: {cause}"))
        }
        ActorChange::CircuitHalfOpened { class, by_connect } => {
            let why = if *by_connect { ": a connection to the upstream succeeded" } else { "" };
            let figures = circuit(&[Upstream("circuit_breaker.half_open_max_requests")]);
            transition("circuit_half_opened", figures, format!("circuit {class}{why}"))
        }
        ActorChange::CircuitClosed { class } => {
            let figures = circuit(&[Upstream("circuit_breaker.success_threshold")]);
            transition("circuit_closed", figures, format!("circuit {class}"))
        }
        ActorChange::PanicEntered => transition("all_endpoints_failed", bucket(), none()),
        ActorChange::PanicEnded => transition("endpoint_succeeded", bucket(), none()),
        ActorChange::FailedOver => transition("failed_over", bucket(), none()),
        ActorChange::FailedBack => transition("failed_back", bucket(), none()),
        ActorChange::EndpointExcluded { endpoint, cause, ejected_by, time } => {
            let reason = if ejected_by.is_some() { "endpoint_ejected" } else { "endpoint_unreachable" };
            let figures = pool(DecisionScope::Endpoint).until(*time).of_ejection(*ejected_by);
            of_endpoint(reason, *endpoint, figures, format!("cause: {cause}"))
        }
        ActorChange::EndpointUnhealthy { endpoint } => {
            let figures = pool(DecisionScope::Endpoint);
            let figures = figures.set_by(&[Upstream("health_check.unhealthy_threshold")]);
            of_endpoint("endpoint_unhealthy", *endpoint, figures, none())
        }
        ActorChange::EndpointReturned { endpoint } => {
            of_endpoint("endpoint_returned", *endpoint, pool(DecisionScope::Endpoint), none())
        }
        ActorChange::CredentialThrottled { credential, time } => {
            of_credential("credential_throttled", *credential, Some(*time))
        }
        ActorChange::CredentialRefused { credential, time } => {
            of_credential("credential_refused", *credential, Some(*time))
        }
        ActorChange::CredentialReturned { credential } => {
            of_credential("credential_returned", *credential, None)
        }
    }
}

/// The figures of a change to this level. The key is that of the threshold which the reading crossed.
fn level(to: &str, percent: Option<f64>, threshold: Option<u8>) -> Figures {
    let mut figures = Figures::of(DecisionScope::Process).decided_by(DecidingActor::Monitor);
    figures = match to {
        "warning" => figures.set_by(&[Process("monitor.warning")]),
        "critical" => figures.set_by(&[Process("monitor.critical")]),
        "exhausted" => figures.set_by(&[Process("monitor.exhausted")]),
        _ => figures.set_by(&[Process("monitor.recover")]),
    };
    if let Some(percent) = percent {
        figures = figures.measured(percent, Unit::Percent);
    }
    match threshold {
        Some(threshold) => figures.threshold(f64::from(threshold), Unit::Percent),
        None => figures,
    }
}

fn circuit(keys: ThresholdKeys) -> Figures {
    Figures::of(DecisionScope::Bucket).decided_by(DecidingActor::Breaker).set_by(keys)
}

fn of_endpoint(reason: &'static str, endpoint: usize, figures: Figures, detail: String) -> ChangeDecision {
    ChangeDecision { endpoint: Some(endpoint), ..ejection(reason, figures, detail) }
}

fn of_credential(reason: &'static str, credential: usize, time: Option<Duration>) -> ChangeDecision {
    let figures = pool(DecisionScope::Credential);
    let figures = time.map_or(figures, |time| figures.until(time));
    ChangeDecision { credential: Some(credential), ..ejection(reason, figures, String::new()) }
}

fn pool(scope: DecisionScope) -> Figures {
    Figures::of(scope).decided_by(DecidingActor::Pool)
}

fn transition(reason: &'static str, figures: Figures, detail: String) -> ChangeDecision {
    let kind = DecisionKind::Transition;
    ChangeDecision { kind, reason, figures, detail, endpoint: None, credential: None }
}

fn ejection(reason: &'static str, figures: Figures, detail: String) -> ChangeDecision {
    ChangeDecision { kind: DecisionKind::Ejection, ..transition(reason, figures, detail) }
}
