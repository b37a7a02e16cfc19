//! Each cause of a bucket alone, in a gateway without other faults.

use std::time::SystemTime;

use rustls::CertificateError;
use tidegate_actors::{
    BreakerView, CircuitState, CredentialState, EndpointState, FailoverView, FailureKind, LimitScope,
    ServingView, clock,
};
use tidegate_config::BreakerMode;

use super::*;
use crate::admin::status::causes::sample;
use crate::admin::status::samples::{after, circuit, credential, endpoint, healthy, only, pool, scope};
use crate::upstream::connect::dns_cache::FailingLookup;
use crate::upstream::connect::tls::FailingTls;
use crate::upstream::connect::tls_failure::TlsFailure;
use crate::upstream::rules::late_calls::LateCallsSnapshot;
use crate::upstream::rules::store_clock::{ClockObstacle, ClockOffset, ClockSnapshot};
use crate::upstream::rules::unanswered_calls::UnansweredSnapshot;

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

/// X10: between two calls the last timeouts are the cause, unless the endpoint is out of rotation
#[test]
fn calls_that_timed_out_are_a_cause() {
    let silent = |input: &mut StatusInput<'static>, now: Instant| {
        let until = now + Duration::from_secs(10);
        input.buckets[0].unanswered[1] = Some(UnansweredSnapshot { count: 3, since: now, until });
    };
    let mut ends = None;
    let cause = only(|input, now| {
        ends = Some(now + Duration::from_secs(10));
        silent(input, now);
    });
    assert_eq!((cause.code, cause.until), (CauseCode::UpstreamUnresponsive, ends));
    assert_eq!(cause.message, "bucket photos: the last 3 calls to b:80 timed out without a response head");
    assert_eq!(cause.measured, Some(Quantity::count(3, "calls")));
    let cause = only(|input, now| {
        silent(input, now);
        let until = now + Duration::from_secs(1);
        input.buckets[0].pool.endpoints[1] = endpoint(EndpointState::Ejected(until, FailureKind::Timeout));
    });
    assert_eq!(cause.code, CauseCode::EndpointOut);
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

/// X10, P5: endpoints that fail in rotation are the only cause of the bucket, also beside one that is out
#[test]
fn failing_endpoints_are_a_cause() {
    let panicking = ServingView { endpoints: 0..2, is_panicking: true, failover: None };
    let cause = only(|input, _| input.buckets[0].pool.serving = panicking.clone());
    assert_eq!((cause.code, &cause.scope), (CauseCode::EndpointsFailing, &Scope::bucket("photos")));
    assert_eq!(cause.message, "bucket photos: all endpoints failed, and all are called: a:80, b:80");
    let causes = after(|input, now| {
        let until = now + Duration::from_secs(1);
        input.buckets[0].pool.endpoints[1] = endpoint(EndpointState::Ejected(until, FailureKind::Timeout));
        input.buckets[0].pool.serving = panicking.clone();
    });
    let codes: Vec<_> = causes.iter().map(|cause| cause.code).collect();
    assert_eq!(codes, [CauseCode::EndpointsFailing], "all are called");
}

/// X10, P5: the only endpoint of a bucket fails after five failures in a row, unless a circuit refuses its calls
#[test]
fn the_only_endpoint_that_fails_is_a_cause() {
    let found = |mode, consecutive_failures, endpoints: usize| {
        after(|input, _| {
            let bucket = &mut input.buckets[0];
            bucket.mode = mode;
            bucket.circuits = vec![BreakerView { consecutive_failures, ..circuit(CircuitState::Closed) }];
            bucket.pool = pool(vec![endpoint(EndpointState::InRotation); endpoints], Vec::new());
            bucket.authorities.truncate(endpoints);
            bucket.clocks.truncate(endpoints);
        })
    };
    for mode in [BreakerMode::On, BreakerMode::Off, BreakerMode::Shadow] {
        assert_eq!(found(mode, 4, 1), []);
        assert_eq!(found(mode, 5, 2), [], "the load balancer decides");
        let causes = found(mode, 5, 1);
        let [cause] = causes.as_slice() else { panic!("{causes:?}") };
        assert_eq!(cause.code, CauseCode::EndpointsFailing);
        assert_eq!(cause.message, "bucket photos: calls to the only endpoint a:80 fail: 5 in a row (all)");
        assert_eq!(cause.threshold, Some(Quantity::count(5, "failures in a row")));
    }
    let open = after(|input, _| {
        let bucket = &mut input.buckets[0];
        bucket.circuits = vec![BreakerView { consecutive_failures: 5, ..circuit(CircuitState::Open) }];
        bucket.pool = pool(vec![endpoint(EndpointState::InRotation)], Vec::new());
        bucket.authorities.truncate(1);
        bucket.clocks.truncate(1);
    });
    let codes: Vec<_> = open.iter().map(|cause| cause.code).collect();
    assert_eq!(codes, [CauseCode::CircuitOpen], "an open circuit is the cause");
}

/// X10, P5: a failover names the standby endpoints that serve and its end; none is named while all endpoints are called
#[test]
fn a_failover_is_a_cause() {
    let found = |is_panicking, returns_after: Option<Duration>| {
        after(|input, now| {
            let failover = FailoverView {
                usable_percent: 0,
                min_usable_percent: 50,
                return_after: Duration::from_secs(10),
                returns_at: returns_after.map(|after| now + after),
            };
            let failover = Some(failover);
            input.buckets[0].pool.serving = ServingView { endpoints: 1..2, is_panicking, failover };
        })
    };
    for (after, end) in [
        (Some(Duration::from_secs(3)), "requests return to the primary ones in 3000 ms"),
        (None, "requests return once enough primary ones have been usable for 10000 ms"),
    ] {
        let causes = found(false, after);
        let [cause] = causes.as_slice() else { panic!("{causes:?}") };
        assert_eq!((cause.code, cause.until.is_some()), (CauseCode::StandbyInUse, after.is_some()));
        assert_eq!(cause.message, format!("bucket photos: the standby endpoints b:80 serve; {end}"));
        assert_eq!(cause.threshold.map(|threshold| threshold.value), Some(50.0));
    }
    let causes = found(true, None);
    let [cause] = causes.as_slice() else { panic!("{causes:?}") };
    assert_eq!(cause.code, CauseCode::EndpointsFailing, "none is named");
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

/// P8, X10: a failing lookup is a cause, with and without an answer of the resolver past its age
#[test]
fn a_failing_lookup_is_a_cause() {
    for (has_answer, code, measured) in [
        (true, CauseCode::ResolverStale, Quantity::new(90.0, "s")),
        (false, CauseCode::UpstreamUnresolved, Quantity::count(3, "failed lookups in a row")),
    ] {
        let cause = only(|input, now| {
            let (host, error) = ("store.test".to_owned(), "servfail".to_owned());
            let (ttl, answered) = (Duration::from_secs(30), now - Duration::from_secs(90));
            let answered = has_answer.then_some(answered);
            let failing = FailingLookup { host, answered, ttl, since: now, failures: 3, error };
            input.buckets[0].failing_lookups = vec![("store.test:80".to_owned(), failing)];
        });
        assert_eq!((cause.code, cause.scope), (code, scope(ScopeKind::Endpoint, "store.test:80")));
        assert_eq!(cause.measured, Some(measured));
        assert!(cause.message.contains("store.test cannot be resolved"), "{}", cause.message);
    }
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
