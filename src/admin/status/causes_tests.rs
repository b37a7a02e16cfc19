//! Each cause alone, in a gateway without other faults.

use std::time::SystemTime;

use rustls::CertificateError;
use tidegate_actors::{
    BreakerView, CircuitState, CredentialId, CredentialState, CredentialView, EndpointState, EndpointView,
    FailureKind, LimitScope, PoolView, clock,
};
use tidegate_config::BreakerMode;

use super::*;
use crate::admin::status::input::BucketInput;
use crate::telemetry::log::LogFault;
use crate::upstream::connect::dns_cache::StaleAnswer;
use crate::upstream::connect::tls::FailingTls;
use crate::upstream::connect::tls_failure::TlsFailure;
use crate::upstream::credentials::RenewalView;
use crate::upstream::rules::late_calls::LateCallsSnapshot;
use crate::upstream::rules::store_clock::{ClockObstacle, ClockOffset, ClockSnapshot};

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
        waited_total: 0,
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
        waited_total: 0,
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
    let actor =
        |name| ActorInput { name, status: ActorStatus::Running, restarts: 0, busy: 0, mailbox_capacity: 8 };
    StatusInput {
        now,
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30),
        draining: None,
        waiting: Vec::new(),
        chaos: None,
        level: LevelInput {
            level: Level::Normal,
            since: now,
            reason: None,
            percent: None,
            stale_since: None,
            unknown: Vec::new(),
        },
        in_flight: 0,
        in_flight_max: 10,
        actors: vec![actor("limiter"), actor("monitor"), actor("pool:photos")],
        limiter_refuses: true,
        shortages: Vec::new(),
        certificates: Vec::new(),
        token_keys: None,
        buckets: vec![BucketInput {
            name: "photos",
            mode: BreakerMode::On,
            failure_threshold: 5,
            circuits: vec![circuit(CircuitState::Closed)],
            pool: pool(
                vec![endpoint(EndpointState::InRotation), endpoint(EndpointState::InRotation)],
                Vec::new(),
            ),
            authorities: vec!["a:80", "b:80"],
            late: None,
            late_total: 0,
            clocks: vec![None, None],
            tls_failures: Vec::new(),
            stale_answers: Vec::new(),
            stale_uses: 0,
            renewals: Vec::new(),
            shadowed: vec![(LimitScope::Ip, 0)],
        }],
        log: None,
        log_lines_lost: 0,
    }
}

/// The causes after one change to a healthy gateway.
fn after(change: impl FnOnce(&mut StatusInput<'static>, Instant)) -> Vec<Finding> {
    let now = clock::now() + Duration::from_secs(10);
    let mut input = healthy(now);
    change(&mut input, now);
    sample(&input, EffectCounts::default()).findings
}

fn only(change: impl FnOnce(&mut StatusInput<'static>, Instant)) -> Finding {
    let mut causes = after(change);
    assert_eq!(causes.len(), 1, "{causes:?}");
    causes.remove(0)
}

fn scope(kind: ScopeKind, name: &str) -> Scope {
    Scope::in_bucket(kind, "photos", name)
}

/// X10
#[test]
fn a_gateway_without_faults_has_no_cause() {
    assert_eq!(after(|_, _| {}), Vec::new());
}

/// X10
#[test]
fn failed_actors_have_the_effect_of_their_kind() {
    let failed = ActorStatus::Failed { retry_after: Duration::from_secs(3) };
    for (index, refuses, code) in [
        (0, true, CauseCode::LimiterFailed),
        (0, false, CauseCode::LimiterBypassed),
        (1, true, CauseCode::ActorFailed),
        (2, true, CauseCode::PoolFailed),
    ] {
        let mut end = None;
        let cause = only(|input, now| {
            input.actors[index].status = failed;
            input.limiter_refuses = refuses;
            end = Some(now + Duration::from_secs(3));
        });
        assert_eq!((cause.code, cause.until), (code, end));
        assert!(cause.message.contains("3000 ms"), "{cause:?}");
        assert_eq!(cause.effect.contains("resource level stays"), index == 1);
    }
    let cause = only(|input, _| input.actors[2].status = ActorStatus::Stalled);
    assert_eq!((cause.code, cause.scope.bucket.as_deref()), (CauseCode::ActorStalled, Some("photos")));
}

/// X10, S9: restarts are counted while the actor is not held down, which is a cause of its own
#[test]
fn restarts_are_counted() {
    let mut input = healthy(clock::now());
    let counters = sample(&input, EffectCounts::default()).counters;
    let is_restart = |reading: &&CounterReading| reading.finding.code == CauseCode::ActorRestarting;
    assert_eq!(counters.iter().filter(is_restart).count(), 3);
    let held_down = ActorInput {
        name: "limiter",
        status: ActorStatus::Failed { retry_after: Duration::ZERO },
        restarts: 9,
        ..input.actors.remove(0)
    };
    assert!(restarts(&held_down).is_none());
}

/// X9, X10
#[test]
fn a_shortage_of_the_gateway_itself_is_a_cause() {
    for (shortage, code) in [
        (Shortage::Descriptors, CauseCode::OutOfDescriptors),
        (Shortage::Ports, CauseCode::OutOfPorts),
        (Shortage::Memory, CauseCode::OutOfMemory),
    ] {
        let mut began = None;
        let cause = only(|input, now| {
            began = Some(now);
            input.shortages.push((shortage, now));
        });
        assert_eq!((cause.code, cause.since, cause.code.as_str()), (code, began, shortage.as_str()));
    }
}

/// X10
#[test]
fn every_circuit_that_is_not_closed_is_a_cause() {
    for (mode, state, code) in [
        (BreakerMode::On, CircuitState::Open, CauseCode::CircuitOpen),
        (BreakerMode::On, CircuitState::HalfOpen, CauseCode::CircuitHalfOpen),
        (BreakerMode::Shadow, CircuitState::Open, CauseCode::CircuitShadow),
        (BreakerMode::ForcedOpen, CircuitState::Closed, CauseCode::CircuitForcedOpen),
    ] {
        let cause = only(|input, _| {
            input.buckets[0].mode = mode;
            input.buckets[0].circuits = vec![circuit(state)];
        });
        assert_eq!((cause.code, cause.scope.bucket.as_deref()), (code, Some("photos")));
    }
}

/// X10: a circuit without requests after its open time is half-open: its next request is a trial
#[test]
fn a_circuit_after_its_open_time_is_half_open() {
    for (left, code, end) in [
        (1, CauseCode::CircuitOpen, "trials in 1 ms"),
        (0, CauseCode::CircuitHalfOpen, "the next request is a trial"),
    ] {
        let cause = only(|input, _| {
            let open =
                BreakerView { open_for: Some(Duration::from_millis(left)), ..circuit(CircuitState::Open) };
            input.buckets[0].circuits = vec![open];
        });
        assert_eq!((cause.code, cause.until.is_some()), (code, left > 0));
        assert!(cause.message.ends_with(end), "{cause:?}");
    }
}

/// X10
#[test]
fn late_calls_are_a_cause_before_they_time_out() {
    let mut began = None;
    let cause = only(|input, now| {
        began = now.checked_sub(Duration::from_secs(6));
        input.buckets[0].late = Some(LateCallsSnapshot { count: 7, since: began.unwrap() });
    });
    assert_eq!((cause.code, cause.since), (CauseCode::UpstreamUnresponsive, began));
    assert_eq!(cause.measured, Some(Quantity::count(7, "calls")));
}

/// X10: each endpoint is a cause with its end, and all together are one of the bucket
#[test]
fn endpoints_out_of_rotation_are_causes() {
    let out = |state: fn(Instant) -> EndpointState| {
        move |input: &mut StatusInput<'static>, now: Instant| {
            input.buckets[0].pool.endpoints[1] = endpoint(state(now + Duration::from_secs(1)));
        }
    };
    for (change, message) in [
        (out(EndpointState::BackingOff), "b:80: unreachable, back in 1000 ms"),
        (
            out(|until| EndpointState::Ejected(until, FailureKind::Timeout)),
            "b:80: ejected (silent), back in 1000 ms",
        ),
        (out(|_| EndpointState::Unhealthy), "b:80: fails its health checks"),
    ] {
        let cause = only(change);
        assert_eq!((cause.code, &cause.scope), (CauseCode::EndpointOut, &scope(ScopeKind::Endpoint, "b:80")));
        assert!(cause.message.ends_with(message), "{cause:?}");
        assert_eq!(cause.until.is_some(), message.contains("1000 ms"));
    }
    let cause = only(|input, _| {
        input.buckets[0].pool.endpoints =
            vec![endpoint(EndpointState::Unhealthy), endpoint(EndpointState::Unhealthy)];
    });
    assert_eq!((cause.code, cause.scope), (CauseCode::EndpointsOut, Scope::bucket("photos")));
}

/// X10, C4: credentials are named by their configured name; without any, the bucket has a cause of its own
#[test]
fn credentials_that_are_out_are_causes() {
    let found = |states: &[CredentialState]| {
        let credentials = states.iter().map(|state| credential(*state)).collect();
        let causes = after(|input, _| input.buckets[0].pool.credentials = credentials);
        causes.into_iter().map(|cause| (cause.code, cause.scope.name)).collect::<Vec<_>>()
    };
    let later = clock::now() + Duration::from_secs(60);
    let main = || Some("main".to_owned());
    let (cooling, refused) = (CauseCode::CredentialCooling, CauseCode::CredentialRefused);
    assert_eq!(found(&[CredentialState::InUse, CredentialState::CoolingDown(later)]), [(cooling, main())]);
    assert_eq!(found(&[CredentialState::OnTrial]), [(refused, main())]);
    let out = (CauseCode::CredentialsOut, None);
    assert_eq!(
        found(&[CredentialState::CoolingDown(later), CredentialState::Refused(later)]),
        [(cooling, main()), (refused, main()), out]
    );
}

/// X10
#[test]
fn levels_above_normal_and_stale_sensors_are_causes() {
    for (level, code) in [
        (Level::Warning, CauseCode::WarningLevel),
        (Level::Critical, CauseCode::CriticalLevel),
        (Level::Exhausted, CauseCode::Exhausted),
    ] {
        let cause = only(|input, _| {
            input.level.level = level;
            input.level.reason = Some("memory at 97.0 %, threshold 95 %".to_owned());
            input.level.percent = Some((96.5, 95));
        });
        assert_eq!((cause.code, cause.code.as_str()), (code, level.as_str()));
        assert_eq!(cause.measured, Some(Quantity::new(96.5, "%")));
        assert_eq!(cause.threshold, Some(Quantity::count(95, "%")));
        assert!(cause.message.ends_with("memory at 97.0 %, threshold 95 %"), "{cause:?}");
    }
    assert_eq!(only(|input, now| input.level.stale_since = Some(now)).code, CauseCode::SensorsStale);
    let unknown = only(|input, _| input.level.unknown = vec!["memory"]);
    assert_eq!(
        (unknown.code, unknown.scope),
        (CauseCode::SensorUnknown, Scope::of(ScopeKind::Process, "memory"))
    );
}

/// X10, X12
#[test]
fn a_log_that_loses_lines_is_a_cause() {
    let cause = only(|input, now| {
        let detail = "No space left on device".to_owned();
        input.log = Some(CurrentFault { cause: LogFault::DiskFull, since: now, detail });
        input.log_lines_lost = 12;
    });
    assert_eq!((cause.code, cause.scope), (CauseCode::Log, Scope::of(ScopeKind::Log, "disk_full")));
    assert_eq!(cause.measured, Some(Quantity::count(12, "lines")));
    assert!(cause.message.contains("No space left"), "{}", cause.message);
}

/// X5, X10: connections that wait in the backlog are a cause
#[test]
fn a_pause_in_accepting_is_a_cause() {
    let cause = only(|input, now| input.waiting = vec![("data", "out_of_descriptors", now)]);
    assert_eq!(
        (cause.code, cause.scope),
        (CauseCode::ConnectionsWait, Scope::of(ScopeKind::Listener, "data"))
    );
    assert!(cause.message.contains("out_of_descriptors"), "{}", cause.message);
}

/// X10
#[test]
fn draining_and_chaos_are_causes() {
    for (accepts, effect) in [(true, "are accepted"), (false, "no new connections")] {
        let cause = only(|input, now| input.draining = Some(DrainState { began: now, accepts }));
        assert_eq!(cause.code, CauseCode::Draining);
        assert!(cause.effect.contains(effect), "{cause:?}");
    }
    assert_eq!(only(|input, now| input.chaos = Some(now)).code, CauseCode::Chaos);
}

/// X10, A2, A7: causes for clock skew and refused certificates name the endpoint and have their age
#[test]
fn clocks_and_handshakes_are_causes() {
    let causes = after(|input, now| {
        let ahead =
            ClockOffset::between(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(3600));
        let view = |obstacle| Some(ClockSnapshot { began: now, measured: Some(ahead), obstacle });
        input.buckets[0].clocks = vec![view(None), view(Some(ClockObstacle::Untrusted))];
        let failure = TlsFailure::from(&rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer));
        input.buckets[0].tls_failures = vec![("a:443".to_owned(), FailingTls { since: now, failure })];
    });
    let found: Vec<_> = causes.iter().map(|cause| (cause.code, cause.scope.clone())).collect();
    let at = |name| scope(ScopeKind::Endpoint, name);
    let skew = CauseCode::UpstreamClockSkew;
    assert_eq!(found, [(CauseCode::UpstreamTls, at("a:443")), (skew, at("a:80")), (skew, at("b:80"))]);
    assert!(causes[0].message.contains("no authority") && causes[0].message.contains("tls.ca_file"));
    assert!(causes[1].message.contains("the store's clock is 3600 s ahead of the gateway's"));
    assert!(causes[1].effect.starts_with("none") && causes[2].effect.ends_with("answered 503"));
    assert!(causes[2].message.contains("https://"), "{}", causes[2].message);
}

/// A7, X10: a certificate is a cause within 14 days of its end and after it, and a refused one is another
#[test]
fn certificates_near_their_end_are_causes() {
    let cause = |days: i64, failing: bool| {
        let causes = after(|input, now| {
            let left = Duration::from_secs(days.unsigned_abs() * DAY);
            let end = if days < 0 { input.wall - left } else { input.wall + left };
            let error = "no key".to_owned();
            let failing =
                failing.then_some(FailingRefresh { since: now, failures: 1, error, retry_at: None });
            input.certificates = vec![CertificateInput { listener: "data", not_after: Some(end), failing }];
        });
        causes.iter().map(|cause| (cause.code, cause.until.is_some())).collect::<Vec<_>>()
    };
    assert_eq!(cause(14, false), []);
    assert_eq!(cause(13, false), [(CauseCode::CertificateExpires, true)]);
    assert_eq!(cause(-1, false), [(CauseCode::CertificateExpired, false)]);
    assert_eq!(cause(90, true), [(CauseCode::CertificateRefused, false)]);
}

/// A2, A3, X10: failing renewals are causes, with whether an old value is in use
#[test]
fn failing_renewals_are_causes() {
    let failing = |now| FailingRefresh {
        since: now,
        failures: 3,
        error: "refused".to_owned(),
        retry_at: now.checked_add(Duration::from_secs(2)),
    };
    for (is_missing, code) in [(true, CauseCode::TokenKeysMissing), (false, CauseCode::TokenKeysRefresh)] {
        let cause = only(|input, now| {
            input.token_keys = Some(TokenKeysInput { is_missing, failing: Some(failing(now)) });
        });
        assert_eq!(cause.code, code);
        assert!(
            cause.message.ends_with("refused (3 failures in a row, tried again in 2000 ms)"),
            "{}",
            cause.message
        );
    }
    for (credential, is_usable, code, name) in [
        (None, false, CauseCode::CredentialsMissing, None),
        (None, true, CauseCode::CredentialRenewal, Some("container")),
        (Some(CredentialId(0)), false, CauseCode::CredentialRenewal, Some("main")),
    ] {
        let cause = only(|input, now| {
            let expires = Some(input.wall + Duration::from_secs(90));
            let bucket = &mut input.buckets[0];
            bucket.pool.credentials = vec![self::credential(CredentialState::InUse)];
            bucket.renewals = vec![RenewalView { credential, is_usable, failing: failing(now), expires }];
        });
        assert_eq!((cause.code, cause.scope.name.as_deref()), (code, name));
        assert_eq!(
            cause.message.ends_with("the present ones expire in 90 s"),
            is_usable,
            "{}",
            cause.message
        );
    }
}

/// P8, X10: an answer of the resolver past its age is a cause
#[test]
fn a_stale_answer_of_the_resolver_is_a_cause() {
    let cause = only(|input, now| {
        let error = "servfail".to_owned();
        let stale = StaleAnswer { host: "store.test".to_owned(), since: now, error };
        input.buckets[0].stale_answers = vec![("store.test:80".to_owned(), stale)];
    });
    assert_eq!(
        (cause.code, cause.scope),
        (CauseCode::ResolverStale, scope(ScopeKind::Endpoint, "store.test:80"))
    );
    assert!(cause.message.contains("store.test cannot be resolved"), "{}", cause.message);
}

/// L6, P3, X10: refusals of the queue, and what a limit in shadow mode would have refused, are counted
#[test]
fn the_queue_and_shadow_limits_are_counted() {
    let mut input = healthy(clock::now());
    input.buckets[0].shadowed = vec![(LimitScope::Ip, 4)];
    let mut counts = EffectCounts::default();
    counts.add_refused("photos", "queue_full", 2);
    counts.add_refused("photos", "queue_timeout", 3);
    counts.add_refused("", "too_many_requests_in_flight", 7);
    let counters = sample(&input, counts).counters;
    let count = |code| {
        let reading = counters.iter().find(|reading| reading.finding.code == code).unwrap();
        (reading.count, reading.finding.scope.name.clone())
    };
    assert_eq!(count(CauseCode::QueueOverflow), (5, None));
    assert_eq!(count(CauseCode::InFlightFull), (7, None));
    assert_eq!(count(CauseCode::LimitShadow), (4, Some("ip".to_owned())));
}
