//! The handle, its tickets and the supervised actor behind them, on paused time (B2, B4, S4, S5).

use std::future::Future;
use std::num::NonZeroU32;
use std::task::Poll;

use actix::Addr;
use prometheus::Registry;
use tidegate_config::BreakerConfig;

use super::*;
use crate::breaker::{BreakerMetrics, Outcome};
use crate::chaos::CrashPlace;
use crate::host::Host;
use crate::intensity::Intensity;
use crate::metrics::ActorFamilies;
use crate::supervisor::supervise;

const A: BucketId = BucketId::new(0);
const B: BucketId = BucketId::new(1);
const SOON: Duration = Duration::from_millis(1);

/// Starts the breaker of two buckets on the test's own thread.
fn start(restarts_max: usize) -> (BreakerHandle, Registry) {
    tokio::time::pause();
    let config = BreakerConfig {
        failure_threshold: NonZeroU32::new(2).unwrap(),
        success_threshold: NonZeroU32::new(2).unwrap(),
        timeout: Duration::from_secs(60),
        half_open_max_requests: NonZeroU32::new(3).unwrap(),
    };
    let (log, registry) = (slog::Logger::root(slog::Discard, slog::o!()), Registry::new());
    let names: Arc<[String]> = Arc::new(["a".to_owned(), "b".to_owned()]);
    let actors = ActorFamilies::register(&registry).unwrap().actor("breaker");
    let metrics = BreakerMetrics::register(&registry, &names).unwrap();
    let (board, vitals) = (Arc::new(Board::new(2, clock::now())), Arc::new(Vitals::new("breaker", 16)));
    let configs = [config.clone(), config];
    let breaker = Breaker::new(&configs, names, 1, Arc::clone(&board), metrics, log.clone());
    let window = Duration::from_secs(10);
    let host = Host::new(breaker, window, Arc::clone(&vitals), actors.clone(), log.clone());
    let (sender, receiver) = actix::dev::channel::channel(16);
    supervise(host, receiver, Intensity::new(restarts_max, window), Arc::clone(&vitals), log);
    let mailbox = Mailbox::new(Addr::new(sender), vitals, actors, Duration::from_secs(1));
    (BreakerHandle::new(mailbox, board), registry)
}

async fn ticket(handle: &BreakerHandle, bucket: BucketId) -> Result<BreakerTicket, BreakerRejection> {
    let clearance = handle.peek(bucket, clock::now())?;
    handle.permit(bucket, clearance).await
}

async fn settle() {
    tokio::time::sleep(SOON).await;
}

async fn open(handle: &BreakerHandle, bucket: BucketId) {
    for _ in 0..2 {
        let failure = Outcome::Failure { cause: Cause::Status(500), retry_after: None };
        ticket(handle, bucket).await.unwrap().report(failure);
    }
    settle().await;
}

fn chaos(handle: &BreakerHandle, place: CrashPlace, next_message: bool) {
    handle.crash(Crash { place, next_message });
}

/// B1: the healthy path asks and tells nobody
#[actix_rt::test]
async fn successes_through_a_closed_circuit_send_no_message() {
    let (handle, _) = start(5);
    for _ in 0..1000 {
        ticket(&handle, A).await.unwrap().report(Outcome::Success);
        drop(ticket(&handle, A).await.unwrap());
    }
    settle().await;
    assert_eq!(handle.vitals().handled(), 0);
}

/// B1: successes reach the actor before the failure that follows them
#[actix_rt::test]
async fn a_success_between_two_failures_keeps_it_closed() {
    let (handle, _) = start(5);
    let failure = Outcome::Failure { cause: Cause::Reset, retry_after: None };
    for _ in 0..10 {
        ticket(&handle, A).await.unwrap().report(failure);
        ticket(&handle, A).await.unwrap().report(Outcome::Success);
    }
    settle().await;
    let view = handle.view(A, clock::now());
    assert_eq!((view.state, view.consecutive_failures), (CircuitState::Closed, 1));
    tokio::time::advance(Duration::from_millis(10)).await;
    ticket(&handle, A).await.unwrap().report(Outcome::Success);
    settle().await;
    assert_eq!(handle.view(A, clock::now()).consecutive_failures, 0, "told within the batch's 10 ms");
}

/// B2, B5
#[actix_rt::test]
async fn an_open_circuit_refuses_with_its_time_and_its_neighbour_feels_nothing() {
    let (handle, registry) = start(5);
    let t0 = clock::now();
    let before = handle.peek(A, t0).unwrap();
    open(&handle, A).await;
    let later = t0 + Duration::from_secs(10);
    let (retry_after, cause) = (Duration::from_secs(50), Cause::Status(500));
    assert_eq!(handle.peek(A, later), Err(BreakerRejection::Open { retry_after, cause }));
    let overtaken = handle.permit(A, before).await.unwrap_err();
    assert!(
        matches!(overtaken, BreakerRejection::Open { .. }),
        "a clearance from before it opened: {overtaken:?}"
    );
    assert!(ticket(&handle, B).await.is_ok());
    let view = handle.view(A, later);
    assert_eq!((view.state.as_str(), view.opened_total, view.cause), ("open", 1, Some(cause)));
    assert_eq!(view.open_for, Some(retry_after));
    let values: Vec<(String, f64)> = registry
        .gather()
        .iter()
        .filter(|family| family.name().starts_with("circuit_breaker"))
        .map(|family| {
            let metric = &family.get_metric()[0];
            (family.name().to_owned(), metric.get_gauge().get_value() + metric.get_counter().get_value())
        })
        .collect();
    let expected = [("failures", 2.0), ("opened_total", 1.0), ("state", 1.0)];
    assert_eq!(values, expected.map(|(name, value)| (format!("circuit_breaker_{name}"), value)));
}

/// B4
#[actix_rt::test]
async fn trials_are_bounded_and_a_dropped_ticket_gives_its_permit_back() {
    let (handle, _) = start(5);
    open(&handle, A).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    let mut tickets = Vec::new();
    for _ in 0..3 {
        tickets.push(ticket(&handle, A).await.unwrap());
    }
    let full = ticket(&handle, A).await.unwrap_err();
    assert_eq!(full, BreakerRejection::HalfOpenFull { retry_after: Duration::from_secs(1) });
    drop(tickets.pop());
    tickets.push(ticket(&handle, A).await.expect("a dropped one is back"));
    for ticket in tickets {
        ticket.report(Outcome::Success);
    }
    settle().await;
    assert_eq!(handle.view(A, clock::now()).state, CircuitState::Closed);
}

/// B4, S5: a granted permit whose asker has left goes back
#[actix_rt::test]
async fn a_lost_reply_leaks_no_permit() {
    let (handle, _) = start(5);
    open(&handle, A).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    for _ in 0..10 {
        let mut asking = Box::pin(handle.permit(A, Clearance::Trial));
        std::future::poll_fn(|cx| {
            assert!(asking.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        drop(asking);
        settle().await;
    }
    assert_eq!(handle.vitals().handled(), 2 + 2 * 10, "each was granted and given back");
    assert!(ticket(&handle, A).await.is_ok());
}

/// S2, S5
#[actix_rt::test]
async fn a_crash_opens_nothing_up_and_its_caller_is_not_admitted() {
    let (handle, _) = start(100);
    open(&handle, A).await;
    let now = clock::now();
    let before = handle.view(A, now);
    chaos(&handle, CrashPlace::Apply, false);
    settle().await;
    let after = handle.view(A, now);
    assert_eq!((after.state, after.generation), (CircuitState::Open, before.generation + 1));
    assert_eq!(after.open_for, before.open_for);

    tokio::time::advance(Duration::from_secs(60)).await;
    for place in [CrashPlace::Decide, CrashPlace::Apply] {
        chaos(&handle, place, true);
        let crashed = ticket(&handle, A).await.unwrap_err();
        assert_eq!(crashed, BreakerRejection::Unavailable(AskError::Crashed), "{place:?}");
        settle().await;
    }
    assert_eq!(handle.view(A, clock::now()).state, CircuitState::Open);
    assert!(ticket(&handle, B).await.is_ok());
}

/// S4: while failed, the last published state holds until its time
#[actix_rt::test]
async fn while_failed_the_published_state_holds_and_trials_are_refused() {
    let (handle, _) = start(0);
    open(&handle, A).await;
    tokio::time::advance(Duration::from_secs(59)).await;
    chaos(&handle, CrashPlace::Decide, false);
    settle().await;
    assert!(handle.vitals().failed_for(clock::now()).is_some());
    let refused = ticket(&handle, A).await.unwrap_err();
    assert!(matches!(refused, BreakerRejection::Open { .. }), "{refused:?}");
    tokio::time::sleep(Duration::from_secs(2)).await;

    chaos(&handle, CrashPlace::Decide, false);
    settle().await;
    assert!(handle.vitals().failed_for(clock::now()).is_some());
    assert!(ticket(&handle, B).await.is_ok(), "closed stays closed");
    assert_eq!(handle.peek(A, clock::now()), Ok(Clearance::Trial));
    let refused = ticket(&handle, A).await.unwrap_err();
    assert!(matches!(refused, BreakerRejection::Unavailable(AskError::Failed { .. })), "{refused:?}");
}
