//! Each cause alone, in a gateway without other faults.

use std::time::SystemTime;

use rustls::CertificateError;
use tidegate_actors::{CredentialView, clock};

use super::*;
use crate::telemetry::log::LogFault;
use crate::upstream::connect::tls_failure::TlsFailure;
use crate::upstream::rules::store_clock::{ClockObstacle, ClockOffset};

fn endpoint(state: EndpointState) -> EndpointView {
    EndpointView { in_flight: 0, state, latency: None, ejections: 0 }
}

fn pool(endpoints: Vec<EndpointView>, credentials: Vec<CredentialView>) -> PoolView {
    PoolView {
        in_flight: 0,
        concurrent_max: 1,
        limit: None,
        queued: 0,
        queued_max: 1,
        amplification: 1.0,
        endpoints,
        credentials,
    }
}

fn circuit(state: CircuitState) -> BreakerView {
    BreakerView {
        class: "all",
        state,
        generation: 1,
        consecutive_failures: 0,
        opened_total: 0,
        open_for: (state == CircuitState::Open).then(|| Duration::from_secs(2)),
        probed: false,
        cause: None,
        waiting: 0,
        waiting_max: 0,
    }
}

fn credential(state: CredentialState) -> CredentialView {
    CredentialView {
        name: "main".to_owned(),
        in_flight: 0,
        concurrent_max: 1,
        quota_group: None,
        state,
        throttled: 0,
        refused: 0,
    }
}

/// A gateway without faults.
fn healthy(now: Instant) -> StatusInput<'static> {
    StatusInput {
        now,
        draining: None,
        waiting: Vec::new(),
        chaos: false,
        level: LevelInput { level: Level::Normal, since: now, reason: None, is_stale: false },
        actors: vec![("limiter", ActorStatus::Running), ("monitor", ActorStatus::Running)],
        limiter_refuses: true,
        limiter_refuses_all: false,
        shortages: Vec::new(),
        buckets: vec![BucketInput {
            name: "photos",
            mode: BreakerMode::On,
            circuits: vec![circuit(CircuitState::Closed)],
            pool: pool(
                vec![endpoint(EndpointState::InRotation), endpoint(EndpointState::InRotation)],
                Vec::new(),
            ),
            authorities: vec!["a:80", "b:80"],
            late: None,
            clocks: vec![None, None],
            tls_failures: Vec::new(),
        }],
        log: None,
        log_lines_lost: 0,
    }
}

/// The headline and the causes after one change to a healthy gateway.
fn after(change: impl FnOnce(&mut StatusInput<'static>, Instant)) -> (&'static str, Vec<Cause>) {
    let now = clock::now() + Duration::from_secs(10);
    let mut input = healthy(now);
    change(&mut input, now);
    let causes = causes(&input);
    (headline(&input, &causes), causes)
}

fn only(change: impl FnOnce(&mut StatusInput<'static>, Instant)) -> (&'static str, Cause) {
    let (headline, mut causes) = after(change);
    assert_eq!(causes.len(), 1, "{causes:?}");
    (headline, causes.remove(0))
}

/// X10
#[test]
fn a_gateway_without_faults_is_normal() {
    assert_eq!(after(|_, _| {}), ("normal", Vec::new()));
}

/// X10
#[test]
fn a_failed_limiter_refuses_or_bypasses_as_configured() {
    let failed = ActorStatus::Failed { retry_after: Duration::from_secs(3) };
    let (headline, cause) = only(|input, _| {
        input.actors[0].1 = failed;
        input.limiter_refuses_all = true;
    });
    assert_eq!(
        (headline, cause.id, cause.subject.as_deref()),
        ("refusing", "limiter_failed", Some("limiter"))
    );
    assert!(cause.detail.contains("3000 ms"), "{cause:?}");
    let (headline, cause) = only(|input, _| {
        input.actors[0].1 = failed;
        input.limiter_refuses = false;
    });
    assert_eq!((headline, cause.id), ("degraded", "limiter_bypassed"));
}

/// X9, X10
#[test]
fn a_shortage_of_the_gateway_itself_is_a_cause() {
    let (headline, cause) =
        only(|input, now| input.shortages.push((Shortage::Ports, now - Duration::from_secs(4))));
    assert_eq!((headline, cause.id, cause.since_ms), ("degraded", "out_of_ports", Some(4000)));
}

/// X10
#[test]
fn other_actors_that_failed_or_stalled_are_named() {
    let failed = ActorStatus::Failed { retry_after: Duration::ZERO };
    for (status, id) in [(failed, "actor_failed"), (ActorStatus::Stalled, "actor_stalled")] {
        let (headline, cause) = only(|input, _| input.actors[1].1 = status);
        assert_eq!((headline, cause.id, cause.subject.as_deref()), ("degraded", id, Some("monitor")));
        assert_eq!(cause.effect.contains("resource level stays"), id == "actor_failed", "{}", cause.effect);
    }
}

/// X10
#[test]
fn every_circuit_that_is_not_closed_is_a_cause() {
    for (mode, state, id) in [
        (BreakerMode::On, CircuitState::Open, "circuit_open"),
        (BreakerMode::On, CircuitState::HalfOpen, "circuit_half_open"),
        (BreakerMode::Shadow, CircuitState::Open, "circuit_shadow"),
        (BreakerMode::ForcedOpen, CircuitState::Closed, "circuit_forced_open"),
    ] {
        let (headline, cause) = only(|input, _| {
            input.buckets[0].mode = mode;
            input.buckets[0].circuits = vec![circuit(state)];
        });
        assert_eq!((headline, cause.id, cause.subject.as_deref()), ("degraded", id, Some("photos")));
    }
}

/// X10: a circuit without requests after its open time is half-open: its next request is a trial
#[test]
fn a_circuit_after_its_open_time_is_half_open() {
    for (left, id, detail) in
        [(1, "circuit_open", "trials in 1 ms"), (0, "circuit_half_open", "the next request is a trial")]
    {
        let (_, cause) = only(|input, _| {
            let open =
                BreakerView { open_for: Some(Duration::from_millis(left)), ..circuit(CircuitState::Open) };
            input.buckets[0].circuits = vec![open];
        });
        assert_eq!(cause.id, id);
        assert!(cause.detail.ends_with(detail), "{cause:?}");
    }
}

/// X10
#[test]
fn late_calls_are_a_cause_before_they_time_out() {
    let (headline, cause) = only(|input, now| {
        input.buckets[0].late =
            Some(LateCallsSnapshot { count: 7, since: now.checked_sub(Duration::from_secs(6)).unwrap() });
    });
    assert_eq!((headline, cause.id, cause.since_ms), ("degraded", "upstream_unresponsive", Some(6000)));
    assert!(cause.detail.starts_with("7 calls"), "{cause:?}");
}

/// X10
#[test]
fn endpoints_out_of_rotation_are_one_cause() {
    let out = |state: fn(Instant) -> EndpointState| {
        move |input: &mut StatusInput<'static>, now: Instant| {
            input.buckets[0].pool.endpoints[1] = endpoint(state(now + Duration::from_secs(1)));
        }
    };
    for (change, detail) in [
        (out(EndpointState::BackingOff), "b:80: unreachable, back in 1000 ms"),
        (
            out(|until| EndpointState::Ejected(until, FailureKind::Timeout)),
            "b:80: ejected (silent), back in 1000 ms",
        ),
        (out(|_| EndpointState::Unhealthy), "b:80: fails its health checks"),
    ] {
        let (headline, cause) = only(change);
        assert_eq!((headline, cause.id, cause.detail.as_str()), ("degraded", "endpoint_out", detail));
    }
    let (_, cause) = only(|input, _| {
        input.buckets[0].pool.endpoints =
            vec![endpoint(EndpointState::Unhealthy), endpoint(EndpointState::Unhealthy)];
    });
    assert_eq!(cause.id, "endpoints_out");
}

/// X10, C4
#[test]
fn credentials_that_are_out_are_named_by_their_configured_name() {
    let at = |state: fn(Instant) -> CredentialState| {
        only(move |input, now| {
            input.buckets[0].pool.credentials = vec![credential(state(now + Duration::from_secs(1)))];
        })
        .1
    };
    assert_eq!(at(CredentialState::CoolingDown).id, "credential_cooling");
    assert_eq!(at(CredentialState::Refused).detail, "main: refused by the upstream, tried again in 1000 ms");
    assert_eq!(at(|_| CredentialState::OnTrial).id, "credential_refused");
}

/// X10
#[test]
fn levels_above_normal_and_stale_sensors_are_causes() {
    for (level, id, expected) in [
        (Level::Warning, "warning", "degraded"),
        (Level::Critical, "critical", "degraded"),
        (Level::Exhausted, "exhausted", "refusing"),
    ] {
        let (headline, cause) = only(|input, _| {
            input.level.level = level;
            input.level.reason = Some("memory at 97.0 %, threshold 95 %".to_owned());
        });
        assert_eq!((headline, cause.id), (expected, id));
        assert!(cause.detail.starts_with("memory"), "{cause:?}");
    }
    assert_eq!(only(|input, _| input.level.is_stale = true).1.id, "sensors_stale");
}

/// X10, X12
#[test]
fn a_log_that_loses_lines_is_a_cause() {
    let (headline, cause) = only(|input, now| {
        let detail = "No space left on device".to_owned();
        input.log = Some(CurrentFault { cause: LogFault::DiskFull, since: now, detail });
        input.log_lines_lost = 12;
    });
    assert_eq!((headline, cause.id, cause.subject.as_deref()), ("degraded", "log", Some("disk_full")));
    assert!(cause.detail.contains("No space left") && cause.detail.contains("12 lines"), "{cause:?}");
}

/// X5, X10: connections that wait in the backlog are a cause
#[test]
fn a_pause_in_accepting_is_a_cause() {
    let (headline, cause) = only(|input, now| input.waiting = vec![("data", "out_of_descriptors", now)]);
    assert_eq!(
        (headline, cause.id, cause.subject.as_deref()),
        ("degraded", "connections_wait", Some("data"))
    );
    assert!(cause.detail.contains("out_of_descriptors"), "{cause:?}");
}

/// X10
#[test]
fn draining_is_the_headline_and_chaos_is_a_cause() {
    for (accepts, effect) in [(true, "are accepted"), (false, "no new connections")] {
        let (headline, cause) = only(|input, now| input.draining = Some(DrainState { began: now, accepts }));
        assert_eq!((headline, cause.since_ms), ("draining", Some(0)));
        assert!(cause.effect.contains(effect), "{cause:?}");
    }
    assert_eq!(only(|input, _| input.chaos = true).1.id, "chaos");
}

/// X10, A2, A7: causes for clock skew and refused certificates name the endpoint and have their age
#[test]
fn clocks_and_certificates_are_causes() {
    let (headline, causes) = after(|input, now| {
        let ahead =
            ClockOffset::between(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(3600));
        let began = now.checked_sub(Duration::from_secs(4)).unwrap();
        let view = |obstacle| Some(ClockSnapshot { began, measured: Some(ahead), obstacle });
        input.buckets[0].clocks = vec![view(None), view(Some(ClockObstacle::Untrusted))];
        let failure = TlsFailure::from(&rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer));
        input.buckets[0].tls_failures = vec![("a:443".to_owned(), FailingTls { since: began, failure })];
    });
    assert_eq!(headline, "degraded");
    let ids: Vec<_> =
        causes.iter().map(|cause| (cause.id, cause.subject.as_deref(), cause.since_ms)).collect();
    let clock = ("upstream_clock_skew", Some("photos"), Some(4000));
    assert_eq!(ids, [("upstream_tls", Some("photos"), Some(4000)), clock, clock]);
    assert!(causes[0].detail.starts_with("a:443: no authority") && causes[0].detail.contains("tls.ca_file"));
    assert!(causes[1].detail.starts_with("a:80: the store's clock is 3600 s ahead of the gateway's"));
    assert!(causes[1].effect.starts_with("none") && causes[2].effect.ends_with("answered 503"));
    assert!(causes[2].detail.contains("https://"), "{}", causes[2].detail);
}
