//! Each cause of the process alone, in a gateway without other faults.

use tidegate_actors::{Action, ActionRule, CredentialId, CredentialState, Sensor, clock};

use super::*;
use crate::admin::status::samples::{after, credential, healthy, only};
use crate::server::certificate_validity::Validity;
use crate::telemetry::log::LogFault;
use crate::upstream::credentials::RenewalView;

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
    let is_restart = |reading: &&CounterReading| reading.finding.code == CauseCode::ActorRestarting;
    let counters = sample(&input, EffectCounts::default()).counters;
    assert_eq!(counters.iter().filter(is_restart).count(), 0, "none was restarted");
    input.actors.iter_mut().for_each(|actor| actor.restarts = 1);
    let counters = sample(&input, EffectCounts::default()).counters;
    assert_eq!(counters.iter().filter(is_restart).count(), 3);
    let held_down = ActorInput {
        name: "limiter",
        status: ActorStatus::Failed { retry_after: Duration::ZERO },
        restarts: 9,
        ..input.actors.remove(0)
    };
    assert!(restarts(&held_down).is_some_and(|reading| reading.is_hidden));
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
            input.shortages.push(PresentShortage { shortage, since: now, failed: 7 });
        });
        assert_eq!((cause.code, cause.since, cause.code.as_str()), (code, began, shortage.as_str()));
        assert_eq!(cause.measured, Some(Quantity::count(7, "failed calls")));
        assert!(cause.message.starts_with(&format!("{shortage}; ")), "{}", cause.message);
    }
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
    let unknown = only(|input, _| input.level.unknown = vec![Sensor::Memory]);
    assert_eq!(
        (unknown.code, unknown.scope),
        (CauseCode::SensorUnknown, Scope::of(ScopeKind::Process, "memory"))
    );
    assert!(unknown.message.contains("/proc/meminfo"), "{}", unknown.message);
}

/// X2, X10, X11: a level names the enforced actions in force; each action in shadow mode is a cause of its own
#[test]
fn actions_in_force_are_named() {
    let view = |action, mode, since| ActionView {
        action,
        rule: ActionRule { on_level: Level::Critical, mode },
        since,
        touched: 9,
        touched_in_force: since.map(|_| 4),
    };
    let causes = after(|input, now| {
        input.level.level = Level::Critical;
        input.actions = vec![
            view(Action::Hedges, ActionMode::Enforce, Some(now)),
            view(Action::Retries, ActionMode::Enforce, Some(now)),
            view(Action::KeepAlive, ActionMode::Shadow, Some(now)),
            view(Action::ShedUploads, ActionMode::Shadow, None),
            view(Action::ShedRequests, ActionMode::Enforce, None),
        ];
    });
    let [level, shadow] = causes.as_slice() else { panic!("{causes:?}") };
    assert_eq!(
        (level.code, level.effect.as_ref()),
        (CauseCode::CriticalLevel, "actions in force: hedges, retries")
    );
    assert_eq!(
        (shadow.code, &shadow.scope),
        (CauseCode::ActionShadow, &Scope::of(ScopeKind::Process, "keep_alive"))
    );
    assert_eq!(shadow.measured, Some(Quantity::count(4, "connections")));
    assert!(shadow.message.contains("its level critical is reached"), "{}", shadow.message);
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
        let cause = only(|input, now| {
            input.draining = Some(DrainState { began: now, cause: DrainCause::Signal, accepts })
        });
        assert_eq!(cause.code, CauseCode::Draining);
        assert!(cause.effect.contains(effect), "{cause:?}");
    }
    assert_eq!(only(|input, now| input.chaos = Some(now)).code, CauseCode::Chaos);
}

/// A7, X10: a certificate is a cause before its begin, within 14 days of its end and after it, and a refused one is another
#[test]
fn certificates_near_their_end_are_causes() {
    let validity = |begin: i64, days: i64, failing: bool| {
        let causes = after(|input, now| {
            let at = |days: i64| {
                let distance = Duration::from_secs(days.unsigned_abs() * DAY);
                if days < 0 { input.wall - distance } else { input.wall + distance }
            };
            let validity = Validity { not_before: at(begin), not_after: at(days) };
            let error = "no key".to_owned();
            let failing =
                failing.then_some(FailingRefresh { since: now, failures: 1, error, retry_at: None });
            input.certificates =
                vec![CertificateInput { listener: "data", validity: Some(validity), failing }];
        });
        causes.iter().map(|cause| (cause.code, cause.until.is_some())).collect::<Vec<_>>()
    };
    let cause = |days, failing| validity(-90, days, failing);
    assert_eq!(cause(14, false), []);
    assert_eq!(validity(1, 90, false), [(CauseCode::CertificateNotYetValid, true)]);
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
