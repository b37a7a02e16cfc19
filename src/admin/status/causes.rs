//! The causes of degradation in the published state (X10): a pure function of what `input.rs` collects.
//!
//! This file has the causes of the process; `bucket_causes.rs` has those of a bucket. The table of codes is in
//! `degradation/codes/table.rs`.

use std::time::{Duration, Instant};

use tidegate_actors::{ActionEntry, ActionView, ActorStatus, Level};
use tidegate_config::ActionMode;

use crate::admin::status::input::{
    ActorInput, CertificateInput, DrainState, LevelInput, StatusInput, TokenKeysInput,
};
use crate::admin::status::shedding_cause;
use crate::degradation::codes::{CauseCode, ScopeKind};
use crate::degradation::counts::EffectCounts;
use crate::degradation::episodes::CounterReading;
use crate::degradation::finding::{Finding, Quantity, Scope};
use crate::degradation::published::Sample;
use crate::process::drain_report::DrainCause;
use crate::process::last_reload::LastReload;
use crate::shortage::{PresentShortage, Shortage};
use crate::telemetry::log::CurrentFault;
use crate::telemetry::{counted, millis};
use crate::upstream::rules::refresh_health::FailingRefresh;

/// A certificate that ends sooner is a cause.
const CERTIFICATE_WARNING: Duration = Duration::from_secs(14 * DAY);
const DAY: u64 = 24 * 3600;
/// The unit of failed renewals.
const FAILURES: &str = "failures in a row";

/// All causes and the counters from which further ones are derived.
pub(super) fn sample(input: &StatusInput<'_>, counts: EffectCounts) -> Sample {
    let now = input.now;
    let mut sample = Sample { findings: of_process(input), counts, ..Sample::default() };
    sample.counters.extend(full_slots(input, &sample.counts));
    sample.counters.extend(shadow_client_limit(input));
    sample.counters.extend(shedding_cause::counter(Scope::process, &input.shedding));
    for actor in &input.actors {
        sample.findings.extend(actor_cause(actor, input.limiter_refuses, now));
        sample.counters.extend(restarts(actor));
        sample.counters.extend(full_mailbox(actor));
    }
    for bucket in &input.buckets {
        sample.findings.extend(bucket.causes(input));
        sample.counters.extend(bucket.queue_overflow(&sample.counts));
        sample.counters.extend(shedding_cause::counter(|| Scope::bucket(bucket.name), &bucket.shedding));
        sample.counters.extend(bucket.shadow_limits());
        sample.occurrences.extend(bucket.occurrences());
        bucket.add_touched(&mut sample.counts);
    }
    sample
}

/// Requests that were refused because all slots were in use.
fn full_slots(input: &StatusInput<'_>, counts: &EffectCounts) -> Option<CounterReading> {
    let count = counts.refused(CauseCode::InFlightFull, &Scope::process());
    CounterReading::if_risen(count, || {
        let (used, max) = (input.in_flight, input.in_flight_max);
        let message = format!("requests were refused: {used} of {max} slots are in use");
        let finding = Finding::new(CauseCode::InFlightFull, Scope::process(), message)
            .measured(Quantity::count(used as u64, "requests"))
            .threshold(Quantity::count(max as u64, "requests"));
        CounterReading { finding, count, unit: "requests", is_hidden: false }
    })
}

fn of_process(input: &StatusInput<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(input.draining.and_then(draining));
    findings.extend(input.waiting.iter().map(waiting));
    findings.extend(level(&input.level, &input.actions));
    findings.extend(input.actions.iter().filter_map(shadow_action));
    findings.extend(input.shortages.iter().map(shortage));
    findings.extend(input.last_reload.as_ref().and_then(refused_reload));
    findings.extend(input.certificates.iter().flat_map(|each| certificate(each, input)));
    findings.extend(input.token_keys.as_ref().and_then(|keys| token_keys(keys, input.now)));
    findings.extend(input.log.as_ref().map(|fault| log(fault, input.log_lines_lost)));
    let chaos = |since| {
        let message = "admin.chaos is on; turn it off in production";
        Finding::new(CauseCode::Chaos, Scope::process(), message).since(since)
    };
    findings.extend(input.chaos.map(chaos));
    findings
}

/// None after an upgrade: the successor serves, and its log is that of this process too.
fn draining(DrainState { began, cause, accepts }: DrainState) -> Option<Finding> {
    let message = match cause {
        DrainCause::Signal => "the process stops because of a signal",
        DrainCause::Request => "the process stops because of a request to its admin listener",
        DrainCause::ThreadEnded => "the process stops because a worker thread has ended by a defect",
        DrainCause::HandedOver => return None,
    };
    let finding = Finding::new(CauseCode::Draining, Scope::process(), message).since(began);
    Some(finding.with_effect(if accepts {
        "new connections are accepted until server.drain_delay is over; each answer closes its connection"
    } else {
        "no new connections; the process ends after the requests in flight"
    }))
}

fn waiting(&(listener, cause, began): &(&'static str, &'static str, Instant)) -> Finding {
    let message = format!("the {listener} listener does not accept connections: {cause}");
    Finding::new(CauseCode::ConnectionsWait, Scope::of(ScopeKind::Listener, listener), message).since(began)
}

fn level(input: &LevelInput, actions: &[ActionView]) -> Vec<Finding> {
    let code = match input.level {
        Level::Normal => None,
        Level::Warning => Some(CauseCode::WarningLevel),
        Level::Critical => Some(CauseCode::CriticalLevel),
        Level::Exhausted => Some(CauseCode::Exhausted),
    };
    let level = code.map(|code| {
        let reason = input.reason.as_deref().unwrap_or("no sensor is named");
        let message = format!("the resource level is {}: {reason}", input.level.as_str());
        let finding = Finding::new(code, Scope::process(), message).since(input.since);
        let finding = finding.with_effect(effect_of(actions));
        Finding {
            measured: input.percent.map(|(percent, _)| Quantity::new(percent, "%")),
            threshold: input.percent.map(|(_, threshold)| Quantity::count(threshold.into(), "%")),
            ..finding
        }
    });
    let stale = input.stale_since.map(|since| {
        let message = "the sensors were not read for several intervals";
        Finding::new(CauseCode::SensorsStale, Scope::process(), message).since(since)
    });
    let unknown = input.unknown.iter().map(|sensor| {
        let name = sensor.as_str();
        let message = format!(
            "the sensor {name} gives no reading; the gateway must be able to read {}",
            sensor.source()
        );
        Finding::new(CauseCode::SensorUnknown, Scope::of(ScopeKind::Process, name), message)
    });
    level.into_iter().chain(stale).chain(unknown).collect()
}

/// The enforced actions, by name.
fn effect_of(actions: &[ActionView]) -> String {
    let is_enforced = |view: &&ActionView| view.since.is_some() && view.rule.mode == ActionMode::Enforce;
    let names: Vec<_> = actions.iter().filter(is_enforced).map(|view| view.action.entry().name).collect();
    match names.as_slice() {
        [] => "none: no action is in force".to_owned(),
        names => format!("actions in force: {}", names.join(", ")),
    }
}

/// An action that would be in force, but is in shadow mode.
fn shadow_action(view: &ActionView) -> Option<Finding> {
    let since = view.since.filter(|_| view.rule.mode == ActionMode::Shadow)?;
    let ActionEntry { name, unit, .. } = view.action.entry();
    let touched = view.touched_in_force.unwrap_or_default();
    let message = format!(
        "the action {name} is in shadow mode: its level {} is reached, and it would have touched {}",
        view.rule.on_level.as_str(),
        counted(touched, unit)
    );
    let scope = Scope::of(ScopeKind::Process, *name);
    let finding = Finding::new(CauseCode::ActionShadow, scope, message);
    Some(finding.since(since).measured(Quantity::count(touched, unit)))
}

/// The limit of requests in flight of one client in shadow mode.
fn shadow_client_limit(input: &StatusInput<'_>) -> Option<CounterReading> {
    let (limit, count) = input.client_limit;
    CounterReading::if_risen(count, || {
        let message =
            format!("`concurrency.max_per_client` would have refused requests: its limit is {limit}");
        let finding = Finding::new(CauseCode::ClientLimitShadow, Scope::process(), message);
        let finding = finding.threshold(Quantity::count(limit as u64, "requests"));
        CounterReading { finding, count, unit: "requests", is_hidden: false }
    })
}

fn shortage(&PresentShortage { shortage, since, failed }: &PresentShortage) -> Finding {
    let code = match shortage {
        Shortage::Descriptors => CauseCode::OutOfDescriptors,
        Shortage::Ports => CauseCode::OutOfPorts,
        Shortage::Memory => CauseCode::OutOfMemory,
    };
    let calls = |count| Quantity::count(count, "failed calls");
    let message = format!("{shortage}; {}", shortage.hint());
    Finding::new(code, Scope::process(), message).since(since).measured(calls(failed)).threshold(calls(1))
}

fn log(fault: &CurrentFault, lost: u64) -> Finding {
    let scope = Scope::of(ScopeKind::Log, fault.cause.as_str());
    let remedy = fault.cause.remedy();
    let message = format!("{}; {} lost since the start; {remedy}", fault.detail, counted(lost, "lines"));
    let measured = Quantity::count(lost, "lines");
    Finding::new(CauseCode::Log, scope, message).since(fault.since).measured(measured)
}

fn refused_reload(last: &LastReload) -> Option<Finding> {
    let since = last.refused_since?;
    let (first, more) = last.problems.split_first()?;
    let more = if more.is_empty() { String::new() } else { format!(" ({} more)", more.len()) };
    let message = format!("the last reload was refused: {}: {}{more}", first.key, first.message);
    let measured = Quantity::count(last.problems.len() as u64, "problems");
    Some(
        Finding::new(CauseCode::ConfigurationRefused, Scope::process(), message)
            .since(since.now)
            .measured(measured)
            .threshold(Quantity::count(1, "problems")),
    )
}

fn certificate(input: &CertificateInput, status: &StatusInput<'_>) -> Vec<Finding> {
    let scope = || Scope::of(ScopeKind::Listener, input.listener);
    let refused = input.failing.as_ref().map(|failing| {
        Finding::new(CauseCode::CertificateRefused, scope(), failing.error.clone()).since(failing.since)
    });
    let early = input.validity.and_then(|validity| validity.not_before.duration_since(status.wall).ok());
    let early = early.filter(|early| !early.is_zero()).map(|early| {
        let message = format!(
            "the certificate of the {} listener is not valid yet: its validity begins in {} s by the clock of the gateway",
            input.listener,
            early.as_secs_f64().ceil()
        );
        Finding::new(CauseCode::CertificateNotYetValid, scope(), message).until(status.now + early)
    });
    let end = input.validity.map(|validity| validity.not_after);
    let left = end.map(|end| end.duration_since(status.wall).map_err(|over| over.duration()));
    let ends = match left {
        Some(Ok(left)) if left >= CERTIFICATE_WARNING => None,
        Some(Ok(left)) => {
            let days = left.as_secs_f64() / DAY as f64;
            let message =
                format!("the certificate of the {} listener expires in {days:.1} days", input.listener);
            let finding = Finding::new(CauseCode::CertificateExpires, scope(), message);
            let finding = finding.measured(Quantity::new(days, "days")).until(status.now + left);
            Some(finding.threshold(Quantity::count(CERTIFICATE_WARNING.as_secs() / DAY, "days")))
        }
        Some(Err(over)) => {
            let days = over.as_secs_f64() / DAY as f64;
            let message =
                format!("the certificate of the {} listener expired {days:.1} days ago", input.listener);
            let finding = Finding::new(CauseCode::CertificateExpired, scope(), message);
            // The clock of the process may have begun after the certificate's end.
            Some(match status.now.checked_sub(over) {
                Some(end) => finding.since(end),
                None => finding,
            })
        }
        None => None,
    };
    refused.into_iter().chain(early).chain(ends).collect()
}

fn token_keys(input: &TokenKeysInput, now: Instant) -> Option<Finding> {
    let failing = input.failing.as_ref()?;
    let code = if input.is_missing { CauseCode::TokenKeysMissing } else { CauseCode::TokenKeysRefresh };
    let message = format!("the keys that verify tokens cannot be fetched: {}", refresh_error(failing, now));
    Some(with_refresh(Finding::new(code, Scope::process(), message), failing))
}

/// The error, the number of failures, and the time of the next attempt.
pub(super) fn refresh_error(failing: &FailingRefresh, now: Instant) -> String {
    let next = failing.retry_at.map(|at| format!(", tried again in {} ms", remaining_ms(at, now)));
    let failures = counted(failing.failures.into(), FAILURES);
    format!("{} ({failures}{})", failing.error, next.unwrap_or_default())
}

/// Adds the start and the figures of a failing renewal. `until` is unknown: the next attempt may fail too.
pub(super) fn with_refresh(finding: Finding, failing: &FailingRefresh) -> Finding {
    finding.since(failing.since).measured(Quantity::count(failing.failures.into(), FAILURES))
}

fn actor_cause(actor: &ActorInput<'_>, limiter_refuses: bool, now: Instant) -> Option<Finding> {
    let ActorInput { name, status, restarts, .. } = *actor;
    match status {
        ActorStatus::Running => None,
        ActorStatus::Stalled => {
            let message = format!("{name} has handled no message for at least a second, and messages wait");
            Some(Finding::new(CauseCode::ActorStalled, Scope::actor(name), message))
        }
        ActorStatus::Failed { retry_after } => {
            let code = match name.split(':').next() {
                Some("limiter") if limiter_refuses => CauseCode::LimiterFailed,
                Some("limiter") => CauseCode::LimiterBypassed,
                Some("pool") => CauseCode::PoolFailed,
                _ => CauseCode::ActorFailed,
            };
            let left = millis(retry_after);
            let message = format!("{name} crashed too often; the next restart is in {left} ms");
            let finding = Finding::new(code, Scope::actor(name), message).until(now + retry_after);
            let finding = finding.measured(Quantity::count(restarts, "restarts since the start"));
            Some(match name {
                "sessions" => finding.with_effect("signatures and tokens are verified without the cache"),
                "monitor" => finding.with_effect("the last resource level stays in force"),
                _ => finding,
            })
        }
    }
}

/// Hidden while the actor is held down, which is a cause of its own.
fn restarts(actor: &ActorInput<'_>) -> Option<CounterReading> {
    let ActorInput { name, status, restarts, .. } = *actor;
    CounterReading::if_risen(restarts, || {
        let message = format!("{name} crashed and was restarted; its log line has the panic");
        let finding = Finding::new(CauseCode::ActorRestarting, Scope::actor(name), message);
        let is_held_down = matches!(status, ActorStatus::Failed { .. });
        CounterReading { finding, count: restarts, unit: "restarts", is_hidden: is_held_down }
    })
}

fn full_mailbox(actor: &ActorInput<'_>) -> Option<CounterReading> {
    CounterReading::if_risen(actor.busy, || {
        let message = format!("the mailbox of {} refused messages", actor.name);
        let threshold = Quantity::count(actor.mailbox_capacity as u64, "messages");
        let finding = Finding::new(CauseCode::MailboxFull, Scope::actor(actor.name), message);
        let finding = finding.threshold(threshold);
        CounterReading { finding, count: actor.busy, unit: "messages", is_hidden: false }
    })
}

/// Milliseconds until a time.
pub(super) fn remaining_ms(until: Instant, now: Instant) -> u64 {
    millis(until.saturating_duration_since(now))
}

#[cfg(test)]
#[path = "causes_tests.rs"]
mod tests;
