//! The decisions of actors that concern no request: transitions of level and circuit, ejections and returns (O4).

use std::sync::{Arc, Weak};

use tidegate_actors::{ActorChange, ActorEventSink, BucketId, RefusalProof};

use crate::decisions::decision::KeyName::{Process, Upstream};
use crate::decisions::decision::{
    DecidingActor, DecisionFacts, DecisionKind, DecisionScope, EntryTexts, Figures, ThresholdKeys, Unit, ms,
    number,
};
use crate::decisions::names::{BucketNames, Names};
use crate::decisions::{Decisions, Recorder};

/// Records what actors report.
///
/// Endpoints and credentials have positions, which a pool has from the configuration that it was created for. A reload that changes them
/// creates another pool. So the sink of a pool refers to configurations with the same endpoints and credentials. All else refers
/// to the current configuration, which the actors know too.
#[derive(Clone)]
pub(super) struct ActorDecisions {
    decisions: Arc<Decisions>,
    /// The names of the configuration that the actors are created for. Weak: a pool may outlive many configurations.
    created_for: Weak<Names>,
    /// Those of the actor's bucket.
    bucket_names: Option<Arc<BucketNames>>,
    worker: usize,
}

impl ActorDecisions {
    pub(super) fn new(decisions: &Arc<Decisions>, created_for: &Arc<Names>, worker: usize) -> Self {
        let (decisions, created_for) = (Arc::clone(decisions), Arc::downgrade(created_for));
        Self { decisions, created_for, bucket_names: None, worker }
    }

    /// The names that the change refers to. If none that are kept fit it, its positions mean nothing.
    fn names_of(&self, bucket: Option<BucketId>, has_position: bool) -> (Arc<Names>, bool) {
        let kept = self.decisions.names();
        let own = bucket.and_then(|bucket| {
            let of_pool = self.bucket_names.as_ref().filter(|_| has_position);
            kept.newest_of(bucket, of_pool)
        });
        (Arc::clone(own.unwrap_or(kept.current())), own.is_some())
    }
}

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
        let (names, is_own) = self.names_of(bucket, endpoint.or(credential).is_some());
        let index = |at: Option<usize>| at.filter(|_| is_own).and_then(|at| u16::try_from(at).ok());
        let facts = DecisionFacts {
            bucket,
            endpoint: index(endpoint),
            credential: index(credential),
            ..DecisionFacts::new(kind, reason, figures)
        };
        let recorder = Recorder { decisions: Arc::clone(&self.decisions), names, worker: self.worker };
        recorder.record(facts, &EntryTexts { detail: &detail, ..EntryTexts::default() });
    }

    fn of_bucket(&self, bucket: BucketId) -> Option<Arc<dyn ActorEventSink>> {
        let names = self.created_for.upgrade()?;
        Some(Arc::new(Self { bucket_names: names.bucket_names(bucket).cloned(), ..self.clone() }))
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
        ActorChange::CircuitClosed { class, successes } => {
            let figures = circuit(&[Upstream("circuit_breaker.success_threshold")]);
            let (measured, threshold) = (f64::from(*successes), f64::from(*successes));
            let figures = compared(figures, measured, threshold, Unit::Requests);
            transition("circuit_closed", figures, format!("circuit {class}"))
        }
        ActorChange::PanicEntered => transition("all_endpoints_failed", bucket(), none()),
        ActorChange::PanicEnded => transition("endpoint_succeeded", bucket(), none()),
        ActorChange::FailedOver { usable_percent, min_usable_percent } => {
            let figures =
                compared(bucket(), number(*usable_percent), number(*min_usable_percent), Unit::Percent);
            let figures = figures.set_by(&[Upstream("failover.min_usable_percent")]);
            transition("failed_over", figures, "usable primary endpoints".to_owned())
        }
        ActorChange::FailedBack { usable_for, return_after } => {
            let figures = compared(bucket(), ms(*usable_for), ms(*return_after), Unit::Milliseconds);
            let figures = figures.set_by(&[Upstream("failover.return_after_seconds")]);
            transition("failed_back", figures, "enough primary endpoints have been usable".to_owned())
        }
        ActorChange::StandbyFailed => {
            let figures = bucket().set_by(&[Upstream("failover.endpoints")]);
            transition("failed_back", figures, "no standby endpoint is usable".to_owned())
        }
        ActorChange::EndpointExcluded { endpoint, cause, ejected_by, failures, time } => {
            let figures = pool(DecisionScope::Endpoint).until(*time);
            let (reason, figures) = match ejected_by {
                Some(trip) => ("endpoint_ejected", figures.of_ejection(Some(*trip))),
                None => ("endpoint_unreachable", back_off(figures, *failures)),
            };
            of_endpoint(reason, *endpoint, figures, format!("cause: {cause}"))
        }
        ActorChange::EndpointUnhealthy { endpoint, failures } => {
            let failures = f64::from(*failures);
            let figures = compared(pool(DecisionScope::Endpoint), failures, failures, Unit::Failures);
            let figures = figures.set_by(&[Upstream("health_check.unhealthy_threshold")]);
            of_endpoint("endpoint_unhealthy", *endpoint, figures, none())
        }
        ActorChange::EndpointReturned { endpoint } => {
            of_endpoint("endpoint_returned", *endpoint, pool(DecisionScope::Endpoint), none())
        }
        ActorChange::CredentialThrottled { credential, time } => {
            let figures = compared(pool(DecisionScope::Credential), 1.0, 1.0, Unit::Failures).until(*time);
            let figures = figures.set_by(&[Upstream("credential_pool.cool_down_seconds")]);
            of_credential("credential_throttled", *credential, figures, none())
        }
        ActorChange::CredentialRefused { credential, proof, time } => {
            let (figures, detail) = refusal(*proof);
            of_credential("credential_refused", *credential, figures.until(*time), detail)
        }
        ActorChange::CredentialReturned { credential } => {
            of_credential("credential_returned", *credential, pool(DecisionScope::Credential), none())
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

fn of_credential(
    reason: &'static str,
    credential: usize,
    figures: Figures,
    detail: String,
) -> ChangeDecision {
    ChangeDecision { credential: Some(credential), ..ejection(reason, figures, detail) }
}

/// A connection that failed is enough, and no key changes that. The key is that of the longest time which follows.
fn back_off(figures: Figures, failures: u32) -> Figures {
    let figures = compared(figures, f64::from(failures), 1.0, Unit::Failures);
    figures.set_by(&[Upstream("outlier_ejection.base_seconds")])
}

/// What proves that a credential is refused. No key changes that; the key is that of the time which follows.
fn refusal(proof: RefusalProof) -> (Figures, String) {
    let figures = pool(DecisionScope::Credential).set_by(&[Upstream("credential_pool.refused_seconds")]);
    match proof {
        RefusalProof::Check => {
            let figures = compared(figures, 1.0, 1.0, Unit::Failures);
            (figures, "the upstream refused a check of the gateway".to_owned())
        }
        RefusalProof::Requests { clients, paths } => {
            let detail = format!(
                "the upstream refused requests; different clients: {clients}, different paths: {paths}"
            );
            (compared(figures, number(paths), number(paths), Unit::Requests), detail)
        }
    }
}

fn compared(figures: Figures, measured: f64, threshold: f64, unit: Unit) -> Figures {
    figures.measured(measured, unit).threshold(threshold, unit)
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
