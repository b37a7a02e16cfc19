//! Waits for a circuit, on paused time: which requests may wait, in which order they are admitted, and that none is
//! leaked (B2, B4, S5).

use std::cell::RefCell;
use std::num::NonZeroU32;
use std::rc::Rc;

use prometheus::Registry;
use tokio::task::JoinHandle;

use super::tests::{acquire, crash, first_view, open, reads, start_with, wait_until_idle};
use super::*;
use crate::breaker::Outcome;
use crate::chaos::CrashPoint;

const WAIT_TIMEOUT: Duration = Duration::from_secs(2);
const OPEN: Duration = Duration::from_secs(60);

fn waiting_config(held_max: u32) -> BreakerConfig {
    BreakerConfig {
        hold: Some(WAIT_TIMEOUT),
        max_held: NonZeroU32::new(held_max).unwrap(),
        connect_probe_interval: Some(Duration::from_millis(20)),
        ..BreakerConfig::default()
    }
}

type Answer = Result<BreakerTicket, BreakerRejection>;

/// Starts a wait, behind all that wait already.
async fn start_waiting(handle: &BreakerHandle) -> JoinHandle<Answer> {
    let handle = handle.clone();
    let deadline = clock::now() + OPEN * 10;
    let wait = actix_rt::spawn(async move { handle.wait_for_circuit(reads(), deadline).await });
    wait_until_idle().await;
    wait
}

fn waiting_count(handle: &BreakerHandle) -> usize {
    first_view(handle, clock::now()).waiting
}

async fn report_unreachable(handle: &BreakerHandle) {
    for _ in 0..2 {
        let failure = Outcome::Failure { cause: FailureCause::Connect, retry_after: None };
        acquire(handle, reads()).await.unwrap().report(failure);
    }
    wait_until_idle().await;
}

async fn report_connected(handle: &BreakerHandle) {
    for probed in handle.probed_circuits(clock::now()) {
        handle.report_connected(probed).await.unwrap();
    }
    wait_until_idle().await;
}

fn ended(registry: &Registry, result: &str) -> f64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == "circuit_breaker_waits_ended_total").unwrap();
    let has_result =
        |metric: &&prometheus::proto::Metric| metric.get_label().iter().any(|label| label.value() == result);
    family.get_metric().iter().filter(has_result).map(|metric| metric.get_counter().get_value()).sum()
}

fn may_wait(handle: &BreakerHandle) -> bool {
    match handle.check(reads(), clock::now()) {
        Ok(_) => panic!("the circuit refuses nothing"),
        Err(refusal) => handle.may_wait(reads(), &refusal),
    }
}

/// B2, B4: a trial that a later rule refuses is not lost (Sentinel #1638, sentinel-golang #196). Three waiters are
/// admitted as trials and the rest when the circuit closes, in order, and a newcomer after them.
#[actix_rt::test]
async fn waiters_are_admitted_in_order() {
    let (handle, registry) = start_with(5, waiting_config(32));
    report_unreachable(&handle).await;
    let order = Rc::new(RefCell::new(Vec::new()));
    for number in 0..6 {
        let (order, handle) = (Rc::clone(&order), handle.clone());
        let deadline = clock::now() + OPEN;
        actix_rt::spawn(async move {
            let ticket = handle.wait_for_circuit(reads(), deadline).await.unwrap();
            order.borrow_mut().push((number, ticket));
        });
        wait_until_idle().await;
    }
    assert_eq!((waiting_count(&handle), order.borrow().len()), (6, 0));
    report_connected(&handle).await;
    assert_eq!(first_view(&handle, clock::now()).state, CircuitState::HalfOpen);
    let numbers = || order.borrow().iter().map(|(number, _)| *number).collect::<Vec<i32>>();
    assert_eq!(numbers(), [0, 1, 2]);
    let newcomer = acquire(&handle, reads()).await.unwrap_err();
    assert!(matches!(newcomer, BreakerRejection::HalfOpenFull { .. }), "{newcomer:?}");
    let trials: Vec<_> = order.borrow_mut().drain(..).collect();
    let mut trials = trials.into_iter().map(|(_, ticket)| ticket);
    drop(trials.next());
    wait_until_idle().await;
    assert_eq!(numbers(), [3], "the next waiter gets a trial that was dropped");
    trials.for_each(|trial| trial.report(Outcome::Success));
    wait_until_idle().await;
    assert_eq!(numbers(), [3, 4, 5]);
    assert_eq!(first_view(&handle, clock::now()).state, CircuitState::Closed);
    assert_eq!((waiting_count(&handle), ended(&registry, "released")), (0, 6.0));
}

/// B2: the end of the open time admits waiters, as a connection does
#[actix_rt::test]
async fn waiters_are_admitted_when_the_open_time_ends() {
    let (handle, _) = start_with(5, waiting_config(32));
    open(&handle, reads()).await;
    assert!(!may_wait(&handle), "an answer opened the circuit, and the open time ends too late");
    tokio::time::advance(OPEN - Duration::from_secs(1)).await;
    assert!(may_wait(&handle));
    let waiting = [start_waiting(&handle).await, start_waiting(&handle).await];
    assert_eq!(waiting_count(&handle), 2);
    tokio::time::sleep(Duration::from_secs(1)).await;
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().unwrap().is_trial(), Some(true));
    }
}

/// B2: the queue is bounded, and a cancelled waiter frees its slot
#[actix_rt::test]
async fn the_queue_is_bounded_and_a_cancelled_waiter_frees_its_slot() {
    let (handle, registry) = start_with(5, waiting_config(2));
    report_unreachable(&handle).await;
    let waiting = [start_waiting(&handle).await, start_waiting(&handle).await];
    assert!(!may_wait(&handle));
    let refused = start_waiting(&handle).await.await.unwrap().unwrap_err();
    assert!(matches!(refused, BreakerRejection::Open { .. }), "{refused:?}");
    waiting[0].abort();
    wait_until_idle().await;
    assert_eq!((waiting_count(&handle), ended(&registry, "left")), (1, 1.0));
    let third = start_waiting(&handle).await;
    report_connected(&handle).await;
    assert!(third.await.unwrap().is_ok());
    assert_eq!(waiting_count(&handle), 0);
}

/// B2, B4: a waiter that times out is refused like any other request, and failed trials admit no waiter
#[actix_rt::test]
async fn a_wait_times_out_whatever_the_circuit_does() {
    let (handle, registry) = start_with(5, waiting_config(32));
    report_unreachable(&handle).await;
    let waiting = [
        start_waiting(&handle).await,
        start_waiting(&handle).await,
        start_waiting(&handle).await,
        start_waiting(&handle).await,
    ];
    report_connected(&handle).await;
    let [first, .., last] = waiting;
    let failed = Outcome::Failure { cause: FailureCause::Connect, retry_after: None };
    first.await.unwrap().unwrap().report(failed);
    wait_until_idle().await;
    assert_eq!(first_view(&handle, clock::now()).state, CircuitState::Open);
    let began = clock::now();
    let refused = last.await.unwrap().unwrap_err();
    assert!(matches!(refused, BreakerRejection::Open { .. }), "{refused:?}");
    let waited = clock::now() - began;
    assert!(waited <= WAIT_TIMEOUT && waited > WAIT_TIMEOUT - Duration::from_millis(100), "{waited:?}");
    assert_eq!((waiting_count(&handle), ended(&registry, "timed_out")), (0, 1.0));
}

/// B2: a wait ends at the request's own deadline if that is earlier
#[actix_rt::test]
async fn a_wait_ends_at_the_request_deadline() {
    let (handle, _) = start_with(5, waiting_config(32));
    report_unreachable(&handle).await;
    let began = clock::now();
    let refused = handle.wait_for_circuit(reads(), began + WAIT_TIMEOUT / 4).await.unwrap_err();
    assert!(matches!(refused, BreakerRejection::Open { .. }), "{refused:?}");
    assert!(clock::now() - began < WAIT_TIMEOUT / 2);
}

/// B2: no request waits for a circuit that is forced open
#[actix_rt::test]
async fn a_forced_open_circuit_has_no_waiters() {
    let (handle, _) = start_with(5, BreakerConfig { mode: BreakerMode::ForcedOpen, ..waiting_config(32) });
    assert!(!may_wait(&handle));
    let refused = start_waiting(&handle).await.await.unwrap().unwrap_err();
    assert!(matches!(refused, BreakerRejection::Forced { .. }), "{refused:?}");
}

/// B2: by default every request is refused at once
#[actix_rt::test]
async fn waiting_is_off_by_default() {
    let (handle, _) = start_with(5, BreakerConfig { hold: None, ..waiting_config(32) });
    report_unreachable(&handle).await;
    assert!(!may_wait(&handle));
}

/// S5: a crash that loses the state cancels all waiters and admits none
#[actix_rt::test]
async fn a_crash_admits_no_waiter() {
    let (handle, registry) = start_with(100, waiting_config(32));
    report_unreachable(&handle).await;
    let waiting = start_waiting(&handle).await;
    crash(&handle, CrashPoint::Decide, false);
    wait_until_idle().await;
    assert_eq!(waiting_count(&handle), 1, "the state was kept, so the wait continues");
    crash(&handle, CrashPoint::Apply, false);
    let crashed = waiting.await.unwrap().unwrap_err();
    assert_eq!(crashed, BreakerRejection::Unavailable(AskError::Crashed));
    wait_until_idle().await;
    assert_eq!((waiting_count(&handle), ended(&registry, "left")), (0, 1.0));
    crash(&handle, CrashPoint::Apply, true);
    let crashed = start_waiting(&handle).await.await.unwrap().unwrap_err();
    assert_eq!(crashed, BreakerRejection::Unavailable(AskError::Crashed));
    assert_eq!(first_view(&handle, clock::now()).state, CircuitState::Open);
    let again = start_waiting(&handle).await;
    report_connected(&handle).await;
    assert!(again.await.unwrap().is_ok());
}
