//! The cursors under changes of the configuration (G3, X11).

use std::time::Duration;

use prometheus::Registry;
use tidegate_config::{ActionMode, ConcurrencyConfig, Priority};

use super::*;
use crate::clock;
use crate::shedding::cursor::CLASSES;
use crate::shedding::shedder::ShedderSettings;
use crate::shedding::{CursorCause, CursorOwner, SheddingDecision};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn settings(mode: ActionMode, target: Duration) -> ShedderSettings {
    let mut config = Config::default();
    (config.shedding.mode, config.shedding.target_wait) = (mode, target);
    ShedderSettings::of_process(&config.shedding, &config.monitor)
}

fn handle(now: Instant) -> (SheddingHandle, Registry) {
    let registry = Registry::new();
    let handle = SheddingHandle::new(&Config::default(), std::iter::empty(), &registry, now).unwrap();
    (handle, registry)
}

/// Updates the cursor with this wait until it is above 0.5.
fn raise(owner: &mut CursorOwner, now: &mut Instant) -> f64 {
    let mut cursor = 0.0;
    while cursor < 0.5 {
        *now += ms(100);
        cursor = owner.update(Some(ms(200)), None, *now);
    }
    cursor
}

/// G3, X11: another target and mode leave the cursor where it is, and it follows the new target without a jump
#[test]
fn the_cursor_of_the_process_keeps_its_position() {
    let mut now = clock::now();
    let (shedding, _) = handle(now);
    let mut owner = CursorOwner::new(Arc::clone(&shedding.process), now);
    let cursor = raise(&mut owner, &mut now);
    let refuse = |shedder: &Shedder| {
        (0..50).map(|_| shedder.decide(None, Priority::Low, now)).find_map(|decision| match decision {
            SheddingDecision::Refuse(shed) => Some((false, shed.threshold)),
            SheddingDecision::Shadow(shed) => Some((true, shed.threshold)),
            SheddingDecision::Admit { .. } => None,
        })
    };
    assert_eq!(refuse(&shedding.process), Some((false, 20.0)));
    owner.reconfigure(settings(ActionMode::Shadow, ms(100)));
    let view = shedding.process.view(now);
    assert!((view.cursor - cursor).abs() < 0.001 && view.target == ms(100), "{view:?} {cursor}");
    assert_eq!(refuse(&shedding.process), Some((true, 100.0)));
    owner.reconfigure(settings(ActionMode::Enforce, ms(150)));
    let next = owner.update(Some(ms(150)), None, now + ms(100));
    assert!((next - cursor).abs() < 0.01, "{next} {cursor}: a wait at the new target moves nothing");
    let mut restarted = CursorOwner::new(Arc::clone(&shedding.process), now);
    restarted.rebuild();
    let next = restarted.update(Some(ms(150)), None, now + ms(200));
    assert!(next > 0.3, "{next}");
}

/// G3, X11: `off` ends shedding at once, and switched on again it starts at 0
#[test]
fn off_ends_shedding() {
    let mut now = clock::now();
    let (shedding, _) = handle(now);
    let mut owner = CursorOwner::new(Arc::clone(&shedding.process), now);
    raise(&mut owner, &mut now);
    owner.reconfigure(settings(ActionMode::Off, ms(20)));
    let is_admitted = |shedder: &Shedder| {
        (0..50).all(|_| matches!(shedder.decide(None, Priority::Low, now), SheddingDecision::Admit { .. }))
    };
    assert!(!shedding.process.is_active() && !shedding.process.is_tracking());
    assert!(is_admitted(&shedding.process));
    owner.update(Some(ms(500)), None, now + ms(100));
    assert!(!shedding.process.is_active());
    owner.reconfigure(settings(ActionMode::Enforce, ms(20)));
    assert!(!shedding.process.is_active() && shedding.process.is_tracking());
    let mut later = now + ms(100);
    assert!(raise(&mut owner, &mut later) > 0.0);
}

fn queue(mode: ActionMode, target: Duration) -> ConcurrencyConfig {
    let mut concurrency = ConcurrencyConfig { max_queued: 10, ..ConcurrencyConfig::default() };
    (concurrency.shedding.mode, concurrency.shedding.target_wait) = (mode, Some(target));
    concurrency
}

/// G3, X11: the cursor of a bucket's new pool starts where the old one is, with its counts
#[test]
fn a_successor_goes_on() {
    let mut now = clock::now();
    let old = Arc::new(Shedder::of_queue(&queue(ActionMode::Enforce, ms(50)), now));
    let mut owner = CursorOwner::new(Arc::clone(&old), now);
    owner.begin(now);
    raise(&mut owner, &mut now);
    let refused =
        (0..50).filter(|_| matches!(old.decide(None, Priority::Low, now), SheddingDecision::Refuse(_)));
    let refused = u64::try_from(refused.count()).unwrap();
    assert!(refused > 0);
    let next = old.successor(&queue(ActionMode::Shadow, ms(400)), now);
    let (before, after) = (old.view(now), next.view(now));
    assert_eq!((after.cursor.to_bits(), after.cause), (before.cursor.to_bits(), before.cause));
    assert_eq!((after.mode, after.target, after.refused()), (ActionMode::Shadow, ms(400), refused));
    assert_eq!(after.cuts.len(), CLASSES);
    let off = old.successor(&queue(ActionMode::Off, ms(400)), now);
    assert!(!off.is_active() && off.view(now).cause == CursorCause::Wait(Duration::ZERO));
}

fn scopes(registry: &Registry, family: &str) -> Vec<String> {
    let families = registry.gather();
    let series = families.iter().filter(|one| one.name() == family).flat_map(|one| one.get_metric());
    let scope = |metric: &prometheus::proto::Metric| {
        metric.get_label().iter().find(|label| label.name() == "scope").map(|label| label.value().to_owned())
    };
    let mut scopes: Vec<String> = series.filter_map(scope).collect();
    scopes.sort();
    scopes
}

/// G3, O3: the handles share the cursor of the process, each has the buckets of its configuration, and the series of a
/// bucket that went can be removed
#[test]
fn series_follow_the_buckets() {
    let now = clock::now();
    let registry = Registry::new();
    let concurrency = queue(ActionMode::Enforce, ms(50));
    let cursors = ["a", "process", "c"].map(|_| Arc::new(Shedder::of_queue(&concurrency, now)));
    let entry = |name, number: u32, at: usize| (name, BucketId::new(number), Arc::clone(&cursors[at]));
    let first = [entry("a", 0, 0), entry("process", 1, 1)];
    let old = SheddingHandle::new(&Config::default(), first, &registry, now).unwrap();
    old.observe(now);
    assert_eq!(scopes(&registry, "shedding_cursor"), ["a", "process", "process (bucket)"]);
    let new = old.reconfigured([entry("c", 2, 2), entry("process", 1, 1)]);
    assert!(Arc::ptr_eq(&old.process, &new.process) && Arc::ptr_eq(&old.waits, &new.waits));
    new.remove_series("a");
    new.observe(now);
    assert_eq!(scopes(&registry, "shedding_cursor"), ["c", "process", "process (bucket)"]);
    new.remove_series("process");
    new.remove_series("never there");
    assert_eq!(scopes(&registry, "shedding_wait_seconds"), ["c", "process"]);
    assert_eq!(scopes(&registry, "shed_requests_total"), ["c", "c", "c", "process", "process", "process"]);
}

/// G3, O3: refusals of before a change of the mode are counted at the next scrape
#[test]
fn refusals_before_a_change_of_the_mode_are_counted() {
    let mut now = clock::now();
    let (shedding, registry) = handle(now);
    let mut owner = CursorOwner::new(Arc::clone(&shedding.process), now);
    raise(&mut owner, &mut now);
    for _ in 0..50 {
        shedding.process.decide(None, Priority::Low, now);
    }
    let refused = shedding.process.view(now).refused();
    owner.reconfigure(settings(ActionMode::Off, ms(20)));
    shedding.observe(now);
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == "shed_requests_total").unwrap();
    let counted: f64 = family.get_metric().iter().map(|metric| metric.get_counter().get_value()).sum();
    assert!(refused > 0 && (counted - f64::from(u32::try_from(refused).unwrap())).abs() < 0.5);
}
