//! The handle, its tickets and the supervised actor behind them, on paused time (B2, B4, S4, S5).

use std::future::Future;
use std::num::NonZeroU32;
use std::task::Poll;

use actix::Addr;
use prometheus::Registry;
use tidegate_config::BreakerConfig;

use super::*;
use crate::actor_shell::ActorShell;
use crate::actor_stats::ActorStats;
use crate::breaker::{BreakerFamilies, Outcome};
use crate::chaos::{Crash, CrashPoint};
use crate::intensity::Intensity;
use crate::metrics::ActorFamilies;
use crate::supervisor::supervise;
use crate::trip::TripRule;

const SOON: Duration = Duration::from_millis(1);

/// Starts a bucket's breaker on the test's thread.
fn start(restarts_max: usize) -> (BreakerHandle, Registry) {
    start_with(restarts_max, BreakerConfig::default())
}

pub(super) fn start_with(restarts_max: usize, config: BreakerConfig) -> (BreakerHandle, Registry) {
    tokio::time::pause();
    let registry = Registry::new();
    let families =
        (BreakerFamilies::register(&registry).unwrap(), ActorFamilies::register(&registry).unwrap());
    (start_named("a", restarts_max, config, &families), registry)
}

fn start_named(
    bucket: &str,
    restarts_max: usize,
    config: BreakerConfig,
    (breakers, actors): &(BreakerFamilies, ActorFamilies),
) -> BreakerHandle {
    let config = BreakerConfig {
        failure_threshold: NonZeroU32::new(2).unwrap(),
        success_threshold: NonZeroU32::new(2).unwrap(),
        timeout: Duration::from_secs(60),
        half_open_max_requests: NonZeroU32::new(3).unwrap(),
        ..config
    };
    let log = slog::Logger::root(slog::Discard, slog::o!());
    let stats = Arc::new(ActorStats::new(format!("breaker:{bucket}"), 16));
    let actors = actors.actor(stats.name());
    let metrics = breakers.bucket(bucket, &config);
    let published = Arc::new(PublishedCircuits::new(clock::now()));
    let settings = CircuitSettings::new(config, metrics);
    let breaker = Breaker::new(bucket, Arc::clone(&settings), 1, Arc::clone(&published), log.clone());
    let window = Duration::from_secs(10);
    let shell = ActorShell::new(breaker, window, Arc::clone(&stats), actors.clone(), log.clone());
    let (sender, receiver) = actix::dev::channel::channel(16);
    supervise(shell, receiver, Intensity::new(restarts_max, window), Arc::clone(&stats), log);
    let mailbox = Mailbox::new(Addr::new(sender), stats, actors, Duration::from_secs(1));
    BreakerHandle::new(mailbox, published, settings)
}

/// The circuit of reads.
pub(super) fn reads() -> CircuitId {
    CircuitId::for_class(OperationClass::Read, true)
}

pub(super) fn first_view(handle: &BreakerHandle, now: Instant) -> BreakerView {
    handle.views(now).next().unwrap()
}

pub(super) async fn acquire(
    handle: &BreakerHandle,
    circuit: CircuitId,
) -> Result<BreakerTicket, BreakerRejection> {
    let check = handle.check(circuit, clock::now())?;
    handle.acquire(circuit, check).await
}

pub(super) async fn wait_until_idle() {
    tokio::time::sleep(SOON).await;
}

pub(super) async fn open(handle: &BreakerHandle, circuit: CircuitId) {
    for _ in 0..2 {
        let failure = Outcome::Failure { cause: FailureCause::Status(500), retry_after: None };
        acquire(handle, circuit).await.unwrap().report(failure);
    }
    wait_until_idle().await;
}

pub(super) fn crash(handle: &BreakerHandle, point: CrashPoint, next_message: bool) {
    handle.actor().crash(Crash { point, next_message });
}

/// B1: a healthy bucket sends no messages
#[actix_rt::test]
async fn successes_through_a_closed_circuit_send_no_message() {
    let (handle, _) = start(5);
    for _ in 0..1000 {
        acquire(&handle, reads()).await.unwrap().report(Outcome::Success);
        drop(acquire(&handle, reads()).await.unwrap());
    }
    wait_until_idle().await;
    assert_eq!(handle.actor().actor_stats().handled(), 0);
}

/// B1: successes reach the actor before the failure that follows them
#[actix_rt::test]
async fn a_success_between_two_failures_keeps_it_closed() {
    let (handle, _) = start(5);
    let failure = Outcome::Failure { cause: FailureCause::Reset, retry_after: None };
    for _ in 0..10 {
        acquire(&handle, reads()).await.unwrap().report(failure);
        acquire(&handle, reads()).await.unwrap().report(Outcome::Success);
    }
    wait_until_idle().await;
    let view = first_view(&handle, clock::now());
    assert_eq!((view.state, view.consecutive_failures), (CircuitState::Closed, 1));
    tokio::time::advance(Duration::from_millis(10)).await;
    acquire(&handle, reads()).await.unwrap().report(Outcome::Success);
    wait_until_idle().await;
    assert_eq!(first_view(&handle, clock::now()).consecutive_failures, 0, "reported within 10 ms");
}

/// B2, B5
#[actix_rt::test]
async fn an_open_circuit_refuses_with_its_time() {
    let (handle, registry) = start(5);
    let t0 = clock::now();
    let before = handle.check(reads(), t0).unwrap();
    open(&handle, reads()).await;
    let later = t0 + Duration::from_secs(10);
    let (retry_after, cause) = (Duration::from_secs(50), FailureCause::Status(500));
    let trip = Some(Trip { rule: TripRule::ConsecutiveFailures, measured: 2, threshold: 2 });
    assert_eq!(handle.check(reads(), later), Err(BreakerRejection::Open { retry_after, cause, trip }));
    let obsolete = handle.acquire(reads(), before).await.unwrap_err();
    assert!(matches!(obsolete, BreakerRejection::Open { .. }), "a check made before it opened: {obsolete:?}");
    let view = first_view(&handle, later);
    assert_eq!((view.state.as_str(), view.opened_total, view.cause), ("open", 1, Some(cause)));
    assert_eq!(view.open_for, Some(retry_after));
    let value = |name: &str, class: &str| -> f64 {
        let families = registry.gather();
        let family =
            families.iter().find(|family| family.name() == format!("circuit_breaker_{name}")).unwrap();
        let labels = |metric: &&prometheus::proto::Metric| {
            let is = |name, value| {
                metric.get_label().iter().any(|label| (label.name(), label.value()) == (name, value))
            };
            is("bucket", "a") && is("class", class)
        };
        let metric = family.get_metric().iter().find(labels).unwrap();
        metric.get_gauge().get_value() + metric.get_counter().get_value()
    };
    for (name, expected) in [("failures", 2.0), ("opened_total", 1.0), ("state", 1.0)] {
        assert_eq!((value(name, "read"), value(name, "list")), (expected, 0.0), "{name}");
    }
}

/// Opens the circuit of listings. Returns which classes are admitted, and the class names in the status.
async fn after_listings_failed(per_operation: bool) -> (Vec<bool>, Vec<&'static str>) {
    let (handle, _) = start_with(5, BreakerConfig { per_operation, ..BreakerConfig::default() });
    open(&handle, handle.circuit(OperationClass::List)).await;
    let mut served = Vec::new();
    for class in OperationClass::ALL {
        served.push(acquire(&handle, handle.circuit(class)).await.is_ok());
    }
    (served, handle.views(clock::now()).map(|view| view.class).collect())
}

/// B1, B2: failures of one operation class do not affect the others
#[actix_rt::test]
async fn classes_have_circuits_of_their_own() {
    let expected = (vec![true, true, false], vec!["read", "write", "list"]);
    assert_eq!(after_listings_failed(true).await, expected);
}

/// B1: a bucket may have one circuit for all classes
#[actix_rt::test]
async fn one_circuit_can_serve_all_classes() {
    assert_eq!(after_listings_failed(false).await, (vec![false, false, false], vec!["all"]));
}

/// B2: in shadow mode the circuit opens, admits trials and closes, and nothing is refused
#[actix_rt::test]
async fn shadow_mode_refuses_nothing_and_counts_refusals() {
    let config = BreakerConfig { mode: BreakerMode::Shadow, ..BreakerConfig::default() };
    let (handle, registry) = start_with(5, config);
    let circuit = reads();
    open(&handle, circuit).await;
    assert_eq!(first_view(&handle, clock::now()).state, CircuitState::Open);
    for _ in 0..7 {
        acquire(&handle, circuit).await.unwrap().report(Outcome::Success);
    }
    wait_until_idle().await;
    assert_eq!(
        first_view(&handle, clock::now()).state,
        CircuitState::Open,
        "calls that only the shadow mode admits are no trials"
    );
    tokio::time::advance(Duration::from_secs(60)).await;
    let mut trials = Vec::new();
    for _ in 0..4 {
        trials.push(acquire(&handle, circuit).await.expect("the fourth is no trial, but nothing is refused"));
    }
    for trial in trials {
        trial.report(Outcome::Success);
    }
    wait_until_idle().await;
    assert_eq!(first_view(&handle, clock::now()).state, CircuitState::Closed);
    let families = registry.gather();
    let refused = families.iter().find(|family| family.name() == "circuit_breaker_shadow_refused_total");
    let refused: f64 =
        refused.unwrap().get_metric().iter().map(|metric| metric.get_counter().get_value()).sum();
    assert_eq!(refused, 8.0);
}

/// B2: a circuit that is forced open refuses everything, with a retry time
#[actix_rt::test]
async fn a_circuit_that_is_forced_open_refuses_all() {
    let config = BreakerConfig { mode: BreakerMode::ForcedOpen, ..BreakerConfig::default() };
    let (handle, _) = start_with(5, config);
    let forced = Err(BreakerRejection::Forced { retry_after: Duration::from_secs(60) });
    assert_eq!(handle.check(reads(), clock::now()), forced);
    let view = first_view(&handle, clock::now());
    assert_eq!((view.state, view.open_for), (CircuitState::Open, None));
    assert_eq!(handle.mode(), BreakerMode::ForcedOpen);
}

/// B1: a slow success is reported at once, and a slow trial fails
#[actix_rt::test]
async fn slow_successes_open_the_circuit() {
    let slow = Some(Duration::from_secs(1));
    let (handle, _) = start_with(5, BreakerConfig { slow_call_duration: slow, ..BreakerConfig::default() });
    let slow_call = async || {
        let mut ticket = acquire(&handle, reads()).await.unwrap();
        ticket.mark_slow();
        ticket.report(Outcome::Success);
        wait_until_idle().await;
        first_view(&handle, clock::now())
    };
    for _ in 0..19 {
        assert_eq!(slow_call().await.state, CircuitState::Closed);
    }
    let opened = slow_call().await;
    assert_eq!((opened.state, opened.cause), (CircuitState::Open, Some(FailureCause::Slow)));
    tokio::time::advance(Duration::from_secs(60)).await;
    let again = slow_call().await;
    assert_eq!((again.state, again.opened_total), (CircuitState::Open, 2));
}

/// B4
#[actix_rt::test]
async fn trials_are_bounded_and_a_dropped_ticket_gives_its_permit_back() {
    let (handle, _) = start(5);
    open(&handle, reads()).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    let mut tickets = Vec::new();
    for _ in 0..3 {
        tickets.push(acquire(&handle, reads()).await.unwrap());
    }
    let full = acquire(&handle, reads()).await.unwrap_err();
    assert_eq!(full, BreakerRejection::HalfOpenFull { retry_after: Duration::from_secs(1) });
    drop(tickets.pop());
    tickets.push(acquire(&handle, reads()).await.expect("a dropped permit is released"));
    for ticket in tickets {
        ticket.report(Outcome::Success);
    }
    wait_until_idle().await;
    assert_eq!(first_view(&handle, clock::now()).state, CircuitState::Closed);
}

/// B4, S5: a permit granted to a caller that is gone is released
#[actix_rt::test]
async fn a_lost_reply_leaks_no_permit() {
    let (handle, _) = start(5);
    open(&handle, reads()).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    for _ in 0..10 {
        let mut asking = Box::pin(handle.acquire(reads(), CircuitCheck::Trial));
        std::future::poll_fn(|cx| {
            assert!(asking.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        drop(asking);
        wait_until_idle().await;
    }
    assert_eq!(handle.actor().actor_stats().handled(), 2 + 2 * 10, "each was granted and released");
    assert!(acquire(&handle, reads()).await.is_ok());
}

/// S2, S5
#[actix_rt::test]
async fn a_crash_admits_nothing() {
    let (handle, _) = start(100);
    open(&handle, reads()).await;
    let now = clock::now();
    let before = first_view(&handle, now);
    crash(&handle, CrashPoint::Apply, false);
    wait_until_idle().await;
    let after = first_view(&handle, now);
    assert_eq!((after.state, after.generation), (CircuitState::Open, before.generation + 1));
    assert_eq!(after.open_for, before.open_for);

    tokio::time::advance(Duration::from_secs(60)).await;
    for point in [CrashPoint::Decide, CrashPoint::Apply] {
        crash(&handle, point, true);
        let crashed = acquire(&handle, reads()).await.unwrap_err();
        assert_eq!(crashed, BreakerRejection::Unavailable(AskError::Crashed), "{point:?}");
        wait_until_idle().await;
    }
    assert_eq!(first_view(&handle, clock::now()).state, CircuitState::Open);
}

/// S4: while failed, the last published state holds until its open time elapses
#[actix_rt::test]
async fn while_failed_the_published_state_holds_and_trials_are_refused() {
    let (handle, _) = start(0);
    open(&handle, reads()).await;
    tokio::time::advance(Duration::from_secs(59)).await;
    crash(&handle, CrashPoint::Decide, false);
    wait_until_idle().await;
    assert!(handle.actor().actor_stats().failed_for(clock::now()).is_some());
    let refused = acquire(&handle, reads()).await.unwrap_err();
    assert!(matches!(refused, BreakerRejection::Open { .. }), "{refused:?}");
    tokio::time::sleep(Duration::from_secs(2)).await;

    crash(&handle, CrashPoint::Decide, false);
    wait_until_idle().await;
    assert!(handle.actor().actor_stats().failed_for(clock::now()).is_some());
    let writes = handle.circuit(OperationClass::Write);
    assert!(acquire(&handle, writes).await.is_ok(), "a closed circuit stays closed");
    assert_eq!(handle.check(reads(), clock::now()), Ok(CircuitCheck::Trial));
    let refused = acquire(&handle, reads()).await.unwrap_err();
    assert!(matches!(refused, BreakerRejection::Unavailable(AskError::Failed { .. })), "{refused:?}");
}

/// S10, B2: another bucket's open circuit, crash storm and full mailbox change nothing for a bucket, including its
/// trials
#[actix_rt::test]
async fn a_failed_breaker_does_not_affect_other_buckets() {
    tokio::time::pause();
    let registry = Registry::new();
    let families =
        (BreakerFamilies::register(&registry).unwrap(), ActorFamilies::register(&registry).unwrap());
    let stormy = start_named("stormy", 0, BreakerConfig::default(), &families);
    let calm = start_named("calm", 0, BreakerConfig::default(), &families);
    for handle in [&stormy, &calm] {
        open(handle, reads()).await;
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    crash(&stormy, CrashPoint::Apply, false);
    wait_until_idle().await;
    assert!(stormy.actor().actor_stats().failed_for(clock::now()).is_some());
    let refused = acquire(&stormy, reads()).await.unwrap_err();
    assert!(matches!(refused, BreakerRejection::Unavailable(AskError::Failed { .. })), "{refused:?}");
    for _ in 0..2 {
        acquire(&calm, reads()).await.expect("a trial").report(Outcome::Success);
    }
    wait_until_idle().await;
    assert_eq!(first_view(&calm, clock::now()).state, CircuitState::Closed);
    assert_eq!(
        (calm.actor().actor_stats().restarts(), calm.actor().actor_stats().failed_for(clock::now())),
        (0, None)
    );
}
