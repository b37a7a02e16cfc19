//! Reloads of the monitor behind its handle, on paused time (G3, P2, V10, X2, S5, S8).

use std::num::NonZeroUsize;

use tidegate_config::{ActionLevel, ActionMode, Config};

use super::tests::{client, config, now, start_config, wait_until_idle};
use super::*;
use crate::actor_stats::{ActorStats, ActorStatus};
use crate::chaos::{Crash, CrashPoint};
use crate::monitor::{ClientAdmission, Sensor};

async fn reload(handle: &MonitorHandle, config: &Config, watched: &[&Arc<ActorStats>]) {
    handle.reconfigured(config, watched.iter().copied().cloned().collect()).commit();
    wait_until_idle().await;
}

fn with_slots(slots: usize) -> Config {
    let mut config = config(false);
    config.server.max_concurrent_requests = NonZeroUsize::new(slots).unwrap();
    config
}

fn with_clients(max: usize, mode: ActionMode) -> Config {
    let mut config = with_slots(100);
    config.concurrency.max_per_client = max;
    config.concurrency.max_per_client_mode = mode;
    config
}

/// G3, P2: a lowered cap holds at once, a raised one too, and what is in flight stays counted
#[actix_rt::test]
async fn the_cap_of_requests_in_flight_changes_at_once() {
    let (handle, other) = start_config(&with_slots(3), 5);
    wait_until_idle().await;
    let mut slots = Vec::from([(); 3].map(|()| handle.acquire_slot().unwrap()));
    drop(handle.reconfigured(&with_slots(9), vec![Arc::clone(&other)]));
    assert!(handle.acquire_slot().is_err(), "nothing changes without a commit");
    handle.reconfigured(&with_slots(1), vec![Arc::clone(&other)]).commit();
    let full = |in_flight, limit| MonitorRejection::Full { in_flight, limit };
    for left in [3, 2, 1] {
        assert_eq!(handle.acquire_slot().unwrap_err(), full(left, 1), "before the actor has the message");
        assert_eq!((handle.in_flight(), handle.peek_slot().unwrap_err()), (left, full(left, 1)));
        drop(slots.pop());
    }
    let only = handle.acquire_slot().unwrap();
    handle.reconfigured(&with_slots(4), vec![Arc::clone(&other)]).commit();
    assert_eq!(handle.peek_slot(), Ok((1, 4)));
    let _more = [(); 3].map(|()| handle.acquire_slot().unwrap());
    assert_eq!(handle.acquire_slot().unwrap_err(), full(4, 4));
    drop(only);
    assert!(handle.acquire_slot().is_ok());
}

/// G3, P2, X11: the limit of one client changes with its counts kept, and can be switched on and off
#[actix_rt::test]
async fn the_cap_of_a_client_changes_in_place() {
    let (handle, other) = start_config(&with_clients(3, ActionMode::Enforce), 5);
    wait_until_idle().await;
    let watched = [&other];
    let mut tickets = Vec::new();
    for _ in 0..3 {
        tickets.push(handle.acquire_client_ticket(client(1)).await.unwrap());
    }
    reload(&handle, &with_clients(1, ActionMode::Enforce), &watched).await;
    let full = |in_flight, limit| MonitorRejection::ClientFull { in_flight, limit };
    assert_eq!(handle.acquire_client_ticket(client(1)).await.unwrap_err(), full(3, 1));
    assert!(handle.acquire_client_ticket(client(2)).await.is_ok());
    reload(&handle, &with_clients(1, ActionMode::Shadow), &watched).await;
    let shadowed = handle.acquire_client_ticket(client(1)).await.unwrap();
    assert!(matches!(shadowed, ClientAdmission::Shadowed(refusal) if refusal == full(3, 1)));
    for off in [with_clients(0, ActionMode::Enforce), with_clients(1, ActionMode::Off)] {
        reload(&handle, &off, &watched).await;
        let unlimited = handle.acquire_client_ticket(client(1)).await.unwrap();
        assert!(matches!(unlimited, ClientAdmission::Unlimited));
    }
    tickets.pop();
    reload(&handle, &with_clients(4, ActionMode::Enforce), &watched).await;
    for _ in 0..2 {
        tickets.push(handle.acquire_client_ticket(client(1)).await.unwrap());
    }
    assert_eq!(handle.acquire_client_ticket(client(1)).await.unwrap_err(), full(4, 4));
}

/// G3, V10: the cap of forms changes with the forms that are being read kept
#[actix_rt::test]
async fn the_cap_of_forms_changes_in_place() {
    let (handle, other) = start_config(&with_slots(2), 5);
    wait_until_idle().await;
    let forms = |max| {
        let mut config = with_slots(2);
        config.concurrency.max_pending_forms = NonZeroUsize::new(max).unwrap();
        config
    };
    let held = [
        handle.acquire_form_ticket(client(1)).await.unwrap(),
        handle.acquire_form_ticket(client(1)).await.unwrap(),
    ];
    reload(&handle, &forms(2), &[&other]).await;
    let full = handle.acquire_form_ticket(client(1)).await.unwrap_err();
    assert_eq!(full, MonitorRejection::FormsFull { pending: 2, limit: 1, is_clients: true });
    let full = handle.acquire_form_ticket(client(2)).await.unwrap_err();
    assert_eq!(full, MonitorRejection::FormsFull { pending: 2, limit: 2, is_clients: false });
    reload(&handle, &forms(6), &[&other]).await;
    assert!(handle.acquire_form_ticket(client(1)).await.is_ok());
    drop(held);
}

/// G3, X2: the level stays and new thresholds apply from the next sample on; actions follow their new level and mode at
/// once, and keep the time since which they are in force
#[actix_rt::test]
async fn thresholds_and_actions_change_in_place() {
    let (handle, other) = start_config(&config(true), 5);
    wait_until_idle().await;
    let since = handle.view().since;
    let mut changed = config(true);
    changed.actions.shed_requests.mode = ActionMode::Shadow;
    changed.actions.hedges.mode = ActionMode::Off;
    changed.actions.retries.on_level = ActionLevel::Exhausted;
    assert!(handle.sheds_requests() && handle.actions().applies(Action::Hedges));
    let in_force = |action: Action| handle.actions().views()[action as usize].since;
    let (retries, shed) = (in_force(Action::Retries), in_force(Action::ShedRequests));
    reload(&handle, &changed, &[&other]).await;
    assert_eq!((handle.level(), handle.view().since), (Level::Exhausted, since));
    assert_eq!(handle.actions().check(Action::ShedRequests), Some(InForce::Shadow));
    assert_eq!(handle.actions().rule(Action::Retries).on_level, Level::Exhausted);
    assert!(!handle.actions().applies(Action::Hedges) && handle.acquire_slot().is_ok());
    assert_eq!((in_force(Action::Retries), in_force(Action::ShedRequests)), (retries, shed));
    assert!(handle.view().sampled.is_some() && !handle.view().is_stale(now()));

    changed.monitor.descriptor_limit = Some(1 << 30);
    changed.monitor.dwell = Duration::from_millis(300);
    reload(&handle, &changed, &[&other]).await;
    assert_eq!(handle.level(), Level::Exhausted, "the level is held for the dwell time");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(handle.level(), Level::Normal);
    assert_eq!(handle.view().transitions.len(), 2, "the history stays");

    (changed.monitor.recover, changed.monitor.warning) = (0, 1);
    (changed.monitor.critical, changed.monitor.exhausted) = (2, 3);
    changed.monitor.descriptor_limit = Some(100);
    reload(&handle, &changed, &[&other]).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let reason = handle.view().reason.unwrap();
    assert_eq!((handle.level(), reason.sensor, reason.threshold), (Level::Exhausted, Sensor::Descriptors, 3));
}

/// G3, X1: a shorter interval applies within a second, and a longer one too
#[actix_rt::test]
async fn the_interval_changes() {
    let with_interval = |millis| {
        let mut config = config(false);
        config.monitor.interval = Duration::from_millis(millis);
        config
    };
    let (handle, other) = start_config(&with_interval(60_000), 5);
    wait_until_idle().await;
    let first = handle.view().sampled;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(handle.view().sampled, first);
    reload(&handle, &with_interval(50), &[&other]).await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let age = || now().saturating_duration_since(handle.view().sampled.unwrap());
    for _ in 0..20 {
        assert!(age() <= Duration::from_millis(55), "{:?}", age());
        tokio::time::sleep(Duration::from_millis(37)).await;
    }
    reload(&handle, &with_interval(10_000), &[&other]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let sampled = handle.view().sampled;
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(handle.view().sampled, sampled);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(handle.view().sampled > sampled);
}

/// G3, S8: the actors of the new configuration are watched, and one that stays does not start anew
#[actix_rt::test]
async fn the_watched_actors_change() {
    let (handle, kept) = start_config(&config(false), 5);
    let added = Arc::new(ActorStats::new("added", 16));
    let gone = Arc::new(ActorStats::new("gone", 16));
    reload(&handle, &config(false), &[&kept, &gone]).await;
    for stats in [&kept, &added, &gone] {
        assert!(stats.mailbox_slots().try_acquire());
    }
    tokio::time::sleep(Duration::from_millis(900)).await;
    reload(&handle, &config(false), &[&added, &kept]).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    let status = |stats: &ActorStats| stats.status(now());
    assert_eq!(status(&kept), ActorStatus::Stalled);
    assert_eq!((status(&added), status(&gone)), (ActorStatus::Running, ActorStatus::Running));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((status(&added), status(&gone)), (ActorStatus::Stalled, ActorStatus::Running));
    let subject = handle.view().resources(now()).find(|resource| resource.sensor == Sensor::MailboxDepth);
    assert!(subject.unwrap().subject.is_some_and(|subject| subject.to_string() != "gone"));
}

/// A crash at this point, while the actor handles the change, loses neither the change nor the level.
async fn reload_with_crash(point: CrashPoint) {
    let (handle, other) = start_config(&config(true), 5);
    wait_until_idle().await;
    let _slot = handle.acquire_free_slot().unwrap();
    handle.actor().crash(Crash { point, next_message: true });
    let mut changed = with_clients(1, ActionMode::Enforce);
    changed.monitor.descriptor_limit = Some(1);
    changed.actions.hedges.mode = ActionMode::Off;
    reload(&handle, &changed, &[&other]).await;
    assert_eq!(handle.actor().actor_stats().restarts(), 1);
    assert_eq!((handle.level(), handle.in_flight()), (Level::Exhausted, 1), "{point:?}");
    assert_eq!(handle.actions().check(Action::Hedges), None, "{point:?}");
    let _ticket = handle.acquire_client_ticket(client(1)).await.unwrap();
    assert!(handle.acquire_client_ticket(client(1)).await.is_err(), "{point:?}");
    assert_eq!(handle.peek_slot().unwrap_err().to_string(), "resources are exhausted");
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
