//! Reloads of a bucket's breaker behind its handles, on paused time (G3, B2, B4, S5).

use std::num::NonZeroU32;

use prometheus::Registry;

use super::tests::{acquire, crash, first_view, open, reads, start_with, wait_until_idle};
use super::*;
use crate::breaker::Outcome;
use crate::chaos::CrashPoint;

const FAILURE: Outcome = Outcome::Failure { cause: FailureCause::Status(500), retry_after: None };

/// The configuration of `start_with`.
fn config() -> BreakerConfig {
    BreakerConfig {
        failure_threshold: NonZeroU32::new(2).unwrap(),
        timeout: Duration::from_secs(60),
        ..BreakerConfig::default()
    }
}

fn with_mode(mode: BreakerMode) -> BreakerConfig {
    BreakerConfig { mode, ..config() }
}

async fn reload(handle: &BreakerHandle, config: &BreakerConfig) -> BreakerHandle {
    let (new, reconfigure) = handle.reconfigured(config);
    reconfigure.commit();
    wait_until_idle().await;
    new
}

fn states(handle: &BreakerHandle) -> Vec<(&'static str, CircuitState, Option<Duration>)> {
    handle.views(clock::now()).map(|view| (view.class, view.state, view.open_for)).collect()
}

fn classes(registry: &Registry, family: &str) -> Vec<String> {
    let families = registry.gather();
    let series = families.iter().filter(|one| one.name() == family).flat_map(|one| one.get_metric());
    let class = |metric: &prometheus::proto::Metric| {
        metric.get_label().iter().find(|label| label.name() == "class").map(|label| label.value().to_owned())
    };
    series.filter_map(class).collect()
}

/// G3: a reload that is not committed changes nothing
#[actix_rt::test]
async fn nothing_changes_without_a_commit() {
    let (handle, registry) = start_with(5, config());
    open(&handle, reads()).await;
    let before = states(&handle);
    drop(handle.reconfigured(&with_mode(BreakerMode::ForcedOpen)));
    wait_until_idle().await;
    assert_eq!(states(&handle).len(), before.len());
    assert!(acquire(&handle, CircuitId::for_class(OperationClass::Write, true)).await.is_ok());
    let mode = registry.gather().into_iter().find(|one| one.name() == "circuit_breaker_mode").unwrap();
    assert_eq!(mode.get_metric()[0].get_gauge().get_value().to_bits(), 0_f64.to_bits());
}

/// G3: an open circuit stays open over a reload, for the old handle and the new one
#[actix_rt::test]
async fn an_open_circuit_is_open_for_both_handles() {
    let (old, _) = start_with(5, config());
    open(&old, reads()).await;
    let new = reload(&old, &BreakerConfig { timeout: Duration::from_secs(30), ..config() }).await;
    assert_eq!(states(&old), states(&new));
    for handle in [&old, &new] {
        assert!(matches!(acquire(handle, reads()).await, Err(BreakerRejection::Open { .. })));
    }
    tokio::time::advance(Duration::from_secs(30)).await;
    let trials = [acquire(&old, reads()).await.unwrap(), acquire(&new, reads()).await.unwrap()];
    for trial in trials {
        trial.report(Outcome::Success);
    }
    wait_until_idle().await;
    assert_eq!(states(&new)[0].1, CircuitState::Closed, "a trial of each configuration closed it");
}

/// G3, B2: in shadow mode the new configuration refuses nothing while the old one still does, and back
#[actix_rt::test]
async fn shadow_is_the_mode_of_the_configuration() {
    let (on, _) = start_with(5, config());
    open(&on, reads()).await;
    let shadow = reload(&on, &with_mode(BreakerMode::Shadow)).await;
    assert!(matches!(acquire(&on, reads()).await, Err(BreakerRejection::Open { .. })));
    assert!(acquire(&shadow, reads()).await.unwrap().shadowed_refusal().is_some());
    let enforced = reload(&shadow, &config()).await;
    assert!(matches!(acquire(&enforced, reads()).await, Err(BreakerRejection::Open { .. })));
    assert!(acquire(&shadow, reads()).await.unwrap().shadowed_refusal().is_some());
}

/// G3: one circuit for all classes takes over the worst of the three, and three circuits take over the one. Requests of
/// the replaced configuration go on with the circuits that they know.
#[actix_rt::test]
async fn the_layout_of_the_circuits_changes() {
    let (by_class, registry) = start_with(5, config());
    open(&by_class, CircuitId::for_class(OperationClass::Write, true)).await;
    let begun = acquire(&by_class, reads()).await.unwrap();
    let single = reload(&by_class, &BreakerConfig { per_operation: false, ..config() }).await;
    let [(class, CircuitState::Open, Some(left))] = states(&single)[..] else {
        panic!("{:?}", states(&single))
    };
    assert!(class == "all" && left > Duration::from_secs(59), "{left:?}");
    for class in OperationClass::ALL {
        assert!(single.check(single.circuit(class), clock::now()).is_err());
    }
    begun.report(FAILURE);
    assert!(acquire(&by_class, reads()).await.is_ok(), "the circuit of reads is closed");
    single.remove_replaced_series();
    assert_eq!(classes(&registry, "circuit_breaker_state"), ["all"]);
    assert_eq!(classes(&registry, "circuit_breaker_waits_ended_total").len(), 3);

    let again = reload(&single, &config()).await;
    let open_for = |states: Vec<(&str, CircuitState, Option<Duration>)>| {
        states.into_iter().map(|(_, _, open_for)| open_for.unwrap()).collect::<Vec<_>>()
    };
    let left = open_for(states(&single))[0];
    assert_eq!(open_for(states(&again)), [left; 3]);
    again.remove_replaced_series();
    assert_eq!(classes(&registry, "circuit_breaker_opened_total").len(), 3);
    again.remove_series();
    assert_eq!(classes(&registry, "circuit_breaker_state"), Vec::<String>::new());
}

/// G3: an open circuit refuses requests of another layout at once, before the actor has handled the change
#[actix_rt::test]
async fn a_new_layout_is_open_before_the_actor_knows_it() {
    let (handle, _registry) = start_with(5, config());
    open(&handle, reads()).await;
    let single = BreakerConfig { per_operation: false, ..config() };
    let (new, reconfigure) = handle.reconfigured(&single);
    reconfigure.commit();
    let circuit = new.circuit(OperationClass::Write);
    assert!(new.check(circuit, clock::now()).is_err(), "the actor has not run yet");
    wait_until_idle().await;
    assert!(new.check(circuit, clock::now()).is_err());
    let (back, reconfigure) = new.reconfigured(&config());
    reconfigure.commit();
    assert!(back.check(back.circuit(OperationClass::List), clock::now()).is_err());
}

/// A crash at this point, while the actor handles the change, loses neither the change nor the state.
async fn reload_with_crash(point: CrashPoint) {
    let (old, _) = start_with(5, config());
    open(&old, reads()).await;
    let generation = first_view(&old, clock::now()).generation;
    crash(&old, point, true);
    let config = BreakerConfig { timeout: Duration::from_secs(5), per_operation: false, ..config() };
    let new = reload(&old, &config).await;
    assert_eq!(old.actor().actor_stats().restarts(), 1);
    let view = first_view(&new, clock::now());
    assert_eq!((view.class, view.state), ("all", CircuitState::Open), "{point:?}");
    assert!(view.open_for > Some(Duration::from_secs(4)), "{point:?} {view:?}");
    assert_eq!(view.waiting_max, 0);
    assert!(first_view(&old, clock::now()).generation >= generation);
    // What a crash rebuilt keeps the end that it has.
    tokio::time::advance(Duration::from_secs(60)).await;
    for _ in 0..2 {
        acquire(&new, new.circuit(OperationClass::List)).await.unwrap().report(Outcome::Success);
    }
    wait_until_idle().await;
    open(&new, new.circuit(OperationClass::Read)).await;
    let open_for = first_view(&new, clock::now()).open_for.unwrap();
    assert!(open_for <= Duration::from_secs(5), "{point:?}: the new open time holds: {open_for:?}");
}

/// G3, S5: a crash before the change
#[actix_rt::test]
async fn a_crash_before_the_change_does_not_lose_it() {
    reload_with_crash(CrashPoint::Decide).await;
}

/// G3, S5: a crash that loses the state with the change
#[actix_rt::test]
async fn a_crash_in_the_change_does_not_lose_it() {
    reload_with_crash(CrashPoint::Apply).await;
}

/// G3, S5: a crash that loses the state after the change
#[actix_rt::test]
async fn a_crash_after_the_change_does_not_lose_it() {
    reload_with_crash(CrashPoint::Applied).await;
}

fn waiting(held: u32) -> BreakerConfig {
    BreakerConfig {
        hold: Some(Duration::from_secs(30)),
        max_held: NonZeroU32::new(held).unwrap(),
        ..config()
    }
}

/// G3, B2: requests that wait stay in the queue, an earlier end of the open time admits them, and the room for further
/// ones is that of the new configuration
#[actix_rt::test]
async fn waiters_stay() {
    let (old, _) = start_with(5, waiting(2));
    open(&old, reads()).await;
    tokio::time::advance(Duration::from_secs(40)).await;
    let deadline = clock::now() + Duration::from_secs(600);
    let wait = |handle: &BreakerHandle| {
        let handle = handle.clone();
        actix_rt::spawn(async move { handle.wait_for_circuit(reads(), deadline).await })
    };
    let waiters = [wait(&old), wait(&old)];
    wait_until_idle().await;
    let new = reload(&old, &BreakerConfig { timeout: Duration::from_secs(4), ..waiting(1) }).await;
    let view = first_view(&new, clock::now());
    assert_eq!((view.waiting, view.waiting_max), (2, 1));
    let refused = wait(&new).await.unwrap();
    assert!(matches!(refused, Err(BreakerRejection::Open { .. })), "{refused:?}");
    let began = clock::now();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().unwrap().is_trial(), Some(true));
    }
    let waited = clock::now().saturating_duration_since(began);
    assert!(waited <= Duration::from_secs(4), "{waited:?}: not to the end that the circuit had before");
}

/// The answer to a request that waits while the mode becomes this one.
async fn waiter_at_mode(mode: BreakerMode) -> Result<BreakerTicket, BreakerRejection> {
    let (old, _) = start_with(5, waiting(8));
    open(&old, reads()).await;
    tokio::time::advance(Duration::from_secs(40)).await;
    let handle = old.clone();
    let deadline = clock::now() + Duration::from_secs(600);
    let waiter = actix_rt::spawn(async move { handle.wait_for_circuit(reads(), deadline).await });
    wait_until_idle().await;
    let began = clock::now();
    reload(&old, &BreakerConfig { mode, ..waiting(8) }).await;
    let answer = waiter.await.unwrap();
    assert!(clock::now().saturating_duration_since(began) < Duration::from_secs(1));
    assert_eq!(first_view(&old, clock::now()).waiting, 0);
    answer
}

/// G3, B2: `off` admits the waiters
#[actix_rt::test]
async fn waiters_are_admitted_when_the_breaker_is_off() {
    assert_eq!(waiter_at_mode(BreakerMode::Off).await.unwrap().is_trial(), Some(false));
}

/// G3, B2: `forced_open` refuses the waiters at once
#[actix_rt::test]
async fn waiters_are_refused_when_the_circuit_is_forced_open() {
    let answer = waiter_at_mode(BreakerMode::ForcedOpen).await;
    assert!(matches!(answer, Err(BreakerRejection::Forced { .. })), "{answer:?}");
}
