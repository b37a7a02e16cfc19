//! Those who wait for a circuit, on paused time: who may, in which order they go, and that nothing is left behind (B2, B4, S5).

use std::cell::RefCell;
use std::num::NonZeroU32;
use std::rc::Rc;

use prometheus::Registry;
use tokio::task::JoinHandle;

use super::tests::{chaos, open, reads, seen, settle, start_with, ticket};
use super::*;
use crate::breaker::Outcome;
use crate::chaos::CrashPlace;

const HOLD: Duration = Duration::from_secs(2);
const OPEN: Duration = Duration::from_secs(60);

fn patient(held_max: u32) -> BreakerConfig {
    BreakerConfig {
        hold: Some(HOLD),
        max_held: NonZeroU32::new(held_max).unwrap(),
        connect_probe_interval: Some(Duration::from_millis(20)),
        ..BreakerConfig::default()
    }
}

type Answer = Result<BreakerTicket, BreakerRejection>;

/// Has somebody wait, behind all who wait already.
async fn hold(handle: &BreakerHandle) -> JoinHandle<Answer> {
    let handle = handle.clone();
    let far = clock::now() + OPEN * 10;
    let held = actix_rt::spawn(async move { handle.hold(reads(), far).await });
    settle().await;
    held
}

fn held(handle: &BreakerHandle) -> usize {
    seen(handle, clock::now()).held
}

async fn unreachable(handle: &BreakerHandle) {
    for _ in 0..2 {
        let failure = Outcome::Failure { cause: Cause::Connect, retry_after: None };
        ticket(handle, reads()).await.unwrap().report(failure);
    }
    settle().await;
}

async fn reached(handle: &BreakerHandle) {
    for unreached in handle.awaiting(clock::now()) {
        handle.reached(unreached).await.unwrap();
    }
    settle().await;
}

fn ended(registry: &Registry, result: &str) -> f64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == "circuit_breaker_held_ended_total").unwrap();
    let is_it =
        |metric: &&prometheus::proto::Metric| metric.get_label().iter().any(|label| label.value() == result);
    family.get_metric().iter().filter(is_it).map(|metric| metric.get_counter().get_value()).sum()
}

fn may_hold(handle: &BreakerHandle) -> bool {
    match handle.peek(reads(), clock::now()) {
        Ok(_) => panic!("nobody is refused"),
        Err(refusal) => handle.may_hold(reads(), &refusal),
    }
}

/// B2, B4: a trial that a later rule refuses is not lost (Sentinel #1638, sentinel-golang #196); first three as
/// trials, the rest as the circuit closes, each in its turn, and a newcomer behind them
#[actix_rt::test]
async fn they_go_in_the_order_in_which_they_came() {
    let (handle, registry) = start_with(5, patient(32));
    unreachable(&handle).await;
    let order = Rc::new(RefCell::new(Vec::new()));
    for number in 0..6 {
        let (order, handle) = (Rc::clone(&order), handle.clone());
        let far = clock::now() + OPEN;
        actix_rt::spawn(async move {
            let ticket = handle.hold(reads(), far).await.unwrap();
            order.borrow_mut().push((number, ticket));
        });
        settle().await;
    }
    assert_eq!((held(&handle), order.borrow().len()), (6, 0));
    reached(&handle).await;
    assert_eq!(seen(&handle, clock::now()).state, CircuitState::HalfOpen);
    let numbers = || order.borrow().iter().map(|(number, _)| *number).collect::<Vec<i32>>();
    assert_eq!(numbers(), [0, 1, 2]);
    let newcomer = ticket(&handle, reads()).await.unwrap_err();
    assert!(matches!(newcomer, BreakerRejection::HalfOpenFull { .. }), "{newcomer:?}");
    let trials: Vec<_> = order.borrow_mut().drain(..).collect();
    let mut trials = trials.into_iter().map(|(_, ticket)| ticket);
    drop(trials.next());
    settle().await;
    assert_eq!(numbers(), [3], "a trial that came to nothing goes on to the next");
    trials.for_each(|trial| trial.report(Outcome::Success));
    settle().await;
    assert_eq!(numbers(), [3, 4, 5]);
    assert_eq!(seen(&handle, clock::now()).state, CircuitState::Closed);
    assert_eq!((held(&handle), ended(&registry, "released")), (0, 6.0));
}

/// B2: the end of the open time lets them through as well as a connection does
#[actix_rt::test]
async fn they_go_as_the_open_time_ends() {
    let (handle, _) = start_with(5, patient(32));
    open(&handle, reads()).await;
    assert!(!may_hold(&handle), "an answer led to it, and it ends too late");
    tokio::time::advance(OPEN - Duration::from_secs(1)).await;
    assert!(may_hold(&handle));
    let waiting = [hold(&handle).await, hold(&handle).await];
    assert_eq!(held(&handle), 2);
    tokio::time::sleep(Duration::from_secs(1)).await;
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().unwrap().is_trial(), Some(true));
    }
}

/// B2: the room is bounded, and who leaves makes room
#[actix_rt::test]
async fn the_room_is_bounded_and_who_leaves_makes_room() {
    let (handle, registry) = start_with(5, patient(2));
    unreachable(&handle).await;
    let waiting = [hold(&handle).await, hold(&handle).await];
    assert!(!may_hold(&handle));
    let refused = hold(&handle).await.await.unwrap().unwrap_err();
    assert!(matches!(refused, BreakerRejection::Open { .. }), "{refused:?}");
    waiting[0].abort();
    settle().await;
    assert_eq!((held(&handle), ended(&registry, "left")), (1, 1.0));
    let third = hold(&handle).await;
    reached(&handle).await;
    assert!(third.await.unwrap().is_ok());
    assert_eq!(held(&handle), 0);
}

/// B2, B4: whose time is up is refused as all are, and the trials that failed meanwhile let nobody through
#[actix_rt::test]
async fn their_time_is_bounded_whatever_the_circuit_does() {
    let (handle, registry) = start_with(5, patient(32));
    unreachable(&handle).await;
    let waiting = [hold(&handle).await, hold(&handle).await, hold(&handle).await, hold(&handle).await];
    reached(&handle).await;
    let [first, .., last] = waiting;
    let failed = Outcome::Failure { cause: Cause::Connect, retry_after: None };
    first.await.unwrap().unwrap().report(failed);
    settle().await;
    assert_eq!(seen(&handle, clock::now()).state, CircuitState::Open);
    let began = clock::now();
    let refused = last.await.unwrap().unwrap_err();
    assert!(matches!(refused, BreakerRejection::Open { .. }), "{refused:?}");
    let waited = clock::now() - began;
    assert!(waited <= HOLD && waited > HOLD - Duration::from_millis(100), "{waited:?}");
    assert_eq!((held(&handle), ended(&registry, "timed_out")), (0, 1.0));
}

/// B2: a request's own deadline comes first
#[actix_rt::test]
async fn nobody_waits_past_its_own_deadline() {
    let (handle, _) = start_with(5, patient(32));
    unreachable(&handle).await;
    let began = clock::now();
    let refused = handle.hold(reads(), began + HOLD / 4).await.unwrap_err();
    assert!(matches!(refused, BreakerRejection::Open { .. }), "{refused:?}");
    assert!(clock::now() - began < HOLD / 2);
}

/// B2: where the operator keeps the circuit open nobody waits
#[actix_rt::test]
async fn nobody_waits_for_a_circuit_that_is_forced_open() {
    let (handle, _) = start_with(5, BreakerConfig { mode: BreakerMode::ForcedOpen, ..patient(32) });
    assert!(!may_hold(&handle));
    let refused = hold(&handle).await.await.unwrap().unwrap_err();
    assert!(matches!(refused, BreakerRejection::Forced { .. }), "{refused:?}");
}

/// B2: by default everybody is refused at once
#[actix_rt::test]
async fn nobody_waits_by_default() {
    let (handle, _) = start_with(5, BreakerConfig { hold: None, ..patient(32) });
    unreachable(&handle).await;
    assert!(!may_hold(&handle));
}

/// S5: a crash that loses the state sends them away, and lets none of them through
#[actix_rt::test]
async fn a_crash_is_no_bypass_for_those_who_wait() {
    let (handle, registry) = start_with(100, patient(32));
    unreachable(&handle).await;
    let waiting = hold(&handle).await;
    chaos(&handle, CrashPlace::Decide, false);
    settle().await;
    assert_eq!(held(&handle), 1, "nothing was lost, so the wait goes on");
    chaos(&handle, CrashPlace::Apply, false);
    let crashed = waiting.await.unwrap().unwrap_err();
    assert_eq!(crashed, BreakerRejection::Unavailable(AskError::Crashed));
    settle().await;
    assert_eq!((held(&handle), ended(&registry, "left")), (0, 1.0));
    chaos(&handle, CrashPlace::Apply, true);
    let crashed = hold(&handle).await.await.unwrap().unwrap_err();
    assert_eq!(crashed, BreakerRejection::Unavailable(AskError::Crashed));
    assert_eq!(seen(&handle, clock::now()).state, CircuitState::Open);
    let again = hold(&handle).await;
    reached(&handle).await;
    assert!(again.await.unwrap().is_ok());
}
