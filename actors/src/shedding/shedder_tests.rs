//! Decisions of a cursor with its owner: classes, modes, weights, crashes, pressure.

use std::sync::Arc;

use super::*;
use crate::clock;
use crate::shedding::owner::{CursorOwner, PressureReading};
use crate::types::KeyId;

const TARGET: Duration = Duration::from_millis(20);

fn key(number: u32) -> ClientId {
    ClientId::Key(KeyId::new(number))
}

fn shedder(mode: ActionMode, now: Instant) -> (Arc<Shedder>, CursorOwner) {
    let target = CursorTarget::of_process(TARGET, Duration::from_secs(2));
    let shedder = Arc::new(Shedder::new((mode, target), 92.5, now));
    (Arc::clone(&shedder), CursorOwner::new(shedder, now))
}

/// Updates the cursor with a wait until it has this value at least.
fn raise(owner: &mut CursorOwner, cursor: f64, now: &mut Instant) {
    for _ in 0..100 {
        *now += Duration::from_millis(100);
        if owner.update(Some(Duration::from_secs(1)), None, *now) >= cursor {
            return;
        }
    }
    panic!("the cursor did not reach {cursor}");
}

/// X11: no request is refused without a wait; with one, the lowest class first, and the decision has what decided it
#[test]
fn a_wait_refuses_the_lowest_class() {
    let mut now = clock::now();
    let (shedder, mut owner) = shedder(ActionMode::Enforce, now);
    assert!(!shedder.is_active() && shedder.is_tracking());
    assert_eq!(shedder.decide(None, Priority::Low, now), SheddingDecision::Admit { weight: 1.0 });
    raise(&mut owner, 1.0, &mut now);
    assert!(shedder.is_active());
    let SheddingDecision::Refuse(shed) = shedder.decide(Some(key(1)), Priority::Low, now) else {
        panic!("class low is admitted")
    };
    assert!(shed.cursor >= 1.0 && (shed.threshold - 20.0).abs() < 1e-9 && shed.client == Some(key(1)));
    assert_eq!((shed.cause, shed.rule), (CursorCause::Wait(Duration::from_secs(1)), CutRule::Cohort));
    assert!((RETRY_MIN..=RETRY_MAX).contains(&shed.retry_after));
    assert_eq!(shedder.decide(Some(key(1)), Priority::High, now), SheddingDecision::Admit { weight: 1.0 });
    let view = shedder.view(now);
    assert_eq!((view.refused(), view.shadowed(), view.counts[0].refused), (1, 0, 1));
    assert!((view.cuts[0].fraction - 1.0).abs() < 1e-9 && view.cuts[2].fraction.abs() < 1e-9);
}

/// X11: shadow mode decides and counts the same, and refuses nothing; off does nothing
#[test]
fn shadow_refuses_nothing() {
    let mut now = clock::now();
    let (shadow, mut owner) = shedder(ActionMode::Shadow, now);
    raise(&mut owner, 1.0, &mut now);
    assert!(matches!(shadow.decide(Some(key(1)), Priority::Low, now), SheddingDecision::Shadow(_)));
    assert_eq!((shadow.view(now).refused(), shadow.view(now).shadowed()), (0, 1));
    let (off, mut owner) = shedder(ActionMode::Off, now);
    owner.begin(now);
    for _ in 0..100 {
        now += Duration::from_millis(100);
        owner.update(Some(Duration::from_secs(1)), None, now);
    }
    assert!(!off.is_active() && !off.is_tracking());
}

/// The part of all requests, and of those of one client with 100 of 260 requests a second, that a cursor of 0.25 refuses
/// or would refuse.
fn refused_parts(mode: ActionMode) -> (f64, f64) {
    const PERIOD: Duration = Duration::from_millis(250);
    let now = clock::now();
    let (shedder, _) = shedder(mode, now);
    let (mut all, mut refused, mut heavy, mut heavy_refused) = (0.0, 0.0, 0.0, 0.0);
    for step in 0..400 {
        for client in 0..21 {
            let requests = if client == 0 { 25 } else { 2 };
            for _ in 0..requests {
                let (weight, is_cut) = match shedder.decide(Some(key(client)), Priority::Low, now) {
                    SheddingDecision::Admit { weight } => (Some(weight), 0.0),
                    SheddingDecision::Shadow(_) => (Some(1.0), 1.0),
                    SheddingDecision::Refuse(_) => (None, 1.0),
                };
                if let Some(weight) = weight {
                    shedder.charge(key(client), Priority::Low, weight);
                }
                if step >= 200 {
                    (all, refused) = (all + 1.0, refused + is_cut);
                    if client == 0 {
                        (heavy, heavy_refused) = (heavy + 1.0, heavy_refused + is_cut);
                    }
                }
            }
        }
        shedder.clients().decay(PERIOD);
        let reading = CursorReading { cursor: 0.25, cause: CursorCause::Wait(TARGET) };
        shedder.published.publish(reading, Shedder::cuts(0.25, &shedder.class_costs()));
    }
    (refused / all, heavy_refused / heavy)
}

/// X11: shadow mode predicts what enforcement refuses
#[test]
fn shadow_predicts_enforcement() {
    let (enforced, shadowed) = (refused_parts(ActionMode::Enforce), refused_parts(ActionMode::Shadow));
    for (all, heavy) in [enforced, shadowed] {
        assert!((all - 0.25).abs() < 0.02 && (heavy - 0.65).abs() < 0.05, "{enforced:?} {shadowed:?}");
    }
}

/// X11: a client with most of the traffic is thinned by request, and each admitted request stands for the refused ones
#[test]
fn a_dominant_client_is_thinned() {
    let mut now = clock::now();
    let (shedder, mut owner) = shedder(ActionMode::Enforce, now);
    shedder.charge(key(1), Priority::Normal, 900.0);
    shedder.charge(key(2), Priority::Normal, 10.0);
    raise(&mut owner, 1.5, &mut now);
    let mut weights = 0.0;
    let admitted = (0..1_000).filter(|_| match shedder.decide(Some(key(1)), Priority::Normal, now) {
        SheddingDecision::Admit { weight } => {
            weights += weight;
            true
        }
        _ => false,
    });
    let admitted = admitted.count();
    assert!((30..300).contains(&admitted), "{admitted}");
    assert!((weights - 1_000.0).abs() < 50.0, "{weights}");
    let (kept, _) = shedder.peek(Some(key(2)), Priority::Normal, now);
    assert!((kept - 1.0).abs() < 1e-9, "the light client is not touched");
}

/// X11, S5: after a crash of its owner the published cursor stays, and decays
#[test]
fn a_restart_goes_on_from_the_published_cursor() {
    let mut now = clock::now();
    let (shedder, mut owner) = shedder(ActionMode::Enforce, now);
    raise(&mut owner, 1.5, &mut now);
    let before = shedder.view(now).cursor;
    let mut restarted = CursorOwner::new(Arc::clone(&shedder), now);
    restarted.rebuild();
    now += Duration::from_millis(100);
    let after = restarted.update(None, None, now);
    assert!(after < before && after > before - 0.26, "{before} {after}");
    for _ in 0..60 {
        now += Duration::from_millis(100);
        restarted.update(None, None, now);
    }
    assert!(!shedder.is_active());
}

/// X11, O4: while the cursor falls, and after it, the wait that raised it last is named, and not the present one
#[test]
fn the_cause_is_what_raised_the_cursor() {
    let mut now = clock::now();
    let (shedder, mut owner) = shedder(ActionMode::Enforce, now);
    raise(&mut owner, 1.5, &mut now);
    for wait in [Some(Duration::from_millis(1)), None] {
        now += Duration::from_millis(100);
        assert!(owner.update(wait, None, now) > 0.5);
        assert_eq!(shedder.view(now).cause, CursorCause::Wait(Duration::from_secs(1)));
    }
    while shedder.is_active() {
        now += Duration::from_millis(100);
        owner.update(None, None, now);
    }
    assert_eq!(shedder.view(now).cause, CursorCause::Wait(Duration::from_secs(1)));
}

/// X11, O4: whatever moves the cursor of a queue, a refusal has a reading that is above the threshold it names, and while
/// the cursor rises above the target the reading is the present one
#[test]
fn a_refusal_names_a_reading_above_its_threshold() {
    let mut now = clock::now();
    let target = CursorTarget::of_queue(Duration::from_secs(4));
    let shedder = Arc::new(Shedder::new((ActionMode::Enforce, target), 50.0, now));
    let mut owner = CursorOwner::new(Arc::clone(&shedder), now);
    owner.begin(now);
    let mut kinds = [0; 3];
    let steps = [
        (0, 0),
        (1_500, 20),
        (2_600, 30),
        (3_100, 45),
        (3_900, 45),
        (3_950, 60),
        (200, 55),
        (300, 95),
        (300, 20),
    ];
    for (wait, percent) in
        steps.into_iter().chain([(900, 40), (1_900, 49), (3_700, 20), (6_000, 40), (7_000, 80)])
    {
        now += Duration::from_millis(100);
        let (wait, before) = (Duration::from_millis(wait), shedder.view(now).cursor);
        let pressure = PressureReading { percent: f64::from(percent), exhausted: 100.0 };
        owner.update_queue((Some(wait), Some(wait)), Some(pressure), now);
        let (_, Shed { cursor, cause, threshold, .. }) = shedder.peek(None, Priority::Low, now);
        if cursor <= 0.0 {
            continue;
        }
        let (kind, measured, expected) = match cause {
            CursorCause::Wait(wait) => (0, wait.as_secs_f64() * 1e3, 4_000.0),
            CursorCause::EarlyWait(wait) => (1, wait.as_secs_f64() * 1e3, 2_000.0),
            CursorCause::QueueLength(percent) | CursorCause::Pressure(percent) => (2, percent, 50.0),
        };
        let is_above = measured > threshold && (threshold - expected).abs() < 1e-9;
        kinds[kind] += 1;
        assert!(is_above, "{cause:?} {threshold}");
        assert!(
            cursor <= before || wait <= target.wait || cause == CursorCause::Wait(wait),
            "{cause:?} {wait:?}"
        );
    }
    assert!(kinds.iter().all(|count| *count > 0), "{kinds:?}");
}

/// X2: pressure is named if it moved the cursor
#[test]
fn pressure_is_named() {
    let mut now = clock::now();
    let (shedder, mut owner) = shedder(ActionMode::Enforce, now);
    for percent in [90.0, 94.0] {
        let pressure = PressureReading { percent, exhausted: 95.0 };
        for _ in 0..10 {
            now += Duration::from_millis(100);
            owner.update(None, Some(pressure), now);
        }
        assert_eq!(shedder.is_active(), percent > 92.5);
    }
    assert_eq!(shedder.view(now).cause, CursorCause::Pressure(94.0));
}
