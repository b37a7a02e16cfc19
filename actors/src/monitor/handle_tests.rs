//! The handle and the supervised monitor behind it, on paused time (P2, X2, S4, S5, S8).

use std::num::NonZeroUsize;
use std::time::Instant;

use actix::Addr;
use tidegate_config::{ActionMode, ActionsConfig, ClientConcurrencyConfig, Config};

use super::*;
use crate::actor_shell::ActorShell;
use crate::actor_stats::{ActorStats, ActorStatus};
use crate::chaos::{Crash, CrashPoint};
use crate::intensity::Intensity;
use crate::metrics::ActorFamilies;
use crate::monitor::{ClientAdmission, ProcessCursor, Reading, Sensor};
use crate::shedding::SheddingHandle;
use crate::supervisor::supervise;
use crate::types::{ClientId, KeyId};

const SOON: Duration = Duration::from_millis(2);

/// Starts a monitor that also watches one other actor. If `exhausted`, the descriptor sensor reads above the
/// threshold.
fn start(exhausted: bool, restarts_max: usize) -> (MonitorHandle, Arc<ActorStats>) {
    let concurrency = ClientConcurrencyConfig { max_per_client: 2, ..ClientConcurrencyConfig::default() };
    start_with(exhausted, restarts_max, (&concurrency, &ActionsConfig::default()))
}

fn start_with(
    exhausted: bool,
    restarts_max: usize,
    (concurrency, actions): (&ClientConcurrencyConfig, &ActionsConfig),
) -> (MonitorHandle, Arc<ActorStats>) {
    let config = Config { concurrency: concurrency.clone(), actions: actions.clone(), ..config(exhausted) };
    start_config(&config, restarts_max)
}

/// A configuration with two slots.
pub(super) fn config(exhausted: bool) -> Config {
    let mut config = Config::default();
    config.monitor.memory_limit_bytes = Some(1 << 40);
    config.monitor.descriptor_limit = Some(if exhausted { 1 } else { 1 << 30 });
    config.server.max_concurrent_requests = NonZeroUsize::new(2).unwrap();
    config
}

pub(super) fn start_config(config: &Config, restarts_max: usize) -> (MonitorHandle, Arc<ActorStats>) {
    tokio::time::pause();
    let (log, registry) = (Logger::root(slog::Discard, slog::o!()), Registry::new());
    let families = ActorFamilies::register(&registry).unwrap();
    let actors = families.actor("monitor");
    let stats = Arc::new(ActorStats::new("monitor", 16));
    let other = Arc::new(ActorStats::new("other", 16));
    let (sender, receiver) = actix::dev::channel::channel(16);
    let mailbox = Mailbox::new(Addr::new(sender), Arc::clone(&stats), actors.clone(), Duration::from_secs(1));
    let watched = vec![Arc::clone(&stats), Arc::clone(&other)];
    let settings = MonitorSettings::new(config, watched);
    let (handle, monitor) = MonitorHandle::new(mailbox, settings, &registry, log.clone()).unwrap();
    let shedding = SheddingHandle::new(config, std::iter::empty(), &registry, clock::now()).unwrap();
    let cursor = ProcessCursor::new(&shedding, &config.monitor, clock::now());
    let monitor = monitor.with_cursor(cursor, &families);
    let window = Duration::from_secs(10);
    let shell = ActorShell::new(monitor, window, Arc::clone(&stats), actors, log.clone());
    supervise(shell, receiver, Intensity::new(restarts_max, window), stats, log);
    (handle, other)
}

pub(super) async fn wait_until_idle() {
    tokio::time::sleep(SOON).await;
}

pub(super) fn now() -> Instant {
    clock::now()
}

/// P2
#[actix_rt::test]
async fn slots_are_bounded_and_released_when_dropped() {
    let (handle, _) = start(false, 5);
    wait_until_idle().await;
    let first = handle.acquire_slot().unwrap();
    let _second = handle.acquire_slot().unwrap();
    assert_eq!(handle.acquire_slot().unwrap_err(), MonitorRejection::Full { in_flight: 2, limit: 2 });
    assert_eq!((handle.in_flight(), handle.metrics.full.get()), (2, 1));
    drop(first);
    assert!(handle.acquire_slot().is_ok());
}

/// X2
#[actix_rt::test]
async fn the_first_sample_comes_at_once_and_exhaustion_sheds_with_its_reason() {
    let (handle, _) = start(true, 5);
    assert!(handle.view().is_stale(now()), "not sampled yet");
    wait_until_idle().await;
    let view = handle.view();
    assert_eq!((handle.level(), view.level), (Level::Exhausted, Level::Exhausted));
    assert!(!view.is_stale(now()));
    assert!(view.switched_off().contains(&"shed_requests"));
    assert!(view.readings().any(|(sensor, reading)| sensor == Sensor::Descriptors
        && matches!(reading, Reading::Known { limit: 1, .. })));
    match handle.acquire_slot().unwrap_err() {
        MonitorRejection::Exhausted { reason: Some(reason), retry_after } => {
            assert_eq!((reason.sensor.as_str(), reason.threshold), ("descriptors", 95));
            assert_eq!(retry_after, Duration::from_secs(1));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((handle.metrics.shed.get(), handle.in_flight()), (1, 0));
}

/// X2, X11: while an action is in force its touches are counted, in shadow mode too, and then it changes nothing
#[actix_rt::test]
async fn actions_count_what_they_touch() {
    let mut actions = ActionsConfig::default();
    actions.shed_requests.mode = ActionMode::Shadow;
    actions.retries.mode = ActionMode::Off;
    let concurrency = ClientConcurrencyConfig::default();
    let (handle, _) = start_with(true, 5, (&concurrency, &actions));
    assert!(!handle.actions().applies(Action::Hedges), "no sample yet");
    wait_until_idle().await;
    assert!(handle.actions().applies(Action::Hedges));
    assert!(!handle.actions().applies(Action::Retries));
    let refusal = MonitorRejection::Exhausted { reason: handle.view().reason, retry_after: SHED_RETRY };
    assert_eq!(handle.check_level(), Ok(Shedding::Shadowed(refusal)));
    assert!(handle.acquire_slot().is_ok(), "shadow mode refuses nothing");
    let views = handle.actions().views();
    let touched = |action: Action| {
        let view = views[action as usize];
        (view.since.is_some(), view.touched, view.touched_in_force)
    };
    assert_eq!(touched(Action::Hedges), (true, 1, Some(1)));
    assert_eq!(touched(Action::Retries), (false, 0, None));
    assert_eq!(
        touched(Action::ShedRequests),
        (true, 1, Some(1)),
        "a slot after the check is not counted again"
    );
    assert_eq!(handle.metrics.shed.get(), 0);
}

/// P2, X11: a limit per client in shadow mode refuses nothing, also while the monitor gives no reply
#[actix_rt::test]
async fn a_client_limit_in_shadow_mode_refuses_nothing() {
    let concurrency = ClientConcurrencyConfig {
        max_per_client: 1,
        max_per_client_mode: ActionMode::Shadow,
        ..ClientConcurrencyConfig::default()
    };
    let (handle, _) = start_with(false, 0, (&concurrency, &ActionsConfig::default()));
    wait_until_idle().await;
    let first = handle.acquire_client_ticket(client(1)).await.unwrap();
    assert!(matches!(first, ClientAdmission::Counted(_)));
    for _ in 0..2 {
        let beyond = handle.acquire_client_ticket(client(1)).await.unwrap();
        let full = MonitorRejection::ClientFull { in_flight: 1, limit: 1 };
        assert!(matches!(beyond, ClientAdmission::Shadowed(refusal) if refusal == full));
    }
    assert_eq!((handle.shadowed_clients(), handle.metrics.client_full.get()), (2, 0));
    drop(first);
    handle.actor().crash(Crash { point: CrashPoint::Decide, next_message: true });
    let crashed = handle.acquire_client_ticket(client(1)).await.unwrap();
    assert!(matches!(crashed, ClientAdmission::Unlimited));
}

/// X1: a subscriber sees samples, with the memory as the kernel counts it
#[actix_rt::test]
async fn subscribers_receive_samples() {
    let (handle, _) = start(false, 5);
    let mut views = handle.subscribe();
    for _ in 0..3 {
        views.changed().await.unwrap();
        let view = Arc::clone(&views.borrow_and_update());
        let memory = *view.memory().expect("the sensor works");
        assert_eq!((memory.limit_bytes, memory.source.as_str()), (1 << 40, "configured"));
        let percent = view.pressure_percent(Sensor::Memory).expect("the sensor works");
        assert!(0.0 < percent && percent < 80.0, "{percent}");
        assert_eq!(view.in_flight(), Some(0));
    }
}

/// S4: while failed, the last level holds and is marked stale
#[actix_rt::test]
async fn while_failed_the_last_level_holds_and_goes_stale() {
    let (handle, _) = start(true, 0);
    wait_until_idle().await;
    for _ in 0..6 {
        handle.actor().crash(Crash { point: CrashPoint::Decide, next_message: false });
        wait_until_idle().await;
        let hold = handle.actor().actor_stats().failed_for(now()).expect("held down");
        if hold > Duration::from_secs(1) {
            break;
        }
        tokio::time::sleep(hold).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(handle.actor().actor_stats().failed_for(now()).is_some(), "still held down");
    assert!(handle.view().is_stale(now()));
    assert_eq!(handle.level(), Level::Exhausted);
    assert!(handle.acquire_slot().is_err());
}

/// S2, S5: at every crash point slots in use stay counted, and the level holds until the next sample
#[actix_rt::test]
async fn a_crash_releases_no_slot_and_sampling_continues() {
    let (handle, _) = start(true, 100);
    let _slots = [handle.acquire_slot().unwrap(), handle.acquire_slot().unwrap()];
    wait_until_idle().await;
    for (restarts, point) in
        (1..).zip([CrashPoint::Decide, CrashPoint::Apply, CrashPoint::Timer, CrashPoint::Started])
    {
        handle.actor().crash(Crash { point, next_message: false });
        wait_until_idle().await;
        assert_eq!((handle.level(), handle.in_flight()), (Level::Exhausted, 2), "{point:?}");
        assert!(handle.actor().actor_stats().restarts() >= restarts, "{point:?}");
        let before = handle.view().sampled;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(handle.view().sampled > before, "{point:?}");
    }
    assert_eq!(handle.view().transitions.len(), 1, "a rebuild keeps the history");
}

/// S8
#[actix_rt::test]
async fn a_stalled_actor_is_reported() {
    let (handle, other) = start(false, 5);
    assert!(other.mailbox_slots().try_acquire());
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(other.status(now()), ActorStatus::Running);
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(other.status(now()), ActorStatus::Stalled);
    other.count_handled();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(other.status(now()), ActorStatus::Running);
    assert_eq!(handle.actor().actor_stats().status(now()), ActorStatus::Running);
}

pub(super) fn client(number: u32) -> ClientId {
    ClientId::Key(KeyId::new(number))
}

/// V10, S5: the cap for one client holds over every crash, and dropping a ticket counts down
#[actix_rt::test]
async fn a_crash_lets_no_client_past_its_cap() {
    let (handle, _) = start(false, 100);
    wait_until_idle().await;
    let first = handle.acquire_client_ticket(client(1)).await.unwrap();
    let _second = handle.acquire_client_ticket(client(1)).await.unwrap();
    for point in [CrashPoint::Decide, CrashPoint::Apply, CrashPoint::Applied] {
        handle.actor().crash(Crash { point, next_message: false });
        wait_until_idle().await;
        assert_eq!(
            handle.acquire_client_ticket(client(1)).await.unwrap_err(),
            MonitorRejection::ClientFull { in_flight: 2, limit: 2 },
            "{point:?}"
        );
        assert!(handle.acquire_client_ticket(client(2)).await.is_ok(), "{point:?}");
    }
    assert_eq!(handle.metrics.client_full.get(), 3);
    drop(first);
    assert!(handle.acquire_client_ticket(client(1)).await.is_ok());
}

/// V10: the number of forms being read is bounded, and one client may have half of it
#[actix_rt::test]
async fn pending_forms_are_bounded_for_all_and_for_each_client() {
    let (handle, _) = start(false, 100);
    wait_until_idle().await;
    let mut tickets = Vec::new();
    for number in [1, 2] {
        for _ in 0..100 {
            tickets.push(handle.acquire_form_ticket(client(number)).await.unwrap());
        }
        let full = handle.acquire_form_ticket(client(number)).await.unwrap_err();
        assert_eq!(full, MonitorRejection::FormsFull { pending: 100, limit: 100, is_clients: true });
    }
    let full = handle.acquire_form_ticket(client(3)).await.unwrap_err();
    assert_eq!(full, MonitorRejection::FormsFull { pending: 200, limit: 200, is_clients: false });
    assert_eq!(handle.in_flight(), 0, "a form holds no slot");
    tickets.clear();
    assert!(handle.acquire_form_ticket(client(1)).await.is_ok());
}

/// V10, S5: of two slots one may wait for one client, before and after crashes; a report that was lost in a crash is
/// not counted
#[actix_rt::test]
async fn slots_that_wait_are_counted_over_crashes() {
    let (handle, _) = start(false, 100);
    wait_until_idle().await;
    let t0 = now();
    for (number, point) in (1..).zip([CrashPoint::Decide, CrashPoint::Apply, CrashPoint::Applied]) {
        let first = handle.report_client_wait(client(number), t0);
        wait_until_idle().await;
        assert!(first.is_counted() && !first.is_cut(), "{point:?}");
        handle.actor().crash(Crash { point, next_message: true });
        let lost = handle.report_client_wait(client(number), t0 + SOON);
        wait_until_idle().await;
        assert_eq!(
            (lost.is_counted(), first.is_cut()),
            (point == CrashPoint::Applied, point == CrashPoint::Applied)
        );
        let second = handle.report_client_wait(client(number), t0 + SOON);
        wait_until_idle().await;
        assert!(second.is_counted(), "{point:?}");
        assert!(first.is_cut(), "{point:?}");
    }
}
