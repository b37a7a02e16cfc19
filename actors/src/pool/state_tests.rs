//! The pool's state machine under scripted and random interleavings (P3, P4).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use tidegate_config::{RetryBudgetConfig, UpstreamConfig};

use super::*;
use crate::clock;
use crate::pool::rules::Rules;
use crate::pool::slot::Slot;

const PATIENT: Duration = Duration::from_secs(1000);

fn full(queued: usize) -> Refusal {
    Refusal::Full { queued, retry_after: Duration::ZERO }
}

struct World {
    state: PoolState<Slot>,
    shared: Arc<GateShared>,
    nudges: Arc<AtomicUsize>,
    now: Instant,
}

impl World {
    /// A queue that is patient enough for everything here.
    fn new(concurrent_max: usize, queued_max: usize, endpoints: usize) -> Self {
        Self::hurried(concurrent_max, queued_max, endpoints, PATIENT)
    }

    fn hurried(concurrent_max: usize, queued_max: usize, endpoints: usize, queue_timeout: Duration) -> Self {
        let nudges = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&nudges);
        let shared = Arc::new(GateShared::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        }));
        let (signs, now) = (Arc::new(Signs::new(endpoints)), clock::now());
        let rules = Rules::from(&UpstreamConfig::default().load_balancing);
        let rotation = Rotation::new(Arc::clone(&signs), rules, 7, now);
        let budget = Budget::new(RetryBudgetConfig::default(), now);
        let bounds = PoolBounds { concurrent_max, queued_max, queue_timeout, overload: None };
        let state = PoolState::new(Arc::clone(&shared), bounds, signs, rotation, budget);
        Self { state, shared, nudges, now }
    }

    /// As the shell does it.
    fn ask(&mut self) -> Result<Slot, Refusal> {
        self.ask_as(Priority::Normal, PATIENT)
    }

    fn ask_within(&mut self, left: Duration) -> Result<Slot, Refusal> {
        self.ask_as(Priority::Normal, left)
    }

    fn ask_as(&mut self, priority: Priority, left: Duration) -> Result<Slot, Refusal> {
        let slot = Slot::default();
        match self.state.decide(priority, self.now + left, self.now) {
            Decision::Grant => {
                let permit = self.state.grant(self.now).unwrap();
                slot.clone().hand(permit).unwrap();
            }
            Decision::Queue => self.state.enqueue(slot.clone(), priority, self.now),
            Decision::Refuse(refusal) => return Err(refusal),
        }
        Ok(slot)
    }

    /// Delivers the nudges that were sent.
    fn settle(&mut self) {
        while self.nudges.load(Ordering::SeqCst) > 0 {
            self.nudges.fetch_sub(1, Ordering::SeqCst);
            self.state.nudge(self.now);
        }
    }
}

/// P4: the A/B/C race: A holds, B waits, A releases, C comes before the nudge is handled; B gets it
#[test]
fn a_released_permit_belongs_to_the_waiter_not_to_a_newcomer() {
    let mut world = World::new(1, 10, 1);
    let a = world.ask().unwrap();
    let b = world.ask().unwrap();
    assert!(a.has() && !b.has());
    a.leave();
    let c = world.ask().unwrap();
    assert!(b.has(), "enqueueing C served the head of the queue");
    assert!(!c.has());
    world.settle();
    assert!(!c.has());
    b.leave();
    world.settle();
    assert!(c.has());
}

/// P4
#[test]
fn waiters_are_served_in_order() {
    let mut world = World::new(1, 10, 1);
    let mut holder = world.ask().unwrap();
    let waiters: Vec<Slot> = (0..5).map(|_| world.ask().unwrap()).collect();
    for (i, next) in waiters.iter().enumerate() {
        holder.leave();
        world.settle();
        assert!(next.has(), "waiter {i}");
        assert!(waiters[i + 1..].iter().all(|later| !later.has()));
        holder = next.clone();
    }
}

/// P4: cancel while granted
#[test]
fn a_waiter_that_left_passes_the_permit_on() {
    let mut world = World::new(1, 10, 1);
    let a = world.ask().unwrap();
    let b = world.ask().unwrap();
    let c = world.ask().unwrap();
    b.leave();
    a.leave();
    world.settle();
    assert!(c.has());
    c.leave();
    assert_eq!(world.shared.gate.live(), 0);
}

/// P3
#[test]
fn the_queue_is_bounded_and_zero_means_fail_fast() {
    let mut world = World::new(1, 2, 1);
    let held: Vec<Slot> = (0..3).map(|_| world.ask().unwrap()).collect();
    assert_eq!(world.ask().unwrap_err(), full(2));
    held[1].leave();
    let late = world.ask().unwrap();
    assert!(!late.has(), "the place of one that left is free");
    assert_eq!(World::new(0, 0, 1).ask().unwrap_err(), full(0));
}

/// One holds the only place, some wait, and the queue is known to hand one on every 100 ms.
fn paced(waiting: usize, queued_max: usize, queue_timeout: Duration) -> (World, Vec<Slot>) {
    let mut world = World::hurried(1, queued_max, 1, queue_timeout);
    let mut slots: Vec<Slot> = (0..10).map(|_| world.ask().unwrap()).collect();
    for _ in 0..9 {
        world.now += Duration::from_millis(100);
        slots.remove(0).leave();
        world.settle();
        assert!(slots[0].has());
    }
    slots.extend((0..waiting).map(|_| world.ask().unwrap()));
    (world, slots)
}

/// P3: who cannot be served in time is told at once, and when its turn would have come
#[test]
fn who_would_wait_in_vain_is_refused_at_once() {
    let (mut world, slots) = paced(4, 50, Duration::from_secs(1));
    let ms = Duration::from_millis;
    let refused = world.ask_within(ms(499)).unwrap_err();
    assert_eq!(refused, Refusal::Late { expected: ms(500), left: ms(499) });
    let fits = world.ask_within(ms(500)).unwrap();
    let _fit: Vec<Slot> = (0..5).map(|_| world.ask().unwrap()).collect();
    let refused = world.ask().unwrap_err();
    assert_eq!(refused, Refusal::Late { expected: ms(1_100), left: ms(1_000) }, "the queue's own deadline");
    slots[1].leave();
    assert!(world.ask().is_ok(), "one that left is not waited for");
    assert!(!fits.has());
}

/// P3: who is next is never refused for a pace, or a pace that was true once would refuse all, and never be found wrong
#[test]
fn the_first_in_the_queue_may_always_wait() {
    let (mut world, _slots) = paced(0, 50, Duration::from_secs(1));
    assert!(world.ask_within(Duration::from_millis(1)).is_ok());
    assert!(world.ask_within(Duration::from_millis(1)).is_err());
}

/// P3: nobody is refused by a pace that is not known, be it at the start or after a crash
#[test]
fn without_a_pace_nobody_is_refused_for_it() {
    let mut world = World::hurried(1, 50, 1, Duration::from_millis(1));
    let _slots: Vec<Slot> = (0..51).map(|_| world.ask().unwrap()).collect();
    assert_eq!(world.ask().unwrap_err(), full(50));
    let (mut world, _slots) = paced(2, 50, Duration::from_millis(200));
    assert!(world.ask().is_err());
    world.state.rebuild(world.now);
    let _again: Vec<Slot> = (0..50).map(|_| world.ask().unwrap()).collect();
}

/// P3: a full queue says when those in it will have been served
#[test]
fn a_full_queue_knows_when_it_will_have_drained() {
    let (mut world, _slots) = paced(12, 12, PATIENT);
    let retry_after = Duration::from_millis(1_300);
    assert_eq!(world.ask().unwrap_err(), Refusal::Full { queued: 12, retry_after });
    assert_eq!(world.shared.pace(), Some(Duration::from_millis(100)));
}

/// P3: in a full queue a newcomer of a higher class takes the place of the last of the lowest, who hears it at once
#[test]
fn a_newcomer_of_a_higher_class_displaces_the_last_of_the_lowest() {
    let mut world = World::new(1, 3, 1);
    let holder = world.ask().unwrap();
    let as_class = |world: &mut World, priority| world.ask_as(priority, PATIENT);
    let low = as_class(&mut world, Priority::Low).unwrap();
    let late = as_class(&mut world, Priority::Low).unwrap();
    let normal = as_class(&mut world, Priority::Normal).unwrap();
    assert_eq!(as_class(&mut world, Priority::Low).unwrap_err(), full(3), "the last in the line is itself");
    let high = as_class(&mut world, Priority::High).unwrap();
    assert_eq!(
        late.dismissed(),
        Some(Dismissal { cause: DismissalCause::Displaced, retry_after: Duration::ZERO })
    );
    let again = as_class(&mut world, Priority::High).unwrap();
    assert!(low.dismissed().is_some() && normal.dismissed().is_none());
    let third = as_class(&mut world, Priority::High).unwrap();
    assert!(normal.dismissed().is_some());
    assert_eq!(as_class(&mut world, Priority::High).unwrap_err(), full(3));
    holder.leave();
    world.settle();
    assert!(high.has() && !again.has() && !third.has());
}

/// P3: only those that are ahead count for when the turn comes
#[test]
fn a_higher_class_does_not_wait_for_a_lower_one() {
    let (mut world, _slots) = paced(9, 50, Duration::from_secs(1));
    let left = Duration::from_millis(500);
    assert!(world.ask_as(Priority::Low, left).is_err());
    let _first = world.ask_as(Priority::High, left).unwrap();
    assert!(world.ask_as(Priority::High, left).is_ok());
    assert!(world.ask_as(Priority::Normal, left).is_err());
}

/// S5: a crash in mid-write leaks no permit and grants none
#[test]
fn a_rebuild_drops_the_waiters_and_keeps_the_live_count() {
    let mut world = World::new(1, 10, 1);
    let a = world.ask().unwrap();
    let b = world.ask().unwrap();
    world.state.rebuild(clock::now());
    assert_eq!(world.shared.gate.live(), 1);
    let c = world.ask().unwrap();
    assert!(!c.has(), "A still holds the only permit");
    a.leave();
    world.settle();
    assert!(c.has() && !b.has());
}

#[derive(Debug, Clone)]
enum Op {
    Ask(Priority),
    Leave(prop::sample::Index),
    Nudge,
    Rebuild,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => prop::sample::select(&Priority::ALL[..]).prop_map(Op::Ask),
        4 => any::<prop::sample::Index>().prop_map(Op::Leave),
        2 => Just(Op::Nudge),
        1 => Just(Op::Rebuild),
    ]
}

proptest! {
    /// P3, P4: over all interleavings never over the limit, FIFO among live waiters of a class, the queue bounded, nothing leaked,
    /// nobody forgotten or displaced by his like
    #[test]
    fn any_interleaving_keeps_the_gate(ops in prop::collection::vec(op(), 1..200), max in 1usize..4, queued in 0usize..5) {
        let mut world = World::new(max, queued, 2);
        let mut slots: Vec<(Slot, Priority)> = Vec::new();
        let mut lost: Vec<Slot> = Vec::new();
        for op in ops {
            match op {
                Op::Ask(priority) => {
                    let asked = world.ask_as(priority, PATIENT);
                    if let Ok(slot) = asked { slots.push((slot, priority)) }
                    else {
                        let lower = slots.iter().any(|(slot, other)| !slot.has() && rank(*other) < rank(priority));
                        prop_assert!(!lower, "refused, though a lower class waits");
                    }
                    let displaced = |(slot, other): &(Slot, Priority)| slot.dismissed().map(|_| *other);
                    prop_assert!(slots.iter().filter_map(displaced).all(|other| rank(other) < rank(priority)));
                    slots.retain(|(slot, _)| slot.dismissed().is_none());
                }
                Op::Leave(i) => if !slots.is_empty() {
                    let i = i.index(slots.len());
                    slots.remove(i).0.leave();
                },
                Op::Nudge => world.settle(),
                Op::Rebuild => {
                    world.state.rebuild(clock::now());
                    let (kept, dropped) = slots.drain(..).partition(|(slot, _)| slot.has());
                    slots = kept;
                    let dropped: Vec<(Slot, Priority)> = dropped;
                    lost.extend(dropped.into_iter().map(|(slot, _)| slot));
                }
            }
            let live = slots.iter().filter(|(slot, _)| slot.has()).count();
            prop_assert_eq!(live, world.shared.gate.live());
            prop_assert!(live <= max && slots.len() - live <= queued);
            for priority in Priority::ALL {
                let of_class: Vec<&Slot> =
                    slots.iter().filter(|(_, other)| *other == priority).map(|(slot, _)| slot).collect();
                let first_waiting = of_class.iter().position(|slot| !slot.has()).unwrap_or(of_class.len());
                prop_assert!(of_class[first_waiting..].iter().all(|slot| !slot.has()), "FIFO");
            }
            prop_assert!(lost.iter().all(|slot| !slot.has()));
        }
        world.settle();
        let live = slots.iter().filter(|(slot, _)| slot.has()).count();
        prop_assert!(live == max || live == slots.len(), "nobody is left waiting at a free gate");
        for (slot, _) in slots { slot.leave(); }
        prop_assert_eq!(world.shared.gate.live(), 0);
    }
}

/// The order of classes, written apart.
fn rank(priority: Priority) -> u8 {
    match priority {
        Priority::Low => 0,
        Priority::Normal => 1,
        Priority::High => 2,
    }
}
